//! A copy of the database for a backup: nobody else opens the file while the gateway runs.

use super::{Call, store_refusal};
use crate::connection::ConnectionMsg;
use crate::store::{self, Db, StoreError};
use crate::tree::Ctx;
use crabtree_protocol::Refusal;
use crabtree_protocol::params::backup::StoreCopy;
use crabtree_protocol::params::core::Empty;
use std::path::Path;

/// When to ask again while another copy is made.
const RETRY_MS: u64 = 1_000;

pub(super) fn copy(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((Empty {}, call)) = call.parse() else { return };
    let Some(db) = call.estate().db.load_full() else {
        return call.responder.refuse(Refusal::unavailable(RETRY_MS));
    };
    let state_dir = call.estate().config.load().state_dir.clone();
    let responder = call.responder;
    ctx.detached(async move {
        match tokio::task::spawn_blocking(move || copied(&db, &state_dir)).await {
            Ok(Ok(Some(copy))) => responder.ok(&copy),
            Ok(Ok(None)) => {
                let busy = Refusal::failed("another copy of the database is being made");
                responder.refuse(busy.with_retry(RETRY_MS));
            }
            Ok(Err(e)) => responder.refuse(store_refusal(&e)),
            Err(e) => responder.refuse(Refusal::failed(format!("the copy ended: {e}"))),
        }
    });
}

fn copied(db: &Db, state_dir: &Path) -> Result<Option<StoreCopy>, StoreError> {
    let Some(path) = store::copy_beside(state_dir, |to| db.copy_to(to))? else { return Ok(None) };
    let bytes = path.metadata().map_err(|e| StoreError::Unavailable(e.to_string()))?.len();
    let schema_version = db.read(store::schema_version)?;
    Ok(Some(StoreCopy { path: path.display().to_string(), bytes, schema_version }))
}

//! The document of rules: `exec.approvals.get` and `exec.approvals.set`.

use crate::connection::ConnectionMsg;
use crate::estate::Estate;
use crate::methods::Call;
use crate::responder::Responder;
use crate::tree::Ctx;
use crabtree_protocol::Refusal;
use crabtree_protocol::params::approvals::policy::{PolicyShown, SetParams};
use crabtree_protocol::params::core::Empty;
use std::sync::Arc;

pub fn get(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((Empty {}, call)) = call.parse() else { return };
    let estate = call.estate().clone();
    blocking(ctx, estate, call.responder, |estate| estate.exec_approvals.show());
}

pub fn set(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<SetParams>() else { return };
    let estate = call.estate().clone();
    blocking(ctx, estate, call.responder, move |estate| {
        estate.exec_approvals.replace(params.file, params.base_hash.as_deref())
    });
}

fn blocking(
    ctx: &mut Ctx<ConnectionMsg>,
    estate: Arc<Estate>,
    responder: Responder,
    work: impl FnOnce(&Estate) -> Result<PolicyShown, Refusal> + Send + 'static,
) {
    ctx.detached(async move {
        let done = tokio::task::spawn_blocking(move || work(&estate)).await;
        responder.settle(done.unwrap_or_else(|e| Err(Refusal::failed(e.to_string()))));
    });
}

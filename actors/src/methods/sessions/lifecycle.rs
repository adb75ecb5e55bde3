//! `sessions.reset` and `sessions.delete`: a session begins anew, or goes and leaves an archive behind.

use super::super::{Call, store_refusal};
use super::archive;
use super::entry::{entry, is_main, resolved, revision};
use super::reset::reset_op;
use crate::connection::ConnectionMsg;
use crate::gateway::Wiring;
use crate::media;
use crate::sessions::{Change, Told, change_with};
use crate::store::{self, SessionRecord, Store, WriteOp, WriteReply};
use crate::tree::Ctx;
use crabtree_protocol::params::session_lifecycle::{DeleteParams, Deleted, Reset, ResetParams, ResetReason};
use crabtree_protocol::{Refusal, SessionKey};
use parking_lot::Mutex;
use std::sync::Arc;

pub(in crate::methods) fn reset(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<ResetParams>() else { return };
    let key = match call.key_of(&params.key, params.agent_id.as_deref()) {
        Ok(key) => key,
        Err(refusal) => return call.responder.refuse(refusal),
    };
    let (wiring, responder) = (call.wiring.clone(), call.responder);
    ctx.detached(async move { responder.settle(begin_anew(&wiring, key, params).await) });
}

async fn begin_anew(wiring: &Wiring, key: SessionKey, params: ResetParams) -> Result<Reset, Refusal> {
    let estate = wiring.store.estate.clone();
    let reason = match params.reason {
        Some(ResetReason::New) => "new",
        _ => "reset",
    };
    let (checked, made, at_work) = (key.clone(), key.clone(), estate.clone());
    let changed = change_with(&wiring.sessions, key.clone(), |done| Change {
        check: Some(Box::new(move |record: Option<&SessionRecord>| {
            if record.is_none() && at_work.catalog.load().agent(checked.agent_id()).is_none() {
                return Err(Refusal::agent_gone(checked.agent_id()));
            }
            let id = record.map(|record| record.session_id.as_str());
            match params.expected_session_id.as_deref() {
                Some(expected) if id != Some(expected) => {
                    Err(Refusal::session_changed(checked.as_str(), "reset"))
                }
                _ => Ok(()),
            }
        })),
        stop: Some("restart"),
        make: Box::new(move |record, now| Ok(reset_op(record, &made, now))),
        first: None,
        told: Told::Reason(reason),
        done,
    });
    let record = changed.await?.record.ok_or_else(|| Refusal::session_not_found(key.as_str()))?;
    let resolved = resolved(&record, &estate.catalog.load());
    let mut entry = entry(&record)?;
    entry.model_provider = Some(resolved.model_provider.clone());
    entry.model = Some(resolved.model.clone());
    Ok(Reset { ok: true, key, entry, resolved })
}

pub(in crate::methods) fn delete(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<DeleteParams>() else { return };
    let key = match call.key_of(&params.key, params.agent_id.as_deref()) {
        Ok(key) if is_main(&key, &call.estate().catalog.load()) => {
            return call.responder.refuse(Refusal::main_session_stays(key.as_str()));
        }
        Ok(key) => key,
        Err(refusal) => return call.responder.refuse(refusal),
    };
    let (wiring, responder) = (call.wiring.clone(), call.responder);
    ctx.detached(async move { responder.settle(remove(&wiring, key, params).await) });
}

/// Deletes a session, with an archive of its transcripts.
pub(super) async fn remove(
    wiring: &Wiring,
    key: SessionKey,
    params: DeleteParams,
) -> Result<Deleted, Refusal> {
    let name = key.clone();
    let known = wiring.store.read(move |c| store::session(c, name.as_str())).await;
    if known.map_err(|e| store_refusal(&e))?.is_none() {
        return Ok(Deleted { ok: true, key, deleted: false, archived: Vec::new(), worktree_preserved: None });
    }
    let keep_transcripts = params.delete_transcript == Some(false);
    let archived = Arc::new(Mutex::new(Vec::new()));
    let files = Arc::new(Mutex::new(Vec::new()));
    let (checked, op) = (key.clone(), WriteOp::DeleteSession { key: key.to_string(), keep_transcripts });
    let kept = keep(wiring.store.clone(), key.clone(), archived.clone(), files.clone());
    let changed = change_with(&wiring.sessions, key.clone(), |done| Change {
        check: Some(Box::new(move |record| expect(&checked, &params, record))),
        stop: Some("aborted"),
        make: Box::new(move |_, _| Ok(op)),
        first: if keep_transcripts { None } else { Some(Box::pin(kept)) },
        told: Told::Gone,
        done,
    });
    let deleted = changed.await?.reply == WriteReply::Deleted(true);
    let files = std::mem::take(&mut *files.lock());
    media::forget(&wiring.store, files).await;
    let archived = std::mem::take(&mut *archived.lock());
    Ok(Deleted { ok: true, key, deleted, archived, worktree_preserved: None })
}

/// Forgets a session, with its transcripts and without an archive.
pub(in crate::methods) async fn forget(wiring: &Wiring, key: SessionKey) -> Result<(), Refusal> {
    let op = WriteOp::DeleteSession { key: key.to_string(), keep_transcripts: false };
    let changed = change_with(&wiring.sessions, key, |done| Change {
        check: None,
        stop: None,
        make: Box::new(move |_, _| Ok(op)),
        first: None,
        told: Told::Gone,
        done,
    });
    changed.await.map(drop)
}

/// Whether the session is the one that is meant.
fn expect(key: &SessionKey, params: &DeleteParams, record: Option<&SessionRecord>) -> Result<(), Refusal> {
    let Some(record) = record else { return Ok(()) };
    let other_id = params.expected_session_id.as_deref().is_some_and(|id| id != record.session_id);
    let other = params.expected_lifecycle_revision.as_deref().is_some_and(|id| id != revision(record));
    let at = params.expected_session_updated_at;
    if other_id || other || at.is_some_and(|at| at.get() as i64 != record.updated_at) {
        return Err(Refusal::session_changed(key.as_str(), "deletion"));
    }
    if params.archived_only == Some(true) && record.entry.get("archivedAt").is_none() {
        return Err(Refusal::session_not_archived(key.as_str()));
    }
    Ok(())
}

/// Archives the transcripts of a session; where to is told in `archived`, and which files came with its messages in
/// `files`.
async fn keep(
    store: Store,
    key: SessionKey,
    archived: Arc<Mutex<Vec<String>>>,
    files: Arc<Mutex<Vec<String>>>,
) -> Result<(), Refusal> {
    let failed = |why: String| {
        Refusal::failed(format!(
            "the session was not deleted, because its archive could not be written: {why}; \
             mend that and try again, or send deleteTranscript: false to keep the messages in the database"
        ))
    };
    let name = key.clone();
    let named =
        store.read(move |c| store::media_of(c, name.as_str())).await.map_err(|e| failed(e.to_string()))?;
    *files.lock() = named.iter().flat_map(media::names).map(str::to_owned).collect();
    let estate = &store.estate;
    let Some(db) = estate.db.load_full() else { return Err(failed("the database is not open".into())) };
    let (state, now) = (estate.config.load().state_dir.clone(), estate.clock.now_ms());
    let work = move || archive::write(&db, &state, key.agent_id(), key.as_str(), now);
    let paths = tokio::task::spawn_blocking(work).await.map_err(|e| failed(e.to_string()))?;
    let paths = paths.map_err(|e| failed(e.to_string()))?;
    *archived.lock() = paths.iter().map(|path| path.display().to_string()).collect();
    Ok(())
}

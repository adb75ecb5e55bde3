//! `sessions.send`, `sessions.steer` and `sessions.abort`: speaking in a session that exists, and stopping it.

use super::super::chat::{self, Said};
use super::super::{Call, store_refusal};
use crate::connection::ConnectionMsg;
use crate::gateway::Wiring;
use crate::sessions::{SessionMsg, SessionsMsg, Told, change};
use crate::store::{self, WriteOp};
use crate::tree::{Ctx, Reply};
use crabtree_protocol::params::chat::QueueMode;
use crabtree_protocol::params::session_create::SendParams;
use crabtree_protocol::params::session_lifecycle::{AbortParams, Aborted};
use crabtree_protocol::{Refusal, RunId, SessionKey};
use uuid::Uuid;

pub(in crate::methods) fn send(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    speak(ctx, call, None);
}

pub(in crate::methods) fn steer(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    speak(ctx, call, Some(QueueMode::Interrupt));
}

fn speak(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>, queue_mode: Option<QueueMode>) {
    let Some((params, call)) = call.parse::<SendParams>() else { return };
    let uploads = match chat::uploads(&call, params.attachments, &params.message) {
        Ok(uploads) => uploads,
        Err(refusal) => return call.responder.refuse(refusal),
    };
    let key = match call.key_of(&params.key, params.agent_id.as_deref()) {
        Ok(key) => key,
        Err(refusal) => return call.responder.refuse(refusal),
    };
    let thinking = match chat::thinking(params.thinking.as_deref()) {
        Ok(thinking) => thinking,
        Err(refusal) => return call.responder.refuse(refusal),
    };
    let run_id = params.idempotency_key.map(|key| key.into_string());
    let said = Said {
        timeout_ms: params.timeout_ms.map(|ms| ms.get()).filter(|ms| *ms > 0),
        queue_mode,
        must_exist: true,
        uploads,
        thinking,
        ..Said::message(run_id.unwrap_or_else(|| Uuid::new_v4().to_string()), params.message)
    };
    chat::say(ctx, call, key, said);
}

pub(in crate::methods) fn abort(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<AbortParams>() else { return };
    let key = params.key.as_deref().map(|key| call.key_of(key, params.agent_id.as_deref())).transpose();
    let key = match key {
        Ok(key) => key,
        Err(refusal) => return call.responder.refuse(refusal),
    };
    let run_id = params.run_id.as_deref().map(RunId::from);
    let (wiring, responder) = (call.wiring.clone(), call.responder);
    ctx.detached(async move {
        match stop(&wiring, key, run_id, params.clear_queued == Some(true)).await {
            Ok((stopped, key)) => {
                let status = if stopped.is_some() { "aborted" } else { "no-active-run" };
                let told = stopped.is_some();
                responder.ok(&Aborted { ok: true, aborted_run_id: stopped, status: status.into() });
                if let Some(key) = key.filter(|_| told) {
                    let done =
                        change(&wiring.sessions, key, None, Told::Reason("abort"), |_, _| Ok(WriteOp::Fence));
                    // Nobody waits for it: it is only told.
                    let _ = done.await;
                }
            }
            Err(refusal) => responder.refuse(refusal),
        }
    });
}

/// Stops a run: the one that is named, else the one that is active; on wish what waits, too.
async fn stop(
    wiring: &Wiring,
    key: Option<SessionKey>,
    named: Option<RunId>,
    queued_too: bool,
) -> Result<(Option<RunId>, Option<SessionKey>), Refusal> {
    let ledgers = &wiring.store.estate.ledgers;
    let key = match (key, &named) {
        (None, None) => return Err(Refusal::invalid_request("name a session (key) or a run (runId)")),
        (Some(key), None) => key,
        (expected, Some(run_id)) => match (session_of(wiring, run_id).await?, expected) {
            (Some(key), Some(expected)) if key != expected => return Err(Refusal::run_of_other_session()),
            (Some(key), _) => key,
            (None, expected) => return Ok((None, expected)),
        },
    };
    let active = ledgers.of(&key).first().map(|turn| turn.lock().run_id.clone());
    let run_id = match named {
        None if queued_too => None,
        named => match named.or_else(|| active.clone()) {
            None => return Ok((None, Some(key))),
            some => some,
        },
    };
    let (done, stopped) = Reply::oneshot();
    let abort = SessionMsg::Abort { run_id, reason: "rpc", done };
    let unavailable = || Refusal::unavailable(wiring.sessions.retry_after_ms());
    wiring.sessions.send(SessionsMsg::To(key.clone(), abort)).map_err(|_| unavailable())?;
    let stopped = stopped.await.map_err(|_| unavailable())?;
    // What waited comes first, the active run last.
    Ok((stopped.into_iter().next_back(), Some(key)))
}

/// Whose run it is.
async fn session_of(wiring: &Wiring, run_id: &RunId) -> Result<Option<SessionKey>, Refusal> {
    if let Some(turn) = wiring.store.estate.ledgers.get(run_id) {
        return Ok(Some(turn.lock().key.clone()));
    }
    let id = run_id.clone();
    let row = wiring.store.read(move |c| store::input_by_run(c, id.as_str())).await;
    let row = row.map_err(|e| store_refusal(&e))?;
    row.map(|row| SessionKey::canonical(&row.session_key, "main")).transpose()
}

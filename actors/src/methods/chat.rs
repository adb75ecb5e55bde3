//! Talking: `agent`, `chat.*` and `wake` all enter a session by the same door.

mod channel;
mod history;
mod question;
mod said;

pub(crate) use channel::{Spoken, Taken, said_on_channel};
pub(super) use history::{history, message_get, startup};
pub use question::{Answering, Heard, Question, ask};
pub(super) use said::{Said, thinking, uploads};

use super::commands::{self, Command, Typed};
use super::{Call, store_refusal};
use crate::connection::ConnectionMsg;
use crate::gateway::Wiring;
use crate::responder::Responder;
use crate::sessions::{Outcome, SessionMsg, SessionsMsg, Submission};
use crate::store::{self, Store};
use crate::tree::{Ctx, Reply};
use crabtree_protocol::params::chat::{AbortParams, AbortResult, Attachment, QueueMode, SendParams};
use crabtree_protocol::params::core::{WakeMode, WakeParams};
use crabtree_protocol::params::runs::{AgentParams, AgentWaitParams};
use crabtree_protocol::{Refusal, RunId, SessionKey};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// `agent.wait` without a time, and at the most.
const DEFAULT_WAIT: Duration = Duration::from_secs(30);
const MAX_WAIT: Duration = Duration::from_secs(3600);

/// Hands what is said to its session, which answers.
pub(super) fn submit(wiring: &Wiring, responder: Responder, key: SessionKey, said: Said) {
    let estate = &wiring.store.estate;
    if estate.catalog.load().agent(key.agent_id()).is_none() {
        return responder.refuse(Refusal::agent_gone(key.agent_id()));
    }
    let sender = sender(&responder);
    let submission = said.submission(&key, sender, estate.clock.now_ms(), Some(responder));
    // If nobody is there, the responder says so.
    let _ = wiring.sessions.send(SessionsMsg::To(key, SessionMsg::Submit(Box::new(submission))));
}

pub(super) fn sender(responder: &Responder) -> Value {
    let client = responder.conn().grant().map(|g| (g.params.client.id.name(), g.params.client.mode.name()));
    let (id, mode) = client.unwrap_or_default();
    json!({ "senderIsOwner": true, "transport": { "clients": [{ "id": id, "mode": mode }] } })
}

pub(super) fn agent(call: Call<'_>) {
    let Some((params, call)) = call.parse::<AgentParams>() else { return };
    let run_id = params.idempotency_key.as_str().to_owned();
    let catalog = call.estate().catalog.load();
    let agent = params.agent_id.as_deref().unwrap_or(&catalog.default_agent().id).to_owned();
    if catalog.agent(&agent).is_none() {
        return call.responder.refuse(Refusal::unknown_agent(&agent));
    }
    let attached = params.attachments.unwrap_or_default().into_iter().map(Attachment::deserialize);
    let attached = attached.collect::<Result<_, _>>().map_err(|e| Refusal::attachment("", &e.to_string()));
    let uploads = match attached.and_then(|attached| call.estate().inbox.take(attached)) {
        Ok(uploads) => uploads,
        Err(refusal) => return call.responder.refuse(refusal),
    };
    let named = params.session_key.as_deref().filter(|key| !key.is_empty());
    let by_id = params.session_id.as_deref().filter(|id| !id.is_empty());
    // As recorded: a session named by its id alone is the one whose key ends in that id; an agent named alone
    // is spoken to in its main session; and who names nothing gets a session of the run's own.
    let key = match (named, by_id) {
        (Some(key), _) => SessionKey::canonical(key, &agent),
        (None, None) if params.agent_id.is_some() => SessionKey::canonical(&catalog.main_key, &agent),
        (None, id) => {
            let own = SessionKey::explicit(&agent, id.unwrap_or(&run_id));
            SessionKey::canonical(own.as_str(), &agent)
        }
    };
    let unnamed = named.is_none() && (by_id.is_some() || params.agent_id.is_none());
    let key = match key {
        Ok(key) => key,
        Err(refusal) => return call.responder.refuse(refusal),
    };
    let model = params.model.map(|model| match params.provider {
        Some(provider) if !model.contains('/') => format!("{provider}/{model}"),
        _ => model,
    });
    let thinking = match thinking(params.thinking.as_deref()) {
        Ok(thinking) => thinking,
        Err(refusal) => return call.responder.refuse(refusal),
    };
    let timeout_ms = params.timeout.map(|s| s.get().saturating_mul(1000)).filter(|ms| *ms > 0);
    let text = params.message.into_string();
    let said = Said {
        kind: "agent",
        run_id,
        text,
        model,
        timeout_ms,
        unnamed,
        uploads,
        thinking,
        instructions: params.extra_system_prompt,
        ..Said::default()
    };
    submit(call.wiring, call.responder, key, said);
}

pub(super) fn send(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<SendParams>() else { return };
    let uploads = match uploads(&call, params.attachments, &params.message) {
        Ok(uploads) => uploads,
        Err(refusal) => return call.responder.refuse(refusal),
    };
    let key = match call.key_of(&params.session_key, params.agent_id.as_deref()) {
        Ok(key) => key,
        Err(refusal) => return call.responder.refuse(refusal),
    };
    let thinking = match thinking(params.thinking.as_deref()) {
        Ok(thinking) => thinking,
        Err(refusal) => return call.responder.refuse(refusal),
    };
    let said = Said {
        uploads,
        thinking,
        timeout_ms: params.timeout_ms.map(|ms| ms.get()).filter(|ms| *ms > 0),
        queue_mode: params.queue_mode,
        after: params.expected_leaf_entry_id.as_option().flatten().map(|leaf| leaf.to_string()),
        ..Said::message(params.idempotency_key.into_string(), params.message)
    };
    if params.suppress_command_interpretation == Some(true) {
        deliver(ctx, call.wiring.clone(), call.responder, key, said);
    } else {
        say(ctx, call, key, said);
    }
}

fn deliver(
    ctx: &mut Ctx<ConnectionMsg>,
    wiring: Arc<Wiring>,
    responder: Responder,
    key: SessionKey,
    said: Said,
) {
    match said.after.clone().filter(|_| said.queue_mode != Some(QueueMode::Steer)) {
        None => submit(&wiring, responder, key, said),
        Some(leaf) => ctx.detached(submit_after(wiring, responder, key, said, leaf)),
    }
}

/// Submits what is said after a row that the client has seen last, if the conversation still contains it: more may
/// have been said since, but it must not have gone another way. What is sent again is let through.
async fn submit_after(wiring: Arc<Wiring>, responder: Responder, key: SessionKey, said: Said, leaf: String) {
    let (name, run_id) = (key.to_string(), said.run_id.clone());
    let known = wiring.store.read(move |c| {
        Ok(store::message(c, &name, &leaf)?.is_some() || store::input_by_run(c, &run_id)?.is_some())
    });
    match known.await {
        Ok(true) => submit(&wiring, responder, key, said),
        Ok(false) => responder.refuse(Refusal::leaf_changed()),
        Err(e) => responder.refuse(store_refusal(&e)),
    }
}

/// What a client says in a session: a command, or a message for the agent. What comes with files is no command.
pub(super) fn say(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>, key: SessionKey, said: Said) {
    let estate = call.estate();
    let command = commands::parse(&estate.config.load().settings.session, &said.text);
    let command = command.filter(|_| said.uploads.is_empty());
    let wiring = call.wiring.clone();
    match command {
        Some((Command::Stop, _)) => stop(&wiring, call.responder, key, None, "stop"),
        Some(command) if estate.catalog.load().agent(key.agent_id()).is_some() => {
            let from = (sender(&call.responder), commands::who(call.responder.conn()));
            let of = said.must_exist.then(|| key.clone());
            let typed = Typed::new(command, key, RunId::from(said.run_id), said.text, from);
            ctx.detached(carry_out(wiring, typed, call.responder, of));
        }
        // What is left is for the agent, or refused because there is none.
        _ => deliver(ctx, wiring, call.responder, key, said),
    }
}

/// Answers a command; only if this session exists, should one be named.
async fn carry_out(wiring: Arc<Wiring>, typed: Typed, responder: Responder, of: Option<SessionKey>) {
    if let Some(key) = of {
        let name = key.clone();
        match wiring.store.read(move |c| store::session(c, name.as_str())).await {
            Ok(Some(_)) => {}
            Ok(None) => return responder.refuse(Refusal::session_not_found(key.as_str())),
            Err(e) => return responder.refuse(store_refusal(&e)),
        }
    }
    commands::answer(wiring, typed, responder).await;
}

pub(super) fn abort(call: Call<'_>) {
    let Some((params, call)) = call.parse::<AbortParams>() else { return };
    match call.key_of(&params.session_key, params.agent_id.as_deref()) {
        Ok(key) => {
            let run_id = params.run_id.map(|id| RunId::from(id.as_str()));
            stop(&call.wiring.clone(), call.responder, key, run_id, "rpc");
        }
        Err(refusal) => call.responder.refuse(refusal),
    }
}

fn stop(wiring: &Wiring, responder: Responder, key: SessionKey, run_id: Option<RunId>, reason: &'static str) {
    let done = Reply::new(move |stopped: Option<Vec<RunId>>| {
        // Without an answer the responder is dropped here, and says that it was not answered.
        if let Some(run_ids) = stopped {
            responder.ok(&AbortResult { ok: true, aborted: !run_ids.is_empty(), run_ids });
        }
    });
    let abort = SessionMsg::Abort { run_id, reason, done };
    let _ = wiring.sessions.send(SessionsMsg::To(key, abort));
}

pub(super) fn wake(call: Call<'_>) {
    let Some((params, call)) = call.parse::<WakeParams>() else { return };
    let text = params.text.into_string();
    if params.mode == WakeMode::NextHeartbeat {
        return super::core::later(call, params.agent_id.map(String::from), text);
    }
    let catalog = call.estate().catalog.load();
    let agent = params.agent_id.as_deref().unwrap_or(&catalog.default_agent().id);
    let key = params.session_key.as_deref().unwrap_or(&catalog.main_key);
    match SessionKey::canonical(key, agent) {
        Ok(key) => submit(call.wiring, call.responder, key, system_event(text)),
        Err(refusal) => call.responder.refuse(refusal),
    }
}

fn system_event(text: String) -> Said {
    Said {
        kind: "wake",
        run_id: Uuid::new_v4().to_string(),
        text: format!("System event: {text}"),
        ..Said::default()
    }
}

/// What the agent says in another of its sessions; the same `run_id` twice is one message.
pub(crate) fn from_agent(
    key: &SessionKey,
    from: &SessionKey,
    text: String,
    run_id: &RunId,
    now: i64,
) -> Submission {
    let said = Said { must_exist: true, ..Said::message(run_id.to_string(), text) };
    let sender = json!({ "senderIsOwner": true, "sessionKey": from });
    said.submission(key, sender, now, None)
}

/// How what people say at a node reaches a session, the main one if none is named.
pub fn speaker(wiring: Arc<Wiring>) -> crate::nodes::Speak {
    Arc::new(move |named, text| {
        let estate = &wiring.store.estate;
        let catalog = estate.catalog.load();
        let named = named.unwrap_or(&catalog.main_key);
        let Ok(key) = SessionKey::canonical(named, &catalog.default_agent().id) else { return };
        let said = Said::message(Uuid::new_v4().to_string(), text);
        let submission = said.submission(&key, json!({}), estate.clock.now_ms(), None);
        let _ = wiring.sessions.send(SessionsMsg::To(key, SessionMsg::Submit(Box::new(submission))));
    })
}

pub(super) fn wait(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<AgentWaitParams>() else { return };
    let run_id = RunId::from(params.run_id.as_str());
    let limit = params.timeout_ms.map_or(DEFAULT_WAIT, |ms| Duration::from_millis(ms.get())).min(MAX_WAIT);
    let (store, responder) = (call.wiring.store.clone(), call.responder);
    ctx.detached(async move {
        match awaited(&store, &run_id, limit).await {
            Awaited::Settled(outcome) => responder.ok(&outcome.waited(&run_id)),
            Awaited::Late => responder.ok(&json!({ "runId": run_id, "status": "timeout" })),
            // The responder is dropped and says that it was not answered.
            Awaited::Parked => {}
        }
    });
}

/// What comes of waiting for an outcome.
pub(crate) enum Awaited {
    /// It is there.
    Settled(Box<Outcome>),
    /// It is not there in time.
    Late,
    /// There will be none for now: its session is parked.
    Parked,
}

/// Waits for the outcome of a run.
pub(crate) async fn awaited(store: &Store, run_id: &RunId, limit: Duration) -> Awaited {
    // Asked for before the store is read, so that no settling passes unseen between the two.
    let mut awaited = store.estate.waiters.outcome(run_id);
    let id = run_id.clone();
    if let Some(outcome) = store.read(move |c| settled(c, id.as_str())).await.ok().flatten() {
        return Awaited::Settled(Box::new(outcome));
    }
    match tokio::time::timeout(limit, awaited.settled()).await {
        Ok(Some(outcome)) => Awaited::Settled(Box::new(outcome)),
        Ok(None) => Awaited::Parked,
        Err(_) => Awaited::Late,
    }
}

/// The outcome of a run: of an input, or of a command, which has answered when its row is there.
fn settled(c: &store::Connection, run_id: &str) -> Result<Option<Outcome>, store::StoreError> {
    if let Some(row) = store::input_by_run(c, run_id)? {
        return Ok(row.outcome.and_then(|outcome| serde_json::from_value(outcome).ok()));
    }
    let rows = store::messages_by_run(c, run_id)?;
    Ok(rows.iter().find(|row| row.kind == "assistant").map(commands::outcome))
}

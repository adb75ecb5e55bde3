//! Talking: `agent`, `chat.*` and `wake` all enter a session by the same door.

use super::commands::{self, Command};
use super::{Call, store_refusal};
use crate::agents::CONTEXT_TOKENS;
use crate::connection::ConnectionMsg;
use crate::gateway::Wiring;
use crate::responder::Responder;
use crate::scheduler::SchedulerMsg;
use crate::sessions::{Outcome, SessionMsg, SessionsMsg, Submission, message_row, session_row};
use crate::store::{self, HistoryPage, HistoryResult, InputRow, InputState, NewInput, SessionRecord};
use crate::tree::{Ctx, Reply};
use crabtree_protocol::params::chat::{
    AbortParams, AbortResult, DEFAULT_HISTORY_LIMIT, HistoryParams, SendParams,
};
use crabtree_protocol::params::core::{Ok as Done, WakeMode, WakeParams};
use crabtree_protocol::params::runs::{AgentParams, AgentWaitParams};
use crabtree_protocol::{Refusal, RunId, SessionKey};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// `agent.wait` without a time, and at the most.
const DEFAULT_WAIT: Duration = Duration::from_secs(30);
const MAX_WAIT: Duration = Duration::from_secs(3600);

/// What is said, before it is an input.
struct Said {
    kind: &'static str,
    run_id: String,
    text: String,
    model: Option<String>,
    timeout_ms: Option<u64>,
    /// The session was not named, and the acknowledgement does not name it either.
    unnamed: bool,
}

impl Said {
    fn submission(
        self,
        key: &SessionKey,
        sender: Value,
        now: i64,
        responder: Option<Responder>,
    ) -> Submission {
        let mut body = json!({ "sender": sender });
        if let Some(model) = self.model {
            body["model"] = json!(model);
        }
        if self.unnamed {
            body["unnamed"] = json!(true);
        }
        if let Some(ms) = self.timeout_ms {
            body["timeoutMs"] = json!(ms);
        }
        let input = NewInput {
            id: Uuid::now_v7().to_string(),
            source: "rpc".into(),
            source_id: self.run_id.clone(),
            session_key: key.to_string(),
            run_id: self.run_id,
            kind: self.kind.into(),
            digest: blake3::hash(format!("{key}\n{}", self.text).as_bytes()).to_hex().to_string(),
            text: self.text,
            body,
            created_at: now,
        };
        Submission { input, sender, responder }
    }
}

fn submit(call: Call<'_>, key: SessionKey, said: Said) {
    let estate = call.estate();
    if estate.catalog.load().agent(key.agent_id()).is_none() {
        return call.responder.refuse(Refusal::agent_gone(key.agent_id()));
    }
    let sender = sender(&call.responder);
    let submission = said.submission(&key, sender, estate.clock.now_ms(), Some(call.responder));
    // If nobody is there, the responder says so.
    let _ = call.wiring.sessions.send(SessionsMsg::To(key, SessionMsg::Submit(Box::new(submission))));
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
    if params.attachments.as_ref().is_some_and(|a| !a.is_empty()) {
        return call.responder.refuse(no_attachments());
    }
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
    let timeout_ms = params.timeout.map(|s| s.get().saturating_mul(1000)).filter(|ms| *ms > 0);
    let text = params.message.into_string();
    submit(call, key, Said { kind: "agent", run_id, text, model, timeout_ms, unnamed });
}

pub(super) fn send(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<SendParams>() else { return };
    if params.attachments.as_ref().is_some_and(|a| !a.is_empty()) {
        return call.responder.refuse(no_attachments());
    }
    if params.message.trim().is_empty() {
        return call.responder.refuse(Refusal::message_required());
    }
    let key = match call.key_of(&params.session_key, params.agent_id.as_deref()) {
        Ok(key) => key,
        Err(refusal) => return call.responder.refuse(refusal),
    };
    match commands::parse(&params.message) {
        Some(Command::Stop) => return stop(&call.wiring.clone(), call.responder, key, None, "stop"),
        Some(command) if call.estate().catalog.load().agent(key.agent_id()).is_some() => {
            let of = (key, params.idempotency_key.into_string());
            return commands::answer(ctx, call, command, of, params.message);
        }
        // What is left is for the agent, or refused because there is none.
        _ => {}
    }
    let said = Said {
        kind: "chat.send",
        run_id: params.idempotency_key.into_string(),
        text: params.message,
        model: None,
        timeout_ms: params.timeout_ms.map(|ms| ms.get()).filter(|ms| *ms > 0),
        unnamed: false,
    };
    submit(call, key, said);
}

fn no_attachments() -> Refusal {
    Refusal::invalid_request("attachments are not supported by this version of the gateway; send text alone")
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
        return match call.wiring.scheduler.send(SchedulerMsg::Later(text)) {
            Ok(()) => call.responder.ok(&Done::TRUE),
            Err(_) => call.responder.refuse(Refusal::unavailable(call.wiring.scheduler.retry_after_ms())),
        };
    }
    let catalog = call.estate().catalog.load();
    let agent = params.agent_id.as_deref().unwrap_or(&catalog.default_agent().id);
    let key = params.session_key.as_deref().unwrap_or(&catalog.main_key);
    match SessionKey::canonical(key, agent) {
        Ok(key) => submit(call, key, system_event(text)),
        Err(refusal) => call.responder.refuse(refusal),
    }
}

fn system_event(text: String) -> Said {
    Said {
        kind: "wake",
        run_id: Uuid::new_v4().to_string(),
        text: format!("System event: {text}"),
        model: None,
        timeout_ms: None,
        unnamed: false,
    }
}

/// How the scheduler wakes the agent in its main session.
pub fn waker(wiring: Arc<Wiring>) -> Arc<dyn Fn(String, i64) + Send + Sync> {
    Arc::new(move |text, now| {
        let catalog = wiring.store.estate.catalog.load();
        let Ok(key) = SessionKey::canonical(&catalog.main_key, &catalog.default_agent().id) else { return };
        let submission = system_event(text).submission(&key, json!({}), now, None);
        let _ = wiring.sessions.send(SessionsMsg::To(key, SessionMsg::Submit(Box::new(submission))));
    })
}

pub(super) fn wait(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<AgentWaitParams>() else { return };
    let run_id = RunId::from(params.run_id.as_str());
    let limit = params.timeout_ms.map_or(DEFAULT_WAIT, |ms| Duration::from_millis(ms.get())).min(MAX_WAIT);
    let (store, responder) = (call.wiring.store.clone(), call.responder);
    ctx.detached(async move {
        // Asked for before the store is read, so that no settling passes unseen between the two.
        let mut awaited = store.estate.waiters.outcome(&run_id);
        let id = run_id.clone();
        let row = store.read(move |c| store::input_by_run(c, id.as_str())).await;
        let settled = row.ok().flatten().and_then(|row| row.outcome);
        let settled = settled.and_then(|o| serde_json::from_value::<Outcome>(o).ok());
        let outcome = match settled {
            Some(outcome) => Some(outcome),
            None => match tokio::time::timeout(limit, awaited.settled()).await {
                Ok(Some(outcome)) => Some(outcome),
                // Its session is parked: the responder is dropped and says that it was not answered.
                Ok(None) => return,
                Err(_) => None,
            },
        };
        match outcome {
            Some(outcome) => responder.ok(&outcome.waited(&run_id)),
            None => responder.ok(&json!({ "runId": run_id, "status": "timeout" })),
        }
    });
}

struct Past {
    record: Option<SessionRecord>,
    history: HistoryResult,
    backlog: Vec<InputRow>,
}

pub(super) fn history(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<HistoryParams>() else { return };
    let key = match call.key_of(&params.session_key, params.agent_id.as_deref()) {
        Ok(key) => key,
        Err(refusal) => return call.responder.refuse(refusal),
    };
    let page = HistoryPage {
        limit: params.limit.map_or(DEFAULT_HISTORY_LIMIT, |l| l.get()) as u32,
        offset: params.offset.map_or(0, |o| o.get()).min(u64::from(u32::MAX)) as u32,
    };
    let max_chars = params.max_chars.map(|m| m.get() as usize);
    let (store, responder) = (call.wiring.store.clone(), call.responder);
    ctx.detached(async move {
        let name = key.clone();
        let past = store.read(move |c| {
            Ok(Past {
                record: store::session(c, name.as_str())?,
                history: store::history(c, name.as_str(), page)?,
                backlog: store::backlog(c, name.as_str())?,
            })
        });
        match past.await {
            Ok(past) => responder.ok(&history_page(&store.estate, &key, &past, page, max_chars)),
            Err(e) => responder.refuse(store_refusal(&e)),
        }
    });
}

fn history_page(
    estate: &crate::estate::Estate,
    key: &SessionKey,
    past: &Past,
    page: HistoryPage,
    max_chars: Option<usize>,
) -> Value {
    let now = estate.clock.now_ms();
    let catalog = estate.catalog.load();
    let (provider, model) = catalog.primary_parts();
    let active = estate.ledgers.of(key).into_iter().next();
    let run_id = active.as_ref().map(|turn| turn.lock().run_id.clone());
    let shown = past.history.rows.len() as u64;
    let older = u64::from(page.offset) + shown;
    let total = past.history.total.max(0) as u64;
    let messages: Vec<Value> =
        past.history.rows.iter().map(|row| capped(message_row(row), max_chars)).collect();
    let waiting: Vec<Value> =
        past.backlog.iter().filter(|row| row.state == InputState::Queued).map(pending_input).collect();
    let mut answer = json!({
        "sessionKey": key,
        "messages": messages,
        "pendingInputs": { "items": waiting, "total": waiting.len() },
        "offset": page.offset,
        "hasMore": older < total,
        "totalMessages": total,
        "defaults": {
            "modelProvider": provider,
            "model": model,
            "contextTokens": CONTEXT_TOKENS,
            "modelSelectionTarget": "session",
        },
        "thinkingLevel": "off",
    });
    if older < total {
        answer["nextOffset"] = json!(older);
    }
    if let Some(id) = &past.history.session_id {
        answer["sessionId"] = json!(id);
    }
    if let Some(record) = &past.record {
        answer["sessionInfo"] = session_row(record, run_id.as_ref(), &catalog, now);
    }
    if let Some(turn) = active {
        let turn = turn.lock();
        answer["inFlightRun"] =
            json!({ "runId": turn.run_id, "text": turn.told(), "startedAt": turn.started_at, "events": [] });
    }
    answer
}

fn pending_input(row: &InputRow) -> Value {
    let mut meta = row.body.get("sender").filter(|s| s.is_object()).cloned().unwrap_or_else(|| json!({}));
    meta["id"] = json!(format!("pending:{}", row.id));
    json!({
        "id": row.id,
        "acceptedAt": row.created_at,
        "state": "queued",
        "runId": row.run_id,
        "message": {
            "role": "user",
            "content": row.text,
            "timestamp": row.created_at,
            "__openclaw": meta,
        },
    })
}

/// Cuts the texts of a row to what a client can show.
fn capped(mut row: Value, max_chars: Option<usize>) -> Value {
    let Some(max) = max_chars else { return row };
    let mut cut = false;
    let mut shorten = |text: &mut Value| {
        if let Value::String(s) = text
            && s.chars().count() > max
        {
            *s = s.chars().take(max).chain("\n...(truncated)...".chars()).collect();
            cut = true;
        }
    };
    match row.get_mut("content") {
        Some(Value::Array(blocks)) => blocks.iter_mut().filter_map(|b| b.get_mut("text")).for_each(shorten),
        Some(text) => shorten(text),
        None => {}
    }
    if cut {
        row["__openclaw"]["truncated"] = json!(true);
        row["__openclaw"]["reason"] = json!("display-cap");
    }
    row
}

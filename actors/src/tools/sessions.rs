//! The agent's own sessions: what goes on in this one, which others there are, what was said in them, and saying
//! something there.

use super::{Call, Definition, Effects, Permission, Sandbox, Tool, ToolResult, plain};
use crate::methods::chat::{Awaited, awaited, from_agent};
use crate::sessions::{SessionMsg, SessionsMsg, Status, model_of};
use crate::store::{self, HistoryPage, ListFilter, StoreError};
use crate::tree::Slot;
use chrono::{Local, SecondsFormat};
use crabtree_protocol::{RunId, SessionKey};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Sessions that are listed, unless fewer are asked for.
const MAX_LISTED: u64 = 100;
/// Messages that are read, unless fewer are asked for; and characters of each.
const MAX_READ: u64 = 100;
const MAX_CHARS: usize = 4_000;
/// How long an answer of another session is waited for, seconds: unless said otherwise, and at most.
const DEFAULT_WAIT: u64 = 30;
const MAX_WAIT: u64 = 300;

/// The tools; `sessions` is where what is said goes.
pub(super) fn tools(sessions: &Slot<SessionsMsg>) -> Vec<Arc<dyn Tool>> {
    let sessions = sessions.clone();
    vec![
        plain(status_definition(), status),
        plain(list_definition(), list),
        plain(history_definition(), history),
        plain(send_definition(), move |call| send(call, sessions.clone())),
    ]
}

fn definition(
    name: &str,
    label: &str,
    description: &str,
    properties: Value,
    required: &[&str],
) -> Definition {
    Definition {
        name: name.into(),
        label: label.into(),
        description: description.into(),
        parameters: json!({
            "type": "object", "properties": properties, "required": required, "additionalProperties": false,
        }),
        group: "sessions".into(),
        permissions: vec![Permission::SessionsRead],
        timeout: Duration::from_secs(30),
        sandbox: Sandbox::None,
        effects: Effects::None,
    }
}

fn status_definition() -> Definition {
    let about = "Tells about this conversation: the time here, the session, its model, and how much of the model's \
        context is used.";
    let known = definition("session_status", "Session Status", about, json!({}), &[]);
    Definition { permissions: vec![], ..known }
}

async fn status(call: Call) -> ToolResult {
    let (key, estate) = (call.place.session.clone(), call.place.store.estate.clone());
    let name = key.to_string();
    match call.place.store.read(move |c| store::session(c, &name)).await {
        Ok(record) => {
            let model = model_of(record.as_ref(), &estate.catalog.load());
            let tokens = record.as_ref().and_then(|record| record.entry.get("totalTokens")?.as_u64());
            answer(&json!({
                "time": Local::now().to_rfc3339_opts(SecondsFormat::Secs, false),
                "sessionKey": key,
                "contextTokens": estate.catalog.load().context_window(&model),
                "model": model,
                "totalTokens": tokens,
            }))
        }
        Err(e) => unreadable(&e),
    }
}

fn list_definition() -> Definition {
    let about = "Lists your sessions, the latest first: their keys, titles, and when something was said.";
    let properties = json!({
        "limit": { "type": "integer", "minimum": 1, "maximum": MAX_LISTED },
        "search": { "type": "string", "description": "Only those with this in their key or title." },
    });
    definition("sessions_list", "Sessions", about, properties, &[])
}

async fn list(call: Call) -> ToolResult {
    let filter = ListFilter {
        limit: call.args["limit"].as_u64().unwrap_or(MAX_LISTED) as u32,
        search: call.args["search"].as_str().map(str::to_owned),
        agent_id: Some(call.place.agent_id.clone()),
        ..ListFilter::default()
    };
    match call.place.store.read(move |c| store::list_sessions(c, &filter)).await {
        Ok((records, total)) => {
            let row = |record: &store::SessionRecord| {
                json!({
                    "key": record.key, "title": record.label.as_ref().or(record.title.as_ref()),
                    "status": record.status, "updatedAt": record.updated_at,
                })
            };
            let rows: Vec<Value> = records.iter().map(row).collect();
            answer(&json!({ "total": total, "sessions": rows }))
        }
        Err(e) => unreadable(&e),
    }
}

fn history_definition() -> Definition {
    let about = "Reads what was said last in one of your sessions.";
    let properties = json!({
        "sessionKey": { "type": "string", "minLength": 1 },
        "limit": { "type": "integer", "minimum": 1, "maximum": MAX_READ },
    });
    definition("sessions_history", "Session History", about, properties, &["sessionKey"])
}

async fn history(call: Call) -> ToolResult {
    let key = match own(&call) {
        Ok(key) => key,
        Err(refused) => return refused,
    };
    let page = HistoryPage { limit: call.args["limit"].as_u64().unwrap_or(20) as u32, offset: 0 };
    let name = key.to_string();
    match call.place.store.read(move |c| store::history(c, &name, page)).await {
        Ok(read) if read.session_id.is_none() => unknown(&key),
        Ok(read) => {
            let said = |row: &store::MessageRow| {
                let text: String = store::text_of(&row.message).chars().take(MAX_CHARS).collect();
                json!({ "role": row.kind, "text": text, "at": row.created_at })
            };
            let messages: Vec<Value> = read.rows.iter().map(said).collect();
            answer(&json!({ "sessionKey": key, "total": read.total, "messages": messages }))
        }
        Err(e) => unreadable(&e),
    }
}

fn send_definition() -> Definition {
    let about = "Says something in another one of your sessions, where you answer it; gives that answer back if it \
        comes within timeoutSeconds (0: do not wait).";
    let properties = json!({
        "sessionKey": { "type": "string", "minLength": 1 },
        "message": { "type": "string", "minLength": 1 },
        "timeoutSeconds": { "type": "integer", "minimum": 0, "maximum": MAX_WAIT },
    });
    let known = definition("sessions_send", "Session Send", about, properties, &["sessionKey", "message"]);
    Definition {
        permissions: vec![Permission::SessionsSend],
        timeout: Duration::from_secs(MAX_WAIT + 30),
        // The same call is the same message, however often it is made.
        effects: Effects::Repeatable,
        ..known
    }
}

async fn send(call: Call, sessions: Slot<SessionsMsg>) -> ToolResult {
    let key = match own(&call) {
        Ok(key) => key,
        Err(refused) => return refused,
    };
    let place = &call.place;
    if key == place.session {
        return ToolResult::error("That is this session: say it here.");
    }
    let name = key.to_string();
    match place.store.read(move |c| store::session(c, &name)).await {
        Ok(None) => return unknown(&key),
        Ok(Some(_)) => {}
        Err(e) => return unreadable(&e),
    }
    let run_id = RunId::from(format!("{}.{}", place.run_id, call.id).as_str());
    let text = call.args["message"].as_str().unwrap_or_default().to_owned();
    let now = place.store.estate.clock.now_ms();
    let submission = from_agent(&key, &place.session, text, &run_id, now);
    if sessions.send(SessionsMsg::To(key.clone(), SessionMsg::Submit(Box::new(submission)))).is_err() {
        return ToolResult::error("Not sent: the sessions are being restarted. Try again in a moment.");
    }
    let wait = Duration::from_secs(call.args["timeoutSeconds"].as_u64().unwrap_or(DEFAULT_WAIT));
    match awaited(&place.store, &run_id, wait).await {
        Awaited::Settled(outcome) if outcome.status == Status::Ok => {
            answer(&json!({ "status": "ok", "sessionKey": key, "reply": outcome.text }))
        }
        Awaited::Settled(outcome) => ToolResult::error(format!(
            "It was said there, and not answered: {}",
            outcome.error.as_deref().unwrap_or("the run was stopped")
        )),
        Awaited::Late | Awaited::Parked => {
            answer(&json!({ "status": "accepted", "sessionKey": key, "reply": null }))
        }
    }
}

/// The session that is meant, if it is the agent's.
fn own(call: &Call) -> Result<SessionKey, ToolResult> {
    let named = call.args["sessionKey"].as_str().unwrap_or_default();
    let key = SessionKey::canonical(named, &call.place.agent_id);
    let key = key.map_err(|refusal| ToolResult::error(refusal.message))?;
    if key.agent_id() == call.place.agent_id {
        return Ok(key);
    }
    Err(ToolResult::error(format!("{key} is the session of another agent.")))
}

fn unknown(key: &SessionKey) -> ToolResult {
    ToolResult::error(format!("There is no session {key}. sessions_list tells which there are."))
}

fn unreadable(error: &StoreError) -> ToolResult {
    ToolResult::error(format!("The sessions could not be read: {error}. Try again in a moment."))
}

fn answer(value: &Value) -> ToolResult {
    ToolResult::text(value.to_string())
}

//! Slash commands: messages the gateway answers itself, at once, also while a turn is running. What was typed
//! and what was answered are rows of the transcript that no model reads.

use super::{Call, store_refusal};
use crate::connection::ConnectionMsg;
use crate::estate::Estate;
use crate::event::{Audience, Event};
use crate::responder::Responder;
use crate::sessions::{changed_event, message_event, session_row};
use crate::store::{
    self, Counts, MessageRow, NewMessage, SessionRecord, SessionUpdate, Store, StoreError, WriteOp,
    WriteReply,
};
use crate::tree::Ctx;
use crabtree_protocol::{Event as Name, Refusal, RunId, SessionKey};
use serde_json::{Value, json};
use uuid::Uuid;

/// What a command does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    Help,
    Status,
    Stop,
}

/// Every command: its name, what it does, its category and what it is told to do.
const COMMANDS: [(&str, Command, &str, &str); 3] = [
    ("help", Command::Help, "status", "Show available commands."),
    ("status", Command::Status, "status", "Show how the gateway and this session are."),
    ("stop", Command::Stop, "session", "Stop the running answer and drop what waits behind it."),
];

/// The command that a message is, if it is one and nothing else.
pub(super) fn parse(message: &str) -> Option<Command> {
    let said = message.trim().to_ascii_lowercase();
    let name = said.strip_prefix('/').or_else(|| (said == "stop").then_some("stop"))?;
    COMMANDS.iter().find(|(known, ..)| *known == name).map(|(_, command, ..)| *command)
}

/// The rows of `commands.list`.
pub(super) fn rows() -> Vec<Value> {
    let row = |(name, _, category, description): &(&str, Command, &str, &str)| {
        json!({
            "name": name,
            "nativeName": name,
            "textAliases": [format!("/{name}")],
            "description": description,
            "category": category,
            "source": "native",
            "scope": "both",
            "acceptsArgs": false,
        })
    };
    COMMANDS.iter().map(row).collect()
}

/// A command as it was typed.
struct Typed {
    command: Command,
    key: SessionKey,
    run_id: RunId,
    text: String,
    sender: Value,
}

/// What there is to say about.
struct Seen {
    record: Option<SessionRecord>,
    messages: i64,
    counts: Counts,
}

/// Answers a command that is answered with a text.
pub(super) fn answer(
    ctx: &mut Ctx<ConnectionMsg>,
    call: Call<'_>,
    command: Command,
    (key, run_id): (SessionKey, String),
    text: String,
) {
    let sender = super::chat::sender(&call.responder);
    let typed = Typed { command, key, run_id: run_id.into(), text, sender };
    let (store, responder) = (call.wiring.store.clone(), call.responder);
    ctx.detached(async move {
        match run(&store, &typed).await {
            Ok(rows) => told(&store.estate, &typed, &rows, responder),
            Err(refusal) => responder.refuse(refusal),
        }
    });
}

/// What came of a command: the rows that are new, and the session they are in. No rows: it was answered before.
struct Ran {
    rows: Vec<MessageRow>,
    record: Option<SessionRecord>,
}

async fn run(store: &Store, typed: &Typed) -> Result<Ran, Refusal> {
    let estate = &store.estate;
    let now = estate.clock.now_ms();
    let failed =
        |e: StoreError| Refusal::failed(format!("the message was not accepted: {e}")).with_retry(1000);
    let update = SessionUpdate {
        at: now,
        session_id_if_new: Some(Uuid::new_v4().to_string()),
        last_interaction_at: Some(now),
        ..SessionUpdate::default()
    };
    store.write(WriteOp::UpdateSession { key: typed.key.to_string(), update }).await.map_err(failed)?;
    let (asked, fresh) = append(store, typed.question(now)).await.map_err(failed)?;
    if asked.message["content"] != typed.text {
        return Err(Refusal::chat_request_conflict());
    }
    let key = typed.key.to_string();
    let seen = store.read(move |c| {
        let page = store::HistoryPage { limit: 1, offset: 0 };
        Ok(Seen {
            record: store::session(c, &key)?,
            messages: store::history(c, &key, page)?.total,
            counts: store::counts(c)?,
        })
    });
    let seen = seen.await.map_err(|e| store_refusal(&e))?;
    let text = match typed.command {
        Command::Status => status(estate, &typed.key, &seen),
        _ => help(),
    };
    let (answered, news) = append(store, typed.answer(&text, now)).await.map_err(failed)?;
    let rows = [(asked, fresh), (answered, news)];
    let rows = rows.into_iter().filter(|(_, fresh)| *fresh).map(|(row, _)| row).collect();
    Ok(Ran { rows, record: seen.record })
}

async fn append(store: &Store, message: NewMessage) -> Result<(MessageRow, bool), StoreError> {
    match store.write(WriteOp::AppendMessage(message)).await? {
        WriteReply::Appended(row, fresh) => Ok((row, fresh)),
        _ => Err(StoreError::Unavailable("the store answered a row with something else".into())),
    }
}

/// Acknowledges, and tells everybody: the answer first, then the rows, as recorded.
fn told(estate: &Estate, typed: &Typed, ran: &Ran, responder: Responder) {
    let Typed { key, run_id, .. } = typed;
    let Some(answer) = ran.rows.iter().find(|row| row.kind == "assistant") else {
        return responder.ok(&json!({ "runId": run_id, "status": "ok" }));
    };
    responder.ok(&json!({ "runId": run_id, "status": "started" }));
    let now = estate.clock.now_ms();
    let end = json!({
        "runId": run_id, "sessionKey": key, "seq": 1, "state": "final", "message": answer.message,
    });
    estate.conns.publish(Event::new(Name::Chat, Audience::Turn(key.clone()), &end));
    let active = estate.ledgers.of(key).first().map(|turn| turn.lock().run_id.clone());
    let record = ran.record.as_ref();
    let session = record.map(|record| session_row(record, active.as_ref(), &estate.catalog.load(), now));
    let session = session.unwrap_or_else(|| json!({ "key": key }));
    ran.rows.iter().for_each(|row| estate.conns.publish(message_event(key, row, &session)));
    let settled = json!({ "reason": "agent.input.settled" });
    estate.conns.publish(changed_event(key, settled, &session, now));
}

impl Typed {
    fn question(&self, now: i64) -> NewMessage {
        let key = format!("{}:user", self.run_id);
        let mut sender = self.sender.clone();
        sender["contextFreeCommand"] = json!(true);
        let message = json!({
            "role": "user", "content": self.text, "timestamp": now, "idempotencyKey": key,
            "excludeFromContext": true, "__openclaw": sender,
        });
        self.row("user", key, message, now)
    }

    fn answer(&self, text: &str, now: i64) -> NewMessage {
        let message = json!({
            "role": "assistant",
            "content": [{ "type": "text", "text": text }],
            "timestamp": now,
            "stopReason": "stop",
            "usage": {
                "input": 0, "output": 0, "totalTokens": 0, "cacheRead": 0, "cacheWrite": 0,
                "cost": { "input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0, "total": 0 },
            },
            "api": "crabtree",
            "provider": "crabtree",
            "model": "gateway-injected",
            "idempotencyKey": self.run_id,
            "excludeFromContext": true,
            "__openclaw": { "contextFreeCommand": true },
        });
        self.row("assistant", self.run_id.to_string(), message, now)
    }

    fn row(&self, kind: &str, idempotency_key: String, message: Value, now: i64) -> NewMessage {
        NewMessage {
            id: Uuid::now_v7().to_string(),
            session_key: self.key.to_string(),
            session_id: String::new(),
            parent: None,
            kind: kind.into(),
            idempotency_key: Some(idempotency_key),
            run_id: Some(self.run_id.to_string()),
            hidden: false,
            message,
            created_at: now,
        }
    }
}

fn help() -> String {
    let line = |(name, _, _, description): &(&str, Command, &str, &str)| format!("/{name}  {description}");
    let lines: Vec<String> = COMMANDS.iter().map(line).collect();
    format!("Commands\n\n{}\n\nEverything else is answered by the agent.", lines.join("\n"))
}

fn status(estate: &Estate, key: &SessionKey, seen: &Seen) -> String {
    let now = estate.clock.now_ms();
    let active = match estate.ledgers.of(key).first() {
        Some(turn) => format!("answering for {}", duration(now - turn.lock().started_at)),
        None => "idle".to_owned(),
    };
    let Counts { sessions, queued, running, dead } = seen.counts;
    let health = if estate.health.load().ok { "all parts run" } else { "not all parts run, see health" };
    [
        format!("🦀 Crabtree {}", estate.boot.version),
        format!("Up: {}; {health}", duration(estate.clock.uptime().as_millis() as i64)),
        format!("Model: {}", estate.catalog.load().primary),
        format!("Session: {key} ({active}; {} messages)", seen.messages),
        format!("Inputs: {running} running, {queued} waiting, {dead} given up; {sessions} sessions"),
        format!("Clients: {}", estate.conns.count()),
    ]
    .join("\n")
}

/// A duration in its two largest units.
fn duration(ms: i64) -> String {
    let s = ms.max(0) / 1000;
    match (s / 86_400, s / 3600 % 24, s / 60 % 60, s % 60) {
        (0, 0, 0, s) => format!("{s} s"),
        (0, 0, m, s) => format!("{m} min {s} s"),
        (0, h, m, _) => format!("{h} h {m} min"),
        (d, h, ..) => format!("{d} d {h} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_the_whole_message() {
        assert!(parse(" /Status\n") == Some(Command::Status) && parse("/help") == Some(Command::Help));
        assert!(parse("/stop") == Some(Command::Stop) && parse("Stop") == Some(Command::Stop));
        for said in ["status", "/bogus", "/status of things", "help", "/", "", "please /stop"] {
            assert!(parse(said).is_none(), "{said}");
        }
    }

    #[test]
    fn help_names_every_command_and_durations_are_short() {
        assert!(COMMANDS.iter().all(|(name, ..)| help().contains(&format!("/{name} "))));
        let shown: Vec<_> = [-1, 59_999, 61_000, 3_660_000, 90_000_000].map(duration).into();
        assert_eq!(shown, ["0 s", "59 s", "1 min 1 s", "1 h 1 min", "1 d 1 h"]);
    }
}

//! Slash commands: messages the gateway answers itself, at once, also while a turn is running. What was typed
//! and what was answered are rows of the transcript that no model reads.

mod rows;
mod settings;
mod table;
mod views;

pub(super) use rows::{Typed, outcome};
pub(super) use table::{Command, parse, rows};
pub(super) use views::who;

use super::sessions::{compact, reset};
use super::{chat, store_refusal};
use crate::approvals::{By, words};
use crate::conns::Conn;
use crate::event::{Audience, Event};
use crate::gateway::Wiring;
use crate::responder::Responder;
use crate::sessions::{Changed, Told, change};
use crate::store::{
    self, Counts, HistoryPage, ListFilter, MessageRow, SessionRecord, SessionUpdate, Store, WriteOp,
    WriteReply,
};
use crabtree_protocol::{Event as Name, Refusal, Scope};
use serde_json::{Value, json};
use std::sync::Arc;
use uuid::Uuid;

/// `stopReason` of what runs in a session that begins anew.
const STOPPED: &str = "restart";

/// What a command says, and what it changes of the session: its name, its entry.
#[derive(Default)]
struct Answer {
    text: String,
    label: Option<String>,
    patch: Option<Value>,
}

impl Answer {
    fn says(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    fn sets(text: impl Into<String>, patch: Value) -> Self {
        Self { text: text.into(), patch: Some(patch), ..Self::default() }
    }
}

/// What there is to say about.
struct Seen {
    record: Option<SessionRecord>,
    /// Another session of the agent has the name that is wanted.
    is_taken: bool,
    messages: i64,
    counts: Counts,
    /// The latest sessions, for the command that lists them.
    sessions: Vec<SessionRecord>,
    /// What stands of this command already.
    earlier: Vec<MessageRow>,
    /// Whether this run is that of a message to the agent.
    is_input: bool,
}

impl Seen {
    async fn read(store: &Store, typed: &Typed) -> Result<Self, Refusal> {
        let (key, run_id, lists) =
            (typed.key.to_string(), typed.run_id.to_string(), typed.command == Command::Sessions);
        let name = (typed.command == Command::Name).then(|| typed.args.clone());
        let agent = typed.key.agent_id().to_owned();
        let seen = store.read(move |c| {
            let filter = ListFilter { limit: views::LISTED, ..ListFilter::default() };
            let sessions = if lists { store::list_sessions(c, &filter)?.0 } else { Vec::new() };
            let namesakes = match name {
                Some(name) => store::sessions_by_label(c, &name, Some(&agent))?,
                None => Vec::new(),
            };
            Ok(Self {
                is_taken: namesakes.iter().any(|other| other.key != key),
                record: store::session(c, &key)?,
                messages: store::history(c, &key, HistoryPage { limit: 1, offset: 0 })?.total,
                counts: store::counts(c)?,
                sessions,
                earlier: store::messages_by_run(c, &run_id)?,
                is_input: store::input_by_source(c, "rpc", &run_id)?.is_some(),
            })
        });
        seen.await.map_err(|e| store_refusal(&e))
    }

    /// Whether it has been answered before; refuses if something else was said under its name.
    fn is_answered(&self, typed: &Typed) -> Result<bool, Refusal> {
        let asked = self.earlier.iter().find(|row| row.kind == "user");
        let is_other =
            |row: &MessageRow| row.message["content"] != typed.text || row.session_key != typed.key.as_str();
        if self.is_input || asked.is_some_and(is_other) {
            return Err(Refusal::chat_request_conflict());
        }
        Ok(self.earlier.iter().any(|row| row.kind == "assistant"))
    }
}

/// Answers a command that was typed, whatever becomes of it.
pub(super) async fn answer(wiring: Arc<Wiring>, typed: Typed, responder: Responder) {
    let seen = match Seen::read(&wiring.store, &typed).await {
        Ok(seen) => seen,
        Err(refusal) => return responder.refuse(refusal),
    };
    if typed.is_followed() {
        return begin_and_say(&wiring, typed, seen.is_input, responder).await;
    }
    match seen.is_answered(&typed) {
        Err(refusal) => responder.refuse(refusal),
        Ok(true) => responder.ok(&json!({ "runId": typed.run_id, "status": "ok" })),
        Ok(false) if typed.command == Command::Compact => sum_up(&wiring, &typed, responder).await,
        Ok(false) => match run(&wiring, &typed, &seen, responder.conn().clone()).await {
            Ok(answered) => {
                responder.ok(&started(&typed));
                tell(&wiring, &typed, &answered);
            }
            Err(refusal) => responder.refuse(refusal),
        },
    }
}

fn started(typed: &Typed) -> Value {
    json!({ "runId": typed.run_id, "status": "started" })
}

/// Does it, and makes it durable together with what was asked and answered.
async fn run(wiring: &Wiring, typed: &Typed, seen: &Seen, conn: Arc<Conn>) -> Result<MessageRow, Refusal> {
    let asked = typed.clone();
    let changed = match typed.command {
        Command::New | Command::Reset => {
            let reason = if typed.command == Command::New { "new" } else { "reset" };
            let make = move |record: Option<&SessionRecord>, now| {
                let reset = reset::reset_op(record, &asked.key, now);
                let rows = [asked.question(now), asked.answer(views::begun(asked.command), now)];
                Ok(all([reset], rows))
            };
            change(&wiring.sessions, typed.key.clone(), Some(STOPPED), Told::Reason(reason), make).await?
        }
        command => {
            let Answer { text, label, patch } = match command {
                Command::Approve => Answer::says(approved(wiring, &typed.args, &conn).await),
                _ => reply(wiring, typed, seen),
            };
            let reason = if label.is_some() || patch.is_some() { "patch" } else { "agent.input.settled" };
            let make = move |_: Option<&SessionRecord>, now| {
                let rows = [asked.question(now), asked.answer(&text, now)];
                Ok(all([spoken(&asked, label, patch, now)], rows))
            };
            change(&wiring.sessions, typed.key.clone(), None, Told::Reason(reason), make).await?
        }
    };
    answered(changed)
}

fn reply(wiring: &Wiring, typed: &Typed, seen: &Seen) -> Answer {
    let estate = &wiring.store.estate;
    match typed.command {
        Command::Status => Answer::says(views::status(estate, &typed.key, seen)),
        Command::Whoami => Answer::says(typed.who.clone()),
        Command::Sessions => Answer::says(views::sessions(&seen.sessions, estate.clock.now_ms())),
        Command::Tree => Answer::says(estate.root.get().map(views::tree).unwrap_or_default()),
        Command::Name => settings::name(&typed.args, seen.record.as_ref(), seen.is_taken),
        Command::Model => settings::model(&typed.args, seen.record.as_ref(), &estate.catalog.load()),
        Command::Queue => settings::queue(
            &typed.args,
            seen.record.as_ref(),
            &typed.key,
            &estate.config.load().settings.messages.queue,
        ),
        Command::Think => {
            let agent = typed.key.agent_id();
            settings::think(&typed.args, seen.record.as_ref(), agent, &estate.catalog.load())
        }
        Command::Verbose => settings::verbose(&typed.args, seen.record.as_ref()),
        Command::Usage => settings::usage(&typed.args, seen.record.as_ref()),
        Command::Activation => settings::activation(&typed.args, seen.record.as_ref()),
        Command::Help
        | Command::New
        | Command::Reset
        | Command::Stop
        | Command::Compact
        | Command::Approve => Answer::says(table::help()),
    }
}

/// Decides on an approval, for a client that may; what is said on channels is decided there.
async fn approved(wiring: &Wiring, args: &str, conn: &Conn) -> String {
    if !conn.grant().is_some_and(|grant| grant.may(Scope::Approvals)) {
        return format!("⚠️ You may not decide on this: it needs {}.", Scope::Approvals.name());
    }
    match words::decide(wiring, words::read(args), By::of(conn)).await {
        Ok(decided) => decided.text,
        Err(why) => format!("⚠️ {why}"),
    }
}

/// What is written of a session that somebody typed a command in.
fn spoken(typed: &Typed, label: Option<String>, patch: Option<Value>, now: i64) -> WriteOp {
    let update = SessionUpdate {
        at: now,
        session_id_if_new: Some(Uuid::new_v4().to_string()),
        last_interaction_at: Some(now),
        label: label.map(Some),
        entry: patch,
        ..SessionUpdate::default()
    };
    WriteOp::UpdateSession { key: typed.key.to_string(), update }
}

fn all<const N: usize, const M: usize>(first: [WriteOp; N], rows: [store::NewMessage; M]) -> WriteOp {
    WriteOp::All(first.into_iter().chain(rows.map(WriteOp::AppendMessage)).collect())
}

/// The row of the answer, which is written last.
fn answered(changed: Changed) -> Result<MessageRow, Refusal> {
    let WriteReply::All(mut replies) = changed.reply else { return Err(odd()) };
    match replies.pop() {
        Some(WriteReply::Appended(row, _)) => Ok(row),
        _ => Err(odd()),
    }
}

fn odd() -> Refusal {
    Refusal::failed("the store answered a command's rows with something else; look whether it was done")
}

/// Tells the end: to all who hear of turns, and to who waits for it.
fn tell(wiring: &Wiring, typed: &Typed, row: &MessageRow) {
    let estate = &wiring.store.estate;
    let mut message = row.message.clone();
    if matches!(typed.command, Command::New | Command::Reset) {
        message["content"][0]["openclawStatusNotice"] = json!(true);
    }
    let end = json!({
        "runId": typed.run_id, "sessionKey": typed.key, "seq": 1, "state": "final", "message": message,
    });
    estate.conns.publish(Event::new(Name::Chat, Audience::Turn(typed.key.clone()), &end));
    estate.waiters.resolve(&typed.run_id, &outcome(row));
}

/// `/compact` takes a model's time: it is acknowledged before, and answered after.
async fn sum_up(wiring: &Wiring, typed: &Typed, responder: Responder) {
    let asked = typed.clone();
    let make = move |_: Option<&SessionRecord>, now| {
        let rows = [asked.question(now)];
        Ok(all([spoken(&asked, None, None, now)], rows))
    };
    let noted = change(&wiring.sessions, typed.key.clone(), None, Told::Nothing, make).await;
    if let Err(refusal) = noted {
        return responder.refuse(refusal);
    }
    responder.ok(&started(typed));
    let text = views::compacted(compact::compact(wiring, typed.key.clone(), &typed.args).await);
    let asked = typed.clone();
    let make = move |_: Option<&SessionRecord>, now| {
        let rows = [asked.answer(&text, now)];
        Ok(all([], rows))
    };
    let told = Told::Reason("agent.input.settled");
    let done = change(&wiring.sessions, typed.key.clone(), None, told, make).await;
    match done.and_then(answered) {
        Ok(row) => tell(wiring, typed, &row),
        Err(refusal) => {
            tracing::warn!(target: "crabtree::commands", key = %typed.key, "unanswered: {}", refusal.message);
        }
    }
}

/// The session begins anew.
pub(super) async fn begin_anew(wiring: &Wiring, typed: &Typed) -> Result<(), Refusal> {
    let reason = if typed.command == Command::New { "new" } else { "reset" };
    let key = typed.key.clone();
    let make = move |record: Option<&SessionRecord>, now| Ok(reset::reset_op(record, &key, now));
    change(&wiring.sessions, typed.key.clone(), Some(STOPPED), Told::Reason(reason), make).await.map(drop)
}

/// The session begins anew with what follows the command. Said twice, it begins anew once.
async fn begin_and_say(wiring: &Wiring, typed: Typed, is_said: bool, responder: Responder) {
    if !is_said && let Err(refusal) = begin_anew(wiring, &typed).await {
        return responder.refuse(refusal);
    }
    let said = chat::Said::message(typed.run_id.to_string(), typed.args);
    chat::submit(wiring, responder, typed.key, said);
}

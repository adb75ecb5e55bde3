//! How far a running turn has been told to the clients: the text so far, what of it was sent, and the
//! run's event counter. It lives in the Estate, so that a reborn session goes on where the last one stopped.

mod attempts;
mod ends;
mod seen;
mod tools;

pub use tools::{Scene, ToolSummary, Tools, activity};

use super::blocks::{BlockStream, Mark};
use super::conversation;
use super::run::{RunMsg, Stage, Task, called};
use super::silence;
use crate::agents::Usage;
use crate::event::{Audience, Event};
use crate::store::{self, InputRow, MessageRow};
use crate::tools::Askers;
use crate::tree::Slot;
use crabtree_protocol::{ConnId, Event as Name, RunId, SessionKey};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::Arc;

/// How a turn came to be, which shows in what is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Asked for with `chat.send`, under the submission's own name: its phases are told, too.
    Chat,
    /// Out of the queue, under a name of its own: the submission was settled when it was queued.
    Dispatched,
    /// Asked for with the method `agent`.
    Agent,
}

/// See the module.
pub struct Turn {
    /// The run.
    pub run_id: RunId,
    /// The session.
    pub key: SessionKey,
    /// The session's id.
    pub session_id: String,
    /// How it came to be.
    pub origin: Origin,
    /// The address of the run's actor.
    pub run: Slot<RunMsg>,
    /// Everything the model wrote, the answers of its steps with a blank line between them.
    pub reply: BlockStream,
    /// When it began, ms.
    pub started_at: i64,
    /// Provider and name of the model, once known.
    pub model: Option<(String, String)>,
    /// Name of the actor that runs it, among the session's children.
    pub child: Arc<str>,
    /// The tools that the latest answer called.
    pub tools: Tools,
    /// The connections that asked for it.
    asked_by: Arc<[ConnId]>,
    /// Who among those it answers does not own the assistant.
    askers: Askers,
    /// The only tools it may use, if somebody says so.
    only: Option<Arc<[String]>>,
    seq: u64,
    told: usize,
    /// How much of what the model thinks clients have been told.
    told_thought: usize,
    /// The last event of its preparation.
    status: Option<Value>,
    stage: Stage,
    /// Whether the model failed: when it is asked again, so is its preparation told.
    failed: bool,
    /// Where the answer of this step begins; behind it, while its tools are run.
    answer_at: Mark,
    /// Whether the answer of this step is complete.
    is_whole: bool,
    /// Whether it has answered nothing once.
    was_silent: bool,
    /// Tokens of the steps before this one.
    usage: Usage,
    /// The inputs it answers, as far as clients have been told.
    inputs: HashSet<String>,
    /// The transcript rows that clients have been told.
    rows: HashSet<String>,
}

impl Turn {
    /// A turn that has not begun.
    pub fn new(run_id: RunId, key: SessionKey, session_id: String, origin: Origin, now: i64) -> Self {
        let child = run_id.as_str().into();
        Self {
            run_id,
            key,
            session_id,
            origin,
            run: Slot::default(),
            reply: BlockStream::default(),
            started_at: now,
            model: None,
            child,
            tools: Tools::default(),
            asked_by: Arc::default(),
            askers: Askers::default(),
            only: None,
            seq: 0,
            told: 0,
            told_thought: 0,
            status: None,
            stage: Stage::asking(1),
            failed: false,
            answer_at: Mark::default(),
            is_whole: false,
            was_silent: false,
            usage: Usage::default(),
            inputs: HashSet::new(),
            rows: HashSet::new(),
        }
    }

    /// How far it has come.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// What its run has to do now.
    pub fn task(&self) -> Task {
        Task { stage: self.stage, calls: self.tools.calls(), askers: self.askers, only: self.only.clone() }
    }

    /// What the model has answered in this step.
    pub fn answer(&self) -> BlockStream {
        self.reply.since(self.answer_at)
    }

    /// Tokens of all steps, the last one's given.
    pub fn usage_with(&self, last: Usage) -> Usage {
        self.usage + last
    }

    /// It answers these inputs, and clients know it.
    pub fn answers(&mut self, rows: &[InputRow]) {
        self.inputs.extend(rows.iter().map(|row| row.id.clone()));
        self.askers = rows.iter().fold(self.askers, |askers, row| askers.and(&row.body));
        let only = rows.iter().find_map(|row| Vec::<String>::deserialize(row.body.get("toolsAllow")?).ok());
        self.only = self.only.take().or_else(|| only.map(Into::into));
        let asking = rows.iter().filter_map(|row| ConnId::deserialize(row.body.get("conn")?).ok());
        self.asked_by = self.asked_by.iter().copied().chain(asking).collect();
    }

    /// Notes that a transcript row is told; false if it was told before, by this turn or an earlier one.
    pub fn tells(&mut self, row: &MessageRow) -> bool {
        let is_mine = row.run_id.as_deref() == Some(self.run_id.as_str());
        is_mine && self.rows.insert(row.id.clone())
    }

    /// Whether clients know that it answers this input.
    pub fn knows(&self, row: &InputRow) -> bool {
        self.inputs.contains(&row.id)
    }

    fn payload(&self, rest: Value) -> Value {
        let mut payload = json!({
            "runId": self.run_id, "sessionKey": self.key, "agentId": self.key.agent_id(), "seq": self.seq,
        });
        merge(&mut payload, rest);
        payload
    }

    fn chat(&self, rest: Value) -> Event {
        Event::new(Name::Chat, Audience::Turn(self.key.clone()), &self.payload(rest))
    }

    fn agent(&self, stream: &str, data: Value, now: i64) -> Event {
        Event::new(Name::Agent, Audience::Turn(self.key.clone()), &self.agent_payload(stream, data, now))
    }

    fn agent_payload(&self, stream: &str, data: Value, now: i64) -> Value {
        let mut payload = json!({
            "runId": self.run_id,
            "sessionKey": self.key,
            "agentId": self.key.agent_id(),
            "stream": stream,
            "data": data,
            "seq": self.seq,
            "ts": now,
        });
        if stream == "lifecycle" {
            payload["sessionId"] = json!(self.session_id);
            if self.origin == Origin::Dispatched {
                payload["data"]["completionSource"] = json!("reply-dispatch");
            }
        }
        if self.origin != Origin::Agent {
            payload["isHeartbeat"] = json!(false);
            if payload["data"]["phase"] == "model" && payload["data"]["model"].is_null() {
                payload["lane"] = json!("main");
            }
        }
        payload
    }

    /// Enters a phase of the preparation.
    pub fn phase(&mut self, phase: &str, now: i64) -> Vec<Event> {
        self.status(json!({ "state": "status", "phase": phase }), json!({ "phase": phase }), now)
    }

    fn status(&mut self, chat: Value, run: Value, now: i64) -> Vec<Event> {
        self.seq += 1;
        let mut events = Vec::new();
        if self.origin == Origin::Chat {
            events.push(self.chat(chat).droppable());
        }
        let status = self.agent_payload("run_status", run, now);
        events.push(Event::new(Name::Agent, Audience::Turn(self.key.clone()), &status).droppable());
        self.status = Some(status);
        events
    }

    /// The event of the phase it is in, until it has said something: what a client that comes late has missed.
    pub fn missed(&self) -> Option<&Value> {
        self.status.as_ref().filter(|_| self.told == 0)
    }

    /// Tells a step of the run's life.
    pub fn lifecycle(&mut self, data: Value, now: i64) -> Event {
        self.seq += 1;
        self.agent("lifecycle", data, now)
    }

    /// What is thought and has not been told yet.
    fn flush_thought(&mut self, now: i64) -> Option<Event> {
        let thought = self.reply.thought().trim_end();
        let delta = thought.get(self.told_thought..).filter(|delta| !delta.is_empty())?;
        let (data, item) = (json!({ "text": thought, "delta": delta }), self.item());
        self.seq += 1;
        let event = self.agent("thinking", data, now).adding(&format!("thinking {item}"), "delta", delta);
        self.told_thought = thought.len();
        Some(event.droppable())
    }

    /// The thoughts and the text that have not been told yet, if there are any.
    pub fn flush(&mut self, now: i64) -> Vec<Event> {
        let thought = self.flush_thought(now);
        let seen = self.visible().len();
        if self.told >= seen {
            return thought.into_iter().collect();
        }
        self.seq += 1;
        let text = self.reply.text();
        let (delta, item) = (&text[self.told..seen], self.item());
        let chat = json!({ "state": "delta", "deltaText": delta, "message": self.message(now) });
        let chat = self.chat(chat).adding(&format!("chat {item}"), "deltaText", delta).droppable();
        let more = text.get(self.told.max(self.answer_at.text)..seen).filter(|more| !more.is_empty());
        let agent = more.map(|more| {
            let agent = json!({ "text": &text[self.answer_at.text..seen], "delta": more, "itemId": item });
            self.agent("assistant", agent, now).adding(&format!("agent {item}"), "delta", more).droppable()
        });
        self.told = seen;
        thought.into_iter().chain(agent).chain([chat]).collect()
    }

    /// A new attempt goes on after what the transcript holds of the turn: answers and results of tools.
    pub fn go_on_after(&mut self, rows: &[MessageRow], now: i64) -> Vec<Event> {
        self.reply = BlockStream::default();
        self.usage = Usage::default();
        let answers = rows.iter().filter(|row| row.kind == "assistant");
        for row in answers.clone() {
            match silence::is_silent_row(row) {
                true => self.was_silent = true,
                false => self.reply.write(&store::text_of(&row.message)),
            }
            conversation::calls(&row.message).iter().for_each(|call| self.reply.insert(called(call)));
            self.count(row);
            self.pause();
        }
        self.tools.resume(rows);
        self.stage = match self.tools.is_empty() {
            true => Stage::asking(answers.count() + 1),
            false => Stage::asking(answers.count()).working(),
        };
        self.answer_at = self.reply.mark();
        self.restart(now)
    }

    /// The model has paused; `answer` is what it said until then.
    pub fn answer_over(&mut self, answer: Option<&MessageRow>, now: i64) -> Vec<Event> {
        let mut events = self.flush(now);
        if let Some(row) = answer {
            self.count(row);
        }
        events.push(self.used(now));
        if self.is_silent() {
            self.was_silent = true;
            self.reply.truncate(self.answer_at);
        }
        self.pause();
        self.answer_at = self.reply.mark();
        events
    }

    /// The model is asked again, with what has joined or what its tools have come to.
    pub fn next_step(&mut self) {
        self.tools.clear();
        self.is_whole = false;
        self.stage = Stage::asking(self.stage.step + 1);
    }

    fn forget_thought(&mut self) {
        self.reply.forget_thought();
        self.told_thought = 0;
    }

    /// What follows stands below a blank line.
    fn pause(&mut self) {
        self.forget_thought();
        self.reply.trim_end();
        if !self.reply.text().is_empty() {
            self.reply.write("\n\n");
        }
    }

    fn count(&mut self, answer: &MessageRow) {
        let used = Usage::deserialize(&answer.message["usage"]).unwrap_or_default();
        self.usage = self.usage_with(used);
    }

    /// Tells the tokens written so far.
    fn used(&mut self, now: i64) -> Event {
        self.seq += 1;
        self.agent("usage", json!({ "outputTokens": self.usage.output }), now)
    }

    /// Takes over what its run reports of this step; text that was told and is not the run's is taken back.
    pub fn report(&mut self, model: Option<(String, String)>, reply: BlockStream, now: i64) -> Vec<Event> {
        let told = self.reply.text().get(self.answer_at.text..self.told).unwrap_or_default();
        let events = if reply.text().starts_with(told) { Vec::new() } else { self.restart(now) };
        self.model = model.or(self.model.take());
        self.reply.truncate(self.answer_at);
        self.reply.append(reply);
        events
    }
}

/// The event that settles a submission which has been delivered, to a running turn or to the queue.
pub fn delivered(key: &SessionKey, run_id: &str) -> Event {
    let last = json!({ "runId": run_id, "sessionKey": key, "seq": 1, "state": "final" });
    Event::new(Name::Chat, Audience::Turn(key.clone()), &last)
}

/// Adds the members of `more` to the object `into`.
pub(crate) fn merge(into: &mut Value, more: Value) {
    if let (Value::Object(into), Value::Object(more)) = (into, more) {
        into.extend(more);
    }
}

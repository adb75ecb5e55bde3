//! The tools of a turn: which are called, and what is told of them, in the recorded order.

use super::Turn;
use crate::agents::ToolCall;
use crate::event::{Audience, Event};
use crate::sessions::blocks::{BlockType, Insert};
use crate::sessions::conversation;
use crate::sessions::rows::with_session;
use crate::store::{MessageRow, NewMessage};
use crate::tools::{Effects, MAX_RESULT, Registry, ToolResult};
use crabtree_protocol::Event as Name;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use uuid::Uuid;

/// Characters of what a call is about, as titles show it.
const MAX_META: usize = 80;
/// Base64 of pictures in one event, bytes.
const MAX_TOLD_MEDIA: usize = 512 << 10;
/// Characters of what went wrong, in an item.
const MAX_ERROR: usize = 400;
/// Arguments that say what a call is about, the first that is there.
const TELLING: &[&str] = &["command", "path", "url", "pattern", "query", "name", "action", "message"];

/// The tools that the latest answer of a turn called.
#[derive(Default)]
pub struct Tools {
    called: Vec<Called>,
    /// What has been called in the whole turn.
    summary: ToolSummary,
}

/// What tools have done for a turn.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolSummary {
    /// Calls that have come to a result.
    pub calls: u64,
    /// Names of the tools.
    pub tools: BTreeSet<String>,
    /// Calls that failed.
    pub failures: u64,
    /// Names of the tools that have worked.
    pub successful: BTreeSet<String>,
    /// Whether any may have had effects outside, so that the turn cannot be played again.
    pub external: bool,
}

impl ToolSummary {
    fn count(&mut self, name: &str, is_error: bool, external: bool) {
        self.external |= external;
        self.calls += 1;
        self.tools.insert(name.to_owned());
        if is_error {
            self.failures += 1;
        } else {
            self.successful.insert(name.to_owned());
        }
    }
}

struct Called {
    call: ToolCall,
    started_at: Option<i64>,
    result: Option<ToolResult>,
}

/// What is needed to tell of a tool.
pub struct Scene<'a> {
    /// The tools there are.
    pub registry: &'a Registry,
    /// The session's row.
    pub row: &'a Value,
    /// ms.
    pub now: i64,
}

impl Tools {
    fn of(calls: Vec<ToolCall>) -> Vec<Called> {
        calls.into_iter().map(|call| Called { call, started_at: None, result: None }).collect()
    }

    /// Those that have not come to a result.
    pub fn calls(&self) -> Arc<[ToolCall]> {
        let open = self.called.iter().filter(|called| called.result.is_none());
        open.map(|called| called.call.clone()).collect()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.called.is_empty()
    }

    /// What has been called in the whole turn.
    pub fn summary(&self) -> &ToolSummary {
        &self.summary
    }

    /// Another answer follows.
    pub(super) fn clear(&mut self) {
        self.called.clear();
    }

    /// Takes up what the transcript holds of a turn.
    pub(super) fn resume(&mut self, rows: &[MessageRow]) {
        self.summary = ToolSummary::default();
        for message in rows.iter().filter(|row| row.kind == "toolResult").map(|row| &row.message) {
            let name = message["toolName"].as_str().unwrap_or_default();
            self.summary.count(name, message["isError"] == true, true);
        }
        self.called = Self::of(conversation::open_calls(rows));
    }

    fn find(&mut self, id: &str) -> Option<&mut Called> {
        self.called.iter_mut().find(|called| called.call.id == id)
    }
}

impl Turn {
    /// The answer has ended in calls, and is the row `answer`.
    pub fn call_tools(&mut self, answer: &MessageRow, now: i64) -> Vec<Event> {
        let text = self.answer().text().trim().to_owned();
        let item = format!("commentary-{}-{}", self.stage.step, answer.id);
        let preamble = |turn: &mut Self, phase: &str| {
            let data = json!({
                "kind": "preamble", "title": "Preamble", "phase": phase, "progressText": text, "itemId": item,
            });
            (!text.is_empty()).then(|| turn.tell("item", data, now))
        };
        let mut events = self.flush(now);
        events.extend(preamble(self, "update"));
        events.extend(self.answer_over(Some(answer), now));
        events.extend(preamble(self, "end"));
        self.tools.called = Tools::of(conversation::calls(&answer.message));
        self.stage = self.stage.working();
        events
    }

    /// A call has begun. Told twice it is told once.
    pub fn tool_started(&mut self, id: &str, scene: &Scene<'_>) -> Vec<Event> {
        let Some(called) = self.tools.find(id).filter(|called| called.started_at.is_none()) else {
            return Vec::new();
        };
        called.started_at = Some(scene.now);
        let call = called.call.clone();
        let shown = Shown::of(&call, scene.registry);
        let item = self.tell("item", shown.item("start", json!({ "startedAt": scene.now })), scene.now);
        let data = json!({
            "phase": "start", "name": call.name, "toolCallId": call.id, "args": call.arguments,
        });
        [item].into_iter().chain(self.tell_tool(data, scene)).collect()
    }

    /// What a call has come to so far.
    pub fn tool_update(&mut self, id: &str, so_far: &ToolResult, scene: &Scene<'_>) -> Vec<Event> {
        let Some(called) = self.tools.find(id).filter(|called| called.result.is_none()) else {
            return Vec::new();
        };
        let call = called.call.clone();
        let shown = Shown::of(&call, scene.registry);
        let data = json!({
            "phase": "update", "name": call.name, "toolCallId": id, "partialResult": told(so_far),
        });
        let mut events: Vec<Event> = self.tell_tool(data, scene).into_iter().collect();
        events.push(self.tell("item", shown.item("update", json!({})), scene.now));
        if shown.is_command {
            let output = shown.output("delta", so_far, json!({ "status": "running" }));
            events.push(self.tell("command_output", output, scene.now));
        }
        events.into_iter().map(Event::droppable).collect()
    }

    /// What a call has come to. Told twice it is told once.
    pub fn tool_ended(&mut self, id: &str, result: &ToolResult, scene: &Scene<'_>) -> Vec<Event> {
        let Some(called) = self.tools.find(id).filter(|called| called.result.is_none()) else {
            return Vec::new();
        };
        called.result = Some(result.clone());
        let (call, started_at) = (called.call.clone(), called.started_at);
        let known = scene.registry.tool(&call.name).map(|tool| tool.definition());
        let external = known.is_some_and(|known| known.effects == Effects::External);
        self.tools.summary.count(&call.name, result.is_error, external);
        self.reply.insert(Insert {
            block_type: BlockType::ToolResult,
            content: json!({ "id": call.id, "name": call.name, "isError": result.is_error }),
            metadata: json!({}),
        });
        self.answer_at = self.reply.mark();
        let shown = Shown::of(&call, scene.registry);
        let status = if result.is_error { "failed" } else { "completed" };
        let mut data = json!({
            "phase": "result", "name": call.name, "toolCallId": id, "isError": result.is_error,
            "result": told(result),
        });
        shown.mark(&mut data);
        let mut events: Vec<Event> = self.tell_tool(data, scene).into_iter().collect();
        let mut end = json!({ "status": status, "startedAt": started_at, "endedAt": scene.now });
        if result.is_error {
            end["error"] = json!(short(&result.as_text(), MAX_ERROR));
        }
        events.push(self.tell("item", shown.item("end", end), scene.now));
        if shown.is_command {
            let known = |name: &str| result.details.get(name).cloned();
            let rest = json!({
                "status": status, "exitCode": known("exitCode"), "durationMs": known("durationMs"),
                "cwd": known("cwd"),
            });
            events.push(self.tell("command_output", shown.output("end", result, rest), scene.now));
        }
        events
    }

    /// The transcript rows of what the calls have come to.
    pub fn results(&self, now: i64) -> Vec<NewMessage> {
        self.tools.called.iter().filter_map(|called| self.result_row(called, now)).collect()
    }

    /// The same of one call.
    pub fn result(&self, id: &str, now: i64) -> Option<NewMessage> {
        let called = self.tools.called.iter().find(|called| called.call.id == id)?;
        self.result_row(called, now)
    }

    fn result_row(&self, called: &Called, now: i64) -> Option<NewMessage> {
        let Called { call, result: Some(result), .. } = called else { return None };
        Some(NewMessage {
            id: Uuid::new_v4().to_string(),
            session_key: self.key.to_string(),
            session_id: String::new(),
            parent: None,
            kind: "toolResult".into(),
            idempotency_key: Some(format!("{}:tool:{}:{}", self.run_id, self.stage.step, call.id)),
            run_id: Some(self.run_id.to_string()),
            hidden: false,
            message: json!({
                "role": "toolResult", "toolCallId": call.id, "toolName": call.name, "content": result.content,
                "isError": result.is_error, "timestamp": now,
            }),
            created_at: now,
        })
    }

    fn tell(&mut self, stream: &str, data: Value, now: i64) -> Event {
        self.seq += 1;
        self.agent(stream, data, now)
    }

    /// The stream `tool`, for those whose run it is, and the same for those who watch all sessions.
    fn tell_tool(&mut self, data: Value, scene: &Scene<'_>) -> [Event; 2] {
        self.seq += 1;
        let mut payload = self.agent_payload("tool", data, scene.now);
        with_session(&mut payload, scene.row);
        let encoded = serde_json::to_vec(&payload).expect("event payloads are plain data");
        let (key, asked) = (self.key.clone(), self.asked_by.clone());
        let own = Audience::OwnTools(asked.clone());
        [
            Event::encoded(Name::Agent.name(), own, &encoded),
            Event::encoded(Name::SessionTool.name(), Audience::OthersTools(key, asked), &encoded),
        ]
    }
}

/// The tools of a page of a transcript, under the rows of their calls and of their results (as recorded).
pub fn activity(rows: &[MessageRow], registry: &Registry) -> Vec<Value> {
    let failed: BTreeMap<&str, bool> = rows
        .iter()
        .filter_map(|row| Some((row.message["toolCallId"].as_str()?, row.message["isError"] == true)))
        .collect();
    let item = |id: &str, name: &str| {
        let known = registry.tool(name).map(|tool| tool.definition());
        let status = match failed.get(id) {
            Some(true) => "failed",
            Some(false) => "completed",
            None => "running",
        };
        json!({
            "itemId": format!("tool:{id}"), "toolCallId": id, "name": name, "kind": "tool",
            "phase": if status == "running" { "start" } else { "end" },
            "title": known.map_or(name, |known| &known.label), "status": status,
            "commandBearing": known.is_some_and(|known| known.group == "runtime"),
        })
    };
    let of_row = |row: &MessageRow| {
        let calls = conversation::calls(&row.message);
        let mut items: Vec<Value> = calls.iter().map(|call| item(&call.id, &call.name)).collect();
        if let (Some(id), Some(name)) = (row.message["toolCallId"].as_str(), row.message["toolName"].as_str())
        {
            items.push(item(id, name));
        }
        (!items.is_empty()).then(|| json!({ "messageId": row.id, "items": items }))
    };
    rows.iter().filter_map(of_row).collect()
}

/// How a call is shown.
struct Shown<'a> {
    call: &'a ToolCall,
    title: String,
    meta: Option<String>,
    /// Whether it runs a command.
    is_command: bool,
}

impl<'a> Shown<'a> {
    fn of(call: &'a ToolCall, registry: &Registry) -> Self {
        let known = registry.tool(&call.name).map(|tool| tool.definition());
        let label = known.map_or(&*call.name, |known| &*known.label);
        let meta = TELLING.iter().find_map(|name| call.arguments.get(*name)?.as_str());
        let meta = meta.map(|text| short(text, MAX_META));
        let title = [Some(label), meta.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(" ");
        Self { call, title, meta, is_command: known.is_some_and(|known| known.group == "runtime") }
    }

    fn mark(&self, data: &mut Value) {
        if let Some(meta) = &self.meta {
            data["meta"] = json!(meta);
        }
        data["commandBearing"] = json!(self.is_command);
    }

    fn item(&self, phase: &str, rest: Value) -> Value {
        let mut item = json!({
            "itemId": format!("tool:{}", self.call.id), "toolCallId": self.call.id, "name": self.call.name,
            "kind": "tool", "phase": phase, "title": self.title, "status": "running",
        });
        self.mark(&mut item);
        super::merge(&mut item, rest);
        item
    }

    fn output(&self, phase: &str, result: &ToolResult, rest: Value) -> Value {
        let mut output = json!({
            "itemId": format!("command:{}", self.call.id), "phase": phase,
            "title": format!("command {}", self.meta.as_deref().unwrap_or_default()),
            "toolCallId": self.call.id, "name": self.call.name, "output": result.as_text().trim_end(),
        });
        super::merge(&mut output, rest);
        output
    }
}

/// What an event shows of a result: pictures that are large are left to the transcript, for an event waits in each
/// client's outbox.
fn told(result: &ToolResult) -> ToolResult {
    result.clone().cut_to(MAX_RESULT, MAX_TOLD_MEDIA)
}

/// One line of it.
fn short(text: &str, most: usize) -> String {
    let line: String = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match line.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

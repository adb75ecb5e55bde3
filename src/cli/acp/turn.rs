//! One prompt, from when it is taken to how it ended, as the editor is told.

use std::collections::HashMap;

use agent_client_protocol::v1::{
    Responder,
    schema::{
        ContentBlock, ContentChunk, PromptResponse, SessionUpdate, StopReason, TextContent, ToolCall,
        ToolCallContent, ToolCallStatus, ToolCallUpdate, ToolCallUpdateFields, ToolKind,
    },
};
use serde_json::Value;

use super::{super::shown::Shown, internal, tell};

/// See the module.
pub(super) struct Turn {
    /// The gateway's name of it.
    pub run: String,
    /// The editor wants no more of it.
    pub cancelled: bool,
    responder: Responder<PromptResponse>,
    story: Story,
}

impl Turn {
    pub fn new(run: String, responder: Responder<PromptResponse>) -> Self {
        Self { story: Story { run: run.clone(), ..Story::default() }, run, cancelled: false, responder }
    }

    /// What an event adds to what the editor shows.
    pub fn updates(&mut self, name: &str, event: &Value) -> Vec<SessionUpdate> {
        self.story.updates(name, event)
    }

    /// Its last `chat` event has come.
    pub fn ended(self, event: &Value) {
        match (event["state"].as_str(), event["stopReason"].as_str()) {
            (Some("error"), _) => {
                self.failed(event["errorMessage"].as_str().unwrap_or("the agent could not answer"));
            }
            (Some("aborted"), _) => self.stopped(StopReason::Cancelled),
            (_, Some("length" | "max_tokens")) => self.stopped(StopReason::MaxTokens),
            (_, Some("refusal")) => self.stopped(StopReason::Refusal),
            _ => self.done(),
        }
    }

    /// It is answered.
    pub fn done(self) {
        self.stopped(StopReason::EndTurn);
    }

    /// It could not be answered.
    pub fn failed(self, why: &str) {
        if self.cancelled {
            return self.stopped(StopReason::Cancelled);
        }
        tell(self.responder.respond_with_error(internal(why)));
    }

    fn stopped(self, reason: StopReason) {
        // An editor that has cancelled wants to hear just that.
        let reason = if self.cancelled { StopReason::Cancelled } else { reason };
        tell(self.responder.respond(PromptResponse::new(reason)));
    }
}

/// What the editor has been shown of a turn. It cannot take text back: when the gateway does, because a model has
/// failed and is asked again, what stands there stays, and the new answer follows it where it says something else.
#[derive(Default)]
struct Story {
    run: String,
    shown: Shown,
    /// The editor's names of the calls: those of models are unique in one answer only.
    calls: HashMap<String, String>,
    number: usize,
}

impl Story {
    fn updates(&mut self, name: &str, event: &Value) -> Vec<SessionUpdate> {
        let data = &event["data"];
        let updates = match (name, event["stream"].as_str()) {
            ("chat", _) => said(self.shown.hear(event)).map(SessionUpdate::AgentMessageChunk),
            ("agent", Some("thinking")) => {
                let thought = data["delta"].as_str().unwrap_or_default().to_owned();
                said(thought).map(SessionUpdate::AgentThoughtChunk)
            }
            ("agent", Some("item")) if data["kind"] == "tool" => self.item(data),
            ("agent", Some("tool")) => self.tool(data),
            _ => None,
        };
        updates.into_iter().collect()
    }

    /// That a tool has begun, and how it ended.
    fn item(&mut self, data: &Value) -> Option<SessionUpdate> {
        let (id, name) = (data["toolCallId"].as_str()?, data["name"].as_str()?);
        match data["phase"].as_str()? {
            "start" => {
                self.number += 1;
                let call = format!("{}:{}", self.run, self.number);
                self.calls.insert(id.to_owned(), call.clone());
                let call = ToolCall::new(call, data["title"].as_str().unwrap_or(name))
                    .kind(kind(name))
                    .status(ToolCallStatus::InProgress);
                Some(SessionUpdate::ToolCall(call))
            }
            "end" => {
                let worked = data["status"] == "completed";
                let status = if worked { ToolCallStatus::Completed } else { ToolCallStatus::Failed };
                self.change(id, ToolCallUpdateFields::new().status(status))
            }
            _ => None,
        }
    }

    /// What it was called with, and what it says.
    fn tool(&self, data: &Value) -> Option<SessionUpdate> {
        let fields = ToolCallUpdateFields::new();
        let fields = match data["phase"].as_str()? {
            "start" => fields.raw_input(data["args"].clone()),
            "update" => fields.content(content(&data["partialResult"])),
            "result" => fields.content(content(&data["result"])),
            _ => return None,
        };
        self.change(data["toolCallId"].as_str()?, fields)
    }

    fn change(&self, id: &str, fields: ToolCallUpdateFields) -> Option<SessionUpdate> {
        let call = self.calls.get(id)?.clone();
        Some(SessionUpdate::ToolCallUpdate(ToolCallUpdate::new(call, fields)))
    }
}

fn said(text: String) -> Option<ContentChunk> {
    (!text.is_empty()).then(|| ContentChunk::new(ContentBlock::Text(TextContent::new(text))))
}

/// The text of a tool's result.
fn content(result: &Value) -> Vec<ToolCallContent> {
    let parts = result["content"].as_array().into_iter().flatten();
    let texts = parts.filter_map(|part| part["text"].as_str());
    texts.map(|text| ContentBlock::Text(TextContent::new(text)).into()).collect()
}

/// The editor's picture for a tool.
fn kind(tool: &str) -> ToolKind {
    match tool {
        "read" | "ls" | "memory_get" | "skill_read" => ToolKind::Read,
        "write" | "edit" | "apply_patch" => ToolKind::Edit,
        "grep" | "find" | "web_search" | "memory_search" => ToolKind::Search,
        "exec" | "process" => ToolKind::Execute,
        "web_fetch" => ToolKind::Fetch,
        _ => ToolKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn story(events: &[(&str, Value)]) -> Vec<Value> {
        let mut story = Story { run: "r".into(), ..Story::default() };
        events
            .iter()
            .flat_map(|(name, event)| story.updates(name, event))
            .map(|update| json!(update))
            .collect()
    }

    fn chunk(kind: &str, text: &str) -> Value {
        json!({"sessionUpdate": kind, "content": {"type": "text", "text": text}})
    }

    #[test]
    fn text_and_thoughts_are_told_as_they_come() {
        let message = |text: &str| json!({"content": [{"type": "text", "text": text}]});
        let told = story(&[
            ("chat", json!({"state": "status", "phase": "starting_model"})),
            ("agent", json!({"stream": "thinking", "data": {"text": "Hm", "delta": "Hm"}})),
            ("agent", json!({"stream": "assistant", "data": {"text": "One", "delta": "One"}})),
            ("chat", json!({"state": "delta", "deltaText": "One", "message": message("One")})),
            ("chat", json!({"state": "delta", "deltaText": "", "replace": true, "message": message("")})),
            ("chat", json!({"state": "delta", "deltaText": "Two", "message": message("Two")})),
            ("chat", json!({"state": "final", "message": message("Two and three")})),
        ]);
        let chunks = ["One", "\n\nTwo", " and three"].map(|text| chunk("agent_message_chunk", text));
        assert_eq!(told[0], chunk("agent_thought_chunk", "Hm"));
        assert_eq!(told[1..], chunks);
    }

    #[test]
    fn tools_are_told_with_their_results_and_never_mixed_up() {
        let item = |phase: &str, status: &str| {
            let data = json!({"kind": "tool", "phase": phase, "toolCallId": "c", "name": "read",
                "title": "Read a.txt", "status": status});
            ("agent", json!({"stream": "item", "data": data}))
        };
        let tool = |data: Value| ("agent", json!({"stream": "tool", "data": data}));
        let result = json!({"content": [{"type": "text", "text": "words"}]});
        let preamble = json!({"kind": "preamble", "phase": "update", "itemId": "i"});
        let told = story(&[
            ("agent", json!({"stream": "item", "data": preamble})),
            item("start", "running"),
            tool(json!({"phase": "start", "toolCallId": "c", "args": {"path": "a.txt"}})),
            tool(json!({"phase": "result", "toolCallId": "c", "isError": false, "result": result})),
            item("end", "completed"),
            item("start", "running"),
            item("end", "failed"),
        ]);
        let content = json!([{"type": "content", "content": {"type": "text", "text": "words"}}]);
        let update = |id: &str| json!({"sessionUpdate": "tool_call_update", "toolCallId": id});
        let with = |id: &str, key: &str, value: Value| {
            let mut update = update(id);
            update[key] = value;
            update
        };
        assert_eq!(
            told[0],
            json!({"sessionUpdate": "tool_call", "toolCallId": "r:1", "title": "Read a.txt", "kind": "read",
                "status": "in_progress"})
        );
        assert_eq!(told[1], with("r:1", "rawInput", json!({"path": "a.txt"})));
        assert_eq!(told[2], with("r:1", "content", content));
        assert_eq!(told[3], with("r:1", "status", json!("completed")));
        assert_eq!(told[4]["toolCallId"], "r:2", "the next answer's call of the same id is another");
        assert_eq!(told[5], with("r:2", "status", json!("failed")));
    }
}

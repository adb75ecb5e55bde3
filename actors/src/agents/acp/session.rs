//! A session of an agent: what it is told in it, and what its answers mean.

use super::peer::{Asked, CANCEL, MAX_COMPLAINT, START, Talk};
use super::words::{self, Heard};
use crate::agents::Usage;
use crate::agents::failure::{Failure, Reason};
use crate::agents::model::{Chunk, Prompt, Said};
use crate::sessions::{BlockType, Insert};
use agent_client_protocol::v1::schema::{
    CancelNotification, ContentBlock, InitializeResponse, LoadSessionRequest, NewSessionRequest,
    PromptRequest, PromptResponse, SessionId, SessionUpdate, StopReason, ToolCallStatus,
};
use agent_client_protocol::{Error, ErrorCode, is_incoming_transport_closed};
use serde_json::json;
use std::pin::pin;
use tokio::time::timeout;

/// Characters of what it says it is doing.
const MAX_TITLE: usize = 200;

/// A session of an agent, and what it has heard in it.
pub(super) struct Memory {
    id: SessionId,
    heard: Heard,
}

/// The agent's session, and what it has heard in it.
pub(super) struct Session<'a> {
    pub(super) talk: Talk<'a>,
    pub(super) hello: InitializeResponse,
    pub(super) memory: Option<Memory>,
    /// Whether this process knows it.
    pub(super) loaded: bool,
}

impl Session<'_> {
    /// Answers; false if the process is not to be spoken to again.
    pub(super) async fn answer(&mut self, asked: &Asked) -> bool {
        let Asked { prompt, tell } = asked;
        if tell.is_closed() {
            return true;
        }
        let ready = tokio::select! {
            ready = self.ready(prompt) => ready,
            () = tell.closed() => return false,
        };
        let request = match ready {
            Ok(request) => request,
            // The next one may find what this one did not: a login, mostly.
            Err(failure) => {
                let _ = tell.send(Chunk::Failed(failure)).await;
                return false;
            }
        };
        let id = request.session_id.clone();
        *self.talk.ear.lock() = Some(tell.clone());
        let mut answered = pin!(self.talk.agent.send_request(request).block_task());
        let last = tokio::select! {
            answered = &mut answered => Some(answered),
            () = tell.closed() => None,
        };
        let lives = match last {
            Some(answered) => {
                let lives = answered.is_ok() || !self.talk.agent.is_incoming_closed();
                let _ = tell.send(self.last(answered)).await;
                lives
            }
            None => {
                let told = self.talk.agent.send_notification(CancelNotification::new(id));
                told.is_ok() && timeout(CANCEL, answered).await.is_ok_and(|answered| answered.is_ok())
            }
        };
        *self.talk.ear.lock() = None;
        lives
    }

    /// The prompt, in a session that knows the conversation before it.
    async fn ready(&mut self, prompt: &Prompt) -> Result<PromptRequest, Failure> {
        let sees = self.hello.agent_capabilities.prompt_capabilities.image;
        let conversation = &prompt.conversation;
        if let Some(blocks) = self.unheard(conversation, sees).await {
            return Ok(self.prompt(blocks, conversation));
        }
        let instructions = match &prompt.instructions {
            Some(instructions) => Some(instructions.clone().text().await),
            None => None,
        };
        let new = NewSessionRequest::new(self.talk.dir.clone());
        let began = timeout(START, self.talk.agent.send_request(new).block_task()).await;
        let began = began.map_err(|_| self.talk.silent())?.map_err(|error| self.failure(&error))?;
        self.memory = Some(Memory { id: began.session_id, heard: Heard::default() });
        self.loaded = true;
        Ok(self.prompt(words::prompt(instructions.as_deref(), conversation, sees), conversation))
    }

    /// What is new to the session of before, if that goes on and the process knows it.
    async fn unheard(&mut self, conversation: &[Said], sees: bool) -> Option<Vec<ContentBlock>> {
        let memory = self.memory.as_ref()?;
        let blocks = words::prompt(None, memory.heard.unheard(conversation)?, sees);
        if !self.loaded {
            if !self.hello.agent_capabilities.load_session {
                return None;
            }
            let load = LoadSessionRequest::new(memory.id.clone(), self.talk.dir.clone());
            let loaded = timeout(START, self.talk.agent.send_request(load).block_task()).await;
            self.loaded = loaded.is_ok_and(|loaded| loaded.is_ok());
        }
        self.loaded.then_some(blocks)
    }

    fn prompt(&mut self, blocks: Vec<ContentBlock>, conversation: &[Said]) -> PromptRequest {
        let memory = self.memory.as_mut().expect("a session was begun or found");
        memory.heard = Heard::of(conversation);
        PromptRequest::new(memory.id.clone(), blocks)
    }

    /// How an answer ends.
    fn last(&self, answered: Result<PromptResponse, Error>) -> Chunk {
        let stopped =
            |reason, why: &str| Chunk::Failed(Failure::new(reason, format!("{} {why}", self.who())));
        match answered {
            Err(error) => Chunk::Failed(self.failure(&error)),
            Ok(response) => match response.stop_reason {
                StopReason::Refusal => stopped(Reason::Format, "refuses to answer this."),
                StopReason::Cancelled => stopped(Reason::Unknown, "has stopped answering of its own accord."),
                _ => Chunk::End(used(&response)),
            },
        }
    }

    fn failure(&self, error: &Error) -> Failure {
        let who = self.who();
        if is_incoming_transport_closed(error) {
            return Failure::new(Reason::ServerError, format!("{who} ended in the middle of its answer."));
        }
        let said = worded(error);
        if error.code == ErrorCode::AUTH_REQUIRED {
            let name = &self.talk.peer.program.name;
            return Failure::new(
                Reason::Auth,
                format!(
                    "{who} is not logged in: {said} Log in with the program itself, on the gateway's machine and as \
                     its user, or give it a key in acp.agents.{name}.env."
                ),
            );
        }
        Failure::new(Reason::Unknown, format!("{who} could not answer: {said}"))
    }

    /// The agent, as it calls itself.
    fn who(&self) -> String {
        let name = &self.talk.peer.program.name;
        match &self.hello.agent_info {
            Some(info) => {
                format!("{} {} (acp/{name})", info.title.as_ref().unwrap_or(&info.name), info.version)
            }
            None => format!("The agent acp/{name}"),
        }
    }
}

/// What an agent says of an error, in its own words.
pub(super) fn worded(error: &Error) -> String {
    let more = error.data.as_ref().and_then(|data| {
        let text = data.as_str().or_else(|| data["details"].as_str()).or_else(|| data["message"].as_str());
        text.filter(|text| !error.message.contains(text)).map(|text| format!(" ({text})"))
    });
    let said = format!("{}{}", error.message.trim_end_matches('.'), more.unwrap_or_default());
    let end = if said.ends_with(['!', '?']) { "" } else { "." };
    format!("{}{end}", cut(&said, MAX_COMPLAINT))
}

fn cut(text: &str, most: usize) -> &str {
    text.char_indices().nth(most).map_or(text, |(at, _)| &text[..at])
}

fn used(response: &PromptResponse) -> Usage {
    response
        .usage
        .as_ref()
        .map(|usage| Usage { input: usage.input_tokens, output: usage.output_tokens, ..Usage::default() })
        .unwrap_or_default()
}

/// What an update adds to the answer.
pub(super) fn chunk(update: SessionUpdate) -> Option<Chunk> {
    let text = |content| match content {
        ContentBlock::Text(text) => Some(text.text),
        ContentBlock::ResourceLink(link) => Some(format!("[{}]({})", link.name, link.uri)),
        _ => None,
    };
    match update {
        SessionUpdate::AgentMessageChunk(chunk) => text(chunk.content).map(Chunk::Text),
        SessionUpdate::AgentThoughtChunk(chunk) => text(chunk.content).map(Chunk::Thought),
        SessionUpdate::ToolCall(call) => {
            Some(doing(&call.tool_call_id.0, Some(&call.title), Some(call.status)))
        }
        SessionUpdate::ToolCallUpdate(call) if call.fields.status.is_some() => {
            Some(doing(&call.tool_call_id.0, call.fields.title.as_deref(), call.fields.status))
        }
        _ => None,
    }
}

/// What it does with tools of its own.
fn doing(id: &str, title: Option<&str>, status: Option<ToolCallStatus>) -> Chunk {
    Chunk::Block(Insert {
        block_type: BlockType::Status,
        content: json!(title.map(|title| cut(title, MAX_TITLE))),
        metadata: json!({ "toolCallId": id, "status": status }),
    })
}

//! What a command leaves in the transcript: what was typed and what was answered.

use super::Command;
use crate::agents::Usage;
use crate::sessions::{Outcome, Status, gateway_message};
use crate::store::{self, MessageRow, NewMessage};
use crabtree_protocol::{RunId, SessionKey};
use serde_json::{Value, json};
use uuid::Uuid;

/// A command as it was typed.
#[derive(Clone)]
pub(in crate::methods) struct Typed {
    pub command: Command,
    /// What stands after its name.
    pub args: String,
    pub key: SessionKey,
    pub run_id: RunId,
    /// All of it.
    pub text: String,
    pub sender: Value,
    /// Who typed it, in words.
    pub who: String,
}

impl Typed {
    pub(in crate::methods) fn new(
        (command, args): (Command, String),
        key: SessionKey,
        run_id: RunId,
        text: String,
        (sender, who): (Value, String),
    ) -> Self {
        Self { command, args, key, run_id, text, sender, who }
    }

    /// Whether a message follows a command that begins the session anew.
    pub(in crate::methods) fn is_followed(&self) -> bool {
        matches!(self.command, Command::New | Command::Reset) && !self.args.is_empty()
    }

    pub(super) fn question(&self, now: i64) -> NewMessage {
        let key = format!("{}:user", self.run_id);
        let mut sender = self.sender.clone();
        sender["contextFreeCommand"] = json!(true);
        let message = json!({
            "role": "user", "content": self.text, "timestamp": now, "idempotencyKey": key,
            "excludeFromContext": true, "__openclaw": sender,
        });
        self.row("user", key, message, now)
    }

    pub(super) fn answer(&self, text: &str, now: i64) -> NewMessage {
        let mut message = gateway_message(text, now);
        message["idempotencyKey"] = json!(self.run_id);
        message["excludeFromContext"] = json!(true);
        message["__openclaw"] = json!({ "contextFreeCommand": true });
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

/// What somebody who waits for a command hears, from the row of its answer.
pub(in crate::methods) fn outcome(row: &MessageRow) -> Outcome {
    let word = |name: &str| row.message[name].as_str().unwrap_or_default().to_owned();
    Outcome {
        status: Status::Ok,
        text: store::text_of(&row.message),
        stop_reason: word("stopReason"),
        error: None,
        started_at: row.created_at,
        ended_at: row.created_at,
        provider: word("provider"),
        model: word("model"),
        usage: Usage::default(),
        last: Usage::default(),
        context_tokens: 0,
        session_id: row.session_id.clone(),
        session_key: row.session_key.clone(),
        tools: Default::default(),
        failed: None,
    }
}

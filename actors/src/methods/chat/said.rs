//! What is said, before it is an input.

use crate::media::Uploads;
use crate::methods::Call;
use crate::responder::Responder;
use crate::sessions::Submission;
use crate::settings::Thinking;
use crate::store::NewInput;
use blake3::Hasher;
use crabtree_protocol::params::chat::{Attachment, QueueMode};
use crabtree_protocol::{Refusal, SessionKey};
use serde_json::{Value, json};
use uuid::Uuid;

/// Whose inputs these are.
pub(super) const SOURCE: &str = "rpc";
/// Place in the backlog of what is neither a mention of the agent nor a reply to it.
const REGULAR: i64 = 1;

/// What is said, before it is an input.
#[derive(Default)]
pub(in crate::methods) struct Said {
    pub kind: &'static str,
    pub run_id: String,
    pub text: String,
    pub model: Option<String>,
    pub timeout_ms: Option<u64>,
    /// How hard the model thinks, if not as the session says.
    pub thinking: Option<Thinking>,
    /// What the model is told besides who it is, in this turn only.
    pub instructions: Option<String>,
    /// How it is queued, if not as its session does.
    pub queue_mode: Option<QueueMode>,
    /// The session was not named, and the acknowledgement does not name it either.
    pub unnamed: bool,
    /// Whether the session is not created for it.
    pub must_exist: bool,
    /// The row that its client has seen last.
    pub after: Option<String>,
    /// What came with it.
    pub uploads: Uploads,
}

impl Said {
    /// A message as `chat.send` brings it.
    pub(in crate::methods) fn message(run_id: String, text: String) -> Self {
        Self { kind: "chat.send", run_id, text, ..Self::default() }
    }

    pub(super) fn submission(
        self,
        key: &SessionKey,
        mut sender: Value,
        now: i64,
        responder: Option<Responder>,
    ) -> Submission {
        let id = Uuid::now_v7().to_string();
        self.uploads.attach(&mut sender, &id);
        let mut body = json!({ "sender": sender });
        if let Some(responder) = &responder {
            body["conn"] = json!(responder.conn().id());
        }
        if let Some(model) = self.model {
            body["model"] = json!(model);
        }
        if self.unnamed {
            body["unnamed"] = json!(true);
        }
        if let Some(ms) = self.timeout_ms {
            body["timeoutMs"] = json!(ms);
        }
        if let Some(level) = self.thinking {
            body["thinking"] = json!(level);
        }
        if let Some(instructions) = self.instructions.filter(|text| !text.trim().is_empty()) {
            body["instructions"] = json!(instructions);
        }
        if let Some(mode) = self.queue_mode {
            body["queueMode"] = json!(mode.name());
        }
        let mut digest = Hasher::new();
        digest.update(format!("{key}\n{}", self.text).as_bytes());
        self.uploads.digest(&mut digest);
        let input = NewInput {
            id,
            source: SOURCE.into(),
            source_id: self.run_id.clone(),
            session_key: key.to_string(),
            run_id: self.run_id,
            kind: self.kind.into(),
            digest: digest.finalize().to_hex().to_string(),
            text: self.text,
            body,
            created_at: now,
            priority: REGULAR,
        };
        Submission { input, sender, uploads: self.uploads, responder, must_exist: self.must_exist }
    }
}

/// What comes with a message, which may say nothing then.
pub(in crate::methods) fn uploads(
    call: &Call<'_>,
    attachments: Option<Vec<Attachment>>,
    text: &str,
) -> Result<Uploads, Refusal> {
    let uploads = call.estate().inbox.take(attachments.unwrap_or_default())?;
    if uploads.is_empty() && text.trim().is_empty() {
        return Err(Refusal::message_required());
    }
    Ok(uploads)
}

/// How hard the model is to think about one message. What it cannot is left to the run, which takes the nearest.
pub(in crate::methods) fn thinking(level: Option<&str>) -> Result<Option<Thinking>, Refusal> {
    let level = level.filter(|level| !level.trim().is_empty());
    let read = |level: &str| Thinking::try_from(level.to_owned()).map_err(Refusal::invalid_request);
    level.map(read).transpose()
}

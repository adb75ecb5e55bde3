//! What is done in a chat beside sending: polls, deleting, pinning.

use super::outbound::{Outbound, Posted, Target, named, target};
use super::update::{GENERAL, message_id};
use crate::channels::contract::{Act, Address, Poll, PollLimits, SendError, Sent};
use serde_json::{Map, Value, json};
use teloxide_core::types::True;

/// What polls of Telegram can be.
pub(super) const POLLS: PollLimits = PollLimits { options: 12, seconds: true, anonymous: true };
/// How long a poll of a bot is open, seconds.
const OPEN: std::ops::RangeInclusive<u64> = 5..=600;

impl Outbound<'_> {
    /// Does it; what is done already is done.
    pub(super) async fn act(&self, at: &Address, act: &Act) -> Result<Sent, SendError> {
        let target = target(at)?;
        let (method, id) = match act {
            Act::Poll(poll) => return self.poll(&target, poll).await,
            Act::Delete(id) => ("deleteMessage", id),
            Act::Pin(id) => ("pinChatMessage", id),
            Act::Unpin(id) => ("unpinChatMessage", id),
        };
        let (chat, message) = named(id, &target)?;
        let mut fields = Map::from_iter([("chat_id".to_owned(), json!(chat))]);
        fields.insert("message_id".into(), message.into());
        if matches!(act, Act::Pin(_)) {
            fields.insert("disable_notification".into(), true.into());
        }
        let done = self.api.call_with::<True>(method, &fields, None).await;
        done.map(|_| Sent { id: id.clone() }).map_err(super::api::Failure::again)
    }

    async fn poll(&self, target: &Target, poll: &Poll) -> Result<Sent, SendError> {
        if let Some(seconds) = poll.seconds.filter(|seconds| !OPEN.contains(seconds)) {
            let why = format!(
                "a poll is open from {} to {} seconds on Telegram, not {seconds}",
                OPEN.start(),
                OPEN.end()
            );
            return Err(SendError::Refused(why));
        }
        let options: Vec<Value> = poll.options.iter().map(|text| json!({ "text": text })).collect();
        let mut fields = Map::new();
        let mut put = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
        put("chat_id", json!(target.chat));
        put("question", json!(poll.question));
        put("options", json!(options));
        put("is_anonymous", json!(poll.anonymous.unwrap_or(true)));
        put("allows_multiple_answers", json!(poll.several));
        if let Some(seconds) = poll.seconds {
            put("open_period", json!(seconds));
        }
        if let Some(topic) = target.thread.filter(|topic| *topic != GENERAL) {
            put("message_thread_id", json!(topic));
        }
        if poll.silent {
            put("disable_notification", json!(true));
        }
        let posted: Posted = self.api.call_with("sendPoll", &fields, None).await?;
        Ok(Sent { id: message_id(posted.chat.id, posted.id.0) })
    }
}

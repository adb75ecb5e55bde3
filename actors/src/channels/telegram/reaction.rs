//! Reactions that come in: what somebody has added to a message. What they took back is not told, as in OpenClaw.

use super::update::{Me, message_id, of_user};
use crate::channels::contract::{Address, Kind, Place, Reaction};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use teloxide_core::types::{Chat, ChatKind, PublicChatKind, User};

/// Emoji of one update that are handed in: people with Telegram Premium may add three.
const MAX_EMOJI: usize = 3;

/// Somebody has changed their reactions to a message.
#[derive(Deserialize)]
pub(in crate::channels::telegram) struct Reacted {
    chat: Chat,
    message_id: i32,
    user: Option<User>,
    #[serde(default, deserialize_with = "emoji")]
    old_reaction: Vec<String>,
    #[serde(default, deserialize_with = "emoji")]
    new_reaction: Vec<String>,
}

/// Those that are emoji; custom and paid ones have no character.
fn emoji<'de, D: Deserializer<'de>>(reactions: D) -> Result<Vec<String>, D::Error> {
    let all = Vec::<Value>::deserialize(reactions)?;
    Ok(all.iter().filter_map(|one| Some(one["emoji"].as_str()?.to_owned())).collect())
}

impl Reacted {
    /// What was added; nothing of anonymous people, nor of this bot.
    pub fn added(&self, me: &Me, update: i32) -> Vec<Reaction> {
        let Some(user) = self.user.as_ref().filter(|user| user.id != me.user.id) else { return Vec::new() };
        let (chat_type, is_forum) = match &self.chat.kind {
            ChatKind::Private(_) => (Kind::Direct, false),
            ChatKind::Public(public) => match &public.kind {
                PublicChatKind::Channel(_) => (Kind::Channel, false),
                PublicChatKind::Supergroup(group) => (Kind::Group, group.is_forum),
                PublicChatKind::Group => (Kind::Group, false),
            },
        };
        let at = Address { chat_type, chat: self.chat.id.to_string(), thread: None };
        // Telegram does not tell the topic.
        let place =
            Place { title: self.chat.title().map(str::to_owned), own_sessions: is_forum, ..Place::default() };
        let added = self.new_reaction.iter().filter(|emoji| !self.old_reaction.contains(emoji));
        let one = |emoji: &String| Reaction {
            id: format!("reaction:{update}:{emoji}"),
            from: of_user(user),
            at: at.clone(),
            place: place.clone(),
            message: message_id(self.chat.id.0, self.message_id),
            emoji: emoji.clone(),
        };
        added.take(MAX_EMOJI).map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn added(change: Value) -> Vec<String> {
        let me: Me = serde_json::from_value(
            json!({ "id": 1, "is_bot": true, "first_name": "Crab", "username": "crab" }),
        )
        .unwrap();
        let mut update = json!({
            "chat": { "id": 42, "type": "private", "first_name": "Ann" }, "message_id": 7, "date": 1,
            "user": { "id": 42, "is_bot": false, "first_name": "Ann" }, "old_reaction": [], "new_reaction": [],
        });
        update.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let reacted: Reacted = serde_json::from_value(update).unwrap();
        reacted
            .added(&me, 5)
            .into_iter()
            .map(|one| format!("{} {} {}", one.id, one.message, one.emoji))
            .collect()
    }

    #[test]
    fn what_is_new_is_told_and_what_is_taken_back_is_not() {
        let emoji = |emoji: &str| json!({ "type": "emoji", "emoji": emoji });
        let custom = json!({ "type": "custom_emoji", "custom_emoji_id": "9" });
        assert_eq!(added(json!({ "new_reaction": [emoji("👍"), custom] })), ["reaction:5:👍 42:7 👍"]);
        let more = json!({ "old_reaction": [emoji("👍")], "new_reaction": [emoji("👍"), emoji("🔥")] });
        assert_eq!(added(more), ["reaction:5:🔥 42:7 🔥"]);
        assert!(added(json!({ "old_reaction": [emoji("👍")] })).is_empty());
        assert!(added(json!({ "new_reaction": [emoji("👍")], "user": null })).is_empty());
        let me = json!({ "id": 1, "is_bot": true, "first_name": "Crab" });
        assert!(added(json!({ "new_reaction": [emoji("👍")], "user": me })).is_empty());
    }
}

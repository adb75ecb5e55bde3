//! A reaction that came in, as what somebody did. Those that came while there was no line are not fetched.

use super::inbox::Inbox;
use super::stopped;
use crate::channels::contract::{self, Address, Kind, Place, Sender, Trouble};
use serenity::model::channel::{Reaction, ReactionType};

impl Inbox {
    /// Hands it in, unless it is our own or nobody knows whose.
    pub(super) async fn reacted(&self, reaction: Reaction) -> Result<(), Trouble> {
        let me = self.known.me.lock().as_ref().map(|me| me.id);
        let Some(user) = reaction.user_id.map(|id| id.get()).filter(|id| Some(*id) != me) else {
            return Ok(());
        };
        let channel = reaction.channel_id.get();
        let Ok(chat) = self.known.chat(channel).await else {
            tracing::debug!(target: "crabtree::discord", channel, "a reaction at a place that is not known");
            return Ok(());
        };
        let at = match chat.is_direct {
            true => Address { chat_type: Kind::Direct, chat: user.to_string(), thread: None },
            false => Address { chat_type: Kind::Channel, chat: channel.to_string(), thread: None },
        };
        let member = reaction.member.as_ref();
        let nick = member.and_then(|member| member.nick.clone().or(member.user.global_name.clone()));
        let from = Sender {
            id: user.to_string(),
            name: nick,
            username: member.map(|member| member.user.name.clone()),
            is_bot: member.is_some_and(|member| member.user.bot),
        };
        let place = Place {
            title: chat.title.clone(),
            own_sessions: chat.parent.is_some(),
            parent: chat.parent.clone(),
            guild: reaction.guild_id.map(|id| id.to_string()),
            team: None,
            roles: member
                .map(|member| member.roles.iter().map(ToString::to_string).collect())
                .unwrap_or_default(),
        };
        let emoji = word(&reaction.emoji);
        let message = reaction.message_id.to_string();
        let told = contract::Reaction {
            id: format!("reaction:{message}:{user}:{emoji}"),
            from,
            at,
            place,
            message,
            emoji,
        };
        self.link.reacted(told).await.map_err(stopped)
    }
}

/// An emoji as people read it: those of a server by their name.
fn word(emoji: &ReactionType) -> String {
    match emoji {
        ReactionType::Unicode(emoji) => emoji.clone(),
        ReactionType::Custom { name: Some(name), .. } => format!(":{name}:"),
        other => other.to_string(),
    }
}

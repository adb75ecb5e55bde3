//! Reactions of people: the session they belong to is told of them with the next message, as `reactionNotifications`
//! says. They wake nobody.

use super::access::{Verdict, names};
use super::contract::{Envelope, Reaction};
use super::ingress::Desk;
use crate::settings::ReactionNotifications::{self, All, Allowlist, Off, Own};
use crate::store::{self, DeliveryRow, OverheardRow, WriteOp};
use crabtree_protocol::SessionKey;

/// What a session is told of at most that it has not heard yet, reactions and messages of others together.
const MOST: usize = 50;
/// Characters of what stands for an emoji.
const MAX_EMOJI: usize = 40;

impl Desk {
    /// Takes a reaction in.
    ///
    /// # Errors
    /// The store does not take it: it has to come again.
    pub async fn reacted(&self, reaction: &Reaction) -> Result<(), String> {
        let mode = self.notifications(reaction);
        if mode == Off {
            return Ok(());
        }
        let message = said_by(reaction);
        if !matches!(self.verdict(&message).await?, Verdict::Heard { .. }) {
            return Ok(());
        }
        let (name, id) = (self.name.clone(), reaction.message.clone());
        let own = self
            .read(move |c| store::delivery_by_platform_id(c, (&name.channel, &name.account), &id))
            .await?;
        let is_told = match mode {
            Own => own.is_some(),
            Allowlist => self.is_listed(reaction),
            All | Off => true,
        };
        if !is_told {
            return Ok(());
        }
        for key in self.concerned(reaction, &message, own)? {
            self.write(WriteOp::Overhear { row: self.told(reaction, &key), most: self.most() }).await?;
        }
        Ok(())
    }

    fn notifications(&self, reaction: &Reaction) -> ReactionNotifications {
        let guild = reaction.place.guild.as_deref().and_then(|guild| self.settings.guilds.get(guild));
        guild.and_then(|guild| guild.reaction_notifications).unwrap_or(self.settings.reaction_notifications)
    }

    fn is_listed(&self, reaction: &Reaction) -> bool {
        let guild = reaction.place.guild.as_deref().and_then(|guild| self.settings.guilds.get(guild));
        let users = guild.map(|guild| &guild.users).filter(|users| !users.0.is_empty());
        names(users.unwrap_or(&self.settings.allow_from), &reaction.from)
    }

    /// The sessions that are told: that of the message, or those of the place. Of a place whose topics have sessions of
    /// their own, a reaction without one belongs to none.
    fn concerned(
        &self,
        reaction: &Reaction,
        message: &Envelope,
        own: Option<DeliveryRow>,
    ) -> Result<Vec<SessionKey>, String> {
        let of_message = own.and_then(|row| SessionKey::canonical(&row.session_key?, "main").ok());
        if let Some(key) = of_message {
            return Ok(vec![key]);
        }
        let at = &reaction.at;
        if at.chat_type != super::contract::Kind::Direct
            && reaction.place.own_sessions
            && at.thread.is_none()
            && reaction.place.parent.is_none()
        {
            tracing::debug!(target: "crabtree::channels", account = %self.name.path(),
                "a reaction in a topic that is not known");
            return Ok(Vec::new());
        }
        self.sessions(message)
    }

    fn told(&self, reaction: &Reaction, key: &SessionKey) -> OverheardRow {
        let from = &reaction.from;
        let mut who = from.name.clone().or(from.username.clone()).unwrap_or_else(|| from.id.clone());
        if let Some(username) = from.username.as_ref().filter(|username| **username != who) {
            who.push_str(&format!(" (@{username})"));
        }
        let channel = self.wiring.store.estate.channels.channel(&self.name.channel);
        let label = channel.map_or_else(|| self.name.channel.clone(), |channel| channel.label().to_owned());
        let emoji: String = reaction.emoji.chars().take(MAX_EMOJI).collect();
        // On Telegram an id has its chat in it, which the session knows.
        let message = reaction.message.rsplit(':').next().unwrap_or_default();
        OverheardRow {
            session_key: key.to_string(),
            source: self.name.source(),
            source_id: reaction.id.clone(),
            from: "System".into(),
            text: format!("{label} reaction added: {emoji} by {who} on msg {message}"),
            at: self.now(),
        }
    }

    fn most(&self) -> u32 {
        u32::try_from(self.settings.history_limit.unwrap_or_default().max(MOST)).unwrap_or(u32::MAX)
    }
}

/// As a message that says nothing: who may write may react.
fn said_by(reaction: &Reaction) -> Envelope {
    Envelope {
        id: reaction.id.clone(),
        from: reaction.from.clone(),
        at: reaction.at.clone(),
        place: reaction.place.clone(),
        text: String::new(),
        attachments: Vec::new(),
        mentions_me: false,
        replies_to_me: false,
        quote: None,
        at_ms: 0,
    }
}

//! What somebody said, from what Discord tells of it: a message, a command, a pressed button.

use super::known::{Chat, Me};
use crate::channels::contract::{Address, Envelope, Kind, Place, Quote, Sender};
use serenity::model::prelude::{
    CommandDataOptionValue, CommandInteraction, ComponentInteraction, Member, Message, MessageType, User,
};

/// When Discord's ids begin to count, ms.
const EPOCH_MS: u64 = 1_420_070_400_000;
/// The command people ask with.
pub(super) const COMMAND: &str = "ask";
/// What it is followed by.
pub(super) const QUESTION: &str = "text";

/// What somebody said, before it is known where.
#[derive(Debug)]
pub(super) struct Said {
    pub id: u64,
    pub channel: u64,
    pub guild: Option<u64>,
    pub from: Sender,
    /// Roles of who said it; what is fetched later does not tell them.
    pub roles: Option<Vec<String>>,
    pub text: String,
    pub mentions_me: bool,
    /// Roles that are named, of which one may be mine.
    pub named_roles: Vec<u64>,
    pub replies_to_me: bool,
    pub quote: Option<Quote>,
    pub files: Vec<File>,
    /// Whether it can be fetched again from its channel.
    pub is_kept: bool,
}

/// A file that can be fetched.
#[derive(Debug)]
pub(super) struct File {
    pub url: String,
    pub name: String,
    pub mime_type: Option<String>,
    pub size: usize,
}

impl Said {
    /// A message; none if it is not for reading: our own, one of Discord's, an empty one.
    pub(super) fn message(message: Message, me: &Me) -> Option<Self> {
        let for_people = matches!(message.kind, MessageType::Regular | MessageType::InlineReply);
        if message.author.id.get() == me.id || !for_people {
            return None;
        }
        let text = readable(&message);
        if text.is_empty() && message.attachments.is_empty() {
            return None;
        }
        let quoted = message.referenced_message.as_deref();
        let nick = message.member.as_ref().and_then(|member| member.nick.clone());
        let mut from = sender(&message.author, nick);
        from.is_bot |= message.webhook_id.is_some();
        let file = |file: serenity::model::channel::Attachment| File {
            url: file.url,
            name: file.filename,
            mime_type: file.content_type,
            size: file.size as usize,
        };
        Some(Self {
            id: message.id.get(),
            channel: message.channel_id.get(),
            guild: message.guild_id.map(|id| id.get()),
            from,
            roles: message
                .member
                .as_ref()
                .map(|member| member.roles.iter().map(ToString::to_string).collect()),
            text,
            mentions_me: message.mentions.iter().any(|user| user.id.get() == me.id),
            named_roles: message.mention_roles.iter().map(|role| role.get()).collect(),
            replies_to_me: quoted.is_some_and(|quoted| quoted.author.id.get() == me.id),
            quote: quoted.map(quote),
            files: message.attachments.into_iter().map(file).collect(),
            is_kept: true,
        })
    }

    /// A question asked with the command; none if it is another command.
    pub(super) fn command(command: &CommandInteraction) -> Option<Self> {
        let option = command.data.options.iter().find(|option| option.name == QUESTION)?;
        let CommandDataOptionValue::String(text) = &option.value else { return None };
        let member = command.member.as_deref();
        let said = Self::interaction(command.id.get(), command.channel_id.get(), &command.user, member);
        (command.data.name == COMMAND).then(|| Self { text: text.clone(), mentions_me: true, ..said })
    }

    /// A button that was pressed, which says this.
    pub(super) fn button(pressed: &ComponentInteraction, text: String) -> Self {
        let (id, channel) = (pressed.id.get(), pressed.channel_id.get());
        let said = Self::interaction(id, channel, &pressed.user, pressed.member.as_ref());
        Self { text, replies_to_me: true, quote: Some(quote(&pressed.message)), ..said }
    }

    fn interaction(id: u64, channel: u64, user: &User, member: Option<&Member>) -> Self {
        Self {
            id,
            channel,
            guild: member.map(|member| member.guild_id.get()),
            from: sender(user, member.and_then(|member| member.nick.clone())),
            roles: member.map(|member| member.roles.iter().map(ToString::to_string).collect()),
            text: String::new(),
            mentions_me: false,
            named_roles: vec![],
            replies_to_me: false,
            quote: None,
            files: vec![],
            is_kept: false,
        }
    }

    /// As it is handed in; without its files.
    pub(super) fn envelope(self, chat: &Chat, roles: Vec<String>) -> Envelope {
        let at = if chat.is_direct {
            // Everybody has one direct chat with the bot: it is named after them, so that they can be written to.
            Address { chat_type: Kind::Direct, chat: self.from.id.clone(), thread: None }
        } else {
            Address { chat_type: Kind::Channel, chat: self.channel.to_string(), thread: None }
        };
        let place = Place {
            title: chat.title.clone(),
            own_sessions: chat.parent.is_some(),
            parent: chat.parent.clone(),
            guild: chat.guild.map(|id| id.to_string()),
            team: None,
            roles,
        };
        Envelope {
            id: self.id.to_string(),
            from: self.from,
            at,
            place,
            text: self.text,
            attachments: vec![],
            mentions_me: self.mentions_me,
            replies_to_me: self.replies_to_me,
            quote: self.quote,
            at_ms: at_ms(self.id),
        }
    }
}

/// When an id was given, ms.
fn at_ms(id: u64) -> i64 {
    i64::try_from((id >> 22) + EPOCH_MS).unwrap_or(i64::MAX)
}

fn sender(user: &User, nick: Option<String>) -> Sender {
    Sender {
        id: user.id.to_string(),
        name: nick.or_else(|| user.global_name.clone()),
        username: Some(user.name.clone()),
        is_bot: user.bot,
    }
}

fn quote(message: &Message) -> Quote {
    let from = message.author.global_name.as_ref().unwrap_or(&message.author.name);
    Quote { id: message.id.to_string(), from: Some(from.clone()), text: readable(message) }
}

/// What a message says, with names where Discord has numbers of people; what it passes on, if that is all.
fn readable(message: &Message) -> String {
    let passed_on = message.message_snapshots.first().map(|passed_on| passed_on.content.as_str());
    let mut text = match message.content.as_str() {
        "" => passed_on.unwrap_or_default().to_owned(),
        said => said.to_owned(),
    };
    for user in &message.mentions {
        let name = format!("@{}", user.name);
        text = text.replace(&format!("<@{}>", user.id), &name).replace(&format!("<@!{}>", user.id), &name);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_tells_when_it_was_given() {
        assert_eq!(at_ms(175_928_847_299_117_063), 1_462_015_105_796);
    }
}

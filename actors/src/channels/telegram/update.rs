//! What comes in: an update of the Bot API becomes a message, or nothing.
//!
//! Everything but who, where and when is optional, and what cannot be read is left away: Telegram gains kinds of
//! entities, media and replies several times a year, and a message is not lost for one of them.

use super::reaction::Reacted;
use crate::channels::contract::{Address, Envelope, Kind, Place, Quote, Sender};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use teloxide_core::types::{
    CallbackQueryId, Chat, ChatKind, FileId, MessageEntity, MessageEntityKind, PublicChatKind, User,
};

/// The topic of a forum that messages without one are in.
pub(super) const GENERAL: i32 = 1;

/// Who this bot is.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Me {
    #[serde(flatten)]
    pub user: User,
    /// Whether its direct chats have topics.
    #[serde(default)]
    pub has_topics_enabled: bool,
}

/// What came.
pub(super) enum Update {
    Message(Box<Message>),
    Press(Box<Press>),
    Reacted(Box<Reacted>),
    /// Something that is not looked at.
    Other,
}

/// A message, or a post of a channel.
#[derive(Deserialize)]
pub(super) struct Message {
    message_id: i32,
    chat: Chat,
    date: i64,
    #[serde(default, deserialize_with = "if_readable")]
    from: Option<User>,
    /// In whose name it is written: a channel's, or an anonymous administrator's group.
    #[serde(default, deserialize_with = "if_readable")]
    sender_chat: Option<Chat>,
    message_thread_id: Option<i32>,
    #[serde(default)]
    is_topic_message: bool,
    text: Option<String>,
    caption: Option<String>,
    #[serde(default, deserialize_with = "readable")]
    entities: Vec<MessageEntity>,
    #[serde(default, deserialize_with = "readable")]
    caption_entities: Vec<MessageEntity>,
    #[serde(default, deserialize_with = "if_readable")]
    reply_to_message: Option<Box<Message>>,
    /// The part of that which was marked.
    #[serde(default, deserialize_with = "if_readable")]
    quote: Option<Marked>,
    #[serde(default, deserialize_with = "readable")]
    photo: Vec<Media>,
    #[serde(default, deserialize_with = "if_readable")]
    document: Option<Media>,
    #[serde(default, deserialize_with = "if_readable")]
    voice: Option<Media>,
    #[serde(default, deserialize_with = "if_readable")]
    audio: Option<Media>,
    #[serde(default, deserialize_with = "if_readable")]
    video: Option<Media>,
    #[serde(default, deserialize_with = "if_readable")]
    video_note: Option<Media>,
    #[serde(default, deserialize_with = "if_readable")]
    animation: Option<Media>,
    #[serde(default, deserialize_with = "if_readable")]
    sticker: Option<Media>,
}

#[derive(Deserialize)]
struct Marked {
    text: String,
}

/// A file, not yet fetched.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub(super) struct Media {
    pub file_id: FileId,
    pub file_size: Option<usize>,
    pub mime_type: Option<String>,
    pub file_name: Option<String>,
    /// What a sticker stands for.
    emoji: Option<String>,
}

/// A button was pressed.
#[derive(Deserialize)]
pub(super) struct Press {
    pub id: CallbackQueryId,
    from: User,
    #[serde(default, deserialize_with = "if_readable")]
    message: Option<Message>,
    pub data: Option<String>,
}

/// The number of an update, and what it brings; nothing for one without a number.
pub(super) fn read(update: &str) -> Option<(i32, Result<Update, serde_json::Error>)> {
    #[derive(Deserialize)]
    struct Number {
        update_id: i32,
    }
    #[derive(Deserialize)]
    struct News {
        message: Option<Box<Message>>,
        channel_post: Option<Box<Message>>,
        callback_query: Option<Box<Press>>,
        message_reaction: Option<Box<Reacted>>,
    }
    let Number { update_id } = serde_json::from_str(update).ok()?;
    let news = serde_json::from_str(update).map(|news: News| {
        match (news.message.or(news.channel_post), news.callback_query, news.message_reaction) {
            (Some(message), ..) => Update::Message(message),
            (None, Some(press), _) => Update::Press(press),
            (None, None, Some(reacted)) => Update::Reacted(reacted),
            (None, None, None) => Update::Other,
        }
    });
    Some((update_id, news))
}

fn if_readable<'de, T: DeserializeOwned, D: Deserializer<'de>>(part: D) -> Result<Option<T>, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(part)?).ok())
}

fn readable<'de, T: DeserializeOwned, D: Deserializer<'de>>(parts: D) -> Result<Vec<T>, D::Error> {
    let parts = Vec::<Value>::deserialize(parts)?;
    Ok(parts.into_iter().filter_map(|part| serde_json::from_value(part).ok()).collect())
}

impl Message {
    /// As the gateway takes it, without its files; nothing if it says nothing, or is our own.
    pub fn envelope(&self, me: &Me) -> Option<Envelope> {
        if self.from.as_ref().is_some_and(|from| from.id == me.user.id) {
            return None;
        }
        let replied = self.replied();
        let text = self.said(me);
        if text.is_empty() && self.media().is_none() {
            return None;
        }
        Some(Envelope {
            id: self.id(),
            from: self.sender(),
            at: self.address(),
            place: self.place(me),
            text,
            attachments: vec![],
            mentions_me: self.mentions(me),
            replies_to_me: replied.is_some_and(|replied| replied.is_from(&me.user)),
            quote: replied.map(|replied| Quote {
                id: replied.id(),
                from: Some(replied.sender()).and_then(|sender| sender.name),
                text: self
                    .quote
                    .as_ref()
                    .map_or_else(|| replied.written().to_owned(), |quote| quote.text.clone()),
            }),
            at_ms: self.date * 1000,
        })
    }

    /// Its file, with the type that such files have.
    pub fn media(&self) -> Option<(&Media, &'static str)> {
        // Sizes of the same photo, the largest last. An animation comes with itself as a document.
        let photo = self.photo.iter().max_by_key(|photo| photo.file_size);
        let kinds = [
            (photo, "image/jpeg"),
            (self.animation.as_ref(), "video/mp4"),
            (self.document.as_ref(), "application/octet-stream"),
            (self.voice.as_ref(), "audio/ogg"),
            (self.audio.as_ref(), "audio/mpeg"),
            (self.video.as_ref(), "video/mp4"),
            (self.video_note.as_ref(), "video/mp4"),
            (self.sticker.as_ref(), "image/webp"),
        ];
        kinds.into_iter().find_map(|(media, mime_type)| Some((media?, mime_type)))
    }

    fn id(&self) -> String {
        message_id(self.chat.id.0, self.message_id)
    }

    fn is_from(&self, user: &User) -> bool {
        self.from.as_ref().is_some_and(|from| from.id == user.id)
    }

    fn written(&self) -> &str {
        let sticker = || self.sticker.as_ref().and_then(|sticker| sticker.emoji.as_deref());
        self.text.as_deref().or(self.caption.as_deref()).or_else(sticker).unwrap_or_default()
    }

    fn entities(&self) -> &[MessageEntity] {
        if self.text.is_some() { &self.entities } else { &self.caption_entities }
    }

    /// What is written, and `/status` where it says `/status@this_bot`.
    fn said(&self, me: &Me) -> String {
        let text = self.written();
        let Some(MessageEntity { kind: MessageEntityKind::BotCommand, offset: 0, length }) =
            self.entities.first()
        else {
            return text.to_owned();
        };
        let command = part(text, 0, *length);
        match command.split_once('@') {
            Some((bare, bot)) if is_named(me, bot) => format!("{bare}{}", &text[command.len()..]),
            _ => text.to_owned(),
        }
    }

    fn mentions(&self, me: &Me) -> bool {
        let text = self.written();
        self.entities().iter().any(|entity| match &entity.kind {
            MessageEntityKind::Mention => {
                is_named(me, part(text, entity.offset, entity.length).trim_start_matches('@'))
            }
            MessageEntityKind::BotCommand => {
                let command = part(text, entity.offset, entity.length);
                command.split_once('@').is_some_and(|(_, bot)| is_named(me, bot))
            }
            MessageEntityKind::TextMention { user } => user.id == me.user.id,
            _ => false,
        })
    }

    /// What it replies to. In a topic everything replies to the message that began it, unless to another.
    fn replied(&self) -> Option<&Message> {
        let replied = self.reply_to_message.as_deref()?;
        let is_topic = self.is_topic_message && self.message_thread_id == Some(replied.message_id);
        (!is_topic).then_some(replied)
    }

    fn sender(&self) -> Sender {
        match (&self.sender_chat, &self.from) {
            (Some(chat), _) => of_chat(chat),
            (None, Some(user)) => of_user(user),
            (None, None) => of_chat(&self.chat),
        }
    }

    fn address(&self) -> Address {
        let (chat_type, thread) = match &self.chat.kind {
            ChatKind::Private(_) => (Kind::Direct, self.message_thread_id),
            ChatKind::Public(public) => match &public.kind {
                PublicChatKind::Channel(_) => (Kind::Channel, None),
                // Elsewhere it is the message that a row of replies began with.
                PublicChatKind::Supergroup(group) if group.is_forum => {
                    let topic = self.message_thread_id.filter(|_| self.is_topic_message);
                    (Kind::Group, Some(topic.unwrap_or(GENERAL)))
                }
                PublicChatKind::Supergroup(_) | PublicChatKind::Group => (Kind::Group, None),
            },
        };
        Address { chat_type, chat: self.chat.id.to_string(), thread: thread.map(|thread| thread.to_string()) }
    }

    fn place(&self, me: &Me) -> Place {
        let at = self.address();
        let own_sessions = at.thread.is_some() && (at.chat_type == Kind::Group || me.has_topics_enabled);
        Place { title: self.chat.title().map(str::to_owned), own_sessions, ..Place::default() }
    }
}

impl Press {
    /// What the button says, as a message of who pressed it; nothing if it is not known where.
    pub fn envelope(&self, says: String, me: &Me, now_ms: i64) -> Option<Envelope> {
        let below = self.message.as_ref()?;
        Some(Envelope {
            id: format!("{}:{}", below.id(), self.id),
            from: of_user(&self.from),
            at: below.address(),
            place: below.place(me),
            text: says,
            attachments: vec![],
            mentions_me: true,
            replies_to_me: true,
            quote: None,
            at_ms: now_ms,
        })
    }
}

/// The id of a message in all chats of an account: Telegram counts them in each.
pub(super) fn message_id(chat: i64, message: i32) -> String {
    format!("{chat}:{message}")
}

/// The user as the gateway knows people.
pub(super) fn of_user(user: &User) -> Sender {
    Sender {
        id: user.id.to_string(),
        name: Some(user.full_name()),
        username: user.username.clone(),
        is_bot: user.is_bot,
    }
}

fn of_chat(chat: &Chat) -> Sender {
    Sender {
        id: chat.id.to_string(),
        name: chat.title().map(str::to_owned),
        username: chat.username().map(str::to_owned),
        is_bot: false,
    }
}

fn is_named(me: &Me, name: &str) -> bool {
    me.user.username.as_ref().is_some_and(|mine| mine.eq_ignore_ascii_case(name))
}

/// A part of a text, counted in UTF-16; nothing if it is not there.
fn part(text: &str, offset: usize, length: usize) -> &str {
    let byte = |units: usize| {
        let mut passed = 0;
        let ends = text.char_indices().map(|(at, char)| (at, char.len_utf16())).chain([(text.len(), 0)]);
        ends.into_iter().find_map(|(at, len)| {
            let here = passed == units;
            passed += len;
            here.then_some(at)
        })
    };
    let range = byte(offset).zip(offset.checked_add(length).and_then(byte));
    range.and_then(|(from, to)| text.get(from..to)).unwrap_or_default()
}

#[cfg(test)]
#[path = "update_tests.rs"]
mod tests;

//! What goes out: orders become calls of the Bot API.

use super::api::{Api, CALL, Failure};
use super::buttons::Buttons;
use super::markup;
use super::update::{GENERAL, message_id};
use crate::channels::contract::{
    Address, Attachment, Button, Order, Outgoing, SendError, Sent, Trouble, Unit,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::time::Duration;
use teloxide_core::payloads::{EditMessageText, SendChatAction, SendMessage, SetMessageReaction};
use teloxide_core::types::{
    ChatAction, ChatId, InlineKeyboardButton, InlineKeyboardMarkup, LinkPreviewOptions, MessageId, ParseMode,
    ReactionType, Recipient, ReplyMarkup, ReplyParameters, ThreadId, True,
};

/// The longest text beside a file, UTF-16 code units.
const MAX_CAPTION: usize = 1024;
/// The largest picture that is shown as one, bytes.
const MAX_PHOTO: usize = 10 << 20;
/// How long saying that somebody writes may take: it is over soon.
const TYPING: Duration = Duration::from_secs(5);
/// How often one message is tried: as it is, without formatting, where the group has moved to.
const MAX_TRIES: usize = 3;
/// The longest label of buttons that stand side by side, and how many do.
const SHORT_LABEL: usize = 12;
const SIDE_BY_SIDE: usize = 3;
/// What makes an emoji a picture, which Telegram leaves out of the names of reactions.
const AS_PICTURE: char = '\u{fe0f}';

/// The hands of an account.
pub(super) struct Outbound<'a> {
    pub api: &'a Api,
    pub buttons: &'a Mutex<Buttons>,
    pub link_preview: bool,
    pub media_max: usize,
}

/// Where a message goes.
pub(super) struct Target {
    pub chat: Recipient,
    pub thread: Option<i32>,
}

/// What is sent in one call.
struct Draft<'a> {
    method: &'static str,
    fields: Map<String, Value>,
    /// The field with formatted text, and that text without.
    text: Option<(&'static str, &'a str)>,
    file: Option<(&'static str, &'a Attachment)>,
}

/// What Telegram says of a message that it took.
#[derive(Deserialize)]
pub(super) struct Posted {
    #[serde(flatten)]
    pub id: MessageId,
    pub chat: PostedTo,
}

#[derive(Deserialize)]
pub(super) struct PostedTo {
    pub id: i64,
}

impl Outbound<'_> {
    /// Does what is ordered, and says so to who waits for it.
    pub async fn carry_out(&self, order: Order) {
        // Who does not wait any more does not need to know.
        match order {
            Order::Send(outgoing, done) => drop(done.send(self.send(&outgoing).await)),
            Order::Typing(at) => self.typing(&at).await,
            Order::React { at, message, emoji, done } => {
                drop(done.send(self.react(&at, &message, &emoji).await));
            }
            Order::Act { at, act, done } => drop(done.send(self.act(&at, &act).await)),
        }
    }

    async fn send(&self, outgoing: &Outgoing) -> Result<Sent, SendError> {
        let target = target(&outgoing.to)?;
        let (text, files) = (outgoing.text.as_str(), &outgoing.attachments);
        if let Some(file) = files.iter().find(|file| file.bytes.len() > self.media_max) {
            let (name, limit) = (file.file_name.as_deref().unwrap_or("a file"), self.media_max >> 20);
            return Err(SendError::Refused(format!("{name} is larger than {limit} MB (mediaMaxMb)")));
        }
        let is_caption = outgoing.edits.is_none() && !files.is_empty() && Unit::Utf16.of(text) <= MAX_CAPTION;
        let mut first = None;
        if let Some(edited) = &outgoing.edits {
            first = Some(self.edit(edited, &target, outgoing).await?);
        } else if !is_caption {
            first = Some(self.post(self.message(&target, outgoing, text)?).await?);
        }
        for file in files {
            let is_first = first.is_none();
            match self.file(&target, outgoing, file, is_first).await {
                Ok(sent) => first = first.or(Some(sent)),
                Err(failure) if is_first => return Err(failure.into()),
                // Sent again, it would all be there twice.
                Err(failure) => {
                    return Err(SendError::Unknown(format!("only a part of it was sent: {failure}")));
                }
            }
        }
        first.ok_or_else(|| SendError::Refused("there is nothing in it".into()))
    }

    /// A message with all that goes with it.
    fn message<'a>(&self, target: &Target, outgoing: &Outgoing, text: &'a str) -> Result<Draft<'a>, Failure> {
        let mut message = SendMessage::new(target.chat.clone(), markup::html(text));
        message.parse_mode = Some(ParseMode::Html);
        message.message_thread_id = target.thread.filter(|topic| *topic != GENERAL).map(thread);
        message.link_preview_options = (!self.link_preview).then(no_preview);
        message.reply_parameters = outgoing.reply_to.as_deref().and_then(|id| {
            let (chat, message) = parsed(id)?;
            let is_here = chat.is_none_or(|chat| Recipient::Id(ChatId(chat)) == target.chat);
            is_here.then(|| ReplyParameters {
                // What was deleted meanwhile is answered all the same.
                allow_sending_without_reply: Some(true),
                ..ReplyParameters::new(MessageId(message))
            })
        });
        message.reply_markup = self.keyboard(&outgoing.buttons).map(ReplyMarkup::InlineKeyboard);
        Ok(Draft { method: "sendMessage", fields: fields(&message)?, text: Some(("text", text)), file: None })
    }

    async fn file(
        &self,
        target: &Target,
        outgoing: &Outgoing,
        file: &Attachment,
        is_first: bool,
    ) -> Result<Sent, Failure> {
        let draft = |method, field| {
            let text = if is_first { outgoing.text.as_str() } else { "" };
            let mut draft = self.message(target, outgoing, text)?;
            let mut drop = |name: &str| draft.fields.shift_remove(name);
            drop("link_preview_options");
            let html = drop("text").filter(|_| !text.is_empty());
            if !is_first {
                drop("reply_parameters");
                drop("reply_markup");
            }
            draft.text = html.as_ref().map(|_| ("caption", text));
            draft.fields.extend(html.map(|html| ("caption".to_owned(), html)));
            (draft.method, draft.file) = (method, Some((field, file)));
            Ok::<_, Failure>(draft)
        };
        let is_photo = matches!(file.mime_type.as_str(), "image/jpeg" | "image/png" | "image/webp");
        if is_photo && file.bytes.len() <= MAX_PHOTO {
            match self.deliver(draft("sendPhoto", "photo")?).await {
                // Too wide, or no picture after all.
                Err(Failure::Refused { status: 400, .. }) => {}
                sent => return sent,
            }
        }
        self.deliver(draft("sendDocument", "document")?).await
    }

    async fn edit(&self, edited: &str, target: &Target, outgoing: &Outgoing) -> Result<Sent, SendError> {
        let (chat, message) = named(edited, target)?;
        let mut edit = EditMessageText::new(chat, MessageId(message), markup::html(&outgoing.text));
        edit.parse_mode = Some(ParseMode::Html);
        edit.link_preview_options = (!self.link_preview).then(no_preview);
        edit.reply_markup = self.keyboard(&outgoing.buttons);
        let text = Some(("text", outgoing.text.as_str()));
        let draft = Draft { method: "editMessageText", fields: fields(&edit)?, text, file: None };
        match self.deliver(draft).await {
            Err(failure) if failure.is_unchanged() => Ok(Sent { id: edited.to_owned() }),
            Err(failure) => Err(failure.again()),
            Ok(sent) => Ok(sent),
        }
    }

    async fn post(&self, draft: Draft<'_>) -> Result<Sent, SendError> {
        Ok(self.deliver(draft).await?)
    }

    async fn deliver(&self, mut draft: Draft<'_>) -> Result<Sent, Failure> {
        let mut tries = 1;
        loop {
            match self.api.call_with::<Posted>(draft.method, &draft.fields, draft.file).await {
                Ok(posted) => return Ok(Sent { id: message_id(posted.chat.id, posted.id.0) }),
                Err(failure) if tries == MAX_TRIES => return Err(failure),
                Err(Failure::Moved(chat)) => {
                    draft.fields.insert("chat_id".into(), chat.into());
                }
                Err(failure) if failure.is_about_markup() && draft.fields.contains_key("parse_mode") => {
                    draft.fields.shift_remove("parse_mode");
                    draft.fields.extend(draft.text.map(|(field, text)| (field.to_owned(), text.into())));
                }
                Err(failure) => return Err(failure),
            }
            tries += 1;
        }
    }

    fn keyboard(&self, buttons: &[Button]) -> Option<InlineKeyboardMarkup> {
        let is_short = buttons.iter().all(|button| button.label.chars().count() <= SHORT_LABEL);
        let mut kept = self.buttons.lock();
        let mut shown =
            |button: &Button| InlineKeyboardButton::callback(&button.label, kept.data(&button.says));
        let rows = buttons.chunks(if is_short { SIDE_BY_SIDE } else { 1 });
        let rows: Vec<Vec<_>> = rows.map(|row| row.iter().map(&mut shown).collect()).collect();
        (!rows.is_empty()).then(|| InlineKeyboardMarkup::new(rows))
    }

    async fn typing(&self, at: &Address) {
        let Ok(Target { chat, thread: topic }) = target(at) else { return };
        let mut typing = SendChatAction::new(chat, ChatAction::Typing);
        // Here the general topic has to be named.
        typing.message_thread_id = topic.map(thread);
        // It is a sign, and the next one comes soon.
        let _ = self.api.call::<_, True>(&typing, TYPING).await;
    }

    async fn react(&self, at: &Address, message: &str, emoji: &str) -> Result<(), SendError> {
        let (chat, message) = named(message, &target(at)?)?;
        let emoji = emoji.replace(AS_PICTURE, "");
        let mut reaction = SetMessageReaction::new(chat, MessageId(message));
        let shown = (!emoji.is_empty()).then_some(ReactionType::Emoji { emoji });
        reaction.reaction = Some(shown.into_iter().collect());
        self.api.call::<_, True>(&reaction, CALL).await.map(drop).map_err(Failure::again)
    }
}

/// Says of an order that it was not begun.
pub(super) fn decline(order: Order, trouble: &Trouble) {
    let not_begun = || SendError::Later { why: trouble.to_string(), after: None };
    // Who does not wait any more does not need to know.
    match order {
        Order::Send(_, done) => drop(done.send(Err(not_begun()))),
        Order::React { done, .. } => drop(done.send(Err(not_begun()))),
        Order::Act { done, .. } => drop(done.send(Err(not_begun()))),
        Order::Typing(_) => {}
    }
}

pub(super) fn target(to: &Address) -> Result<Target, SendError> {
    let chat = match to.chat.parse() {
        Ok(id) => Recipient::Id(ChatId(id)),
        Err(_) if to.chat.starts_with('@') => Recipient::ChannelUsername(to.chat.clone()),
        Err(_) => {
            let why = format!(
                "`{}` is no chat of Telegram: name it by its number, or a public one as @name",
                to.chat
            );
            return Err(SendError::Refused(why));
        }
    };
    let thread = to.thread.as_deref().map(|thread| {
        thread
            .parse()
            .map_err(|_| SendError::Refused(format!("`{thread}` is no topic of Telegram: those are numbers")))
    });
    Ok(Target { chat, thread: thread.transpose()? })
}

/// The chat, if it is told, and the number of a message in it.
fn parsed(id: &str) -> Option<(Option<i64>, i32)> {
    let mut parts = id.split(':');
    let first = parts.next()?;
    match parts.next() {
        None => Some((None, first.parse().ok()?)),
        Some(message) => Some((Some(first.parse().ok()?), message.parse().ok()?)),
    }
}

/// The message of this id, which is in the chat it tells, or else at the target.
pub(super) fn named(id: &str, target: &Target) -> Result<(Recipient, i32), SendError> {
    let (chat, message) =
        parsed(id).ok_or_else(|| SendError::Refused(format!("`{id}` is no message of Telegram")))?;
    Ok((chat.map_or_else(|| target.chat.clone(), |chat| Recipient::Id(ChatId(chat))), message))
}

fn thread(topic: i32) -> ThreadId {
    ThreadId(MessageId(topic))
}

fn no_preview() -> LinkPreviewOptions {
    LinkPreviewOptions {
        is_disabled: true,
        url: None,
        prefer_small_media: false,
        prefer_large_media: false,
        show_above_text: false,
    }
}

fn fields(payload: &impl Serialize) -> Result<Map<String, Value>, Failure> {
    match serde_json::to_value(payload) {
        Ok(Value::Object(fields)) => Ok(fields),
        _ => Err(Failure::Refused { status: 400, why: "it cannot be written as JSON".into() }),
    }
}

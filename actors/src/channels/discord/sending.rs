//! What goes out: messages, changes of them, reactions, the sign that somebody writes.

use super::api::{Api, Body, Failure};
use super::known::Known;
use super::token_refused;
use crate::channels::contract::{Address, Button, Kind, Order, Orders, Outgoing, SendError, Sent, Trouble};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// Orders that are carried out at the same time; the next ones wait.
const MAX_GOING: usize = 32;
/// Characters of what makes a message one message.
pub(super) const NONCE: usize = 25;
/// Buttons of a row.
const ROW: usize = 5;
/// Buttons of a message.
const MAX_BUTTONS: usize = 25;
/// Characters of what stands on a button; the rest is cut off.
const MAX_LABEL: usize = 80;
/// Bytes of what Discord keeps of a button for us.
const MAX_CUSTOM_ID: usize = 100;
/// Files of a message.
const MAX_FILES: usize = 10;
/// A component that is a row of others.
const ROW_OF: u8 = 1;
/// A component that is a button.
const BUTTON: u8 = 2;
/// A button looks grey, for none of them is better than another.
const GREY: u8 = 2;

/// Carries out orders until there are none any more, or the token is none.
pub(super) async fn carry_out(api: Arc<Api>, known: Arc<Known>, mut orders: Orders) -> Trouble {
    let mut going = JoinSet::new();
    loop {
        tokio::select! {
            order = orders.recv(), if going.len() < MAX_GOING => match order {
                Some(order) => {
                    let hand = Hand { api: api.clone(), known: known.clone() };
                    going.spawn(async move { hand.carry_out(order).await });
                }
                None => return Trouble::Retry("the account was stopped".into()),
            },
            Some(done) = going.join_next() => if let Ok(Err(trouble)) = done {
                return trouble;
            },
        }
    }
}

pub(super) struct Hand {
    pub api: Arc<Api>,
    known: Arc<Known>,
}

/// A message that was made.
#[derive(Deserialize)]
pub(super) struct Made {
    pub id: String,
}

#[derive(Deserialize)]
struct Reactions {
    #[serde(default)]
    reactions: Vec<Reaction>,
}

#[derive(Deserialize)]
struct Reaction {
    me: bool,
    emoji: Emoji,
}

#[derive(Deserialize)]
struct Emoji {
    id: Option<String>,
    name: Option<String>,
}

impl Hand {
    async fn carry_out(&self, order: Order) -> Result<(), Trouble> {
        match order {
            Order::Send(outgoing, done) => answer(self.send(*outgoing).await, done),
            Order::React { at, message, emoji, done } => {
                answer(self.react(&at, &message, &emoji).await, done)
            }
            Order::Act { at, act, done } => answer(self.act(&at, &act).await, done),
            Order::Typing(at) => match self.typing(&at).await {
                Err(Failure::Token) => Err(token_refused()),
                _ => Ok(()),
            },
        }
    }

    async fn send(&self, outgoing: Outgoing) -> Result<Sent, Failure> {
        let channel = self.channel(&outgoing.to).await?;
        if outgoing.attachments.len() > MAX_FILES {
            return Err(Failure::refused(format!("a message has at most {MAX_FILES} files: send two")));
        }
        let mut message = json!({
            "content": outgoing.text,
            // People are named, everybody is not, whatever a model writes.
            "allowed_mentions": { "parse": ["users"], "replied_user": true },
            "components": self.rows(&outgoing.buttons)?,
        });
        let mut path = vec!["channels", &channel, "messages"];
        let method = match &outgoing.edits {
            Some(edited) => {
                path.push(id(edited)?);
                Method::PATCH
            }
            None => {
                message["nonce"] = json!(&blake3::hash(outgoing.id.as_bytes()).to_hex()[..NONCE]);
                message["enforce_nonce"] = json!(true);
                if let Some(replied) = &outgoing.reply_to {
                    let replied = json!({ "message_id": id(replied)?, "fail_if_not_exists": false });
                    message["message_reference"] = replied;
                }
                Method::POST
            }
        };
        let body = match outgoing.attachments.is_empty() {
            true => Body::Json(message),
            false => Body::Files(message, outgoing.attachments),
        };
        let made: Made = self.api.call(method, &path, body).await?;
        Ok(Sent { id: made.id })
    }

    async fn react(&self, at: &Address, message: &str, emoji: &str) -> Result<(), Failure> {
        let channel = self.channel(at).await?;
        let message = id(message)?;
        if !emoji.is_empty() {
            let ours = ["channels", &channel, "messages", message, "reactions", emoji, "@me"];
            return self.api.tell(Method::PUT, &ours, Body::Nothing).await;
        }
        let found: Reactions = self.api.get(&["channels", &channel, "messages", message], &[]).await?;
        for reaction in found.reactions.into_iter().filter(|reaction| reaction.me) {
            let name = reaction.emoji.name.unwrap_or_default();
            let emoji = reaction.emoji.id.map_or(name.clone(), |id| format!("{name}:{id}"));
            let ours = ["channels", &channel, "messages", message, "reactions", &emoji, "@me"];
            self.api.tell(Method::DELETE, &ours, Body::Nothing).await?;
        }
        Ok(())
    }

    async fn typing(&self, at: &Address) -> Result<(), Failure> {
        let channel = self.channel(at).await?;
        self.api.tell(Method::POST, &["channels", &channel, "typing"], Body::Nothing).await
    }

    /// Where something is sent: threads are channels, and a direct chat is named after who it is with.
    pub(super) async fn channel(&self, at: &Address) -> Result<String, Failure> {
        let chat = id(at.thread.as_deref().unwrap_or(&at.chat))?;
        match (at.chat_type, chat.parse()) {
            (Kind::Direct, Ok(user)) => self.known.direct(user).await.map(|channel| channel.to_string()),
            _ => Ok(chat.to_owned()),
        }
    }

    fn rows(&self, buttons: &[Button]) -> Result<Vec<Value>, Failure> {
        if buttons.len() > MAX_BUTTONS {
            return Err(Failure::refused(format!("a message has at most {MAX_BUTTONS} buttons")));
        }
        let buttons: Vec<_> =
            buttons.iter().enumerate().map(|(at, button)| self.button(at, button)).collect();
        Ok(buttons.chunks(ROW).map(|row| json!({ "type": ROW_OF, "components": row })).collect())
    }

    fn button(&self, at: usize, button: &Button) -> Value {
        let label: String = button.label.chars().take(MAX_LABEL).collect();
        // What Discord keeps must be there once in a message.
        let mut custom_id = format!("{at}={}", button.says);
        if custom_id.len() > MAX_CUSTOM_ID {
            custom_id = format!("{at}#{}", blake3::hash(button.says.as_bytes()).to_hex());
            self.known.buttons.keep(custom_id.clone(), button.says.clone());
        }
        json!({ "type": BUTTON, "style": GREY, "label": label, "custom_id": custom_id })
    }
}

/// What a pressed button says; none if that is not known any more.
pub(super) fn says(known: &Known, custom_id: &str) -> Option<String> {
    match custom_id.split_once(['=', '#'])? {
        (at, says) if custom_id[at.len()..].starts_with('=') => Some(says.to_owned()),
        _ => known.buttons.get(&custom_id.to_owned()),
    }
}

/// Discord's ids are numbers; nothing else becomes part of an address.
pub(super) fn id(text: &str) -> Result<&str, Failure> {
    match text.parse::<u64>() {
        Ok(_) => Ok(text),
        Err(_) => Err(Failure::refused(format!("`{text}` is no id of Discord's, which are numbers"))),
    }
}

fn answer<T>(result: Result<T, Failure>, done: oneshot::Sender<Result<T, SendError>>) -> Result<(), Trouble> {
    let (result, trouble) = match result {
        Ok(done) => (Ok(done), Ok(())),
        Err(Failure::Call(error)) => (Err(error), Ok(())),
        Err(failure @ Failure::Token) => {
            let later = SendError::Later { why: failure.to_string(), after: None };
            (Err(later), Err(token_refused()))
        }
    };
    // Whoever has gone away knows that the account was stopped.
    let _ = done.send(result);
    trouble
}

//! What the bot has posted.

use super::{BOT, Known, Telegram, bad, done};
use serde_json::{Value, json};

/// A message of the bot, as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct Post {
    pub text: String,
    pub thread: Option<i64>,
    pub reply_to: Option<i64>,
    markup: Value,
}

impl Telegram {
    /// What the bot has posted to a chat, in its order.
    pub fn posts(&self, chat: i64) -> Vec<Post> {
        let known = self.api.known.lock();
        known.messages.range((chat, 0)..=(chat, i64::MAX)).map(|(_, post)| post.clone()).collect()
    }

    /// The texts of that.
    pub fn posted(&self, chat: i64) -> Vec<String> {
        self.posts(chat).into_iter().map(|post| post.text).collect()
    }
}

impl Known {
    pub(super) fn post(&mut self, params: &Value, kind: &str) -> Value {
        let text = &params[if kind == "text" { "text" } else { "caption" }];
        if kind == "text" && text.as_str().is_none_or(str::is_empty) {
            return bad("message text is empty");
        }
        if text.as_str().is_some_and(|text| text.encode_utf16().count() > 4096) {
            return bad("message is too long");
        }
        // In a form, numbers are texts.
        let number = |value: &Value| value.as_i64().or_else(|| value.as_str()?.parse().ok());
        let Some(chat) = number(&params["chat_id"]) else { return bad("chat not found") };
        self.last_message += 1;
        let post = Post {
            text: text.as_str().unwrap_or_default().to_owned(),
            thread: number(&params["message_thread_id"]),
            reply_to: number(&params["reply_parameters"]["message_id"]),
            markup: params["reply_markup"].clone(),
        };
        self.messages.insert((chat, self.last_message), post);
        posted(chat, self.last_message)
    }

    pub(super) fn edit(&mut self, params: &Value) -> Value {
        let at = (params["chat_id"].as_i64().unwrap_or(0), params["message_id"].as_i64().unwrap_or(0));
        let (text, markup) =
            (params["text"].as_str().unwrap_or_default().to_owned(), params["reply_markup"].clone());
        match self.messages.get_mut(&at) {
            None => bad("message to edit not found"),
            Some(before) if (&before.text, &before.markup) == (&text, &markup) => bad(
                "message is not modified: specified new message content and reply markup are exactly the same as a \
                 current content and reply markup of the message",
            ),
            Some(before) => {
                (before.text, before.markup) = (text, markup);
                posted(at.0, at.1)
            }
        }
    }
}

impl Known {
    pub(super) fn delete(&mut self, params: &Value) -> Value {
        let at = (params["chat_id"].as_i64().unwrap_or(0), params["message_id"].as_i64().unwrap_or(0));
        match self.messages.remove(&at) {
            Some(_) => done(true.into()),
            None => bad("message to delete not found"),
        }
    }
}

fn posted(chat: i64, number: i64) -> Value {
    let kind = if chat > 0 { "private" } else { "supergroup" };
    let from = json!({ "id": BOT, "is_bot": true, "first_name": "Crab", "username": "crab_bot" });
    let chat = json!({ "id": chat, "type": kind });
    done(json!({ "message_id": number, "date": 1_700_000_001, "chat": chat, "from": from }))
}

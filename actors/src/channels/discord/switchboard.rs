//! What comes over the line, and whom it concerns. Nothing here waits: messages go to the inbox, commands and buttons
//! are answered on the side.

use super::api::{Api, Body};
use super::inbox::{Backlog, Come};
use super::known::{Known, Me};
use super::said::{COMMAND, QUESTION, Said};
use super::sending;
use crate::channels::contract::Trouble;
use reqwest::Method;
use serde_json::{Value, json};
use serenity::all::{CommandInteraction, ComponentInteraction, Event, Interaction, Message, Reaction, Ready};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long it may take until what somebody asked is durable: Discord wants an answer within three seconds.
const PATIENCE: Duration = Duration::from_secs(2);
/// Answers that are being given; then what comes waits.
const MAX_ANSWERS: usize = 64;
/// Characters of a question that are shown to those who are there, in a message that has room for twice as many.
const MAX_SHOWN: usize = 1_000;
/// An answer that is a message.
const SAY: u8 = 4;
/// An answer that is none.
const NOTHING: u8 = 6;
/// Marks what only who asked can see.
const FOR_ONE: u16 = 1 << 6;

/// Passes on what comes.
pub(super) struct Switchboard {
    pub api: Arc<Api>,
    pub known: Arc<Known>,
    pub backlog: Arc<Backlog>,
    pub queue: mpsc::Sender<Come>,
}

impl Switchboard {
    /// Works as long as somebody wants it.
    pub(super) async fn run(self, mut events: mpsc::Receiver<Box<Event>>) -> Trouble {
        let mut answers = JoinSet::new();
        loop {
            tokio::select! {
                event = events.recv(), if answers.len() < MAX_ANSWERS => match event {
                    Some(event) => self.hear(*event, &mut answers),
                    // The line has ended, and says why.
                    None => std::future::pending().await,
                },
                Some(_) = answers.join_next() => {}
            }
        }
    }

    fn hear(&self, event: Event, answers: &mut JoinSet<()>) {
        match event {
            Event::Ready(ready) => self.ready(&ready.ready, answers),
            Event::MessageCreate(come) => self.message(come.message),
            Event::ReactionAdd(added) => self.reacted(added.reaction),
            Event::InteractionCreate(come) => match come.interaction {
                Interaction::Command(command) => self.command(&command, answers),
                Interaction::Component(pressed) => self.pressed(&pressed, answers),
                _ => {}
            },
            Event::ChannelUpdate(changed) => self.known.chats.forget(&changed.channel.id.get()),
            Event::ThreadUpdate(changed) => self.known.chats.forget(&changed.thread.id.get()),
            _ => {}
        }
    }

    fn ready(&self, ready: &Ready, answers: &mut JoinSet<()>) {
        *self.known.me.lock() = Some(Me { id: ready.user.id.get(), name: ready.user.name.clone() });
        self.backlog.away();
        let command = json!({
            "name": COMMAND, "type": 1, "description": "Ask the assistant",
            "options": [{ "type": 3, "name": QUESTION, "description": "What to ask", "required": true }],
        });
        let (api, bot) = (self.api.clone(), ready.application.id.to_string());
        answers.spawn(async move {
            let path = ["applications", &bot, "commands"];
            if let Err(failure) = api.tell(Method::POST, &path, Body::Json(command)).await {
                tracing::warn!(target: "crabtree::discord", "/{COMMAND} is not there: {failure}");
            }
        });
    }

    fn message(&self, message: Message) {
        let channel = message.channel_id.get();
        self.backlog.came(channel, message.id.get());
        if self.queue.try_send(Come::Message(Box::new(message))).is_err() {
            self.backlog.missed(channel);
        }
    }

    /// One that finds no room is not told of: it is no message.
    fn reacted(&self, reaction: Reaction) {
        let _ = self.queue.try_send(Come::Reacted(Box::new(reaction)));
    }

    fn command(&self, command: &CommandInteraction, answers: &mut JoinSet<()>) {
        let Some(said) = Said::command(command) else { return };
        let shown: String = said.text.chars().take(MAX_SHOWN).collect();
        let shown = say(&format!("> {}", shown.replace('\n', "\n> ")), 0);
        self.hand_on(&command.token, said, shown, answers);
    }

    fn pressed(&self, pressed: &ComponentInteraction, answers: &mut JoinSet<()>) {
        match sending::says(&self.known, &pressed.data.custom_id) {
            Some(says) => {
                let said = Said::button(pressed, says);
                self.hand_on(&pressed.token, said, json!({ "type": NOTHING }), answers);
            }
            None => {
                let too_old = say("This button is too old: please write instead.", FOR_ONE);
                let answer = answer(self.api.clone(), pressed.id.get(), pressed.token.clone(), too_old);
                answers.spawn(answer);
            }
        }
    }

    /// Discord does not say it again: it is confirmed when it is durable, or when Discord's patience ends.
    fn hand_on(&self, token: &str, said: Said, reply: Value, answers: &mut JoinSet<()>) {
        let (api, token, id) = (self.api.clone(), token.to_owned(), said.id);
        let (durable, is_durable) = oneshot::channel();
        // What finds no room is lost at once.
        let _ = self.queue.try_send(Come::Said(Box::new(said), durable));
        answers.spawn(async move {
            let reply = match timeout(PATIENCE, is_durable).await {
                Ok(Err(_)) => say("Too much is going on: please try again.", FOR_ONE),
                Ok(Ok(())) | Err(_) => reply,
            };
            answer(api, id, token, reply).await;
        });
    }
}

async fn answer(api: Arc<Api>, id: u64, token: String, reply: Value) {
    let path = ["interactions", &id.to_string(), &token, "callback"];
    if let Err(failure) = api.tell(Method::POST, &path, Body::Json(reply)).await {
        tracing::debug!(target: "crabtree::discord", "a command was not answered: {failure}");
    }
}

fn say(text: &str, flags: u16) -> Value {
    let message = json!({ "content": text, "flags": flags, "allowed_mentions": { "parse": [] } });
    json!({ "type": SAY, "data": message })
}

//! A platform in this process: chats are boards, messages can be changed and taken back, and everything takes a while.

use crabtree_actors::channels::contract::{
    Account, Act, Address, Capabilities, Channel, EditLimit, Envelope, Heard, Kind, Link, Order, Orders,
    Outgoing, Place, SendError, Sender, Sent, Trouble,
};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// How long a call takes, and after which part of it the platform has done what it was to do.
const CALL: Duration = Duration::from_millis(60);
const DONE_AFTER: Duration = Duration::from_millis(30);
pub const EVERY: Duration = Duration::from_secs(1);
pub const IN_GROUPS: Duration = Duration::from_secs(3);
pub const TYPING: Duration = Duration::from_secs(4);

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Too much: to be left alone for so long.
    TooMuch(Duration),
    /// Never answered, and not done.
    Hang,
    Refused,
}

/// A message, as people see it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post {
    pub id: String,
    pub chat: String,
    pub text: String,
    name: String,
}

/// A call, when it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub at: Instant,
    pub what: &'static str,
    pub chat: String,
    pub text: String,
}

#[derive(Default)]
struct State {
    posts: Vec<Post>,
    count: usize,
    calls: Vec<Call>,
    /// What goes wrong with the next calls of this kind.
    faults: VecDeque<(&'static str, Fault)>,
    link: Option<Link>,
}

pub struct Board {
    pub idempotent: bool,
    pub text_limit: usize,
    state: Mutex<State>,
}

impl Board {
    pub fn new(idempotent: bool) -> Arc<Self> {
        Arc::new(Self { idempotent, text_limit: 2_000, state: Mutex::default() })
    }

    pub fn with_limit(text_limit: usize) -> Arc<Self> {
        Arc::new(Self { idempotent: false, text_limit, state: Mutex::default() })
    }

    /// Somebody writes, as soon as there is a gateway, until it has it.
    pub async fn says(&self, kind: Kind, chat: &str, id: &str, text: &str) {
        let link = loop {
            if let Some(link) = self.state.lock().link.clone() {
                break link;
            }
            sleep(Duration::from_millis(1)).await;
        };
        let envelope = Envelope {
            id: id.into(),
            from: Sender { id: chat.into(), ..Sender::default() },
            at: Address { chat_type: kind, chat: chat.into(), thread: None },
            place: Place::default(),
            text: text.into(),
            attachments: vec![],
            mentions_me: true,
            replies_to_me: false,
            quote: None,
            at_ms: 0,
        };
        link.receive(envelope).await.unwrap();
    }

    /// What people see in a chat.
    pub fn seen(&self, chat: &str) -> Vec<String> {
        let state = self.state.lock();
        state.posts.iter().filter(|post| post.chat == chat).map(|post| post.text.clone()).collect()
    }

    pub fn calls(&self, what: &str) -> Vec<Call> {
        self.state.lock().calls.iter().filter(|call| call.what == what).cloned().collect()
    }

    /// The calls that change what people see, in their order.
    pub fn changes(&self, chat: &str) -> Vec<Call> {
        let is_change = |call: &&Call| call.what != "typing" && call.chat == chat;
        self.state.lock().calls.iter().filter(is_change).cloned().collect()
    }

    pub fn go_wrong(&self, what: &'static str, fault: Fault) {
        self.state.lock().faults.push_back((what, fault));
    }

    /// Somebody takes every message away.
    pub fn wipe(&self) {
        self.state.lock().posts.clear();
    }

    async fn carry_out(self: Arc<Self>, order: Order) {
        match order {
            Order::Send(outgoing, done) => {
                let what = if outgoing.edits.is_some() { "edit" } else { "post" };
                let chat = outgoing.to.chat.clone();
                let result = self.call(what, &chat, &outgoing.text, || self.put(&outgoing)).await;
                let _ = done.send(result.map(|id| Sent { id }));
            }
            Order::Act { at, act: Act::Delete(message), done } => {
                let result = self.call("delete", &at.chat, &message, || self.take_back(&message)).await;
                let _ = done.send(result.map(|()| Sent { id: message }));
            }
            Order::Act { done, .. } => drop(done.send(Err(SendError::Refused("no".into())))),
            Order::Typing(at) => self.note("typing", &at.chat, ""),
            Order::React { done, .. } => drop(done.send(Err(SendError::Refused("no".into())))),
        }
    }

    fn note(&self, what: &'static str, chat: &str, text: &str) {
        let call = Call { at: Instant::now(), what, chat: chat.into(), text: text.into() };
        self.state.lock().calls.push(call);
    }

    async fn call<T>(
        &self,
        what: &'static str,
        chat: &str,
        text: &str,
        act: impl FnOnce() -> Result<T, SendError>,
    ) -> Result<T, SendError> {
        self.note(what, chat, text);
        let fault = {
            let mut state = self.state.lock();
            let at = state.faults.iter().position(|(of, _)| *of == what);
            at.and_then(|at| state.faults.remove(at)).map(|(_, fault)| fault)
        };
        sleep(DONE_AFTER).await;
        match fault {
            Some(Fault::TooMuch(after)) => {
                return Err(SendError::Later { why: "too much".into(), after: Some(after) });
            }
            Some(Fault::Hang) => return std::future::pending().await,
            Some(Fault::Refused) => return Err(SendError::Refused("no".into())),
            None => {}
        }
        let result = act();
        sleep(CALL - DONE_AFTER).await;
        result
    }

    fn put(&self, outgoing: &Outgoing) -> Result<String, SendError> {
        assert!(outgoing.text.chars().count() <= self.text_limit && !outgoing.text.is_empty());
        let mut state = self.state.lock();
        if let Some(edited) = &outgoing.edits {
            let post = state.posts.iter_mut().find(|post| post.id == *edited);
            let post = post.ok_or_else(|| SendError::Refused("there is no such message".into()))?;
            post.text.clone_from(&outgoing.text);
            return Ok(edited.clone());
        }
        let known = state.posts.iter().find(|post| self.idempotent && post.name == outgoing.id);
        if let Some(known) = known {
            return Ok(known.id.clone());
        }
        state.count += 1;
        let id = state.count.to_string();
        state.posts.push(Post {
            id: id.clone(),
            chat: outgoing.to.chat.clone(),
            text: outgoing.text.clone(),
            name: outgoing.id.clone(),
        });
        Ok(id)
    }

    fn take_back(&self, message: &str) -> Result<(), SendError> {
        let mut state = self.state.lock();
        let before = state.posts.len();
        state.posts.retain(|post| post.id != message);
        let gone = state.posts.len() < before;
        gone.then_some(()).ok_or_else(|| SendError::Refused("there is no such message".into()))
    }
}

/// The board as a channel; a gateway has it for as long as it lives.
pub struct Hung(pub Arc<Board>);

impl Channel for Hung {
    fn name(&self) -> &str {
        "board"
    }

    fn label(&self) -> &str {
        "Board"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            idempotent: self.0.idempotent,
            edits: Some(EditLimit { every: EVERY, in_groups: IN_GROUPS, drafts: true }),
            typing: Some(TYPING),
            silence: Duration::from_secs(100_000),
            ..Capabilities::texts(self.0.text_limit)
        }
    }

    fn check(&self, _: &Account) -> Result<(), String> {
        Ok(())
    }

    fn run(self: Arc<Self>, _: Account, link: Link, mut orders: Orders) -> BoxFuture<'static, Trouble> {
        Box::pin(async move {
            let _ = link.say(Heard::Connected(None)).await;
            self.0.state.lock().link = Some(link);
            let mut going = JoinSet::new();
            loop {
                tokio::select! {
                    Some(order) = orders.recv() => drop(going.spawn(self.0.clone().carry_out(order))),
                    Some(_) = going.join_next() => {}
                    else => return Trouble::Retry("it was stopped".into()),
                }
            }
        })
    }
}

//! The gateway's side of one account of a channel, for tests of the channel alone.

use crabtree_actors::channels::contract::{
    Account, Address, Channel, Envelope, Heard, Kind, Link, Order, Outgoing, SendError, Sent, Trouble,
};
use serde_json::Value;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use uuid::Uuid;

/// How long a test waits for something that must come.
const PATIENCE: Duration = Duration::from_secs(10);

pub struct Desk {
    heard: mpsc::Receiver<Heard>,
    orders: mpsc::Sender<Order>,
    running: JoinHandle<Trouble>,
    /// News that no test has asked for yet.
    news: VecDeque<Heard>,
    /// The last place to go on at.
    pub checkpoint: Option<String>,
}

impl Desk {
    /// Runs the channel's account with these settings.
    pub fn open(channel: Arc<dyn Channel>, settings: Value) -> Self {
        Self::resume(channel, settings, None)
    }

    /// The same after a restart.
    pub fn resume(channel: Arc<dyn Channel>, settings: Value, checkpoint: Option<String>) -> Self {
        let (to_desk, heard) = mpsc::channel(64);
        let (orders, to_channel) = mpsc::channel(64);
        let link = Link::new(to_desk, Arc::new(AtomicI64::new(0)), Arc::new(|| 0), checkpoint.clone());
        let account = Account { id: "default".into(), settings };
        channel.check(&account).expect("these settings are fine");
        let running = tokio::spawn(channel.run(account, link, to_channel));
        Self { heard, orders, running, news: VecDeque::new(), checkpoint }
    }

    /// The next message, which is durable then.
    pub async fn message(&mut self) -> Envelope {
        let (envelope, durable) = self.unacknowledged().await;
        durable.send(()).expect("the channel waits for it");
        envelope
    }

    /// The next message; what it comes with makes it durable.
    pub async fn unacknowledged(&mut self) -> (Envelope, oneshot::Sender<()>) {
        match self.next(|news| matches!(news, Heard::Message(..))).await {
            Heard::Message(envelope, durable) => (*envelope, durable),
            _ => unreachable!("it was chosen"),
        }
    }

    /// The next news that this is true of. Checkpoints are kept meanwhile.
    pub async fn next(&mut self, is_it: impl Fn(&Heard) -> bool) -> Heard {
        if let Some(at) = self.news.iter().position(&is_it) {
            return self.news.remove(at).expect("it was found there");
        }
        loop {
            let news = timeout(PATIENCE, self.heard.recv()).await.expect("it comes in time");
            match news.expect("the channel runs") {
                Heard::Checkpoint(place, durable) => {
                    self.checkpoint = Some(place);
                    let _ = durable.send(());
                }
                news if is_it(&news) => return news,
                news => self.news.push_back(news),
            }
        }
    }

    /// Nothing is handed in for this long.
    pub async fn hears_no_message(&mut self, time: Duration) {
        let message = self.next(|news| matches!(news, Heard::Message(..)));
        if let Ok(Heard::Message(envelope, _)) = timeout(time, message).await {
            panic!("a message nobody expected: {envelope:?}");
        }
    }

    /// Sends a text; what became of it.
    pub async fn send(&self, to: Address, text: &str) -> Result<Sent, SendError> {
        self.order(Outgoing {
            id: Uuid::now_v7().to_string(),
            to,
            text: text.into(),
            reply_to: None,
            edits: None,
            buttons: vec![],
            attachments: vec![],
        })
        .await
    }

    /// Sends a message; what became of it.
    pub async fn order(&self, outgoing: Outgoing) -> Result<Sent, SendError> {
        let (done, sent) = oneshot::channel();
        self.give(Order::Send(Box::new(outgoing), done)).await;
        timeout(PATIENCE, sent).await.expect("it is answered in time").expect("it is answered")
    }

    /// Gives an order.
    pub async fn give(&self, order: Order) {
        self.orders.send(order).await.expect("the channel runs");
    }

    /// Why it has ended.
    pub async fn ended(self) -> Trouble {
        timeout(PATIENCE, self.running).await.expect("it ends in time").expect("it does not panic")
    }

    /// It is killed; where it would go on.
    pub fn kill(self) -> Option<String> {
        self.running.abort();
        self.checkpoint
    }
}

/// A direct chat.
pub fn direct(chat: &str) -> Address {
    Address { chat_type: Kind::Direct, chat: chat.into(), thread: None }
}

/// A group.
pub fn group(chat: &str) -> Address {
    Address { chat_type: Kind::Group, chat: chat.into(), thread: None }
}

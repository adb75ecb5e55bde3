//! **Owns** the roster: who hears events, and their subscriptions.
//! **Hears** of joins, departures and subscriptions; **tells** the Estate the new roster.
//! **On crash** nothing is lost: connections and subscriptions live in the Estate, and its first act is to
//! make the roster anew. Publishing needs no actor: it runs in the publisher, through the roster.

use crate::conns::{Conn, MAX_MESSAGE_SUBSCRIPTIONS};
use crate::estate::Estate;
use crate::tree::*;
use crabtree_protocol::SessionKey;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// How long who has left stays on the roster: nothing is sent to them any more, and it need not be made anew
/// for each of many that leave.
const SWEEP: Duration = Duration::from_millis(100);

/// What a connection wants to hear, or not any more.
#[derive(Clone, Debug)]
pub enum Topic {
    /// `sessions.subscribe`
    Sessions,
    /// `sessions.messages.subscribe`
    Messages(SessionKey),
    /// `sessions.messages.unsubscribe`
    NotMessages(SessionKey),
}

/// What the broadcast actor hears.
pub enum BroadcastMsg {
    /// An admitted connection is to hear events from now on.
    Join(Reply<()>),
    /// A connection has ended.
    Left,
    /// Time to take who has left off the roster.
    Sweep,
    /// Subscribes; answered when it is in force, with false at the limit of [`MAX_MESSAGE_SUBSCRIPTIONS`].
    Subscribe(Arc<Conn>, Topic, Reply<bool>),
}

/// See the module.
pub struct Broadcast {
    estate: Arc<Estate>,
    sweep: Option<Timer>,
}

impl Behavior for Broadcast {
    type Msg = BroadcastMsg;
    type Args = Arc<Estate>;
    const KIND: &'static str = "broadcast";

    fn start(ctx: &mut Ctx<BroadcastMsg>, estate: Arc<Estate>) -> Result<Self, Fault> {
        let mut this = Self { estate, sweep: None };
        this.publish(ctx);
        Ok(this)
    }

    fn handle(&mut self, ctx: &mut Ctx<BroadcastMsg>, msg: BroadcastMsg) -> Result<(), Fault> {
        match msg {
            BroadcastMsg::Join(joined) => {
                self.publish(ctx);
                joined.send(());
            }
            BroadcastMsg::Left => {
                self.sweep.get_or_insert_with(|| ctx.after(SWEEP, BroadcastMsg::Sweep));
            }
            BroadcastMsg::Sweep => self.publish(ctx),
            BroadcastMsg::Subscribe(conn, topic, done) => done.send(subscribe(&conn, topic)),
        }
        Ok(())
    }
}

impl Broadcast {
    fn publish(&mut self, ctx: &Ctx<BroadcastMsg>) {
        self.sweep = None;
        let listeners = self.estate.conns.publish_roster();
        ctx.publish_info(json!({ "listeners": listeners, "maxSubscriptions": MAX_MESSAGE_SUBSCRIPTIONS }));
    }
}

fn subscribe(conn: &Conn, topic: Topic) -> bool {
    match topic {
        Topic::Sessions => conn.subscribe_sessions(),
        Topic::Messages(key) => return conn.subscribe_messages(key),
        Topic::NotMessages(key) => conn.unsubscribe_messages(&key),
    }
    true
}

//! A platform without sockets, and the channel that speaks to it. It keeps what was written until it was received, and
//! everything that it was sent; and it fails as its seed says.

use crabtree_actors::channels::contract::{
    Account, Address, Capabilities, Channel, Envelope, Heard, Kind, Link, Order, Orders, Outgoing, Place,
    SendError, Sender, Sent, Trouble,
};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeSet;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::interval;

/// The channel's name.
pub const NAME: &str = "talk";
/// How long it may be silent.
const SILENCE: Duration = Duration::from_secs(7);
/// How often its code may end in a story: the sixth time within a minute would park it.
const MAX_DEATHS: u32 = 3;

/// Somebody has written this.
#[derive(Clone, Debug)]
pub struct Written {
    pub id: String,
    pub chat: String,
}

pub struct Platform {
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    rng: StdRng,
    deaths: u32,
    /// Written, and not known to have been received.
    open: Vec<Written>,
    /// Ids of what was sent, as often as it was.
    shown: Vec<String>,
    /// Ids of which was said that nobody knows, or nothing.
    doubtful: BTreeSet<String>,
}

/// What goes wrong with a message that is sent.
enum Slip {
    Later,
    Unknown,
    Panic,
    Hang,
}

impl Platform {
    pub fn new(seed: u64) -> Arc<Self> {
        let rng = StdRng::seed_from_u64(seed ^ 0x7461_6c6b);
        let state = State { rng, deaths: 0, open: Vec::new(), shown: Vec::new(), doubtful: BTreeSet::new() };
        Arc::new(Self { state: Mutex::new(state), changed: Notify::new() })
    }

    pub fn write(&self, written: Written) {
        self.state.lock().open.push(written);
        self.changed.notify_one();
    }

    pub fn unreceived(&self) -> Vec<String> {
        self.state.lock().open.iter().map(|written| written.id.clone()).collect()
    }

    pub fn shown(&self) -> Vec<String> {
        self.state.lock().shown.clone()
    }

    pub fn doubtful(&self) -> BTreeSet<String> {
        self.state.lock().doubtful.clone()
    }

    fn chance(&self, percent: f64) -> bool {
        self.state.lock().rng.random_bool(percent / 100.0)
    }

    /// Whether its code ends now.
    fn dies(&self) -> bool {
        let mut state = self.state.lock();
        let dies = state.deaths < MAX_DEATHS && state.rng.random_bool(0.05);
        state.deaths += u32::from(dies);
        dies
    }

    fn slip(&self) -> Option<Slip> {
        match self.state.lock().rng.random_range(0..100) {
            0..8 => Some(Slip::Later),
            8..12 => Some(Slip::Unknown),
            12..15 => Some(Slip::Panic),
            15..18 => Some(Slip::Hang),
            _ => None,
        }
    }

    /// Hands in what was written, until there is no gateway.
    async fn hand_in(&self, link: &Link) -> Trouble {
        loop {
            let Some(written) = self.state.lock().open.first().cloned() else {
                self.changed.notified().await;
                continue;
            };
            assert!(!self.dies(), "it was told, and not handed in");
            for _ in 0..if self.chance(10.0) { 2 } else { 1 } {
                if link.receive(envelope(&written)).await.is_err() {
                    return Trouble::Retry("stopped".into());
                }
            }
            assert!(!self.dies(), "it is durable, and the platform was not told so");
            self.state.lock().open.retain(|other| other.id != written.id);
        }
    }

    async fn send(&self, outgoing: &Outgoing) -> Result<Sent, SendError> {
        let (slip, taken) = (self.slip(), self.chance(50.0));
        let sent = Ok(Sent { id: outgoing.id.clone() });
        if let Some(Slip::Later) = slip {
            return Err(SendError::Later { why: "too much".into(), after: Some(Duration::from_millis(300)) });
        }
        let may_die = {
            let mut state = self.state.lock();
            if slip.is_none() || taken {
                state.shown.push(outgoing.id.clone());
            }
            if slip.is_some() {
                state.doubtful.insert(outgoing.id.clone());
            }
            let may_die = state.deaths < MAX_DEATHS && matches!(slip, Some(Slip::Panic | Slip::Hang));
            state.deaths += u32::from(may_die);
            may_die
        };
        match slip {
            Some(Slip::Panic) if may_die => panic!("while it was sending"),
            Some(Slip::Hang) if may_die => pending().await,
            Some(_) => Err(SendError::Unknown("cut".into())),
            None => sent,
        }
    }

    async fn live(&self, link: Link, mut orders: Orders) -> Trouble {
        let _ = link.say(Heard::Connected(None)).await;
        let mut hand_in = std::pin::pin!(self.hand_in(&link));
        let mut beat = interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                biased;
                trouble = &mut hand_in => return trouble,
                order = orders.recv() => match order {
                    None => return Trouble::Retry("stopped".into()),
                    Some(Order::Send(outgoing, done)) => drop(done.send(self.send(&outgoing).await)),
                    Some(Order::Typing(_) | Order::React { .. } | Order::Act { .. }) => {}
                },
                _ = beat.tick() => link.alive(),
            }
        }
    }
}

fn envelope(written: &Written) -> Envelope {
    Envelope {
        id: written.id.clone(),
        from: Sender { id: written.chat.clone(), ..Sender::default() },
        at: Address { chat_type: Kind::Direct, chat: written.chat.clone(), thread: None },
        place: Place::default(),
        text: format!("{} says hello", written.id),
        attachments: Vec::new(),
        mentions_me: false,
        replies_to_me: false,
        quote: None,
        at_ms: 0,
    }
}

/// The channel.
pub struct Talk(pub Arc<Platform>);

impl Channel for Talk {
    fn name(&self) -> &str {
        NAME
    }

    fn label(&self) -> &str {
        "Talk"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { silence: SILENCE, ..Capabilities::texts(4_000) }
    }

    fn check(&self, _: &Account) -> Result<(), String> {
        Ok(())
    }

    fn run(self: Arc<Self>, _: Account, link: Link, orders: Orders) -> BoxFuture<'static, Trouble> {
        Box::pin(async move { self.0.live(link, orders).await })
    }
}

//! Where drivers on other hosts come in: the accounts that wait for one, and the way from a WebSocket to them; and what
//! all drivers have said that they can, which outlives their accounts.

use super::abilities::Told;
use super::guest::{Admitted, Guest, Packet, Terms, Verdict, unwrap, wrap};
use super::sealed::{LinkKey, Opener, Sealer};
use super::session::Session;
use super::talk::{HEARTBEAT, Line, SILENCE, Wire, stopped};
use super::wall_ms;
use crate::channels::contract::{Heard, Link, Order, Orders, SendError, Trouble};
use crabtree_protocol::driver::unauthorized;
use crabtree_protocol::frame::Close;
use futures_util::{Sink, SinkExt, Stream, StreamExt, stream};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{interval, timeout};
use tokio_util::sync::PollSender;

/// How long a guest may take to say who it is.
const GREETING: Duration = Duration::from_secs(10);
/// Frames on their way between a WebSocket and its account, each way.
const ON_THE_WAY: usize = 4;

/// See the module. Cheap to copy.
#[derive(Clone, Default)]
pub struct Doors(Arc<Inside>);

#[derive(Default)]
struct Inside {
    key: Option<LinkKey>,
    opened: AtomicU64,
    /// By the account's name for drivers.
    plates: Mutex<HashMap<String, Plate>>,
    told: Told,
}

/// What stands on a door.
struct Plate {
    number: u64,
    terms: Terms,
    come_in: mpsc::Sender<Arrival>,
}

/// A driver that has come in, and its link.
struct Arrival {
    session: Session,
    welcome: String,
    lines: mpsc::Receiver<Line>,
    frames: mpsc::Sender<String>,
}

impl Doors {
    /// Doors where links can be sealed with this key of the gateway.
    pub fn new(key: LinkKey) -> Self {
        Self(Arc::new(Inside { key: Some(key), ..Inside::default() }))
    }

    /// Serves a WebSocket at `/driver`; how it is to be closed then. Its messages are to be no larger than
    /// [`crabtree_protocol::driver::MAX_FRAME`] and 16 bytes.
    pub async fn serve(
        &self,
        mut incoming: impl Stream<Item = Packet> + Send + Unpin,
        mut outgoing: impl Sink<Packet> + Send + Unpin,
    ) -> Close {
        let greeted = timeout(GREETING, self.greet(&mut incoming, &mut outgoing)).await;
        let (admitted, door) = match greeted.unwrap_or_else(|_| Err(unauthorized())) {
            Ok(admitted) => admitted,
            Err(close) => return close,
        };
        let Admitted { session, opener, sealer, welcome } = *admitted;
        let (to_account, lines) = mpsc::channel(ON_THE_WAY);
        let (frames, from_account) = mpsc::channel(ON_THE_WAY);
        if door.send_timeout(Arrival { session, welcome, lines, frames }, GREETING).await.is_err() {
            return unauthorized();
        }
        tokio::select! {
            close = carry_in(incoming, opener, to_account) => close,
            close = carry_out(from_account, sealer, outgoing) => close,
        }
    }

    async fn greet(
        &self,
        incoming: &mut (impl Stream<Item = Packet> + Send + Unpin),
        outgoing: &mut (impl Sink<Packet> + Send + Unpin),
    ) -> Result<(Box<Admitted>, mpsc::Sender<Arrival>), Close> {
        let find = |who: &str| self.0.plates.lock().get(who).map(|plate| plate.terms.clone());
        let mut guest = Guest::new(&find, self.0.key.as_ref(), wall_ms);
        loop {
            let packet = incoming.next().await.ok_or_else(unauthorized)?;
            let (said, close) = match guest.hear(&packet) {
                Verdict::Answer(answer) => (Some(answer), None),
                Verdict::Out(last, close) => (last, Some(close)),
                Verdict::In(admitted) => {
                    let plates = self.0.plates.lock();
                    let plate = plates.get(admitted.session.client_id()).ok_or_else(unauthorized)?;
                    return Ok((admitted, plate.come_in.clone()));
                }
            };
            if let Some(packet) = said {
                outgoing.send(packet).await.map_err(|_| unauthorized())?;
            }
            if let Some(close) = close {
                return Err(close);
            }
        }
    }

    /// What drivers have said that they can.
    pub(super) fn told(&self) -> Told {
        self.0.told.clone()
    }

    /// Opens the door of an account, in the place of one that it had before.
    pub(super) fn open(&self, terms: Terms) -> Result<Door, String> {
        if terms.pinned.is_some() && self.0.key.is_none() {
            return Err("the driver's link is to be sealed, and this gateway has no key for that".into());
        }
        let (come_in, arrivals) = mpsc::channel(1);
        let number = self.0.opened.fetch_add(1, Relaxed);
        let client_id = terms.client_id.clone();
        self.0.plates.lock().insert(client_id.clone(), Plate { number, terms, come_in });
        Ok(Door { doors: self.clone(), client_id, number, arrivals })
    }
}

/// Carries what comes to the account.
async fn carry_in(
    mut incoming: impl Stream<Item = Packet> + Unpin,
    mut opener: Option<Opener>,
    to_account: mpsc::Sender<Line>,
) -> Close {
    while let Some(packet) = incoming.next().await {
        match unwrap(opener.as_mut(), packet) {
            Ok(frame) => {
                if to_account.send(Line::Frame(frame)).await.is_err() {
                    return replaced();
                }
            }
            Err(close) => return close,
        }
    }
    Close::new(1000, "")
}

/// Carries what the account says to the driver.
async fn carry_out(
    mut from_account: mpsc::Receiver<String>,
    mut sealer: Option<Sealer>,
    mut outgoing: impl Sink<Packet> + Unpin,
) -> Close {
    while let Some(frame) = from_account.recv().await {
        let Some(packet) = wrap(sealer.as_mut(), frame) else { break };
        // The account gives up who does not read, too, and cannot say so here.
        if !matches!(timeout(SILENCE, outgoing.send(packet)).await, Ok(Ok(()))) {
            break;
        }
    }
    replaced()
}

/// The account was stopped, or another driver has come in for it.
fn replaced() -> Close {
    Close::new(1012, "service restart")
}

/// The door of an account.
pub(super) struct Door {
    doors: Doors,
    client_id: String,
    number: u64,
    arrivals: mpsc::Receiver<Arrival>,
}

impl Drop for Door {
    fn drop(&mut self) {
        let mut plates = self.doors.0.plates.lock();
        if plates.get(&self.client_id).is_some_and(|plate| plate.number == self.number) {
            plates.remove(&self.client_id);
        }
    }
}

impl Door {
    /// Waits for a driver and serves it, and then for the next; a newer one takes the place of an older.
    pub async fn serve(mut self, link: &Link, orders: &mut Orders) -> Result<Infallible, Trouble> {
        let mut why = "no driver has connected at /driver yet".to_owned();
        loop {
            let told = link.say(Heard::Disconnected(std::mem::take(&mut why))).await;
            told.map_err(|_| stopped())?;
            let mut next = Some(self.empty(link, orders).await?);
            while let Some(arrival) = next.take() {
                tokio::select! {
                    trouble = arrival.serve(link, orders) => match trouble {
                        Trouble::Fatal(_) => return Err(trouble),
                        Trouble::Retry(ended) => why = ended,
                    },
                    newer = self.arrivals.recv() => next = newer,
                }
            }
        }
    }

    /// While there is no driver.
    async fn empty(&mut self, link: &Link, orders: &mut Orders) -> Result<Arrival, Trouble> {
        let mut waiting = interval(HEARTBEAT);
        loop {
            tokio::select! {
                arrival = self.arrivals.recv() => return arrival.ok_or_else(stopped),
                order = orders.recv() => refuse(order.ok_or_else(stopped)?),
                // It does what it should.
                _ = waiting.tick() => link.alive(),
            }
        }
    }
}

fn refuse(order: Order) {
    let later = || SendError::Later { why: "no driver is connected".into(), after: None };
    // Who has gone meanwhile does not mind.
    match order {
        Order::Send(_, done) => drop(done.send(Err(later()))),
        Order::React { done, .. } => drop(done.send(Err(later()))),
        Order::Act { done, .. } => drop(done.send(Err(later()))),
        Order::Typing(_) => {}
    }
}

impl Arrival {
    async fn serve(self, link: &Link, orders: &mut Orders) -> Trouble {
        let Self { session, welcome, mut lines, frames } = self;
        let incoming = stream::poll_fn(move |context| lines.poll_recv(context)).boxed();
        let outgoing = Box::pin(PollSender::new(frames).sink_map_err(io::Error::other));
        let mut wire = Wire { incoming, outgoing };
        match wire.say(welcome).await {
            Ok(()) => wire.talk(session, link, orders).await,
            Err(trouble) => trouble,
        }
    }
}

#[cfg(test)]
#[path = "doors_tests.rs"]
mod tests;

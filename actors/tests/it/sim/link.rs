//! A client's connection without a socket: this task plays the part of `src/socket.rs` and of the client
//! behind it.

use super::errand::{COMMAND, Errands, Next};
use super::trace::Trace;
use super::wire::{Topic, Wire};
use crate::planting::TOKEN;
use bytes::Bytes;
use crabtree_actors::connection::ConnectionMsg;
use crabtree_actors::connections::ConnectionsMsg;
use crabtree_actors::conns::{Conn, Peer};
use crabtree_actors::gateway::Wiring;
use crabtree_actors::outbox::{Item, Outgoing, Spool};
use crabtree_actors::tree::Slot;
use crabtree_protocol::ConnId;
use crabtree_protocol::client::encode_request;
use crabtree_protocol::frame::Close;
use crabtree_protocol::proof::DeviceKey;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// The key of a client's device.
pub fn key_of(client: usize) -> DeviceKey {
    DeviceKey::from_seed(&[client as u8 + 1; 32])
}

enum Order {
    Send(Bytes),
    HangUp,
    Hurry,
}

/// One connection of a client.
pub struct Link {
    pub name: String,
    pub id: ConnId,
    pub client: usize,
    pub wire: Mutex<Wire>,
    /// Gone when the connection is: nothing may keep it.
    pub conn: Weak<Conn>,
    /// Its end was asked for, by the client or by a fault.
    pub doomed: Mutex<bool>,
    trace: Arc<Mutex<Trace>>,
    orders: mpsc::UnboundedSender<Order>,
}

/// How a client drains and introduces itself.
#[derive(Clone, Copy)]
pub struct Manner {
    pub slow: Option<(usize, u64)>,
    pub device: bool,
    pub node: bool,
    pub subscribes: bool,
    /// It is there before anything is said.
    pub from_start: bool,
}

impl Link {
    /// Opens the `nth` connection of the simulation.
    pub fn open(
        wiring: &Arc<Wiring>,
        trace: &Arc<Mutex<Trace>>,
        (client, nth): (usize, usize),
        manner: Manner,
    ) -> Arc<Self> {
        let id = ConnId::from_u128(nth as u128 + 1);
        let peer = Peer::new([127, 0, 0, 1].into());
        let (conn, items) = wiring.store.estate.conns.open(id, peer);
        let (orders, rx) = mpsc::unbounded_channel();
        let link = Arc::new(Self {
            name: format!("c{client}/{nth}"),
            id,
            client,
            wire: Mutex::new(Wire::new(manner.from_start, manner.node)),
            conn: Arc::downgrade(&conn),
            doomed: Mutex::new(false),
            trace: trace.clone(),
            orders,
        });
        let serve = Serve {
            link: link.clone(),
            conn,
            wiring: wiring.clone(),
            trace: trace.clone(),
            manner,
            spool: Spool::default(),
            waiting: VecDeque::new(),
            errands: Errands::default(),
        };
        tokio::spawn(serve.run(items, rx));
        link
    }

    pub fn ask(&self, topic: Topic, method: &str, params: &Value) -> String {
        let mut wire = self.wire.lock();
        let id = format!("{}-{}", self.name, wire.requests.len());
        wire.asked(id.clone(), topic, self.trace.lock().lines.len());
        let frame = encode_request(&id, method, Some(params.to_string().as_bytes()));
        let _ = self.orders.send(Order::Send(frame.into()));
        id
    }

    pub fn hang_up(&self) {
        *self.doomed.lock() = true;
        let _ = self.orders.send(Order::HangUp);
    }

    /// A slow client drains everything from now on.
    pub fn hurry(&self) {
        let _ = self.orders.send(Order::Hurry);
    }

    pub fn is_open(&self) -> bool {
        self.wire.lock().closed.is_none() && !*self.doomed.lock()
    }

    pub fn is_ready(&self) -> bool {
        self.is_open() && self.wire.lock().ready
    }
}

struct Serve {
    link: Arc<Link>,
    conn: Arc<Conn>,
    wiring: Arc<Wiring>,
    trace: Arc<Mutex<Trace>>,
    manner: Manner,
    spool: Spool,
    waiting: VecDeque<Bytes>,
    errands: Errands,
}

impl Serve {
    async fn run(
        mut self,
        mut items: mpsc::UnboundedReceiver<Item>,
        mut orders: mpsc::UnboundedReceiver<Order>,
    ) {
        let conn = self.conn.clone();
        let actor = Slot::default();
        let open = |reply| ConnectionsMsg::Open(conn.clone(), actor.clone(), reply);
        self.wiring.connections.ask(open).await;
        actor.newer_than(0).await;
        self.serve(&actor, &mut items, &mut orders).await;
        // As the socket does: what is queued is taken, the close frame above all.
        self.take(std::iter::from_fn(|| items.try_recv().ok()));
        let _ = actor.send(ConnectionMsg::Gone);
        self.link.wire.lock().closed.get_or_insert((0, "the client hung up".into()));
    }

    async fn serve(
        &mut self,
        actor: &Slot<ConnectionMsg>,
        items: &mut mpsc::UnboundedReceiver<Item>,
        orders: &mut mpsc::UnboundedReceiver<Order>,
    ) {
        let cut = self.conn.outbox.cut_off();
        let mut batch = Vec::new();
        let mut next_drain = Instant::now();
        loop {
            let most = self.manner.slow.map_or(64, |(most, _)| most);
            tokio::select! {
                biased;
                () = cut.cancelled() => return,
                order = orders.recv() => match order {
                    Some(Order::Send(frame)) => self.waiting.push_back(frame),
                    Some(Order::Hurry) => self.manner.slow = None,
                    Some(Order::HangUp) | None => return,
                },
                permit = self.conn.permits.clone().acquire_owned(), if !self.waiting.is_empty() => {
                    let (Ok(permit), Some(frame)) = (permit, self.waiting.pop_front()) else { return };
                    if actor.send(ConnectionMsg::Frame(frame, permit)).is_err() {
                        return;
                    }
                }
                () = sleep_until(self.errands.next().unwrap_or(next_drain)), if self.errands.next().is_some() => {
                    for params in self.errands.results(key_of(self.link.client).device_id().as_str()) {
                        self.link.ask(Topic::Other, "node.invoke.result", &params);
                    }
                }
                () = sleep_until(next_drain), if self.manner.slow.is_some() && next_drain > Instant::now() => {}
                taken = items.recv_many(&mut batch, most),
                    if self.manner.slow.is_none() || next_drain <= Instant::now() =>
                {
                    if taken == 0 || !self.take(batch.drain(..)) {
                        return;
                    }
                    // Nobody is slow before it is let in: that would end at the handshake's deadline.
                    if let Some((_, pause)) = self.manner.slow.filter(|_| self.link.wire.lock().ready) {
                        next_drain = Instant::now() + Duration::from_millis(pause);
                    }
                }
            }
        }
    }

    /// False at the close frame.
    fn take(&mut self, batch: impl Iterator<Item = Item>) -> bool {
        let mut frames = Vec::new();
        let bytes = self.spool.take_batch(batch, &mut |frame| frames.push(frame));
        self.conn.outbox.sent(bytes);
        self.read(frames);
        self.link.wire.lock().closed.is_none()
    }

    fn read(&mut self, frames: Vec<Outgoing>) {
        let now = self.wiring.store.estate.clock.now_ms();
        for frame in frames {
            let bytes = match frame {
                Outgoing::Text(text) => text,
                Outgoing::Event(event, seq) => event.body.encode(Some(seq)),
                Outgoing::Close(Close { code, reason }) => {
                    self.trace.lock().note(now, &self.link.name, &format!("close {code} {reason}"));
                    self.link.wire.lock().closed = Some((code, reason));
                    return;
                }
            };
            let text = std::str::from_utf8(&bytes).unwrap();
            let seen = self.trace.lock().note(now, &self.link.name, text);
            let parsed = self.link.wire.lock().read(text, seen);
            if let Some(frame) = parsed {
                self.react(&frame);
            }
        }
    }

    /// The client's side of the handshake.
    fn react(&mut self, frame: &Value) {
        if frame["event"] == "connect.challenge" {
            let params = self.connect_params(&frame["payload"]).to_string();
            self.waiting.push_back(encode_request("connect", "connect", Some(params.as_bytes())).into());
        } else if frame["id"] == "connect" {
            let mut wire = self.link.wire.lock();
            wire.ready = frame["ok"] == true;
            if !wire.ready {
                wire.problems.push(format!("not let in: {frame}"));
            }
            drop(wire);
            if self.manner.subscribes {
                self.link.ask(Topic::Other, "sessions.subscribe", &json!({}));
            }
        } else if frame["event"] == "node.invoke.request" {
            let (n, next) = self.errands.take(&frame["payload"]);
            if !matches!(next, Next::Waits) {
                *self.link.wire.lock().begun.entry(n).or_default() += 1;
            }
            if matches!(next, Next::HangsUp) {
                self.link.hang_up();
            }
        } else if frame["event"] == "node.invoke.cancel" {
            self.errands.cancel(frame["payload"]["invokeId"].as_str().unwrap_or_default());
        }
    }

    fn connect_params(&self, challenge: &Value) -> Value {
        let (id, mode, role, scopes) = match self.manner {
            Manner { node: true, .. } => ("node-host", "node", "node", vec![]),
            Manner { device: true, .. } => ("openclaw-tui", "ui", "operator", vec!["operator.admin"]),
            _ => ("cli", "cli", "operator", vec!["operator.admin"]),
        };
        let commands = self.manner.node.then_some([COMMAND]);
        let mut params = json!({
            "minProtocol": 4,
            "maxProtocol": 4,
            "client": { "id": id, "mode": mode, "version": "0", "platform": "linux" },
            "caps": [],
            "role": role,
            "scopes": scopes,
            "auth": { "token": TOKEN },
        });
        if let Some(commands) = commands {
            params["commands"] = json!(commands);
        }
        if !self.manner.device {
            return params;
        }
        let mut typed = serde_json::from_value(params).unwrap();
        let (nonce, ts) = (challenge["nonce"].as_str().unwrap(), challenge["ts"].as_u64().unwrap());
        key_of(self.link.client).sign_device(&mut typed, nonce, ts);
        serde_json::to_value(typed).unwrap()
    }
}

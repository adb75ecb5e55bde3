//! One WebSocket: messages to the connection's actor, frames of its outbox to the client. One task reads,
//! writes and pings, so that nothing is locked between the two directions.

use crate::frame_gate::{FrameGate, is_violation};
use crate::line::Line;
use crate::pace::Pace;
use crate::prompt::Prompt;
use crate::wire::Wire;
use bytes::Bytes;
use crabtree_actors::connection::ConnectionMsg;
use crabtree_actors::connections::ConnectionsMsg;
use crabtree_actors::conns::{Conn, Peer};
use crabtree_actors::estate::Estate;
use crabtree_actors::gateway::Wiring;
use crabtree_actors::outbox::{Item, Outgoing, Spool};
use crabtree_actors::tree::Slot;
use crabtree_protocol::ConnId;
use crabtree_protocol::frame::{Close, MAX_PAYLOAD};
use futures_util::{FutureExt, SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, interval_at, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_util::sync::CancellationToken;

/// Items taken from the outbox at once.
const BATCH: usize = 128;
/// The library's buffer for what is read. It zero-fills what it reads into, and keeps as much as it began with.
const FRAME_BUFFER: usize = 256;
/// What is read at once of what nobody will look at.
const REST: usize = 4 * 1024;
/// How long a connection may take to get its actor.
const OPEN_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a client may take none of its bytes before it is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the client may take to answer our close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Reads frames, and answers pings and closes; what is said otherwise goes past it, through a [`Wire`].
type Ws = WebSocketStream<FrameGate<Line>>;

/// Runs a socket to its end. What opening needs is in a place of its own, which nobody has to keep.
pub fn run(upgraded: Upgraded, peer: Peer, wiring: Arc<Wiring>) -> impl Future<Output = ()> {
    let opening = Box::pin(open(upgraded, peer, wiring));
    async move {
        if let Some(mut socket) = opening.await {
            socket.serve().await;
        }
    }
}

/// Makes a connection of a socket. None if it does not get its actor.
async fn open(upgraded: Upgraded, peer: Peer, wiring: Arc<Wiring>) -> Option<Box<Socket>> {
    // Only what is needed of `parts` is kept: the rest holds a buffer of 8 KiB.
    let parts = upgraded.downcast::<TokioIo<Prompt<Line>>>().ok()?;
    let (stream, early) = (parts.io.into_inner().into_inner(), parts.read_buf.to_vec());
    let (conn, items) = wiring.store.estate.conns.open(ConnId::random(), peer);
    let gate = FrameGate::new(stream, early, conn.clone());
    let config = WebSocketConfig::default()
        .read_buffer_size(FRAME_BUFFER)
        .max_message_size(Some(MAX_PAYLOAD))
        .max_frame_size(Some(MAX_PAYLOAD))
        .accept_unmasked_frames(false);
    let ws = WebSocketStream::from_raw_socket(gate, Role::Server, Some(config)).await;
    let actor = Slot::default();
    let asked = wiring.connections.ask(|reply| ConnectionsMsg::Open(conn.clone(), actor.clone(), reply));
    if timeout(OPEN_TIMEOUT, asked).await.is_err() {
        wiring.store.estate.conns.forget(conn.id());
        return None;
    }
    let ping_interval_ms = wiring.store.estate.config.load().settings.gateway.ping_interval_ms.max(1);
    Some(Box::new(Socket {
        ws,
        items,
        wire: Wire::default(),
        conn,
        actor,
        held: Vec::new(),
        pace: Pace::default(),
        spool: Spool::default(),
        alive: true,
        farewell: None,
        closed: None,
        ping_interval_ms,
        estate: wiring.store.estate.clone(),
    }))
}

struct Socket {
    ws: Ws,
    items: UnboundedReceiver<Item>,
    wire: Wire,
    conn: Arc<Conn>,
    actor: Slot<ConnectionMsg>,
    /// Taken from the outbox, to be written next.
    held: Vec<Item>,
    pace: Pace,
    spool: Spool,
    /// Whether the last ping was answered.
    alive: bool,
    /// The close frame that was taken from the outbox; it is tried again if the socket was cut meanwhile.
    farewell: Option<Close>,
    /// The code of our close; none if the client has left.
    closed: Option<u16>,
    ping_interval_ms: u64,
    estate: Arc<Estate>,
}

impl Socket {
    async fn serve(&mut self) {
        let period = Duration::from_millis(self.ping_interval_ms);
        let mut ping = interval_at(Instant::now() + period, period);
        let cut = self.conn.outbox.cut_off();
        let mut permit: Option<OwnedSemaphorePermit> = None;
        // The actor may still be starting; until it is there nothing is read.
        self.actor.newer_than(0).await;
        while !cut.is_cancelled() {
            tokio::select! {
                // Who has to wait is not woken by each event either.
                taken = self.items.recv_many(&mut self.held, BATCH), if !self.pace.is_waiting() => {
                    if taken == 0 || !self.may_wait() && !self.write().await {
                        break;
                    }
                }
                () = due(&mut self.pace, &self.conn), if self.pace.is_waiting() => {
                    if !self.write().await {
                        break;
                    }
                }
                free = self.conn.permits.clone().acquire_owned(), if permit.is_none() => {
                    permit = free.ok();
                    // A pong that came meanwhile has not been read yet.
                    self.alive = true;
                }
                message = self.ws.next(), if permit.is_some() => {
                    if !self.read(message, &mut permit) {
                        break;
                    }
                }
                _ = ping.tick() => {
                    // Who has as many requests in flight as may be is not read, and its pongs are not heard.
                    let silent = permit.is_some() && !std::mem::take(&mut self.alive);
                    if silent || !self.ping().await {
                        break;
                    }
                }
                () = cut.cancelled() => break,
            }
        }
        if cut.is_cancelled() {
            Box::pin(self.last_words()).await;
        } else {
            // The answer to a close of the client.
            let _ = timeout(CLOSE_TIMEOUT, self.ws.flush()).await;
        }
        self.estate.meters.closed.count(self.closed);
        let _ = self.actor.send(ConnectionMsg::Gone);
    }

    /// Hands a message to the actor. False at the end of the socket.
    fn read(
        &mut self,
        message: Option<Result<Message, Error>>,
        permit: &mut Option<OwnedSemaphorePermit>,
    ) -> bool {
        let bytes = match message {
            Some(Ok(Message::Text(text))) => Bytes::from(text),
            Some(Ok(Message::Binary(bytes))) => bytes,
            Some(Ok(Message::Pong(_))) => {
                self.alive = true;
                return true;
            }
            Some(Ok(Message::Ping(_) | Message::Frame(_))) => return true,
            Some(Err(Error::Capacity(_))) => return self.too_big(),
            Some(Err(Error::Io(e))) if is_violation(&e) => return self.too_big(),
            Some(Ok(Message::Close(_)) | Err(_)) | None => return false,
        };
        let Some(permit) = permit.take() else { return true };
        self.actor.send(ConnectionMsg::Frame(bytes, permit)).is_ok()
    }

    fn too_big(&self) -> bool {
        self.conn.outbox.cut(Close::too_big());
        true
    }

    /// Whether what is held is nothing but events that come too fast.
    fn may_wait(&mut self) -> bool {
        self.held.iter().all(|item| matches!(item, Item::Event { .. })) && !self.pace.is_free()
    }

    /// Writes what is held, and all that has come since, with one flush. False when the socket is done.
    async fn write(&mut self) -> bool {
        let (mut bytes, mut events) = (0, 0);
        let mut held = std::mem::take(&mut self.held);
        while !held.is_empty() {
            events += held.iter().filter(|item| matches!(item, Item::Event { .. })).count();
            bytes += self.encode(held.drain(..));
            self.items.recv_many(&mut held, BATCH).now_or_never();
        }
        self.held = held;
        let written = written(self.conn.outbox.cut_off(), self.flush()).await;
        self.conn.outbox.sent(bytes);
        self.pace.written(events);
        if written && self.farewell.is_some() {
            Box::pin(self.hang_up()).await;
        }
        written && self.farewell.is_none()
    }

    async fn ping(&mut self) -> bool {
        written(self.conn.outbox.cut_off(), self.ws.send(Message::Ping(Bytes::new()))).await
    }

    /// Puts items on the wire; gives the bytes the outbox may forget when they are written.
    fn encode(&mut self, items: impl Iterator<Item = Item>) -> usize {
        let Self { wire, spool, farewell, closed, .. } = self;
        spool.take_batch(items, &mut |frame| match frame {
            Outgoing::Text(text) => wire.text(text),
            Outgoing::Event(event, seq) => wire.event(&event.body, seq),
            Outgoing::Close(close) => {
                *closed = Some(close.code);
                *farewell = Some(close);
            }
        })
    }

    /// Writes what is on the wire, after what the library has begun to say.
    async fn flush(&mut self) -> Result<(), Error> {
        self.ws.flush().await?;
        Ok(self.wire.flush(self.ws.get_mut()).await?)
    }

    async fn say_farewell(&mut self) -> Result<(), Error> {
        let Some(Close { code, reason }) = self.farewell.clone() else { return Ok(()) };
        let frame = CloseFrame { code: CloseCode::from(code), reason: reason.into() };
        self.ws.send(Message::Close(Some(frame))).await
    }

    /// Says our close, and waits for the client's.
    async fn hang_up(&mut self) {
        let cut = self.conn.outbox.cut_off();
        let both = async {
            if matches!(timeout(WRITE_TIMEOUT, self.say_farewell()).await, Ok(Ok(()))) {
                let answer = async { while let Some(Ok(_)) = self.ws.next().await {} };
                let _ = timeout(CLOSE_TIMEOUT, answer).await;
            }
        };
        tokio::select! {
            () = both => {}
            () = cut.cancelled() => {}
        }
    }

    /// The connection was given up: what is queued is tried for a moment, the close frame above all.
    async fn last_words(&mut self) {
        let mut queued = std::mem::take(&mut self.held);
        queued.extend(std::iter::from_fn(|| self.items.try_recv().ok()));
        let bytes = self.encode(queued.into_iter());
        self.conn.outbox.sent(bytes);
        let words = async {
            if self.flush().await.is_ok() {
                let _ = self.say_farewell().await;
            }
            // Hanging up with input unread would take the close frame back before the client has seen it.
            let mut rest = vec![0; REST];
            while matches!(self.ws.get_mut().ungated().read(&mut rest).await, Ok(1..)) {}
        };
        let _ = timeout(CLOSE_TIMEOUT, words).await;
    }
}

/// Whether it was: a client that takes nothing for too long, or is cut meanwhile, is given up in the middle of it.
async fn written(cut: CancellationToken, writing: impl Future<Output = Result<(), Error>>) -> bool {
    tokio::select! {
        written = timeout(WRITE_TIMEOUT, writing) => matches!(written, Ok(Ok(()))),
        () = cut.cancelled() => false,
    }
}

/// Resolves when events may be written again, or something else is to be.
async fn due(pace: &mut Pace, conn: &Conn) {
    tokio::select! {
        () = pace.resumed() => {}
        () = conn.outbox.urgent() => {}
    }
}

//! The way out to one client: a lock-free queue between whoever has something to say and the socket's writer.
//!
//! Nothing here waits. A responder or publisher pushes from any thread, also while unwinding; the writer
//! takes what has gathered, turns it into frames with a [`Spool`], and flushes once.

use crate::event::Event;
use crate::meters::Backlog;
use crabtree_protocol::frame::{Close, MAX_BUFFERED_BYTES, StateVersion};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::*};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

/// Bytes that may wait for all connections of this process together.
pub const MAX_PROCESS_BUFFERED_BYTES: usize = 64 * 1024 * 1024;

/// Something on its way to a client.
#[derive(Debug)]
pub enum Item {
    /// The hello-ok: the first frame after the challenge, whatever was published meanwhile. It holds presence
    /// and health of at least these versions.
    Hello(Box<(Vec<u8>, StateVersion)>),
    /// A response or a direct event without `seq`, ready to send.
    Frame(Vec<u8>),
    /// A published event; `skip` droppable ones were dropped before it.
    Event {
        /// The event, encoded once for all.
        event: Arc<Event>,
        /// How many `seq` numbers were consumed by dropped events before this one.
        skip: u32,
    },
    /// The last thing said.
    Close(Box<Close>),
}

// A queue has places for 32 of them, also while it is empty.
const _: () = assert!(size_of::<Item>() == 24);

impl Item {
    fn bytes(&self) -> usize {
        match self {
            Self::Hello(hello) => hello.0.len(),
            Self::Frame(frame) => frame.len(),
            Self::Event { event, .. } => event.body.max_len(),
            Self::Close(_) => 0,
        }
    }
}

/// The queue towards one client. At its limit droppable events are dropped (their `seq` is consumed);
/// anything else closes the connection as a slow consumer.
#[derive(Debug)]
pub struct Outbox {
    queue: mpsc::UnboundedSender<Item>,
    buffered: AtomicUsize,
    process: Arc<Backlog>,
    skipped: AtomicU32,
    closing: AtomicBool,
    urgent: Notify,
    cut: CancellationToken,
}

impl Outbox {
    /// An outbox and the end its writer reads. `process` is what waits in all outboxes.
    pub fn new(process: Arc<Backlog>) -> (Self, mpsc::UnboundedReceiver<Item>) {
        let (queue, items) = mpsc::unbounded_channel();
        let outbox = Self {
            queue,
            buffered: AtomicUsize::new(0),
            process,
            skipped: AtomicU32::new(0),
            closing: AtomicBool::new(false),
            urgent: Notify::new(),
            cut: CancellationToken::new(),
        };
        (outbox, items)
    }

    /// Queues the hello-ok.
    pub fn hello(&self, frame: Vec<u8>, version: StateVersion) {
        self.push(Item::Hello(Box::new((frame, version))));
    }

    /// Queues a response, or an event that carries no `seq`.
    pub fn frame(&self, frame: Vec<u8>) {
        self.push(Item::Frame(frame));
    }

    /// Queues a published event.
    pub fn event(&self, event: Arc<Event>) {
        let skip = self.skipped.swap(0, Relaxed);
        self.push(Item::Event { event, skip });
    }

    /// Says goodbye: what is queued before is still sent, nothing after.
    pub fn close(&self, close: Close) {
        if !self.closing.swap(true, AcqRel) {
            self.send(Item::Close(Box::new(close)));
        }
    }

    /// Gives the client up: the writer says why if the socket still takes it, and hangs up.
    pub fn cut(&self, close: Close) {
        self.close(close);
        self.cut.cancel();
    }

    /// Whether a goodbye was said.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Acquire)
    }

    /// Resolves when something else than events has been queued since it last did.
    pub async fn urgent(&self) {
        self.urgent.notified().await;
    }

    /// Resolves when the client was given up.
    pub fn cut_off(&self) -> CancellationToken {
        self.cut.clone()
    }

    /// The writer has sent this many bytes.
    pub fn sent(&self, bytes: usize) {
        self.buffered.fetch_sub(bytes, Relaxed);
        self.process.bytes.fetch_sub(bytes, Relaxed);
    }

    /// Bytes waiting for the client.
    pub fn buffered(&self) -> usize {
        self.buffered.load(Relaxed)
    }

    fn is_full(&self, more: usize) -> bool {
        self.buffered() + more > MAX_BUFFERED_BYTES
            || self.process.bytes.load(Relaxed) + more > MAX_PROCESS_BUFFERED_BYTES
    }

    fn push(&self, item: Item) {
        if self.is_closing() {
            return;
        }
        let bytes = item.bytes();
        if self.is_full(bytes) {
            match item {
                Item::Event { event, skip } if event.droppable => {
                    self.skipped.fetch_add(skip + 1, Relaxed);
                    self.process.dropped.count();
                    return;
                }
                _ if self.buffered() > 0 => {
                    self.process.slow.count();
                    return self.cut(Close::slow_consumer());
                }
                _ => {}
            }
        }
        self.buffered.fetch_add(bytes, Relaxed);
        self.process.bytes.fetch_add(bytes, Relaxed);
        self.send(item);
    }

    fn send(&self, item: Item) {
        let is_urgent = !matches!(item, Item::Event { .. });
        let _ = self.queue.send(item);
        if is_urgent {
            self.urgent.notify_one();
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.process.bytes.fetch_sub(self.buffered(), Relaxed);
    }
}

/// A frame for the socket.
#[derive(Debug)]
pub enum Outgoing {
    /// One WebSocket text message.
    Text(Vec<u8>),
    /// Another: the event, with this `seq`.
    Event(Arc<Event>, u64),
    /// The close frame; nothing follows.
    Close(Close),
}

/// The writer's state: numbers events, and keeps them back until the hello is out.
#[derive(Debug, Default)]
pub struct Spool {
    seq: u64,
    greeted: bool,
    early: Vec<Item>,
}

impl Spool {
    /// Turns what has gathered into frames. A client that is behind gets successive pieces of a text in one
    /// frame; nothing else changes its place. Returns the bytes the outbox may forget once they are written.
    pub fn take_batch(&mut self, batch: impl Iterator<Item = Item>, out: &mut impl FnMut(Outgoing)) -> usize {
        if !self.greeted {
            return batch.map(|item| self.take(item, out)).sum();
        }
        let (mut bytes, mut gathered) = (0, Vec::new());
        for item in batch {
            bytes += item.bytes();
            gather(&mut gathered, item);
        }
        for item in gathered {
            self.take(item, out);
        }
        bytes
    }

    fn take(&mut self, item: Item, out: &mut impl FnMut(Outgoing)) -> usize {
        let bytes = item.bytes();
        match item {
            Item::Hello(hello) => {
                self.greeted = true;
                let (frame, version) = *hello;
                out(Outgoing::Text(frame));
                let early = std::mem::take(&mut self.early);
                return bytes
                    + early.into_iter().map(|item| self.take_early(item, version, out)).sum::<usize>();
            }
            Item::Event { .. } if !self.greeted => {
                self.early.push(item);
                return 0;
            }
            Item::Event { event, skip } => {
                self.seq += u64::from(skip) + 1;
                out(Outgoing::Event(event, self.seq));
            }
            Item::Frame(frame) => out(Outgoing::Text(frame)),
            Item::Close(close) => out(Outgoing::Close(*close)),
        }
        bytes
    }

    /// What was published before the hello follows it, unless the hello has said as much: versions do not
    /// go back.
    fn take_early(&mut self, item: Item, hello: StateVersion, out: &mut impl FnMut(Outgoing)) -> usize {
        let said = |v: StateVersion| v.presence <= hello.presence && v.health <= hello.health;
        match &item {
            Item::Event { event, .. } if event.version.is_some_and(said) => item.bytes(),
            _ => self.take(item, out),
        }
    }
}

/// Appends an item, joined with an earlier one if only pieces of other texts lie between.
fn gather(gathered: &mut Vec<Item>, item: Item) {
    if let Item::Event { event: later, skip } = &item {
        let pieces =
            gathered.iter().rev().take_while(|i| matches!(i, Item::Event { event, .. } if event.is_piece()));
        let joined = pieces.enumerate().find_map(|(back, earlier)| match earlier {
            Item::Event { event, skip: before } => Some((back, event.joined(later)?, before + skip)),
            _ => None,
        });
        if let Some((back, event, skip)) = joined {
            gathered.remove(gathered.len() - 1 - back);
            gathered.push(Item::Event { event: Arc::new(event), skip });
            return;
        }
    }
    gathered.push(item);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Audience;

    fn event(droppable: bool, size: usize) -> Arc<Event> {
        let payload = serde_json::to_vec(&"x".repeat(size)).unwrap();
        let event = Event::encoded("tick", Audience::Everyone, &payload);
        Arc::new(if droppable { event.droppable() } else { event })
    }

    fn drain(items: &mut mpsc::UnboundedReceiver<Item>, spool: &mut Spool) -> Vec<String> {
        let mut out = Vec::new();
        while let Ok(item) = items.try_recv() {
            spool.take(item, &mut |frame| out.push(said(frame)));
        }
        out
    }

    fn said(frame: Outgoing) -> String {
        match frame {
            Outgoing::Text(text) => String::from_utf8(text).unwrap(),
            Outgoing::Event(event, seq) => String::from_utf8(event.body.encode(Some(seq))).unwrap(),
            Outgoing::Close(c) => format!("close {} {}", c.code, c.reason),
        }
    }

    #[test]
    fn events_published_before_the_hello_follow_it() {
        let (outbox, mut items) = Outbox::new(Arc::default());
        outbox.event(event(false, 1));
        outbox.frame(b"challenge".to_vec());
        outbox.hello(b"hello".to_vec(), StateVersion::default());
        let frames = drain(&mut items, &mut Spool::default());
        assert_eq!(frames[..2], ["challenge", "hello"]);
        assert!(frames[2].ends_with(r#","seq":1}"#), "{}", frames[2]);
    }

    #[test]
    fn what_the_hello_has_said_is_not_said_again_older() {
        let (outbox, mut items) = Outbox::new(Arc::default());
        let version = |presence, health| StateVersion { presence, health };
        for (presence, health) in [(1, 2), (2, 2), (3, 2)] {
            let name = crabtree_protocol::Event::Presence;
            let event = Event::versioned(name, Audience::Everyone, b"{}", version(presence, health));
            outbox.event(Arc::new(event));
        }
        outbox.hello(b"hello".to_vec(), version(2, 3));
        let bytes = outbox.buffered();
        let (mut out, mut spool) = (Vec::new(), Spool::default());
        let mut forgotten = 0;
        while let Ok(item) = items.try_recv() {
            forgotten += spool.take(item, &mut |frame| out.push(said(frame)));
        }
        assert_eq!((out.len(), forgotten), (2, bytes));
        assert!(out[1].ends_with(r#""seq":1,"stateVersion":{"presence":3,"health":2}}"#), "{}", out[1]);
    }

    #[test]
    fn at_the_limit_droppable_events_leave_a_gap_and_the_rest_closes() {
        let process = Arc::new(Backlog::default());
        let (outbox, mut items) = Outbox::new(process.clone());
        let mut spool = Spool::default();
        outbox.hello(b"hello".to_vec(), StateVersion::default());
        outbox.event(event(true, MAX_BUFFERED_BYTES - 200));
        outbox.event(event(true, 500));
        outbox.event(event(true, 500));
        let first = drain(&mut items, &mut spool);
        assert_eq!(first.len(), 2);
        outbox.sent(outbox.buffered());
        outbox.event(event(false, 1));
        assert!(drain(&mut items, &mut spool)[0].ends_with(r#","seq":4}"#));
        outbox.event(event(false, MAX_BUFFERED_BYTES - 200));
        outbox.event(event(false, 500));
        assert!(outbox.cut_off().is_cancelled());
        assert_eq!(drain(&mut items, &mut spool).last().unwrap(), "close 1008 slow consumer");
        drop(outbox);
        assert_eq!(process.bytes.load(Relaxed), 0);
        assert_eq!((process.dropped.read(), process.slow.read()), (2, 1));
    }

    fn piece(key: &str, so_far: &str, piece: &str) -> Arc<Event> {
        let payload =
            serde_json::json!({ "key": key, "text": so_far, "delta": piece, "after": 1 }).to_string();
        let event = Event::encoded("chat", Audience::Everyone, payload.as_bytes());
        Arc::new(event.droppable().adding(key, "delta", piece))
    }

    #[test]
    fn a_client_that_is_behind_gets_the_pieces_of_a_text_in_one_frame() {
        let item = |event| Item::Event { event, skip: 0 };
        let mut spool = Spool::default();
        let mut out = Vec::new();
        let mut tell = |frame| out.push(said(frame));
        spool.take(Item::Hello(Box::default()), &mut tell);
        let batch = [
            item(piece("a", "x \"", "x \"")),
            item(piece("b", "1", "1")),
            item(piece("a", "x \"y", "y")),
            item(piece("b", "12", "2")),
            item(event(false, 1)),
            item(piece("a", "x \"yz", "z")),
        ];
        let bytes: usize = batch.iter().map(Item::bytes).sum();
        assert_eq!(spool.take_batch(batch.into_iter(), &mut tell), bytes);
        let frames: Vec<serde_json::Value> =
            out[1..].iter().map(|frame| serde_json::from_str(frame).unwrap()).collect();
        let told: Vec<_> =
            frames.iter().map(|f| (f["seq"].as_u64().unwrap(), f["payload"]["delta"].as_str())).collect();
        assert_eq!(told, [(1, Some("x \"y")), (2, Some("12")), (3, None), (4, Some("z"))]);
        assert_eq!(
            (&frames[0]["payload"]["text"], &frames[0]["payload"]["after"]),
            (&"x \"y".into(), &1.into())
        );
    }
}

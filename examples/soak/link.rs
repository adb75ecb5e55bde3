//! A client: a socket with many calls in flight, opened again whenever it ends.

use crate::measured::{Ws, greeted};
use crate::world::{World, request};
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

/// A gateway that lets nobody in for so long is gone.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(10);
/// A handshake that takes longer is begun anew, and so is a farewell.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How a client leaves.
#[derive(Clone, Copy, Debug)]
pub enum Leave {
    /// With a close frame, which it waits to be answered.
    Polite,
    /// The socket ends.
    Silent,
    /// The socket is reset.
    Reset,
}

impl Leave {
    pub const ALL: [Self; 3] = [Self::Polite, Self::Silent, Self::Reset];

    pub fn name(self) -> &'static str {
        match self {
            Self::Polite => "politely",
            Self::Silent => "silently",
            Self::Reset => "byReset",
        }
    }
}

/// What comes of a call.
pub enum Answer {
    Ok(Value),
    /// What the gateway says, and after how long it may be asked again, if so.
    Refused(Value, Option<Duration>),
    /// The socket has ended.
    Gone,
}

enum Order {
    Ask { id: u64, request: Utf8Bytes, answers: mpsc::UnboundedSender<Utf8Bytes>, count: u8 },
    Leave(Leave),
}

/// One socket.
pub struct Link {
    orders: mpsc::UnboundedSender<Order>,
    next: AtomicU64,
    /// What the gateway said when it let it in.
    pub hello: Value,
}

impl Link {
    /// Opens one as soon as the gateway lets it in; none if that is not wanted any more.
    pub async fn open(world: &Arc<World>) -> Option<Arc<Self>> {
        let begun = Instant::now();
        loop {
            let era = world.era.load(SeqCst);
            let entered = tokio::time::timeout(HANDSHAKE, greeted(world.addr, &world.connect));
            let why = match entered.await {
                Ok(Ok((ws, hello))) => {
                    let hello = serde_json::from_str(&hello).unwrap_or_default();
                    let (orders, given) = mpsc::unbounded_channel();
                    tokio::spawn(serve(world.clone(), ws, given, era));
                    return Some(Arc::new(Self { orders, next: AtomicU64::new(0), hello }));
                }
                Ok(Err(why)) => why.to_string(),
                Err(_) => "no handshake".to_owned(),
            };
            if begun.elapsed() > PATIENCE {
                world.fail(format!("the gateway lets nobody in: {why}"));
            }
            tokio::select! {
                () = world.over.cancelled() => return None,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    pub async fn ended(&self) {
        self.orders.closed().await;
    }

    pub fn leave(&self, how: Leave) {
        let _ = self.orders.send(Order::Leave(how));
    }

    /// So many answers to one call.
    pub fn ask(&self, method: &str, params: &Value, count: u8) -> Answers {
        let id = self.next.fetch_add(1, SeqCst);
        let (answers, come) = mpsc::unbounded_channel();
        let request = request(&id.to_string(), method, params);
        let _ = self.orders.send(Order::Ask { id, request, answers, count });
        Answers(come)
    }
}

/// The answers to a call, as they come.
pub struct Answers(mpsc::UnboundedReceiver<Utf8Bytes>);

impl Answers {
    pub async fn next(&mut self) -> Answer {
        let Some(text) = self.0.recv().await else { return Answer::Gone };
        let mut frame: Value = serde_json::from_str(&text).unwrap_or_default();
        if frame["ok"] == true {
            return Answer::Ok(frame["payload"].take());
        }
        let error = frame["error"].take();
        let after = Duration::from_millis(error["retryAfterMs"].as_u64().unwrap_or(100));
        let again = (error["retryable"] == true).then_some(after);
        Answer::Refused(error, again)
    }
}

/// Works for one socket until it ends.
async fn serve(world: Arc<World>, mut ws: Ws, mut orders: mpsc::UnboundedReceiver<Order>, era: u64) {
    let mut waiting: HashMap<u64, (mpsc::UnboundedSender<Utf8Bytes>, u8)> = HashMap::new();
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                Some(Order::Ask { id, request, answers, count }) => {
                    waiting.insert(id, (answers, count));
                    if ws.send(Message::Text(request)).await.is_err() {
                        break;
                    }
                }
                Some(Order::Leave(how)) => return leave(ws, how).await,
                None => return leave(ws, Leave::Polite).await,
            },
            message = ws.next() => match message {
                Some(Ok(Message::Text(text))) => tell(&mut waiting, text),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => break,
            },
        }
    }
    // Noted before anybody is told that the socket has ended.
    if world.era.load(SeqCst) == era && era.is_multiple_of(2) && !world.over.is_cancelled() {
        world.problem("a socket has ended that nobody had ended");
    }
}

fn tell(waiting: &mut HashMap<u64, (mpsc::UnboundedSender<Utf8Bytes>, u8)>, text: Utf8Bytes) {
    let Some((id, rest)) = text.strip_prefix(r#"{"type":"res","id":""#).and_then(|rest| rest.split_once('"'))
    else {
        return;
    };
    let (Ok(id), refused) = (id.parse(), rest.starts_with(r#","ok":false"#)) else { return };
    let Some((answers, left)) = waiting.get_mut(&id) else { return };
    *left -= 1;
    let is_last = *left == 0 || refused;
    let _ = answers.send(text);
    if is_last {
        waiting.remove(&id);
    }
}

async fn leave(mut ws: Ws, how: Leave) {
    match how {
        Leave::Polite => {
            let farewell = async {
                let _ = ws.close(None).await;
                while let Some(Ok(_)) = ws.next().await {}
            };
            let _ = tokio::time::timeout(HANDSHAKE, farewell).await;
        }
        Leave::Silent => {}
        Leave::Reset => {
            let _ = ws.get_ref().set_zero_linger();
        }
    }
}

/// Somebody who always has a socket, or will soon.
pub struct Client {
    pub world: Arc<World>,
    link: watch::Sender<Option<Arc<Link>>>,
}

impl Client {
    pub fn new(world: Arc<World>) -> Arc<Self> {
        let this = Arc::new(Self { world, link: watch::Sender::new(None) });
        tokio::spawn(this.clone().keep());
        this
    }

    async fn keep(self: Arc<Self>) {
        while let Some(link) = Link::open(&self.world).await {
            self.link.send_replace(Some(link.clone()));
            tokio::select! {
                () = link.ended() => {}
                () = self.world.over.cancelled() => return,
            }
            self.link.send_replace(None);
        }
    }

    /// Its socket; none if everything is over.
    pub async fn link(&self) -> Option<Arc<Link>> {
        let mut link = self.link.subscribe();
        tokio::select! {
            there = link.wait_for(Option::is_some) => there.ok()?.clone(),
            () = self.world.over.cancelled() => None,
        }
    }

    /// Ends the socket it has, if it has one.
    pub fn leave(&self, how: Leave) {
        if let Some(link) = &*self.link.borrow() {
            link.leave(how);
        }
    }

    /// A call that is made again until it is answered; none if everything is over, or it was refused for good.
    pub async fn call(&self, method: &str, params: &Value) -> Option<Value> {
        loop {
            match self.link().await?.ask(method, params, 1).next().await {
                Answer::Ok(payload) => return Some(payload),
                Answer::Refused(_, Some(after)) => {
                    self.world.count("told to ask again");
                    tokio::time::sleep(after).await;
                }
                Answer::Refused(error, None) => {
                    self.world.problem(format!("{method} was refused: {error}"));
                    return None;
                }
                Answer::Gone => tokio::task::yield_now().await,
            }
        }
    }
}

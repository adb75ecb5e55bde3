//! The channel `loopback`, for demonstrations and tests: a TCP socket on this machine, over which people are lines.
//!
//! A line of plain text is a direct message: `nc 127.0.0.1 18790`, and the answers are lines, too. A line of JSON is a
//! message with all there is to it: `{"id", "chat", "from", "text", "kind", "mention", "reply", "bot", "thread"}`. Who
//! has sent one, be it `{"hello": true}`, is sent whatever is for nobody else, and is answered in JSON: `{"ack": id}` when a message is durable, and each message out as
//! `{"send": id, "chat", "text", "replyTo"}`, which has to be answered `{"sent": id}`, or `{"refused": id}` or
//! `{"later": id, "afterMs"}`; unanswered, nobody knows.

use super::contract::{
    Account, Address, Capabilities, Channel, Envelope, Heard, Kind, Link, Order, Orders, Outgoing, Place,
    SendError, Sender, Sent, Stopped, Trouble,
};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex as Turn, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// The longest line.
const MAX_LINE: u64 = 64 << 10;
/// How long the other side may take to say that a message was sent.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How often it says that it is alive.
const BEAT: Duration = Duration::from_secs(10);

/// See the module.
pub struct Loopback;

impl Channel for Loopback {
    fn name(&self) -> &str {
        "loopback"
    }

    fn label(&self) -> &str {
        "Loopback"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { silence: BEAT * 3, ..Capabilities::texts(4_000) }
    }

    fn check(&self, account: &Account) -> Result<(), String> {
        port(account).map(|_| ())
    }

    fn run(self: Arc<Self>, account: Account, link: Link, orders: Orders) -> BoxFuture<'static, Trouble> {
        Box::pin(async move {
            match serve(&account, link, orders).await {
                Ok(Stopped) => Trouble::Retry("it was stopped".into()),
                Err(why) => Trouble::Retry(why),
            }
        })
    }
}

fn port(account: &Account) -> Result<u16, String> {
    let port = account.settings.get("port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
    port.ok_or_else(|| "port: a number from 0 to 65535 says where to listen, for instance 18790".to_owned())
}

async fn serve(account: &Account, link: Link, mut orders: Orders) -> Result<Stopped, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port(account)?)).await;
    let listener = listener.map_err(|e| format!("the port is not to be had: {e}"))?;
    let lines = Arc::new(Lines::default());
    let mut beat = tokio::time::interval(BEAT);
    let _ = link.say(Heard::Connected(None)).await;
    // What is done beside ends with this.
    let mut beside = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (socket, _) = accepted.map_err(|e| format!("no connection was accepted: {e}"))?;
                let number = lines.next.fetch_add(1, Relaxed);
                beside.spawn(talk(lines.clone(), link.clone(), socket, number));
            }
            order = orders.recv() => match order {
                None => return Ok(Stopped),
                Some(Order::Send(outgoing, done)) => drop(beside.spawn(lines.clone().send(outgoing, done))),
                Some(Order::Typing(_)) => {}
                Some(Order::React { done, .. }) => {
                    let _ = done.send(Err(SendError::Refused("nobody can react here".into())));
                }
                Some(Order::Act { done, .. }) => {
                    let _ = done.send(Err(SendError::Refused("there is nothing here but texts".into())));
                }
            },
            Some(_) = beside.join_next() => {}
            _ = beat.tick() => link.alive(),
        }
    }
}

/// Who is connected, and which messages wait to be called sent.
#[derive(Default)]
struct Lines {
    next: AtomicU64,
    chats: Mutex<BTreeMap<String, Arc<Line>>>,
    /// The last that speaks JSON: it is sent what is for nobody else.
    for_all: Mutex<Option<Arc<Line>>>,
    waiting: Mutex<BTreeMap<String, oneshot::Sender<Result<Sent, SendError>>>>,
}

struct Line {
    number: u64,
    out: Turn<OwnedWriteHalf>,
    /// Whether it speaks JSON.
    strict: bool,
}

impl Line {
    async fn say(&self, line: &str) -> std::io::Result<()> {
        self.out.lock().await.write_all(format!("{line}\n").as_bytes()).await
    }
}

impl Lines {
    async fn send(self: Arc<Self>, outgoing: Box<Outgoing>, done: oneshot::Sender<Result<Sent, SendError>>) {
        let _ = done.send(self.sent(&outgoing).await);
    }

    async fn sent(&self, outgoing: &Outgoing) -> Result<Sent, SendError> {
        let chat = &outgoing.to.chat;
        let line = self.chats.lock().get(chat).cloned();
        let Some(line) = line.or_else(|| self.for_all.lock().clone()) else {
            let why = format!("nobody is connected as {chat}");
            return Err(SendError::Later { why, after: None });
        };
        let unknown = |e: std::io::Error| SendError::Unknown(e.to_string());
        let id = outgoing.id.clone();
        if !line.strict {
            line.say(&outgoing.text).await.map_err(unknown)?;
            return Ok(Sent { id });
        }
        let (tell, told) = oneshot::channel();
        self.waiting.lock().insert(id.clone(), tell);
        let said = json!({ "send": id, "chat": chat, "text": outgoing.text, "replyTo": outgoing.reply_to });
        let asked = async {
            line.say(&said.to_string()).await.map_err(unknown)?;
            told.await.unwrap_or_else(|_| Err(SendError::Unknown("the line was cut".into())))
        };
        let late = |_| Err(SendError::Unknown("the other side did not answer".into()));
        let answer = timeout(ANSWER_LIMIT, asked).await.unwrap_or_else(late);
        self.waiting.lock().remove(&id);
        answer
    }

    fn answered(&self, id: &str, answer: Result<Sent, SendError>) {
        if let Some(waiting) = self.waiting.lock().remove(id) {
            let _ = waiting.send(answer);
        }
    }

    fn forget(&self, number: u64) {
        self.chats.lock().retain(|_, line| line.number != number);
        self.for_all.lock().take_if(|line| line.number == number);
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Said {
    Hello {
        #[serde(rename = "hello")]
        _hello: bool,
    },
    Message(Box<Message>),
    Sent {
        sent: String,
    },
    Refused {
        refused: String,
    },
    Later {
        later: String,
        #[serde(default, rename = "afterMs")]
        after_ms: Option<u64>,
    },
}

#[derive(Deserialize)]
struct Message {
    id: String,
    text: String,
    #[serde(default = "somebody")]
    from: String,
    chat: Option<String>,
    kind: Option<Kind>,
    thread: Option<String>,
    #[serde(default)]
    mention: bool,
    #[serde(default)]
    reply: bool,
    #[serde(default)]
    bot: bool,
}

fn somebody() -> String {
    "me".into()
}

async fn talk(lines: Arc<Lines>, link: Link, socket: TcpStream, number: u64) {
    let (read, write) = socket.into_split();
    let mut read = BufReader::new(read).take(MAX_LINE);
    let (mut text, mut write, mut line, mut count) = (String::new(), Some(write), None::<Arc<Line>>, 0_u64);
    loop {
        text.clear();
        read.set_limit(MAX_LINE);
        match read.read_line(&mut text).await {
            Ok(n) if n > 0 && text.ends_with('\n') => {}
            // The end, an error, or a line that is too long.
            _ => break,
        }
        let said = serde_json::from_str::<Said>(text.trim());
        let strict = said.is_ok();
        if let Some(out) = write.take() {
            line = Some(Arc::new(Line { number, out: Turn::new(out), strict }));
            *lines.for_all.lock() = line.clone().filter(|_| strict);
        }
        let Some(line) = &line else { break };
        match said {
            Ok(Said::Hello { .. }) => {}
            Ok(Said::Sent { sent }) => lines.answered(&sent.clone(), Ok(Sent { id: sent })),
            Ok(Said::Refused { refused }) => {
                lines.answered(&refused, Err(SendError::Refused("the other side does not want it".into())));
            }
            Ok(Said::Later { later, after_ms }) => {
                let after = after_ms.map(Duration::from_millis);
                lines.answered(&later, Err(SendError::Later { why: "later".into(), after }));
            }
            Ok(Said::Message(message)) => {
                let id = message.id.clone();
                let envelope = envelope(*message);
                lines.chats.lock().insert(envelope.at.chat.clone(), line.clone());
                let (link, line) = (link.clone(), line.clone());
                // What is said next may be that a message was sent: it is read meanwhile.
                tokio::spawn(async move {
                    if link.receive(envelope).await.is_ok() {
                        let _ = line.say(&json!({ "ack": id }).to_string()).await;
                    }
                });
            }
            Err(_) => {
                count += 1;
                let id = format!("{}-{number}-{count}", uuid::Uuid::now_v7());
                let message = Message {
                    id,
                    text: text.trim_end().to_owned(),
                    from: somebody(),
                    chat: Some(format!("line-{number}")),
                    kind: None,
                    thread: None,
                    mention: false,
                    reply: false,
                    bot: false,
                };
                let envelope = envelope(message);
                lines.chats.lock().insert(envelope.at.chat.clone(), line.clone());
                if link.receive(envelope).await.is_err() {
                    break;
                }
            }
        }
    }
    lines.forget(number);
}

fn envelope(message: Message) -> Envelope {
    let chat = message.chat.unwrap_or_else(|| message.from.clone());
    Envelope {
        id: message.id,
        from: Sender {
            id: message.from.clone(),
            name: Some(message.from),
            username: None,
            is_bot: message.bot,
        },
        at: Address { chat_type: message.kind.unwrap_or(Kind::Direct), chat, thread: message.thread },
        place: Place { own_sessions: true, ..Place::default() },
        text: message.text,
        attachments: Vec::new(),
        mentions_me: message.mention,
        replies_to_me: message.reply,
        quote: None,
        at_ms: 0,
    }
}

//! A messaging platform on the other side of the channel `loopback`: it keeps what was written until it is told that it
//! was received, delivers it again after every cut, and counts what it is sent.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long a test waits for something that must come.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a line may say nothing of what it was told.
const DEAD: Duration = Duration::from_secs(2);
/// How soon a cut line is dialled again.
const AGAIN: Duration = Duration::from_millis(20);

/// How the platform answers a message that it is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    Takes,
    /// It has it, and says nothing.
    Silent,
    Refuses,
    /// It has it only the second time.
    LaterOnce,
}

pub struct Platform {
    pub port: u16,
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
    dialling: JoinHandle<()>,
}

struct State {
    /// Written, and not known to have been received, in order.
    open: Vec<Value>,
    received: Vec<String>,
    /// Each message out, in order.
    sent: Vec<Value>,
    manner: Manner,
    put_off: BTreeMap<String, u32>,
}

impl Platform {
    /// A platform that dials a port nobody listens at yet.
    pub fn start() -> Self {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let state = State {
            open: vec![],
            received: vec![],
            sent: vec![],
            manner: Manner::Takes,
            put_off: BTreeMap::new(),
        };
        let (state, changed) = (Arc::new(Mutex::new(state)), watch::Sender::new(0));
        let dialling = tokio::spawn(dial((Ipv4Addr::LOCALHOST, port).into(), state.clone(), changed.clone()));
        Self { port, state, changed, dialling }
    }

    /// The channel's section of a configuration, with this beside the port.
    pub fn section(&self, more: Value) -> Value {
        let mut section = json!({ "port": self.port, "dmPolicy": "open" });
        section.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        section
    }

    /// Somebody writes.
    pub fn write(&self, message: Value) {
        self.state.lock().unwrap().open.push(message);
        self.changed.send_modify(|n| *n += 1);
    }

    /// Somebody writes directly.
    pub fn says(&self, id: &str, from: &str, text: &str) {
        self.write(json!({ "id": id, "from": from, "text": text }));
    }

    /// From now on messages are answered like this.
    pub fn answers(&self, manner: Manner) {
        self.state.lock().unwrap().manner = manner;
    }

    /// The texts that were sent to a chat, in order.
    pub fn sent_to(&self, chat: &str) -> Vec<String> {
        let state = self.state.lock().unwrap();
        let to_chat = state.sent.iter().filter(|message| message["chat"] == chat);
        to_chat.map(|message| message["text"].as_str().unwrap().to_owned()).collect()
    }

    /// Everything that was sent, as it came.
    pub fn sent(&self) -> Vec<Value> {
        self.state.lock().unwrap().sent.clone()
    }

    /// Which messages are known to have been received.
    pub fn received(&self) -> Vec<String> {
        self.state.lock().unwrap().received.clone()
    }

    /// Waits until this is so.
    pub async fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let mut changed = self.changed.subscribe();
        let wait = async {
            while !is_so(self) {
                let _ = timeout(AGAIN, changed.changed()).await;
            }
        };
        if timeout(PATIENCE, wait).await.is_err() {
            panic!("{what}: sent {:?}, received {:?}", self.sent(), self.received());
        }
    }

    /// Waits for so many messages to a chat.
    pub async fn answers_in(&self, chat: &str, count: usize) -> Vec<String> {
        self.until(&format!("{count} messages to {chat}"), |p| p.sent_to(chat).len() >= count).await;
        self.sent_to(chat)
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        self.dialling.abort();
    }
}

async fn dial(addr: SocketAddr, state: Arc<Mutex<State>>, changed: watch::Sender<u64>) {
    loop {
        if let Ok(socket) = TcpStream::connect(addr).await {
            let _ = talk(socket, &state, &changed).await;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn talk(socket: TcpStream, state: &Mutex<State>, changed: &watch::Sender<u64>) -> std::io::Result<()> {
    let (read, mut write) = socket.into_split();
    let mut lines = BufReader::new(read).lines();
    let mut news = changed.subscribe();
    let mut told = 0;
    write.write_all(b"{\"hello\":true}\n").await?;
    loop {
        let due: Vec<Value> = state.lock().unwrap().open.iter().skip(told).cloned().collect();
        told += due.len();
        for message in due {
            write.write_all(format!("{message}\n").as_bytes()).await?;
        }
        tokio::select! {
            _ = news.changed() => {}
            // Who does not say that it has what it was told is dialled again.
            () = tokio::time::sleep(DEAD), if told > 0 => return Ok(()),
            line = lines.next_line() => {
                let Some(line) = line? else { return Ok(()) };
                let said: Value = serde_json::from_str(&line).expect("it speaks JSON to who does");
                let answer = heard(&said, &mut state.lock().unwrap(), &mut told);
                if let Some(answer) = answer {
                    write.write_all(format!("{answer}\n").as_bytes()).await?;
                }
                changed.send_modify(|n| *n += 1);
            }
        }
    }
}

fn heard(said: &Value, state: &mut State, told: &mut usize) -> Option<Value> {
    if let Some(id) = said["ack"].as_str() {
        if let Some(at) = state.open.iter().position(|message| message["id"] == id) {
            state.open.remove(at);
            *told -= 1;
        }
        state.received.push(id.to_owned());
        return None;
    }
    let id = said["send"].as_str().expect("an acknowledgement or a message").to_owned();
    let times = state.put_off.entry(id.clone()).or_default();
    *times += 1;
    match state.manner {
        Manner::Refuses => return Some(json!({ "refused": id })),
        Manner::LaterOnce if *times == 1 => return Some(json!({ "later": id, "afterMs": 50 })),
        _ => {}
    }
    state.sent.push(said.clone());
    (state.manner != Manner::Silent).then(|| json!({ "sent": id }))
}

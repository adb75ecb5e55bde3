//! Turns over one connection: what was asked, and what comes of each.

use crate::latency::Latencies;
use crate::measured::{Ws, frame};
use crate::rpc::request;
use anyhow::{Context, Result, ensure};
use futures_util::SinkExt;
use serde::Deserialize;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::Utf8Bytes;
use uuid::Uuid;

/// Pause before a turn is asked for again that was sent away for now.
const PAUSE: Duration = Duration::from_millis(250);
/// How events of turns begin.
const CHAT: &str = r#"{"type":"event","event":"chat","#;

/// An event of a turn.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Chat<'a> {
    #[serde(borrow)]
    pub run_id: Cow<'a, str>,
    pub state: Cow<'a, str>,
    error_message: Option<Value>,
}

/// The event of a turn in `text`, if it is one.
pub fn chat(text: &str) -> Result<Option<Chat<'_>>> {
    #[derive(Deserialize)]
    struct Event<'a> {
        #[serde(borrow)]
        payload: Chat<'a>,
    }
    let event = text.starts_with(CHAT).then(|| serde_json::from_str::<Event<'_>>(text));
    Ok(event.transpose()?.map(|event| event.payload))
}

/// A turn that has not ended.
struct Turn {
    session: u64,
    /// From when its latencies count.
    since: Instant,
    spoken: bool,
}

/// A connection that has turns going on.
pub struct Talk {
    ws: Ws,
    /// What the text of a turn ends with, where that is known.
    last: Option<String>,
    turns: HashMap<String, Turn>,
    asked: u64,
    /// Those that were sent away, and when they are asked for again.
    again: VecDeque<(Instant, String)>,
    pub refused: u64,
    /// How many ended as anything but an answer, where that is counted rather than an error.
    pub failed: Option<u64>,
    /// How the ids of its turns begin: no other run of this program has them.
    pub prefix: String,
    pub accepted: Latencies,
    pub first: Latencies,
    pub finals: Latencies,
}

impl Talk {
    pub fn new(ws: Ws, last: Option<String>) -> Self {
        let [accepted, first, finals] = [(); 3].map(|()| Latencies::new());
        let prefix = format!("load-{}-", Uuid::new_v4().simple());
        Self {
            ws,
            last,
            turns: HashMap::new(),
            asked: 0,
            again: VecDeque::new(),
            refused: 0,
            failed: None,
            prefix,
            accepted,
            first,
            finals,
        }
    }

    /// Forgets what was measured.
    pub fn reset(&mut self) {
        [self.accepted, self.first, self.finals] = [(); 3].map(|()| Latencies::new());
    }

    /// Turns that have not ended.
    pub fn going(&self) -> usize {
        self.turns.len()
    }

    /// Says something in a session; the turn's latencies count from `since`.
    pub async fn say(&mut self, session: u64, since: Instant) -> Result<()> {
        self.asked += 1;
        let key = format!("{}{}", self.prefix, self.asked);
        self.turns.insert(key.clone(), Turn { session, since, spoken: false });
        self.ask(&key, session).await
    }

    async fn ask(&mut self, key: &str, session: u64) -> Result<()> {
        let params = json!({ "sessionKey": format!("load-{session}"), "message": "Tell me something.",
            "idempotencyKey": key });
        Ok(self.ws.send(request(key, "chat.send", Some(&params.to_string()))?).await?)
    }

    /// The session of the next turn that ends.
    pub async fn ended(&mut self) -> Result<u64> {
        loop {
            let due = self.again.front().map(|(due, _)| *due);
            let text = tokio::select! {
                text = frame(&mut self.ws) => text?,
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => {
                    let (_, key) = self.again.pop_front().context("it is due")?;
                    let session = self.turns.get(&key).context("a turn that was not asked for")?.session;
                    self.ask(&key, session).await?;
                    continue;
                }
            };
            if let Some(session) = self.hear(&text)? {
                return Ok(session);
            }
        }
    }

    fn hear(&mut self, text: &Utf8Bytes) -> Result<Option<u64>> {
        if let Some(rest) = text.strip_prefix(r#"{"type":"res","id":""#) {
            let (key, rest) = rest.split_once('"').context("an id without an end")?;
            if !rest.starts_with(r#","ok":true"#) {
                ensure!(rest.contains(r#""retryable":true"#), "chat.send: {}", text.as_str());
                self.refused += 1;
                self.again.push_back((Instant::now() + PAUSE, key.to_owned()));
                return Ok(None);
            }
            // A turn may have ended before its acknowledgement.
            self.turns.get(key).into_iter().for_each(|turn| self.accepted.record(turn.since.elapsed()));
            return Ok(None);
        }
        let Some(chat) = chat(text)? else { return Ok(None) };
        let Some(turn) = self.turns.get_mut(&*chat.run_id) else { return Ok(None) };
        match &*chat.state {
            "status" => return Ok(None),
            "delta" | "final" => {}
            other => {
                let why = || format!("{}: the turn ended as {other}: {:?}", chat.run_id, chat.error_message);
                *self.failed.as_mut().with_context(why)? += 1;
                return Ok(self.turns.remove(&*chat.run_id).map(|turn| turn.session));
            }
        }
        if !turn.spoken {
            turn.spoken = true;
            self.first.record(turn.since.elapsed());
        }
        if chat.state != "final" {
            return Ok(None);
        }
        let right = self.last.as_ref().is_none_or(|last| text.contains(last));
        ensure!(right, "a turn that does not end as the model does: {}", text.as_str());
        self.finals.record(turn.since.elapsed());
        Ok(self.turns.remove(&*chat.run_id).map(|turn| turn.session))
    }
}

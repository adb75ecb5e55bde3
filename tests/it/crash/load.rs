//! The load: rounds of clients that talk until the process dies, and the book of what they sent and heard.

use super::plan::{self, Deed, How, Kill, SESSIONS, Timed};
use super::verdict;
use crate::client::Client;
use crate::gateway::Process;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// A named point is reached within this time: the load goes on until it is.
const STRIKE_LIMIT: Duration = Duration::from_secs(15);

/// Where in the story something happened: the number of kills before it, the client, and a count of everything.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    pub round: usize,
    pub client: usize,
    pub tick: usize,
}

/// A message and what is known of it.
#[derive(Clone, Debug)]
pub struct Said {
    pub key: String,
    pub session: usize,
    pub how: How,
    /// The text of a message holds it, and no other one does.
    pub token: String,
    pub text: String,
    pub sent: Vec<Mark>,
    /// When it was acknowledged, with which word.
    pub acked: Option<(Mark, String)>,
    /// The last refusal.
    pub refused: Option<String>,
    /// How it ended, told once the last process has worked everything off.
    pub end: Option<verdict::End>,
}

impl Said {
    /// The request that says it, or says it again.
    pub fn request(&self) -> (&'static str, Value) {
        let mut params = json!({
            "sessionKey": SESSIONS[self.session].0, "message": self.text, "idempotencyKey": self.key,
        });
        match self.how {
            How::Agent => return ("agent", params),
            How::Chat(mode) => params["queueMode"] = json!(mode),
            How::Tool => params["queueMode"] = json!("followup"),
            How::Command => {}
        }
        ("chat.send", params)
    }
}

/// An abort that was asked for.
#[derive(Clone, Debug)]
pub struct Aborted {
    pub session: usize,
    /// The runs it stopped, if it was answered.
    pub runs: Vec<String>,
}

/// Everything that was sent and heard in a world.
#[derive(Clone, Debug, Default)]
pub struct Book {
    pub seed: u64,
    pub kills: Vec<Kill>,
    pub said: Vec<Said>,
    pub aborts: Vec<Aborted>,
    pub problems: Vec<String>,
    /// The transcripts at the end, for the story.
    pub rows: Vec<Vec<verdict::Row>>,
    repeats: usize,
    tick: usize,
}

/// What a request waits for.
enum Awaited {
    Said { known: usize, again: bool },
    Abort(usize),
}

impl Book {
    /// Now.
    pub fn mark(&mut self, round: usize, client: usize) -> Mark {
        self.tick += 1;
        Mark { round, client, tick: self.tick }
    }

    /// Enters what is said now; returns its place.
    fn enter(&mut self, session: usize, how: How, words: String) -> usize {
        let known = self.said.len();
        let token = format!("[{session}.{known:04}]");
        let text = match how {
            How::Command => words,
            How::Tool => format!("/tool session_status {{}} {token}{words}"),
            How::Chat(_) | How::Agent => format!("{token}{words}"),
        };
        let key = format!("k{known:04}");
        let (sent, acked, refused, end) = (vec![], None, None, None);
        self.said.push(Said { key, session, how, token, text, sent, acked, refused, end });
        known
    }

    fn heard(&mut self, mark: Mark, awaited: &Awaited, frame: &Value) {
        let payload = &frame["payload"];
        match *awaited {
            Awaited::Abort(which) => {
                let runs = payload["runIds"].as_array().into_iter().flatten();
                self.aborts[which].runs = runs.filter_map(|id| Some(id.as_str()?.to_owned())).collect();
            }
            Awaited::Said { known, again } => {
                let word = match answer(frame) {
                    Answer::Acked(word) => word,
                    Answer::Refused(why) => {
                        self.said[known].refused = Some(why);
                        return;
                    }
                    Answer::Wrong => {
                        let key = &self.said[known].key;
                        return self.problems.push(format!("{key}: answered with {frame}"));
                    }
                };
                if again && (word == "started" || word == "accepted") {
                    let key = &self.said[known].key;
                    self.problems.push(format!("{key}: sent again after it was acknowledged, it was {word}"));
                }
                self.said[known].acked.get_or_insert((mark, word));
            }
        }
    }

    /// The places of what was not acknowledged, and of what was.
    fn open_and_closed(&self) -> (Vec<usize>, Vec<usize>) {
        (0..self.said.len()).partition(|known| self.said[*known].acked.is_none())
    }

    /// Figures for people: what the worlds were like.
    pub fn tally(&self) -> BTreeMap<&'static str, usize> {
        let count = |wanted: &dyn Fn(&Said) -> bool| self.said.iter().filter(|said| wanted(said)).count();
        let ended = |end| count(&|said| said.end == Some(end));
        BTreeMap::from([
            ("kills", self.kills.len()),
            ("said", self.said.len()),
            ("sent again", self.repeats),
            ("aborts", self.aborts.len()),
            ("answered", ended(verdict::End::Ok)),
            ("aborted", ended(verdict::End::Aborted)),
            ("given up", ended(verdict::End::Dead)),
        ])
    }
}

/// What an answer to a message says of it.
pub enum Answer {
    /// It is durable, with this word about what becomes of it.
    Acked(String),
    /// It may be sent again.
    Refused(String),
    /// None of these.
    Wrong,
}

pub fn answer(frame: &Value) -> Answer {
    if frame["ok"] == true {
        return frame["payload"]["status"].as_str().map_or(Answer::Wrong, |word| Answer::Acked(word.into()));
    }
    let error = &frame["error"];
    match error["message"].as_str() {
        Some(why) if why.contains(verdict::GIVEN_UP) => Answer::Acked("given up".into()),
        Some(why) if error["retryable"] == true => Answer::Refused(why.into()),
        _ => Answer::Wrong,
    }
}

/// Plays a world to its end; the book tells what was wrong with it.
pub async fn play(seed: u64, kills: Vec<Kill>) -> Book {
    let state = tempfile::tempdir().unwrap();
    let book = Arc::new(Mutex::new(Book { seed, kills: kills.clone(), ..Book::default() }));
    for (round, kill) in kills.into_iter().enumerate() {
        if let Kill::Starting(ms) = kill {
            let gateway = Process::spawn(state.path());
            tokio::time::sleep(Duration::from_millis(ms)).await;
            gateway.kill();
            continue;
        }
        let gateway = Process::start(state.path()).await;
        let (open, closed) = book.lock().unwrap().open_and_closed();
        let mut talking = JoinSet::new();
        for (me, deeds) in
            plan::round(seed ^ (round as u64) << 32, kill, &open, &closed).into_iter().enumerate()
        {
            let client = Client::admin(gateway.addr).await;
            talking.spawn(talk(client, book.clone(), (round, me), deeds));
        }
        if let Err(problem) = strike(gateway, kill).await {
            book.lock().unwrap().problems.push(problem);
        }
        talking.join_all().await;
    }
    let book = book.lock().unwrap().clone();
    verdict::of(book, state.path()).await
}

async fn strike(mut gateway: Process, kill: Kill) -> Result<(), String> {
    match kill {
        Kill::After(ms) | Kill::Starting(ms) => {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            gateway.kill();
        }
        Kill::At(point, ms) => {
            let mut armer = Client::admin(gateway.addr).await;
            tokio::time::sleep(Duration::from_millis(ms)).await;
            let fault = json!({ "path": "gateway/store", "fault": "killpoint", "name": point });
            armer.send("system.chaos", fault).await;
            if !gateway.died_within(STRIKE_LIMIT).await {
                return Err(format!("{point} was not reached"));
            }
        }
    }
    Ok(())
}

/// Does what is due when it is due, and notes what is answered, until the socket ends.
async fn talk(mut client: Client, book: Arc<Mutex<Book>>, (round, me): (usize, usize), deeds: Vec<Timed>) {
    let begun = Instant::now();
    let mut deeds = deeds.into_iter().peekable();
    let mut awaited: HashMap<String, Awaited> = HashMap::new();
    loop {
        let due = deeds.peek().map(|(at, _)| (begun + Duration::from_millis(*at)).into());
        tokio::select! {
            () = async { tokio::time::sleep_until(due.unwrap()).await }, if due.is_some() => {
                let Some((_, deed)) = deeds.next() else { continue };
                let (waits, (method, params)) = begin(&mut book.lock().unwrap(), (round, me), deed);
                awaited.insert(client.send(method, params).await, waits);
            }
            frame = client.frame() => {
                let Some(frame) = frame else { return };
                let Some(waits) = frame["id"].as_str().and_then(|id| awaited.remove(id)) else { continue };
                let mut book = book.lock().unwrap();
                let mark = book.mark(round, me);
                book.heard(mark, &waits, &frame);
            }
        }
    }
}

/// Enters a deed into the book; returns the request, and what its answer is about.
fn begin(book: &mut Book, (round, me): (usize, usize), deed: Deed) -> (Awaited, (&'static str, Value)) {
    let mark = book.mark(round, me);
    match deed {
        Deed::Abort { session, one } => {
            let last = book.said.iter().rev().find(|said| said.session == session).filter(|_| one);
            let mut params = json!({ "sessionKey": SESSIONS[session].0 });
            if let Some(said) = last {
                params["runId"] = json!(said.key);
            }
            book.aborts.push(Aborted { session, runs: vec![] });
            (Awaited::Abort(book.aborts.len() - 1), ("chat.abort", params))
        }
        Deed::Say { session, how, words } => {
            let known = book.enter(session, how, words);
            book.said[known].sent.push(mark);
            (Awaited::Said { known, again: false }, book.said[known].request())
        }
        Deed::Again(known) => {
            book.repeats += 1;
            let again = book.said[known].acked.is_some();
            book.said[known].sent.push(mark);
            (Awaited::Said { known, again }, book.said[known].request())
        }
    }
}

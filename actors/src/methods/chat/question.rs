//! A question that the program itself puts to an agent, for somebody who speaks no WebSocket: it enters its session by
//! the same door as a client's, and whoever asked follows the answer while it is written.

use super::said::SOURCE;
use super::{Awaited, Said, awaited};
use crate::gateway::Wiring;
use crate::responder::Responder;
use crate::sessions::{Outcome, Saying, SessionMsg, SessionsMsg, Submission};
use crate::tree::Reply;
use crabtree_protocol::params::chat::Attachment;
use crabtree_protocol::{Refusal, RunId, SessionKey};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// How often it is looked what has been written.
const PACE: Duration = Duration::from_millis(40);
/// When a session that is starting, or down, is asked again.
const AGAIN: Duration = Duration::from_millis(100);
/// The longest a question waits for its outcome: longer than any run may take.
const LONGEST: Duration = Duration::from_secs(48 * 3600);

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// In which session; it is made if it is not there.
    pub key: SessionKey,
    /// Its run. The same again is the same question: it is answered once, and both hear the answer.
    pub run_id: RunId,
    /// The words.
    pub text: String,
    /// What comes with them.
    pub files: Vec<Attachment>,
    /// `provider/model`, if not the session's.
    pub model: Option<String>,
    /// What the model is told besides who it is, in this turn only.
    pub instructions: Option<String>,
    /// Through which door it came, as transcripts keep it.
    pub client: &'static str,
}

/// What is heard of the answer.
#[derive(Debug)]
pub enum Heard {
    /// The text so far, all of it. What was heard before can have been taken back.
    Text(String),
    /// Its end; nothing follows.
    Ended(Box<Outcome>),
}

/// An answer on its way. Dropped before its end, it stops the run: nobody listens any more.
pub struct Answering {
    wiring: Arc<Wiring>,
    key: SessionKey,
    run_id: RunId,
    outcome: Option<JoinHandle<Result<Outcome, Refusal>>>,
    pace: Interval,
    heard: String,
}

/// Asks. Nothing is refused here: what the session refuses is heard of as the first news.
pub fn ask(wiring: &Arc<Wiring>, question: Question) -> Answering {
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (key, run_id) = (question.key.clone(), question.run_id.clone());
    let outcome = Some(tokio::spawn(outcome(wiring.clone(), question)));
    Answering { wiring: wiring.clone(), key, run_id, outcome, pace, heard: String::new() }
}

impl Answering {
    /// What is new.
    ///
    /// # Errors
    /// The session did not take the question, or its outcome cannot be known: it is parked, or the gateway goes down.
    pub async fn next(&mut self) -> Result<Heard, Refusal> {
        let Some(outcome) = &mut self.outcome else { return Err(gone()) };
        loop {
            tokio::select! {
                biased;
                ended = &mut *outcome => {
                    self.outcome = None;
                    return ended.unwrap_or_else(|_| Err(gone())).map(|outcome| Heard::Ended(Box::new(outcome)));
                }
                _ = self.pace.tick() => {}
            }
            let Some(turn) = self.wiring.store.estate.ledgers.get(&self.run_id) else { continue };
            let text = turn.lock().visible().to_owned();
            if text != self.heard {
                self.heard.clone_from(&text);
                return Ok(Heard::Text(text));
            }
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let Some(outcome) = self.outcome.take() else { return };
        outcome.abort();
        let abort =
            SessionMsg::Abort { run_id: Some(self.run_id.clone()), reason: "rpc", done: Reply::new(|_| {}) };
        let _ = self.wiring.sessions.send(SessionsMsg::To(self.key.clone(), abort));
    }
}

/// There is nothing that could be waited for.
fn gone() -> Refusal {
    Refusal::unavailable(AGAIN.as_millis() as u64)
}

/// Has the session take the question in, and waits for what comes of it.
async fn outcome(wiring: Arc<Wiring>, question: Question) -> Result<Outcome, Refusal> {
    let saying = Saying {
        store: wiring.store.clone(),
        sessions: wiring.sessions.clone(),
        source: SOURCE,
        key: question.key.clone(),
        run_id: question.run_id.to_string(),
    };
    let settled = awaited(&wiring.store, &question.run_id, LONGEST);
    tokio::pin!(settled);
    tokio::select! {
        biased;
        told = &mut settled => return known(told),
        taken = saying.taken(|responder| submission(&wiring, question.clone(), responder)) => taken?,
    }
    known(settled.await)
}

fn known(told: Awaited) -> Result<Outcome, Refusal> {
    match told {
        Awaited::Settled(outcome) => Ok(*outcome),
        Awaited::Late | Awaited::Parked => Err(gone()),
    }
}

fn submission(wiring: &Wiring, question: Question, responder: Responder) -> Result<Submission, Refusal> {
    let estate = &wiring.store.estate;
    let said = Said {
        kind: "agent",
        run_id: question.run_id.to_string(),
        text: question.text,
        model: question.model,
        instructions: question.instructions,
        uploads: estate.inbox.take(question.files)?,
        ..Said::default()
    };
    let sender = json!({ "senderIsOwner": true, "transport": { "clients": [{ "id": question.client }] } });
    Ok(said.submission(&question.key, sender, estate.clock.now_ms(), Some(responder)))
}

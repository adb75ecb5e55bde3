//! Something the gateway itself says in a session, and what comes of it. All of it may be done again after a crash:
//! under the same source and run it is the same input.

use super::{Outcome, SessionMsg, SessionsMsg, Submission};
use crate::methods::chat::{Awaited, awaited};
use crate::responder::Responder;
use crate::store::{self, InputRow, Store};
use crate::tree::{Reply, Slot};
use crabtree_protocol::{Refusal, RunId, SessionKey};
use std::time::Duration;

/// How long an outcome is waited for before it is looked whether the input is still there.
const LOOK: Duration = Duration::from_secs(10);
/// Pause before it is tried again to reach a session.
const RETRY: Duration = Duration::from_secs(1);
/// The same where somebody waits for it.
const AGAIN: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Clone)]
pub struct Saying {
    /// Where inputs are looked for.
    pub store: Store,
    /// Where it goes.
    pub sessions: Slot<SessionsMsg>,
    /// Who says it.
    pub source: &'static str,
    /// The session.
    pub key: SessionKey,
    /// The run that answers it.
    pub run_id: String,
}

impl Saying {
    /// Has the session take it in: then it is durable. While nobody answers `make` gives it anew.
    ///
    /// # Errors
    /// The session does not take it, or `make` does not give it.
    pub async fn taken(
        &self,
        make: impl Fn(Responder) -> Result<Submission, Refusal>,
    ) -> Result<(), Refusal> {
        loop {
            if self.is_taken().await == Some(true) {
                return Ok(());
            }
            let (answer, answered) = Reply::oneshot();
            let responder = Responder::inside(self.store.estate.conns.apart(), answer);
            let say = SessionMsg::Submit(Box::new(make(responder)?));
            // If nobody is there, the answer is dropped.
            let _ = self.sessions.send(SessionsMsg::To(self.key.clone(), say));
            let refused = match answered.await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(refusal)) => Some(refusal),
                Err(_) => None,
            };
            match refused {
                // The answer can be that of its run, and the run has failed.
                Some(refusal) if refusal.retryable != Some(true) => {
                    return if self.is_taken().await == Some(true) { Ok(()) } else { Err(refusal) };
                }
                _ => tokio::time::sleep(AGAIN).await,
            }
        }
    }

    /// Its input, if it has been taken in.
    pub async fn input(&self) -> Option<InputRow> {
        let (source, id) = (self.source, self.run_id.clone());
        self.store.read(move |c| store::input_by_source(c, source, &id)).await.ok().flatten()
    }

    /// Whether it has been taken in; none, if that cannot be told.
    pub async fn is_taken(&self) -> Option<bool> {
        let (source, id) = (self.source, self.run_id.clone());
        self.store.read(move |c| store::input_by_source(c, source, &id)).await.ok().map(|row| row.is_some())
    }

    /// What came of it. While it has not been taken in `make` gives it anew, or nothing: then nothing comes of it.
    pub async fn outcome(&self, make: impl Fn() -> Option<Submission>) -> Option<Outcome> {
        let run_id = RunId::from(self.run_id.as_str());
        loop {
            match self.is_taken().await {
                Some(false) => {
                    let say = SessionMsg::Submit(Box::new(make()?));
                    if self.sessions.send(SessionsMsg::To(self.key.clone(), say)).is_err() {
                        tokio::time::sleep(RETRY).await;
                        continue;
                    }
                }
                Some(true) => {}
                None => {
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            }
            match awaited(&self.store, &run_id, LOOK).await {
                Awaited::Settled(outcome) => return Some(*outcome),
                Awaited::Late => {}
                Awaited::Parked => tokio::time::sleep(LOOK).await,
            }
        }
    }
}

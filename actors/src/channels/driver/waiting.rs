//! What a driver was told to do and has not answered yet.

use crate::channels::contract::{SendError, Sent};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// How long a driver may take to do what it was told; what became of it is not known then.
pub(super) const ANSWER: Duration = Duration::from_secs(60);

/// Where an answer goes.
pub(super) enum Asker {
    /// To who has a message sent.
    Send(oneshot::Sender<Result<Sent, SendError>>),
    /// To who has a reaction made.
    React(oneshot::Sender<Result<(), SendError>>),
}

impl Asker {
    /// Answers; who has gone meanwhile does not mind.
    pub fn tell(self, answer: Result<String, SendError>) {
        match self {
            Self::Send(done) => drop(done.send(answer.map(|id| Sent { id }))),
            Self::React(done) => drop(done.send(answer.map(drop))),
        }
    }
}

struct Asked {
    asker: Asker,
    since: Instant,
    /// Whether the driver may have heard the end of it.
    handed_over: bool,
}

/// See the module; by the id of the frame that is to be answered.
#[derive(Default)]
pub(super) struct Waiting(Mutex<HashMap<String, Asked>>);

impl Waiting {
    /// Notes what is about to be said. The same again takes the place of what it was before.
    pub fn ask(&self, id: String, asker: Asker) {
        let asked = Asked { asker, since: Instant::now(), handed_over: false };
        if let Some(before) = self.0.lock().insert(id, asked) {
            before.asker.tell(Err(SendError::Unknown("it was sent again meanwhile".into())));
        }
    }

    /// From now on the driver may know it.
    pub fn hand_over(&self, id: &str) {
        if let Some(asked) = self.0.lock().get_mut(id) {
            asked.handed_over = true;
        }
    }

    /// The driver has answered; false if that is too late.
    pub fn settle(&self, id: &str, answer: Result<String, SendError>) -> bool {
        let asked = self.0.lock().remove(id);
        asked.map(|asked| asked.asker.tell(answer)).is_some()
    }

    /// Gives up what has waited for too long.
    pub fn expire(&self) {
        let late = |_: &String, asked: &mut Asked| asked.since.elapsed() >= ANSWER;
        let late: Vec<_> = self.0.lock().extract_if(late).collect();
        for (_, asked) in late {
            let why = format!("the driver has not answered within {} s", ANSWER.as_secs());
            asked.asker.tell(Err(SendError::Unknown(why)));
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        for (_, asked) in self.0.get_mut().drain() {
            let why = "the driver has ended".to_owned();
            asked.asker.tell(Err(match asked.handed_over {
                true => SendError::Unknown(why),
                false => SendError::Later { why, after: None },
            }));
        }
    }
}

//! A client that talks with the built-in model in sessions of its own: each turn has to end once, each message has to
//! stand in its session once. The sessions are deleted when it is over.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use super::line::{ANSWER_LIMIT, Event, Line};
use super::report::{Tally, Turns};
use crate::cli::Failure;
use crate::cli::client::Incoming;
use crate::cli::shown::message_text;

/// Turns of one session; then comes the next one, so that a page of history holds all of it.
const TURNS: usize = 200;
/// Rows of such a page.
const PAGE: usize = 1_000;
/// Between two turns.
const PAUSE: Duration = Duration::from_millis(50);
/// The longest that a turn may take.
const TURN_LIMIT: Duration = Duration::from_secs(60);
/// The model that needs no key and no network.
const MODEL: &str = "crabtree/offline";
/// Enough for a turn of about a second: it is told word by word.
const WORDS: &str = "is said while the gateway is made to fail and nobody is to notice any of it at all";

/// How a turn has ended, and how often that was told.
#[derive(Default)]
struct Ends(HashMap<String, Vec<String>>);

impl Ends {
    fn hear(&mut self, event: &Event) {
        let (run, state) = (event.payload["runId"].as_str(), event.payload["state"].as_str());
        if let (Some(run), Some(state @ ("final" | "error" | "aborted"))) = (run, state)
            && event.name == "chat"
            && let Some(ends) = self.0.get_mut(run)
        {
            ends.push(state.to_owned());
        }
    }

    fn of(&self, run: &str) -> Option<&str> {
        Some(self.0.get(run)?.first()?)
    }
}

/// A message of this session, and how its turn ended.
struct Said {
    token: String,
    end: String,
}

/// See the module.
pub(super) struct Talker {
    line: Line,
    name: String,
    /// The session, as the gateway writes it.
    key: String,
    sessions: usize,
    ends: Ends,
    turns: Turns,
}

impl Talker {
    /// Makes its first session.
    pub async fn begin(line: Line, name: String) -> Result<Self, Failure> {
        let (ends, turns) = (Ends::default(), Turns::default());
        let mut talker = Self { line, name, key: String::new(), sessions: 0, ends, turns };
        talker.begin_session().await?;
        Ok(talker)
    }

    async fn begin_session(&mut self) -> Result<(), Failure> {
        let key = format!("{}-{}", self.name, self.sessions);
        self.sessions += 1;
        let made = self.ask("sessions.create", json!({ "key": key, "model": MODEL })).await?;
        self.key = made["key"].as_str().unwrap_or(&key).to_owned();
        Ok(())
    }

    async fn ask(&mut self, method: &str, params: Value) -> Result<Value, Failure> {
        self.line.ask(method, params, |event| self.ends.hear(event)).await
    }

    /// Talks until it is over, and cleans up.
    pub async fn talk(mut self, over: watch::Receiver<bool>) -> (Tally, Turns) {
        if let Err(failure) = self.session(&over).await
            && !self.line.tally.lost
        {
            self.line.violated("a session of its own can be used", failure.told());
            // What was wrong is told; what can still be cleaned up is.
            let _ = self.delete().await;
        }
        (self.line.end().await, self.turns)
    }

    /// One session, from its first turn until it is deleted, and the next one, if it is not over.
    async fn session(&mut self, over: &watch::Receiver<bool>) -> Result<(), Failure> {
        loop {
            let mut said = Vec::new();
            while said.len() < TURNS && !*over.borrow() {
                said.extend(self.turn(said.len()).await?);
                sleep(PAUSE).await;
            }
            self.verify(&said).await?;
            self.delete().await?;
            if *over.borrow() {
                return Ok(());
            }
            self.begin_session().await?;
        }
    }

    async fn delete(&mut self) -> Result<(), Failure> {
        self.ask("sessions.delete", json!({ "key": self.key, "deleteTranscript": true })).await.map(|_| ())
    }

    /// Says something, and hears how it ends.
    async fn turn(&mut self, nth: usize) -> Result<Option<Said>, Failure> {
        let run = format!("{}-{}-{nth}", self.name, self.sessions);
        let token = format!("[{run}]");
        let params = json!({
            "sessionKey": self.key, "message": format!("{token} {WORDS}"), "idempotencyKey": run,
            "deliver": false,
        });
        self.ends.0.insert(run.clone(), Vec::new());
        self.turns.sent += 1;
        let begun = Instant::now();
        if let Err(failure) = self.ask("chat.send", params).await
            && self.ends.of(&run).is_none()
        {
            return Err(failure);
        }
        let deadline = begun + TURN_LIMIT;
        while self.ends.of(&run).is_none() {
            match timeout_at(deadline, self.line.next()).await {
                Ok(Ok(Incoming::Event { name, payload })) => self.ends.hear(&Event { name, payload }),
                Ok(Ok(Incoming::Response { .. })) => {}
                Ok(Err(lost)) => return Err(lost),
                Err(_) => {
                    let seen = format!("no end of {run} within {} s", TURN_LIMIT.as_secs());
                    self.line.violated("each turn ends once", seen);
                    return Ok(None);
                }
            }
        }
        let end = self.ends.of(&run).unwrap_or_default().to_owned();
        self.turns.end(&end, begun.elapsed());
        self.look_back(&run, &end).await?;
        Ok(Some(Said { token, end }))
    }

    /// Whoever asks later is told the same.
    async fn look_back(&mut self, run: &str, end: &str) -> Result<(), Failure> {
        let waited = self.ask("agent.wait", json!({ "runId": run, "timeoutMs": 5_000 })).await?;
        let (status, expected) = (&waited["status"], if end == "final" { "ok" } else { "error" });
        if *status != expected {
            let seen = format!("{run} ended as {end}, and then as {status}");
            self.line.violated("every later reader sees the same end", seen);
        }
        Ok(())
    }

    /// What stands in the session when its turns have ended.
    async fn verify(&mut self, said: &[Said]) -> Result<(), Failure> {
        let page = self.ask("chat.history", json!({ "sessionKey": self.key, "limit": PAGE })).await?;
        let texts = |role: &str| -> Vec<String> {
            let rows = page["messages"].as_array().into_iter().flatten();
            rows.filter(|row| row["role"] == role).map(|row| message_text(row).unwrap_or_default()).collect()
        };
        let (asked, answered) = (texts("user"), texts("assistant"));
        let count = |texts: &[String], token: &str| texts.iter().filter(|text| text.contains(token)).count();
        for Said { token, end } in said {
            let (asked, answered) = (count(&asked, token), count(&answered, token));
            if asked != 1 || answered > 1 || end == "final" && answered != 1 {
                let seen = format!("{token} ({end}) {asked} times, its answer {answered} times");
                self.line.violated("each message stands in its session once", seen);
            }
        }
        for (run, ends) in std::mem::take(&mut self.ends.0) {
            if ends.len() > 1 {
                self.line.violated("each turn ends once", format!("{run} ended {}", ends.join(", ")));
            }
        }
        self.at_rest().await
    }

    /// Nothing runs in the session any more.
    async fn at_rest(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + ANSWER_LIMIT;
        loop {
            let described = self.ask("sessions.describe", json!({ "key": self.key })).await?;
            let session = &described["session"];
            if session["hasActiveRun"] != true && session["status"] != "running" {
                return Ok(());
            }
            if Instant::now() > deadline {
                self.line.violated("nothing runs when all turns have ended", session.to_string());
                return Ok(());
            }
            sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ends_of_its_own_turns_are_heard() {
        let mut ends = Ends::default();
        ends.0.insert("mine".into(), Vec::new());
        let event = |name: &str, run: &str, state: &str| Event {
            name: name.into(),
            payload: json!({ "runId": run, "state": state }),
        };
        let heard = [("chat", "mine", "delta"), ("chat", "other", "final"), ("agent", "mine", "final")];
        for (name, run, state) in heard {
            ends.hear(&event(name, run, state));
        }
        assert_eq!(ends.of("mine"), None);
        ends.hear(&event("chat", "mine", "final"));
        ends.hear(&event("chat", "mine", "error"));
        assert_eq!((ends.of("mine"), ends.0["mine"].len()), (Some("final"), 2));
    }
}

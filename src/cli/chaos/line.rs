//! A socket whose every frame is checked: numbers of events go up by one, the version of presence never goes back, each
//! request is answered once.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep, timeout_at};

use super::report::{Tally, Violation};
use crate::cli::Failure;
use crate::cli::client::{Client, Incoming, decoded};

/// The longest that an answer may take: a part that hangs is replaced within seconds.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// The longest wait before something is asked again.
const RETRY: Duration = Duration::from_millis(250);

/// An event, for who wants to hear it.
pub(super) struct Event {
    pub name: String,
    pub payload: Value,
}

/// See the module.
pub(super) struct Line {
    client: Client,
    /// What it is called in a violation.
    name: String,
    pub tally: Tally,
    seq: Option<u64>,
    presence: u64,
    /// Requests without an answer yet: which method, and since when.
    open: HashMap<String, (String, Instant)>,
}

impl Line {
    pub fn new(client: Client, name: impl Into<String>) -> Self {
        let presence = client.hello["snapshot"]["stateVersion"]["presence"].as_u64().unwrap_or_default();
        Self { client, name: name.into(), tally: Tally::default(), seq: None, presence, open: HashMap::new() }
    }

    pub fn violated(&mut self, expected: &str, seen: impl Into<String>) {
        self.tally.violations.push(Violation {
            who: self.name.clone(),
            expected: expected.into(),
            seen: seen.into(),
        });
    }

    /// Sends a request; returns its id.
    pub async fn send(&mut self, method: &str, params: Value) -> Result<String, Failure> {
        self.tally.requests += 1;
        let id = self.client.send(method, params).await.inspect_err(|lost| self.lose(lost))?;
        self.open.insert(id.clone(), (method.to_owned(), Instant::now()));
        Ok(id)
    }

    /// What comes next.
    pub async fn next(&mut self) -> Result<Incoming, Failure> {
        loop {
            let frame = self.client.frame().await.inspect_err(|lost| self.lose(lost))?;
            self.check(&frame);
            if let Some(incoming) = decoded(frame) {
                return Ok(incoming);
            }
        }
    }

    fn lose(&mut self, lost: &Failure) {
        if !self.tally.lost {
            self.tally.lost = true;
            self.violated("its socket stays open", lost.told());
        }
    }

    fn check(&mut self, frame: &Value) {
        if frame["type"] == "res" {
            return self.check_answer(frame);
        }
        let Some(seq) = frame["seq"].as_u64() else { return };
        self.tally.events += 1;
        match self.seq.replace(seq) {
            Some(last) if seq <= last => {
                self.violated("numbers of events go up", format!("{seq} after {last}"));
            }
            // It is read all the time, so nothing had to be dropped.
            Some(last) if seq != last + 1 => {
                self.tally.missed += seq - last - 1;
                self.violated("no event is missing", format!("{seq} after {last}"));
            }
            _ => {}
        }
        if let Some(version) = frame["stateVersion"]["presence"].as_u64() {
            if version < self.presence {
                self.violated(
                    "the version of presence never goes back",
                    format!("{version} after {}", self.presence),
                );
            }
            self.presence = version;
        }
    }

    fn check_answer(&mut self, frame: &Value) {
        let id = frame["id"].as_str().unwrap_or_default();
        let Some((_, since)) = self.open.remove(id) else {
            return self.violated(
                "each request is answered once",
                format!("an answer to {id} that nobody waits for"),
            );
        };
        self.tally.answers += 1;
        self.tally.slowest = self.tally.slowest.max(since.elapsed());
        self.tally.put_off += usize::from(frame["error"]["retryable"] == true);
    }

    /// Asks once, and tells what is heard meanwhile.
    pub async fn once(
        &mut self,
        method: &str,
        params: Value,
        mut hear: impl FnMut(&Event),
    ) -> Result<Value, Failure> {
        let wanted = self.send(method, params).await?;
        let deadline = Instant::now() + ANSWER_LIMIT;
        loop {
            match timeout_at(deadline, self.next()).await {
                Ok(Ok(Incoming::Response { id, result })) if id == wanted => return result,
                Ok(Ok(Incoming::Response { .. })) => {}
                Ok(Ok(Incoming::Event { name, payload })) => hear(&Event { name, payload }),
                Ok(Err(lost)) => return Err(lost),
                Err(_) => return Err(Failure::timeout(method, ANSWER_LIMIT.as_millis())),
            }
        }
    }

    /// Asks until there is an answer that does not put it off.
    pub async fn ask(
        &mut self,
        method: &str,
        params: Value,
        mut hear: impl FnMut(&Event),
    ) -> Result<Value, Failure> {
        let deadline = Instant::now() + ANSWER_LIMIT;
        loop {
            let failure = match self.once(method, params.clone(), &mut hear).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            match failure.retry_ms() {
                Some(ms) if Instant::now() < deadline => sleep(Duration::from_millis(ms).min(RETRY)).await,
                _ => return Err(failure),
            }
        }
    }

    /// Waits for what was asked and is not answered; then nothing is heard any more.
    pub async fn end(mut self) -> Tally {
        let deadline = Instant::now() + ANSWER_LIMIT;
        while !self.open.is_empty() && !self.tally.lost {
            if timeout_at(deadline, self.next()).await.is_err() {
                break;
            }
        }
        let open: Vec<_> = std::mem::take(&mut self.open).into_values().collect();
        for (method, since) in open {
            let seen = format!("no answer to {method} for {} s", since.elapsed().as_secs());
            self.violated("each request is answered once", seen);
        }
        self.tally
    }
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;

//! One heartbeat: what the agent is asked, and what becomes of its answer.

use crate::channels::{Fate, Wish, send};
use crate::hooks;
use crate::media::Uploads;
use crate::sessions::{Saying, SessionsMsg, Status, Submission, silence};
use crate::settings::HeartbeatSettings;
use crate::store::{self, CronOp, EventRow, NewInput, Store, StoreError, WriteOp};
use crate::tree::Slot;
use crabtree_protocol::SessionKey;
use serde_json::{Value, json};
use uuid::Uuid;

/// Whose inputs these are.
const SOURCE: &str = "heartbeat";
/// The file in which people write what is to be looked after.
const FILE: &str = "HEARTBEAT.md";
/// Characters of it that are read.
const MAX_CHARS: usize = 20_000;
/// What an agent answers when nothing needs attention.
const OK: &str = "HEARTBEAT_OK";
/// What may stand beside it and is not told either, characters (as OpenClaw has it).
const MAX_BESIDE: usize = 300;
/// Characters of an answer that are shown of it.
const MAX_PREVIEW: usize = 200;
/// Place in the backlog: after those who address the agent themselves.
const PRIORITY: i64 = 0;

/// A heartbeat on its way.
pub(super) struct Pulse {
    pub store: Store,
    pub sessions: Slot<SessionsMsg>,
    pub agent: String,
    pub run_id: String,
    pub begins: Begins,
}

/// Why a heartbeat begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Begins {
    /// It is due.
    Due,
    /// Something urgent waits, whether there are heartbeats or not.
    Asked,
    /// It had begun before a crash, under this run.
    Again(String),
}

impl Pulse {
    fn resumes(&self) -> bool {
        matches!(self.begins, Begins::Again(_))
    }
}

/// What became of it.
pub struct Beat {
    began: i64,
    status: &'static str,
    reason: Option<&'static str>,
    preview: Option<String>,
    message: Option<String>,
}

impl Beat {
    fn new(began: i64, status: &'static str) -> Self {
        Self { began, status, reason: None, preview: None, message: None }
    }

    fn skipped(began: i64, reason: &'static str) -> Self {
        Self { reason: Some(reason), ..Self::new(began, "skipped") }
    }

    fn failed(began: i64, message: String) -> Self {
        Self { message: Some(message), ..Self::new(began, "failed") }
    }

    /// The event `heartbeat`, and the answer of `last-heartbeat`.
    pub(super) fn told(self, now: i64) -> Value {
        let mut told = json!({
            "ts": now, "status": self.status, "reason": self.reason, "preview": self.preview,
            "message": self.message, "durationMs": (now - self.began).max(0),
        });
        if let Some(members) = told.as_object_mut() {
            members.retain(|_, value| !value.is_null());
        }
        told
    }
}

/// What an answer to a heartbeat says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Nothing needs attention.
    Fine,
    /// People should read this.
    News(String),
}

/// What an answer to a heartbeat says to people.
pub fn heard(text: &str) -> Heard {
    let text = silence::told(text.trim(), true).trim();
    let trimmed = |c: char| c.is_whitespace() || matches!(c, '*' | '`' | '.' | '!');
    let bare = text.trim_matches(trimmed);
    let rest = bare.strip_prefix(OK).or_else(|| bare.strip_suffix(OK)).map(|rest| rest.trim_matches(trimmed));
    match rest {
        Some(rest) if rest.chars().count() <= MAX_BESIDE => Heard::Fine,
        Some(rest) => Heard::News(rest.to_owned()),
        None if text.is_empty() => Heard::Fine,
        None => Heard::News(text.to_owned()),
    }
}

/// Whether a file says anything: not if there are only headings, empty items and comments.
fn says_something(file: &str) -> bool {
    let is_empty = |line: &str| {
        let line = line.trim();
        let item = line.trim_start_matches(['-', '*', '+']).trim_start_matches(" [ ]").trim();
        line.starts_with('#') || line.starts_with("<!--") || item.is_empty()
    };
    file.lines().any(|line| !is_empty(line))
}

impl Pulse {
    /// Has it.
    pub(super) async fn beat(self) -> Beat {
        let began = self.store.estate.clock.now_ms();
        let config = self.store.estate.config.load_full();
        let own = config.settings.heartbeat(&self.agent);
        let usual = (self.begins != Begins::Due).then(|| config.settings.agents.defaults.heartbeat.clone());
        let Some(settings) = own.or(usual) else { return Beat::skipped(began, "disabled") };
        let key = SessionKey::canonical(&self.store.estate.catalog.load().main_key, &self.agent);
        let Ok(key) = key else { return Beat::skipped(began, "no-session") };
        let events = match self.events(&key).await {
            Ok(events) => events,
            Err(e) => return Beat::failed(began, format!("the events could not be read: {e}")),
        };
        let path = config.workspace(&self.agent).join(FILE);
        let file =
            tokio::task::spawn_blocking(move || std::fs::read_to_string(path).ok()).await.ok().flatten();
        let file = file
            .map(|file| file.chars().take(MAX_CHARS).collect::<String>())
            .filter(|file| says_something(file));
        let route = self.route(&settings, &key).await;
        if events.is_empty() && !self.resumes() {
            if file.is_none() {
                return Beat::skipped(began, "empty-heartbeat-file");
            }
            if route.is_none() && settings.target.as_deref() != Some("none") {
                let message = "Heartbeat has no delivery route yet: nobody has spoken to the main session on a channel.";
                return Beat { message: Some(message.into()), ..Beat::skipped(began, "no-route") };
            }
        }
        let text = self.text(&settings, file.as_deref(), &events);
        let from_hooks = events.iter().any(hooks::is_from_hook);
        let saying = Saying {
            store: self.store.clone(),
            sessions: self.sessions.clone(),
            source: SOURCE,
            key: key.clone(),
            run_id: self.run_id.clone(),
        };
        let outcome = saying.outcome(|| Some(self.submission(&settings, &key, (&text, from_hooks)))).await;
        let beat = match outcome {
            Some(outcome) if outcome.status == Status::Ok => match heard(&outcome.text) {
                Heard::Fine => Beat::new(began, "ok-token"),
                Heard::News(text) => self.tell(began, &settings, route, text).await,
            },
            Some(outcome) => {
                Beat::failed(began, outcome.error.unwrap_or_else(|| "the run was stopped".into()))
            }
            None => Beat::failed(began, "the agent could not be asked".into()),
        };
        // Last: whoever is cut off before tells the same once more, under the same names, so that it is told once.
        let told = WriteOp::Cron(CronOp::Told { run_id: self.run_id.clone() });
        if let Err(e) = self.store.write(told).await {
            tracing::error!(target: "crabtree::scheduler", "what was told is not known to be: {e}");
        }
        beat
    }

    /// What waits for the session, which is told by this run from now on.
    async fn events(&self, key: &SessionKey) -> Result<Vec<EventRow>, StoreError> {
        let (session_key, run_id) = (key.to_string(), self.run_id.clone());
        // What came after it had begun waits for the next one.
        if !self.resumes() {
            self.store.write(WriteOp::Cron(CronOp::TellNow { session_key, run_id })).await?;
        }
        let rows = self.store.read(store::system_events).await?;
        Ok(rows.into_iter().filter(|row| row.run_id.as_ref() == Some(&self.run_id)).collect())
    }

    fn text(&self, settings: &HeartbeatSettings, file: Option<&str>, events: &[EventRow]) -> String {
        let mut text = settings.prompt().to_owned();
        for event in events {
            let told = format!("System event: {}", event.text);
            let told = if hooks::is_from_hook(event) { hooks::told("event", &told) } else { told };
            text.push_str(&format!("\n\n{told}"));
        }
        if let Some(file) = file {
            text.push_str(&format!("\n\n{FILE}:\n{file}"));
        }
        text
    }

    /// `from_hooks`: it tells what a program said, and may do no more than that program.
    fn submission(
        &self,
        settings: &HeartbeatSettings,
        key: &SessionKey,
        (text, from_hooks): (&str, bool),
    ) -> Submission {
        let sender = json!({ "senderIsOwner": !from_hooks, "heartbeat": self.agent });
        let mut body = json!({ "sender": sender, "hook": from_hooks });
        if let Some(model) = &settings.model {
            body["model"] = json!(model);
        }
        if let Some(seconds) = settings.timeout_seconds.filter(|seconds| *seconds > 0) {
            body["timeoutMs"] = json!(seconds.saturating_mul(1_000));
        }
        let input = NewInput {
            id: Uuid::now_v7().to_string(),
            source: SOURCE.into(),
            source_id: self.run_id.clone(),
            session_key: key.to_string(),
            run_id: self.run_id.clone(),
            kind: "wake".into(),
            digest: blake3::hash(format!("{key}\n{text}").as_bytes()).to_hex().to_string(),
            text: text.to_owned(),
            body,
            created_at: self.store.estate.clock.now_ms(),
            priority: PRIORITY,
        };
        Submission { input, sender, uploads: Uploads::default(), responder: None, must_exist: false }
    }

    /// The chat that hears of it.
    async fn route(&self, settings: &HeartbeatSettings, key: &SessionKey) -> Option<Wish> {
        let wish = |channel: String, to: String, account: Option<String>| Wish {
            id: self.run_id.clone(),
            channel: Some(channel),
            account,
            to,
            thread: None,
            reply_to: None,
            text: String::new(),
            files: Vec::new(),
        };
        let target = settings.target.as_deref().unwrap_or("owner");
        let config = self.store.estate.config.load_full();
        if target == "none" {
            return None;
        }
        if let (false, Some(to)) = (matches!(target, "owner" | "last"), &settings.to) {
            return Some(wish(target.to_owned(), to.clone(), settings.account_id.clone()));
        }
        if target == "owner" {
            let owners = &config.settings.commands.owner_allow_from.0;
            let named = owners.iter().find_map(|owner| {
                let (channel, to) = owner.split_once(':')?;
                config.settings.channels.0.contains_key(channel).then(|| (channel.to_owned(), to.to_owned()))
            });
            if let Some((channel, to)) = named {
                return Some(wish(channel, to, settings.account_id.clone()));
            }
        }
        let name = key.to_string();
        let record = self.store.read(move |c| store::session(c, &name)).await.ok().flatten()?;
        let route = &record.entry["deliveryContext"];
        let word = |name: &str| route[name].as_str().map(str::to_owned);
        let channel = word("channel").filter(|on| matches!(target, "owner" | "last") || target == on)?;
        Some(Wish { thread: word("threadId"), ..wish(channel, word("to")?, word("accountId")) })
    }

    async fn tell(
        &self,
        began: i64,
        settings: &HeartbeatSettings,
        route: Option<Wish>,
        text: String,
    ) -> Beat {
        let preview = Some(text.chars().take(MAX_PREVIEW).collect());
        let Some(wish) = route else {
            let reason = if settings.target.as_deref() == Some("none") { "target-none" } else { "no-route" };
            return Beat { preview, ..Beat::skipped(began, reason) };
        };
        match send(&self.store, Wish { text, ..wish }).await {
            Ok(Fate::Sent(_) | Fate::Waits) => Beat { preview, ..Beat::new(began, "sent") },
            Ok(Fate::Failed(why)) | Err(why) => Beat { preview, ..Beat::failed(began, why) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_all_is_well_is_told_to_nobody() {
        for fine in [
            "HEARTBEAT_OK",
            " **HEARTBEAT_OK**\n",
            "HEARTBEAT_OK. All quiet.",
            "Nothing new. HEARTBEAT_OK",
            "NO_REPLY",
            "",
        ] {
            assert_eq!(heard(fine), Heard::Fine, "{fine:?}");
        }
        assert_eq!(heard("The door is open."), Heard::News("The door is open.".into()));
        assert_eq!(
            heard("It says HEARTBEAT_OK in the middle"),
            Heard::News("It says HEARTBEAT_OK in the middle".into())
        );
        let long = "x".repeat(MAX_BESIDE + 1);
        assert_eq!(heard(&format!("HEARTBEAT_OK {long}")), Heard::News(long));
    }

    #[test]
    fn a_file_of_headings_and_empty_items_says_nothing() {
        assert!(!says_something("# Heartbeat\n\n- [ ]\n-\n<!-- write here -->\n"));
        assert!(says_something("# Heartbeat\n- look at the mail\n"));
    }
}

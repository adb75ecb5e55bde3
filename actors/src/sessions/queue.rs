//! What waits in a session: in which order it is answered, what is answered together, and what has no room.

use crate::media;
use crate::settings::{DropPolicy, QueueSettings};
use crate::store::{InputRow, NewMessage};
use crabtree_protocol::RunId;
use crabtree_protocol::params::chat::QueueMode;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::time::Duration;
use uuid::Uuid;

/// Inputs of one session that are neither answered nor dropped: past it even `summarize` refuses.
pub const MAX_WAITING: usize = 200;
/// Characters of a dropped message that its summary keeps.
const DROPPED_EXCERPT: usize = 160;

/// How this input was queued.
pub(super) fn mode_of(row: &InputRow) -> QueueMode {
    let name = row.body.get("queueMode").and_then(Value::as_str);
    name.and_then(QueueMode::from_name).unwrap_or(QueueMode::Followup)
}

/// Whether its submission was settled when it was queued, so that its turn has a run of its own name.
pub(super) fn is_detached(row: &InputRow) -> bool {
    row.body.get("detached").is_some()
}

/// Whether it had joined a turn that was given up, and stands in the transcript since.
pub(super) fn is_asked(row: &InputRow) -> bool {
    row.body.get("asked").is_some()
}

/// What is to be done about a backlog.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// Nothing.
    Rest,
    /// Look again after this long.
    Wait(Duration),
    /// These are answered by the next turn.
    Turn(Batch),
}

/// Inputs that are answered by one turn.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Batch {
    /// The first gives the turn its name.
    pub rows: Vec<InputRow>,
    /// Answered by their place in the summary.
    pub dropped: Vec<InputRow>,
}

impl Batch {
    /// The turn's run: that of an attempt that was lost, the input's own, or a new one if the submission is
    /// settled already.
    pub fn turn(&self) -> RunId {
        match self.rows.first() {
            Some(InputRow { turn: Some(turn), .. }) => turn.as_str().into(),
            Some(row) if !is_detached(row) && self.is_alone() => row.run_id.as_str().into(),
            _ => RunId::random(),
        }
    }

    /// Everything it answers.
    pub fn all(&self) -> impl Iterator<Item = &InputRow> {
        self.rows.iter().chain(&self.dropped)
    }

    fn is_alone(&self) -> bool {
        self.rows.len() == 1 && self.dropped.is_empty()
    }

    /// What is asked, as transcript rows; `of` makes the row of one input.
    pub fn messages(&self, session_id: &str, of: impl Fn(&InputRow) -> NewMessage) -> Vec<NewMessage> {
        let Some(first) = self.rows.first() else { return Vec::new() };
        let said: Vec<&InputRow> = self.rows.iter().filter(|row| !is_asked(row)).collect();
        // What was begun once stands in the transcript.
        if first.turn.is_some() || (said.is_empty() && self.dropped.is_empty()) {
            return Vec::new();
        }
        if self.is_alone() {
            return vec![of(first)];
        }
        let mut message = of(first);
        let key = self.key(session_id);
        message.id = Uuid::now_v7().to_string();
        message.message["content"] = json!(self.text(&said));
        message.message["idempotencyKey"] = json!(key);
        let files = said.iter().flat_map(|row| media::facts(&row.body["sender"])).cloned();
        media::attach(&mut message.message["__openclaw"], files.collect());
        message.idempotency_key = Some(key);
        vec![message]
    }

    /// Unique for what is put together.
    fn key(&self, session_id: &str) -> String {
        let mut hash = Sha256::new();
        self.all().for_each(|row| hash.update(row.id.as_bytes()));
        let hash: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("followup-collect:{session_id}:{hash}")
    }

    fn text(&self, said: &[&InputRow]) -> String {
        let mut parts = Vec::new();
        if !self.dropped.is_empty() {
            let lines: Vec<String> =
                self.dropped.iter().map(|row| format!("- {}", excerpt(&row.text))).collect();
            parts.push(format!(
                "[Queue overflow: {} messages had no room and stand here in short]\n{}",
                self.dropped.len(),
                lines.join("\n")
            ));
        }
        match said {
            [] => {}
            [row] => parts.push(row.text.clone()),
            rows => {
                parts.push("[Queued messages while agent was busy]".into());
                let one = |(at, row): (usize, &&InputRow)| {
                    format!("---\nQueued #{} (from {})\n{}", at + 1, sender(row), row.text)
                };
                parts.extend(rows.iter().enumerate().map(one));
            }
        }
        parts.join("\n\n")
    }
}

fn excerpt(text: &str) -> String {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= DROPPED_EXCERPT {
        return line;
    }
    line.chars().take(DROPPED_EXCERPT - 1).chain(['…']).collect()
}

/// Who sent it, as far as is known.
fn sender(row: &InputRow) -> &str {
    row.body["sender"]["transport"]["clients"][0]["id"].as_str().unwrap_or("unknown")
}

/// The inputs of a session that wait, in the order in which they are answered: by priority, then by age.
#[derive(Default)]
pub(super) struct Backlog {
    rows: Vec<InputRow>,
    /// Turns whose attempt was lost come before everything else.
    lost: Vec<Vec<InputRow>>,
    /// When the last one came, ms.
    last_at: i64,
}

impl Backlog {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.rows.len() + self.lost.iter().map(Vec::len).sum::<usize>()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts one in its place.
    pub fn push(&mut self, row: InputRow) {
        self.last_at = self.last_at.max(row.created_at);
        let place = |row: &InputRow| (-row.priority, row.seq);
        let at = self.rows.partition_point(|other| place(other) < place(&row));
        self.rows.insert(at, row);
    }

    /// It is answered next, whatever waits.
    pub fn push_first(&mut self, row: InputRow) {
        self.rows.insert(0, row);
    }

    /// The turn of these inputs is to be tried again.
    pub fn push_lost(&mut self, rows: Vec<InputRow>) {
        self.lost.push(rows);
    }

    /// Who had joined a turn that was given up waits for another one, which has a name of its own.
    pub fn push_again(&mut self, joined: Vec<InputRow>) {
        for mut row in joined {
            row.turn = None;
            row.body["detached"] = json!(true);
            row.body["asked"] = json!(true);
            self.push(row);
        }
    }

    /// What joins the running turn at its next step.
    pub fn take_steered(&mut self) -> Vec<InputRow> {
        self.rows.extract_if(.., |row| mode_of(row) == QueueMode::Steer && !is_asked(row)).collect()
    }

    /// What was to take the place of a turn, and has not begun.
    pub fn take_interrupting(&mut self) -> Vec<InputRow> {
        self.rows.extract_if(.., |row| mode_of(row) == QueueMode::Interrupt).collect()
    }

    /// Those that are meant (`None`: all), each with those it is answered together with.
    pub fn take_named(&mut self, run_id: Option<&RunId>) -> Vec<Vec<InputRow>> {
        let named = |row: &InputRow| {
            run_id.is_none_or(|id| id.as_str() == row.run_id || row.turn.as_deref() == Some(id.as_str()))
        };
        let lost = self.lost.extract_if(.., |rows| rows.iter().any(named)).collect::<Vec<_>>();
        let single = self.rows.extract_if(.., |row| named(row)).map(|row| vec![row]);
        lost.into_iter().chain(single).collect()
    }

    /// The oldest ones, for which there is no room. What stands in the transcript already keeps its place.
    pub fn take_overflow(&mut self, cap: usize) -> Vec<InputRow> {
        let mut fresh: Vec<i64> = self.rows.iter().filter(|row| !is_asked(row)).map(|row| row.seq).collect();
        fresh.sort_unstable();
        let gone = &fresh[..fresh.len().saturating_sub(cap.max(1))];
        self.rows.extract_if(.., |row| gone.contains(&row.seq)).collect()
    }

    /// What is answered next, taken out.
    pub fn next(&mut self, settings: &QueueSettings, now: i64) -> Next {
        if !self.lost.is_empty() {
            return Next::Turn(Batch { rows: self.lost.remove(0), dropped: Vec::new() });
        }
        // What stands in the transcript already is answered before more is said.
        let again: Vec<InputRow> = self.rows.extract_if(.., |row| is_asked(row)).collect();
        if !again.is_empty() {
            return Next::Turn(Batch { rows: again, dropped: Vec::new() });
        }
        let Some(first) = self.rows.first() else { return Next::Rest };
        let quiet = Duration::from_millis((now - self.last_at).max(0) as u64);
        if is_detached(first) && quiet < settings.debounce {
            return Next::Wait(settings.debounce - quiet);
        }
        let dropped = match settings.drop {
            DropPolicy::Summarize => self.take_overflow(settings.cap),
            DropPolicy::Old | DropPolicy::New => Vec::new(),
        };
        let together = |row: &InputRow| is_detached(row) && mode_of(row) == QueueMode::Collect;
        let count = self.rows.iter().take_while(|row| together(row)).count().max(1);
        Next::Turn(Batch { rows: self.rows.drain(..count).collect(), dropped })
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;

//! Out: an answer becomes messages that are rows before anybody sends them. Pure.

use super::chunks::chunks;
use super::contract::{Address, Capabilities, Unit};
use super::draft;
use super::ordered::Enclosure;
use crate::sessions::{INTERRUPTED, Outcome, Status, silence};
use crate::store::{DeliveryRow, InputRow};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Characters of a lost message that people are shown.
const SHOWN: usize = 60;

/// Where the answer to a message goes. It stands in the body of its input (`channel`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// Unique, and the same for the same message.
    pub id: String,
    /// The channel.
    pub channel: String,
    /// The account.
    pub account: String,
    /// The chat.
    pub to: Address,
    /// The message it replies to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// How long a message may be.
    pub capabilities: Limits,
}

/// How long a message of a platform may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    text_limit: usize,
    unit: LimitUnit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum LimitUnit {
    Chars,
    Utf16,
    Bytes,
}

impl From<Capabilities> for Limits {
    fn from(capabilities: Capabilities) -> Self {
        let unit = match capabilities.unit {
            Unit::Chars => LimitUnit::Chars,
            Unit::Utf16 => LimitUnit::Utf16,
            Unit::Bytes => LimitUnit::Bytes,
        };
        Self { text_limit: capabilities.text_limit, unit }
    }
}

impl From<LimitUnit> for Unit {
    fn from(unit: LimitUnit) -> Self {
        match unit {
            LimitUnit::Chars => Self::Chars,
            LimitUnit::Utf16 => Self::Utf16,
            LimitUnit::Bytes => Self::Bytes,
        }
    }
}

impl Answer {
    /// Where the answer to an input goes, if it came in on a channel.
    pub fn of(input: &InputRow) -> Option<Self> {
        Self::deserialize(input.body.get("channel")?).ok()
    }

    /// The messages that say this; the first replies.
    pub fn rows(&self, text: &str, now: i64) -> Vec<DeliveryRow> {
        let pieces = chunks(text, self.capabilities.text_limit, self.capabilities.unit.into());
        let reply = |n: usize| self.reply_to.as_ref().filter(|_| n == 1);
        let extra = |n| reply(n).map_or(json!({}), |id| json!({ "replyTo": id }));
        (1..).zip(pieces).map(|(n, text)| self.row(&n.to_string(), text, extra(n), now)).collect()
    }

    /// The messages that bring these files, one each: what is sent is there whole, or not at all.
    pub fn enclosures(&self, files: &[Enclosure], now: i64) -> Vec<DeliveryRow> {
        let row = |(n, file): (usize, &Enclosure)| {
            self.row(&format!("file-{n}"), String::new(), json!({ "file": file }), now)
        };
        (1..).zip(files).map(row).collect()
    }

    fn row(&self, part: &str, text: String, extra: Value, now: i64) -> DeliveryRow {
        let (id, place) = (format!("{}:{part}", self.id), (&*self.channel, &*self.account));
        DeliveryRow { extra, ..DeliveryRow::queued(id, place, json!(self.to), text, now) }
    }
}

/// What people are sent when a turn has ended that answers these inputs: each chat its answer.
pub fn answers(run_id: &str, inputs: &[InputRow], outcome: &Outcome) -> Vec<DeliveryRow> {
    let mut answers: Vec<Answer> = Vec::new();
    // Of several messages of a chat the last is replied to.
    for answer in inputs.iter().filter_map(Answer::of) {
        answers.retain(|other| {
            (&other.account, &other.channel, &other.to) != (&answer.account, &answer.channel, &answer.to)
        });
        answers.push(answer);
    }
    let rows = |answer: &Answer| {
        let mut rows = match (visible(outcome), left(outcome)) {
            (Some(text), _) => answer.rows(&text, outcome.ended_at),
            (None, Some(text)) => draft::left(answer.rows(text, outcome.ended_at)),
            (None, None) => Vec::new(),
        };
        if let Some(first) = rows.first_mut() {
            first.extra["draftId"] = json!(draft::id(run_id, answer));
        }
        rows
    };
    let of_run = |row| DeliveryRow {
        session_key: Some(outcome.session_key.clone()),
        run_id: Some(run_id.to_owned()),
        ..row
    };
    answers.iter().flat_map(rows).map(of_run).collect()
}

/// What stays of an answer that was stopped where people have seen it being written.
fn left(outcome: &Outcome) -> Option<&str> {
    let is_kept = outcome.status == Status::Aborted && outcome.stop_reason != INTERRUPTED;
    let text = silence::told(outcome.text.trim(), true);
    (is_kept && !text.is_empty()).then_some(text)
}

/// What people are told of an outcome; nothing of what they stopped themselves.
fn visible(outcome: &Outcome) -> Option<String> {
    let text = match outcome.status {
        Status::Ok => outcome.text.trim(),
        Status::Aborted => return None,
        Status::Error | Status::Timeout => {
            let why = outcome.error.as_deref().unwrap_or("The run failed.");
            return Some(format!("⚠️ {}", why.trim_start_matches("⚠️ ")));
        }
    };
    let text = silence::told(text, true);
    (!text.is_empty()).then(|| text.to_owned())
}

/// What people are told of messages that may not have reached them.
pub fn report(lost: &[DeliveryRow]) -> String {
    let first =
        lost.first().map(|row| row.text.split_whitespace().collect::<Vec<_>>().join(" ")).unwrap_or_default();
    let mut shown: String = first.chars().take(SHOWN).collect();
    if shown.len() < first.len() {
        shown.push('…');
    }
    let what = if lost.len() == 1 { "A message".to_owned() } else { format!("{} messages", lost.len()) };
    format!(
        "({what} of mine may not have reached you: “{shown}”. I did not send it again, so that you do not get it twice.)"
    )
}

/// What is told of a message that is sent: what it replies to and takes the place of.
pub fn extra(row: &DeliveryRow, name: &str) -> Option<String> {
    row.extra.get(name).and_then(Value::as_str).map(str::to_owned)
}

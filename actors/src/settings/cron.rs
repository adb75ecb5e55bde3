//! `cron`: jobs with a schedule.

use crabtree_protocol::params::cron::DeliveryMode;
use crabtree_protocol::value::{Int, Text};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Runs of jobs at the same time, as OpenClaw has it.
const CONCURRENT_RUNS: u64 = 8;
const MINUTE_MS: i64 = 60_000;

/// `cron`: jobs with a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct CronSettings {
    /// Whether they run.
    pub enabled: bool,
    /// How many run at the same time.
    pub max_concurrent_runs: Int<1, 64>,
    /// How long the session of a run is kept.
    pub session_retention: Retention,
    /// Whether what recurs and was missed while the gateway was not there is not made up for.
    pub skip_missed_jobs: bool,
    /// Who hears of jobs that fail, unless a job says something else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_alert: Option<FailureAlert>,
}

/// Who hears that a job fails, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct FailureAlert {
    /// Whether anybody does; who does not say so leaves it to where a job's answers go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// After how many failures in a row; 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Int<1, 1_000>>,
    /// The least pause between two alerts of a job, in milliseconds; an hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cooldown_ms: Option<Int>,
    /// Accepted; runs that are skipped are not told of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_skipped: Option<bool>,
    /// How it is told: `announce`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<DeliveryMode>,
    /// The channel; `last` is where the main session was spoken to last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<Text>,
    /// The chat.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Text>,
    /// The account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_id: Option<Text>,
}

impl Default for CronSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            max_concurrent_runs: Int::new(CONCURRENT_RUNS).expect("the default is in range"),
            session_retention: Retention::default(),
            skip_missed_jobs: false,
            failure_alert: None,
        }
    }
}

impl CronSettings {
    /// How many run at the same time.
    pub fn max_concurrent_runs(&self) -> usize {
        self.max_concurrent_runs.get() as usize
    }
}

/// For how long something is kept: `"24h"`, `"7d"`, `"90m"`; `false` or nothing of it: for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Retention {
    /// For ever, if it is `false`.
    Never(bool),
    /// So long.
    For(String),
}

impl Default for Retention {
    fn default() -> Self {
        Self::For("24h".into())
    }
}

impl Retention {
    /// Milliseconds; none: for ever. What cannot be read is a day, as the default is.
    pub fn ms(&self) -> Option<i64> {
        let Self::For(text) = self else { return None };
        let ms = duration_ms(text).unwrap_or(24 * 60 * MINUTE_MS);
        (ms > 0).then_some(ms)
    }
}

/// A time span as OpenClaw writes it: `30s`, `5m`, `1h`, `2d`, or minutes alone; several may follow each other.
pub fn duration_ms(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Ok(minutes) = text.parse::<i64>() {
        return minutes.checked_mul(MINUTE_MS).filter(|ms| *ms >= 0);
    }
    let (mut total, mut rest) = (0_i64, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|at| *at > 0)?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| digits + at);
        let unit = match &rest[digits..unit_end] {
            "ms" => 1,
            "s" => 1_000,
            "m" => MINUTE_MS,
            "h" => 60 * MINUTE_MS,
            "d" => 24 * 60 * MINUTE_MS,
            _ => return None,
        };
        total = total.checked_add(rest[..digits].parse::<i64>().ok()?.checked_mul(unit)?)?;
        rest = &rest[unit_end..];
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_spans_are_read_as_people_write_them() {
        for (text, ms) in
            [("24h", 86_400_000), ("30", 1_800_000), ("1h30m", 5_400_000), ("500ms", 500), ("0m", 0)]
        {
            assert_eq!(duration_ms(text), Some(ms), "{text}");
        }
        for wrong in ["", "h", "1 h", "soon", "1x"] {
            assert_eq!(duration_ms(wrong), None, "{wrong}");
        }
        assert_eq!(Retention::Never(false).ms(), None);
        assert_eq!(
            (Retention::For("0h".into()).ms(), Retention::For("?".into()).ms()),
            (None, Some(86_400_000))
        );
    }
}

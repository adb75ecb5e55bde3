//! What sessions used: tokens, costs, by session and over time.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::record;
use super::sessions::AllWord;
use crate::value::{Int, Text, shaped_text, string_enum};

shaped_text! {
    /// A day: `2026-11-20`.
    pub struct Day = r"^\d{4}-\d{2}-\d{2}$" if |text| {
        text.len() == 10
            && text.bytes().enumerate().all(|(at, b)| if at == 4 || at == 7 { b == b'-' } else { b.is_ascii_digit() })
    }
}

shaped_text! {
    /// A distance from UTC: `UTC+1`, `UTC-03:30`.
    pub struct UtcOffset = r"^UTC[+-]\d{1,2}(?::[0-5]\d)?$" if |text| {
        let Some(rest) = text.strip_prefix("UTC").and_then(|text| text.strip_prefix(['+', '-'])) else {
            return false;
        };
        let (hours, minutes) = rest.split_once(':').unwrap_or((rest, "00"));
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        (1..=2).contains(&hours.len()) && digits(hours)
            && minutes.len() == 2 && digits(minutes) && minutes < "60"
    }
}

string_enum! {
    /// Where days begin.
    any_of pub enum DayMode {
        /// In UTC.
        Utc = "utc",
        /// Where the gateway is.
        Gateway = "gateway",
        /// Where the client says.
        Specific = "specific",
    }
}

string_enum! {
    /// How far back.
    any_of pub enum UsageRange {
        /// A week.
        Week = "7d",
        /// A month.
        Month = "30d",
        /// Three months.
        Quarter = "90d",
        /// A year.
        Year = "1y",
        /// As far as it goes.
        All = "all",
    }
}

string_enum! {
    /// What a row stands for.
    any_of pub enum GroupBy {
        /// One id of a session.
        Instance = "instance",
        /// All ids a session ever had.
        Family = "family",
    }
}

/// Parameters of `sessions.usage`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UsageParams {
    /// Only this session.
    pub key: Option<Text>,
    /// Only of this agent.
    pub agent_id: Option<Text>,
    /// Of all agents.
    pub agent_scope: Option<AllWord>,
    /// The first day.
    pub start_date: Option<Day>,
    /// The last day.
    pub end_date: Option<Day>,
    /// Where days begin.
    pub mode: Option<DayMode>,
    /// How far back, instead of the two days.
    pub range: Option<UsageRange>,
    /// What a row stands for.
    pub group_by: Option<GroupBy>,
    /// As `groupBy: "family"`.
    pub include_historical: Option<bool>,
    /// Where days begin, with `mode: "specific"`.
    pub utc_offset: Option<UtcOffset>,
    /// The same as an IANA name, which goes first.
    pub time_zone: Option<Text>,
    /// At most so many rows.
    pub limit: Option<Int<1>>,
    /// Whether to add what fills the model's window.
    pub include_context_weight: Option<bool>,
}

record! {
    /// Result of `sessions.usage`.
    pub struct Usage {
        /// When, in milliseconds since the epoch.
        updated_at: u64,
        /// The first day.
        start_date: String,
        /// The last day.
        end_date: String,
        /// One row for each session.
        sessions: Vec<SessionUsage>,
        /// Their sum.
        totals: UsageTotals,
        /// Their sums by model, agent, day and others.
        aggregates: Value,
        /// Who created them.
        creator_options: Vec<Value>,
        /// How fresh the numbers are: `{status, cachedFiles, pendingFiles, staleFiles, refreshedAt?}`.
        cache_status: Value,
    }
}

record! {
    /// What one session used.
    pub struct SessionUsage {
        /// The session.
        key: String,
        /// Its id.
        session_id: String,
        /// What the row stands for.
        scope: GroupBy,
        /// When it changed last, in milliseconds since the epoch.
        updated_at: u64,
        /// The agent.
        agent_id: String,
        /// What it used, with days, models and latencies; null until that is known.
        usage: Option<Value>,
        /// Whether what fills the model's window is known.
        has_context_weight: bool,
        ; optional
        /// Its name or title.
        label: String,
        /// Who created it, as text to group by.
        creator_key: String,
        /// Who created it.
        created_actor: Value,
        /// `direct` or `group`.
        chat_type: String,
        /// The channel.
        channel: String,
        /// The model's provider.
        model_provider: String,
        /// The model.
        model: String,
        /// What its ids have in common; of a family.
        session_family_key: String,
        /// Its id now; of a family.
        current_session_id: String,
        /// All its ids; of a family.
        included_session_ids: Vec<String>,
        /// How many; of a family.
        historical_instance_count: u64,
        /// What fills the model's window, or null.
        context_weight: Value,
    }
}

record! {
    /// Tokens and what they cost, in dollars.
    pub struct UsageTotals {
        /// Tokens sent.
        input: u64,
        /// Tokens received.
        output: u64,
        /// Tokens the provider remembered.
        cache_read: u64,
        /// Tokens the provider was to remember.
        cache_write: u64,
        /// All of them.
        total_tokens: u64,
        /// What all of them cost.
        total_cost: f64,
        /// What tokens sent cost.
        input_cost: f64,
        /// What tokens received cost.
        output_cost: f64,
        /// What remembered tokens cost.
        cache_read_cost: f64,
        /// What remembering cost.
        cache_write_cost: f64,
        /// Turns whose cost is not known.
        missing_cost_entries: u64,
    }
}

/// Parameters of `sessions.usage.timeseries` and `sessions.usage.logs`; further ones are not looked at.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UsageDetailParams {
    /// The session; refused in words of its own when absent.
    pub key: Option<String>,
    /// The agent.
    pub agent_id: Option<String>,
    /// At most so many log entries, the newest; [`DEFAULT_USAGE_LOGS`] when absent.
    pub limit: Option<f64>,
}

/// Log entries when `limit` is absent.
pub const DEFAULT_USAGE_LOGS: usize = 200;
/// Most log entries, whatever `limit` says.
pub const MAX_USAGE_LOGS: usize = 1000;
/// Most points of a time series; more are summed up.
pub const MAX_USAGE_POINTS: usize = 200;

record! {
    /// Result of `sessions.usage.timeseries`.
    pub struct UsageSeries {
        /// The session's id.
        session_id: String,
        /// One for each turn, or for several.
        points: Vec<UsagePoint>,
    }
}

record! {
    /// What a turn used.
    pub struct UsagePoint {
        /// When, in milliseconds since the epoch.
        timestamp: u64,
        /// Tokens sent.
        input: u64,
        /// Tokens received.
        output: u64,
        /// Tokens the provider remembered.
        cache_read: u64,
        /// Tokens the provider was to remember.
        cache_write: u64,
        /// All of them.
        total_tokens: u64,
        /// What they cost, in dollars.
        cost: f64,
        /// Tokens up to here.
        cumulative_tokens: u64,
        /// Dollars up to here.
        cumulative_cost: f64,
    }
}

record! {
    /// Result of `sessions.usage.logs`.
    pub struct UsageLogs {
        /// The entries, oldest first.
        logs: Vec<UsageLog>,
    }
}

record! {
    /// A message and what it used.
    pub struct UsageLog {
        /// When, in milliseconds since the epoch.
        timestamp: u64,
        /// `user`, `assistant`, `tool` or `toolResult`.
        role: String,
        /// Its text, cut at 2000 characters.
        content: String,
        ; optional
        /// Tokens; of answers.
        tokens: u64,
        /// Dollars; of answers.
        cost: f64,
    }
}

record! {
    /// Result of `usage.status`.
    pub struct UsageStatus {
        /// When, in milliseconds since the epoch.
        updated_at: u64,
        /// What is left at which provider.
        providers: Vec<Value>,
        ; optional
        /// Whether newer numbers are on their way.
        refreshing: bool,
    }
}

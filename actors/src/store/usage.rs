//! Tokens used and what they cost, summed up from the outcomes of settled inputs.

use rusqlite::{Connection, Row, params};

use super::db::StoreError;
use crate::agents::{Cost, Usage};
use crate::settings::Usd;

/// Milliseconds of a day.
pub const DAY_MS: i64 = 86_400_000;

/// Milliseconds of a quarter of an hour: days begin at a whole one, wherever they are counted.
pub const QUARTER_MS: i64 = 900_000;

/// Whose usage, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsageFilter {
    /// Only of this session, which may be gone.
    pub key: Option<String>,
    /// Only of sessions of this agent.
    pub agent: Option<String>,
    /// Only runs that ended at this time or later, ms.
    pub from_ms: i64,
    /// Only runs that ended before this, ms.
    pub to_ms: i64,
}

/// What a session used of a model in a quarter of an hour.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsageRow {
    /// The session.
    pub session_key: String,
    /// Quarters of an hour since 1970, UTC.
    pub quarter: i64,
    /// The model's provider; empty if no model was begun.
    pub provider: String,
    /// The model.
    pub model: String,
    /// Runs that ended.
    pub runs: u64,
    /// Those that were answered.
    pub answered: u64,
    /// Those that failed or took too long.
    pub errors: u64,
    /// The tokens, and what is known of their cost.
    pub used: Usage,
    /// Runs of which the cost is not known.
    pub unpriced: u64,
    /// When the first of the runs began, ms.
    pub first_at: i64,
    /// When the last of them ended, ms.
    pub last_at: i64,
    /// How long each of those took that were answered, ms.
    pub durations: Vec<u64>,
}

/// Materialized, because only a plain read is answered by the index alone.
const USAGE: &str = "
    WITH runs (key, quarter, provider, model, status, used, began, ended) AS MATERIALIZED (
        SELECT session_key, settled_at / ?1, outcome ->> '$.provider', outcome ->> '$.model',
            outcome ->> '$.status', outcome -> '$.usage', coalesce(started_at, settled_at), settled_at
        FROM inputs WHERE settled_at >= ?2 AND settled_at < ?3 AND (?4 IS NULL OR session_key = ?4)
            AND (?5 IS NULL OR session_key >= 'agent:' || ?5 || ':' AND session_key < 'agent:' || ?5 || ';')
    )
    SELECT key, quarter, coalesce(provider, ''), coalesce(model, ''), count(*),
        sum(coalesce(status = 'ok', 0)), sum(coalesce(status IN ('error', 'timeout'), 0)),
        total(used ->> '$.input'), total(used ->> '$.output'), total(used ->> '$.cacheRead'),
        total(used ->> '$.cacheWrite'), total(used ->> '$.cost.input'), total(used ->> '$.cost.output'),
        total(used ->> '$.cost.cacheRead'), total(used ->> '$.cost.cacheWrite'),
        sum(used ->> '$.cost' IS NULL AND coalesce(used ->> '$.input', 0) + coalesce(used ->> '$.output', 0) > 0),
        min(began), max(ended), group_concat(iif(status = 'ok', max(ended - began, 0), NULL))
    FROM runs GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4";

/// Usage by session, quarter of an hour and model, in this order.
///
/// # Errors
/// What SQLite says.
pub fn usage(conn: &Connection, filter: &UsageFilter) -> Result<Vec<UsageRow>, StoreError> {
    let mut statement = conn.prepare_cached(USAGE)?;
    let usage = |row: &Row<'_>| {
        Ok(UsageRow {
            session_key: row.get(0)?,
            quarter: row.get(1)?,
            provider: row.get(2)?,
            model: row.get(3)?,
            runs: figure(row, 4)?,
            answered: figure(row, 5)?,
            errors: figure(row, 6)?,
            used: used(row)?,
            unpriced: figure(row, 15)?,
            first_at: row.get(16)?,
            last_at: row.get(17)?,
            durations: row.get::<_, Option<String>>(18)?.as_deref().map_or_else(Vec::new, durations),
        })
    };
    let wanted = params![QUARTER_MS, filter.from_ms, filter.to_ms, filter.key, filter.agent];
    Ok(statement.query_map(wanted, usage)?.collect::<Result<_, _>>()?)
}

/// What one run used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunUsage {
    /// The run.
    pub run_id: String,
    /// When it ended, ms.
    pub at: i64,
    /// The tokens, and what is known of their cost.
    pub used: Usage,
    /// The model's provider; empty if no model was begun.
    pub provider: String,
    /// The model.
    pub model: String,
    /// `ok`, `error`, `aborted` or `timeout`.
    pub status: String,
    /// How long it took, ms.
    pub duration_ms: i64,
}

/// The latest `limit` runs of a session that ended from `from_ms` on and before `to_ms`, oldest first.
///
/// # Errors
/// What SQLite says.
pub fn run_usage(
    conn: &Connection,
    key: &str,
    from_ms: i64,
    to_ms: i64,
    limit: u32,
) -> Result<Vec<RunUsage>, StoreError> {
    let mut statement = conn.prepare_cached(concat!(
        "SELECT run_id, settled_at, outcome -> '$.usage', coalesce(outcome ->> '$.provider', ''), ",
        "    coalesce(outcome ->> '$.model', ''), coalesce(outcome ->> '$.status', ''), ",
        "    coalesce((outcome ->> '$.endedAt') - (outcome ->> '$.startedAt'), 0) ",
        "FROM inputs WHERE session_key = ?1 AND settled_at >= ?2 AND settled_at < ?3 ",
        "ORDER BY settled_at DESC, seq DESC LIMIT ?4"
    ))?;
    let run = |row: &Row<'_>| {
        Ok(RunUsage {
            run_id: row.get(0)?,
            at: row.get(1)?,
            used: row.get::<_, Option<String>>(2)?.map_or_else(Usage::default, |used| {
                // What was never written is nothing.
                serde_json::from_str(&used).unwrap_or_default()
            }),
            provider: row.get(3)?,
            model: row.get(4)?,
            status: row.get(5)?,
            duration_ms: row.get(6)?,
        })
    };
    let latest = statement.query_map(params![key, from_ms, to_ms, limit], run)?;
    let mut runs = latest.collect::<Result<Vec<_>, _>>()?;
    runs.reverse();
    Ok(runs)
}

fn durations(list: &str) -> Vec<u64> {
    list.split(',').filter_map(|ms| ms.parse().ok()).collect()
}

/// Sums come as floating point numbers: exact as tokens, and as dollars but for the noise that [`Usd`] takes away.
fn used(row: &Row<'_>) -> rusqlite::Result<Usage> {
    let tokens = |column: usize| Ok::<_, rusqlite::Error>(row.get::<_, f64>(column)? as u64);
    let dollars = |column: usize| Ok::<_, rusqlite::Error>(Usd::from(row.get::<_, f64>(column)?));
    let cost = Cost {
        input: dollars(11)?,
        output: dollars(12)?,
        cache_read: dollars(13)?,
        cache_write: dollars(14)?,
    };
    Ok(Usage {
        input: tokens(7)?,
        output: tokens(8)?,
        cache_read: tokens(9)?,
        cache_write: tokens(10)?,
        cost: Some(cost),
    })
}

fn figure(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(column)?.max(0) as u64)
}

#[cfg(test)]
#[path = "usage_tests.rs"]
mod tests;

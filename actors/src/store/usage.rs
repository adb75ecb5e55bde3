//! Tokens used, summed up from the outcomes of settled inputs.

use rusqlite::Connection;

use super::db::StoreError;

/// Milliseconds of a day.
pub const DAY_MS: i64 = 86_400_000;

/// What one day used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DayUsage {
    /// Days since 1970, UTC.
    pub day: i64,
    /// Tokens read by models.
    pub input: u64,
    /// Tokens written by models.
    pub output: u64,
}

/// The days from `day` on in which runs ended, in order.
///
/// # Errors
/// What SQLite says.
pub fn usage_by_day(conn: &Connection, day: i64) -> Result<Vec<DayUsage>, StoreError> {
    let mut statement = conn.prepare_cached(
        "SELECT settled_at / ?1 AS day, sum(coalesce(outcome ->> '$.usage.input', 0)),
                sum(coalesce(outcome ->> '$.usage.output', 0))
         FROM inputs WHERE settled_at >= ?2 AND outcome IS NOT NULL GROUP BY day ORDER BY day",
    )?;
    let rows = statement.query_map([DAY_MS, day * DAY_MS], |row| {
        let tokens = |column| Ok::<_, rusqlite::Error>(row.get::<_, i64>(column)?.max(0) as u64);
        Ok(DayUsage { day: row.get(0)?, input: tokens(1)?, output: tokens(2)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

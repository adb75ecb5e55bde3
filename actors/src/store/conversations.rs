//! Where people talk with an agent, as its inputs tell.

use rusqlite::{Connection, Row, params};
use serde_json::Value;

use super::db::StoreError;
use super::transcript;

/// A chat in which somebody has talked to an agent.
#[derive(Clone, Debug, PartialEq)]
pub struct ConversationRow {
    /// The channel.
    pub channel: String,
    /// The account.
    pub account: String,
    /// The chat, as channels write it.
    pub address: Value,
    /// When something was written there first, as far as it is kept, ms.
    pub first_seen_at: i64,
    /// When last, ms.
    pub last_seen_at: i64,
}

/// The chats in which an agent is talked to, the latest first, at most `limit`.
///
/// # Errors
/// What SQLite says.
pub fn conversations(conn: &Connection, agent: &str, limit: u32) -> Result<Vec<ConversationRow>, StoreError> {
    let mut statement = conn.prepare_cached(
        "SELECT json_extract(body, '$.channel.channel'), json_extract(body, '$.channel.account'),
                json_extract(body, '$.channel.to'), MIN(created_at), MAX(created_at)
         FROM inputs WHERE session_key LIKE ?1 ESCAPE '\\' AND json_type(body, '$.channel.to') = 'object'
         GROUP BY 1, 2, 3 ORDER BY 5 DESC LIMIT ?2",
    )?;
    let read = |row: &Row<'_>| {
        Ok(ConversationRow {
            channel: row.get(0)?,
            account: row.get(1)?,
            address: transcript::json(row, 2)?,
            first_seen_at: row.get(3)?,
            last_seen_at: row.get(4)?,
        })
    };
    let escaped = agent.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    let like = format!("agent:{escaped}:%");
    Ok(statement.query_map(params![like, limit], read)?.collect::<Result<_, _>>()?)
}

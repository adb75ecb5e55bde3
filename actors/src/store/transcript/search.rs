//! Full-text search.

use rusqlite::types::Value;
use rusqlite::{Connection, Row, params_from_iter};

use super::{StoreError, excerpt, json, text_of};
use crate::store::db::list;
use crate::store::sessions::{ListFilter, Wanted};

/// The newest matches that are ranked: a word that stands in every message costs no more than this many.
const RANKED: u32 = 1_000;

/// What to search for, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SearchFilter {
    /// Words; a message matches that contains all of them.
    pub query: String,
    /// At most this many hits.
    pub limit: u32,
    /// Only in these sessions.
    pub keys: Option<Vec<String>>,
    /// Only in sessions of this agent.
    pub agent: Option<String>,
    /// Only in sessions a list with this filter has on its pages.
    pub scope: Option<ListFilter>,
}

/// A message that matches a search.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchHit {
    /// Its session.
    pub session_key: String,
    /// Its session's id.
    pub session_id: String,
    /// Its row id.
    pub message_id: String,
    /// Its kind, `user` or `assistant`.
    pub role: String,
    /// When it was said, ms.
    pub timestamp: i64,
    /// Its text around the first match, at most 160 characters.
    pub snippet: String,
    /// Relevance, higher is better.
    pub score: f64,
}

/// Messages in current transcripts that contain every word of the query (a word also matches where it begins a
/// longer one): of the newest thousand the best, best first. A message that several sessions share is found in
/// each. Operators of the index's own language have no meaning here.
///
/// # Errors
/// What SQLite says.
pub fn search(conn: &Connection, filter: &SearchFilter) -> Result<Vec<SearchHit>, StoreError> {
    let words: Vec<&str> =
        filter.query.split_whitespace().filter(|w| w.chars().any(char::is_alphanumeric)).collect();
    if words.is_empty() {
        return Ok(Vec::new());
    }
    let quoted = |word: &&str| format!("\"{}\"*", word.replace(['"', '\0'], " "));
    let wanted = words.iter().map(quoted).collect::<Vec<_>>().join(" ");
    let Wanted { sql: scope, mut values } = match &filter.scope {
        Some(scope) => Wanted::of(scope),
        None => Wanted { sql: "true".into(), values: Vec::new() },
    };
    let known = [
        ("words", Value::from(wanted)),
        ("agent", Value::from(filter.agent.clone())),
        ("keys", Value::from(filter.keys.as_deref().map(list))),
        ("ranked", Value::from(RANKED)),
        ("limit", Value::from(filter.limit)),
    ];
    let mut sql = FOUND.to_owned();
    for (name, value) in known {
        values.push(value);
        sql = sql.replace(&format!(":{name}"), &format!("?{}", values.len()));
    }
    let mut statement = conn.prepare_cached(&sql.replace(":scope", &scope))?;
    let hit = |row: &Row<'_>| {
        Ok(SearchHit {
            session_key: row.get(0)?,
            session_id: row.get(1)?,
            message_id: row.get(2)?,
            role: row.get(3)?,
            timestamp: row.get(4)?,
            snippet: excerpt(&text_of(&json(row, 5)?), words[0]),
            score: row.get(6)?,
        })
    };
    Ok(statement.query_map(params_from_iter(values), hit)?.collect::<Result<_, _>>()?)
}

/// Names stand for places among the values, which those of the scope take first.
const FOUND: &str = "
    SELECT f.key, f.session_id, m.id, m.kind, m.created_at, m.message, -f.rank
    FROM (SELECT message_texts.rowid AS pos, bm25(message_texts) AS rank, s.key, s.session_id
          FROM message_texts CROSS JOIN places p ON p.pos = message_texts.rowid
          CROSS JOIN transcripts t ON t.id = p.transcript
          CROSS JOIN sessions s ON s.key = t.session_key
              AND s.session_id = t.session_id AND s.revision = t.revision
          WHERE message_texts MATCH :words AND (:agent IS NULL OR s.agent_id = :agent)
              AND (:keys IS NULL OR p.transcript IN (
                  SELECT id FROM transcripts WHERE session_key IN (SELECT value FROM json_each(:keys))))
              AND (:scope)
          ORDER BY message_texts.rowid DESC LIMIT :ranked) AS f
    JOIN messages m ON m.pos = f.pos ORDER BY f.rank, f.pos DESC LIMIT :limit";

//! Lists of sessions: filters, orders, pages.

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::{SessionRecord, StoreError, session_record};
use crate::store::db::list;

/// Whether archived sessions (`entry.archivedAt`) are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Archived {
    /// Only those that are not.
    #[default]
    No,
    /// Only those that are.
    Only,
    /// Both.
    All,
}

/// What the order among pinned, and among other sessions, goes by; the latest come first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortBy {
    /// `updated_at`.
    #[default]
    Updated,
    /// `last_interaction_at`; those without come last.
    Interaction,
    /// The later of the two.
    Activity,
}

/// Which sessions to list; pinned ones (`entry.pinnedAt`) come first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListFilter {
    /// At most this many.
    pub limit: u32,
    /// Leave out this many of the first.
    pub offset: u32,
    /// What the order goes by.
    pub sort: SortBy,
    /// Whether archived ones are among them.
    pub archived: Archived,
    /// Only this agent's.
    pub agent_id: Option<String>,
    /// Only those of these agents.
    pub agents: Option<Vec<String>>,
    /// Only these.
    pub keys: Option<Vec<String>>,
    /// Only those with this in their key, label, display name or title (case of ASCII letters ignored).
    pub search: Option<String>,
    /// Only those with exactly this label.
    pub label: Option<String>,
    /// Only those in this category; empty for those in none.
    pub category: Option<String>,
    /// Only children of this session (`entry.spawnedBy`, else `entry.parentSessionKey`).
    pub spawned_by: Option<String>,
    /// Without those subagents work in: by their key, or spawned and neither a dashboard nor in a category.
    pub exclude_subagents: bool,
    /// Without those whose key begins so, after the agent.
    pub exclude_prefixes: Vec<&'static str>,
    /// Only pinned ones, or only others.
    pub pinned: Option<bool>,
    /// Only those with this `entry.boardFace`.
    pub board_face: Option<&'static str>,
    /// Only those a person has spoken in.
    pub require_interaction: bool,
    /// Only those updated after this, ms.
    pub updated_after: Option<i64>,
}

impl Default for ListFilter {
    /// The first hundred of all that are not archived.
    fn default() -> Self {
        Self {
            limit: 100,
            offset: 0,
            sort: SortBy::default(),
            archived: Archived::default(),
            agent_id: None,
            agents: None,
            keys: None,
            search: None,
            label: None,
            category: None,
            spawned_by: None,
            exclude_subagents: false,
            exclude_prefixes: Vec::new(),
            pinned: None,
            board_face: None,
            require_interaction: false,
            updated_after: None,
        }
    }
}

/// A page of the sessions, and how many match on all pages.
///
/// # Errors
/// What SQLite says.
pub fn list_sessions(
    conn: &Connection,
    filter: &ListFilter,
) -> Result<(Vec<SessionRecord>, i64), StoreError> {
    let Wanted { sql: wanted, values } = Wanted::of(filter);
    let total = conn
        .prepare_cached(&format!("SELECT count(*) FROM sessions s WHERE {wanted}"))?
        .query_row(params_from_iter(&values), |row| row.get(0))?;
    let column = match filter.sort {
        SortBy::Updated => "updated_at",
        SortBy::Interaction => "last_interaction_at",
        SortBy::Activity => "activity",
    };
    let order = format!("s.pinned DESC, s.{column} DESC, s.key");
    // The page is found in the index before its rows are read.
    let sql = format!(
        concat!(
            select!(
                "WHERE s.key IN (SELECT s.key FROM sessions s WHERE {} ORDER BY {} LIMIT ?{} OFFSET ?{})"
            ),
            " ORDER BY {}"
        ),
        wanted,
        order,
        values.len() + 1,
        values.len() + 2,
        order
    );
    let bounds = [Value::from(filter.limit), Value::from(filter.offset)];
    let mut statement = conn.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(values.iter().chain(&bounds)), session_record)?;
    Ok((rows.collect::<Result<_, _>>()?, total))
}

/// The pattern of a key alone decides for most; only for the children of others is the entry read.
const NO_SUBAGENTS: &str = " AND NOT s.key LIKE 'agent:%:subagent:%' AND (s.spawned_by IS NULL
    OR s.key LIKE 'agent:%:dashboard:%' OR s.category IS NOT NULL OR s.entry ->> '$.spawnedBy' IS NULL)";

/// Conditions on sessions `s` and the values they speak of, which are the first of a statement.
pub(in crate::store) struct Wanted {
    pub sql: String,
    pub values: Vec<Value>,
}

impl Wanted {
    pub fn of(filter: &ListFilter) -> Self {
        let narrow = filter.keys.is_some()
            || filter.label.is_some()
            || filter.category.is_some()
            || filter.spawned_by.is_some()
            || filter.search.is_some();
        let mut wanted = Self { sql: String::new(), values: Vec::new() };
        wanted.sql.push_str(match (filter.archived, narrow) {
            (Archived::All, _) => "true",
            (Archived::No, false) => "s.archived = 0",
            (Archived::Only, false) => "s.archived = 1",
            // With a sign it asks for no index: the narrow condition gets its own, a search reads the table.
            (Archived::No, true) => "+s.archived = 0",
            (Archived::Only, true) => "+s.archived = 1",
        });
        let lists = |names: &Option<Vec<String>>| names.as_deref().map(list);
        wanted.and("s.agent_id = ?", filter.agent_id.clone());
        wanted.and("s.agent_id IN (SELECT value FROM json_each(?))", lists(&filter.agents));
        wanted.and("s.key IN (SELECT value FROM json_each(?))", lists(&filter.keys));
        wanted.and("s.label = ?", filter.label.clone());
        wanted.and("coalesce(s.category, '') = ?", filter.category.clone().filter(String::is_empty));
        wanted.and("s.category = ?", filter.category.clone().filter(|name| !name.is_empty()));
        wanted.and("s.spawned_by = ?", filter.spawned_by.clone());
        wanted.and("s.updated_at > ?", filter.updated_after);
        wanted.and("s.pinned = ?", filter.pinned);
        wanted.and("s.entry ->> '$.boardFace' = ?", filter.board_face.map(str::to_owned));
        if filter.exclude_subagents {
            wanted.sql.push_str(NO_SUBAGENTS);
        }
        for prefix in &filter.exclude_prefixes {
            wanted.and("NOT s.key LIKE ?", Some(format!("agent:%:{prefix}%")));
        }
        if filter.require_interaction {
            wanted.sql.push_str(" AND s.last_interaction_at IS NOT NULL");
        }
        let like = |s: &str| format!("%{}%", s.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_"));
        wanted.and(
            "(s.key LIKE ? ESCAPE '\\' OR s.label LIKE ? ESCAPE '\\' OR s.display_name LIKE ? ESCAPE '\\'
              OR s.key IN (SELECT t.session_key FROM transcripts t CROSS JOIN sessions c ON c.key = t.session_key
                  WHERE t.title LIKE ? ESCAPE '\\' AND c.session_id = t.session_id AND c.revision = t.revision))",
            filter.search.as_deref().map(like),
        );
        wanted
    }

    /// Adds a condition if its value is given; `?` stands for the value.
    fn and(&mut self, condition: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.values.push(value.into());
            let condition = condition.replace('?', &format!("?{}", self.values.len()));
            self.sql.push_str(" AND ");
            self.sql.push_str(&condition);
        }
    }
}

/// The categories of sessions (`entry.category`), in order, and how many sessions are in each.
///
/// # Errors
/// What SQLite says.
pub fn group_counts(conn: &Connection) -> Result<Vec<(String, i64)>, StoreError> {
    let mut statement = conn.prepare_cached(
        "SELECT category, count(*) FROM sessions WHERE category IS NOT NULL GROUP BY category ORDER BY category",
    )?;
    Ok(statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?)
}

//! Tasks, which are records of jobs: those that run, ran, or are to run. What was missed or skipped is none, unless
//! somebody cancelled it.

use rusqlite::{Connection, OptionalExtension, params};

use super::cron::{COLUMNS, CronRunRow, read_run};
use super::db::{StoreError, list};

/// How far a record is, as a task. What was ended by somebody, or by its time, says so itself.
const STATUS: &str = "coalesce(entry ->> '$.taskStatus', CASE WHEN state = 'due' THEN 'queued'
    WHEN state = 'running' THEN 'running' WHEN status = 'ok' THEN 'completed' ELSE 'failed' END)";
const IS_TASK: &str = "(state IN ('due', 'running', 'run') OR entry ->> '$.taskStatus' IS NOT NULL)";

/// Which tasks are wanted, the latest first.
#[derive(Clone, Debug, Default)]
pub struct TaskFilter {
    /// Only those that are so far.
    pub statuses: Vec<String>,
    /// Only of this agent, and
    pub agent_id: Option<String>,
    /// the agent of jobs that name none.
    pub default_agent: String,
    /// At most so many.
    pub limit: u32,
    /// So many are left out.
    pub offset: u32,
}

/// A page of tasks.
///
/// # Errors
/// What SQLite says.
pub fn tasks(conn: &Connection, filter: &TaskFilter) -> Result<Vec<CronRunRow>, StoreError> {
    let statuses = (!filter.statuses.is_empty()).then(|| list(&filter.statuses));
    let query = format!(
        "SELECT {COLUMNS} FROM cron_runs WHERE {IS_TASK}
             AND (?1 IS NULL OR {STATUS} IN (SELECT value FROM json_each(?1)))
             AND (?2 IS NULL OR coalesce(job ->> '$.agentId', ?3) = ?2)
         ORDER BY coalesce(ended_at, started_at, instant) DESC, seq DESC LIMIT ?4 OFFSET ?5"
    );
    let page = params![statuses, filter.agent_id, filter.default_agent, filter.limit, filter.offset];
    Ok(conn.prepare_cached(&query)?.query_map(page, read_run)?.collect::<Result<_, _>>()?)
}

/// One task.
///
/// # Errors
/// What SQLite says.
pub fn task(conn: &Connection, run_id: &str) -> Result<Option<CronRunRow>, StoreError> {
    let query = format!("SELECT {COLUMNS} FROM cron_runs WHERE run_id = ?1 AND {IS_TASK}");
    Ok(conn.prepare_cached(&query)?.query_row([run_id], read_run).optional()?)
}

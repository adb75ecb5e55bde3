//! Jobs with a schedule, one record of each of their instants, and what waits to be told to an agent.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::Value;

use super::db::StoreError;
use super::rows::{SessionRecord, WriteReply};
use super::transcript::json;

/// Records of one job that are kept once they are over, as OpenClaw keeps them.
pub const KEPT_RUNS: u32 = 2_000;
/// Events that may wait for a session's next heartbeat; the oldest makes room.
pub const MAX_WAITING: u32 = 20;
/// For how long, the same.
const KEPT_MS: i64 = 7 * super::usage::DAY_MS;

/// A job as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct JobRow {
    /// Its id.
    pub id: String,
    /// No two jobs have the same.
    pub declaration_key: Option<String>,
    /// The job in OpenClaw's shape.
    pub job: Value,
    /// Up to and with when every instant has its record, ms.
    pub planned_to: i64,
}

/// Where an instant of a job stands. It only ever moves down this list; the last three are final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CronRunState {
    /// It is to run.
    Due,
    /// It runs, or is to be asked what became of it.
    Running,
    /// It ran.
    Run,
    /// The gateway was not there.
    Missed,
    /// It was there and did not run it.
    Skipped,
}

impl CronRunState {
    const ALL: [Self; 5] = [Self::Due, Self::Running, Self::Run, Self::Missed, Self::Skipped];

    /// The word stored in the `state` column.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Due => "due",
            Self::Running => "running",
            Self::Run => "run",
            Self::Missed => "missed",
            Self::Skipped => "skipped",
        }
    }

    /// Whether nothing will change any more.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Due | Self::Running)
    }
}

/// The record of one instant of a job. Unique by `run_id`, and of its kind by job and instant.
#[derive(Clone, Debug, PartialEq)]
pub struct CronRunRow {
    /// What it is run as.
    pub run_id: String,
    /// The job.
    pub job_id: String,
    /// When it was due, ms; when it was asked for, if somebody did.
    pub instant: i64,
    /// Whether somebody asked for it.
    pub manual: bool,
    /// Where it stands.
    pub state: CronRunState,
    /// When it may begin, ms.
    pub start_at: i64,
    /// When it began, ms.
    pub started_at: Option<i64>,
    /// When it was over, ms; present exactly in a final state.
    pub ended_at: Option<i64>,
    /// What it came to: `ok`, `error` or `skipped`.
    pub status: Option<String>,
    /// What became of what it came to.
    pub delivery_status: Option<String>,
    /// The job as it was when it began.
    pub job: Value,
    /// What clients are told of it.
    pub entry: Value,
}

/// What a job keeps for itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScratchRow {
    /// What.
    pub content: Option<String>,
    /// Its number; 0 if there never was anything.
    pub revision: u32,
    /// When it was changed, ms.
    pub at: i64,
}

/// Something an agent is told with its next heartbeat.
#[derive(Clone, Debug, PartialEq)]
pub struct EventRow {
    /// The same again is one event.
    pub id: String,
    /// The session it is for.
    pub session_key: String,
    /// What.
    pub text: String,
    /// ms.
    pub at: i64,
    /// The run that tells it, once there is one.
    pub run_id: Option<String>,
}

/// What the store can be told of jobs. Every operation may be sent again.
#[derive(Clone, Debug)]
pub enum CronOp {
    /// Store or replace a job; what it keeps for itself stays → [`WriteReply::Done`]; `Conflict` if another one has its
    /// declaration key.
    Put(JobRow),
    /// Forget a job and what it keeps; its records stay → [`WriteReply::Done`].
    Remove {
        /// [`JobRow::id`].
        id: String,
    },
    /// Make records that are not there yet → [`WriteReply::CronPlanned`].
    Plan(Vec<CronRunRow>),
    /// A record has come to another state; one that is final stays. Old records go → [`WriteReply::Done`].
    Move(CronRunRow),
    /// Change what a job keeps for itself → [`WriteReply::CronScratch`]; `NotFound` for an unknown job.
    SetScratch {
        /// [`JobRow::id`].
        id: String,
        /// What it keeps from now on.
        content: Option<String>,
        /// [`ScratchRow::revision`] it has to have.
        expected: Option<u32>,
        /// ms.
        at: i64,
    },
    /// Tell an agent with its next heartbeat → [`WriteReply::Done`].
    Tell(EventRow),
    /// The same, unless it is what was told last and waits still → [`WriteReply::Count`], 0 then.
    TellOnce(EventRow),
    /// What waits for a session is told by this run → [`WriteReply::Count`].
    TellNow {
        /// [`EventRow::session_key`].
        session_key: String,
        /// The run.
        run_id: String,
    },
    /// A run has told its events → [`WriteReply::Count`].
    Told {
        /// The run.
        run_id: String,
    },
}

pub(super) fn apply(conn: &Connection, op: &CronOp) -> Result<WriteReply, StoreError> {
    match op {
        CronOp::Put(row) => put(conn, row),
        CronOp::Remove { id } => {
            conn.prepare_cached("DELETE FROM cron_jobs WHERE id = ?1")?.execute([id])?;
            Ok(WriteReply::Done)
        }
        CronOp::Plan(rows) => plan(conn, rows),
        CronOp::Move(row) => moved(conn, row),
        CronOp::SetScratch { id, content, expected, at } => {
            set_scratch(conn, id, content.as_deref(), *expected, *at)
        }
        CronOp::Tell(row) => tell(conn, row),
        CronOp::TellOnce(row) => tell_once(conn, row),
        CronOp::TellNow { session_key, run_id } => {
            let count = conn
                .prepare_cached(
                    "UPDATE system_events SET run_id = ?2 WHERE session_key = ?1 AND run_id IS NULL",
                )?
                .execute([session_key, run_id])?;
            Ok(WriteReply::Count(count as u64))
        }
        CronOp::Told { run_id } => {
            let count =
                conn.prepare_cached("DELETE FROM system_events WHERE run_id = ?1")?.execute([run_id])?;
            Ok(WriteReply::Count(count as u64))
        }
    }
}

fn put(conn: &Connection, row: &JobRow) -> Result<WriteReply, StoreError> {
    conn.prepare_cached(
        "INSERT INTO cron_jobs (id, declaration_key, job, planned_to) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (id) DO UPDATE SET declaration_key = ?2, job = ?3, planned_to = ?4",
    )?
    .execute(params![row.id, row.declaration_key, row.job.to_string(), row.planned_to])?;
    Ok(WriteReply::Done)
}

fn plan(conn: &Connection, rows: &[CronRunRow]) -> Result<WriteReply, StoreError> {
    let mut statement = conn.prepare_cached(
        "INSERT INTO cron_runs (run_id, job_id, instant, manual, state, start_at, started_at, ended_at, status,
             delivery_status, job, entry)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) ON CONFLICT DO NOTHING",
    )?;
    let mut fresh = Vec::new();
    for row in rows {
        let changed = statement.execute(params![
            row.run_id,
            row.job_id,
            row.instant,
            row.manual,
            row.state.as_str(),
            row.start_at,
            row.started_at,
            row.ended_at,
            row.status,
            row.delivery_status,
            row.job.to_string(),
            row.entry.to_string(),
        ])?;
        if changed > 0 {
            fresh.push(row.run_id.clone());
        }
    }
    if let Some(last) =
        rows.iter().filter_map(|row| Some((row.ended_at?, &row.job_id))).max_by_key(|(at, _)| *at)
    {
        trim(conn, last.1, last.0)?;
    }
    Ok(WriteReply::CronPlanned(fresh))
}

fn moved(conn: &Connection, row: &CronRunRow) -> Result<WriteReply, StoreError> {
    conn.prepare_cached(
        "UPDATE cron_runs SET state = ?2, started_at = ?3, ended_at = ?4, status = ?5, delivery_status = ?6, job = ?7,
             entry = ?8
         WHERE run_id = ?1 AND ended_at IS NULL",
    )?
    .execute(params![
        row.run_id,
        row.state.as_str(),
        row.started_at,
        row.ended_at,
        row.status,
        row.delivery_status,
        row.job.to_string(),
        row.entry.to_string(),
    ])?;
    if let Some(at) = row.ended_at {
        trim(conn, &row.job_id, at)?;
    }
    Ok(WriteReply::Done)
}

/// Forgets the records of a job that are too many, and of all jobs those that are too old.
fn trim(conn: &Connection, job_id: &str, now: i64) -> Result<(), StoreError> {
    conn.prepare_cached(
        "DELETE FROM cron_runs WHERE job_id = ?1 AND ended_at IS NOT NULL AND instant < (SELECT instant FROM cron_runs
             WHERE job_id = ?1 AND ended_at IS NOT NULL ORDER BY instant DESC LIMIT 1 OFFSET ?2)",
    )?
    .execute(params![job_id, KEPT_RUNS - 1])?;
    conn.prepare_cached("DELETE FROM cron_runs WHERE ended_at < ?1")?.execute([now - KEPT_MS])?;
    Ok(())
}

fn set_scratch(
    conn: &Connection,
    id: &str,
    content: Option<&str>,
    expected: Option<u32>,
    at: i64,
) -> Result<WriteReply, StoreError> {
    let known = cron_scratch(conn, id)?.ok_or(StoreError::NotFound)?;
    if expected.is_some_and(|expected| expected != known.revision) {
        return Ok(WriteReply::CronScratch(Err(known)));
    }
    let row = ScratchRow { content: content.map(str::to_owned), revision: known.revision + 1, at };
    conn.prepare_cached(
        "UPDATE cron_jobs SET scratch = ?2, scratch_revision = ?3, scratch_at = ?4 WHERE id = ?1",
    )?
    .execute(params![id, row.content, row.revision, at])?;
    Ok(WriteReply::CronScratch(Ok(row)))
}

fn tell_once(conn: &Connection, row: &EventRow) -> Result<WriteReply, StoreError> {
    let last = "SELECT id, text FROM system_events WHERE session_key = ?1 AND run_id IS NULL ORDER BY seq DESC LIMIT 1";
    let last = conn
        .prepare_cached(last)?
        .query_row([&row.session_key], |last| Ok((last.get::<_, String>(0)?, last.get::<_, String>(1)?)))
        .optional()?;
    // Sent again, because the store was lost meanwhile, it is the same still.
    if last.is_some_and(|(id, text)| id != row.id && text == row.text) {
        return Ok(WriteReply::Count(0));
    }
    tell(conn, row)?;
    Ok(WriteReply::Count(1))
}

pub(super) fn tell(conn: &Connection, row: &EventRow) -> Result<WriteReply, StoreError> {
    conn.prepare_cached(
        "INSERT INTO system_events (id, session_key, text, at, run_id) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (id) DO NOTHING",
    )?
    .execute(params![row.id, row.session_key, row.text, row.at, row.run_id])?;
    conn.prepare_cached(
        "DELETE FROM system_events WHERE run_id IS NULL AND seq IN (SELECT seq FROM system_events
             WHERE session_key = ?1 AND run_id IS NULL ORDER BY seq DESC LIMIT -1 OFFSET ?2)",
    )?
    .execute(params![row.session_key, MAX_WAITING])?;
    Ok(WriteReply::Done)
}

/// All jobs.
///
/// # Errors
/// What SQLite says.
pub fn cron_jobs(conn: &Connection) -> Result<Vec<JobRow>, StoreError> {
    let read = |row: &Row<'_>| {
        Ok(JobRow {
            id: row.get(0)?,
            declaration_key: row.get(1)?,
            job: json(row, 2)?,
            planned_to: row.get(3)?,
        })
    };
    let mut statement =
        conn.prepare_cached("SELECT id, declaration_key, job, planned_to FROM cron_jobs ORDER BY id")?;
    Ok(statement.query_map([], read)?.collect::<Result<_, _>>()?)
}

pub(super) const COLUMNS: &str = "run_id, job_id, instant, manual, state, start_at, started_at, ended_at, status, delivery_status, \
    job, entry";

pub(super) fn read_run(row: &Row<'_>) -> rusqlite::Result<CronRunRow> {
    let word: String = row.get(4)?;
    let state = CronRunState::ALL.into_iter().find(|state| state.as_str() == word);
    Ok(CronRunRow {
        run_id: row.get(0)?,
        job_id: row.get(1)?,
        instant: row.get(2)?,
        manual: row.get(3)?,
        // The column takes no other word.
        state: state.unwrap_or(CronRunState::Skipped),
        start_at: row.get(5)?,
        started_at: row.get(6)?,
        ended_at: row.get(7)?,
        status: row.get(8)?,
        delivery_status: row.get(9)?,
        job: json(row, 10)?,
        entry: json(row, 11)?,
    })
}

/// The records that are not final, in order.
///
/// # Errors
/// What SQLite says.
pub fn cron_open(conn: &Connection) -> Result<Vec<CronRunRow>, StoreError> {
    let query = format!("SELECT {COLUMNS} FROM cron_runs WHERE ended_at IS NULL ORDER BY seq");
    Ok(conn.prepare_cached(&query)?.query_map([], read_run)?.collect::<Result<_, _>>()?)
}

/// Which records are wanted; those that are over, the latest first.
#[derive(Clone, Debug, Default)]
pub struct CronRunsFilter {
    /// Only of this job.
    pub job_id: Option<String>,
    /// Only this run.
    pub run_id: Option<String>,
    /// Only of this agent.
    pub agent_id: Option<String>,
    /// Only those that came to one of these.
    pub statuses: Vec<String>,
    /// Only whose delivery came to one of these.
    pub delivery_statuses: Vec<String>,
    /// Only with this in their job's name or in what they came to.
    pub query: Option<String>,
    /// The earliest first.
    pub ascending: bool,
    /// At most so many.
    pub limit: u32,
    /// So many are left out.
    pub offset: u32,
}

/// A page of the records that are over, and how many there are on all pages.
///
/// # Errors
/// What SQLite says.
pub fn cron_runs(conn: &Connection, filter: &CronRunsFilter) -> Result<(Vec<CronRunRow>, u32), StoreError> {
    let list = |words: &[String]| (!words.is_empty()).then(|| super::db::list(words));
    let wanted = "WHERE ended_at IS NOT NULL AND (?1 IS NULL OR job_id = ?1) AND (?2 IS NULL OR run_id = ?2)
        AND (?3 IS NULL OR status IN (SELECT value FROM json_each(?3)))
        AND (?4 IS NULL OR delivery_status IN (SELECT value FROM json_each(?4)))
        AND (?5 IS NULL OR instr(lower(entry), lower(?5)) > 0 OR instr(lower(job ->> '$.name'), lower(?5)) > 0)
        AND (?6 IS NULL OR coalesce(job ->> '$.agentId', ?6) = ?6)";
    let filtered = params![
        filter.job_id,
        filter.run_id,
        list(&filter.statuses),
        list(&filter.delivery_statuses),
        filter.query,
        filter.agent_id
    ];
    let count = format!("SELECT count(*) FROM cron_runs {wanted}");
    let total: u32 = conn.prepare_cached(&count)?.query_row(filtered, |row| row.get(0))?;
    let order = if filter.ascending { "ASC" } else { "DESC" };
    let query = format!(
        "SELECT {COLUMNS} FROM cron_runs {wanted} ORDER BY ended_at {order}, seq {order} LIMIT ?7 OFFSET ?8"
    );
    let page = params![
        filter.job_id,
        filter.run_id,
        list(&filter.statuses),
        list(&filter.delivery_statuses),
        filter.query,
        filter.agent_id,
        filter.limit,
        filter.offset
    ];
    let rows = conn.prepare_cached(&query)?.query_map(page, read_run)?.collect::<Result<_, _>>()?;
    Ok((rows, total))
}

/// What a job keeps for itself; `None` if there is no such job.
///
/// # Errors
/// What SQLite says.
pub fn cron_scratch(conn: &Connection, id: &str) -> Result<Option<ScratchRow>, StoreError> {
    let read = |row: &Row<'_>| {
        let at: Option<i64> = row.get(2)?;
        Ok(ScratchRow { content: row.get(0)?, revision: row.get(1)?, at: at.unwrap_or_default() })
    };
    let query = "SELECT scratch, scratch_revision, scratch_at FROM cron_jobs WHERE id = ?1";
    Ok(conn.prepare_cached(query)?.query_row([id], read).optional()?)
}

/// At most so many sessions of runs of jobs and webhooks that nothing has happened in since `before`, and where nothing waits.
///
/// # Errors
/// What SQLite says.
pub fn cron_sessions(conn: &Connection, before: i64, limit: u32) -> Result<Vec<SessionRecord>, StoreError> {
    let query =
        "SELECT key FROM sessions WHERE (key GLOB 'agent:*:cron:*:run:*' OR key GLOB 'agent:*:hook:run:*')
        AND updated_at < ?1
        AND NOT EXISTS (SELECT 1 FROM inputs WHERE session_key = key AND settled_at IS NULL)
        ORDER BY updated_at LIMIT ?2";
    let mut statement = conn.prepare_cached(query)?;
    let keys: Vec<String> =
        statement.query_map(params![before, limit], |row| row.get(0))?.collect::<Result<_, _>>()?;
    keys.iter().filter_map(|key| super::sessions::session(conn, key).transpose()).collect()
}

/// What waits to be told, in order.
///
/// # Errors
/// What SQLite says.
pub fn system_events(conn: &Connection) -> Result<Vec<EventRow>, StoreError> {
    let read = |row: &Row<'_>| {
        Ok(EventRow {
            id: row.get(0)?,
            session_key: row.get(1)?,
            text: row.get(2)?,
            at: row.get(3)?,
            run_id: row.get(4)?,
        })
    };
    let query = "SELECT id, session_key, text, at, run_id FROM system_events ORDER BY seq";
    Ok(conn.prepare_cached(query)?.query_map([], read)?.collect::<Result<_, _>>()?)
}

#[cfg(test)]
#[path = "cron_tests.rs"]
mod tests;

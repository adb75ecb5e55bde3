//! **Owns** the writer's connection to the database and the queue of writes.
//! **Hears** write operations from every actor; **tells** each asker what was committed.
//! **On crash** the queue is lost, and with it the askers' replies: they ask again ([`Slot::ask`]), which
//! is safe because every operation is idempotent. The database itself lives in the Estate, and a batch in
//! hand finishes on its thread before the next one can begin.
//!
//! Writes that arrive while a batch is being committed form the next batch: one `fsync` for all of them.

mod approvals;
mod audit;
mod audited;
mod before;
mod channels;
mod check;
mod conversations;
mod copy;
mod cron;
mod db;
mod devices;
mod drafts;
mod foreign;
mod inputs;
mod nodes;
mod offline;
mod rows;
mod schema;
mod sessions;
mod spare;
mod tasks;
mod transcript;
mod usage;

pub use approvals::{approval, approval_history, approvals_resolved_since, pending_approvals};
pub use audit::{AuditFilter, AuditVerdict, acts, people, verify_audit};
pub use channels::{
    CONTACT_WAITING_MS, MAX_WAITING_CONTACTS, checkpoint, contact, contacts, deliveries_like, delivery_by_id,
    delivery_by_platform_id, delivery_counts, open_deliveries, outbox, overheard, unreported,
};
pub use conversations::{ConversationRow, conversations};
pub use copy::copy_beside;
pub use cron::{
    CronOp, CronRunRow, CronRunState, CronRunsFilter, EventRow, JobRow, KEPT_RUNS, ScratchRow, cron_jobs,
    cron_open, cron_runs, cron_scratch, cron_sessions, system_events,
};
pub use db::{Db, StoreError, Sync};
pub use devices::{devices, meta, meta_like, setups, tokens};
pub use foreign::{Entry, Foreign, copied};
pub use inputs::{
    Counts, Receipt, backlog, begun_calls, counts, first_input_at, input_by_id, input_by_run,
    input_by_source, inputs_of_turn, keys_with_backlog, receipts,
};
pub use nodes::{node, nodes};
pub use offline::Offline;
pub use rows::*;
pub use rusqlite::Connection;
pub use schema::{SCHEMA_VERSION, schema_version};
pub use sessions::{
    Archived, ListFilter, SortBy, group_counts, list_sessions, session, session_by_id, sessions_by_key_part,
    sessions_by_label, updated,
};
pub use spare::{copy_online, schema_of, step_back};
pub use tasks::{TaskFilter, task, tasks};
pub use transcript::{
    Branch, HistoryPage, HistoryResult, SearchFilter, SearchHit, Shelf, TranscriptInfo, branch_of, branches,
    history, history_after, history_around, import_branch, import_rows, media_of, message, message_stands,
    messages_by_run, search, text_of, transcript_rows, transcripts_of,
};
pub use usage::{DAY_MS, QUARTER_MS, RunUsage, UsageFilter, UsageRow, run_usage, usage};

use crate::audit::WRITTEN_AFTER;
use crate::estate::{Estate, Part};
use crate::media;
use crate::tree::*;
use serde_json::json;
use std::sync::{Arc, Weak};
use std::time::Instant;

/// Operations in one commit.
const MAX_BATCH: usize = 256;

/// Pause before a write is sent again to a database that was not to be had.
const RETRY_WRITE: std::time::Duration = std::time::Duration::from_millis(100);

/// Pause before a write that must come about is tried again on a full disk.
const RETRY_FULL: std::time::Duration = std::time::Duration::from_secs(1);

/// The database is read whole this long after it was opened: a start has better things to do.
const CHECK_AFTER: std::time::Duration = std::time::Duration::from_secs(30);

/// How often memory that the database does not need is given back.
const TRIM_EVERY: std::time::Duration = std::time::Duration::from_secs(3);

/// What a write comes back with.
pub type Written = Result<WriteReply, StoreError>;

/// What the store hears.
pub enum StoreMsg {
    /// Make this durable.
    Write(Box<WriteOp>, Reply<Written>),
    /// The database is open (or cannot be opened).
    Opened(Result<Arc<Db>, StoreError>),
    /// Something was noted for the ledger of acts.
    Noted,
    /// A batch is through: how many writes it was, and what of them the disk did not take.
    Committed(Result<(usize, Option<StoreError>), StoreError>),
}

/// Opens the database; run off the runtime's threads, once in the life of the process unless it fails.
pub type OpenDb = Arc<dyn Fn() -> Result<Db, StoreError> + Send + std::marker::Sync>;

/// What the store is started with.
#[derive(Clone)]
pub struct StoreArgs {
    /// Where the database lives through restarts.
    pub estate: Arc<Estate>,
    /// How it is opened.
    pub open: OpenDb,
}

/// The store: one writer, group commit.
pub struct StoreActor {
    estate: Arc<Estate>,
    db: Option<Arc<Db>>,
    queue: Vec<(WriteOp, Reply<Written>)>,
    busy: bool,
    /// What was noted has waited long enough.
    due: bool,
    closing: bool,
    /// What is wrong with the disk, and since when (ms).
    trouble: Option<(String, i64)>,
}

impl Behavior for StoreActor {
    type Msg = StoreMsg;
    type Args = StoreArgs;
    const KIND: &'static str = "store";

    fn start(ctx: &mut Ctx<StoreMsg>, StoreArgs { estate, open }: StoreArgs) -> Result<Self, Fault> {
        listen(ctx, &estate);
        let db = estate.db.load_full();
        if db.is_none() {
            ctx.task(async move { open_off_thread(open).await.map(Arc::new) }, StoreMsg::Opened);
        }
        Ok(Self { estate, db, queue: Vec::new(), busy: false, due: true, closing: false, trouble: None })
    }

    fn handle(&mut self, ctx: &mut Ctx<StoreMsg>, msg: StoreMsg) -> Result<(), Fault> {
        match msg {
            StoreMsg::Write(op, reply) => self.queue.push((*op, reply)),
            StoreMsg::Opened(db) => self.opened(ctx, db.map_err(Fault::new)?),
            StoreMsg::Noted => {
                self.due = true;
                listen(ctx, &self.estate);
            }
            StoreMsg::Committed(result) => self.committed(ctx, result),
        }
        self.commit_next(ctx);
        Ok(())
    }

    fn stopping(&mut self, ctx: &mut Ctx<StoreMsg>) -> Stopping {
        // What is queued was sent before the stop, so it is committed before the end.
        (self.closing, self.due) = (true, true);
        self.commit_next(ctx);
        if self.busy || !self.queue.is_empty() { Stopping::Later } else { Stopping::Now }
    }
}

impl StoreActor {
    fn opened(&mut self, ctx: &mut Ctx<StoreMsg>, db: Arc<Db>) {
        if let Some(damage) = db.damage() {
            tracing::error!(target: "crabtree::store", "{damage}");
        }
        if !db.is_memory() {
            ctx.detached(check_later(db.clone()));
            ctx.detached(media::sweep(self.estate.clone(), db.clone()));
            ctx.detached(trim_regularly(Arc::downgrade(&db)));
        }
        self.estate.db.store(Some(db.clone()));
        self.estate.ready.done(Part::Store);
        self.db = Some(db);
    }

    fn commit_next(&mut self, ctx: &mut Ctx<StoreMsg>) {
        let noted = self.due && !self.estate.audit.is_empty();
        let Some(db) = self.db.clone().filter(|_| !self.busy && (noted || !self.queue.is_empty())) else {
            return;
        };
        let rest = self.queue.split_off(self.queue.len().min(MAX_BATCH));
        let (ops, replies): (Vec<_>, Vec<_>) = std::mem::replace(&mut self.queue, rest).into_iter().unzip();
        (self.busy, self.due) = (true, false);
        let estate = self.estate.clone();
        let inline = db.is_memory();
        let batch = audited::Batch::new(&estate, ops);
        ctx.task(
            async move {
                let batch = move || {
                    let began = Instant::now();
                    let applied = batch.apply(&db, &estate);
                    estate.meters.commits.observe(began.elapsed());
                    applied
                };
                match off_thread(inline, batch).await {
                    Ok(results) => {
                        let mut refused = results.iter().filter_map(|result| result.as_ref().err());
                        let through = (results.len(), refused.find(|e| e.is_retryable()).cloned());
                        replies.into_iter().zip(results).for_each(|(reply, result)| reply.send(result));
                        Ok(through)
                    }
                    Err(e) => {
                        replies.into_iter().for_each(|reply| reply.send(Err(e.clone())));
                        Err(e)
                    }
                }
            },
            StoreMsg::Committed,
        );
    }

    fn committed(
        &mut self,
        ctx: &mut Ctx<StoreMsg>,
        result: Result<(usize, Option<StoreError>), StoreError>,
    ) {
        self.busy = false;
        self.due |= self.closing;
        let failed = result.is_err();
        let trouble = match result {
            Ok((count, trouble)) => {
                self.estate.meters.writes.add(count as u64);
                trouble
            }
            Err(e) => {
                self.estate.meters.failed_commits.count();
                tracing::error!(target: "crabtree::store", "a batch was not committed: {e}");
                Some(e)
            }
        };
        self.trouble = trouble.map(|e| {
            let since = self.trouble.take().map_or(ctx.now_ms(), |(_, since)| since);
            (e.to_string(), since)
        });
        // What could not be written now will not be at the end, either.
        if self.closing && self.queue.is_empty() && (failed || self.estate.audit.is_empty()) {
            ctx.stop();
        }
        ctx.publish_info(json!({
            "queued": self.queue.len(),
            "trouble": self.trouble.as_ref().map(|(what, since)| json!({ "what": what, "since": since })),
        }));
    }
}

/// Hears that something was noted, when it has waited for company.
fn listen(ctx: &mut Ctx<StoreMsg>, estate: &Arc<Estate>) {
    let book = estate.audit.clone();
    let heard = async move {
        book.news().await;
        tokio::time::sleep(WRITTEN_AFTER).await;
    };
    ctx.task(heard, |()| StoreMsg::Noted);
}

async fn open_off_thread(open: OpenDb) -> Result<Db, StoreError> {
    tokio::task::spawn_blocking(move || open())
        .await
        .unwrap_or_else(|e| Err(StoreError::Unavailable(format!("opening panicked: {e}"))))
}

/// Looks for damage in the whole file, on a thread that nobody waits for, not even at the end of the process.
async fn check_later(db: Arc<Db>) {
    tokio::time::sleep(CHECK_AFTER).await;
    std::thread::spawn(move || match db.check() {
        Ok(()) => {}
        Err(StoreError::Damaged) => {
            tracing::error!(target: "crabtree::store", "{}", db.damage().unwrap_or_default());
        }
        Err(e) => tracing::warn!(target: "crabtree::store", "the database was not checked: {e}"),
    });
}

/// For as long as the database is open.
async fn trim_regularly(db: Weak<Db>) {
    loop {
        tokio::time::sleep(TRIM_EVERY).await;
        let Some(db) = db.upgrade() else { return };
        let trimmed = tokio::task::spawn_blocking(move || db.trim());
        let _ = trimmed.await;
    }
}

/// Runs `work` on a thread that may block; `inline` for an in-memory database (simulations), so that the
/// order of things is the same in each replay.
async fn off_thread<T: Send + 'static>(
    inline: bool,
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    if inline {
        return work();
    }
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(StoreError::Unavailable(format!("the database thread panicked: {e}"))))
}

/// How actors talk to the store: writes through the actor, reads beside it.
#[derive(Clone)]
pub struct Store {
    /// The actor.
    pub slot: Slot<StoreMsg>,
    /// Where the database is found.
    pub estate: Arc<Estate>,
}

impl Store {
    /// Writes until it is acknowledged: a write lost with a crash, or refused by a database that was not to
    /// be had, is sent again. A full disk and a contradiction are answers.
    pub async fn write(&self, op: WriteOp) -> Written {
        loop {
            match self.slot.ask(|reply| StoreMsg::Write(Box::new(op.clone()), reply)).await {
                Err(StoreError::Unavailable(_)) => tokio::time::sleep(RETRY_WRITE).await,
                written => return written,
            }
        }
    }

    /// Writes what goes on with something that was accepted: it waits for room on a full disk, too.
    pub async fn carry_on(&self, op: WriteOp) -> Written {
        loop {
            match self.write(op.clone()).await {
                Err(StoreError::Full) => tokio::time::sleep(RETRY_FULL).await,
                written => return written,
            }
        }
    }

    /// Reads on a connection of its own; works while the store's actor is down.
    pub async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.estate.ready.wait(Part::Store).await;
        let Some(db) = self.estate.db.load_full() else {
            return Err(StoreError::Unavailable("the database is not open".into()));
        };
        let reader = db.reader_free().await;
        off_thread(db.is_memory(), move || {
            let _reader = reader;
            db.read(query)
        })
        .await
    }
}

#[cfg(test)]
mod scale_tests;

//! What is answered about jobs.

use serde_json::{Map, Value};

use crate::params::record;

record! {
    /// Result of `cron.status`.
    pub struct Status {
        /// Whether jobs run.
        enabled: bool,
        /// Whether conditions are looked at.
        triggers_enabled: bool,
        /// Where jobs are kept.
        store_path: String,
        /// How.
        storage: String,
        /// The same as `storePath`.
        sqlite_path: String,
        /// How many there are.
        jobs: u64,
        /// When the next one is due, ms.
        next_wake_at_ms: Option<u64>,
    }
}

record! {
    /// Result of `cron.list`.
    pub struct Jobs {
        /// The jobs.
        jobs: Vec<Value>,
        /// Tells this list from another one.
        snapshot_revision: String,
        /// How many there are on all pages.
        total: u64,
        /// How many were left out.
        offset: u64,
        /// How many there may be on a page.
        limit: u64,
        /// Whether there is another page.
        has_more: bool,
        /// Where it begins.
        next_offset: Option<u64>,
        ; optional
        /// Where what the jobs come to goes, by their ids.
        delivery_previews: Map<String, Value>,
    }
}

record! {
    /// Result of `cron.runs`.
    pub struct Runs {
        /// The records.
        entries: Vec<Value>,
        /// How many there are on all pages.
        total: u64,
        /// How many were left out.
        offset: u64,
        /// How many there may be on a page.
        limit: u64,
        /// Whether there is another page.
        has_more: bool,
        /// Where it begins.
        next_offset: Option<u64>,
    }
}

record! {
    /// Result of `cron.remove`.
    pub struct Removed {
        /// Always true.
        ok: bool,
        /// Whether there was such a job.
        removed: bool,
        ; optional
        /// `pending`: what it was doing is being stopped.
        session_cleanup: String,
    }
}

record! {
    /// Result of `cron.run`.
    pub struct Ran {
        /// Always true.
        ok: bool,
        /// The process that runs it.
        process_instance_id: String,
        ; optional
        /// The run is on its way.
        enqueued: bool,
        /// The run.
        run_id: String,
        /// False: it does not run.
        ran: bool,
        /// Why.
        reason: String,
    }
}

record! {
    /// What a job keeps for itself.
    pub struct Scratch {
        /// What.
        content: String,
        /// Its number.
        revision: u64,
        /// When it was changed, ms.
        updated_at_ms: u64,
    }
}

record! {
    /// Result of `cron.scratch.get`.
    pub struct ScratchGot {
        /// What the job keeps.
        scratch: Option<Scratch>,
        /// Its number; 0 if there never was anything.
        current_revision: u64,
        /// How much it may be.
        max_bytes: u64,
    }
}

record! {
    /// Result of `cron.scratch.set`.
    pub struct ScratchSet {
        /// Whether it was changed.
        ok: bool,
        /// The number it has.
        current_revision: u64,
        ; optional
        /// What the job keeps; null for nothing.
        scratch: Value,
        /// How much it may be.
        max_bytes: u64,
        /// Why it was not changed: `revision-conflict`.
        reason: String,
    }
}

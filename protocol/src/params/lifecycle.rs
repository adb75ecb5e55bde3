//! `gateway.restart.*` and `gateway.suspend.*`: a gateway that is started anew, or holds still for its host.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::record;
use crate::value::Text;

/// Parameters of `gateway.restart.request`; others are ignored, as recorded.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestartParams {
    /// Why; the answer repeats up to 200 characters of it.
    pub reason: Option<String>,
    /// At once, whatever is under way: running turns have only the time that a stop gives them.
    #[serde(default)]
    pub skip_deferral: bool,
    /// Which process is meant; another one refuses.
    pub target: Option<RestartTarget>,
}

/// The process that is meant.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestartTarget {
    /// Its id.
    pub pid: u32,
    /// Where it listens.
    pub port: u16,
}

/// Parameters of `gateway.suspend.prepare`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SuspendPrepareParams {
    /// The name of the host's operation; the same again renews the lease.
    pub request_id: LeaseId,
    /// What of open terminals.
    #[serde(default)]
    pub terminal_policy: TerminalPolicy,
    /// Whether work under way is waited for, with the doors closed.
    #[serde(default)]
    pub drain: bool,
}

/// What a suspension makes of open terminals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TerminalPolicy {
    /// They are in its way.
    #[default]
    Preserve,
    /// They are not: the process will be started anew.
    Terminate,
}

/// Parameters of `gateway.suspend.status` and `gateway.suspend.resume`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SuspensionParams {
    /// What `gateway.suspend.prepare` answered.
    pub suspension_id: LeaseId,
}

/// An id of 1 to 128 characters; space around it does not count.
pub type LeaseId = Text<128>;

record! {
    /// Result of `gateway.restart.preflight`.
    pub struct Preflight {
        /// Whether nothing is under way.
        safe: bool,
        /// What is under way.
        counts: RestartCounts,
        /// The same in words.
        blockers: Vec<Blocker>,
        /// All of it in one sentence.
        summary: String,
    }
}

/// Work under way, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestartCounts {
    /// Inputs that wait for their turn.
    pub queue_size: u64,
    /// Answers on their way to channels.
    pub pending_replies: u64,
    /// Turns.
    pub embedded_runs: u64,
    /// Runs of jobs; those that are turns are counted there.
    pub cron_runs: u64,
    /// Commands in the background.
    pub background_exec_sessions: u64,
    /// Requests of clients that are not answered, beside this one.
    pub root_requests: u64,
    /// Background tasks.
    pub active_tasks: u64,
    /// All together.
    pub total_active: u64,
}

record! {
    /// Why something waits.
    pub struct Blocker {
        /// Its kind.
        kind: String,
        /// How many.
        count: u64,
        /// In words.
        message: String,
    }
}

record! {
    /// Result of `gateway.restart.request`.
    pub struct RestartRequested {
        /// Always true.
        ok: bool,
        /// `scheduled`, `deferred` or `coalesced`.
        status: String,
        /// What was under way.
        preflight: Preflight,
        /// What will be done.
        restart: Restart,
    }
}

record! {
    /// A restart that will come.
    pub struct Restart {
        /// Always true.
        ok: bool,
        /// The process; it stays the same.
        pid: u32,
        /// The signal that would do the same.
        signal: String,
        /// Why.
        reason: String,
        /// Always `emit`.
        mode: String,
        /// How much of the wait is due to an earlier one.
        cooldown_ms_applied: u64,
        /// In how long.
        delay_ms: u64,
        /// Whether another was asked for already.
        coalesced: bool,
        /// Whether hooks wait for it.
        emit_hooks_queued: bool,
    }
}

record! {
    /// Result of `gateway.suspend.prepare`.
    pub struct SuspendPrepared {
        /// `ready`, `draining` or `busy`.
        status: String,
        /// What is under way.
        active_count: u64,
        /// The same in words.
        blockers: Vec<Blocker>,
        ; optional
        /// The lease; none when `busy`.
        suspension_id: String,
        /// When it ends by itself, ms.
        expires_at_ms: i64,
        /// Why `busy`.
        reason: String,
        /// When to ask again.
        retry_after_ms: u64,
    }
}

record! {
    /// Result of `gateway.suspend.status`.
    pub struct SuspendStatus {
        /// `running`, `draining` or `ready`.
        status: String,
        ; optional
        /// When the lease ends by itself, ms.
        expires_at_ms: i64,
        /// What is under way.
        active_count: u64,
        /// The same in words.
        blockers: Vec<Blocker>,
        /// When to ask again.
        retry_after_ms: u64,
    }
}

record! {
    /// Result of `gateway.suspend.resume`.
    pub struct SuspendResumed {
        /// Always true.
        ok: bool,
        /// Always `running`.
        status: String,
        /// Whether there was a lease to end.
        resumed: bool,
    }
}

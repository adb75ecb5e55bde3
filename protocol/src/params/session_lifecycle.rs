//! What happens to whole sessions: reset, delete, compaction, cleanup, abort, and their branches.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::record;
use super::session_entry::{Resolved, SessionEntry};
use crate::ids::RunId;
use crate::session_key::SessionKey;
use crate::value::{Int, Number, Text, string_enum};

string_enum! {
    /// Why a session is reset.
    any_of pub enum ResetReason {
        /// For another conversation.
        New = "new",
        /// To forget this one.
        Reset = "reset",
    }
}

/// Parameters of `sessions.reset`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResetParams {
    /// The session; one that does not exist is created.
    pub key: Text,
    /// The agent.
    pub agent_id: Option<Text>,
    /// Why; `reset` when absent.
    pub reason: Option<ResetReason>,
    /// The id the session must have.
    pub expected_session_id: Option<Text>,
}

record! {
    /// Result of `sessions.reset`.
    pub struct Reset {
        /// Always true.
        ok: bool,
        /// The session.
        key: SessionKey,
        /// What is kept of it now.
        entry: SessionEntry,
        /// What it runs on.
        resolved: Resolved,
    }
}

/// Parameters of `sessions.delete`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeleteParams {
    /// The session.
    pub key: Text,
    /// The agent.
    pub agent_id: Option<Text>,
    /// Whether its messages go too.
    pub delete_transcript: Option<bool>,
    /// The id the session must have.
    pub expected_session_id: Option<Text>,
    /// The revision the session must have.
    pub expected_lifecycle_revision: Option<Text>,
    /// When the session must have changed last, in milliseconds since the epoch.
    pub expected_session_updated_at: Option<Number>,
    /// Whether hooks are told.
    pub emit_lifecycle_hooks: Option<bool>,
    /// Whether only an archived session may go.
    pub archived_only: Option<bool>,
}

record! {
    /// Result of `sessions.delete`.
    pub struct Deleted {
        /// Always true.
        ok: bool,
        /// The session.
        key: SessionKey,
        /// Whether there was one.
        deleted: bool,
        /// The files its messages went to.
        archived: Vec<String>,
        ; optional
        /// The worktree that stays: `{id, branch, path, reason}`.
        worktree_preserved: Value,
    }
}

/// Parameters of `sessions.compact`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CompactParams {
    /// The session.
    pub key: Text,
    /// The agent.
    pub agent_id: Option<Text>,
    /// Keeps so many rows instead of asking a model for a summary.
    pub max_lines: Option<Int<1>>,
}

record! {
    /// Result of `sessions.compact`.
    pub struct Compacted {
        /// Whether it went well.
        ok: bool,
        /// The session.
        key: SessionKey,
        /// Whether anything was compacted.
        compacted: bool,
        ; optional
        /// Why not.
        reason: String,
        /// Rows kept; with `maxLines`.
        kept: u64,
        /// What came out; without `maxLines`.
        result: CompactionResult,
    }
}

record! {
    /// What came out of a compaction.
    pub struct CompactionResult {
        /// What stands for the rows before.
        summary: String,
        /// The first row that was kept.
        first_kept_entry_id: String,
        /// Tokens before.
        tokens_before: u64,
        /// The files that were worked on: `{readFiles, modifiedFiles}`.
        details: Value,
    }
}

/// Parameters of `sessions.cleanup`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CleanupParams {
    /// The agent.
    pub agent: Option<Text>,
    /// Whether all agents.
    pub all_agents: Option<bool>,
    /// Whether it is done, instead of told what would be.
    pub enforce: Option<bool>,
    /// A session that stays.
    pub active_key: Option<Text>,
    /// Whether sessions without messages go.
    pub fix_missing: Option<bool>,
    /// Whether direct chats under outdated keys go.
    pub fix_dm_scope: Option<bool>,
}

record! {
    /// Result of `sessions.cleanup` for one agent.
    pub struct CleanedUp {
        /// The agent.
        agent_id: String,
        /// Where its sessions are stored.
        store_path: String,
        /// `enforce` or `warn`.
        mode: String,
        /// Whether nothing was done.
        dry_run: bool,
        /// Sessions before.
        before_count: u64,
        /// Sessions after.
        after_count: u64,
        /// Sessions without messages.
        missing: u64,
        /// Direct chats under outdated keys.
        dm_scope_retired: u64,
        /// Sessions of mere questions to a model.
        model_run_pruned: u64,
        /// Sessions archived.
        archived: u64,
        /// Sessions archived because there are too many.
        cap_archived: u64,
        /// Sessions that went for their age.
        pruned: u64,
        /// Sessions that went because there are too many.
        capped: u64,
        /// Files nobody needs: `{scannedFiles, removedFiles, freedBytes, olderThanMs}`.
        unreferenced_artifacts: Value,
        /// What is stored and may be, or null.
        disk_budget: Value,
        /// Whether there is anything to do.
        would_mutate: bool,
        ; optional
        /// Whether it was done.
        applied: bool,
        /// Sessions there are now.
        applied_count: u64,
    }
}

/// Result of `sessions.cleanup`: of one agent, or of all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, rename_all_fields = "camelCase")]
pub enum Cleanup {
    /// Of one.
    One(Box<CleanedUp>),
    /// Of all.
    All {
        /// Always true.
        all_agents: bool,
        /// `enforce` or `warn`.
        mode: String,
        /// Whether nothing was done.
        dry_run: bool,
        /// One for each agent.
        stores: Vec<CleanedUp>,
    },
}

/// Parameters of `sessions.abort`: a session, or a run.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AbortParams {
    /// The session.
    pub key: Option<Text>,
    /// The run.
    pub run_id: Option<Text>,
    /// The agent.
    pub agent_id: Option<Text>,
    /// Whether what waits goes too.
    pub clear_queued: Option<bool>,
}

record! {
    /// Result of `sessions.abort`.
    pub struct Aborted {
        /// Always true.
        ok: bool,
        /// The run, or null.
        aborted_run_id: Option<RunId>,
        /// `aborted` or `no-active-run`.
        status: String,
    }
}

/// Parameters of `sessions.fork` and `sessions.rewind`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ForkParams {
    /// The session.
    pub session_key: Text,
    /// The agent.
    pub agent_id: Option<Text>,
    /// The row of a person's message: everything before it stays.
    pub entry_id: Text,
}

record! {
    /// Result of `sessions.fork`.
    pub struct Forked {
        /// The fresh session.
        session_key: SessionKey,
        ; optional
        /// The message, to be edited.
        editor_text: String,
        /// Its images.
        editor_attachments: Vec<EditorAttachment>,
    }
}

/// Parameters of `sessions.rewind`.
pub type RewindParams = ForkParams;

record! {
    /// Result of `sessions.rewind`.
    pub struct Rewound {
        ; optional
        /// The message, to be edited.
        editor_text: String,
        /// Its images.
        editor_attachments: Vec<EditorAttachment>,
    }
}

record! {
    /// An image to be sent again.
    pub struct EditorAttachment {
        /// Its type.
        mime_type: String,
        /// Its content, base64.
        data: String,
    }
}

/// Parameters of `sessions.branches.list`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BranchesListParams {
    /// The session.
    pub session_key: Text,
    /// The agent.
    pub agent_id: Option<Text>,
}

record! {
    /// Result of `sessions.branches.list`.
    pub struct Branches {
        /// The branches, the active one first.
        branches: Vec<Branch>,
    }
}

record! {
    /// One way a session went.
    pub struct Branch {
        /// Its last row.
        leaf_entry_id: String,
        /// Its last text.
        headline: String,
        /// Rows it has.
        message_count: u64,
        /// Whether the session goes on there.
        active: bool,
        ; optional
        /// When it changed last, ISO 8601.
        updated_at: String,
    }
}

/// Parameters of `sessions.branches.switch`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BranchesSwitchParams {
    /// The session.
    pub session_key: Text,
    /// The agent.
    pub agent_id: Option<Text>,
    /// The last row of the branch to go on with.
    pub leaf_entry_id: Text,
}

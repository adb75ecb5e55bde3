//! Creating sessions, and sending into them.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::chat::{Attachment, FastMode, PermissionMode, ToolOverrides};
use super::record;
use super::session_entry::{Resolved, SessionEntry};
use crate::ids::RunId;
use crate::refusal::Refusal;
use crate::session_key::SessionKey;
use crate::value::{Int, Text, shaped_text, string_enum};

string_enum! {
    /// Who may see a session, and do what with it.
    any_of pub enum Visibility {
        /// Everybody, everything.
        Shared = "shared",
        /// Others may read.
        ReadOnly = "read-only",
        /// Others may suggest.
        Suggest = "suggest",
        /// Nobody else.
        Draft = "draft",
    }
}

string_enum! {
    /// The word `last-completed`.
    any_of pub enum ForkPoint {
        /// The last whole answer.
        LastCompleted = "last-completed",
    }
}

shaped_text! {
    /// The name of a managed worktree.
    pub struct WorktreeName = "^[a-z0-9][a-z0-9-]{0,63}$" if |text| {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        text.len() <= 64
            && text.bytes().next().is_some_and(plain)
            && text.bytes().all(|b| plain(b) || b == b'-')
    }
}

/// Parameters of `sessions.create`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateParams {
    /// The session's key; a fresh one when absent. An existing session is taken as it is.
    pub key: Option<Text>,
    /// The same key never creates twice.
    pub idempotency_key: Option<Text>,
    /// The agent.
    pub agent_id: Option<Text>,
    /// Its name, which no other session has.
    pub label: Option<Text<512>>,
    /// Its title, which others may have too.
    pub display_name: Option<Text<500>>,
    /// Its group.
    pub category: Option<Text<512>>,
    /// The model.
    pub model: Option<Text>,
    /// How much of the model's window to use.
    pub context_window: Option<Text>,
    /// How hard to think.
    pub thinking_level: Option<Text>,
    /// Faster answers.
    pub fast_mode: Option<FastMode>,
    /// What tools may do.
    pub permission_mode: Option<PermissionMode>,
    /// Tools that are switched on or off.
    pub tool_overrides: Option<ToolOverrides>,
    /// Whether it leaves no trace.
    pub incognito: Option<bool>,
    /// Who may see it.
    pub visibility: Option<Visibility>,
    /// Of another product's catalog.
    pub catalog_id: Option<Text>,
    /// The session above it.
    pub parent_session_key: Option<Text>,
    /// How deep below a root it is; needs a parent.
    pub spawn_depth: Option<Int<1>>,
    /// Whether it begins with the parent's messages; needs a parent.
    pub fork: Option<bool>,
    /// Up to where; needs `fork`.
    pub fork_from: Option<ForkPoint>,
    /// Whether hooks are told.
    pub emit_command_hooks: Option<bool>,
    /// Whether the parent ends with it.
    pub succeeds_parent: Option<bool>,
    /// What it is to do, as a first message.
    pub task: Option<String>,
    /// Its first message.
    pub message: Option<String>,
    /// Attachments of that message.
    pub attachments: Option<Vec<Attachment>>,
    /// The project it starts in.
    pub project_id: Option<Text>,
    /// The repository of that project.
    pub project_git_url: Option<Text<2048>>,
    /// Whether it gets a worktree of its own.
    pub worktree: Option<bool>,
    /// What the worktree starts from; needs `worktree`.
    pub worktree_base_ref: Option<Text>,
    /// The worktree's name; needs `worktree`.
    pub worktree_name: Option<WorktreeName>,
    /// The node its commands run on.
    pub exec_node: Option<Text>,
    /// The directory to work in.
    pub cwd: Option<Text>,
}

record! {
    /// Result of `sessions.create`.
    pub struct Created {
        /// Always true.
        ok: bool,
        /// The session.
        key: SessionKey,
        /// Its id.
        session_id: String,
        /// What is kept of it.
        entry: SessionEntry,
        /// Whether the first message started a run.
        run_started: bool,
        /// What it runs on.
        resolved: Resolved,
        ; optional
        /// The run, named by the gateway.
        run_id: RunId,
        /// `started`, of the run.
        status: String,
        /// The place of the first message's row.
        message_seq: u64,
        /// Why no run was started although there is a message.
        run_error: Refusal,
        /// Its worktree: `{id, path, branch}`.
        worktree: Value,
        /// How long which step took (never sent by us).
        server_timing: Value,
    }
}

/// Parameters of `sessions.send`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SendParams {
    /// The session, which must exist.
    pub key: Text,
    /// The agent.
    pub agent_id: Option<Text>,
    /// The message.
    pub message: String,
    /// How hard to think.
    pub thinking: Option<String>,
    /// Attachments.
    pub attachments: Option<Vec<Attachment>>,
    /// Milliseconds the run may take, from its start.
    pub timeout_ms: Option<Int>,
    /// The submission's run id; a fresh one when absent.
    pub idempotency_key: Option<Text>,
}

/// Parameters of `sessions.steer`.
pub type SteerParams = SendParams;

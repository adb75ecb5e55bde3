//! What is kept of a session, as the methods that change it answer with it.

use serde_json::Value;

use super::agents::Labelled;
use super::chat::PermissionMode;
use super::record;
use super::session_row::SessionStatus;
use crate::ids::RunId;
use crate::session_key::SessionKey;

record! {
    /// What is kept of a session.
    pub struct SessionEntry {
        /// The session's id.
        session_id: String,
        /// Changes whenever the session begins anew.
        lifecycle_revision: String,
        /// When it changed last, in milliseconds since the epoch.
        updated_at: u64,
        ; optional
        /// When it began, in milliseconds since the epoch.
        session_started_at: u64,
        /// The directory it works in.
        session_root: String,
        /// Its name.
        label: String,
        /// Its title.
        display_name: String,
        /// Its icon.
        icon: String,
        /// Its color.
        color: String,
        /// Its group.
        category: String,
        /// What it shows first: `chat` or `dashboard`.
        board_face: String,
        /// When it was pinned.
        pinned_at: u64,
        /// When it was archived.
        archived_at: u64,
        /// Why: `manual` and others.
        archive_reason: String,
        /// When it was marked as unread.
        marked_unread_at: u64,
        /// When it was read.
        last_read_at: u64,
        /// How hard it thinks.
        thinking_level: String,
        /// How much it tells.
        verbose_level: String,
        /// How much it tells of its thoughts.
        reasoning_level: String,
        /// Whether answers tell their usage.
        response_usage: String,
        /// Whether answers are faster: a boolean or `auto`.
        fast_mode: Value,
        /// What becomes of a message while a run is active.
        queue_mode: String,
        /// How much it tells of its steps.
        trace_level: String,
        /// Whether commands run with more rights.
        elevated_level: String,
        /// How much of the model's window it uses.
        context_window: String,
        /// Where its commands run.
        exec_host: String,
        /// The node they run on.
        exec_node: String,
        /// What it is at, for a while: `{note, attention?, expiresAt}`.
        agent_status: Value,
        /// The session that is told of its end.
        completion_owner_session_key: String,
        /// How the next two are read: 1.
        inherited_tool_policy_version: u64,
        /// Tools its parent may use.
        inherited_tool_allow: Vec<String>,
        /// Tools its parent may not use.
        inherited_tool_deny: Vec<String>,
        /// The session that spawned it.
        spawned_by: SessionKey,
        /// What tools may do.
        permission_mode: PermissionMode,
        /// Tools that are switched on or off.
        tool_overrides: Value,
        /// Whether it may send: `allow` or `deny`.
        send_policy: String,
        /// When it answers in a group: `mention` or `always`.
        group_activation: String,
        /// The provider chosen for it.
        provider_override: String,
        /// The model chosen for it.
        model_override: String,
        /// Who chose: `user` or `default`.
        model_override_source: String,
        /// `resolved`, once the choice is.
        model_override_route_resolution: String,
        /// Whether the choice waits for the end of a run.
        live_model_switch_pending: bool,
        /// How its replies are delivered: `{kind: "none" | "internal" | …}`.
        delivery: Value,
        /// What created it: `operator`, `run`, `channel`.
        created_via: String,
        /// Who created it.
        created_actor: Value,
        /// When, in milliseconds since the epoch.
        created_at: u64,
        /// How deep below a root it is.
        spawn_depth: u64,
        /// The session above it.
        parent_session_key: SessionKey,
        /// That session's id.
        parent_session_id: String,
        /// Its id before it was rewound.
        previous_session_id: String,
        /// Whether it begins with the parent's messages.
        forked_from_parent: bool,
        /// What it was forked from.
        fork_source: Value,
        /// `direct` or `group`.
        chat_type: String,
        /// How its last run ended, or that it goes on.
        status: SessionStatus,
        /// When that run started.
        started_at: u64,
        /// When it ended.
        ended_at: u64,
        /// Milliseconds it took.
        runtime_ms: u64,
        /// That run.
        last_run_id: RunId,
        /// When a person wrote last.
        last_interaction_at: u64,
        /// Whether the model was told about the system.
        system_sent: bool,
        /// Whether the last run was aborted.
        aborted_last_run: bool,
        /// How often it was compacted.
        compaction_count: u64,
        /// Tokens it sent.
        input_tokens: u64,
        /// Tokens it got.
        output_tokens: u64,
        /// Tokens of its last prompt.
        total_tokens: u64,
        /// Whether that is up to date.
        total_tokens_fresh: bool,
        /// How that is counted: 1.
        total_tokens_version: u64,
        /// The provider of the last run.
        model_provider: String,
        /// The model of the last run.
        model: String,
    }
}

record! {
    /// What a session runs on.
    pub struct Resolved {
        /// The model's provider.
        model_provider: String,
        /// The model.
        model: String,
        ; optional
        /// What runs its turns.
        agent_runtime: ResolvedRuntime,
        /// Whether the runtime cannot be chosen.
        runtime_selection_locked: bool,
        /// How hard it thinks; when the model changed.
        thinking_level: String,
        /// How hard it may think; when the model changed.
        thinking_levels: Vec<Labelled>,
    }
}

record! {
    /// What runs a session's turns.
    pub struct ResolvedRuntime {
        /// Its id.
        id: String,
        /// Who chose it: `implicit` and others.
        source: String,
    }
}

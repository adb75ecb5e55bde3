//! A session as every list and session event shows it.

use serde_json::Value;

use super::agents::{AgentRuntime, Labelled};
use super::chat::{PermissionMode, QueueMode};
use super::record;
use crate::ids::RunId;
use crate::session_key::SessionKey;
use crate::value::string_enum;

string_enum! {
    /// How the last run of a session ended, or that it goes on.
    one_of pub enum SessionStatus {
        /// It goes on.
        Running = "running",
        /// It came to its end.
        Done = "done",
        /// It failed.
        Failed = "failed",
        /// It was aborted.
        Killed = "killed",
        /// It took too long.
        Timeout = "timeout",
    }
}

record! {
    /// One session, as every list and session event shows it.
    pub struct SessionRow {
        /// Its key.
        key: SessionKey,
        /// Who may see it: `shared`.
        visibility: String,
        /// Whether a change of its permission mode waits.
        permission_mode_pending: bool,
        /// `direct`, `group` or `global`.
        kind: String,
        /// `main`, `direct`, `dashboard` or `custom`.
        classification: String,
        /// The agent.
        agent_id: String,
        /// Whether it is the agent's main session.
        is_main: bool,
        /// Whether it runs in the background.
        is_background: bool,
        /// When it changed last, or null for a session that does not exist yet.
        updated_at: Option<u64>,
        /// Whether it is archived.
        archived: bool,
        /// Whether it is pinned.
        pinned: bool,
        /// Whether it holds something unread.
        unread: bool,
        /// Its id, which a rewind changes.
        session_id: String,
        /// Whether answers are faster.
        effective_fast_mode: bool,
        /// Why: `default`.
        effective_fast_mode_source: String,
        /// Seconds until `auto` becomes fast.
        fast_auto_on_seconds: u64,
        /// Whether `totalTokens` is up to date.
        total_tokens_fresh: bool,
        /// Whether answers tell their usage: `off`.
        effective_response_usage: String,
        /// What becomes of a message while a run is active.
        effective_queue_mode: QueueMode,
        /// The model's provider, or null.
        model_provider: Option<String>,
        /// The model, or null.
        model: Option<String>,
        /// Who chose it: `user`, or null.
        model_override_source: Option<String>,
        /// Whether the runtime cannot be chosen.
        runtime_selection_locked: bool,
        /// What runs its turns.
        agent_runtime: AgentRuntime,
        /// Tokens the model can look at, or null.
        context_tokens: Option<u64>,
        /// When the row looked like this.
        snapshot_at: u64,
        /// Whether a run is active.
        has_active_run: bool,
        /// What the caller may do: `owner` or `admin`.
        sharing_role: String,
        ; optional
        /// What created it: `operator`, `run`, `channel`.
        created_via: String,
        /// Who created it.
        created_actor: Value,
        /// Who owns it.
        owner: Value,
        /// When it was created, in milliseconds since the epoch.
        created_at: u64,
        /// How hard it may think, with names.
        thinking_levels: Vec<Labelled>,
        /// How hard it may think.
        thinking_options: Vec<String>,
        /// How hard it thinks unless told.
        thinking_default: String,
        /// Where it comes from: `{provider, surface, chatType, from, to, …}`.
        origin: Value,
        /// Where its replies go: `{channel, to, accountId, threadId?}` of who spoke to it last.
        delivery_context: Value,
        /// The channel of that.
        last_channel: String,
        /// Whom its last reply went to.
        last_to: String,
        /// The account.
        last_account_id: String,
        /// The thread.
        last_thread_id: String,
        /// What it is about.
        activity_summary: Value,
        /// When a person wrote last.
        last_interaction_at: u64,
        /// When something happened last.
        last_activity_at: u64,
        /// Who takes part.
        participants: Vec<Value>,
        /// Who takes part, in full.
        expanded_participants: Vec<Value>,
        /// How many.
        participant_count: u64,
        /// How its last run ended; absent before the first.
        status: SessionStatus,
        /// Whether its last run was aborted.
        aborted_last_run: bool,
        /// Where it runs.
        placement: Value,
        /// Whether the system prompt was sent.
        system_sent: bool,
        /// `direct` or `group`.
        chat_type: String,
        /// When its last run started.
        started_at: u64,
        /// When it ended.
        ended_at: u64,
        /// Milliseconds it took.
        runtime_ms: u64,
        /// The last run.
        last_run_id: RunId,
        /// What failed in it.
        last_run_error: String,
        /// The last message in short.
        last_message_preview: String,
        /// A title made from the first message.
        derived_title: String,
        /// The name to show.
        display_name: String,
        /// The name it was given.
        label: String,
        /// The group it is in.
        category: String,
        /// Tokens in its context.
        total_tokens: u64,
        /// Tokens read.
        input_tokens: u64,
        /// Tokens written.
        output_tokens: u64,
        /// What they cost, in US dollars.
        estimated_cost_usd: f64,
        /// How full its context is.
        context_budget_status: Value,
        /// The active runs, if they are known exactly.
        active_run_ids: Vec<RunId>,
        /// The active run's model.
        active_model: String,
        /// The provider of that model.
        active_model_provider: String,
        /// The last row of the branch that is shown.
        active_leaf_entry_id: Option<String>,
        /// The session it belongs to.
        parent_session_key: SessionKey,
        /// The id of that session.
        parent_session_id: String,
        /// The sessions that belong to it.
        child_sessions: Vec<SessionKey>,
        /// How many levels below the first session it is.
        spawn_depth: u64,
        /// How hard it thinks.
        thinking_level: String,
        /// How much it tells: `on`, `off`, `full`.
        verbose_level: String,
        /// What becomes of a message while a run is active, as chosen.
        queue_mode: QueueMode,
        /// When it was marked unread.
        marked_unread_at: u64,
        /// When it was pinned.
        pinned_at: u64,
        /// When it was archived.
        archived_at: u64,
        /// Why: `manual`.
        archive_reason: String,
        /// Its id before a rewind.
        previous_session_id: String,
        /// Whether it was forked.
        forked_from_parent: bool,
        /// From where.
        fork_source: Value,
        /// Whether automations use it.
        has_automation: bool,
        /// Its icon.
        icon: String,
        /// Its color.
        color: String,
        /// What it shows first: `chat` or `dashboard`.
        board_face: String,
        /// When it was read.
        last_read_at: u64,
        /// What its tools may do.
        permission_mode: PermissionMode,
        /// Tools that are switched on or off.
        tool_overrides: Value,
        /// Whether answers are faster: a boolean or `auto`, as chosen.
        fast_mode: Value,
        /// How much of the model's window it uses.
        context_window: String,
        /// How much it tells of its steps.
        trace_level: String,
        /// How much it tells of its thoughts.
        reasoning_level: String,
        /// Whether commands run with more rights.
        elevated_level: String,
        /// Whether answers tell their usage, as chosen.
        response_usage: String,
        /// Where its commands run.
        exec_host: String,
        /// The node they run on.
        exec_node: String,
        /// Whether it may send: `allow` or `deny`.
        send_policy: String,
        /// When it answers in a group: `mention` or `always`.
        group_activation: String,
        /// What it is at, for a while: `{note, attention?, expiresAt}`.
        agent_status: Value,
        /// The channel its messages come from.
        channel: String,
        /// `main`, `group` or `queue` (ours).
        mode: String,
        /// Tools it may use beside those of its agent (ours).
        tool_permissions: Vec<String>,
        /// What it remembers beside its messages (ours).
        memory_refs: Vec<String>,
    }
}

impl SessionRow {
    /// The row of a direct session about which nothing else is known, as of `now_ms`
    /// (milliseconds since the epoch).
    pub fn new(
        key: SessionKey,
        session_id: impl Into<String>,
        agent_runtime: AgentRuntime,
        now_ms: u64,
    ) -> Self {
        let (agent_id, is_main) = (key.agent_id().to_owned(), key.is_main());
        let classification = if is_main { "main" } else { "direct" };
        Self {
            key,
            visibility: "shared".to_owned(),
            permission_mode_pending: false,
            kind: "direct".to_owned(),
            classification: classification.to_owned(),
            agent_id,
            is_main,
            is_background: false,
            updated_at: Some(now_ms),
            archived: false,
            pinned: false,
            unread: false,
            session_id: session_id.into(),
            effective_fast_mode: false,
            effective_fast_mode_source: "default".to_owned(),
            fast_auto_on_seconds: 60,
            total_tokens_fresh: false,
            effective_response_usage: "off".to_owned(),
            effective_queue_mode: QueueMode::Steer,
            model_provider: None,
            model: None,
            model_override_source: None,
            runtime_selection_locked: false,
            agent_runtime,
            context_tokens: None,
            snapshot_at: now_ms,
            has_active_run: false,
            sharing_role: "admin".to_owned(),
            created_via: None,
            created_actor: None,
            owner: None,
            created_at: None,
            thinking_levels: None,
            thinking_options: None,
            thinking_default: None,
            origin: None,
            delivery_context: None,
            last_channel: None,
            last_to: None,
            last_account_id: None,
            last_thread_id: None,
            activity_summary: None,
            last_interaction_at: None,
            last_activity_at: None,
            participants: None,
            expanded_participants: None,
            participant_count: None,
            status: None,
            aborted_last_run: None,
            placement: None,
            system_sent: None,
            chat_type: None,
            started_at: None,
            ended_at: None,
            runtime_ms: None,
            last_run_id: None,
            last_run_error: None,
            last_message_preview: None,
            derived_title: None,
            display_name: None,
            label: None,
            category: None,
            total_tokens: None,
            input_tokens: None,
            output_tokens: None,
            estimated_cost_usd: None,
            context_budget_status: None,
            active_run_ids: None,
            active_model: None,
            active_model_provider: None,
            active_leaf_entry_id: None,
            parent_session_key: None,
            parent_session_id: None,
            child_sessions: None,
            spawn_depth: None,
            thinking_level: None,
            verbose_level: None,
            queue_mode: None,
            marked_unread_at: None,
            pinned_at: None,
            archived_at: None,
            archive_reason: None,
            previous_session_id: None,
            forked_from_parent: None,
            fork_source: None,
            has_automation: None,
            icon: None,
            color: None,
            board_face: None,
            last_read_at: None,
            permission_mode: None,
            tool_overrides: None,
            fast_mode: None,
            context_window: None,
            trace_level: None,
            reasoning_level: None,
            elevated_level: None,
            response_usage: None,
            exec_host: None,
            exec_node: None,
            send_policy: None,
            group_activation: None,
            agent_status: None,
            channel: None,
            mode: None,
            tool_permissions: None,
            memory_refs: None,
        }
    }
}

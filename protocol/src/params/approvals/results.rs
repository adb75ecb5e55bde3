//! What the methods about approvals answer.

use super::*;

/// An answer to `exec.approval.request` or `plugin.approval.request`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Requested {
    /// It is taken; the decision follows under the same id.
    Accepted(Accepted),
    /// It is decided, or nobody will decide any more.
    Decided(Decided),
}

record! {
    /// A request was taken.
    pub struct Accepted {
        /// `accepted`.
        status: String,
        /// The approval.
        id: String,
        /// Who is asked: `approval-client`, or `none`.
        delivery_route: String,
        /// When it was made, ms.
        created_at_ms: u64,
        /// How long it waits, ms.
        expires_at_ms: u64,
    }
}

record! {
    /// What became of a request.
    pub struct Decided {
        /// The approval.
        id: String,
        /// The decision; null if nobody made one.
        decision: Option<ApprovalDecision>,
        /// When it was made, ms.
        created_at_ms: u64,
        /// How long it waited, ms.
        expires_at_ms: u64,
        ; optional
        /// Why it is over; of `waitDecision`.
        terminal_reason: String,
    }
}

record! {
    /// A request that waits for a decision.
    pub struct PendingApproval {
        /// The approval.
        id: String,
        /// What is asked.
        request: Value,
        /// When it was made, ms.
        created_at_ms: u64,
        /// How long it waits, ms.
        expires_at_ms: u64,
        /// What it is about.
        approval_kind: ApprovalKind,
    }
}

record! {
    /// Result of `exec.approval.get`.
    pub struct ExecApproval {
        /// The approval.
        id: String,
        /// The command.
        command_text: String,
        /// The same, shorter.
        command_preview: Option<String>,
        /// What may be decided.
        allowed_decisions: Vec<ApprovalDecision>,
        /// Where it runs.
        host: Option<String>,
        /// On which node.
        node_id: Option<String>,
        /// For which agent.
        agent_id: Option<String>,
        /// How long it waits, ms.
        expires_at_ms: u64,
    }
}

/// What is shown of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Presentation {
    /// A command.
    Exec(ExecPresentation),
    /// Something else.
    Plugin(PluginPresentation),
}

record! {
    /// What is shown of a command.
    pub struct ExecPresentation {
        /// `exec`.
        kind: ApprovalKind,
        /// The command.
        command_text: String,
        /// The same, shorter.
        command_preview: Option<String>,
        /// What to beware of.
        warning_text: Option<String>,
        /// Where it runs.
        host: Option<String>,
        /// On which node.
        node_id: Option<String>,
        /// For which agent.
        agent_id: Option<String>,
        /// What may be decided.
        allowed_decisions: Vec<ApprovalDecision>,
        ; optional
        /// Whom it reaches.
        scope: Value,
    }
}

record! {
    /// What is shown of something a plugin or a tool wants to do.
    pub struct PluginPresentation {
        /// `plugin`.
        kind: ApprovalKind,
        /// What, in short.
        title: String,
        /// What.
        description: String,
        /// How grave it is.
        severity: Severity,
        /// The plugin.
        plugin_id: Option<String>,
        /// The tool.
        tool_name: Option<String>,
        /// For which agent.
        agent_id: Option<String>,
        /// What may be decided.
        allowed_decisions: Vec<ApprovalDecision>,
        ; optional
        /// What, in full.
        detail: String,
        /// Whom it reaches.
        scope: Value,
    }
}

record! {
    /// An approval, whatever became of it.
    pub struct Approval {
        /// The approval.
        id: String,
        /// `pending`, `allowed`, `denied`, `expired` or `cancelled`.
        status: String,
        /// What is shown of it.
        presentation: Presentation,
        /// Its page.
        url_path: String,
        /// When it was made, ms.
        created_at_ms: u64,
        /// How long it waits or would have waited, ms.
        expires_at_ms: u64,
        ; optional
        /// When it was over, ms.
        resolved_at_ms: u64,
        /// Why.
        reason: String,
        /// The decision.
        decision: ApprovalDecision,
        /// Where it came from.
        source: ApprovalSource,
        /// Who decided.
        resolver: Resolver,
    }
}

record! {
    /// Where a request came from.
    pub struct ApprovalSource {
        ; optional
        /// The agent.
        agent_id: String,
        /// The session.
        session_key: String,
    }
}

record! {
    /// Who decided.
    pub struct Resolver {
        /// `device`, `channel`, `runtime` or `system`.
        kind: String,
        ; optional
        /// Which.
        id: String,
    }
}

record! {
    /// Result of `approval.get`.
    pub struct Got {
        /// The approval.
        approval: Approval,
    }
}

record! {
    /// Result of `approval.resolve`.
    pub struct Resolved {
        /// Whether this decision is the one that counts.
        applied: bool,
        /// The approval after it.
        approval: Approval,
    }
}

record! {
    /// Result of `approval.history`.
    pub struct History {
        /// The latest first.
        items: Vec<Approval>,
        ; optional
        /// Where the next page begins.
        next_cursor: String,
    }
}

record! {
    /// Result of `exec.approval.grants.list`.
    pub struct Grants {
        /// Always empty: no automation asks, so none was granted anything.
        grants: Vec<Value>,
    }
}

record! {
    /// Result of `exec.approval.grants.revoke`.
    pub struct GrantRevoked {
        /// `not-found`.
        outcome: String,
    }
}

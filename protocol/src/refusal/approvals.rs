//! Refusals of approvals and questions.

use serde_json::json;

use super::{ErrorCode, Refusal};

impl Refusal {
    /// No command was sent to be approved.
    pub fn command_required() -> Self {
        Self::invalid_request("command is required")
    }

    /// A command of a node needs `what`.
    pub fn needed_for_node(what: &str) -> Self {
        Self::invalid_request(format!("{what} is required for host=node"))
    }

    /// The command is longer than anybody can read.
    pub fn command_too_long() -> Self {
        Self::invalid_request("command exceeds exec approval display limit")
            .with_details(json!({ "reason": "EXEC_APPROVAL_COMMAND_DISPLAY_LIMIT" }))
    }

    /// An id that another kind of approval has.
    pub fn approval_id_reserved(prefix: &str) -> Self {
        Self::invalid_request(format!("approval ids starting with {prefix} are reserved"))
    }

    /// An id that cannot be part of an address, or is longer than `limit` bytes (ours).
    pub fn approval_id_malformed(limit: usize) -> Self {
        Self::invalid_request(format!("an approval id has 1 to {limit} bytes, and is neither . nor .."))
    }

    /// There is, or was, an approval with this id.
    pub fn approval_id_pending() -> Self {
        Self::invalid_request("approval id already pending")
    }

    /// Nothing to wait for.
    pub fn nothing_to_wait_for() -> Self {
        Self::invalid_request("approval expired or not found")
    }

    /// `exec.approval.get` and the older `resolve` methods found nothing that waits.
    pub fn unknown_approval() -> Self {
        Self::invalid_request("unknown or expired approval id").with_details(json!({
            "reason": ErrorCode::ApprovalNotFound,
            "remediation": "Re-request the action; pending approvals are cleared after expiry or restart.",
        }))
    }

    /// Several approvals that wait begin like this.
    pub fn ambiguous_approval() -> Self {
        Self::invalid_request("ambiguous approval id prefix; use the full id")
    }

    /// `approval.get` and `approval.resolve` found nothing.
    pub fn approval_not_found() -> Self {
        Self::invalid_request("approval not found")
            .with_details(json!({ "reason": ErrorCode::ApprovalNotFound }))
    }

    /// Another decision was there first.
    pub fn approval_resolved() -> Self {
        Self::invalid_request("approval already resolved")
            .with_details(json!({ "reason": "APPROVAL_ALREADY_RESOLVED" }))
    }

    /// No decision there is.
    pub fn invalid_decision() -> Self {
        Self::invalid_request("invalid decision")
    }

    /// The command may not be allowed for good.
    pub fn allow_always_unavailable() -> Self {
        Self::invalid_request("allow-always is unavailable for this command")
            .with_details(json!({ "reason": "APPROVAL_ALLOW_ALWAYS_UNAVAILABLE" }))
    }

    /// A plugin does not take this decision, only the `allowed` ones.
    pub fn plugin_decision_unavailable(decision: &str, allowed: &[&str]) -> Self {
        Self::invalid_request(format!("{decision} is unavailable for this plugin approval"))
            .with_details(json!({ "allowedDecisions": allowed }))
    }

    /// A `cursor` of `approval.history` that it did not give.
    pub fn history_cursor() -> Self {
        Self::invalid_request("invalid approval.history cursor")
    }

    /// As many requests wait as may (ours); try again after a decision.
    pub fn too_many_waiting() -> Self {
        Self::failed("too many approvals and questions are waiting; decide some first")
            .with_retry(super::DRAIN_RETRY_MS)
            .with_details(json!({ "reason": "too-many-waiting" }))
    }

    /// The store did not take a request, or a decision.
    pub fn approval_unavailable(doing: &str) -> Self {
        Self::failed(format!("approval {doing} unavailable")).with_retry(super::DRAIN_RETRY_MS)
    }

    /// A change of the rules that does not say what it was made from.
    pub fn policy_hash_required() -> Self {
        Self::invalid_request("exec approvals base hash required; re-run exec.approvals.get and retry")
    }

    /// A change of the rules that was made from others.
    pub fn policy_changed() -> Self {
        Self::invalid_request("exec approvals changed since last load; re-run exec.approvals.get and retry")
    }

    /// There is no such question.
    pub fn question_not_found(id: &str) -> Self {
        Self::invalid_request(format!("question '{id}' was not found"))
            .with_details(json!({ "reason": "QUESTION_NOT_FOUND" }))
    }

    /// The question is over; `status` says how.
    pub fn question_over(id: &str, status: &str) -> Self {
        Self::invalid_request(format!("question '{id}' is already {status}"))
            .with_details(json!({ "reason": "QUESTION_ALREADY_TERMINAL" }))
    }

    /// There is, or was, a question with this id.
    pub fn question_exists(id: &str) -> Self {
        Self::invalid_request(format!("question '{id}' already exists"))
            .with_details(json!({ "reason": "QUESTION_ID_IN_USE" }))
    }

    /// An answer that is none; `id` is the question's within its request.
    pub fn invalid_answer(id: &str, why: &str) -> Self {
        Self::invalid_request(format!("question '{id}' {why}"))
            .with_details(json!({ "reason": "QUESTION_INVALID_ANSWER" }))
    }
}

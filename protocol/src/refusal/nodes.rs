//! Refusals of the methods about nodes.

use serde_json::{Value, json};

use super::{ErrorCode, Refusal};

impl Refusal {
    /// No node has this id.
    pub fn unknown_node() -> Self {
        Self::invalid_request("unknown nodeId")
    }

    /// The node is not approved (any more): nobody knows it, or nobody has agreed to what it offers.
    pub fn node_pairing_changed() -> Self {
        let mut refusal = Self::failed("node pairing changed while invocation was active")
            .with_details(json!({ "code": "PAIRING_CHANGED" }));
        refusal.retryable = Some(true);
        refusal
    }

    /// The node is approved, and not there.
    pub fn node_not_connected() -> Self {
        let (code, message) = ("NOT_CONNECTED", "node not connected");
        Self::failed(message).with_details(json!({
            "code": code,
            "nodeError": { "code": code, "message": message },
            "nodeCommandDispatched": false,
        }))
    }

    /// What a node that is not approved is told, so that whoever reads its log knows what to do.
    pub fn node_awaits_approval(request_id: Option<&str>) -> Self {
        Self::failed(match request_id {
            Some(id) => format!(
                "node capability surface is awaiting operator approval; run `openclaw nodes approve {id}` \
                 (see `openclaw nodes pending`), then this node retries automatically"
            ),
            None => "node capability surface is not approved; reconnect the node to ask again".to_owned(),
        })
    }

    /// The command may not be used with this node; `why` in words for people.
    pub fn node_command_not_allowed(command: &str, why: &str, declared: bool) -> Self {
        let reason = if declared { "command not allowlisted" } else { "command not declared by node" };
        Self::invalid_request(format!("node command not allowed: {why}"))
            .with_details(json!({ "reason": reason, "command": command }))
    }

    /// The commands that change what may run at a node have methods of their own.
    pub fn node_exec_approvals_apart(command: &str) -> Self {
        Self::invalid_request("node.invoke does not allow system.execApprovals.*; use exec.approvals.node.*")
            .with_details(json!({ "command": command }))
    }

    /// The result names another node than sends it.
    pub fn node_id_mismatch() -> Self {
        Self::invalid_request("nodeId mismatch")
    }

    /// A node said that it did not do it, or did not say anything. As recorded there are two families: the `plain` one
    /// tells the node's own words, the other one puts its code before them.
    pub fn node_failed(plain: bool, code: Option<&str>, message: Option<&str>, dispatched: bool) -> Self {
        let message = message.unwrap_or("node invoke failed");
        let mut error = json!({ "message": message });
        let mut details = json!({ "nodeCommandDispatched": dispatched });
        if let Some(code) = code {
            error["code"] = json!(code);
        }
        details["nodeError"] = error;
        match code {
            Some(code) if plain => {
                details["code"] = json!(code);
                Self::new(ErrorCode::InvalidRequest, message).with_details(details)
            }
            Some(code) => Self::failed(format!("{code}: {message}")).with_details(details),
            None => Self::failed(message).with_details(details),
        }
    }

    /// The phone was in the background: it finds the command when it looks ([`PendingAction`]). Nobody can wake it.
    ///
    /// [`PendingAction`]: crate::params::nodes::PendingAction
    pub fn node_command_queued(node_id: &str, command: &str, action_id: &str, error: &Self) -> Self {
        let told = error.details.as_ref().map(|details| details["nodeError"].clone());
        let wake = json!({ "path": "no-registration", "available": false, "throttled": false });
        let mut refusal =
            Self::failed("node command queued until iOS returns to foreground").with_details(json!({
                "code": "QUEUED_UNTIL_FOREGROUND",
                "queuedActionId": action_id,
                "nodeId": node_id,
                "command": command,
                "wake": wake,
                "nodeError": told,
            }));
        refusal.retryable = Some(true);
        refusal
    }

    /// Something about the approval that a command at a node claims to have is not right.
    pub fn node_approval(code: &str, message: &str, run_id: Option<&str>) -> Self {
        let mut details = json!({ "code": code });
        if let Some(run_id) = run_id {
            details["runId"] = Value::from(run_id);
        }
        Self::invalid_request(message).with_details(details)
    }

    /// A surface of plugins that this gateway does not serve.
    pub fn surface_unavailable(surface: &str) -> Self {
        Self::failed(format!("{surface} plugin surface unavailable"))
    }
}

//! The gate before `system.run`: who says that people have agreed to a command must name their agreement, it must be
//! about this command at this node, and one that is good for one time is used once. Pure.

use crate::approvals::{Outcome, Requester};
use crate::conns::{Conn, Grant};
use crate::store::ApprovalRow;
use crabtree_protocol::params::approvals::ApprovalDecision;
use crabtree_protocol::{Refusal, Scope};
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// The command it stands before.
pub const COMMAND: &str = "system.run";

/// What a caller may say of a command; whether people agreed is for the gateway to say.
const FORWARDED: [&str; 11] = [
    "command",
    "rawCommand",
    "systemRunPlan",
    "cwd",
    "env",
    "timeoutMs",
    "needsScreenRecording",
    "agentId",
    "sessionKey",
    "runId",
    "suppressNotifyOnExit",
];

/// What a caller wants.
#[derive(Debug, PartialEq)]
pub enum Wish {
    /// To run a command as the node's own rules let it.
    Plain(Value),
    /// To run one that people agreed to, in the request of this id.
    Agreed(String, Map<String, Value>),
}

/// Reads what a caller wants.
///
/// # Errors
/// It says that people agreed, but not when.
pub fn wish(params: Option<Value>) -> Result<Wish, Refusal> {
    let Some(Value::Object(mut said)) = params else { return Ok(Wish::Plain(params.unwrap_or_default())) };
    if said.get("approvalSource").is_some_and(|source| !source.is_null()) {
        return Err(Refusal::node_approval("INVALID_APPROVAL_SOURCE", "approval source invalid", None));
    }
    let decided = said.get("approvalDecision").and_then(Value::as_str);
    let claims = said.get("approved") == Some(&Value::Bool(true))
        || matches!(decided, Some("allow-once" | "allow-always"));
    said.retain(|name, _| FORWARDED.contains(&name.as_str()));
    let run_id = said.get("runId").and_then(Value::as_str).map(str::trim).filter(|id| !id.is_empty());
    match (claims, run_id.map(str::to_owned)) {
        (true, Some(run_id)) => Ok(Wish::Agreed(run_id, said)),
        (true, None) => {
            Err(Refusal::node_approval("MISSING_RUN_ID", "approval override requires params.runId", None))
        }
        (false, Some(_)) => Ok(Wish::Plain(Value::Object(said))),
        (false, None) => {
            // Events of the run name it.
            said.insert("runId".into(), json!(Uuid::new_v4().to_string()));
            Ok(Wish::Plain(Value::Object(said)))
        }
    }
}

/// What people agreed to.
#[derive(Debug, PartialEq)]
pub struct Agreement {
    /// What the node is sent.
    pub params: Value,
    /// Whether it is good for one time only.
    pub once: bool,
}

/// Whether the request of this id lets this caller run this command at this node now.
///
/// # Errors
/// Why not.
pub fn agreement(
    run_id: &str,
    mut params: Map<String, Value>,
    row: Option<&ApprovalRow>,
    node_id: &str,
    caller: Option<&Conn>,
    now: i64,
) -> Result<Agreement, Refusal> {
    let no = |code, message| Err(Refusal::node_approval(code, message, Some(run_id)));
    let Some(row) = row else { return no("UNKNOWN_APPROVAL_ID", "unknown or expired approval id") };
    if now > row.expires_at {
        return no("APPROVAL_EXPIRED", "approval expired");
    }
    match row.request["nodeId"].as_str() {
        None => return no("APPROVAL_NODE_BINDING_MISSING", "approval id missing node binding"),
        Some(id) if id != node_id => {
            return no("APPROVAL_NODE_MISMATCH", "approval id not valid for this node");
        }
        Some(_) => {}
    }
    if !is_its_own(row, caller) {
        return no("APPROVAL_CLIENT_MISMATCH", "approval id not valid for this client");
    }
    let plan = &row.request["systemRunPlan"];
    let same =
        |name: &str, planned: &Value| params.get(name).is_none_or(|said| said.is_null() || said == planned);
    let fits = row.request["host"] == "node"
        && plan.is_object()
        && params.get("command") == Some(&plan["argv"])
        && params.get("env").is_none_or(|env| env.as_object().is_some_and(Map::is_empty))
        && ["cwd", "agentId", "sessionKey"].iter().all(|name| same(name, &plan[*name]));
    if !fits {
        return no("APPROVAL_REQUEST_MISMATCH", "approval id does not match request");
    }
    let decision = Outcome::stored(row).and_then(|outcome| outcome.decision);
    let (word, once) = match decision {
        Some(ApprovalDecision::AllowOnce) => ("allow-once", true),
        Some(ApprovalDecision::AllowAlways) => ("allow-always", false),
        _ => return no("APPROVAL_REQUIRED", "approval required"),
    };
    let planned = ["cwd", "agentId", "sessionKey"].into_iter().filter(|name| !plan[*name].is_null());
    params.extend(planned.map(|name| (name.to_owned(), plan[name].clone())));
    params.extend([
        ("rawCommand".to_owned(), plan["commandText"].clone()),
        ("systemRunPlan".to_owned(), plan.clone()),
        ("approved".to_owned(), json!(true)),
        ("approvalDecision".to_owned(), json!(word)),
    ]);
    Ok(Agreement { params: Value::Object(params), once })
}

/// The approval has been used.
pub fn used(run_id: &str) -> Refusal {
    Refusal::node_approval("APPROVAL_REQUIRED", "approval required", Some(run_id))
}

/// Whoever asked may use the answer, and so may whoever could have given it. The gateway uses what it asked itself.
fn is_its_own(row: &ApprovalRow, caller: Option<&Conn>) -> bool {
    let Some(asker) = row.requester.clone() else { return caller.is_none() };
    let Some(caller) = caller else { return false };
    let decides = |grant: &Grant| grant.may(Scope::Approvals);
    let asked = serde_json::from_value(asker).is_ok_and(|asker: Requester| match &asker.device {
        Some(device) => caller.grant().and_then(|grant| grant.device.as_ref()) == Some(device),
        None => asker.conn == *caller.id(),
    });
    asked || caller.grant().is_some_and(decides)
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;

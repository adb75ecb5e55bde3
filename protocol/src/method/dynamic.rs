//! Scopes that depend on what a request asks for: who may only write does less to a session than an
//! administrator. Decided before the parameters are validated, so it looks at nothing but names and words.

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::Method;
use crate::scope::Scope;

/// What of `sessions.patch` says which session is meant; the rest are changes.
const ENVELOPE: [&str; 6] = [
    "key",
    "agentId",
    "expectedSessionId",
    "expectedLifecycleRevision",
    "expectedPermissionMode",
    "expectedMarkedUnreadAt",
];
/// Changes of a session that writers may make.
const WRITABLE: [&str; 12] = [
    "label",
    "icon",
    "color",
    "category",
    "boardFace",
    "pinned",
    "archived",
    "unread",
    "model",
    "thinkingLevel",
    "fastMode",
    "permissionMode",
];
/// What writers may say when they delete an archived session.
const DELETABLE: [&str; 5] = ["key", "agentId", "deleteTranscript", "expectedSessionId", "archivedOnly"];

/// The scope a request needs.
pub(super) fn needed(method: Method, params: Option<&RawValue>) -> Option<Scope> {
    let decide: fn(&Map<String, Value>) -> Scope = match method {
        Method::SessionsCreate => create,
        Method::SessionsPatch => patch,
        Method::SessionsPatchMany => patch_many,
        Method::SessionsDelete => delete,
        _ => return method.scope().minimum(),
    };
    let params = params.and_then(|params| serde_json::from_str(params.get()).ok());
    params.as_ref().map(decide).or(method.scope().minimum())
}

fn admin_if(more: bool) -> Scope {
    if more { Scope::Admin } else { Scope::Write }
}

fn create(params: &Map<String, Value>) -> Scope {
    let incognito = params.get("incognito") == Some(&Value::Bool(true));
    let tools = params.contains_key("execNode") || params.contains_key("toolOverrides");
    admin_if(incognito || tools || everything(params))
}

fn everything(params: &Map<String, Value>) -> bool {
    params.get("permissionMode").is_some_and(|mode| mode == "full")
}

fn patch(params: &Map<String, Value>) -> Scope {
    let known = |name: &String| ENVELOPE.contains(&name.as_str()) || WRITABLE.contains(&name.as_str());
    admin_if(everything(params) || !params.keys().all(known))
}

fn patch_many(params: &Map<String, Value>) -> Scope {
    let Some(Value::Object(changes)) = params.get("patch") else { return Scope::Write };
    admin_if(everything(changes) || !changes.keys().all(|name| WRITABLE.contains(&name.as_str())))
}

fn delete(params: &Map<String, Value>) -> Scope {
    let archived = params.get("archivedOnly") == Some(&Value::Bool(true));
    admin_if(!archived || !params.keys().all(|name| DELETABLE.contains(&name.as_str())))
}

//! Which agent and which session a webhook may reach, and the name of its run. Pure.

use super::Wrong;
use super::action::{Agent, Named, Run};
use crate::agents::Catalog;
use crate::settings::{HookSessionMode, HooksSettings, Secret};
use crabtree_protocol::{RunId, SessionKey};
use serde_json::json;
use uuid::Uuid;

/// The agent that is meant.
pub fn agent(hooks: &HooksSettings, catalog: &Catalog, meant: &Agent) -> Result<String, Wrong> {
    let known = |id: &str| catalog.agent(id).map(|agent| agent.id.to_string());
    let default = || catalog.default_agent().id.to_string();
    let id = match meant {
        Agent::Default => default(),
        Agent::Mapped(id) => known(id).unwrap_or_else(default),
        Agent::Asked(id) => known(id).ok_or_else(|| Wrong::request(format!("unknown agentId {id:?}")))?,
    };
    match &hooks.allowed_agent_ids {
        Some(allowed) if !allowed.iter().any(|one| one == "*" || *one == id) => Err(Wrong::request(format!(
            "hooks.allowedAgentIds does not name {id}; name another agent, or add it"
        ))),
        _ => Ok(id),
    }
}

/// A session of that agent that may be named.
pub fn session(hooks: &HooksSettings, agent: &str, named: &Named) -> Result<SessionKey, Wrong> {
    if !named.fixed && !hooks.allow_request_session_key {
        return Err(Wrong::request(
            "requests may not name a sessionKey unless hooks.allowRequestSessionKey is true",
        ));
    }
    // It is of this agent, whichever it says.
    let key = named.key.trim();
    let local =
        key.strip_prefix("agent:").and_then(|rest| rest.split_once(':')).map_or(key, |(_, rest)| rest);
    if SessionKey::is_reserved(local) {
        return Err(Wrong::request("sessionKey is one of the gateway's own sessions; name another"));
    }
    if !hooks.admits(local) {
        let prefixes = hooks.prefixes().join(", ");
        return Err(Wrong::request(format!("sessionKey has to begin with one of: {prefixes}")));
    }
    let canonical = SessionKey::canonical(local, agent).map_err(|refusal| Wrong::request(refusal.message))?;
    // A key within a key is some other agent's.
    if local.starts_with("agent:") {
        return Err(Wrong::request("sessionKey names an agent twice"));
    }
    Ok(canonical)
}

/// Where a run is: in a session of its own, unless it is to go on in one that is named.
pub fn place(hooks: &HooksSettings, agent: &str, run: &Run, run_id: &RunId) -> Result<SessionKey, Wrong> {
    let default = hooks.default_session_key.as_ref().map(|key| Named { key: key.clone(), fixed: true });
    let named = run.session.as_ref().or(default.as_ref());
    let named = named.map(|named| session(hooks, agent, named).map(|key| (key, named.fixed))).transpose()?;
    match (run.session_mode, named) {
        (HookSessionMode::Isolated, _) => Ok(SessionKey::hook_run(agent, run_id.as_str())),
        (HookSessionMode::Persistent, Some((_, false))) if hooks.prefixes().is_empty() => {
            Err(Wrong::request(
                "sessionMode \"persistent\" with a sessionKey of the request needs hooks.allowedSessionKeyPrefixes",
            ))
        }
        (HookSessionMode::Persistent, Some((key, _))) => Ok(key),
        (HookSessionMode::Persistent, None) => {
            Err(Wrong::request("sessionMode \"persistent\" needs a sessionKey"))
        }
    }
}

/// The name of a run: the same for the same key, with the same token, at the same path, if the same is asked.
pub fn run_id(token: &Secret, path: &str, agent: &str, run: &Run) -> RunId {
    let Some(key) = &run.key else { return RunId::from(Uuid::new_v4().to_string()) };
    let asked = json!([
        token.expose(),
        path,
        key,
        agent,
        run.message,
        run.name,
        run.session.as_ref().map(|named| &named.key),
        format!("{:?} {:?} {:?}", run.session_mode, run.wake, run.deliver),
        run.model,
        run.thinking,
        run.timeout_seconds,
        run.trusted,
    ]);
    let hash =
        blake3::derive_key("crabtree 2026-11 idempotency key of a webhook", asked.to_string().as_bytes());
    let mut half = [0; 16];
    half.copy_from_slice(&hash[..16]);
    RunId::from(uuid::Builder::from_random_bytes(half).into_uuid().to_string())
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;

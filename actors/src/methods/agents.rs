//! Agents, models and commands: all read from the published catalog.

use super::{Call, commands};
use crabtree_protocol::params::agents::{
    AgentIdentityParams, AgentsListParams, CommandsListParams, ModelsListParams,
};
use crabtree_protocol::params::chat::MetadataParams;
use crabtree_protocol::{Refusal, SessionKey};
use serde_json::json;

pub(super) fn list(call: Call<'_>) {
    let Some((AgentsListParams {}, call)) = call.parse() else { return };
    let estate = call.estate();
    let workspace = estate.config.load().state_dir.join("workspace");
    call.responder.ok(&estate.catalog.load().agents_list(&workspace.to_string_lossy()));
}

pub(super) fn identity(call: Call<'_>) {
    let Some((params, call)) = call.parse::<AgentIdentityParams>() else { return };
    let catalog = call.estate().catalog.load();
    let default = &catalog.default_agent().id;
    let of_session = params.session_key.as_deref().and_then(|key| SessionKey::canonical(key, default).ok());
    let of_session = of_session.as_ref().map(SessionKey::agent_id);
    let id = params.agent_id.as_deref().or(of_session).unwrap_or(default);
    call.responder.settle(catalog.identity(id).ok_or_else(|| Refusal::unknown_agent_id(id)));
}

pub(super) fn models(call: Call<'_>) {
    let Some((_, call)) = call.parse::<ModelsListParams>() else { return };
    let catalog = call.estate().catalog.load();
    call.responder.ok(&catalog.models_list());
}

pub(super) fn list_commands(call: Call<'_>) {
    let Some((_, call)) = call.parse::<CommandsListParams>() else { return };
    call.responder.ok(&json!({ "commands": commands::rows() }));
}

pub(super) fn metadata(call: Call<'_>) {
    let Some((_, call)) = call.parse::<MetadataParams>() else { return };
    let mut answer = call.estate().catalog.load().models_list();
    answer["commands"] = json!(commands::rows());
    answer["accountSelection"] = json!({ "kind": "automatic", "label": "Automatic account selection" });
    answer["swarmEnabled"] = json!(false);
    answer["runtimeSelectionLocked"] = json!(false);
    call.responder.ok(&answer);
}

//! Agents, models and commands: read from the published catalog. Changing agents is in `roster`, their files in
//! `files`, the providers of models in `providers`.

mod files;
mod providers;
mod roster;

pub(super) use files::{get as file_get, list as file_list, set as file_set};
pub(super) use providers::{auth_status, list as models, probe};
pub(super) use roster::{create, delete, known_id, update};

use super::{Call, commands};
use crate::estate::Estate;
use crabtree_protocol::params::agents::{AgentIdentityParams, AgentsListParams, CommandsListParams};
use crabtree_protocol::params::chat::MetadataParams;
use crabtree_protocol::{Refusal, SessionKey};
use serde_json::{Value, json};

pub(super) fn list(call: Call<'_>) {
    let Some((AgentsListParams {}, call)) = call.parse() else { return };
    let estate = call.estate();
    let loaded = estate.config.load();
    call.responder.ok(&estate.catalog.load().agents_list(|id| loaded.workspace(id)));
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

pub(super) fn list_commands(call: Call<'_>) {
    let Some((params, call)) = call.parse::<CommandsListParams>() else { return };
    let rows = commands::rows(&call.estate().catalog.load(), params.include_args.unwrap_or(true));
    call.responder.ok(&json!({ "commands": rows }));
}

pub(super) fn metadata(call: Call<'_>) {
    let Some((_, call)) = call.parse::<MetadataParams>() else { return };
    let answer = metadata_of(call.estate());
    call.responder.ok(&answer);
}

/// What a chat page needs to know of models and commands.
pub(super) fn metadata_of(estate: &Estate) -> Value {
    let catalog = estate.catalog.load();
    let mut answer = catalog.models_list();
    answer["commands"] = json!(commands::rows(&catalog, true));
    answer["accountSelection"] = json!({ "kind": "automatic", "label": "Automatic account selection" });
    answer["swarmEnabled"] = json!(false);
    answer["runtimeSelectionLocked"] = json!(false);
    answer
}

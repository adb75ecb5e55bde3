//! A session as the methods that change it answer with it: what is kept of it, and what it runs on.

use crate::agents::{Catalog, agent_runtime};
use crate::settings::Thinking;
use crate::store::SessionRecord;
use crabtree_protocol::Refusal;
use crabtree_protocol::params::agents::Labelled;
use crabtree_protocol::params::session_entry::{Resolved, ResolvedRuntime, SessionEntry};
use serde_json::{Value, json};

/// Where `sessions.patch` and others say sessions are stored.
pub(super) const STORE_PATH: &str = "store.sqlite";

/// The lifecycle revision clients know: one that never began anew has that of its id.
pub(in crate::methods) fn revision(record: &SessionRecord) -> &str {
    if record.revision.is_empty() { &record.session_id } else { &record.revision }
}

/// What is kept of a session, in the declared shape.
///
/// # Errors
/// UNAVAILABLE if what is stored does not fit it.
pub(in crate::methods) fn entry(record: &SessionRecord) -> Result<SessionEntry, Refusal> {
    let mut entry = record.entry.clone();
    let runtime = record.started_at.zip(record.ended_at).map(|(from, to)| (to - from).max(0));
    let columns = [
        ("sessionId", json!(record.session_id)),
        ("lifecycleRevision", json!(revision(record))),
        ("updatedAt", json!(record.updated_at)),
        ("createdAt", json!(record.created_at)),
        ("label", json!(record.label)),
        ("status", json!(record.status)),
        ("lastRunId", json!(record.last_run_id)),
        ("startedAt", json!(record.started_at)),
        ("endedAt", json!(record.ended_at)),
        ("runtimeMs", json!(runtime)),
        ("lastInteractionAt", json!(record.last_interaction_at)),
    ];
    for (name, value) in columns {
        entry[name] = value;
    }
    if entry.get("createdVia").is_none() {
        entry["createdVia"] = json!("operator");
    }
    if entry.get("totalTokens").is_some() {
        entry["totalTokensFresh"] = json!(true);
        entry["totalTokensVersion"] = json!(1);
    }
    serde_json::from_value(entry)
        .map_err(|e| Refusal::failed(format!("the session was changed, but cannot be shown: {e}")))
}

/// The members of a session that an operator brings into being.
pub(super) fn born() -> Value {
    json!({
        "delivery": { "kind": "none" },
        "createdVia": "operator",
        "spawnDepth": 0,
        "modelOverrideSource": "default",
    })
}

/// The model a session runs on.
pub(super) fn model_of<'a>(entry: Option<&'a Value>, catalog: &'a Catalog) -> (&'a str, &'a str) {
    let part = |name: &str| entry.and_then(|entry| entry.get(name)?.as_str());
    part("providerOverride").zip(part("modelOverride")).unwrap_or_else(|| catalog.primary_parts())
}

/// What a session runs on.
pub(in crate::methods) fn resolved(record: &SessionRecord, catalog: &Catalog) -> Resolved {
    let (provider, model) = model_of(Some(&record.entry), catalog);
    Resolved {
        model_provider: provider.to_owned(),
        model: model.to_owned(),
        agent_runtime: None,
        runtime_selection_locked: None,
        thinking_level: None,
        thinking_levels: None,
    }
}

/// The same as `sessions.patch` tells it; how it can think is told when the model was changed.
pub(super) fn resolved_patch(record: &SessionRecord, catalog: &Catalog, model_changed: bool) -> Resolved {
    let runtime = agent_runtime();
    let text = |name: &str| runtime[name].as_str().unwrap_or_default().to_owned();
    let (provider, model) = model_of(Some(&record.entry), catalog);
    let name = format!("{provider}/{model}");
    let chosen = record.entry.get("thinkingLevel").and_then(Value::as_str).and_then(Thinking::from_name);
    let level = catalog.thinking(&record.agent_id, &name, chosen);
    let labelled =
        |level: &Thinking| Labelled { id: level.name().to_owned(), label: level.name().to_owned() };
    Resolved {
        agent_runtime: Some(ResolvedRuntime { id: text("id"), source: text("source") }),
        runtime_selection_locked: Some(false),
        thinking_level: model_changed.then(|| level.name().to_owned()),
        thinking_levels: model_changed.then(|| catalog.thinking_levels(&name).iter().map(labelled).collect()),
        ..resolved(record, catalog)
    }
}

/// The members of a choice of model, `provider/model`; one alone is of the default model's provider.
///
/// # Errors
/// The provider, or its model, is not known.
pub(super) fn choose_model(entry: &mut Value, name: &str, catalog: &Catalog) -> Result<(), Refusal> {
    let (provider, model) = name.trim().split_once('/').unwrap_or((catalog.primary_parts().0, name.trim()));
    if !catalog.model_names().any(|name| name.split('/').next() == Some(provider)) {
        return Err(Refusal::unknown_provider(provider));
    }
    if catalog.model(&format!("{provider}/{model}")).is_none() {
        return Err(Refusal::unknown_model(provider, model));
    }
    entry["providerOverride"] = json!(provider);
    entry["modelOverride"] = json!(model);
    entry["modelOverrideSource"] = json!("user");
    entry["modelOverrideRouteResolution"] = json!("resolved");
    Ok(())
}

/// A level of thinking that this model has.
///
/// # Errors
/// It has no such level; the refusal names those it has.
pub(super) fn thinking(
    level: &str,
    entry: Option<&Value>,
    catalog: &Catalog,
) -> Result<&'static str, Refusal> {
    let (provider, model) = model_of(entry, catalog);
    let levels = catalog.thinking_levels(&format!("{provider}/{model}"));
    let known = Thinking::from_name(level).filter(|known| levels.contains(known));
    let names = || levels.iter().map(|level| level.name()).collect::<Vec<_>>();
    known
        .map(Thinking::name)
        .ok_or_else(|| Refusal::thinking_unsupported(level.trim(), provider, model, &names()))
}

/// A name without the space around it.
///
/// # Errors
/// Nothing is left of it.
pub(super) fn named(what: &str, name: &str) -> Result<String, Refusal> {
    match name.trim() {
        "" => Err(Refusal::invalid_request(format!("{what} must not be blank"))),
        name => Ok(name.to_owned()),
    }
}

/// Whether this is the main session of an agent there is.
pub(super) fn is_main(key: &crabtree_protocol::SessionKey, catalog: &Catalog) -> bool {
    key.rest() == catalog.main_key && catalog.agent(key.agent_id()).is_some()
}

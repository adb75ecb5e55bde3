//! The configuration: shown without its secrets, and written by the `config` actor.

use super::Call;
use crate::config::{ConfigMsg, Edit, Writing, changes, edit};
use crate::settings::{self, Loaded, needs_restart, redacted};
use crabtree_protocol::Refusal;
use crabtree_protocol::params::config::{ApplyParams, LookupParams, PatchParams, SetParams};
use crabtree_protocol::params::core::Empty;
use crabtree_protocol::value::Text;
use serde_json::{Map, Value, json};

pub(super) fn get(call: Call<'_>) {
    let Some((Empty {}, call)) = call.parse() else { return };
    let loaded = call.estate().config.load();
    let shown = redacted(&loaded.raw);
    let resolved = with_roster(shown.clone());
    let settings = serde_json::to_value(&loaded.settings).map(|s| redacted(&s)).unwrap_or_default();
    let settings = with_roster(settings);
    call.responder.ok(&json!({
        "path": loaded.path,
        "includedPaths": [],
        "includeProvenance": [],
        "agentRosterIncludeOwned": false,
        "bindingsIncludeOwned": false,
        "exists": loaded.exists,
        "raw": shown_text(&loaded, &shown),
        "parsed": shown,
        "sourceConfig": resolved,
        "resolved": resolved,
        "runtimeConfig": settings,
        "config": settings,
        "valid": true,
        "hash": loaded.hash,
        "appliedConfigHash": loaded.hash,
        "configRevisionHash": loaded.hash,
        "issues": [],
        "legacyIssues": [],
        "warnings": loaded.warnings,
    }));
}

/// A document with its agents by id, where clients look for them (as recorded): without any there is `main`.
fn with_roster(mut document: Value) -> Value {
    let Some(members) = document.as_object_mut() else { return document };
    let agents = members.entry("agents").or_insert_with(|| json!({}));
    let listed = agents.as_object_mut().and_then(|agents| agents.remove("list"));
    let by_id = listed.as_ref().and_then(Value::as_array).into_iter().flatten().filter_map(|entry| {
        let mut entry = entry.as_object()?.clone();
        let Some(Value::String(id)) = entry.remove("id") else { return None };
        Some((id, Value::Object(entry)))
    });
    let by_id: Map<String, Value> = by_id.collect();
    if let Some(agents) = agents.as_object_mut() {
        let entries = agents.entry("entries").or_insert_with(|| json!({}));
        if let Some(entries) = entries.as_object_mut() {
            entries.extend(by_id);
            if entries.is_empty() {
                entries.insert("main".into(), json!({}));
            }
        }
    }
    document
}

/// The file as it is written, with stand-ins for its secrets; where it cannot be edited, its content.
fn shown_text(loaded: &Loaded, shown: &Value) -> String {
    let mut raw = loaded.raw.clone();
    let concealing = changes::between(&raw, shown);
    edit::edited(&loaded.text, &mut raw, &concealing)
        .unwrap_or_else(|_| serde_json::to_string_pretty(shown).unwrap_or_default())
}

pub(super) fn schema(call: Call<'_>) {
    let Some((Empty {}, call)) = call.parse() else { return };
    let answer = json!({
        "schema": settings::schema(),
        "uiHints": settings::ui_hints(),
        "version": call.estate().boot.version,
        "generatedAt": chrono::DateTime::from_timestamp_millis(call.estate().clock.now_ms()).map(|at| at.to_rfc3339()),
    });
    call.responder.ok(&answer);
}

pub(super) fn lookup(call: Call<'_>) {
    let Some((LookupParams { path }, call)) = call.parse() else { return };
    let found = settings::lookup(path.as_str());
    call.responder.settle(found.ok_or_else(|| Refusal::invalid_request("config schema path not found")));
}

pub(super) fn set(call: Call<'_>) {
    let Some((SetParams { raw, base_hash }, call)) = call.parse() else { return };
    write(call, move |before| whole(before, raw.as_str(), base_hash.as_ref(), None));
}

pub(super) fn apply(call: Call<'_>) {
    let Some((params, call)) = call.parse::<ApplyParams>() else { return };
    let note = Note { kind: "config-apply", mode: "config.apply", text: params.note };
    write(call, move |before| whole(before, params.raw.as_str(), params.base_hash.as_ref(), Some(note)));
}

pub(super) fn patch(call: Call<'_>) {
    let Some((params, call)) = call.parse::<PatchParams>() else { return };
    write(call, move |before| plan_patch(before, params));
}

fn write(call: Call<'_>, plan: impl FnOnce(&Loaded) -> Result<Edit, Refusal> + Send + 'static) {
    // An actor that is down drops the responder with the message: retryable.
    let _ = call.wiring.config.send(ConfigMsg::Edit(Box::new(plan), call.responder));
}

/// What a client said of its change.
struct Note {
    kind: &'static str,
    mode: &'static str,
    text: Option<String>,
}

impl Note {
    /// What was done (as recorded, but that nothing is kept for a next start: none is needed).
    fn sentinel(&self, after: &Loaded, paths: &[String]) -> Value {
        let restart = paths.iter().any(|path| needs_restart(path));
        json!({ "persisted": false, "payload": {
            "kind": self.kind, "status": "ok", "ts": chrono::Utc::now().timestamp_millis(), "message": self.text,
            "doctorHint": null,
            "stats": { "mode": self.mode, "root": after.path, "requiresRestart": restart },
        } })
    }
}

fn parsed(raw: &str) -> Result<Value, Refusal> {
    json5::from_str(raw).map_err(|error| Refusal::invalid_request(format!("SyntaxError: JSON5: {error}")))
}

/// Nobody overwrites what they have not seen; a file that is not there has been seen.
fn seen(before: &Loaded, base: Option<&Text>, missing: impl FnOnce() -> String) -> Result<(), Refusal> {
    match base {
        _ if !before.exists => Ok(()),
        None => Err(Refusal::invalid_request(missing())),
        Some(base) if base.as_str() == before.hash => Ok(()),
        Some(_) => {
            Err(Refusal::invalid_request("config changed since last load; re-run config.get and retry"))
        }
    }
}

/// The secrets that the client was not shown.
fn restored(new: &Value, before: &Loaded) -> Result<Value, Refusal> {
    changes::restored(new, &before.raw).map_err(|path| {
        let why = format!("{path} is redacted, and there is no secret there to keep; write its value");
        Refusal::invalid_request(format!("invalid config: {path}: {why}"))
            .with_details(json!({ "issues": [{ "path": path, "message": why }] }))
    })
}

fn whole(before: &Loaded, text: &str, base: Option<&Text>, note: Option<Note>) -> Result<Edit, Refusal> {
    let given = parsed(text)?;
    let is_shown = text == shown_text(before, &redacted(&before.raw));
    seen(before, base, || "config base hash required; re-run config.get and retry".into())?;
    if !given.is_object() {
        return Err(Refusal::invalid_request("config raw must be an object"));
    }
    let wanted = restored(&given, before)?;
    let secrets = changes::between(&given, &wanted);
    let changed = changes::paths(&changes::between(&before.raw, &wanted));
    let mut raw = given;
    // Where the text cannot be edited only its content can be kept.
    let text = match secrets.is_empty() {
        true => text.to_owned(),
        false => edit::edited(text, &mut raw, &secrets)
            .unwrap_or_else(|_| serde_json::to_string_pretty(&wanted).unwrap_or_default()),
    };
    let writing = if is_shown { Writing::Changes(Vec::new()) } else { Writing::Text(text) };
    let answer = move |after: &Loaded| answer(after, None, note.map(|note| note.sentinel(after, &changed)));
    Ok(Edit { writing, answer: Box::new(answer) })
}

fn plan_patch(before: &Loaded, params: PatchParams) -> Result<Edit, Refusal> {
    let patch = parsed(params.raw.as_str())?;
    if !patch.is_object() {
        return Err(Refusal::invalid_request("config.patch raw must be an object"));
    }
    let whole: Vec<String> = params
        .replace_paths
        .iter()
        .flat_map(|paths| paths.iter())
        .map(|path| path.as_str().to_owned())
        .collect();
    let wanted = restored(&changes::merged(&before.raw, &patch, &whole), before)?;
    let made = changes::between(&before.raw, &wanted);
    let paths = changes::paths(&made);
    seen(before, params.base_hash.as_ref(), || {
        format!(
            "config base hash required for {}; re-run config.get and retry with baseHash",
            first_leaf(&patch)
        )
    })?;
    let note = Note { kind: "config-patch", mode: "config.patch", text: params.note };
    let answer = move |after: &Loaded| {
        let sentinel = note.sentinel(after, &paths);
        answer(after, Some(paths), Some(sentinel))
    };
    Ok(Edit { writing: Writing::Changes(made), answer: Box::new(answer) })
}

/// The first place in a patch, with dots.
fn first_leaf(patch: &Value) -> String {
    let (mut at, mut place) = (Vec::new(), patch);
    while let Some((key, below)) = place.as_object().and_then(|members| members.iter().next()) {
        at.push(key.as_str());
        place = below;
    }
    at.join(".")
}

fn answer(after: &Loaded, changed_paths: Option<Vec<String>>, sentinel: Option<Value>) -> Value {
    let mut told = json!({
        "ok": true, "path": after.path, "hash": after.hash, "config": with_roster(redacted(&after.raw)),
    });
    if let Some(paths) = changed_paths {
        told["changedPaths"] = json!(paths);
    }
    if let Some(sentinel) = sentinel {
        told["sentinel"] = sentinel;
    }
    told
}

//! The configuration: shown without its secrets, and written by the `config` actor.

use super::Call;
use crate::config::include::{INCLUDE, directives, includes};
use crate::config::older::{For, renewed};
use crate::config::opener::Opener;
use crate::config::{ConfigMsg, Edit, Writing, changes, edit, shown};
use crate::connection::ConnectionMsg;
use crate::settings::{self, IncludeSite, Loaded, OlderKey, Origin, needs_restart, redacted};
use crate::tree::Ctx;
use crabtree_protocol::Refusal;
use crabtree_protocol::params::config::{ApplyParams, LookupParams, PatchParams, SetParams};
use crabtree_protocol::params::core::Empty;
use crabtree_protocol::value::Text;
use serde_json::{Map, Value, json};

pub(super) fn get(call: Call<'_>) {
    let Some((Empty {}, call)) = call.parse() else { return };
    let loaded = call.estate().config.load();
    let Origin { sites, included, issues, older, .. } = &loaded.origin;
    let (shown, text) = shown(&loaded);
    let resolved = current(&loaded);
    let settings = serde_json::to_value(&loaded.settings).map(|s| redacted(&s)).unwrap_or_default();
    let settings = with_roster(settings);
    let paths: Vec<_> = included.iter().map(|file| &file.path).collect();
    let owns = |place: &[&str]| sites.iter().any(|site| site.at.iter().zip(place).all(|(a, b)| a == b));
    let legacy =
        |key: &OlderKey| json!({ "path": key.path, "message": format!("it is read as {}", key.became) });
    call.responder.ok(&json!({
        "path": loaded.path,
        "includedPaths": paths,
        "includeProvenance": sites.iter().map(provenance).collect::<Vec<_>>(),
        "agentRosterIncludeOwned": owns(&["agents", "entries"]) || owns(&["agents", "list"]),
        "bindingsIncludeOwned": owns(&["bindings"]),
        "exists": loaded.exists,
        "raw": text,
        "parsed": shown,
        "sourceConfig": resolved,
        "resolved": resolved,
        "runtimeConfig": settings,
        "config": settings,
        "valid": issues.is_empty(),
        "hash": loaded.hash,
        "appliedConfigHash": loaded.hash,
        "configRevisionHash": loaded.hash,
        "issues": issues,
        "legacyIssues": older.iter().map(legacy).collect::<Vec<_>>(),
        "warnings": loaded.warnings,
    }));
}

/// An include, as OpenClaw tells of it.
fn provenance(site: &IncludeSite) -> Value {
    let mut told = json!({
        "path": site.at, "kind": if site.is_list { "multiple" } else { "single" },
        "hasSiblingOverrides": site.has_siblings, "hasArrayAncestor": site.in_list,
    });
    match (site.is_list, site.targets.first()) {
        (false, Some(target)) => told["targetPath"] = json!(target),
        _ => told["targetPaths"] = json!(site.targets),
    }
    told
}

/// What is written, all files together and in the newer form, as it may be shown.
fn current(loaded: &Loaded) -> Value {
    with_roster(redacted(&renewed(&loaded.raw, For::Reading).0))
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

/// Opens the file for whoever sits at the gateway's machine.
pub(super) fn open_file(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((Empty {}, call)) = call.parse() else { return };
    let path = call.estate().config.load().path.clone();
    let responder = call.responder;
    ctx.detached(async move {
        responder.ok(&match Opener::of_this_machine().open(&path).await {
            Ok(()) => json!({ "ok": true, "path": path }),
            Err(error) => json!({ "ok": false, "path": path, "error": error }),
        });
    });
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
fn restored(new: &Value, before: &Value) -> Result<Value, Refusal> {
    changes::restored(new, before).map_err(|path| {
        let why = format!("{path} is redacted, and there is no secret there to keep; write its value");
        Refusal::invalid_request(format!("invalid config: {path}: {why}"))
            .with_details(json!({ "issues": [{ "path": path, "message": why }] }))
    })
}

/// Includes stay where they are: a text that goes without them would leave the files behind that they name.
fn with_includes(before: &Value, given: &Value, loaded: &Loaded) -> Result<(), Refusal> {
    let now = directives(given);
    match directives(before).into_iter().find(|directive| !now.contains(directive)) {
        None => Ok(()),
        Some((at, include)) => {
            let (at, file) = (at.join("."), loaded.path.display());
            let place = if at.is_empty() { INCLUDE.to_owned() } else { format!("{at}.{INCLUDE}") };
            let why = format!("{place}: {include} would be lost; take it out of {file} by hand");
            Err(Refusal::invalid_request(format!("the configuration was not changed: {why}")))
        }
    }
}

fn whole(before: &Loaded, text: &str, base: Option<&Text>, note: Option<Note>) -> Result<Edit, Refusal> {
    let written = &before.origin.written;
    let given = parsed(text)?;
    let is_shown = text == shown(before).1;
    seen(before, base, || "config base hash required; re-run config.get and retry".into())?;
    if !given.is_object() {
        return Err(Refusal::invalid_request("config raw must be an object"));
    }
    // Without any include it is the whole of what several files hold.
    let is_flat = includes(written) && !includes(&given);
    let old = if is_flat { &before.raw } else { written };
    let wanted = restored(&given, old)?;
    let secrets = changes::between(&given, &wanted);
    let made = changes::between(old, &wanted);
    let changed = changes::paths(&made);
    let writing = if is_shown && before.issues().is_empty() {
        Writing::Changes(Vec::new())
    } else if is_shown {
        // What is broken is not called good because it was so before.
        Writing::Text(before.text.clone())
    } else if is_flat {
        Writing::Changes(made)
    } else {
        with_includes(written, &given, before)?;
        let mut raw = given;
        // Where the text cannot be edited only its content can be kept.
        Writing::Text(match secrets.is_empty() {
            true => text.to_owned(),
            false => edit::edited(text, &mut raw, &secrets)
                .unwrap_or_else(|_| serde_json::to_string_pretty(&wanted).unwrap_or_default()),
        })
    };
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
    let wanted = restored(&changes::merged(&before.raw, &patch, &whole), &before.raw)?;
    let made = changes::between(&before.raw, &wanted);
    let paths = changes::paths(&made);
    seen(before, params.base_hash.as_ref(), || {
        format!(
            "config base hash required for {}; re-run config.get and retry with baseHash",
            first_leaf(&patch)
        )
    })?;
    in_effect(before, &patch, &whole, &wanted)?;
    let note = Note { kind: "config-patch", mode: "config.patch", text: params.note };
    let answer = move |after: &Loaded| {
        let sentinel = note.sentinel(after, &paths);
        answer(after, Some(paths), Some(sentinel))
    };
    Ok(Edit { writing: Writing::Changes(made), answer: Box::new(answer) })
}

/// Whether a patch does what it says: one of a newer form can be without effect beside the older one.
fn in_effect(before: &Loaded, patch: &Value, whole: &[String], wanted: &Value) -> Result<(), Refusal> {
    if before.origin.older.is_empty() || !renewed(patch, For::Writing).1.is_empty() {
        return Ok(());
    }
    let newer = |document: &Value| renewed(document, For::Writing).0;
    let meant = newer(&changes::merged(&newer(&before.raw), patch, whole));
    let done = newer(wanted);
    let differs = changes::paths(&changes::between(&meant, &done));
    // A secret that was not shown is put back only in what is written.
    let differs = differs.into_iter().find(|path| !changes::holds_stand_in(&meant, path));
    differs.map_or(Ok(()), |path| {
        let file = before.path.display();
        let why =
            format!("{path} is written in an older form in {file}; run `crabtree config migrate` first");
        Err(Refusal::invalid_request(format!("the configuration was not changed: {why}")))
    })
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
        "ok": true, "path": after.path, "hash": after.hash, "config": current(after),
    });
    if let Some(paths) = changed_paths {
        told["changedPaths"] = json!(paths);
    }
    if let Some(sentinel) = sentinel {
        told["sentinel"] = sentinel;
    }
    told
}

//! `sessions.patch` and `sessions.patchMany`: changes of what is kept of a session.

use super::super::Call;
use super::entry::{STORE_PATH, born, choose_model, entry, is_main, named, resolved_patch, thinking};
use super::{groups, marks};
use crate::connection::ConnectionMsg;
use crate::estate::Estate;
use crate::gateway::Wiring;
use crate::sessions::{Change, Told, change_with};
use crate::store::{SessionRecord, SessionUpdate, WriteOp};
use crate::tree::Ctx;
use crabtree_protocol::params::session_changes::{
    Changes, PatchManyParams, PatchOutcome, PatchParams, PatchTarget, Patched, PatchedMany,
};
use crabtree_protocol::value::Maybe;
use crabtree_protocol::{Refusal, SessionKey};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use uuid::Uuid;

/// Largest change, as JSON: what is kept of a session stands in every event about it.
const MAX_CHANGE_BYTES: usize = 16_384;

/// What is kept as it was sent; `null` takes it away.
const PLAIN: [&str; 15] = [
    "icon",
    "color",
    "boardFace",
    "contextWindow",
    "fastMode",
    "permissionMode",
    "toolOverrides",
    "execHost",
    "execNode",
    "completionOwnerSessionKey",
    "inheritedToolPolicyVersion",
    "inheritedToolAllow",
    "inheritedToolDeny",
    "sendPolicy",
    "groupActivation",
];

/// Levels and the words for them.
const LEVELS: [(&str, &[&str]); 4] = [
    ("verboseLevel", &["off", "on", "full"]),
    ("traceLevel", &["off", "on", "raw"]),
    ("reasoningLevel", &["off", "on", "stream"]),
    ("elevatedLevel", &["off", "on", "ask", "full"]),
];

/// What was replaced by `permissionMode`.
const RETIRED: [&str; 2] = ["execSecurity", "execAsk"];

/// A change of one session, as it was asked for.
struct Patch {
    key: SessionKey,
    changes: Changes,
    /// The same as it was sent, and what is expected of the session.
    sent: Map<String, Value>,
}

fn object(params: Option<&RawValue>) -> Map<String, Value> {
    params.and_then(|params| serde_json::from_str(params.get()).ok()).unwrap_or_default()
}

pub(in crate::methods) fn patch(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let sent = object(call.params);
    let Some((params, call)) = call.parse::<PatchParams>() else { return };
    let key = match call.key_of(&params.key, params.agent_id.as_deref()) {
        Ok(key) => key,
        Err(refusal) => return call.responder.refuse(refusal),
    };
    let patch = Patch { key, changes: params.changes(), sent };
    let (wiring, responder) = (call.wiring.clone(), call.responder);
    ctx.detached(async move { responder.settle(patch.apply(&wiring).await) });
}

pub(in crate::methods) fn patch_many(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let mut sent = object(call.params);
    let Some((params, call)) = call.parse::<PatchManyParams>() else { return };
    let sent = match sent.remove("patch") {
        Some(Value::Object(sent)) => sent,
        _ => Map::new(),
    };
    let default_agent = call.estate().catalog.load().default_agent().id.clone();
    let (wiring, responder) = (call.wiring.clone(), call.responder);
    ctx.detached(async move {
        let mut outcomes = Vec::new();
        for target in params.targets.into_vec() {
            let agent = target.agent_id.as_deref().unwrap_or(&default_agent);
            let (key, result) = match SessionKey::canonical(&target.key, agent) {
                Ok(key) => {
                    let sent = with_expected(sent.clone(), &target);
                    let patch = Patch { key: key.clone(), changes: params.patch.clone(), sent };
                    (key.to_string(), patch.apply(&wiring).await.map(drop))
                }
                Err(refusal) => (target.key.to_string(), Err(refusal)),
            };
            let agent_id = target.agent_id.as_ref().map(ToString::to_string);
            outcomes.push(PatchOutcome { ok: result.is_ok(), key, agent_id, error: result.err() });
        }
        responder.ok(&PatchedMany { outcomes });
    });
}

fn with_expected(mut sent: Map<String, Value>, target: &PatchTarget) -> Map<String, Value> {
    let expected = [
        ("expectedSessionId", &target.expected_session_id),
        ("expectedLifecycleRevision", &target.expected_lifecycle_revision),
    ];
    for (name, value) in expected {
        if let Some(value) = value {
            sent.insert(name.to_owned(), json!(value));
        }
    }
    sent
}

impl Patch {
    async fn apply(self, wiring: &Wiring) -> Result<Patched, Refusal> {
        self.validate()?;
        let estate = wiring.store.estate.clone();
        let key = self.key.clone();
        let model_changed = !self.changes.model.is_absent();
        let new_group = match &self.changes.category {
            Maybe::Value(name) => groups::is_new(wiring, name).await?,
            Maybe::Null | Maybe::Absent => false,
        };
        // Nothing goes on in a session that is put away.
        let stop = (self.changes.archived == Some(true)).then_some("rpc");
        let this = Arc::new(self);
        let (checked, at_work) = (this.clone(), estate.clone());
        let changed = change_with(&wiring.sessions, key.clone(), move |done| Change {
            check: Some(Box::new(move |record| this.expect(record))),
            stop,
            make: Box::new(move |record, now| checked.op(&at_work, record, now)),
            first: None,
            told: Told::Reason("patch"),
            done,
        });
        let record = changed.await?.record.ok_or_else(|| Refusal::session_not_found(key.as_str()))?;
        if new_group {
            groups::tell_changed(wiring);
        }
        let resolved = resolved_patch(&record, &estate.catalog.load(), model_changed);
        Ok(Patched { ok: true, path: STORE_PATH.into(), key, entry: entry(&record)?, resolved })
    }

    /// What can be said without the session.
    fn validate(&self) -> Result<(), Refusal> {
        let has = |name: &str| self.sent.contains_key(name);
        if self.changes.archived.is_some() && !has("expectedSessionId") {
            return Err(Refusal::expected_session_id_required(self.key.as_str()));
        }
        if has("expectedMarkedUnreadAt") && !self.is_acknowledgement() {
            let text = "expectedMarkedUnreadAt stands beside unread: false alone; send the rest separately";
            return Err(Refusal::invalid_request(text));
        }
        if let Some(name) =
            RETIRED.into_iter().find(|name| self.sent.get(*name).is_some_and(|v| !v.is_null()))
        {
            return Err(Refusal::invalid_request(format!(
                "{name} is no longer kept; set permissionMode instead"
            )));
        }
        if Value::Object(self.sent.clone()).to_string().len() > MAX_CHANGE_BYTES {
            return Err(Refusal::invalid_request(format!(
                "the change is larger than {MAX_CHANGE_BYTES} bytes"
            )));
        }
        for (name, words) in LEVELS {
            if let Some(level) = self.sent.get(name).and_then(Value::as_str)
                && !words.contains(&level)
            {
                let text = format!("{name} \"{level}\" is not known (use {})", words.join(", "));
                return Err(Refusal::invalid_request(text));
            }
        }
        Ok(())
    }

    /// Whether it only says that the session was read.
    fn is_acknowledgement(&self) -> bool {
        self.changes == Changes { unread: Some(false), ..Changes::default() }
    }

    /// Whether the session is the one that is meant, and may be changed like this.
    fn expect(&self, record: Option<&SessionRecord>) -> Result<(), Refusal> {
        let text = |name: &str| self.sent.get(name).and_then(Value::as_str);
        let kept = |name: &str| record.and_then(|record| record.entry.get(name)).unwrap_or(&Value::Null);
        let id = record.map(|record| record.session_id.as_str());
        let revision = record.map(super::entry::revision);
        let members =
            [("expectedPermissionMode", "permissionMode"), ("expectedToolOverrides", "toolOverrides")];
        let differs = text("expectedSessionId").is_some_and(|expected| id != Some(expected))
            || text("expectedLifecycleRevision").is_some_and(|expected| revision != Some(expected))
            || members.iter().any(|(sent, name)| self.sent.get(*sent).is_some_and(|v| v != kept(name)));
        if differs { Err(Refusal::session_changed(self.key.as_str(), "patch")) } else { Ok(()) }
    }

    fn op(&self, estate: &Estate, record: Option<&SessionRecord>, now: i64) -> Result<WriteOp, Refusal> {
        self.expect(record)?;
        let (catalog, changes) = (estate.catalog.load(), &self.changes);
        if record.is_none() && catalog.agent(self.key.agent_id()).is_none() {
            return Err(Refusal::agent_gone(self.key.agent_id()));
        }
        if changes.archived == Some(true) && is_main(&self.key, &catalog) {
            return Err(Refusal::main_session_unarchived());
        }
        let kept = record.map(|record| &record.entry);
        if let Some(expected) = self.sent.get("expectedMarkedUnreadAt") {
            let Some(kept) = kept else { return Err(Refusal::session_not_found(self.key.as_str())) };
            // It was marked as unread since: it stays so, and nothing is wrong with that.
            if kept.get("markedUnreadAt").and_then(Value::as_f64) != expected.as_f64() {
                return Ok(WriteOp::Fence);
            }
        }
        let mut entry = if record.is_none() { born() } else { json!({}) };
        let sent = PLAIN.iter().chain(LEVELS.iter().map(|(name, _)| name));
        for (name, value) in sent.filter_map(|name| Some((*name, self.sent.get(*name)?))) {
            entry[name] = value.clone();
        }
        self.choose(&mut entry, kept, estate)?;
        marks::put(&mut entry, changes, kept, now)?;
        let label = match &changes.label {
            Maybe::Absent => None,
            Maybe::Null => Some(None),
            Maybe::Value(label) => Some(Some(named("label", label)?)),
        };
        let update = SessionUpdate {
            // To have read it is nothing that happened in it.
            at: if record.is_some() && self.is_acknowledgement() { 0 } else { now },
            session_id_if_new: Some(Uuid::new_v4().to_string()),
            revision: record.is_none().then(|| Uuid::new_v4().to_string()),
            label,
            entry: Some(entry),
            ..SessionUpdate::default()
        };
        Ok(self.written(update, kept))
    }

    /// Category, model and what depends on it.
    fn choose(&self, entry: &mut Value, kept: Option<&Value>, estate: &Estate) -> Result<(), Refusal> {
        let (catalog, changes) = (estate.catalog.load(), &self.changes);
        match &changes.category {
            Maybe::Absent => {}
            Maybe::Null => entry["category"] = Value::Null,
            Maybe::Value(name) => entry["category"] = json!(named("category", name)?),
        }
        match &changes.model {
            Maybe::Absent => {}
            Maybe::Null => {
                for name in ["providerOverride", "modelOverride", "modelOverrideRouteResolution"] {
                    entry[name] = Value::Null;
                }
                entry["modelOverrideSource"] = json!("default");
            }
            Maybe::Value(name) => choose_model(entry, name, &catalog)?,
        }
        // What runs now goes on as it began.
        if !changes.model.is_absent() && !estate.ledgers.of(&self.key).is_empty() {
            entry["liveModelSwitchPending"] = json!(true);
        }
        match &changes.thinking_level {
            Maybe::Absent => {}
            Maybe::Null => entry["thinkingLevel"] = Value::Null,
            Maybe::Value(level) => {
                let now = if changes.model.is_absent() { kept } else { Some(&*entry) };
                let level = thinking(level, now, &catalog)?;
                entry["thinkingLevel"] = json!(level);
            }
        }
        if let Maybe::Value(usage) = &changes.response_usage {
            use crabtree_protocol::params::session_changes::ResponseUsage::{Off, On, Tokens};
            entry["responseUsage"] = match usage {
                Off => Value::Null,
                On => json!(Tokens),
                other => json!(other),
            };
        } else if changes.response_usage == Maybe::Null {
            entry["responseUsage"] = Value::Null;
        }
        Ok(())
    }

    /// Members of an entry are merged; tool overrides are replaced as a whole.
    fn written(&self, update: SessionUpdate, kept: Option<&Value>) -> WriteOp {
        let write = |update| WriteOp::UpdateSession { key: self.key.to_string(), update };
        let name = "toolOverrides";
        if !self.sent.contains_key(name) || kept.is_none_or(|kept| kept.get(name).is_none()) {
            return write(update);
        }
        let without = SessionUpdate { entry: Some(json!({ name: null })), ..SessionUpdate::default() };
        WriteOp::All(vec![write(without), write(update)])
    }
}

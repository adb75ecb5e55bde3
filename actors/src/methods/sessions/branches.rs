//! The ways a conversation goes: forks into a fresh session, rewinds within one, and going on with another branch.

use crate::connection::ConnectionMsg;
use crate::methods::{Call, store_refusal};
use crate::sessions::{Told, change};
use crate::store::{self, CopyRange, MessageRow, SessionRecord, SessionUpdate, Store, WriteOp};
use crate::tree::Ctx;
use chrono::{DateTime, SecondsFormat};
use crabtree_protocol::params::session_lifecycle::{
    Branch, Branches, BranchesListParams, BranchesSwitchParams, ForkParams, Forked, Rewound,
};
use crabtree_protocol::{Refusal, SessionKey};
use serde_json::{Value, json};
use uuid::Uuid;

/// `stopReason` of a run that ends because its session goes on elsewhere: what it has said stays in its branch.
const STOPPED: &str = "restart";

/// Settings of a session that its fork takes along.
const INHERITED: [&str; 10] = [
    "modelOverride",
    "modelOverrideSource",
    "providerOverride",
    "queueCap",
    "queueDebounceMs",
    "queueDrop",
    "queueMode",
    "responseUsage",
    "thinkingLevel",
    "verboseLevel",
];

/// A message of a person, and the session it was found in.
struct Point {
    record: SessionRecord,
    message: MessageRow,
}

impl Point {
    async fn find(store: &Store, key: &SessionKey, entry_id: &str) -> Result<Self, Refusal> {
        let (name, id) = (key.to_string(), entry_id.to_owned());
        let found =
            store.read(move |c| Ok(store::session(c, &name)?.zip(store::message(c, &name, &id)?))).await;
        let (record, message) =
            found.map_err(|e| store_refusal(&e))?.ok_or_else(|| Refusal::entry_not_found(entry_id))?;
        match message.kind.as_str() {
            "user" => Ok(Self { record, message }),
            _ => Err(Refusal::entry_not_user(entry_id)),
        }
    }

    fn text(&self) -> String {
        store::text_of(&self.message.message)
    }

    /// Everything before it, as a transcript of `to`.
    fn copy(&self, to: &SessionKey, session_id: &str, revision: &str, at: i64) -> WriteOp {
        WriteOp::CopyTranscript {
            from_key: self.record.key.clone(),
            to_key: to.to_string(),
            session_id: session_id.into(),
            revision: revision.into(),
            range: CopyRange::Before(self.message.id.clone()),
            branch: true,
            at,
        }
    }

    fn fork(&self, to: &SessionKey, now: i64) -> WriteOp {
        let record = &self.record;
        let (id, revision) = (Uuid::new_v4().to_string(), Uuid::new_v4().to_string());
        let kept =
            INHERITED.iter().filter_map(|name| Some(((*name).to_owned(), record.entry.get(name)?.clone())));
        let mut entry = Value::Object(kept.collect());
        entry["createdVia"] = json!("operator");
        entry["parentSessionKey"] = json!(record.key);
        entry["forkedFromParent"] = json!(true);
        entry["sessionStartedAt"] = json!(now);
        entry["forkSource"] = json!({
            "sessionKey": record.key, "sessionId": record.session_id, "entryId": self.message.id,
        });
        let copy = self.copy(to, &id, &revision, now);
        let update = SessionUpdate {
            at: now,
            session_id_if_new: Some(id),
            revision: Some(revision),
            entry: Some(entry),
            ..SessionUpdate::default()
        };
        WriteOp::All(vec![copy, WriteOp::UpdateSession { key: to.to_string(), update }])
    }

    fn rewind(&self, key: &SessionKey, now: i64) -> WriteOp {
        let (id, revision) = (Uuid::new_v4().to_string(), Uuid::new_v4().to_string());
        let copy = self.copy(key, &id, &revision, now);
        let update = elsewhere(&self.record, id, revision, now);
        WriteOp::All(vec![copy, WriteOp::UpdateSession { key: key.to_string(), update }])
    }
}

/// What is written of a session that goes on with another of its transcripts.
fn elsewhere(record: &SessionRecord, session_id: String, revision: String, now: i64) -> SessionUpdate {
    let entry = json!({
        "previousSessionId": record.session_id,
        "compaction": null,
        "lastRunError": null,
        "inputTokens": null,
        "outputTokens": null,
        "totalTokens": null,
    });
    SessionUpdate {
        at: now,
        session_id: Some(session_id),
        revision: Some(revision),
        status: Some(None),
        last_run_id: Some(None),
        started_at: Some(None),
        ended_at: Some(None),
        entry: Some(entry),
        ..SessionUpdate::default()
    }
}

/// Whether a session still is where it was when it was looked at.
fn unmoved(then: &SessionRecord, now: Option<&SessionRecord>, doing: &str) -> Result<(), Refusal> {
    let at = |record: &SessionRecord| (record.session_id.clone(), record.revision.clone());
    match now {
        Some(now) if at(now) == at(then) => Ok(()),
        _ => Err(Refusal::session_changed(&then.key, doing)),
    }
}

pub(in crate::methods) fn fork(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((ForkParams { session_key, agent_id, entry_id }, call)) = call.parse() else { return };
    let key = match call.key_of(&session_key, agent_id.as_deref()) {
        Ok(key) => key,
        Err(refusal) => return call.responder.refuse(refusal),
    };
    let (wiring, responder) = (call.wiring.clone(), call.responder);
    ctx.detached(async move {
        let forked = async {
            let point = Point::find(&wiring.store, &key, &entry_id).await?;
            let text = point.text();
            let to = format!("agent:{}:dashboard:{}", key.agent_id(), Uuid::new_v4());
            let to = SessionKey::canonical(&to, key.agent_id())?;
            let target = to.clone();
            let make = move |_: Option<&SessionRecord>, now| Ok(point.fork(&target, now));
            change(&wiring.sessions, to.clone(), None, Told::Reason("fork"), make).await?;
            Ok(Forked { session_key: to, editor_text: Some(text), editor_attachments: None })
        };
        responder.settle(forked.await);
    });
}

pub(in crate::methods) fn rewind(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((ForkParams { session_key, agent_id, entry_id }, call)) = call.parse() else { return };
    let key = match call.key_of(&session_key, agent_id.as_deref()) {
        Ok(key) => key,
        Err(refusal) => return call.responder.refuse(refusal),
    };
    let (wiring, responder) = (call.wiring.clone(), call.responder);
    ctx.detached(async move {
        let rewound = async {
            let point = Point::find(&wiring.store, &key, &entry_id).await?;
            let text = point.text();
            let target = key.clone();
            let make = move |record: Option<&SessionRecord>, now| {
                unmoved(&point.record, record, "rewind")?;
                Ok(point.rewind(&target, now))
            };
            change(&wiring.sessions, key, Some(STOPPED), Told::Reason("rewind"), make).await?;
            Ok(Rewound { editor_text: Some(text), editor_attachments: None })
        };
        responder.settle(rewound.await);
    });
}

pub(in crate::methods) fn list(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((BranchesListParams { session_key, agent_id }, call)) = call.parse() else { return };
    let key = match call.key_of(&session_key, agent_id.as_deref()) {
        Ok(key) => key,
        Err(refusal) => return call.responder.refuse(refusal),
    };
    let (store, responder) = (call.wiring.store.clone(), call.responder);
    ctx.detached(async move {
        let branches = store.read(move |c| store::branches(c, key.as_str())).await;
        let listed =
            |branches: Vec<store::Branch>| Branches { branches: branches.into_iter().map(row).collect() };
        responder.settle(branches.map(listed).map_err(|e| store_refusal(&e)));
    });
}

fn row(branch: store::Branch) -> Branch {
    let at = DateTime::from_timestamp_millis(branch.updated_at);
    Branch {
        leaf_entry_id: branch.leaf_id,
        headline: branch.headline,
        message_count: branch.message_count.unsigned_abs(),
        active: branch.active,
        updated_at: at.map(|at| at.to_rfc3339_opts(SecondsFormat::Millis, true)),
    }
}

pub(in crate::methods) fn switch(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<BranchesSwitchParams>() else { return };
    let key = match call.key_of(&params.session_key, params.agent_id.as_deref()) {
        Ok(key) => key,
        Err(refusal) => return call.responder.refuse(refusal),
    };
    let (wiring, responder) = (call.wiring.clone(), call.responder);
    ctx.detached(async move {
        let leaf = params.leaf_entry_id;
        let switched = async {
            let (name, id) = (key.to_string(), leaf.to_string());
            let branch = wiring.store.read(move |c| store::branch_of(c, &name, &id)).await;
            let branch = branch.map_err(|e| store_refusal(&e))?.ok_or_else(|| Refusal::no_branch(&leaf))?;
            if branch.active {
                return Ok(json!({}));
            }
            let name = key.to_string();
            let make = move |record: Option<&SessionRecord>, now| {
                let record = record.ok_or_else(|| Refusal::session_not_found(&name))?;
                let update = elsewhere(record, branch.session_id, branch.revision, now);
                Ok(WriteOp::UpdateSession { key: name, update })
            };
            change(&wiring.sessions, key, Some(STOPPED), Told::Reason("switch"), make).await?;
            Ok(json!({}))
        };
        responder.settle(switched.await);
    });
}

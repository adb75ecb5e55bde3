//! `sessions.create`: brings a session into being, or takes the one there is, and may say the first thing in it.

use super::super::chat::{self, Said};
use super::super::{Call, store_refusal};
use super::entry::{born, choose_model, entry, is_main, named, resolved, thinking};
use super::groups;
use crate::connection::ConnectionMsg;
use crate::estate::Estate;
use crate::gateway::Wiring;
use crate::media::Uploads;
use crate::responder::Responder;
use crate::sessions::{Told, change};
use crate::store::{self, CopyRange, SessionRecord, SessionUpdate, WriteOp};
use crate::tree::Ctx;
use crabtree_protocol::params::session_create::{CreateParams, Created, Visibility};
use crabtree_protocol::{Refusal, SessionKey};
use serde_json::{Value, json};
use uuid::Uuid;

/// What is kept as it was sent.
const PLAIN: [&str; 4] = ["contextWindow", "fastMode", "permissionMode", "toolOverrides"];

/// A session to be created, as it was asked for.
struct Birth {
    key: SessionKey,
    params: CreateParams,
    /// Members that are kept as they were sent.
    plain: Vec<(&'static str, Value)>,
    parent: Option<SessionKey>,
    /// What comes with the first message.
    uploads: Uploads,
}

pub(in crate::methods) fn create(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let sent: Value = call.params.and_then(|p| serde_json::from_str(p.get()).ok()).unwrap_or_default();
    let Some((mut params, call)) = call.parse::<CreateParams>() else { return };
    let plain = PLAIN.into_iter().filter_map(|name| Some((name, sent.get(name)?.clone()))).collect();
    let birth = unsupported(&params).and_then(|()| {
        let key = key_of(&call, &params)?;
        let parent = params.parent_session_key.as_deref().map(|parent| call.key(parent)).transpose()?;
        let uploads = call.estate().inbox.take(params.attachments.take().unwrap_or_default())?;
        Ok(Birth { key, params, plain, parent, uploads })
    });
    match birth {
        Ok(birth) => {
            let (wiring, responder) = (call.wiring.clone(), call.responder);
            ctx.detached(birth.carry_out(wiring, responder));
        }
        Err(refusal) => call.responder.refuse(refusal),
    }
}

/// What this version cannot do is not silently left out.
fn unsupported(params: &CreateParams) -> Result<(), Refusal> {
    let asked = [
        ("worktree", params.worktree == Some(true)),
        ("worktreeBaseRef", params.worktree_base_ref.is_some()),
        ("worktreeName", params.worktree_name.is_some()),
        ("projectId", params.project_id.is_some()),
        ("projectGitUrl", params.project_git_url.is_some()),
        ("catalogId", params.catalog_id.is_some()),
        ("execNode", params.exec_node.is_some()),
        ("cwd", params.cwd.is_some()),
        ("incognito", params.incognito == Some(true)),
        ("visibility", params.visibility.is_some_and(|visibility| visibility != Visibility::Shared)),
    ];
    if let Some((name, _)) = asked.into_iter().find(|(_, asked)| *asked) {
        let text = format!("{name} is not supported by this version of the gateway; leave it out");
        return Err(Refusal::invalid_request(text));
    }
    let parent = params.parent_session_key.is_some();
    let fork = params.fork == Some(true);
    let needs = [
        ("spawnDepth", "parentSessionKey", params.spawn_depth.is_some() && !parent),
        ("fork", "parentSessionKey", fork && !parent),
        ("forkFrom", "fork", params.fork_from.is_some() && !fork),
    ];
    match needs.into_iter().find(|(.., lacks)| *lacks) {
        Some((name, other, _)) => Err(Refusal::invalid_request(format!("{name} requires {other}"))),
        None => Ok(()),
    }
}

/// A uuid that the same words always give.
fn uuid_of(words: &[&str]) -> Uuid {
    let hash = blake3::hash(words.join("\n").as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.as_bytes()[..16]);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

/// The key that is meant; a fresh one if none is named, the same for the same idempotency key.
fn key_of(call: &Call<'_>, params: &CreateParams) -> Result<SessionKey, Refusal> {
    let catalog = call.estate().catalog.load();
    let agent = params.agent_id.as_deref().unwrap_or(&catalog.default_agent().id);
    let key = match (&params.key, &params.idempotency_key) {
        (Some(key), _) => SessionKey::canonical(key, agent)?,
        (None, idempotency) => {
            let id =
                idempotency.as_deref().map_or_else(Uuid::new_v4, |key| uuid_of(&["session", agent, key]));
            SessionKey::canonical(&format!("agent:{agent}:dashboard:{id}"), agent)?
        }
    };
    if params.agent_id.as_deref().is_some_and(|agent| agent != key.agent_id()) {
        let text = format!("agentId \"{agent}\" is not the agent of {key}; leave one of them out");
        return Err(Refusal::invalid_request(text));
    }
    if catalog.agent(key.agent_id()).is_none() {
        return Err(Refusal::unknown_agent_id(key.agent_id()));
    }
    Ok(key)
}

impl Birth {
    async fn carry_out(mut self, wiring: std::sync::Arc<Wiring>, responder: Responder) {
        let first = self.first_words();
        let key = self.key.clone();
        match self.bring_about(&wiring).await {
            Ok(created) => match first {
                Some(said) => {
                    let run_id = said.run_id.clone();
                    let whole = responder.within(move |ack| with_run(created, run_id, ack));
                    chat::submit(&wiring, whole, key, said);
                }
                None => responder.ok(&created),
            },
            Err(refusal) => responder.refuse(refusal),
        }
    }

    /// The first message; its run has a name of the gateway's, the same for the same idempotency key.
    fn first_words(&mut self) -> Option<Said> {
        let uploads = std::mem::take(&mut self.uploads);
        let text = self.params.message.as_ref().or(self.params.task.as_ref()).cloned().unwrap_or_default();
        if text.trim().is_empty() && uploads.is_empty() {
            return None;
        }
        let known = self.params.idempotency_key.as_deref();
        let run_id = known.map_or_else(Uuid::new_v4, |key| uuid_of(&["run", self.key.as_str(), key]));
        Some(Said { must_exist: true, uploads, ..Said::message(run_id.to_string(), text) })
    }

    async fn bring_about(self, wiring: &Wiring) -> Result<Created, Refusal> {
        let (store, key) = (&wiring.store, self.key.clone());
        let estate = store.estate.clone();
        let parent = match &self.parent {
            Some(parent) => {
                let name = parent.clone();
                let found = store.read(move |c| store::session(c, name.as_str())).await;
                let found = found.map_err(|e| store_refusal(&e))?;
                Some(found.ok_or_else(|| Refusal::session_not_found(parent.as_str()))?)
            }
            None => None,
        };
        let end = match &self.params.fork_from {
            Some(_) => unfinished(wiring, &parent).await?,
            None => None,
        };
        let new_group = match self.params.category.as_deref() {
            Some(name) => groups::is_new(wiring, name).await?,
            None => false,
        };
        let at_work = estate.clone();
        let changed =
            change(&wiring.sessions, key.clone(), None, Told::Reason("create"), move |record, now| {
                self.op(&at_work, record, parent.as_ref(), end, now)
            });
        let record = changed.await?.record.ok_or_else(|| Refusal::session_not_found(key.as_str()))?;
        if new_group {
            groups::tell_changed(wiring);
        }
        Ok(Created {
            ok: true,
            key,
            session_id: record.session_id.clone(),
            entry: entry(&record)?,
            run_started: false,
            resolved: resolved(&record, &estate.catalog.load()),
            run_id: None,
            status: None,
            message_seq: None,
            run_error: None,
            worktree: None,
            server_timing: None,
        })
    }

    fn op(
        self,
        estate: &Estate,
        record: Option<&SessionRecord>,
        parent: Option<&SessionRecord>,
        end: Option<CopyRange>,
        now: i64,
    ) -> Result<WriteOp, Refusal> {
        let catalog = estate.catalog.load();
        let mut entry = match record {
            Some(_) => json!({}),
            None => self.born(estate, parent)?,
        };
        if let Some(name) = self.params.category.as_deref() {
            entry["category"] = json!(named("category", name)?);
        }
        if let Some(model) = self.params.model.as_deref() {
            choose_model(&mut entry, model, &catalog)?;
        }
        if let Some(level) = self.params.thinking_level.as_deref() {
            let chosen = if self.params.model.is_some() { Some(&entry) } else { record.map(|r| &r.entry) };
            let level = thinking(level, chosen, &catalog)?;
            entry["thinkingLevel"] = json!(level);
        }
        for (name, value) in self.plain {
            entry[name] = value;
        }
        let label = self.params.label.as_deref().map(|label| named("label", label)).transpose()?;
        let (id, revision) = (Uuid::new_v4().to_string(), Uuid::new_v4().to_string());
        let write = WriteOp::UpdateSession {
            key: self.key.to_string(),
            update: SessionUpdate {
                at: now,
                session_id_if_new: Some(id.clone()),
                revision: record.is_none().then(|| revision.clone()),
                label: label.map(Some),
                entry: Some(entry),
                ..SessionUpdate::default()
            },
        };
        let Some(parent) = parent.filter(|_| self.params.fork == Some(true)) else { return Ok(write) };
        if record.is_some() {
            let text = format!("session {} exists already; fork into another key", self.key);
            return Err(Refusal::invalid_request(text));
        }
        let copy = WriteOp::CopyTranscript {
            from_key: parent.key.clone(),
            to_key: self.key.to_string(),
            session_id: id,
            revision,
            range: end.unwrap_or(CopyRange::Last(u32::MAX)),
            branch: false,
            at: now,
        };
        Ok(WriteOp::All(vec![copy, write]))
    }

    /// The members of a session that is new.
    fn born(&self, estate: &Estate, parent: Option<&SessionRecord>) -> Result<Value, Refusal> {
        let (catalog, agent) = (estate.catalog.load(), self.key.agent_id());
        let mut entry = born();
        entry["sessionRoot"] = json!(estate.config.load().workspace(agent));
        if let Some(title) = self.params.display_name.as_deref() {
            entry["displayName"] = json!(named("displayName", title)?);
        }
        match parent {
            Some(parent) => {
                entry["parentSessionKey"] = json!(parent.key);
                entry["parentSessionId"] = json!(parent.session_id);
            }
            None if is_main(&self.key, &catalog) => {}
            None => entry["parentSessionKey"] = json!(SessionKey::canonical(&catalog.main_key, agent)?),
        }
        if let (Some(depth), Some(parent)) = (self.params.spawn_depth, parent) {
            entry["spawnDepth"] = json!(depth.get());
            entry["spawnedBy"] = json!(parent.key);
        }
        if let Some(parent) = parent.filter(|_| self.params.fork == Some(true)) {
            entry["forkedFromParent"] = json!(true);
            entry["compaction"] = parent.entry.get("compaction").cloned().unwrap_or_default();
        }
        Ok(entry)
    }
}

/// What of the parent is whole: everything before the turn that runs in it; all of it, if none does.
async fn unfinished(wiring: &Wiring, parent: &Option<SessionRecord>) -> Result<Option<CopyRange>, Refusal> {
    let Some(parent) = parent.clone() else { return Ok(None) };
    let key = SessionKey::canonical(&parent.key, &parent.agent_id)?;
    let Some(turn) = wiring.store.estate.ledgers.of(&key).into_iter().next() else { return Ok(None) };
    let run_id = turn.lock().run_id.clone();
    let rows = wiring.store.read(move |c| store::messages_by_run(c, run_id.as_str())).await;
    let rows = rows.map_err(|e| store_refusal(&e))?;
    Ok(rows.into_iter().next().map(|row| CopyRange::Before(row.id)))
}

/// The answer with what became of the first message.
fn with_run(created: Created, run_id: String, ack: Result<Value, Refusal>) -> Value {
    let created = match ack {
        Ok(ack) => Created {
            run_started: true,
            run_id: Some(run_id.into()),
            status: ack.get("status").and_then(Value::as_str).map(str::to_owned),
            ..created
        },
        Err(refusal) => Created { run_error: Some(refusal), ..created },
    };
    json!(created)
}

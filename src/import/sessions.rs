//! Sessions: what is known of them beside their transcripts. Pure, but for the reading of their lists.

use anyhow::Context;
use crabtree_actors::store::SessionUpdate;
use crabtree_protocol::SessionKey;
use serde_json::{Map, Value, json};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::source::{self, Agent};

/// Members of an entry that mean the same here. Where a session is answered on a channel is not among them: the next
/// message tells.
const KEPT: &[&str] = &[
    "abortedLastRun",
    "archiveReason",
    "archivedAt",
    "category",
    "color",
    "compactionCount",
    "createdVia",
    "displayName",
    "elevatedLevel",
    "fastMode",
    "forkedFromParent",
    "groupActivation",
    "icon",
    "inputTokens",
    "lastReadAt",
    "markedUnreadAt",
    "modelOverride",
    "modelOverrideSource",
    "outputTokens",
    "parentSessionKey",
    "pinnedAt",
    "previousSessionId",
    "providerOverride",
    "queueMode",
    "reasoningLevel",
    "responseUsage",
    "sendPolicy",
    "sessionStartedAt",
    "spawnDepth",
    "spawnedBy",
    "systemSent",
    "thinkingLevel",
    "totalTokens",
    "traceLevel",
    "unread",
    "verboseLevel",
];

/// How a session's last run ended.
const ENDED: &[&str] = &["done", "failed", "killed", "timeout"];

/// Where the entries of transcripts are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In the database of its agent, by session id.
    Database,
    /// In a file of its own.
    File(PathBuf),
    /// There is none.
    Nowhere,
}

/// A session of the other gateway.
#[derive(Debug, PartialEq)]
pub struct Session {
    /// Its canonical key.
    pub key: SessionKey,
    /// Its place among the agents of the source.
    pub agent: usize,
    /// Its id.
    pub session_id: String,
    /// Its lifecycle revision.
    pub revision: String,
    /// When it was made, ms.
    pub created_at: i64,
    /// How it stands.
    pub update: SessionUpdate,
    /// Where its transcript is.
    pub origin: Origin,
    /// Ids of what it was before, in the same place.
    pub older: Vec<String>,
}

/// A session out of its entry.
///
/// # Errors
/// Why it is none.
pub fn session(key: &str, agent: (usize, &str), entry: &Map<String, Value>) -> Result<Session, String> {
    let key = SessionKey::canonical(key, agent.1).map_err(|refusal| refusal.message)?;
    let text = |name: &str| entry.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let number = |name: &str| entry.get(name).and_then(Value::as_i64);
    let session_id = text("sessionId").ok_or("it has no session id")?.to_owned();
    let updated_at = number("updatedAt").unwrap_or_default();
    let plain = |value: &&Value| value.is_string() || value.is_number() || value.is_boolean();
    let kept =
        KEPT.iter().filter_map(|name| Some(((*name).to_owned(), entry.get(*name).filter(plain)?.clone())));
    let update = SessionUpdate {
        at: updated_at,
        session_id: Some(session_id.clone()),
        revision: Some(text("lifecycleRevision").unwrap_or_default().to_owned()),
        agent_id: Some(key.agent_id().to_owned()),
        status: Some(text("status").filter(|status| ENDED.contains(status)).map(str::to_owned)),
        label: text("label").map(|label| Some(label.to_owned())),
        last_run_id: Some(text("lastRunId").map(str::to_owned)),
        started_at: Some(number("startedAt")),
        ended_at: Some(number("endedAt")),
        last_interaction_at: number("lastInteractionAt"),
        entry: Some(Value::Object(kept.collect())),
        ..SessionUpdate::default()
    };
    Ok(Session {
        agent: agent.0,
        revision: update.revision.clone().unwrap_or_default(),
        created_at: number("createdAt").or(number("sessionStartedAt")).unwrap_or(updated_at),
        session_id,
        update,
        origin: Origin::Nowhere,
        older: Vec::new(),
        key,
    })
}

/// Sessions, and what is left out: its name, and why.
pub type Found = (Vec<Session>, Vec<(String, String)>);

/// The sessions of an agent, and what is left out with the reasons.
///
/// # Errors
/// Its database or its list cannot be read.
pub fn of_agent(at: usize, agent: &Agent) -> anyhow::Result<Found> {
    let (mut found, mut left_out) = in_database(at, agent)?;
    let known: HashSet<SessionKey> = found.iter().map(|session| session.key.clone()).collect();
    let (files, skipped) = in_files(at, agent)?;
    // What was brought from files into the database goes on there.
    let newer = files.into_iter().filter(|session| !known.contains(&session.key));
    found.extend(newer);
    left_out.extend(skipped);
    left_out.extend(orphans(agent, &found)?);
    Ok((found, left_out))
}

fn in_database(at: usize, agent: &Agent) -> anyhow::Result<Found> {
    let (mut found, mut left_out) = (Vec::new(), Vec::new());
    let Some(db) = &agent.db else { return Ok((found, left_out)) };
    let failed = || format!("the sessions of {}", agent.id);
    db.each("session_nodes", &mut |row| {
        let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default();
        let entry: Option<Map<String, Value>> = serde_json::from_str(text("entry_json")).ok();
        let made = entry.ok_or_else(|| "its entry is no JSON".to_owned());
        match made.and_then(|entry| session(text("session_key"), (at, &agent.id), &entry)) {
            Ok(session) => found.push(Session { origin: Origin::Database, ..session }),
            Err(why) => left_out.push((text("session_key").to_owned(), why)),
        }
    })
    .with_context(failed)?;
    let mut older: HashMap<String, Vec<(i64, String)>> = HashMap::new();
    db.each("session_windows", &mut |row| {
        let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let made = row.get("created_at").and_then(Value::as_i64).unwrap_or_default();
        older.entry(text("session_key")).or_default().push((made, text("session_id")));
    })
    .with_context(failed)?;
    for session in &mut found {
        let mut windows = older.remove(session.key.as_str()).unwrap_or_default();
        windows.sort();
        let ids = windows.into_iter().map(|(_, id)| id);
        session.older = ids.filter(|id| *id != session.session_id && !id.is_empty()).collect();
    }
    Ok((found, left_out))
}

fn in_files(at: usize, agent: &Agent) -> anyhow::Result<Found> {
    let (mut found, mut left_out) = (Vec::new(), Vec::new());
    let list = source::json(&agent.sessions.join("sessions.json"))?.unwrap_or_else(|| json!({}));
    for (key, entry) in list.as_object().into_iter().flatten() {
        let entry = entry.as_object().ok_or_else(|| "its entry is no object".to_owned());
        let made = entry.and_then(|entry| {
            let made = session(key, (at, &agent.id), entry)?;
            let origin = file(&agent.sessions, &made.session_id, entry.get("sessionFile"));
            Ok(Session { origin, ..made })
        });
        match made {
            Ok(session) => found.push(session),
            Err(why) => left_out.push((key.clone(), why)),
        }
    }
    Ok((found, left_out))
}

/// The file of a session's transcript. Only its name is taken from the entry: it stands beside the list or nowhere.
fn file(dir: &Path, session_id: &str, named: Option<&Value>) -> Origin {
    let named = named.and_then(Value::as_str).map(Path::new).and_then(Path::file_name);
    let own = format!("{session_id}.jsonl");
    let own = Path::new(&own).file_name().filter(|name| name.len() == own.len());
    let file = named.into_iter().chain(own).map(|name| dir.join(name)).find(|path| path.is_file());
    file.map_or(Origin::Nowhere, Origin::File)
}

/// Files of transcripts that no session refers to.
fn orphans(agent: &Agent, found: &[Session]) -> anyhow::Result<Vec<(String, String)>> {
    let used: HashSet<&Path> = found
        .iter()
        .filter_map(|session| match &session.origin {
            Origin::File(path) => Some(path.as_path()),
            _ => None,
        })
        .collect();
    let imported = agent.db.is_some();
    let names = source::names(&agent.sessions).with_context(|| format!("the sessions of {}", agent.id))?;
    let why = |name: &str| {
        if name.contains(".jsonl.deleted.") {
            Some("it was deleted there")
        } else if name.contains(".jsonl.reset.") {
            Some("it was begun anew there")
        } else if name.ends_with(".jsonl") && !imported {
            Some("no session refers to it")
        } else {
            None
        }
    };
    let unused = names.into_iter().filter(|name| !used.contains(agent.sessions.join(name).as_path()));
    Ok(unused
        .filter_map(|name| Some((why(&name)?.to_owned(), name)))
        .map(|(why, name)| (name, why))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn agent(dir: &Path) -> Agent {
        Agent { id: "main".into(), db: None, sessions: dir.to_owned() }
    }

    #[test]
    fn an_entry_keeps_what_people_chose() {
        let entry = json!({
            "sessionId": "s", "updatedAt": 9, "sessionStartedAt": 3, "label": "Chosen", "status": "running",
            "thinkingLevel": "high", "modelOverride": "m", "providerOverride": "p", "archivedAt": 8,
            "skillsSnapshot": { "prompt": "long" }, "lifecycleRevision": "r", "lastInteractionAt": 7,
        });
        let found = session("main", (0, "main"), entry.as_object().unwrap()).unwrap();
        assert_eq!((found.key.as_str(), &*found.revision, found.created_at), ("agent:main:main", "r", 3));
        assert_eq!(found.update.label, Some(Some("Chosen".into())));
        assert_eq!(found.update.status, Some(None), "its run did not outlive its gateway");
        let kept = found.update.entry.unwrap();
        assert_eq!((&kept["thinkingLevel"], &kept["archivedAt"]), (&json!("high"), &json!(8)));
        assert!(kept.get("skillsSnapshot").is_none());
        assert!(session("main", (0, "main"), &Map::new()).is_err());
    }

    #[test]
    fn no_entry_leads_out_of_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let sessions = dir.path().join("sessions");
        fs::create_dir(&sessions).unwrap();
        fs::write(dir.path().join("secret.jsonl"), "").unwrap();
        fs::write(sessions.join("s.jsonl"), "").unwrap();
        let list = json!({
            "agent:main:out": { "sessionId": "../secret" },
            "agent:main:named": { "sessionId": "x", "sessionFile": dir.path().join("secret.jsonl") },
            "agent:main:moved": { "sessionId": "y", "sessionFile": "/somewhere/else/s.jsonl" },
            "agent:main:bad": 7,
        });
        fs::write(sessions.join("sessions.json"), list.to_string()).unwrap();
        fs::write(sessions.join("z.jsonl.deleted.2026"), "").unwrap();
        let (found, left_out) = of_agent(0, &agent(&sessions)).unwrap();
        let of = |key: &str| &found.iter().find(|s| s.key.as_str() == key).unwrap().origin;
        assert_eq!(*of("agent:main:out"), Origin::Nowhere);
        assert_eq!(*of("agent:main:named"), Origin::Nowhere);
        assert_eq!(*of("agent:main:moved"), Origin::File(sessions.join("s.jsonl")));
        let why: Vec<&str> = left_out.iter().map(|(_, why)| why.as_str()).collect();
        assert_eq!(why, ["its entry is no object", "it was deleted there"]);
    }
}

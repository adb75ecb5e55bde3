//! `sessions.cleanup`: puts away what nobody has used for long, and what is too much; tells first what it would do.

use super::super::{Call, store_refusal};
use super::entry::{STORE_PATH, is_main};
use super::lifecycle::remove;
use crate::connection::ConnectionMsg;
use crate::gateway::Wiring;
use crate::sessions::{Told, change};
use crate::settings::DmScope;
use crate::store::{self, Connection, ListFilter, SessionRecord, SessionUpdate, StoreError, WriteOp};
use crate::tree::Ctx;
use crabtree_protocol::params::session_lifecycle::{CleanedUp, Cleanup, CleanupParams, DeleteParams};
use crabtree_protocol::session_key::ChatType;
use crabtree_protocol::value::{Number, Text};
use crabtree_protocol::{Refusal, SessionKey};
use serde_json::{Value, json};
use std::collections::HashSet;

const DAY_MS: i64 = 86_400_000;
/// Sessions nobody has touched for longer are archived (OpenClaw's default).
const STALE_MS: i64 = 30 * DAY_MS;
/// Sessions beside the archived ones, for each agent (OpenClaw's default).
const MAX_ENTRIES: usize = 5_000;
/// A session without a message may be one that somebody has just opened.
const EMPTY_MS: i64 = DAY_MS;
/// Sessions read at once.
const PAGE: u32 = 1_000;

pub(in crate::methods) fn cleanup(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<CleanupParams>() else { return };
    let catalog = call.estate().catalog.load();
    let agents: Vec<String> = match params.agent.as_deref() {
        _ if params.all_agents == Some(true) => catalog.agents.iter().map(|agent| agent.id.clone()).collect(),
        Some(agent) if catalog.agent(agent).is_none() => {
            return call.responder.refuse(Refusal::unknown_agent_id(agent));
        }
        Some(agent) => vec![agent.to_owned()],
        None => vec![catalog.default_agent().id.clone()],
    };
    let active =
        params.active_key.as_deref().map(|key| call.key_of(key, params.agent.as_deref())).transpose();
    let active = match active {
        Ok(active) => active,
        Err(refusal) => return call.responder.refuse(refusal),
    };
    let (wiring, responder) = (call.wiring.clone(), call.responder);
    ctx.detached(async move { responder.settle(clean_all(&wiring, agents, params, active).await) });
}

async fn clean_all(
    wiring: &Wiring,
    agents: Vec<String>,
    params: CleanupParams,
    active: Option<SessionKey>,
) -> Result<Cleanup, Refusal> {
    let mut stores = Vec::new();
    for agent in agents {
        stores.push(clean(wiring, agent, &params, active.as_ref()).await?);
    }
    if params.all_agents != Some(true) {
        return stores
            .pop()
            .map(|one| Cleanup::One(Box::new(one)))
            .ok_or_else(|| Refusal::unknown_agent_id(""));
    }
    let enforce = params.enforce == Some(true);
    Ok(Cleanup::All { all_agents: true, mode: mode(enforce).into(), dry_run: !enforce, stores })
}

fn mode(enforce: bool) -> &'static str {
    if enforce { "enforce" } else { "warn" }
}

/// What is to become of a session.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Deleted: it holds nothing.
    Empty,
    /// Deleted with an archive: no message comes to it any more.
    Retired,
    /// Archived: nobody has used it for long.
    Stale,
    /// Archived: there are too many.
    Surplus,
}

/// A session that does not stay as it is.
struct Victim {
    key: SessionKey,
    session_id: String,
    updated_at: i64,
    fate: Fate,
}

async fn clean(
    wiring: &Wiring,
    agent: String,
    params: &CleanupParams,
    active: Option<&SessionKey>,
) -> Result<CleanedUp, Refusal> {
    let estate = &wiring.store.estate;
    let now = estate.clock.now_ms();
    let name = agent.clone();
    let seen = wiring.store.read(move |c| Ok((all(c, &name)?, store::keys_with_backlog(c)?))).await;
    let (records, busy) = seen.map_err(|e| store_refusal(&e))?;
    let mut busy: HashSet<String> = busy.into_iter().collect();
    busy.extend(active.map(ToString::to_string));
    let catalog = estate.catalog.load_full();
    let is_main_scope = estate.config.load().settings.session.dm_scope == DmScope::Main;
    let before = records.len();
    let rules = Rules {
        now,
        fix_missing: params.fix_missing == Some(true),
        fix_dm_scope: params.fix_dm_scope == Some(true) && is_main_scope,
    };
    let may_go = |record: &SessionRecord| {
        let key = SessionKey::canonical(&record.key, &agent).ok()?;
        let stays = is_main(&key, &catalog) || busy.contains(&record.key);
        (!stays && record.entry.get("pinnedAt").is_none()).then_some(key)
    };
    let victims = rules.choose(records, may_go);
    let count = |fate| victims.iter().filter(|victim| victim.fate == fate).count() as u64;
    let enforce = params.enforce == Some(true);
    let mut report = CleanedUp {
        agent_id: agent,
        store_path: STORE_PATH.into(),
        mode: mode(enforce).into(),
        dry_run: !enforce,
        before_count: before as u64,
        after_count: (before - victims.len()) as u64,
        missing: count(Fate::Empty),
        dm_scope_retired: count(Fate::Retired),
        model_run_pruned: 0,
        archived: count(Fate::Stale),
        cap_archived: count(Fate::Surplus),
        pruned: 0,
        capped: 0,
        unreferenced_artifacts: json!({
            "scannedFiles": 0, "removedFiles": 0, "freedBytes": 0, "olderThanMs": STALE_MS,
        }),
        disk_budget: Value::Null,
        would_mutate: !victims.is_empty(),
        applied: None,
        applied_count: None,
    };
    if enforce {
        let mut done = 0;
        for victim in victims {
            done += usize::from(victim.meet(wiring).await?);
        }
        report.applied = Some(true);
        report.applied_count = Some((before - done) as u64);
    }
    Ok(report)
}

/// All sessions of an agent that are not archived, the latest first.
fn all(conn: &Connection, agent: &str) -> Result<Vec<SessionRecord>, StoreError> {
    let mut records = Vec::new();
    loop {
        let offset = u32::try_from(records.len()).unwrap_or(u32::MAX);
        let filter =
            ListFilter { limit: PAGE, offset, agent_id: Some(agent.to_owned()), ..ListFilter::default() };
        let (page, total) = store::list_sessions(conn, &filter)?;
        let is_last = page.is_empty();
        records.extend(page);
        if is_last || records.len() as i64 >= total {
            return Ok(records);
        }
    }
}

struct Rules {
    now: i64,
    fix_missing: bool,
    fix_dm_scope: bool,
}

impl Rules {
    fn choose(
        &self,
        records: Vec<SessionRecord>,
        may_go: impl Fn(&SessionRecord) -> Option<SessionKey>,
    ) -> Vec<Victim> {
        let mut left = records.len();
        let mut victims = Vec::new();
        // The oldest first, so that it is they that are too many.
        let mut records = records;
        records.sort_by_key(|record| record.updated_at);
        for record in records {
            let Some(key) = may_go(&record) else { continue };
            let Some(fate) = self.fate(&key, &record, left > MAX_ENTRIES) else { continue };
            left -= 1;
            victims.push(Victim { key, session_id: record.session_id, updated_at: record.updated_at, fate });
        }
        victims
    }

    fn fate(&self, key: &SessionKey, record: &SessionRecord, too_many: bool) -> Option<Fate> {
        let age = self.now - record.updated_at;
        let is_empty = record.last_said.is_none() && record.status.is_none();
        let place = key.place();
        let is_direct = place.as_ref().is_some_and(|place| place.chat_type == ChatType::Direct);
        if self.fix_missing && is_empty && age > EMPTY_MS {
            return Some(Fate::Empty);
        }
        if self.fix_dm_scope && is_direct {
            return Some(Fate::Retired);
        }
        // Chats of a channel come back to their session, however late.
        if place.is_some() {
            return None;
        }
        match (age > STALE_MS, too_many) {
            (true, _) => Some(Fate::Stale),
            (false, true) => Some(Fate::Surplus),
            _ => None,
        }
    }
}

impl Victim {
    /// Does what is to be done; false if the session has changed meanwhile.
    async fn meet(self, wiring: &Wiring) -> Result<bool, Refusal> {
        let done = match self.fate {
            Fate::Empty | Fate::Retired => {
                let params = DeleteParams {
                    key: Text::new(self.key.as_str()).ok_or_else(Refusal::no_session)?,
                    agent_id: None,
                    delete_transcript: None,
                    expected_session_id: Text::new(self.session_id),
                    expected_lifecycle_revision: None,
                    expected_session_updated_at: Number::new(self.updated_at as f64),
                    emit_lifecycle_hooks: None,
                    archived_only: None,
                };
                remove(wiring, self.key, params).await.map(|deleted| deleted.deleted)
            }
            Fate::Stale => self.archive(wiring, "age-retention").await,
            Fate::Surplus => self.archive(wiring, "active-session-cap").await,
        };
        match done {
            Err(refusal) if refusal.details.as_deref().is_some_and(|d| d["reason"] == "session-changed") => {
                Ok(false)
            }
            done => done,
        }
    }

    async fn archive(self, wiring: &Wiring, why: &'static str) -> Result<bool, Refusal> {
        let name = self.key.clone();
        let archived = change(&wiring.sessions, self.key, None, Told::Reason("patch"), move |record, now| {
            if record.is_none_or(|record| record.updated_at != self.updated_at) {
                return Err(Refusal::session_changed(name.as_str(), "patch"));
            }
            // When it was used last stays what it is.
            let entry = json!({ "archivedAt": now, "archiveReason": why });
            let update = SessionUpdate { entry: Some(entry), ..SessionUpdate::default() };
            Ok(WriteOp::UpdateSession { key: name.to_string(), update })
        });
        archived.await.map(|_| true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 100 * DAY_MS;

    fn session(rest: &str, age_days: i64, said: bool) -> SessionRecord {
        let key = format!("agent:main:{rest}");
        let update = SessionUpdate { at: NOW - age_days * DAY_MS, ..SessionUpdate::default() };
        let last_said = said.then(|| "hello".to_owned());
        SessionRecord { last_said, ..store::updated(None, &key, &update) }
    }

    fn chosen(rules: &Rules, records: Vec<SessionRecord>) -> Vec<(String, Fate)> {
        let may_go = |record: &SessionRecord| SessionKey::canonical(&record.key, "main").ok();
        let victims = rules.choose(records, may_go);
        victims.into_iter().map(|victim| (victim.key.rest().to_owned(), victim.fate)).collect()
    }

    #[test]
    fn what_is_old_or_empty_or_of_another_scope_is_chosen() {
        let all = || {
            vec![
                session("new", 29, true),
                session("old", 31, true),
                session("empty", 2, false),
                session("opened", 0, false),
                session("telegram:direct:1", 50, true),
                session("telegram:group:1", 50, true),
            ]
        };
        let rules = Rules { now: NOW, fix_missing: false, fix_dm_scope: false };
        assert!(chosen(&rules, all()) == [("old".to_owned(), Fate::Stale)]);
        let rules = Rules { fix_missing: true, fix_dm_scope: true, ..rules };
        let expected = [("telegram:direct:1", Fate::Retired), ("old", Fate::Stale), ("empty", Fate::Empty)];
        assert!(chosen(&rules, all()) == expected.map(|(key, fate)| (key.to_owned(), fate)));
    }

    #[test]
    fn of_too_many_the_oldest_go() {
        let rules = Rules { now: NOW, fix_missing: false, fix_dm_scope: false };
        let name = |n: usize| format!("s{n}");
        let mut records: Vec<_> = (0..MAX_ENTRIES + 2).map(|n| session(&name(n), 1, true)).collect();
        records[7].updated_at -= 1;
        records[9].updated_at -= 2;
        assert!(chosen(&rules, records) == [(name(9), Fate::Surplus), (name(7), Fate::Surplus)]);
    }
}

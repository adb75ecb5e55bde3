//! `sessions.list`, and the list `sessions.subscribe` begins with.

use crate::agents::agent_runtime;
use crate::connection::ConnectionMsg;
use crate::estate::Estate;
use crate::methods::{Call, store_refusal};
use crate::sessions::{Basis, session_row};
use crate::store::{self, Archived, ListFilter, SessionRecord, SortBy, Store};
use crate::tree::Ctx;
use crabtree_protocol::params::session_reads::SearchScope;
use crabtree_protocol::params::sessions as wire;
use crabtree_protocol::params::sessions::{ArchivedFilter, DEFAULT_LIST_LIMIT, ListParams};
use crabtree_protocol::{Refusal, RunId, SessionKey};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::HashMap;

/// Rows in one answer at the most; a Control UI asks for so many.
const MAX_LIST_LIMIT: u64 = 10_000;
/// Characters of a title.
const TITLE_CHARS: usize = 60;
/// What keys of scheduled jobs, and of the gateway's own work, begin with.
const CRON: &[&str] = &["cron:"];
const SYSTEM: &[&str] = &["heartbeat", "hook:"];

/// What rows show besides what they always do.
#[derive(Clone, Copy, Default)]
pub(super) struct Extras {
    pub titles: bool,
    pub last_message: bool,
}

/// Rows of sessions as they are at one moment.
pub(super) struct Rows<'a> {
    estate: &'a Estate,
    active: HashMap<SessionKey, RunId>,
    now: i64,
}

impl<'a> Rows<'a> {
    pub fn new(estate: &'a Estate) -> Self {
        Self { estate, active: estate.ledgers.active(), now: estate.clock.now_ms() }
    }

    pub fn row(&self, record: &SessionRecord, extras: Extras) -> Value {
        let mut row = session_row(record, self.active.get(record.key.as_str()), self.estate, self.now);
        if let Some(title) = title(&row, record).filter(|_| extras.titles) {
            row["derivedTitle"] = json!(title);
        }
        if let Some(text) = record.last_said.as_ref().filter(|_| extras.last_message) {
            row["lastMessagePreview"] = json!(text);
        }
        row
    }
}

/// The name a session has, else what it was begun with.
pub(super) fn title(row: &Value, record: &SessionRecord) -> Option<String> {
    let title = row["displayName"].as_str().or(record.title.as_deref())?;
    Some(title.chars().take(TITLE_CHARS).collect())
}

/// Which sessions are meant; `None` if there can be none: nobody has a profile here, and nothing a board.
fn filter(params: &ListParams, estate: &Estate, now: i64) -> Result<Option<ListFilter>, Refusal> {
    let somebody = [&params.creator_id, &params.owner_id, &params.involving_profile_id];
    if somebody.iter().any(|id| id.is_some()) || params.has_board == Some(true) {
        return Ok(None);
    }
    let scope = SearchScope {
        configured_agents_only: params.configured_agents_only,
        agent_id: params.agent_id.clone(),
        spawned_by: params.spawned_by.clone(),
        exclude_subagents: params.exclude_subagents,
        exclude_cron: params.exclude_cron,
        exclude_system: params.exclude_system,
        archived: params.archived,
        ..SearchScope::default()
    };
    let active = || estate.ledgers.active().keys().map(ToString::to_string).collect();
    Ok(Some(ListFilter {
        limit: params.limit.map_or(DEFAULT_LIST_LIMIT, |l| l.get()).min(MAX_LIST_LIMIT) as u32,
        offset: params.offset.map_or(0, |o| o.get()).min(u64::from(u32::MAX)) as u32,
        sort: match params.sort_by {
            None | Some(wire::SortBy::UpdatedAt) => SortBy::Updated,
            Some(wire::SortBy::LastInteractionAt) => SortBy::Interaction,
            Some(wire::SortBy::Activity) => SortBy::Activity,
        },
        keys: (params.active_only == Some(true)).then(active),
        search: params.search.as_ref().map(|s| s.trim().to_owned()).filter(|s| !s.is_empty()),
        label: params.label.as_ref().map(ToString::to_string),
        category: params.group.clone(),
        pinned: params.pinned,
        board_face: params.board_face.map(wire::BoardFace::name),
        require_interaction: params.require_last_interaction == Some(true),
        updated_after: params
            .active_minutes
            .map(|m| now.saturating_sub((m.get() as i64).saturating_mul(60_000))),
        ..within(&scope, estate)?
    }))
}

/// The sessions of a scope. The owner of the gateway takes part in all of them, and none is global or unknown.
pub(super) fn within(scope: &SearchScope, estate: &Estate) -> Result<ListFilter, Refusal> {
    let catalog = estate.catalog.load();
    let ids = || catalog.agents.iter().map(|agent| agent.id.clone()).collect();
    let parent = scope.spawned_by.as_deref();
    let parent = parent.map(|key| SessionKey::canonical(key, &catalog.default_agent().id)).transpose()?;
    let mut exclude_prefixes = Vec::new();
    for (exclude, prefixes) in [(scope.exclude_cron, CRON), (scope.exclude_system, SYSTEM)] {
        if exclude == Some(true) {
            exclude_prefixes.extend(prefixes);
        }
    }
    Ok(ListFilter {
        archived: match scope.archived {
            None | Some(ArchivedFilter::Only(false)) => Archived::No,
            Some(ArchivedFilter::Only(true)) => Archived::Only,
            Some(ArchivedFilter::All(_)) => Archived::All,
        },
        agent_id: scope.agent_id.as_ref().map(ToString::to_string),
        agents: (scope.configured_agents_only == Some(true)).then(ids),
        spawned_by: parent.map(|key| key.to_string()),
        exclude_subagents: scope.exclude_subagents == Some(true),
        exclude_prefixes,
        ..ListFilter::default()
    })
}

/// One page.
pub(super) async fn page(store: &Store, params: &ListParams) -> Result<Value, Refusal> {
    let estate = &store.estate;
    let filter = filter(params, estate, estate.clock.now_ms())?;
    let none = filter.is_none();
    let filter = filter.unwrap_or_default();
    let (limit, offset) = (filter.limit, filter.offset);
    let (records, total) = match none {
        true => (Vec::new(), 0),
        false => {
            store.read(move |c| store::list_sessions(c, &filter)).await.map_err(|e| store_refusal(&e))?
        }
    };
    let rows = Rows::new(estate);
    let extras = Extras {
        titles: params.include_derived_titles == Some(true),
        last_message: params.include_last_message == Some(true),
    };
    let seen = i64::from(offset) + records.len() as i64;
    let known = |id: &str| estate.catalog.load().agent(id).is_some();
    let mut answer = json!({
        "ts": rows.now,
        "path": if params.agent_id.as_deref().is_none_or(known) { "store.sqlite" } else { "(multiple)" },
        "count": records.len(),
        "totalCount": total,
        "limitApplied": limit,
        "nextOffset": (seen < total).then_some(seen),
        "hasMore": seen < total,
        "owners": [],
        "defaults": defaults(estate),
        "sessions": records.iter().map(|record| rows.row(record, extras)).collect::<Vec<_>>(),
    });
    if offset > 0 {
        answer["offset"] = json!(offset);
    }
    if params.include_people == Some(true) {
        answer["people"] = json!([]);
        answer["peopleIncomplete"] = json!(false);
        answer["peopleSessionCount"] = json!(total);
    }
    Ok(answer)
}

/// What sessions run on unless told.
pub fn defaults(estate: &Estate) -> Value {
    let catalog = estate.catalog.load();
    let (provider, model) = catalog.primary_parts();
    let mut defaults = json!({
        "modelProvider": provider,
        "model": model,
        "contextTokens": catalog.context_window(&catalog.primary),
        "agentRuntime": agent_runtime(),
        "modelSelectionTarget": "session",
    });
    for (member, value) in catalog.thinking_row(&catalog.default_agent().id, &catalog.primary) {
        defaults[member] = value;
    }
    defaults
}

pub fn list(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let (estate, text) = (call.estate(), call.params.map_or("", RawValue::get));
    let basis = Basis::of(estate);
    if let Some(answer) = basis.as_ref().and_then(|now| estate.listed.find(text, now)) {
        return call.responder.ok_json(&answer.json);
    }
    let text = text.into();
    let Some((params, call)) = call.parse::<ListParams>() else { return };
    let (store, responder) = (call.wiring.store.clone(), call.responder);
    ctx.detached(async move {
        match page(&store, &params).await {
            Ok(page) => {
                let json = page.to_string().into_bytes();
                responder.ok_json(&json);
                if let Some(basis) = basis {
                    store.estate.listed.keep(text, basis, json);
                }
            }
            Err(refusal) => responder.refuse(refusal),
        }
    });
}

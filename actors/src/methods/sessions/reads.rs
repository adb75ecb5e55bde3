//! Single sessions, and what was said in them: described, previewed, found by name and by words.

use super::list::{Extras, Rows, title, within};
use crate::connection::ConnectionMsg;
use crate::estate::Estate;
use crate::methods::{Call, store_refusal};
use crate::sessions::message_row;
use crate::store::{
    self, Archived, Connection, HistoryPage, ListFilter, SearchFilter, SearchHit, SessionRecord, StoreError,
};
use crate::tree::Ctx;
use crabtree_protocol::params::history::DEFAULT_HISTORY_LIMIT;
use crabtree_protocol::params::session_reads::{
    DEFAULT_SEARCH_LIMIT, MAX_CANDIDATES, PreviewParams, ResolveParams, SearchParams,
};
use crabtree_protocol::params::sessions::{DescribeParams, GetParams};
use crabtree_protocol::{Refusal, SessionKey};
use serde_json::{Value, json};
use uuid::Uuid;

/// Sessions previewed at once; further ones are not looked at.
const MAX_PREVIEWS: usize = 64;
/// Messages of a preview and characters of each, unless told; and at the most.
const PREVIEW_MESSAGES: u64 = 12;
const MAX_PREVIEW_MESSAGES: u64 = 200;
const PREVIEW_CHARS: u64 = 240;
/// Characters of a title as a page's address shows it.
const SLUG_CHARS: usize = 48;
/// Sessions compared with what is left of such a title.
const MAX_SHORT_ID_MATCHES: u32 = 200;

pub fn describe(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<DescribeParams>() else { return };
    let key = match call.key_of(&params.key, params.agent_id.as_deref()) {
        Ok(key) => key,
        Err(refusal) => return call.responder.refuse(refusal),
    };
    let extras = Extras {
        titles: params.include_derived_titles == Some(true),
        last_message: params.include_last_message == Some(true),
    };
    let (store, responder) = (call.wiring.store.clone(), call.responder);
    ctx.detached(async move {
        let record = store.read(move |c| store::session(c, key.as_str())).await;
        responder.settle(record.map_err(|e| store_refusal(&e)).map(|record| {
            let rows = Rows::new(&store.estate);
            json!({ "session": record.map(|record| rows.row(&record, extras)) })
        }));
    });
}

pub fn get(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<GetParams>() else { return };
    let key = match call.key_of(&params.key, params.agent_id.as_deref()) {
        Ok(key) => key,
        Err(refusal) => return call.responder.refuse(refusal),
    };
    let limit = params.limit.map_or(DEFAULT_HISTORY_LIMIT, |l| l.get()) as u32;
    let (store, responder) = (call.wiring.store.clone(), call.responder);
    ctx.detached(async move {
        let page = HistoryPage { limit, offset: 0 };
        let history = store.read(move |c| store::history(c, key.as_str(), page)).await;
        responder.settle(
            history.map_err(|e| store_refusal(&e)).map(
                |history| json!({ "messages": history.rows.iter().map(message_row).collect::<Vec<_>>() }),
            ),
        );
    });
}

pub fn preview(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<PreviewParams>() else { return };
    let limit = params.limit.map_or(PREVIEW_MESSAGES, |l| l.get().min(MAX_PREVIEW_MESSAGES)) as u32;
    let max_chars = params.max_chars.map_or(PREVIEW_CHARS, |m| m.get()) as usize;
    let canonical = |raw: &str| call.key(raw).ok().map(|key| key.to_string());
    let keys: Vec<_> =
        params.keys.iter().take(MAX_PREVIEWS).map(|raw| (raw.to_string(), canonical(raw))).collect();
    let (store, responder) = (call.wiring.store.clone(), call.responder);
    ctx.detached(async move {
        let now = store.estate.clock.now_ms();
        let previews = store.read(move |c| {
            let one =
                |(raw, key): &(String, Option<String>)| previewed(c, raw, key.as_deref(), limit, max_chars);
            keys.iter().map(one).collect::<Result<Vec<_>, _>>()
        });
        let previews = previews.await.map_err(|e| store_refusal(&e));
        responder.settle(previews.map(|previews| json!({ "ts": now, "previews": previews })));
    });
}

fn previewed(
    c: &Connection,
    raw: &str,
    key: Option<&str>,
    limit: u32,
    max_chars: usize,
) -> Result<Value, StoreError> {
    let history = key.map(|key| store::history(c, key, HistoryPage { limit, offset: 0 })).transpose()?;
    let history = history.unwrap_or_default();
    let item = |row: &store::MessageRow| {
        let text: String = store::text_of(&row.message).trim().chars().take(max_chars).collect();
        (!text.is_empty()).then(|| json!({ "role": row.kind, "text": text }))
    };
    let items: Vec<Value> = history.rows.iter().filter_map(item).collect();
    let status = match (&history.session_id, items.is_empty()) {
        (None, _) => "missing",
        (_, true) => "empty",
        _ => "ok",
    };
    Ok(json!({ "key": raw, "status": status, "items": items }))
}

/// How a session is asked for.
enum By {
    Key(SessionKey),
    Id(String),
    Label(String),
    /// Beginning of the uuid its key ends in, as it stands there; and what its title looks like in an address.
    ShortId(String, Option<String>),
}

impl By {
    fn of(call: &Call<'_>, params: &ResolveParams) -> Result<Self, Refusal> {
        if params.slug_hint.is_some() && params.short_id.is_none() {
            return Err(Refusal::slug_without_short_id());
        }
        let slug = params.slug_hint.as_ref().map(|slug| slug.trim().to_owned()).filter(|s| !s.is_empty());
        match (&params.key, &params.session_id, &params.label, &params.short_id) {
            (Some(key), None, None, None) => call.key_of(key, params.agent_id.as_deref()).map(Self::Key),
            (None, Some(id), None, None) => Ok(Self::Id(id.trim().to_owned())),
            (None, None, Some(label), None) => Ok(Self::Label(label.trim().to_owned())),
            (None, None, None, Some(id)) => {
                Ok(Self::ShortId(uuid_beginning(id).ok_or_else(Refusal::short_id)?, slug))
            }
            (None, None, None, None) => Err(Refusal::resolve_what()),
            _ => Err(Refusal::resolve_which()),
        }
    }

    fn find(&self, c: &Connection, agent: Option<&str>) -> Result<Vec<SessionRecord>, StoreError> {
        let found = match self {
            Self::Key(key) => store::session(c, key.as_str())?.into_iter().collect(),
            Self::Id(id) => store::session_by_id(c, id)?.into_iter().collect(),
            Self::Label(label) => store::sessions_by_label(c, label, agent)?,
            Self::ShortId(part, _) => store::sessions_by_key_part(c, part, MAX_SHORT_ID_MATCHES)?,
        };
        let of_agent = |record: &SessionRecord| agent.is_none_or(|agent| record.agent_id == agent);
        Ok(found.into_iter().filter(of_agent).filter(|record| self.admits(record)).collect())
    }

    fn admits(&self, record: &SessionRecord) -> bool {
        match self {
            Self::Label(_) => record.entry.get("archivedAt").is_none(),
            Self::ShortId(part, _) => record
                .key
                .rsplit_once(':')
                .is_some_and(|(_, last)| last.starts_with(part) && Uuid::try_parse(last).is_ok()),
            _ => true,
        }
    }

    fn none(&self) -> Refusal {
        match self {
            Self::Key(key) => Refusal::nothing_resolved(key.as_str()),
            Self::Id(id) => Refusal::nothing_resolved(id),
            Self::Label(label) => Refusal::no_session_labelled(label),
            Self::ShortId(part, _) => Refusal::nothing_resolved(&part.replace('-', "")),
        }
    }
}

/// The beginning of a uuid, its dashes put in; `None` if it is none, or too short to mean anything.
fn uuid_beginning(short: &str) -> Option<String> {
    let short = short.trim().to_ascii_lowercase();
    if !(8..=32).contains(&short.len()) || !short.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut text = String::new();
    for (at, digit) in short.char_indices() {
        if [8, 12, 16, 20].contains(&at) {
            text.push('-');
        }
        text.push(digit);
    }
    Some(text)
}

/// A title as a page's address shows it: words with dashes between them, up to the last that is no hex number.
fn slug(title: &str) -> String {
    let lower = title.to_lowercase();
    let words: Vec<&str> =
        lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let last = words.iter().rposition(|word| word.bytes().any(|b| (b'g'..=b'z').contains(&b)));
    let slug = words[..last.map_or(0, |at| at + 1)].join("-");
    slug.get(..SLUG_CHARS).unwrap_or(&slug).trim_end_matches('-').to_owned()
}

pub fn resolve(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<ResolveParams>() else { return };
    let by = match By::of(&call, &params) {
        Ok(by) => by,
        Err(refusal) => return call.responder.refuse(refusal),
    };
    let parent = params.spawned_by.as_deref().map(|key| call.key(key)).transpose();
    let parent = match parent {
        Ok(parent) => parent,
        Err(refusal) => return call.responder.refuse(refusal),
    };
    let agent = params.agent_id.as_ref().map(ToString::to_string);
    let allow_missing = params.allow_missing == Some(true);
    let (store, responder) = (call.wiring.store.clone(), call.responder);
    ctx.detached(async move {
        let found = store.read(move |c| Ok((by.find(c, agent.as_deref())?, by))).await;
        responder.settle(found.map_err(|e| store_refusal(&e)).and_then(|(mut found, by)| {
            if let Some(parent) = &parent {
                found.retain(|record| is_child(record, parent));
            }
            resolution(&store.estate, &by, found, allow_missing)
        }));
    });
}

fn is_child(record: &SessionRecord, parent: &SessionKey) -> bool {
    let of = |name: &str| record.entry.get(name).and_then(Value::as_str) == Some(parent.as_str());
    of("spawnedBy") || of("parentSessionKey")
}

fn resolution(
    estate: &Estate,
    by: &By,
    mut found: Vec<SessionRecord>,
    allow_missing: bool,
) -> Result<Value, Refusal> {
    let rows = Rows::new(estate);
    let title = |record: &SessionRecord| title(&rows.row(record, Extras::default()), record);
    if let By::ShortId(_, hint) = by {
        let catalog = estate.catalog.load();
        found.retain(|record| catalog.agent(&record.agent_id).is_some());
        let named = |record: &&SessionRecord| title(record).map(|title| slug(&title)) == *hint;
        let hinted: Vec<_> = found.iter().filter(|_| hint.is_some()).filter(named).cloned().collect();
        if !hinted.is_empty() {
            found = hinted;
        }
    }
    let candidate = |record: &SessionRecord| {
        let mut row = json!({ "key": record.key, "agentId": record.agent_id });
        if let Some(title) = title(record) {
            row["displayName"] = json!(title);
        }
        row
    };
    match (found.as_slice(), by) {
        ([], _) if allow_missing => Ok(json!({ "ok": false })),
        ([], _) => Err(by.none()),
        ([record], _) if estate.catalog.load().agent(&record.agent_id).is_none() => {
            Err(Refusal::agent_gone(&record.agent_id))
        }
        ([record], By::ShortId(..)) => {
            let mut row = candidate(record);
            row["ok"] = json!(true);
            Ok(row)
        }
        ([record], _) => Ok(json!({ "ok": true, "key": record.key, "agentId": record.agent_id })),
        (several, By::Label(label)) => {
            let keys: Vec<&str> = several.iter().map(|record| record.key.as_str()).collect();
            Err(Refusal::many_sessions_labelled(label, &keys))
        }
        (several, _) => {
            let candidates: Vec<Value> = several.iter().take(MAX_CANDIDATES).map(candidate).collect();
            Ok(json!({ "ok": false, "candidates": candidates }))
        }
    }
}

pub fn search(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<SearchParams>() else { return };
    let (limit, filter) = match searched(&call, &params) {
        Ok(asked) => asked,
        Err(refusal) => return call.responder.refuse(refusal),
    };
    let scoped = filter.scope.is_some();
    let (store, responder) = (call.wiring.store.clone(), call.responder);
    ctx.detached(async move {
        let found = store.read(move |c| {
            let mut hits = store::search(c, &filter)?;
            let truncated = hits.len() > limit;
            hits.truncate(limit);
            let records = if scoped { sessions_of(c, &hits)? } else { Vec::new() };
            Ok((hits, records, truncated))
        });
        responder.settle(found.await.map_err(|e| store_refusal(&e)).map(|(hits, records, truncated)| {
            let mut answer = json!({ "results": hits.iter().map(hit).collect::<Vec<_>>() });
            if scoped {
                let rows = Rows::new(&store.estate);
                let extras = Extras { titles: true, last_message: false };
                answer["sessions"] = records.iter().map(|record| rows.row(record, extras)).collect();
            }
            if truncated {
                answer["truncated"] = json!(true);
            }
            answer
        }));
    });
}

fn searched(call: &Call<'_>, params: &SearchParams) -> Result<(usize, SearchFilter), Refusal> {
    let query = params.query.trim();
    if query.is_empty() {
        return Err(Refusal::invalid_request("sessions.search needs a query with a word in it"));
    }
    let agent = params.agent_id.as_ref().map(ToString::to_string);
    let key = |raw: &str| call.key_of(raw, agent.as_deref()).map(|key| key.to_string());
    let keys = params.session_keys.as_ref().map(|keys| keys.iter().map(|raw| key(raw)).collect());
    let limit = params.limit.map_or(DEFAULT_SEARCH_LIMIT, |l| l.get());
    let filter = SearchFilter {
        query: query.to_owned(),
        // One more than is told, to know whether there is more.
        limit: limit as u32 + 1,
        keys: keys.transpose()?,
        agent,
        scope: params.scope.as_ref().map(|scope| within(scope, call.estate())).transpose()?,
    };
    Ok((limit as usize, filter))
}

/// The sessions of hits, in the order of their best ones.
fn sessions_of(c: &Connection, hits: &[SearchHit]) -> Result<Vec<SessionRecord>, StoreError> {
    let keys: Vec<String> = hits.iter().map(|hit| hit.session_key.clone()).collect();
    let filter = ListFilter { keys: Some(keys.clone()), archived: Archived::All, ..ListFilter::default() };
    let (mut records, _) = store::list_sessions(c, &filter)?;
    records.sort_by_key(|record| keys.iter().position(|key| *key == record.key));
    Ok(records)
}

fn hit(hit: &SearchHit) -> Value {
    json!({
        "sessionKey": hit.session_key,
        "sessionId": hit.session_id,
        "messageId": hit.message_id,
        "role": hit.role,
        "timestamp": hit.timestamp,
        "snippet": hit.snippet,
        "score": hit.score,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_id_is_the_beginning_of_a_uuid() {
        let text = |short: &str| uuid_beginning(short);
        assert_eq!(text("E515D1D4").as_deref(), Some("e515d1d4"));
        assert_eq!(text("e515d1d439").as_deref(), Some("e515d1d4-39"));
        let whole = text("e515d1d439814091a030d72cdc3edefb");
        assert_eq!(whole.as_deref(), Some("e515d1d4-3981-4091-a030-d72cdc3edefb"));
        for wrong in ["e515d1d", "e515d1d4-3981", "not hex!!", &"0".repeat(33)] {
            assert_eq!(text(wrong), None);
        }
    }

    #[test]
    fn a_slug_ends_with_a_word_that_is_no_hex_number() {
        assert_eq!(slug("Hello from the **mock model**."), "hello-from-the-mock-model");
        assert_eq!(slug("Fix the cafe 42"), "fix-the");
        assert_eq!(slug("dead beef"), "");
        assert_eq!(slug(&"seven77 ".repeat(20)).len(), 47);
    }
}

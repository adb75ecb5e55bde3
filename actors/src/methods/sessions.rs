//! Sessions as lists and rows, read from the store; and who hears of them.

use super::{ANSWER_LIMIT, Call, store_refusal};
use crate::agents::CONTEXT_TOKENS;
use crate::broadcast::{BroadcastMsg, Topic};
use crate::connection::ConnectionMsg;
use crate::estate::Estate;
use crate::responder::Responder;
use crate::sessions::session_row;
use crate::store::{self, ListFilter, SessionRecord, Store};
use crate::tree::Ctx;
use crabtree_protocol::params::sessions::{
    DEFAULT_LIST_LIMIT, DescribeParams, ListParams, MessagesSubscribeParams, MessagesUnsubscribeParams,
    SubscribeParams,
};
use crabtree_protocol::{Refusal, SessionKey};
use serde_json::{Value, json};
use std::collections::HashMap;

/// Rows in one answer at the most.
const MAX_LIST_LIMIT: u64 = 1_000;
/// Characters of a title made from the first message.
const TITLE_CHARS: usize = 60;

/// A session with the texts that were asked for.
struct Row {
    record: SessionRecord,
    first: Option<String>,
    last: Option<String>,
}

struct Listed {
    rows: Vec<Row>,
    total: i64,
}

fn filter(params: &ListParams, now: i64) -> ListFilter {
    ListFilter {
        limit: params.limit.map_or(DEFAULT_LIST_LIMIT, |l| l.get()).min(MAX_LIST_LIMIT) as u32,
        offset: params.offset.map_or(0, |o| o.get()).min(u64::from(u32::MAX)) as u32,
        agent_id: params.agent_id.as_ref().map(ToString::to_string),
        search: params.search.clone().filter(|s| !s.is_empty()),
        updated_after: params.active_minutes.map(|m| now - m.get() as i64 * 60_000),
    }
}

async fn read(store: &Store, params: &ListParams) -> Result<Value, Refusal> {
    let estate = &store.estate;
    let now = estate.clock.now_ms();
    let filter = filter(params, now);
    let last = params.include_last_message.unwrap_or(false);
    let first = params.include_derived_titles.unwrap_or(false);
    let (limit, offset) = (filter.limit, filter.offset);
    let listed = store
        .read(move |c| {
            let (records, total) = store::list_sessions(c, &filter)?;
            let preview = |record: SessionRecord| {
                let first = if first { store::first_message_preview(c, &record.key)? } else { None };
                let last = if last { store::last_message_preview(c, &record.key)? } else { None };
                Ok::<_, store::StoreError>(Row { record, first, last })
            };
            Ok(Listed {
                rows: records.into_iter().map(preview).collect::<Result<_, store::StoreError>>()?,
                total,
            })
        })
        .await
        .map_err(|e| store_refusal(&e))?;
    Ok(page(estate, &listed, (limit, offset), now))
}

fn page(estate: &Estate, listed: &Listed, (limit, offset): (u32, u32), now: i64) -> Value {
    let catalog = estate.catalog.load();
    let active: HashMap<String, _> =
        estate.ledgers.active().into_iter().map(|(key, run)| (key.to_string(), run)).collect();
    let mut rows = Vec::with_capacity(listed.rows.len());
    for Row { record, first, last } in &listed.rows {
        let mut row = session_row(record, active.get(&record.key), &catalog, now);
        if let Some(text) = last {
            row["lastMessagePreview"] = json!(text);
        }
        if let Some(text) = first {
            row["derivedTitle"] = json!(text.chars().take(TITLE_CHARS).collect::<String>());
        }
        rows.push(row);
    }
    let seen = i64::from(offset) + rows.len() as i64;
    let (provider, model) = catalog.primary_parts();
    json!({
        "ts": now,
        "path": "store.sqlite",
        "count": rows.len(),
        "totalCount": listed.total,
        "limitApplied": limit,
        "offset": offset,
        "nextOffset": (seen < listed.total).then_some(seen),
        "hasMore": seen < listed.total,
        "owners": [],
        "defaults": {
            "modelProvider": provider,
            "model": model,
            "contextTokens": CONTEXT_TOKENS,
            "agentRuntime": crate::agents::agent_runtime(),
            "thinkingLevels": [{ "id": "off", "label": "off" }],
            "thinkingOptions": ["off"],
            "thinkingDefault": "off",
            "modelSelectionTarget": "session",
        },
        "sessions": rows,
    })
}

pub(super) fn list(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<ListParams>() else { return };
    let (store, responder) = (call.wiring.store.clone(), call.responder);
    ctx.detached(async move { responder.settle(read(&store, &params).await) });
}

pub(super) fn describe(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<DescribeParams>() else { return };
    let key = match call.key(&params.key) {
        Ok(key) => key,
        Err(refusal) => return call.responder.refuse(refusal),
    };
    let (store, responder) = (call.wiring.store.clone(), call.responder);
    ctx.detached(async move {
        let name = key.clone();
        let record = store.read(move |c| store::session(c, name.as_str())).await;
        let estate = &store.estate;
        let answer = record.map_err(|e| store_refusal(&e)).map(|record| {
            let turn = estate.ledgers.of(&key).into_iter().next();
            let run_id = turn.map(|turn| turn.lock().run_id.clone());
            let row = record
                .map(|r| session_row(&r, run_id.as_ref(), &estate.catalog.load(), estate.clock.now_ms()));
            json!({ "session": row })
        });
        responder.settle(answer);
    });
}

pub(super) fn subscribe(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let bare = call.params.is_none_or(|raw| raw.get().trim() == "{}");
    let Some((params, call)) = call.parse::<SubscribeParams>() else { return };
    let store = call.wiring.store.clone();
    ask(ctx, call, Topic::Sessions, move |responder| async move {
        if bare {
            return responder.ok(&json!({ "subscribed": true }));
        }
        let list = read(&store, &params).await;
        responder.settle(list.map(|list| json!({ "subscribed": true, "list": list })));
    });
}

pub(super) fn subscribe_messages(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<MessagesSubscribeParams>() else { return };
    match call.key(&params.key) {
        Ok(key) => subscribed(ctx, call, Topic::Messages(key.clone()), key, true),
        Err(refusal) => call.responder.refuse(refusal),
    }
}

pub(super) fn unsubscribe_messages(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<MessagesUnsubscribeParams>() else { return };
    match call.key(&params.key) {
        Ok(key) => subscribed(ctx, call, Topic::NotMessages(key.clone()), key, false),
        Err(refusal) => call.responder.refuse(refusal),
    }
}

fn subscribed(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>, topic: Topic, key: SessionKey, on: bool) {
    ask(ctx, call, topic, move |responder| async move {
        responder.ok(&json!({ "subscribed": on, "key": key }));
    });
}

/// Puts a subscription into force before it is answered: what is published after the answer is heard.
fn ask<F: Future<Output = ()> + Send + 'static>(
    ctx: &mut Ctx<ConnectionMsg>,
    call: Call<'_>,
    topic: Topic,
    then: impl FnOnce(Responder) -> F + Send + 'static,
) {
    let (broadcast, responder) = (call.wiring.broadcast.clone(), call.responder);
    ctx.detached(async move {
        let conn = responder.conn().clone();
        let put = |reply| BroadcastMsg::Subscribe(conn.clone(), topic.clone(), reply);
        match broadcast.ask_within(ANSWER_LIMIT, put).await {
            Some(true) => then(responder).await,
            Some(false) => {
                responder.refuse(Refusal::invalid_request("too many subscriptions on this connection"));
            }
            // Nobody is there: the responder says so.
            None => {}
        }
    });
}

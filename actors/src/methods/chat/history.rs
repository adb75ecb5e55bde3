//! Reading a chat back: pages of it, what came since, what waits, and what runs.

mod cursor;

use super::Call;
use crate::connection::ConnectionMsg;
use crate::estate::Estate;
use crate::methods::sessions::defaults;
use crate::methods::{agents, store_refusal};
use crate::sessions::silence::is_silent_row;
use crate::sessions::{activity, message_payload, message_row, model_of, session_row};
use crate::settings::Thinking;
use crate::store::{
    self, Connection, HistoryPage, HistoryResult, InputRow, InputState, MessageRow, Receipt, SessionRecord,
    StoreError,
};
use crate::tree::Ctx;
use crabtree_protocol::params::history::{DEFAULT_HISTORY_LIMIT, HistoryParams, MAX_PENDING_INPUTS};
use crabtree_protocol::params::session_reads::MessageGetParams;
use crabtree_protocol::{Refusal, SessionKey};
use cursor::Cursor;
use serde_json::{Value, json};
use std::ops::Range;

/// Rows of a page weigh no more than this, whatever was asked for: they go out in one frame.
const MAX_PAGE_BYTES: u64 = 6 << 20;
/// What came since a cursor is told while it is no more than this; else a page is the better answer.
const MAX_DELTA_ROWS: u32 = 200;
const MAX_DELTA_BYTES: usize = 1_000_000;

/// What is asked for.
struct Wanted {
    key: SessionKey,
    page: HistoryPage,
    /// Whether a place in the history was named.
    placed: bool,
    cursor: Option<String>,
    around: Option<String>,
    session_id: Option<String>,
    max_chars: Option<usize>,
    max_bytes: usize,
    pending_before: Option<i64>,
    run_ids: Option<Vec<String>>,
    /// Whether models and commands are wanted, too.
    startup: bool,
}

impl Wanted {
    fn of(call: &Call<'_>, params: HistoryParams, startup: bool) -> Result<Self, Refusal> {
        let (offset, around) = (params.offset.map(|o| o.get()), params.message_id);
        if offset.is_some() && around.is_some() {
            return Err(Refusal::invalid_request("name an offset or a messageId, not both"));
        }
        if params.cursor.is_some() && (offset.is_some() || around.is_some()) {
            return Err(Refusal::invalid_request("a cursor goes with neither offset nor messageId"));
        }
        let run_ids = |ids: &[_]| ids.iter().map(ToString::to_string).collect();
        Ok(Self {
            key: call.key_of(&params.session_key, params.agent_id.as_deref())?,
            page: HistoryPage {
                limit: params.limit.map_or(DEFAULT_HISTORY_LIMIT, |l| l.get()) as u32,
                offset: offset.unwrap_or(0).min(u64::from(u32::MAX)) as u32,
            },
            placed: offset.is_some() || around.is_some(),
            cursor: params.cursor,
            around: around.map(|id| id.into_string()),
            session_id: params.session_id.map(|id| id.into_string()),
            max_chars: params.max_chars.map(|m| m.get() as usize),
            max_bytes: params.max_bytes.map_or(MAX_PAGE_BYTES, |m| m.get().min(MAX_PAGE_BYTES)) as usize,
            pending_before: params.pending_before.map(|seq| seq.get() as i64),
            run_ids: params.input_run_ids.as_deref().map(run_ids),
            startup,
        })
    }
}

/// Rows of the history.
enum Rows {
    Page(HistoryResult),
    /// Those past the cursor.
    Since(Vec<MessageRow>),
    /// The cursor is of no use.
    Reset,
}

struct Past {
    record: Option<SessionRecord>,
    /// The last row of the conversation.
    leaf: Option<String>,
    rows: Rows,
    backlog: Vec<InputRow>,
    receipts: Option<Vec<Receipt>>,
}

fn read(c: &Connection, wanted: &Wanted) -> Result<Past, StoreError> {
    let key = wanted.key.as_str();
    let record = store::session(c, key)?;
    let rows = match (&wanted.cursor, &wanted.around) {
        (Some(cursor), _) => since(c, key, cursor, record.as_ref())?,
        (None, Some(id)) => {
            Rows::Page(store::history_around(c, key, id, wanted.page.limit)?.unwrap_or_default())
        }
        (None, None) => Rows::Page(store::history(c, key, wanted.page)?),
    };
    let last = store::history(c, key, HistoryPage { limit: 1, offset: 0 })?.rows;
    let leaf = last.into_iter().next().map(|row| row.id);
    let receipts = wanted.run_ids.as_ref().map(|ids| store::receipts(c, key, ids)).transpose()?;
    Ok(Past { record, leaf, rows, backlog: store::backlog(c, key)?, receipts })
}

fn since(
    c: &Connection,
    key: &str,
    cursor: &str,
    record: Option<&SessionRecord>,
) -> Result<Rows, StoreError> {
    let Some(seq) = record.and_then(|record| Cursor::decode(cursor, record)) else { return Ok(Rows::Reset) };
    // One row before them, so that a cursor past the end is found out.
    let mut rows = store::history_after(c, key, (seq - 1).max(0), MAX_DELTA_ROWS + 2)?;
    if seq > 0 {
        if rows.first().and_then(|row| row.seq) != Some(seq) {
            return Ok(Rows::Reset);
        }
        rows.remove(0);
    }
    Ok(if rows.len() > MAX_DELTA_ROWS as usize { Rows::Reset } else { Rows::Since(rows) })
}

pub fn history(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    answer(ctx, call, false);
}

pub fn startup(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    answer(ctx, call, true);
}

fn answer(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>, startup: bool) {
    let Some((params, call)) = call.parse::<HistoryParams>() else { return };
    let wanted = match Wanted::of(&call, params, startup) {
        Ok(wanted) => wanted,
        Err(refusal) => return call.responder.refuse(refusal),
    };
    let (store, responder) = (call.wiring.store.clone(), call.responder);
    ctx.detached(async move {
        let past = store.read(move |c| read(c, &wanted).map(|past| (past, wanted))).await;
        responder.settle(match past {
            Ok((past, wanted)) => shown(&store.estate, past, &wanted),
            Err(e) => Err(store_refusal(&e)),
        });
    });
}

fn shown(estate: &Estate, mut past: Past, wanted: &Wanted) -> Result<Value, Refusal> {
    let current = past.record.as_ref().map(|record| record.session_id.as_str());
    if wanted.session_id.as_deref().is_some_and(|id| current != Some(id)) {
        let what = format!("sessionId is not the id {} has now; read its history without it", wanted.key);
        return Err(Refusal::invalid_request(what));
    }
    let turn = estate.ledgers.of(&wanted.key).into_iter().next();
    let run_id = turn.as_ref().map(|turn| turn.lock().run_id.clone());
    let info = past.record.as_ref().map(|r| session_row(r, run_id.as_ref(), estate, estate.clock.now_ms()));
    let rows = std::mem::replace(&mut past.rows, Rows::Reset);
    let answer = match (rows, &past.record, &info) {
        (Rows::Page(history), ..) => Some(page(estate, history, &past, wanted)),
        (Rows::Since(rows), Some(record), Some(info)) => delta(&rows, record, info, wanted),
        _ => None,
    };
    let Some(mut answer) = answer else { return Ok(json!({ "kind": "reset" })) };
    answer["pendingInputs"] = pending_inputs(&past.backlog, wanted);
    if let Some(receipts) = &past.receipts {
        (answer["inputReceipts"], answer["inputConsumptions"]) = told(receipts);
    }
    if let Some(info) = info {
        answer["sessionInfo"] = info;
        answer["sessionInfo"]["activeLeafEntryId"] = json!(past.leaf);
    }
    if let Some(turn) = turn {
        let turn = turn.lock();
        let mut run = json!({ "runId": turn.run_id, "text": turn.told(), "startedAt": turn.started_at });
        if let Some(status) = turn.missed() {
            run["events"] = json!([status]);
        }
        answer["inFlightRun"] = run;
    }
    if wanted.startup {
        answer["metadata"] = agents::metadata_of(estate);
    }
    Ok(answer)
}

fn page(estate: &Estate, history: HistoryResult, past: &Past, wanted: &Wanted) -> Value {
    let mut rows: Vec<Value> =
        history.rows.iter().map(|row| capped(message_row(row), wanted.max_chars)).collect();
    let anchor = wanted.around.as_ref().and_then(|id| history.rows.iter().position(|row| row.id == *id));
    let sizes: Vec<usize> = rows.iter().map(size).collect();
    let fitting = fit(&sizes, anchor, wanted.max_bytes);
    let offset = match history.rows[fitting.clone()].last().and_then(|row| row.seq) {
        Some(last) => (history.total - last).max(0) as u64,
        None => u64::from(wanted.page.offset),
    };
    rows.truncate(fitting.end);
    rows.drain(..fitting.start);
    let activity = activity(&history.rows[fitting.clone()], &estate.tools.load());
    let (older, total) = (offset + rows.len() as u64, history.total.max(0) as u64);
    let shown = rows.into_iter().zip(&history.rows[fitting]).filter(|(_, row)| !is_silent_row(row));
    let rows: Vec<Value> = shown.map(|(row, _)| row).collect();
    let entry = |name: &str| past.record.as_ref().and_then(|record| record.entry.get(name)).cloned();
    let mut answer = json!({
        "sessionKey": wanted.key,
        "messages": rows,
        "hasMore": older < total,
        "totalMessages": total,
        "defaults": defaults(estate),
        "thinkingLevel": entry("thinkingLevel").unwrap_or_else(|| json!(unless_chosen(estate, past, wanted))),
    });
    let known = [
        ("sessionId", past.record.as_ref().map(|record| json!(record.session_id))),
        ("deltaCursor", past.record.as_ref().map(|r| json!(Cursor::at(r, history.total).encode()))),
        ("offset", wanted.placed.then(|| json!(offset))),
        ("nextOffset", (older < total).then(|| json!(older))),
        ("verboseLevel", entry("verboseLevel")),
        ("activity", (!activity.is_empty()).then(|| json!(activity))),
    ];
    for (name, value) in known.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        answer[name] = value;
    }
    answer
}

/// How hard the session's model thinks when nobody says.
fn unless_chosen(estate: &Estate, past: &Past, wanted: &Wanted) -> Thinking {
    let catalog = estate.catalog.load();
    let model = model_of(past.record.as_ref(), &catalog);
    catalog.thinking(wanted.key.agent_id(), &model, None)
}

/// `None` if it is so much that a page is the better answer.
fn delta(rows: &[MessageRow], record: &SessionRecord, info: &Value, wanted: &Wanted) -> Option<Value> {
    let last = rows.last().and_then(|row| row.seq);
    let messages: Vec<Value> = rows
        .iter()
        .filter(|row| !is_silent_row(row))
        .map(|row| {
            let mut payload = message_payload(&wanted.key, row, info);
            payload["message"] = capped(payload["message"].take(), wanted.max_chars);
            payload
        })
        .collect();
    let cursor = match (last, &wanted.cursor) {
        (Some(last), _) => Cursor::at(record, last).encode(),
        (None, cursor) => cursor.clone().unwrap_or_default(),
    };
    let bytes: usize = messages.iter().map(size).sum();
    (bytes <= MAX_DELTA_BYTES.min(wanted.max_bytes))
        .then(|| json!({ "kind": "delta", "messages": messages, "deltaCursor": cursor }))
}

fn size(value: &Value) -> usize {
    serde_json::to_vec(value).map_or(0, |json| json.len())
}

/// The rows around `anchor` (the newest, if none) that have room together: always at least that one.
fn fit(sizes: &[usize], anchor: Option<usize>, max: usize) -> Range<usize> {
    let Some(last) = sizes.len().checked_sub(1) else { return 0..0 };
    let anchor = anchor.unwrap_or(last);
    let (mut rows, mut used) = (anchor..anchor + 1, sizes[anchor]);
    loop {
        let before = rows.clone();
        if rows.start > 0 && used + sizes[rows.start - 1] <= max {
            rows.start -= 1;
            used += sizes[rows.start];
        }
        if rows.end < sizes.len() && used + sizes[rows.end] <= max {
            used += sizes[rows.end];
            rows.end += 1;
        }
        if rows == before {
            return rows;
        }
    }
}

/// The latest inputs that wait, oldest first.
fn pending_inputs(backlog: &[InputRow], wanted: &Wanted) -> Value {
    let queued: Vec<_> = backlog.iter().filter(|row| row.state == InputState::Queued).collect();
    let before = wanted.pending_before.unwrap_or(i64::MAX);
    let older: Vec<_> = queued.iter().filter(|row| row.seq < before).collect();
    let from = older.len().saturating_sub(u64::from(wanted.page.limit).min(MAX_PENDING_INPUTS) as usize);
    let items: Vec<Value> = older[from..].iter().map(|row| pending_input(row, wanted.max_chars)).collect();
    let mut answer = json!({ "items": items, "total": queued.len() });
    if from > 0 {
        answer["nextBefore"] = json!(older[from].seq);
    }
    answer
}

fn pending_input(row: &InputRow, max_chars: Option<usize>) -> Value {
    let mut meta = row.body.get("sender").filter(|s| s.is_object()).cloned().unwrap_or_else(|| json!({}));
    meta["id"] = json!(format!("pending:{}", row.id));
    let message =
        json!({ "role": "user", "content": row.text, "timestamp": row.created_at, "__openclaw": meta });
    json!({
        "id": row.id,
        "runId": row.run_id,
        "acceptedAt": row.created_at,
        "state": "queued",
        "message": capped(message, max_chars),
    })
}

/// What became of submissions, and which of them stand in the transcript.
fn told(receipts: &[Receipt]) -> (Value, Value) {
    let consumed =
        |r: &Receipt| Some(json!({ "runId": r.run_id, "consumedByEventId": r.message_id.as_ref()? }));
    let receipt = |r: &Receipt| match consumed(r) {
        Some(mut row) => {
            row["state"] = json!("consumed");
            row
        }
        None => json!({ "runId": r.run_id, "state": "pending" }),
    };
    (receipts.iter().map(receipt).collect(), receipts.iter().filter_map(consumed).collect())
}

/// Cuts the texts of a row to what a client can show.
fn capped(mut row: Value, max_chars: Option<usize>) -> Value {
    let Some(max) = max_chars else { return row };
    let mut cut = false;
    let mut shorten = |text: &mut Value| {
        if let Value::String(s) = text
            && s.chars().count() > max
        {
            *s = s.chars().take(max).chain("\n...(truncated)...".chars()).collect();
            cut = true;
        }
    };
    match row.get_mut("content") {
        Some(Value::Array(blocks)) => blocks.iter_mut().filter_map(|b| b.get_mut("text")).for_each(shorten),
        Some(text) => shorten(text),
        None => {}
    }
    if cut {
        row["__openclaw"]["truncated"] = json!(true);
        row["__openclaw"]["reason"] = json!("display-cap");
    }
    row
}

pub fn message_get(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<MessageGetParams>() else { return };
    let key = match call.key_of(&params.session_key, params.agent_id.as_deref()) {
        Ok(key) => key,
        Err(refusal) => return call.responder.refuse(refusal),
    };
    let (id, max_chars) = (params.message_id.into_string(), params.max_chars.map(|m| m.get() as usize));
    let (store, responder) = (call.wiring.store.clone(), call.responder);
    ctx.detached(async move {
        let row = store.read(move |c| store::message(c, key.as_str(), &id)).await;
        responder.settle(row.map_err(|e| store_refusal(&e)).map(|row| match row {
            Some(row) if row.hidden => json!({ "ok": false, "unavailableReason": "not_visible" }),
            Some(row) => json!({ "ok": true, "message": capped(message_row(&row), max_chars) }),
            None => json!({ "ok": false, "unavailableReason": "not_found" }),
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_have_room_stand_around_the_anchor_and_it_stands_always() {
        let sizes = [5, 5, 5, 5];
        assert_eq!(fit(&[], None, 9), 0..0);
        assert_eq!(fit(&sizes, None, 3), 3..4);
        assert_eq!(fit(&sizes, None, 10), 2..4);
        assert_eq!(fit(&sizes, None, 99), 0..4);
        assert_eq!(fit(&sizes, Some(1), 15), 0..3);
        assert_eq!(fit(&sizes, Some(0), 10), 0..2);
    }
}

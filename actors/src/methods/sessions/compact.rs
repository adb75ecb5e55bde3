//! Compaction: a summary of a model's making in place of a session's older turns, or only its last rows kept.

use crate::agents::{Chunk, Prompt, Said};
use crate::connection::ConnectionMsg;
use crate::estate::Estate;
use crate::event::{Audience, Event};
use crate::gateway::Wiring;
use crate::methods::{Call, store_refusal};
use crate::sessions::conversation::said;
use crate::sessions::{Told, change, changed_event, model_of, session_row};
use crate::settings::Thinking;
use crate::store::{self, CopyRange, HistoryPage, MessageRow, SessionRecord, SessionUpdate, Store, WriteOp};
use crate::tree::Ctx;
use crabtree_protocol::params::events::{OperationPhase, SessionOperationEvent};
use crabtree_protocol::params::session_lifecycle::{CompactParams, Compacted, CompactionResult};
use crabtree_protocol::{Event as Name, Refusal, SessionKey};
use futures_util::StreamExt;
use serde_json::{Value, json};
use std::time::Duration;
use uuid::Uuid;

/// How long a summary may take, the wait for a free lane included.
const SUMMARY_LIMIT: Duration = Duration::from_secs(60);
/// Rows of a transcript that a summary is made of, the newest.
const MAX_ROWS: u32 = 1_000;
/// Turns that stay as they are; at least one older one is summed up.
const KEPT_TURNS: usize = 2;
/// Characters a token stands for, where none were counted.
const TOKEN_CHARS: usize = 4;

/// What the model is told to do.
const TASK: &str = "Sum up the conversation above, so that it can go on without its older part. Keep what was \
    asked for and decided, what is still to be done, and every name, number and path that matters. \
    Write plain text, and nothing but the summary.";

pub(in crate::methods) fn answer(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((CompactParams { key, agent_id, max_lines }, call)) = call.parse() else { return };
    let key = match call.key_of(&key, agent_id.as_deref()) {
        Ok(key) => key,
        Err(refusal) => return call.responder.refuse(refusal),
    };
    let (wiring, responder) = (call.wiring.clone(), call.responder);
    ctx.detached(async move {
        responder.settle(match max_lines {
            Some(lines) => keep_last(&wiring, key, u32::try_from(lines.get()).unwrap_or(u32::MAX)).await,
            None => compact(&wiring, key, "").await,
        });
    });
}

/// What there is to compact.
struct Known {
    record: SessionRecord,
    rows: Vec<MessageRow>,
    total: i64,
}

impl Known {
    /// `None` for a session without messages; refuses while it has something to do.
    async fn read(store: &Store, key: &SessionKey) -> Result<Option<Self>, Refusal> {
        let name = key.to_string();
        let read = store.read(move |c| {
            let history = store::history(c, &name, HistoryPage { limit: MAX_ROWS, offset: 0 })?;
            Ok((store::session(c, &name)?, history, !store::backlog(c, &name)?.is_empty()))
        });
        let (record, history, waits) = read.await.map_err(|e| store_refusal(&e))?;
        if !store.estate.ledgers.of(key).is_empty() {
            return Err(Refusal::compact_active(key.as_str()));
        }
        if waits {
            return Err(Refusal::compact_queued(key.as_str()));
        }
        let known = record.map(|record| Self { record, rows: history.rows, total: history.total });
        Ok(known.filter(|known| known.total > 0))
    }

    /// What an earlier compaction left: its summary, and the first row that is still read.
    fn before(&self) -> Option<(&str, i64)> {
        let compaction = self.record.entry.get("compaction")?;
        Some((compaction.get("summary")?.as_str()?, compaction.get("firstKeptSeq")?.as_i64()?))
    }

    /// The older part of the conversation, and the first row after it; `None` if there is no older part.
    fn older(&self) -> Option<(Vec<Said>, &MessageRow)> {
        let (summary, first) = self.before().map_or((None, 0), |(summary, first)| (Some(summary), first));
        let is_read = |row: &&MessageRow| {
            row.seq.is_some_and(|seq| seq >= first) && row.message["excludeFromContext"] != true
        };
        let rows: Vec<(Said, &MessageRow)> =
            self.rows.iter().filter(is_read).filter_map(|row| Some((said(row)?, row))).collect();
        let turns: Vec<usize> = rows
            .iter()
            .enumerate()
            .filter(|(_, (said, _))| matches!(said, Said::User { .. }))
            .map(|(at, _)| at)
            .collect();
        let kept = KEPT_TURNS.min(turns.len().checked_sub(1)?);
        let at = *turns.get(turns.len() - kept)?;
        let (_, first_kept) = rows.get(at)?;
        let summary = summary.map(Said::user);
        let older = rows.iter().take(at).map(|(said, _)| said.clone());
        Some((summary.into_iter().chain(older).collect(), first_kept))
    }

    fn tokens(&self, older: &[Said]) -> u64 {
        let counted = self.record.entry.get("totalTokens").and_then(Value::as_u64);
        counted.unwrap_or_else(|| (older.iter().map(|s| s.text().len()).sum::<usize>() / TOKEN_CHARS) as u64)
    }
}

/// Puts a summary in place of the older turns; `wish` is what it is to heed beside.
pub(in crate::methods) async fn compact(
    wiring: &Wiring,
    key: SessionKey,
    wish: &str,
) -> Result<Compacted, Refusal> {
    let estate = &wiring.store.estate;
    let Some(known) = Known::read(&wiring.store, &key).await? else {
        return Ok(untouched(key, "nothing has been said in it yet"));
    };
    let Some((older, first)) = known.older() else {
        return Ok(untouched(key, "it is short: there are no turns before the ones that are kept"));
    };
    let operation = Operation { key: &key, id: Uuid::new_v4().to_string(), estate };
    operation.tell(OperationPhase::Start, None);
    let tokens_before = known.tokens(&older);
    let compacted = async {
        let model = model_of(Some(&known.record), &estate.catalog.load());
        let summary = summarize(estate, &model, older, wish).await;
        let summary = summary.map_err(|why| Refusal::failed(format!("no summary was made: {why}")))?;
        let (id, seq) = (first.id.clone(), first.seq);
        put(wiring, &key, &known.record, &summary, seq).await?;
        Ok(CompactionResult {
            summary,
            first_kept_entry_id: id,
            tokens_before,
            details: json!({ "readFiles": [], "modifiedFiles": [] }),
        })
    };
    let compacted: Result<_, Refusal> = compacted.await;
    let why = compacted.as_ref().err().map(|refusal| refusal.message.clone());
    operation.tell(OperationPhase::End, Some(why.clone()));
    let compacted = compacted.ok();
    let is_done = compacted.is_some();
    Ok(Compacted { ok: is_done, key, compacted: is_done, reason: why, kept: None, result: compacted })
}

fn untouched(key: SessionKey, why: &str) -> Compacted {
    let reason = Some(format!("nothing to compact: {why}"));
    Compacted { ok: true, key, compacted: false, reason, kept: None, result: None }
}

/// Has the model sum up; or says why it did not.
async fn summarize(estate: &Estate, model: &str, older: Vec<Said>, wish: &str) -> Result<String, String> {
    let found = estate.catalog.load().model(model);
    let found =
        found.ok_or_else(|| format!("the model {model} is not known; choose another for the session"))?;
    // The newest part of the conversation, in half of what the model can keep in mind.
    let most = usize::try_from(found.context_window() / 2).unwrap_or(usize::MAX).saturating_mul(TOKEN_CHARS);
    let mut room = most;
    let fits = |said: &Said| {
        let size = said.text().len();
        let fits = size <= room;
        room = room.saturating_sub(size);
        fits
    };
    let mut conversation: Vec<Said> = older.into_iter().map(in_words).rev().take_while(fits).collect();
    conversation.reverse();
    let wish = if wish.is_empty() { String::new() } else { format!("\n\nHeed this as well: {wish}") };
    conversation.push(Said::user(format!("{TASK}{wish}")));
    let work = async {
        let lane = estate.lane().await;
        let _lane = lane.map_err(|_| "the gateway is shutting down".to_owned())?;
        let mut answer = found.answer(Prompt {
            instructions: None,
            conversation,
            tools: Vec::new(),
            thinking: Thinking::Off,
        });
        let mut text = String::new();
        while let Some(chunk) = answer.next().await {
            match chunk {
                Chunk::Text(_) if text.len() > most => return Err("it became too long".to_owned()),
                Chunk::Text(piece) => text.push_str(&piece),
                Chunk::Block(_) | Chunk::Call(_) | Chunk::Thought(_) => {}
                Chunk::End(_) if text.trim().is_empty() => return Err("the model said nothing".to_owned()),
                Chunk::End(_) => return Ok(text.trim().to_owned()),
                Chunk::Failed(failure) => return Err(failure.text),
            }
        }
        Err("the model's answer broke off".to_owned())
    };
    let late = || Err(format!("the model took longer than {} s", SUMMARY_LIMIT.as_secs()));
    tokio::time::timeout(SUMMARY_LIMIT, work).await.unwrap_or_else(|_| late())
}

/// Calls and results as text: a model that is offered no tools does not take them otherwise.
fn in_words(said: Said) -> Said {
    match said {
        Said::Assistant { text, calls, .. } => {
            let calls = calls.iter().map(|call| format!("[called {} with {}]", call.name, call.arguments));
            let lines = Some(text).filter(|text| !text.is_empty()).into_iter().chain(calls);
            Said::assistant(lines.collect::<Vec<_>>().join("\n"))
        }
        Said::Tool { name, text, .. } => Said::user(format!("[{name} answered]\n{text}")),
        Said::User { text, .. } => Said::user(text),
    }
}

/// Makes the summary what models read from now on. What was said meanwhile comes after it.
async fn put(
    wiring: &Wiring,
    key: &SessionKey,
    then: &SessionRecord,
    summary: &str,
    first_kept: Option<i64>,
) -> Result<(), Refusal> {
    let compaction = json!({ "summary": summary, "firstKeptSeq": first_kept });
    let at = |record: &SessionRecord| (record.session_id.clone(), record.revision.clone());
    let (name, before) = (key.to_string(), at(then));
    let make = move |record: Option<&SessionRecord>, now| {
        let record = record.filter(|record| at(record) == before);
        let record = record.ok_or_else(|| Refusal::session_changed(&name, "compaction"))?;
        let entry =
            json!({ "compaction": compaction, "compactionCount": count(record) + 1, "totalTokens": null });
        let update = SessionUpdate { at: now, entry: Some(entry), ..SessionUpdate::default() };
        Ok(WriteOp::UpdateSession { key: name, update })
    };
    let changed = change(&wiring.sessions, key.clone(), None, Told::Nothing, make).await?;
    tell(&wiring.store.estate, key, changed.record.as_ref());
    Ok(())
}

fn count(record: &SessionRecord) -> u64 {
    record.entry.get("compactionCount").and_then(Value::as_u64).unwrap_or(0)
}

/// Keeps the last rows of a transcript; the whole of it stays stored.
async fn keep_last(wiring: &Wiring, key: SessionKey, lines: u32) -> Result<Compacted, Refusal> {
    let Some(known) = Known::read(&wiring.store, &key).await? else {
        return Ok(untouched(key, "nothing has been said in it yet"));
    };
    let gone = known.total - i64::from(lines);
    if gone <= 0 {
        let kept = Some(known.total.unsigned_abs());
        return Ok(Compacted { ok: true, key, compacted: false, reason: None, kept, result: None });
    }
    let compaction = known
        .before()
        .map(|(summary, first)| json!({ "summary": summary, "firstKeptSeq": (first - gone).max(1) }));
    let (name, then) = (key.to_string(), known.record.clone());
    let make = move |record: Option<&SessionRecord>, now| {
        let is_same = |record: &&SessionRecord| {
            (&record.revision, record.updated_at, &record.last_run_id)
                == (&then.revision, then.updated_at, &then.last_run_id)
        };
        let record = record.filter(is_same).ok_or_else(|| Refusal::session_changed(&name, "compaction"))?;
        let revision = Uuid::new_v4().to_string();
        let copy = WriteOp::CopyTranscript {
            from_key: name.clone(),
            to_key: name.clone(),
            session_id: record.session_id.clone(),
            revision: revision.clone(),
            range: CopyRange::Last(lines),
            branch: false,
            at: now,
        };
        let entry =
            json!({ "compaction": compaction, "compactionCount": count(record) + 1, "totalTokens": null });
        let update = SessionUpdate {
            at: now,
            revision: Some(revision),
            entry: Some(entry),
            ..SessionUpdate::default()
        };
        Ok(WriteOp::All(vec![copy, WriteOp::UpdateSession { key: name, update }]))
    };
    let changed = change(&wiring.sessions, key.clone(), None, Told::Nothing, make).await?;
    tell(&wiring.store.estate, &key, changed.record.as_ref());
    let kept = Some(u64::from(lines));
    Ok(Compacted { ok: true, key, compacted: true, reason: None, kept, result: None })
}

fn tell(estate: &Estate, key: &SessionKey, record: Option<&SessionRecord>) {
    let now = estate.clock.now_ms();
    let active = estate.ledgers.of(key).first().map(|turn| turn.lock().run_id.clone());
    if let Some(record) = record {
        let row = session_row(record, active.as_ref(), estate, now);
        let why = json!({ "reason": "compact", "compacted": true });
        estate.conns.publish(changed_event(key, why, &row, now));
    }
}

/// A compaction as it is told while it goes on.
struct Operation<'a> {
    key: &'a SessionKey,
    id: String,
    estate: &'a Estate,
}

impl Operation<'_> {
    /// At the end with why it failed, if it did.
    fn tell(&self, phase: OperationPhase, end: Option<Option<String>>) {
        let payload = SessionOperationEvent {
            operation_id: self.id.clone(),
            operation: "compact".into(),
            phase,
            session_key: self.key.clone(),
            agent_id: self.key.agent_id().to_owned(),
            ts: self.estate.clock.now_ms().unsigned_abs(),
            completed: end.as_ref().map(Option::is_none),
            reason: end.flatten(),
        };
        self.estate.conns.publish(Event::new(Name::SessionOperation, Audience::Sessions, &payload));
    }
}

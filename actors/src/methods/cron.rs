//! Jobs with a schedule: what is asked goes to their actor; records, and what jobs keep for themselves, are read from
//! the store.

use super::{Call, store_refusal};
use crate::connection::ConnectionMsg;
use crate::cron::{Answer, Ask, CronMsg, shown};
use crate::responder::Responder;
use crate::store::{self, CronOp, CronRunsFilter, ScratchRow, StoreError, WriteOp, WriteReply};
use crate::tree::{Ctx, Reply};
use crabtree_protocol::Refusal;
use crabtree_protocol::params::core::Empty;
use crabtree_protocol::params::cron::{
    AddParams, JobParams, ListParams, MAX_SCRATCH, RunMode, RunParams, RunScope, Runs, RunsParams, Scratch,
    ScratchGot, ScratchSet, ScratchSetParams, SortDir, UpdateParams,
};
use crabtree_protocol::value::Text;
use serde_json::{Value, json};

/// Kinds of schedules and payloads that OpenClaw has and this gateway has not: said by name.
const ABSENT: [(&str, &[&str]); 2] = [
    ("schedule", &["on-exit", "stream"]),
    ("payload", &["command", "script", "heartbeat", "skillCollectionReview"]),
];

fn ask(call: Call<'_>, ask: Ask) {
    let responder = call.responder;
    let reply = Reply::new(move |answer: Option<Answer>| {
        // Without an answer the responder is dropped here, and says that it was not answered.
        if let Some(answer) = answer {
            responder.settle(answer);
        }
    });
    // If nobody is there, the reply is dropped with the message.
    let _ = call.wiring.cron.send(CronMsg::Asked(Box::new(ask), reply));
}

/// The job that is meant.
fn id_of(call: Call<'_>, id: Option<Text>, job_id: Option<Text>) -> Option<(String, Call<'_>)> {
    match id.or(job_id) {
        Some(id) => Some((id.into_string(), call)),
        None => {
            let refusal = Refusal::invalid_params(call.method.name(), "must have required property 'id'");
            call.responder.refuse(refusal);
            None
        }
    }
}

fn job_of(call: Call<'_>) -> Option<(String, Call<'_>)> {
    let (params, call) = call.parse::<JobParams>()?;
    id_of(call, params.id, params.job_id)
}

/// Whether it asks for something that is not there.
fn absent(call: &Call<'_>) -> Option<String> {
    let params: Value = serde_json::from_str(call.params?.get()).ok()?;
    let at = |part: &str| params[part]["kind"].as_str().or_else(|| params["patch"][part]["kind"].as_str());
    ABSENT.iter().find_map(|(part, kinds)| {
        let kind = at(part).filter(|kind| kinds.contains(kind))?;
        Some(format!("{part}.kind \"{kind}\" is not there"))
    })
}

pub(super) fn add(call: Call<'_>) {
    if let Some(why) = absent(&call) {
        return call.responder.refuse(Refusal::invalid_params("cron.add", why));
    }
    let Some((params, call)) = call.parse::<AddParams>() else { return };
    ask(call, Ask::Add(Box::new(params)));
}

pub(super) fn update(call: Call<'_>) {
    if let Some(why) = absent(&call) {
        return call.responder.refuse(Refusal::invalid_params("cron.update", why));
    }
    let Some((params, call)) = call.parse::<UpdateParams>() else { return };
    let (patch, expected) = (Box::new(params.patch), params.expected_config_revision.map(String::from));
    let Some((id, call)) = id_of(call, params.id, params.job_id) else { return };
    ask(call, Ask::Update { id, patch, expected });
}

pub(super) fn get(call: Call<'_>) {
    if let Some((id, call)) = job_of(call) {
        ask(call, Ask::Get(id));
    }
}

pub(super) fn remove(call: Call<'_>) {
    if let Some((id, call)) = job_of(call) {
        ask(call, Ask::Remove(id));
    }
}

pub(super) fn run(call: Call<'_>) {
    let Some((params, call)) = call.parse::<RunParams>() else { return };
    let boot = &call.estate().boot.boot_id;
    if params.expected_process_instance_id.as_deref().is_some_and(|expected| *expected != *boot.to_string()) {
        return call.responder.refuse(Refusal::other_process());
    }
    let mode = params.mode.unwrap_or(RunMode::Force);
    if let Some((id, call)) = id_of(call, params.id, params.job_id) {
        ask(call, Ask::Run { id, mode });
    }
}

pub(super) fn list(call: Call<'_>) {
    let Some((params, call)) = call.parse::<ListParams>() else { return };
    ask(call, Ask::List(Box::new(params)));
}

pub(super) fn status(call: Call<'_>) {
    let Some((Empty {}, call)) = call.parse() else { return };
    ask(call, Ask::Status);
}

pub(super) fn runs(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<RunsParams>() else { return };
    let (store, responder) = (call.wiring.store.clone(), call.responder);
    let filter = filter(params);
    ctx.detached(async move {
        let (limit, offset) = (u64::from(filter.limit), u64::from(filter.offset));
        let page = store.read(move |c| store::cron_runs(c, &filter)).await;
        responder.settle(page.map_err(|e| store_refusal(&e)).map(|(rows, total)| {
            let (total, next) = (u64::from(total), offset + rows.len() as u64);
            Runs {
                entries: rows.iter().map(shown::entry).collect(),
                total,
                offset,
                limit,
                has_more: next < total,
                next_offset: (next < total).then_some(next),
            }
        }));
    });
}

fn filter(params: RunsParams) -> CronRunsFilter {
    let all = params.scope == Some(RunScope::All);
    let some = |word: &String| word != "all";
    let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    CronRunsFilter {
        job_id: params.id.or(params.job_id).map(String::from).filter(|_| !all),
        run_id: params.run_id.map(String::from),
        agent_id: params.agent_id.map(String::from),
        statuses: params.statuses.unwrap_or_default().into_iter().chain(params.status).filter(some).collect(),
        delivery_statuses: params
            .delivery_statuses
            .unwrap_or_default()
            .into_iter()
            .chain(params.delivery_status)
            .collect(),
        query: params.query.filter(|words| !words.trim().is_empty()),
        ascending: params.sort_dir == Some(SortDir::Asc),
        limit: number(params.limit.map_or(shown::PAGE, |n| n.get())),
        offset: number(params.offset.map_or(0, |n| n.get())),
    }
}

pub(super) fn scratch_get(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((id, call)) = job_of(call) else { return };
    let (store, responder) = (call.wiring.store.clone(), call.responder);
    ctx.detached(async move {
        let name = id.clone();
        let row = store.read(move |c| store::cron_scratch(c, &name)).await.map_err(|e| store_refusal(&e));
        responder.settle(row.and_then(|row| row.ok_or_else(|| Refusal::no_cron_job(&id))).map(|row| {
            ScratchGot {
                current_revision: row.revision.into(),
                scratch: scratch(row),
                max_bytes: MAX_SCRATCH as u64,
            }
        }));
    });
}

pub(super) fn scratch_set(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<ScratchSetParams>() else { return };
    let content = params.content.as_option().flatten().map(|text| text.to_string());
    let expected = params.expected_revision.map(|n| u32::try_from(n.get()).unwrap_or(u32::MAX));
    let Some((id, call)) = id_of(call, params.id, params.job_id) else { return };
    let (store, responder, at) =
        (call.wiring.store.clone(), call.responder, call.wiring.store.estate.clock.now_ms());
    ctx.detached(async move {
        let op = CronOp::SetScratch { id: id.clone(), content, expected, at };
        let written = store.write(WriteOp::Cron(op)).await;
        settle_scratch(responder, &id, written);
    });
}

fn settle_scratch(responder: Responder, id: &str, written: Result<WriteReply, StoreError>) {
    let blank = ScratchSet { ok: false, current_revision: 0, scratch: None, max_bytes: None, reason: None };
    responder.settle(match written {
        Ok(WriteReply::CronScratch(Ok(row))) => Ok(ScratchSet {
            ok: true,
            current_revision: row.revision.into(),
            scratch: Some(json!(scratch(row))),
            max_bytes: Some(MAX_SCRATCH as u64),
            ..blank
        }),
        Ok(WriteReply::CronScratch(Err(row))) => Ok(ScratchSet {
            current_revision: row.revision.into(),
            reason: Some("revision-conflict".into()),
            ..blank
        }),
        Ok(_) => Err(Refusal::failed("the store answered something else")),
        Err(StoreError::NotFound) => Err(Refusal::no_automation(id)),
        Err(e) => Err(store_refusal(&e)),
    });
}

fn scratch(row: ScratchRow) -> Option<Scratch> {
    let (revision, updated_at_ms) = (row.revision.into(), row.at.max(0).unsigned_abs());
    row.content.map(|content| Scratch { content, revision, updated_at_ms })
}

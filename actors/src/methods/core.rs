//! The gateway itself: health, status, presence, configuration, log.

use super::{ANSWER_LIMIT, Call, store_refusal};
use crate::connection::ConnectionMsg;
use crate::estate::Estate;
use crate::host;
use crate::scheduler::SchedulerMsg;
use crate::store::{self, Counts};
use crate::tree::{Ctx, Reply};
use crabtree_protocol::Refusal;
use crabtree_protocol::params::core::{
    Empty, HealthParams, HeartbeatsSet, LogsTailParams, NoParams, Ok as Done, SetHeartbeatsParams,
    StatusParams, SystemEventParams,
};
use serde_json::{Value, json};

/// Lines and bytes of the log in one answer, unless the client asks for less.
const DEFAULT_LOG_LINES: u64 = 500;
const DEFAULT_LOG_BYTES: u64 = 250_000;

pub(super) fn health(call: Call<'_>) {
    let Some((_, call)) = call.parse::<HealthParams>() else { return };
    let health = call.estate().health.load();
    call.responder.ok_json(health.json.get().as_bytes());
}

pub(super) fn status(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((_, call)) = call.parse::<StatusParams>() else { return };
    let (store, scheduler, responder) =
        (call.wiring.store.clone(), call.wiring.scheduler.clone(), call.responder);
    ctx.detached(async move {
        // While the scheduler is down there is nothing to show of it; the rest is as it is.
        let waiting = scheduler.ask_within(ANSWER_LIMIT, SchedulerMsg::Waiting).await.unwrap_or_default();
        let counts = store.read(store::counts).await;
        responder.settle(
            counts.map_err(|e| store_refusal(&e)).map(|counts| status_of(&store.estate, counts, &waiting)),
        );
    });
}

fn status_of(estate: &Estate, counts: Counts, waiting: &[String]) -> Value {
    let catalog = estate.catalog.load();
    let health = serde_json::from_str::<Value>(estate.health.load().json.get()).unwrap_or_default();
    let config = estate.config.load();
    let by_agent: Vec<Value> = catalog
        .agents
        .iter()
        .map(|a| json!({ "agentId": a.id, "path": "store.sqlite", "count": counts.sessions, "recent": [] }))
        .collect();
    json!({
        "runtimeVersion": estate.boot.version,
        "heartbeat": { "defaultAgentId": catalog.default_agent().id, "agents": heartbeats(estate) },
        "channelSummary": [],
        "queuedSystemEvents": waiting,
        "config": { "path": config.path, "valid": config.issues().is_empty(), "issues": config.issues() },
        "degradedSecretOwners": [],
        "degradedPlugins": [],
        "hostDesktop": { "enabled": false, "state": "disabled" },
        "pid": std::process::id(),
        "taskAudit": { "total": 0, "warnings": 0, "errors": 0, "byCode": {} },
        "tasks": { "total": 0, "active": 0, "terminal": 0, "failures": 0, "byStatus": {}, "byRuntime": {} },
        "sessions": {
            "paths": [],
            "count": counts.sessions,
            "defaults": { "model": catalog.primary, "contextTokens": catalog.context_window(&catalog.primary) },
            "recent": [],
            "byAgent": by_agent,
        },
        "inputs": { "queued": counts.queued, "running": counts.running, "dead": counts.dead },
        "actors": health["actors"],
        "connections": estate.conns.count(),
        "activeRuns": estate.ledgers.count(),
        "uptimeMs": estate.clock.uptime().as_millis() as u64,
    })
}

/// How often agents look after things on their own.
fn heartbeats(estate: &Estate) -> Vec<Value> {
    let config = estate.config.load();
    let shown = |id: &str| {
        let own = config.settings.heartbeat(id).filter(|_| config.settings.cron.enabled);
        let every = own.as_ref().and_then(|own| own.every_ms());
        let word = own
            .and_then(|own| own.every)
            .unwrap_or_else(|| if every.is_some() { "30m" } else { "disabled" }.into());
        json!({ "agentId": id, "enabled": every.is_some(), "every": word, "everyMs": every })
    };
    config.settings.agent_ids().into_iter().map(shown).collect()
}

pub(super) fn system_presence(call: Call<'_>) {
    let Some((NoParams {}, call)) = call.parse() else { return };
    let presence = call.estate().presence.load();
    call.responder.ok_json(presence.json.get().as_bytes());
}

/// The text reaches the agent with its next heartbeat.
pub(super) fn system_event(call: Call<'_>) {
    let Some((params, call)) = call.parse::<SystemEventParams>() else { return };
    later(call, None, params.text.into_string());
}

/// The same of an agent; answered when it is durable.
pub(super) fn later(call: Call<'_>, agent: Option<String>, text: String) {
    let responder = call.responder;
    let done = Reply::new(move |done: Option<Result<(), Refusal>>| {
        // Without an answer the responder is dropped here, and says that it was not answered.
        if let Some(done) = done {
            responder.settle(done.map(|()| Done::TRUE));
        }
    });
    let _ = call.wiring.scheduler.send(SchedulerMsg::Later(agent, text, Some(done)));
}

pub(super) fn set_heartbeats(call: Call<'_>) {
    let wrong = || Refusal::invalid_params("set-heartbeats", "enabled (boolean) required");
    let params = call.params.and_then(|raw| serde_json::from_str::<SetHeartbeatsParams>(raw.get()).ok());
    let Some(SetHeartbeatsParams { enabled }) = params else { return call.responder.refuse(wrong()) };
    let responder = call.responder;
    let done = Reply::new(move |done: Option<Result<(), Refusal>>| {
        if let Some(done) = done {
            responder.settle(done.map(|()| HeartbeatsSet { ok: true, enabled }));
        }
    });
    let _ = call.wiring.scheduler.send(SchedulerMsg::Switch(enabled, done));
}

pub(super) fn system_info(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((Empty {}, call)) = call.parse() else { return };
    let estate = call.estate();
    let mut info = json!({
        "version": estate.boot.version,
        "processInstanceId": estate.boot.boot_id,
        "hostname": estate.boot.host,
        "machineName": estate.boot.host,
        "osLabel": std::env::consts::OS,
        "platform": std::env::consts::OS,
        "arch": std::env::consts::ARCH,
        "pid": std::process::id(),
        "uptimeMs": estate.clock.uptime().as_millis() as u64,
        "cpuCount": std::thread::available_parallelism().map_or(1, usize::from),
        "connections": estate.conns.count(),
        "bufferedBytes": estate.conns.buffered(),
    });
    let responder = call.responder;
    ctx.detached(async move {
        let figures = tokio::task::spawn_blocking(host::read).await.ok().flatten();
        if let (Some(Value::Object(figures)), Value::Object(info)) = (figures, &mut info) {
            info.extend(figures);
        }
        responder.ok(&info);
    });
}

pub(super) fn last_heartbeat(call: Call<'_>) {
    let Some((NoParams {}, call)) = call.parse() else { return };
    let responder = call.responder;
    let answer = Reply::new(move |last: Option<Option<Value>>| {
        if let Some(last) = last {
            responder.ok(&last);
        }
    });
    let _ = call.wiring.scheduler.send(SchedulerMsg::Last(answer));
}

pub(super) fn logs_tail(call: Call<'_>) {
    let Some((params, call)) = call.parse::<LogsTailParams>() else { return };
    let estate = call.estate();
    let limit = params.limit.map_or(DEFAULT_LOG_LINES, |l| l.get()) as usize;
    let bytes = params.max_bytes.map_or(DEFAULT_LOG_BYTES, |b| b.get()) as usize;
    let tail = estate.log_ring.tail(params.cursor.map(|c| c.get()), limit, bytes);
    call.responder.ok(&json!({
        "file": format!("memory:{}", estate.boot.boot_id),
        "cursor": tail.cursor,
        "size": tail.size,
        "lines": tail.lines,
        "truncated": tail.truncated,
        "reset": tail.reset,
    }));
}

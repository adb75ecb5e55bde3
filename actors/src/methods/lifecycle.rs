//! `gateway.restart.*` and `gateway.suspend.*`.

use super::Call;
use crate::connection::ConnectionMsg;
use crate::estate::Estate;
use crate::suspension;
use crate::tree::Ctx;
use crate::work::Work;
use crabtree_protocol::params::core::Empty;
use crabtree_protocol::params::lifecycle::{
    Preflight, Restart, RestartParams, RestartRequested, SuspendPrepareParams, SuspensionParams,
};
use crabtree_protocol::{Method, Refusal};

/// Characters of a reason that an answer repeats.
const MAX_REASON: usize = 200;

/// Whether a method is answered while the gateway holds still.
pub(super) fn is_of_suspension(method: Method) -> bool {
    use Method::{GatewaySuspendPrepare, GatewaySuspendResume, GatewaySuspendStatus};
    matches!(method, GatewaySuspendPrepare | GatewaySuspendStatus | GatewaySuspendResume)
}

pub(super) fn preflight(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((Empty {}, call)) = call.parse() else { return };
    let (store, responder) = (call.wiring.store.clone(), call.responder);
    ctx.detached(async move { responder.ok(&Work::of(&store, 1).await.preflight()) });
}

pub(super) fn request(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<RestartParams>() else { return };
    let (store, responder) = (call.wiring.store.clone(), call.responder);
    ctx.detached(async move {
        let preflight = Work::of(&store, 1).await.preflight();
        responder.settle(requested(&store.estate, &params, preflight));
    });
}

fn requested(
    estate: &Estate,
    params: &RestartParams,
    preflight: Preflight,
) -> Result<RestartRequested, Refusal> {
    let (pid, port) = (std::process::id(), estate.config.load().settings.gateway.port);
    if params.target.as_ref().is_some_and(|target| target.pid != pid || target.port != port) {
        return Err(Refusal::invalid_request("target gateway no longer owns the active lock"));
    }
    if !estate.restarts.are_attended() {
        let why = "this gateway cannot start itself anew; restart the program it is a part of";
        return Err(Refusal::failed(why));
    }
    let coalesced = estate.restarts.ask(params.skip_deferral);
    let status = match preflight.safe || params.skip_deferral {
        _ if coalesced => "coalesced",
        true => "scheduled",
        false => "deferred",
    };
    let reason = params.reason.as_deref().map(str::trim).filter(|reason| !reason.is_empty());
    let reason: String = reason.unwrap_or("gateway.restart.safe").chars().take(MAX_REASON).collect();
    tracing::info!(target: "crabtree::gateway", status, "a restart was asked for");
    let restart = Restart {
        ok: true,
        pid,
        signal: "SIGUSR2".into(),
        reason,
        mode: "emit".into(),
        cooldown_ms_applied: 0,
        delay_ms: 0,
        coalesced,
        emit_hooks_queued: false,
    };
    Ok(RestartRequested { ok: true, status: status.into(), preflight, restart })
}

pub(super) fn prepare(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<SuspendPrepareParams>() else { return };
    if params.request_id.trim().is_empty() {
        let why = "invalid gateway.suspend.prepare params";
        return call.responder.refuse(Refusal::invalid_request(why));
    }
    let (store, responder) = (call.wiring.store.clone(), call.responder);
    ctx.detached(async move {
        let work = Work::of(&store, 1).await;
        responder.settle(suspension::prepare(&store.estate, work, &params));
    });
}

pub(super) fn status(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<SuspensionParams>() else { return };
    let (store, responder) = (call.wiring.store.clone(), call.responder);
    ctx.detached(async move {
        let work = Work::of(&store, 1).await;
        responder.settle(suspension::status(&store.estate, work, params.suspension_id.trim()));
    });
}

pub(super) fn resume(call: Call<'_>) {
    let Some((params, call)) = call.parse::<SuspensionParams>() else { return };
    let resumed = suspension::resume(call.estate(), params.suspension_id.trim());
    call.responder.settle(resumed);
}

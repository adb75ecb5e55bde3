//! A gateway that holds still, so that its host may freeze it or take a snapshot: a lease of two minutes, which the host
//! renews or ends. Part of the Estate. Meanwhile clients may connect and ask for nothing but the lease; nothing begins by
//! itself. Work under way is in its way (`busy`), or is waited for with the doors closed (`drain`).

use crate::estate::Estate;
use crate::event::{Audience, Event};
use crate::work::Work;
use crabtree_protocol::Refusal;
use crabtree_protocol::params::lifecycle::{
    SuspendPrepareParams, SuspendPrepared, SuspendResumed, SuspendStatus, TerminalPolicy,
};
use parking_lot::Mutex;
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// How long a lease holds; as long as OpenClaw's.
pub const LEASE: Duration = Duration::from_secs(120);
/// When a host should ask again.
const RETRY_MS: u64 = 20_000;

/// Whether the gateway takes work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// It does.
    #[default]
    Accepting,
    /// It ends what is under way.
    Draining,
    /// It holds still.
    Prepared,
}

impl Phase {
    /// The word for clients.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accepting => "accepting",
            Self::Draining => "draining",
            Self::Prepared => "prepared",
        }
    }
}

/// See the module.
#[derive(Default)]
pub struct Suspension(Mutex<Option<Held>>);

struct Held {
    request_id: String,
    policy: TerminalPolicy,
    drain: bool,
    id: String,
    phase: Phase,
    /// By the clock that people read, ms,
    expires_at: i64,
    /// and by the one that nobody sets.
    deadline: Instant,
}

impl Held {
    fn renew(&mut self, now: i64) {
        self.expires_at = now + LEASE.as_millis() as i64;
        self.deadline = Instant::now() + LEASE;
    }

    fn is_over(&self, now: i64) -> bool {
        now >= self.expires_at || Instant::now() >= self.deadline
    }
}

impl Suspension {
    /// Whether the gateway takes work.
    pub fn phase(&self) -> Phase {
        self.0.lock().as_ref().map_or(Phase::Accepting, |held| held.phase)
    }
}

/// Ends a lease whose time is over, and sees whether one that waits for work under way has it behind it.
pub fn look(estate: &Estate) {
    let now = estate.clock.now_ms();
    let mut lease = estate.suspension.0.lock();
    let before = lease.as_ref().map_or(Phase::Accepting, |held| held.phase);
    if lease.as_ref().is_some_and(|held| held.is_over(now)) {
        tracing::info!(target: "crabtree::gateway", "the suspension was not renewed: taking work again");
        *lease = None;
    }
    let after = lease.as_ref().map_or(Phase::Accepting, |held| held.phase);
    drop(lease);
    tell(estate, before, after);
}

/// Takes a lease, or renews the one of this operation.
pub fn prepare(
    estate: &Estate,
    work: Work,
    params: &SuspendPrepareParams,
) -> Result<SuspendPrepared, Refusal> {
    look(estate);
    let now = estate.clock.now_ms();
    let busy = |reason: &str| SuspendPrepared {
        status: "busy".into(),
        active_count: work.total(),
        blockers: work.blockers(),
        suspension_id: None,
        expires_at_ms: None,
        reason: Some(reason.into()),
        retry_after_ms: Some(RETRY_MS),
    };
    if estate.is_draining() {
        return Ok(busy("gateway-draining"));
    }
    let request_id = params.request_id.trim();
    let mut lease = estate.suspension.0.lock();
    let before = lease.as_ref().map_or(Phase::Accepting, |held| held.phase);
    match lease.as_mut() {
        Some(held)
            if held.request_id != request_id
                || held.policy != params.terminal_policy
                || held.drain != params.drain =>
        {
            return Err(conflict("another gateway suspension is already prepared", held, now));
        }
        Some(held) => held.renew(now),
        None if work.total() > 0 && !params.drain => return Ok(busy("active-work")),
        None => {
            let mut held = Held {
                request_id: request_id.to_owned(),
                policy: params.terminal_policy,
                drain: params.drain,
                id: Uuid::new_v4().to_string(),
                phase: Phase::Draining,
                expires_at: now,
                deadline: Instant::now(),
            };
            held.renew(now);
            *lease = Some(held);
        }
    }
    let held = lease.as_mut().expect("there was a lease, or it was just taken");
    held.phase = reached(work);
    let (id, expires_at, after) = (held.id.clone(), held.expires_at, held.phase);
    drop(lease);
    tell(estate, before, after);
    Ok(SuspendPrepared {
        status: if after == Phase::Prepared { "ready" } else { "draining" }.into(),
        active_count: work.total(),
        blockers: work.blockers(),
        suspension_id: Some(id),
        expires_at_ms: Some(expires_at),
        reason: None,
        retry_after_ms: (after == Phase::Draining).then_some(RETRY_MS),
    })
}

/// How it is with a lease.
pub fn status(estate: &Estate, work: Work, id: &str) -> Result<SuspendStatus, Refusal> {
    look(estate);
    let mut lease = estate.suspension.0.lock();
    let Some(held) = lease.as_mut() else {
        return Ok(SuspendStatus {
            status: "running".into(),
            expires_at_ms: None,
            active_count: None,
            blockers: None,
            retry_after_ms: None,
        });
    };
    if held.id != id {
        return Err(conflict("a different gateway suspension is prepared", held, estate.clock.now_ms()));
    }
    let (before, after, expires_at) = (held.phase, reached(work), held.expires_at);
    held.phase = after;
    drop(lease);
    tell(estate, before, after);
    let draining = after == Phase::Draining;
    Ok(SuspendStatus {
        status: if draining { "draining" } else { "ready" }.into(),
        expires_at_ms: Some(expires_at),
        active_count: draining.then(|| work.total()),
        blockers: draining.then(|| work.blockers()),
        retry_after_ms: draining.then_some(RETRY_MS),
    })
}

/// Ends a lease. One that has ended is none to end.
pub fn resume(estate: &Estate, id: &str) -> Result<SuspendResumed, Refusal> {
    look(estate);
    let mut lease = estate.suspension.0.lock();
    let resumed = match lease.as_ref() {
        Some(held) if held.id != id => {
            return Err(Refusal::invalid_request("gateway suspension id does not match"));
        }
        held => held.map(|held| held.phase),
    };
    *lease = None;
    drop(lease);
    if let Some(before) = resumed {
        tell(estate, before, Phase::Accepting);
    }
    Ok(SuspendResumed { ok: true, status: "running".into(), resumed: resumed.is_some() })
}

fn reached(work: Work) -> Phase {
    if work.total() == 0 { Phase::Prepared } else { Phase::Draining }
}

fn conflict(message: &str, held: &Held, now: i64) -> Refusal {
    let left = u64::try_from(held.expires_at - now).unwrap_or(0);
    Refusal::failed(message)
        .with_retry(left)
        .with_details(json!({ "reason": "gateway-suspension-conflict", "expiresAtMs": held.expires_at }))
}

fn tell(estate: &Estate, before: Phase, after: Phase) {
    if before == after {
        return;
    }
    let phase = after.name();
    tracing::info!(target: "crabtree::gateway", phase, "suspension");
    estate.stability.note("gateway.suspension", json!({ "phase": phase }), estate.clock.now_ms());
    let news = json!({ "phase": phase });
    let name = crabtree_protocol::Event::GatewaySuspension;
    estate.conns.publish(Event::new(name, Audience::Everyone, &news));
}

//! `diagnostics.*`: what runs side by side, and what has happened lately.

use super::Call;
use super::empty::iso;
use crate::stability::{CAPACITY, Wanted};
use crabtree_protocol::params::core::Empty;
use crabtree_protocol::params::diagnostics::{Lane, Lanes, StabilityParams};

/// Turns have one lane, whatever began them.
pub(super) fn lanes(call: Call<'_>) {
    let Some((Empty {}, call)) = call.parse() else { return };
    let estate = call.estate();
    let main = Lane {
        lane: "main".into(),
        // A turn that runs its tools needs no lane: it waits for nobody.
        queued_count: estate.meters.lanes_waiting.read(),
        active_count: estate.lanes.taken() as u64,
        max_concurrent: estate.lanes.most() as u64,
        draining: estate.is_draining(),
        generation: 0,
        blocked_by: None,
    };
    call.responder.ok(&Lanes { ts: estate.clock.now_ms(), lanes: vec![main] });
}

pub(super) fn stability(call: Call<'_>) {
    let Some((params, call)) = call.parse::<StabilityParams>() else { return };
    let wanted = Wanted {
        limit: params.limit.map_or(CAPACITY, |limit| limit.get() as usize),
        kind: params.kind.map(|kind| kind.into_string()),
        since: params.since_seq.map(|seq| seq.get()),
    };
    let estate = call.estate();
    call.responder.ok(&estate.stability.shown(&wanted, &iso(estate.clock.now_ms())));
}

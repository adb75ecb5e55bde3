//! What stays resident of a minute's load: who comes and goes, calls, turns and events to many, one after the other, and
//! then rest.

use crate::fanout::Fanout;
use crate::latency::Report;
use crate::lives::Handshakes;
use crate::measured::IDLE;
use crate::model::Script;
use crate::rpc::Rpc;
use crate::target::{Kind, Setup, Target, Which};
use crate::turns::Turns;
use anyhow::Result;
use clap::Args;

/// Kinds of load, each for its share of the time.
const KINDS: u64 = 5;

#[derive(Args, Clone)]
pub struct Worn {
    /// Seconds of load
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(KINDS..))]
    pub load: u64,
}

impl Worn {
    pub async fn measure(&self, which: &Which) -> Result<Report> {
        which.only(&[Kind::Crabtree, Kind::OpenClaw])?;
        let script = Script { tokens: 20, token_ms: 20 };
        let mut target = Target::of(which, Setup { model: Some(script), ..Setup::default() }).await?;
        let (running, share) = (target.running(), self.load / KINDS);
        Handshakes { workers: 16, idle: 0 }.measure(&running, share).await?;
        Rpc::of("health", None, None).measure(&running, share).await?;
        Rpc::of("sessions.list", None, Some(100)).measure(&running, share).await?;
        Turns { script, sessions: 8, turns: 20, rate: None }.measure(&running, share).await?;
        Fanout { watchers: 200 }.measure(&running, share).await?;
        let loaded = target.resident();
        tokio::time::sleep(IDLE).await;
        let rested = target.resident();
        target.stop().await?;
        Ok(Report::new("worn").with("seconds", self.load).with("rssLoadedMb", loaded).with("rssMb", rested))
    }
}

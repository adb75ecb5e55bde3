//! `crabtree trial`: starts a gateway on a copy of a state, to see whether this program can, and ends it again. Nothing
//! of the copy's work is done: no channel connects, no program of it is started, no turn goes on, nobody is let in.

use std::{net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};

use crabtree_actors::config::Reload;
use crabtree_actors::estate::Brought;
use crabtree_actors::process::Guard;
use crabtree_actors::store::SCHEMA_VERSION;
use serde_json::json;

use super::{Failure, Global, RunArgs, print_json};
use crate::config::{self, Environment};
use crate::{Gateway, Options, Start};

/// How long it may take to start.
const LIMIT: Duration = Duration::from_secs(30);

pub(super) async fn run(global: &Global) -> Result<ExitCode, Failure> {
    let start = Start { trial: true, ..Start::default() };
    let begun = start.begun;
    let sources = global.sources(Environment::of_process(), &RunArgs::default())?;
    let (device_key, _) = config::device_key(&sources.state_dir)?;
    let mut loaded = config::load_to_start(&sources)?;
    let (token, _) = config::gateway_secret(&loaded, &sources.env, &Guard::this_program())?;
    // What it would listen on has to be sound; the gateway itself is there.
    config::listen_addresses(&loaded, &token)?;
    loaded.settings.channels = Default::default();
    loaded.settings.mcp = Default::default();
    // Nobody is to hear of a gateway that is none.
    loaded.settings.gateway.tailscale = Default::default();
    loaded.settings.discovery = Default::default();
    let read = loaded.clone();
    let reload: Reload = Arc::new(move |_| Ok(read.clone()));
    let options = Options {
        loaded,
        reload,
        token,
        device_key,
        log_ring: Arc::default(),
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        brought: Brought::default(),
        guard: Guard::this_program(),
        start,
    };
    let gateway = Gateway::start(options).await.map_err(|error| Failure::failed(format!("{error:#}")))?;
    let ready = tokio::select! {
        ready = tokio::time::timeout(LIMIT, gateway.ready()) => ready.is_ok(),
        _ = gateway.exited() => false,
    };
    let ready_ms = begun.elapsed().as_millis() as u64;
    gateway.shutdown("gateway stopping").await;
    if !ready {
        return Err(Failure::failed(format!("it did not serve within {} s", LIMIT.as_secs())));
    }
    print_json(&json!({
        "ok": true, "program": "crabtree", "version": env!("CARGO_PKG_VERSION"), "schema": SCHEMA_VERSION,
        "readyMs": ready_ms,
    }));
    Ok(ExitCode::SUCCESS)
}

//! The `crabtree` program: everything that belongs to the process as a whole. The gateway itself is a library.

use std::{net::SocketAddr, process::ExitCode, sync::Arc};

use crabtree::{
    Gateway, Options,
    cli::{self, Command, Failure, Global, RunArgs},
    config::{self, Environment},
    guard, logging,
    owner::Owned,
};
use crabtree_actors::{estate::Brought, log_ring::LogRing, process::Guard, settings::AuthSecret};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

/// How it is set up is in `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    // There is one for each child process: it stays as small as it can.
    if arguments.next().is_some_and(|first| first == "guard") {
        return guard::run(arguments);
    }
    let cli = match cli::parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::failed(format!("no runtime: {error}")).report(cli.global.json),
    };
    let result = runtime.block_on(async {
        match cli.command.unwrap_or_else(|| Command::Run(RunArgs::default())) {
            Command::Run(arguments) => run(&cli.global, &arguments).await,
            command => cli::execute(&cli.global, command).await,
        }
    });
    // A thread that hangs must not keep the process.
    runtime.shutdown_background();
    result.unwrap_or_else(|failure| failure.report(cli.global.json))
}

/// Runs the gateway until a signal stops it or its tree ends.
async fn run(global: &Global, arguments: &RunArgs) -> Result<ExitCode, Failure> {
    let no_signals = |error: std::io::Error| Failure::failed(format!("no signals: {error}"));
    let mut stop = StopSignals::new().map_err(no_signals)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(no_signals)?;
    let (gateway, secret) = start(global, arguments).await?;
    announce(gateway.local_addr(), &secret);
    loop {
        tokio::select! {
            code = gateway.exited() => return Ok(ExitCode::from(u8::try_from(code).unwrap_or(1))),
            () = stop.received() => break,
            _ = hangup.recv() => {
                info!(target: "crabtree::gateway", "reading the configuration again");
                gateway.reload();
            }
        }
    }
    info!(target: "crabtree::gateway", "Shutting down...");
    tokio::select! {
        () = gateway.shutdown("gateway stopping") => {
            info!(target: "crabtree::gateway", "Shutdown complete");
            Ok(ExitCode::SUCCESS)
        }
        () = stop.received() => {
            warn!(target: "crabtree::gateway", "stopped at once by a second signal");
            Ok(ExitCode::FAILURE)
        }
    }
}

async fn start(global: &Global, arguments: &RunArgs) -> Result<(Gateway, AuthSecret), Failure> {
    let sources = global.sources(Environment::of_process(), arguments)?;
    let mut warnings = config::prepare_state_dir(&sources.state_dir)?;
    let (device_key, tightened) = config::device_key(&sources.state_dir)?;
    warnings.extend(tightened);
    let loaded = config::load_to_start(&sources)?;
    let (secret, tightened) = config::gateway_secret(&loaded, &sources.env)?;
    warnings.extend(tightened);
    let listen = config::listen_addresses(&loaded, &secret)?;

    let log_ring = Arc::new(LogRing::default());
    let (filter, unread) = logging::filter(loaded.settings.logging.level, &sources.env);
    warnings.extend(unread);
    logging::install(filter, arguments.json_logs, log_ring.clone())
        .map_err(|error| Failure::failed(format!("no log: {error}")))?;
    for warning in warnings.iter().chain(&loaded.warnings) {
        warn!(target: "crabtree::config", "{warning}");
    }

    let reload = sources.reader();
    let options = Options {
        loaded,
        reload,
        token: secret.clone(),
        device_key,
        log_ring,
        listen,
        brought: Brought::default(),
        guard: Guard::this_program(),
    };
    let gateway = Gateway::start(options).await.map_err(|error| {
        if error.is::<Owned>() {
            return Failure::config(error.to_string())
                .or_next("stop it, or give this one a state directory of its own with --state-dir");
        }
        Failure::failed(format!("the gateway cannot start: {error:#}"))
            .or_next("stop what holds the address, or choose another --port")
    })?;
    Ok((gateway, secret))
}

/// Says where the gateway is and how to reach it.
fn announce(address: SocketAddr, secret: &AuthSecret) {
    info!(target: "crabtree::gateway", "Gateway listening on ws://{address}");
    let needs = match secret {
        AuthSecret::Token(_) => "the token that `crabtree token` prints",
        AuthSecret::Password(_) => "the configured password",
        AuthSecret::TrustedProxy(_) => "what the trusted proxy says of them",
        AuthSecret::None => "no token",
    };
    info!(
        target: "crabtree::gateway",
        "clients connect there with {needs}; try: crabtree agent -m hello --url ws://{address}"
    );
}

/// SIGTERM and SIGINT.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

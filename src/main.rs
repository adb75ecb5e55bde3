//! The `crabtree` program: everything that belongs to the process as a whole. The gateway itself is a library.

use std::{
    io,
    net::TcpListener,
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use crabtree::{
    Gateway, Options, Start,
    cli::{self, Command, Failure, Global, RunArgs},
    config::{self, Environment, Sources},
    exchange::{self, Exchange},
    guard,
    handover::{self, Arrival, Program},
    logging::{self, Log},
    owner::Owned,
    service::notify::Told,
    signals::{Early, Signals},
};
use crabtree_actors::settings::{AuthSecret, ConsoleStyle, LoggingSettings};
use crabtree_actors::{estate::Brought, log_ring::LogRing, process::Guard};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{error, info, warn};

/// How often is looked whether the levels of the log have changed.
const LOOK_AT_LEVELS: Duration = Duration::from_secs(1);
/// How long a gateway that has not come to serve may take to end, before the program from before takes its place.
const BACK_BUDGET: Duration = Duration::from_secs(2);

/// How it is set up is in `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let begun = Instant::now();
    let mut arguments = std::env::args_os().skip(1);
    // There is one for each child process: it stays as small as it can.
    if arguments.next().is_some_and(|first| first == "guard") {
        return guard::run(arguments);
    }
    let cli = match cli::parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let command = cli.command.unwrap_or_else(|| Command::Run(RunArgs::default()));
    // Before there are other threads: the environment is changed, and signals wait for who listens to them.
    let process = match &command {
        Command::Run(_) => Process::begin(begun).map(Some),
        _ => Ok(None),
    };
    let process = match process {
        Ok(process) => process,
        Err(error) => return Failure::failed(format!("no signals: {error}")).report(cli.global.json),
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::failed(format!("no runtime: {error}")).report(cli.global.json),
    };
    let result = runtime.block_on(async {
        match (command, process) {
            (Command::Run(arguments), Some(process)) => run(&cli.global, &arguments, process).await,
            (command, _) => cli::execute(&cli.global, command).await,
        }
    });
    // A thread that hangs must not keep the process.
    runtime.shutdown_background();
    result.unwrap_or_else(|failure| failure.report(cli.global.json))
}

/// What a gateway's process is, whatever program runs in it.
struct Process {
    begun: Instant,
    early: Early,
    program: Program,
    /// Sockets for the next start, in this program or another.
    doors: Vec<TcpListener>,
    /// When clients were told that the last gateway goes, ms since 1970.
    told_at: Option<i64>,
    /// The log, once it is set up.
    log: Option<(Log, Arc<LogRing>)>,
}

impl Process {
    fn begin(begun: Instant) -> io::Result<Self> {
        let (early, program) = (Early::listen()?, Program::this()?);
        raise_open_files();
        let Arrival { doors, told_at } = Arrival::take();
        Ok(Self { begun, early, program, doors, told_at, log: None })
    }

    fn flush(&self) {
        self.log.iter().for_each(|(log, _)| log.flush());
    }

    /// Goes on as another program. Returns if that fails.
    fn go_on_as(&self, program: &Program, doors: &[TcpListener], told_at: i64) -> anyhow::Error {
        self.flush();
        handover::go_on_as(program, doors, told_at)
    }
}

/// Files that may be open, as far as nobody has said otherwise: each client is one.
const OPEN_FILES: u64 = 65_536;

/// A shell lets a program have 1,024 open files by itself, and more if it asks.
fn raise_open_files() {
    let limits = getrlimit(Resource::Nofile);
    let wanted = limits.maximum.map_or(OPEN_FILES, |most| most.min(OPEN_FILES));
    if limits.current.is_some_and(|current| current < wanted) {
        // What cannot be raised stays as it is.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limits });
    }
}

/// How the serving came to an end.
enum End {
    /// The process ends.
    Exit(ExitCode),
    /// Another program goes on with these sockets; clients were told then.
    HandOver(Vec<TcpListener>, i64),
    /// An upgrade has not come to serve.
    Back(String),
}

/// Runs the gateway until a signal stops it or its tree ends; it may make way for another program.
async fn run(global: &Global, arguments: &RunArgs, mut process: Process) -> Result<ExitCode, Failure> {
    let no_signals = |error: io::Error| Failure::failed(format!("no signals: {error}"));
    let mut signals = Signals::new(&process.early).map_err(no_signals)?;
    let state_dir = global.sources(Environment::of_process(), arguments)?.state_dir;
    loop {
        // Those of a start that fails go with it.
        let spare: Vec<TcpListener> = process.doors.iter().filter_map(|door| door.try_clone().ok()).collect();
        let (gateway, secret) = match start(global, arguments, &mut process).await {
            Ok(started) => started,
            Err(failure) => {
                return Err(back(&process, &state_dir, &failure.told(), &spare).unwrap_or(failure));
            }
        };
        announce(&gateway, &secret);
        let told = Told::begin(&gateway);
        let ended = serve(&gateway, &told, global, arguments, &process, &mut signals).await;
        match ended? {
            End::Exit(code) => {
                process.flush();
                return Ok(code);
            }
            End::Back(why) => {
                drop(gateway);
                let failed = || Failure::failed(why.clone());
                return Err(back(&process, &state_dir, &why, &spare).unwrap_or_else(failed));
            }
            End::HandOver(doors, told_at) => {
                let error = process.go_on_as(&process.program, &doors, told_at);
                error!(target: "crabtree::gateway", "this program goes on: {error:#}");
                if let Err(error) = exchange::go_back(&state_dir, &format!("{error:#}")) {
                    error!(target: "crabtree::gateway", "the program's file is not what runs: {error:#}");
                }
                (process.doors, process.told_at, process.begun) = (doors, Some(told_at), Instant::now());
            }
        }
    }
}

/// Goes back to the program before this one, if this one is new here and has not served. Returns only if that fails.
fn back(process: &Process, state_dir: &Path, why: &str, doors: &[TcpListener]) -> Option<Failure> {
    let path = match exchange::go_back(state_dir, why) {
        Ok(path) => path?,
        Err(error) => return Some(Failure::failed(format!("{why}; and there is no way back: {error:#}"))),
    };
    error!(target: "crabtree::gateway", "going back to the program before this one: {why}");
    let program = Program { path, arguments: process.program.arguments.clone() };
    let error = process.go_on_as(&program, doors, process.told_at.unwrap_or_else(handover::now_ms));
    Some(Failure::failed(format!("{why}; and there is no way back: {error:#}")))
}

/// Until the end, which is in order or not.
async fn serve(
    gateway: &Gateway,
    told: &Told,
    global: &Global,
    arguments: &RunArgs,
    process: &Process,
    signals: &mut Signals,
) -> Result<End, Failure> {
    let mut look = tokio::time::interval(LOOK_AT_LEVELS);
    let mut logging = gateway.logging();
    let mut attendant = gateway.attendant();
    let state_dir = gateway.state_dir();
    // Only a program that is new here, and may have to go.
    let limit = Exchange::pending(&state_dir).map(|exchange| Duration::from_millis(exchange.within_ms));
    let too_late = tokio::time::sleep(limit.unwrap_or_default());
    tokio::pin!(too_late);
    let mut expected = None;
    loop {
        tokio::select! {
            code = gateway.exited() => {
                return Ok(match limit.is_some() && expected.is_none() {
                    true => End::Back(format!("the tree was lost before it served (exit code {code})")),
                    false => End::Exit(ExitCode::from(u8::try_from(code).unwrap_or(1))),
                });
            }
            () = gateway.ready(), if expected.is_none() => {
                expected = Some(served(process, &state_dir));
            }
            () = &mut too_late, if limit.is_some() && expected.is_none() => {
                let why = "it did not serve in time".to_owned();
                // It has served nobody; what does not end goes with the program.
                let _ = tokio::time::timeout(BACK_BUDGET, gateway.shutdown("gateway restarting")).await;
                return Ok(End::Back(why));
            }
            () = signals.stop.received() => break,
            () = signals.hand_over.received() => {
                if let Some(end) = hand_over(gateway, global, arguments, process, expected, signals).await? {
                    return Ok(end);
                }
            }
            () = attendant.due() => {
                if let Some(end) = hand_over(gateway, global, arguments, process, expected, signals).await? {
                    return Ok(end);
                }
            }
            _ = look.tick() => {
                let wanted = gateway.logging();
                if wanted != logging {
                    logging = wanted;
                    let warnings = process.log.iter().flat_map(|(log, _)| log.change(&logging));
                    warnings.for_each(|warning| warn!(target: "crabtree::config", "{warning}"));
                }
            }
            () = signals.reload.received() => {
                info!(target: "crabtree::gateway", "reading the configuration again");
                told.reloading();
                gateway.reload();
            }
        }
    }
    info!(target: "crabtree::gateway", "Shutting down...");
    told.stopping().await;
    tokio::select! {
        _ = gateway.shutdown("gateway stopping") => {
            info!(target: "crabtree::gateway", "Shutdown complete");
            Ok(End::Exit(ExitCode::SUCCESS))
        }
        () = signals.stop.received() => {
            warn!(target: "crabtree::gateway", "stopped at once by a second signal");
            Ok(End::Exit(ExitCode::FAILURE))
        }
    }
}

/// Clients are served. Returns how long they will have to wait at the next restart, as far as this one tells.
fn served(process: &Process, state_dir: &Path) -> Duration {
    let gap_ms = process.told_at.map(|told_at| handover::now_ms() - told_at);
    if let Some(gap_ms) = gap_ms {
        info!(target: "crabtree::gateway", gap_ms, "handed over");
    }
    exchange::served(state_dir, gap_ms);
    let gap = gap_ms.and_then(|gap| u64::try_from(gap).ok()).map(Duration::from_millis);
    gap.unwrap_or_else(|| process.begun.elapsed())
}

/// Makes way for the program that lies where this one did. None, if the next one could not start: this one goes on.
async fn hand_over(
    gateway: &Gateway,
    global: &Global,
    arguments: &RunArgs,
    process: &Process,
    expected: Option<Duration>,
    signals: &mut Signals,
) -> Result<Option<End>, Failure> {
    let doors = match next_doors(gateway, global, arguments, process).await {
        Ok(doors) => doors,
        Err(failure) => {
            error!(target: "crabtree::gateway", "not started anew, for it could not start: {}", failure.told());
            gateway.give_up_restart();
            return Ok(None);
        }
    };
    info!(target: "crabtree::gateway", "Shutting down... to start anew");
    let give_way = gateway.give_way(expected.unwrap_or_default());
    tokio::pin!(give_way);
    tokio::select! {
        told_at = &mut give_way => {
            handover::bury().await;
            exchange::handed(&gateway.state_dir());
            info!(target: "crabtree::gateway", "Shutdown complete");
            Ok(Some(End::HandOver(doors, told_at)))
        }
        () = signals.stop.received() => {
            // Who stops it now wants no next one.
            tokio::select! {
                _ = &mut give_way => Ok(Some(End::Exit(ExitCode::SUCCESS))),
                () = signals.stop.received() => Ok(Some(End::Exit(ExitCode::FAILURE))),
            }
        }
    }
}

/// The sockets for the next start, with the configuration as it is then. What would not start is found here.
async fn next_doors(
    gateway: &Gateway,
    global: &Global,
    arguments: &RunArgs,
    process: &Process,
) -> Result<Vec<TcpListener>, Failure> {
    handover::runnable(&process.program.path).map_err(|error| Failure::failed(format!("{error:#}")))?;
    let doors = gateway.doors().map_err(|error| Failure::failed(format!("no file descriptors: {error}")))?;
    let sources = global.sources(Environment::of_process(), arguments)?;
    let find = move || {
        let loaded = config::load_to_start(&sources)?;
        let (secret, _) = config::gateway_secret(&loaded, &sources.env, &Guard::this_program())?;
        let listen = config::listen_addresses(&loaded, &secret)?;
        crabtree::bound(&listen, doors).map_err(|error| Failure::failed(format!("{error:#}")))
    };
    let found = tokio::task::spawn_blocking(find).await;
    found.unwrap_or_else(|error| Err(Failure::failed(error.to_string())))
}

async fn start(
    global: &Global,
    arguments: &RunArgs,
    process: &mut Process,
) -> Result<(Gateway, AuthSecret), Failure> {
    let sources = global.sources(Environment::of_process(), arguments)?;
    let mut warnings = config::prepare_state_dir(&sources.state_dir)?;
    let (device_key, tightened) = config::device_key(&sources.state_dir)?;
    warnings.extend(tightened);
    let loaded = config::load_to_start(&sources)?;
    let (secret, tightened) = config::gateway_secret(&loaded, &sources.env, &Guard::this_program())?;
    warnings.extend(tightened);
    let listen = config::listen_addresses(&loaded, &secret)?;
    let log_ring = process.set_up_log(&loaded.settings.logging, arguments, &sources, &mut warnings)?;
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
        start: Start { begun: process.begun, inherited: std::mem::take(&mut process.doors), trial: false },
    };
    let gateway = Gateway::start(options).await.map_err(cannot_start)?;
    Ok((gateway, secret))
}

impl Process {
    /// Sets the log up, or has the one there is log what is wanted now.
    fn set_up_log(
        &mut self,
        settings: &LoggingSettings,
        arguments: &RunArgs,
        sources: &Sources,
        warnings: &mut Vec<String>,
    ) -> Result<Arc<LogRing>, Failure> {
        if let Some((log, ring)) = &self.log {
            warnings.extend(log.change(settings));
            return Ok(ring.clone());
        }
        let ring = Arc::new(LogRing::default());
        let mut wanted = settings.clone();
        if arguments.json_logs {
            wanted.console_style = Some(ConsoleStyle::Json);
        }
        let (log, unread) = logging::install(&wanted, &sources.state_dir, &sources.env, ring.clone())
            .map_err(|error| Failure::failed(format!("no log: {error}")))?;
        warnings.extend(unread);
        self.log = Some((log, ring.clone()));
        Ok(ring)
    }
}

fn cannot_start(error: anyhow::Error) -> Failure {
    if error.is::<Owned>() {
        return Failure::config(error.to_string())
            .or_next("stop it, or give this one a state directory of its own with --state-dir");
    }
    if let Some(invalid) = error.downcast_ref::<config::ConfigError>() {
        return invalid.clone().into();
    }
    Failure::failed(format!("the gateway cannot start: {error:#}"))
        .or_next("stop what holds the address, or choose another --port")
}

/// Says where the gateway is and how to reach it.
fn announce(gateway: &Gateway, secret: &AuthSecret) {
    let url = gateway.url();
    info!(target: "crabtree::gateway", "Gateway listening on {url}");
    if let Some(certificate) = gateway.certificate() {
        info!(target: "crabtree::tls", "its certificate has the SHA-256 fingerprint {}", certificate.fingerprint);
    }
    let needs = match secret {
        AuthSecret::Token(_) => "the token that `crabtree token` prints",
        AuthSecret::Password(_) => "the configured password",
        AuthSecret::TrustedProxy(_) => "what the trusted proxy says of them",
        AuthSecret::None => "no token",
    };
    info!(
        target: "crabtree::gateway",
        "clients connect there with {needs}; try: crabtree agent -m hello --url {url}"
    );
}

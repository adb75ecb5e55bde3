//! The command line: what `crabtree` understands, and the commands that talk to a running gateway.

mod acp;
mod agent;
mod audit;
mod backup;
mod canvas;
mod channels;
mod chaos;
mod client;
mod cron;
mod devices;
mod doctor;
mod failure;
mod healthcheck;
mod import;
mod logs;
mod migration;
mod node;
mod prompt;
mod report;
mod secrets;
mod service;
mod settings;
mod shown;
mod skills;
mod table;
mod target;
mod tls;
mod tree;
mod trial;
mod upgrade;
mod watch;

use std::{io::Write, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand, ValueEnum};
use client::Client;
use crabtree_actors::settings::Loaded;
use crabtree_actors::tls::Fingerprint;
use crabtree_protocol::Scope;
pub use failure::Failure;
use serde_json::{Value, json};
use target::here;

use crate::config::{self, ConfigError, Environment, Sources};

const OVERVIEW: &str = "\
Examples:
  crabtree                         start the gateway here
  crabtree agent -m 'Good morning' say something to the agent and watch it answer
  crabtree tree --watch            watch the actors live
  crabtree call agents.list        call any method

Exit codes: 0 done, 1 failed or refused, 2 usage, 69 gateway not reachable, 77 not authorised, 78 configuration. Of the
gateway itself (crabtree run): 0 stopped in order, 1 failed or stopped at once, 70 its tree was lost and a service
manager should start it anew, 78 a faulty configuration, or another gateway has the state directory: a person should
look.";

/// An OpenClaw gateway built as an actor supervision tree.
#[derive(Parser)]
#[command(name = "crabtree", version, about, after_help = OVERVIEW)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do; without one, the gateway is started.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Just enough of [`Cli`] to start a gateway: describing every other command takes memory that is never given back.
#[derive(Parser)]
#[command(name = "crabtree", disable_help_flag = true, disable_help_subcommand = true)]
struct Start {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Option<StartCommand>,
}

#[derive(Subcommand)]
enum StartCommand {
    #[command(alias = "start")]
    Run(RunArgs),
}

/// Options of every command.
#[derive(Args, Default)]
pub struct Global {
    /// Answer in JSON, errors too
    #[arg(long, global = true)]
    pub json: bool,
    /// Address of the gateway [default: gateway.remote.url with gateway.mode "remote", else ws://127.0.0.1:PORT]
    #[arg(long, global = true, value_name = "WS_URL")]
    pub url: Option<String>,
    /// Token of the gateway [default: the configured one, or gateway.token in the state directory]
    #[arg(long, global = true, allow_hyphen_values = true)]
    pub token: Option<String>,
    /// Password of the gateway
    #[arg(long, global = true, conflicts_with = "token", allow_hyphen_values = true)]
    pub password: Option<String>,
    /// SHA-256 fingerprint of the certificate of a wss:// gateway [default: gateway.remote.tlsFingerprint, or what
    /// this machine trusts]
    #[arg(long, global = true, value_name = "SHA256")]
    pub tls_fingerprint: Option<Fingerprint>,
    /// Where state is kept [default: CRABTREE_STATE_DIR or ~/.crabtree]
    #[arg(long, global = true, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Configuration file, JSON5 or TOML [default: openclaw.json in the state directory]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How long to wait for an answer [default: 10000, for agent 600000, to install a skill 180000]
    #[arg(long, global = true, value_name = "MS")]
    pub timeout_ms: Option<u64>,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Start the gateway in the foreground
    #[command(
        visible_alias = "start",
        after_help = "Example:\n  crabtree run --port 18789 --log-level debug\n\n\
        SIGTERM and Ctrl-C stop it in order, a second one at once; SIGHUP reads the configuration again; SIGUSR2 \
        starts it anew in place, and whoever connects meanwhile waits.\n\n\
        Exit codes: 0 stopped in order, 1 failed or stopped at once, 70 the tree was lost (start it anew), 78 a faulty \
        configuration, or another gateway has the state directory. Under systemd it says when it is ready and that it \
        lives (Type=notify, WatchdogSec)."
    )]
    Run(RunArgs),
    /// Say whether the gateway is well
    #[command(after_help = "Example:\n  crabtree health && echo all is well")]
    Health,
    /// Show what the gateway is doing
    #[command(after_help = "Example:\n  crabtree status --json | jq .sessions.count")]
    Status,
    /// Draw the tree of actors
    #[command(after_help = "Example:\n  crabtree tree --watch\n\n\
        On a terminal, --watch takes the screen, with sessions and channels too, and keys to restart, park and \
        resume; ? lists them.")]
    Tree {
        /// Go on showing it
        #[arg(short, long)]
        watch: bool,
    },
    /// Say something to an agent and print the answer as it comes
    #[command(
        after_help = "Example:\n  crabtree agent -m 'What is on my list today?' --session-key agent:main:todo\n\n\
        Ctrl-C aborts the run (exit code 130)."
    )]
    Agent(AgentArgs),
    /// Let an editor use the gateway's agent: speak the Agent Client Protocol on stdin and stdout
    #[command(
        after_help = "Example:\n  crabtree acp --session agent:main:main\n\nIn the settings of Zed:\n  \
        \"agent_servers\": { \"Crabtree\": { \"command\": \"crabtree\", \"args\": [\"acp\"] } }\n\n\
        Each thread of the editor is a conversation of its own, agent:main:acp-bridge:ID, that every other client \
        sees too; with --session they all go on in that one. The agent works where the gateway runs, and what its \
        tools may do is decided there."
    )]
    Acp {
        /// The conversation [default: a new one for each thread]
        #[arg(long, value_name = "KEY")]
        session: Option<String>,
    },
    /// Call a method of the gateway and print its result
    #[command(after_help = "Example:\n  crabtree call chat.history '{\"sessionKey\": \"agent:main:main\"}'")]
    Call {
        /// Name of the method
        method: String,
        /// Its parameters
        #[arg(value_name = "JSON", default_value = "{}")]
        params: String,
    },
    /// Print the log of the gateway
    #[command(after_help = "Example:\n  crabtree logs -f --filter telegram")]
    Logs(LogsArgs),
    /// List, start and stop channels, and let people in
    #[command(after_help = "Example:\n  crabtree channels list")]
    Channels {
        /// What to do with them
        #[command(subcommand)]
        command: channels::ChannelsCommand,
    },
    /// List, add, run and remove jobs with a schedule
    #[command(visible_alias = "automations", after_help = "Example:\n  crabtree cron list")]
    Cron {
        /// What to do with them
        #[command(subcommand)]
        command: cron::CronCommand,
    },
    /// List, install and check skills
    #[command(after_help = "Example:\n  crabtree skills list")]
    Skills {
        /// What to do with them
        #[command(subcommand)]
        command: skills::SkillsCommand,
    },
    /// Read, check and change the configuration
    #[command(after_help = "Example:\n  crabtree config set agents.defaults.model ollama/qwen3")]
    Config {
        /// What to do with it
        #[command(subcommand)]
        command: settings::ConfigCommand,
    },
    /// Seal secrets, see which there are, and look them up again
    #[command(after_help = "Examples:\n  crabtree secrets check\n  crabtree secrets seal-config")]
    Secrets {
        /// What to do with them
        #[command(subcommand)]
        command: secrets::SecretsCommand,
    },
    /// Pair devices, name them, and take their rights back
    #[command(after_help = "Example:\n  crabtree devices list")]
    Devices {
        /// What to do with them
        #[command(subcommand)]
        command: devices::DevicesCommand,
    },
    /// Make this machine a node of a gateway: it runs commands and gives files, as its owner allows
    #[command(after_help = "Example:\n  crabtree node run --code CODE")]
    Node {
        /// What to do
        #[command(subcommand)]
        command: node::NodeCommand,
    },
    /// Make a backup of everything, verify one, and restore one
    #[command(after_help = "Example:\n  crabtree backup create /mnt/usb")]
    Backup {
        /// What to do
        #[command(subcommand)]
        command: backup::BackupCommand,
    },
    /// Take over what another gateway keeps
    #[command(after_help = "Example:\n  crabtree import openclaw --dry-run")]
    Import {
        /// From whom
        #[command(subcommand)]
        command: import::ImportCommand,
    },
    /// Look for what is wrong with this gateway, whether it runs or not; nothing is changed without --fix
    #[command(
        after_help = "Examples:\n  crabtree doctor\n  crabtree doctor --fix\n  crabtree doctor --features\n\n\
        Exit code 0 without a problem (warnings are none), 1 with one."
    )]
    Doctor(doctor::DoctorArgs),
    /// Make parts of a running gateway fail on purpose, watch as a client does, and tell what came of it
    #[command(after_help = "Examples:\n  crabtree chaos list\n  crabtree chaos run tour")]
    Chaos {
        /// What to do
        #[command(subcommand)]
        command: chaos::ChaosCommand,
    },
    /// Make the gateway a service of this machine, or end that
    #[command(after_help = "Example:\n  crabtree service install")]
    Service {
        /// What to do with it
        #[command(subcommand)]
        command: service::ServiceCommand,
    },
    /// Say whether the gateway of this state directory serves clients, for containers and scripts
    #[command(
        after_help = "Example:\n  HEALTHCHECK CMD [\"/crabtree\", \"healthcheck\"]\n\nIt asks /readyz; no token is \
        needed, and --url is not heeded. Exit code 0 if it is ready, 1 if it is not, does not answer or does not run."
    )]
    Healthcheck,
    /// List who did what, and verify that nobody changed the list
    #[command(after_help = "Example:\n  crabtree audit list --since 1d --method config.")]
    Audit {
        /// What to do with it
        #[command(subcommand)]
        command: audit::AuditCommand,
    },
    /// Replace the program of this gateway; one that runs hands over to the new one, and gets its place back if that fails
    #[command(after_help = "Example:\n  crabtree upgrade ./crabtree-new\n\n\
        The new program is tried on a copy of the state first. Exit codes: 0 done, 1 nothing was changed or the old \
        program serves again, 70 no gateway serves.")]
    Upgrade(upgrade::UpgradeArgs),
    /// Start on a copy of a state, to see whether this program can
    #[command(hide = true, after_help = "Example:\n  crabtree trial --json --state-dir COPY")]
    Trial,
    /// Print the token that clients need
    #[command(after_help = "Example:\n  OPENCLAW_GATEWAY_TOKEN=$(crabtree token) openclaw health")]
    Token,
    /// Show the gateway's own certificate
    #[command(after_help = "Example:\n  crabtree tls fingerprint")]
    Tls {
        /// What of it
        #[command(subcommand)]
        command: tls::TlsCommand,
    },
    /// Print where a browser sees the canvas, for as long as this runs
    #[command(after_help = "Example:\n  crabtree canvas")]
    Canvas,
    /// Describe the protocol
    #[command(after_help = "Example:\n  crabtree protocol schema > schema.json")]
    Protocol {
        /// What to print
        what: ProtocolPart,
    },
}

/// Options of `run`.
#[derive(Args, Default)]
pub struct RunArgs {
    /// Port to listen on; 0 takes any free one
    #[arg(long)]
    pub port: Option<u16>,
    /// Addresses to listen on
    #[arg(long, value_parser = ["loopback", "lan", "tailnet", "auto", "custom"])]
    pub bind: Option<String>,
    /// Least serious level to log
    #[arg(long, value_parser = ["silent", "fatal", "error", "warn", "info", "debug", "trace"])]
    pub log_level: Option<String>,
    /// Log in JSON
    #[arg(long)]
    pub json_logs: bool,
}

/// Options of `agent`.
#[derive(Args)]
pub struct AgentArgs {
    /// What to say
    #[arg(short, long, value_name = "TEXT")]
    pub message: String,
    /// The conversation [default: the main session]
    #[arg(long, value_name = "KEY")]
    pub session_key: Option<String>,
    /// The agent [default: the gateway's choice]
    #[arg(long, value_name = "ID")]
    pub agent: Option<String>,
}

/// Options of `logs`.
#[derive(Args)]
pub struct LogsArgs {
    /// Go on printing what comes
    #[arg(short, long)]
    pub follow: bool,
    /// How many lines to start with
    #[arg(short = 'n', long, value_name = "N", default_value_t = 200)]
    pub lines: usize,
    /// Only lines that contain this, in any case
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
    /// Only lines that are at least so serious: error, warn, info, debug, trace
    #[arg(long, value_name = "LEVEL", ignore_case = true)]
    pub level: Option<logs::Severity>,
    /// Only lines of this subsystem and those below it, such as channels or channels/telegram
    #[arg(long, value_name = "NAME")]
    pub subsystem: Option<String>,
    /// Only lines since then: 90s, 15m, 2h, 1d, or a time such as 2026-11-20T08:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = logs::since)]
    pub since: Option<logs::Since>,
}

/// What `protocol` prints.
#[derive(Clone, Copy, ValueEnum)]
pub enum ProtocolPart {
    /// The JSON schema of every frame, method and event.
    Schema,
}

/// Parses the arguments of this process. Usage errors and help are answered here, as the exit code.
pub fn parse() -> Result<Cli, ExitCode> {
    if let Ok(Start { global, command }) = Start::try_parse() {
        return Ok(Cli {
            global,
            command: command.map(|StartCommand::Run(arguments)| Command::Run(arguments)),
        });
    }
    Cli::try_parse().map_err(|error| {
        if error.use_stderr() && std::env::args_os().any(|argument| argument == "--json") {
            print_json(&json!({"ok": false, "error": {"code": "USAGE", "message": error.to_string()}}));
        } else {
            // Nothing is left to do when the terminal is gone.
            let _ = error.print();
        }
        ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
    })
}

/// Carries out a command that talks to a running gateway.
pub async fn execute(global: &Global, command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Run(_) => Err(Failure::failed("a gateway is started by the program, not through a gateway")),
        Command::Health => report::health(global).await,
        Command::Status => report::status(global).await,
        Command::Tree { watch } => tree::run(global, watch).await,
        Command::Agent(arguments) => agent::run(global, arguments).await,
        Command::Acp { session } => acp::run(global, session).await,
        Command::Call { method, params } => report::call(global, &method, &params).await,
        Command::Logs(arguments) => logs::run(global, arguments).await,
        Command::Channels { command } => channels::run(global, command).await,
        Command::Cron { command } => cron::run(global, command).await,
        Command::Skills { command } => skills::run(global, command).await,
        Command::Config { command } => settings::run(global, command).await,
        Command::Secrets { command } => secrets::run(global, command).await,
        Command::Devices { command } => devices::run(global, command).await,
        Command::Node { command } => node::run(global, command).await,
        Command::Backup { command } => backup::run(global, command).await,
        Command::Import { command } => import::run(global, command).await,
        Command::Doctor(arguments) => doctor::run(global, arguments).await,
        Command::Chaos { command } => chaos::run(global, command).await,
        Command::Service { command } => service::run(global, command).await,
        Command::Healthcheck => healthcheck::run(global).await,
        Command::Audit { command } => audit::run(global, command).await,
        Command::Upgrade(arguments) => upgrade::run(global, &arguments).await,
        Command::Trial => trial::run(global).await,
        Command::Token => report::token(global),
        Command::Tls { command } => tls::run(global, command),
        Command::Canvas => canvas::run(global).await,
        Command::Protocol { what: ProtocolPart::Schema } => {
            print_json(&json!(crabtree_protocol::schema::document()));
            Ok(ExitCode::SUCCESS)
        }
    }
}

impl Global {
    /// Where the configuration of this command comes from.
    pub fn sources(&self, env: Environment, run: &RunArgs) -> Result<Sources, ConfigError> {
        let state_dir = config::state_dir(self.state_dir.as_deref(), &env)?;
        Ok(Sources { state_dir, file: self.config.clone(), env, flags: self.flags(run) })
    }

    fn flags(&self, run: &RunArgs) -> Value {
        let mut flags = json!({});
        let mut set = |section: &str, key: &str, value: Value| flags[section][key] = value;
        let auth = [("token", &self.token), ("password", &self.password)];
        for (mode, secret) in auth.iter().filter_map(|(mode, secret)| Some((mode, secret.as_ref()?))) {
            set("gateway", "auth", json!({ "mode": mode, *mode: secret }));
        }
        if let Some(port) = run.port {
            set("gateway", "port", port.into());
        }
        if let Some(bind) = &run.bind {
            set("gateway", "bind", bind.as_str().into());
        }
        if let Some(level) = &run.log_level {
            set("logging", "level", level.as_str().into());
            set("logging", "consoleLevel", level.as_str().into());
        }
        flags
    }

    fn loaded(&self) -> Result<(Loaded, Environment), Failure> {
        let env = Environment::of_process();
        Ok((config::load_to_start(&self.sources(env.clone(), &RunArgs::default())?)?, env))
    }

    /// A connection with the scopes that one command needs.
    async fn connect(&self, scopes: &[Scope]) -> Result<Client, Failure> {
        Client::connect(&self.target()?, scopes, &[]).await
    }
}

/// Prints a line. A reader that has gone away ends the program, as it does other tools.
fn print_line(text: &str) {
    print_text(&format!("{text}\n"));
}

/// Prints text at once, without a line feed.
fn print_text(text: &str) {
    let mut out = std::io::stdout().lock();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// Prints a value for programs.
fn print_json(value: &Value) {
    print_line(&format!("{value:#}"));
}

/// Text from elsewhere, made harmless for a terminal: control characters other than tab and line feed are replaced.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && !matches!(c, '\n' | '\t') { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
#[path = "mod_tests.rs"]
mod tests;

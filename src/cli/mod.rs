//! The command line: what `crabtree` understands, and the commands that talk to a running gateway.

mod acp;
mod agent;
mod canvas;
mod channels;
mod client;
mod devices;
mod failure;
mod logs;
mod node;
mod report;
mod settings;
mod shown;
mod skills;
mod table;
mod tree;

use std::{io::Write, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use client::{Client, Target};
use crabtree_actors::settings::{AuthSecret, Loaded, Secret};
use crabtree_protocol::Scope;
pub use failure::Failure;
use serde_json::{Value, json};

use crate::config::{self, ConfigError, Environment, Sources};
use crate::owner;

const OVERVIEW: &str = "\
Examples:
  crabtree                         start the gateway here
  crabtree agent -m 'Good morning' say something to the agent and watch it answer
  crabtree tree --watch            watch the actors live
  crabtree call agents.list        call any method

Exit codes: 0 done, 1 failed or refused, 2 usage, 69 gateway not reachable, 77 not authorised, 78 configuration.";

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

/// Options of every command.
#[derive(Args, Default)]
pub struct Global {
    /// Answer in JSON, errors too
    #[arg(long, global = true)]
    pub json: bool,
    /// Address of the gateway [default: ws://127.0.0.1:PORT of the configuration]
    #[arg(long, global = true, value_name = "WS_URL")]
    pub url: Option<String>,
    /// Token of the gateway [default: the configured one, or gateway.token in the state directory]
    #[arg(long, global = true)]
    pub token: Option<String>,
    /// Password of the gateway
    #[arg(long, global = true, conflicts_with = "token")]
    pub password: Option<String>,
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
        SIGTERM and Ctrl-C stop it in order, a second one at once; SIGHUP reads the configuration again."
    )]
    Run(RunArgs),
    /// Say whether the gateway is well
    #[command(after_help = "Example:\n  crabtree health && echo all is well")]
    Health,
    /// Show what the gateway is doing
    #[command(after_help = "Example:\n  crabtree status --json | jq .sessions.count")]
    Status,
    /// Draw the tree of actors
    #[command(after_help = "Example:\n  crabtree tree --watch")]
    Tree {
        /// Draw it again every second
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
    /// Print the token that clients need
    #[command(after_help = "Example:\n  OPENCLAW_GATEWAY_TOKEN=$(crabtree token) openclaw health")]
    Token,
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
    #[arg(long, value_parser = ["loopback", "lan", "auto", "custom"])]
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
}

/// What `protocol` prints.
#[derive(Clone, Copy, ValueEnum)]
pub enum ProtocolPart {
    /// The JSON schema of every frame, method and event.
    Schema,
}

/// Parses the arguments of this process. Usage errors and help are answered here, as the exit code.
pub fn parse() -> Result<Cli, ExitCode> {
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
        Command::Skills { command } => skills::run(global, command).await,
        Command::Config { command } => settings::run(global, command).await,
        Command::Devices { command } => devices::run(global, command).await,
        Command::Node { command } => node::run(global, command).await,
        Command::Token => report::token(global),
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
        }
        flags
    }

    fn loaded(&self) -> Result<(Loaded, Environment), Failure> {
        let env = Environment::of_process();
        Ok((config::load_to_start(&self.sources(env.clone(), &RunArgs::default())?)?, env))
    }

    /// The gateway to talk to. A secret from this machine's files goes to this machine only.
    fn target(&self) -> Result<Target, Failure> {
        let timeout = Duration::from_millis(self.timeout_ms.unwrap_or(10_000));
        let explicit = match (&self.token, &self.password) {
            (Some(token), _) => Some(AuthSecret::Token(Secret::new(token))),
            (None, Some(password)) => Some(AuthSecret::Password(Secret::new(password))),
            (None, None) => None,
        };
        if let (Some(url), Some(secret)) = (&self.url, &explicit) {
            return Ok(Target { url: url.clone(), secret: secret.clone(), timeout });
        }
        let (loaded, env) = self.loaded()?;
        let url = match &self.url {
            Some(url) if !client::is_local(url) => {
                let token = env.get("OPENCLAW_GATEWAY_TOKEN").ok_or_else(|| {
                    Failure::config("a gateway on another machine needs --token or OPENCLAW_GATEWAY_TOKEN")
                })?;
                return Ok(Target {
                    url: url.clone(),
                    secret: AuthSecret::Token(Secret::new(token)),
                    timeout,
                });
            }
            Some(url) => url.clone(),
            None => here(&loaded)?,
        };
        let secret = match explicit {
            Some(secret) => secret,
            // Without one the gateway decides: it may not run at all.
            None => config::client_secret(&loaded, &env)?.unwrap_or(AuthSecret::None),
        };
        Ok(Target { url, secret, timeout })
    }

    /// A connection with the scopes that one command needs.
    async fn connect(&self, scopes: &[Scope]) -> Result<Client, Failure> {
        Client::connect(&self.target()?, scopes, &[]).await
    }
}

/// The address of the gateway of this state directory: of the one that runs, or of its next start.
fn here(loaded: &Loaded) -> Result<String, ConfigError> {
    match owner::address(&loaded.state_dir) {
        Some(address) => Ok(format!("ws://{address}")),
        None => config::local_url(&loaded.settings.gateway),
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

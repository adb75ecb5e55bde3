//! `crabtree config`: reads, checks and changes the configuration.

use std::fs::OpenOptions;
use std::io::{Write, stdin};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use clap::Subcommand;
use crabtree_protocol::Scope;
use serde_json::{Value, json};

use super::failure::CONFIGURATION;
use super::{Client, Failure, Global, RunArgs, migration, print_json, print_line, printable};
use crate::config::{self, Environment};

/// What to do with the configuration.
#[derive(Subcommand)]
pub enum ConfigCommand {
    /// Print the settings in force, or one of them
    #[command(
        after_help = "Examples:\n  crabtree config get\n  crabtree config get agents.defaults.model\n\n\
        Secrets are never shown."
    )]
    Get {
        /// The setting, with dots
        #[arg(value_name = "KEY")]
        key: Option<String>,
    },
    /// Change a setting in the file of a running gateway, which takes it up at once
    #[command(after_help = "Examples:\n  \
        crabtree config set agents.defaults.model anthropic/claude-opus-4-1\n  \
        crabtree config set gateway.trustedProxies '[\"10.0.0.1\"]'\n\n\
        Comments and order of the file stay. What would not be accepted changes nothing; a change for which an actor\n\
        is parked within 10 s is taken back. The last five states of the file are kept beside it (.bak).")]
    Set {
        /// The setting, with dots
        #[arg(value_name = "KEY")]
        key: String,
        /// Its value: JSON5, or else a text
        #[arg(value_name = "VALUE")]
        value: String,
    },
    /// Take a setting out of the file
    #[command(after_help = "Example:\n  crabtree config unset gateway.auth.password")]
    Unset {
        /// The setting, with dots
        #[arg(value_name = "KEY")]
        key: String,
    },
    /// Say whether a file would be accepted, without a gateway; exit code 78 if not
    #[command(
        after_help = "Example:\n  crabtree config validate ~/new.json5 && cp ~/new.json5 ~/.crabtree/openclaw.json"
    )]
    Validate {
        /// The file [default: the configuration of this machine]
        file: Option<PathBuf>,
    },
    /// Write older forms of keys as they are written now; comments stay
    #[command(after_help = "Examples:\n  crabtree config migrate --dry-run\n  crabtree config migrate\n\n\
        The gateway reads older forms as they are; it need not run for this. What it works with stays the same, and\n\
        the last states of each file are kept beside it (.bak).")]
    Migrate {
        /// Only say what would be written
        #[arg(long)]
        dry_run: bool,
    },
    /// Change the file in your editor ($VISUAL, $EDITOR, or vi); a text that is not accepted is not lost
    #[command(after_help = "Example:\n  EDITOR=nano crabtree config edit")]
    Edit,
    /// Print what may stand there: a JSON Schema, or one place of it
    #[command(after_help = "Example:\n  crabtree config schema gateway.auth")]
    Schema {
        /// The setting, with dots
        #[arg(value_name = "KEY")]
        key: Option<String>,
    },
}

pub(super) async fn run(global: &Global, command: ConfigCommand) -> Result<ExitCode, Failure> {
    match command {
        ConfigCommand::Get { key } => get(global, key.as_deref()).await,
        ConfigCommand::Set { key, value } => {
            let value = json5::from_str(&value).unwrap_or_else(|_| Value::from(value));
            patch(global, &key, value).await
        }
        ConfigCommand::Unset { key } => patch(global, &key, Value::Null).await,
        ConfigCommand::Validate { file } => validate(global, file),
        ConfigCommand::Migrate { dry_run } => migration::run(global, dry_run),
        ConfigCommand::Edit => edit(global).await,
        ConfigCommand::Schema { key } => schema(global, key).await,
    }
}

async fn get(global: &Global, key: Option<&str>) -> Result<ExitCode, Failure> {
    let all = global.connect(&[Scope::Read]).await?.request("config.get", json!({})).await?;
    let mut keys = key.into_iter().flat_map(|key| key.split('.'));
    let found = keys.try_fold(&all["config"], |place, key| match key.parse::<usize>() {
        Ok(index) if place.is_array() => place.get(index),
        _ => place.get(key),
    });
    let unknown = || {
        let key = key.unwrap_or_default();
        Failure::failed(format!("there is no setting {key}"))
            .or_next("see what there is: crabtree config schema")
    };
    match found.ok_or_else(unknown)? {
        Value::String(text) if !global.json => print_line(&printable(text)),
        value => print_json(value),
    }
    Ok(ExitCode::SUCCESS)
}

/// One key changed; objects on the way are made.
async fn patch(global: &Global, key: &str, value: Value) -> Result<ExitCode, Failure> {
    let mut client = global.connect(&[Scope::Admin]).await?;
    let before = client.request("config.get", json!({})).await?;
    let patch = key.rsplit('.').fold(value, |inner, key| json!({ key: inner }));
    let params = json!({ "raw": patch.to_string(), "baseHash": before["hash"], "replacePaths": [key] });
    let done = client.request("config.patch", params).await?;
    told(global, &done);
    Ok(ExitCode::SUCCESS)
}

fn told(global: &Global, done: &Value) {
    if global.json {
        return print_json(done);
    }
    let path = done["path"].as_str().unwrap_or_default();
    let changed = done["changedPaths"].as_array();
    let changed: Option<Vec<_>> = changed.map(|paths| paths.iter().filter_map(Value::as_str).collect());
    print_line(&printable(&match changed {
        None => format!("{path}: written"),
        Some(paths) if paths.is_empty() => format!("{path}: nothing is different"),
        Some(paths) => format!("{path}: changed {}", paths.join(", ")),
    }));
    if done["sentinel"]["payload"]["stats"]["requiresRestart"] == true {
        print_line("it takes effect when the gateway is started again");
    }
}

fn validate(global: &Global, file: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let mut sources = global.sources(Environment::of_process(), &RunArgs::default())?;
    sources.file = file.or(sources.file);
    let loaded = config::load(&sources)?;
    let (path, issues) = (&loaded.path, loaded.issues());
    if global.json {
        let valid = issues.is_empty();
        print_json(&json!({ "valid": valid, "path": path, "issues": issues, "warnings": loaded.warnings }));
    } else {
        loaded.warnings.iter().for_each(|warning| print_line(&printable(&format!("warning: {warning}"))));
        issues.iter().for_each(|issue| print_line(&printable(&format!("broken: {}", issue.told(path)))));
        if issues.is_empty() {
            print_line(&printable(&format!("{} is good", path.display())));
        }
    }
    Ok(if issues.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(CONFIGURATION) })
}

async fn schema(global: &Global, key: Option<String>) -> Result<ExitCode, Failure> {
    let mut client = global.connect(&[Scope::Read]).await?;
    let answer = match key {
        Some(key) => client.request("config.schema.lookup", json!({ "path": key })).await?,
        None => client.request("config.schema", json!({})).await?["schema"].take(),
    };
    print_json(&answer);
    Ok(ExitCode::SUCCESS)
}

async fn edit(global: &Global) -> Result<ExitCode, Failure> {
    let mut client = global.connect(&[Scope::Admin]).await?;
    let before = client.request("config.get", json!({})).await?;
    let original = before["raw"].as_str().unwrap_or_default();
    let draft = Draft::new(original)?;
    loop {
        let text = draft.edited().await?;
        if text == original {
            draft.discard();
            told(global, &json!({ "ok": true, "path": before["path"], "changedPaths": [] }));
            return Ok(ExitCode::SUCCESS);
        }
        match apply(&mut client, &text, &before).await {
            Ok(done) => {
                draft.discard();
                told(global, &done);
                return Ok(ExitCode::SUCCESS);
            }
            Err(failure) if again(&failure) => {}
            Err(failure) => {
                return Err(failure.or_next(&format!("your text is kept in {}", draft.0.display())));
            }
        }
    }
}

async fn apply(client: &mut Client, text: &str, before: &Value) -> Result<Value, Failure> {
    let params = json!({ "raw": text, "baseHash": before["hash"], "note": "crabtree config edit" });
    client.request("config.apply", params).await
}

/// Asks whether to go on with a text that was not accepted; programs are not asked.
fn again(failure: &Failure) -> bool {
    if !std::io::IsTerminal::is_terminal(&stdin()) {
        return false;
    }
    print_line(&printable(&failure.told()));
    print_line("Edit it again? [Y/n] ");
    let mut answer = String::new();
    stdin().read_line(&mut answer).is_ok() && !answer.trim().eq_ignore_ascii_case("n") && !answer.is_empty()
}

/// A text in a file of its own, for its owner's eyes.
struct Draft(PathBuf);

impl Draft {
    fn new(text: &str) -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("crabtree-{}.json5", uuid::Uuid::new_v4().simple()));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|e| Failure::failed(format!("{} cannot be written: {e}", path.display())))?;
        Ok(Self(path))
    }

    async fn edited(&self) -> Result<String, Failure> {
        let editor = ["VISUAL", "EDITOR"].iter().find_map(|name| std::env::var(name).ok());
        let editor = editor.filter(|editor| !editor.trim().is_empty()).unwrap_or_else(|| "vi".into());
        // As git does it: the editor may have arguments.
        let mut shell = tokio::process::Command::new("sh");
        shell.arg("-c").arg(format!("{editor} \"$1\"")).arg("sh").arg(&self.0).stdin(Stdio::inherit());
        let ended = shell.status().await.map_err(|e| Failure::failed(format!("sh cannot be run: {e}")))?;
        if !ended.success() {
            let kept = format!("your text is kept in {}; name an editor in EDITOR", self.0.display());
            return Err(Failure::failed(format!("{editor} ended with {ended}")).or_next(&kept));
        }
        read(&self.0)
    }

    fn discard(&self) {
        // A leftover in the temporary directory harms nobody.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path)
        .map_err(|e| Failure::failed(format!("{} cannot be read: {e}", path.display())))
}

//! `crabtree secrets`: seals values, says which secrets there are and whether they are to be had, and replaces the key.

use std::io::{IsTerminal, Read, stdin};
use std::path::Path;
use std::process::ExitCode;

use clap::Subcommand;
use crabtree_actors::config::{ConfigFile, LAST_GOOD, good, replaced};
use crabtree_actors::process::Guard;
use crabtree_actors::secrets::{
    Ask, Keyring, MAX_VALUE, Recipient, Report, SealError, Secrets, State, rotate, spots,
};
use crabtree_actors::settings::{Loaded, Secret};
use crabtree_protocol::{Refusal, Scope};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::prompt::asked;
use super::{Failure, Global, RunArgs, print_json, print_line, printable, table};
use crate::config::{self, Environment};

/// What to do with secrets.
#[derive(Subcommand)]
pub enum SecretsCommand {
    /// Seal a value, so that it may stand in the configuration and nobody else can read it
    #[command(
        after_help = "Examples:\n  crabtree secrets seal\n  pass show telegram | crabtree secrets seal --stdin\n  \
        crabtree secrets seal --key 9uDk…    on a machine that is not the gateway's\n\n\
        The value is asked for without being shown. What is printed is bound to this gateway's key and to nothing\n\
        else: it may be put anywhere in the configuration, and the file may be kept in git."
    )]
    Seal {
        /// Take the value from stdin; a line feed at its end is left out
        #[arg(long)]
        stdin: bool,
        /// Seal it for the gateway with this public key [default: the one of this state directory]
        #[arg(long, value_name = "PUBKEY", allow_hyphen_values = true)]
        key: Option<String>,
    },
    /// Print the public key that values are sealed for
    #[command(after_help = "Example:\n  ssh home crabtree secrets key")]
    Key,
    /// Seal every secret that stands in the configuration file in plain text
    #[command(
        after_help = "Examples:\n  crabtree secrets seal-config --dry-run\n  crabtree secrets seal-config\n\n\
        Comments and order of the file stay. No copy of the file as it was is kept; older copies beside it (.bak)\n\
        are named, for they still hold the secrets."
    )]
    SealConfig {
        /// Only say what would be sealed
        #[arg(long)]
        dry_run: bool,
    },
    /// Replace the gateway's key, and seal everything anew for it
    #[command(after_help = "Example:\n  crabtree secrets rotate\n\n\
        What was sealed for the old key before, in backups or in git, cannot be opened afterwards. Broken off\n\
        anywhere, nothing is lost: run it again.")]
    Rotate,
    /// List the references to secrets, without looking them up
    #[command(after_help = "Example:\n  crabtree secrets list --json")]
    List,
    /// Look all secrets up, and say which are not to be had; exit code 1 if there are any
    #[command(after_help = "Example:\n  crabtree secrets check && crabtree run")]
    Check,
    /// Have the running gateway look all secrets up again
    #[command(after_help = "Example:\n  vault rotate telegram && crabtree secrets reload")]
    Reload,
}

pub(super) async fn run(global: &Global, command: SecretsCommand) -> Result<ExitCode, Failure> {
    match command {
        SecretsCommand::Reload => reload(global).await,
        SecretsCommand::Seal { stdin, key } => seal(global, stdin, key.as_deref()),
        SecretsCommand::Key => key(global),
        SecretsCommand::SealConfig { dry_run } => seal_config(global, dry_run),
        SecretsCommand::Rotate => rotated(global),
        SecretsCommand::List => list(global),
        SecretsCommand::Check => check(global),
    }
}

fn unsealed(error: SealError) -> Failure {
    Failure::failed(error.to_string())
}

fn refused(refusal: Refusal) -> Failure {
    Failure::failed(refusal.message)
}

/// The keys of this gateway; the first is made if there is none.
fn keys(global: &Global) -> Result<Keyring, Failure> {
    let state_dir = config::state_dir(global.state_dir.as_deref(), &Environment::of_process())?;
    config::prepare_state_dir(&state_dir)?;
    Keyring::made(&state_dir).map_err(unsealed)
}

fn recipient(global: &Global) -> Result<Recipient, Failure> {
    keys(global)?.recipient().ok_or_else(|| unsealed(SealError::NoKey))
}

fn key(global: &Global) -> Result<ExitCode, Failure> {
    let key = recipient(global)?.text();
    if global.json {
        print_json(&json!({ "key": key }))
    } else {
        print_line(&key)
    }
    Ok(ExitCode::SUCCESS)
}

fn seal(global: &Global, from_stdin: bool, key: Option<&str>) -> Result<ExitCode, Failure> {
    let recipient = match key {
        Some(key) => Recipient::parse(key).map_err(unsealed)?,
        None => recipient(global)?,
    };
    let value = if from_stdin || !stdin().is_terminal() { piped()? } else { asked("Value: ")? };
    let sealed = recipient.seal(value.expose()).map_err(unsealed)?;
    if global.json {
        print_json(&json!({ "sealed": sealed }))
    } else {
        print_line(&sealed)
    }
    Ok(ExitCode::SUCCESS)
}

fn piped() -> Result<Secret, Failure> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_VALUE + 3));
    let limit = MAX_VALUE as u64 + 3;
    let unread = |why: &dyn std::fmt::Display| Failure::failed(format!("the value cannot be read: {why}"));
    stdin().lock().take(limit).read_to_end(&mut bytes).map_err(|error| unread(&error))?;
    let text = std::str::from_utf8(&bytes).map_err(|_| unread(&"it is no UTF-8 text"))?;
    let line = text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
    Ok(Secret::new(line))
}

/// The configuration file, for one that writes it.
fn file(global: &Global) -> Result<ConfigFile, Failure> {
    let sources = global.sources(Environment::of_process(), &RunArgs::default())?;
    Ok(ConfigFile::new(sources.reader()))
}

fn read(file: &ConfigFile) -> Result<Loaded, Failure> {
    Ok(file.read(None).map_err(|unread| Failure::from(unread.why))?.loaded)
}

fn seal_config(global: &Global, dry: bool) -> Result<ExitCode, Failure> {
    let file = file(global)?;
    let before = read(&file)?;
    let sealed = rotate::seal_config(&file, recipient(global)?, dry).map_err(refused)?;
    if !dry && !sealed.is_empty() {
        keep_sealed(&before, &read(&file)?)?;
    }
    let plain = copies(&before);
    if global.json {
        print_json(
            &json!({ "ok": true, "path": before.path, "dryRun": dry, "sealed": sealed, "plainCopies": plain }),
        );
        return Ok(ExitCode::SUCCESS);
    }
    let path = before.path.display();
    if sealed.is_empty() {
        print_line(&printable(&format!("{path}: no secret stands there in plain text")));
    }
    let done = if dry { "would be sealed" } else { "sealed" };
    sealed.iter().for_each(|key| print_line(&printable(&format!("{done}  {key}"))));
    for copy in plain.iter().filter(|_| !dry) {
        print_line(&printable(&format!(
            "note: {copy} still holds secrets in plain text; remove it when you can"
        )));
    }
    Ok(ExitCode::SUCCESS)
}

/// The configuration that is kept for a start with a broken file is the sealed one, too, if it was this one.
fn keep_sealed(before: &Loaded, after: &Loaded) -> Result<(), Failure> {
    let kept = before.state_dir.join(LAST_GOOD);
    let (Some(before), Some(after)) = (good(before), good(after)) else { return Ok(()) };
    if std::fs::read_to_string(&kept).is_ok_and(|text| text == *before) {
        replaced(&kept, &after)
            .map_err(|error| Failure::failed(format!("{} cannot be written: {error}", kept.display())))?;
    }
    Ok(())
}

/// Older states of the files that hold secrets in plain text.
fn copies(loaded: &Loaded) -> Vec<String> {
    let included: Vec<_> = loaded.origin.included.iter().map(|file| &file.path).collect();
    let beside = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        ["", ".1", ".2", ".3", ".4"].map(|number| path.with_file_name(format!("{name}.bak{number}")))
    };
    let values = spots::plain(&loaded.origin.used);
    let has_secrets = |path: &Path| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        // What is secret in an included file cannot be told by itself, but those that are known are found again.
        values.iter().any(|(_, value)| text.contains(value.as_str()))
            || json5::from_str::<Value>(&text).is_ok_and(|document| !spots::plain(&document).is_empty())
    };
    let all = [&loaded.path].into_iter().chain(included).flat_map(|path| beside(path));
    let all = all.chain([loaded.state_dir.join(LAST_GOOD)]);
    all.filter(|path| has_secrets(path)).map(|path| path.display().to_string()).collect()
}

fn rotated(global: &Global) -> Result<ExitCode, Failure> {
    let file = file(global)?;
    let state_dir = read(&file)?.state_dir;
    config::prepare_state_dir(&state_dir)?;
    let done = rotate::rotate(&state_dir, &file).map_err(refused)?;
    if global.json {
        let rotate::Rotated { config, store, left, retired } = &done;
        print_json(
            &json!({ "ok": retired, "config": config, "store": store, "left": left, "retired": retired }),
        );
    } else {
        let (config, store) = (done.config, done.store);
        print_line(&format!("sealed for the new key: {config} in the configuration, {store} in the store"));
        for key in &done.left {
            print_line(&printable(&format!(
                "not rewritten  {key}: it stands in another file; seal it there again"
            )));
        }
        if !done.retired {
            print_line("the old key is kept until nothing needs it: run this again then");
        }
    }
    Ok(if done.retired { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn list(global: &Global) -> Result<ExitCode, Failure> {
    let mut loaded = read(&file(global)?)?;
    // Where nothing is asked there is nothing to find out.
    let report = Secrets::survey(&mut loaded);
    shown(global, &report, false);
    Ok(ExitCode::SUCCESS)
}

fn check(global: &Global) -> Result<ExitCode, Failure> {
    let mut loaded = read(&file(global)?)?;
    let secrets = Secrets::new(&loaded.state_dir.clone(), Guard::this_program(), &[0; 32]);
    let report = secrets.prepare(&mut loaded, Ask::Anew);
    shown(global, &report, true);
    Ok(if report.wanting().next().is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn shown(global: &Global, report: &Report, looked_up: bool) {
    let rows = report.rows.iter().map(|row| {
        let mut shown = row.shown();
        if !looked_up && row.state != State::Inactive {
            shown["state"] = Value::Null;
        }
        shown
    });
    let rows: Vec<Value> = rows.collect();
    if global.json {
        return print_json(&json!({ "ok": report.wanting().next().is_none(), "secrets": rows }));
    }
    if rows.is_empty() {
        return print_line("the configuration refers to no secrets");
    }
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let cells: Vec<[String; 4]> = rows
        .iter()
        .map(|row| {
            let from = [text(row, "source"), text(row, "provider"), text(row, "id")];
            let from: Vec<_> = from.into_iter().filter(|part| !part.is_empty()).collect();
            [text(row, "state"), text(row, "path"), from.join(":"), text(row, "reason")]
        })
        .collect();
    table::lines(&cells).iter().for_each(|line| print_line(&printable(line)));
}

async fn reload(global: &Global) -> Result<ExitCode, Failure> {
    let answer = global.connect(&[Scope::Admin]).await?.request("secrets.reload", json!({})).await?;
    if global.json {
        print_json(&answer);
    } else {
        let count = answer["warningCount"].as_u64().unwrap_or_default();
        print_line(&match count {
            0 => "all secrets are there".to_owned(),
            count => format!("{count} secrets are not to be had; see which: crabtree secrets check"),
        });
    }
    Ok(ExitCode::SUCCESS)
}

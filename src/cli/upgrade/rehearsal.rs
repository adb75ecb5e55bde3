//! A new program is tried before it takes over: whether it is one of ours, and whether it starts on a copy of the state.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use crabtree_actors::store::{copy_online, schema_of};
use serde_json::Value;
use tokio::process::Command;

use crate::cli::Failure;
use crate::config::{self, Sources};

/// How long it has to say its name, and to start.
const NAME_LIMIT: Duration = Duration::from_secs(10);
const START_LIMIT: Duration = Duration::from_secs(60);
/// Files of the state directory that are copied beside the database: keys, tokens, the configuration. What is larger is
/// none of them.
const MAX_FILE: u64 = 1 << 20;

/// How it went.
pub struct Tried {
    /// How long the start took.
    pub ready_ms: u64,
    /// The version of the tables as they are now.
    pub schema_before: u32,
}

/// The name and version of a program; refused if it is not one of ours.
pub async fn version(program: &Path) -> Result<String, Failure> {
    let said = output(Command::new(program).arg("--version"), NAME_LIMIT).await;
    let said = said.map_err(|why| Failure::failed(format!("the new program cannot be run: {why}")))?;
    let text = String::from_utf8_lossy(&said.stdout);
    let text = text.lines().next().unwrap_or_default().trim();
    match text.strip_prefix("crabtree ") {
        Some(version) if said.status.success() && !version.is_empty() => Ok(text.chars().take(80).collect()),
        _ => Err(Failure::failed("the file is no crabtree: `--version` says something else")
            .or_next("name the file of a crabtree program, for this machine's processor")),
    }
}

/// Starts it on a copy of the state, with nothing of it at work.
pub async fn rehearse(
    program: &Path,
    sources: &Sources,
    running: bool,
    environment: &[(OsString, OsString)],
) -> Result<Tried, Failure> {
    let failed = |why: String| {
        Failure::failed(format!(
            "the new program does not start on a copy of this state: {why}; nothing was changed"
        ))
    };
    let (from, is_there) = (sources.clone(), sources.state_dir.is_dir());
    let copied =
        tokio::task::spawn_blocking(move || if is_there { copied(&from, running) } else { Copied::empty() });
    let copied = copied.await.map_err(|error| failed(error.to_string()))?;
    let copied = copied.map_err(|error| failed(format!("{error:#}")))?;
    let mut trial = Command::new(program);
    trial.envs(environment.iter().cloned());
    trial.args(["trial", "--json", "--state-dir"]).arg(&copied.folder);
    trial.args(copied.config.iter().flat_map(|file| ["--config".as_ref(), file.as_os_str()]));
    let said = output(&mut trial, START_LIMIT).await.map_err(failed)?;
    let told: Value = serde_json::from_slice(&said.stdout).unwrap_or_default();
    match told["ok"] == true && said.status.success() {
        true => Ok(Tried { ready_ms: told["readyMs"].as_u64().unwrap_or(0), schema_before: copied.schema }),
        false => Err(failed(match told["error"]["message"].as_str() {
            Some(message) => message.to_owned(),
            None => format!("{} without a word", said.status),
        })),
    }
}

async fn output(command: &mut Command, limit: Duration) -> Result<Output, String> {
    command.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(limit, command.output()).await;
    output
        .map_err(|_| format!("it did not end within {} s", limit.as_secs()))?
        .map_err(|error: io::Error| error.to_string())
}

/// A copy of the state; it goes with this.
struct Copied {
    folder: PathBuf,
    /// The copy of a configuration that lies elsewhere.
    config: Option<PathBuf>,
    schema: u32,
}

impl Copied {
    /// That of a gateway that has never run.
    fn empty() -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("crabtree-trial-{}", uuid::Uuid::new_v4()));
        private(&folder)?;
        Ok(Self { folder, config: None, schema: 0 })
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn private(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Copies what a start reads: small files of the state directory, the configuration with what it includes, and the
/// database.
fn copied(sources: &Sources, running: bool) -> anyhow::Result<Copied> {
    let state = &sources.state_dir;
    let folder = state.join(format!("trial-{}", std::process::id()));
    private(&folder)?;
    let mut copy = Copied { folder: folder.clone(), config: None, schema: 0 };
    for entry in fs::read_dir(state)?.flatten() {
        let (name, about) = (entry.file_name(), entry.metadata()?);
        let is_data = name.to_string_lossy().starts_with("store.sqlite");
        if about.is_file()
            && about.len() <= MAX_FILE
            && !is_data
            && name != "gateway.lock"
            && name != "upgrade.json"
        {
            fs::copy(entry.path(), folder.join(name))?;
        }
    }
    let loaded = config::load(sources)?;
    let home = loaded.path.parent().unwrap_or(state).to_owned();
    let beside = if home == *state { folder.clone() } else { folder.join("config") };
    for file in [&loaded.path].into_iter().chain(&loaded.origin.watched) {
        if let Ok(inside) = file.strip_prefix(&home)
            && file.is_file()
        {
            let to = beside.join(inside);
            private(to.parent().unwrap_or(&beside))?;
            fs::copy(file, to)?;
        }
    }
    let main = loaded.path.strip_prefix(&home).ok().map(|inside| beside.join(inside));
    copy.config = main.filter(|main| home != *state && main.exists());
    let (data, to) = (state.join("store.sqlite"), folder.join("store.sqlite"));
    if data.exists() {
        match running {
            true => copy_online(&data, &to)?,
            // With its log beside it; nobody writes.
            false => {
                for tail in ["", "-wal"] {
                    let from = state.join(format!("store.sqlite{tail}"));
                    if from.exists() {
                        fs::copy(from, folder.join(format!("store.sqlite{tail}")))?;
                    }
                }
            }
        }
        copy.schema = schema_of(&to)?;
    }
    Ok(copy)
}

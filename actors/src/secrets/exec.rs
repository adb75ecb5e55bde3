//! Secrets of a program that is asked, as OpenClaw asks it: once for all its ids, in JSON on stdin; it answers on stdout.
//! It runs under a guard, never through a shell, and with nothing in its environment but what it is given.

use super::file::wipe;
use crate::process::{Child, Command, Exit, Guard};
use crate::settings::{ExecProvider, Secret, expanded};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};
use zeroize::Zeroizing;

/// How long a program may take, unless told (as recorded).
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long it may be told to take (as recorded).
const LONGEST: Duration = Duration::from_secs(120);
/// How much it may say, unless told, and at most (as recorded).
const MAX_OUTPUT: u64 = 1024 * 1024;
const MOST_OUTPUT: u64 = 20 * 1024 * 1024;
/// Piece by which its output is read.
const PIECE: usize = 16 * 1024;

type Answers = BTreeMap<String, Result<Secret, String>>;

/// How long a program may take altogether.
pub(super) fn limit(provider: &ExecProvider) -> Duration {
    provider.timeout_ms.map_or(TIMEOUT, Duration::from_millis).min(LONGEST)
}

/// What these ids stand for; the error is about all of them. It blocks, with a runtime of its own, so that it can be
/// asked before there is a gateway.
pub(super) fn values(
    name: &str,
    provider: &ExecProvider,
    ids: &[String],
    guard: &Guard,
) -> Result<Answers, String> {
    let key = format!("secrets.providers.{name}");
    if provider.plugin_integration.is_some() {
        return Err(format!("{key} is one of OpenClaw's plugins, which are not run here; give it a command"));
    }
    let program = trusted(Path::new(&provider.command), &provider.trusted_dirs)
        .map_err(|why| format!("{key}.command {why}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("{key} cannot be asked: {error}"))?;
    let said = runtime.block_on(async {
        let asking = ask(name, provider, program, ids, guard);
        timeout(limit(provider), asking)
            .await
            .unwrap_or_else(|_| Err(format!("took longer than {} ms", limit(provider).as_millis())))
    });
    // What it has started ends with its guard, which nobody waits for.
    runtime.shutdown_background();
    let said = said.map_err(|why| format!("{key} {why}"))?;
    read(&said, ids, provider.json_only.unwrap_or(true)).map_err(|why| format!("{key} {why}"))
}

/// The program, if nobody but its owner, who is this user or root, can put another in its place.
fn trusted(command: &Path, dirs: &[String]) -> Result<PathBuf, String> {
    if !command.is_absolute() {
        return Err("is no absolute path".into());
    }
    let user = rustix::process::geteuid().as_raw();
    let meta = |path: &Path| {
        std::fs::symlink_metadata(path)
            .map_err(|error| format!("cannot be used: {}: {error}", path.display()))
    };
    let program = meta(command)?;
    if program.is_symlink() {
        return Err("is a link; name the program itself, which realpath tells".into());
    }
    if !program.is_file() || program.mode() & 0o111 == 0 {
        return Err("is no program".into());
    }
    let real = command.canonicalize().map_err(|error| format!("cannot be used: {error}"))?;
    for path in real.ancestors() {
        let found = meta(path)?;
        // In a directory with the sticky bit others can make files, and not replace these.
        let shared = found.is_dir() && found.permissions().mode() & 0o1000 != 0;
        if found.mode() & 0o022 != 0 && !shared {
            return Err(format!(
                "is not safe: others may write {}; take that away with chmod go-w",
                path.display()
            ));
        }
        if found.uid() != user && found.uid() != 0 {
            return Err(format!("is not safe: {} belongs to another user", path.display()));
        }
    }
    let within = |dir: &String| expanded(dir).canonicalize().is_ok_and(|dir| real.starts_with(dir));
    if !dirs.is_empty() && !dirs.iter().any(within) {
        return Err("is in none of its trustedDirs".into());
    }
    Ok(real)
}

async fn ask(
    name: &str,
    provider: &ExecProvider,
    program: PathBuf,
    ids: &[String],
    guard: &Guard,
) -> Result<Zeroizing<Vec<u8>>, String> {
    let dir = program.parent().unwrap_or(Path::new("/")).to_owned();
    let mut command = Command::new(program).args(&provider.args).dir(dir).bare();
    for name in &provider.pass_env {
        if let Some(value) = std::env::var_os(name) {
            command = command.env(name, value);
        }
    }
    for (name, value) in &provider.env {
        command = command.env(name, value);
    }
    let mut child = command.spawn(guard).await.map_err(|error| format!("was not asked: {error}"))?;
    let question = json!({ "protocolVersion": 1, "provider": name, "ids": ids }).to_string();
    let silence = provider.no_output_timeout_ms.map_or(LONGEST, Duration::from_millis);
    let most = provider.max_output_bytes.unwrap_or(MAX_OUTPUT).min(MOST_OUTPUT);
    let said = talk(&mut child, question, silence, most).await?;
    match child.wait().await {
        Exit::Code(0) => Ok(said),
        Exit::Code(code) => Err(format!("ended with code {code}")),
        exit => Err(format!("ended with {exit:?}")),
    }
}

/// Asks, and hears the answer to its end. What it says on stderr may quote secrets and is thrown away.
async fn talk(
    child: &mut Child,
    question: String,
    silence: Duration,
    most: u64,
) -> Result<Zeroizing<Vec<u8>>, String> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(mut stdin), Some(mut stdout), Some(mut stderr)) = (stdin, stdout, stderr) else {
        return Err("has no pipes".into());
    };
    let telling = async move {
        // One that does not listen may know what to say all the same.
        let _ = stdin.write_all(question.as_bytes()).await;
    };
    let ignoring = async move {
        let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
    };
    let hearing = async move {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let mut said = Zeroizing::new(Vec::with_capacity(PIECE));
        let mut piece = Zeroizing::new(vec![0; PIECE]);
        loop {
            let heard = timeout_at(Instant::now() + silence, stdout.read(&mut piece)).await;
            let heard = heard.map_err(|_| format!("said nothing for {} ms", silence.as_millis()))?;
            let count = heard.map_err(|error| format!("cannot be heard: {error}"))?;
            if count == 0 {
                return Ok(said);
            }
            if said.len() + count > most {
                return Err(format!("said more than {most} bytes"));
            }
            if said.capacity() < said.len() + count {
                // Growing in place would leave the old text behind.
                let mut larger = Zeroizing::new(Vec::with_capacity(2 * said.capacity() + count));
                larger.extend_from_slice(&said);
                said = larger;
            }
            said.extend_from_slice(&piece[..count]);
        }
    };
    let (said, (), ()) = tokio::join!(hearing, telling, ignoring);
    said
}

/// What it answers.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    protocol_version: u64,
    #[serde(default)]
    values: BTreeMap<String, Value>,
    #[serde(default)]
    errors: BTreeMap<String, Value>,
}

fn read(said: &[u8], ids: &[String], json_only: bool) -> Result<Answers, String> {
    let text =
        std::str::from_utf8(said).map_err(|_| "answered with something that is no UTF-8 text".to_owned())?;
    let mut answer = match serde_json::from_str::<Answer>(text) {
        Ok(answer) => answer,
        Err(_) if !json_only && ids.len() == 1 && !text.trim().is_empty() => {
            let value = Secret::new(text.trim());
            return Ok(BTreeMap::from([(ids[0].clone(), Ok(value))]));
        }
        Err(_) => return Err("did not answer in the JSON it was asked for".into()),
    };
    if answer.protocol_version != 1 {
        return Err("answered in a version of the protocol that is not 1".into());
    }
    let mut one = |id: &String| match answer.values.remove(id) {
        _ if answer.errors.contains_key(id) => Err(reason(&answer.errors[id], id)),
        Some(Value::String(value)) if !value.trim().is_empty() => Ok(Secret::new(value)),
        Some(mut other) => {
            wipe(&mut other);
            Err(format!("its value of {id} is empty, or no text"))
        }
        None => Err(format!("it did not say anything about {id}")),
    };
    let answers = ids.iter().map(|id| (id.clone(), one(id))).collect();
    answer.values.values_mut().for_each(wipe);
    Ok(answers)
}

/// Only codes that are known are told: the rest may quote secrets.
fn reason(error: &Value, id: &str) -> String {
    match error["code"].as_str() {
        Some("NOT_FOUND") => format!("it knows no {id}"),
        Some("AMBIGUOUS_DUPLICATE_KEY") => format!("it knows more than one {id}"),
        _ => format!("it has no value for {id}"),
    }
}

#[cfg(test)]
#[path = "exec_tests.rs"]
mod tests;

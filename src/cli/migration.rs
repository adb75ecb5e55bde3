//! `crabtree config migrate`: writes older forms of keys as they are written now.

use std::process::ExitCode;

use crabtree_actors::config::older::{For, Older, renewed};
use crabtree_actors::config::{ConfigFile, Edit, Writing};
use serde_json::{Value, json};

use super::{Failure, Global, RunArgs, print_json, print_line, printable};
use crate::config::{self, Environment, Sources};

pub(super) fn run(global: &Global, dry_run: bool) -> Result<ExitCode, Failure> {
    let sources = global.sources(Environment::of_process(), &RunArgs::default())?;
    let older = found(&sources)?;
    let left = if dry_run { Vec::new() } else { written(&sources, &older)? };
    let why = |one: &Older| left.iter().find(|(path, _)| *path == one.key.path).map(|(_, why)| why);
    if global.json {
        let told = |one: &Older| json!({ "path": one.key.path, "became": one.key.became, "left": why(one) });
        let all: Vec<Value> = older.iter().map(told).collect();
        print_json(
            &json!({ "ok": left.is_empty(), "path": sources.path(), "dryRun": dry_run, "older": all }),
        );
    } else {
        for one in &older {
            let done = match (why(one), dry_run) {
                (Some(why), _) => format!("left  {}: {why}", one.key.path),
                (None, true) => format!("would write  {} as {}", one.key.path, one.key.became),
                (None, false) => format!("written  {} as {}", one.key.path, one.key.became),
            };
            print_line(&printable(&done));
        }
        if older.is_empty() {
            print_line(&printable(&format!("{}: nothing is older", sources.path().display())));
        }
    }
    Ok(if left.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is older in the files as they are.
fn found(sources: &Sources) -> Result<Vec<Older>, Failure> {
    Ok(renewed(&config::load(sources)?.raw, For::Writing).1)
}

/// Writes them: all at once if they stand in one file, else one after the other. What could not be written, and why.
fn written(sources: &Sources, older: &[Older]) -> Result<Vec<(String, String)>, Failure> {
    let file = ConfigFile::new(sources.clone().reader());
    if older.is_empty() || write(&file, older).is_ok() {
        return Ok(Vec::new());
    }
    let mut left: Vec<(String, String)> = Vec::new();
    for _ in older {
        // What is still older, after what is written already.
        let now = found(sources)?;
        let next = now.iter().find(|one| !left.iter().any(|(path, _)| *path == one.key.path));
        let Some(next) = next else { break };
        if let Err(why) = write(&file, std::slice::from_ref(next)) {
            left.push((next.key.path.clone(), why));
        }
    }
    Ok(left)
}

fn write(file: &ConfigFile, older: &[Older]) -> Result<(), String> {
    let changes = older.iter().flat_map(|one| one.changes.clone()).collect();
    let edit = Edit { writing: Writing::Changes(changes), answer: Box::new(|_| Value::Null) };
    file.rewrite(Box::new(move |_| Ok(edit)), None).map(drop).map_err(|refusal| refusal.message)
}

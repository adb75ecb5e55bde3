//! `system.run.prepare`: how a command would be started, for people to decide about; and whether what they agreed to
//! is still the same when it is to run.

use super::policy::{Denial, InForce, Start, hex, path};
use super::run::Asked;
use super::{Host, duty::Trouble};
use crabtree_actors::tools::exec::command::{Lookup, find};
use crabtree_protocol::params::approvals::FileOperand;
use crabtree_protocol::params::approvals::SystemRunPlan;
use crabtree_protocol::value::Maybe;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The largest file that a plan is bound to.
const MAX_BOUND: u64 = 1 << 30;
/// Programs that do what stands in a file they are given: it is that file the plan is bound to.
const INTERPRETERS: [&str; 12] =
    ["sh", "bash", "dash", "zsh", "ksh", "python", "perl", "ruby", "node", "php", "lua", "pwsh"];

/// How a command would be started.
///
/// # Errors
/// There is no such directory.
pub(super) fn start(asked: &Asked) -> Result<Start, Denial> {
    let named = asked.cwd.as_ref().map_or_else(std::env::current_dir, |cwd| Ok(PathBuf::from(cwd)));
    let cwd = named.and_then(|cwd| cwd.canonicalize()).ok().filter(|cwd| cwd.is_dir());
    let cwd = cwd.ok_or_else(Denial::no_directory)?;
    let word = asked.argv.first().map(String::as_str).unwrap_or_default();
    let program = find(word, &Lookup { dir: &cwd, path: &path(), home: None });
    Ok(Start { argv: asked.argv.clone(), program, cwd, has_env: !asked.env.is_empty() })
}

/// A command in one line, as it is shown and compared.
pub(super) fn text(argv: &[String]) -> String {
    let word = |word: &String| {
        let plain = !word.is_empty() && !word.contains(|c: char| c.is_whitespace() || c == '"');
        if plain { word.clone() } else { format!("\"{}\"", word.replace('"', "\\\"")) }
    };
    argv.iter().map(word).collect::<Vec<_>>().join(" ")
}

/// Carries out `system.run.prepare`.
pub(super) fn prepare(host: &Host, params: &Value) -> Result<Value, Trouble> {
    let asked = Asked::read(params)?;
    let trouble = |denial: Denial| Trouble::invalid(denial.message);
    let in_force = InForce::read(host, asked.agent_id.as_deref()).map_err(trouble)?;
    let mut start = start(&asked).map_err(trouble)?;
    let Some(program) = start.program.clone() else {
        let word = &asked.argv[0];
        return Err(Trouble::invalid(format!("SYSTEM_RUN_DENIED: there is no program {word} on this node")));
    };
    start.argv[0] = program.to_string_lossy().into_owned();
    let operand = operand(&start).map_err(|(path, why)| {
        Trouble::invalid(format!("SYSTEM_RUN_DENIED: {} cannot be bound: {why}", path.display()))
    })?;
    let plan = json!({
        "argv": start.argv,
        "cwd": start.cwd.to_string_lossy(),
        "commandText": text(&start.argv),
        "commandPreview": null,
        "agentId": asked.agent_id,
        "sessionKey": asked.session_key,
        "mutableFileOperand": operand,
        "policySnapshot": in_force.snapshot(),
    });
    let (brief, coverage) = (in_force.brief(), InForce::coverage(&start));
    Ok(json!({ "plan": plan, "execPolicy": brief, "allowAlwaysCoverage": coverage }))
}

/// The file that says what the command will do: the script of an interpreter, else the program itself.
fn operand(start: &Start) -> Result<FileOperand, (PathBuf, io::Error)> {
    let (index, path) = script(start).unwrap_or_else(|| (0, PathBuf::from(&start.argv[0])));
    let sha256 = digest(&path).map_err(|why| (path.clone(), why))?;
    let path = path.to_string_lossy().into_owned();
    let argv_index =
        crabtree_protocol::value::Int::new(index as u64).expect("an argument has a small number");
    Ok(FileOperand { argv_index, path, sha256 })
}

fn script(start: &Start) -> Option<(usize, PathBuf)> {
    let program = Path::new(start.argv.first()?).file_name()?.to_str()?;
    // `python3.12` is one, too.
    let name = program.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    if !INTERPRETERS.contains(&name) {
        return None;
    }
    let files = start.argv.iter().enumerate().skip(1).filter(|(_, word)| !word.starts_with('-'));
    files.map(|(index, word)| (index, start.cwd.join(word))).find(|(_, path)| path.is_file())
}

fn digest(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() || meta.len() > MAX_BOUND {
        return Err(io::Error::other(format!("it is no ordinary file of at most {MAX_BOUND} bytes")));
    }
    let (mut hash, mut piece) = (Sha256::new(), vec![0; 64 << 10]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hex(&hash.finalize())),
            n => hash.update(&piece[..n]),
        }
    }
}

/// Why what people agreed to is not what is asked for now.
#[derive(Debug, PartialEq)]
pub(super) enum Stale {
    /// The request makes no sense.
    Nonsense(&'static str),
    /// Something has changed since.
    Changed(Denial),
}

/// Whether a plan that people agreed to is this command, and nothing it depends on has changed.
///
/// # Errors
/// Why not.
pub(super) fn holds(
    plan: &SystemRunPlan,
    asked: &Asked,
    start: &Start,
    in_force: &InForce,
) -> Result<(), Stale> {
    let same = |planned: &Maybe<String>, said: Option<&str>| {
        planned.as_option().flatten().map(String::as_str) == said
    };
    let fits = plan.argv == asked.argv
        && asked.raw.as_ref().is_none_or(|raw| *raw == plan.command_text)
        && plan.command_text == text(&plan.argv)
        && same(&plan.cwd, asked.cwd.as_deref())
        && same(&plan.agent_id, asked.agent_id.as_deref())
        && same(&plan.session_key, asked.session_key.as_deref())
        && asked.env.is_empty();
    if !fits {
        return Err(Stale::Nonsense("explicit approval requires matching systemRunPlan"));
    }
    let changed = |why| Err(Stale::Changed(Denial::unapproved(why)));
    let Some(snapshot) = &plan.policy_snapshot else {
        return Err(Stale::Nonsense("delayed approval requires a prepared policy snapshot"));
    };
    if json!(snapshot) != json!(in_force.snapshot()) {
        return changed("exec approval policy changed; request approval again");
    }
    if plan.cwd.as_option().flatten().is_none_or(|cwd| Path::new(cwd) != start.cwd) {
        return changed("approval requires canonical cwd (no symlink path components)");
    }
    let planned = plan.mutable_file_operand.as_option().flatten();
    let now = operand(start).ok();
    if planned.is_none() || now.is_none() || json!(planned) != json!(now) {
        return changed("approval script operand changed before execution");
    }
    Ok(())
}

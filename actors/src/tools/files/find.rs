//! `ls` and `find`: what there is.

use super::walk::Walk;
use super::workspace::Kind;
use super::{Job, MAX_TEXT, NOTHING_YET, Outcome, ToolResult, define};
use crate::tools::Definition;
use ignore::overrides::{Override, OverrideBuilder};
use serde::Deserialize;
use serde_json::json;

/// Names in one result, unless a call says otherwise, and at most.
const LS_LIMIT: usize = 500;
const FIND_LIMIT: usize = 1_000;
const MAX_LIMIT: usize = 10_000;
/// Names of a directory that are looked at: they are sorted, so all of them are held at once.
const MAX_NAMES: usize = 100_000;

pub(super) fn ls_definition() -> Definition {
    let description =
        "List a directory of the workspace, hidden names included. A directory ends in /, a link in @.";
    let properties = json!({
        "path": {
            "type": "string",
            "description": "The directory, relative to the workspace; the workspace itself if there is none.",
        },
        "limit": {
            "type": "integer", "minimum": 1, "maximum": MAX_LIMIT,
            "description": "How many names at most (500).",
        },
    });
    define("ls", "List", description, properties, &[])
}

pub(super) fn definition() -> Definition {
    let description = "Find files and directories of the workspace by a glob. Paths are relative to the workspace. \
                       What .gitignore names is left out.";
    let properties = json!({
        "pattern": {
            "type": "string",
            "description": "The glob, such as *.md for names or src/**/*.rs for paths below the directory \
                            that is searched.",
        },
        "path": {
            "type": "string",
            "description": "The directory to search, relative to the workspace; all of it if there is none.",
        },
        "limit": {
            "type": "integer", "minimum": 1, "maximum": MAX_LIMIT,
            "description": "How many paths at most (1000).",
        },
    });
    define("find", "Find", description, properties, &["pattern"])
}

#[derive(Deserialize)]
struct LsArgs {
    path: Option<String>,
    limit: Option<usize>,
}

pub(super) fn ls(job: &Job) -> Outcome {
    let args: LsArgs = job.args()?;
    let Some(workspace) = job.workspace()? else { return Ok(ToolResult::text(NOTHING_YET)) };
    let path = workspace.inside(args.path.as_deref().unwrap_or("."))?;
    if !workspace.metadata(&path)?.is_dir() {
        return Err(format!("{} is no directory: `read` shows files.", path.display()));
    }
    let (entries, all) = workspace.entries(&path, MAX_NAMES)?;
    let count = entries.len();
    let mut list = List::new(args.limit.unwrap_or(LS_LIMIT));
    for entry in entries {
        if !list.add(&format!("{}{}", entry.name.display(), entry.kind.mark())) {
            break;
        }
    }
    let note = list.full.then(|| {
        let of = if all { count.to_string() } else { format!("more than {count}") };
        format!("[The first {} of {of} names. Raise limit, or use `find`.]", list.count)
    });
    let path = path.display().to_string();
    Ok(list.told("[The directory is empty.]", note, &path))
}

#[derive(Deserialize)]
struct FindArgs {
    pattern: String,
    path: Option<String>,
    limit: Option<usize>,
}

pub(super) fn find(job: &Job) -> Outcome {
    let args: FindArgs = job.args()?;
    let wanted = glob(&args.pattern)?;
    let Some(workspace) = job.workspace()? else { return Ok(ToolResult::text(NOTHING_YET)) };
    let start = workspace.inside(args.path.as_deref().unwrap_or("."))?;
    let below = workspace.resolved(&start)?;
    let mut walk = Walk::new(&workspace, &start, &job.cut)?;
    let mut list = List::new(args.limit.unwrap_or(FIND_LIMIT));
    for found in walk.by_ref() {
        let name = found.path.strip_prefix(&below).unwrap_or(&found.path);
        let fits = wanted.matched(name, found.kind == Kind::Dir).is_whitelist();
        if fits && !list.add(&format!("{}{}", found.path.display(), found.kind.mark())) {
            break;
        }
    }
    let note = if list.full {
        Some(format!("[There is more than these {} paths. Narrow the pattern, or raise limit.]", list.count))
    } else {
        shortfall(&walk)
    };
    Ok(list.told("[Nothing fits the pattern.]", note, &start.display().to_string()))
}

/// Paths that a glob fits: by name if it has no `/`, otherwise from the directory that is searched.
pub(super) fn glob(pattern: &str) -> Result<Override, String> {
    let mut globs = OverrideBuilder::new(".");
    let built = globs.add(pattern).and_then(|globs| globs.build());
    built.map_err(|e| format!("{pattern} is no glob: {e}"))
}

/// What a walk has not seen.
pub(super) fn shortfall(walk: &Walk<'_>) -> Option<String> {
    if walk.cut_short() {
        return Some("[There are too many files to look at all of them: give a path.]".into());
    }
    (walk.unread > 0).then(|| format!("[{} directories could not be read.]", walk.unread))
}

/// Lines up to a limit.
struct List {
    text: String,
    count: usize,
    limit: usize,
    /// There was one more than the limit.
    full: bool,
}

impl List {
    fn new(limit: usize) -> Self {
        Self { text: String::new(), count: 0, limit: limit.min(MAX_LIMIT), full: false }
    }

    /// Whether there was room.
    fn add(&mut self, line: &str) -> bool {
        if self.count == self.limit || self.text.len() + line.len() + 1 > MAX_TEXT {
            self.full = true;
            return false;
        }
        self.text.push_str(line);
        self.text.push('\n');
        self.count += 1;
        true
    }

    fn told(mut self, nothing: &str, note: Option<String>, path: &str) -> ToolResult {
        if self.count == 0 {
            self.text.push_str(nothing);
        }
        let truncated = note.is_some();
        if let Some(note) = note {
            self.text.push('\n');
            self.text.push_str(&note);
        }
        let details = json!({ "path": path, "count": self.count, "truncated": truncated });
        ToolResult::text(self.text.trim_end()).with_details(details)
    }
}

#[cfg(test)]
#[path = "find_tests.rs"]
mod tests;

//! `write` and `edit`: what changes files, whole or not at all.

use super::{Job, Outcome, ToolResult, Workspace, define};
use crate::tools::{Definition, Effects, Permission};
use serde::Deserialize;
use serde_json::json;
use std::path::Path;

/// Largest file that is written or edited, bytes.
const MAX_FILE: usize = 8 * 1024 * 1024;
/// How many places are looked for of a text that fits several, and how many of them are told.
const MAX_PLACES: usize = 100;
const TOLD_PLACES: usize = 5;
/// Lines of a text for which one that differs in white space is looked for.
const MAX_ALIKE: usize = 50;
const BYTE_ORDER_MARK: char = '\u{feff}';

pub(super) fn write_definition() -> Definition {
    let description = "Write a file of the workspace: it is made, with the directories it is in, or replaced as a \
                       whole. To change a part of a file use edit.";
    let properties = json!({
        "path": { "type": "string", "description": "The file, relative to the workspace." },
        "content": { "type": "string", "description": "All that the file shall contain." },
    });
    Definition {
        permissions: vec![Permission::FsWrite],
        // The same content at the same place, however often it is put there.
        effects: Effects::Repeatable,
        ..define("write", "Write", description, properties, &["path", "content"])
    }
}

pub(super) fn edit_definition() -> Definition {
    let description = "Replace a piece of text in a file of the workspace. oldText must be found exactly once, white \
                       space included; line ends of the file are kept.";
    let properties = json!({
        "path": { "type": "string", "description": "The file, relative to the workspace." },
        "oldText": {
            "type": "string",
            "description": "The text as it is now, with enough around it to fit one place only.",
        },
        "newText": { "type": "string", "description": "The text that takes its place." },
    });
    Definition {
        permissions: vec![Permission::FsRead, Permission::FsWrite],
        // Not repeatable: the new text may contain the old one, and would grow with each time.
        effects: Effects::External,
        ..define("edit", "Edit", description, properties, &["path", "oldText", "newText"])
    }
}

#[derive(Deserialize)]
struct WriteArgs {
    path: String,
    content: String,
}

pub(super) fn write(job: &Job) -> Outcome {
    let args: WriteArgs = job.args()?;
    if args.path.ends_with('/') {
        return Err(format!("{} names a directory: those are made by writing a file in them.", args.path));
    }
    let workspace = Workspace::made(&job.place.workspace)?;
    let path = workspace.inside(&args.path)?;
    let _alone = job.place.store.estate.workspace_files.lock();
    let created = put(job, &workspace, &path, &args.content)?;
    let (path, bytes) = (path.display().to_string(), args.content.len());
    let text = format!("{} {path} ({bytes} bytes).", if created { "Made" } else { "Replaced" });
    Ok(ToolResult::text(text).with_details(json!({ "path": path, "bytes": bytes, "created": created })))
}

fn put(job: &Job, workspace: &Workspace, path: &Path, content: &str) -> Result<bool, String> {
    if content.len() > MAX_FILE {
        return Err(format!("The file would have {} bytes; at most {MAX_FILE} are written.", content.len()));
    }
    // The lock may have been waited for.
    if job.cut.is_cancelled() {
        return Err("The call was ended.".into());
    }
    workspace.replace(path, content.as_bytes())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EditArgs {
    path: String,
    old_text: String,
    new_text: String,
}

pub(super) fn edit(job: &Job) -> Outcome {
    let args: EditArgs = job.args()?;
    let workspace = job.existing_workspace()?;
    let path = workspace.inside(&args.path)?;
    let shown = path.display().to_string();
    let _alone = job.place.store.estate.workspace_files.lock();
    let content = String::from_utf8(workspace.content(&path, MAX_FILE)?)
        .map_err(|_| format!("{shown} is not UTF-8 text: `edit` would damage it."))?;
    let (changed, line) = replaced(&content, &args.old_text, &args.new_text)
        .map_err(|why| format!("{shown} was not changed: {why}"))?;
    put(job, &workspace, &path, &changed)?;
    let details = json!({ "path": shown, "firstChangedLine": line, "bytes": changed.len() });
    Ok(ToolResult::text(format!("Changed {shown} at line {line}.")).with_details(details))
}

/// The text with its one occurrence of `old` replaced, and the line of that. The model sees line ends as `\n` and no
/// byte order mark, so both texts are brought to the line ends of the file, and the mark stays.
fn replaced(content: &str, old: &str, new: &str) -> Result<(String, usize), String> {
    if old.is_empty() {
        return Err("oldText is empty. To write a whole file use `write`.".into());
    }
    if old == new {
        return Err("oldText and newText are the same.".into());
    }
    let body = content.strip_prefix(BYTE_ORDER_MARK).unwrap_or(content);
    let crlf = body.split_once('\n').is_some_and(|(line, _)| line.ends_with('\r'));
    // Files can have both kinds of line ends; the kind of the first line is tried first.
    let found = [crlf, !crlf].into_iter().find_map(|crlf| {
        let old = with_line_ends(old, crlf);
        let places = places(body, &old);
        (!places.is_empty()).then(|| (places, old.len(), with_line_ends(new, crlf)))
    });
    let Some((places, length, new)) = found else {
        let hint = lines_alike(body, old).map_or_else(String::new, |line| {
            format!(" From line {line} on there is a text that differs from it in white space only.")
        });
        return Err(format!("oldText is not found. Read the file and copy the text exactly.{hint}"));
    };
    let line_of = |at: usize| body[..at].matches('\n').count() + 1;
    if places.len() > 1 {
        let lines: Vec<_> = places.iter().take(TOLD_PLACES).map(|at| line_of(*at).to_string()).collect();
        let (count, lines) = (places.len(), lines.join(", "));
        let (or_more, on) =
            (if count == MAX_PLACES { " or more" } else { "" }, if count > TOLD_PLACES { " …" } else { "" });
        return Err(format!(
            "oldText is found {count}{or_more} times (at lines {lines}{on}). Give more of the text around it, so \
             that it fits one place."
        ));
    }
    let at = places[0] + (content.len() - body.len());
    let changed = format!("{}{new}{}", &content[..at], &content[at + length..]);
    Ok((changed, line_of(places[0])))
}

fn with_line_ends(text: &str, crlf: bool) -> String {
    let text = text.replace("\r\n", "\n");
    if crlf { text.replace('\n', "\r\n") } else { text }
}

/// Where a text is found, overlapping places included, as far as they are looked for.
fn places(body: &str, text: &str) -> Vec<usize> {
    let (mut places, mut from) = (Vec::new(), 0);
    while let Some(at) = body[from..].find(text)
        && places.len() < MAX_PLACES
    {
        places.push(from + at);
        from = body.ceil_char_boundary(from + at + 1);
    }
    places
}

/// The first line of a place that is the same but for white space.
fn lines_alike(body: &str, text: &str) -> Option<usize> {
    let wanted: Vec<&str> = text.trim().lines().map(str::trim).collect();
    let lines: Vec<&str> = body.lines().map(str::trim).collect();
    if wanted.is_empty() || wanted.len() > MAX_ALIKE {
        return None;
    }
    lines.windows(wanted.len()).position(|window| window == wanted).map(|at| at + 1)
}

#[cfg(test)]
#[path = "change_tests.rs"]
mod tests;

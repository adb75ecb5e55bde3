//! `memory_search` and `memory_get`: what the agent remembers, in `MEMORY.md` and the files of `memory/`. They are
//! searched by words, ranked as BM25 does: what is rare counts more, and so does a short piece.

use super::read::Lines;
use super::{Job, Outcome, ToolResult, Watched, Workspace, define};
use crate::tools::Definition;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeSet;
use std::io::BufReader;
use std::path::{Component, Path, PathBuf};

const FILE: &str = "MEMORY.md";
const DIR: &str = "memory";
/// Files of memory that are searched, the newest names first, and how much of each and of all, bytes.
const MAX_FILES: usize = 1_000;
const MAX_FILE: usize = 1024 * 1024;
const MAX_ALL: usize = 8 * 1024 * 1024;
/// Places in one result, unless a call says otherwise, and at most.
const RESULTS: usize = 6;
const MAX_RESULTS: usize = 20;
/// Words of a query that count.
const MAX_WORDS: usize = 16;
/// How much of a piece is shown, bytes.
const MAX_SHOWN: usize = 1_000;
/// A piece ends at a blank line after so many lines, and at the latest after so many.
const ENOUGH_LINES: usize = 8;
const MAX_LINES: usize = 24;

pub(super) fn search_definition() -> Definition {
    let description = "Search what you remember (MEMORY.md and memory/*.md) by words. Do so before you answer \
                       questions about earlier work, decisions, dates, people or preferences; then read on with \
                       memory_get.";
    let properties = json!({
        "query": { "type": "string", "description": "Words to look for." },
        "maxResults": {
            "type": "integer", "minimum": 1, "maximum": MAX_RESULTS,
            "description": "How many places at most (6).",
        },
    });
    let definition = define("memory_search", "Memory Search", description, properties, &["query"]);
    Definition { group: "memory".into(), ..definition }
}

pub(super) fn get_definition() -> Definition {
    let description = "Read lines of MEMORY.md or of a file of memory/.";
    let properties = json!({
        "path": { "type": "string", "description": "MEMORY.md or memory/NAME.md." },
        "from": { "type": "integer", "minimum": 1, "description": "The first line, counted from 1." },
        "lines": { "type": "integer", "minimum": 1, "description": "How many lines." },
    });
    let definition = define("memory_get", "Memory Get", description, properties, &["path"]);
    Definition { group: "memory".into(), ..definition }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SearchArgs {
    query: String,
    max_results: Option<usize>,
}

pub(super) fn search(job: &Job) -> Outcome {
    let args: SearchArgs = job.args()?;
    let words = words(&args.query);
    if words.is_empty() {
        return Err("The query has no words to look for.".into());
    }
    let workspace = job.workspace()?;
    let (files, all) = workspace.map_or((Vec::new(), true), |workspace| remembered(job, &workspace));
    let mut ranked = ranked(files.iter().flat_map(Remembered::pieces).collect(), &words);
    ranked.truncate(args.max_results.unwrap_or(RESULTS).min(MAX_RESULTS));
    let mut text: Vec<String> = ranked.iter().map(|(piece, score)| piece.told(*score)).collect();
    if ranked.is_empty() {
        text.push("Nothing is remembered with these words.".into());
    }
    if !all {
        text.push("[There is more memory than is searched: tidy up old files of memory/.]".into());
    }
    let results = ranked.iter().map(|(piece, score)| {
        json!({ "path": piece.path, "startLine": piece.first, "endLine": piece.last(), "score": score })
    });
    let details = json!({ "results": results.collect::<Vec<_>>(), "truncated": !all });
    Ok(ToolResult::text(text.join("\n\n")).with_details(details))
}

#[derive(Deserialize)]
struct GetArgs {
    path: String,
    from: Option<u64>,
    lines: Option<u64>,
}

pub(super) fn get(job: &Job) -> Outcome {
    let args: GetArgs = job.args()?;
    let workspace = job.existing_workspace()?;
    let path = workspace.inside(&args.path)?;
    let shown = path.display().to_string();
    if !is_memory(&path) {
        return Err(format!(
            "{shown} is no memory: that is {FILE} and {DIR}/*.md. For other files use `read`."
        ));
    }
    let (file, _) = workspace.open_file(&path)?;
    let file = BufReader::new(Watched(file, &job.cut));
    let lines = Lines::read(file, args.from.unwrap_or(1), args.lines.unwrap_or(u64::MAX));
    lines.map_err(|e| workspace.wording(&path, &e))?.told(&shown, "from")
}

fn is_memory(path: &Path) -> bool {
    let parts: Option<Vec<&str>> = path
        .components()
        .filter(|part| *part != Component::CurDir)
        .map(|part| if let Component::Normal(name) = part { name.to_str() } else { None })
        .collect();
    match parts.as_deref() {
        Some([name]) => *name == FILE,
        Some([dir, name]) => *dir == DIR && name.ends_with(".md"),
        _ => false,
    }
}

/// A file of memory.
struct Remembered {
    path: String,
    text: String,
}

/// The files of memory, and whether that is all.
fn remembered(job: &Job, workspace: &Workspace) -> (Vec<Remembered>, bool) {
    let (entries, mut all) = workspace.entries(Path::new(DIR), MAX_FILES).unwrap_or((Vec::new(), true));
    // Days are written as YYYY-MM-DD: the last names are the newest.
    let names = entries.into_iter().rev().map(|entry| Path::new(DIR).join(entry.name));
    let (mut files, mut left) = (Vec::new(), MAX_ALL);
    for path in std::iter::once(PathBuf::from(FILE)).chain(names).filter(|path| is_memory(path)) {
        if job.cut.is_cancelled() || workspace.metadata(&path).is_err() {
            continue;
        }
        match workspace.content(&path, MAX_FILE.min(left)) {
            Ok(content) => {
                left -= content.len();
                let text = String::from_utf8_lossy(&content).into_owned();
                files.push(Remembered { path: path.display().to_string(), text });
            }
            Err(_) => all = false,
        }
    }
    (files, all)
}

/// Some lines of a file.
struct Piece<'a> {
    path: &'a str,
    first: usize,
    lines: Vec<&'a str>,
}

impl Remembered {
    /// Cut where a heading begins, or after a blank line.
    fn pieces(&self) -> Vec<Piece<'_>> {
        let mut pieces: Vec<Piece<'_>> = Vec::new();
        for (at, line) in self.text.lines().enumerate() {
            let goes_on = pieces.last().is_some_and(|piece| {
                let count = piece.lines.len();
                let paused = piece.lines.last().is_some_and(|line| line.trim().is_empty());
                !line.starts_with('#') && count < MAX_LINES && !(paused && count >= ENOUGH_LINES)
            });
            match pieces.last_mut() {
                Some(piece) if goes_on => piece.lines.push(line),
                _ => pieces.push(Piece { path: &self.path, first: at + 1, lines: vec![line] }),
            }
        }
        pieces
    }
}

impl Piece<'_> {
    fn last(&self) -> usize {
        self.first + self.lines.len() - 1
    }

    fn told(&self, score: f64) -> String {
        let text = self.lines.join("\n");
        let text = text.trim();
        let shown = &text[..text.floor_char_boundary(MAX_SHOWN)];
        let more = if shown.len() < text.len() { " […]" } else { "" };
        format!("{}:{}-{} (score {score:.2})\n{shown}{more}", self.path, self.first, self.last())
    }
}

/// What is looked for: each word once, in lower case.
fn words(query: &str) -> BTreeSet<String> {
    let query = query.to_lowercase();
    let words = query.split(|c: char| !c.is_alphanumeric()).filter(|word| word.len() > 1);
    words.map(str::to_owned).take(MAX_WORDS).collect()
}

/// The pieces that contain any of the words, the best first. Words are found within others too: some languages put
/// them together, and some write no spaces.
fn ranked<'a>(pieces: Vec<Piece<'a>>, words: &BTreeSet<String>) -> Vec<(Piece<'a>, f64)> {
    const SATURATION: f64 = 1.2;
    const LENGTH: f64 = 0.75;
    let count = pieces.len() as f64;
    let texts: Vec<String> = pieces.iter().map(|piece| piece.lines.join("\n").to_lowercase()).collect();
    let mean = texts.iter().map(String::len).sum::<usize>() as f64 / count.max(1.0);
    let mut scores = vec![0.0; pieces.len()];
    for word in words {
        let times: Vec<f64> = texts.iter().map(|text| text.matches(word.as_str()).count() as f64).collect();
        let with = times.iter().filter(|times| **times > 0.0).count() as f64;
        let rarity = (1.0 + (count - with + 0.5) / (with + 0.5)).ln();
        for ((score, times), text) in scores.iter_mut().zip(times).zip(&texts) {
            let length = 1.0 - LENGTH + LENGTH * text.len() as f64 / mean;
            *score += rarity * times * (SATURATION + 1.0) / (times + SATURATION * length);
        }
    }
    let mut ranked: Vec<_> = pieces.into_iter().zip(scores).filter(|(_, score)| *score > 0.0).collect();
    ranked.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    ranked
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;

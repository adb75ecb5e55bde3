//! `grep`: lines of files that a pattern fits.

use super::find::{glob, shortfall};
use super::walk::Walk;
use super::workspace::{Kind, Workspace};
use super::{Job, MAX_TEXT, NOTHING_YET, Outcome, ToolResult, Watched, define};
use crate::tools::Definition;
use grep_matcher::LineTerminator;
use grep_regex::{RegexMatcher, RegexMatcherBuilder};
use grep_searcher::{BinaryDetection, Searcher, SearcherBuilder, Sink, SinkContext, SinkMatch};
use serde::Deserialize;
use serde_json::json;
use std::io;
use std::path::Path;

/// Matches in one result, unless a call says otherwise, and at most.
const LIMIT: usize = 100;
const MAX_LIMIT: usize = 1_000;
/// Lines around a match, at most.
const MAX_CONTEXT: usize = 20;
/// How much of a line is shown, bytes.
const MAX_LINE: usize = 500;
/// Memory for a pattern, and for the lines of a file; a file with a longer line is passed over.
const MAX_PATTERN: usize = 2 * 1024 * 1024;
const MAX_HEAP: usize = 4 * 1024 * 1024;

pub(super) fn definition() -> Definition {
    let description = "Search the content of files of the workspace for a regular expression, line by line. Gives \
                       path:line: text. Binary files, and what .gitignore names, are left out.";
    let properties = json!({
        "pattern": {
            "type": "string",
            "description": "The regular expression (Rust syntax, no look-around), or a plain text with \
                            literal.",
        },
        "path": {
            "type": "string",
            "description": "The file or directory to search, relative to the workspace; all of it if there \
                            is none.",
        },
        "glob": {
            "type": "string",
            "description": "Only files this glob fits, such as *.md; !*.md for all others.",
        },
        "ignoreCase": { "type": "boolean", "description": "Upper and lower case are the same." },
        "literal": { "type": "boolean", "description": "The pattern is a plain text." },
        "context": {
            "type": "integer", "minimum": 0, "maximum": MAX_CONTEXT,
            "description": "Lines to show before and after each match (0).",
        },
        "limit": {
            "type": "integer", "minimum": 1, "maximum": MAX_LIMIT,
            "description": "How many matches at most (100).",
        },
    });
    define("grep", "Search", description, properties, &["pattern"])
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Args {
    pattern: String,
    path: Option<String>,
    glob: Option<String>,
    #[serde(default)]
    ignore_case: bool,
    #[serde(default)]
    literal: bool,
    #[serde(default)]
    context: usize,
    limit: Option<usize>,
}

impl Args {
    fn matcher(&self) -> Result<RegexMatcher, String> {
        let mut matcher = RegexMatcherBuilder::new();
        matcher.case_insensitive(self.ignore_case).fixed_strings(self.literal);
        // `^` and `$` are the ends of lines, and the search is by lines all the same.
        matcher.multi_line(true).crlf(true);
        matcher.size_limit(MAX_PATTERN).dfa_size_limit(MAX_PATTERN);
        matcher.build(&self.pattern).map_err(|e| {
            format!(
                "The pattern is no regular expression for single lines: {e}. For a plain text set literal."
            )
        })
    }
}

pub(super) fn grep(job: &Job) -> Outcome {
    let args: Args = job.args()?;
    let matcher = args.matcher()?;
    let wanted = args.glob.as_deref().map(glob).transpose()?;
    let Some(workspace) = job.workspace()? else { return Ok(ToolResult::text(NOTHING_YET)) };
    let start = workspace.inside(args.path.as_deref().unwrap_or("."))?;
    let mut search = Search {
        job,
        workspace: &workspace,
        searcher: searcher(args.context.min(MAX_CONTEXT)),
        matcher,
        page: Page::new(args.limit.unwrap_or(LIMIT).min(MAX_LIMIT)),
        passed_over: 0,
    };
    let mut note = None;
    if workspace.metadata(&start)?.is_dir() {
        let below = workspace.resolved(&start)?;
        let mut walk = Walk::new(&workspace, &start, &job.cut)?;
        for found in walk.by_ref().filter(|found| found.kind == Kind::File) {
            let name = found.path.strip_prefix(&below).unwrap_or(&found.path);
            if wanted.as_ref().is_some_and(|glob| glob.matched(name, false).is_ignore()) {
                continue;
            }
            if search.file(&found.path).is_err() {
                search.passed_over += 1;
            }
            if search.page.full() {
                break;
            }
        }
        note = shortfall(&walk);
    } else {
        search.file(&start)?;
    }
    Ok(search.told(&start, note))
}

fn searcher(context: usize) -> Searcher {
    let mut searcher = SearcherBuilder::new();
    searcher.before_context(context).after_context(context).line_number(true);
    searcher.line_terminator(LineTerminator::crlf());
    searcher.binary_detection(BinaryDetection::quit(0)).heap_limit(Some(MAX_HEAP));
    searcher.build()
}

struct Search<'a> {
    job: &'a Job,
    workspace: &'a Workspace,
    searcher: Searcher,
    matcher: RegexMatcher,
    page: Page,
    /// Files that could not be searched.
    passed_over: usize,
}

impl Search<'_> {
    fn file(&mut self, path: &Path) -> Result<(), String> {
        let (file, _) = self.workspace.open_file(path)?;
        self.page.path = path.display().to_string();
        let file = Watched(file, &self.job.cut);
        let searched = self.searcher.search_reader(&self.matcher, file, &mut self.page);
        searched.map_err(|e| self.workspace.wording(path, &e))
    }

    fn told(self, start: &Path, shortfall: Option<String>) -> ToolResult {
        let Page { mut text, matches, .. } = self.page;
        let mut notes = Vec::new();
        if matches == 0 {
            notes.push("[No line fits the pattern.]".to_owned());
        }
        if self.page.stopped {
            notes.push(format!("[Stopped after {matches} matches. Narrow the search, or raise limit.]"));
        }
        notes.extend(shortfall);
        if self.passed_over > 0 {
            notes.push(format!("[{} files could not be searched.]", self.passed_over));
        }
        if !text.is_empty() && !notes.is_empty() {
            text.push('\n');
        }
        text.push_str(&notes.join("\n"));
        let details =
            json!({ "path": start.display().to_string(), "count": matches, "truncated": self.page.stopped });
        ToolResult::text(text.trim_end()).with_details(details)
    }
}

/// What is shown.
struct Page {
    /// The file that is being searched.
    path: String,
    text: String,
    matches: usize,
    limit: usize,
    /// It was not searched to the end.
    stopped: bool,
}

impl Page {
    fn new(limit: usize) -> Self {
        Self { path: String::new(), text: String::new(), matches: 0, limit, stopped: false }
    }

    fn full(&mut self) -> bool {
        self.stopped |= self.matches >= self.limit || self.text.len() > MAX_TEXT - MAX_LINE;
        self.stopped
    }

    fn line(&mut self, number: Option<u64>, mark: char, bytes: &[u8]) {
        let (number, line) = (number.unwrap_or_default(), String::from_utf8_lossy(bytes));
        let line = line.trim_end_matches(['\r', '\n']);
        let shown = &line[..line.floor_char_boundary(MAX_LINE)];
        let more = if shown.len() < line.len() { " […]" } else { "" };
        self.text.push_str(&format!("{}{mark}{number}{mark} {shown}{more}\n", self.path));
    }
}

impl Sink for Page {
    type Error = io::Error;

    fn matched(&mut self, _: &Searcher, found: &SinkMatch<'_>) -> io::Result<bool> {
        if self.full() {
            return Ok(false);
        }
        self.line(found.line_number(), ':', found.bytes());
        self.matches += 1;
        Ok(true)
    }

    fn context(&mut self, _: &Searcher, context: &SinkContext<'_>) -> io::Result<bool> {
        if self.text.len() > MAX_TEXT - MAX_LINE {
            return Ok(false);
        }
        self.line(context.line_number(), '-', context.bytes());
        Ok(true)
    }

    fn context_break(&mut self, _: &Searcher) -> io::Result<bool> {
        self.text.push_str("--\n");
        Ok(true)
    }
}

#[cfg(test)]
#[path = "grep_tests.rs"]
mod tests;

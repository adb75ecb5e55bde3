//! `read`: lines of a text, or an image.

use super::{Job, MAX_TEXT, Outcome, ToolResult, Watched, define};
use crate::media::picture_type;
use crate::tools::Definition;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::json;
use std::io::{self, BufRead, BufReader, Read};

/// Lines in one result.
const MAX_LINES: u64 = 2_000;
/// Largest image, bytes: 5 MB as base64, which is what providers take.
const MAX_IMAGE: u64 = 3_750_000;
/// How far lines behind those that are shown are counted, bytes.
const MAX_COUNTED: u64 = 64 * 1024 * 1024;
/// How much of a file tells what it is.
const HEAD: usize = 8 * 1024;

pub(super) fn definition() -> Definition {
    let description = "Read a file of the workspace. Text is given by lines, at most 2,000 of them or 50 KB at once: \
                       go on with offset. Images (png, jpeg, gif, webp) are given as such.";
    let properties = json!({
        "path": { "type": "string", "description": "The file, relative to the workspace." },
        "offset": {
            "type": "integer", "minimum": 1,
            "description": "The first line to read, counted from 1.",
        },
        "limit": { "type": "integer", "minimum": 1, "description": "How many lines to read." },
    });
    define("read", "Read", description, properties, &["path"])
}

#[derive(Deserialize)]
struct Args {
    path: String,
    offset: Option<u64>,
    limit: Option<u64>,
}

pub(super) fn read(job: &Job) -> Outcome {
    let args: Args = job.args()?;
    let workspace = job.existing_workspace()?;
    let path = workspace.inside(&args.path)?;
    let (file, meta) = workspace.open_file(&path)?;
    let wording = |e: io::Error| workspace.wording(&path, &e);
    let mut file = BufReader::with_capacity(HEAD, Watched(file, &job.cut));
    let (shown, size) = (path.display().to_string(), meta.len());
    match Form::of(file.fill_buf().map_err(wording)?) {
        Form::Image(mime) => {
            let mut data = Vec::new();
            file.take(MAX_IMAGE + 1).read_to_end(&mut data).map_err(wording)?;
            if data.len() as u64 > MAX_IMAGE {
                return Err(format!(
                    "{shown} is an image of {size} bytes; at most {MAX_IMAGE} can be shown."
                ));
            }
            Ok(image(&shown, mime, &data))
        }
        Form::Binary(what) => Err(not_text(&shown, what, size)),
        Form::Text { mark } => {
            file.consume(mark);
            let first = args.offset.unwrap_or(1);
            let lines = Lines::read(file, first, args.limit.unwrap_or(MAX_LINES)).map_err(wording)?;
            if lines.text.contains('\0') {
                return Err(not_text(&shown, "binary data", size));
            }
            lines.told(&shown, "offset")
        }
    }
}

fn not_text(path: &str, what: &str, size: u64) -> String {
    format!("{path} is {what} ({size} bytes), not text: `read` cannot show it.")
}

fn image(path: &str, mime: &str, data: &[u8]) -> ToolResult {
    let content = vec![
        json!({ "type": "text", "text": format!("{path} [{mime}, {} bytes]", data.len()) }),
        json!({ "type": "image", "data": BASE64_STANDARD.encode(data), "mimeType": mime }),
    ];
    let details = json!({ "path": path, "bytes": data.len(), "mimeType": mime });
    ToolResult { content, details, is_error: false }
}

/// What a file is, by how it begins.
#[derive(Debug, PartialEq, Eq)]
enum Form {
    /// Text; `mark` bytes of a byte order mark come before it.
    Text { mark: usize },
    /// An image models can look at.
    Image(&'static str),
    /// Something else.
    Binary(&'static str),
}

impl Form {
    fn of(head: &[u8]) -> Self {
        const BINARY: [(&[u8], &str); 7] = [
            (b"%PDF-", "a PDF document"),
            (b"PK\x03\x04", "a zip archive or office document"),
            (b"\x1f\x8b", "gzip data"),
            (b"\x7fELF", "a program"),
            (b"SQLite format 3\0", "an SQLite database"),
            (b"\xff\xfe", "UTF-16 text"),
            (b"\xfe\xff", "UTF-16 text"),
        ];
        if let Some(picture) = picture_type(head) {
            return Self::Image(picture);
        }
        let known = BINARY.iter().find(|(begin, _)| head.starts_with(begin)).map(|(_, what)| *what);
        let binary = known.or_else(|| head.contains(&0).then_some("binary data"));
        let mark = if head.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        binary.map_or(Self::Text { mark }, Self::Binary)
    }
}

/// Some lines of a text.
pub(super) struct Lines {
    text: String,
    first: u64,
    shown: u64,
    /// How many there are, as far as they were counted.
    counted: u64,
    /// Whether that is all.
    to_end: bool,
    /// The one line that is shown did not fit.
    cut: bool,
    /// What is no UTF-8 was replaced.
    lossy: bool,
}

impl Lines {
    /// `most` lines from the line `first` on, as far as they fit one result. Line ends are given as `\n`.
    pub(super) fn read(mut from: impl BufRead, first: u64, most: u64) -> io::Result<Self> {
        let (most, mut before) = (most.min(MAX_LINES), 0);
        while before + 1 < first && from.skip_until(b'\n')? > 0 {
            before += 1;
        }
        let (mut text, mut line, mut shown, mut cut, mut unshown) = (Vec::new(), Vec::new(), 0, false, 0);
        while shown < most && before + 1 >= first {
            line.clear();
            let room = MAX_TEXT - text.len();
            if from.by_ref().take(room as u64 + 1).read_until(b'\n', &mut line)? == 0 {
                break;
            }
            let fits = line.len() <= room;
            if !fits && !line.ends_with(b"\n") {
                from.skip_until(b'\n')?;
            }
            if !fits && shown > 0 {
                unshown = 1;
                break;
            }
            cut = !fits;
            push_line(&mut text, &line, room);
            shown += 1;
            if cut {
                break;
            }
        }
        let (rest, to_end) = count_lines(from)?;
        let lossy = std::str::from_utf8(&text).is_err();
        let text = String::from_utf8_lossy(&text).into_owned();
        Ok(Self { text, first, shown, counted: before + shown + unshown + rest, to_end, cut, lossy })
    }

    /// For the model, with notes on what is missing, and the argument with which to go on.
    pub(super) fn told(self, path: &str, go_on: &str) -> Outcome {
        let Self { first, shown, counted, .. } = self;
        if shown == 0 && first > 1 {
            return Err(format!("{path} has {counted} lines: there is no line {first}."));
        }
        let (next, of) = (first + shown, if self.to_end { "" } else { "more than " });
        let more = next <= counted || !self.to_end;
        let mut notes = Vec::new();
        if shown == 0 {
            notes.push("[The file is empty.]".to_owned());
        }
        if self.cut {
            notes.push(format!(
                "[Line {first} is longer than {MAX_TEXT} bytes: only its beginning is shown.]"
            ));
        }
        if more {
            notes.push(format!("[Lines {first}-{} of {of}{counted}. Go on with {go_on}={next}.]", next - 1));
        }
        if self.lossy {
            notes.push("[Bytes that are no UTF-8 are shown as \u{fffd}.]".to_owned());
        }
        let details = json!({
            "path": path, "offset": first, "lines": shown, "totalLines": self.to_end.then_some(counted),
            "truncated": more || self.cut,
        });
        let mut text = self.text;
        if !notes.is_empty() && !text.is_empty() {
            text.push_str(if text.ends_with('\n') { "\n" } else { "\n\n" });
        }
        text.push_str(&notes.join("\n"));
        Ok(ToolResult::text(text).with_details(details))
    }
}

/// Adds as much of a line as there is room for; no character is cut in two.
fn push_line(text: &mut Vec<u8>, line: &[u8], room: usize) {
    let mut line = &line[..line.len().min(room)];
    if let Err(e) = std::str::from_utf8(line)
        && e.error_len().is_none()
        && line.len() == room
    {
        line = &line[..e.valid_up_to()];
    }
    if let Some(line) = line.strip_suffix(b"\r\n") {
        text.extend_from_slice(line);
        text.push(b'\n');
    } else {
        text.extend_from_slice(line);
    }
}

/// How many lines come, and whether they were counted to the end.
fn count_lines(from: impl BufRead) -> io::Result<(u64, bool)> {
    let mut from = from.take(MAX_COUNTED);
    let (mut lines, mut open) = (0, false);
    loop {
        let piece = from.fill_buf()?;
        let Some(last) = piece.last() else { break };
        open = *last != b'\n';
        lines += piece.iter().filter(|byte| **byte == b'\n').count() as u64;
        let length = piece.len();
        from.consume(length);
    }
    Ok((lines + u64::from(open), from.limit() > 0))
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;

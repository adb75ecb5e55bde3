//! What is kept of a session that is deleted: each of its transcripts as JSON lines in a zstd file, read back
//! before it gets its name. Everything here blocks.

use crate::sessions::message_row;
use crate::store::{self, Db, TranscriptInfo};
use blake3::Hasher;
use chrono::DateTime;
use ruzstd::decoding::StreamingDecoder;
use ruzstd::encoding::{CompressionLevel, compress};
use serde_json::{Value, json};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

/// Rows read at once: what is in memory of a transcript at the most.
const PAGE: u32 = 64;
/// How the lines are to be read: OpenClaw's number.
const VERSION: u32 = 3;

/// Writes an archive of each transcript of a session that has rows, the newest first.
///
/// # Errors
/// What the file system or the database says; then no archive is left behind.
pub(super) fn write(db: &Db, state: &Path, agent: &str, key: &str, now: i64) -> io::Result<Vec<PathBuf>> {
    let transcripts = db.read(|c| store::transcripts_of(c, key)).map_err(io::Error::other)?;
    let folder = folder(state, agent)?;
    let mut written = Vec::new();
    for transcript in transcripts.iter().rev().filter(|transcript| transcript.total > 0) {
        match write_one(db, &folder, key, transcript, now) {
            Ok(path) => written.push(path),
            Err(e) => {
                for path in written {
                    let _ = fs::remove_file(path);
                }
                return Err(e);
            }
        }
    }
    if !written.is_empty() {
        File::open(&folder)?.sync_all()?;
    }
    Ok(written)
}

/// Where an agent's archives are; made for its owner only.
fn folder(state: &Path, agent: &str) -> io::Result<PathBuf> {
    if !matches!(Path::new(agent).components().collect::<Vec<_>>()[..], [Component::Normal(_)]) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the agent's id is no name of a directory"));
    }
    let folder = state.join("agents").join(agent).join("sessions");
    DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    Ok(folder)
}

fn write_one(
    db: &Db,
    folder: &Path,
    key: &str,
    transcript: &TranscriptInfo,
    now: i64,
) -> io::Result<PathBuf> {
    let draft = folder.join(format!(".{}.{}.draft", transcript.session_id, transcript.id));
    let path = fill(&draft, Lines::new(db, key, transcript)).and_then(|hash| {
        let at = iso(now).replace(':', "-");
        let path = folder.join(format!("{}.jsonl.deleted.{at}.{hash}.zst", transcript.session_id));
        fs::rename(&draft, &path)?;
        Ok(path)
    });
    if path.is_err() {
        let _ = fs::remove_file(&draft);
    }
    path
}

/// Writes a file, and reads it back → the start of its content's hash.
fn fill(draft: &Path, mut lines: Lines<'_>) -> io::Result<String> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(draft)?;
    let mut sink = Sink { file, failed: None };
    compress(&mut lines, &mut sink, CompressionLevel::Fastest);
    if let Some(e) = lines.failed.or(sink.failed) {
        return Err(e);
    }
    sink.file.sync_all()?;
    let written = lines.hash.finalize();
    if content_hash(draft)? != written {
        return Err(io::Error::other("the archive does not read back as it was written"));
    }
    Ok(written.to_hex()[..32].to_owned())
}

fn content_hash(path: &Path) -> io::Result<blake3::Hash> {
    let mut content = StreamingDecoder::new(File::open(path)?).map_err(io::Error::other)?;
    let mut hash = Hasher::new();
    let mut buffer = vec![0; 65_536];
    loop {
        match content.read(&mut buffer)? {
            0 => return Ok(hash.finalize()),
            read => hash.update(&buffer[..read]),
        };
    }
}

fn iso(ms: i64) -> String {
    let at = DateTime::from_timestamp_millis(ms).unwrap_or_default();
    at.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// The lines of a transcript, read page by page. The compressor cannot bear errors: the text ends where one
/// happened, and it is found here.
struct Lines<'a> {
    db: &'a Db,
    transcript: i64,
    /// The last row that was read.
    raw_seq: i64,
    buffer: Vec<u8>,
    at: usize,
    hash: Hasher,
    failed: Option<io::Error>,
}

impl<'a> Lines<'a> {
    fn new(db: &'a Db, key: &str, transcript: &TranscriptInfo) -> Self {
        let head = json!({
            "type": "session",
            "version": VERSION,
            "id": transcript.session_id,
            "timestamp": iso(transcript.updated_at),
            "sessionKey": key,
            "lifecycleRevision": transcript.revision,
        });
        let mut lines = Self {
            db,
            transcript: transcript.id,
            raw_seq: 0,
            buffer: Vec::new(),
            at: 0,
            hash: Hasher::new(),
            failed: None,
        };
        lines.add(&head);
        lines
    }

    fn add(&mut self, line: &Value) {
        let from = self.buffer.len();
        self.buffer.extend_from_slice(line.to_string().as_bytes());
        self.buffer.push(b'\n');
        self.hash.update(&self.buffer[from..]);
    }

    fn next_page(&mut self) {
        self.buffer.clear();
        self.at = 0;
        let page = self.db.read(|c| store::transcript_rows(c, self.transcript, self.raw_seq, PAGE));
        match page {
            Ok(rows) => {
                for row in &rows {
                    self.raw_seq = row.raw_seq;
                    self.add(&json!({
                        "type": "message",
                        "id": row.id,
                        "parentId": row.parent,
                        "timestamp": iso(row.created_at),
                        "message": message_row(row),
                    }));
                }
            }
            Err(e) => self.failed = Some(io::Error::other(e)),
        }
    }
}

impl Read for Lines<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at == self.buffer.len() {
            self.next_page();
        }
        let rest = &self.buffer[self.at..];
        let count = rest.len().min(out.len());
        out[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        Ok(count)
    }
}

/// Where the compressor writes, which cannot bear errors either.
struct Sink {
    file: File,
    failed: Option<io::Error>,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.failed.is_none() {
            self.failed = self.file.write_all(bytes).err();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_stays_in_its_folder() {
        let state = tempfile::tempdir().unwrap();
        for agent in ["..", ".", "a/b", "/etc", ""] {
            assert!(folder(state.path(), agent).is_err(), "{agent}");
        }
        assert!(folder(state.path(), "main").unwrap().ends_with("agents/main/sessions"));
    }

    #[test]
    fn a_full_disk_is_an_error_and_not_a_panic() {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut sink = Sink { file: full, failed: None };
        let bytes: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
        compress(&bytes[..], &mut sink, CompressionLevel::Fastest);
        assert_eq!(sink.failed.unwrap().kind(), io::ErrorKind::StorageFull);
    }
}

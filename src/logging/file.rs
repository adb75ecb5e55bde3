//! The log's file: lines go to a thread of their own, so that nobody waits for a disk; what it does not take in time
//! is lost, and counted.

use crabtree_actors::log_ring::LogRing;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

/// Lines that may wait for the disk.
const QUEUE: usize = 4_096;
/// Files that are kept beside the one that is written, as OpenClaw keeps them.
const KEPT: usize = 5;
/// Lines that a file takes at the least, in bytes, whatever is configured.
const LEAST: u64 = 64 * 1024;
/// How long a disk that has refused is left alone.
const LEAVE_ALONE: Duration = Duration::from_secs(1);
/// How long the end of the process waits for the last lines.
const LAST_LINES: Duration = Duration::from_secs(2);

enum Said {
    Line(String),
    /// Answered when everything before is written.
    Flush(SyncSender<()>),
}

/// The way to the file.
#[derive(Clone)]
pub struct LogFile {
    said: SyncSender<Said>,
    ring: Arc<LogRing>,
}

impl LogFile {
    /// Opens it, and begins the thread.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn open(path: PathBuf, max_bytes: u64, ring: Arc<LogRing>) -> io::Result<Self> {
        let written = Written::open(path, max_bytes.max(LEAST))?;
        let (said, heard) = sync_channel(QUEUE);
        let lost = ring.clone();
        std::thread::Builder::new().name("log".into()).spawn(move || written.write_all(&heard, &lost))?;
        Ok(Self { said, ring })
    }

    /// Appends a line; waits for nothing.
    pub fn push(&self, line: String) {
        if self.said.try_send(Said::Line(line)).is_err() {
            self.ring.lost.count();
        }
    }

    /// Waits until what was said is written, for a while.
    pub fn flush(&self) {
        let (done, written) = sync_channel(1);
        if self.said.try_send(Said::Flush(done)).is_ok() {
            let _ = written.recv_timeout(LAST_LINES);
        }
    }
}

struct Written {
    path: PathBuf,
    max_bytes: u64,
    /// None while the disk is left alone.
    file: Option<BufWriter<File>>,
    size: u64,
    failed_at: Instant,
}

impl Written {
    fn open(path: PathBuf, max_bytes: u64) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        let (file, size) = append(&path)?;
        Ok(Self { path, max_bytes, file: Some(file), size, failed_at: Instant::now() })
    }

    fn write_all(mut self, heard: &Receiver<Said>, ring: &LogRing) {
        let mut next = heard.recv().ok();
        while let Some(said) = next {
            match said {
                Said::Line(line) => {
                    if self.line(&line).is_err() {
                        (self.file, self.failed_at) = (None, Instant::now());
                        ring.lost.count();
                    }
                }
                Said::Flush(done) => {
                    self.flush();
                    let _ = done.try_send(());
                }
            }
            next = match heard.try_recv() {
                Ok(said) => Some(said),
                Err(TryRecvError::Empty) => {
                    self.flush();
                    heard.recv().ok()
                }
                Err(TryRecvError::Disconnected) => None,
            };
        }
        self.flush();
    }

    fn line(&mut self, line: &str) -> io::Result<()> {
        let bytes = line.len() as u64 + 1;
        if self.size > 0 && self.size + bytes > self.max_bytes {
            self.flush();
            self.file = None;
            rotate(&self.path);
        } else if self.file.is_none() && self.failed_at.elapsed() < LEAVE_ALONE {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if self.file.is_none() {
            let (file, size) = append(&self.path)?;
            (self.file, self.size) = (Some(file), size);
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(line.as_bytes())?;
        file.write_all(b"\n")?;
        self.size += bytes;
        Ok(())
    }

    fn flush(&mut self) {
        if self.file.as_mut().is_some_and(|file| file.flush().is_err()) {
            (self.file, self.failed_at) = (None, Instant::now());
        }
    }
}

fn append(path: &Path) -> io::Result<(BufWriter<File>, u64)> {
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    let size = file.metadata()?.len();
    Ok((BufWriter::new(file), size))
}

/// `NAME.EXT` becomes `NAME.1.EXT`, that `NAME.2.EXT`, and the last one goes.
fn rotate(path: &Path) {
    for number in (1..=KEPT).rev() {
        let older = archive(path, number);
        let newer = if number == 1 { path.to_owned() } else { archive(path, number - 1) };
        // What is not there yet, or is held by somebody, stays as it is.
        let _ = fs::rename(newer, older);
    }
}

fn archive(path: &Path, number: usize) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let name = match path.extension() {
        Some(extension) => format!("{stem}.{number}.{}", extension.to_string_lossy()),
        None => format!("{stem}.{number}"),
    };
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn files_are_bounded_in_size_and_number_and_nothing_is_lost_before() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("logs/gateway.log");
        let ring = Arc::new(LogRing::default());
        let file = LogFile::open(path.clone(), 1, ring.clone()).expect("it can be written");
        let line = "x".repeat(999);
        for n in 0..1_000 {
            file.push(format!("{n:04}{line}"));
            if n % 500 == 0 {
                file.flush();
            }
        }
        file.flush();
        let mut names: Vec<_> = fs::read_dir(dir.path().join("logs")).expect("it is there").collect();
        assert_eq!(names.len(), 1 + KEPT, "{names:?}");
        for entry in names.drain(..).flatten() {
            let meta = entry.metadata().expect("a file");
            assert!(meta.len() <= LEAST && meta.permissions().mode() & 0o077 == 0);
        }
        let last = fs::read_to_string(&path).expect("lines");
        assert!(last.ends_with(&format!("0999{line}\n")));
        let before = fs::read_to_string(archive(&path, 1)).expect("lines");
        let number = |line: &str| line[..4].parse::<u32>().expect("a number");
        let (first, end) = (last.lines().next().expect("one"), before.lines().last().expect("one"));
        assert_eq!(number(first), number(end) + 1, "no line is missing between two files");
        assert_eq!(ring.lost.read(), 0);
    }

    #[test]
    fn nobody_waits_for_a_disk_that_hangs() {
        let ring = Arc::new(LogRing::default());
        // Nobody reads at the other end.
        let (said, _heard) = sync_channel(QUEUE);
        let file = LogFile { said, ring: ring.clone() };
        (0..QUEUE + 10).for_each(|_| file.push("line".into()));
        assert_eq!(ring.lost.read(), 10);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_said_at_the_start() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(LogFile::open(dir.path().to_owned(), 1, Arc::default()).is_err());
    }
}

//! The end of the log, kept in memory for `logs.tail`.
//!
//! A cursor is a byte offset since the process started; every line counts with its line feed. The ring outlives
//! every actor and is written while threads unwind: its lock is short, cannot be poisoned, and nothing in it panics.

use std::collections::VecDeque;

use crate::meters::Counter;
use parking_lot::Mutex;
use serde::Serialize;

/// What the ring holds at most. Half a day of a quiet gateway, and nothing next to its other buffers.
const MAX_BYTES: usize = 256 * 1024;
/// Lines at most, so that a storm of short lines stays cheap to scan.
const MAX_LINES: usize = 4096;
/// One line at most; what is longer is cut.
const MAX_LINE_BYTES: usize = 16 * 1024;

/// The last lines of the log.
#[derive(Default)]
pub struct LogRing {
    held: Mutex<Held>,
    levels: [Counter; 5],
    /// Lines that the log's file did not take in time.
    pub lost: Counter,
}

#[derive(Default)]
struct Held {
    lines: VecDeque<String>,
    /// Offset of the first held line, and of the next one to come.
    start: u64,
    end: u64,
}

/// A piece of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tail {
    /// Where the next call goes on.
    pub cursor: u64,
    /// Bytes logged since the process started.
    pub size: u64,
    /// The lines, oldest first.
    pub lines: Vec<String>,
    /// Lines before these were left out, because they are gone or for their size.
    pub truncated: bool,
    /// The given cursor could not be followed.
    pub reset: bool,
}

impl LogRing {
    /// Counts a line of this level, from 0 (error) to 4 (trace).
    pub fn count(&self, level: usize) {
        self.levels[level.min(4)].count();
    }

    /// How many lines there were of each level, errors first.
    pub fn counted(&self) -> [u64; 5] {
        self.levels.each_ref().map(Counter::read)
    }

    /// Appends a line.
    pub fn push(&self, mut line: String) {
        line.truncate(line.floor_char_boundary(MAX_LINE_BYTES));
        let mut held = self.held.lock();
        held.end += width(&line);
        held.lines.push_back(line);
        while held.lines.len() > MAX_LINES || held.end - held.start > MAX_BYTES as u64 {
            let Some(oldest) = held.lines.pop_front() else { break };
            held.start += width(&oldest);
        }
    }

    /// The last `limit` lines after `cursor`, of `max_bytes` at most.
    pub fn tail(&self, cursor: Option<u64>, limit: usize, max_bytes: usize) -> Tail {
        let held = self.held.lock();
        let reachable = held.start.max(held.end.saturating_sub(max_bytes as u64));
        let (from, reset) = match cursor {
            Some(cursor) if (reachable..=held.end).contains(&cursor) => (cursor, false),
            Some(_) => (reachable, true),
            None => (reachable, false),
        };
        // Backwards, to the first line that starts before `from`.
        let (mut lines, mut offset) = (Vec::new(), held.end);
        for line in held.lines.iter().rev().take(limit) {
            offset -= width(line);
            if offset < from {
                break;
            }
            lines.push(line.clone());
        }
        lines.reverse();
        let truncated = if reset || cursor.is_none() { from > 0 } else { false };
        Tail { cursor: held.end, size: held.end, lines, truncated, reset }
    }
}

fn width(line: &str) -> u64 {
    line.len() as u64 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: usize = usize::MAX;

    fn ring(lines: &[&str]) -> LogRing {
        let ring = LogRing::default();
        lines.iter().for_each(|line| ring.push((*line).to_owned()));
        ring
    }

    #[test]
    fn a_cursor_follows_what_is_new() {
        let ring = ring(&["one", "two"]);
        let first = ring.tail(None, ALL, ALL);
        assert_eq!(
            first,
            Tail {
                cursor: 8,
                size: 8,
                lines: vec!["one".into(), "two".into()],
                truncated: false,
                reset: false,
            }
        );
        assert!(ring.tail(Some(first.cursor), ALL, ALL).lines.is_empty());
        ring.push("three".into());
        let next = ring.tail(Some(first.cursor), ALL, ALL);
        assert_eq!(
            (next.lines, next.cursor, next.truncated, next.reset),
            (vec!["three".into()], 14, false, false)
        );
    }

    #[test]
    fn limits_keep_the_newest_whole_lines() {
        let ring = ring(&["one", "two", "three"]);
        assert_eq!(ring.tail(None, 1, ALL).lines, ["three"]);
        let cut = ring.tail(None, ALL, 11);
        assert_eq!((cut.lines, cut.truncated, cut.reset), (vec!["two".into(), "three".into()], true, false));
        let behind = ring.tail(Some(0), ALL, 6);
        assert_eq!((behind.lines, behind.truncated, behind.reset), (vec!["three".into()], true, true));
        assert_eq!(ring.tail(Some(1), ALL, ALL).lines, ["two", "three"], "a cursor inside a line skips it");
    }

    #[test]
    fn a_cursor_of_another_process_resets() {
        let tail = ring(&["one"]).tail(Some(1000), ALL, ALL);
        assert_eq!(
            (tail.lines, tail.cursor, tail.reset, tail.truncated),
            (vec!["one".into()], 4, true, false)
        );
    }

    #[test]
    fn it_stays_within_its_bounds() {
        let ring = LogRing::default();
        ring.push("é".repeat(MAX_LINE_BYTES));
        assert_eq!(ring.tail(None, ALL, ALL).lines[0].len(), MAX_LINE_BYTES);
        (0..2 * MAX_LINES).for_each(|_| ring.push("x".repeat(100)));
        let all = ring.tail(Some(0), ALL, ALL);
        assert!(all.lines.len() <= MAX_BYTES / 101 && all.truncated && all.reset, "{}", all.lines.len());
        (0..2 * MAX_LINES).for_each(|_| ring.push(String::new()));
        assert_eq!(ring.tail(None, ALL, ALL).lines.len(), MAX_LINES);
    }
}

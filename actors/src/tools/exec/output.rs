//! What a command has written so far, as much of it as is kept.

use std::collections::VecDeque;

/// How much of the beginning is kept, and how much of the end, bytes.
const HALF: usize = 100_000;
/// How much of the end is shown while the command runs, characters.
const TAIL: usize = 2_000;

/// The beginning and the end of an output.
#[derive(Debug, Default)]
pub struct Output {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    left_out: u64,
}

impl Output {
    /// More of it.
    pub fn push(&mut self, bytes: &[u8]) {
        let (head, rest) = bytes.split_at(bytes.len().min(HALF - self.head.len()));
        self.head.extend(head);
        self.tail.extend(rest);
        let excess = self.tail.len().saturating_sub(HALF);
        self.tail.drain(..excess);
        self.left_out += excess as u64;
    }

    /// All that is kept, with a note where something is left out. What is not UTF-8 is replaced, NULs are removed.
    pub fn text(&self) -> String {
        let tail: Vec<u8> = self.tail.iter().copied().collect();
        if self.left_out == 0 {
            return readable(&[&self.head[..], &tail].concat());
        }
        // Characters that were cut in two are left out as a whole.
        let cut = char::REPLACEMENT_CHARACTER;
        let (head, tail) = (readable(&self.head), readable(&tail));
        let (head, tail) = (head.trim_end_matches(cut), tail.trim_start_matches(cut));
        format!("{head}\n[{} bytes left out: too much output]\n{tail}", self.left_out)
    }

    /// The last of it.
    pub fn tail(&self) -> String {
        // No character takes more than four bytes.
        let start = self.tail.len().saturating_sub(4 * TAIL);
        let mut bytes: Vec<u8> = self.tail.range(start..).copied().collect();
        if bytes.len() < 4 * TAIL && self.left_out == 0 {
            let missing = 4 * TAIL - bytes.len();
            let head = &self.head[self.head.len().saturating_sub(missing)..];
            bytes = [head, &bytes].concat();
        }
        let text = readable(&bytes);
        let skipped = text.chars().count().saturating_sub(TAIL);
        text.chars().skip(skipped).collect()
    }
}

fn readable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\0', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_short_is_kept_as_it_is() {
        let mut output = Output::default();
        output.push(b"a\x1b[1mb\0\n");
        output.push("ü".as_bytes().split_at(1).0);
        output.push("ü".as_bytes().split_at(1).1);
        output.push(b"\xff");
        assert_eq!(output.text(), "a\u{1b}[1mb\nü\u{fffd}");
        assert_eq!(output.tail(), output.text());
    }

    #[test]
    fn of_a_flood_the_two_ends_are_kept() {
        let mut output = Output::default();
        output.push(b"begin ");
        for _ in 0..1_000 {
            output.push("ü".repeat(500).as_bytes());
        }
        output.push(b" end");
        let text = output.text();
        assert!(text.starts_with("begin ü") && text.ends_with("ü end"));
        assert!(text.contains("ü\n[800010 bytes left out: too much output]\nü"), "{}", text.len());
        assert!(text.len() <= 2 * HALF + 100, "{}", text.len());
        assert!(output.head.len() + output.tail.len() <= 2 * HALF);
        assert_eq!(output.tail().chars().count(), TAIL);
        assert!(output.tail().ends_with("ü end"));
    }

    #[test]
    fn the_last_of_it_spans_both_halves() {
        let mut output = Output::default();
        output.push(&[b'a'; HALF]);
        output.push(b"bcd");
        assert_eq!(output.tail(), format!("{}bcd", "a".repeat(TAIL - 3)));
    }
}

//! Long texts in pieces that a platform takes. A piece ends where a paragraph does, else a line, else a word; a block
//! of code that is cut ends with its fence and goes on under the same.

use super::contract::Unit;

/// What a fence takes of a piece at the most: the end of one block and the beginning of the next.
const FENCE_ROOM: usize = 64;
/// The shortest limit: every character fits, in whatever unit.
const LEAST: usize = 4;

/// The pieces of a Markdown text, none longer than `limit` of `unit`; none of an empty one.
pub fn chunks(text: &str, limit: usize, unit: Unit) -> Vec<String> {
    let limit = limit.max(LEAST);
    // Where little fits, fences would leave no room for what is in them.
    let room = if limit < 2 * FENCE_ROOM { 0 } else { FENCE_ROOM };
    let (mut pieces, mut rest, mut reopened) = (Vec::new(), text.trim().to_owned(), 0);
    while unit.of(&rest) > limit {
        let longest = prefix(&rest, limit - room, unit);
        let at = cut(&rest[..longest], reopened);
        let (piece, after) = rest.split_at(at);
        match open_fence(piece).filter(|_| room > 0) {
            Some(fence) => {
                let opens = format!("{fence}\n");
                pieces.push(format!("{}\n{}", piece.trim_end(), marks(&fence)));
                reopened = opens.len();
                rest = format!("{opens}{}", after.strip_prefix('\n').unwrap_or(after));
            }
            None => {
                pieces.push(piece.trim_end().to_owned());
                reopened = 0;
                rest = after.trim_start().to_owned();
            }
        }
    }
    pieces.push(rest);
    pieces.retain(|piece| !piece.trim().is_empty());
    pieces
}

/// The bytes of the longest beginning that is no longer than `limit`.
fn prefix(text: &str, limit: usize, unit: Unit) -> usize {
    let mut used = 0;
    for (at, c) in text.char_indices() {
        used += match unit {
            Unit::Chars => 1,
            Unit::Utf16 => c.len_utf16(),
            Unit::Bytes => c.len_utf8(),
        };
        if used > limit {
            return at;
        }
    }
    text.len()
}

/// Where a beginning is best cut, behind its first `at_least` bytes: a fence that was opened again is no piece.
fn cut(text: &str, at_least: usize) -> usize {
    let half = text.len() / 2;
    let late = |at: usize| at > half && at > at_least;
    let found = |pattern: &str| text.rfind(pattern).map(|at| at + pattern.len()).filter(|at| late(*at));
    // In the middle of a block of code there is no paragraph to keep together.
    let paragraph = found("\n\n").filter(|at| open_fence(&text[..*at]).is_none());
    let fence = before_fence(text).filter(|at| late(*at));
    let cut = paragraph.or(fence).or_else(|| found("\n")).or_else(|| found(". ")).or_else(|| found(" "));
    cut.unwrap_or(text.len())
}

/// Where the block of code begins that is open at the end.
fn before_fence(text: &str) -> Option<usize> {
    open_fence(text)?;
    text.rmatch_indices("```").map(|(at, _)| at).find(|at| *at == 0 || text[..*at].ends_with('\n'))
}

/// The line that opens the block of code which is open at the end of a text.
fn open_fence(text: &str) -> Option<String> {
    let mut open: Option<&str> = None;
    for line in text.lines() {
        let line = line.trim_start();
        let is_fence = line.starts_with("```") || line.starts_with("~~~");
        open = match open {
            None if is_fence => Some(line),
            Some(fence) if is_fence && line.trim_end() == marks(fence) => None,
            other => other,
        };
    }
    // A fence whose first line is longer than this is no fence.
    open.filter(|fence| fence.len() < FENCE_ROOM / 2).map(|fence| fence.trim_end().to_owned())
}

/// The marks that a fence begins with, and that end it.
fn marks(fence: &str) -> String {
    let mark = fence.chars().next().unwrap_or('`');
    fence.chars().take_while(|c| *c == mark).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_one_piece_and_nothing_is_none() {
        assert_eq!(chunks(" hello \n", 200, Unit::Chars), ["hello"]);
        assert!(chunks(" \n", 200, Unit::Chars).is_empty());
    }

    #[test]
    fn a_piece_ends_with_a_paragraph_a_line_or_a_word() {
        let paragraph = "word ".repeat(20);
        let text = format!("{paragraph}\n\n{paragraph}\n\n{paragraph}");
        let pieces = chunks(&text, 300, Unit::Chars);
        assert_eq!(pieces.len(), 2, "{pieces:?}");
        assert!(pieces.iter().all(|piece| piece.ends_with("word") && piece.len() <= 300));
        let words = chunks(&"word ".repeat(100), 200, Unit::Chars);
        assert!(words.iter().all(|piece| piece.ends_with("word")), "{words:?}");
        let one = "x".repeat(1_000);
        assert_eq!(chunks(&one, 300, Unit::Chars).concat(), one);
    }

    #[test]
    fn a_block_of_code_stays_one_in_every_piece() {
        let lines: String = (0..60).map(|n| format!("let line_{n} = {n};\n")).collect();
        let text = format!("Look:\n\n```rust\n{lines}```\n\nThat is all.");
        let pieces = chunks(&text, 400, Unit::Chars);
        assert!(pieces.len() > 2);
        for piece in &pieces {
            assert!(piece.chars().count() <= 400, "{}", piece.len());
            assert_eq!(piece.matches("```").count() % 2, 0, "{piece}");
            assert!(!piece.contains("let") || piece.contains("```rust\n"), "{piece}");
        }
        let code: String = pieces.iter().flat_map(|p| p.lines()).filter(|l| l.starts_with("let")).collect();
        assert_eq!(code, lines.replace('\n', ""), "every line once, and in order");
    }

    #[test]
    fn pieces_are_counted_as_the_platform_counts() {
        let crabs = "🦀".repeat(300);
        assert!(chunks(&crabs, 200, Unit::Utf16).iter().all(|piece| Unit::Utf16.of(piece) <= 200));
        assert!(chunks(&crabs, 200, Unit::Bytes).iter().all(|piece| piece.len() <= 200));
        for (limit, unit) in [(128, Unit::Chars), (1, Unit::Chars), (200, Unit::Bytes)] {
            assert_eq!(chunks(&crabs, limit, unit).concat(), crabs, "{limit} {unit:?}");
        }
    }

    /// Whatever a model writes, pieces are within the limit and end.
    #[test]
    fn however_little_a_platform_takes_no_piece_is_longer() {
        let text = "one two three\n```\nlet four = 5;\n```\nsix 🦀🦀🦀";
        for (limit, unit) in [(24, Unit::Chars), (7, Unit::Utf16), (4, Unit::Bytes), (0, Unit::Bytes)] {
            let pieces = chunks(text, limit, unit);
            assert!(pieces.iter().all(|piece| unit.of(piece) <= limit.max(LEAST)), "{limit}: {pieces:?}");
            let letters = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            assert_eq!(letters(&pieces.concat()), letters(text));
        }
    }

    #[test]
    fn odd_texts_are_cut_too() {
        for text in [
            "```".repeat(400),
            "```x\n".repeat(200),
            "\n".repeat(900),
            format!("```{}\n{}", "y".repeat(90), "z ".repeat(400)),
        ] {
            let pieces = chunks(&text, 200, Unit::Chars);
            assert!(pieces.iter().all(|piece| piece.chars().count() <= 200), "{pieces:?}");
        }
    }
}

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
        let (piece, after) = rest.split_at(cut(&rest, longest, reopened));
        match open_fence(piece).filter(|_| room > 0) {
            Some(fence) => {
                if !piece[reopened..].trim().is_empty() {
                    pieces.push(format!("{}\n{}", piece.trim_end(), marks(&fence)));
                }
                let after = after.strip_prefix('\n').unwrap_or(after);
                let (next, behind) = after.trim_start().split_once('\n').unwrap_or((after.trim_start(), ""));
                // Of a block that is over, nothing goes on.
                let opens = if ends(next.trim(), &fence) { String::new() } else { format!("{fence}\n") };
                reopened = opens.len();
                rest = if opens.is_empty() { behind.trim_start().to_owned() } else { opens + after };
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

/// Where a text is best cut, behind its first `at_least` bytes and not behind `longest`: a fence that was opened again is
/// no piece.
fn cut(text: &str, longest: usize, at_least: usize) -> usize {
    let start = &text[..longest];
    let late = |at: &usize| *at > longest / 2 && *at > at_least;
    let found = |pattern: &str| {
        let mut ends = start.rmatch_indices(pattern).map(|(at, _)| at + pattern.len());
        ends.find(|at| late(at) && !makes_fence(text, *at))
    };
    // In the middle of a block of code there is no paragraph to keep together.
    let paragraph = found("\n\n").filter(|at| open_fence(&text[..*at]).is_none());
    let fence = before_fence(start).filter(late);
    let cut = paragraph.or(fence).or_else(|| found("\n")).or_else(|| found(". ")).or_else(|| found(" "));
    let anywhere = || {
        let mut ends = (at_least + 1..=longest).rev().filter(|at| text.is_char_boundary(*at));
        ends.find(|at| !makes_fence(text, *at))
    };
    cut.or_else(anywhere).unwrap_or(longest)
}

/// Whether what stands in the middle of a line would be a fence behind a cut there.
fn makes_fence(text: &str, at: usize) -> bool {
    let (before, after) = text.split_at(at);
    !before.ends_with('\n') && is_fence(after.trim_start().lines().next().unwrap_or_default())
}

/// Where the block of code begins that is open at the end.
fn before_fence(text: &str) -> Option<usize> {
    open_fence(text)?;
    text.rmatch_indices("```").map(|(at, _)| at).find(|at| *at == 0 || text[..*at].ends_with('\n'))
}

/// The line that opens the block of code which is open at the end of a text; only its marks, where it is long.
fn open_fence(text: &str) -> Option<String> {
    let open =
        text.lines().map(str::trim).filter(|line| is_fence(line)).fold(None, |open, line| match open {
            None => Some(line),
            Some(fence) if ends(line, fence) => None,
            other => other,
        })?;
    let fits = |fence: &String| fence.len() < FENCE_ROOM / 2;
    Some(open.to_owned()).filter(fits).or_else(|| Some(marks(open)).filter(fits))
}

/// Whether a line may begin a block of code. What has backticks behind those it begins with is code within a line.
fn is_fence(line: &str) -> bool {
    let marks = marks(line);
    let is_inline = marks.starts_with('`') && line[marks.len()..].contains('`');
    marks.len() >= 3 && line.starts_with(['`', '~']) && !is_inline
}

/// Whether a line ends the block of code that a fence has begun.
fn ends(line: &str, fence: &str) -> bool {
    let own = marks(line);
    own.len() == line.len() && own.starts_with(&marks(fence))
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
    fn a_cut_makes_no_fence_of_what_is_none() {
        let text = format!("{}```code and on. {}", "word ".repeat(19), "word ".repeat(60));
        let pieces = chunks(&text, 160, Unit::Chars);
        assert!(pieces.len() > 2 && pieces.iter().all(|piece| !piece.starts_with("```")), "{pieces:?}");
        assert_eq!(pieces.concat().matches("```").count(), 1, "{pieces:?}");
        let hard = format!("{}```{}", "x".repeat(136), "y".repeat(100));
        assert!(chunks(&hard, 200, Unit::Chars).iter().all(|piece| !piece.starts_with("```")));
    }

    #[test]
    fn a_block_with_much_to_say_of_itself_is_one_too_and_none_is_empty() {
        let code = "let x = 1;\n".repeat(30);
        let pieces = chunks(&format!("````rust {}\n{code}`````\n", "y".repeat(40)), 200, Unit::Chars);
        assert!(pieces.len() > 2 && pieces[1].starts_with("````\nlet"), "{pieces:?}");
        assert!(pieces.iter().all(|piece| piece.matches("````").count() == 2), "{pieces:?}");
        for words in 1..40 {
            let text = format!("```\n{}\n\n```\n{}", "word ".repeat(words), "after ".repeat(40));
            let pieces = chunks(&text, 200, Unit::Chars);
            assert!(pieces.iter().all(|piece| !piece.contains("```\n```")), "{pieces:?}");
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

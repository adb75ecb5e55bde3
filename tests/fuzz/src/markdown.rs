//! An answer that is cut into the messages of a platform: none is too long, nothing that was said is lost or changes its
//! place, and what is code in the answer is code in every piece.

use crate::Target;
use crabtree_actors::channels::Answer;
use crabtree_actors::channels::contract::{Address, Capabilities, Kind, Unit};
use std::collections::BTreeSet;
use std::sync::LazyLock;

/// See the module.
pub const TARGET: Target = Target {
    name: "markdown",
    read,
    steps: 2,
    seeds,
    words: &[
        "```",
        "```rust\n",
        "\n```\n",
        "~~~",
        "~~~~\n",
        "````",
        "\n\n",
        "\n",
        " ",
        ". ",
        "# ",
        "- ",
        "> ",
        "|",
        "🦀",
        "\u{301}",
        "\u{2028}",
        "\t",
        "    ",
        "`",
        "\r\n",
        "words and words and words ",
        "let x = 1;\n",
    ],
    inputs: 15_000,
};

/// So many marks are no fence to the cutter, and may be cut in their midst.
static LONG_FENCES: LazyLock<[String; 2]> = LazyLock::new(|| ["`", "~"].map(|mark| mark.repeat(32)));

/// The first line is how much a message takes.
fn seeds() -> Vec<String> {
    let lines: String = (0..40).map(|n| format!("let line_{n} = {n};\n")).collect();
    let texts = [
        "hello".to_owned(),
        "word ".repeat(200),
        format!("{0}\n\n{0}\n\n{0}", "word and word. ".repeat(12)),
        format!("Look:\n\n```rust\n{lines}```\n\nThat is all."),
        format!("~~~~ python title=x\n{lines}~~~~\nand\n```\n{lines}"),
        "🦀".repeat(300),
        format!("- one\n- two\n  ```\n  {lines}  ```\n> quoted\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"),
        "```".repeat(200),
        format!("```{}\n{}", "y".repeat(90), "z ".repeat(200)),
    ];
    let limits = ["130 chars", "200 utf16", "300 bytes", "7 chars", "4096 utf16", "1 bytes"];
    texts.iter().flat_map(|text| limits.map(|limit| format!("{limit}\n{text}"))).collect()
}

/// One message or none, several.
fn read(input: &[u8]) -> usize {
    let text = String::from_utf8_lossy(input);
    let (limit, text) = text.split_once('\n').unwrap_or(("200 chars", &text));
    let (limit, unit) = limit.split_once(' ').unwrap_or((limit, "chars"));
    let limit = limit.parse::<usize>().unwrap_or(200);
    let unit = match unit {
        "utf16" => Unit::Utf16,
        "bytes" => Unit::Bytes,
        _ => Unit::Chars,
    };
    let pieces = pieces(text, limit, unit);
    // No limit is so small that no character would fit.
    let most = limit.max(4);
    for piece in &pieces {
        assert!(unit.of(piece) <= most, "{} of {most}: {piece:?}", unit.of(piece));
        assert!(!piece.trim().is_empty());
    }
    if unit.of(text.trim()) <= most {
        assert_eq!(pieces.concat(), text.trim());
    }
    if most < 128 {
        // No fence would leave room for what is in it.
        assert_eq!(letters(&pieces.concat()), letters(text));
    } else if !LONG_FENCES.iter().any(|long| text.contains(long.as_str())) {
        in_order(text, &pieces);
        for (n, piece) in pieces.iter().enumerate() {
            let is_last = n + 1 == pieces.len();
            assert!(
                is_last || open(piece).is_none(),
                "a block of code does not end: {piece:?} of {pieces:?}"
            );
        }
    }
    usize::from(pieces.len() > 1)
}

fn pieces(text: &str, text_limit: usize, unit: Unit) -> Vec<String> {
    let capabilities = Capabilities { unit, ..Capabilities::texts(text_limit) };
    let answer = Answer {
        id: "1".into(),
        channel: "x".into(),
        account: "default".into(),
        to: Address { chat_type: Kind::Direct, chat: "c".into(), thread: None },
        reply_to: None,
        capabilities: capabilities.into(),
    };
    answer.rows(text, 0).into_iter().map(|row| row.text).collect()
}

fn letters(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace()).collect()
}

/// The fence of the block of code that is open at the end, by CommonMark but for blocks within others.
fn open(text: &str) -> Option<&str> {
    text.lines().filter_map(fence).fold(None, |open, line| match open {
        None => Some(line),
        Some(fence) if line == marks(line) && line.starts_with(marks(fence)) => None,
        open => open,
    })
}

/// A line that begins or ends a block of code.
fn fence(line: &str) -> Option<&str> {
    let line = line.trim();
    let (marks, info) = line.split_at(marks(line).len());
    (marks.len() >= 3 && !(marks.starts_with('`') && info.contains('`'))).then_some(line)
}

/// What a fence begins with.
fn marks(line: &str) -> &str {
    let mark = if line.starts_with('~') { '~' } else { '`' };
    &line[..line.len() - line.trim_start_matches(mark).len()]
}

/// What was said is all there and in order; only fences that stand first or last in a piece may be more.
fn in_order(text: &str, pieces: &[String]) {
    let said = letters(text);
    // How far the pieces so far may reach: a fence may be one of the text, or one of the cut.
    let mut reached = BTreeSet::from([0]);
    for piece in pieces {
        let opened = piece.split_once('\n').filter(|(line, _)| fence(line).is_some()).map(|(_, rest)| rest);
        let mut forms = Vec::new();
        for whole in [Some(&**piece), opened].into_iter().flatten() {
            let (rest, last) = whole.rsplit_once('\n').unwrap_or(("", whole));
            let closed = fence(last).map(|_| rest);
            forms.extend([Some(whole), closed].into_iter().flatten().map(letters));
        }
        let further = |at: &usize| {
            let rest = &said[*at..];
            forms
                .iter()
                .filter(|form| rest.starts_with(&***form))
                .map(|form| at + form.len())
                .collect::<Vec<_>>()
        };
        reached = reached.iter().flat_map(further).collect();
    }
    assert!(reached.contains(&said.len()), "something is lost, or more, or elsewhere: {pieces:?}");
}

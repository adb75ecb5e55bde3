//! The end of what a terminal has shown, and how much it was in all: pure.

/// What is kept for who attaches later, in UTF-16 units, as clients count.
pub const SCROLLBACK: usize = 262_144;
/// What may be kept beyond that before it is cut, so that not every key stroke moves all of it.
const SLACK: usize = SCROLLBACK / 4;

/// See the module. Bytes come in as the program writes them, also in the middle of a character.
#[derive(Debug, Default)]
pub struct Scrollback {
    text: String,
    /// The length of `text` in UTF-16 units.
    units: usize,
    /// All that was ever shown, in UTF-16 units.
    seq: u64,
    /// The beginning of a character.
    rest: Vec<u8>,
}

impl Scrollback {
    /// Takes bytes in; the text that they complete. What is no UTF-8 becomes `U+FFFD`.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.rest.extend_from_slice(bytes);
        let mut text = String::with_capacity(self.rest.len());
        let mut done = 0;
        let mut chunks = self.rest.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            text.push_str(chunk.valid());
            done += chunk.valid().len();
            // At the end it may go on with the next bytes; a character has four at the most.
            let may_go_on = chunks.peek().is_none()
                && std::str::from_utf8(chunk.invalid()).is_err_and(|error| error.error_len().is_none());
            if !chunk.invalid().is_empty() && !may_go_on {
                text.push(char::REPLACEMENT_CHARACTER);
                done += chunk.invalid().len();
            }
        }
        self.rest.drain(..done);
        self.keep(&text);
        text
    }

    fn keep(&mut self, text: &str) {
        let units = text.encode_utf16().count();
        self.seq += units as u64;
        self.text.push_str(text);
        self.units += units;
        if self.units > SCROLLBACK + SLACK {
            let mut cut = 0;
            for c in self.text.chars() {
                if self.units <= SCROLLBACK {
                    break;
                }
                self.units -= c.len_utf16();
                cut += c.len_utf8();
            }
            self.text.drain(..cut);
        }
    }

    /// What is kept.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// All that was ever shown, in UTF-16 units.
    pub fn seq(&self) -> u64 {
        self.seq
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_put_together_and_nonsense_is_marked() {
        let mut shown = Scrollback::default();
        let bytes = "aé𝄞z".as_bytes();
        let text: String = bytes.iter().map(|byte| shown.push(&[*byte])).collect();
        assert_eq!((text.as_str(), shown.seq(), shown.text()), ("aé𝄞z", 5, "aé𝄞z"));
        assert_eq!(shown.push(b"\xff\xc3x"), "\u{fffd}\u{fffd}x");
        assert_eq!((shown.push(b"\xc3"), shown.push(b"\xa9")), (String::new(), "é".to_owned()));
    }

    #[test]
    fn the_end_is_kept_and_all_is_counted() {
        let mut shown = Scrollback::default();
        for _ in 0..5 {
            shown.push("𝄞".repeat(SCROLLBACK / 4).as_bytes());
        }
        shown.push(b"!");
        assert_eq!(shown.seq(), 5 * SCROLLBACK as u64 / 2 + 1);
        let units = shown.text().encode_utf16().count();
        assert!((SCROLLBACK - 1..=SCROLLBACK + SLACK).contains(&units), "{units}");
        assert!(shown.text().ends_with("𝄞!"));
    }
}

//! What stands behind buttons: Telegram keeps 64 bytes, the rest is kept here.

use std::collections::{HashMap, VecDeque};

/// The longest that Telegram keeps with a button, bytes.
const MAX_DATA: usize = 64;
/// How many longer ones are kept; a button that is older says nothing any more.
const MAX_KEPT: usize = 1000;
/// What the longer ones begin with.
const KEPT: char = '~';
/// How much of a hash they are found by, hexadecimal digits.
const KEY: usize = 32;

/// What the buttons say that say more than Telegram keeps.
#[derive(Default)]
pub(super) struct Buttons {
    says: HashMap<String, String>,
    oldest_first: VecDeque<String>,
}

impl Buttons {
    /// What Telegram keeps for a button that says this.
    pub fn data(&mut self, says: &str) -> String {
        if says.len() <= MAX_DATA && !says.is_empty() && !says.starts_with(KEPT) {
            return says.to_owned();
        }
        // The same button has the same key, so one that is shown again after a restart works again wherever it is.
        let key = format!("{KEPT}{}", &blake3::hash(says.as_bytes()).to_hex()[..KEY]);
        if self.says.insert(key.clone(), says.to_owned()).is_none() {
            self.oldest_first.push_back(key.clone());
        }
        if self.oldest_first.len() > MAX_KEPT
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.says.remove(&oldest);
        }
        key
    }

    /// What the button says that Telegram kept this for, if it is known.
    pub fn says(&self, data: &str) -> Option<String> {
        if data.starts_with(KEPT) { self.says.get(data).cloned() } else { Some(data.to_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_ones_are_kept_by_telegram_itself() {
        let mut buttons = Buttons::default();
        for says in ["/approve 1 allow-once", &"ä".repeat(32)] {
            assert_eq!(buttons.data(says), says);
        }
        assert_eq!(Buttons::default().says("Yes").as_deref(), Some("Yes"));
    }

    #[test]
    fn others_are_found_by_a_key_that_fits_and_the_oldest_are_forgotten() {
        let mut buttons = Buttons::default();
        for says in ["", "~tilde", &"ä".repeat(33)] {
            let key = buttons.data(says);
            assert!(key.len() <= MAX_DATA && key != says);
            assert_eq!(buttons.says(&key).as_deref(), Some(says));
            assert_eq!(Buttons::default().says(&key), None);
        }
        let first = buttons.data(&"1".repeat(65));
        assert_eq!(buttons.data(&"1".repeat(65)), first);
        for number in 0..MAX_KEPT {
            buttons.data(&format!("{number:0>70}"));
        }
        assert_eq!(buttons.says(&first), None);
        assert_eq!((buttons.says.len(), buttons.oldest_first.len()), (MAX_KEPT, MAX_KEPT));
    }
}

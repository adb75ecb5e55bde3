//! The entries of a transcript as OpenClaw keeps them: a tree by ids and parents, of which one path is the conversation
//! as it stands. Pure.

use serde::Deserialize;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// Entries of one transcript that are looked at: some 150 bytes each while it is read.
pub const MAX_ENTRIES: usize = 300_000;
/// Branches of one session, the latest first.
pub const MAX_BRANCHES: usize = 20;
/// Ends of ways that are looked at to find them.
const MAX_TIPS: usize = 1000;

/// What is read of an entry to find its place.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Head<'a> {
    /// `message`, `reset`, `leaf`, `compaction` …
    #[serde(borrow, rename = "type")]
    pub kind: Cow<'a, str>,
    /// Its id; entries of old versions have none and follow each other.
    #[serde(borrow, default)]
    pub id: Option<Cow<'a, str>>,
    /// What it continues.
    #[serde(borrow, default)]
    pub parent_id: Option<Cow<'a, str>>,
    /// Of a `leaf`: where the conversation goes on.
    #[serde(borrow, default)]
    pub target_id: Option<Cow<'a, str>>,
    /// Of a `compaction`: the first message that is still read.
    #[serde(borrow, default)]
    pub first_kept_entry_id: Option<Cow<'a, str>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Message,
    Reset,
    Compaction,
    Other,
}

struct Knot {
    /// Its number in the source.
    number: u64,
    parent: Option<u32>,
    kind: Kind,
}

/// The tree while it is read.
#[derive(Default)]
pub struct Tree {
    knots: Vec<Knot>,
    ids: HashMap<Box<str>, u32>,
    leaf: Option<u32>,
    /// Compactions, and the first message each of them keeps.
    kept: HashMap<u32, u32>,
    full: bool,
}

/// A part of a conversation that is a transcript of its own: the numbers of its entries.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// In their order.
    pub numbers: Vec<u64>,
    /// The compaction that counts, and the first message it keeps.
    pub compaction: Option<(u64, u64)>,
    /// Of a branch: its last message.
    pub leaf: u64,
}

/// What became of a tree.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// The conversation, parted where it was begun anew; the last part is the current one.
    pub main: Vec<Part>,
    /// Other ways it went since then, the latest first.
    pub branches: Vec<Part>,
    /// Branches that are left out: there are too many, or they left the conversation before it was begun anew.
    pub left_out: usize,
}

impl Tree {
    /// Takes the next entry; `false` if it has no place.
    pub fn add(&mut self, number: u64, head: &Head<'_>) -> bool {
        if self.knots.len() >= MAX_ENTRIES {
            self.full = true;
            return true;
        }
        let known = |id: &Option<Cow<'_, str>>| id.as_ref().and_then(|id| self.ids.get(&**id).copied());
        if head.kind == "session" {
            return true;
        }
        if head.kind == "leaf" {
            let target = known(&head.target_id);
            let ok = target.is_some() || head.target_id.is_none();
            self.leaf = if ok { target } else { self.leaf };
            return ok;
        }
        let parent = match (&head.id, &head.parent_id) {
            (None, _) => self.leaf,
            (Some(_), None) => None,
            // Its parent may be a line that cannot be read: what is known of the conversation goes on.
            (Some(_), Some(_)) => known(&head.parent_id).or(self.leaf),
        };
        let kind = match &*head.kind {
            "message" => Kind::Message,
            "reset" => Kind::Reset,
            "compaction" => Kind::Compaction,
            _ => Kind::Other,
        };
        let kept = known(&head.first_kept_entry_id).filter(|_| kind == Kind::Compaction);
        let at = u32::try_from(self.knots.len()).expect("there are fewer than MAX_ENTRIES");
        if let Some(id) = &head.id {
            if self.ids.contains_key(&**id) {
                return false;
            }
            self.ids.insert(Box::from(&**id), at);
        }
        if let Some(kept) = kept {
            self.kept.insert(at, kept);
        }
        self.knots.push(Knot { number, parent, kind });
        self.leaf = Some(at);
        true
    }

    /// Whether it had more than [`MAX_ENTRIES`].
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Parts it.
    pub fn parts(&self) -> Parts {
        let path = self.path(self.leaf);
        let on_path: HashSet<u32> = path.iter().copied().collect();
        let main = self.cut(&path);
        let reset = self.last_reset(&path);
        let mut branches = Vec::new();
        let mut left_out = 0;
        for tip in self.tips().take(MAX_TIPS) {
            let way = self.path(Some(tip));
            let said = way.iter().rposition(|at| self.kind(*at) == Kind::Message);
            let Some(said) = said.filter(|said| !on_path.contains(&way[*said])) else { continue };
            if self.last_reset(&way) != reset || branches.len() >= MAX_BRANCHES {
                left_out += 1;
                continue;
            }
            branches.extend(self.cut(&way[..=said]).pop());
        }
        Parts { main, branches, left_out }
    }

    fn kind(&self, at: u32) -> Kind {
        self.knots[at as usize].kind
    }

    /// From the root to an entry. A parent always stands before its child, so it ends.
    fn path(&self, leaf: Option<u32>) -> Vec<u32> {
        let mut path: Vec<u32> = std::iter::successors(leaf, |at| self.knots[*at as usize].parent).collect();
        path.reverse();
        path
    }

    /// Entries that nothing continues, the latest first.
    fn tips(&self) -> impl Iterator<Item = u32> + use<> {
        let continued: HashSet<u32> = self.knots.iter().filter_map(|knot| knot.parent).collect();
        (0..self.knots.len() as u32).rev().filter(move |at| !continued.contains(at))
    }

    fn last_reset(&self, path: &[u32]) -> Option<u32> {
        path.iter().rev().copied().find(|at| self.kind(*at) == Kind::Reset)
    }

    fn cut(&self, path: &[u32]) -> Vec<Part> {
        let mut parts = vec![Part::default()];
        for at in path {
            if self.kind(*at) == Kind::Reset {
                parts.push(Part::default());
            }
            let part = parts.last_mut().expect("there is a first one");
            let number = self.knots[*at as usize].number;
            match self.kind(*at) {
                Kind::Other => {}
                Kind::Compaction => {
                    let kept = self.kept.get(at).map(|kept| self.knots[*kept as usize].number);
                    part.compaction =
                        kept.filter(|kept| part.numbers.contains(kept)).map(|kept| (number, kept));
                }
                Kind::Message | Kind::Reset => {
                    part.numbers.push(number);
                    part.leaf = number;
                }
            }
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(entries: &[&str]) -> Tree {
        let mut tree = Tree::default();
        for (number, entry) in (0..).zip(entries) {
            // `kind id parent target`
            let words: Vec<&str> = entry.split(' ').collect();
            let word = |at: usize| words.get(at).filter(|word| **word != "-").map(|word| Cow::from(*word));
            let head = Head {
                kind: words[0].into(),
                id: word(1),
                parent_id: word(2),
                target_id: word(3),
                first_kept_entry_id: word(3),
            };
            tree.add(number, &head);
        }
        tree
    }

    fn numbers(parts: &[Part]) -> Vec<&[u64]> {
        parts.iter().map(|part| part.numbers.as_slice()).collect()
    }

    #[test]
    fn a_conversation_that_was_rewound_has_a_branch() {
        let parts = tree(&[
            "session s",
            "model_change c",
            "message a c",
            "message b a",
            "message x b",
            "message y x",
            "leaf l y b",
            "message d b",
            "message e d",
        ])
        .parts();
        assert_eq!(numbers(&parts.main), [&[2, 3, 7, 8]]);
        assert_eq!(numbers(&parts.branches), [&[2, 3, 4, 5]]);
        assert_eq!((parts.branches[0].leaf, parts.left_out), (5, 0));
    }

    #[test]
    fn it_is_parted_where_it_was_begun_anew() {
        let parts = tree(&[
            "message a",
            "message b a",
            "leaf l b a",
            "reset r a",
            "message c r",
            "compaction k c c",
            "message d k",
        ])
        .parts();
        assert_eq!(numbers(&parts.main), [&[0][..], &[3, 4, 6]]);
        assert_eq!(parts.main[1].compaction, Some((5, 4)));
        assert_eq!((parts.branches.len(), parts.left_out), (0, 1), "that branch left it before");
    }

    #[test]
    fn entries_without_ids_follow_each_other_and_lost_parents_break_nothing() {
        let parts = tree(&["message", "message", "message a gone", "message b a"]).parts();
        assert_eq!(numbers(&parts.main), [&[0, 1, 2, 3]]);
        let mut doubled = tree(&["message a"]);
        let head = Head {
            kind: "message".into(),
            id: Some("a".into()),
            parent_id: None,
            target_id: None,
            first_kept_entry_id: None,
        };
        assert!(!doubled.add(1, &head), "an id is given once");
        assert!(doubled.add(2, &Head { id: None, ..head }));
    }

    #[test]
    fn branches_are_bounded_and_the_latest_stay() {
        let mut entries = vec!["message a".to_owned()];
        entries.extend((0..MAX_BRANCHES + 3).map(|n| format!("message b{n} a")));
        let entries: Vec<&str> = entries.iter().map(String::as_str).collect();
        let parts = tree(&entries).parts();
        let last = entries.len() as u64 - 1;
        assert_eq!(parts.main[0].numbers, [0, last]);
        assert_eq!((parts.branches.len(), parts.left_out), (MAX_BRANCHES, 2));
        assert_eq!(parts.branches[0].numbers, [0, last - 1]);
    }
}

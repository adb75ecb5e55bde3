//! Programs that answer each other for ever: how much each has said lately in each session, and whether that is too
//! much. Part of the roster, so no crash begins the count anew.

use super::contract::Envelope;
use super::ingress::Desk;
use crate::settings::{BotLoopProtection, LoopLimits};
use crabtree_protocol::SessionKey;
use std::collections::{BTreeMap, VecDeque};

/// Programs in sessions that are counted; of more, the one that has been quiet the longest is forgotten.
const MAX_PAIRS: usize = 200;
/// Messages of a program that were left out and are known again: a channel that comes back may tell them once more.
const KNOWN_AGAIN: usize = 50;

/// What the programs have said that are heard at an account.
#[derive(Debug, Default)]
pub struct Loops {
    /// By program and session.
    pairs: BTreeMap<(String, String), Pair>,
    /// Messages that were left out.
    left_out: u64,
    /// Until when something is, ms.
    until: i64,
}

#[derive(Debug, Default)]
struct Pair {
    /// When it said what, within the window.
    said: VecDeque<(i64, String)>,
    /// What of it was left out lately.
    left_out: VecDeque<String>,
    /// Until when it is left out, ms.
    until: i64,
    last: i64,
}

/// What becomes of a message of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// It is heard.
    Heard,
    /// It was one too many: it is left out, and what follows it.
    Enough,
    /// It is left out.
    LeftOut,
}

impl Loops {
    /// Rules on a message. The same once more is ruled on as before.
    pub fn rule(&mut self, who: &str, session: &str, message: &str, limits: LoopLimits, now: i64) -> Ruling {
        let key = (who.to_owned(), session.to_owned());
        if !self.pairs.contains_key(&key) && self.pairs.len() >= MAX_PAIRS {
            let quietest = self.pairs.iter().min_by_key(|(_, pair)| pair.last).map(|(key, _)| key.clone());
            quietest.and_then(|key| self.pairs.remove(&key));
        }
        let pair = self.pairs.entry(key).or_default();
        pair.last = now;
        pair.said.retain(|(at, _)| *at > now - limits.window_ms);
        if pair.said.iter().any(|(_, id)| id == message) {
            return Ruling::Heard;
        }
        if pair.left_out.iter().any(|id| id == message) {
            return Ruling::LeftOut;
        }
        let ruling = if pair.until > now {
            Ruling::LeftOut
        } else if pair.said.len() < limits.events {
            pair.said.push_back((now, message.to_owned()));
            return Ruling::Heard;
        } else {
            pair.said.clear();
            pair.until = now + limits.cooldown_ms;
            self.until = self.until.max(pair.until);
            Ruling::Enough
        };
        if pair.left_out.len() == KNOWN_AGAIN {
            pair.left_out.pop_front();
        }
        pair.left_out.push_back(message.to_owned());
        self.left_out += 1;
        ruling
    }

    /// How many messages were left out so far, and until when more are (ms); nothing if none ever was.
    pub fn left_out(&self) -> Option<(u64, i64)> {
        (self.left_out > 0).then_some((self.left_out, self.until))
    }
}

impl Desk {
    /// Whether a message of another program is still answered in a session; said once when it begins not to be.
    pub(super) fn answers_program(&self, envelope: &Envelope, key: &SessionKey) -> bool {
        let estate = &self.wiring.store.estate;
        let entry = super::access::group_entry(&self.settings, envelope);
        let own = entry.map_or_else(BotLoopProtection::default, |entry| entry.bot_loop_protection);
        let shared = estate.config.load().settings.channels.bot_loop_protection();
        let Some(limits) = own.over(self.settings.bot_loop_protection).over(shared).limits() else {
            return true;
        };
        let now = estate.clock.now_ms();
        let rule = |loops: &mut Loops| loops.rule(&envelope.from.id, key.as_str(), &envelope.id, limits, now);
        let ruling = estate.channels.loops(&self.name, rule);
        if ruling == Ruling::Enough {
            tracing::warn!(target: "crabtree::channels", account = %self.name.path(), program = envelope.from.id,
                session = key.as_str(),
                "a program has written {} times within {} s; what it writes here is left out for {} s \
                 (botLoopProtection)",
                limits.events + 1, limits.window_ms / 1000, limits.cooldown_ms / 1000);
        }
        ruling == Ruling::Heard
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: LoopLimits = LoopLimits { events: 3, window_ms: 1_000, cooldown_ms: 500 };

    #[test]
    fn a_program_that_says_too_much_is_left_out_for_a_while() {
        let mut loops = Loops::default();
        let mut say = |id: &str, now| loops.rule("b", "s", id, LIMITS, now);
        assert_eq!([say("1", 0), say("2", 1), say("3", 2)], [Ruling::Heard; 3]);
        assert_eq!(say("3", 3), Ruling::Heard, "the same once more");
        assert_eq!(
            [say("4", 4), say("5", 5), say("6", 503)],
            [Ruling::Enough, Ruling::LeftOut, Ruling::LeftOut]
        );
        assert_eq!(say("5", 504), Ruling::LeftOut, "it is not heard later, either");
        assert_eq!([say("7", 504), say("8", 504), say("9", 504)], [Ruling::Heard; 3]);
        assert_eq!(say("10", 505), Ruling::Enough);
        assert_eq!(loops.left_out(), Some((4, 1_005)));
    }

    #[test]
    fn who_says_little_others_and_other_sessions_are_heard() {
        let mut loops = Loops::default();
        for n in 0..50 {
            let ruling = loops.rule("b", "s", &n.to_string(), LIMITS, n * 400);
            assert_eq!(ruling, Ruling::Heard, "{n}");
        }
        for (who, session) in [("c", "s"), ("b", "t")] {
            assert_eq!(loops.rule(who, session, "x", LIMITS, 20_000), Ruling::Heard);
        }
        assert_eq!(loops.left_out(), None);
    }

    #[test]
    fn no_more_programs_are_remembered_than_may_be() {
        let mut loops = Loops::default();
        for n in 0..2 * MAX_PAIRS {
            loops.rule(&n.to_string(), "s", "x", LIMITS, n as i64);
        }
        assert_eq!(loops.pairs.len(), MAX_PAIRS);
        assert!(loops.pairs.contains_key(&((2 * MAX_PAIRS - 1).to_string(), "s".to_owned())));
    }
}

//! Who is there on channels: a store of its own beside the roster of devices, which is recorded (rows H4 to H6). It is
//! told as the additional event `channel.presence`, and read with `channels.presence`.

use parking_lot::Mutex;
use serde::Serialize;
use std::collections::BTreeMap;

/// People that are remembered; who was heard of longest ago is forgotten first.
const MAX_PEOPLE: usize = 1_000;
/// How long after their last word somebody is there, ms (row H5).
const ACTIVE_MS: i64 = 300_000;
/// How long after that they are away, ms; then they are gone.
const IDLE_MS: i64 = 3_600_000;
/// How long somebody types who was said to, ms: platforms say so every five seconds or so.
const TYPING_MS: i64 = 10_000;

/// How somebody is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum There {
    /// They wrote within the last five minutes.
    Online,
    /// They are writing.
    Typing,
    /// They wrote within the last hour.
    Idle,
    /// Longer ago.
    Offline,
}

/// Somebody on a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Person {
    /// `channel:id`.
    pub key: String,
    /// How they are there.
    pub state: There,
    /// When they were last heard of, ms.
    pub last_seen: i64,
}

#[derive(Clone, Copy)]
struct Seen {
    at: i64,
    typing_until: i64,
    told: There,
}

impl Seen {
    fn state(&self, now: i64) -> There {
        match now - self.at {
            _ if self.typing_until > now => There::Typing,
            quiet if quiet <= ACTIVE_MS => There::Online,
            quiet if quiet <= IDLE_MS => There::Idle,
            _ => There::Offline,
        }
    }
}

/// See the module.
#[derive(Default)]
pub struct People(Mutex<BTreeMap<String, Seen>>);

impl People {
    /// Somebody wrote, or is writing; how they are there now if that is news.
    pub fn seen(&self, key: &str, typing: bool, now: i64) -> Option<Person> {
        let mut people = self.0.lock();
        if !people.contains_key(key) && people.len() >= MAX_PEOPLE {
            let oldest = people.iter().min_by_key(|(_, seen)| seen.at).map(|(key, _)| key.clone());
            oldest.and_then(|oldest| people.remove(&oldest));
        }
        let gone = Seen { at: now, typing_until: 0, told: There::Offline };
        let seen = people.entry(key.to_owned()).or_insert(gone);
        seen.at = now;
        seen.typing_until = if typing { now + TYPING_MS } else { 0 };
        news(key, seen, now)
    }

    /// Whose state has changed by itself since it was told.
    pub fn changed(&self, now: i64) -> Vec<Person> {
        self.0.lock().iter_mut().filter_map(|(key, seen)| news(key, seen, now)).collect()
    }

    /// Everybody.
    pub fn all(&self, now: i64) -> Vec<Person> {
        let person = |(key, seen): (&String, &Seen)| Person {
            key: key.clone(),
            state: seen.state(now),
            last_seen: seen.at,
        };
        self.0.lock().iter().map(person).collect()
    }
}

fn news(key: &str, seen: &mut Seen, now: i64) -> Option<Person> {
    let state = seen.state(now);
    let is_news = std::mem::replace(&mut seen.told, state) != state;
    is_news.then(|| Person { key: key.to_owned(), state, last_seen: seen.at })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// accepts: H4, H5
    #[test]
    fn somebody_who_wrote_is_online_for_five_minutes_then_idle_then_offline() {
        let people = People::default();
        let state = |news: Option<Person>| news.map(|person| person.state);
        assert_eq!(state(people.seen("telegram:7", false, 0)), Some(There::Online));
        assert_eq!(state(people.seen("telegram:7", false, 1)), None, "that is no news");
        assert_eq!(people.all(1 + ACTIVE_MS)[0].state, There::Online);
        assert_eq!(people.changed(2 + ACTIVE_MS)[0].state, There::Idle);
        assert!(people.changed(3 + ACTIVE_MS).is_empty());
        assert_eq!(
            people.changed(2 + IDLE_MS)[0],
            Person { key: "telegram:7".into(), state: There::Offline, last_seen: 1 }
        );
    }

    /// accepts: H6
    #[test]
    fn who_types_is_typing_until_they_have_written_or_given_up() {
        let people = People::default();
        people.seen("t:7", false, 0);
        assert_eq!(people.seen("t:7", true, 10).unwrap().state, There::Typing);
        assert_eq!(people.seen("t:7", false, 20).unwrap().state, There::Online);
        people.seen("t:7", true, 30);
        assert_eq!(people.changed(30 + TYPING_MS)[0].state, There::Online);
    }

    #[test]
    fn only_so_many_are_remembered() {
        let people = People::default();
        for n in 0..=MAX_PEOPLE as i64 {
            people.seen(&format!("t:{n}"), false, n);
        }
        let all = people.all(0);
        assert!(all.len() == MAX_PEOPLE && !all.iter().any(|person| person.key == "t:0"));
    }
}

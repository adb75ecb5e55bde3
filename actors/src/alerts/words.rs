//! What people are told: who, what, since when, why, and what to do. Pure.

use super::ledger::News;
use super::trouble::Trouble;
use crate::settings::AlertEvent;
use chrono::DateTime;

/// What one message tells of at the most; the rest is counted.
const MAX_TOLD: usize = 10;
/// Characters of a cause.
const MAX_CAUSE: usize = 200;
/// Letters and digits in a row that may be a secret.
const SECRET_LENGTH: usize = 20;
/// What stands before a secret.
const KEYS: [&str; 6] = ["bearer", "token", "key", "password", "secret", "authorization"];
/// What a cause shows instead of one.
const HIDDEN: &str = "[…]";

/// One message for everything that is to be told.
pub fn message(host: &str, news: &[News]) -> String {
    let mut parts: Vec<String> = news.iter().take(MAX_TOLD).map(|one| told(host, one)).collect();
    if let more @ 1.. = news.len().saturating_sub(MAX_TOLD) {
        parts.push(format!("… and {more} more: `crabtree tree`"));
    }
    parts.join("\n\n")
}

fn told(host: &str, news: &News) -> String {
    match news {
        News::Wrong(trouble) => {
            let Trouble { subject, cause, since, .. } = trouble;
            let (what, next) = advice(trouble);
            let since =
                DateTime::from_timestamp_millis(*since).unwrap_or_default().format("%Y-%m-%d %H:%M UTC");
            format!("⚠️ {host}: `{subject}` {what}, since {since}.\nCause: {}\nNext: {next}", plain(cause))
        }
        News::Well(trouble, until) => {
            let minutes = (until - trouble.since).max(0) / 60_000;
            let (what, _) = advice(trouble);
            format!("✅ {host}: `{}` is well again; it {} for {minutes} min.", trouble.subject, past(what))
        }
    }
}

/// What is wrong, and what to do.
fn advice(trouble: &Trouble) -> (&'static str, String) {
    let path = &trouble.subject;
    match (trouble.event, trouble.account()) {
        (AlertEvent::Parked | AlertEvent::Channel, Some((channel, account))) => {
            let what = if trouble.event == AlertEvent::Parked { "is parked" } else { "cannot be started" };
            let start = format!("crabtree channels start {channel} --account {account}");
            (what, format!("mend the cause, then `{start}`; `crabtree channels list` shows how it is"))
        }
        (AlertEvent::Parked | AlertEvent::Channel, None) => {
            let resume = format!("crabtree call system.actors.resume '{{\"path\":\"{path}\"}}'");
            ("is parked", format!("`{resume}`; `crabtree logs --level warn` shows what was before"))
        }
        (AlertEvent::Stuck, _) => {
            ("is stuck", "it is ended and started anew by itself; `crabtree tree` shows how it is".into())
        }
        (AlertEvent::Store, _) => {
            let next =
                "make room on the disk, and see that it can be written; what is read goes on meanwhile";
            ("does not take what is to be kept", next.into())
        }
    }
}

fn past(what: &str) -> String {
    match what.split_once(' ') {
        Some(("is", rest)) => format!("was {rest}"),
        Some(("does", rest)) => format!("did {rest}"),
        Some(("cannot", rest)) => format!("could not {rest}"),
        _ => what.to_owned(),
    }
}

/// A cause as it may leave the gateway: one line, cut, without what looks like a secret.
pub fn plain(cause: &str) -> String {
    let mut words = Vec::new();
    let mut keyed = false;
    for word in cause.split_whitespace() {
        let shown = if keyed { HIDDEN.to_owned() } else { hidden(word) };
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
        keyed =
            (word.ends_with([':', '=']) || bare == "bearer") && KEYS.iter().any(|key| bare.ends_with(key));
        words.push(shown);
    }
    let line = words.join(" ").replace('`', "'");
    if line.is_empty() { "not known".into() } else { line.chars().take(MAX_CAUSE).collect() }
}

/// A word, without its parts that look like secrets: long ones of letters and digits, and values of telling names.
fn hidden(word: &str) -> String {
    let mut shown = String::new();
    let mut keyed = false;
    for part in word.split_inclusive(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+'))) {
        let core =
            part.trim_end_matches(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+')));
        let rest = &part[core.len()..];
        let mixed =
            core.contains(|c: char| c.is_ascii_digit()) && core.contains(|c: char| c.is_ascii_alphabetic());
        let secret = (keyed && !core.is_empty()) || (core.len() >= SECRET_LENGTH && mixed);
        shown.push_str(if secret { HIDDEN } else { core });
        shown.push_str(rest);
        let name = core.to_lowercase();
        keyed = matches!(rest, "=" | ":") && KEYS.iter().any(|key| name.ends_with(key));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trouble(event: AlertEvent, subject: &str, cause: &str) -> Trouble {
        Trouble { subject: subject.into(), event, cause: cause.into(), since: 1_795_140_120_000 }
    }

    #[test]
    fn it_is_told_who_what_since_when_why_and_what_to_do() {
        let account = "gateway/channels/telegram%2Fwork";
        let wrong = News::Wrong(trouble(AlertEvent::Parked, account, "401 from\nthe platform"));
        let text = message("home", &[wrong]);
        for part in [
            "⚠️ home: `gateway/channels/telegram%2Fwork` is parked, since 2026-11-20 02:02 UTC.",
            "Cause: 401 from the platform\n",
            "`crabtree channels start telegram --account work`",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let wrong = News::Wrong(trouble(AlertEvent::Parked, "gateway/presence", ""));
        let text = message("home", &[wrong]);
        assert!(text.contains(r#"system.actors.resume '{"path":"gateway/presence"}'"#), "{text}");
        let well = News::Well(trouble(AlertEvent::Store, "gateway/store", ""), 1_795_140_300_000);
        let expected =
            "✅ home: `gateway/store` is well again; it did not take what is to be kept for 3 min.";
        assert_eq!(message("home", &[well]), expected);
    }

    #[test]
    fn a_storm_is_one_message_of_a_bounded_length() {
        let long = "x".repeat(10_000);
        let news: Vec<_> = (0..50)
            .map(|n| News::Wrong(trouble(AlertEvent::Parked, &format!("gateway/a{n}"), &long)))
            .collect();
        let text = message("home", &news);
        assert!(text.chars().count() < 5_000 && text.ends_with("… and 40 more: `crabtree tree`"), "{text}");
    }

    #[test]
    fn a_cause_shows_no_secrets() {
        for (cause, shown) in [
            ("no route to host", "no route to host"),
            (
                "https://api.telegram.org/bot123456:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw/getMe",
                "https://api.telegram.org/bot123456:[…]/getMe",
            ),
            ("Authorization: Bearer abc", "Authorization: […] […]"),
            ("token=hunter2 was refused", "token=[…] was refused"),
            ("the API key: hunter2", "the API key: […]"),
            ("actors/src/channels/telegram.rs:12 `boom`", "actors/src/channels/telegram.rs:12 'boom'"),
            ("", "not known"),
        ] {
            assert_eq!(plain(cause), shown);
        }
    }
}

//! `crabtree logs`: the log of a running gateway.

use std::{process::ExitCode, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use clap::ValueEnum;
use crabtree_protocol::Scope;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{Failure, Global, LogsArgs, client::Client, print_line, printable};

/// Between two looks while following.
const POLL: Duration = Duration::from_secs(1);
/// First and longest wait before a gateway that has gone is tried again.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Lines and bytes that one answer may hold; the gateway keeps no more.
const MAX_LINES: usize = 5_000;
const MAX_BYTES: u64 = 256 * 1024;

/// How serious a line is, the most serious first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Severity {
    /// Something failed.
    Error,
    /// Something is not as it should be.
    Warn,
    /// Something happened.
    Info,
    /// What happens in detail.
    Debug,
    /// Everything.
    Trace,
}

/// From when on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Since(DateTime<Utc>);

/// Reads it, as it is given: how long ago, or a time.
pub fn since(text: &str) -> Result<Since, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(Since(time.to_utc()));
    }
    let wrong = || format!("{text:?} is neither a time such as 2026-11-20T08:00:00Z nor one such as 15m");
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds = match &text[number.len()..] {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let ago = number.parse::<u32>().map_err(|_| wrong())?;
    let ago = TimeDelta::try_seconds(i64::from(ago) * seconds).ok_or_else(wrong)?;
    Utc::now().checked_sub_signed(ago).map(Since).ok_or_else(wrong)
}

/// Where following goes on.
struct Place {
    /// Which process the cursor belongs to.
    file: Value,
    cursor: Value,
}

pub(super) async fn run(global: &Global, arguments: LogsArgs) -> Result<ExitCode, Failure> {
    let mut client = global.connect(&[Scope::Read]).await?;
    // Of few lines that are wanted, the last are to be shown, whatever lies between.
    let chosen = arguments.level.is_some() || arguments.subsystem.is_some() || arguments.since.is_some();
    let first = if chosen || arguments.filter.is_some() { MAX_LINES } else { arguments.lines };
    let mut place: Option<Place> = None;
    loop {
        let params = match &place {
            Some(place) => json!({"limit": MAX_LINES, "maxBytes": MAX_BYTES, "cursor": place.cursor}),
            None => json!({"limit": first, "maxBytes": MAX_BYTES}),
        };
        let tail = match client.request("logs.tail", params).await {
            Err(failure) if arguments.follow && failure.is_unreachable() => {
                client = again(global).await?;
                continue;
            }
            tail => tail?,
        };
        if place.as_ref().is_some_and(|place| place.file != tail["file"]) {
            // Another process: what it has written so far is all new.
            place = Some(Place { file: tail["file"].clone(), cursor: json!(0) });
            continue;
        }
        if tail["reset"] == true {
            eprintln!("crabtree: some lines are gone");
        }
        let lines = tail["lines"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let shown: Vec<String> = lines.filter_map(|line| shown(line, &arguments, global.json)).collect();
        let skipped = if place.is_none() { shown.len().saturating_sub(arguments.lines) } else { 0 };
        shown[skipped..].iter().for_each(|line| print_line(line));
        if !arguments.follow {
            return Ok(ExitCode::SUCCESS);
        }
        place = Some(Place { file: tail["file"].clone(), cursor: tail["cursor"].clone() });
        sleep(POLL).await;
    }
}

/// Connects again, as soon as there is a gateway.
async fn again(global: &Global) -> Result<Client, Failure> {
    eprintln!("crabtree: the gateway is gone; waiting for it");
    let mut wait = AGAIN.0;
    loop {
        sleep(wait).await;
        match global.connect(&[Scope::Read]).await {
            Err(failure) if failure.is_unreachable() || failure.starting_retry_ms().is_some() => {
                wait = (wait * 2).min(AGAIN.1);
            }
            connected => return connected,
        }
    }
}

/// A line as it is printed, if it is wanted.
fn shown(line: &str, arguments: &LogsArgs, raw: bool) -> Option<String> {
    let parsed = serde_json::from_str::<Value>(line).unwrap_or_default();
    let subsystem = subsystem(&parsed);
    let severity = || Severity::from_str(parsed["_meta"]["logLevelName"].as_str()?, true).ok();
    let time = || DateTime::parse_from_rfc3339(parsed["time"].as_str()?).ok();
    let serious = arguments.level.is_none_or(|least| severity().is_some_and(|level| level <= least));
    let late = arguments.since.is_none_or(|since| time().is_some_and(|time| time >= since.0));
    let below = |name: &String| {
        subsystem.strip_prefix(name.as_str()).is_some_and(|r| r.is_empty() || r.starts_with('/'))
    };
    if !serious || !late || !arguments.subsystem.as_ref().is_none_or(below) {
        return None;
    }
    let shown = if raw { line.to_owned() } else { rendered(line, &parsed, &subsystem) };
    matches(&shown, arguments.filter.as_deref()).then_some(shown)
}

fn subsystem(line: &Value) -> String {
    let name = line["_meta"]["name"].as_str().and_then(|name| serde_json::from_str::<Value>(name).ok());
    name.unwrap_or_default()["subsystem"].as_str().unwrap_or("-").to_owned()
}

fn matches(line: &str, filter: Option<&str>) -> bool {
    filter.is_none_or(|filter| line.to_lowercase().contains(&filter.to_lowercase()))
}

/// A line for people: time, level, subsystem, and message.
fn rendered(line: &str, parsed: &Value, subsystem: &str) -> String {
    if !parsed.is_object() {
        return printable(line);
    }
    let text = format!(
        "{} {:5} {subsystem}: {}",
        parsed["time"].as_str().unwrap_or("-"),
        parsed["_meta"]["logLevelName"].as_str().unwrap_or("-"),
        parsed["message"].as_str().unwrap_or_default(),
    );
    printable(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> LogsArgs {
        LogsArgs { follow: false, lines: 200, filter: None, level: None, subsystem: None, since: None }
    }

    fn line(level: &str, subsystem: &str, time: &str) -> String {
        let name = json!({ "subsystem": subsystem }).to_string();
        json!({"message": "child exited restarts=2", "time": time, "_meta": {"logLevelName": level, "name": name}})
            .to_string()
    }

    #[test]
    fn lines_are_rendered_and_filtered() {
        let text = shown(&line("WARN", "tree", "T"), &wanted(), false).expect("it is shown");
        assert_eq!(text, "T WARN  tree: child exited restarts=2");
        assert!(matches(&text, Some("CHILD")) && matches(&text, None) && !matches(&text, Some("store")));
        assert_eq!(shown("no JSON \x1b[31m", &wanted(), false).as_deref(), Some("no JSON \u{fffd}[31m"));
    }

    #[test]
    fn level_subsystem_and_time_are_chosen() {
        let at = "2026-11-20T08:00:00.5Z";
        let shows = |arguments: &LogsArgs, level: &str, name: &str| {
            shown(&line(level, name, at), arguments, true).is_some()
        };
        let warn = LogsArgs { level: Some(Severity::Warn), ..wanted() };
        assert_eq!(["ERROR", "WARN", "INFO"].map(|level| shows(&warn, level, "x")), [true, true, false]);
        let channels = LogsArgs { subsystem: Some("channels".into()), ..wanted() };
        let names = ["channels", "channels/telegram", "channelsx", "x/channels"];
        assert_eq!(names.map(|name| shows(&channels, "INFO", name)), [true, true, false, false]);
        let after = |time: &str| LogsArgs { since: Some(since(time).expect("a time")), ..wanted() };
        assert!(shows(&after("2026-11-20T10:00:00+02:00"), "INFO", "x"));
        assert!(!shows(&after("2026-11-20T08:00:01Z"), "INFO", "x"));
        let (Since(hour), Since(day)) = (since("1h").expect("an hour"), since("1d").expect("a day"));
        let apart = hour - day;
        assert!(
            apart <= TimeDelta::hours(23) && apart > TimeDelta::hours(23) - TimeDelta::minutes(1),
            "{apart}"
        );
        for wrong in ["", "h", "5", "-5m", "5w", "yesterday", "99999999999d"] {
            assert!(since(wrong).is_err(), "{wrong}");
        }
        let no_json = LogsArgs { level: Some(Severity::Trace), ..wanted() };
        assert!(shown("no JSON", &no_json, false).is_none());
    }
}

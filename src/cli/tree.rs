//! `crabtree tree`: the live tree of actors.

use std::{io::IsTerminal, process::ExitCode, time::Duration};

use crabtree_protocol::Scope;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{Failure, Global, print_json, print_line, print_text, printable, watch as screen};

/// Between two drawings.
const REDRAW: Duration = Duration::from_secs(1);
/// To the top left, and nothing below: redraws without flicker.
const HOME: &str = "\x1b[H\x1b[J";

pub(super) async fn run(global: &Global, watch: bool) -> Result<ExitCode, Failure> {
    if watch && !global.json && screen::is_possible() {
        return screen::run(global).await;
    }
    let mut client = global.connect(&[Scope::Read]).await?;
    let clear = if watch && std::io::stdout().is_terminal() { HOME } else { "" };
    let mut last = Value::Null;
    loop {
        let tree = client.request("system.actors", json!({})).await?;
        if !global.json {
            print_text(&format!("{clear}{}", drawn(&tree)));
        } else if watch {
            let lasting = lasting(&tree["root"]);
            if lasting != last {
                print_line(&tree.to_string());
            }
            last = lasting;
        } else {
            print_json(&tree);
        }
        if !watch {
            return Ok(ExitCode::SUCCESS);
        }
        sleep(REDRAW).await;
    }
}

/// An actor and those below it without what is of the moment only: what changes in it is a change.
fn lasting(actor: &Value) -> Value {
    let mut lasting = actor.clone();
    for (name, value) in lasting.as_object_mut().into_iter().flatten() {
        match name.as_str() {
            "mailbox" | "busyMs" | "info" => *value = Value::Null,
            "children" => *value = value.as_array().into_iter().flatten().map(self::lasting).collect(),
            _ => {}
        }
    }
    lasting
}

const HEADINGS: [&str; 6] = ["ACTOR", "STATE", "FOR", "RESTARTS", "MAILBOX", "LAST EXIT"];

/// The tree as text: one line an actor, in columns.
fn drawn(tree: &Value) -> String {
    let now = tree["ts"].as_u64().unwrap_or_default();
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    collect(&tree["root"], now, "", "", &mut rows);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; 6] = std::array::from_fn(width);
    let line = |row: &[String; 6]| {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// Adds an actor under `branch`, and its children under `stem`.
fn collect(actor: &Value, now: u64, branch: &str, stem: &str, rows: &mut Vec<[String; 6]>) {
    rows.push([
        format!("{branch}{}", cell(&actor["name"])),
        cell(&actor["state"]),
        actor["sinceMs"].as_u64().map(|since| span(now.saturating_sub(since))).unwrap_or_default(),
        actor["restarts"].as_u64().unwrap_or_default().to_string(),
        mailbox(actor),
        last_exit(&actor["lastExit"], now),
    ]);
    let children = actor["children"].as_array().map(Vec::as_slice).unwrap_or_default();
    let more = actor["more"].as_u64().filter(|more| *more > 0);
    for (index, child) in children.iter().enumerate() {
        let last = index + 1 == children.len() && more.is_none();
        let (branch, below) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        collect(child, now, &format!("{stem}{branch}"), &format!("{stem}{below}"), rows);
    }
    if let Some(more) = more {
        let mut row = <[String; 6]>::default();
        row[0] = format!("{stem}└─ … {more} more");
        rows.push(row);
    }
}

/// How many messages wait, for how long the oldest, and how long one is in hand.
fn mailbox(actor: &Value) -> String {
    let mailbox = &actor["mailbox"];
    let mut text = mailbox["depth"].as_u64().unwrap_or_default().to_string();
    if let Some(oldest) = mailbox["oldestMs"].as_u64() {
        text.push_str(&format!(" (oldest {})", span(oldest)));
    }
    if let Some(busy) = actor["busyMs"].as_u64() {
        text.push_str(&format!(" busy {}", span(busy)));
    }
    text
}

fn last_exit(exit: &Value, now: u64) -> String {
    if exit.is_null() {
        return String::new();
    }
    let ago =
        exit["at"].as_u64().map(|at| format!(", {} ago", span(now.saturating_sub(at)))).unwrap_or_default();
    format!("{}: {}{ago}", cell(&exit["kind"]), cell(&exit["reason"]))
}

/// Text of one line.
fn cell(value: &Value) -> String {
    printable(value.as_str().unwrap_or("?")).replace(['\n', '\t'], " ")
}

/// A duration in its two largest units.
pub(super) fn span(millis: u64) -> String {
    let seconds = millis / 1000;
    match seconds {
        0 => format!("{millis} ms"),
        1..60 => format!("{seconds} s"),
        60..3600 => format!("{} m {:02} s", seconds / 60, seconds % 60),
        3600..86400 => format!("{} h {:02} m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {:02} h", seconds / 86400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_drawn_in_columns() {
        let actor = |name: &str, state: &str, children: Value| {
            json!({"path": name, "name": name, "kind": name, "state": state, "sinceMs": 1000, "restarts": 0,
                   "mailbox": {"depth": 0}, "children": children})
        };
        let mut store = actor("store", "running", json!([]));
        store["restarts"] = 2.into();
        store["lastExit"] = json!({"kind": "panic", "reason": "boom\nat\x1b[1m", "at": 58_000});
        let mut sessions =
            actor("sessions", "running", json!([actor("agent:main:main", "running", json!([]))]));
        sessions["more"] = 7.into();
        let mut channel = actor("telegram:default", "parked", json!([]));
        channel["mailbox"] = json!({"depth": 3, "oldestMs": 1500});
        channel["busyMs"] = 700.into();
        let root = actor("gateway", "running", json!([store, sessions, channel]));
        let expected = "\
ACTOR                     STATE    FOR   RESTARTS  MAILBOX                  LAST EXIT
gateway                   running  59 s  0         0
├─ store                  running  59 s  2         0                        panic: boom at\u{fffd}[1m, 2 s ago
├─ sessions               running  59 s  0         0
│  ├─ agent:main:main     running  59 s  0         0
│  └─ … 7 more
└─ telegram:default       parked   59 s  0         3 (oldest 1 s) busy 700 ms
";
        assert_eq!(normal(&drawn(&json!({"ts": 60_000, "root": root}))), normal(expected));
    }

    #[test]
    fn how_busy_an_actor_is_is_no_change() {
        let tree = |depth: u64, restarts: u64| {
            let child = json!({"path": "gateway/store", "restarts": restarts, "mailbox": {"depth": depth},
                "busyMs": depth, "info": {"writes": depth}, "children": []});
            json!({"path": "gateway", "mailbox": {"depth": depth}, "children": [child]})
        };
        assert_eq!(lasting(&tree(0, 1)), lasting(&tree(3, 1)));
        assert_ne!(lasting(&tree(0, 1)), lasting(&tree(0, 2)));
    }

    /// Runs of blanks count as one; columns are checked apart.
    fn normal(text: &str) -> Vec<String> {
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    }

    #[test]
    fn columns_line_up() {
        let child = |name: &str| json!({"name": name, "state": "running", "children": []});
        let root = json!({"name": "é", "state": "parked", "children": [child("a"), child("much longer")]});
        let text = drawn(&json!({"ts": 0, "root": root}));
        let column = |line: &str, word: &str| line.find(word).map(|at| line[..at].chars().count());
        let lines: Vec<&str> = text.lines().collect();
        let state = column(lines[0], "STATE");
        assert!(
            state.is_some() && column(lines[1], "parked") == state && column(lines[3], "running") == state
        );
    }

    #[test]
    fn spans_are_short() {
        let spans = [5, 59_999, 61_000, 7_380_000, 90_000_000].map(span);
        assert_eq!(spans, ["5 ms", "59 s", "1 m 01 s", "2 h 03 m", "1 d 01 h"]);
    }
}

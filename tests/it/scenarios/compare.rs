//! Two tellings of a scenario side by side, and where they differ.

use super::frames::Line;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Width of the left column.
const WIDTH: usize = 50;

/// What events of sessions have of their own; their other members are those of the session's row.
const OWN: [&str; 14] = [
    "data",
    "sessionKey",
    "agentId",
    "reason",
    "phase",
    "runId",
    "ts",
    "session",
    "ancestorSessions",
    "message",
    "messageId",
    "messageSeq",
    "senderIsOwner",
    "compacted",
];

/// Where they differ: place and what, see `differences`.
pub type Found = BTreeSet<(String, String)>;

/// The scenario's name and what differs in it, and everything side by side.
pub struct Comparison {
    pub found: Found,
    pub streams: Vec<Stream>,
}

/// Lines whose order matters, in both tellings.
pub struct Stream {
    pub name: String,
    pub rows: Vec<Row>,
}

/// A line of one telling or of both, and the differences that it shows.
pub struct Row {
    left: Option<String>,
    right: Option<String>,
    pub found: Found,
}

pub fn compare(scenario: &str, recorded: &[Line], played: &[Line]) -> Comparison {
    let (theirs, ours) = (streams(recorded), streams(played));
    let names: BTreeSet<&String> = theirs.keys().chain(ours.keys()).collect();
    let mut comparison = Comparison { found: Found::new(), streams: vec![] };
    for name in names {
        let (theirs, ours) = (theirs.get(name).map_or(&[][..], |s| s), ours.get(name).map_or(&[][..], |s| s));
        let mut rows = vec![];
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        let mut before = "nothing";
        if let Some(what) = alone(name, theirs, ours) {
            let rows = theirs
                .iter()
                .map(|line| (Some(*line), None))
                .chain(ours.iter().map(|line| (None, Some(*line))));
            let found = Found::from([(scenario.to_owned(), what)]);
            comparison.found.extend(found.clone());
            let row = |(left, right): (Option<&Line>, Option<&Line>)| Row {
                left: left.map(|l| shown(name, l)),
                right: right.map(|l| shown(name, l)),
                found: found.clone(),
            };
            comparison.streams.push(Stream { name: name.clone(), rows: rows.map(row).collect() });
            continue;
        }
        let pairs = aligned(theirs, ours);
        let lost = |line: &Line| pairs.iter().any(|(l, r)| r.is_none() && l.is_some_and(|l| same(l, line)));
        let found_later =
            |line: &Line| pairs.iter().any(|(l, r)| l.is_none() && r.is_some_and(|r| same(line, r)));
        for &(left, right) in &pairs {
            let mut found = Found::new();
            let label = |line: &Line| format!("{}{}", prefix(name), line.label);
            let what = match (left, right) {
                (Some(left), Some(right)) => {
                    contents(scenario, left, right, &mut found);
                    None
                }
                (Some(line), None) if found_later(line) => None,
                (Some(line), None) => Some(format!("-{}", label(line))),
                (None, Some(line)) if lost(line) => Some(format!(">{} after {before}", label(line))),
                (None, Some(line)) => Some(format!("+{} after {before}", label(line))),
                (None, None) => None,
            };
            if let Some(what) = what {
                let n = counts.entry(what.clone()).or_default();
                *n += 1;
                let again = if *n > 1 { format!(" ({n})") } else { String::new() };
                found.insert((scenario.to_owned(), format!("{what}{again}")));
            }
            if let Some(line) = right {
                before = &line.label;
            }
            comparison.found.extend(found.clone());
            rows.push(Row {
                left: left.map(|l| shown(name, l)),
                right: right.map(|l| shown(name, l)),
                found,
            });
        }
        comparison.streams.push(Stream { name: name.clone(), rows });
    }
    comparison
}

/// More lines than any stream has.
const ALL: usize = 99;

/// How many lines like a recorded one are known not to come.
pub fn lost(line: &Line, is_known: &dyn Fn(&str) -> bool) -> usize {
    let of = |stream: &String| {
        if is_whole(stream) && is_known(&format!("-{stream}")) {
            return ALL;
        }
        let what = format!("-{}{}", prefix(stream), line.label);
        // What is said of no session and no run is told as often as the gateway likes.
        if stream.ends_with(" other") && is_known(&what) {
            return ALL;
        }
        let nth = |n: &usize| is_known(&if *n == 1 { what.clone() } else { format!("{what} ({n})") });
        (1..=ALL).take_while(nth).count()
    };
    stream_names(line).iter().map(of).max().unwrap_or(0)
}

/// A stream of something, all of which is in one telling, is one difference.
fn alone(stream: &str, recorded: &[&Line], played: &[&Line]) -> Option<String> {
    match (recorded.len(), played.len()) {
        (2.., 0) if is_whole(stream) => Some(format!("-{stream}")),
        (0, 2..) if is_whole(stream) => Some(format!("+{stream}")),
        _ => None,
    }
}

/// Whether a stream is of a run or of a session.
fn is_whole(stream: &str) -> bool {
    stream.split(' ').nth(2).is_some()
}

/// In front of differences in streams other than a run's.
fn prefix(stream: &str) -> &'static str {
    match stream.split(' ').nth(1) {
        Some("session") => "session: ",
        Some("changed") => "changed: ",
        _ => "",
    }
}

/// The streams a line is in: its run's; the turns of its session, in their order; or its session's changes.
fn stream_names(line: &Line) -> Vec<String> {
    let (client, label) = (&line.client, &line.label);
    let session = line.session.as_deref().unwrap_or("-");
    if label.starts_with("sessions.changed") {
        return vec![format!("{client} changed {session}")];
    }
    let mut names = vec![];
    match &line.run {
        Some(_) if line.answer_to.is_some() && !moves_a_run(label) => names.push(format!("{client} answers")),
        Some(run) => names.push(format!("{client} run {run}")),
        None if line.answer_to.is_some() => names.push(format!("{client} answers")),
        None if !label.starts_with("session.message") => names.push(format!("{client} other")),
        None => {}
    }
    let turns = ["chat final", "chat aborted", "chat error", "agent lifecycle start", "session.message user"];
    if turns.iter().any(|turn| label.starts_with(turn)) || line.run.is_none() && line.session.is_some() {
        names.push(format!("{client} session {session}"));
    }
    names
}

/// Whether an answer has its place among the events of a run: what only asks about a run comes when it is asked.
fn moves_a_run(label: &str) -> bool {
    const MOVES: [&str; 6] =
        ["agent", "chat.send", "sessions.send", "sessions.steer", "chat.abort", "sessions.abort"];
    let mut words = label.split(' ').skip(1);
    let moves = words.next().is_some_and(|method| MOVES.contains(&method));
    moves && !matches!(words.next(), Some("in_flight" | "INVALID_REQUEST"))
}

fn streams(lines: &[Line]) -> BTreeMap<String, Vec<&Line>> {
    let mut streams: BTreeMap<String, Vec<&Line>> = BTreeMap::new();
    for line in lines {
        for name in stream_names(line) {
            let loose = name.ends_with(" other");
            let stream = streams.entry(name).or_default();
            // What is said of no session and no run is told as often as the gateway likes.
            let again = stream.iter().any(|earlier| earlier.label == line.label);
            if !(again && loose) {
                stream.push(line);
            }
        }
    }
    streams
}

fn same(left: &Line, right: &Line) -> bool {
    left.label == right.label && left.run == right.run && left.answer_to == right.answer_to
}

/// The longest common order, and what is only on one side of it.
fn aligned<'a>(left: &[&'a Line], right: &[&'a Line]) -> Vec<(Option<&'a Line>, Option<&'a Line>)> {
    let mut longest = vec![vec![0_usize; right.len() + 1]; left.len() + 1];
    for (i, l) in left.iter().enumerate().rev() {
        for (j, r) in right.iter().enumerate().rev() {
            longest[i][j] =
                if same(l, r) { longest[i + 1][j + 1] + 1 } else { longest[i + 1][j].max(longest[i][j + 1]) };
        }
    }
    let (mut i, mut j, mut out) = (0, 0, vec![]);
    while i < left.len() || j < right.len() {
        if i < left.len() && j < right.len() && same(left[i], right[j]) {
            out.push((Some(left[i]), Some(right[j])));
            (i, j) = (i + 1, j + 1);
        } else if j == right.len() || i < left.len() && longest[i + 1][j] >= longest[i][j + 1] {
            out.push((Some(left[i]), None));
            i += 1;
        } else {
            out.push((None, Some(right[j])));
            j += 1;
        }
    }
    out
}

/// Differences of keys, and of an answer's values.
fn contents(scenario: &str, left: &Line, right: &Line, found: &mut Found) {
    let place = place(&left.label);
    for path in one_sided(&left.keys, &right.keys) {
        let first = path[1..].split(['.', '[']).next().unwrap_or_default();
        let flat = (place.starts_with("session") || place.starts_with("agent tool")) && !OWN.contains(&first);
        let place = if flat { "keys flat".to_owned() } else { format!("keys {place}") };
        found.insert((place, path));
    }
    let all = |rows: &BTreeSet<BTreeSet<String>>| rows.iter().flatten().cloned().collect::<BTreeSet<_>>();
    // That there is no row at all is a difference of keys already.
    let both = !left.rows.is_empty() && !right.rows.is_empty();
    for path in one_sided(&all(&left.rows), &all(&right.rows)).into_iter().filter(|_| both) {
        found.insert(("keys row".to_owned(), path));
    }
    let (Some(theirs), Some(ours)) = (left.values.as_object(), right.values.as_object()) else { return };
    for (member, value) in theirs {
        if ours.get(member).is_some_and(|ours| ours != value) {
            let number = left.answer_to.unwrap_or_default();
            found.insert((scenario.to_owned(), format!("#{number} {member}: {} not {value}", ours[member])));
        }
    }
}

/// Paths that only one side has, without those below one of them.
fn one_sided(left: &BTreeSet<String>, right: &BTreeSet<String>) -> Vec<String> {
    let only = |these: &BTreeSet<String>, those: &BTreeSet<String>, sign: char| {
        let alone: Vec<&String> = these.difference(those).collect();
        let below = |path: &&&String| {
            let parents = alone.iter().filter(|parent| path.starts_with(parent.as_str()));
            !parents.into_iter().any(|parent| path[parent.len()..].starts_with(['.', '[']))
        };
        alone.iter().filter(below).map(|path| format!("{sign}{path}")).collect::<Vec<_>>()
    };
    [only(left, right, '-'), only(right, left, '+')].concat()
}

/// The kind of frame, by its label.
fn place(label: &str) -> String {
    let words = match label.split(' ').next() {
        Some("sessions.changed") => 1,
        Some("chat" | "session.message") => 2,
        _ => 3,
    };
    label.split(' ').take(words).collect::<Vec<_>>().join(" ")
}

fn shown(stream: &str, line: &Line) -> String {
    let run = match &line.run {
        Some(run) if !prefix(stream).is_empty() => format!(" [{run}]"),
        _ => String::new(),
    };
    let number = line.answer_to.map(|n| format!(" #{n}")).unwrap_or_default();
    format!("{}{run}{number}", line.label)
}

impl Stream {
    /// Recorded on the left, played on the right; `why` gives the reason of a difference in the table.
    pub fn render(&self, why: &dyn Fn(&(String, String)) -> Option<&'static str>, out: &mut String) {
        let _ = writeln!(out, "  -- {} --", self.name);
        for row in &self.rows {
            let sign = match (&row.left, &row.right) {
                (Some(_), Some(_)) if row.found.is_empty() => ' ',
                (Some(_), Some(_)) => '~',
                (Some(_), None) => '-',
                _ => '+',
            };
            let mark = if row.found.iter().all(|found| why(found).is_some()) { ' ' } else { '!' };
            let side = |text: &Option<String>| text.clone().unwrap_or_default();
            let (left, right) = (side(&row.left), side(&row.right));
            let _ = writeln!(out, "  {mark}{sign} {left:WIDTH$} | {right}");
            for found in &row.found {
                let (place, what) = found;
                match why(found) {
                    Some(_) if place.starts_with("keys ") => Ok(()),
                    None if sign != '~' => Ok(()),
                    Some(why) => writeln!(out, "        {what} ({why})"),
                    None => writeln!(out, "  !     {place}: {what}"),
                }
                .expect("a string takes everything");
            }
        }
    }
}

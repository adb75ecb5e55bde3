//! What stands in the rows of each view: pure.

use std::collections::BTreeSet;

use super::seen::{Account, Actor, PARKED, Session};
use crate::cli::tree::span;

/// At one message for so long, an actor stands out; the gateway names it stuck then, too.
const LONG_BUSY_MS: u64 = 5_000;

/// How much a row stands out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Tone {
    Plain,
    /// On its way, or slow.
    Moving,
    /// Somebody should look.
    Bad,
}

/// A column beside the name.
pub(super) struct Column {
    pub head: &'static str,
    /// The heading where there is little room.
    pub short: &'static str,
    pub width: u16,
    /// The width under the short heading.
    pub narrow: u16,
}

const fn column(head: &'static str, short: &'static str, width: u16, narrow: u16) -> Column {
    Column { head, short, width, narrow }
}

/// The columns of each view, the most needed first; the last one takes what is left.
pub(super) const COLUMNS: [&[Column]; 3] = [
    &[
        column("STATE", "STATE", 10, 10),
        column("FOR", "FOR", 10, 8),
        column("RESTARTS", "RST", 8, 3),
        column("MAILBOX", "BOX", 18, 4),
        column("BUSY", "BUSY", 8, 7),
        column("LAST EXIT", "LAST EXIT", 24, 14),
    ],
    &[
        column("STATE", "STATE", 10, 8),
        column("CHANGED", "AGO", 10, 8),
        column("TOKENS", "TOK", 8, 6),
        column("ACTOR", "ACTOR", 10, 8),
        column("MODEL", "MODEL", 24, 12),
        column("TITLE", "TITLE", 24, 12),
    ],
    &[
        column("STATE", "STATE", 10, 10),
        column("STARTED", "STARTED", 10, 8),
        column("HEARD", "IN", 10, 8),
        column("SENT", "OUT", 10, 8),
        column("OUTBOX", "OUTBOX", 20, 9),
        column("ERROR", "ERROR", 24, 12),
    ],
];

/// The headings of the first column.
pub(super) const NAMES: [&str; 3] = ["ACTOR", "SESSION", "CHANNEL"];

/// One row.
#[derive(Debug)]
pub(super) struct Row<'a> {
    /// What it is known by, however rows come and go.
    pub id: String,
    pub name: String,
    pub cells: [String; 6],
    pub tone: Tone,
    /// The actor that it shows, if there is one.
    pub actor: Option<&'a Actor>,
    /// What is said below of the one that is selected.
    pub more: Vec<String>,
}

/// The rows of the tree. A filter shows what contains it and what that is below, folded or not.
pub(super) fn of_tree<'a>(
    root: &'a Actor,
    folded: &BTreeSet<String>,
    filter: &str,
    now: u64,
) -> Vec<Row<'a>> {
    let mut rows = Vec::new();
    let mut walk = Walk { folded, filter: &filter.to_lowercase(), now, rows: &mut rows };
    walk.add(root, "", "");
    rows
}

struct Walk<'a, 'b> {
    folded: &'b BTreeSet<String>,
    filter: &'b str,
    now: u64,
    rows: &'b mut Vec<Row<'a>>,
}

impl<'a> Walk<'a, '_> {
    fn add(&mut self, actor: &'a Actor, branch: &str, stem: &str) {
        if !self.shows(actor) {
            return;
        }
        let folded = self.filter.is_empty() && self.folded.contains(&actor.path) && below(actor) > 0;
        let name = match (folded, below(actor), actor.parked() - u64::from(actor.state == PARKED)) {
            (false, ..) => format!("{branch}{}", actor.name),
            (true, below, 0) => format!("{branch}{} ▸ {below}", actor.name),
            (true, below, parked) => format!("{branch}{} ▸ {below}, {parked} PARKED", actor.name),
        };
        self.rows.push(of_actor(actor, name, self.now));
        if folded {
            return;
        }
        let shown: Vec<&Actor> = actor.children.iter().filter(|child| self.shows(child)).collect();
        let more = if self.filter.is_empty() { actor.more } else { 0 };
        for (index, child) in shown.iter().enumerate() {
            let last = index + 1 == shown.len() && more == 0;
            let (branch, below) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            self.add(child, &format!("{stem}{branch}"), &format!("{stem}{below}"));
        }
        if more > 0 {
            self.rows.push(Row {
                id: format!("{}/…", actor.path),
                name: format!("{stem}└─ … {more} more"),
                cells: Default::default(),
                tone: Tone::Plain,
                actor: None,
                more: vec![
                    "crabtree call system.actors '{\"path\": …, \"limit\": …}' lists them all.".into(),
                ],
            });
        }
    }

    fn shows(&self, actor: &Actor) -> bool {
        matches(self.filter, &[&actor.path, &actor.name, &actor.kind, &actor.state])
            || actor.children.iter().any(|child| self.shows(child))
    }
}

fn below(actor: &Actor) -> u64 {
    actor.count() - 1
}

/// `filter` is in lower case already.
fn matches(filter: &str, texts: &[&str]) -> bool {
    filter.is_empty() || texts.iter().any(|text| text.to_lowercase().contains(filter))
}

fn of_actor(actor: &Actor, name: String, now: u64) -> Row<'_> {
    let long = actor.since.map(|since| span(now.saturating_sub(since))).unwrap_or_default();
    let oldest = actor.oldest_ms.map(|oldest| format!(" (oldest {})", span(oldest))).unwrap_or_default();
    let busy = actor.busy_ms.map(span).unwrap_or_default();
    let exit = actor.exit.as_ref().map(|exit| {
        let ago = exit.at.map(|at| format!(", {} ago", span(now.saturating_sub(at)))).unwrap_or_default();
        (format!("{}{ago}", exit.cause), ago)
    });
    let mut second =
        format!("{} for {long}, {} restarts, {} waiting{oldest}", actor.state, actor.restarts, actor.waiting);
    if !busy.is_empty() {
        second.push_str(&format!(", busy for {busy}"));
    }
    let mut more = vec![format!("{}  ({})", actor.path, actor.kind), second];
    if let Some((text, _)) = &exit {
        more.push(format!("last exit: {text}"));
    }
    Row {
        id: actor.path.clone(),
        name,
        cells: [
            shown(&actor.state),
            long,
            actor.restarts.to_string(),
            format!("{}{oldest}", actor.waiting),
            busy,
            exit.map(|(text, _)| text).unwrap_or_default(),
        ],
        tone: tone(actor),
        actor: Some(actor),
        more,
    }
}

/// A state; the one that nothing leaves by itself stands out without colours, too.
fn shown(state: &str) -> String {
    if state == PARKED { state.to_uppercase() } else { state.to_owned() }
}

fn tone(actor: &Actor) -> Tone {
    match actor.state.as_str() {
        PARKED => Tone::Bad,
        "running" if actor.busy_ms.is_none_or(|busy| busy < LONG_BUSY_MS) => Tone::Plain,
        _ => Tone::Moving,
    }
}

/// The rows of the sessions; `root` knows which of them are in memory.
pub(super) fn of_sessions<'a>(
    sessions: &[Session],
    root: Option<&'a Actor>,
    filter: &str,
    now: u64,
) -> Vec<Row<'a>> {
    let filter = filter.to_lowercase();
    let shows = |session: &&Session| {
        matches(&filter, &[&session.key, &session.state, &session.model, &session.title])
    };
    let row = |session: &Session| {
        let actor = root.and_then(|root| root.find(&session.path()));
        let in_memory = actor.map_or_else(|| "-".into(), |actor| shown(&actor.state));
        let tone = match (actor.map(tone), session.state.as_str()) {
            (Some(Tone::Bad), _) => Tone::Bad,
            (_, "failed" | "timeout") => Tone::Moving,
            (tone, _) => tone.unwrap_or(Tone::Plain),
        };
        let ago = ago(session.updated_at, now);
        let mut more = vec![
            format!("{}  {}", session.key, session.title),
            format!("{}, changed {ago} ago, {} tokens, {}", session.state, session.tokens, session.model),
        ];
        if !session.error.is_empty() {
            more.push(format!("last run: {}", session.error));
        }
        Row {
            id: session.key.clone(),
            name: session.key.clone(),
            cells: [
                session.state.clone(),
                ago,
                session.tokens.to_string(),
                in_memory,
                session.model.clone(),
                session.title.clone(),
            ],
            tone,
            actor,
            more,
        }
    };
    sessions.iter().filter(shows).map(row).collect()
}

/// The rows of the channels' accounts.
pub(super) fn of_channels<'a>(
    accounts: &[Account],
    root: Option<&'a Actor>,
    filter: &str,
    now: u64,
) -> Vec<Row<'a>> {
    let filter = filter.to_lowercase();
    let shows = |account: &&Account| matches(&filter, &[&account.name, &account.state, &account.error]);
    let row = |account: &Account| {
        let ago = |at| ago(at, now);
        let mut more = vec![
            format!("{}  {}", account.name, account.path()),
            format!(
                "{}, outbox: {}",
                account.state,
                Some(&*account.deliveries).filter(|d| !d.is_empty()).unwrap_or("empty")
            ),
        ];
        if !account.error.is_empty() {
            more.push(format!("last error: {}", account.error));
        }
        Row {
            id: account.name.clone(),
            name: account.name.clone(),
            cells: [
                shown(&account.state),
                ago(account.since),
                ago(account.inbound_at),
                ago(account.outbound_at),
                account.deliveries.clone(),
                account.error.clone(),
            ],
            tone: match account.state.as_str() {
                "healthy" => Tone::Plain,
                PARKED => Tone::Bad,
                _ => Tone::Moving,
            },
            actor: root.and_then(|root| root.find(&account.path())),
            more,
        }
    };
    accounts.iter().filter(shows).map(row).collect()
}

fn ago(at: Option<u64>, now: u64) -> String {
    at.map_or_else(|| "-".into(), |at| span(now.saturating_sub(at)))
}

//! What must be true when the last process has worked everything off; and the story of a world in which it is not.
//!
//! Nothing here knows which run answers a message: a message is found by its key, by its words in what was asked,
//! and by its words in what was answered (the offline model repeats them).

use super::load::{Answer, Book, Said, answer};
use super::plan::{How, SESSIONS};
use crate::client::Client;
use crate::gateway::Process;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// What everybody is told of a message that was given up: documented.
pub const GIVEN_UP: &str = "given up after 2 attempts";
/// Attempts after which a message is given up.
const ATTEMPTS: usize = 2;
/// The backlog of a world is worked off in this time.
const WORK_OFF: Duration = Duration::from_secs(90);
/// Pause between two looks at it.
const LOOK: Duration = Duration::from_millis(20);
/// An outcome that is there is told in this time.
const WAIT_MS: u64 = 5_000;
/// Characters of a text in a story.
const SHOWN: usize = 60;
/// Characters of a message without room that stand in the summary, before its ellipsis.
const SUMMARY_KEEPS: usize = 159;

/// How a message ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Answered.
    Ok,
    /// Stopped by an abort or an interrupt.
    Aborted,
    /// Given up after two crashes.
    Dead,
}

/// A row of a transcript.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    id: Value,
    role: String,
    key: String,
    text: String,
}

impl Row {
    fn of(row: &Value) -> Self {
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let text = row["content"].as_str().or(row["content"][0]["text"].as_str()).unwrap_or_default();
        let (role, key) = (word(&row["role"]), word(&row["idempotencyKey"]));
        Self { id: row["__openclaw"]["id"].clone(), role, key, text: text.to_owned() }
    }

    /// Whether it is where `said` was asked: its own row, or one of several that were gathered.
    fn asks(&self, said: &Said) -> bool {
        let own = self.key == format!("{}:user", said.key);
        let gathered = self.key.starts_with("followup-collect:") && self.text.contains(&said.token);
        self.role == "user" && (own || gathered)
    }

    /// Whether it has the words of `said`: all of them, or what the summary of an overflowing queue keeps.
    fn tells(&self, said: &Said) -> bool {
        let kept: String = said.text.chars().take(SUMMARY_KEEPS).collect();
        let in_short =
            || self.text.starts_with("[Queue overflow: ") && self.text.contains(&format!("- {kept}…"));
        self.text.contains(&said.text) || in_short()
    }
}

/// Starts the gateway once more and asks it about everything that is in the book.
pub async fn of(mut book: Book, state: &Path) -> Book {
    let gateway = Process::start(state).await;
    let mut client = Client::admin(gateway.addr).await;
    work_off(&mut book, &mut client).await;
    book.rows = transcripts(&mut client).await;
    send_the_rest(&mut book, &mut client).await;
    work_off(&mut book, &mut client).await;
    for known in 0..book.said.len() {
        let end = end_of(&book.said[known], &mut client).await;
        match end {
            Ok(end) => book.said[known].end = Some(end),
            Err(problem) => book.problems.push(format!("{}: {problem}", book.said[known].key)),
        }
    }
    book.rows = transcripts(&mut client).await;
    let mut problems = check(&book);
    problems.extend(at_rest(&mut client).await);
    problems.extend(repeat(&book, &mut client).await);
    let dead = book.said.iter().filter(|said| said.end == Some(End::Dead)).count();
    let shown = client.call("status", json!({})).await["inputs"]["dead"].clone();
    if shown != dead {
        problems.push(format!("{dead} messages were given up, and status shows {shown}"));
    }
    book.problems.extend(problems);
    book
}

/// Waits until nothing is queued and nothing runs.
async fn work_off(book: &mut Book, client: &mut Client) {
    let deadline = Instant::now() + WORK_OFF;
    loop {
        let inputs = client.call("status", json!({})).await["inputs"].clone();
        if inputs["queued"] == 0 && inputs["running"] == 0 {
            return;
        }
        if Instant::now() > deadline {
            return book.problems.push(format!("the backlog is not worked off: {inputs}"));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// No session says that it is still at work.
async fn at_rest(client: &mut Client) -> Vec<String> {
    let mut problems = vec![];
    for (key, _) in SESSIONS {
        let session = client.call("sessions.describe", json!({ "key": key })).await["session"].clone();
        if session["hasActiveRun"] == true || session["status"] == "running" {
            problems.push(format!("{key}: nothing runs, and its row says {session}"));
        }
    }
    problems
}

async fn transcripts(client: &mut Client) -> Vec<Vec<Row>> {
    let mut transcripts = vec![];
    for (key, _) in SESSIONS {
        let page = client.call("chat.history", json!({ "sessionKey": key, "limit": 1_000 })).await;
        assert_eq!(page["hasMore"], false, "a page holds the transcript");
        transcripts.push(page["messages"].as_array().unwrap().iter().map(Row::of).collect());
    }
    transcripts
}

/// What was never acknowledged is sent again, under the same key. It was there as a whole, or not at all.
async fn send_the_rest(book: &mut Book, client: &mut Client) {
    for known in 0..book.said.len() {
        if book.said[known].acked.is_some() {
            continue;
        }
        let said = &book.said[known];
        let there = book.rows[said.session].iter().any(|row| row.asks(said));
        // The question of a command is one commit and its answer another: the key sent again completes it.
        let whole = said.how != How::Command || has_answer(&book.rows[said.session], said);
        let (method, params) = said.request();
        let problem = match first(client, method, params).await {
            Ok(word) if word == "started" || word == "accepted" => {
                (there && whole).then(|| "its row was there, and it was taken as new".to_owned())
            }
            Ok(word) if word == "ok" && !there && said.how == How::Command => {
                Some("it was not there, and it was taken as answered".to_owned())
            }
            Ok(_) => None,
            Err(frame) => Some(format!("sent again at the end, it was answered with {frame}")),
        };
        let key = said.key.clone();
        book.problems.extend(problem.map(|problem| format!("{key}: {problem}")));
        let mark = book.mark(book.kills.len(), 0);
        book.said[known].acked = Some((mark, "at the end".into()));
    }
}

/// The first answer to a message, which is not refused now that nothing waits.
async fn first(client: &mut Client, method: &str, params: Value) -> Result<String, Value> {
    loop {
        let frame = client.response_to(method, params.clone()).await;
        match answer(&frame) {
            Answer::Acked(word) => return Ok(word),
            // More than a backlog may not have been acknowledged.
            Answer::Refused(why) if why.contains("backlog") => tokio::time::sleep(LOOK).await,
            _ => return Err(frame),
        }
    }
}

async fn end_of(said: &Said, client: &mut Client) -> Result<End, String> {
    if said.how == How::Command {
        return Ok(End::Ok);
    }
    let waited = client.call("agent.wait", json!({ "runId": said.key, "timeoutMs": WAIT_MS })).await;
    let (error, stopped) = (waited["error"].as_str(), waited["stopReason"].as_str());
    match (waited["status"].as_str(), error, stopped) {
        (Some("ok"), None, _) => Ok(End::Ok),
        (Some("error"), Some(error), _) if error.contains(GIVEN_UP) => Ok(End::Dead),
        (Some("error"), _, Some("rpc" | "stop" | "aborted")) => Ok(End::Aborted),
        _ => Err(format!("it has no outcome: {waited}")),
    }
}

fn has_answer(rows: &[Row], said: &Said) -> bool {
    rows.iter().any(|row| row.role == "assistant" && row.key == said.key)
}

/// Everything is sent once more: it is answered with what became of it, and leaves no trace.
async fn repeat(book: &Book, client: &mut Client) -> Vec<String> {
    let mut problems = vec![];
    for said in &book.said {
        let (method, params) = said.request();
        let frame = client.response_to(method, params).await;
        let word = match answer(&frame) {
            Answer::Acked(word) => word,
            _ => frame.to_string(),
        };
        let expected: &[&str] = match (said.end, said.how) {
            (Some(End::Dead), _) => &["given up"],
            (Some(End::Aborted), How::Agent) => &["timeout", "in_flight"],
            _ => &["ok", "in_flight"],
        };
        if !expected.contains(&word.as_str()) {
            problems.push(format!("{}: it ended {:?}; sent again, it is {word}", said.key, said.end));
        }
    }
    if transcripts(client).await != book.rows {
        problems.push("sending everything again has changed a transcript".into());
    }
    problems
}

/// What the transcripts must say.
fn check(book: &Book) -> Vec<String> {
    let mut problems = vec![];
    for (session, rows) in book.rows.iter().enumerate() {
        let here: Vec<&Said> = book.said.iter().filter(|said| said.session == session).collect();
        for said in &here {
            let found = one(book, rows, said);
            problems.extend(found.into_iter().map(|problem| format!("{}: {problem}", said.key)));
        }
        let name = SESSIONS[session].0;
        let mut keys = HashSet::new();
        for row in rows.iter().filter(|row| !row.key.is_empty() && !keys.insert(&row.key)) {
            problems.push(format!("{name}: two rows of the key {}", row.key));
        }
        let asked = rows.iter().filter(|row| row.role == "user").count();
        // What only calls tools has no words; and a turn that answered somebody who joined it may be given up after.
        let is_answer = |row: &&Row| {
            row.role == "assistant" && !row.text.is_empty() && !row.key.ends_with(":terminal-error")
        };
        let answered = rows.iter().filter(is_answer).count();
        if answered > asked {
            problems.push(format!("{name}: {asked} questions and {answered} answers"));
        }
        problems.extend(order(rows, &here).into_iter().map(|problem| format!("{name}: {problem}")));
    }
    for abort in &book.aborts {
        for said in book.said.iter().filter(|said| abort.runs.contains(&said.key)) {
            if said.end != Some(End::Aborted) {
                problems.push(format!("{}: its abort was acknowledged, it ended {:?}", said.key, said.end));
            }
        }
    }
    problems
}

/// What must be true of one message.
fn one(book: &Book, rows: &[Row], said: &Said) -> Vec<String> {
    let mut problems = vec![];
    let mut wrong = |problem: String| problems.push(problem);
    let asked: Vec<usize> = (0..rows.len()).filter(|at| rows[*at].asks(said)).collect();
    match (said.end, asked.len()) {
        // What was stopped while it waited was never asked.
        (_, 1) | (Some(End::Aborted), 0) => {}
        (_, count) => wrong(format!("it stands in {count} user rows")),
    }
    if said.how == How::Command {
        if !has_answer(rows, said) {
            wrong("the command has no answer".into());
        }
        return problems;
    }
    let words = |role: &str| -> usize {
        let rows = rows.iter().filter(|row| row.role == role);
        rows.map(|row| row.text.matches(&said.token).count()).sum()
    };
    if asked.iter().any(|at| !rows[*at].tells(said)) || words("user") != asked.len() {
        wrong("its words were not asked once as they were said".into());
    }
    let answers = words("assistant");
    if answers > 1 {
        wrong(format!("it was answered {answers} times"));
    }
    if said.end == Some(End::Ok) {
        let later = asked.first().is_some_and(|at| rows[*at..].iter().any(|row| row.role == "assistant"));
        // Where messages join a running turn, one answer may be about several.
        let alone = SESSIONS[said.session].1.iter().all(|how| *how != How::Chat("steer"));
        if !later || (alone && answers != 1) {
            wrong(format!("it ended well, and was answered {answers} times"));
        }
    }
    if said.end == Some(End::Dead) && book.kills.len() - said.sent[0].round < ATTEMPTS {
        wrong("it was given up after fewer than two kills".into());
    }
    let stopped = book.aborts.iter().any(|abort| abort.session == said.session)
        || SESSIONS[said.session].1.contains(&How::Chat("interrupt"));
    if said.end == Some(End::Aborted) && !stopped {
        wrong("nobody has aborted it".into());
    }
    problems
}

/// Of two messages said in the same way, one after the other, the first stands first, and is answered first.
fn order(rows: &[Row], said: &[&Said]) -> Vec<String> {
    let asked = |said: &Said| place(rows, said, |row| row.asks(said));
    let answered =
        |said: &Said| place(rows, said, |row| row.role == "assistant" && row.text.contains(&said.token));
    // An interrupt changes the order on purpose; what was stopped is not in it.
    let ordered = |said: &&&Said| {
        said.end != Some(End::Aborted) && !matches!(said.how, How::Command | How::Chat("interrupt"))
    };
    let placed: Vec<_> =
        said.iter().filter(ordered).map(|said| (*said, [asked(said), answered(said)])).collect();
    let mut problems = vec![];
    for (a, of_a) in &placed {
        for (b, of_b) in placed.iter().filter(|(b, _)| a.how == b.how && is_before(a, b)) {
            // What was given up has no answer.
            let both = of_a.iter().zip(of_b).filter_map(|(a, b)| Some(((*a)?, (*b)?)));
            if both.into_iter().any(|(a, b)| a > b) {
                problems.push(format!(
                    "{} was said before {}, and stands or is answered behind it",
                    a.key, b.key
                ));
            }
        }
    }
    problems
}

/// The row in which the words of a message are, and where in its text.
fn place(rows: &[Row], said: &Said, wanted: impl Fn(&Row) -> bool) -> Option<(usize, usize)> {
    let at = rows.iter().position(wanted)?;
    Some((at, rows[at].text.find(&said.token)?))
}

/// Whether `a` was acknowledged before `b` was said, or both were said and acknowledged on one connection in this
/// order.
fn is_before(a: &Said, b: &Said) -> bool {
    let (Some((acked, _)), Some((also, _))) = (&a.acked, &b.acked) else { return false };
    let (first, second) = (a.sent[0], b.sent[0]);
    let together = first.round == second.round && first.client == second.client;
    let at_once = acked.round == first.round && also.round == second.round;
    let unbroken = a.refused.is_none() && b.refused.is_none();
    acked.tick < second.tick || (together && at_once && unbroken && first.tick < second.tick)
}

impl Book {
    /// What happened, for people.
    pub fn story(&self) -> String {
        let mut story = format!(
            "\nseed {} failed; again: CRABTREE_CRASH_SEED={0} CRABTREE_CRASH_KILLS={} cargo test --profile ci \
             --test it crash\nkills: {:?}\n",
            self.seed,
            self.kills.len(),
            self.kills
        );
        self.problems.iter().for_each(|problem| story += &format!("  PROBLEM {problem}\n"));
        for (session, (name, _)) in SESSIONS.iter().enumerate() {
            let _ = writeln!(story, "session {name}: sent");
            for said in self.said.iter().filter(|said| said.session == session) {
                let sent: Vec<String> =
                    said.sent.iter().map(|m| format!("{}.{}.{}", m.round, m.client, m.tick)).collect();
                let acked = said
                    .acked
                    .as_ref()
                    .map(|(m, word)| format!("{}.{}.{} {word}", m.round, m.client, m.tick));
                let (key, how, end) = (&said.key, said.how, said.end);
                let (acked, refused) =
                    (acked.as_deref().unwrap_or("-"), said.refused.as_deref().unwrap_or("-"));
                let _ = writeln!(
                    story,
                    "  {key} {how:?} sent (kills.client.tick) {} acked {acked} refused {refused} ended {end:?}: {}",
                    sent.join(" "),
                    shown(&said.text)
                );
            }
            let _ = writeln!(story, "session {name}: transcript");
            for row in self.rows.get(session).into_iter().flatten() {
                let _ = writeln!(story, "  {:9} {} {}", row.role, row.key, shown(&row.text));
            }
        }
        let _ = writeln!(story, "aborts: {:?}", self.aborts);
        story
    }
}

/// The end of a text: an answer repeats the question there.
fn shown(text: &str) -> String {
    let count = text.chars().count();
    text.chars().skip(count.saturating_sub(SHOWN)).map(|c| if c == '\n' { ' ' } else { c }).collect()
}

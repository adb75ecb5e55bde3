//! What is said, and what must have become of it. A lane talks in one session at a time, for a day: it says some
//! messages, waits for the outcome of each, and then reads the session's history, in which each must stand once with
//! one answer. After that the session begins anew, so that nobody has to remember more than a day.

use crate::link::{Answer, Answers, Client};
use crate::plan::Plan;
use crate::world::World;
use futures_util::future::join_all;
use parking_lot::Mutex;
use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

/// Of so many lanes one has a busy session of its own; the others share the many that are rarely used.
const BUSY: usize = 4;
/// Rarely used sessions, for each lane.
const RARE: usize = 20;
/// Messages of a day.
const BUSY_DAY: std::ops::RangeInclusive<usize> = 20..=40;
const RARE_DAY: std::ops::RangeInclusive<usize> = 1..=4;
/// Messages that are said in a busy session before the first is answered.
const BURST: usize = 3;
/// One in so many days is in a session that is never used again; and one ends with its session's deletion.
const ONCE: u32 = 10;
const DELETED: u32 = 20;
/// One in so many messages is sent again after its end, wishes that a tool is called, comes by `agent`, is long.
const AGAIN: u32 = 50;
const TOOL: u32 = 10;
const AGENT: u32 = 4;
const LONG: u32 = 20;
/// Characters of a long one.
const BULK: usize = 4_000;
/// A message without an outcome after this long is lost.
const LOST: Duration = Duration::from_secs(240);
/// How long one question for an outcome waits.
const WAIT_MS: u64 = 30_000;
/// What is told of a message that was given up: documented.
const GIVEN_UP: &str = "given up after 2 attempts";

/// A message.
#[derive(Clone)]
pub struct Said {
    pub number: u64,
    session: String,
    method: &'static str,
    /// Its text holds it, and no other one does.
    token: String,
    text: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Answered,
    GivenUp,
    /// Told already.
    Wrong,
}

impl Said {
    fn new(number: u64, session: &str, rng: &mut StdRng) -> Self {
        let token = format!("[m{number}]");
        let method = if rng.random_ratio(1, AGENT) { "agent" } else { "chat.send" };
        let text = if rng.random_ratio(1, TOOL) {
            format!("/tool session_status {{}} {token}")
        } else if rng.random_ratio(1, LONG) {
            format!("{token} {}", "x".repeat(BULK))
        } else {
            format!("{token} and {} words more", rng.random_range(2..100))
        };
        Self { number, session: session.to_owned(), method, token, text }
    }

    fn key(&self) -> String {
        format!("m{}", self.number)
    }

    fn params(&self) -> Value {
        let mut params =
            json!({ "sessionKey": self.session, "message": self.text, "idempotencyKey": self.key() });
        if self.method == "chat.send" {
            params["queueMode"] = json!("followup");
        }
        params
    }
}

/// A session of this soak's own, and whether anything was said in it before.
struct Session {
    name: String,
    used: bool,
}

impl Session {
    fn new(name: String) -> Self {
        Self { name, used: false }
    }
}

/// The rarely used sessions, whoever waits longest first.
pub struct Pool(Mutex<VecDeque<Session>>);

impl Pool {
    pub fn new(lanes: usize) -> Self {
        Self(Mutex::new((0..lanes * RARE).map(|n| Session::new(format!("rare-{n}"))).collect()))
    }
}

/// Talks until there is nothing more to say.
pub async fn lane(client: Arc<Client>, pool: Arc<Pool>, number: usize) {
    let world = client.world.clone();
    let mut rng = Plan::rng(world.plan.seed, &format!("lane {number}"));
    let mut own = number.is_multiple_of(BUSY).then(|| Session::new(format!("busy-{number}")));
    for n in 0.. {
        if !world.has_more() {
            return;
        }
        if let Some(own) = &mut own {
            let length = rng.random_range(BUSY_DAY);
            day(&client, &mut rng, own, length, BURST).await;
            continue;
        }
        let length = rng.random_range(RARE_DAY);
        let rare = if rng.random_ratio(1, ONCE) { None } else { pool.0.lock().pop_front() };
        let mut session = rare.unwrap_or_else(|| Session::new(format!("once-{number}-{n}")));
        day(&client, &mut rng, &mut session, length, 1).await;
        if session.name.starts_with("rare") {
            pool.0.lock().push_back(session);
        }
    }
}

/// A day in a session, of so many messages, so many at a time; cut short if there is nothing more to say, or something
/// was refused.
async fn day(
    client: &Client,
    rng: &mut StdRng,
    session: &mut Session,
    length: usize,
    most: usize,
) -> Option<()> {
    let world = &client.world;
    if std::mem::replace(&mut session.used, true) {
        client.call("sessions.reset", &json!({ "key": session.name })).await?;
    }
    let mut said: Vec<(Said, End)> = Vec::with_capacity(length);
    while said.len() < length {
        let mut burst = Vec::with_capacity(most);
        for _ in 0..rng.random_range(1..=most).min(length - said.len()) {
            match world.number().await {
                Some(number) => burst.push(Said::new(number, &session.name, rng)),
                None => break,
            }
        }
        if burst.is_empty() {
            break;
        }
        let ends = join_all(burst.iter().map(|said| say(client, said))).await;
        for (one, end) in burst.into_iter().zip(ends) {
            said.push((one, end?));
        }
    }
    for (one, _) in said.iter().filter(|(_, end)| *end == End::Answered) {
        world.remember(one, rng);
        if rng.random_ratio(1, AGAIN) {
            say_again(client, one).await?;
        }
    }
    check(world, &session.name, &said, &rows(client, &session.name).await?);
    if rng.random_ratio(1, DELETED) {
        client.call("sessions.delete", &json!({ "key": session.name })).await?;
        world.count("sessions deleted");
    }
    Some(())
}

/// Says it until it is acknowledged, and waits for its outcome; none if everything is over.
async fn say(client: &Client, said: &Said) -> Option<End> {
    let world = &client.world;
    let (begun, blows) = (Instant::now(), world.blows.load(SeqCst));
    let (answers, attempts) = acknowledged(client, said).await?;
    if attempts == 1 {
        world.window.lock().ack.push(begun.elapsed().as_secs_f64() * 1e3);
    } else {
        world.count("sent again, not having been acknowledged");
    }
    // The second answer to `agent`, unless the socket ends before: then there is another way to hear of it.
    if let Some(mut answers) = answers
        && let Answer::Ok(payload) = answers.next().await
        && payload["status"] != "ok"
    {
        world.problem(format!("{} has ended with {payload}", said.key()));
    }
    let end = outcome(client, said, begun, blows).await?;
    world.window.lock().turn.push(begun.elapsed().as_secs_f64() * 1e3);
    world.settled.fetch_add(1, SeqCst);
    Some(end)
}

/// Says it until it is acknowledged: the answers that are still to come, and how often it was sent.
async fn acknowledged(client: &Client, said: &Said) -> Option<(Option<Answers>, u32)> {
    let world = &client.world;
    for attempts in 1.. {
        let count = if said.method == "agent" { 2 } else { 1 };
        let mut answers = client.link().await?.ask(said.method, &said.params(), count);
        match answers.next().await {
            Answer::Ok(payload) => {
                let status = payload["status"].as_str().unwrap_or_default();
                let is_known = attempts > 1 && ["in_flight", "ok"].contains(&status);
                if !is_known && !["started", "accepted"].contains(&status) {
                    world.problem(format!("{}, sent {attempts} times, is {status:?}", said.key()));
                }
                return Some(((status == "accepted").then_some(answers), attempts));
            }
            Answer::Refused(_, Some(after)) => {
                world.count("told to ask again");
                tokio::time::sleep(after).await;
            }
            Answer::Refused(error, None) => {
                let why = error["message"].as_str().unwrap_or_default();
                // It was acknowledged, and nobody heard of it.
                if attempts == 1 || !why.contains(GIVEN_UP) {
                    world.problem(format!("{} was refused: {error}", said.key()));
                }
                return Some((None, attempts));
            }
            Answer::Gone => tokio::task::yield_now().await,
        }
    }
    None
}

/// How it has ended; what is no end to expect is told.
async fn outcome(client: &Client, said: &Said, begun: Instant, blows: u64) -> Option<End> {
    let world = &client.world;
    loop {
        let wait = json!({ "runId": said.key(), "timeoutMs": WAIT_MS });
        let waited = client.call("agent.wait", &wait).await?;
        match (waited["status"].as_str(), waited["error"].as_str()) {
            (Some("ok"), None) => return Some(End::Answered),
            (Some("error"), Some(error)) if error.contains(GIVEN_UP) => {
                world.count("given up");
                if world.blows.load(SeqCst) < blows + 2 {
                    world.problem(format!("{} was given up after fewer than two crashes", said.key()));
                }
                return Some(End::GivenUp);
            }
            (Some("timeout"), None) if waited["endedAt"].is_null() && begun.elapsed() < LOST => {}
            _ => {
                let seconds = begun.elapsed().as_secs();
                world.problem(format!("{} is after {seconds} s: {waited}", said.key()));
                return Some(End::Wrong);
            }
        }
    }
}

/// What was answered is known, and nothing begins.
async fn say_again(client: &Client, said: &Said) -> Option<()> {
    let answer = client.call(said.method, &said.params()).await?;
    client.world.count("sent again after the end");
    if answer["status"] != "ok" {
        client.world.problem(format!("{}, sent again after its end, is {}", said.key(), answer["status"]));
    }
    Some(())
}

/// A row of a history: who said it, under which key, and what.
struct Row {
    role: String,
    key: String,
    text: String,
}

async fn rows(client: &Client, session: &str) -> Option<Vec<Row>> {
    let page = client.call("chat.history", &json!({ "sessionKey": session, "limit": 1_000 })).await?;
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let row = |row: &Value| Row {
        role: word(&row["role"]),
        key: word(&row["idempotencyKey"]),
        text: row["content"].as_str().or(row["content"][0]["text"].as_str()).unwrap_or_default().to_owned(),
    };
    Some(page["messages"].as_array().into_iter().flatten().map(row).collect())
}

/// Each message of the day stands in the history once, and its answer does.
fn check(world: &World, session: &str, said: &[(Said, End)], rows: &[Row]) {
    let asked = rows.iter().filter(|row| row.role == "user").count();
    if asked != said.len() {
        world.problem(format!("{session}: {} messages, {asked} rows of them", said.len()));
    }
    for (said, end) in said {
        let key = format!("{}:user", said.key());
        let own = rows.iter().filter(|row| row.role == "user" && row.key == key);
        let (mut count, mut whole) = (0, true);
        own.for_each(|row| (count, whole) = (count + 1, whole && row.text.contains(&said.text)));
        let answers = rows.iter().filter(|row| row.role == "assistant");
        let answers: usize = answers.map(|row| row.text.matches(&said.token).count()).sum();
        let is_answered = if *end == End::Answered { answers == 1 } else { answers <= 1 };
        if count != 1 || !whole || !is_answered {
            world.problem(format!(
                "{} in {session}: {count} rows (whole: {whole}), {answers} answers",
                said.key()
            ));
        }
        world.count("checked");
    }
}

/// At the end of the year: what became of a few messages of all of it is still known.
pub async fn look_back(client: &Client) -> Option<()> {
    for said in client.world.remembered() {
        if outcome(client, &said, Instant::now(), 0).await? != End::Answered {
            client.world.problem(format!("{} was answered once, and is not any more", said.key()));
        }
        say_again(client, &said).await?;
        client.world.count("looked back at");
    }
    Some(())
}

//! Many sessions: how long a gateway takes to start with them, to list them, to search and to page through them,
//! and how much memory it holds once each was spoken to. Prints a table in Markdown, or JSON.
//!
//!     cargo run --release --example sessions -- --server target/release/crabtree
//!
//! The store is filled through its own interface, with what the gateway writes for a turn (an input, a question,
//! an answer, an outcome), a thousand turns a commit: by the wire, 16 turns at a time and 20 ms a word, it would
//! take an hour. The calls go over the WebSocket, one after the other, so that a time is that of one call.

mod measured;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use crabtree_actors::store::{
    Db, InputState, NewInput, NewMessage, SessionUpdate, Sync, WriteOp, WriteReply,
};
use crabtree_protocol::client::encode_request;
use futures_util::SinkExt;
use measured::{Gateway, IDLE, TOKEN, Ws, connect_request, frame, hello, round};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use uuid::Uuid;

/// Starts of which the median is taken.
const STARTS: usize = 5;
/// Operations in one commit while the store is filled: two a turn.
const BATCH: usize = 2_000;
/// Turns of the one session that is read far back.
const DEEP_TURNS: usize = 5_000;
/// A word that is in every question, and one that is in every so many of them.
const OFTEN: &str = "harbour";
const SELDOM: &str = "lighthouse";
const SELDOM_EVERY: usize = 10_000;
/// When the first of the stored turns was, in milliseconds since the epoch.
const BEGINNING: i64 = 1_700_000_000_000;
/// How much longer than the configured time sessions get to leave memory.
const PASSIVATION_SLACK: Duration = Duration::from_secs(15);

#[derive(Parser)]
#[command(about = "Measures a gateway with many sessions")]
struct Cli {
    /// The binary to start and measure
    #[arg(long, default_value = "target/release/crabtree")]
    server: PathBuf,
    /// Sessions in the store
    #[arg(long, default_value_t = 10_000)]
    sessions: usize,
    /// Turns of each
    #[arg(long, default_value_t = 10)]
    turns: usize,
    /// Sessions of one turn each, in a second store that a gateway is only started with; 0: none
    #[arg(long, default_value_t = 100_000)]
    stored: usize,
    /// Calls of each method
    #[arg(long, default_value_t = 500)]
    calls: usize,
    /// Sessions that are spoken to at the same time
    #[arg(long, default_value_t = 64)]
    workers: usize,
    /// `session.passivateAfterSeconds` of the gateway; speaking to all sessions has to take less
    #[arg(long, default_value_t = 30)]
    passivate_after: u64,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// Figures under the names people read, in the order of the table.
type Figures = Vec<(String, Value)>;
/// Parameters of the call of this number.
type Params<'a> = dyn Fn(usize) -> Value + 'a;

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    let mut figures = Figures::new();
    measure(&cli, &mut figures).await?;
    if cli.stored > 0 {
        let state = tempfile::tempdir()?;
        fill(state.path(), cli.stored, 1, &mut figures)?;
        let gateway = start(&cli, state.path(), &mut figures).await?;
        memory(&gateway, "after the start", &mut figures).await?;
    }
    if cli.json {
        let rows: Vec<Value> = figures.iter().map(|(what, is)| json!({ "what": what, "is": is })).collect();
        println!("{}", json!({ "measure": "sessions", "figures": rows }));
    } else {
        println!("| | |\n| --- | ---: |");
        for (what, is) in figures {
            println!("| {what} | {} |", is.as_str().map_or_else(|| is.to_string(), str::to_owned));
        }
    }
    Ok(())
}

async fn measure(cli: &Cli, figures: &mut Figures) -> Result<()> {
    let state = tempfile::tempdir()?;
    let config = json!({ "session": { "passivateAfterSeconds": cli.passivate_after } });
    std::fs::write(state.path().join("openclaw.json"), config.to_string())?;
    fill(state.path(), cli.sessions, cli.turns, figures)?;
    let gateway = start(cli, state.path(), figures).await?;
    memory(&gateway, "after the start", figures).await?;
    calls(cli, &gateway, figures).await?;
    // What the first message costs once, such as prepared statements, is no cost of a session.
    touch(cli, &gateway, cli.workers).await?;
    passivated(cli).await;
    memory(&gateway, "after these calls and the first messages", figures).await?;
    let took = touch(cli, &gateway, cli.sessions).await?;
    let what = format!(
        "`chat.send` and `chat.abort` in each of {} sessions, {} at a time",
        cli.sessions, cli.workers
    );
    figures.push((what, json!(format!("{took:.1} s"))));
    memory(&gateway, "after speaking in all", figures).await?;
    passivated(cli).await;
    let name =
        format!("{} s later (`session.passivateAfterSeconds`: {})", cli.passivate_after, cli.passivate_after);
    memory(&gateway, &name, figures).await
}

async fn passivated(cli: &Cli) {
    tokio::time::sleep(Duration::from_secs(cli.passivate_after) + PASSIVATION_SLACK).await;
}

// ---- the store ----

/// Makes a store in `state`: so many sessions of so many turns, and one that is deep.
fn fill(state: &Path, sessions: usize, turns: usize, figures: &mut Figures) -> Result<()> {
    let begun = Instant::now();
    let file = state.join("store.sqlite");
    let db = Db::open(&file, Sync::Normal)?;
    let deep = if turns > 1 { DEEP_TURNS } else { 0 };
    let all = (0..turns).flat_map(|turn| (0..sessions).map(move |n| (name(n), turn)));
    let all = all.chain((0..deep).map(|turn| ("deep".to_owned(), turn)));
    let mut ops = Vec::with_capacity(BATCH);
    for (number, (session, turn)) in all.enumerate() {
        ops.extend(turn_ops(&session, turn, number));
        if ops.len() >= BATCH {
            write(&db, &mut ops)?;
        }
    }
    write(&db, &mut ops)?;
    drop(db);
    let (took, size) = (begun.elapsed().as_secs_f64(), std::fs::metadata(file)?.len() as f64 / 1e6);
    eprintln!("{sessions} sessions of {turns} turns: filled in {took:.1} s");
    figures.push((
        format!("**{sessions} stored sessions, {turns} turns each**: size"),
        json!(format!("{size:.0} MB")),
    ));
    Ok(())
}

fn write(db: &Db, ops: &mut Vec<WriteOp>) -> Result<()> {
    for reply in db.apply_batch(ops, &|_| {})? {
        ensure!(
            matches!(reply?, WriteReply::Accepted { .. } | WriteReply::Settled { .. }),
            "an unexpected reply"
        );
    }
    ops.clear();
    Ok(())
}

fn name(session: usize) -> String {
    format!("s{session:06}")
}

/// What the gateway writes for a turn.
fn turn_ops(session: &str, turn: usize, number: usize) -> [WriteOp; 2] {
    let at = BEGINNING + number as i64;
    let (seldom, pier) = (if number.is_multiple_of(SELDOM_EVERY) { SELDOM } else { "boat" }, number % 997);
    let asked = format!("{OFTEN} question {turn} of {session}: what about the {seldom} at pier {pier}?");
    let said = format!(
        "This is an answer of an ordinary length to what was asked, so that a row weighs what rows weigh. Pier {pier} \
         lies between the customs house and the slipway; boats of up to twelve metres can moor there over night, \
         and the harbour master ({number} so far) keeps the list of those that did."
    );
    let input = input(format!("agent:main:{session}"), asked, at);
    let question = message(&input, "user", json!({ "role": "user", "content": input.text, "timestamp": at }));
    let answer = json!({
        "role": "assistant", "content": [{ "type": "text", "text": said }], "timestamp": at,
        "provider": "crabtree", "model": "offline", "stopReason": "stop",
    });
    let outcome = json!({
        "status": "ok", "text": said, "stopReason": "stop", "startedAt": at, "endedAt": at,
        "provider": "crabtree", "model": "offline", "sessionId": "", "sessionKey": input.session_key,
    });
    let settle = WriteOp::Settle {
        turn: input.run_id.clone(),
        inputs: vec![input.id.clone()],
        released: Vec::new(),
        state: InputState::Settled,
        outcome,
        messages: vec![message(&input, "assistant", answer)],
        deliveries: vec![],
        events: vec![],
        session: Some(SessionUpdate { at, status: Some(Some("done".into())), ..SessionUpdate::default() }),
        at,
    };
    let session = SessionUpdate { at, last_interaction_at: Some(at), ..SessionUpdate::default() };
    [WriteOp::AcceptInput { input, begin: true, user_message: Some(question), session }, settle]
}

fn input(session_key: String, text: String, created_at: i64) -> NewInput {
    let run_id = Uuid::new_v4().to_string();
    NewInput {
        id: Uuid::now_v7().to_string(),
        source: "rpc".into(),
        source_id: run_id.clone(),
        session_key,
        run_id,
        kind: "chat.send".into(),
        text,
        digest: "0".repeat(64),
        body: json!({ "sender": { "senderIsOwner": true } }),
        created_at,
        priority: 1,
    }
}

/// A row of the transcript that belongs to `input`.
fn message(input: &NewInput, kind: &str, message: Value) -> NewMessage {
    NewMessage {
        id: Uuid::now_v7().to_string(),
        session_key: input.session_key.clone(),
        session_id: String::new(),
        parent: None,
        kind: kind.into(),
        idempotency_key: Some(format!("{}:{kind}", input.run_id)),
        run_id: Some(input.run_id.clone()),
        hidden: false,
        message,
        created_at: input.created_at,
    }
}

// ---- the gateway ----

/// Starts it some times; the last one stays.
async fn start(cli: &Cli, state: &Path, figures: &mut Figures) -> Result<Gateway> {
    let (mut times, mut last) = (Vec::with_capacity(STARTS), None);
    for _ in 0..STARTS {
        // One at a time: the state directory has one owner.
        drop(last.take());
        let begun = Instant::now();
        last = Some(Gateway::start(|port| Ok(measured::run(&cli.server, state, port))).await?);
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let what = format!("start to first accepted `connect`, median of {STARTS} (the file in the page cache)");
    figures.push((what, json!(format!("{:.0} ms", times[STARTS / 2]))));
    last.context("no start")
}

async fn memory(gateway: &Gateway, when: &str, figures: &mut Figures) -> Result<()> {
    tokio::time::sleep(IDLE).await;
    let mut client = Client::connect(gateway).await?;
    let tree = client.call("system.actors", json!({ "path": "gateway/sessions", "depth": 0 })).await?;
    let tree: Value = serde_json::from_str(&tree)?;
    let live = tree["payload"]["root"]["info"]["sessions"].as_u64().unwrap_or(0);
    let megabytes = round(gateway.memory("VmRSS")?);
    figures
        .push((format!("resident memory {when} ({live} sessions live)"), json!(format!("{megabytes} MB"))));
    Ok(())
}

/// Says something in every session, and stops the turn: all of it is about who is in memory afterwards, and
/// answers, 16 at a time, would take minutes.
async fn touch(cli: &Cli, gateway: &Gateway, sessions: usize) -> Result<f64> {
    let begun = Instant::now();
    let mut speaking = JoinSet::new();
    for worker in 0..cli.workers {
        let mut client = Client::connect(gateway).await?;
        let mine = (worker..sessions).step_by(cli.workers);
        speaking.spawn(async move {
            for session in mine.map(name) {
                let key = format!("touch-{session}-of-{sessions}");
                let said = json!({ "sessionKey": session, "message": "hello", "idempotencyKey": key });
                client.call("chat.send", said).await?;
                client.call("chat.abort", json!({ "sessionKey": session, "runId": key })).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = speaking.join_next().await {
        done??;
    }
    Ok(begun.elapsed().as_secs_f64())
}

// ---- the calls ----

async fn calls(cli: &Cli, gateway: &Gateway, figures: &mut Figures) -> Result<()> {
    let mut client = Client::connect(gateway).await?;
    // Steps through the sessions in an order that repeats late and jumps far.
    let any = |n: usize| name(n * 7_919 % cli.sessions);
    let deep = json!({ "sessionKey": "deep", "offset": 2 * DEEP_TURNS - 1_000, "limit": 100 });
    let full = json!({ "includeDerivedTitles": true, "includeLastMessage": true });
    let measured: [(&str, &str, &Params); 8] = [
        ("sessions.list", "default page", &|_| json!({})),
        ("sessions.list", "titles and last messages", &|_| full.clone()),
        ("sessions.list", "search, one found", &|n| json!({ "search": any(n) })),
        ("sessions.list", "search, one in ten found", &|n| json!({ "search": format!("s00{}", n % 10) })),
        ("sessions.search", "a word of few messages", &|_| json!({ "query": SELDOM })),
        ("sessions.search", "a word of every question", &|_| json!({ "query": OFTEN })),
        ("chat.history", "latest page", &|n| json!({ "sessionKey": any(n) })),
        ("chat.history", "100 rows, far back in a long session", &|_| deep.clone()),
    ];
    for (method, how, params) in measured {
        let what = format!("`{method}`, {how}: p50 / p99");
        let is = match client.times(cli.calls, method, params).await? {
            Some((p50, p99)) => json!(format!("{p50:.2} / {p99:.2} ms")),
            None => json!("not there yet"),
        };
        figures.push((what, is));
    }
    Ok(())
}

/// A client that has one call in flight.
struct Client {
    ws: Ws,
    calls: u64,
}

impl Client {
    async fn connect(gateway: &Gateway) -> Result<Self> {
        Ok(Self { ws: hello(gateway.addr, &connect_request(TOKEN)).await?, calls: 0 })
    }

    /// Calls, and returns the response as it came.
    async fn response(&mut self, method: &str, params: Value) -> Result<Utf8Bytes> {
        self.calls += 1;
        let request =
            encode_request(&format!("m{}", self.calls), method, Some(params.to_string().as_bytes()));
        self.ws.send(Message::Text(Utf8Bytes::try_from(request)?)).await?;
        let mine = format!(r#"{{"type":"res","id":"m{}""#, self.calls);
        loop {
            let text = frame(&mut self.ws).await?;
            if text.starts_with(&mine) {
                return Ok(text);
            }
        }
    }

    /// A call that must succeed.
    async fn call(&mut self, method: &str, params: Value) -> Result<Utf8Bytes> {
        let text = self.response(method, params).await?;
        let start = &text.as_str()[..text.len().min(60)];
        if !start.contains(r#""ok":true"#) {
            bail!("{method}: {}", text.as_str());
        }
        Ok(text)
    }

    /// p50 and p99 of so many calls, in milliseconds; `None` if the gateway does not have the method.
    async fn times(&mut self, calls: usize, method: &str, params: &Params<'_>) -> Result<Option<(f64, f64)>> {
        if self.response(method, params(0)).await?.contains("unknown method") {
            return Ok(None);
        }
        let mut times = Vec::with_capacity(calls);
        for n in 0..calls {
            let params = params(n);
            let begun = Instant::now();
            self.call(method, params).await?;
            times.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        let at = |share: f64| times[((calls - 1) as f64 * share) as usize];
        Ok(Some((at(0.5), at(0.99))))
    }
}

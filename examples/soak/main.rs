//! A year in an hour: a gateway is spoken to, left and entered, crashed and restarted as in a whole year, and must
//! neither lose nor double a message, nor need more at the end than at the beginning. Prints a line of JSON and a
//! table for people, and fails if something was wrong; Ctrl-C ends it with what was done so far.
//!
//!     cargo run --release --example soak -- --server target/release/crabtree
//!
//! | file | what |
//! |---|---|
//! | `plan` | what happens when, from the seed |
//! | `world` | what everybody knows: how far the year is, what was counted, what went wrong |
//! | `link` | a client whose socket is opened again whenever it ends |
//! | `talk` | messages, and what must have become of them |
//! | `watch` | clients that hear everything, and some of them slowly |
//! | `blows` | crashes and restarts |
//! | `server` | the gateway's process |
//! | `samples`, `report` | what is measured, whether it grows, and what is told of it |
//!
//! Restarts lie between 60 and 88 % of the year, everything else is spread over all of it. So memory, descriptors and
//! threads are compared in one process (10 to 20 % against 50 to 60 %), and all else besides against the last tenth,
//! when the store has a year in it.

mod blows;
mod link;
#[path = "../measured/mod.rs"]
#[allow(dead_code, reason = "it has more than is needed here")]
mod measured;
mod plan;
mod report;
mod samples;
mod server;
mod talk;
mod watch;
mod world;

use anyhow::{Context, Result, ensure};
use blows::Striker;
use clap::Parser;
use crabtree_actors::store::Offline;
use link::{Client, Leave};
use plan::{Plan, Sizes, any};
use report::{Report, Times};
use samples::Allowed;
use serde_json::{Value, json};
use server::Server;
use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use tokio::task::JoinSet;
use world::World;

/// Lanes of one client: what they have in flight together is less than a connection may.
const LANES: usize = 16;
/// How often the progress is told.
const TELL: Duration = Duration::from_secs(5);

#[derive(Parser)]
#[command(about = "Puts a gateway through a year")]
struct Cli {
    /// The binary to start
    #[arg(long, default_value = "target/release/crabtree")]
    server: PathBuf,
    /// Its state directory, which must be empty and stays; one of its own otherwise
    #[arg(long)]
    state: Option<PathBuf>,
    #[command(flatten)]
    sizes: Sizes,
    /// Conversations at the same time
    #[arg(long, default_value_t = 128)]
    lanes: usize,
    #[command(flatten)]
    allowed: Allowed,
    /// Write the samples there, a line of JSON each
    #[arg(long)]
    samples: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    ensure!(cli.lanes > 0, "--lanes: at least one");
    let mut own = if cli.state.is_none() { Some(tempfile::tempdir()?) } else { None };
    let state = cli.state.clone().or(own.as_ref().map(|own| own.path().to_owned()));
    let state = state.context("no state directory")?;
    let plan = Plan::of(&cli.sizes);
    server::prepare(&state, plan.messages, cli.lanes)?;
    let file = cli.samples.as_ref().map(File::create).transpose()?;
    let world = Arc::new(World::new(plan, server::free_address()?));
    let server = Server::start(&cli.server, &state, &world).await?;
    let mut striker = Striker::new(Client::new(world.clone()), server);

    let probing = tokio::spawn(samples::probe(Client::new(world.clone())));
    let taking = tokio::spawn(samples::take(world.clone(), state.clone(), file));
    let telling = tokio::spawn(tell(world.clone()));
    let interrupting = tokio::spawn(interrupt(world.clone()));
    live(&world, &mut striker, cli.lanes).await;
    let complete = !world.is_stopped();
    world.stop();
    let samples = taking.await??;
    let looker = Client::new(world.clone());
    if !world.over.is_cancelled() {
        talk::look_back(&looker).await;
        at_rest(&looker).await;
    }
    let times = Times::of(&striker);
    world.over.cancel();
    [telling, interrupting, probing].iter().for_each(|task| task.abort());
    let ended = striker.server().stop().await.and_then(|()| intact(&state));
    if let Err(why) = ended {
        world.problem(format!("{why:#}"));
    }
    let growths = samples::growths(&world.plan, &samples, &cli.allowed);
    if complete && growths.is_empty() {
        world.problem("these were too few messages to say what grows: make it a thousand");
    }
    let report = Report {
        world: &world,
        samples: &samples,
        growths: &growths,
        allowed: &cli.allowed,
        struck: &times,
        complete,
    };
    eprint!("{}", report.table());
    println!("{}", report.json());
    if report.is_fine() {
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(own) = &mut own {
        own.disable_cleanup(true);
        eprintln!("what the gateway left and printed is in {}", state.display());
    }
    Ok(ExitCode::FAILURE)
}

/// The year itself.
async fn live(world: &Arc<World>, striker: &mut Striker, lanes: usize) {
    let pool = Arc::new(talk::Pool::new(lanes));
    let (mut clients, mut talking) = (Vec::new(), JoinSet::new());
    for lane in 0..lanes {
        if lane % LANES == 0 {
            clients.push(Client::new(world.clone()));
        }
        talking.spawn(talk::lane(clients[lane / LANES].clone(), pool.clone(), lane));
    }
    let mut watching = JoinSet::new();
    for (number, how) in watch::WATCHERS.into_iter().enumerate() {
        watching.spawn(watch::watch(world.clone(), number, how));
    }
    let leaving = tokio::spawn(come_and_go(world.clone(), clients));
    let talked = async { while talking.join_next().await.is_some() {} };
    tokio::join!(talked, striker.strike());
    let _ = leaving.await;
}

/// Lets clients go, who come back at once.
async fn come_and_go(world: Arc<World>, clients: Vec<Arc<Client>>) {
    let mut rng = Plan::rng(world.plan.seed, "coming and going");
    for at in &world.plan.reconnects {
        if !world.reached(*at).await {
            return;
        }
        let (Some(client), Some(how)) = (any(&mut rng, &clients), any(&mut rng, &Leave::ALL)) else { return };
        if client.link().await.is_none() {
            return;
        }
        client.leave(*how);
        world.count(&format!("reconnects {}", how.name()));
    }
}

/// Nothing is left to be done, and everybody is there.
async fn at_rest(client: &Client) {
    let world = &client.world;
    let Some(status) = client.call("status", &json!({})).await else { return };
    let (inputs, given_up) = (&status["inputs"], world.counted("given up"));
    if *inputs != json!({ "queued": 0, "running": 0, "dead": given_up }) {
        world.problem(format!("{given_up} messages were given up, and the gateway has {inputs}"));
    }
    let tree = json!({ "depth": 1, "limit": 1_000 });
    let Some(tree) = client.call("system.actors", &tree).await else { return };
    let all = tree["root"]["children"].as_array().into_iter().flatten();
    for node in all.filter(|node| node["state"] != "running") {
        world.problem(format!(
            "an actor does not run: {}",
            json!([node["path"], node["state"], node["lastExit"]])
        ));
    }
    let sessions = json!({ "path": "gateway/sessions", "depth": 1, "limit": 1_000 });
    let Some(sessions) = client.call("system.actors", &sessions).await else { return };
    let is_parked = |node: &&Value| node["state"] == "parked";
    for node in sessions["root"]["children"].as_array().into_iter().flatten().filter(is_parked) {
        world.problem(format!("a session is parked: {}", json!([node["path"], node["lastExit"]])));
    }
}

/// The database of the gateway that has ended is whole.
fn intact(state: &std::path::Path) -> Result<()> {
    let store = Offline::open(&state.join("store.sqlite"))?;
    store.check_all().context("the store is damaged")
}

/// Says every few seconds how far the year is.
async fn tell(world: Arc<World>) {
    let mut before = 0;
    loop {
        tokio::time::sleep(TELL).await;
        let (settled, all) = (world.settled.load(SeqCst), world.plan.messages);
        let (share, seconds) = (settled as f64 / all as f64, world.begun_at.elapsed().as_secs_f64());
        let left = Duration::from_secs_f64(if settled == 0 { 0.0 } else { seconds / share - seconds });
        eprintln!(
            "{:5.1} %: {settled} messages, {:.0} a second, {} crashes and restarts, {} problems; {} min {} s left",
            share * 100.0,
            (settled - before) as f64 / TELL.as_secs_f64(),
            world.blows.load(SeqCst),
            world.problems().0,
            left.as_secs() / 60,
            left.as_secs() % 60
        );
        before = settled;
    }
}

/// Ctrl-C: no more messages; again: at once.
async fn interrupt(world: Arc<World>) {
    let pressed = tokio::signal::ctrl_c().await;
    if pressed.is_ok() {
        eprintln!("ending: what was begun is brought to its end");
        world.stop();
        let _ = tokio::signal::ctrl_c().await;
        world.over.cancel();
    }
}

//! What is done to the gateway: actors crash, the program is restarted, old sessions are put away. One thing after the
//! other, each at its message, and so that nothing that ought to come back is parked for having crashed too often.

use crate::link::{Answer, Client};
use crate::plan::{Blow, How, Plan, any};
use crate::server::Server;
use crate::world::World;
use anyhow::Result;
use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

/// The tree parks what crashes more than 5 times in 60 s: an actor is struck less often.
const STRIKES: usize = 3;
const STRIKES_IN: Duration = Duration::from_secs(70);
/// Between a restart and the next blow: a message that is cut off by both is given up, and that is not what is to be
/// seen.
const CALM: Duration = Duration::from_millis(1_500);
/// Who has crashed is back within this time.
const BACK: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(10);
/// What the tree is asked for: the actors, their children, and those of sessions.
const DEPTH: u32 = 3;

pub struct Striker {
    world: Arc<World>,
    client: Arc<Client>,
    server: Server,
    rng: StdRng,
    struck: HashMap<String, Vec<Instant>>,
    last: (Instant, bool),
    /// How long nobody was served, in milliseconds.
    pub away: BTreeMap<How, Vec<f64>>,
    /// How long who has crashed was away, in milliseconds.
    pub back: Vec<f64>,
}

/// Who is struck.
struct Target {
    path: String,
    restarts: u64,
    /// Whether it is there again afterwards.
    returns: bool,
}

impl Striker {
    pub fn new(client: Arc<Client>, server: Server) -> Self {
        let world = client.world.clone();
        let rng = Plan::rng(world.plan.seed, "blows");
        let (struck, away) = (HashMap::new(), BTreeMap::new());
        Self { world, client, server, rng, struck, last: (Instant::now(), false), away, back: Vec::new() }
    }

    /// Does everything that is planned, until the year is over.
    pub async fn strike(&mut self) {
        let world = self.world.clone();
        let blows = &world.plan.blows;
        for (n, (at, blow)) in blows.iter().enumerate() {
            world.horizon.store(blows.get(n + 2).map_or(u64::MAX, |(at, _)| *at), SeqCst);
            if !world.reached(*at).await {
                return;
            }
            let done = match blow {
                Blow::Crash => self.crash().await,
                Blow::Restart(how) => self.restart(*how).await,
                Blow::Tidy => self.tidy().await,
            };
            if let Err(why) = done {
                return world.fail(format!("{blow:?}: {why:#}"));
            }
        }
        world.horizon.store(u64::MAX, SeqCst);
    }

    /// The server, to be ended.
    pub fn server(self) -> Server {
        self.server
    }

    async fn calm(&mut self, restarts: bool) {
        let (last, was_restart) = self.last;
        if restarts || was_restart {
            tokio::time::sleep_until((last + CALM).into()).await;
        }
    }

    async fn restart(&mut self, how: How) -> Result<()> {
        self.calm(true).await;
        self.world.blows.fetch_add(1, SeqCst);
        let away = self.server.restart(&self.world, how).await?;
        self.away.entry(how).or_default().push(away.as_secs_f64() * 1e3);
        self.last = (Instant::now(), true);
        self.world.count(&format!("restarts {}", how.name()));
        Ok(())
    }

    async fn tidy(&mut self) -> Result<()> {
        let cleaned =
            self.client.call("sessions.cleanup", &json!({ "enforce": true, "fixMissing": true })).await;
        let archived = cleaned.map_or(0, |cleaned| {
            cleaned["archived"].as_u64().unwrap_or(0) + cleaned["capArchived"].as_u64().unwrap_or(0)
        });
        self.world.count_many("sessions archived", archived);
        Ok(())
    }

    async fn crash(&mut self) -> Result<()> {
        self.calm(false).await;
        loop {
            let Some(target) = self.target().await else { return Ok(()) };
            let fault = json!({ "path": target.path, "fault": "panic" });
            let Some(link) = self.client.link().await else { return Ok(()) };
            self.world.blows.fetch_add(1, SeqCst);
            match link.ask("system.chaos", &fault, 1).next().await {
                Answer::Ok(_) => {
                    self.struck.entry(target.path.clone()).or_default().push(Instant::now());
                    self.last = (Instant::now(), false);
                    let mut kind = target.path.split('/').skip(1);
                    let (kind, depth) = (kind.next().unwrap_or_default(), kind.count());
                    let name = match (kind, depth) {
                        ("sessions", 1) => "a session",
                        ("sessions", 2) => "a run",
                        ("connections", 1) => "a connection",
                        _ => kind,
                    };
                    self.world.count(&format!("crashes of {name}"));
                    if target.returns {
                        self.returned(&target).await;
                    }
                    return Ok(());
                }
                // It has ended meanwhile.
                Answer::Refused(..) | Answer::Gone => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// Somebody who was not struck too often: one of the fixed actors, a session, a run, a watcher's connection.
    async fn target(&mut self) -> Option<Target> {
        let tree = self.client.call("system.actors", &json!({ "depth": DEPTH, "limit": 1_000 })).await?;
        let below = |node: &Value| node["children"].as_array().cloned().unwrap_or_default();
        let fixed = below(&tree["root"]);
        let of = |name: &str| fixed.iter().find(|node| node["name"] == name).map(below).unwrap_or_default();
        let (sessions, connections) = (of("sessions"), of("connections"));
        let runs: Vec<Value> = sessions.iter().flat_map(below).collect();
        let watchers: Vec<String> = self.world.watchers.lock().values().cloned().collect();
        let watching = connections.into_iter().filter(|node| watchers.iter().any(|id| node["name"] == **id));
        let watching: Vec<Value> = watching.collect();
        let (kind, returns) = match self.rng.random_range(0..10) {
            0..3 => (&sessions, true),
            3..5 => (&runs, false),
            5 => (&watching, false),
            _ => (&fixed, true),
        };
        self.struck.retain(|_, times| {
            times.retain(|at| at.elapsed() < STRIKES_IN);
            !times.is_empty()
        });
        let free = |kind: &[Value]| -> Vec<Value> {
            let often =
                |node: &Value| self.struck.get(node["path"].as_str().unwrap_or_default()).map_or(0, Vec::len);
            let may = |node: &&Value| node["state"] == "running" && often(node) < STRIKES;
            kind.iter().filter(may).cloned().collect()
        };
        let (first, second) = (free(kind), free(&sessions));
        let (chosen, returns) = match any(&mut self.rng, &first) {
            Some(chosen) => (chosen, returns),
            None => match any(&mut self.rng, &second) {
                Some(chosen) => (chosen, true),
                None => return self.later().await,
            },
        };
        let path = chosen["path"].as_str()?.to_owned();
        Some(Target { path, restarts: chosen["restarts"].as_u64()?, returns })
    }

    /// Everybody was struck often enough for now.
    async fn later(&mut self) -> Option<Target> {
        tokio::time::sleep(CALM).await;
        Box::pin(self.target()).await
    }

    /// Waits until it is back; a session may have ended in order since.
    async fn returned(&mut self, target: &Target) {
        let begun = Instant::now();
        loop {
            let Some(link) = self.client.link().await else { return };
            let looked =
                link.ask("system.actors", &json!({ "path": target.path, "depth": 0 }), 1).next().await;
            match looked {
                Answer::Ok(tree) => {
                    let node = &tree["root"];
                    let restarts = node["restarts"].as_u64().unwrap_or(0);
                    if node["state"] == "running" && restarts != target.restarts {
                        return self.back.push(begun.elapsed().as_secs_f64() * 1e3);
                    }
                    if begun.elapsed() > BACK {
                        return self.world.problem(format!("not back after a crash: {node}"));
                    }
                }
                Answer::Refused(_, None) => return,
                Answer::Refused(..) | Answer::Gone => {}
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

//! A channel whose code panics, hangs or computes without end: nobody else notices, and it comes back.

use crate::client::Client;
use crate::fakes::platform::Platform;
use crate::gateway::Embedded;
use crate::mock_model::models;
use crabtree_actors::channels::Loopback;
use crabtree_actors::channels::contract::{Account, Capabilities, Channel, Link, Orders, Trouble};
use crabtree_actors::estate::Brought;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Clients that must not notice.
const CLIENTS: usize = 12;
/// The longest that an answer to any of them may take while a channel is in trouble.
const PROMPT: Duration = Duration::from_secs(2);
/// How long a test waits for something that must come.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Panic,
    /// It waits for what never comes.
    Hang,
    /// It computes for ever.
    Spin,
    /// It ends, and would end again.
    Fatal,
}

/// The channel `loopback` under another name, with trouble to order.
struct Troubled {
    orders: Mutex<Option<mpsc::UnboundedSender<Fault>>>,
    starts: AtomicUsize,
    /// Ends what computes for ever, so that the test ends.
    mercy: Arc<AtomicBool>,
}

impl Channel for Troubled {
    fn name(&self) -> &str {
        "troubled"
    }

    fn label(&self) -> &str {
        "Troubled"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { silence: Duration::from_secs(7), ..Loopback.capabilities() }
    }

    fn check(&self, account: &Account) -> Result<(), String> {
        Loopback.check(account)
    }

    fn run(self: Arc<Self>, account: Account, link: Link, orders: Orders) -> BoxFuture<'static, Trouble> {
        Box::pin(async move {
            let (order, mut ordered) = mpsc::unbounded_channel();
            *self.orders.lock().unwrap() = Some(order);
            self.starts.fetch_add(1, Relaxed);
            let beats = async {
                loop {
                    link.alive();
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            };
            let fault = tokio::select! {
                trouble = Arc::new(Loopback).run(account, link.clone(), orders) => return trouble,
                () = beats => unreachable!("it beats for ever"),
                Some(fault) = ordered.recv() => fault,
            };
            match fault {
                Fault::Panic => panic!("as ordered"),
                Fault::Hang => std::future::pending().await,
                Fault::Fatal => Trouble::Fatal("the token is wrong; change channels.troubled.token".into()),
                Fault::Spin => {
                    while !self.mercy.load(Relaxed) {
                        std::hint::spin_loop();
                    }
                    Trouble::Retry("mercy".into())
                }
            }
        })
    }
}

struct World {
    gateway: Embedded,
    channel: Arc<Troubled>,
    /// Behind the channel in trouble, and behind another one.
    troubled: Platform,
    other: Platform,
}

impl World {
    async fn start() -> Self {
        let channel = Arc::new(Troubled {
            orders: Mutex::default(),
            starts: AtomicUsize::new(0),
            mercy: Arc::default(),
        });
        let (troubled, other) = (Platform::start(), Platform::start());
        let config = json!({
            "channels": {
                "troubled": troubled.section(json!({ "allowFrom": ["ann"] })),
                "loopback": other.section(json!({ "allowFrom": ["bob"] })),
            },
            "session": { "dmScope": "per-channel-peer" },
            "agents": { "defaults": { "model": "mock/mock-1" } },
        });
        let brought = Brought { models: models(), channels: vec![channel.clone()], ..Brought::default() };
        let gateway = Embedded::with_brought(config, brought).await;
        let world = Self { gateway, channel, troubled, other };
        world.is_answered(&world.troubled, "ann", "first").await;
        world
    }

    fn order(&self, fault: Fault) {
        self.channel.orders.lock().unwrap().as_ref().unwrap().send(fault).unwrap();
    }

    async fn is_answered(&self, platform: &Platform, who: &str, id: &str) {
        let before = platform.sent_to(who).len();
        platform.says(id, who, "MOCK{n=1}");
        platform.until("it is answered", |p| p.sent_to(who).len() > before).await;
    }

    async fn account(&self, client: &mut Client) -> Value {
        client.call("channels.status", json!({})).await["channelAccounts"]["troubled"][0].clone()
    }

    /// Waits until the channel in trouble has this health.
    async fn health(&self, client: &mut Client, wanted: &str) -> Value {
        let wait = async {
            loop {
                let account = self.account(client).await;
                if account["healthState"] == wanted {
                    return account;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("it is not {wanted}"))
    }

    async fn end(self) {
        self.channel.mercy.store(true, Relaxed);
        self.gateway.gateway.shutdown("done").await;
    }
}

/// Clients that ask all the time; the longest that one waited, once told to stop.
fn company(world: &World) -> (Arc<AtomicBool>, Vec<tokio::task::JoinHandle<Duration>>) {
    let stop = Arc::new(AtomicBool::new(false));
    let addr = world.gateway.addr;
    let one = |_| {
        let stop = stop.clone();
        tokio::spawn(async move {
            let mut client = Client::admin(addr).await;
            let mut longest = Duration::ZERO;
            while !stop.load(Relaxed) {
                let asked = Instant::now();
                client.call("health", json!({})).await;
                longest = longest.max(asked.elapsed());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            longest
        })
    };
    let clients = (0..CLIENTS).map(one).collect();
    (stop, clients)
}

/// Whatever a channel's code does, no client is cut off or waits, other channels go on, and it comes back by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_in_trouble_is_nobody_elses_and_comes_back() {
    for fault in [Fault::Panic, Fault::Hang, Fault::Spin] {
        let world = World::start().await;
        let mut client = Client::admin(world.gateway.addr).await;
        let (stop, clients) = company(&world);
        let starts = world.channel.starts.load(Relaxed);
        let struck = Instant::now();
        world.order(fault);
        world.is_answered(&world.other, "bob", "meanwhile").await;
        let others = struck.elapsed();
        world.troubled.says("while-down", "ann", "MOCK{n=2}");
        let back = world.troubled.until("what was written meanwhile is answered", |p| {
            p.sent_to("ann").last().is_some_and(|text| text == "tok0 tok1")
        });
        back.await;
        let again = struck.elapsed();
        assert!(world.channel.starts.load(Relaxed) > starts, "{fault:?}: its code runs anew");
        let account = world.health(&mut client, "healthy").await;
        let why = account["lastError"].as_str().unwrap().to_owned();
        let expected = match fault {
            Fault::Panic => "as ordered",
            Fault::Hang => "nothing was heard of it",
            _ => "its thread is abandoned",
        };
        assert!(why.contains(expected), "{fault:?}: {why}");
        stop.store(true, Relaxed);
        let mut longest = Duration::ZERO;
        for client in clients {
            longest = longest.max(client.await.expect("no socket was closed"));
        }
        assert!(longest < PROMPT, "{fault:?}: an answer took {longest:?}");
        println!(
            "{fault:?}: {CLIENTS} clients waited {longest:?} at the most; the other channel answered after {others:?}, \
             this one after {again:?}"
        );
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_end_again_is_parked_with_its_cause_and_started_by_an_operator() {
    let world = World::start().await;
    let mut client = Client::admin(world.gateway.addr).await;
    world.order(Fault::Fatal);
    let account = world.health(&mut client, "parked").await;
    assert!(account["lastError"].as_str().unwrap().contains("channels.troubled.token"), "{account}");
    let starts = world.channel.starts.load(Relaxed);
    let started = client.call("channels.start", json!({ "channel": "troubled" })).await;
    assert_eq!(started, json!({ "channel": "troubled", "accounts": 1 }));
    world.health(&mut client, "healthy").await;
    assert_eq!(world.channel.starts.load(Relaxed), starts + 1);
    world.is_answered(&world.troubled, "ann", "again").await;
    let stopped = client.call("channels.stop", json!({ "channel": "troubled" })).await;
    assert_eq!(stopped["accounts"], 1);
    world.health(&mut client, "parked").await;
    let unknown = client.refused("channels.start", json!({ "channel": "nope" })).await;
    assert_eq!(unknown["message"], "invalid channels.start channel");
    world.end().await;
}

/// Who keeps crashing is parked once it is more than the intensity allows; a busy loop is replaced twice at the most.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thread_that_computes_for_ever_is_replaced_twice_and_its_channel_parked_then() {
    let world = World::start().await;
    let mut client = Client::admin(world.gateway.addr).await;
    for round in 1..=2 {
        world.order(Fault::Spin);
        world.is_answered(&world.troubled, "ann", &format!("round-{round}")).await;
    }
    world.order(Fault::Spin);
    let account = world.health(&mut client, "parked").await;
    assert!(account["lastError"].as_str().unwrap().contains("3 threads of it compute"), "{account}");
    world.is_answered(&world.other, "bob", "still").await;
    world.end().await;
}

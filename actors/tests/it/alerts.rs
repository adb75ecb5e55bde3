//! Alerts in simulated time: what is wrong is told to a chat, once, and that it is over, whatever else dies meanwhile.

use crate::planting::{estate_args, planted};
use crabtree_actors::channels::contract::{
    Account, Capabilities, Channel, Heard, Link, Order, Orders, Sent, Trouble,
};
use crabtree_actors::estate::{Brought, Estate, EstateArgs, Part};
use crabtree_actors::gateway::Wiring;
use crabtree_actors::store::WriteOp;
use crabtree_actors::tree::{self, Chaos, Clock, Node, NodeState, Order as Command};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{interval, sleep, timeout};

/// A platform that keeps what it was sent, and whose channel can be made to end for good, or while it is out of reach.
struct Bell {
    name: &'static str,
    rung: Mutex<Vec<(String, String)>>,
    cut: watch::Sender<bool>,
    away: watch::Sender<bool>,
}

impl Bell {
    fn new(name: &'static str) -> Arc<Self> {
        let (cut, away) = (watch::Sender::new(false), watch::Sender::new(false));
        Arc::new(Self { name, rung: Mutex::default(), cut, away })
    }

    /// What it was sent, in its order.
    fn rung(&self) -> Vec<String> {
        self.rung.lock().iter().map(|(_, text)| text.clone()).collect()
    }
}

struct Rope(Arc<Bell>);

impl Channel for Rope {
    fn name(&self) -> &str {
        self.0.name
    }

    fn label(&self) -> &str {
        self.0.name
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::texts(4_000)
    }

    fn check(&self, account: &Account) -> Result<(), String> {
        if account.settings.get("token") == Some(&json!("")) { Err("no token".into()) } else { Ok(()) }
    }

    fn run(self: Arc<Self>, _: Account, link: Link, mut orders: Orders) -> BoxFuture<'static, Trouble> {
        Box::pin(async move {
            let (mut cut, mut away) = (self.0.cut.subscribe(), self.0.away.subscribe());
            let mut beat = interval(Duration::from_secs(5));
            if *cut.borrow() {
                return Trouble::Fatal("401 Unauthorized: token=hunter2".into());
            }
            if *away.borrow() {
                return Trouble::Retry("no route to it".into());
            }
            let _ = link.say(Heard::Connected(None)).await;
            loop {
                tokio::select! {
                    _ = cut.changed() => return Trouble::Fatal("401 Unauthorized: token=hunter2".into()),
                    _ = away.changed() => return Trouble::Retry("the line was cut".into()),
                    order = orders.recv() => match order {
                        None => return Trouble::Retry("stopped".into()),
                        Some(Order::Send(outgoing, done)) => {
                            self.0.rung.lock().push((outgoing.to.chat.clone(), outgoing.text.clone()));
                            let _ = done.send(Ok(Sent { id: outgoing.id.clone() }));
                        }
                        Some(_) => {}
                    },
                    _ = beat.tick() => link.alive(),
                }
            }
        })
    }
}

struct World {
    bells: [Arc<Bell>; 2],
    settings: Value,
    wiring: Arc<Wiring>,
    root: Arc<Node>,
}

fn estate(clock: Clock, settings: &Value, bells: &[Arc<Bell>; 2]) -> Arc<Estate> {
    let channels = bells.iter().map(|bell| Arc::new(Rope(bell.clone())) as Arc<dyn Channel>).collect();
    let brought = Brought { channels, ..Brought::default() };
    Estate::new(EstateArgs { brought, ..estate_args(clock, settings.clone()) })
}

impl World {
    /// With two platforms, `bell` and `horn`; alerts go to the first of them that is at work.
    async fn start() -> Self {
        Self::with(json!({
            "channels": { "bell": {}, "horn": {} },
            "alerts": {
                "channel": "bell", "to": "group:ops", "fallbacks": [{ "channel": "horn", "to": "me" }],
            },
        }))
        .await
    }

    async fn with(settings: Value) -> Self {
        let bells = [Bell::new("bell"), Bell::new("horn")];
        let mut settings = settings;
        settings["plugins"] =
            json!({ "entries": { "ollama": { "config": { "discovery": { "enabled": false } } } } });
        let wiring = Wiring::new(estate(Clock::simulated(1_800_000_000_000), &settings, &bells));
        let root = planted(&wiring);
        wiring.store.estate.ready.complete().await;
        let world = Self { bells, settings, wiring, root };
        world.wait(10).await;
        world
    }

    async fn wait(&self, seconds: u64) {
        sleep(Duration::from_secs(seconds)).await;
    }

    fn node(&self, name: &str) -> Arc<Node> {
        self.root.child(name).unwrap()
    }

    fn account(&self, channel: &str) -> Arc<Node> {
        self.node("channels").child(&format!("{channel}/default")).unwrap()
    }

    /// Has an actor panic until it is given up.
    async fn ruin(&self, name: &str) {
        let node = self.node(name);
        let ruin = async {
            while node.state().0 != NodeState::Parked {
                node.inject(Chaos::Panic);
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(Duration::from_secs(60), ruin).await.expect("it is parked within a minute");
    }

    fn revive(&self, node: &Arc<Node>) {
        assert!(node.command(Command::Restart));
    }

    /// The process ends at once, and another one opens the same database.
    async fn reboot(&mut self) {
        tree::fell(&self.root);
        let before = self.wiring.store.estate.clone();
        sleep(Duration::from_millis(1)).await;
        self.wiring = Wiring::new(estate(before.clock.clone(), &self.settings, &self.bells));
        self.wiring.store.estate.db.store(before.db.load_full());
        self.wiring.store.estate.ready.done(Part::Store);
        self.root = planted(&self.wiring);
        self.wait(10).await;
    }

    fn sql(&self, statement: &str) -> i64 {
        let db = self.wiring.store.estate.db.load_full().unwrap();
        db.write(|c| Ok(c.query_row(statement, [], |row| row.get(0))?)).unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn an_actor_that_was_given_up_is_told_once_and_once_that_it_is_well() {
    let world = World::start().await;
    world.ruin("presence").await;
    world.wait(6).await;
    let rung = world.bells[0].rung();
    assert_eq!(rung.len(), 1, "{rung:?}");
    for part in
        ["⚠️ sim: `gateway/presence` is parked, since", "Cause: injected panic", "system.actors.resume"]
    {
        assert!(rung[0].contains(part), "{part}: {rung:?}");
    }
    assert_eq!(world.bells[0].rung.lock()[0].0, "ops", "the chat that is configured");
    world.wait(1_000).await;
    assert_eq!(world.bells[0].rung().len(), 1, "nothing is told twice");
    world.revive(&world.node("presence"));
    world.wait(100).await;
    let rung = world.bells[0].rung();
    assert!(rung.len() == 2 && rung[1].starts_with("✅ sim: `gateway/presence` is well again"), "{rung:?}");
    assert!(world.bells[1].rung().is_empty(), "the first choice was at work");
    assert_eq!(world.wiring.store.estate.meters.alerts.read()["parked"], 2);
    tree::fell(&world.root);
}

#[tokio::test(start_paused = true)]
async fn what_an_operator_parks_or_restarts_is_no_news() {
    let world = World::start().await;
    world.node("presence").command(Command::Park);
    world.node("canvas").inject(Chaos::Panic);
    world.wait(300).await;
    assert!(world.bells[0].rung().is_empty(), "{:?}", world.bells[0].rung());
    tree::fell(&world.root);
}

#[tokio::test(start_paused = true)]
async fn neither_a_crash_nor_a_restart_of_the_process_tells_anything_twice() {
    let mut world = World::start().await;
    world.ruin("presence").await;
    world.wait(6).await;
    world.node("alerts").inject(Chaos::Panic);
    world.wait(1).await;
    world.node("alerts").kill();
    world.wait(60).await;
    assert_eq!(world.bells[0].rung().len(), 1);
    // It comes up again with the process, and is ruined again before a minute is over.
    world.reboot().await;
    world.ruin("presence").await;
    world.wait(600).await;
    assert_eq!(world.bells[0].rung().len(), 1, "{:?}", world.bells[0].rung());
    world.reboot().await;
    world.wait(100).await;
    let rung = world.bells[0].rung();
    assert!(rung.len() == 2 && rung[1].contains("is well again"), "{rung:?}");
    tree::fell(&world.root);
}

/// The platform is out of reach for longer than an account is tried again and again.
#[tokio::test(start_paused = true)]
async fn an_account_whose_platform_was_away_is_back_by_itself() {
    let world = World::start().await;
    let account = world.account("bell");
    world.bells[0].away.send_replace(true);
    world.wait(600).await;
    assert!(account.is_given_up() || account.state().0 == NodeState::Restarting, "{:?}", account.state());
    assert!(world.bells[1].rung()[0].contains("`gateway/channels/bell%2Fdefault` is parked"));
    world.bells[0].away.send_replace(false);
    world.wait(90).await;
    assert_eq!(account.state().0, NodeState::Running);
    // Who is put aside meanwhile stays there.
    world.bells[0].away.send_replace(true);
    world.wait(60).await;
    assert!(account.command(Command::Park));
    world.bells[0].away.send_replace(false);
    world.wait(600).await;
    assert!(account.state().0 == NodeState::Parked && !account.is_given_up());
    tree::fell(&world.root);
}

#[tokio::test(start_paused = true)]
async fn an_account_that_is_given_up_is_told_through_another_and_without_its_secrets() {
    let world = World::start().await;
    world.bells[0].cut.send_replace(true);
    world.wait(10).await;
    assert_eq!(world.account("bell").state().0, NodeState::Parked);
    let rung = world.bells[1].rung();
    assert_eq!(rung.len(), 1, "{rung:?}");
    assert!(rung[0].contains("`gateway/channels/bell%2Fdefault` is parked"), "{rung:?}");
    assert!(rung[0].contains("crabtree channels start bell --account default"), "{rung:?}");
    assert!(rung[0].contains("401 Unauthorized: token=[…]") && !rung[0].contains("hunter2"), "{rung:?}");
    // With nobody left to tell it waits, and is told by the first that is back.
    world.bells[1].cut.send_replace(true);
    world.wait(60).await;
    world.bells[0].cut.send_replace(false);
    world.revive(&world.account("bell"));
    world.wait(100).await;
    let rung = world.bells[0].rung();
    assert!(rung.iter().any(|text| text.contains("horn%2Fdefault` is parked")), "{rung:?}");
    assert!(rung.iter().any(|text| text.contains("bell%2Fdefault` is well again")), "{rung:?}");
    tree::fell(&world.root);
}

#[tokio::test(start_paused = true)]
async fn an_actor_that_flaps_raises_no_storm() {
    let world = World::start().await;
    for _ in 0..20 {
        world.ruin("presence").await;
        world.wait(90).await;
        world.revive(&world.node("presence"));
        world.wait(90).await;
    }
    let rung = world.bells[0].rung().len();
    assert!((6..=14).contains(&rung), "an hour of it: {rung}");
    tree::fell(&world.root);
}

#[tokio::test(start_paused = true)]
async fn an_account_without_its_secret_is_told() {
    let world = World::with(json!({
        "channels": { "bell": {}, "horn": { "token": "" } },
        "alerts": { "channel": "bell", "to": "ops" },
    }))
    .await;
    let rung = world.bells[0].rung();
    assert_eq!(rung.len(), 1, "{rung:?}");
    assert!(rung[0].contains("`gateway/channels/horn%2Fdefault` cannot be started"), "{rung:?}");
    assert!(rung[0].contains("Cause: channels.horn (default): no token"), "{rung:?}");
    tree::fell(&world.root);
}

#[tokio::test(start_paused = true)]
async fn only_what_is_wanted_is_told() {
    let world = World::with(json!({
        "channels": { "bell": {} },
        "alerts": { "channel": "bell", "to": "ops", "events": ["stuck"] },
    }))
    .await;
    world.ruin("presence").await;
    world.wait(60).await;
    assert!(world.bells[0].rung().is_empty());
    world.node("canvas").inject(Chaos::Hang);
    world.wait(30).await;
    let rung = world.bells[0].rung();
    assert!(rung.len() == 1 && rung[0].contains("`gateway/canvas` is stuck"), "{rung:?}");
    tree::fell(&world.root);
}

/// What cannot be kept is told all the same: it is what is to be told.
#[tokio::test(start_paused = true)]
async fn a_full_disk_is_told_while_it_is_full() {
    let world = World::start().await;
    let pages = world.sql("PRAGMA page_count");
    world.sql(&format!("PRAGMA max_page_count = {pages}"));
    let store = world.wiring.store.clone();
    let keep = async |name: String, size: usize| {
        store.write(WriteOp::PutMeta { key: name, value: "x".repeat(size) }).await
    };
    // Large and small, until nothing fits.
    for (size, letter) in [(100_000, 'a'), (1_000, 'b'), (200, 'c'), (1, 'd')] {
        let mut number = 0;
        while keep(format!("{letter}{number}"), size).await.is_ok() {
            number += 1;
            assert!(number < 1_000, "the disk becomes full");
        }
    }
    world.wait(10).await;
    let rung = world.bells[0].rung();
    assert!(
        rung.len() == 1 && rung[0].contains("`gateway/store` does not take what is to be kept"),
        "{rung:?}"
    );
    assert!(!world.wiring.store.estate.health.load().ok);
    world.sql("PRAGMA max_page_count = 1000000");
    assert!(keep("e".into(), 100_000).await.is_ok());
    world.wait(100).await;
    let rung = world.bells[0].rung();
    assert!(rung.last().is_some_and(|text| text.contains("`gateway/store` is well again")), "{rung:?}");
    assert!(world.wiring.store.estate.health.load().ok);
    tree::fell(&world.root);
}

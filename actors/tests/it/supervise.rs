//! The supervisor's promises, in paused time.

use crabtree_actors::tree::*;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

type Log = Arc<Mutex<Vec<String>>>;
type Make = Arc<dyn Fn() -> ChildSpec + Send + Sync>;

/// A parent that starts what it is told to, and writes down what it hears.
struct Parent(Log);

enum ParentMsg {
    Spawn(Make, Reply<bool>),
    Die,
}

impl Behavior for Parent {
    type Msg = ParentMsg;
    type Args = Log;
    const KIND: &'static str = "parent";
    const SHUTDOWN: ShutdownOrder = ShutdownOrder::Reverse;

    fn start(_: &mut Ctx<ParentMsg>, log: Log) -> Result<Self, Fault> {
        log.lock().push("+parent".into());
        Ok(Self(log))
    }

    fn handle(&mut self, ctx: &mut Ctx<ParentMsg>, msg: ParentMsg) -> Result<(), Fault> {
        match msg {
            ParentMsg::Spawn(make, done) => done.send(ctx.spawn(make()).is_ok()),
            ParentMsg::Die => return Err(Fault::new("told to")),
        }
        Ok(())
    }

    fn child_exited(
        &mut self,
        _: &mut Ctx<ParentMsg>,
        child: &Arc<Node>,
        exit: &Exit,
        fate: NodeState,
    ) -> Result<(), Fault> {
        let line = format!("{} {} {}", child.name(), exit.kind.as_str(), fate.as_str());
        self.0.lock().push(line);
        Ok(())
    }
}

/// The grandparent keeps the parent, so that it can die and come back.
struct Root;

impl Behavior for Root {
    type Msg = ();
    type Args = (Log, Slot<ParentMsg>);
    const KIND: &'static str = "root";

    fn start(ctx: &mut Ctx<()>, (log, slot): Self::Args) -> Result<Self, Fault> {
        let parent = ChildSpec::new::<Parent>("parent", Restart::Permanent, log, &slot);
        ctx.spawn(parent.shutdown(Duration::from_secs(10))).map_err(Fault::new)?;
        Ok(Self)
    }

    fn handle(&mut self, _: &mut Ctx<()>, (): ()) -> Result<(), Fault> {
        Ok(())
    }
}

/// A child with a name, which logs its starts and can be told things.
struct Child(Arc<str>, Log, Stopping);

#[derive(Clone)]
struct ChildArgs {
    name: Arc<str>,
    log: Log,
    start_fails: bool,
    stopping: Stopping,
}

enum Told {
    Stop,
    TaskPanics,
}

impl Behavior for Child {
    type Msg = Told;
    type Args = ChildArgs;
    const KIND: &'static str = "child";

    fn start(_: &mut Ctx<Told>, args: ChildArgs) -> Result<Self, Fault> {
        args.log.lock().push(format!("+{}", args.name));
        if args.start_fails {
            Err(Fault::new("cannot"))
        } else {
            Ok(Self(args.name, args.log, args.stopping))
        }
    }

    fn handle(&mut self, ctx: &mut Ctx<Told>, msg: Told) -> Result<(), Fault> {
        match msg {
            Told::Stop => ctx.stop(),
            Told::TaskPanics => {
                ctx.task(async { panic!("in a task") }, |(): ()| Told::Stop);
            }
        }
        Ok(())
    }

    fn stopping(&mut self, _: &mut Ctx<Told>) -> Stopping {
        self.1.lock().push(format!("-{}", self.0));
        self.2
    }
}

struct World {
    root: Arc<Node>,
    parent: Slot<ParentMsg>,
    log: Log,
}

impl World {
    async fn new() -> Self {
        let (log, parent) = (Log::default(), Slot::default());
        let args = (log.clone(), parent.clone());
        let root = ChildSpec::new::<Root>("root", Restart::Permanent, args, &Slot::default());
        let root = grow(root, Clock::simulated(0), Arc::new(|_| {}));
        parent.newer_than(0).await;
        Self { root, parent, log }
    }

    async fn spawn(&self, make: impl Fn() -> ChildSpec + Send + Sync + 'static) -> bool {
        let make: Make = Arc::new(make);
        self.parent.ask(|done| ParentMsg::Spawn(make.clone(), done)).await
    }

    async fn child(&self, name: &'static str, restart: Restart) -> Slot<Told> {
        let slot = Slot::default();
        let (args, filled) = (self.args(name), slot.clone());
        assert!(self.spawn(move || ChildSpec::new::<Child>(name, restart, args.clone(), &filled)).await);
        slot.newer_than(0).await;
        self.until(name, |_, _| true).await;
        slot
    }

    fn args(&self, name: &'static str) -> ChildArgs {
        let log = self.log.clone();
        ChildArgs { name: name.into(), log, start_fails: false, stopping: Stopping::Now }
    }

    fn node(&self, name: &str) -> Arc<Node> {
        self.root.find(&format!("root/parent/{name}")).unwrap()
    }

    async fn until(&self, name: &str, wanted: impl Fn(NodeState, u64) -> bool) {
        let mut watch = self.node(name).watch();
        watch.wait_for(|(state, generation)| wanted(*state, *generation)).await.unwrap();
    }

    fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock())
    }
}

async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_restart_is_immediate_and_later_ones_wait_longer_until_it_is_parked() {
    let world = World::new().await;
    world.child("c", Restart::Permanent).await;
    let node = world.node("c");
    let mut waits = Vec::new();
    for generation in 1..=5 {
        world.until("c", |state, g| state == NodeState::Running && g == generation).await;
        let start = Instant::now();
        assert!(node.inject(Chaos::Panic));
        world.until("c", |state, g| state == NodeState::Running && g == generation + 1).await;
        waits.push(start.elapsed().as_millis());
    }
    for (wait, about) in waits.iter().zip([0, 100, 200, 400, 800]) {
        assert!((about * 8 / 10..=about * 12 / 10 + 2).contains(wait), "{waits:?}");
    }
    assert!(node.inject(Chaos::Panic));
    world.until("c", |state, _| state == NodeState::Parked).await;
    assert_eq!(node.last_exit().unwrap().reason, "injected panic");
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(node.state().0, NodeState::Parked, "no late timer revives it");
}

#[tokio::test(start_paused = true)]
async fn each_policy_treats_each_end_as_otp_does() {
    let world = World::new().await;
    for (name, restart, told, back) in [
        ("p", Restart::Permanent, Told::Stop, true),
        ("t", Restart::Transient, Told::Stop, false),
        ("u", Restart::Transient, Told::TaskPanics, true),
        ("v", Restart::Temporary, Told::TaskPanics, false),
    ] {
        let slot = world.child(name, restart).await;
        assert!(slot.send(told).is_ok());
        settle().await;
        let node = world.root.find(&format!("root/parent/{name}"));
        assert_eq!(node.is_some(), back, "{name}");
        if let Some(node) = node {
            assert_eq!((node.state().0, node.restarts()), (NodeState::Running, 1), "{name}");
        }
    }
    // A kill nobody asked for is abnormal.
    world.child("k", Restart::Transient).await;
    assert!(world.node("k").kill());
    world.until("k", |state, generation| state == NodeState::Running && generation == 2).await;
    assert_eq!(world.node("k").last_exit().unwrap().kind, ExitKind::Killed);
}

#[tokio::test(start_paused = true)]
async fn a_name_is_given_once() {
    let world = World::new().await;
    world.child("c", Restart::Permanent).await;
    let args = world.args("c");
    let twice = move || ChildSpec::new::<Child>("c", Restart::Permanent, args.clone(), &Slot::default());
    assert!(!world.spawn(twice).await);
    settle().await;
    assert_eq!(world.log(), ["+parent", "+c"]);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_is_tried_again_and_blocks_nobody() {
    let world = World::new().await;
    let args = ChildArgs { start_fails: true, ..world.args("bad") };
    let bad = move || ChildSpec::new::<Child>("bad", Restart::Permanent, args.clone(), &Slot::default());
    assert!(world.spawn(bad).await);
    world.child("good", Restart::Permanent).await;
    world.until("bad", |state, _| state == NodeState::Parked).await;
    let exit = world.node("bad").last_exit().unwrap();
    assert_eq!((exit.kind, exit.reason.as_str()), (ExitKind::Error, "cannot"));
    assert_eq!(world.node("good").restarts(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_reborn_parent_adopts_the_living_and_restarts_who_died_meanwhile() {
    let world = World::new().await;
    world.child("alive", Restart::Permanent).await;
    world.child("dies", Restart::Permanent).await;
    let parent = world.root.find("root/parent").unwrap();
    assert!(parent.inject(Chaos::Hang));
    settle().await;
    assert!(world.node("dies").kill());
    settle().await;
    assert_eq!(world.node("dies").state().0, NodeState::Restarting, "the parent cannot decide");
    assert!(parent.kill());
    world.until("dies", |state, generation| state == NodeState::Running && generation == 2).await;
    assert_eq!((world.node("alive").generation(), parent.restarts()), (1, 1));
    // A backoff that was running when the parent died goes on.
    assert!(world.node("dies").kill());
    world.until("dies", |state, _| state == NodeState::Restarting).await;
    assert!(world.parent.send(ParentMsg::Die).is_ok());
    world.until("dies", |state, generation| state == NodeState::Running && generation == 3).await;
    assert_eq!(world.node("alive").generation(), 1);
}

#[tokio::test(start_paused = true)]
async fn shutdown_goes_backwards_and_does_not_wait_longer_than_the_deadline() {
    let world = World::new().await;
    world.child("first", Restart::Permanent).await;
    let stubborn = ChildArgs { stopping: Stopping::Later, ..world.args("second") };
    let second = move || {
        ChildSpec::new::<Child>("second", Restart::Permanent, stubborn.clone(), &Slot::default())
            .shutdown(Duration::from_secs(3))
    };
    assert!(world.spawn(second).await);
    world.child("third", Restart::Permanent).await;
    world.until("second", |state, _| state == NodeState::Running).await;
    world.log();
    let (start, second) = (Instant::now(), world.node("second"));
    shutdown(&world.root).await;
    assert_eq!(start.elapsed().as_secs(), 3, "the stubborn one's deadline, and nothing else");
    assert_eq!(
        world.log(),
        [
            "-third",
            "third stopped stopped",
            "-second",
            "second killed stopped",
            "-first",
            "first stopped stopped"
        ]
    );
    assert_eq!(second.last_exit().unwrap().reason, "did not stop in time");
}

#[tokio::test(start_paused = true)]
async fn an_order_during_a_backoff_is_not_lost() {
    let world = World::new().await;
    world.child("c", Restart::Permanent).await;
    let node = world.node("c");
    for generation in 1..=2 {
        world.until("c", |state, g| state == NodeState::Running && g == generation).await;
        node.inject(Chaos::Panic);
    }
    world.until("c", |state, g| state == NodeState::Restarting && g == 2).await;
    assert!(node.command(Order::Park));
    world.until("c", |state, _| state == NodeState::Parked).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(node.generation(), 2, "the timer of the backoff is stale");
    assert!(node.command(Order::Restart));
    world.until("c", |state, g| state == NodeState::Running && g == 3).await;
}

#[tokio::test(start_paused = true)]
async fn a_reply_lost_with_its_actor_says_so() {
    let (reply, answer) = Reply::<u8>::oneshot();
    drop(reply);
    assert!(answer.await.is_err());
    let world = World::new().await;
    let parent = world.root.find("root/parent").unwrap();
    // A question that dies with the parent is put again to the next one.
    parent.inject(Chaos::Panic);
    world.child("c", Restart::Permanent).await;
    assert_eq!(parent.restarts(), 1);
}

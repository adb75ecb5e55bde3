use super::testing::Fake;
use super::*;
use crate::settings::Settings;
use crate::tools::run;
use crate::tools::testing::{call, estate};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// In the place of `agents`: it has one server, and counts what it hears of it.
struct Parent(Arc<AtomicUsize>);

impl Behavior for Parent {
    type Msg = AgentsMsg;
    type Args = (Arc<Estate>, Dial, Slot<AgentsMsg>, Arc<AtomicUsize>);
    const KIND: &'static str = "parent";

    fn start(ctx: &mut Ctx<AgentsMsg>, args: Self::Args) -> Result<Self, Fault> {
        let (estate, dial, agents, heard) = args;
        let entry = McpServerSettings::default();
        estate.mcp.put("fake", entry.clone());
        spawn(ctx, McpArgs { name: "fake".into(), entry, dial, estate, agents });
        Ok(Self(heard))
    }

    fn handle(&mut self, _: &mut Ctx<AgentsMsg>, _: AgentsMsg) -> Result<(), Fault> {
        self.0.fetch_add(1, SeqCst);
        Ok(())
    }
}

struct Tree {
    estate: Arc<Estate>,
    root: Arc<Node>,
    /// How often the tools have changed.
    heard: Arc<AtomicUsize>,
}

impl Tree {
    async fn with(dial: Dial) -> Self {
        let (estate, agents, heard) = (estate(), Slot::default(), Arc::default());
        let args = (estate.clone(), dial, agents.clone(), Arc::clone(&heard));
        let spec = ChildSpec::new::<Parent>("gateway", Restart::Temporary, args, &agents);
        let root = grow(spec, Clock::system(), Arc::new(|_| {}));
        let this = Self { estate, root, heard };
        this.settle().await;
        this
    }

    /// Lets everything happen that needs no more than a moment.
    async fn settle(&self) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    fn server(&self) -> Arc<Node> {
        self.root.child("mcp:fake").unwrap()
    }

    fn names(&self) -> Vec<String> {
        self.estate.mcp.tools().tools().map(|tool| tool.definition().name.clone()).collect()
    }

    fn cause(&self) -> String {
        self.server().last_exit().unwrap().reason
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_offers_its_tools_page_by_page_and_they_go_and_come_with_it() {
    let fake = Fake::with(&["a", "b", "c"]);
    let tree = Tree::with(fake.dial()).await;
    assert_eq!(tree.names(), ["fake__a", "fake__b", "fake__c"]);
    let held = tree.estate.mcp.tools().tool("fake__a").unwrap().clone();
    fake.is_deaf.store(true, SeqCst);
    fake.hang_up.notify_one();
    tree.settle().await;
    assert_eq!((tree.names().len(), tree.cause().as_str()), (0, "the connection ended"));
    let gone = run(held.as_ref(), call(Path::new("/"), json!({}))).await;
    assert!(gone.is_error && gone.as_text().contains("has ended"), "{gone:?}");
    fake.is_deaf.store(false, SeqCst);
    // The greeting that was not answered is given up.
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert_eq!((tree.names().len(), fake.dialled.load(SeqCst)), (3, 3));
    assert_eq!(tree.heard.load(SeqCst), 3, "they came, went, and came again");
}

#[tokio::test(start_paused = true)]
async fn a_killed_actor_takes_its_tools_with_it() {
    let fake = Fake::with(&["a"]);
    let tree = Tree::with(fake.dial()).await;
    fake.is_deaf.store(true, SeqCst);
    tree.server().kill();
    tree.settle().await;
    assert!(tree.names().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_cannot_be_started_is_parked_with_its_cause() {
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = tries.clone();
    let tree = Tree::with(Arc::new(move |_| {
        counted.fetch_add(1, SeqCst);
        Box::pin(std::future::ready(Err("npx cannot be started".to_owned())))
    }))
    .await;
    assert_eq!(tries.load(SeqCst), 2, "the first time it is tried again at once, then after a while");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((tree.server().state().0, tries.load(SeqCst)), (NodeState::Parked, 6));
    assert_eq!(tree.cause(), "npx cannot be started");
}

#[test]
fn a_server_elsewhere_is_never_given_up() {
    let entry = McpServerSettings { url: Some("http://h".into()), ..Default::default() };
    let Intensity { restarts, window } = Intensity::default();
    let least: Duration = (1..=restarts as u32).map(|nth| backoff(&entry).delay(nth, 0.0)).sum();
    assert!(least > window, "{least:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_has_only_so_long_to_get_ready() {
    let tree = Tree::with(Arc::new(|_| Box::pin(std::future::pending()))).await;
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert_eq!(tree.cause(), "it was not ready within 30 s");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_so_is_asked_for_its_tools_again() {
    let fake = Fake::with(&["a"]);
    let tree = Tree::with(fake.dial()).await;
    for tool in ["b", "c"] {
        fake.set(&[tool]);
        fake.announce.notify_one();
        tree.settle().await;
    }
    sleep(Duration::from_secs(1)).await;
    assert_eq!((tree.names(), fake.dialled.load(SeqCst)), (vec!["fake__c".to_owned()], 1));
    assert!(tree.heard.load(SeqCst) <= 3, "changes are gathered");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_is_started_again_unless_it_is_at_work() {
    let fake = Fake::with(&["hang"]);
    let tree = Tree::with(fake.dial()).await;
    tokio::time::sleep(PING_EVERY).await;
    assert_eq!((fake.pinged.load(SeqCst), tree.server().restarts()), (1, 0));
    fake.is_deaf.store(true, SeqCst);
    let tool = tree.estate.mcp.tools().tool("fake__hang").unwrap().clone();
    let late = run(tool.as_ref(), call(Path::new("/"), json!({}))).await;
    assert!(late.as_text().contains("took longer than 60 s"), "{late:?}");
    assert_eq!(tree.server().restarts(), 0, "who is at work is not asked");
    tokio::time::sleep(PING_EVERY + PING_LIMIT).await;
    assert_eq!((tree.server().restarts(), tree.cause()), (1, "it did not answer a ping within 10 s".into()));
}

#[tokio::test(start_paused = true)]
async fn a_stop_is_no_fault() {
    let fake = Fake::with(&["a"]);
    let tree = Tree::with(fake.dial()).await;
    shutdown(&tree.root).await;
    assert!(tree.names().is_empty() && tree.root.children().is_empty());
    assert_eq!(fake.dialled.load(SeqCst), 1);
}

#[test]
fn of_two_servers_whose_tools_would_be_called_the_same_the_first_is_used() {
    let settings: Settings = serde_json::from_value(json!({ "mcp": { "servers": {
        "My-server": { "command": "a" }, "my server": { "command": "b" },
        "other": { "command": "c" }, "off": { "command": "d", "enabled": false },
    } } }))
    .unwrap();
    assert_eq!(wanted(&settings.mcp).into_keys().collect::<Vec<_>>(), ["My-server", "other"]);
}

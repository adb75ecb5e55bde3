//! Answers that people see while they are written, in a whole tree in paused time: each is seen once in the end,
//! whatever is killed when, and as often as the platform wants on the way.

mod board;

use crate::planting::{estate_args, planted};
use board::{Board, EVERY, Fault, Hung, IN_GROUPS, TYPING};
use crabtree_actors::agents::{Chunk, Model, Prompt, Said, Usage};
use crabtree_actors::channels::contract::Kind;
use crabtree_actors::estate::{Brought, Estate, EstateArgs, Part};
use crabtree_actors::gateway::Wiring;
use crabtree_actors::tree::{Clock, Node, NodeState, fell};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// How long a test waits, in time that does not pass, for something that must come.
const PATIENCE: Duration = Duration::from_secs(300);

/// Says as many words as it is told, one in so many ms: `say 40 200`.
struct Talker;

impl Model for Talker {
    fn provider(&self) -> &str {
        "test"
    }

    fn id(&self) -> &str {
        "talker"
    }

    fn answer(&self, prompt: Prompt) -> BoxStream<'static, Chunk> {
        let asked = prompt.conversation.iter().rfind(|said| matches!(said, Said::User { .. }));
        let words: Vec<&str> = asked.map_or("", |said| said.text()).split_whitespace().collect();
        let numbers: Vec<u64> = words.iter().filter_map(|word| word.parse().ok()).collect();
        let (count, pause) = (numbers[0] as usize, Duration::from_millis(numbers[1]));
        let said = answer(count);
        let said: Vec<Chunk> = said.split_inclusive(' ').map(|word| Chunk::Text(word.to_owned())).collect();
        let said = stream::iter(said).then(move |word| async move {
            sleep(pause).await;
            word
        });
        said.chain(stream::iter([Chunk::End(Usage::default())])).boxed()
    }
}

/// What it says when it is told to say so many words.
fn answer(count: usize) -> String {
    (0..count).map(|n| format!("word{n}")).collect::<Vec<_>>().join(" ")
}

struct World {
    board: Arc<Board>,
    section: Value,
    wiring: Arc<Wiring>,
    root: Arc<Node>,
}

fn estate(clock: Clock, section: &Value, board: &Arc<Board>) -> Arc<Estate> {
    let settings = json!({
        "channels": { "board": section },
        "agents": { "defaults": { "model": "test/talker" } },
        "messages": { "queue": { "mode": "interrupt" } },
        "session": { "dmScope": "per-channel-peer" },
        "plugins": { "entries": { "ollama": { "config": { "discovery": { "enabled": false } } } } },
    });
    Estate::new(EstateArgs {
        brought: Brought {
            models: vec![Arc::new(Talker)],
            channels: vec![Arc::new(Hung(board.clone()))],
            ..Brought::default()
        },
        ..estate_args(clock, settings)
    })
}

impl World {
    async fn start(board: Arc<Board>, more: Value) -> Self {
        let mut section = json!({ "dmPolicy": "open", "groupPolicy": "open", "allowFrom": ["a", "b"] });
        section.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let wiring = Wiring::new(estate(Clock::simulated(1_800_000_000_000), &section, &board));
        let root = planted(&wiring);
        wiring.store.estate.ready.complete().await;
        Self { board, section, wiring, root }
    }

    /// The process is killed, and another one opens the same database.
    async fn kill(&mut self) {
        fell(&self.root);
        let db = self.wiring.store.estate.db.load_full();
        sleep(Duration::from_millis(1)).await;
        let clock = self.wiring.store.estate.clock.clone();
        self.wiring = Wiring::new(estate(clock, &self.section, &self.board));
        self.wiring.store.estate.db.store(db);
        self.wiring.store.estate.ready.done(Part::Store);
        self.root = planted(&self.wiring);
    }

    fn account(&self) -> Arc<Node> {
        self.root.child("channels").unwrap().child("board/default").unwrap()
    }

    async fn says(&self, chat: &str, text: &str) {
        self.board.says(Kind::Direct, chat, &format!("{chat} {text}"), text).await;
    }

    /// Waits until people see this in a chat, and nothing else, and it stays so.
    async fn seen(&self, chat: &str, expected: &[String]) {
        let wait = async {
            while self.board.seen(chat) != expected {
                sleep(Duration::from_millis(50)).await;
            }
        };
        let came = timeout(PATIENCE, wait).await.is_ok();
        assert!(came, "{expected:?}: {:?}", self.board.seen(chat));
        sleep(Duration::from_secs(30)).await;
        assert_eq!(self.board.seen(chat), expected, "it stays so");
    }

    /// Waits until people see that an answer is being written.
    async fn drafted(&self, chat: &str) {
        let wait = async {
            while !self.board.seen(chat).iter().any(|text| text.ends_with(" …")) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        assert!(timeout(PATIENCE, wait).await.is_ok(), "{:?}", self.board.seen(chat));
        // Until the gateway knows it, too.
        sleep(EVERY / 5).await;
    }

    /// Nothing of a draft is left in the store.
    fn is_clean(&self) -> bool {
        let db = self.wiring.store.estate.db.load_full().unwrap();
        let open =
            "SELECT count(*) FROM deliveries WHERE state IN ('queued', 'sending', 'uncertain', 'failed')";
        db.read(|c| Ok(c.query_row(open, [], |row| row.get::<_, i64>(0))?)).unwrap() == 0
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_seen_while_it_is_written_as_often_as_the_platform_wants() {
    for (kind, every) in [(Kind::Direct, EVERY), (Kind::Group, IN_GROUPS)] {
        let world = World::start(Board::new(false), json!({})).await;
        world.board.says(kind, "a", "1", "say 100 200").await;
        world.seen("a", &[answer(100)]).await;
        let changes = world.board.changes("a");
        let seconds = 100 * 200 / 1000;
        let most = seconds / every.as_secs() as usize;
        assert!((most * 3 / 5..=most + 1).contains(&changes.len()), "{kind:?}: {} changes", changes.len());
        assert_eq!((changes[0].what, changes[1].what), ("post", "edit"));
        for two in changes[..changes.len() - 1].windows(2) {
            assert!(two[1].at - two[0].at >= every, "{two:?}");
            assert!(two[1].text.len() > two[0].text.len());
        }
        for change in &changes[..changes.len() - 1] {
            let beginning = change.text.strip_suffix(" …").unwrap();
            assert!(answer(100).starts_with(beginning) && beginning.chars().count() >= 30);
        }
        assert!(world.is_clean());
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_answer_and_one_that_comes_at_once_are_one_message() {
    let world = World::start(Board::new(false), json!({})).await;
    world.says("a", "say 4 2000").await;
    world.says("b", "say 100 2").await;
    world.seen("a", &[answer(4)]).await;
    world.seen("b", &[answer(100)]).await;
    assert_eq!((world.board.changes("a").len(), world.board.changes("b").len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn switched_off_an_answer_comes_when_it_is_whole() {
    for section in [json!({ "streaming": { "mode": "off" } }), json!({ "streamMode": "off" })] {
        let world = World::start(Board::new(false), section).await;
        world.says("a", "say 50 200").await;
        world.seen("a", &[answer(50)]).await;
        assert_eq!(world.board.changes("a").len(), 1);
        assert!(!world.board.calls("typing").is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn that_somebody_writes_is_shown_until_the_answer_is_there_and_not_for_ever() {
    let world = World::start(Board::new(false), json!({})).await;
    world.says("a", "say 49 400").await;
    world.seen("a", &[answer(49)]).await;
    let typing = world.board.calls("typing");
    assert_eq!(typing.len(), 5, "not quite 20 s, each 4: {typing:?}");
    assert!(typing.windows(2).all(|two| two[1].at - two[0].at >= TYPING));
    world.says("b", "say 2 1000000").await;
    sleep(Duration::from_secs(1_000)).await;
    let typing = world.board.calls("typing").into_iter().filter(|call| call.chat == "b");
    assert_eq!(typing.count(), 30, "two minutes");
}

#[tokio::test(start_paused = true)]
async fn a_long_answer_takes_its_draft_as_its_first_message() {
    let world = World::start(Board::with_limit(300), json!({})).await;
    world.says("a", "say 200 100").await;
    let wait = async {
        while world.board.seen("a").join(" ") != answer(200) {
            sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(timeout(PATIENCE, wait).await.is_ok(), "{:?}", world.board.seen("a"));
    let posts = world.board.changes("a").iter().filter(|call| call.what == "post").count();
    assert_eq!(posts, world.board.seen("a").len());
    assert!(world.board.changes("a").iter().any(|call| call.what == "edit"));
}

#[tokio::test(start_paused = true)]
async fn a_platform_that_wants_to_be_left_alone_is() {
    let world = World::start(Board::new(false), json!({})).await;
    let wait = Duration::from_secs(7);
    world.board.go_wrong("edit", Fault::TooMuch(wait));
    world.says("a", "say 60 200").await;
    world.seen("a", &[answer(60)]).await;
    let changes = world.board.changes("a");
    assert!(changes[2].at - changes[1].at >= wait, "{changes:?}");
    // The answer waits as well.
    let world = World::start(Board::new(false), json!({})).await;
    world.board.go_wrong("post", Fault::TooMuch(Duration::from_secs(60)));
    world.says("a", "say 30 200").await;
    world.seen("a", &[answer(30)]).await;
    let changes = world.board.changes("a");
    assert_eq!(changes.len(), 2, "{changes:?}");
    assert!(changes[1].at - changes[0].at >= Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn a_draft_that_hangs_delays_no_turn_and_no_other_chat() {
    for what in ["post", "edit"] {
        let world = World::start(Board::new(false), json!({})).await;
        world.board.go_wrong(what, Fault::Hang);
        world.says("a", "say 30 200").await;
        sleep(Duration::from_secs(5)).await;
        let begun = Instant::now();
        world.says("b", "say 3 10").await;
        while world.board.seen("b").is_empty() {
            sleep(Duration::from_millis(10)).await;
        }
        assert!(begun.elapsed() < Duration::from_secs(2), "{what}: {:?}", begun.elapsed());
        // What hung was not done: the answer is a message of its own, or what the draft becomes.
        world.seen("a", &[answer(30)]).await;
        assert!(world.is_clean(), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_whose_draft_was_deleted_is_sent_anew() {
    let world = World::start(Board::new(false), json!({})).await;
    world.says("a", "say 50 200").await;
    world.drafted("a").await;
    world.board.wipe();
    world.seen("a", &[answer(50)]).await;
    assert!(world.is_clean());
    // A draft that can only not be changed at the end goes.
    world.says("b", "say 20 200").await;
    world.drafted("b").await;
    (0..5).for_each(|_| world.board.go_wrong("edit", Fault::Refused));
    world.seen("b", &[answer(20)]).await;
    assert!(world.is_clean());
}

#[tokio::test(start_paused = true)]
async fn a_stopped_answer_stays_as_far_as_it_was_seen_and_one_that_makes_room_goes() {
    let world = World::start(Board::new(false), json!({})).await;
    world.says("a", "say 100 200").await;
    world.drafted("a").await;
    world.says("a", "/stop").await;
    sleep(Duration::from_secs(60)).await;
    let seen = world.board.seen("a");
    assert!(answer(100).starts_with(&seen[0]) && seen[0].len() > 30, "{seen:?}");
    assert_eq!(seen[1..], ["⚙️ Agent was aborted."]);
    assert!(world.is_clean());
    world.says("b", "say 100 200").await;
    world.drafted("b").await;
    world.says("b", "say 3 10").await;
    world.seen("b", &[answer(3)]).await;
    assert!(world.is_clean());
}

#[tokio::test(start_paused = true)]
async fn the_crash_of_an_account_costs_no_draft() {
    let world = World::start(Board::new(false), json!({})).await;
    world.says("a", "say 100 200").await;
    world.drafted("a").await;
    world.account().kill();
    sleep(Duration::from_secs(5)).await;
    assert_eq!(world.account().state().0, NodeState::Running);
    world.seen("a", &[answer(100)]).await;
    assert!(world.is_clean());
}

/// Killed at every instant of an answer, in steps that are shorter than what a call takes: it is there once, and its
/// draft nowhere; where the platform tells nobody twice what it has, a beginning may be left.
///
/// accepts: I7
#[tokio::test(start_paused = true)]
async fn killed_at_any_instant_an_answer_is_seen_once() {
    let (mut kills, mut left) = (0, 0);
    for idempotent in [true, false] {
        for step in 0..40 {
            let mut world = World::start(Board::new(idempotent), json!({})).await;
            world.says("a", "say 15 200").await;
            // Between the first text and well after the end.
            sleep(Duration::from_millis(1_400 + step * 65)).await;
            world.kill().await;
            sleep(Duration::from_secs(30)).await;
            let seen = world.board.seen("a");
            let (whole, rest): (Vec<_>, Vec<_>) = seen.iter().partition(|text| **text == answer(15));
            let doubt = whole.is_empty();
            let is_beginning = |text: &&String| {
                text.strip_suffix(" …").is_some_and(|beginning| answer(15).starts_with(beginning))
            };
            assert!(rest.iter().all(is_beginning), "{step}: {seen:?}");
            if idempotent {
                assert_eq!((whole.len(), rest.len()), (1, 0), "{step}: {seen:?}");
                assert!(world.is_clean(), "{step}");
            } else {
                assert!(whole.len() <= 1 && rest.len() <= 1, "{step}: {seen:?}");
                // Nobody knows whether it was sent only if there was no draft to change.
                assert!(!doubt, "{step}: {seen:?}");
            }
            kills += 1;
            left += rest.len();
        }
    }
    assert!(left <= kills / 40, "{left} beginnings are left after {kills} kills");
}

//! Answers that people see while they are written, on Telegram and on Discord: the real clients and a whole gateway,
//! which is killed where that hurts.

use crate::client::Client;
use crate::fakes::discord::{ADA, ADA_DIRECT, BOT, Discord, person, text};
use crate::fakes::telegram::Telegram;
use crate::gateway::{Embedded, Process};
use crate::mock_model::models;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::timeout;

/// How long a test waits for something that must come.
const PATIENCE: Duration = Duration::from_secs(40);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(20);
/// How long is waited for what must not come.
const QUIET: Duration = Duration::from_millis(1_500);
/// Ann, on Telegram.
const ANN: i64 = 42;
/// An answer that takes its time.
const ASKED: &str = "MOCK{n=18;d=250}";

/// What the model says to that.
fn answer() -> String {
    (0..18).map(|n| format!("tok{n}")).collect::<Vec<_>>().join(" ")
}

/// A platform with one person on it, who writes to the bot.
#[derive(Clone)]
enum Platform {
    Telegram(Arc<Telegram>),
    Discord(Arc<Discord>),
}

impl Platform {
    async fn telegram() -> Self {
        Self::Telegram(Arc::new(Telegram::start().await))
    }

    async fn discord() -> Self {
        Self::Discord(Arc::new(Discord::start().await))
    }

    /// `channels`, with this beside what connects it.
    fn channels(&self, more: Value) -> Value {
        let (name, mut settings, owner) = match self {
            Self::Telegram(fake) => ("telegram", fake.settings(), json!(ANN)),
            Self::Discord(fake) => ("discord", fake.settings(), json!(ADA)),
        };
        let section = settings.as_object_mut().unwrap();
        section.insert("allowFrom".into(), json!([owner]));
        section.extend(more.as_object().unwrap().clone());
        json!({ name: settings })
    }

    /// The person writes, as soon as somebody listens.
    async fn says(&self, said: &str) {
        self.says_to(1, said).await;
    }

    /// The same to the gateway that was started so many times.
    async fn says_to(&self, starts: usize, said: &str) {
        match self {
            Self::Telegram(fake) => drop(fake.text(said)),
            Self::Discord(fake) => {
                fake.line().seen(|seen| seen.identifies >= starts).await;
                fake.says(ADA_DIRECT, text(person(ADA, "ada"), said));
            }
        }
    }

    /// What the person sees of the bot.
    fn seen(&self) -> Vec<String> {
        match self {
            Self::Telegram(fake) => fake.posted(ANN),
            Self::Discord(fake) => {
                let messages = fake.messages(ADA_DIRECT).into_iter();
                let ours = messages.filter(|message| message["author"]["id"] == BOT);
                ours.map(|message| message["content"].as_str().unwrap().to_owned()).collect()
            }
        }
    }

    async fn until(&self, what: &str, is_so: impl Fn(&[String]) -> bool) {
        let wait = async {
            while !is_so(&self.seen()) {
                tokio::time::sleep(LOOK).await;
            }
        };
        assert!(timeout(PATIENCE, wait).await.is_ok(), "{what}: {:?}", self.seen());
    }

    /// A draft is there.
    async fn drafted(&self) {
        self.until("a draft", |seen| seen.iter().any(|text| text.ends_with(" …"))).await;
    }

    /// This is all that is there in the end.
    async fn shows(&self, what: &str, expected: &[String]) {
        self.until(what, |seen| seen == expected).await;
        tokio::time::sleep(QUIET).await;
        assert_eq!(self.seen(), expected, "{what}");
    }
}

async fn gateway(platform: &Platform, more: Value) -> Embedded {
    let config = json!({
        "channels": platform.channels(more), "agents": { "defaults": { "model": "mock/mock-1" } },
    });
    Embedded::with_models(config, models()).await
}

#[tokio::test]
async fn on_telegram_an_answer_grows_in_one_message() {
    let platform = Platform::telegram().await;
    let _gateway = gateway(&platform, json!({})).await;
    platform.says(ASKED).await;
    platform.drafted().await;
    let draft = platform.seen();
    assert!(answer().starts_with(draft[0].strip_suffix(" …").unwrap()), "{draft:?}");
    platform.shows("the answer", &[answer()]).await;
    let Platform::Telegram(fake) = &platform else { unreachable!("it is that") };
    assert_eq!((fake.calls("sendMessage"), fake.calls("deleteMessage")), (1, 0));
    assert!((1..=3).contains(&fake.calls("editMessageText")), "one a second, and the last");
    assert!((1..=2).contains(&fake.calls("sendChatAction")), "one in four seconds");
}

#[tokio::test]
async fn on_discord_an_answer_grows_if_the_operator_says_so() {
    for (settings, grows) in [(json!({ "streaming": { "mode": "partial" } }), true), (json!({}), false)] {
        let platform = Platform::discord().await;
        let _gateway = gateway(&platform, settings).await;
        platform.says(ASKED).await;
        if grows {
            platform.drafted().await;
        }
        platform.shows("the answer", &[answer()]).await;
        let Platform::Discord(fake) = &platform else { unreachable!("it is that") };
        let messages = format!("channels/{ADA_DIRECT}/messages");
        assert_eq!(fake.calls(&format!("POST {messages}")).len(), 1);
        assert_eq!(fake.calls(&format!("PATCH {messages}")).is_empty(), !grows);
        assert_eq!(fake.calls(&format!("POST channels/{ADA_DIRECT}/typing")).len(), 1);
    }
}

/// What a stopped answer has come to stays; one that another message interrupts goes.
#[tokio::test]
async fn a_draft_is_kept_when_it_is_stopped_and_goes_when_it_makes_room() {
    for platform in [Platform::telegram().await, Platform::discord().await] {
        let streaming = json!({ "streaming": { "mode": "partial" } });
        let _gateway = gateway(&platform, streaming).await;
        platform.says("MOCK{n=500;d=100}").await;
        platform.drafted().await;
        platform.says("/stop").await;
        platform.until("it is stopped", |seen| seen.len() == 2 && !seen[0].ends_with('…')).await;
        let seen = platform.seen();
        assert!(seen[0].starts_with("tok0 tok1") && seen[1] == "⚙️ Agent was aborted.", "{seen:?}");
        platform.says("/queue interrupt").await;
        platform.until("it is set", |seen| seen.len() == 3).await;
        platform.says("MOCK{n=500;d=100}").await;
        platform.drafted().await;
        platform.says("MOCK{n=1}").await;
        platform.until("it made room", |seen| seen.len() == 4 && seen[3] == "tok0").await;
    }
}

struct World {
    state: TempDir,
    process: Option<Process>,
    platform: Platform,
}

impl World {
    async fn start(platform: Platform) -> Self {
        let state = tempfile::tempdir().unwrap();
        let config = json!({
            "channels": platform.channels(json!({ "streaming": { "mode": "partial" } })),
            "agents": { "defaults": { "model": "mock/mock-1" } },
            "gateway": { "chaos": { "enabled": true } },
        });
        std::fs::write(state.path().join("openclaw.json"), config.to_string()).unwrap();
        let process = Some(Process::with_mock_models(state.path()).await);
        Self { state, process, platform }
    }

    /// It will die where it passes this point.
    async fn dies_at(&self, point: &str) {
        let mut client = Client::admin(self.process.as_ref().unwrap().addr).await;
        let fault = json!({ "path": "gateway", "fault": "killpoint", "name": point });
        client.call("system.chaos", fault).await;
    }

    /// It has died there, and is started again.
    async fn died_at(&mut self, point: &str) {
        let mut process = self.process.take().unwrap();
        assert!(process.died_within(PATIENCE).await, "{point} is passed: {:?}", self.platform.seen());
        self.again().await;
    }

    async fn again(&mut self) {
        self.process = Some(Process::with_mock_models(self.state.path()).await);
    }
}

/// accepts: A8
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_wherever_a_draft_is_the_answer_is_seen_once() {
    let points = ["draft.begun", "draft.sent", "delivery.begun", "delivery.sent"];
    let strike = async |platform: Platform, point: &'static str| {
        let mut world = World::start(platform.clone()).await;
        world.dies_at(point).await;
        platform.says(ASKED).await;
        if point.starts_with("delivery.") {
            platform.drafted().await;
        }
        world.died_at(point).await;
        let left = platform.seen();
        // Telegram has it and nobody knows: a beginning stays, which says that it is one.
        let mut expected = vec![answer()];
        if point == "draft.sent" && matches!(platform, Platform::Telegram(_)) {
            assert!(left.len() == 1 && left[0].ends_with(" …"), "{left:?}");
            expected.splice(..0, left);
        }
        platform.shows(point, &expected).await;
    };
    for point in points {
        tokio::join!(strike(Platform::telegram().await, point), strike(Platform::discord().await, point));
    }
}

/// accepts: A8
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_an_answer_grows_its_draft_becomes_the_answer() {
    let strike = async |platform: Platform| {
        let mut world = World::start(platform.clone()).await;
        platform.says(ASKED).await;
        platform.drafted().await;
        // Until its name is written.
        tokio::time::sleep(Duration::from_millis(200)).await;
        world.process.take().unwrap().kill();
        world.again().await;
        platform.shows("after a kill", &[answer()]).await;
        // A second one gives it up, in the place of the draft.
        platform.says_to(2, "MOCK{n=60;d=250}").await;
        for _ in 0..2 {
            platform.drafted().await;
            tokio::time::sleep(Duration::from_millis(200)).await;
            world.process.take().unwrap().kill();
            world.again().await;
        }
        platform.until("it is given up", |seen| seen.len() == 2 && seen[1].contains("given up")).await;
    };
    tokio::join!(strike(Platform::telegram().await), strike(Platform::discord().await));
}

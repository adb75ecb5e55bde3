//! Discord: bots in direct chats, channels and threads.
//!
//! **Owns** the connection of one account, and what it knows of the platform.
//! **Hears** what comes over Discord's gateway, and orders; **tells** the gateway what was said, how far that was
//! handed in, and whether it is connected.
//! **On crash** nothing is lost: orders are rows of others, and messages are fetched from where they were handed in
//! last. Buttons with long texts are forgotten, and say so.
//!
//! | file | what |
//! |---|---|
//! | `line` | the connection to Discord's gateway |
//! | `switchboard` | what comes over it, and whom it concerns |
//! | `inbox` | what came, in its order, and what was missed |
//! | `reacted` | a reaction as what somebody did |
//! | `said` | a message, a command or a button as what somebody said |
//! | `sending`, `acts` | orders |
//! | `api` | calls, and what their failures mean |
//! | `known` | what is known of the platform |

mod acts;
mod api;
mod inbox;
mod known;
mod line;
mod reacted;
mod said;
mod sending;
mod switchboard;

use super::contract::{Account, Capabilities, Channel, EditLimit, Link, Orders, Stopped, Trouble, Unit};
use api::Api;
use futures_util::future::BoxFuture;
use inbox::{Backlog, Inbox};
use known::{Known, Progress};
use reqwest::Url;
use std::sync::Arc;
use std::time::Duration;
use switchboard::Switchboard;
use tokio::sync::mpsc;

/// Where bots are made and set up.
const PORTAL: &str = "https://discord.com/developers/applications";
/// Where Discord's REST API is.
const API_ROOT: &str = "https://discord.com/api/v10";
/// The largest file that is fetched, in MB, unless the operator says otherwise.
const MAX_FILE_MB: u64 = 20;
/// The most an operator may say, in MB: all files of a message are in memory.
const MOST_FILE_MB: u64 = 500;
/// Discord knows the nonces of "the past few minutes", as its documentation has it.
const NONCE_KNOWN: Duration = Duration::from_secs(120);
/// Discord takes five changes of the messages of a channel in five seconds.
const EDIT_EVERY: Duration = Duration::from_millis(1_200);
/// Discord shows for ten seconds that somebody writes.
const TYPING_EVERY: Duration = Duration::from_secs(8);
/// Events that may wait to be passed on, which takes no time; then those who bring them wait.
const MAX_EVENTS: usize = 64;
/// Messages that may wait to be handed in; what comes then is fetched later.
const MAX_WAITING: usize = 256;

/// The channel.
pub struct Discord;

impl Channel for Discord {
    fn name(&self) -> &str {
        "discord"
    }

    fn label(&self) -> &str {
        "Discord"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            text_limit: 2_000,
            unit: Unit::Chars,
            idempotent: true,
            known_for: NONCE_KNOWN,
            edits: Some(EditLimit { every: EDIT_EVERY, in_groups: EDIT_EVERY, drafts: false }),
            typing: Some(TYPING_EVERY),
            buttons: true,
            reactions: true,
            files: true,
            polls: Some(acts::POLLS),
            deletes: true,
            pins: true,
            // Discord sends a heartbeat every 41 seconds.
            silence: Duration::from_secs(120),
        }
    }

    fn check(&self, account: &Account) -> Result<(), String> {
        Settings::of(account).map(drop)
    }

    fn credential(&self) -> Option<&'static str> {
        Some("token")
    }

    fn run(self: Arc<Self>, account: Account, link: Link, orders: Orders) -> BoxFuture<'static, Trouble> {
        Box::pin(async move { live(&account, link, orders).await.unwrap_or_else(|trouble| trouble) })
    }
}

async fn live(account: &Account, link: Link, orders: Orders) -> Result<Trouble, Trouble> {
    let settings = Arc::new(Settings::of(account).map_err(Trouble::Fatal)?);
    let made = settings.clone();
    // Reading the machine's certificates takes a while.
    let api = tokio::task::spawn_blocking(move || Api::new(&made)).await;
    let api = api.unwrap_or_else(|e| Err(e.to_string())).map_err(Trouble::Retry)?;
    let (api, progress) = (Arc::new(api), Progress::read(link.checkpoint()));
    let (known, backlog) = (Arc::new(Known::new(api.clone())), Arc::new(Backlog::new(progress)));
    let (queue, come) = mpsc::channel(MAX_WAITING);
    let inbox = Inbox::new(api.clone(), known.clone(), backlog.clone(), link.clone(), settings.max_file);
    let switchboard = Switchboard { api: api.clone(), known: known.clone(), backlog, queue };
    let (events, heard) = mpsc::channel(MAX_EVENTS);
    Ok(tokio::select! {
        trouble = line::keep(&settings, &api, &known, &link, events) => trouble,
        trouble = switchboard.run(heard) => trouble,
        trouble = inbox.run(come) => trouble,
        trouble = sending::carry_out(api.clone(), known.clone(), orders) => trouble,
    })
}

fn stopped(end: Stopped) -> Trouble {
    Trouble::Retry(end.to_string())
}

fn token_refused() -> Trouble {
    Trouble::Fatal(format!(
        "Discord does not accept the token: take a new one under Bot, Reset Token, at {PORTAL}, and set \
         channels.discord.token to it"
    ))
}

/// What an account is set to.
struct Settings {
    token: String,
    api_root: Url,
    /// Whether that is not Discord's own.
    is_own_server: bool,
    /// The largest file that is fetched, in bytes.
    max_file: usize,
}

impl Settings {
    fn of(account: &Account) -> Result<Self, String> {
        let token = account.text("token").ok_or_else(|| {
            format!("channels.discord.token is missing: make a bot at {PORTAL}, and take its token under Bot")
        })?;
        let token = token.strip_prefix("Bot ").unwrap_or(token).trim();
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("channels.discord.token has characters in it that no token has".into());
        }
        let own = account.text("apiRoot");
        let api_root = Url::parse(own.unwrap_or(API_ROOT)).ok();
        let api_root = api_root.filter(|url| matches!(url.scheme(), "http" | "https"));
        let api_root = api_root.ok_or("channels.discord.apiRoot is no address like https://host/api/v10")?;
        let max_mb = match account.settings.get("mediaMaxMb") {
            None => MAX_FILE_MB,
            Some(set) => set.as_u64().filter(|mb| (1..=MOST_FILE_MB).contains(mb)).ok_or_else(|| {
                format!("channels.discord.mediaMaxMb is a whole number from 1 to {MOST_FILE_MB}")
            })?,
        };
        let max_file = usize::try_from(max_mb << 20).unwrap_or(usize::MAX);
        Ok(Self { token: token.to_owned(), api_root, is_own_server: own.is_some(), max_file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn checked(settings: Value) -> Result<(), String> {
        Discord.check(&Account { id: "default".into(), settings })
    }

    #[test]
    fn settings_that_cannot_work_are_told_before_anybody_is_called() {
        assert_eq!(checked(json!({ "token": "Bot abc.def-g_h" })), Ok(()));
        assert_eq!(
            checked(json!({ "token": "abc", "apiRoot": "http://127.0.0.1:1/api", "mediaMaxMb": 8 })),
            Ok(())
        );
        for (settings, names) in [
            (json!({}), "channels.discord.token"),
            (json!({ "token": "  " }), "channels.discord.token"),
            (json!({ "token": "abc\r\nx: y" }), "channels.discord.token"),
            (json!({ "token": "abc", "apiRoot": "localhost:80" }), "channels.discord.apiRoot"),
            (json!({ "token": "abc", "mediaMaxMb": 0 }), "channels.discord.mediaMaxMb"),
            (json!({ "token": "abc", "mediaMaxMb": "20" }), "channels.discord.mediaMaxMb"),
        ] {
            let why = checked(settings.clone()).expect_err("it cannot work");
            assert!(why.contains(names) && !why.contains("abc"), "{settings}: {why}");
        }
    }
}

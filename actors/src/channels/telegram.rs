//! Telegram, by its Bot API.
//!
//! Fetches updates by long polling: those of an answer are durable before the next is asked for, which is what tells
//! Telegram to forget them. With a `webhookUrl` Telegram brings them instead (`webhook`). Edited messages are not looked
//! at, as in OpenClaw.

use crate::channels::contract::{
    Account, Attachment, Capabilities, Channel, EditLimit, Heard, Link, Orders, Stopped, Trouble, Unit,
};
use api::{Api, CALL, Failure};
use buttons::Buttons;
use chrono::Utc;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use outbound::Outbound;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::value::RawValue;
use settings::Settings;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use teloxide_core::payloads::{AnswerCallbackQuery, DeleteWebhook, GetFile, GetMe, GetUpdates};
use teloxide_core::types::{AllowedUpdate, FileId, True};
use tokio::time::{sleep, timeout};
use update::{Me, Media, Message, Press, Update};

mod acts;
mod api;
mod buttons;
mod markup;
mod outbound;
mod reaction;
mod settings;
mod update;
mod webhook;

/// The longest text, UTF-16 code units: Telegram's 4096, less what lists and rules may gain when they are written
/// out.
const TEXT_LIMIT: usize = 4000;
/// Telegram takes about one message a second in a chat.
const EDIT_EVERY: Duration = Duration::from_secs(1);
/// And twenty a minute in a group.
const EDIT_EVERY_IN_GROUPS: Duration = Duration::from_secs(3);
/// Telegram shows for five seconds that somebody writes.
const TYPING_EVERY: Duration = Duration::from_secs(4);
/// How long Telegram waits for something to tell.
const POLL: Duration = Duration::from_secs(25);
/// How long its answer may take beyond that.
const LATE: Duration = Duration::from_secs(15);
/// How many updates one answer holds.
const UPDATES: u8 = 100;
/// What updates bring that is looked at.
const LOOKED_AT: [AllowedUpdate; 4] = [
    AllowedUpdate::Message,
    AllowedUpdate::ChannelPost,
    AllowedUpdate::CallbackQuery,
    AllowedUpdate::MessageReaction,
];
/// Pause before polling is tried again, first and longest.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The longest that Telegram may ask for at once: more would look like being stuck, and is asked for again.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How many orders are carried out side by side; the next wait.
const SIDE_BY_SIDE: usize = 32;
/// How long those that are under way may take to end when the account does.
const LAST_ORDERS: Duration = Duration::from_secs(10);
/// How long telling who pressed a button that it was received may take.
const PRESSED: Duration = Duration::from_secs(5);
/// How often a file is asked for.
const FETCHES: usize = 2;
/// What who presses a button is told whose words are forgotten.
const FORGOTTEN: &str = "This button is too old. Please write what you want.";

/// The channel.
pub fn telegram() -> Arc<dyn Channel> {
    Arc::new(Telegram::default())
}

#[derive(Default)]
struct Telegram {
    /// Kept while accounts are started anew: buttons stay in chats.
    buttons: Mutex<Buttons>,
}

impl Channel for Telegram {
    fn name(&self) -> &str {
        "telegram"
    }

    fn label(&self) -> &str {
        "Telegram"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            unit: Unit::Utf16,
            edits: Some(EditLimit { every: EDIT_EVERY, in_groups: EDIT_EVERY_IN_GROUPS, drafts: true }),
            typing: Some(TYPING_EVERY),
            buttons: true,
            reactions: true,
            files: true,
            polls: Some(acts::POLLS),
            deletes: true,
            pins: true,
            ..Capabilities::texts(TEXT_LIMIT)
        }
    }

    fn check(&self, account: &Account) -> Result<(), String> {
        Settings::of(account).map(drop)
    }

    fn credential(&self) -> Option<&'static str> {
        Some("botToken")
    }

    fn run(self: Arc<Self>, account: Account, link: Link, mut orders: Orders) -> BoxFuture<'static, Trouble> {
        Box::pin(async move {
            let trouble = match Bot::greet(&self, &account, link).await {
                Ok(bot) => bot.work(&mut orders).await,
                Err(trouble) => trouble,
            };
            // Unanswered, they would count as uncertain.
            orders.close();
            while let Ok(order) = orders.try_recv() {
                outbound::decline(order, &trouble);
            }
            trouble
        })
    }
}

/// An account that Telegram knows.
struct Bot<'a> {
    channel: &'a Telegram,
    api: Api,
    settings: Settings,
    me: Me,
    link: Link,
}

impl From<Stopped> for Trouble {
    fn from(stopped: Stopped) -> Self {
        Self::Retry(stopped.to_string())
    }
}

impl<'a> Bot<'a> {
    async fn greet(channel: &'a Telegram, account: &Account, link: Link) -> Result<Self, Trouble> {
        let settings = Settings::of(account).map_err(Trouble::Fatal)?;
        let made = tokio::task::spawn_blocking(move || Api::new(&settings).map(|api| (api, settings)));
        let made = made.await.unwrap_or_else(|e| Err(e.to_string()));
        let (api, settings) = made.map_err(|why| Trouble::Retry(format!("no HTTP client: {why}")))?;
        let trouble = |failure: Failure| failure.trouble_at_first();
        let me: Me = api.call(&GetMe::new(), CALL).await.map_err(trouble)?;
        let bot = Self { channel, api, settings, me, link };
        if bot.settings.hook.is_none() {
            // While there is one, polling is refused.
            bot.api.call::<_, True>(&DeleteWebhook::new(), CALL).await.map_err(trouble)?;
            bot.connected().await?;
        }
        Ok(bot)
    }

    /// Hands in and carries out until one of them is over.
    async fn work(&self, orders: &mut Orders) -> Trouble {
        let hands = Outbound {
            api: &self.api,
            buttons: &self.channel.buttons,
            link_preview: self.settings.link_preview,
            media_max: self.settings.media_max,
        };
        let mut under_way = FuturesUnordered::new();
        let mut hearing = std::pin::pin!(self.hear());
        let trouble = loop {
            tokio::select! {
                Err(trouble) = &mut hearing => break trouble,
                Some(()) = under_way.next() => {}
                order = orders.recv(), if under_way.len() < SIDE_BY_SIDE => match order {
                    Some(order) => under_way.push(hands.carry_out(order)),
                    None => break Stopped.into(),
                },
            }
        };
        // What is dropped now is uncertain; most of it needs but a moment.
        let _ = timeout(LAST_ORDERS, async { while under_way.next().await.is_some() {} }).await;
        trouble
    }

    async fn hear(&self) -> Result<Infallible, Trouble> {
        match &self.settings.hook {
            Some(hook) => self.listen(hook).await,
            None => self.poll().await,
        }
    }

    /// Fetches updates for ever.
    async fn poll(&self) -> Result<Infallible, Trouble> {
        let mut next = self.resumed();
        let mut pauses = 0;
        loop {
            let failure = match self.updates(next).await {
                Ok(updates) => {
                    self.link.alive();
                    let before = next;
                    for update in &updates {
                        next = self.take(update.get()).await?.or(next);
                    }
                    if next != before {
                        self.keep(next).await?;
                    }
                    // Asked again at once, it would be told again at once.
                    let is_stuck = next == before && !updates.is_empty();
                    is_stuck.then(|| Failure::Down("its updates have no numbers".into()))
                }
                Err(failure) => Some(failure),
            };
            match &failure {
                Some(failure) => self.wait(failure, pauses).await?,
                None if pauses > 0 => self.connected().await?,
                None => {}
            }
            pauses = failure.map_or(0, |_| pauses + 1);
        }
    }

    async fn updates(&self, next: Option<i32>) -> Result<Vec<Box<RawValue>>, Failure> {
        let mut asked = GetUpdates::new();
        asked.offset = next;
        asked.limit = Some(UPDATES);
        asked.timeout = Some(POLL.as_secs() as u32);
        asked.allowed_updates = Some(LOOKED_AT.into());
        self.api.call(&asked, POLL + LATE).await
    }

    /// Hands in what an update brings; the number of the next.
    async fn take(&self, update: &str) -> Result<Option<i32>, Trouble> {
        let Some((number, news)) = update::read(update) else {
            tracing::warn!(target: "crabtree::telegram", "an update without a number is left out");
            return Ok(None);
        };
        match news {
            Ok(Update::Message(message)) => self.message(&message).await?,
            Ok(Update::Press(press)) => self.press(&press).await?,
            Ok(Update::Reacted(reacted)) => {
                for reaction in reacted.added(&self.me, number) {
                    self.link.reacted(reaction).await?;
                }
            }
            Ok(Update::Other) => {}
            // What serde says of it may repeat what people wrote.
            Err(error) => tracing::warn!(
                target: "crabtree::telegram",
                "update {number} cannot be read at column {}, and is left out",
                error.column()
            ),
        }
        Ok(Some(number.saturating_add(1)))
    }

    async fn message(&self, message: &Message) -> Result<(), Trouble> {
        let Some(mut envelope) = message.envelope(&self.me) else { return Ok(()) };
        if let Some((media, mime_type)) = message.media() {
            match self.fetch(media, mime_type).await {
                Ok(attachment) => envelope.attachments.push(attachment),
                Err(why) => {
                    let apart = if envelope.text.is_empty() { "" } else { "\n\n" };
                    envelope.text.push_str(&format!("{apart}[media unavailable: {why}]"));
                }
            }
        }
        Ok(self.link.receive(envelope).await?)
    }

    async fn fetch(&self, media: &Media, mime_type: &str) -> Result<Attachment, String> {
        let limit = self.settings.media_max;
        if media.file_size.is_some_and(|size| size > limit) {
            return Err(format!("the file is larger than {} MB (mediaMaxMb)", limit >> 20));
        }
        let mut tries = 1;
        let bytes = loop {
            self.link.alive();
            match self.download(&media.file_id, limit).await {
                Ok(bytes) => break bytes,
                Err(failure @ Failure::Refused { .. }) => return Err(failure.to_string()),
                Err(failure) if tries == FETCHES => return Err(failure.to_string()),
                Err(_) => tries += 1,
            }
        };
        Ok(Attachment {
            mime_type: media.mime_type.clone().unwrap_or_else(|| mime_type.into()),
            file_name: media.file_name.clone(),
            bytes,
        })
    }

    async fn download(&self, file: &FileId, limit: usize) -> Result<Vec<u8>, Failure> {
        #[derive(Deserialize)]
        struct Found {
            file_path: String,
        }
        let found: Found = self.api.call(&GetFile::new(file.clone()), CALL).await?;
        self.api.download(&found.file_path, limit).await
    }

    async fn press(&self, press: &Press) -> Result<(), Trouble> {
        let says = press.data.as_deref().and_then(|data| self.channel.buttons.lock().says(data));
        let envelope = says.and_then(|says| press.envelope(says, &self.me, Utc::now().timestamp_millis()));
        let mut answer = AnswerCallbackQuery::new(press.id.clone());
        match envelope {
            Some(envelope) => self.link.receive(envelope).await?,
            None => {
                answer.text = Some(FORGOTTEN.into());
                answer.show_alert = Some(true);
            }
        }
        // Only the button turns longer if this fails.
        let _ = self.api.call::<_, True>(&answer, PRESSED).await;
        Ok(())
    }

    async fn connected(&self) -> Result<(), Stopped> {
        self.link.say(Heard::Connected(Some(update::of_user(&self.me.user)))).await
    }

    /// Waits before polling again, or ends with what waiting does not help against.
    async fn wait(&self, failure: &Failure, pauses: u32) -> Result<(), Trouble> {
        if let Some(trouble) = failure.trouble() {
            return Err(trouble);
        }
        self.link.say(Heard::Disconnected(format!("no messages from Telegram: {failure}"))).await?;
        let least = match failure {
            Failure::TooMuch { after, .. } => (*after).min(LONGEST_WAIT),
            _ => Duration::ZERO,
        };
        sleep(least.max(PAUSE.saturating_mul(2u32.saturating_pow(pauses)).min(LONGEST_PAUSE))).await;
        Ok(())
    }

    /// Where to go on, if that was told by this bot: another counts differently.
    fn resumed(&self) -> Option<i32> {
        let (bot, next) = self.link.checkpoint()?.split_once(':')?;
        (bot == self.me.user.id.to_string()).then(|| next.parse().ok()).flatten()
    }

    async fn keep(&self, next: Option<i32>) -> Result<(), Stopped> {
        match next {
            Some(next) => self.link.keep(format!("{}:{next}", self.me.user.id)).await,
            None => Ok(()),
        }
    }
}

//! What came in: in the order of each channel, handed in one by one, and fetched where it was missed.

use super::api::{Api, Failure};
use super::known::{Chat, Known, Progress};
use super::said::{File, Said};
use super::{stopped, token_refused};
use crate::channels::contract::{Attachment, Link, SendError, Trouble};
use parking_lot::Mutex;
use serde_json::Value;
use serenity::model::channel::{Message, Reaction};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

/// Messages of a channel that are fetched after we were away; what was written after these is passed over.
const MAX_AWAY: usize = 50;
/// Messages of a channel that are fetched because they came faster than they could be handed in.
const MAX_FLOOD: usize = 1_000;
/// Messages that are fetched at once.
const PAGE: usize = 50;
/// How often it is looked whether something is to be fetched or kept.
const LOOK: Duration = Duration::from_secs(2);
/// Least time between two places that are kept.
const KEEP: Duration = Duration::from_secs(1);
/// Pause before something is fetched again.
const FETCH_AGAIN: Duration = Duration::from_secs(5);
/// Longest time Discord is left alone before something is fetched again.
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// Files of a message that are fetched; Discord takes no more.
const MAX_FILES: usize = 10;

/// What came in.
pub(super) enum Come {
    Message(Box<Message>),
    /// A command, a button; and who wants to know when it is durable.
    Said(Box<Said>, oneshot::Sender<()>),
    Reacted(Box<Reaction>),
}

/// What was handed in, and what is still to be fetched.
pub(super) struct Backlog {
    pub progress: Mutex<Progress>,
    /// Channels of which something was missed, and how much at most is fetched.
    behind: Mutex<BTreeMap<u64, usize>>,
    wake: Notify,
}

impl Backlog {
    pub(super) fn new(progress: Progress) -> Self {
        Self { progress: Mutex::new(progress), behind: Mutex::default(), wake: Notify::new() }
    }

    /// We were away: something may have been missed everywhere.
    pub(super) fn away(&self) {
        let mut behind = self.behind.lock();
        self.progress.lock().channels().for_each(|channel| _ = behind.entry(channel).or_insert(MAX_AWAY));
        self.wake.notify_one();
    }

    /// This message is there, and will be handed in: from here on something can be missed.
    pub(super) fn came(&self, channel: u64, message: u64) {
        let mut progress = self.progress.lock();
        if progress.of(channel).is_none() {
            progress.note(channel, message - 1);
        }
    }

    /// Something could not be handed in now, so that neither can what follows it in its channel.
    pub(super) fn missed(&self, channel: u64) {
        self.behind.lock().insert(channel, MAX_FLOOD);
        self.wake.notify_one();
    }

    fn is_behind(&self, channel: u64) -> bool {
        self.behind.lock().contains_key(&channel)
    }
}

/// Hands in what comes.
pub(super) struct Inbox {
    api: Arc<Api>,
    pub(super) known: Arc<Known>,
    backlog: Arc<Backlog>,
    pub(super) link: Link,
    /// The largest file that is fetched, in bytes.
    max_file: usize,
    kept: String,
    kept_at: Instant,
    fetch_at: Instant,
}

impl Inbox {
    pub(super) fn new(
        api: Arc<Api>,
        known: Arc<Known>,
        backlog: Arc<Backlog>,
        link: Link,
        max_file: usize,
    ) -> Self {
        let (kept, now) = (backlog.progress.lock().write(), Instant::now());
        Self { api, known, backlog, link, max_file, kept, kept_at: now, fetch_at: now }
    }

    /// Works until it is stopped, or the token is none any more.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Come>) -> Trouble {
        let backlog = self.backlog.clone();
        let mut look = tokio::time::interval(LOOK);
        loop {
            let done = tokio::select! {
                // What was missed comes before what comes now.
                biased;
                () = backlog.wake.notified() => self.catch_up().await,
                _ = look.tick() => self.catch_up().await,
                Some(come) = queue.recv() => self.take(come).await,
            };
            let done = match done {
                Ok(()) => self.keep().await,
                failed => failed,
            };
            if let Err(trouble) = done {
                return trouble;
            }
        }
    }

    async fn take(&mut self, come: Come) -> Result<(), Trouble> {
        let (said, durable) = match come {
            Come::Said(said, durable) => (*said, Some(durable)),
            Come::Reacted(reaction) => return self.reacted(*reaction).await,
            // It is fetched after what comes before it.
            Come::Message(message) if self.backlog.is_behind(message.channel_id.get()) => return Ok(()),
            Come::Message(message) => {
                let (channel, id) = (message.channel_id.get(), message.id.get());
                let Some(said) = self.said(*message) else {
                    self.backlog.progress.lock().note(channel, id);
                    return Ok(());
                };
                (said, None)
            }
        };
        let (channel, is_kept) = (said.channel, said.is_kept);
        let plain = Chat { is_direct: said.guild.is_none(), guild: said.guild, ..Chat::default() };
        let chat = match plain.is_direct {
            true => Ok(plain.clone()),
            false => self.known.chat(channel).await,
        };
        let done = match chat {
            Ok(chat) => self.hand_in(said, &chat).await,
            Err(Failure::Token) => Err(token_refused()),
            Err(failure) if is_kept && failure.may_pass() => {
                tracing::debug!(target: "crabtree::discord", channel, "not known what it is: {failure}");
                self.backlog.missed(channel);
                Ok(())
            }
            Err(_) => self.hand_in(said, &plain).await,
        };
        if done.is_ok()
            && let Some(durable) = durable
        {
            let _ = durable.send(());
        }
        done
    }

    fn said(&self, message: Message) -> Option<Said> {
        let me = self.known.me.lock();
        Said::message(message, me.as_ref()?)
    }

    async fn hand_in(&mut self, mut said: Said, chat: &Chat) -> Result<(), Trouble> {
        let (channel, id, is_kept) = (said.channel, said.id, said.is_kept);
        if chat.is_direct
            && let Ok(user) = said.from.id.parse()
        {
            self.known.is_direct(user, channel);
        }
        if let Some(guild) = chat.guild
            && !said.named_roles.is_empty()
            && let Ok(Some(mine)) = self.known.role(guild).await
        {
            said.mentions_me |= said.named_roles.contains(&mine);
        }
        let files = std::mem::take(&mut said.files);
        let roles = said.roles.take().unwrap_or_default();
        let mut envelope = said.envelope(chat, roles);
        for file in files.into_iter().take(MAX_FILES) {
            match self.file(&file).await {
                Ok(attachment) => envelope.attachments.push(attachment),
                Err(why) => {
                    envelope.text += &format!("\n[the file {} is not here: {why}]", file.name);
                }
            }
        }
        self.link.receive(envelope).await.map_err(stopped)?;
        if is_kept {
            self.backlog.progress.lock().note(channel, id);
        }
        Ok(())
    }

    async fn file(&self, file: &File) -> Result<Attachment, String> {
        if file.size > self.max_file {
            return Err(format!(
                "it has {} MB, and channels.discord.mediaMaxMb is {}",
                file.size.div_ceil(1 << 20),
                self.max_file >> 20
            ));
        }
        let bytes = self.api.fetch(&file.url, file.size).await?;
        let mime_type = file.mime_type.as_deref().unwrap_or("application/octet-stream");
        // `text/plain; charset=utf-8`: what is told of the type beside it is of no use to anybody.
        let mime_type = mime_type.split(';').next().unwrap_or_default().trim().to_owned();
        Ok(Attachment { mime_type, file_name: Some(file.name.clone()), bytes })
    }

    /// Fetches what was missed.
    async fn catch_up(&mut self) -> Result<(), Trouble> {
        while Instant::now() >= self.fetch_at {
            // Who is taken out here and writes now comes after what is fetched, or is fetched as well.
            let Some((channel, most)) = self.backlog.behind.lock().pop_first() else { return Ok(()) };
            match self.fetch(channel, most).await {
                Ok(()) => {}
                Err(Missed::Trouble(trouble)) => return Err(trouble),
                Err(Missed::Failure(Failure::Token)) => return Err(token_refused()),
                Err(Missed::Failure(failure)) if failure.may_pass() => {
                    tracing::debug!(target: "crabtree::discord", channel, "not caught up with: {failure}");
                    self.backlog.behind.lock().insert(channel, most);
                    let pause = match failure {
                        Failure::Call(SendError::Later { after: Some(after), .. }) => after.min(MAX_PAUSE),
                        _ => FETCH_AGAIN,
                    };
                    self.fetch_at = Instant::now() + pause;
                }
                Err(Missed::Failure(gone)) => {
                    tracing::debug!(target: "crabtree::discord", channel, "nothing to catch up with: {gone}");
                    self.backlog.progress.lock().forget(channel);
                }
            }
        }
        Ok(())
    }

    async fn fetch(&mut self, channel: u64, most: usize) -> Result<(), Missed> {
        let name = channel.to_string();
        let chat = self.known.chat(channel).await?;
        let mut roles = HashMap::new();
        let mut left = most;
        while left > 0 {
            let Some(last) = self.backlog.progress.lock().of(channel) else { return Ok(()) };
            let (after, limit) = (last.to_string(), left.min(PAGE));
            let query = [("after", after.as_str()), ("limit", &limit.to_string())];
            let page: Vec<Value> = self.api.get(&["channels", &name, "messages"], &query).await?;
            let is_last = page.len() < limit;
            left -= page.len().min(left);
            // What is not a message as we know them stands in nobody's way.
            let page = page.into_iter().filter_map(|message| serde_json::from_value::<Message>(message).ok());
            let mut page: Vec<_> = page.collect();
            page.sort_by_key(|message| message.id);
            for message in page {
                let id = message.id.get();
                let Some(mut said) = self.said(message) else {
                    self.backlog.progress.lock().note(channel, id);
                    continue;
                };
                if let Some(guild) = chat.guild {
                    if !roles.contains_key(&said.from.id) {
                        roles.insert(said.from.id.clone(), self.known.roles_of(guild, &said.from.id).await?);
                    }
                    said.roles = roles.get(&said.from.id).cloned();
                }
                self.hand_in(said, &chat).await.map_err(Missed::Trouble)?;
                self.keep().await.map_err(Missed::Trouble)?;
            }
            if is_last {
                return Ok(());
            }
        }
        tracing::warn!(target: "crabtree::discord", channel, "more than {most} were missed, the later are passed over");
        Ok(())
    }

    /// Keeps how far it has come, if that is news and not too soon.
    async fn keep(&mut self) -> Result<(), Trouble> {
        if self.kept_at.elapsed() < KEEP {
            return Ok(());
        }
        let place = self.backlog.progress.lock().write();
        if place != self.kept {
            self.link.keep(place.clone()).await.map_err(stopped)?;
            (self.kept, self.kept_at) = (place, Instant::now());
        }
        Ok(())
    }
}

/// Why what was missed could not be fetched.
enum Missed {
    Trouble(Trouble),
    Failure(Failure),
}

impl From<Failure> for Missed {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

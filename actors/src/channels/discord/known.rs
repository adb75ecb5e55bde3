//! What is known of the platform: who we are, what its chats are, how far each was handed in.

use super::api::{Api, Body, Failure};
use crate::channels::contract::SendError;
use parking_lot::Mutex;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Chats, people, servers and buttons of which something is kept in memory, each; the oldest makes room.
const MAX_KNOWN: usize = 1_000;
/// Channels of which it is kept how far they were handed in; the one that was silent for longest makes room.
const MAX_CHANNELS: usize = 200;
/// Types of channels that are direct chats of two people.
const DIRECT: u8 = 1;
/// Types of channels that are threads.
const THREADS: std::ops::RangeInclusive<u8> = 10..=12;

/// Who we are.
#[derive(Clone, Debug)]
pub(super) struct Me {
    pub id: u64,
    pub name: String,
}

/// A channel of Discord's: a direct chat, a channel of a server, a thread of one.
#[derive(Clone, Debug, Default)]
pub(super) struct Chat {
    pub is_direct: bool,
    pub title: Option<String>,
    /// The channel it is a thread of.
    pub parent: Option<String>,
    pub guild: Option<u64>,
}

/// What was heard of lately, by its key.
pub(super) struct Recent<K, V>(Mutex<VecDeque<(K, V)>>);

impl<K: PartialEq, V: Clone> Recent<K, V> {
    fn new() -> Self {
        Self(Mutex::new(VecDeque::new()))
    }

    pub(super) fn get(&self, key: &K) -> Option<V> {
        self.0.lock().iter().find(|(known, _)| known == key).map(|(_, value)| value.clone())
    }

    pub(super) fn keep(&self, key: K, value: V) {
        let mut all = self.0.lock();
        all.retain(|(known, _)| *known != key);
        if all.len() == MAX_KNOWN {
            all.pop_front();
        }
        all.push_back((key, value));
    }

    pub(super) fn forget(&self, key: &K) {
        self.0.lock().retain(|(known, _)| known != key);
    }
}

/// What is known of the platform.
pub(super) struct Known {
    api: Arc<Api>,
    pub me: Mutex<Option<Me>>,
    /// By the channel.
    pub chats: Recent<u64, Chat>,
    /// The channel of the direct chat with somebody.
    direct: Recent<u64, u64>,
    /// Our role in a server, if we have one.
    roles: Recent<u64, Option<u64>>,
    /// What a button says that has no room for it.
    pub buttons: Recent<String, String>,
}

#[derive(Deserialize)]
struct ChannelOf {
    #[serde(rename = "type")]
    kind: u8,
    name: Option<String>,
    parent_id: Option<String>,
    guild_id: Option<String>,
}

#[derive(Deserialize)]
struct RoleOf {
    id: String,
    #[serde(default)]
    tags: Tags,
}

#[derive(Default, Deserialize)]
struct Tags {
    bot_id: Option<String>,
}

#[derive(Deserialize)]
struct MemberOf {
    roles: Vec<String>,
}

impl Known {
    pub(super) fn new(api: Arc<Api>) -> Self {
        Self {
            api,
            me: Mutex::new(None),
            chats: Recent::new(),
            direct: Recent::new(),
            roles: Recent::new(),
            buttons: Recent::new(),
        }
    }

    /// What a channel is.
    pub(super) async fn chat(&self, channel: u64) -> Result<Chat, Failure> {
        if let Some(known) = self.chats.get(&channel) {
            return Ok(known);
        }
        let found: ChannelOf = self.api.get(&["channels", &channel.to_string()], &[]).await?;
        let chat = Chat {
            is_direct: found.kind == DIRECT,
            title: found.name,
            parent: found.parent_id.filter(|_| THREADS.contains(&found.kind)),
            guild: found.guild_id.and_then(|id| id.parse().ok()),
        };
        self.chats.keep(channel, chat.clone());
        Ok(chat)
    }

    /// The channel of the direct chat with somebody.
    pub(super) async fn direct(&self, user: u64) -> Result<u64, Failure> {
        if let Some(known) = self.direct.get(&user) {
            return Ok(known);
        }
        #[derive(Deserialize)]
        struct Opened {
            id: String,
        }
        let asked = Body::Json(json!({ "recipient_id": user.to_string() }));
        let opened: Opened = self.api.call(Method::POST, &["users", "@me", "channels"], asked).await?;
        let channel = opened.id.parse().map_err(|_| Failure::refused("Discord opened no channel"))?;
        self.direct.keep(user, channel);
        Ok(channel)
    }

    /// Where the direct chat with somebody is.
    pub(super) fn is_direct(&self, user: u64, channel: u64) {
        if self.direct.get(&user) != Some(channel) {
            self.direct.keep(user, channel);
        }
    }

    /// Our own role in a server: the one Discord made for us.
    pub(super) async fn role(&self, guild: u64) -> Result<Option<u64>, Failure> {
        if let Some(known) = self.roles.get(&guild) {
            return Ok(known);
        }
        let me = self.me.lock().as_ref().map(|me| me.id.to_string());
        let found: Vec<RoleOf> = self.api.get(&["guilds", &guild.to_string(), "roles"], &[]).await?;
        let mine = found.iter().find(|role| role.tags.bot_id.is_some() && role.tags.bot_id == me);
        let mine = mine.and_then(|role| role.id.parse().ok());
        self.roles.keep(guild, mine);
        Ok(mine)
    }

    /// The roles of somebody in a server; none of somebody who has left it.
    pub(super) async fn roles_of(&self, guild: u64, user: &str) -> Result<Vec<String>, Failure> {
        let path = ["guilds", &guild.to_string(), "members", user];
        match self.api.get(&path, &[]).await {
            Err(Failure::Call(SendError::Refused(_))) => Ok(vec![]),
            found => found.map(|member: MemberOf| member.roles),
        }
    }
}

/// How far each channel was handed in: the last message of it.
#[derive(Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(default)]
pub(super) struct Progress {
    last: BTreeMap<u64, u64>,
}

impl Progress {
    /// As it was kept; nothing if that cannot be read any more.
    pub(super) fn read(kept: Option<&str>) -> Self {
        kept.and_then(|kept| serde_json::from_str(kept).ok()).unwrap_or_default()
    }

    pub(super) fn write(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Everything up to this message was handed in.
    pub(super) fn note(&mut self, channel: u64, message: u64) {
        let last = self.last.entry(channel).or_default();
        *last = message.max(*last);
        if self.last.len() > MAX_CHANNELS
            && let Some((&silent, _)) = self.last.iter().min_by_key(|(_, last)| **last)
        {
            self.last.remove(&silent);
        }
    }

    pub(super) fn of(&self, channel: u64) -> Option<u64> {
        self.last.get(&channel).copied()
    }

    pub(super) fn forget(&mut self, channel: u64) {
        self.last.remove(&channel);
    }

    pub(super) fn channels(&self) -> impl Iterator<Item = u64> {
        self.last.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_channel_that_was_silent_for_longest_makes_room() {
        let mut progress = Progress::default();
        (0..MAX_CHANNELS as u64).for_each(|channel| progress.note(channel, 1_000 + channel));
        progress.note(5, 7);
        assert_eq!(progress.of(5), Some(1_005), "that is older than what was handed in already");
        progress.note(0, 5_000);
        progress.note(900, 6_000);
        assert_eq!(progress.channels().count(), MAX_CHANNELS);
        assert_eq!((progress.of(0), progress.of(1)), (Some(5_000), None));
        assert_eq!(Progress::read(Some(&progress.write())), progress);
        assert_eq!(Progress::read(Some("{")), Progress::default());
    }

    #[test]
    fn what_is_known_has_an_end() {
        let recent = Recent::new();
        (0..=MAX_KNOWN).for_each(|key| recent.keep(key, ()));
        assert_eq!((recent.get(&0), recent.get(&1)), (None, Some(())));
        recent.forget(&1);
        assert_eq!(recent.get(&1), None);
    }
}

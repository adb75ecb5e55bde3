//! Where a session's messages come from: written into its key, and read back from it.
//!
//! | key | what |
//! |---|---|
//! | `agent:<id>:main` | the main session |
//! | `agent:<id>:direct:<peer>` | one person, on whatever channel |
//! | `agent:<id>:<channel>:direct:<peer>` | one person on one channel |
//! | `agent:<id>:<channel>:<account>:direct:<peer>` | one person on one account of a channel |
//! | `agent:<id>:<channel>:group:<peer>`, `…:channel:<peer>` | a group, a channel or room |
//! | `…:topic:<id>` | a topic of a group |
//! | `…:thread:<id>` | a thread of any of them |
//! | `agent:<id>:cron:…`, `hook:…`, `subagent:…`, `explicit:…`, `heartbeat…` | work that a program hands in |

use super::SessionKey;
use crate::refusal::Refusal;
use crate::value::string_enum;

string_enum! {
    /// What kind of chat messages come from.
    one_of pub enum ChatType {
        /// Between two.
        Direct = "direct",
        /// Among several.
        Group = "group",
        /// A channel or room.
        Channel = "channel",
    }
}

string_enum! {
    /// How a session is worked with.
    one_of pub enum SessionMode {
        /// One person talks with the agent: the main session, direct messages, dashboards, bare keys.
        Main = "main",
        /// Several people do: one session for each group, channel or room.
        Group = "group",
        /// Nobody does: automations, hooks, subagents and explicit runs hand in work, done one after the other.
        Queue = "queue",
    }
}

/// What a key says of the chat its messages come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// The channel; none if the session follows a person over all of them.
    pub channel: Option<&'a str>,
    /// The account of the channel, where the key tells accounts apart.
    pub account: Option<&'a str>,
    /// What kind of chat.
    pub chat_type: ChatType,
    /// The person, group or channel.
    pub peer: &'a str,
    /// The topic of a group.
    pub topic: Option<&'a str>,
}

/// First words of a key that are no channel, and what their sessions are classified as.
const QUEUES: [&str; 5] = ["cron", "hook", "subagent", "explicit", "heartbeat"];
const NO_CHANNELS: [&str; 4] = ["agent", "main", "dashboard", "acp"];
const TOPIC: &str = ":topic:";
const THREAD: &str = ":thread:";
/// Stands for a channel or group without a name.
const UNKNOWN: &str = "unknown";

impl SessionKey {
    /// The session with one person, on whatever channel.
    ///
    /// # Errors
    /// As [`SessionKey::canonical`].
    pub fn of_peer(agent_id: &str, peer: &str) -> Result<Self, Refusal> {
        Self::canonical(&format!("agent:{agent_id}:direct:{}", peer.trim().to_lowercase()), agent_id)
    }

    /// The session of a chat on a channel; `account` only where accounts are told apart, which OpenClaw does for
    /// direct messages.
    ///
    /// # Errors
    /// As [`SessionKey::canonical`].
    pub fn of_chat(
        agent_id: &str,
        channel: &str,
        account: Option<&str>,
        chat: ChatType,
        peer: &str,
    ) -> Result<Self, Refusal> {
        let channel = known(channel.trim().to_lowercase());
        let peer = match peer.trim() {
            opaque if keeps_case(&channel, chat) => known(opaque.to_owned()),
            plain => known(plain.to_lowercase()),
        };
        let account = account.map(|account| match account.trim() {
            "" => "default:".to_owned(),
            named => format!("{}:", named.to_lowercase()),
        });
        let account = account.unwrap_or_default();
        Self::canonical(&format!("agent:{agent_id}:{channel}:{account}{chat}:{peer}"), agent_id)
    }

    /// The session of a topic of this group.
    ///
    /// # Errors
    /// As [`SessionKey::canonical`].
    pub fn topic(&self, id: &str) -> Result<Self, Refusal> {
        self.below(TOPIC, id)
    }

    /// The session of a thread of this chat.
    ///
    /// # Errors
    /// As [`SessionKey::canonical`].
    pub fn thread(&self, id: &str) -> Result<Self, Refusal> {
        self.below(THREAD, id)
    }

    fn below(&self, marker: &str, id: &str) -> Result<Self, Refusal> {
        match id.trim() {
            "" => Ok(self.clone()),
            id => Self::canonical(&format!("{self}{marker}{}", id.to_lowercase()), self.agent_id()),
        }
    }

    /// The chat whose messages this session holds; none for the main session and for those that no channel made.
    pub fn place(&self) -> Option<Place<'_>> {
        let (first, rest) = self.without_thread().split_once(':')?;
        if let Some(ChatType::Direct) = chat_type(first) {
            return Some(Place::new(None, None, ChatType::Direct, rest));
        }
        if QUEUES.contains(&first) || NO_CHANNELS.contains(&first) {
            return None;
        }
        let (second, rest) = rest.split_once(':')?;
        if let Some(chat) = chat_type(second) {
            return (!rest.is_empty()).then(|| Place::new(Some(first), None, chat, rest));
        }
        let (third, peer) = rest.split_once(':')?;
        let direct = chat_type(third) == Some(ChatType::Direct) && !second.is_empty() && !peer.is_empty();
        direct.then(|| Place::new(Some(first), Some(second), ChatType::Direct, peer))
    }

    /// The thread.
    pub fn thread_id(&self) -> Option<&str> {
        self.rest().rsplit_once(THREAD).map(|(_, id)| id).filter(|id| !id.is_empty())
    }

    fn without_thread(&self) -> &str {
        self.rest().rsplit_once(THREAD).map_or(self.rest(), |(base, _)| base)
    }

    fn first_word(&self) -> &str {
        self.rest().split(':').next().unwrap_or_default()
    }

    /// How the session is worked with.
    pub fn mode(&self) -> SessionMode {
        match self.place() {
            Some(place) if place.chat_type != ChatType::Direct => SessionMode::Group,
            None if QUEUES.contains(&self.first_word()) => SessionMode::Queue,
            _ => SessionMode::Main,
        }
    }

    /// `kind` of a session row, given what is known of its chat from elsewhere.
    pub fn kind(&self, known: Option<ChatType>) -> &'static str {
        match self.chat_type(known) {
            Some(ChatType::Group | ChatType::Channel) => "group",
            _ => "direct",
        }
    }

    /// `chatType` of a session row: what is known of its chat from elsewhere, else what the key tells.
    pub fn chat_type(&self, known: Option<ChatType>) -> Option<ChatType> {
        known.or_else(|| self.place().map(|place| place.chat_type))
    }

    /// `classification` of a session row, given what is known of its chat from elsewhere.
    pub fn classification(&self, known: Option<ChatType>) -> &'static str {
        if self.is_main() {
            return "main";
        }
        if self.thread_id().is_some() {
            return "thread";
        }
        let queue = QUEUES.into_iter().find(|queue| *queue == self.first_word());
        match (queue, self.chat_type(known)) {
            (Some(queue), _) => queue,
            (None, Some(chat)) => chat.name(),
            (None, None) if self.first_word() == "dashboard" => "dashboard",
            (None, None) => "custom",
        }
    }
}

impl<'a> Place<'a> {
    fn new(channel: Option<&'a str>, account: Option<&'a str>, chat_type: ChatType, peer: &'a str) -> Self {
        let (peer, topic) = match peer.rsplit_once(TOPIC) {
            Some((peer, topic)) if chat_type != ChatType::Direct => (peer, Some(topic)),
            _ => (peer, None),
        };
        Self { channel, account, chat_type, peer, topic }
    }
}

/// `dm` is how older keys say `direct`.
fn chat_type(word: &str) -> Option<ChatType> {
    if word == "dm" { Some(ChatType::Direct) } else { ChatType::from_name(word) }
}

/// Whether ids of these chats differ in case only.
fn keeps_case(channel: &str, chat: ChatType) -> bool {
    matches!((channel, chat), ("signal", ChatType::Group) | ("matrix", ChatType::Group | ChatType::Channel))
}

fn known(name: String) -> String {
    if name.is_empty() { UNKNOWN.to_owned() } else { name }
}

#[cfg(test)]
mod tests;

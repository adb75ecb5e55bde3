//! Which session a message from a channel belongs to.

use std::collections::BTreeMap;

use crabtree_protocol::session_key::ChatType;
use crabtree_protocol::{Refusal, SessionKey};

use crate::reset::ResetType;
use crate::settings::{DmScope, GroupScope, SessionSettings};

/// Where a message comes from, as its channel tells.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The channel.
    pub channel: &'a str,
    /// The account of the channel it came in at.
    pub account: Option<&'a str>,
    /// What kind of chat.
    pub chat_type: ChatType,
    /// Who wrote, if it is a direct message, else the group or channel.
    pub peer: &'a str,
    /// The topic of the group, where topics have keys of their own.
    pub topic: Option<&'a str>,
    /// The thread, where threads have sessions of their own.
    pub thread: Option<&'a str>,
}

/// What shares a session; a binding may say otherwise than the settings do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scopes {
    /// Direct messages.
    pub dm: DmScope,
    /// Groups, channels and rooms.
    pub group: GroupScope,
}

impl From<&SessionSettings> for Scopes {
    fn from(session: &SessionSettings) -> Self {
        Self { dm: session.dm_scope, group: session.group_scope }
    }
}

/// The session of `agent_id` that a message belongs to.
///
/// # Errors
/// A key that would be too long, or holds control characters.
pub fn session_key(
    agent_id: &str,
    scopes: Scopes,
    links: &BTreeMap<String, Vec<String>>,
    from: &Source<'_>,
) -> Result<SessionKey, Refusal> {
    let chat = |account, peer| SessionKey::of_chat(agent_id, from.channel, account, from.chat_type, peer);
    let base = match (from.chat_type, scopes.dm, scopes.group) {
        (ChatType::Direct, DmScope::Main, _) | (ChatType::Group | ChatType::Channel, _, GroupScope::Main) => {
            SessionKey::main(agent_id)
        }
        (ChatType::Direct, ..) if from.peer.trim().is_empty() => SessionKey::main(agent_id),
        (ChatType::Direct, dm, _) => {
            let peer = linked(links, from).unwrap_or(from.peer);
            match dm {
                DmScope::PerPeer => SessionKey::of_peer(agent_id, peer)?,
                DmScope::PerAccountChannelPeer => chat(Some(from.account.unwrap_or_default()), peer)?,
                DmScope::PerChannelPeer | DmScope::Main => chat(None, peer)?,
            }
        }
        (ChatType::Group | ChatType::Channel, ..) => {
            chat(None, from.peer)?.topic(from.topic.unwrap_or_default())?
        }
    };
    base.thread(from.thread.unwrap_or_default())
}

/// The name under which `session.identityLinks` knows whoever wrote.
fn linked<'a>(links: &'a BTreeMap<String, Vec<String>>, from: &Source<'_>) -> Option<&'a str> {
    let alone = from.peer.trim().to_lowercase();
    let on_channel = format!("{}:{alone}", from.channel.trim().to_lowercase());
    let known = |id: &String| [&alone, &on_channel].contains(&&id.trim().to_lowercase());
    let names = links.iter().filter(|(name, ids)| !name.trim().is_empty() && ids.iter().any(known));
    names.map(|(name, _)| name.trim()).next()
}

/// Which of the reset policies a session falls under.
pub fn reset_type(key: &SessionKey, chat: Option<ChatType>) -> ResetType {
    let topic = key.place().and_then(|place| place.topic);
    match key.chat_type(chat) {
        _ if topic.or(key.thread_id()).is_some() => ResetType::Thread,
        Some(ChatType::Group | ChatType::Channel) => ResetType::Group,
        _ => ResetType::Direct,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links() -> BTreeMap<String, Vec<String>> {
        let ids = ["telegram:123", "discord:987", "+4912345"].map(String::from);
        BTreeMap::from([("Alice".to_owned(), ids.to_vec())])
    }

    fn from<'a>(channel: &'a str, chat_type: ChatType, peer: &'a str) -> Source<'a> {
        Source { channel, account: None, chat_type, peer, topic: None, thread: None }
    }

    /// accepts: C6, I2
    #[test]
    fn direct_messages_follow_the_scope_and_the_links() {
        use DmScope::{Main, PerAccountChannelPeer, PerChannelPeer, PerPeer};
        let telegram = from("telegram", ChatType::Direct, "123");
        let discord = from("Discord", ChatType::Direct, "987");
        let stranger = Source { account: Some("Work"), ..from("telegram", ChatType::Direct, "55") };
        let nobody = from("telegram", ChatType::Direct, " ");
        let rows = [
            (Main, &telegram, "agent:main:main"),
            (PerPeer, &telegram, "agent:main:direct:alice"),
            (PerPeer, &discord, "agent:main:direct:alice"),
            (PerPeer, &from("whatsapp", ChatType::Direct, "+4912345"), "agent:main:direct:alice"),
            (PerPeer, &stranger, "agent:main:direct:55"),
            (PerChannelPeer, &telegram, "agent:main:telegram:direct:alice"),
            (PerChannelPeer, &stranger, "agent:main:telegram:direct:55"),
            (PerAccountChannelPeer, &stranger, "agent:main:telegram:work:direct:55"),
            (PerAccountChannelPeer, &discord, "agent:main:discord:default:direct:alice"),
            (PerChannelPeer, &nobody, "agent:main:main"),
            (PerPeer, &Source { thread: Some("17.5"), ..stranger }, "agent:main:direct:55:thread:17.5"),
        ];
        for (dm, source, expected) in rows {
            let scopes = Scopes { dm, group: GroupScope::PerGroup };
            let key = session_key("main", scopes, &links(), source).expect("a key");
            assert_eq!(key.as_str(), expected, "{dm:?} {source:?}");
        }
    }

    /// accepts: C6, I2, I3
    #[test]
    fn groups_follow_theirs() {
        use GroupScope::{Main, PerGroup};
        let topic = Source { topic: Some("42"), ..from("telegram", ChatType::Group, "-1001") };
        let thread = Source { thread: Some("T9"), ..from("slack", ChatType::Channel, "C01") };
        let rows = [
            (PerGroup, &topic, "agent:ops:telegram:group:-1001:topic:42", "group", ResetType::Thread),
            (PerGroup, &thread, "agent:ops:slack:channel:c01:thread:t9", "group", ResetType::Thread),
            (
                PerGroup,
                &from("discord", ChatType::Group, "123"),
                "agent:ops:discord:group:123",
                "group",
                ResetType::Group,
            ),
            (Main, &topic, "agent:ops:main", "main", ResetType::Direct),
            (Main, &thread, "agent:ops:main:thread:t9", "main", ResetType::Thread),
        ];
        for (group, source, expected, mode, reset) in rows {
            let scopes = Scopes { dm: DmScope::Main, group };
            let key = session_key("ops", scopes, &links(), source).expect("a key");
            assert_eq!((key.as_str(), key.mode().name()), (expected, mode));
            assert_eq!(reset_type(&key, None), reset, "{expected}");
        }
        let long = "p".repeat(600);
        let scopes = Scopes::from(&SessionSettings::default());
        assert!(session_key("ops", scopes, &links(), &from("x", ChatType::Group, &long)).is_err());
    }
}

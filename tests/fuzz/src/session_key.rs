//! Names of sessions: brought into their form they stay in it, and say again what they were made of.

use crate::Target;
use crabtree_actors::routing::{Scopes, Source, reset_type, session_key};
use crabtree_actors::settings::{DmScope, GroupScope};
use crabtree_protocol::SessionKey;
use crabtree_protocol::session_key::{ChatType, MAX_SESSION_KEY_CHARS};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// See the module.
pub const TARGET: Target = Target {
    name: "session_key",
    read,
    steps: 2,
    seeds,
    words: &[
        "agent:",
        ":",
        "main",
        "direct:",
        "dm:",
        "group:",
        "channel:",
        ":topic:",
        ":thread:",
        "cron:",
        "hook:run:",
        "subagent:",
        "acp:",
        "\n",
        "\u{a0}",
        "\u{130}",
        "\u{212a}",
        "telegram",
        "\u{85}",
        "AGENT:",
    ],
    inputs: 40_000,
};

/// A key as clients write it; on more lines, who writes where: channel, account, peer, topic, thread.
fn seeds() -> Vec<String> {
    let called = crate::recorded_requests();
    let names = ["sessionKey", "key", "parentSessionKey"];
    let recorded = called.iter().flat_map(|call| names.map(|name| call["params"][name].as_str()));
    let tables = [
        "main",
        "agent:main:main",
        "agent:ops:telegram:group:-1001:topic:42",
        "agent:main:telegram:work:direct:55",
        "agent:main:direct:alice:thread:17.5",
        "agent:main:cron:48918144",
        "agent:main:hook:run:1",
        "acp-bridge:987beccf",
        "telegram\nwork\n123\n\n",
        "Discord\n\n987\n42\n",
        "slack\n \nC01\n\nT9",
        "signal\n\nGroup.Abc=\n\n",
        "matrix\n\n!Room:server\n\n$event",
    ];
    let mut seeds: Vec<String> = recorded.flatten().chain(tables).map(str::to_owned).collect();
    seeds.sort_unstable();
    seeds.dedup();
    seeds
}

/// Refused, a key.
fn read(input: &[u8]) -> usize {
    let text = String::from_utf8_lossy(input);
    let mut lines = text.split('\n');
    let mut line = || lines.next().unwrap_or_default();
    let (channel, account, peer, topic, thread) = (line(), line(), line(), line(), line());
    if peer.is_empty() { named(&text) } else { routed(channel, account, peer, topic, thread) }
}

/// A key as a client writes it.
fn named(text: &str) -> usize {
    let Ok(key) = SessionKey::canonical(text, "main") else { return 0 };
    stays(&key);
    // Who may not name the gateway's own sessions does not get there by another spelling.
    assert!(SessionKey::is_reserved(text) || !SessionKey::is_reserved(key.as_str()), "{key}");
    for id in ["1", " T9 ", ""] {
        for below in [key.topic(id), key.thread(id)].into_iter().flatten() {
            stays(&below);
            assert!(below.as_str().starts_with(key.as_str()));
        }
    }
    1
}

/// What holds of every key.
fn stays(key: &SessionKey) {
    for default in ["main", "another"] {
        assert_eq!(SessionKey::canonical(key.as_str(), default).as_ref(), Ok(key));
    }
    assert_eq!(format!("agent:{}:{}", key.agent_id(), key.rest()), key.as_str());
    assert!(key.as_str().chars().count() <= MAX_SESSION_KEY_CHARS);
    assert!(!key.as_str().contains(char::is_control));
    assert_eq!(serde_json::from_value::<SessionKey>(json!(key)).unwrap(), *key);
    assert_eq!(key.is_main(), key.classification(None) == "main");
    assert_eq!(
        key.kind(None) == "group",
        key.place().is_some_and(|place| place.chat_type != ChatType::Direct)
    );
    let _ = (key.mode(), key.thread_id(), reset_type(key, None));
    let parts = key.place().map(|place| [place.channel, place.account, Some(place.peer), place.topic]);
    assert!(parts.into_iter().flatten().flatten().all(|part| key.rest().contains(part)));
}

/// The key that a message belongs to, for every rule there is.
fn routed(channel: &str, account: &str, peer: &str, topic: &str, thread: &str) -> usize {
    let links = BTreeMap::from([("Alice".to_owned(), vec!["telegram:123".to_owned()])]);
    let scopes = [
        (DmScope::Main, GroupScope::Main),
        (DmScope::PerPeer, GroupScope::PerGroup),
        (DmScope::PerChannelPeer, GroupScope::PerGroup),
        (DmScope::PerAccountChannelPeer, GroupScope::PerGroup),
    ];
    let mut reached = 0;
    for (dm, group) in scopes {
        for chat_type in [ChatType::Direct, ChatType::Group, ChatType::Channel] {
            let (topic, thread) = (Some(topic), Some(thread));
            let source = Source { channel, account: Some(account), chat_type, peer, topic, thread };
            let Ok(key) = session_key("ops", Scopes { dm, group }, &links, &source) else { continue };
            stays(&key);
            assert_eq!(key.agent_id(), "ops");
            is_as_made(&key, &source, (dm, group));
            reached = 1;
        }
    }
    reached
}

/// What a key was made of is what it says, where nothing in it looks like a part of a key.
fn is_as_made(key: &SessionKey, from: &Source<'_>, (dm, group): (DmScope, GroupScope)) {
    let parts = [Some(from.channel), from.account, Some(from.peer), from.topic, from.thread];
    if parts.into_iter().flatten().any(|part| part.contains(':')) {
        return;
    }
    let thread = from.thread.map(str::trim).filter(|thread| !thread.is_empty()).map(str::to_lowercase);
    assert_eq!(key.thread_id(), thread.as_deref());
    let is_main = match from.chat_type {
        ChatType::Direct => dm == DmScope::Main || from.peer.trim().is_empty(),
        ChatType::Group | ChatType::Channel => group == GroupScope::Main,
    };
    let channel = from.channel.trim().to_lowercase();
    // What no channel is called would not be read as one.
    let odd = ["agent", "main", "dashboard", "acp", "cron", "hook", "subagent", "explicit", "heartbeat"];
    let odd = odd.iter().chain(&["direct", "dm", "group", "channel"]).any(|word| *word == channel);
    if is_main || odd {
        return;
    }
    let place = key.place().unwrap_or_else(|| panic!("no place in {key}"));
    assert_eq!(place.chat_type, from.chat_type, "{key}");
    assert!(matches!(place.channel, None | Some("unknown")) || place.channel == Some(&*channel), "{key}");
    let peer = from.peer.trim();
    assert!(
        [peer, &peer.to_lowercase(), "unknown", "alice"].contains(&place.peer),
        "{key}: {}",
        Value::from(peer)
    );
    let topic = from.topic.map(str::trim).filter(|topic| !topic.is_empty()).map(str::to_lowercase);
    let topic = topic.filter(|_| from.chat_type != ChatType::Direct);
    assert_eq!(place.topic, topic.as_deref(), "{key}");
}

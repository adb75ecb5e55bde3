//! Which agents answer a message: the most particular binding that matches, at eight levels, and at last the agent
//! that answers when nobody else is named. Pure.

use super::contract::{Envelope, Kind};
use crate::settings::{Binding, BindingMatch, BindingPeer, DEFAULT_ACCOUNT};

/// What is known of where a message comes from.
#[derive(Clone, Copy, Debug)]
pub struct From<'a> {
    /// The channel.
    pub channel: &'a str,
    /// The account.
    pub account: &'a str,
    /// The message.
    pub envelope: &'a Envelope,
}

/// How particular a binding is; the first that a message has wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// This chat.
    Peer,
    /// The chat that this is a thread of.
    ParentPeer,
    /// Any chat of its kind.
    PeerWildcard,
    /// A role on a server.
    GuildRoles,
    /// A server.
    Guild,
    /// A team.
    Team,
    /// An account.
    Account,
    /// A channel.
    Channel,
}

/// The binding that decides; the first written of those that are equally particular.
pub fn binding<'b>(bindings: &'b [Binding], from: From<'_>) -> Option<&'b Binding> {
    let matching = bindings.iter().filter_map(|binding| Some((level(&binding.matches, from)?, binding)));
    matching.min_by_key(|(level, _)| *level).map(|(_, binding)| binding)
}

/// How particular a match is; none if anything of it is not so.
fn level(wanted: &BindingMatch, from: From<'_>) -> Option<Level> {
    let place = &from.envelope.place;
    let any_account = wanted.account_id.as_deref() == Some("*");
    let account = wanted.account_id.as_deref().unwrap_or(DEFAULT_ACCOUNT);
    let same = |wanted: &str, is: &str| wanted.trim().eq_ignore_ascii_case(is.trim());
    if !same(&wanted.channel, from.channel) || !(any_account || same(account, from.account)) {
        return None;
    }
    let is = |wanted: &Option<String>, is: &Option<String>| match (wanted, is) {
        (None, _) => true,
        (Some(wanted), Some(is)) => same(wanted, is),
        (Some(_), None) => false,
    };
    let has_role = || wanted.roles.iter().any(|role| place.roles.iter().any(|is| same(role, is)));
    if !is(&wanted.guild_id, &place.guild)
        || !is(&wanted.team_id, &place.team)
        || !(wanted.roles.is_empty() || has_role())
    {
        return None;
    }
    Some(match &wanted.peer {
        Some(peer) => peer_level(peer, from.envelope)?,
        None if !wanted.roles.is_empty() => Level::GuildRoles,
        None if wanted.guild_id.is_some() => Level::Guild,
        None if wanted.team_id.is_some() => Level::Team,
        None if any_account => Level::Channel,
        None => Level::Account,
    })
}

fn peer_level(peer: &BindingPeer, envelope: &Envelope) -> Option<Level> {
    let kind = match peer.kind.as_str() {
        "direct" | "dm" => Kind::Direct,
        "group" => Kind::Group,
        "channel" => Kind::Channel,
        _ => return None,
    };
    let at = &envelope.at;
    let is_thread =
        |id: &str| at.thread.as_deref().is_some_and(|thread| id == format!("{}:{thread}", at.chat));
    match peer.id.trim() {
        _ if kind != at.chat_type => None,
        "*" => Some(Level::PeerWildcard),
        id if is_thread(id) => Some(Level::Peer),
        id if id == at.chat && envelope.place.parent.is_none() => Some(Level::Peer),
        id if id == at.chat => Some(Level::Peer),
        id if envelope.place.parent.as_deref() == Some(id) => Some(Level::ParentPeer),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::envelope;
    use super::*;
    use serde_json::{Value, json};

    fn answers(bindings: Value, (channel, account): (&str, &str), envelope: &Envelope) -> Option<String> {
        let bindings: Vec<Binding> = serde_json::from_value(bindings).unwrap();
        binding(&bindings, From { channel, account, envelope }).map(|binding| binding.agent_id.clone())
    }

    /// One binding for each level, the least particular first.
    fn ladder() -> Vec<Value> {
        let bind = |agent: &str, rest: Value| {
            let mut wanted = json!({ "channel": "discord" });
            wanted.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
            json!({ "agentId": agent, "match": wanted })
        };
        vec![
            bind("channel", json!({ "accountId": "*" })),
            bind("account", json!({ "accountId": "work" })),
            bind("team", json!({ "accountId": "work", "teamId": "T" })),
            bind("guild", json!({ "accountId": "work", "guildId": "G" })),
            bind("roles", json!({ "accountId": "work", "guildId": "G", "roles": ["admin", "mod"] })),
            bind("any", json!({ "accountId": "work", "peer": { "kind": "channel", "id": "*" } })),
            bind("parent", json!({ "accountId": "work", "peer": { "kind": "channel", "id": "P" } })),
            bind("peer", json!({ "accountId": "work", "peer": { "kind": "channel", "id": "C" } })),
        ]
    }

    /// accepts: I1
    #[test]
    fn the_most_particular_binding_decides_at_each_of_the_eight_levels() {
        let mut message = envelope(Kind::Channel, "C");
        message.place.parent = Some("P".into());
        message.place.guild = Some("G".into());
        message.place.team = Some("T".into());
        message.place.roles = vec!["mod".into()];
        let mut bindings = ladder();
        let mut found = vec![];
        while let Some(agent) = answers(json!(bindings), ("discord", "work"), &message) {
            bindings.retain(|binding| binding["agentId"] != agent);
            found.push(agent);
        }
        assert_eq!(found, ["peer", "parent", "any", "roles", "guild", "team", "account", "channel"]);
    }

    /// accepts: I1
    #[test]
    fn every_field_of_a_binding_has_to_match() {
        let mut message = envelope(Kind::Channel, "C");
        message.place.guild = Some("G".into());
        let bound = |wanted: Value| {
            answers(json!([{ "agentId": "a", "match": wanted }]), ("discord", "work"), &message)
        };
        let work = |rest: Value| {
            let mut wanted = json!({ "channel": "discord", "accountId": "work" });
            wanted.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
            bound(wanted)
        };
        assert!(work(json!({})).is_some());
        assert!(work(json!({ "guildId": "g", "peer": { "kind": "channel", "id": "C" } })).is_some());
        for rest in [
            json!({ "guildId": "other", "peer": { "kind": "channel", "id": "C" } }),
            json!({ "guildId": "G", "roles": ["admin"] }),
            json!({ "teamId": "T" }),
            json!({ "peer": { "kind": "direct", "id": "C" } }),
            json!({ "peer": { "kind": "nonsense", "id": "C" } }),
            json!({ "channel": "telegram" }),
            json!({ "accountId": "default" }),
        ] {
            assert_eq!(work(rest.clone()), None, "{rest}");
        }
        assert_eq!(bound(json!({ "channel": "discord" })), None, "no account is the default one");
        let own = answers(
            json!([{ "agentId": "a", "match": { "channel": "Discord" } }]),
            ("discord", "default"),
            &message,
        );
        assert!(own.is_some());
    }

    /// accepts: I1
    #[test]
    fn of_equals_the_first_decides_and_a_topic_is_a_place_of_its_own() {
        let mut message = envelope(Kind::Group, "-100");
        message.at.thread = Some("7".into());
        let peer = |agent: &str, id: &str| json!({ "agentId": agent, "match": { "channel": "telegram", "peer": { "kind": "group", "id": id } } });
        let who = |bindings: Value| answers(bindings, ("telegram", "default"), &message).unwrap();
        assert_eq!(who(json!([peer("first", "-100"), peer("second", "-100")])), "first");
        assert_eq!(who(json!([peer("topic", "-100:7"), peer("any", "*")])), "topic");
    }
}

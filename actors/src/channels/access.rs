//! Who may write, and who owns the assistant. Pure; what was approved is read by who asks.

use super::contract::{Envelope, Kind, Sender};
use crate::settings::{ChannelSettings, DmPolicy, GroupEntry, GroupPolicy, Ids};

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is heard.
    Heard {
        /// Whether who wrote is known by name, and may give commands.
        owner: bool,
    },
    /// Who wrote gets a code, which an operator approves.
    Pair,
    /// It is not heard; why not.
    Ignored(&'static str),
}

/// Decides about a message. `paired`: an operator has approved who wrote it.
pub fn verdict(settings: &ChannelSettings, envelope: &Envelope, paired: bool) -> Verdict {
    if envelope.from.is_bot && !settings.allow_bots {
        return Verdict::Ignored("it was written by a program (allowBots)");
    }
    let owner = paired || names(&settings.allow_from, &envelope.from);
    match envelope.at.chat_type {
        Kind::Direct => direct(settings, owner),
        Kind::Group | Kind::Channel => in_group(settings, envelope, owner),
    }
}

fn direct(settings: &ChannelSettings, owner: bool) -> Verdict {
    match settings.dm_policy {
        DmPolicy::Disabled => Verdict::Ignored("direct messages are switched off (dmPolicy)"),
        DmPolicy::Open => Verdict::Heard { owner },
        _ if owner => Verdict::Heard { owner },
        _ if is_open(&settings.allow_from) => Verdict::Heard { owner: false },
        DmPolicy::Pairing => Verdict::Pair,
        DmPolicy::Allowlist => Verdict::Ignored("who wrote is not in allowFrom"),
    }
}

fn in_group(settings: &ChannelSettings, envelope: &Envelope, owner: bool) -> Verdict {
    let entry = group_entry(settings, envelope);
    if settings.group_policy == GroupPolicy::Disabled {
        return Verdict::Ignored("groups are switched off (groupPolicy)");
    }
    if entry.is_some_and(|entry| entry.enabled == Some(false)) {
        return Verdict::Ignored("this group is switched off (groups)");
    }
    if !settings.groups.is_empty() && entry.is_none() {
        return Verdict::Ignored("this group is not listed (groups)");
    }
    if settings.group_policy == GroupPolicy::Open {
        return Verdict::Heard { owner };
    }
    let lists =
        [entry.map(|entry| &entry.allow_from), Some(&settings.group_allow_from), Some(&settings.allow_from)];
    match lists.into_iter().flatten().find(|ids| !ids.0.is_empty()) {
        Some(ids) if owner || is_open(ids) || names(ids, &envelope.from) => Verdict::Heard { owner },
        Some(_) => Verdict::Ignored("who wrote is not in groupAllowFrom"),
        // Whoever lists a group and nobody's name means everybody in it.
        None if entry.is_some() || owner => Verdict::Heard { owner },
        None => Verdict::Ignored("no group is allowed (groupPolicy, groups, groupAllowFrom)"),
    }
}

/// What is set of a group.
pub fn group_entry<'a>(settings: &'a ChannelSettings, envelope: &Envelope) -> Option<&'a GroupEntry> {
    let named = |id: &str| settings.groups.get(id);
    named(&envelope.at.chat).or_else(|| named(envelope.place.parent.as_deref()?)).or_else(|| named("*"))
}

fn is_open(ids: &Ids) -> bool {
    ids.0.iter().any(|id| id == "*")
}

/// Whether a list names this person, by id or by unique name, with or without the channel's prefix.
pub(super) fn names(ids: &Ids, who: &Sender) -> bool {
    let plain = |id: &str| {
        let id = id.rsplit_once(':').map_or(id, |(_, id)| id);
        id.trim_start_matches(['@', '+']).to_lowercase()
    };
    let id = plain(&who.id);
    let username = who.username.as_deref().map(plain);
    ids.0
        .iter()
        .filter(|id| *id != "*")
        .map(|id| plain(id))
        .any(|one| one == id || Some(&one) == username.as_ref())
}

#[cfg(test)]
mod tests {
    use super::super::testing::envelope;
    use super::*;
    use serde_json::{Value, json};

    fn says(settings: Value, kind: Kind, paired: bool) -> Verdict {
        let mut message = envelope(kind, "G");
        message.from = Sender { id: "7".into(), username: Some("Ann".into()), ..Sender::default() };
        verdict(&serde_json::from_value(settings).unwrap(), &message, paired)
    }

    const OWNER: Verdict = Verdict::Heard { owner: true };
    const GUEST: Verdict = Verdict::Heard { owner: false };

    #[test]
    fn who_may_write_directly() {
        let direct = |settings, paired| says(settings, Kind::Direct, paired);
        assert_eq!(direct(json!({}), false), Verdict::Pair);
        assert_eq!(direct(json!({}), true), OWNER);
        for known in ["7", "@ann", "telegram:7", "tg:@Ann"] {
            assert_eq!(direct(json!({ "allowFrom": [known] }), false), OWNER, "{known}");
        }
        assert_eq!(direct(json!({ "dmPolicy": "open" }), false), GUEST);
        assert_eq!(direct(json!({ "allowFrom": ["*"], "dmPolicy": "allowlist" }), false), GUEST);
        assert!(matches!(direct(json!({ "dmPolicy": "allowlist" }), false), Verdict::Ignored(_)));
        assert!(matches!(
            direct(json!({ "dmPolicy": "disabled", "allowFrom": ["7"] }), true),
            Verdict::Ignored(_)
        ));
    }

    #[test]
    fn who_is_heard_in_groups() {
        let group = |settings| says(settings, Kind::Group, false);
        let ignored = |settings: Value| matches!(group(settings), Verdict::Ignored(_));
        assert!(ignored(json!({})));
        assert_eq!(group(json!({ "groups": { "G": {} } })), GUEST, "everybody in a listed group");
        assert_eq!(group(json!({ "groups": { "*": {} }, "groupAllowFrom": ["7"] })), GUEST);
        assert_eq!(group(json!({ "groups": { "G": {} }, "allowFrom": ["7"] })), OWNER);
        assert_eq!(
            group(json!({ "groups": { "G": { "allowFrom": ["7"] } }, "groupAllowFrom": ["8"] })),
            GUEST
        );
        assert_eq!(group(json!({ "groupPolicy": "open" })), GUEST);
        assert!(ignored(json!({ "groups": { "G": {} }, "groupAllowFrom": ["8"] })));
        assert!(ignored(json!({ "groups": { "H": {} }, "groupPolicy": "open" })));
        assert!(ignored(json!({ "groups": { "G": { "enabled": false } }, "allowFrom": ["7"] })));
        assert!(ignored(json!({ "groupPolicy": "disabled", "groups": { "G": {} } })));
    }

    #[test]
    fn programs_are_heard_only_where_that_is_wanted() {
        let mut message = envelope(Kind::Direct, "G");
        message.from.is_bot = true;
        let mut settings = ChannelSettings { dm_policy: DmPolicy::Open, ..ChannelSettings::default() };
        assert!(matches!(verdict(&settings, &message, true), Verdict::Ignored(_)));
        settings.allow_bots = true;
        assert_eq!(verdict(&settings, &message, false), GUEST);
    }
}

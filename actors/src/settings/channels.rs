//! `channels` and `bindings`: which accounts there are, who may write to them, and which agent answers.

use super::approvals::ExecApprovals;
use super::bots::{AllowBots, BotLoopProtection};
use super::secret::{HELD, Held, SEALED, SecretError, SecretInput, SecretRef};
use super::streaming::Streaming;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The account that is meant when none is named.
pub const DEFAULT_ACCOUNT: &str = "default";

/// The section that is no channel: what holds for all of them.
const DEFAULTS: &str = "defaults";
/// The setting whose members an account has one by one in the place of its channel's.
const BOT_LOOP: &str = "botLoopProtection";

/// Members of references to secrets; an object that has others, too, is none. The last is what takes its place.
const OF_REFERENCES: [&str; 4] = ["source", "id", "provider", "held"];

/// `channels`: a section for each channel by its name, with what all channels have and what only it knows.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct ChannelsSettings(
    pub BTreeMap<String, Value>,
    /// The secrets in them that were looked up, by their marks.
    #[serde(skip)]
    pub BTreeMap<String, Held>,
);

impl ChannelsSettings {
    /// The accounts of a channel, with their settings: those of the channel, and the account's own in their place.
    /// A section without `accounts` is one account called `default`; one that is switched off has none.
    pub fn accounts(&self, channel: &str) -> Vec<(String, Value)> {
        let Some(Value::Object(section)) = self.0.get(channel).filter(|_| channel != DEFAULTS) else {
            return Vec::new();
        };
        let mut shared = section.clone();
        let accounts = match shared.remove("accounts") {
            Some(Value::Object(accounts)) if !accounts.is_empty() => accounts,
            _ => Map::from_iter([(DEFAULT_ACCOUNT.to_owned(), Value::Object(Map::new()))]),
        };
        let merged = accounts.into_iter().map(|(id, own)| {
            let mut settings = shared.clone();
            if let Value::Object(mut own) = own {
                if let (Some(Value::Object(shared)), Some(Value::Object(mine))) =
                    (settings.get(BOT_LOOP), own.get_mut(BOT_LOOP))
                {
                    *mine = shared.clone().into_iter().chain(std::mem::take(mine)).collect();
                }
                settings.extend(own);
            }
            (id, Value::Object(settings))
        });
        merged.filter(|(_, settings)| settings.get("enabled") != Some(&Value::Bool(false))).collect()
    }

    /// `channels.defaults.botLoopProtection`; what of it cannot be read is not set.
    pub fn bot_loop_protection(&self) -> BotLoopProtection {
        let shared = self.0.get(DEFAULTS).and_then(|defaults| defaults.get(BOT_LOOP));
        shared.and_then(|shared| BotLoopProtection::deserialize(shared).ok()).unwrap_or_default()
    }
}

/// Whether these are the members of a reference to a secret.
pub(crate) fn is_reference(members: &Map<String, Value>) -> bool {
    OF_REFERENCES[..2].iter().all(|name| members.contains_key(*name))
        && members.keys().all(|name| OF_REFERENCES.contains(&name.as_str()))
}

impl ChannelsSettings {
    /// An account's settings with its secrets in the place of what refers to them.
    ///
    /// # Errors
    /// A secret is not to be had; `key` is where it stands.
    pub fn with_secrets(
        &self,
        settings: &Value,
        key: &str,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Value, SecretError> {
        let plain = |secret: SecretInput| Ok(Value::String(secret.resolve(key, env)?.expose().to_owned()));
        let held = |mark: &str| {
            let lost = || SecretError::Unavailable { key: key.into(), why: "nothing is held for it".into() };
            plain(SecretInput::Held(self.1.get(mark).ok_or_else(lost)?.clone()))
        };
        match settings {
            Value::String(mark) if mark.starts_with(HELD) => held(mark),
            Value::String(text) if text.starts_with("${") || text.starts_with(SEALED) => {
                plain(SecretInput::Text(text.clone()))
            }
            Value::Object(members) if is_reference(members) => match members.get("held") {
                Some(mark) => held(mark.as_str().unwrap_or_default()),
                None => match SecretRef::deserialize(settings) {
                    Ok(reference) => plain(SecretInput::Reference(reference)),
                    Err(_) => Ok(settings.clone()),
                },
            },
            Value::Object(members) => {
                let resolved = members.iter().map(|(name, value)| {
                    Ok((name.clone(), self.with_secrets(value, &format!("{key}.{name}"), env)?))
                });
                resolved.collect::<Result<Map<_, _>, _>>().map(Value::Object)
            }
            Value::Array(items) => {
                let resolved = items.iter().map(|value| self.with_secrets(value, key, env));
                resolved.collect::<Result<_, _>>().map(Value::Array)
            }
            other => Ok(other.clone()),
        }
    }
}

/// What every channel has in its section.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ChannelSettings {
    /// Who may write directly.
    pub dm_policy: DmPolicy,
    /// Who is known: ids or names as the platform has them, `*` for everybody. They own the assistant.
    pub allow_from: Ids,
    /// Whose messages in groups are heard.
    pub group_policy: GroupPolicy,
    /// Who is heard in groups; `allowFrom` if it is empty.
    pub group_allow_from: Ids,
    /// The groups, by their ids; `*` is what holds for all others.
    pub groups: BTreeMap<String, GroupEntry>,
    /// Whether other programs are heard.
    pub allow_bots: AllowBots,
    /// How much of them.
    pub bot_loop_protection: BotLoopProtection,
    /// What is done about a message of which nobody knows whether it was sent.
    pub on_uncertain: OnUncertain,
    /// How many messages of a group that were not for the agent are told with the next that is.
    pub history_limit: Option<usize>,
    /// Whether people see an answer while it is written.
    pub streaming: Streaming,
    /// The same, as OpenClaw once called it.
    pub stream_mode: Streaming,
    /// Of which reactions the agent is told.
    pub reaction_notifications: ReactionNotifications,
    /// The servers, by their ids.
    pub guilds: BTreeMap<String, GuildEntry>,
    /// Whom approvals are asked, and where.
    pub exec_approvals: ExecApprovals,
}

/// `dmPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DmPolicy {
    /// Who is not known gets a code, which an operator approves.
    #[default]
    Pairing,
    /// Who is not known is not answered.
    Allowlist,
    /// Anybody.
    Open,
    /// Nobody.
    Disabled,
}

/// `groupPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum GroupPolicy {
    /// The groups that are listed, and in them who is known.
    #[default]
    Allowlist,
    /// Anybody in any group.
    Open,
    /// No group.
    Disabled,
}

/// `onUncertain`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnUncertain {
    /// It is said in the conversation, at the next contact.
    #[default]
    Report,
    /// It is sent again, and may appear twice.
    Resend,
}

/// `reactionNotifications`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReactionNotifications {
    /// Of none.
    Off,
    /// Of those to messages of this account.
    #[default]
    Own,
    /// Of all.
    All,
    /// Of those of the people a server's `users` names, or `allowFrom`.
    Allowlist,
}

/// `guilds.<id>`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GuildEntry {
    /// Of which reactions the agent is told, in place of what the account says.
    pub reaction_notifications: Option<ReactionNotifications>,
    /// Whose, if it is a list.
    pub users: Ids,
}

/// `groups.<id>`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GroupEntry {
    /// Whether the group is heard at all.
    pub enabled: Option<bool>,
    /// Whether the agent answers only who speaks to it.
    pub require_mention: Option<bool>,
    /// Who is heard in this group.
    pub allow_from: Ids,
    /// How much of other programs is.
    pub bot_loop_protection: BotLoopProtection,
}

/// Ids and names of people, written as texts or numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ids(pub Vec<String>);

impl Ids {
    /// The one who is named, if it is one and not everybody.
    pub fn only(&self) -> Option<Self> {
        let mut plain =
            self.0.iter().map(|id| id.rsplit(':').next().unwrap_or(id).trim_start_matches(['@', '+']));
        let first = plain.next().filter(|first| *first != "*")?;
        plain.all(|other| other.eq_ignore_ascii_case(first)).then(|| Self(vec![self.0[0].clone()]))
    }
}

impl JsonSchema for Ids {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Ids".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "array", "items": { "type": ["string", "number"] } })
    }
}

impl<'de> Deserialize<'de> for Ids {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let ids = Vec::<Value>::deserialize(deserializer)?;
        let text = |id: Value| match id {
            Value::String(text) => text.trim().to_owned(),
            other => other.to_string(),
        };
        Ok(Self(ids.into_iter().map(text).filter(|id| !id.is_empty()).collect()))
    }
}

/// `broadcast`: chats whose messages several agents answer, each in a session of its own.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct BroadcastSettings(BTreeMap<String, Value>);

impl BroadcastSettings {
    /// The agents of a chat, by its id; `strategy` is no chat.
    pub fn of(&self, chat: &str) -> Vec<String> {
        let agents = self.0.get(chat).filter(|_| chat != "strategy").and_then(Value::as_array);
        agents.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    }
}

/// `bindings`: which agent answers what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Binding {
    /// The agent.
    pub agent_id: String,
    /// What has to be so: all of it.
    #[serde(rename = "match")]
    pub matches: BindingMatch,
    /// What shares a session with what, for the messages of this binding.
    pub session: BindingSession,
}

/// `bindings[].session`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct BindingSession {
    /// Direct messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dm_scope: Option<super::DmScope>,
    /// Groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_scope: Option<super::GroupScope>,
}

/// `bindings[].match`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct BindingMatch {
    /// The channel.
    pub channel: String,
    /// The account; `*` is any, and none is the one called `default`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_id: Option<String>,
    /// The chat; an id `*` is any of its kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<BindingPeer>,
    /// The server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guild_id: Option<String>,
    /// The team.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub team_id: Option<String>,
    /// Roles, of which who wrote has one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
}

/// `bindings[].match.peer`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BindingPeer {
    /// `direct` (or `dm`), `group`, `channel`.
    pub kind: String,
    /// The id, or `*`.
    pub id: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn settings(channels: Value) -> ChannelsSettings {
        serde_json::from_value(channels).unwrap()
    }

    #[test]
    fn an_account_has_the_settings_of_its_channel_and_its_own_in_their_place() {
        let settings = settings(json!({
            "telegram": { "dmPolicy": "open", "accounts": { "a": { "botToken": "1" }, "b": { "dmPolicy": "disabled" } } },
            "discord": { "token": "t" },
            "off": { "enabled": false },
            "half": { "accounts": { "x": { "enabled": false }, "y": {} } },
        }));
        let two = settings.accounts("telegram");
        assert_eq!(two[0], ("a".into(), json!({ "dmPolicy": "open", "botToken": "1" })));
        assert_eq!(two[1], ("b".into(), json!({ "dmPolicy": "disabled" })));
        assert_eq!(settings.accounts("discord"), [("default".into(), json!({ "token": "t" }))]);
        assert!(settings.accounts("off").is_empty() && settings.accounts("unknown").is_empty());
        assert_eq!(settings.accounts("half").len(), 1);
    }

    #[test]
    fn what_holds_for_all_channels_is_no_channel_and_lies_under_what_each_says() {
        let settings = settings(json!({
            "defaults": { "botLoopProtection": { "windowSeconds": 9 } },
            "discord": {
                "botLoopProtection": { "maxEventsPerWindow": 8, "cooldownSeconds": 7 },
                "accounts": { "a": { "botLoopProtection": { "maxEventsPerWindow": 5 } } },
            },
        }));
        assert!(settings.accounts("defaults").is_empty());
        assert_eq!(settings.bot_loop_protection().window_seconds, Some(9));
        let (_, own) = settings.accounts("discord").remove(0);
        assert_eq!(own["botLoopProtection"], json!({ "maxEventsPerWindow": 5, "cooldownSeconds": 7 }));
    }

    #[test]
    fn secrets_stand_in_the_place_of_what_refers_to_them() {
        let env = |name: &str| (name == "BOT").then(|| "12:ab".to_owned());
        let section =
            json!({ "botToken": "${BOT}", "deep": { "x": { "source": "env", "id": "BOT" } }, "n": 5 });
        let none = ChannelsSettings::default();
        let resolved = none.with_secrets(&section, "channels.telegram", &env).unwrap();
        assert_eq!(resolved, json!({ "botToken": "12:ab", "deep": { "x": "12:ab" }, "n": 5 }));
        let missing = none.with_secrets(&json!({ "a": { "t": "${NOPE}" } }), "channels.x", &env).unwrap_err();
        assert!(missing.to_string().starts_with("channels.x.a.t refers"), "{missing}");
    }

    #[test]
    fn ids_are_texts_or_numbers() {
        let common: ChannelSettings =
            serde_json::from_value(json!({ "allowFrom": [123, " @ann ", ""], "botToken": "x" })).unwrap();
        assert_eq!(common.allow_from.0, ["123", "@ann"]);
        assert_eq!((common.dm_policy, common.group_policy), (DmPolicy::Pairing, GroupPolicy::Allowlist));
    }
}

//! `alerts`: who is told when something of the gateway itself is wrong. OpenClaw has no such key.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `alerts`: who is told when something of the gateway itself is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct AlertsSettings {
    /// The channel; without one nobody is told.
    pub channel: Option<String>,
    /// Its account.
    pub account: Option<String>,
    /// The chat, as `crabtree call send` takes it.
    pub to: Option<String>,
    /// What is told.
    pub events: Vec<AlertEvent>,
    /// Who is told instead while that account is not at work, the first that is.
    pub fallbacks: Vec<AlertTarget>,
}

impl Default for AlertsSettings {
    fn default() -> Self {
        let (channel, account, to, fallbacks) = (None, None, None, Vec::new());
        Self { channel, account, to, events: AlertEvent::ALL.to_vec(), fallbacks }
    }
}

/// A chat that is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct AlertTarget {
    /// The channel.
    pub channel: String,
    /// Its account.
    pub account: Option<String>,
    /// The chat.
    pub to: String,
}

/// What can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AlertEvent {
    /// An actor was given up.
    Parked,
    /// An actor does not come to the end of a message.
    Stuck,
    /// The disk does not take what is to be kept.
    Store,
    /// An account of a channel cannot be started as it is configured.
    Channel,
}

impl AlertEvent {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Parked, Self::Stuck, Self::Store, Self::Channel];

    /// As it is configured.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Parked => "parked",
            Self::Stuck => "stuck",
            Self::Store => "store",
            Self::Channel => "channel",
        }
    }
}

impl AlertsSettings {
    /// Who is told, the first choice first; nobody unless channel and chat are named.
    pub fn targets(&self) -> Vec<AlertTarget> {
        let (Some(channel), Some(to)) = (self.channel.clone(), self.to.clone()) else { return Vec::new() };
        let first = AlertTarget { channel, account: self.account.clone(), to };
        [first].into_iter().chain(self.fallbacks.iter().cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_told_unless_a_chat_is_named() {
        let read = |json| serde_json::from_value::<AlertsSettings>(json).expect("settings");
        assert_eq!(read(serde_json::json!({})), AlertsSettings::default());
        assert!(read(serde_json::json!({ "channel": "telegram" })).targets().is_empty());
        let fallback = serde_json::json!({ "channel": "discord", "to": "channel:1" });
        let both = read(serde_json::json!({ "channel": "telegram", "to": "1", "fallbacks": [fallback] }));
        let channels: Vec<_> = both.targets().into_iter().map(|target| target.channel).collect();
        assert_eq!((channels, both.events.len()), (vec!["telegram".into(), "discord".into()], 4));
    }
}

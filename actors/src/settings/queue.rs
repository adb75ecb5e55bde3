//! What becomes of a message that arrives while a run is active: the settings in force for one session.

use std::time::Duration;

use crabtree_protocol::params::chat::QueueMode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DropPolicy, MAX_CAP, MAX_DEBOUNCE_MS, QueueSection};

/// The settings in force for one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueSettings {
    /// What becomes of the message.
    pub mode: QueueMode,
    /// How long it must have been quiet before waiting messages are taken up.
    pub debounce: Duration,
    /// How many may wait; at least one.
    pub cap: usize,
    /// What gives way when more come.
    pub drop: DropPolicy,
}

/// What a session says itself (`/queue`, `sessions.patch`), in the shape of its stored entry. A cap of 0 says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct QueueOverrides {
    /// What becomes of the message.
    pub queue_mode: Option<QueueMode>,
    /// Milliseconds of quiet; more than a day counts as a day.
    pub queue_debounce_ms: Option<u64>,
    /// How many may wait; more than 1000 counts as 1000.
    pub queue_cap: Option<u64>,
    /// What gives way when more come.
    pub queue_drop: Option<DropPolicy>,
}

impl QueueSettings {
    /// The session's own word first, then the channel's (mode and debounce have one), then everybody's.
    pub fn resolve(section: &QueueSection, channel: Option<&str>, own: &QueueOverrides) -> Self {
        let channel = channel.map(str::to_lowercase).unwrap_or_default();
        let mode = section.by_channel.get(&channel).unwrap_or(&section.mode).0;
        let debounce = section.debounce_ms_by_channel.get(&channel).unwrap_or(&section.debounce_ms).get();
        let debounce = own.queue_debounce_ms.map_or(debounce, |ms| ms.min(MAX_DEBOUNCE_MS));
        let cap = own.queue_cap.filter(|cap| *cap > 0).map_or(section.cap.get(), |cap| cap.min(MAX_CAP));
        Self {
            mode: own.queue_mode.unwrap_or(mode),
            debounce: Duration::from_millis(debounce),
            cap: cap as usize,
            drop: own.queue_drop.unwrap_or(section.drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn resolved(section: Value, channel: Option<&str>, own: Value) -> (&'static str, u64, usize, DropPolicy) {
        let section = serde_json::from_value(section).expect("a section");
        let own = serde_json::from_value(own).expect("overrides");
        let found = QueueSettings::resolve(&section, channel, &own);
        (found.mode.name(), found.debounce.as_millis() as u64, found.cap, found.drop)
    }

    /// accepts: C7
    #[test]
    fn the_session_wins_over_the_channel_and_the_channel_over_everybody() {
        use DropPolicy::{New, Old, Summarize};
        let section = json!({
            "mode": "followup", "cap": 5, "drop": "old",
            "byChannel": {"discord": "collect"}, "debounceMsByChannel": {"discord": 1000},
        });
        let own = json!({"queueMode": "interrupt", "queueDebounceMs": 7, "queueCap": 3, "queueDrop": "new"});
        let odd = json!({"queueCap": 0, "queueDebounceMs": u64::MAX});
        let none = json!({});
        let rows = [
            (&none, None, &none, ("steer", 500, 20, Summarize)),
            (&section, None, &none, ("followup", 500, 5, Old)),
            (&section, Some("telegram"), &none, ("followup", 500, 5, Old)),
            (&section, Some("Discord"), &none, ("collect", 1000, 5, Old)),
            (&section, Some("discord"), &own, ("interrupt", 7, 3, New)),
            (&section, Some("discord"), &odd, ("collect", MAX_DEBOUNCE_MS, 5, Old)),
        ];
        for (section, channel, own, expected) in rows {
            assert_eq!(resolved(section.clone(), channel, own.clone()), expected, "{channel:?} {own}");
        }
    }

    #[test]
    fn retired_names_of_modes_are_read() {
        for (name, mode) in [("queue", "steer"), ("steer-backlog", "followup"), ("steer+backlog", "followup")]
        {
            assert_eq!(resolved(json!({ "mode": name }), None, json!({})).0, mode);
        }
        let wrong = serde_json::from_value::<QueueSection>(json!({"mode": "later"})).unwrap_err().to_string();
        assert!(
            wrong.contains("\"later\"") && wrong.contains("steer, followup, collect, interrupt"),
            "{wrong}"
        );
        let wrong = serde_json::from_value::<QueueSection>(json!({"cap": 0})).unwrap_err().to_string();
        assert!(wrong.contains("an integer from 1 to 1000"), "{wrong}");
    }
}

//! `allowBots` and `botLoopProtection`: whether other programs are heard, and how much of them.

use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

/// Messages of a program within a window, unless `maxEventsPerWindow` says otherwise; and the most it may say: each is
/// remembered.
const EVENTS: u32 = 20;
const MOST_EVENTS: u32 = 1_000;
/// The window, and how long a program is left out that has said more.
const WINDOW_SECONDS: u32 = 60;
const COOLDOWN_SECONDS: u32 = 60;

/// `allowBots`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AllowBots {
    /// None is heard.
    #[default]
    No,
    /// What names this account is heard.
    Mentions,
    /// They are heard as people are.
    Yes,
}

impl<'de> Deserialize<'de> for AllowBots {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Null | Value::Bool(false) => Ok(Self::No),
            Value::Bool(true) => Ok(Self::Yes),
            Value::String(word) if word == "mentions" => Ok(Self::Mentions),
            _ => Err(de::Error::custom("allowBots is true, false or \"mentions\"")),
        }
    }
}

/// `botLoopProtection`, as far as it is set in one place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct BotLoopProtection {
    /// Whether there is any.
    pub enabled: Option<bool>,
    /// Messages within a window.
    pub max_events_per_window: Option<u32>,
    /// The window.
    pub window_seconds: Option<u32>,
    /// How long a program is left out that has said more.
    pub cooldown_seconds: Option<u32>,
}

/// How much of a program is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoopLimits {
    /// This many messages …
    pub events: usize,
    /// … within this time, ms;
    pub window_ms: i64,
    /// after one more, none for so long, ms.
    pub cooldown_ms: i64,
}

impl BotLoopProtection {
    /// What holds where the wider one is set, too.
    pub fn over(self, wider: Self) -> Self {
        let number = |own: Option<u32>, wider: Option<u32>| own.filter(|n| *n > 0).or(wider);
        Self {
            enabled: self.enabled.or(wider.enabled),
            max_events_per_window: number(self.max_events_per_window, wider.max_events_per_window),
            window_seconds: number(self.window_seconds, wider.window_seconds),
            cooldown_seconds: number(self.cooldown_seconds, wider.cooldown_seconds),
        }
    }

    /// The limits; none if they are switched off.
    pub fn limits(self) -> Option<LoopLimits> {
        let number = |own: Option<u32>, default| own.filter(|n| *n > 0).unwrap_or(default);
        let ms = |seconds: u32| i64::from(seconds) * 1000;
        (self.enabled != Some(false)).then(|| LoopLimits {
            events: number(self.max_events_per_window, EVENTS).min(MOST_EVENTS) as usize,
            window_ms: ms(number(self.window_seconds, WINDOW_SECONDS)),
            cooldown_ms: ms(number(self.cooldown_seconds, COOLDOWN_SECONDS)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn programs_are_heard_not_at_all_when_they_name_it_or_always() {
        let read = |value| serde_json::from_value::<AllowBots>(value);
        assert_eq!(read(json!(false)).unwrap(), AllowBots::No);
        assert_eq!(read(json!(true)).unwrap(), AllowBots::Yes);
        assert_eq!(read(json!("mentions")).unwrap(), AllowBots::Mentions);
        assert!(read(json!("some")).unwrap_err().to_string().contains("\"mentions\""));
    }

    #[test]
    fn what_is_set_closer_holds_and_the_rest_is_as_in_openclaw() {
        let read = |value| serde_json::from_value::<BotLoopProtection>(value).unwrap();
        let default = BotLoopProtection::default().limits().unwrap();
        assert_eq!(default, LoopLimits { events: 20, window_ms: 60_000, cooldown_ms: 60_000 });
        let wide = read(json!({ "maxEventsPerWindow": 8, "cooldownSeconds": 5 }));
        let close = read(json!({ "maxEventsPerWindow": 0, "windowSeconds": 10, "cooldownSeconds": 90 }));
        let both = close.over(wide).limits().unwrap();
        assert_eq!(both, LoopLimits { events: 8, window_ms: 10_000, cooldown_ms: 90_000 });
        assert_eq!(read(json!({ "enabled": false })).over(wide).limits(), None);
        assert_eq!(read(json!({ "maxEventsPerWindow": u32::MAX })).limits().unwrap().events, 1_000);
    }
}

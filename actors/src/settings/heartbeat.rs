//! `heartbeat` of agents: how often they look after things on their own, and who hears of it.

use super::duration_ms;
use chrono::{DateTime, Local, Timelike, Utc};
use chrono_tz::Tz;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How often, unless told.
const EVERY_MS: i64 = 30 * 60_000;
/// The shortest time between two heartbeats.
const SHORTEST_MS: i64 = 1_000;

/// What an agent is asked, unless told.
const PROMPT: &str = "This is a heartbeat: nobody has written. Look at what stands below, if anything does, and at nothing \
    from earlier conversations. If something needs a person's attention, write only what they should read. If nothing \
    does, answer HEARTBEAT_OK.";

/// `agents.defaults.heartbeat` and `agents.entries.<id>.heartbeat`: the latter says what is different.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct HeartbeatSettings {
    /// How often: `30m`; `0m` never.
    pub every: Option<String>,
    /// When.
    pub active_hours: Option<ActiveHours>,
    /// Who hears of it: `owner`, `last`, `none` or a channel.
    pub target: Option<String>,
    /// The chat on that channel.
    pub to: Option<String>,
    /// The account of it.
    pub account_id: Option<String>,
    /// What the agent is asked.
    pub prompt: Option<String>,
    /// With which model.
    pub model: Option<String>,
    /// How long it may take.
    pub timeout_seconds: Option<u64>,
}

/// `activeHours`: the time of day in which there are heartbeats.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActiveHours {
    /// From then on, `HH:MM`.
    pub start: String,
    /// Until then, `HH:MM`; `24:00` is the end of the day.
    pub end: String,
    /// The time zone: a name, or `local`; the gateway's own without one.
    pub timezone: Option<String>,
}

impl HeartbeatSettings {
    /// What holds for an agent that says this.
    #[must_use]
    pub fn or(&self, defaults: &Self) -> Self {
        let (own, all) = (self.clone(), defaults.clone());
        Self {
            every: own.every.or(all.every),
            active_hours: own.active_hours.or(all.active_hours),
            target: own.target.or(all.target),
            to: own.to.or(all.to),
            account_id: own.account_id.or(all.account_id),
            prompt: own.prompt.or(all.prompt),
            model: own.model.or(all.model),
            timeout_seconds: own.timeout_seconds.or(all.timeout_seconds),
        }
    }

    /// Milliseconds between two heartbeats; none: there are none. What cannot be read is the usual time.
    pub fn every_ms(&self) -> Option<i64> {
        let ms = self.every.as_deref().map_or(EVERY_MS, |every| duration_ms(every).unwrap_or(EVERY_MS));
        (ms > 0).then_some(ms.max(SHORTEST_MS))
    }

    /// What the agent is asked.
    pub fn prompt(&self) -> &str {
        self.prompt.as_deref().filter(|prompt| !prompt.trim().is_empty()).unwrap_or(PROMPT)
    }

    /// Whether it may be now, ms.
    pub fn is_active(&self, now: i64) -> bool {
        self.active_hours.as_ref().is_none_or(|hours| hours.contain(now))
    }
}

impl ActiveHours {
    /// Whether a time is within them; what cannot be read contains every time.
    fn contain(&self, now: i64) -> bool {
        let (Some(start), Some(end)) = (minute(&self.start), minute(&self.end)) else { return true };
        let Some(at) = DateTime::<Utc>::from_timestamp_millis(now) else { return true };
        let zone = self.timezone.as_deref().and_then(|name| name.parse::<Tz>().ok());
        let (hour, minute) = match zone {
            Some(zone) => (at.with_timezone(&zone).hour(), at.with_timezone(&zone).minute()),
            None => (at.with_timezone(&Local).hour(), at.with_timezone(&Local).minute()),
        };
        let now = hour * 60 + minute;
        // Hours that begin in the evening go on in the morning.
        if start <= end { (start..end).contains(&now) } else { now >= start || now < end }
    }
}

/// Minutes since midnight.
fn minute(text: &str) -> Option<u32> {
    let (hour, minute) = text.trim().split_once(':')?;
    let (hour, minute) = (hour.parse::<u32>().ok()?, minute.parse::<u32>().ok()?);
    (minute < 60 && hour * 60 + minute <= 24 * 60).then_some(hour * 60 + minute)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn active(start: &str, end: &str, at: &str) -> bool {
        let hours = json!({ "activeHours": { "start": start, "end": end, "timezone": "America/New_York" } });
        let settings: HeartbeatSettings = serde_json::from_value(hours).unwrap();
        settings.is_active(DateTime::parse_from_rfc3339(at).unwrap().timestamp_millis())
    }

    #[test]
    fn hours_are_those_of_their_time_zone_and_may_go_over_midnight() {
        assert!(active("09:00", "22:00", "2026-07-01T13:00:00Z"), "09:00 in New York");
        assert!(!active("09:00", "22:00", "2026-07-01T12:59:00Z"));
        assert!(!active("09:00", "22:00", "2026-07-02T02:00:00Z"), "22:00");
        assert!(active("09:00", "24:00", "2026-07-02T03:59:00Z"));
        assert!(
            active("22:00", "06:00", "2026-07-02T05:00:00Z")
                && !active("22:00", "06:00", "2026-07-01T16:00:00Z")
        );
        assert!(!active("08:00", "08:00", "2026-07-01T12:00:00Z"), "no width, no time");
        assert!(active("soon", "08:00", "2026-07-01T12:00:00Z"));
    }

    #[test]
    fn an_agent_says_what_is_different() {
        let read = |value| serde_json::from_value::<HeartbeatSettings>(value).unwrap();
        let both = read(json!({ "every": "1h" })).or(&read(json!({ "every": "5m", "target": "last" })));
        assert_eq!((both.every_ms(), both.target.as_deref()), (Some(3_600_000), Some("last")));
        assert_eq!(read(json!({})).every_ms(), Some(EVERY_MS));
        assert_eq!(read(json!({ "every": "0m" })).every_ms(), None);
    }
}

//! When a session starts anew: which policy is in force for it, and whether its time has come.

use chrono::{DateTime, NaiveTime, TimeDelta, TimeZone};

use crate::settings::{ResetMode, ResetSettings, SessionSettings};

/// The hour of a daily reset, unless told.
const AT_HOUR: u64 = 4;

/// Which `session.resetByType` a session falls under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetType {
    /// One person.
    Direct,
    /// A group, channel or room.
    Group,
    /// A thread or topic.
    Thread,
}

/// What makes a session start anew; whichever comes first when both are set, nothing when neither is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResetPolicy {
    /// The hour of the day, local time, 0 to 23.
    pub at_hour: Option<u32>,
    /// Minutes without a person's message.
    pub idle_minutes: Option<u64>,
}

impl ResetPolicy {
    /// The policy for a session of this type, whose messages come from `channel`.
    pub fn resolve(session: &SessionSettings, of: ResetType, channel: Option<&str>) -> Self {
        let of_channel = channel.and_then(|name| session.reset_by_channel.get(&name.to_lowercase()));
        if let Some(of_channel) = of_channel {
            return Self::new(Some(of_channel), None);
        }
        let by_type = &session.reset_by_type;
        let of_type = match of {
            ResetType::Direct => by_type.direct.as_ref(),
            ResetType::Group => by_type.group.as_ref(),
            ResetType::Thread => by_type.thread.as_ref(),
        };
        Self::new(base(session).as_ref(), of_type)
    }

    fn new(base: Option<&ResetSettings>, of_type: Option<&ResetSettings>) -> Self {
        let base_mode = base.map(|base| base.mode.unwrap_or(ResetMode::Daily)).unwrap_or(ResetMode::None);
        let mode = match of_type {
            None => base_mode,
            Some(ResetSettings { mode: Some(mode), .. }) => *mode,
            Some(_) if base_mode == ResetMode::None => ResetMode::Daily,
            Some(_) => base_mode,
        };
        let at_hour = of_type.and_then(|own| own.at_hour).or(base.and_then(|base| base.at_hour));
        let idle = of_type.and_then(|own| own.idle_minutes).or(base.and_then(|base| base.idle_minutes));
        let idle = idle.map(|minutes| minutes.get()).filter(|minutes| *minutes > 0);
        Self {
            at_hour: (mode == ResetMode::Daily).then(|| at_hour.map_or(AT_HOUR, |hour| hour.get()) as u32),
            idle_minutes: idle.filter(|_| mode != ResetMode::None),
        }
    }
}

/// `session.reset`, with the older `session.idleMinutes` in it.
fn base(session: &SessionSettings) -> Option<ResetSettings> {
    match (&session.reset, session.idle_minutes) {
        (None, None) => None,
        (None, Some(_)) => Some(ResetSettings {
            mode: Some(ResetMode::Idle),
            idle_minutes: session.idle_minutes,
            ..ResetSettings::default()
        }),
        (Some(reset), older) => {
            Some(ResetSettings { idle_minutes: reset.idle_minutes.or(older), ..reset.clone() })
        }
    }
}

/// Since when a session lives, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lived {
    /// When it started (anew), for the daily reset.
    pub started_ms: i64,
    /// When a person wrote last, for idleness; heartbeats, automations and events of the system do not count.
    pub last_interaction_ms: i64,
}

/// Whether the session starts anew with the message that arrives now. `zone` is the gateway's own, `chrono::Local`.
/// Times that lie ahead of `now_ms`, as after a jump of the clock, count as now.
pub fn reset_due<Z: TimeZone>(policy: ResetPolicy, lived: Lived, now_ms: i64, zone: &Z) -> bool {
    let daily = policy.at_hour.and_then(|hour| boundary(hour, now_ms, zone));
    let idle = policy.idle_minutes.map(|minutes| i64::try_from(minutes * 60_000).unwrap_or(i64::MAX));
    daily.is_some_and(|at| lived.started_ms < at)
        || idle.is_some_and(|idle| now_ms > lived.last_interaction_ms.saturating_add(idle))
}

/// The last time it was `hour` o'clock. Where the clock skips that hour, it is an hour later.
fn boundary<Z: TimeZone>(hour: u32, now_ms: i64, zone: &Z) -> Option<i64> {
    let now = DateTime::from_timestamp_millis(now_ms)?.with_timezone(zone);
    let time = NaiveTime::from_hms_opt(hour, 0, 0)?;
    let at = |days: i64| {
        let naive = (now.date_naive() - TimeDelta::days(days)).and_time(time);
        let local = zone.from_local_datetime(&naive).earliest();
        let local = local.or_else(|| zone.from_local_datetime(&(naive + TimeDelta::hours(1))).earliest());
        local.map(|local| local.timestamp_millis())
    };
    at(0).filter(|today| *today <= now_ms).or_else(|| at(1))
}

/// What follows a phrase that starts a session anew; nothing if the text does not begin with one.
pub fn after_reset_trigger<'a>(session: &SessionSettings, text: &'a str) -> Option<&'a str> {
    let text = text.trim_start();
    session
        .reset_triggers
        .iter()
        .map(|trigger| trigger.trim())
        .filter(|trigger| !trigger.is_empty())
        .find_map(|trigger| {
            let (head, rest) = text.split_at_checked(trigger.len())?;
            let whole = rest.is_empty() || rest.starts_with(char::is_whitespace);
            (whole && head.to_lowercase() == trigger.to_lowercase()).then(|| rest.trim())
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::FixedOffset;
    use serde_json::{Value, json};

    fn session(json: Value) -> SessionSettings {
        serde_json::from_value(json).expect("session settings")
    }

    #[test]
    fn the_channel_wins_and_the_type_adds_to_the_rest() {
        let policy = |at_hour, idle_minutes| ResetPolicy { at_hour, idle_minutes };
        let full = json!({
            "reset": {"mode": "daily", "atHour": 5, "idleMinutes": 60},
            "resetByType": {"group": {"mode": "idle", "idleMinutes": 120}, "thread": {"atHour": 6}, "dm": {"mode": "never"}},
            "resetByChannel": {"discord": {"mode": "idle", "idleMinutes": 30}},
        });
        let (direct, group, thread) = (ResetType::Direct, ResetType::Group, ResetType::Thread);
        let rows = [
            (json!({}), direct, None, policy(None, None)),
            (json!({"reset": {}}), direct, None, policy(Some(4), None)),
            (json!({"reset": {"mode": "idle"}}), direct, None, policy(None, None)),
            (json!({"reset": {"mode": "none", "idleMinutes": 5}}), direct, None, policy(None, None)),
            (json!({"idleMinutes": 9}), direct, None, policy(None, Some(9))),
            (json!({"idleMinutes": 9, "reset": {"atHour": 0}}), group, None, policy(Some(0), Some(9))),
            (json!({"resetByType": {"thread": {"idleMinutes": 0}}}), thread, None, policy(Some(4), None)),
            (full.clone(), direct, None, policy(None, None)),
            (full.clone(), group, Some("telegram"), policy(None, Some(120))),
            (full.clone(), thread, None, policy(Some(6), Some(60))),
            (full, group, Some("Discord"), policy(None, Some(30))),
        ];
        for (settings, of, channel, expected) in rows {
            assert_eq!(ResetPolicy::resolve(&session(settings.clone()), of, channel), expected, "{settings}");
        }
        let wrong = |json: Value| serde_json::from_value::<SessionSettings>(json).unwrap_err().to_string();
        assert!(wrong(json!({"reset": {"atHour": 24}})).contains("an integer from 0 to 23"));
        assert!(wrong(json!({"reset": {"mode": "weekly"}})).contains("`daily`"));
        assert!(wrong(json!({"passivateAfterSeconds": 0})).contains("an integer from 1 to"));
    }

    #[test]
    fn a_day_ends_at_its_hour_and_idleness_after_its_minutes() {
        let zone = FixedOffset::east_opt(2 * 3600).expect("an offset");
        let ms = |text: &str| DateTime::parse_from_rfc3339(text).expect("a time").timestamp_millis();
        let due = |policy, started, last, now| {
            reset_due(
                policy,
                Lived { started_ms: ms(started), last_interaction_ms: ms(last) },
                ms(now),
                &zone,
            )
        };
        let daily = ResetPolicy { at_hour: Some(4), idle_minutes: None };
        let idle = ResetPolicy { at_hour: None, idle_minutes: Some(60) };
        let both = ResetPolicy { at_hour: Some(4), idle_minutes: Some(60) };
        let (late, early) = ("2026-11-19T23:00:00+02:00", "2026-11-20T04:30:00+02:00");
        assert!(!due(daily, late, late, "2026-11-20T03:59:59+02:00"));
        assert!(due(daily, late, late, "2026-11-20T04:00:00+02:00"));
        assert!(due(daily, late, early, "2026-11-20T05:00:00+02:00"), "what counts is the start");
        assert!(!due(daily, early, early, "2026-11-21T03:00:00+02:00"));
        assert!(!due(daily, "2027-01-01T00:00:00Z", early, "2026-11-20T05:00:00+02:00"), "a start ahead");
        assert!(!due(idle, late, late, "2026-11-20T00:00:00+02:00"));
        assert!(due(idle, late, late, "2026-11-20T00:00:01+02:00"));
        assert!(!due(idle, late, "2027-01-01T00:00:00Z", "2026-11-20T05:00:00+02:00"), "a message ahead");
        assert!(due(both, late, late, "2026-11-20T00:30:00+02:00"), "idleness came first");
        assert!(
            due(both, late, "2026-11-20T03:50:00+02:00", "2026-11-20T04:00:00+02:00"),
            "the hour came first"
        );
        assert!(!due(ResetPolicy::default(), late, late, "2036-01-01T00:00:00Z"));
    }

    #[test]
    fn a_trigger_leaves_what_follows_it() {
        let session = session(json!({"resetTriggers": ["/new", "/Reset"]}));
        let after = |text| after_reset_trigger(&session, text);
        assert_eq!(after("/new"), Some(""));
        assert_eq!(after(" /RESET now\nand then"), Some("now\nand then"));
        assert_eq!((after("/newer"), after("say /new"), after("ä")), (None, None, None));
    }
}

//! Which days are meant, and where they begin.

use crate::methods::empty::iso;
use crate::store::{DAY_MS, QUARTER_MS};
use chrono::NaiveDate;
use crabtree_protocol::Refusal;
use crabtree_protocol::params::session_usage::{DayMode, UsageParams, UsageRange};

/// Days when none are named.
const DEFAULT_DAYS: i64 = 30;

/// Days in a row, counted from 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Days {
    pub first: i64,
    pub last: i64,
    /// Milliseconds by which they begin before those of UTC.
    offset: i64,
}

impl Days {
    /// The last so many days, of UTC.
    pub fn back(days: i64, now: i64) -> Self {
        let last = now.div_euclid(DAY_MS);
        Self { first: last - days + 1, last, offset: 0 }
    }

    /// Those asked for. Time zones are known by their distance from UTC, which clients send beside their names.
    pub fn of(params: &UsageParams, now: i64) -> Result<Self, Refusal> {
        let specific = params.mode == Some(DayMode::Specific);
        let offset =
            params.utc_offset.as_ref().filter(|_| specific).map_or(0, |offset| utc_offset(offset.as_str()));
        let today = (now + offset).div_euclid(DAY_MS);
        let back = match params.range {
            None | Some(UsageRange::Month) => DEFAULT_DAYS,
            Some(UsageRange::Week) => 7,
            Some(UsageRange::Quarter) => 90,
            Some(UsageRange::Year) => 365,
            Some(UsageRange::All) => today,
        };
        let last = params.end_date.as_ref().map(|date| day(date.as_str())).transpose()?;
        let first = params.start_date.as_ref().map(|date| day(date.as_str())).transpose()?;
        let last = last.unwrap_or(today);
        let first = first.unwrap_or(last - back + 1);
        if first > last {
            return Err(Refusal::invalid_request("startDate is after endDate"));
        }
        Ok(Self { first, last, offset })
    }

    /// From when on and before when, ms.
    pub fn bounds(self) -> (i64, i64) {
        (self.first * DAY_MS - self.offset, (self.last + 1) * DAY_MS - self.offset)
    }

    /// The day a quarter of an hour belongs to.
    pub fn day(self, quarter: i64) -> i64 {
        (quarter * QUARTER_MS + self.offset).div_euclid(DAY_MS)
    }

    pub fn count(self) -> i64 {
        self.last - self.first + 1
    }
}

/// A day as text.
pub fn date(day: i64) -> String {
    iso(day * DAY_MS).chars().take(10).collect()
}

fn day(text: &str) -> Result<i64, Refusal> {
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d");
    let date = date.map_err(|_| Refusal::invalid_request(format!("there is no day {text}")))?;
    Ok(date.signed_duration_since(NaiveDate::default()).num_days())
}

/// Of `UTC-03:30`, in ms.
fn utc_offset(text: &str) -> i64 {
    let (sign, rest) = match text.strip_prefix("UTC") {
        Some(rest) if rest.starts_with('-') => (-1, &rest[1..]),
        Some(rest) => (1, rest.trim_start_matches('+')),
        None => return 0,
    };
    let (hours, minutes) = rest.split_once(':').unwrap_or((rest, "0"));
    let number = |text: &str| text.parse::<i64>().unwrap_or(0);
    sign * (number(hours) * 60 + number(minutes)) * 60_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn days(params: serde_json::Value) -> Result<Days, Refusal> {
        Days::of(&serde_json::from_value(params).unwrap(), 20_777 * DAY_MS + 3_600_000)
    }

    #[test]
    fn days_are_named_or_counted_back_from_today() {
        assert_eq!(days(json!({})).unwrap(), Days { first: 20_748, last: 20_777, offset: 0 });
        let week = days(json!({ "range": "7d", "mode": "specific", "utcOffset": "UTC-03:30" })).unwrap();
        assert_eq!((week.first, week.last, week.count()), (20_770, 20_776, 7));
        assert_eq!(week.bounds().0, 20_770 * DAY_MS + 12_600_000);
        assert_eq!(week.day(20_777 * 96 + 13), 20_776);
        assert_eq!(week.day(20_777 * 96 + 14), 20_777);
        let named = days(json!({ "startDate": "1970-01-02", "endDate": "1970-01-03" })).unwrap();
        assert_eq!((named.first, named.last, date(named.last)), (1, 2, "1970-01-03".into()));
        assert!(days(json!({ "startDate": "2026-02-30" })).is_err());
        assert!(days(json!({ "startDate": "2026-02-02", "endDate": "2026-02-01" })).is_err());
    }
}

//! When a job is due. Pure: nothing here knows what time it is.
//!
//! Calendar schedules follow the rules of Vixie cron where clocks are changed: what is due at a time of day that is
//! left out that day is due at the first moment after it; what is due at a time of day that comes twice is due the
//! first time; and what is due every so many minutes or hours goes on as time does.

use chrono::{DateTime, Local, NaiveDate, NaiveDateTime, TimeZone, Utc};
use chrono_tz::Tz;
use crabtree_protocol::params::cron::Schedule;
use croner::Cron;
use sha2::{Digest, Sha256};
use std::str::FromStr;

/// The shortest time between two instants of one job, ms: what is written shorter is as long as this.
pub const SHORTEST_MS: i64 = 1_000;
/// The most that a job at the full hour is put off if nothing else is said, as OpenClaw has it.
const STAGGER_MS: i64 = 300_000;
/// How far back missed instants are looked for, ms: the first of these that has enough of them, or else all the way.
const BACK_MS: [i64; 5] = [3_600_000, DAY_MS, 7 * DAY_MS, 60 * DAY_MS, 500 * DAY_MS];
const DAY_MS: i64 = 86_400_000;

/// A schedule that has been read.
#[derive(Clone, Debug)]
pub struct Timetable {
    kind: Kind,
    /// How much later than its schedule the job is due, ms.
    offset_ms: i64,
}

#[derive(Clone, Debug)]
enum Kind {
    Once(i64),
    Every { every_ms: i64, anchor_ms: i64 },
    Calendar { cron: Box<Cron>, zone: Zone },
}

#[derive(Clone, Copy, Debug)]
enum Zone {
    Local,
    Named(Tz),
}

impl Timetable {
    /// The timetable of the job with this id; `created_ms` is from when an interval is counted that does not say so.
    ///
    /// # Errors
    /// What is wrong with the schedule; of fields that are too few or too many in the recorded words.
    pub fn of(id: &str, schedule: &Schedule, created_ms: i64) -> Result<Self, String> {
        let (kind, offset_ms) = match schedule {
            Schedule::At { at } => {
                let at = instant(at)
                    .ok_or_else(|| format!("schedule.at is no time: {at}; write 2027-02-01T16:00:00Z"))?;
                (Kind::Once(at), 0)
            }
            Schedule::Every { every_ms, anchor_ms } => {
                let every_ms = signed(every_ms.get()).max(SHORTEST_MS);
                let anchor_ms = anchor_ms.map_or(created_ms, |anchor| signed(anchor.get()));
                (Kind::Every { every_ms, anchor_ms }, 0)
            }
            Schedule::Cron { expr, tz, stagger_ms } => {
                let most = stagger_ms.map_or_else(|| usual_stagger(expr), |most| signed(most.get()));
                let kind = Kind::Calendar { cron: Box::new(pattern(expr)?), zone: zone(tz.as_deref())? };
                (kind, put_off(id, most))
            }
        };
        Ok(Self { kind, offset_ms })
    }

    /// The first instant after `t`, ms.
    pub fn after(&self, t: i64) -> Option<i64> {
        match &self.kind {
            Kind::Once(at) => (*at > t).then_some(*at),
            Kind::Every { anchor_ms, .. } if t < *anchor_ms => Some(*anchor_ms),
            Kind::Every { every_ms, anchor_ms } => {
                let steps = (t - anchor_ms) / every_ms + 1;
                anchor_ms.checked_add(steps.checked_mul(*every_ms)?)
            }
            Kind::Calendar { cron, zone } => {
                let next = match zone {
                    Zone::Local => next(cron, &Local, t - self.offset_ms),
                    Zone::Named(tz) => next(cron, tz, t - self.offset_ms),
                };
                next.map(|next| next + self.offset_ms)
            }
        }
    }

    /// The instants after `t` up to and with `end`, ascending; the last `most` of them.
    pub fn between(&self, t: i64, end: i64, most: usize) -> Vec<i64> {
        let mut found = Vec::new();
        for from in BACK_MS.iter().map(|back| t.max(end.saturating_sub(*back))).chain([t]) {
            let instants = std::iter::successors(self.after(from), |at| self.after(*at));
            found = instants.take_while(|at| *at <= end).collect();
            if from == t || found.len() >= most {
                break;
            }
        }
        found.split_off(found.len().saturating_sub(most))
    }

    /// Whether there is only one instant.
    pub fn is_once(&self) -> bool {
        matches!(self.kind, Kind::Once(_))
    }
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

fn next<Z: TimeZone>(cron: &Cron, zone: &Z, t: i64) -> Option<i64> {
    // Whole seconds: a pattern says nothing about the rest.
    let start = DateTime::<Utc>::from_timestamp(t.div_euclid(1_000), 0)?.with_timezone(zone);
    let next = cron.find_next_occurrence(&start, false).ok()?;
    Some(next.timestamp_millis()).filter(|next| *next > t)
}

/// A point in time as people write it: ISO 8601, in UTC if it does not say otherwise, or milliseconds since 1970.
pub fn instant(text: &str) -> Option<i64> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().ok();
    }
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Some(at.timestamp_millis());
    }
    let formats = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"];
    let at = formats.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok());
    let midnight = || NaiveDate::from_str(text).ok()?.and_hms_opt(0, 0, 0);
    at.or_else(midnight).map(|at| at.and_utc().timestamp_millis())
}

fn pattern(expr: &str) -> Result<Cron, String> {
    let expr = expr.trim();
    let fields = expr.split_whitespace().count();
    if !expr.starts_with('@') && !(5..=7).contains(&fields) {
        return Err(format!(
            "CronPattern: invalid configuration format ('{expr}'), exactly five, six, or seven space separated \
             parts are required."
        ));
    }
    Cron::from_str(expr).map_err(|e| format!("CronPattern: '{expr}': {e}"))
}

fn zone(name: Option<&str>) -> Result<Zone, String> {
    match name.map(str::trim).filter(|name| !name.is_empty()) {
        None => Ok(Zone::Local),
        Some(name) => Tz::from_str(name)
            .map(Zone::Named)
            .map_err(|_| format!("schedule.tz is no time zone: {name}; write one like Europe/Berlin")),
    }
}

/// What is due at the full hour, hour after hour, is put off a little, so that not all of it begins at once.
fn usual_stagger(expr: &str) -> i64 {
    let fields: Vec<&str> = expr.split_whitespace().collect();
    let hours = match fields[..] {
        ["0", hours, _, _, _] | ["0", "0", hours, _, _, _] => hours,
        _ => return 0,
    };
    let plain =
        |part: &str| part.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'*' | b'?' | b'/' | b'-'));
    let is_wild = hours.split(',').all(plain) && hours.split(',').any(|part| part.starts_with(['*', '?']));
    if is_wild { STAGGER_MS } else { 0 }
}

/// The same for the same job at all times, and spread among jobs.
fn put_off(id: &str, most: i64) -> i64 {
    if most <= 1 {
        return 0;
    }
    let digest = Sha256::digest(id.as_bytes());
    i64::from(u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])) % most
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;

//! The clock: the wall's is sane, goes as the other one does, and has a time zone.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, Datelike, Local, Utc};

use super::{Finding, Name, Scene};

/// Before this program was written it cannot run.
const FIRST_YEAR: i32 = 2026;
/// How long both clocks are watched.
const WATCHED: Duration = Duration::from_millis(200);
/// How far they may part meanwhile.
const MAY_PART: Duration = Duration::from_millis(100);
/// How far in the future a file may be, for disks of other machines.
const MAY_LEAD: Duration = Duration::from_secs(120);

pub(super) async fn check(name: Name, scene: Arc<Scene>) -> Vec<Finding> {
    let (wall, mono) = (SystemTime::now(), Instant::now());
    tokio::time::sleep(WATCHED).await;
    let (by_wall, by_mono) = (wall.elapsed(), mono.elapsed());
    let newest = ["store.sqlite", "store.sqlite-wal", "gateway.lock"]
        .iter()
        .filter_map(|file| std::fs::metadata(scene.state_dir.join(file)).ok()?.modified().ok())
        .max();
    let mut found = judged(name, Utc::now(), by_wall.ok(), by_mono, newest);
    let zone = scene.env().get("TZ").map(str::to_owned).or_else(zone_file);
    let now = Local::now().format("%Y-%m-%d %H:%M %:z");
    found.push(match zone {
        Some(zone) => name.ok(format!("it is {now}, {zone}")),
        None => name.warn(
            format!("it is {now}: no time zone is set, so it is UTC for daily resets and plans"),
            "set it: timedatectl set-timezone Europe/Berlin, or TZ for the service",
        ),
    });
    found
}

fn judged(
    name: Name,
    now: DateTime<Utc>,
    by_wall: Option<Duration>,
    by_mono: Duration,
    newest: Option<SystemTime>,
) -> Vec<Finding> {
    let mut found = Vec::new();
    if now.year() < FIRST_YEAR {
        let next = "set the clock: nobody can prove who they are with a wrong one (timedatectl set-ntp true)";
        found.push(name.problem(format!("it is set to {}", now.format("%Y-%m-%d")), next));
    }
    if by_wall.is_none_or(|by_wall| by_wall.abs_diff(by_mono) > MAY_PART) {
        let next = "it was set just now; if it jumps again, look at what sets it";
        found.push(name.warn("it jumped while it was watched", next));
    }
    let lead = newest.and_then(|newest| newest.duration_since(SystemTime::from(now)).ok());
    if let Some(lead) = lead.filter(|lead| *lead > MAY_LEAD) {
        let seen = format!("files of the gateway are {} s in the future: it was set back", lead.as_secs());
        found.push(name.warn(seen, "set it right: what is planned waits until then"));
    }
    found
}

fn zone_file() -> Option<String> {
    let name = std::fs::read_to_string("/etc/timezone").ok().map(|name| name.trim().to_owned());
    name.filter(|name| !name.is_empty()).or_else(|| {
        let target = std::fs::read_link("/etc/localtime").ok()?;
        Some(target.to_str()?.split_once("zoneinfo/")?.1.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_wrong_jumps_or_was_set_back_is_named() {
        let at = |year: i32| format!("{year}-06-01T00:00:00Z").parse::<DateTime<Utc>>().expect("a time");
        let second = Duration::from_secs(1);
        let seen = |now, wall, newest| {
            let found = judged(Name("clock"), now, wall, second, newest);
            found.into_iter().map(|finding| finding.seen).collect::<Vec<_>>().join("; ")
        };
        assert_eq!(seen(at(2026), Some(second), Some(at(2026).into())), "");
        assert!(seen(at(1970), Some(second), None).contains("1970-06-01"));
        assert!(seen(at(2026), Some(second * 60), None).contains("jumped"));
        assert!(seen(at(2026), None, None).contains("jumped"), "it went back");
        assert!(seen(at(2026), Some(second), Some(at(2027).into())).contains("set back"));
    }
}

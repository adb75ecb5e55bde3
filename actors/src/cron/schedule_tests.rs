//! Instants: of intervals, of calendars across changes of the clock, and against another implementation.

use super::*;
use chrono::Datelike;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

fn timetable(schedule: Value) -> Timetable {
    Timetable::of("job", &serde_json::from_value(schedule).unwrap(), 0).unwrap()
}

fn calendar(expr: &str, tz: &str) -> Timetable {
    timetable(json!({ "kind": "cron", "expr": expr, "tz": tz, "staggerMs": 0 }))
}

fn at(text: &str) -> i64 {
    instant(text).unwrap()
}

fn said(t: i64) -> String {
    DateTime::<Utc>::from_timestamp_millis(t).unwrap().format("%Y-%m-%d %H:%M:%S").to_string()
}

/// The next few instants after a time.
fn few(timetable: &Timetable, from: &str, count: usize) -> Vec<String> {
    std::iter::successors(timetable.after(at(from)), |t| timetable.after(*t)).take(count).map(said).collect()
}

#[test]
fn times_are_read_as_people_and_programs_write_them() {
    let noon = 1_801_483_200_000;
    for text in ["2027-02-01T12:00:00Z", "2027-02-01T14:00:00+02:00", "2027-02-01T12:00", "1801483200000"] {
        assert_eq!(instant(text), Some(noon), "{text}");
    }
    assert_eq!(instant("2027-02-01"), Some(noon - 12 * 3_600_000));
    assert_eq!((instant("soon"), instant("")), (None, None));
}

#[test]
fn once_is_once() {
    let once = timetable(json!({ "kind": "at", "at": "2027-02-01T16:00:00Z" }));
    let due = at("2027-02-01T16:00:00Z");
    assert_eq!((once.after(due - 1), once.after(due)), (Some(due), None));
    assert_eq!(once.between(0, due + 1_000 * 86_400_000, 10), [due], "however late");
    assert!(once.is_once() && once.between(due, due + 1, 10).is_empty());
}

#[test]
fn an_interval_is_counted_from_its_anchor_and_never_shorter_than_a_second() {
    let every = timetable(json!({ "kind": "every", "everyMs": 60_000, "anchorMs": 90_000 }));
    assert_eq!(every.after(0), Some(90_000));
    assert_eq!(every.after(90_000), Some(150_000));
    assert_eq!(every.after(149_999), Some(150_000));
    assert_eq!(every.between(90_000, 270_000, 2), [210_000, 270_000]);
    let short = timetable(json!({ "kind": "every", "everyMs": 5, "anchorMs": 0 }));
    assert_eq!(short.after(0), Some(SHORTEST_MS));
}

#[test]
fn five_six_and_seven_fields_and_time_zones() {
    let workdays = calendar("0 9 * * 1-5", "Europe/Berlin");
    assert_eq!(few(&workdays, "2026-11-20 08:00:00", 2), ["2026-11-23 08:00:00", "2026-11-24 08:00:00"]);
    assert_eq!(few(&calendar("30 0 9 * * *", "UTC"), "2026-01-01", 1), ["2026-01-01 09:00:30"]);
    assert_eq!(few(&calendar("0 0 0 1 1 * 2031", "UTC"), "2026-01-01", 2), ["2031-01-01 00:00:00"]);
    assert_eq!(few(&calendar("0 9 15 * +1", "UTC"), "2026-01-01", 1), ["2026-06-15 09:00:00"]);
    assert_eq!(few(&calendar("0 12 L * *", "UTC"), "2028-02-01", 1), ["2028-02-29 12:00:00"]);
}

#[test]
fn what_cannot_be_read_is_told_in_the_recorded_words() {
    let wrong =
        |schedule: Value| Timetable::of("job", &serde_json::from_value(schedule).unwrap(), 0).unwrap_err();
    assert_eq!(
        wrong(json!({ "kind": "cron", "expr": "not a cron" })),
        "CronPattern: invalid configuration format ('not a cron'), exactly five, six, or seven space separated parts \
         are required."
    );
    assert!(wrong(json!({ "kind": "cron", "expr": "61 * * * *" })).starts_with("CronPattern: "));
    assert!(
        wrong(json!({ "kind": "cron", "expr": "* * * * *", "tz": "Mars/Base" })).contains("Europe/Berlin")
    );
    assert!(wrong(json!({ "kind": "at", "at": "soon" })).contains("soon"));
}

/// In Berlin clocks go from 02:00 to 03:00 on 29 March 2026, and from 03:00 back to 02:00 on 25 October.
#[test]
fn a_day_without_the_hour_has_the_job_at_its_end_and_one_with_two_has_it_once() {
    let daily = calendar("30 2 * * *", "Europe/Berlin");
    assert_eq!(
        few(&daily, "2026-03-28 00:00:00", 3),
        ["2026-03-28 01:30:00", "2026-03-29 01:00:00", "2026-03-30 00:30:00"]
    );
    assert_eq!(
        few(&daily, "2026-10-24 00:00:00", 3),
        ["2026-10-24 00:30:00", "2026-10-25 00:30:00", "2026-10-26 01:30:00"]
    );
}

#[test]
fn what_is_due_every_few_minutes_goes_on_as_time_does() {
    let often = calendar("*/30 * * * *", "Europe/Berlin");
    let steps = |from: &str| {
        let instants = often.between(at(from), at(from) + 6 * 3_600_000, 100);
        assert_eq!(instants.len(), 12);
        instants.windows(2).all(|pair| pair[1] - pair[0] == 1_800_000)
    };
    assert!(steps("2026-03-28 23:00:00") && steps("2026-10-24 22:00:00"));
}

#[test]
fn jobs_at_the_full_hour_are_put_off_a_little_each_by_its_own_time() {
    let hourly = json!({ "kind": "cron", "expr": "0 * * * *", "tz": "UTC" });
    let of = |id: &str, schedule: &Value| {
        Timetable::of(id, &serde_json::from_value(schedule.clone()).unwrap(), 0).unwrap()
    };
    let (one, other) = (of("one", &hourly), of("other", &hourly));
    let full = at("2026-01-01 05:00:00");
    let late = |table: &Timetable| table.after(full - 1).unwrap() - full;
    assert!((0..STAGGER_MS).contains(&late(&one)) && late(&one) != late(&other));
    assert_eq!(late(&one), late(&of("one", &hourly)), "the same each time");
    let next = one.after(one.after(full).unwrap()).unwrap() - one.after(full).unwrap();
    assert_eq!(next, 3_600_000);
    for exact in ["0 9 * * *", "5 * * * *", "0 9-17 * * *"] {
        let table = of("one", &json!({ "kind": "cron", "expr": exact, "tz": "UTC" }));
        assert_eq!(table.offset_ms, 0, "{exact}");
    }
}

#[test]
fn of_many_missed_instants_the_last_are_told_and_looking_for_them_is_bounded() {
    let minutes = calendar("* * * * *", "UTC");
    let end = at("2026-06-01 00:00:00");
    let year = minutes.between(end - 365 * 86_400_000, end, 2_000);
    assert_eq!((year.len(), *year.last().unwrap()), (2_000, end));
    assert!(year.windows(2).all(|pair| pair[1] - pair[0] == 60_000));
    let monthly = calendar("0 9 1 * *", "UTC");
    assert_eq!(monthly.between(end - 100 * 86_400_000, end + 1, 2_000).len(), 3, "however long ago");
    let seconds = calendar("* * * * * *", "UTC");
    let begun = std::time::Instant::now();
    assert_eq!(seconds.between(0, end, 2_000).len(), 2_000);
    assert!(begun.elapsed().as_secs() < 5, "a bound on how much is looked at");
}

fn field(random: &mut StdRng, low: u32, high: u32) -> String {
    let one = |random: &mut StdRng| random.random_range(low..=high);
    match random.random_range(0..6) {
        0 | 1 => "*".into(),
        2 => format!("*/{}", random.random_range(1..=(high - low).clamp(1, 20))),
        3 => {
            let (a, b) = (one(random), one(random));
            format!("{}-{}", a.min(b), a.max(b))
        }
        4 => format!("{},{}", one(random), one(random)),
        _ => one(random).to_string(),
    }
}

/// Days of the week as names: the other implementation counts them from 1.
fn weekdays(random: &mut StdRng) -> String {
    const NAMES: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
    let (a, b) = (random.random_range(0..7), random.random_range(0..7));
    match random.random_range(0..4) {
        0 | 1 => "*".into(),
        2 => NAMES[a].into(),
        _ => format!("{},{}", NAMES[a], NAMES[b]),
    }
}

/// Against the crate `cron`, in UTC, where no clock is changed. Of what the two mean by an expression one thing
/// differs: when both days are restricted, ours follows Vixie cron (either fits), the other wants both; ours says so
/// with a `+`.
#[test]
fn ten_thousand_random_expressions_agree_with_another_implementation() {
    let mut random = StdRng::seed_from_u64(20_261_120);
    let mut compared = 0;
    for _ in 0..10_000 {
        let (second, minute, hour) =
            (field(&mut random, 0, 59), field(&mut random, 0, 59), field(&mut random, 0, 23));
        let (day, month) = (field(&mut random, 1, 31), field(&mut random, 1, 12));
        let weekday = weekdays(&mut random);
        let theirs = format!("{second} {minute} {hour} {day} {month} {weekday}");
        let both = if day != "*" && weekday != "*" { "+" } else { "" };
        let ours = format!("{second} {minute} {hour} {day} {month} {both}{weekday}");
        let start = Utc.with_ymd_and_hms(2026, 1, 1, 0, 0, 0).unwrap()
            + chrono::Duration::seconds(random.random_range(0..400 * 86_400));
        let other = ::cron::Schedule::from_str(&theirs).unwrap();
        // Beyond a few years one of the two gives up first.
        let mut expected: Vec<i64> = Vec::new();
        for next in other.after(&start).take(3) {
            if next.year() > 2034 {
                break;
            }
            expected.push(next.timestamp_millis());
        }
        let table = calendar(&ours, "UTC");
        let found: Vec<i64> =
            std::iter::successors(table.after(start.timestamp_millis()), |t| table.after(*t))
                .take(expected.len())
                .collect();
        assert_eq!(found, expected, "{ours} from {start}");
        compared += expected.len();
    }
    assert!(compared > 25_000, "{compared}");
}

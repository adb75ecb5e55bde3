//! `cron.add`, and what its schedule comes to: a time after the one asked for, found soon, or none; what cannot be
//! scheduled is refused in words.

use crate::Target;
use crabtree_actors::cron::Timetable;
use crabtree_actors::cron::schedule::{SHORTEST_MS, instant};
use crabtree_protocol::Refusal;
use crabtree_protocol::params::cron::{AddParams, MAX_TIME_MS, Schedule};
use crabtree_protocol::schema::params;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// See the module.
pub const TARGET: Target = Target {
    name: "cron",
    read,
    steps: 3,
    seeds,
    words: &[
        "*",
        "*/",
        "/",
        "-",
        ",",
        "L",
        "W",
        "#",
        "?",
        "+",
        "@daily",
        "@reboot",
        "MON",
        "JAN",
        "29 2",
        "31 4",
        "30 2",
        "0 0 0 1 1 * 2031",
        "Europe/Berlin",
        "America/New_York",
        "Pacific/Apia",
        "UTC",
        "9999-12-31T23:59:59Z",
        "60",
        "0",
        "8640000000000000",
        "\"tz\":",
        "\"staggerMs\":",
        "\"anchorMs\":0",
        " ",
    ],
    inputs: 3_000,
};

/// Parameters, schedules alone, and expressions alone, which are in UTC.
fn seeds() -> Vec<String> {
    let schedules = [
        json!({ "kind": "at", "at": "2027-02-01T16:00:00Z" }),
        json!({ "kind": "at", "at": "1801483200000" }),
        json!({ "kind": "every", "everyMs": 3_600_000 }),
        json!({ "kind": "every", "everyMs": 1, "anchorMs": 1_795_138_738_921_u64 }),
        json!({ "kind": "cron", "expr": "0 9 * * 1-5", "tz": "Europe/Berlin" }),
        json!({ "kind": "cron", "expr": "30 2 * * *", "tz": "America/New_York", "staggerMs": 0 }),
        json!({ "kind": "cron", "expr": "*/30 * * * *", "tz": "Australia/Lord_Howe" }),
        json!({ "kind": "cron", "expr": "0 * * * *", "staggerMs": 86_400_000, "tz": "UTC" }),
    ];
    let expressions = [
        "0 9 * * 1-5",
        "30 0 9 * * *",
        "0 0 0 1 1 * 2031",
        "0 12 L * *",
        "0 9 15 * +1",
        "5,35 8-18/2 * JAN-MAR MON#2",
        "0 0 29 2 *",
        "0 0 31 2 *",
        "0 0 15W * *",
        "@hourly",
        "* * * * * *",
        "0 0 * * 5L",
    ];
    let work = [
        (json!({ "kind": "systemEvent", "text": "look" }), "main", json!({ "mode": "none" })),
        (
            json!({ "kind": "agentTurn", "message": "do it", "timeoutSeconds": 60, "toolsAllow": ["*"], "thinking": "low" }),
            "isolated",
            json!({ "mode": "announce", "channel": "telegram", "to": "123", "threadId": 7, "bestEffort": true }),
        ),
    ];
    let added = work.into_iter().map(|(payload, target, delivery)| {
        json!({
            "name": "every1", "description": "d", "enabled": true, "deleteAfterRun": false, "agentId": "main",
            "sessionKey": null, "schedule": schedules[4], "sessionTarget": target, "wakeMode": "next-heartbeat",
            "payload": payload, "delivery": delivery, "failureAlert": { "after": 2 }, "declarationKey": "k",
        })
    });
    let values = added.chain(schedules.iter().cloned()).map(|value| value.to_string());
    values.chain(expressions.map(str::to_owned)).collect()
}

/// Neither JSON nor an expression, refused, due.
fn read(input: &[u8]) -> usize {
    let text = String::from_utf8_lossy(input);
    if let Some(at) = instant(&text) {
        due(&Schedule::At { at: serde_json::from_value(json!(text)).unwrap() }, Some(at));
    }
    let Ok(raw) = serde_json::from_str::<&RawValue>(&text) else {
        let expression = json!({ "kind": "cron", "expr": text, "tz": "UTC", "staggerMs": 0 });
        return serde_json::from_value(expression)
            .map_or(0, |schedule| 2 * usize::from(due(&schedule, None)));
    };
    if let Ok(schedule) = serde_json::from_str::<Schedule>(raw.get()) {
        kept(&schedule, raw.get());
        return 1 + usize::from(due(&schedule, None));
    }
    match params::<AddParams>("cron.add", Some(raw)) {
        Err(Refusal { message, .. }) => {
            assert!(message.starts_with("invalid cron.add params: "), "{message}");
            1
        }
        Ok(add) => {
            let written: Value = serde_json::from_str(raw.get()).unwrap();
            kept(&add.schedule, &written["schedule"].to_string());
            assert_eq!(written["name"], *add.name);
            1 + usize::from(due(&add.schedule, None))
        }
    }
}

/// A schedule is written as it was read.
fn kept(schedule: &Schedule, text: &str) {
    let (written, read) = (serde_json::to_value(schedule).unwrap(), serde_json::from_str(text));
    assert_eq!(written["kind"], schedule.kind());
    assert!(read.is_ok_and(|read: Value| {
        let members = written.as_object().unwrap().iter();
        members.into_iter().all(|(key, value)| crate::same(value, &read[key]))
    }));
    assert_eq!(serde_json::from_value::<Schedule>(written).as_ref().ok(), Some(schedule));
}

/// From when it is asked what is due: the epoch, our days, a clock that is changed, far away, as far as there is.
const TIMES: [i64; 7] =
    [0, 1_795_138_738_921, 1_774_742_400_000, 1_792_886_400_001, 253_402_300_799_000, MAX_TIME, -1];
const MAX_TIME: i64 = MAX_TIME_MS as i64;
/// What is looked back at.
const DAY_MS: i64 = 86_400_000;

/// Whether there is something due ever; `once` is when, if that is known.
fn due(schedule: &Schedule, once: Option<i64>) -> bool {
    let table = match Timetable::of("job", schedule, TIMES[1]) {
        Ok(table) => table,
        Err(why) => {
            assert!(!why.trim().is_empty());
            return false;
        }
    };
    assert_eq!(table.is_once(), matches!(schedule, Schedule::At { .. }));
    for from in TIMES {
        let instants: Vec<i64> =
            std::iter::successors(table.after(from), |t| table.after(*t)).take(5).collect();
        assert!(instants.iter().all(|t| *t > from), "{instants:?} after {from}");
        assert!(instants.is_sorted_by(|a, b| a < b), "{instants:?}");
        if let Schedule::Every { every_ms, .. } = schedule {
            let every = i64::try_from(every_ms.get()).unwrap().max(SHORTEST_MS);
            assert!(instants.windows(2).all(|pair| pair[1] - pair[0] == every), "{instants:?}");
        }
        if let Some(at) = once {
            assert_eq!(instants, if at > from { vec![at] } else { vec![] });
        }
        let first = instants.first();
        assert!(first.is_none_or(|first| table.after(first - 1) == Some(*first)), "{first:?} from {from}");
        let missed = table.between(from - DAY_MS, from, 3);
        assert!(missed.len() <= 3 && missed.is_sorted_by(|a, b| a < b), "{missed:?}");
        assert!(missed.iter().all(|t| (from - DAY_MS + 1..=from).contains(t)), "{missed:?}");
        assert!(
            missed.last().is_none_or(|last| table.after(*last).is_none_or(|next| next > from)),
            "{missed:?}"
        );
    }
    true
}

//! Messages on their way out, people and what was overheard: every operation twice.

use serde_json::json;

use super::super::db::Db;
use super::super::db::tests::apply_one;
use super::super::rows::{ContactRow, DeliveryRow, DeliveryState, OverheardRow, WriteOp};
use super::*;

fn message(id: &str, state: DeliveryState) -> DeliveryRow {
    DeliveryRow {
        id: id.into(),
        channel: "telegram".into(),
        account: "default".into(),
        address: json!({ "chat": "1" }),
        session_key: None,
        run_id: None,
        text: id.into(),
        extra: json!({}),
        state,
        attempts: 0,
        platform_id: None,
        error: None,
        created_at: 1,
        updated_at: 1,
    }
}

fn twice(db: &Db, op: WriteOp) {
    apply_one(db, &op).unwrap();
    apply_one(db, &op).unwrap();
}

fn open(db: &Db) -> Vec<(String, DeliveryState)> {
    let rows = db.read(|c| open_deliveries(c, "telegram", "default", (10, 10))).unwrap();
    rows.into_iter().map(|row| (row.id, row.state)).collect()
}

#[test]
fn a_message_goes_its_way_once_and_what_is_final_stays() {
    use DeliveryState::{Queued, Sending, Sent, Uncertain};
    let db = Db::memory().unwrap();
    twice(&db, WriteOp::Deliver(vec![message("a", Queued), message("b", Queued)]));
    twice(&db, WriteOp::Delivery(message("a", Sending)));
    assert_eq!(open(&db), [("a".into(), Sending), ("b".into(), Queued)]);
    let sent = DeliveryRow { platform_id: Some("77".into()), ..message("a", Sent) };
    twice(&db, WriteOp::Delivery(sent.clone()));
    twice(&db, WriteOp::Delivery(message("a", Queued)));
    twice(&db, WriteOp::Deliver(vec![message("a", Queued)]));
    assert_eq!(open(&db), [("b".into(), Queued)]);
    assert_eq!(db.read(|c| delivery_by_id(c, "a")).unwrap(), Some(sent));
    twice(&db, WriteOp::Delivery(message("b", Uncertain)));
    let counts = db.read(|c| delivery_counts(c, "telegram", "default")).unwrap();
    assert_eq!(counts, [("sent".into(), 1), ("uncertain".into(), 1)]);
}

#[test]
fn a_chat_that_takes_nothing_leaves_room_for_the_others() {
    let db = Db::memory().unwrap();
    let mut rows: Vec<_> = (0..5).map(|n| message(&format!("a{n}"), DeliveryState::Queued)).collect();
    rows.push(DeliveryRow { address: json!({ "chat": "2" }), ..message("z", DeliveryState::Queued) });
    twice(&db, WriteOp::Deliver(rows));
    let ids = |window| {
        let rows = db.read(|c| open_deliveries(c, "telegram", "default", window)).unwrap();
        rows.into_iter().map(|row| row.id).collect::<Vec<_>>()
    };
    assert_eq!(ids((2, 10)), ["a0", "a1", "z"]);
    assert_eq!(ids((2, 2)), ["a0", "a1"]);
}

#[test]
fn what_is_uncertain_is_told_once() {
    let db = Db::memory().unwrap();
    let at = json!({ "chat": "1" });
    twice(&db, WriteOp::Deliver(vec![message("a", DeliveryState::Queued)]));
    twice(&db, WriteOp::Delivery(message("a", DeliveryState::Uncertain)));
    let told = db.read(|c| unreported(c, "telegram", "default", &at)).unwrap();
    assert_eq!(told.len(), 1);
    let report =
        WriteOp::ReportUncertain { ids: vec!["a".into()], with: message("r", DeliveryState::Queued) };
    twice(&db, report);
    assert!(db.read(|c| unreported(c, "telegram", "default", &at)).unwrap().is_empty());
    assert_eq!(open(&db), [("r".into(), DeliveryState::Queued)]);
}

#[test]
fn people_who_wait_are_few_and_do_not_wait_for_ever() {
    let db = Db::memory().unwrap();
    let person = |n: i64, approved_at| ContactRow {
        channel: "telegram".into(),
        account: "default".into(),
        id: format!("p{n:03}"),
        code: Some("ABCD".into()),
        meta: json!({}),
        created_at: n,
        last_seen_at: n,
        approved_at,
    };
    twice(&db, WriteOp::PutContact(person(0, Some(1))));
    for n in 1..=60 {
        twice(&db, WriteOp::PutContact(person(n, None)));
    }
    let all = db.read(|c| contacts(c, "telegram")).unwrap();
    assert_eq!((all.len(), &*all[0].id, &*all[1].id), (51, "p000", "p011"), "who was let in stays");
    twice(&db, WriteOp::PutContact(person(4_000_000, None)));
    assert_eq!(db.read(|c| contacts(c, "telegram")).unwrap().len(), 2, "the others have waited too long");
    let (channel, account, id) = ("telegram".to_owned(), "default".to_owned(), "p000".to_owned());
    twice(&db, WriteOp::RemoveContact { channel, account, id });
    assert_eq!(db.read(|c| contact(c, "telegram", "default", "p000")).unwrap(), None);
}

#[test]
fn the_last_of_what_was_overheard_is_kept_until_it_is_told() {
    let db = Db::memory().unwrap();
    for n in 0..5 {
        let row = OverheardRow {
            session_key: "agent:main:telegram:group:1".into(),
            source: "telegram:default".into(),
            source_id: format!("{n}"),
            from: "Ann".into(),
            text: format!("t{n}"),
            at: n,
        };
        twice(&db, WriteOp::Overhear { row, most: 3 });
    }
    let heard = db.read(|c| overheard(c, "agent:main:telegram:group:1")).unwrap();
    let texts: Vec<&str> = heard.iter().map(|(_, row)| &*row.text).collect();
    assert_eq!(texts, ["t2", "t3", "t4"]);
    let told: Vec<i64> = heard.iter().map(|(seq, _)| *seq).collect();
    db.write(|c| forget_overheard(c, &json!({ "overheard": told }))).unwrap();
    assert!(db.read(|c| overheard(c, "agent:main:telegram:group:1")).unwrap().is_empty());
    twice(&db, WriteOp::PutCheckpoint { channel: "t".into(), account: "a".into(), place: "9".into() });
    assert_eq!(db.read(|c| checkpoint(c, "t", "a")).unwrap().as_deref(), Some("9"));
}

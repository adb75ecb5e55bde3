//! Transcripts: positions, idempotency, pages, resets, search.

use serde_json::json;

use super::super::db::Db;
use super::super::db::tests::{KEY, apply_one, said};
use super::super::rows::{SessionUpdate, WriteOp, WriteReply};
use super::*;

fn db() -> Db {
    let db = Db::memory().unwrap();
    update(&db, SessionUpdate { session_id_if_new: Some("s1".into()), ..SessionUpdate::default() });
    db
}

fn update(db: &Db, update: SessionUpdate) {
    apply_one(db, &WriteOp::UpdateSession { key: KEY.into(), update }).unwrap();
}

fn add(db: &Db, message: NewMessage) -> (MessageRow, bool) {
    let reply = apply_one(db, &WriteOp::AppendMessage(message)).unwrap();
    let WriteReply::Appended(row, fresh) = reply else { panic!("{reply:?}") };
    (row, fresh)
}

fn page(db: &Db, limit: u32, offset: u32) -> (String, i64) {
    let found = db.read(|c| history(c, KEY, HistoryPage { limit, offset })).unwrap();
    (found.rows.iter().map(|r| r.id.as_str()).collect::<Vec<_>>().join(" "), found.total)
}

#[test]
fn rows_are_numbered_and_written_once() {
    let db = db();
    let (first, fresh) = add(&db, said(1, "user", "one"));
    assert!(fresh && first.session_id == "s1");
    assert_eq!(add(&db, said(1, "user", "one")), (first.clone(), false));
    let same_key = NewMessage { id: "again".into(), ..said(1, "user", "one") };
    assert_eq!(add(&db, same_key), (first.clone(), false));
    let hidden = add(&db, NewMessage { hidden: true, ..said(2, "custom", "secret") }).0;
    assert_eq!((hidden.seq, hidden.raw_seq, hidden.hidden), (None, 2, true));
    let third = add(&db, NewMessage { parent: Some("m1".into()), ..said(3, "assistant", "three") }).0;
    assert_eq!((third.seq, third.raw_seq), (Some(2), 3));

    assert_eq!(page(&db, 10, 0), ("m1 m3".into(), 2));
    assert_eq!(db.read(|c| message(c, KEY, "m3")).unwrap(), Some(third));
    assert_eq!(db.read(|c| message(c, "nobody", "m3")).unwrap(), None);
    assert_eq!(db.read(|c| messages_by_run(c, "k2")).unwrap(), [hidden]);
    let stray = NewMessage { session_key: "nobody".into(), ..said(4, "user", "x") };
    assert_eq!(apply_one(&db, &WriteOp::AppendMessage(stray)), Err(StoreError::NotFound));
}

#[test]
fn history_is_paged_from_the_newest() {
    let db = db();
    assert_eq!(page(&db, 5, 0), (String::new(), 0));
    for n in 1..=5 {
        add(&db, said(n, "user", "x"));
    }
    assert_eq!(page(&db, 2, 0), ("m4 m5".into(), 5));
    assert_eq!(page(&db, 2, 2), ("m2 m3".into(), 5));
    assert_eq!(page(&db, 2, 4), ("m1".into(), 5));
    assert_eq!(page(&db, 2, 9), (String::new(), 5));
    let after = db.read(|c| history_after(c, KEY, 3, 10)).unwrap();
    assert_eq!(after.iter().filter_map(|r| r.seq).collect::<Vec<_>>(), [4, 5]);
    let none = db.read(|c| history(c, "nobody", HistoryPage { limit: 5, offset: 0 })).unwrap();
    assert_eq!(none, HistoryResult::default());
}

#[test]
fn a_reset_and_a_rewind_each_begin_an_empty_transcript() {
    let db = db();
    add(&db, said(1, "user", "before"));
    update(&db, SessionUpdate { revision: Some("r2".into()), ..SessionUpdate::default() });
    assert_eq!(page(&db, 5, 0), (String::new(), 0));
    let (row, _) = add(&db, said(2, "system", "Reset"));
    assert_eq!((row.seq, row.session_id.as_str()), (Some(1), "s1"));
    assert!(!add(&db, said(1, "user", "before")).1, "sent again from before the reset");

    update(&db, SessionUpdate { session_id: Some("s2".into()), ..SessionUpdate::default() });
    let kept = NewMessage { id: "copy".into(), ..said(1, "user", "before") };
    assert_eq!(add(&db, kept).0.session_id, "s2");
    assert_eq!(page(&db, 5, 0), ("copy".into(), 1));
    let late = NewMessage { session_id: "s1".into(), ..said(3, "assistant", "late") };
    assert_eq!(add(&db, late).0.seq, Some(2), "it goes where its session was");
    assert_eq!(page(&db, 5, 0), ("copy".into(), 1));
}

#[test]
fn a_page_can_be_had_around_a_message() {
    let db = db();
    for n in 1..=9 {
        add(&db, said(n, "user", "x"));
    }
    let around = |id: &str, limit| {
        let page = db.read(|c| history_around(c, KEY, id, limit)).unwrap()?;
        Some(page.rows.iter().filter_map(|r| r.seq).collect::<Vec<_>>())
    };
    assert_eq!(around("m5", 3).unwrap(), [4, 5, 6]);
    assert_eq!(around("m5", 1).unwrap(), [5]);
    assert_eq!(around("m5", 4).unwrap(), [4, 5, 6, 7]);
    assert_eq!(around("m1", 3).unwrap(), [1, 2, 3]);
    assert_eq!(around("m9", 3).unwrap(), [7, 8, 9]);
    assert_eq!(around("m9", 99).unwrap().len(), 9);
    assert_eq!(around("nobody", 3), None);
    add(&db, NewMessage { hidden: true, ..said(10, "custom", "x") });
    assert_eq!(around("m10", 3), None);
}

#[test]
fn a_transcript_shows_what_was_said_first_and_last() {
    let db = db();
    let shown = || {
        let record = db.read(|c| super::super::sessions::session(c, KEY)).unwrap().unwrap();
        (record.title.unwrap_or_default(), record.last_said.unwrap_or_default())
    };
    assert_eq!(shown(), (String::new(), String::new()));
    let aside = json!({ "content": "/status", "excludeFromContext": true });
    add(&db, NewMessage { message: aside, ..said(1, "user", "") });
    assert_eq!(shown(), (String::new(), "/status".into()));
    add(&db, said(2, "user", "a\nquestion"));
    add(&db, said(3, "toolResult", "output"));
    add(&db, NewMessage { hidden: true, ..said(4, "assistant", "hidden") });
    let call = json!({ "role": "assistant", "content": [{ "type": "toolCall" }] });
    add(&db, NewMessage { message: call, ..said(5, "assistant", "") });
    assert_eq!(shown(), ("a question".into(), "a question".into()));
    let blocks = json!({ "content": [{ "type": "text", "text": "é".repeat(500) }] });
    add(&db, NewMessage { message: blocks, ..said(6, "assistant", "") });
    assert_eq!((shown().0.as_str(), shown().1.chars().count()), ("a question", EXCERPT));
    update(&db, SessionUpdate { revision: Some("r2".into()), ..SessionUpdate::default() });
    assert_eq!(shown(), (String::new(), String::new()));
}

#[test]
fn search_finds_visible_text_of_current_transcripts() {
    let db = db();
    add(&db, said(1, "user", "Where is the Crab Nebula?"));
    add(
        &db,
        said(
            2,
            "assistant",
            &format!("{} In Taurus: the crabs' nébula. {}", "pad ".repeat(99), "x ".repeat(99)),
        ),
    );
    add(&db, NewMessage { hidden: true, ..said(3, "user", "hidden nebula") });
    add(&db, said(4, "toolResult", "nebula output"));
    add(&db, said(5, "system", "nebula notice"));
    let search = |query: &str| {
        let filter = SearchFilter { query: query.into(), limit: 10, ..SearchFilter::default() };
        db.read(|c| search(c, &filter)).unwrap()
    };
    let ids = |query: &str| search(query).into_iter().map(|h| h.message_id).collect::<Vec<_>>();

    assert_eq!(ids("nebula"), ["m1", "m2"]);
    assert_eq!(ids("crab NEB"), ["m1", "m2"]);
    assert_eq!(ids("taurus"), ["m2"]);
    assert_eq!(ids("comet"), Vec::<String>::new());
    for odd in ["", "  ", "\"", "* ^ ()", "NEAR(", "a\" OR \"b", "col:x", "-nebula\0"] {
        search(odd);
    }
    assert_eq!(ids("nebula OR comet"), Vec::<String>::new());
    let hit = search("taurus").remove(0);
    assert_eq!((hit.role.as_str(), hit.session_key.as_str(), hit.timestamp), ("assistant", KEY, 2_002));
    assert!(hit.snippet.contains("Taurus") && hit.snippet.chars().count() <= EXCERPT, "{}", hit.snippet);
    assert!(hit.score > 0.0);
    update(&db, SessionUpdate { revision: Some("r2".into()), ..SessionUpdate::default() });
    assert_eq!(ids("nebula"), Vec::<String>::new());
}

#[test]
fn every_read_uses_an_index() {
    let db = db();
    let plan = |sql: &str| {
        let steps = |c: &Connection| {
            let mut statement = c.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
            Ok(statement.query_map([], |r| r.get::<_, String>(3))?.collect::<Result<Vec<_>, _>>()?.join("; "))
        };
        db.read(steps).unwrap()
    };
    for (sql, index) in [
        (select!("WHERE p.transcript = 1 AND p.seq <= 5 ORDER BY p.seq DESC LIMIT 3"), "places_visible"),
        (select!("WHERE p.transcript = 1 AND p.raw_seq > 5 ORDER BY p.raw_seq LIMIT 3"), "USING PRIMARY KEY"),
        (select!("WHERE m.idempotency_key = 'k' AND +p.transcript = 1"), "messages_key"),
        (select!("WHERE m.id = 'k' AND p.transcript = 1"), "places_of"),
        (select!("WHERE m.run_id = 'k' ORDER BY m.pos"), "messages_run"),
    ] {
        let plan = plan(sql);
        assert!(plan.contains(index) && !plan.contains("SCAN") && !plan.contains("TEMP"), "{sql}: {plan}");
    }
}

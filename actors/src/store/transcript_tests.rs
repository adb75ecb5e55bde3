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
    assert_eq!(db.read(|c| message(c, "m3")).unwrap(), Some(third));
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
fn the_preview_is_the_last_thing_said() {
    let db = db();
    let preview = || db.read(|c| last_message_preview(c, KEY)).unwrap();
    assert_eq!(preview(), None);
    add(&db, said(1, "user", "a\nquestion"));
    add(&db, said(2, "toolResult", "output"));
    let call = json!({ "role": "assistant", "content": [{ "type": "toolCall" }] });
    add(&db, NewMessage { message: call, ..said(3, "assistant", "") });
    assert_eq!(preview().as_deref(), Some("a question"));
    let blocks = json!({ "content": [{ "type": "text", "text": "é".repeat(500) }] });
    add(&db, NewMessage { message: blocks, ..said(4, "assistant", "") });
    assert_eq!(preview().unwrap().chars().count(), EXCERPT);
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
    let search = |query: &str| db.read(|c| search(c, query, 10)).unwrap();
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

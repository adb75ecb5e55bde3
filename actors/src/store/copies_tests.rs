//! Copies: what is in them, what stays of them when their origin goes, and which of them are branches.

use serde_json::json;

use super::super::db::Db;
use super::super::db::tests::{KEY, apply_one, said};
use super::super::rows::{CopyRange, SessionUpdate, WriteOp, WriteReply};
use super::super::sessions::session;
use super::*;

const FORK: &str = "agent:main:fork";

/// Five visible rows with a hidden one after the second and one at the end.
fn sample() -> Db {
    let db = Db::memory().unwrap();
    let update = SessionUpdate { session_id_if_new: Some("s1".into()), ..SessionUpdate::default() };
    apply_one(&db, &WriteOp::UpdateSession { key: KEY.into(), update }).unwrap();
    for n in [1, 2, 90, 3, 4, 5, 91] {
        let kind = if n >= 90 { "custom" } else { ["assistant", "user"][n as usize % 2] };
        let text = format!("{} number{n}", ["even", "odd"][n as usize % 2]);
        append(&db, NewMessage { hidden: n >= 90, ..said(n, kind, &text) });
    }
    db
}

fn append(db: &Db, message: NewMessage) {
    apply_one(db, &WriteOp::AppendMessage(message)).unwrap();
}

fn copy_op(to: &str, session_id: &str, range: CopyRange, branch: bool) -> WriteOp {
    WriteOp::CopyTranscript {
        from_key: KEY.into(),
        to_key: to.into(),
        session_id: session_id.into(),
        revision: String::new(),
        range,
        branch,
        at: 7,
    }
}

fn switch_op(key: &str, session_id: &str) -> WriteOp {
    let session_id = session_id.to_owned();
    let update = SessionUpdate { session_id: Some(session_id), ..SessionUpdate::default() };
    WriteOp::UpdateSession { key: key.into(), update }
}

/// Copies and makes the copy current, in one operation.
fn go(db: &Db, to: &str, session_id: &str, range: CopyRange, branch: bool) -> Result<u64, StoreError> {
    let op = WriteOp::All(vec![copy_op(to, session_id, range, branch), switch_op(to, session_id)]);
    let WriteReply::All(replies) = apply_one(db, &op)? else { panic!() };
    let WriteReply::Copied(rows) = replies[0] else { panic!("{replies:?}") };
    Ok(rows)
}

/// The rows of the current transcript as `id:raw_seq:seq`.
fn rows(db: &Db, key: &str) -> String {
    let rows = db.read(|c| {
        let transcript = current(c, key)?.unwrap().transcript.unwrap();
        transcript_rows(c, transcript, 0, 100)
    });
    let row =
        |r: MessageRow| format!("{}:{}:{}", r.id, r.raw_seq, r.seq.map_or("-".into(), |s| s.to_string()));
    rows.unwrap().into_iter().map(row).collect::<Vec<_>>().join(" ")
}

fn before(id: &str) -> CopyRange {
    CopyRange::Before(id.into())
}

fn hits(db: &Db, filter: SearchFilter) -> Vec<String> {
    let hits = db.read(|c| search(c, &SearchFilter { limit: 50, ..filter })).unwrap();
    let mut hits: Vec<_> = hits.into_iter().map(|h| format!("{} {}", h.session_key, h.message_id)).collect();
    hits.sort();
    hits
}

fn everywhere(query: &str) -> SearchFilter {
    SearchFilter { query: query.into(), ..SearchFilter::default() }
}

fn count_of(db: &Db, table: &str) -> i64 {
    db.read(|c| Ok(c.query_row(&format!("SELECT count(*) FROM {table}"), [], |r| r.get(0))?)).unwrap()
}

#[test]
fn a_copy_has_the_rows_of_its_range_counted_anew() {
    for (range, visible, expected) in [
        (before("m1"), 0, ""),
        (before("m3"), 2, "m1:1:1 m2:2:2 m90:3:-"),
        (before("m90"), 2, "m1:1:1 m2:2:2"),
        (CopyRange::From("m4".into()), 2, "m4:1:1 m5:2:2 m91:3:-"),
        (CopyRange::Last(0), 0, ""),
        (CopyRange::Last(4), 4, "m2:1:1 m90:2:- m3:3:2 m4:4:3 m5:5:4 m91:6:-"),
        (CopyRange::Last(9), 5, "m1:1:1 m2:2:2 m90:3:- m3:4:3 m4:5:4 m5:6:5 m91:7:-"),
    ] {
        let db = sample();
        assert_eq!(go(&db, FORK, "f1", range.clone(), false), Ok(visible), "{range:?}");
        assert_eq!(rows(&db, FORK), expected, "{range:?}");
        let page = db.read(|c| history(c, FORK, HistoryPage { limit: 9, offset: 0 })).unwrap();
        assert_eq!((page.total, page.rows.len()), (visible as i64, visible as usize));
        append(&db, NewMessage { session_key: FORK.into(), ..said(6, "user", "on") });
        let last = db.read(|c| message(c, FORK, "m6")).unwrap().unwrap();
        assert_eq!(last.seq, Some(visible as i64 + 1));
        assert_eq!(rows(&db, KEY).split(' ').count(), 7, "the origin is as it was");
    }
}

#[test]
fn a_copy_is_made_once_and_of_what_there_is() {
    let db = sample();
    assert_eq!(go(&db, FORK, "f1", before("m3"), false), Ok(2));
    append(&db, NewMessage { session_key: FORK.into(), ..said(6, "user", "on") });
    assert_eq!(go(&db, FORK, "f1", before("m3"), false), Ok(2));
    assert_eq!(go(&db, FORK, "f1", before("m5"), false), Ok(2), "it stands already");
    assert_eq!(rows(&db, FORK), "m1:1:1 m2:2:2 m90:3:- m6:4:3");

    assert_eq!(go(&db, FORK, "f2", before("nobody"), false), Err(StoreError::NotFound));
    assert_eq!(go(&db, FORK, "f2", before("m6"), false), Err(StoreError::NotFound), "not in this session");
    let op = WriteOp::CopyTranscript {
        from_key: "nobody".into(),
        to_key: FORK.into(),
        session_id: "f2".into(),
        revision: String::new(),
        range: CopyRange::Last(1),
        branch: false,
        at: 7,
    };
    assert_eq!(apply_one(&db, &op), Err(StoreError::NotFound));
    assert!(matches!(go(&db, KEY, "s1", before("m3"), true), Err(StoreError::Conflict { .. })));
    assert_eq!(db.read(|c| session(c, FORK)).unwrap().unwrap().session_id, "f1");

    let empty = SessionUpdate { session_id_if_new: Some("e".into()), ..SessionUpdate::default() };
    apply_one(&db, &WriteOp::UpdateSession { key: "agent:main:empty".into(), update: empty }).unwrap();
    let of_empty = |range| WriteOp::CopyTranscript {
        from_key: "agent:main:empty".into(),
        to_key: FORK.into(),
        session_id: "f3".into(),
        revision: String::new(),
        range,
        branch: false,
        at: 7,
    };
    assert_eq!(apply_one(&db, &of_empty(before("m1"))), Err(StoreError::NotFound));
    assert_eq!(apply_one(&db, &of_empty(CopyRange::Last(3))), Ok(WriteReply::Copied(0)));
}

#[test]
fn a_message_in_a_copy_is_found_standing_there() {
    let db = sample();
    go(&db, FORK, "f1", before("m3"), false).unwrap();
    let there = |n, key: &str| {
        let op =
            WriteOp::AppendMessage(NewMessage { session_key: key.into(), ..said(n, "user", "odd number1") });
        let WriteReply::Appended(row, fresh) = apply_one(&db, &op).unwrap() else { panic!() };
        (row.id, row.session_key, fresh)
    };
    assert_eq!(there(1, FORK), ("m1".into(), FORK.into(), false));
    assert_eq!(there(1, KEY), ("m1".into(), KEY.into(), false));
    // The idempotency key is taken in both, by the same row.
    let again = NewMessage { id: "again".into(), session_key: FORK.into(), ..said(1, "user", "x") };
    let WriteReply::Appended(row, false) = apply_one(&db, &WriteOp::AppendMessage(again)).unwrap() else {
        panic!()
    };
    assert_eq!((row.id.as_str(), row.session_key.as_str()), ("m1", FORK));
    let run = db.read(|c| messages_by_run(c, "k1")).unwrap();
    assert_eq!(
        run.iter().map(|r| r.session_key.as_str()).collect::<Vec<_>>(),
        [KEY],
        "once, and where it was said"
    );
}

#[test]
fn excerpts_follow_the_copy() {
    let db = sample();
    let shown = |key: &str| {
        let record = db.read(|c| session(c, key)).unwrap().unwrap();
        (record.title.unwrap_or_default(), record.last_said.unwrap_or_default())
    };
    go(&db, FORK, "f1", before("m3"), false).unwrap();
    assert_eq!(shown(FORK), ("odd number1".into(), "even number2".into()));
    go(&db, FORK, "f2", CopyRange::From("m4".into()), false).unwrap();
    assert_eq!(shown(FORK), ("odd number5".into(), "odd number5".into()));
    go(&db, FORK, "f3", CopyRange::Last(0), false).unwrap();
    assert_eq!(shown(FORK), (String::new(), String::new()));
    let aside = json!({ "content": "aside", "excludeFromContext": true });
    let key = || KEY.to_owned();
    apply_one(&db, &switch_op(KEY, "s0")).unwrap();
    append(&db, NewMessage { session_key: key(), message: aside, ..said(7, "user", "") });
    append(&db, NewMessage { session_key: key(), ..said(8, "assistant", "said") });
    go(&db, KEY, "s9", CopyRange::Last(9), true).unwrap();
    assert_eq!(shown(KEY), (String::new(), "said".into()));
}

#[test]
fn branches_are_listed_and_can_be_gone_back_to() {
    let db = sample();
    let listed = || {
        let brief = |b: Branch| {
            format!("{}/{}/{}{}", b.leaf_id, b.headline, b.message_count, if b.active { "*" } else { "" })
        };
        db.read(|c| branches(c, KEY)).unwrap().into_iter().map(brief).collect::<Vec<_>>()
    };
    assert_eq!(listed(), ["m5/odd number5/5*"]);
    go(&db, KEY, "s2", before("m3"), true).unwrap();
    assert_eq!(listed(), ["m2/even number2/2*", "m5/odd number5/5"]);
    append(&db, said(95, "user", "another way"));
    assert_eq!(listed(), ["m95/another way/3*", "m5/odd number5/5"]);
    go(&db, KEY, "s3", before("m1"), true).unwrap();
    assert_eq!(listed(), ["m95/another way/3", "m5/odd number5/5"], "an empty one has no leaf");
    assert_eq!(db.read(|c| session(c, KEY)).unwrap().unwrap().title, None);

    let branch = db.read(|c| branch_of(c, KEY, "m5")).unwrap().unwrap();
    assert_eq!((branch.session_id.as_str(), branch.revision.as_str(), branch.updated_at), ("s1", "", 2_091));
    apply_one(&db, &switch_op(KEY, &branch.session_id)).unwrap();
    assert_eq!(listed(), ["m5/odd number5/5*", "m95/another way/3"]);
    assert_eq!(db.read(|c| branch_of(c, KEY, "m4")).unwrap(), None);
    assert_eq!(db.read(|c| branch_of(c, FORK, "m5")).unwrap(), None);

    // Twice back to the same place is one branch.
    go(&db, KEY, "s4", before("m3"), true).unwrap();
    apply_one(&db, &switch_op(KEY, "s1")).unwrap();
    go(&db, KEY, "s5", before("m3"), true).unwrap();
    assert_eq!(listed(), ["m2/even number2/2*", "m95/another way/3", "m5/odd number5/5"]);

    let reset = SessionUpdate { revision: Some("r2".into()), ..SessionUpdate::default() };
    apply_one(&db, &WriteOp::UpdateSession { key: KEY.into(), update: reset }).unwrap();
    assert_eq!(listed(), Vec::<String>::new());
    append(&db, said(9, "user", "after the reset"));
    assert_eq!(listed(), ["m9/after the reset/1*"]);
    assert_eq!(db.read(|c| transcripts_of(c, KEY)).unwrap().len(), 6, "none is lost");
}

#[test]
fn a_copy_that_is_no_branch_takes_the_place_of_the_old_one() {
    let db = sample();
    go(&db, KEY, "s2", before("m5"), true).unwrap();
    append(&db, said(6, "user", "six"));
    go(&db, KEY, "s3", CopyRange::Last(1), false).unwrap();
    let leaves = |key: &str| {
        let all = db.read(|c| branches(c, key)).unwrap();
        all.into_iter().map(|b| format!("{} {}", b.session_id, b.leaf_id)).collect::<Vec<_>>()
    };
    assert_eq!(leaves(KEY), ["s3 m6", "s1 m5"]);
    go(&db, FORK, "f1", CopyRange::Last(1), true).unwrap();
    assert_eq!(
        (leaves(FORK), leaves(KEY).len()),
        (vec!["f1 m6".to_owned()], 2),
        "a fork is a family of its own"
    );
}

#[test]
fn search_finds_a_shared_message_in_each_session_and_in_those_asked_for() {
    let db = sample();
    go(&db, FORK, "f1", before("m3"), false).unwrap();
    assert_eq!(hits(&db, everywhere("number1")), [format!("{FORK} m1"), format!("{KEY} m1")]);
    assert_eq!(hits(&db, everywhere("number4")), [format!("{KEY} m4")]);
    let keys = Some(vec![FORK.to_owned()]);
    assert_eq!(hits(&db, SearchFilter { keys, ..everywhere("odd") }), [format!("{FORK} m1")]);
    let of =
        |agent: &str| hits(&db, SearchFilter { agent: Some(agent.into()), ..everywhere("number1") }).len();
    assert_eq!((of("main"), of("ops")), (2, 0));
    go(&db, KEY, "s2", before("m1"), true).unwrap();
    assert_eq!(hits(&db, everywhere("odd")), [format!("{FORK} m1")], "only where it is current");
}

#[test]
fn a_deleted_session_takes_with_it_what_only_it_had() {
    let db = sample();
    go(&db, FORK, "f1", before("m3"), false).unwrap();
    go(&db, KEY, "s2", before("m5"), true).unwrap();
    let delete =
        |key: &str| apply_one(&db, &WriteOp::DeleteSession { key: key.into(), keep_transcripts: false });
    assert_eq!(delete(KEY), Ok(WriteReply::Deleted(true)));
    assert_eq!(delete(KEY), Ok(WriteReply::Deleted(false)));
    assert_eq!(db.read(|c| session(c, KEY)).unwrap(), None);
    assert_eq!(rows(&db, FORK), "m1:1:1 m2:2:2 m90:3:-");
    assert_eq!((count_of(&db, "messages"), count_of(&db, "places"), count_of(&db, "transcripts")), (3, 3, 1));
    assert_eq!(count_of(&db, "message_texts_docsize"), 2);
    assert_eq!(hits(&db, everywhere("number")), [format!("{FORK} m1"), format!("{FORK} m2")]);
    assert_eq!(db.read(|c| messages_by_run(c, "k1")).unwrap()[0].session_key, FORK);

    assert_eq!(delete(FORK), Ok(WriteReply::Deleted(true)));
    assert_eq!((count_of(&db, "messages"), count_of(&db, "message_texts_docsize")), (0, 0));
    // What comes after takes the numbers of what went, and nothing of its texts.
    let update = SessionUpdate::default();
    apply_one(&db, &WriteOp::UpdateSession { key: KEY.into(), update }).unwrap();
    append(&db, said(1, "user", "afresh"));
    assert_eq!(hits(&db, everywhere("odd")), Vec::<String>::new());
    assert_eq!(hits(&db, everywhere("afresh")), [format!("{KEY} m1")]);
}

#[test]
fn all_rows_of_a_transcript_can_be_read_in_pages() {
    let db = sample();
    let info = db.read(|c| transcripts_of(c, KEY)).unwrap().remove(0);
    assert_eq!((info.session_id.as_str(), info.total, info.visible, info.updated_at), ("s1", 7, 5, 2_091));
    let (mut after, mut ids) = (0, Vec::new());
    loop {
        let page = db.read(|c| transcript_rows(c, info.id, after, 3)).unwrap();
        let Some(last) = page.last() else { break };
        after = last.raw_seq;
        ids.extend(page.into_iter().map(|r| r.id));
    }
    assert_eq!(ids, ["m1", "m2", "m90", "m3", "m4", "m5", "m91"]);
    assert_eq!(db.read(|c| transcripts_of(c, "nobody")).unwrap(), []);
}

//! Session records: partial updates, lists, groups, the end of a session.

use super::super::db::Db;
use super::super::db::tests::{KEY, accept, apply_one, said};
use super::super::rows::{WriteOp, WriteReply};
use super::*;
use serde_json::json;

fn update(db: &Db, key: &str, update: SessionUpdate) -> SessionRecord {
    let op = WriteOp::UpdateSession { key: key.into(), update };
    let mut replies = db.apply_batch(&[op], &|_| {}).unwrap();
    let WriteReply::Session(record) = replies.remove(0).unwrap() else { panic!() };
    record
}

#[test]
fn an_update_creates_merges_clears_and_repeats() {
    let db = Db::memory().unwrap();
    let first = SessionUpdate {
        at: 5,
        session_id_if_new: Some("s1".into()),
        label: Some(Some("Shop".into())),
        last_interaction_at: Some(5),
        entry: Some(json!({ "model": { "provider": "a", "id": "b" }, "category": "x" })),
        ..SessionUpdate::default()
    };
    let record = update(&db, "agent:ops:shop", first.clone());
    assert_eq!((record.agent_id.as_str(), record.session_id.as_str(), record.created_at), ("ops", "s1", 5));
    assert_eq!(update(&db, "agent:ops:shop", first), record);
    let second = SessionUpdate {
        at: 3,
        session_id_if_new: Some("s2".into()),
        label: Some(None),
        status: Some(Some("running".into())),
        last_interaction_at: Some(2),
        entry: Some(json!({ "model": { "id": null }, "category": null, "n": 1 })),
        ..SessionUpdate::default()
    };
    let record = update(&db, "agent:ops:shop", second);
    assert_eq!(record.entry, json!({ "model": { "provider": "a" }, "n": 1 }));
    assert_eq!((record.session_id.as_str(), record.label.as_deref()), ("s1", None));
    assert_eq!((record.created_at, record.updated_at, record.last_interaction_at), (5, 5, Some(5)));
    assert_eq!(db.read(|c| session(c, "agent:ops:shop")).unwrap(), Some(record));
}

#[test]
fn an_entry_patch_that_is_no_object_is_refused() {
    let db = Db::memory().unwrap();
    let update = SessionUpdate { entry: Some(json!([1])), ..SessionUpdate::default() };
    let op = WriteOp::UpdateSession { key: "k".into(), update };
    let replies = db.apply_batch(&[op], &|_| {}).unwrap();
    assert!(matches!(replies[0], Err(StoreError::Conflict { .. })));
    assert_eq!(db.read(|c| session(c, "k")).unwrap(), None);
}

#[test]
fn lists_pinned_first_then_latest_with_filters_and_pages() {
    let db = Db::memory().unwrap();
    for (at, key, label) in
        [(1, "agent:main:a", "50% off"), (2, "agent:main:b", "Beta_x"), (3, "agent:ops:c", "gamma")]
    {
        let label = Some(Some(label.to_owned()));
        update(&db, key, SessionUpdate { at, label, ..SessionUpdate::default() });
    }
    let pin = SessionUpdate { entry: Some(json!({ "pinnedAt": 9 })), ..SessionUpdate::default() };
    update(&db, "agent:main:a", pin);
    let list = |filter: ListFilter| {
        let (rows, total) = db.read(|c| list_sessions(c, &filter)).unwrap();
        (rows.into_iter().map(|r| r.key.chars().last().unwrap()).collect::<String>(), total)
    };
    let all = ListFilter::default();
    assert_eq!(list(all.clone()), ("acb".into(), 3));
    assert_eq!(list(ListFilter { limit: 1, offset: 1, ..all.clone() }), ("c".into(), 3));
    assert_eq!(list(ListFilter { agent_id: Some("main".into()), ..all.clone() }), ("ab".into(), 2));
    assert_eq!(list(ListFilter { updated_after: Some(2), ..all.clone() }), ("c".into(), 1));
    assert_eq!(list(ListFilter { search: Some("BETA_".into()), ..all.clone() }), ("b".into(), 1));
    assert_eq!(list(ListFilter { search: Some("%".into()), ..all.clone() }), ("a".into(), 1));
    assert_eq!(list(ListFilter { search: Some("ops".into()), ..all }), ("c".into(), 1));
}

fn entry(db: &Db, key: &str, at: i64, entry: Value) {
    update(db, key, SessionUpdate { at, entry: Some(entry), ..SessionUpdate::default() });
}

fn keys(db: &Db, filter: ListFilter) -> String {
    let (rows, total) = db.read(|c| list_sessions(c, &filter)).unwrap();
    assert_eq!(rows.len() as i64, total);
    rows.into_iter().map(|r| r.key.chars().last().unwrap()).collect()
}

#[test]
fn lists_by_what_entries_say() {
    let db = Db::memory().unwrap();
    entry(&db, "agent:main:a", 1, json!({ "archivedAt": 5, "category": "work" }));
    entry(&db, "agent:main:b", 2, json!({ "category": "work", "displayName": "Great 100%" }));
    entry(&db, "agent:ops:c", 3, json!({ "spawnedBy": "agent:main:b" }));
    entry(&db, "agent:lab:d", 4, json!({ "pinnedAt": 1, "spawnedBy": "agent:main:b" }));
    for (key, spoke) in [("agent:main:b", 9), ("agent:ops:c", 2)] {
        update(&db, key, SessionUpdate { last_interaction_at: Some(spoke), ..SessionUpdate::default() });
    }
    update(
        &db,
        "agent:ops:c",
        SessionUpdate { label: Some(Some("Shop".into())), ..SessionUpdate::default() },
    );
    let all = ListFilter::default();
    assert_eq!(keys(&db, all.clone()), "dcb");
    assert_eq!(keys(&db, ListFilter { archived: Archived::Only, ..all.clone() }), "a");
    assert_eq!(keys(&db, ListFilter { archived: Archived::All, ..all.clone() }), "dcba");
    assert_eq!(keys(&db, ListFilter { sort: SortBy::Interaction, ..all.clone() }), "dbc");
    assert_eq!(keys(&db, ListFilter { sort: SortBy::Activity, ..all.clone() }), "dbc");
    assert_eq!(keys(&db, ListFilter { label: Some("Shop".into()), ..all.clone() }), "c");
    assert_eq!(keys(&db, ListFilter { label: Some("shop".into()), ..all.clone() }), "");
    assert_eq!(keys(&db, ListFilter { category: Some("work".into()), ..all.clone() }), "b");
    assert_eq!(keys(&db, ListFilter { spawned_by: Some("agent:main:b".into()), ..all.clone() }), "dc");
    assert_eq!(keys(&db, ListFilter { exclude_subagents: true, ..all.clone() }), "b");
    assert_eq!(keys(&db, ListFilter { exclude_prefixes: vec!["d", "x"], ..all.clone() }), "cb");
    assert_eq!(keys(&db, ListFilter { pinned: Some(true), ..all.clone() }), "d");
    assert_eq!(keys(&db, ListFilter { category: Some(String::new()), ..all.clone() }), "dc");
    assert_eq!(keys(&db, ListFilter { require_interaction: true, ..all.clone() }), "cb");
    assert_eq!(keys(&db, ListFilter { search: Some("great 100%".into()), ..all.clone() }), "b");
    let agents = |names: &[&str]| Some(names.iter().map(|&n| n.to_owned()).collect());
    assert_eq!(keys(&db, ListFilter { agents: agents(&["ops", "main"]), ..all.clone() }), "cb");
    assert_eq!(keys(&db, ListFilter { agents: agents(&[]), ..all.clone() }), "");
    let some = agents(&["agent:main:a", "agent:main:b", "nobody"]);
    assert_eq!(keys(&db, ListFilter { keys: some, ..all.clone() }), "b");
    // Back from the archive, and out of the category.
    entry(&db, "agent:main:a", 1, json!({ "archivedAt": null, "category": null }));
    assert_eq!(keys(&db, all), "dcba");
    assert_eq!(db.read(group_counts).unwrap(), [("work".to_owned(), 1)]);
}

#[test]
fn a_title_is_listed_and_searched_while_it_is_current() {
    let db = Db::memory().unwrap();
    update(&db, KEY, SessionUpdate { at: 1, ..SessionUpdate::default() });
    for (n, kind) in [(1, "user"), (2, "assistant")] {
        apply_one(&db, &WriteOp::AppendMessage(said(n, kind, &format!("hello {kind}")))).unwrap();
    }
    let found = || {
        let filter = ListFilter { search: Some("HELLO".into()), ..ListFilter::default() };
        db.read(|c| list_sessions(c, &filter)).unwrap().0
    };
    let row = found().remove(0);
    assert_eq!(
        (row.title.as_deref(), row.last_said.as_deref()),
        (Some("hello user"), Some("hello assistant"))
    );
    assert_eq!(db.read(|c| session(c, KEY)).unwrap(), Some(row));
    update(&db, KEY, SessionUpdate { revision: Some("r2".into()), ..SessionUpdate::default() });
    assert_eq!(found(), []);
}

#[test]
fn sessions_are_found_by_id_and_label() {
    let db = Db::memory().unwrap();
    for (n, key) in ["agent:main:a", "agent:main:b", "agent:ops:c"].into_iter().enumerate() {
        let (id, label) = (format!("{n}bc-{key}"), if n == 1 { "Other" } else { "Shop" });
        let session_id_if_new = Some(id);
        let label = Some(Some(label.to_owned()));
        update(
            &db,
            key,
            SessionUpdate { at: n as i64, session_id_if_new, label, ..SessionUpdate::default() },
        );
    }
    let names = |rows: Vec<SessionRecord>| rows.into_iter().map(|r| r.key).collect::<Vec<_>>();
    let by_id = |id: &str| db.read(|c| session_by_id(c, id)).unwrap().map(|r| r.key);
    assert_eq!((by_id("1bc-agent:main:b").as_deref(), by_id("1bc")), (Some("agent:main:b"), None));
    let labelled = |agent: Option<&str>| names(db.read(|c| sessions_by_label(c, "Shop", agent)).unwrap());
    assert_eq!(labelled(None), ["agent:ops:c", "agent:main:a"]);
    assert_eq!(labelled(Some("main")), ["agent:main:a"]);
    let like = |part: &str, limit| names(db.read(|c| sessions_by_key_part(c, part, limit)).unwrap());
    assert_eq!(like("b", 9), ["agent:main:b"]);
    assert_eq!(like("main", 1), ["agent:main:b"]);
    assert_eq!(like("nobody", 9), Vec::<String>::new());
}

#[test]
fn a_label_belongs_to_one_session_of_an_agent() {
    let db = Db::memory().unwrap();
    let label = |key: &str, label: Option<&str>| {
        let label = Some(label.map(str::to_owned));
        apply_one(
            &db,
            &WriteOp::UpdateSession {
                key: key.into(),
                update: SessionUpdate { label, ..SessionUpdate::default() },
            },
        )
    };
    for _ in 0..2 {
        assert!(label("agent:main:a", Some("Shop")).is_ok());
    }
    let taken = StoreError::Conflict { what: "label already in use: Shop".into() };
    assert_eq!(label("agent:main:b", Some("Shop")), Err(taken));
    assert_eq!(db.read(|c| session(c, "agent:main:b")).unwrap(), None);
    assert!(label("agent:ops:b", Some("Shop")).is_ok());
    assert!(label("agent:main:a", None).is_ok());
    assert!(label("agent:main:b", Some("Shop")).is_ok());
}

#[test]
fn a_category_is_moved_and_emptied() {
    let db = Db::memory().unwrap();
    for key in ["a", "b", "c"] {
        entry(&db, key, 1, json!({ "category": if key == "c" { "y" } else { "x" }, "n": 1 }));
    }
    let go = |from: &str, to: Option<&str>| {
        let op = WriteOp::MoveCategory { from: from.into(), to: to.map(str::to_owned) };
        let WriteReply::Count(n) = apply_one(&db, &op).unwrap() else { panic!() };
        (n, db.read(group_counts).unwrap())
    };
    let groups =
        |groups: &[(&str, i64)]| groups.iter().map(|(g, n)| ((*g).to_owned(), *n)).collect::<Vec<_>>();
    assert_eq!(go("x", Some("x")), (0, groups(&[("x", 2), ("y", 1)])));
    assert_eq!(go("x", Some("y")), (2, groups(&[("y", 3)])));
    assert_eq!(go("x", Some("y")), (0, groups(&[("y", 3)])));
    assert_eq!(db.read(|c| session(c, "a")).unwrap().unwrap().entry, json!({ "category": "y", "n": 1 }));
    assert_eq!(go("y", None), (3, vec![]));
    assert_eq!(go("y", None).0, 0);
    assert_eq!(db.read(|c| session(c, "a")).unwrap().unwrap().entry, json!({ "n": 1 }));
}

#[test]
fn all_is_done_or_nothing() {
    let db = Db::memory().unwrap();
    let make = |key: &str| {
        let update = SessionUpdate { session_id_if_new: Some("s".into()), ..SessionUpdate::default() };
        WriteOp::UpdateSession { key: key.into(), update }
    };
    let fails =
        WriteOp::Begin { turn: "t".into(), inputs: vec![("nobody".into(), 1)], messages: vec![], at: 1 };
    let nested = WriteOp::All(vec![make("b"), WriteOp::Fence]);
    let broken = WriteOp::All(vec![make("a"), nested.clone(), fails]);
    let replies = db.apply_batch(&[make("c"), broken, make("d")], &|_| {}).unwrap();
    assert!(replies[0].is_ok() && replies[1] == Err(StoreError::NotFound) && replies[2].is_ok());
    let there = |key: &str| db.read(|c| session(c, key)).unwrap().is_some();
    assert_eq!(["a", "b", "c", "d"].map(there), [false, false, true, true]);
    let whole = WriteOp::All(vec![make("a"), nested]);
    let reply = apply_one(&db, &whole).unwrap();
    let WriteReply::All(replies) = &reply else { panic!() };
    assert!(matches!(&replies[..], [WriteReply::Session(_), WriteReply::All(inner)] if inner.len() == 2));
    assert_eq!(apply_one(&db, &whole), Ok(reply));
    assert_eq!(["a", "b"].map(there), [true, true]);
}

#[test]
fn an_input_of_a_deleted_session_is_still_answered_once() {
    let db = Db::memory().unwrap();
    let op = accept(1, true, Some(said(1, "user", "hi")));
    apply_one(&db, &op).unwrap();
    apply_one(&db, &WriteOp::DeleteSession { key: KEY.into(), keep_transcripts: false }).unwrap();
    let again = apply_one(&db, &op).unwrap();
    assert!(matches!(again, WriteReply::Accepted { fresh: false, message: None, .. }), "{again:?}");
    assert_eq!(db.read(|c| session(c, KEY)).unwrap(), None);
}

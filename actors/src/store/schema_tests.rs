//! Steps: older files, newer files, steps that fail.

use super::super::db::{Db, tests::scratch};
use super::super::{
    Archived, ListFilter, SearchFilter, branches, list_sessions, messages_by_run, search, session,
    transcript_rows, transcripts_of,
};
use super::*;
use rusqlite::OptionalExtension;

#[test]
fn an_older_file_is_copied_and_migrated() {
    let path = scratch("older");
    private_file(&path).unwrap();
    let old = Connection::open(&path).unwrap();
    old.execute_batch("CREATE TABLE early (x TEXT); INSERT INTO early VALUES ('kept')").unwrap();
    drop(old);

    let db = Db::open(&path, Sync::Full).unwrap();
    assert_eq!(db.damage(), None);
    assert_eq!(db.read(schema_version).unwrap() as usize, MIGRATIONS.len());
    let kept = suffixed(&path, ".before-v1");
    assert!(kept.exists() && !suffixed(&kept, ".part").exists());
    let copy = Connection::open(&kept).unwrap();
    assert_eq!(schema_version(&copy).unwrap(), 0);
    let word: String = copy.query_row("SELECT x FROM early", [], |r| r.get(0)).unwrap();
    assert_eq!(word, "kept");
    assert!(copy.prepare("SELECT * FROM inputs").is_err());
}

#[test]
fn steps_run_once_each_and_a_failing_one_leaves_the_last_good() {
    let path = scratch("steps");
    private_file(&path).unwrap();
    let mut conn = Connection::open(&path).unwrap();
    migrate(&mut conn, Some(&path), &["CREATE TABLE a (x)"]).unwrap();
    assert!(!suffixed(&path, ".before-v1").exists(), "nothing to keep of an empty file");
    let steps: &[Migration] =
        &["CREATE TABLE a (x)", "CREATE TABLE b (x)", "CREATE TABLE c (x); SELECT nonsense"];
    assert!(migrate(&mut conn, Some(&path), steps).is_err());
    assert!(suffixed(&path, ".before-v2").exists());
    assert_eq!(schema_version(&conn).unwrap(), 2);
    assert!(conn.prepare("SELECT * FROM b").is_ok() && conn.prepare("SELECT * FROM c").is_err());
    migrate(&mut conn, Some(&path), &steps[..2]).unwrap();
}

#[test]
fn a_newer_file_is_refused_by_name_and_left_alone() {
    let path = scratch("newer");
    drop(Db::open(&path, Sync::Full).unwrap());
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = Db::open(&path, Sync::Full).err().unwrap();
    assert_eq!(error, StoreError::NewerSchema { found: 99, known: MIGRATIONS.len() as u32 });
    let said = error.to_string();
    assert!(said.contains("99") && said.contains(&MIGRATIONS.len().to_string()), "{said}");
    assert!(path.exists());
}

#[test]
fn version_two_becomes_version_three_with_everything_in_it() {
    let path = scratch("two");
    private_file(&path).unwrap();
    let mut old = Connection::open(&path).unwrap();
    migrate(&mut old, None, &MIGRATIONS[..2]).unwrap();
    let long = "é".repeat(300);
    old.execute_batch(&format!(
        r#"INSERT INTO sessions VALUES ('agent:main:a', 's1', 'r2', 'main', 1, 50, 'done', 'A', NULL, 1, 2, 60,
               '{{"archivedAt":5,"category":"work","displayName":"Name","spawnedBy":"k"}}', 0),
               ('agent:main:b', 's2', '', 'main', 1, 2, NULL, NULL, NULL, NULL, NULL, NULL, '{{}}', 0);
           INSERT INTO transcripts VALUES (1, 'agent:main:a', 's1', '', 1, 1), (2, 'agent:main:a', 's1', 'r2', 4, 5),
               (3, 'agent:main:b', 's2', '', 0, 0);
           INSERT INTO messages VALUES
               (1, 'm1', 1, 1, 1, NULL, 'user', 'k1', 'run1', '{{"content":"before"}}', 10),
               (2, 'm2', 2, 1, 1, NULL, 'user', 'k1', 'run2', '{{"content":"/x","excludeFromContext":true}}', 11),
               (3, 'm3', 2, 2, 2, 'm2', 'user', 'k3', 'run2', '{{"content":" first\n{long}"}}', 12),
               (4, 'm4', 2, 3, NULL, NULL, 'custom', NULL, NULL, '{{"content":"hidden"}}', 13),
               (5, 'm5', 2, 4, 3, NULL, 'assistant', 'k5', 'run2',
                   '{{"content":[{{"type":"text","text":"one"}},{{"type":"x"}},"y",{{"type":"text","text":"two"}}]}}', 14),
               (6, 'm6', 2, 5, 4, NULL, 'assistant', NULL, 'run2', '{{"content":null}}', 15);
           INSERT INTO message_texts (rowid, text) VALUES (1, 'before'), (3, 'first {long}'), (5, 'one two');"#
    ))
    .unwrap();
    drop(old);

    let db = Db::open(&path, Sync::Full).unwrap();
    assert!(suffixed(&path, ".before-v3").exists());
    let record = db.read(|c| session(c, "agent:main:a")).unwrap().unwrap();
    let title = record.title.unwrap();
    assert!(title.starts_with("first é") && title.ends_with("é…") && title.chars().count() == 160, "{title}");
    assert_eq!(record.last_said.as_deref(), Some("one two"));
    let bare = db.read(|c| session(c, "agent:main:b")).unwrap().unwrap();
    assert_eq!((bare.title, bare.last_said), (None, None));

    let infos = db.read(|c| transcripts_of(c, "agent:main:a")).unwrap();
    assert_eq!(infos.iter().map(|t| (t.total, t.updated_at)).collect::<Vec<_>>(), [(1, 10), (5, 15)]);
    let rows = db.read(|c| transcript_rows(c, 2, 0, 9)).unwrap();
    let brief: Vec<_> = rows.iter().map(|r| (r.id.as_str(), r.raw_seq, r.seq)).collect();
    assert_eq!(
        brief,
        [("m2", 1, Some(1)), ("m3", 2, Some(2)), ("m4", 3, None), ("m5", 4, Some(3)), ("m6", 5, Some(4))]
    );
    assert_eq!((rows[1].parent.as_deref(), rows[1].idempotency_key.as_deref()), (Some("m2"), Some("k3")));
    assert_eq!(db.read(|c| messages_by_run(c, "run1")).unwrap()[0].id, "m1");
    let found = |query: &str| {
        let filter = SearchFilter { query: query.into(), limit: 9, ..SearchFilter::default() };
        db.read(|c| search(c, &filter)).unwrap().len()
    };
    assert_eq!((found("two"), found("before")), (1, 0));
    let branches = db.read(|c| branches(c, "agent:main:a")).unwrap();
    assert_eq!(branches.iter().map(|b| b.leaf_id.as_str()).collect::<Vec<_>>(), ["m6"]);
    let archived = ListFilter {
        archived: Archived::Only,
        category: Some("work".into()),
        spawned_by: Some("k".into()),
        search: Some("name".into()),
        ..ListFilter::default()
    };
    assert_eq!(db.read(|c| list_sessions(c, &archived)).unwrap().1, 1);
    db.check().unwrap();
    let sound: Option<String> =
        db.read(|c| Ok(c.query_row("PRAGMA foreign_key_check", [], |r| r.get(0)).optional()?)).unwrap();
    assert_eq!(sound, None);
}

//! The file: opening, damage, panics, batches. Also the samples that the other tests of this folder share.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use serde_json::json;
use uuid::Uuid;

use super::super::inputs::{backlog, counts};
use super::super::rows::{NewInput, NewMessage, SessionUpdate};
use super::super::schema::suffixed;
use super::*;

pub const KEY: &str = "agent:main:main";
/// Where a batch can be killed, in the order it passes them.
const STORE_POINTS: [KillPoint; 3] =
    [KillPoint::StoreBeforeBegin, KillPoint::StoreAfterOps, KillPoint::StoreAfterCommit];

/// A path in a new folder of its own, which goes with this value.
pub struct Scratch(PathBuf);

pub fn scratch(name: &str) -> Scratch {
    let folder = std::env::temp_dir().join(format!("crabtree-store-{name}-{}", Uuid::new_v4()));
    Scratch(folder.join("deep").join("store.sqlite"))
}

impl std::ops::Deref for Scratch {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl AsRef<Path> for Scratch {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let folder = self.0.parent().and_then(Path::parent).unwrap();
        fs::remove_dir_all(folder).ok();
    }
}

pub fn input(n: u32) -> NewInput {
    NewInput {
        id: format!("i{n}"),
        source: "rpc".into(),
        source_id: format!("k{n}"),
        session_key: KEY.into(),
        run_id: format!("k{n}"),
        kind: "chat.send".into(),
        text: format!("hello {n}"),
        digest: "d".into(),
        body: json!({ "n": n }),
        created_at: 1_000 + i64::from(n),
        priority: 1,
    }
}

pub fn said(n: u32, kind: &str, text: &str) -> NewMessage {
    NewMessage {
        id: format!("m{n}"),
        session_key: KEY.into(),
        session_id: String::new(),
        parent: None,
        kind: kind.into(),
        idempotency_key: Some(format!("k{n}:{kind}")),
        run_id: Some(format!("k{n}")),
        hidden: false,
        message: json!({ "role": kind, "content": text }),
        created_at: 2_000 + i64::from(n),
    }
}

pub fn accept(n: u32, begin: bool, user_message: Option<NewMessage>) -> WriteOp {
    let session_id_if_new = Some("s1".to_owned());
    let session = SessionUpdate { session_id_if_new, ..SessionUpdate::default() };
    WriteOp::AcceptInput { input: input(n), begin, user_message, session }
}

pub fn apply_one(db: &Db, op: &WriteOp) -> Result<WriteReply, StoreError> {
    db.apply_batch(std::slice::from_ref(op), &|_| {}).unwrap().remove(0)
}

fn queued(db: &Db) -> i64 {
    db.read(counts).unwrap().queued
}

#[test]
fn what_is_committed_is_there_after_reopening() {
    let path = scratch("reopen");
    let db = Db::open(&path, Sync::Full).unwrap();
    assert_eq!((db.damage(), db.is_memory(), db.path()), (None, false, Some(&*path)));
    apply_one(&db, &accept(1, false, None)).unwrap();
    assert_eq!(queued(&db), 1);
    drop(db);
    for sync in [Sync::Normal, Sync::Full] {
        let db = Db::open(&path, sync).unwrap();
        assert_eq!((db.damage(), queued(&db)), (None, 1));
        let level: u32 = db.write(|c| Ok(c.query_row("PRAGMA synchronous", [], |r| r.get(0))?)).unwrap();
        assert_eq!(level, if sync == Sync::Full { 2 } else { 1 });
        let mode: String = db.read(|c| Ok(c.query_row("PRAGMA journal_mode", [], |r| r.get(0))?)).unwrap();
        assert_eq!(mode, "wal");
    }
}

#[cfg(unix)]
#[test]
fn only_the_owner_can_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let path = scratch("private");
    let db = Db::open(&path, Sync::Full).unwrap();
    apply_one(&db, &accept(1, false, None)).unwrap();
    let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    for tail in ["", "-wal", "-shm"] {
        assert_eq!(mode(&suffixed(&path, tail)), 0o600, "{tail}");
    }
}

#[test]
fn a_file_that_is_no_database_is_moved_aside() {
    let path = scratch("garbage");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, "this is not a database, by any measure".repeat(100)).unwrap();
    fs::write(suffixed(&path, "-wal"), "stale").unwrap();
    let db = Db::open(&path, Sync::Full).unwrap();
    assert!(db.damage().unwrap().contains(".damaged-"));
    apply_one(&db, &accept(1, false, None)).unwrap();
    let mut aside: Vec<PathBuf> =
        fs::read_dir(path.parent().unwrap()).unwrap().map(|e| e.unwrap().path()).collect();
    aside.retain(|p| p.to_str().unwrap().contains(".damaged-"));
    let log = aside.iter().find(|p| p.to_str().unwrap().ends_with("-wal")).unwrap();
    assert_eq!(fs::read(log).unwrap(), b"stale", "evidence is left as it was");
    assert!(fs::read(log.to_str().unwrap().trim_end_matches("-wal")).unwrap().starts_with(b"this is not"));
    drop(db);
    assert_eq!(Db::open(&path, Sync::Full).unwrap().damage(), None);
}

#[test]
fn a_file_with_torn_pages_is_moved_aside() {
    let path = scratch("torn");
    let db = Db::open(&path, Sync::Full).unwrap();
    for n in 0..200 {
        apply_one(&db, &accept(n, false, None)).unwrap();
    }
    drop(db);
    let mut bytes = fs::read(&path).unwrap();
    let len = bytes.len();
    bytes[4096..len / 2].fill(0xA5);
    fs::write(&path, bytes).unwrap();
    let db = Db::open(&path, Sync::Full).unwrap();
    assert!(db.damage().is_some());
    assert_eq!(queued(&db), 0);
}

/// Damage away from the beginnings of the tables, where only a whole reading finds it.
fn tear_the_end(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let len = bytes.len();
    bytes[len - 8 * 4096..].fill(0xA5);
    fs::write(path, bytes).unwrap();
}

#[test]
fn hidden_damage_is_found_later_and_moved_aside_the_next_time() {
    let path = scratch("hidden");
    let db = Db::open(&path, Sync::Full).unwrap();
    let ops: Vec<_> = (0..500).map(|n| accept(n, false, None)).collect();
    db.apply_batch(&ops, &|_| {}).unwrap();
    assert_eq!((db.check(), db.damage()), (Ok(()), None));
    drop(db);
    tear_the_end(&path);
    let db = Db::open(&path, Sync::Full).unwrap();
    assert_eq!(db.damage(), None);
    assert_eq!(db.check(), Err(StoreError::Damaged));
    assert!(db.damage().unwrap().contains("moved aside"), "{:?}", db.damage());
    drop(db);
    let db = Db::open(&path, Sync::Full).unwrap();
    assert!(db.damage().unwrap().contains(".damaged-"));
    assert_eq!((queued(&db), db.check()), (0, Ok(())));
    drop(db);
    assert_eq!(Db::open(&path, Sync::Full).unwrap().damage(), None);
}

#[test]
fn damage_that_a_read_or_a_write_meets_is_not_forgotten() {
    for write in [false, true] {
        let path = scratch("met");
        let db = Db::open(&path, Sync::Full).unwrap();
        let ops: Vec<_> = (0..500).map(|n| accept(n, false, None)).collect();
        db.apply_batch(&ops, &|_| {}).unwrap();
        drop(db);
        tear_the_end(&path);
        let db = Db::open(&path, Sync::Full).unwrap();
        let met = if write {
            let again = |n| WriteOp::Begin {
                turn: "t".into(),
                inputs: vec![(format!("i{n}"), 9)],
                messages: vec![],
                at: 1,
            };
            let ops: Vec<_> = (0..500).map(again).collect();
            match db.apply_batch(&ops, &|_| {}) {
                Err(error) => Some(error),
                Ok(replies) => replies.into_iter().find_map(Result::err),
            }
        } else {
            db.read(|c| backlog(c, KEY)).err()
        };
        assert_eq!((met, db.damage().is_some()), (Some(StoreError::Damaged), true));
        drop(db);
        assert!(Db::open(&path, Sync::Full).unwrap().damage().unwrap().contains(".damaged-"));
    }
}

#[test]
fn a_panic_while_writing_rolls_back_and_the_next_use_reopens() {
    let path = scratch("panic");
    for db in [Db::open(&path, Sync::Full).unwrap(), Db::memory().unwrap()] {
        apply_one(&db, &accept(1, false, None)).unwrap();
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            db.write(|c| -> Result<(), StoreError> {
                c.execute_batch("BEGIN IMMEDIATE; DELETE FROM inputs").unwrap();
                panic!("in the middle");
            })
        }));
        assert!(panicked.is_err());
        assert_eq!(db.writer.lock().is_none(), !db.is_memory());
        assert_eq!(queued(&db), 1);
        for point in STORE_POINTS {
            let batch = || db.apply_batch(&[accept(2, false, None)], &|at| assert_ne!(at, point));
            assert!(catch_unwind(AssertUnwindSafe(batch)).is_err());
            assert_eq!(queued(&db), if point == KillPoint::StoreAfterCommit { 2 } else { 1 }, "{point:?}");
        }
        apply_one(&db, &accept(3, false, None)).unwrap();
        assert_eq!(queued(&db), 3);
    }
}

#[test]
fn kill_points_are_passed_in_order_around_the_commit() {
    let path = scratch("kill");
    let db = Db::open(&path, Sync::Full).unwrap();
    let passed = RefCell::new(Vec::new());
    db.apply_batch(&[accept(1, false, None)], &|at| passed.borrow_mut().push((at, queued(&db)))).unwrap();
    let seen: Vec<_> = STORE_POINTS.into_iter().zip([0, 0, 1]).collect();
    assert_eq!(passed.into_inner(), seen);
}

#[test]
fn one_failing_op_fails_alone() {
    let db = Db::memory().unwrap();
    let clash = WriteOp::AcceptInput {
        input: NewInput { source_id: "other".into(), ..input(1) },
        begin: false,
        user_message: None,
        session: SessionUpdate::default(),
    };
    let unknown =
        WriteOp::Begin { turn: "t".into(), inputs: vec![("nobody".into(), 1)], messages: vec![], at: 1 };
    let replies =
        db.apply_batch(&[accept(1, false, None), clash, unknown, accept(2, false, None)], &|_| {}).unwrap();
    assert!(replies[0].is_ok() && replies[3].is_ok());
    assert!(matches!(&replies[1], Err(e @ StoreError::Conflict { .. }) if !e.is_retryable()));
    assert_eq!(replies[2], Err(StoreError::NotFound));
    assert_eq!(queued(&db), 2);
    assert_eq!(db.apply_batch(&[], &|_| {}).unwrap(), []);
}

#[test]
fn a_full_disk_refuses_writes_and_goes_on_reading() {
    let path = scratch("full");
    let db = Db::open(&path, Sync::Full).unwrap();
    apply_one(&db, &accept(1, false, None)).unwrap();
    let limit = |pages: u32| {
        db.write(|c| Ok(c.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?)).unwrap();
    };
    limit(1); // SQLite raises it to the present size
    let ops: Vec<_> = (2..500).map(|n| accept(n, false, None)).collect();
    let full = match db.apply_batch(&ops, &|_| {}) {
        Err(error) => error,
        Ok(replies) => replies.into_iter().find_map(Result::err).unwrap(),
    };
    assert_eq!(full, StoreError::Full);
    assert!(full.is_retryable());
    assert!(queued(&db) >= 1);
    limit(u32::MAX / 2);
    for reply in db.apply_batch(&ops, &|_| {}).unwrap() {
        reply.unwrap();
    }
    assert_eq!(queued(&db), 499);
}

#[test]
fn readers_cannot_write_and_do_not_wait_for_the_writer() {
    let path = scratch("readers");
    let db = Arc::new(Db::open(&path, Sync::Full).unwrap());
    let refused = db.read(|c| Ok(c.execute("DELETE FROM inputs", [])?));
    assert!(matches!(refused, Err(StoreError::Unavailable(_))));
    db.write(|c| {
        let tx = c.transaction_with_behavior(TransactionBehavior::Immediate)?;
        tx.execute("INSERT INTO meta VALUES ('a', 'b')", [])?;
        assert_eq!(queued(&db), 0);
        Ok(tx.commit()?)
    })
    .unwrap();
    std::thread::scope(|s| {
        for _ in 0..8 {
            s.spawn(|| (0..50).for_each(|_| assert_eq!(queued(&db), 0)));
        }
    });
}

#[test]
fn rate_of_ten_thousand_inputs() {
    const BATCH: u32 = 100;
    let path = scratch("rate");
    let db = Db::open(&path, Sync::Full).unwrap();
    let start = Instant::now();
    for batch in 0..10_000 / BATCH {
        let ops: Vec<_> = (batch * BATCH..(batch + 1) * BATCH)
            .map(|n| accept(n, true, Some(said(n, "user", "the quick brown fox"))))
            .collect();
        assert!(db.apply_batch(&ops, &|_| {}).unwrap().iter().all(Result::is_ok));
    }
    let took = start.elapsed();
    println!(
        "10000 inputs with messages, {BATCH} a commit: {took:?}, {:.0}/s",
        10_000.0 / took.as_secs_f64()
    );
    assert_eq!(db.read(|c| backlog(c, KEY)).unwrap().len(), 10_000);
}

//! How long reads take in a large store. The figures are printed; the limits only catch a read that has lost its
//! index.

use std::time::{Duration, Instant};

use serde_json::json;

use super::db::tests::scratch;
use super::*;

const SESSIONS: u32 = 10_000;
const MESSAGES: u32 = 20;
/// What a read should take, with ten times as much for a slow machine.
const LIMIT: Duration = Duration::from_millis(200);
const WORDS: [&str; 24] = [
    "crab", "nebula", "ledger", "harbour", "signal", "garden", "window", "morning", "engine", "silver",
    "paper", "answer", "question", "river", "market", "letter", "winter", "summer", "bridge", "copper",
    "island", "forest", "mirror", "candle",
];

fn key(n: u32) -> String {
    format!("agent:{}:dashboard:{n:08}", if n.is_multiple_of(10) { "ops" } else { "main" })
}

/// Written past the operations, which would take most of the time. Every message has "common" in it, one in 24
/// each of the words, and a few have "rare"; one session in five is archived, one in a thousand pinned.
fn fill(conn: &Connection) -> Result<(), StoreError> {
    let (all, words) = (SESSIONS * MESSAGES, json!(WORDS));
    conn.execute_batch(&format!(
        "BEGIN;
         CREATE TEMP TABLE s AS WITH RECURSIVE g (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM g WHERE n < {SESSIONS} - 1)
             SELECT n, iif(n % 10, 'main', 'ops') AS agent,
                 format('agent:%s:dashboard:%08d', iif(n % 10, 'main', 'ops'), n) AS key FROM g;
         INSERT INTO sessions (key, session_id, revision, agent_id, created_at, updated_at, label,
                 last_interaction_at, entry, pinned, archived, category)
             SELECT key, 'session-' || n, '', agent, n, n * 7919 % {SESSIONS}, 'Label ' || n, n,
                 json_object('category', 'c' || (n % 9), 'modelOverride', 'mock-1'), n % 1000 = 0, n % 5 = 0, 'c' || (n % 9)
             FROM s;
         INSERT INTO transcripts (id, session_key, session_id, revision, visible, total, family, title, last_said)
             SELECT n + 1, key, 'session-' || n, '', {MESSAGES}, {MESSAGES}, n + 1,
                 'What person ' || n || ' first said in this session', 'The last answer' FROM s;
         CREATE TEMP TABLE w (n INTEGER PRIMARY KEY, word TEXT);
         INSERT INTO w SELECT key, value FROM json_each('{words}');
         CREATE TEMP TABLE m AS WITH RECURSIVE g (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM g WHERE n < {all} - 1)
             SELECT g.n, format('common number%d %s %s%s', g.n, a.word, b.word, iif(g.n % 9973, '', ' rare')) AS text
             FROM g JOIN w a ON a.n = g.n % 24 JOIN w b ON b.n = g.n / 24 % 24;
         INSERT INTO messages (pos, id, kind, idempotency_key, run_id, message, created_at)
             SELECT n + 1, 'm' || n, iif(n % 2, 'assistant', 'user'), 'k' || n, 'k' || n,
                 json_object('role', 'user', 'content', text), n FROM m;
         INSERT INTO places SELECT n / {MESSAGES} + 1, n % {MESSAGES} + 1, n % {MESSAGES} + 1, n + 1 FROM m;
         INSERT INTO message_texts (rowid, text) SELECT n + 1, text FROM m;
         COMMIT; DROP TABLE s; DROP TABLE m; DROP TABLE w;",
    ))?;
    Ok(())
}

fn timed<T>(what: &str, mut read: impl FnMut() -> T) -> T {
    read();
    let mut times: Vec<Duration> = (0..9)
        .map(|_| {
            let start = Instant::now();
            read();
            start.elapsed()
        })
        .collect();
    times.sort();
    println!("{what}: {:?}, at most {:?}", times[4], times[8]);
    assert!(times[4] < LIMIT, "{what}: {times:?}");
    read()
}

#[test]
fn reads_stay_fast_among_ten_thousand_sessions() {
    let path = scratch("scale");
    let db = Db::open(&path, Sync::Normal).unwrap();
    let start = Instant::now();
    db.write(|c| fill(c)).unwrap();
    println!("written in {:?}", start.elapsed());
    drop(db);
    let start = Instant::now();
    let db = Db::open(&path, Sync::Normal).unwrap();
    println!("opened in {:?}, {} MiB", start.elapsed(), std::fs::metadata(&*path).unwrap().len() >> 20);
    let start = Instant::now();
    db.check().unwrap();
    println!("checked in {:?}", start.elapsed());

    let all = ListFilter::default();
    let list =
        |what: &str, filter: ListFilter| timed(what, || db.read(|c| list_sessions(c, &filter)).unwrap());
    let (rows, total) = list("list", all.clone());
    assert_eq!((rows.len(), total), (100, 8_000));
    assert!(rows.iter().all(|r| r.title.is_some() && r.last_said.is_some()));
    list("list at 7000", ListFilter { offset: 7_000, ..all.clone() });
    list("list by interaction", ListFilter { sort: SortBy::Interaction, ..all.clone() });
    list("list by activity", ListFilter { sort: SortBy::Activity, ..all.clone() });
    list("list of an agent", ListFilter { agent_id: Some("ops".into()), ..all.clone() });
    list("list with archived", ListFilter { archived: Archived::All, ..all.clone() });
    list(
        "list without subagents and jobs",
        ListFilter {
            exclude_subagents: true,
            exclude_prefixes: vec!["cron:", "heartbeat", "hook:"],
            ..all.clone()
        },
    );
    list(
        "list of configured agents",
        ListFilter { agents: Some(vec!["main".into(), "ops".into()]), ..all.clone() },
    );
    list("children", ListFilter { spawned_by: Some(key(1)), ..all.clone() });
    list("list of a category", ListFilter { category: Some("c3".into()), ..all.clone() });
    let (rows, _) = list("list with search", ListFilter { search: Some("label 77".into()), ..all.clone() });
    assert!(!rows.is_empty());
    let keys = Some((0..50).map(key).collect());
    assert_eq!(list("list of keys", ListFilter { keys: keys.clone(), ..all }).1, 40);

    for (query, keys) in [
        ("rare", None),
        ("nebula", None),
        ("crab harbour", None),
        ("common", None),
        ("rare", keys.clone()),
        ("nebula", keys),
    ] {
        let what = format!("search {query}, {} sessions", keys.as_ref().map_or(SESSIONS as usize, Vec::len));
        let filter = SearchFilter { query: query.into(), limit: 20, keys, ..SearchFilter::default() };
        let hits = timed(&what, || db.read(|c| search(c, &filter)).unwrap());
        assert!(!hits.is_empty() && hits.len() <= 20);
    }
    let scope = Some(ListFilter {
        agents: Some(vec!["main".into(), "ops".into()]),
        exclude_subagents: true,
        exclude_prefixes: vec!["cron:", "heartbeat", "hook:"],
        ..ListFilter::default()
    });
    for query in ["rare", "nebula", "common"] {
        let filter =
            SearchFilter { query: query.into(), limit: 26, scope: scope.clone(), ..SearchFilter::default() };
        let hits = timed(&format!("search {query} in a scope"), || db.read(|c| search(c, &filter)).unwrap());
        assert!(!hits.is_empty());
    }
    timed("by a part of the key", || db.read(|c| sessions_by_key_part(c, "00004321", 200)).unwrap());
    timed("groups", || db.read(group_counts).unwrap());
    let page = HistoryPage { limit: 20, offset: 0 };
    let found = timed("history", || db.read(|c| history(c, &key(4_321), page)).unwrap());
    assert_eq!(found.rows.len(), 20);
    timed("history after", || db.read(|c| history_after(c, &key(4_321), 10, 200)).unwrap());
    timed("history around", || db.read(|c| history_around(c, &key(4_321), "m86430", 20)).unwrap());
    let runs: Vec<String> = (0..50).map(|n| format!("k{n}")).collect();
    timed("receipts", || db.read(|c| receipts(c, &key(4_321), &runs)).unwrap());
}

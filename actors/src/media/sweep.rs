//! The end of files: those of a deleted session at once, and after each start those that a crash has left behind.

use super::{Inbox, id_of, names};
use crate::estate::Estate;
use crate::store::{self, Connection, Db, Store, StoreError};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// A start has better things to do than to look for what was left behind.
const SWEEP_AFTER: Duration = Duration::from_secs(40);
/// What is younger may be on its way into the database, ms.
const GRACE_MS: i64 = 3_600_000;

/// Removes those of these files that nothing names any more: what was copied into another session names them still.
pub async fn forget(store: &Store, names: Vec<String>) {
    if names.is_empty() {
        return;
    }
    let gone = store.read(move |c| unnamed(c, names)).await;
    match gone {
        Ok(gone) => {
            store.estate.inbox.clone().discard(gone).await;
        }
        // They are found by the next sweep.
        Err(e) => tracing::warn!(target: "crabtree::media", "files were not removed: {e}"),
    }
}

/// Removes what a crash has left behind, a while after the start.
pub async fn sweep(estate: Arc<Estate>, db: Arc<Db>) {
    tokio::time::sleep(SWEEP_AFTER).await;
    // A database that took the place of a damaged one knows nothing of what that one names.
    if db.damage().is_some() {
        return;
    }
    let now = estate.clock.now_ms();
    let inbox = estate.inbox.clone();
    let work = move || {
        let left = db.read(|c| left_behind(c, &inbox, now))?;
        if !left.is_empty() {
            tracing::info!(target: "crabtree::media", files = left.len(), "files that nothing names are removed");
            inbox.remove(&left);
        }
        Ok::<_, StoreError>(())
    };
    if let Ok(Err(e)) = tokio::task::spawn_blocking(work).await {
        tracing::warn!(target: "crabtree::media", "files were not looked through: {e}");
    }
}

fn left_behind(c: &Connection, inbox: &Inbox, now: i64) -> Result<Vec<String>, StoreError> {
    // What is older than the database is not its to judge.
    let Some(began) = store::first_input_at(c)? else { return Ok(Vec::new()) };
    let files = std::fs::read_dir(&inbox.folder).into_iter().flatten().flatten();
    let names = files.filter_map(|file| file.file_name().into_string().ok());
    unnamed(
        c,
        names.filter(|name| kept_at(name).is_some_and(|at| (began..now - GRACE_MS).contains(&at))).collect(),
    )
}

/// When it came, ms: its id knows.
fn kept_at(name: &str) -> Option<i64> {
    let (secs, nanos) = Uuid::try_parse(id_of(name)?).ok()?.get_timestamp()?.to_unix();
    i64::try_from(secs * 1_000 + u64::from(nanos) / 1_000_000).ok()
}

/// Those of these files that neither a message nor an input that waits names.
fn unnamed(c: &Connection, names: Vec<String>) -> Result<Vec<String>, StoreError> {
    let mut gone = Vec::new();
    for name in names {
        if !is_named(c, &name)? {
            gone.push(name);
        }
    }
    Ok(gone)
}

fn is_named(c: &Connection, name: &str) -> Result<bool, StoreError> {
    let Some(id) = id_of(name) else { return Ok(true) };
    if store::message_stands(c, id)? {
        return Ok(true);
    }
    let Some(input) = store::input_by_id(c, id)? else { return Ok(false) };
    if !input.state.is_final() {
        return Ok(true);
    }
    // What was answered together with others stands in a row of another id.
    let rows = store::messages_by_run(c, input.turn.as_deref().unwrap_or(&input.run_id))?;
    Ok(rows.iter().any(|row| names(&row.message["__openclaw"]).any(|other| other == name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{InputState, NewInput, NewMessage, SessionUpdate, WriteOp};
    use serde_json::{Value, json};

    const KEY: &str = "agent:main:a";
    const HOUR: i64 = 3_600_000;

    /// The id of an input that came so many hours after the first.
    fn id(hours: u64) -> String {
        let at = uuid::Timestamp::from_unix(uuid::NoContext, 1_700_000_000 + hours * 3_600, 0);
        Uuid::new_v7(at).to_string()
    }

    fn accepted(id: &str, begin: bool) -> WriteOp {
        let input = NewInput {
            id: id.into(),
            source: "rpc".into(),
            source_id: id.into(),
            session_key: KEY.into(),
            run_id: id.into(),
            kind: "chat.send".into(),
            text: "look".into(),
            digest: String::new(),
            body: json!({}),
            created_at: 1_700_000_000_000,
            priority: 1,
        };
        let session = SessionUpdate { session_id_if_new: Some("s".into()), ..SessionUpdate::default() };
        WriteOp::AcceptInput { input, begin, user_message: begin.then(|| row(id, id, json!({}))), session }
    }

    fn row(id: &str, run: &str, meta: Value) -> NewMessage {
        NewMessage {
            id: id.into(),
            session_key: KEY.into(),
            session_id: String::new(),
            parent: None,
            kind: "user".into(),
            idempotency_key: None,
            run_id: Some(run.into()),
            hidden: false,
            message: json!({ "content": "look", "__openclaw": meta }),
            created_at: 0,
        }
    }

    fn settled(id: &str, turn: &str, messages: Vec<NewMessage>) -> WriteOp {
        WriteOp::Settle {
            turn: turn.into(),
            inputs: vec![id.into()],
            released: vec![],
            state: InputState::Settled,
            outcome: json!({}),
            messages,
            deliveries: vec![],
            events: vec![],
            session: None,
            at: 0,
        }
    }

    fn apply(db: &Db, ops: &[WriteOp]) {
        for done in db.apply_batch(ops, &|_| {}).unwrap() {
            done.unwrap();
        }
    }

    #[test]
    fn what_a_row_or_a_waiting_input_names_stays_and_everything_else_goes() {
        let (state, db) = (tempfile::tempdir().unwrap(), Db::memory().unwrap());
        let inbox = Inbox::open(state.path());
        std::fs::create_dir_all(&inbox.folder).unwrap();
        let [said, waits, together, dropped, unknown] = [0, 1, 2, 3, 4].map(id);
        let (old, young) =
            (Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, 1, 0)).to_string(), id(99));
        let all = [&said, &waits, &together, &dropped, &unknown, &old, &young];
        for id in all {
            std::fs::write(inbox.folder.join(format!("{id}-0.png")), "x").unwrap();
        }
        std::fs::write(inbox.folder.join("not ours"), "x").unwrap();
        let file = json!({ "media": [{ "url": format!("media://inbound/{together}-0.png") }] });
        apply(&db, &[accepted(&said, true), settled(&said, &said, vec![]), accepted(&waits, false)]);
        apply(&db, &[accepted(&together, false), settled(&together, "turn", vec![row("r", "turn", file)])]);
        apply(&db, &[accepted(&dropped, false), settled(&dropped, &dropped, vec![])]);

        let now = 1_700_000_000_000 + 99 * HOUR + HOUR / 2;
        let mut left = db.read(|c| left_behind(c, &inbox, now)).unwrap();
        left.sort();
        assert_eq!(left, [format!("{dropped}-0.png"), format!("{unknown}-0.png")]);

        apply(&db, &[WriteOp::DeleteSession { key: KEY.into(), keep_transcripts: false }]);
        let files = vec![format!("{said}-0.png"), format!("{waits}-0.png"), format!("{together}-0.png")];
        let gone = db.read(|c| unnamed(c, files.clone())).unwrap();
        assert_eq!(gone, [&*files[0], &files[2]], "what waits is another matter");
    }
}

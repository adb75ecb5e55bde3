//! The database and the ledger in it: through the gateway while it runs, else the file is looked at, and nothing in it or
//! beside it is touched.

use std::path::PathBuf;
use std::sync::Arc;

use crabtree_actors::store::{Offline, SCHEMA_VERSION, StoreError};
use crabtree_protocol::Scope;
use serde_json::{Value, json};

use super::{Finding, Name, Scene, blocking};

const FILE: &str = "store.sqlite";
const DAMAGED: &str = "stop the gateway and start it again: it moves a damaged file aside and begins a new one; then \
    bring back a copy of yours, or one of those beside it (store.sqlite.before-v…)";

fn file(scene: &Scene) -> PathBuf {
    scene.state_dir.join(FILE)
}

pub(super) async fn check(name: Name, scene: Arc<Scene>) -> Vec<Finding> {
    if scene.is_up() {
        return match scene.ask(Scope::Read, "system.store", json!({})).await {
            Ok(report) if report["ok"] == true => {
                let (version, kib) = (&report["schemaVersion"], report["bytes"].as_u64().unwrap_or(0) >> 10);
                vec![name.ok(format!("the gateway has read all of it: whole, version {version}, {kib} KiB"))]
            }
            Ok(report) => vec![name.problem(text(&report["problem"]), DAMAGED)],
            Err(why) => vec![name.warn(format!("the gateway did not say: {why}"), "see `gateway`")],
        };
    }
    let path = file(&scene);
    if !path.exists() {
        return vec![name.ok(format!("{} is not there yet", path.display()))];
    }
    blocking(move || look(name, &path)).await.unwrap_or_default()
}

fn look(name: Name, path: &std::path::Path) -> Vec<Finding> {
    let read = Offline::open(path).and_then(|db| {
        db.check()?;
        db.version()
    });
    vec![match read {
        Ok(version) if version > SCHEMA_VERSION => name.problem(
            format!("{} has version {version}; this program knows {SCHEMA_VERSION}", path.display()),
            "use the newer program that wrote it",
        ),
        Ok(version) if version < SCHEMA_VERSION => name.ok(format!(
            "{} is whole; the next start brings it from version {version} to {SCHEMA_VERSION}, and keeps a copy",
            path.display()
        )),
        Ok(version) => name.ok(format!("{} is whole, version {version}", path.display())),
        Err(StoreError::Damaged) => name.problem(format!("{} is damaged", path.display()), DAMAGED),
        Err(e) => name.problem(format!("{}: {e}", path.display()), "make it readable for this user"),
    }]
}

pub(super) async fn ledger(name: Name, scene: Arc<Scene>) -> Vec<Finding> {
    const CHANGED: &str = "see `crabtree audit verify`; somebody wrote to the database beside the gateway";
    let verdict = if scene.is_up() {
        match scene.ask(Scope::Read, "audit.verify", json!({})).await {
            Ok(verdict) => {
                (verdict["rows"].as_u64().unwrap_or(0), verdict["problem"].as_str().map(str::to_owned))
            }
            Err(why) => {
                return vec![name.warn(format!("the gateway did not say: {why}"), "see `gateway`")];
            }
        }
    } else {
        let path = file(&scene);
        if !path.exists() {
            return vec![name.ok("nothing was written yet")];
        }
        let read = blocking(move || Offline::open(&path).and_then(|db| db.verify_audit(None))).await;
        match read {
            Some(Ok(Some(verdict))) => (verdict.rows, verdict.problem),
            Some(Ok(None)) => return vec![name.ok("the database is older than the ledger")],
            Some(Err(e)) => return vec![name.warn(format!("not read: {e}"), "see `store`")],
            None => return Vec::new(),
        }
    };
    vec![match verdict {
        (rows, None) => name.ok(format!("{rows} rows, as they were written")),
        (_, Some(problem)) => name.problem(problem, CHANGED),
    }]
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("it is not whole").to_owned()
}

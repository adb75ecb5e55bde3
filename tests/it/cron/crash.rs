//! A gateway that is killed, wherever it is with a job.

use super::{heard, hourly, records};
use crate::client::Client;
use crate::gateway::Process;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

fn often() -> Value {
    let mut job = hourly("tick");
    job["schedule"] = json!({ "kind": "every", "everyMs": 1_000 });
    job
}

/// The records of a job, at least so many, once there is one of each instant between the first and the last: what goes
/// on has none yet that is over. No instant has two.
async fn whole(client: &mut Client, id: &str, count: usize) -> Vec<Value> {
    loop {
        let entries = records(client, id, count).await;
        let due: Vec<i64> = entries.iter().map(|entry| entry["dueAtMs"].as_i64().unwrap()).collect();
        let (first, last) = (*due.iter().min().unwrap(), *due.iter().max().unwrap());
        let once: BTreeSet<i64> = due.iter().copied().collect();
        assert_eq!(once.len(), due.len(), "an instant has two records: {due:?}");
        if once == (first..=last).step_by(1_000).collect() {
            return entries;
        }
        let begun = first + 30_000;
        assert!(last < begun, "an instant has no record: {due:?}");
        tokio::time::sleep(super::LOOK).await;
    }
}

/// accepts: K13
#[tokio::test]
async fn killed_and_away_every_instant_has_one_record() {
    let state = tempfile::tempdir().unwrap();
    let gateway = Process::start(state.path()).await;
    let mut client = Client::admin(gateway.addr).await;
    let job = client.call("cron.add", often()).await;
    let id = job["id"].as_str().unwrap().to_owned();
    let mut before = 0;
    let mut gateway = Some(gateway);
    for _ in 0..3 {
        records(&mut client, &id, before + 2).await;
        gateway.take().unwrap().kill();
        assert_eq!(client.until_closed().await, None);
        // Away for some of its instants.
        tokio::time::sleep(Duration::from_millis(2_300)).await;
        let again = Process::start(state.path()).await;
        client = Client::admin(again.addr).await;
        gateway = Some(again);
        before = whole(&mut client, &id, before + 4).await.len();
    }
    let entries = records(&mut client, &id, before).await;
    assert!(entries.iter().any(|entry| entry["fate"] == "missed"), "{entries:?}");
    assert!(entries.iter().any(|entry| entry["fate"] == "run" && entry["status"] == "ok"), "{entries:?}");
}

#[tokio::test]
async fn a_run_that_was_cut_off_goes_on_under_its_name_and_ends_once() {
    let state = tempfile::tempdir().unwrap();
    let gateway = Process::start(state.path()).await;
    let mut client = Client::admin(gateway.addr).await;
    let job = client.call("cron.add", hourly(&"word ".repeat(100))).await;
    let id = job["id"].as_str().unwrap().to_owned();
    let run = client.call("cron.run", json!({ "id": id })).await["runId"].clone();
    client.event(|e| e["event"] == "agent" && e["payload"]["stream"] == "assistant").await;
    gateway.kill();
    let gateway = Process::start(state.path()).await;
    let mut client = Client::admin(gateway.addr).await;
    let entries = records(&mut client, &id, 1).await;
    assert_eq!(
        (entries.len(), &entries[0]["runId"], &entries[0]["status"]),
        (1, &run, &json!("ok")),
        "{entries:?}"
    );
    let key = entries[0]["sessionKey"].as_str().unwrap();
    let said = crate::channels::rows(&mut client, key).await;
    assert_eq!(said.iter().map(|row| row.0.as_str()).collect::<Vec<_>>(), ["user", "assistant"]);
    drop(gateway);
}

#[tokio::test]
async fn killed_around_the_commit_of_an_instant_it_is_neither_lost_nor_run_twice() {
    for point in ["store.before_begin", "store.after_ops", "store.after_commit"] {
        let state = tempfile::tempdir().unwrap();
        let mut gateway = Process::start(state.path()).await;
        let mut client = Client::admin(gateway.addr).await;
        let job = client.call("cron.add", often()).await;
        let id = job["id"].as_str().unwrap().to_owned();
        let fault = json!({ "path": "gateway/store", "fault": "killpoint", "name": point });
        client.call("system.chaos", fault).await;
        assert_eq!(client.until_closed().await, None);
        assert!(!gateway.ended().success());
        let gateway = Process::start(state.path()).await;
        let mut client = Client::admin(gateway.addr).await;
        whole(&mut client, &id, 4).await;
        drop(gateway);
    }
}

/// The actor alone dies, over and over, while its jobs go on.
#[tokio::test]
async fn a_crash_of_the_actor_loses_no_instant() {
    let state = tempfile::tempdir().unwrap();
    let gateway = Process::start(state.path()).await;
    let mut client = Client::admin(gateway.addr).await;
    let job = client.call("cron.add", often()).await;
    let id = job["id"].as_str().unwrap().to_owned();
    for _ in 0..3 {
        heard(&mut client, "started").await;
        client.events.clear();
        client.call("system.chaos", json!({ "path": "gateway/cron", "fault": "panic" })).await;
        let back = |e: &Value| e["payload"]["path"] == "gateway/cron" && e["payload"]["state"] == "running";
        client.event(|e| e["event"] == "system.actors.changed" && back(e)).await;
    }
    whole(&mut client, &id, 6).await;
    drop(gateway);
}

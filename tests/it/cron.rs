//! Jobs with a schedule, from outside: made, run, told, removed, and there again after `kill -9`.

mod crash;
mod tasks;

use crate::client::Client;
use crate::fakes::platform::Platform;
use crate::gateway::Embedded;
use crate::mock_model::models;
use serde_json::{Value, json};
use std::time::Duration;

/// How often a test looks.
const LOOK: Duration = Duration::from_millis(50);
/// How long it waits for something that must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// A gateway with the test's models, and these sections of its configuration.
async fn gateway(more: Value) -> Embedded {
    let mut config = json!({ "agents": { "defaults": { "model": "mock/mock-1" } } });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Embedded::with_models(config, models()).await
}

/// A job that works on its own once an hour.
pub fn hourly(message: &str) -> Value {
    json!({
        "name": "hourly", "schedule": { "kind": "every", "everyMs": 3_600_000 }, "sessionTarget": "isolated",
        "wakeMode": "now", "payload": { "kind": "agentTurn", "message": message }, "delivery": { "mode": "none" },
    })
}

/// A job that tells the agent something, that many milliseconds from now.
fn soon(ms: i64, text: &str) -> Value {
    let at = chrono::Utc::now() + chrono::Duration::milliseconds(ms);
    json!({
        "name": "soon", "schedule": { "kind": "at", "at": at.to_rfc3339() }, "sessionTarget": "main",
        "wakeMode": "now", "payload": { "kind": "systemEvent", "text": text },
    })
}

/// The event `cron` with this action.
pub async fn heard(client: &mut Client, action: &str) -> Value {
    client.event(|e| e["event"] == "cron" && e["payload"]["action"] == action).await["payload"].clone()
}

/// The records of a job, the latest first, once there are so many.
pub async fn records(client: &mut Client, id: &str, count: usize) -> Vec<Value> {
    let looked = async {
        loop {
            let page = client.call("cron.runs", json!({ "id": id, "limit": 200 })).await;
            let entries = page["entries"].as_array().unwrap().clone();
            if entries.len() >= count {
                return entries;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(PATIENCE, looked).await.unwrap()
}

fn id(job: &Value) -> String {
    job["id"].as_str().unwrap().to_owned()
}

/// accepts: G2, G6
#[tokio::test]
async fn a_job_is_made_listed_run_changed_and_removed_as_recorded() {
    let gateway = gateway(json!({})).await;
    let mut client = Client::admin(gateway.addr).await;
    let job = client.call("cron.add", hourly("MOCK{n=3}")).await;
    let id = id(&job);
    assert_eq!(heard(&mut client, "added").await["jobId"], id);
    let anchor = job["schedule"]["anchorMs"].as_i64().unwrap();
    assert_eq!(job["nextRunAtMs"], anchor + 3_600_000);
    assert_eq!(job["deliveryPreview"], json!({ "label": "not requested", "detail": "not requested" }));
    assert_eq!(job["payload"]["toolsAllow"], json!(["*"]));

    let list = client.call("cron.list", json!({ "includeDisabled": false, "limit": 200, "offset": 0 })).await;
    assert_eq!((&list["total"], &list["limit"], &list["nextOffset"]), (&json!(1), &json!(200), &Value::Null));
    assert!(list["snapshotRevision"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!((&list["jobs"][0]["id"], &list["jobs"][0]["effectiveAgentId"]), (&json!(id), &json!("main")));
    let status = client.call("cron.status", json!({})).await;
    assert_eq!((&status["jobs"], &status["enabled"]), (&json!(1), &json!(true)));
    assert_eq!(status["nextWakeAtMs"], job["nextRunAtMs"]);

    let ran = client.call("cron.run", json!({ "id": id, "mode": "force" })).await;
    let run = ran["runId"].as_str().unwrap().to_owned();
    assert!(run.starts_with(&format!("manual:{id}:")) && ran["enqueued"] == true);
    assert_eq!(heard(&mut client, "started").await["jobId"], id);
    let end = heard(&mut client, "finished").await;
    assert_eq!((&end["status"], &end["completionStatus"]), (&json!("ok"), &json!("succeeded")), "{end}");
    let entry = &records(&mut client, &id, 1).await[0];
    assert_eq!((&entry["summary"], &entry["runId"]), (&json!("tok0 tok1 tok2"), &json!(run)));
    assert_eq!((&entry["deliveryStatus"], &entry["fate"]), (&json!("not-requested"), &json!("run")));
    let key = entry["sessionKey"].as_str().unwrap();
    assert!(key.starts_with(&format!("agent:main:cron:{id}:run:")), "a session of its own: {key}");
    let after = client.call("cron.get", json!({ "jobId": id })).await;
    assert_eq!(after["nextRunAtMs"], job["nextRunAtMs"], "its cadence is what it was");
    assert_eq!(after["state"]["lastRunStatus"], "ok");

    let off =
        client.call("cron.update", json!({ "id": id, "patch": { "enabled": false, "name": "off" } })).await;
    assert_eq!((&off["enabled"], off.get("nextRunAtMs")), (&json!(false), None));
    let gone = client.call("cron.remove", json!({ "id": id })).await;
    assert_eq!(gone, json!({ "ok": true, "removed": true }));
    heard(&mut client, "removed").await;
    assert_eq!(records(&mut client, &id, 1).await.len(), 1, "its record stays");
}

#[tokio::test]
async fn what_cannot_be_is_refused_in_the_recorded_words() {
    let gateway = gateway(json!({})).await;
    let mut client = Client::admin(gateway.addr).await;
    let mut message = async |method: &str, params: Value| {
        client.refused(method, params).await["message"].as_str().unwrap().to_owned()
    };
    let add = "cron.add";
    assert_eq!(message(add, json!({})).await, "invalid cron.add params: must have required property 'name'");
    let with = |part: &str, value: Value| {
        let mut job = hourly("x");
        job[part] = value;
        job
    };
    assert_eq!(
        message(add, with("schedule", json!({ "kind": "cron", "expr": "not a cron" }))).await,
        "invalid cron.add params: CronPattern: invalid configuration format ('not a cron'), exactly five, six, or \
         seven space separated parts are required."
    );
    assert_eq!(
        message(add, with("sessionTarget", json!("main"))).await,
        "invalid cron.add params: main cron jobs require payload.kind=\"systemEvent\" or \"script\""
    );
    let past = message(add, with("schedule", json!({ "kind": "at", "at": "2020-01-01T00:00:00Z" }))).await;
    assert!(past.starts_with("schedule.at is in the past: 2020-01-01T00:00:00.000Z ("), "{past}");
    let command = message(add, with("payload", json!({ "kind": "command", "argv": ["ls"] }))).await;
    assert!(command.contains("payload.kind \"command\" is not there"), "{command}");
    assert!(message("cron.get", json!({ "id": "nope" })).await.starts_with("cron job not found: nope. "));
    let update = message("cron.update", json!({ "id": "nope", "patch": { "enabled": false } })).await;
    assert!(update.starts_with("Automation not found: nope. "));
    let gone = client.refused("cron.remove", json!({ "id": "nope" })).await;
    assert_eq!(gone["details"], json!({ "code": "CRON_JOB_NOT_FOUND", "jobId": "nope" }));
    let mut reader = Client::scoped(gateway.addr, &["operator.read"]).await;
    assert!(
        reader.refused("cron.add", hourly("x")).await["message"].as_str().unwrap().contains("operator.admin")
    );
}

/// accepts: K13
#[tokio::test]
async fn what_is_due_once_is_told_to_the_agent_and_goes() {
    let gateway = gateway(json!({})).await;
    let mut client = Client::admin(gateway.addr).await;
    let job = client.call("cron.add", soon(300, "the tea is ready MOCK{n=1}")).await;
    assert_eq!(job["deleteAfterRun"], true);
    for action in ["started", "finished", "removed"] {
        assert_eq!(heard(&mut client, action).await["jobId"], job["id"], "{action}");
    }
    let said = crate::channels::rows(&mut client, "main").await;
    assert_eq!(said[0], ("user".into(), "System event: the tea is ready MOCK{n=1}".into()));
    assert_eq!(said[1].1, "tok0");
    let entries = records(&mut client, &id(&job), 1).await;
    assert_eq!((entries.len(), &entries[0]["status"]), (1, &json!("ok")));
    assert_eq!(client.call("cron.list", json!({ "includeDisabled": true })).await["total"], 0);
}

#[tokio::test]
async fn a_job_that_is_declared_again_is_the_same_job() {
    let gateway = gateway(json!({})).await;
    let mut client = Client::admin(gateway.addr).await;
    let mut declared = hourly("x");
    declared["declarationKey"] = json!("mine");
    let first = client.call("cron.add", declared.clone()).await;
    assert_eq!((&first["created"], first.get("updated")), (&json!(true), None));
    let again = client.call("cron.add", declared.clone()).await;
    assert_eq!(
        (&again["created"], &again["updated"], &again["job"]),
        (&json!(false), &json!(false), &first["job"])
    );
    declared["schedule"]["everyMs"] = json!(7_200_000);
    let other = client.call("cron.add", declared).await;
    assert_eq!((&other["updated"], &other["job"]["id"]), (&json!(true), &first["job"]["id"]));
    assert_eq!(other["job"]["schedule"]["everyMs"], 7_200_000);
    assert_eq!(client.call("cron.list", json!({})).await["total"], 1);
}

#[tokio::test]
async fn what_a_job_keeps_is_changed_by_who_knows_it() {
    let gateway = gateway(json!({})).await;
    let mut client = Client::admin(gateway.addr).await;
    let id = id(&client.call("cron.add", hourly("x")).await);
    let empty = json!({ "scratch": null, "currentRevision": 0, "maxBytes": 262_144 });
    assert_eq!(client.call("cron.scratch.get", json!({ "id": id })).await, empty);
    let set = |content: &str| json!({ "id": id, "content": content, "expectedRevision": 0 });
    let kept = client.call("cron.scratch.set", set("note")).await;
    assert_eq!((&kept["scratch"]["content"], &kept["currentRevision"]), (&json!("note"), &json!(1)));
    let late = client.call("cron.scratch.set", set("other")).await;
    assert_eq!(late, json!({ "ok": false, "reason": "revision-conflict", "currentRevision": 1 }));
    let none = client.call("cron.scratch.set", json!({ "id": id, "content": null })).await;
    assert_eq!((&none["scratch"], &none["currentRevision"]), (&Value::Null, &json!(2)));
}

#[tokio::test]
async fn removing_a_job_ends_what_it_does_and_one_run_at_a_time_is_enough() {
    let gateway = gateway(json!({})).await;
    let mut client = Client::admin(gateway.addr).await;
    let id = id(&client.call("cron.add", hourly("MOCK{n=200;d=100}")).await);
    client.call("cron.run", json!({ "id": id })).await;
    client.event(|e| e["event"] == "agent" && e["payload"]["stream"] == "assistant").await;
    let busy = client.call("cron.run", json!({ "id": id })).await;
    assert_eq!((&busy["ran"], &busy["reason"]), (&json!(false), &json!("already-running")));
    let gone = client.call("cron.remove", json!({ "id": id })).await;
    assert_eq!(gone["sessionCleanup"], "pending");
    let end = heard(&mut client, "finished").await;
    assert_eq!((&end["status"], &end["error"]), (&json!("error"), &json!("Cron job removed by operator.")));
    assert_eq!(records(&mut client, &id, 1).await[0]["completionStatus"], "failed");
}

#[tokio::test]
async fn what_came_of_it_goes_to_people() {
    let platform = Platform::start();
    let channels = json!({ "loopback": platform.section(json!({ "allowFrom": ["ann"] })) });
    let gateway = gateway(json!({ "channels": channels })).await;
    let mut client = Client::admin(gateway.addr).await;
    let mut job = hourly("MOCK{n=2}");
    job["delivery"] = json!({ "mode": "announce", "channel": "loopback", "to": "ann" });
    let named = id(&client.call("cron.add", job.clone()).await);
    client.call("cron.run", json!({ "id": named })).await;
    assert_eq!(platform.answers_in("ann", 1).await, ["tok0 tok1"]);
    let entry = &records(&mut client, &named, 1).await[0];
    assert_eq!(
        (&entry["deliveryStatus"], &entry["completionStatus"]),
        (&json!("delivered"), &json!("succeeded"))
    );

    job["delivery"] = json!({ "mode": "announce" });
    let last = id(&client.call("cron.add", job).await);
    client.call("cron.run", json!({ "id": last })).await;
    let entry = records(&mut client, &last, 1).await.remove(0);
    assert_eq!(
        (&entry["status"], &entry["completionStatus"]),
        (&json!("ok"), &json!("failed")),
        "nobody has spoken yet"
    );
    assert!(entry["deliveryError"].as_str().unwrap().starts_with("Channel is required"));
    platform.says("1", "ann", "hello MOCK{n=1}");
    platform.answers_in("ann", 2).await;
    client.call("cron.run", json!({ "id": last })).await;
    assert_eq!(platform.answers_in("ann", 3).await[2], "tok0 tok1");
    assert_eq!(records(&mut client, &last, 2).await[0]["deliveryStatus"], "delivered");
}

#[tokio::test]
async fn an_agent_makes_appointments_with_itself() {
    let gateway = Embedded::with(json!({})).await;
    let mut client = Client::admin(gateway.addr).await;
    let job = json!({
        "name": "look", "schedule": { "kind": "every", "everyMs": 60_000 }, "sessionTarget": "isolated",
        "wakeMode": "now", "payload": { "kind": "agentTurn", "message": "look" }, "delivery": { "mode": "none" },
    });
    let text = format!("/tool cron {}", json!({ "action": "add", "job": job }));
    client.call("chat.send", json!({ "sessionKey": "main", "message": text, "idempotencyKey": "k" })).await;
    let added = heard(&mut client, "added").await;
    assert_eq!(added["job"]["owner"], json!({ "agentId": "main", "sessionKey": "agent:main:main" }));
    client.chat_end("k").await;
}

#[tokio::test]
async fn a_job_that_keeps_failing_is_told_once_and_that_it_is_well_again_once() {
    let platform = Platform::start();
    let channels = json!({ "loopback": platform.section(json!({ "allowFrom": ["ann"] })) });
    let gateway = gateway(json!({ "channels": channels })).await;
    let mut client = Client::admin(gateway.addr).await;
    let mut job = hourly("MOCK{err=400}");
    job["delivery"] = json!({ "mode": "announce", "channel": "loopback", "to": "ann" });
    let wrong = json!({ "after": 0 });
    job["failureAlert"] = wrong;
    let refused = client.refused("cron.add", job.clone()).await;
    assert!(refused["message"].as_str().unwrap().contains("failureAlert"), "{refused}");
    job["failureAlert"] = json!({ "after": 2 });
    let id = id(&client.call("cron.add", job).await);
    for run in 1..=3 {
        client.call("cron.run", json!({ "id": id })).await;
        assert_eq!(records(&mut client, &id, run).await[0]["status"], "error");
    }
    let told = platform.answers_in("ann", 1).await;
    assert!(told[0].contains("\"hourly\" failed 2 times in a row"), "{told:?}");
    let state = client.call("cron.get", json!({ "id": id })).await["state"].clone();
    assert_eq!(
        (&state["consecutiveErrors"], &state["failureIncident"]["to"]["to"]),
        (&json!(3), &json!("ann"))
    );
    let mended = json!({ "payload": { "kind": "agentTurn", "message": "MOCK{n=1}" } });
    client.call("cron.update", json!({ "id": id, "patch": mended })).await;
    client.call("cron.run", json!({ "id": id })).await;
    records(&mut client, &id, 4).await;
    let told = platform.answers_in("ann", 3).await;
    assert_eq!(told[1..], ["tok0", "✅ The job \"hourly\" is well again."], "{told:?}");
}

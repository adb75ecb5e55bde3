//! Runs of jobs as tasks: listed, told, and ended.

use super::{gateway, heard, hourly, id, records};
use crate::client::Client;
use serde_json::{Value, json};

/// The event `task` with this status.
async fn told(client: &mut Client, status: &str) -> Value {
    let wanted = |e: &Value| e["event"] == "task" && e["payload"]["task"]["status"] == status;
    let event = client.event(wanted).await["payload"].clone();
    assert_eq!(event["action"], "upserted");
    event["task"].clone()
}

#[tokio::test]
async fn a_run_is_a_task_from_its_beginning_to_its_end() {
    let gateway = gateway(json!({})).await;
    let mut client = Client::admin(gateway.addr).await;
    let job = id(&client.call("cron.add", hourly("MOCK{n=2}")).await);
    let run = client.call("cron.run", json!({ "id": job, "mode": "force" })).await["runId"].clone();
    let began = told(&mut client, "running").await;
    for (name, value) in [
        ("id", &run),
        ("taskId", &run),
        ("runId", &run),
        ("kind", &json!("automation_run")),
        ("runtime", &json!("cron")),
        ("title", &json!("hourly")),
        ("agentId", &json!("main")),
        ("sessionKey", &json!("")),
        ("sourceId", &json!(job)),
        ("progressSummary", &json!("Running automation.")),
        ("deliveryStatus", &json!("not_applicable")),
        ("execution", &json!({ "state": "running" })),
    ] {
        assert_eq!(&began[name], value, "{name} of {began}");
    }
    let ended = told(&mut client, "completed").await;
    assert_eq!(
        (&ended["execution"]["state"], &ended["terminalSummary"]),
        (&json!("finished"), &json!("tok0 tok1"))
    );
    assert!(
        ended["endedAt"].as_i64() >= ended["startedAt"].as_i64() && ended.get("error").is_none(),
        "{ended}"
    );

    let list = client.call("tasks.list", json!({})).await;
    assert_eq!(list, json!({ "tasks": [ended] }));
    let got = client.call("tasks.get", json!({ "taskId": run })).await["task"].clone();
    assert_eq!(got["prompt"], "MOCK{n=2}");
    let mut pages =
        async |params: Value| client.call("tasks.list", params).await["tasks"].as_array().unwrap().len();
    assert_eq!(pages(json!({ "status": ["queued", "running"], "limit": 500, "agentId": "main" })).await, 0);
    assert_eq!(pages(json!({ "status": "completed", "sortBy": "endedAt", "agentId": "main" })).await, 1);
    assert_eq!(pages(json!({ "agentId": "other" })).await, 0);
    assert_eq!(pages(json!({ "sessionKey": "agent:main:main" })).await, 0, "jobs belong to no session");
    let error = client.refused("tasks.get", json!({ "taskId": "x" })).await;
    assert_eq!(error, json!({ "code": "INVALID_REQUEST", "message": "task not found: x" }));
    let error = client.refused("tasks.list", json!({ "cursor": "x" })).await;
    assert!(error["message"].as_str().unwrap().contains("restart pagination without a cursor"), "{error}");
}

#[tokio::test]
async fn a_task_is_cancelled_once_and_its_run_ends() {
    let gateway = gateway(json!({})).await;
    let mut client = Client::admin(gateway.addr).await;
    let mut reader = Client::scoped(gateway.addr, &["operator.read"]).await;
    let job = id(&client.call("cron.add", hourly("MOCK{n=200;d=100}")).await);
    let run = client.call("cron.run", json!({ "id": job })).await["runId"].clone();
    told(&mut client, "running").await;
    let key = format!("agent:main:cron:{job}:run:manual:");
    client.event(|e| e["event"] == "chat" && e["payload"]["sessionKey"].to_string().contains(&key)).await;
    let of = json!({ "taskId": run });
    assert_eq!(reader.refused("tasks.cancel", of.clone()).await["code"], "FORBIDDEN");
    let cancelled = client.call("tasks.cancel", json!({ "taskId": run, "reason": "enough" })).await;
    assert_eq!((&cancelled["found"], &cancelled["cancelled"]), (&json!(true), &json!(true)), "{cancelled}");
    assert_eq!((&cancelled["task"]["id"], &cancelled["task"]["status"]), (&run, &json!("cancelled")));
    let end = heard(&mut client, "finished").await;
    assert_eq!((&end["status"], &end["error"]), (&json!("error"), &json!("Cancelled by operator.")));
    let over = client
        .event(|e| e["event"] == "task" && e["payload"]["task"]["execution"]["state"] == "finished")
        .await["payload"]["task"]
        .clone();
    assert_eq!((&over["status"], &over["error"]), (&json!("cancelled"), &json!("Cancelled by operator.")));
    assert_eq!(records(&mut client, &job, 1).await[0].get("taskStatus"), None);
    let page = client.call("tasks.list", json!({ "status": "cancelled" })).await;
    assert_eq!(page["tasks"], json!([over]));

    let again = client.call("tasks.cancel", of).await;
    assert_eq!((&again["found"], &again["cancelled"]), (&json!(true), &json!(false)));
    assert_eq!(again["reason"], "Task is already terminal.");
    let unknown = client.call("tasks.cancel", json!({ "taskId": "x" })).await;
    assert_eq!(unknown, json!({ "found": false, "cancelled": false, "reason": "Task not found." }));
}

#[tokio::test]
async fn a_task_that_waits_never_begins_when_it_is_cancelled() {
    let gateway = gateway(json!({ "cron": { "maxConcurrentRuns": 1 } })).await;
    let mut client = Client::admin(gateway.addr).await;
    let busy = id(&client.call("cron.add", hourly("MOCK{n=200;d=100}")).await);
    client.call("cron.run", json!({ "id": busy })).await;
    told(&mut client, "running").await;
    let waits = id(&client.call("cron.add", hourly("MOCK{n=1}")).await);
    let run = client.call("cron.run", json!({ "id": waits })).await["runId"].clone();
    let queued = client.call("tasks.list", json!({ "status": ["queued"] })).await;
    assert_eq!(
        (&queued["tasks"][0]["id"], &queued["tasks"][0]["execution"]["state"]),
        (&run, &json!("queued"))
    );
    let cancelled = client.call("tasks.cancel", json!({ "taskId": run })).await;
    assert_eq!(cancelled["task"]["status"], "cancelled");
    let all = client.call("tasks.list", json!({ "limit": 1 })).await;
    assert_eq!((&all["tasks"][0]["id"], &all["nextCursor"]), (&run, &json!("1")), "{all}");
    let next = client.call("tasks.list", json!({ "limit": 1, "cursor": "1" })).await;
    assert_eq!((&next["tasks"][0]["sourceId"], next.get("nextCursor")), (&json!(busy), None));
    assert_eq!(records(&mut client, &waits, 1).await[0]["fate"], "skipped");
}

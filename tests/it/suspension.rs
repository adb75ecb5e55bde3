//! A gateway that holds still for its host.

use crate::client::Client;
use crate::gateway::{Embedded, http};
use serde_json::{Value, json};

fn is_phase(event: &Value, phase: &str) -> bool {
    event["event"] == "gateway.suspension" && event["payload"] == json!({ "phase": phase })
}

#[tokio::test]
async fn who_holds_still_takes_no_work_until_the_lease_is_ended() {
    let gateway = Embedded::start().await;
    let mut admin = Client::admin(gateway.addr).await;
    let mut watcher = Client::scoped(gateway.addr, &["operator.read"]).await;
    let prepare = json!({ "requestId": " snapshot " });
    let ready = admin.response_to("gateway.suspend.prepare", prepare.clone()).await["payload"].clone();
    assert_eq!(
        (&ready["status"], &ready["activeCount"], &ready["blockers"]),
        (&json!("ready"), &json!(0), &json!([])),
        "{ready}"
    );
    watcher.event(|e| is_phase(e, "prepared")).await;

    let refused = admin
        .response_to("chat.send", json!({ "sessionKey": "main", "message": "x", "idempotencyKey": "k" }))
        .await;
    let recorded = json!({ "code": "UNAVAILABLE", "message": "chat.send unavailable during gateway suspension",
        "retryable": true, "retryAfterMs": 1000,
        "details": { "method": "chat.send", "reason": "gateway-suspending", "phase": "prepared" } });
    assert_eq!(refused["error"], recorded);
    let (status, body) = http(gateway.addr, "POST", "/tools/invoke").await.unwrap();
    assert!(status == 503 && body.contains("gateway_unavailable"), "{status} {body}");
    assert_eq!(http(gateway.addr, "GET", "/healthz").await.unwrap().0, 200);
    // Who comes now sees how it is, and may look after the lease.
    let mut later = Client::admin(gateway.addr).await;
    assert_eq!(later.hello["snapshot"]["suspension"], json!({ "phase": "prepared" }));
    let other = later.response_to("gateway.suspend.prepare", json!({ "requestId": "another" })).await;
    assert_eq!(other["error"]["details"]["reason"], "gateway-suspension-conflict", "{other}");
    let again = later.response_to("gateway.suspend.prepare", prepare).await["payload"].clone();
    assert_eq!(again["suspensionId"], ready["suspensionId"], "it is renewed");
    let lease = json!({ "suspensionId": ready["suspensionId"] });
    let status = later.response_to("gateway.suspend.status", lease.clone()).await["payload"].clone();
    assert_eq!(status["status"], "ready", "{status}");
    let wrong = later.response_to("gateway.suspend.resume", json!({ "suspensionId": "x" })).await;
    assert_eq!(wrong["error"]["message"], "gateway suspension id does not match");

    let resumed = later.response_to("gateway.suspend.resume", lease.clone()).await["payload"].clone();
    assert_eq!(resumed, json!({ "ok": true, "status": "running", "resumed": true }));
    let resumed = later.response_to("gateway.suspend.resume", lease).await["payload"].clone();
    assert_eq!(resumed["resumed"], false);
    assert_eq!(watcher.event(|e| is_phase(e, "accepting")).await["event"], "gateway.suspension");
    let taken = admin
        .response_to("chat.send", json!({ "sessionKey": "main", "message": "x", "idempotencyKey": "k" }))
        .await;
    assert_eq!(taken["ok"], true, "{taken}");
}

#[tokio::test]
async fn only_who_runs_the_process_starts_it_anew() {
    let gateway = Embedded::start().await;
    let mut admin = Client::admin(gateway.addr).await;
    let refused = admin.response_to("gateway.restart.request", json!({})).await;
    assert_eq!(refused["error"]["code"], "UNAVAILABLE", "{refused}");
}

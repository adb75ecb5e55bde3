//! Paths of one's own, and what a configuration says of them.

use super::{SECRET, gateway, post, post_with, raw};
use crate::client::Client;
use crate::gateway::Embedded;
use serde_json::{Value, json};

/// What was said in the session of a run.
async fn said(client: &mut Client, run_id: &Value) -> String {
    let key = format!("agent:main:hook:run:{}", run_id.as_str().unwrap());
    crate::channels::rows(client, &key).await.remove(0).1
}

#[tokio::test]
async fn a_mapping_says_what_its_templates_make_of_a_request() {
    let template =
        "{{headers.x-event}} {{query.kind}} {{path}}: {{items[1].name}} {{headers.authorization}}|{{gone}}|";
    let mappings = json!([
        { "id": "no", "match": { "path": "deep/er", "source": "other" }, "messageTemplate": "other" },
        { "id": "yes", "match": { "path": "deep/er" }, "name": "On {{items[0].name}}", "messageTemplate": template,
            "deliver": false },
    ]);
    let gateway = gateway(json!({ "path": "in/", "mappings": mappings }), json!({})).await;
    let body = json!({ "source": "this", "items": [{ "name": "one" }, { "name": "two" }] });
    let (status, answer) = post_with(gateway.addr, "/in/deep/er/?kind=full", "X-Event: push\r\n", body).await;
    assert_eq!(status, 200, "{answer}");
    let mut client = Client::admin(gateway.addr).await;
    let text = said(&mut client, &answer["runId"]).await;
    assert!(text.starts_with("[Webhook \"On one\"]"), "{text}");
    assert!(text.contains("\npush full deep/er: two ||\n"), "{text}");
    assert_eq!(post(gateway.addr, "/hooks/deep/er", json!({})).await.0, 404, "they are elsewhere");
}

#[tokio::test]
async fn a_list_is_a_run_for_each_item_and_the_same_item_is_the_same_run() {
    let mappings = json!([{ "match": { "path": "mail" }, "forEach": "messages", "deliver": false,
        "sessionKey": "hook:mail:{{messages[0].id}}", "messageTemplate": "{{messages[0].id}} MOCK{n=1}" }]);
    let hooks = json!({ "allowRequestSessionKey": true, "allowedSessionKeyPrefixes": ["hook:"], "mappings": mappings });
    let gateway = gateway(hooks, json!({})).await;
    let mails =
        |ids: &[&str]| json!({ "messages": ids.iter().map(|id| json!({ "id": id })).collect::<Vec<_>>() });
    let (status, first) = post(gateway.addr, "/hooks/mail", mails(&["a", "b"])).await;
    assert_eq!(
        (status, &first["dispatched"], &first["runId"]),
        (200, &json!(2), &first["runIds"][0]),
        "{first}"
    );
    let (_, again) = post(gateway.addr, "/hooks/mail", mails(&["b", "c"])).await;
    assert_eq!(again["runIds"][0], first["runIds"][1]);
    assert_ne!(again["runIds"][1], first["runIds"][1]);
    let (_, one) = post(gateway.addr, "/hooks/mail", mails(&["c"])).await;
    assert_eq!(one, json!({ "ok": true, "runId": again["runIds"][1] }));
    assert_eq!(post(gateway.addr, "/hooks/mail", mails(&[])).await, (204, json!("")));
    assert_eq!(post(gateway.addr, "/hooks/mail", json!({ "messages": 1 })).await.0, 204);
}

#[tokio::test]
async fn a_transform_is_refused_aloud_and_shown() {
    let mappings = json!([{ "id": "gh", "match": { "path": "gh" }, "transform": { "module": "gh.js" } }]);
    let gateway = gateway(json!({ "mappings": mappings, "maxBodyBytes": 30 }), json!({})).await;
    let (status, answer) = post(gateway.addr, "/hooks/gh", json!({})).await;
    assert_eq!(status, 500);
    assert!(
        answer["error"].as_str().unwrap().starts_with("hook mapping failed: gh has a transform"),
        "{answer}"
    );
    assert_eq!(post(gateway.addr, "/hooks/gh", json!({ "a": "x".repeat(30) })).await.0, 413);
    let mut client = Client::scoped(gateway.addr, &["operator.read"]).await;
    let status = client.call("hooks.status", json!({ "agentId": "main" })).await;
    assert_eq!(status["hooks"], json!([]));
    let shown = &status["webhooks"];
    assert_eq!((&shown["enabled"], &shown["path"]), (&json!(true), &json!("/hooks")));
    assert_eq!(shown["mappings"], json!([{ "id": "gh", "action": "agent", "runs": false, "path": "gh" }]));
    assert!(shown["warnings"][0].as_str().unwrap().contains("transform is JavaScript"), "{shown}");
}

/// The event that a change of the file is taken up.
async fn rewrite(gateway: &Embedded, client: &mut Client, config: Value) {
    client.events.clear();
    std::fs::write(gateway.state.path().join("openclaw.json"), config.to_string()).unwrap();
    gateway.gateway.reload();
    client.event(|e| e["event"] == "config.changed").await;
}

/// accepts: D10
#[tokio::test]
async fn a_token_is_a_secret_that_may_be_kept_elsewhere_and_counts_at_once() {
    let config = |token: Value| json!({ "hooks": { "enabled": true, "token": token } });
    let gateway = Embedded::with(json!({})).await;
    let mut client = Client::admin(gateway.addr).await;
    let status = async |secret: &str| {
        let head = format!("x-openclaw-token: {secret}\r\n");
        let body = json!({ "text": "x", "mode": "next-heartbeat" }).to_string();
        raw(gateway.addr, "POST /hooks/wake", &head, &body).await.0
    };
    assert_eq!(status(SECRET).await, 404, "there are none");
    rewrite(&gateway, &mut client, config(json!(SECRET))).await;
    assert_eq!((status(SECRET).await, status("another-secret").await), (200, 401));
    rewrite(&gateway, &mut client, config(json!("another-secret"))).await;
    assert_eq!((status(SECRET).await, status("another-secret").await), (401, 200));
    let shown = client.call("config.get", json!({})).await;
    assert_eq!(shown["config"]["hooks"]["token"], "__OPENCLAW_REDACTED__");
    assert!(!client.call("hooks.status", json!({})).await.to_string().contains("another-secret"));

    client
        .call("secrets.store.set", json!({ "name": "HOOK", "value": "a-third-secret", "kind": "secret" }))
        .await;
    rewrite(&gateway, &mut client, config(json!({ "source": "store", "id": "HOOK" }))).await;
    assert_eq!((status("another-secret").await, status("a-third-secret").await), (401, 200));
    rewrite(&gateway, &mut client, json!({ "hooks": { "enabled": false, "token": "a-third-secret" } })).await;
    assert_eq!(status("a-third-secret").await, 404);
}

#[tokio::test]
async fn without_a_token_the_section_is_left_out_and_the_gateway_starts() {
    let gateway = Embedded::with(json!({ "hooks": { "enabled": true, "path": "/hooks" } })).await;
    let mut client = Client::admin(gateway.addr).await;
    let config = client.call("config.get", json!({})).await;
    assert_eq!(config["valid"], false);
    let issue = &config["issues"][0];
    assert!(issue["message"].as_str().unwrap().contains("hooks.enabled needs hooks.token"), "{issue}");
    assert_eq!(post(gateway.addr, "/hooks/wake", json!({ "text": "x" })).await.0, 404);
    let base = config["hash"].clone();
    let patch = json!({ "raw": "{ hooks: { enabled: true, token: 'long-enough-token', path: '/' } }", "baseHash": base });
    let refused = client.refused("config.patch", patch).await;
    assert!(refused["message"].as_str().unwrap().contains("hooks.path may not be"), "{refused}");
}

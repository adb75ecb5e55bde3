//! The calls that stock command lines and nodes made in the recordings, made again: each answer has every
//! member the recorded one had, each refusal its words.

use crate::client::{Client, Intro};
use crate::gateway::Embedded;
use serde_json::{Value, json};

/// Members of recorded answers that ours do not have, and why.
const MISSING: &[(&str, &[&str], &str)] = &[
    ("health", &["eventLoop", "modelRuntime"], "figures of the Node process"),
    (
        "status",
        &["eventLoop", "modelRuntime", "processMemory", "shutdownBudget", "workerPools", "cliProjection"],
        "figures of the Node process, and what only the stock command line's own files could fill",
    ),
    (
        "system.info",
        &[
            "cpuModel",
            "defaultAgentUtilityModel",
            "diskPath",
            "disks",
            "eventLoop",
            "nodeVersion",
            "port",
            "processMemory",
            "release",
        ],
        "not measured yet",
    ),
    ("chat.send", &["serverTiming"], "optional there, too"),
    ("models.list", &["accountSelection"], "there are no accounts of models"),
    (
        "last-heartbeat",
        &["durationMs", "hasMedia", "message", "preview", "reason", "status", "ts"],
        "null until the first heartbeat, as recorded elsewhere",
    ),
];

fn excused(method: &str, member: &str) -> bool {
    MISSING.iter().any(|(of, members, _)| *of == method && members.contains(&member))
}

/// accepts: B8, B10, G2, G3, K15
#[tokio::test]
async fn recorded_calls_are_answered_with_the_recorded_members_and_words() {
    let gateway = Embedded::start().await;
    let mut admin = Client::admin(gateway.addr).await;
    let mut nobody =
        Client::connect(gateway.addr, &Intro { scopes: vec![], ..Intro::default() }).await.unwrap();
    let turn = json!({ "sessionKey": "main", "message": "first", "idempotencyKey": "first" });
    admin.call("chat.send", turn).await;
    admin.chat_end("first").await;

    let mut differences = Vec::new();
    for line in include_str!("../data/calls.jsonl").lines() {
        let call: Value = serde_json::from_str(line).unwrap();
        let method = call["method"].as_str().unwrap();
        let client = match call["error"]["code"].as_str() {
            Some("FORBIDDEN") => &mut nobody,
            _ => &mut admin,
        };
        let params = call.get("params").cloned().unwrap_or_else(|| json!({}));
        let answer = client.response_to(method, params).await;
        let said = format!("{} {method}", call["from"]);
        if let Some(error) = call.get("error") {
            let ours = json!({ "code": answer["error"]["code"], "message": answer["error"]["message"] });
            if ours != *error {
                differences.push(format!("{said}: {ours} instead of {error}"));
            }
        } else if answer["ok"] != true {
            differences.push(format!("{said}: {answer}"));
        } else if let Some(members) = call["keys"].as_array() {
            for member in members.iter().filter_map(Value::as_str) {
                if answer["payload"].get(member).is_none() && !excused(method, member) {
                    differences.push(format!("{said}: no {member}"));
                }
            }
        } else {
            let kind = if answer["payload"].is_array() { "list" } else { "null" };
            if call["keys"] != kind {
                differences.push(format!("{said}: {} instead of a {}", answer["payload"], call["keys"]));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

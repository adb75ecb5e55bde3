//! Questions and their answers.

use super::{SCOPES, asker, client, heard, is};
use crate::gateway::Embedded;
use serde_json::{Value, json};

fn question() -> Value {
    json!([{ "questionId": "q1", "header": "Pick", "question": "Which?", "options": [{ "label": "A" }, { "label": "B", "description": "bee" }], "multiSelect": false }])
}

/// accepts: A9
#[tokio::test]
async fn questions_are_asked_answered_and_told_as_recorded() {
    let gateway = Embedded::start().await;
    let mut op = client(gateway.addr, &SCOPES, &[]).await;
    let mut obs = client(gateway.addr, &["operator.questions"], &[]).await;
    let mut reader = client(gateway.addr, &["operator.read"], &["approvals"]).await;
    let ask = json!({ "questions": question(), "agentId": "main", "sessionKey": "agent:main:main", "timeoutMs": 20000 });
    let asked = op.call("question.request", ask).await;
    let id = asked["id"].as_str().unwrap().to_owned();
    // Who asks is told as well.
    let told = op.event(is("question.requested", &id)).await["payload"].clone();
    assert_eq!(obs.event(is("question.requested", &id)).await["payload"], told);
    let created = told["createdAtMs"].clone();
    let record = json!({ "id": id, "questions": question(), "agentId": "main", "sessionKey": "agent:main:main",
        "createdAtMs": created, "expiresAtMs": asked["expiresAtMs"], "status": "pending" });
    assert_eq!(told, record);
    assert_eq!(obs.call("question.list", json!({})).await, json!({ "questions": [record] }));
    assert_eq!(obs.call("question.get", json!({ "id": id })).await, json!({ "question": record }));
    let still = obs.call("question.waitAnswer", json!({ "id": id, "timeoutMs": 50 })).await;
    assert_eq!(still, json!({ "status": "pending" }));
    let waits = op.send("question.waitAnswer", json!({ "id": id })).await;

    let answers = |given: Value| json!({ "id": id, "answers": { "answers": given } });
    let error = obs.refused("question.resolve", answers(json!({ "q1": ["Z"] }))).await;
    assert_eq!(error["message"], "question 'q1' contains an unknown option");
    assert_eq!(error["details"], json!({ "reason": "QUESTION_INVALID_ANSWER" }));
    let error = obs.refused("question.resolve", answers(json!({ "q1": { "answers": ["A"] } }))).await;
    assert_eq!(
        error["message"],
        "invalid question.resolve params: at /answers/answers/q1: must be array; must have required property 'cancel'; \
         at root: unexpected property 'answers'; must match a schema in anyOf"
    );
    let mut right = answers(json!({ "q1": ["A"] }));
    right["resolvedBy"] = json!("me");
    let answered = json!({ "status": "answered", "answers": { "answers": { "q1": ["A"] } } });
    assert_eq!(obs.call("question.resolve", right).await, answered);
    assert_eq!(op.response(&waits).await["payload"], answered);
    assert_eq!(op.call("question.waitAnswer", json!({ "id": id })).await, answered);
    let over = op.event(is("question.resolved", &id)).await["payload"].clone();
    assert_eq!(over, json!({ "id": id, "status": "answered", "answers": { "answers": { "q1": ["A"] } } }));
    let error = op.refused("question.resolve", json!({ "id": id, "cancel": true })).await;
    assert_eq!(error["message"], format!("question '{id}' is already answered"));
    assert_eq!(error["details"], json!({ "reason": "QUESTION_ALREADY_TERMINAL" }));
    let mut ended = record;
    for (name, value) in
        [("status", json!("answered")), ("answers", answered["answers"].clone()), ("resolvedBy", json!("me"))]
    {
        ended[name] = value;
    }
    assert_eq!(op.call("question.get", json!({ "id": id })).await, json!({ "question": ended }));
    assert_eq!(op.call("question.list", json!({})).await, json!({ "questions": [] }));
    assert_eq!(heard(&mut reader, &["question.requested", "question.resolved"]).await, [""; 0]);
}

/// accepts: A9
#[tokio::test]
async fn questions_expire_are_declined_and_cannot_ask_for_secrets() {
    let gateway = Embedded::start().await;
    let mut op = asker(gateway.addr).await;
    let short = op.call("question.request", json!({ "questions": question(), "timeoutMs": 200 })).await;
    let id = short["id"].as_str().unwrap().to_owned();
    let expired = json!({ "status": "expired" });
    assert_eq!(op.call("question.waitAnswer", json!({ "id": id })).await, expired);
    assert_eq!(
        op.event(is("question.resolved", &id)).await["payload"],
        json!({ "id": id, "status": "expired" })
    );

    let usual = op.call("question.request", json!({ "id": "mine", "questions": question() })).await;
    let told = op.event(is("question.requested", "mine")).await["payload"].clone();
    assert_eq!(usual["expiresAtMs"].as_i64().unwrap() - told["createdAtMs"].as_i64().unwrap(), 900_000);
    let again = op.refused("question.request", json!({ "id": "mine", "questions": question() })).await;
    assert_eq!(again["details"], json!({ "reason": "QUESTION_ID_IN_USE" }));
    let cancelled = json!({ "status": "cancelled" });
    assert_eq!(op.call("question.resolve", json!({ "id": "mine", "cancel": true })).await, cancelled);
    for (method, params) in [
        ("question.get", json!({ "id": "nope" })),
        ("question.waitAnswer", json!({ "id": "nope" })),
        ("question.resolve", json!({ "id": "nope", "cancel": true })),
    ] {
        let error = op.refused(method, params).await;
        assert_eq!(error["message"], "question 'nope' was not found");
        assert_eq!(error["details"], json!({ "reason": "QUESTION_NOT_FOUND" }));
    }
    let mut secret = question();
    secret[0]["isSecret"] = json!(true);
    let error = op.refused("question.request", json!({ "questions": secret })).await;
    assert!(error["message"].as_str().unwrap().starts_with("secrets are not asked for"), "{error}");
    // A question and a command may have the same id.
    op.call("exec.approval.request", json!({ "id": "mine", "command": "ls" })).await;
}

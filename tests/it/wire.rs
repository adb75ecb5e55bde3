//! What happens on an open connection whatever the method: frames, ids, roles, scopes, numbers of events.

use crate::client::{Client, Intro, connect_params};
use crate::gateway::Embedded;
use crabtree_protocol::frame::MAX_PAYLOAD;
use crabtree_protocol::{Method, Role};
use serde_json::{Value, json};

fn refusal(message: &str) -> Value {
    json!({ "code": "INVALID_REQUEST", "message": message })
}

/// A headless node, paired in silence over loopback.
async fn node(gateway: &Embedded) -> Client {
    let intro = Intro {
        id: "node-host",
        mode: "node",
        role: "node",
        scopes: vec![],
        device: Some([21; 32]),
        ..Intro::default()
    };
    Client::connect(gateway.addr, &intro).await.expect("a node is let in")
}

/// accepts: B7
#[tokio::test]
async fn a_second_connect_is_refused_and_the_socket_stays() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    let again = connect_params(&Intro::default(), &Value::Null);
    let error = client.refused("connect", again).await;
    assert_eq!(error, refusal("connect is only valid as the first request"));
    // The role does not matter, nor does what is in it.
    let mut node = node(&gateway).await;
    let error = node.refused("connect", json!({})).await;
    assert_eq!(error, refusal("connect is only valid as the first request"));
    client.call("health", json!({})).await;
    node.call("health", json!({})).await;
}

/// The cases of the recording `post_bad_frames`, word by word.
/// accepts: B8, B10, G11
#[tokio::test]
async fn bad_frames_are_answered_under_the_id_they_have() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    let trace = "x".repeat(129);
    let traced = format!(r#"{{"type":"req","id":"m6","method":"last-heartbeat","traceparent":"{trace}"}}"#);
    for (frame, id, complaint) in [
        (
            r#"{"type":"req","method":"health","params":{}}"#,
            json!("invalid"),
            "must have required property 'id'",
        ),
        (r#"{"type":"req","id":7,"method":"health","params":{}}"#, json!(7), "at /id: must be string"),
        (
            r#"{"type":"req","id":"","method":"health"}"#,
            json!(""),
            "at /id: must not have fewer than 1 characters",
        ),
        (r#"{"type":"req","id":"m1"}"#, json!("m1"), "must have required property 'method'"),
        (
            r#"{"type":"req","id":"m2","method":""}"#,
            json!("m2"),
            "at /method: must not have fewer than 1 characters",
        ),
        (
            r#"{"type":"req","id":"m3","method":"health","zzz":1}"#,
            json!("m3"),
            "at root: unexpected property 'zzz'",
        ),
        (r#"{"id":"m4","method":"health"}"#, json!("m4"), "must have required property 'type'"),
        (
            r#"{"type":"event","event":"x"}"#,
            json!("invalid"),
            "must have required property 'id'; at root: unexpected property 'event'; \
             at /type: must be equal to constant",
        ),
        (
            r#"{"type":"res","id":"q","ok":true}"#,
            json!("q"),
            "must have required property 'method'; at root: unexpected property 'ok'; \
             at /type: must be equal to constant",
        ),
        ("42", json!("invalid"), "must be object"),
        ("null", json!("invalid"), "must be object"),
        ("[]", json!("invalid"), "must be object"),
        (&traced, json!("m6"), "at /traceparent: must not have more than 128 characters"),
    ] {
        client.send_text(frame).await;
        let answer = client.frames_until(|f| f["type"] == "res").await.pop().unwrap();
        let error = refusal(&format!("invalid request frame: {complaint}"));
        assert_eq!(answer, json!({ "type": "res", "id": id, "ok": false, "error": error }), "{frame}");
    }
    // What is no JSON is passed over, so the next answer belongs to the next request.
    for nonsense in ["nope{", ""] {
        client.send_text(nonsense).await;
    }
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    client
        .send_text(format!(
            r#"{{"type":"req","id":"m5","method":"last-heartbeat","traceparent":"{parent}"}}"#
        ))
        .await;
    let answer = client.frames_until(|f| f["type"] == "res").await.pop().unwrap();
    assert_eq!(answer, json!({ "type": "res", "id": "m5", "ok": true, "payload": null }));
    client
        .send_text(r#"{"type":"req","id":"m7","method":"last-heartbeat","expectedProfileId":"nope"}"#)
        .await;
    let answer = client.response("m7").await;
    let details = json!({ "reason": "EXPECTED_PROFILE_MISMATCH", "execution": "not_started" });
    assert_eq!(answer["error"]["details"], details);
    let long = "i".repeat(5000);
    client.send_text(format!(r#"{{"type":"req","id":"{long}","method":"last-heartbeat"}}"#)).await;
    assert_eq!(client.response(&long).await["ok"], true);
}

/// accepts: B1, B8, G11
#[tokio::test]
async fn binary_messages_and_ids_in_flight_twice_are_taken() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    client.send_binary(r#"{"type":"req","id":"d1","method":"last-heartbeat"}"#).await;
    client.send_text(r#"{"type":"req","id":"d1","method":"system-presence"}"#).await;
    let mut payloads =
        [client.response("d1").await, client.response("d1").await].map(|r| r["payload"].clone());
    payloads.sort_by_key(Value::is_null);
    assert_eq!((payloads[0][0]["mode"].as_str(), &payloads[1]), (Some("gateway"), &Value::Null));
}

/// accepts: B10
#[tokio::test]
async fn a_frame_may_be_as_large_as_the_policy_says_and_no_larger() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    assert_eq!(client.hello["policy"]["maxPayload"], MAX_PAYLOAD);
    let head = r#"{"type":"req","id":"big","method":"chat.history","params":{"sessionKey":"main","cursor":""#;
    let tail = r#""}}"#;
    let fits = [head, &"x".repeat(MAX_PAYLOAD - head.len() - tail.len()), tail].concat();
    client.send_text(fits).await;
    assert_eq!(client.response("big").await["ok"], true);
    // The announcement of one byte more is enough.
    let mut header = vec![0x81, 0x80 | 127];
    header.extend((MAX_PAYLOAD as u64 + 1).to_be_bytes());
    header.extend([0; 4]);
    client.send_raw(&header).await;
    assert_eq!(client.until_closed().await, Some((1009, String::new())));
}

/// What is sent right behind `connect` waits for the hello.
/// accepts: C1, B13
#[tokio::test]
async fn requests_sent_before_the_hello_are_answered_after_it() {
    let gateway = Embedded::start().await;
    let (mut client, challenge) = Client::open(gateway.addr).await;
    let intro = Intro { device: Some([22; 32]), ..Intro::default() };
    let mut ids = vec![client.send("connect", connect_params(&intro, &challenge)).await];
    for _ in 0..15 {
        ids.push(client.send("health", json!({})).await);
    }
    let last = ids.last().cloned().unwrap();
    let frames = client.frames_until(|f| f["id"] == last.as_str()).await;
    let answered: Vec<_> = frames.iter().filter(|f| f["type"] == "res").map(|f| f["id"].clone()).collect();
    assert_eq!(answered, ids);
    assert_eq!(frames[0]["payload"]["type"], "hello-ok");
}

/// accepts: D4, D5, D6
#[tokio::test]
async fn a_node_may_ask_for_health_and_what_is_for_nodes_and_nothing_else() {
    let gateway = Embedded::start().await;
    let mut node = node(&gateway).await;
    assert_eq!(node.hello["snapshot"]["presence"], json!([]));
    assert_eq!((&node.hello["auth"]["role"], &node.hello["auth"]["scopes"]), (&json!("node"), &json!([])));
    assert_eq!(node.call("health", json!({})).await["ok"], true);
    let methods = node.hello["features"]["methods"].as_array().unwrap().clone();
    let is_for_nodes =
        |name: &str| Method::from_name(name).is_some_and(|method| method.role().admits(Role::Node));
    let others = methods.iter().filter_map(Value::as_str).filter(|name| !is_for_nodes(name));
    for method in others.chain(["config.apply", "no.such.method"]) {
        let error = node.refused(method, json!({})).await;
        assert_eq!(error, refusal("unauthorized role: node"), "{method}");
        node.call("health", json!({})).await;
    }
}

/// accepts: D5
#[tokio::test]
async fn who_keeps_calling_the_other_roles_methods_is_closed() {
    let gateway = Embedded::start().await;
    let mut node = node(&gateway).await;
    for _ in 0..10 {
        node.refused("config.get", json!({})).await;
    }
    // Any other answer starts the count anew.
    node.call("health", json!({})).await;
    for _ in 0..10 {
        node.refused("config.get", json!({})).await;
    }
    let id = node.send("config.get", json!({})).await;
    assert_eq!(node.response(&id).await["error"], refusal("unauthorized role: node"));
    assert_eq!(node.until_closed().await, Some((1008, "repeated unauthorized calls".into())));
}

/// accepts: D8, D9, B12
#[tokio::test]
async fn a_scope_decides_before_existence_and_parameters_do() {
    let gateway = Embedded::start().await;
    let missing = |scope: &str| {
        json!({
            "code": "FORBIDDEN",
            "message": format!("missing scope: {scope}"),
            "details": { "code": "MISSING_SCOPE", "missingScope": scope, "requiredScopes": [scope] },
        })
    };
    let mut reader = Client::scoped(gateway.addr, &["operator.read"]).await;
    for method in ["sessions.list", "system.actors", "config.get", "health", "sessions.subscribe"] {
        reader.call(method, json!({})).await;
    }
    reader.call("chat.history", json!({ "sessionKey": "main" })).await;
    for method in ["chat.send", "agent", "agent.wait", "chat.abort", "wake"] {
        assert_eq!(reader.refused(method, json!({ "zzz": 1 })).await, missing("operator.write"), "{method}");
    }
    let changing = ["system.actors.restart", "system-event", "system.chaos", "config.set", "sessions.delete"];
    for method in changing.into_iter().chain(["no.such.method"]) {
        assert_eq!(reader.refused(method, json!({ "zzz": 1 })).await, missing("operator.admin"), "{method}");
    }

    let mut nobody = Client::scoped(gateway.addr, &[]).await;
    assert_eq!(nobody.hello["auth"]["scopes"], json!([]));
    nobody.call("health", json!({})).await;
    assert_eq!(nobody.refused("sessions.list", json!({})).await, missing("operator.read"));
    assert_eq!(nobody.refused("no.such.method", json!({})).await, missing("operator.admin"));

    // Writing implies reading; a scope nobody knows is granted as it is, and opens nothing.
    let mut writer = Client::scoped(gateway.addr, &["operator.write", "operator.bogus"]).await;
    assert_eq!(writer.hello["auth"]["scopes"], json!(["operator.write", "operator.bogus"]));
    writer.call("sessions.list", json!({})).await;
    assert_eq!(writer.call("chat.abort", json!({ "sessionKey": "main" })).await["aborted"], false);
    assert_eq!(writer.refused("system.actors.restart", json!({})).await, missing("operator.admin"));

    let mut admin = Client::admin(gateway.addr).await;
    for method in ["no.such.method", "update.run"] {
        let error = admin.refused(method, json!({})).await;
        assert_eq!(error, refusal(&format!("unknown method: {method}")));
    }
    // What belongs to nodes does so whether it exists here or not.
    let error = admin.refused("node.invoke.result", json!({})).await;
    assert_eq!(error, refusal("unauthorized role: operator"));
}

/// accepts: B10, G9
#[tokio::test]
async fn invalid_parameters_are_named_in_the_recorded_words() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    for (method, params, complaint) in [
        ("sessions.list", json!({ "bogus": 1 }), "at root: unexpected property 'bogus'"),
        (
            "sessions.list",
            json!({ "limit": "x", "zzz": 1 }),
            "at root: unexpected property 'zzz'; at /limit: must be integer",
        ),
        ("sessions.list", json!({ "limit": 0 }), "at /limit: must be >= 1"),
        ("sessions.list", json!([]), "must be object"),
        ("agent", json!({ "message": "no key" }), "must have required property 'idempotencyKey'"),
        (
            "agent",
            json!({ "message": "", "idempotencyKey": "k" }),
            "at /message: must not have fewer than 1 characters",
        ),
        (
            "chat.send",
            json!({ "sessionKey": "main", "message": "x" }),
            "must have required property 'idempotencyKey'",
        ),
        ("chat.history", json!({}), "must have required property 'sessionKey'"),
        ("chat.history", json!({ "sessionKey": "main", "limit": 1001 }), "at /limit: must be <= 1000"),
        ("agent.wait", json!({ "runId": null }), "at /runId: must be string"),
        ("config.get", json!({ "key": "x" }), "at root: unexpected property 'key'"),
    ] {
        let error = client.refused(method, params.clone()).await;
        assert_eq!(error, refusal(&format!("invalid {method} params: {complaint}")), "{params}");
    }
    let aimless = client.refused("chat.send", json!({})).await;
    assert_eq!(
        aimless,
        json!({
            "code": "INVALID_REQUEST",
            "message": "session mutation target is unavailable",
            "details": { "code": "SESSION_MUTATION_TARGET_REQUIRED", "method": "chat.send" },
        })
    );
}

/// accepts: B9, G7, H2
#[tokio::test]
async fn every_connection_counts_its_own_events_without_a_gap() {
    let gateway = Embedded::start().await;
    let mut admin = Client::admin(gateway.addr).await;
    let mut nobody = Client::scoped(gateway.addr, &[]).await;
    admin.call("sessions.subscribe", json!({})).await;
    for run in ["k1", "k2"] {
        let params = json!({ "sessionKey": "main", "message": "count", "idempotencyKey": run });
        admin.call("chat.send", params).await;
        admin.chat_end(run).await;
    }
    // Somebody comes and goes: everyone with a scope hears it, with the version of the list.
    let shown = Intro { id: "test", mode: "test", ..Intro::default() };
    drop(Client::connect(gateway.addr, &shown).await.unwrap());
    let left = admin
        .event(|e| {
            e["event"] == "presence"
                && e["payload"]["presence"].as_array().unwrap().iter().any(|p| p["reason"] == "disconnect")
        })
        .await;
    assert!(
        left["stateVersion"]["presence"].as_u64()
            > admin.hello["snapshot"]["stateVersion"]["presence"].as_u64()
    );
    admin.call("system.actors.restart", json!({ "path": "gateway/presence" })).await;
    for client in [&mut admin, &mut nobody] {
        client.call("health", json!({})).await;
        let seqs = client.seqs();
        let strict: Vec<u64> = (1..=seqs.len() as u64).collect();
        assert_eq!(seqs, strict);
        for event in &client.events {
            let versioned = matches!(event["event"].as_str(), Some("presence" | "health"));
            assert_eq!(event.get("stateVersion").is_some(), versioned, "{event}");
        }
    }
    assert!(admin.events.len() > 40, "{}", admin.events.len());
    assert!(
        nobody.events.iter().all(|e| e["event"] == "health" || e["event"] == "tick"),
        "{:?}",
        nobody.events
    );
}

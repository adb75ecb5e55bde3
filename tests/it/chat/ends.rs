//! How runs end before their time, and who hears of it.

use super::*;

/// accepts: C4, I7
#[tokio::test]
async fn an_unknown_model_fails_the_run_and_not_the_session() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    let mut ask = message("main", "hello", "a1");
    ask["provider"] = json!("zzz");
    ask["model"] = json!("qq");
    let id = client.send("agent", ask).await;
    assert_eq!(client.response(&id).await["payload"]["status"], "accepted");
    let frames = client.frames_until(|f| f["id"] == id.as_str()).await;
    let told: Vec<Value> = client.events.iter().chain(&frames).cloned().collect();
    let story = story(&told);
    assert_eq!(
        story[story.len() - 4..],
        ["agent lifecycle model", "agent lifecycle error", "chat error", "res"]
    );
    let end = frames.last().unwrap();
    let why = end["error"]["message"].as_str().unwrap();
    assert!(why.starts_with("Unknown model: zzz/qq"), "{why}");
    assert_eq!(
        *end,
        json!({
            "type": "res", "id": id, "ok": false,
            "payload": { "runId": "a1", "status": "error", "summary": why },
            "error": { "code": "UNAVAILABLE", "message": why },
        })
    );
    say(&mut client, "main", "still there?", "k1").await;
    assert_eq!(client.chat_end("k1").await["state"], "final");
}

/// accepts: A12
#[tokio::test]
async fn a_running_turn_is_aborted() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    client.call("sessions.subscribe", json!({})).await;
    say(&mut client, "main", &words(400), "k1").await;
    streams(&mut client, "k1").await;
    let id = client.send("chat.abort", json!({ "sessionKey": "main", "runId": "k1" })).await;
    let mut frames = client.frames_until(|f| f["id"] == id.as_str()).await;
    if !frames.iter().any(|f| is_last_of(f, "k1")) {
        frames.extend(client.frames_until(|f| is_last_of(f, "k1")).await);
    }
    let answer = frames.iter().find(|f| f["type"] == "res").unwrap();
    assert_eq!(answer["payload"], json!({ "ok": true, "aborted": true, "runIds": ["k1"] }));
    let mut told = story(&frames);
    told.retain(|label| !TEXT.contains(&&**label));
    let place = |wanted: &str| told.iter().position(|label| label == wanted).unwrap();
    assert!(place("res") > place("agent lifecycle end"), "{told:?}");
    told.retain(|label| label != "res");
    assert_eq!(
        told,
        [
            "chat aborted",
            "agent lifecycle end",
            "agent lifecycle model",
            "agent lifecycle error",
            "session.message assistant",
            "sessions.changed agent.input.settled",
            "sessions.changed phase model",
            "sessions.changed phase end",
        ]
    );
    let at = |label_: &str| {
        frames.iter().find(|f| label(f).as_deref() == Some(label_)).unwrap()["payload"].clone()
    };
    let aborted = at("chat aborted");
    assert_eq!(aborted["stopReason"], "rpc");
    let partial = text_of(&aborted["message"]).to_owned();
    assert!(partial.starts_with("This") && !partial.ends_with("w399"), "{partial}");
    let cancelled = at("agent lifecycle end");
    assert_eq!(
        (&cancelled["data"]["status"], &cancelled["data"]["aborted"], &cancelled["data"]["stopReason"]),
        (&json!("cancelled"), &json!(true), &json!("rpc"))
    );
    let row = at("session.message assistant")["message"].clone();
    assert_eq!(text_of(&row).trim_end(), partial);
    assert_eq!(row["openclawAbort"], json!({ "aborted": true, "origin": "rpc", "runId": "k1" }));
    assert_eq!(history(&mut client, "main").await.last(), Some(&row));
    assert_eq!(at("sessions.changed phase end")["status"], "killed");

    let waited = client.call("agent.wait", json!({ "runId": "k1", "timeoutMs": 0 })).await;
    let ended = waited["endedAt"].clone();
    assert_eq!(
        waited,
        json!({ "runId": "k1", "status": "error", "endedAt": ended, "error": "aborted", "stopReason": "rpc" })
    );
    say(&mut client, "main", "and now?", "k2").await;
    assert_eq!(client.chat_end("k2").await["state"], "final");
}

/// accepts: C4, A12
#[tokio::test]
async fn an_aborted_agent_run_ends_its_request() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    let mut other = Client::scoped(gateway.addr, &["operator.write"]).await;
    let id = client.send("agent", message("main", &words(400), "a1")).await;
    client.response(&id).await;
    streams(&mut client, "a1").await;
    let aborted = other.call("chat.abort", json!({ "sessionKey": "agent:main:main" })).await;
    assert_eq!(aborted, json!({ "ok": true, "aborted": true, "runIds": ["a1"] }));
    let end = client.response(&id).await;
    assert_eq!(end["ok"], true);
    assert_eq!(
        end["payload"],
        json!({ "runId": "a1", "status": "timeout", "summary": "aborted", "stopReason": "rpc" })
    );
}

/// accepts: A12
#[tokio::test]
async fn queued_messages_are_aborted_one_by_one_or_all_together() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    let abort = |run: Option<&str>| match run {
        Some(run) => json!({ "sessionKey": "main", "runId": run }),
        None => json!({ "sessionKey": "main" }),
    };
    let nothing = json!({ "ok": true, "aborted": false, "runIds": [] });
    assert_eq!(client.call("chat.abort", abort(None)).await, nothing);
    say(&mut client, "main", &words(400), "k1").await;
    for run in ["k2", "k3", "k4"] {
        say(&mut client, "main", "next", run).await;
    }
    assert_eq!(client.call("chat.abort", abort(Some("nope"))).await, nothing);
    let id = client.send("chat.abort", abort(Some("k3"))).await;
    let frames = client.frames_until(|f| f["id"] == id.as_str()).await;
    let of_k3: Vec<Value> = frames.into_iter().filter(|f| f["payload"]["runId"] == "k3").collect();
    assert_eq!(story(&of_k3), ["chat aborted", "agent lifecycle end"]);
    let payload = &of_k3[0]["payload"];
    assert_eq!((&payload["seq"], &payload["stopReason"]), (&json!(1), &json!("rpc")));
    assert_eq!(payload.get("message"), None);
    let waited = client.call("agent.wait", json!({ "runId": "k3", "timeoutMs": 0 })).await;
    let ended = waited["endedAt"].clone();
    assert_eq!(waited, json!({ "runId": "k3", "status": "error", "endedAt": ended, "stopReason": "rpc" }));

    // All of them: those that wait first, then the one that runs.
    let all = client.call("chat.abort", abort(None)).await;
    assert_eq!(all, json!({ "ok": true, "aborted": true, "runIds": ["k2", "k4", "k1"] }));
    for run in ["k1", "k2", "k4"] {
        assert_eq!(client.chat_end(run).await["state"], "aborted", "{run}");
    }
    assert_eq!(client.call("chat.abort", abort(None)).await, nothing);
    let page = client.call("chat.history", json!({ "sessionKey": "main" })).await;
    assert_eq!(page["pendingInputs"], json!({ "items": [], "total": 0 }));
    assert_eq!(page.get("inFlightRun"), None);
}

/// The message is still on its way into the store when the abort arrives.
/// accepts: A12
#[tokio::test]
async fn a_message_is_aborted_right_behind_its_sending() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    say(&mut client, "main", "hello", "k0").await;
    client.chat_end("k0").await;
    for run in ["k1", "k2"] {
        let slow = json!({ "path": "gateway/store", "fault": "slow", "ms": 300 });
        client.call("system.chaos", slow).await;
        let sent = client.send("chat.send", message("main", &words(400), run)).await;
        let abort = client.send("chat.abort", json!({ "sessionKey": "main" })).await;
        assert_eq!(client.response(&sent).await["payload"]["status"], "started");
        let stopped = client.response(&abort).await["payload"].clone();
        assert_eq!(stopped["runIds"], json!([run]));
        assert_eq!(client.chat_end(run).await["state"], "aborted");
    }
}

/// accepts: A12, B13
#[tokio::test]
async fn stop_is_a_command_from_anywhere() {
    let gateway = Embedded::start().await;
    let mut here = Client::admin(gateway.addr).await;
    let mut there = Client::admin(gateway.addr).await;
    for (run, word) in [("k1", "/stop"), ("k2", "stop"), ("k3", " STOP ")] {
        say(&mut here, "main", &words(400), run).await;
        streams(&mut here, run).await;
        let stopped = there.call("chat.send", message("main", word, &format!("stop-{run}"))).await;
        assert_eq!(stopped, json!({ "ok": true, "aborted": true, "runIds": [run] }));
        let end = here.chat_end(run).await;
        assert_eq!((&end["state"], &end["stopReason"]), (&json!("aborted"), &json!("stop")));
    }
    let idle = there.call("chat.send", message("main", "/stop", "stop-4")).await;
    assert_eq!(idle, json!({ "ok": true, "aborted": false, "runIds": [] }));
    let said: Vec<Value> = history(&mut here, "main").await;
    assert!(said.iter().all(|row| !text_of(row).to_lowercase().contains("stop")), "{said:?}");
    assert_eq!(said.len(), 6);
}

/// accepts: G2
#[tokio::test]
async fn who_waits_for_a_run_hears_how_it_ended() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    let wait = |run: &str, ms: u64| json!({ "runId": run, "timeoutMs": ms });
    let unknown = client.call("agent.wait", wait("nobody", 50)).await;
    assert_eq!(unknown, json!({ "runId": "nobody", "status": "timeout" }));
    say(&mut client, "main", &words(20), "k1").await;
    let early = client.call("agent.wait", wait("k1", 1)).await;
    assert_eq!(early, json!({ "runId": "k1", "status": "timeout" }));
    let mut other = Client::admin(gateway.addr).await;
    let waited = other.call("agent.wait", wait("k1", 20_000)).await;
    let end = client.chat_end("k1").await;
    let text = text_of(&end["message"]);
    assert_eq!((&waited["status"], &waited["stopReason"]), (&json!("ok"), &json!("stop")));
    assert_eq!(waited["terminalReply"], json!({ "disposition": "visible", "text": text }));
    let receipt = &waited["terminalReceipt"];
    assert_eq!((&receipt["runId"], &receipt["turnId"]), (&json!("k1"), &json!("k1")));
    assert_eq!(receipt["effective"]["responseModel"], "offline");
    assert!(waited["startedAt"].as_u64() <= waited["endedAt"].as_u64());
    assert_eq!(client.call("agent.wait", wait("k1", 0)).await, waited);
    // It was asked for before there was such a run.
    let id = other.send("agent.wait", wait("k2", 20_000)).await;
    other.call("health", json!({})).await;
    say(&mut client, "main", "hello", "k2").await;
    assert_eq!(other.response(&id).await["payload"]["status"], "ok");
}

/// accepts: I8
#[tokio::test]
async fn a_run_that_takes_too_long_is_ended() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    client.call("sessions.subscribe", json!({})).await;
    let mut params = message("main", &words(400), "k1");
    params["timeoutMs"] = json!(300);
    client.call("chat.send", params).await;
    let end = client.chat_end("k1").await;
    assert_eq!((&end["state"], &end["errorKind"]), (&json!("error"), &json!("timeout")));
    settled(&mut client, "k1").await;
    let error = client.event(|e| e["payload"]["data"]["phase"] == "error").await["payload"]["data"].clone();
    let waited = client.call("agent.wait", json!({ "runId": "k1", "timeoutMs": 0 })).await;
    assert_eq!((&waited["status"], &waited["error"]), (&json!("timeout"), &end["errorMessage"]));
    for same in
        ["endedAt", "livenessState", "timeoutPhase", "providerStarted", "terminalReply", "terminalReceipt"]
    {
        assert!(!waited[same].is_null() && waited[same] == error[same], "{same}: {waited} {error}");
    }
    assert_eq!(waited["livenessState"], "paused");
    let row = client.call("sessions.describe", json!({ "key": "main" })).await["session"].clone();
    assert_eq!(row["status"], "timeout");

    let mut params = message("main", &words(400), "a1");
    params["timeout"] = json!(1);
    let id = client.send("agent", params).await;
    client.response(&id).await;
    let end = client.response(&id).await;
    let payload = &end["payload"];
    assert_eq!(end["ok"], true);
    assert_eq!((&payload["status"], &payload["summary"]), (&json!("timeout"), &json!("aborted")));
    assert_eq!((&payload["timeoutPhase"], &payload["providerStarted"]), (&json!("provider"), &json!(true)));
    assert_eq!(payload["result"]["payloads"][0]["isError"], true);
}

//! Reading a chat back: pages and what bounds them, what came since a cursor, what waits, what runs.

use crate::client::Client;
use crate::gateway::Embedded;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

fn members(value: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

async fn said(client: &mut Client, text: &str, run: &str) {
    let turn = json!({ "sessionKey": "main", "message": text, "idempotencyKey": run });
    client.call("chat.send", turn).await;
    client.chat_end(run).await;
}

/// A turn that goes on until it is stopped.
async fn goes_on(client: &mut Client, run: &str) {
    let turn = json!({ "sessionKey": "main", "message": "and so on ".repeat(500), "idempotencyKey": run });
    client.call("chat.send", turn).await;
    client.event(|e| e["payload"]["runId"] == run && e["payload"]["state"] == "delta").await;
}

async fn read(client: &mut Client, more: Value) -> Value {
    let mut params = json!({ "sessionKey": "main" });
    params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    client.call("chat.history", params).await
}

fn seqs(page: &Value) -> Vec<u64> {
    page["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["__openclaw"]["seq"].as_u64().unwrap())
        .collect()
}

/// accepts: J3
#[tokio::test]
async fn a_page_has_the_recorded_members_and_says_where_it_stands() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    let none = read(&mut client, json!({})).await;
    let of_nobody =
        ["defaults", "hasMore", "messages", "pendingInputs", "sessionKey", "thinkingLevel", "totalMessages"];
    assert_eq!(members(&none), of_nobody);
    for n in 1..=3 {
        said(&mut client, &format!("message {n}"), &format!("k{n}")).await;
    }
    let page = read(&mut client, json!({ "limit": 2, "offset": 2 })).await;
    let recorded = [
        "defaults",
        "deltaCursor",
        "hasMore",
        "messages",
        "nextOffset",
        "offset",
        "pendingInputs",
        "sessionId",
        "sessionInfo",
        "sessionKey",
        "thinkingLevel",
        "totalMessages",
    ];
    assert_eq!(members(&page), recorded);
    let place =
        |page: &Value| ["offset", "nextOffset", "hasMore", "totalMessages"].map(|name| page[name].clone());
    assert_eq!((seqs(&page), place(&page)), (vec![3, 4], [json!(2), json!(4), json!(true), json!(6)]));
    let whole = read(&mut client, json!({})).await;
    assert_eq!((seqs(&whole).len(), whole.get("offset"), whole.get("nextOffset")), (6, None, None));
    assert_eq!(page["deltaCursor"], whole["deltaCursor"]);
    let cursor = URL_SAFE_NO_PAD.decode(page["deltaCursor"].as_str().unwrap()).unwrap();
    let cursor: Value = serde_json::from_slice(&cursor).unwrap();
    assert_eq!(members(&cursor), ["agentId", "generation", "lastSeq", "sessionId", "version"]);

    // Around a message, and never without it.
    let id = whole["messages"][2]["__openclaw"]["id"].clone();
    let around = read(&mut client, json!({ "messageId": id, "limit": 3 })).await;
    assert_eq!((seqs(&around), place(&around)), (vec![2, 3, 4], [json!(2), json!(5), json!(true), json!(6)]));
    let session_id = whole["sessionId"].clone();
    let named = json!({ "messageId": id, "limit": 3, "maxBytes": 1, "sessionId": session_id });
    assert_eq!(seqs(&read(&mut client, named).await), [3]);
    assert_eq!(read(&mut client, json!({ "messageId": "nobody's" })).await["messages"], json!([]));
    // As much as has room, the newest first, and one in any case.
    let little = read(&mut client, json!({ "maxBytes": 1 })).await;
    assert_eq!(
        (seqs(&little), place(&little)[1..].to_vec()),
        (vec![6], vec![json!(1), json!(true), json!(6)])
    );
    let bytes =
        whole["messages"].as_array().unwrap()[3..].iter().map(|row| row.to_string().len()).sum::<usize>();
    assert_eq!(seqs(&read(&mut client, json!({ "maxBytes": bytes })).await), [4, 5, 6]);
    let cut = read(&mut client, json!({ "maxChars": 5, "limit": 2 })).await;
    assert_eq!(cut["messages"][0]["content"], "messa\n...(truncated)...");
    assert_eq!(cut["messages"][0]["__openclaw"]["reason"], "display-cap");

    for wrong in [
        json!({ "offset": 0, "messageId": id }),
        json!({ "cursor": "x", "offset": 0 }),
        json!({ "messageId": id, "sessionId": "another" }),
        json!({ "inputRunIds": [] }),
        json!({ "inputRunIds": (0..51).map(|n| n.to_string()).collect::<Vec<_>>() }),
    ] {
        let mut params = json!({ "sessionKey": "main" });
        params.as_object_mut().unwrap().extend(wrong.as_object().unwrap().clone());
        assert_eq!(client.refused("chat.history", params).await["code"], "INVALID_REQUEST", "{wrong}");
    }
    let startup = client.call("chat.startup", json!({ "sessionKey": "main", "limit": 1 })).await;
    assert_eq!(startup["metadata"], client.call("chat.metadata", json!({})).await);

    let got = json!({ "sessionKey": "main", "messageId": id });
    assert_eq!(
        client.call("chat.message.get", got).await,
        json!({ "ok": true, "message": whole["messages"][2] })
    );
    let nobody = json!({ "sessionKey": "main", "messageId": "nobody's" });
    assert_eq!(
        client.call("chat.message.get", nobody).await,
        json!({ "ok": false, "unavailableReason": "not_found" })
    );
}

/// accepts: H1
#[tokio::test]
async fn a_client_that_was_away_reads_what_came_since() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    client.call("sessions.messages.subscribe", json!({ "key": "main" })).await;
    said(&mut client, "first", "k1").await;
    let page = read(&mut client, json!({})).await;
    let cursor = page["deltaCursor"].clone();
    let none = read(&mut client, json!({ "cursor": cursor })).await;
    assert_eq!(members(&none), ["deltaCursor", "kind", "messages", "pendingInputs", "sessionInfo"]);
    assert_eq!(
        (&none["kind"], &none["messages"], &none["deltaCursor"]),
        (&json!("delta"), &json!([]), &cursor)
    );
    said(&mut client, "second", "k2").await;
    let delta = read(&mut client, json!({ "cursor": cursor, "inputRunIds": ["k2"] })).await;
    let missed = delta["messages"].as_array().unwrap();
    assert_eq!(missed.len(), 2);
    // They are what the subscriber has heard.
    for payload in missed {
        let id = &payload["messageId"];
        let heard =
            client.event(|e| e["event"] == "session.message" && e["payload"]["messageId"] == *id).await;
        for same in ["message", "messageId", "messageSeq", "runId", "sessionKey", "agentId", "sessionId"] {
            assert_eq!(payload.get(same), heard["payload"].get(same));
        }
        // The row is that of the session as it is now; only its last message is not in every row.
        let mut info = delta["sessionInfo"].clone();
        info.as_object_mut().unwrap().remove("activeLeafEntryId");
        assert_eq!(payload["session"], info);
    }
    let page = read(&mut client, json!({})).await;
    assert_eq!(delta["deltaCursor"], page["deltaCursor"]);
    let row = &missed[0]["messageId"];
    assert_eq!(
        delta["inputReceipts"],
        json!([{ "runId": "k2", "state": "consumed", "consumedByEventId": row }])
    );
    assert_eq!(delta["inputConsumptions"], json!([{ "runId": "k2", "consumedByEventId": row }]));

    // A cursor of something else leads nowhere, and the client asks for a page.
    let decoded = URL_SAFE_NO_PAD.decode(cursor.as_str().unwrap()).unwrap();
    let decoded: Value = serde_json::from_slice(&decoded).unwrap();
    for (name, value) in [
        ("agentId", json!("ops")),
        ("generation", json!("another")),
        ("sessionId", json!("another")),
        ("lastSeq", json!(5)),
        ("lastSeq", json!(-1)),
        ("version", json!(2)),
    ] {
        let mut other = decoded.clone();
        other[name] = value;
        let other = URL_SAFE_NO_PAD.encode(other.to_string());
        assert_eq!(read(&mut client, json!({ "cursor": other })).await, json!({ "kind": "reset" }), "{name}");
    }
    for useless in [json!({ "cursor": "?" }), json!({ "cursor": cursor, "maxBytes": 10 })] {
        assert_eq!(read(&mut client, useless).await, json!({ "kind": "reset" }));
    }
    let elsewhere = json!({ "sessionKey": "nobody", "cursor": cursor });
    assert_eq!(client.call("chat.history", elsewhere).await, json!({ "kind": "reset" }));
}

/// accepts: I6
#[tokio::test]
async fn what_waits_is_shown_in_pages_and_each_submission_can_be_asked_after() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    goes_on(&mut client, "k0").await;
    let waiting: Vec<String> = (0..15).map(|n| format!("w{n}")).collect();
    for run in &waiting {
        let turn =
            json!({ "sessionKey": "main", "message": run, "idempotencyKey": run, "queueMode": "followup" });
        client.call("chat.send", turn).await;
    }
    let ids = |page: &Value| {
        let items = page["pendingInputs"]["items"].as_array().unwrap();
        items.iter().map(|item| item["runId"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let page = read(&mut client, json!({ "limit": 10, "inputRunIds": ["w0", "k0", "nobody"] })).await;
    assert_eq!((ids(&page), &page["pendingInputs"]["total"]), (waiting[5..].to_vec(), &json!(15)));
    let item = &page["pendingInputs"]["items"][0];
    assert_eq!(members(item), ["acceptedAt", "id", "message", "runId", "state"]);
    let consumed = &page["messages"][0]["__openclaw"]["id"];
    assert_eq!(
        page["inputReceipts"],
        json!([
            { "runId": "k0", "state": "consumed", "consumedByEventId": consumed },
            { "runId": "w0", "state": "pending" },
        ])
    );
    let before = page["pendingInputs"]["nextBefore"].clone();
    let older = read(&mut client, json!({ "limit": 10, "pendingBefore": before })).await;
    assert_eq!((ids(&older), older["pendingInputs"].get("nextBefore")), (waiting[..5].to_vec(), None));
    assert_eq!(older["pendingInputs"]["total"], 15);
    let run = &page["inFlightRun"];
    assert_eq!((&run["runId"], run.get("events")), (&json!("k0"), None));
    assert!(run["text"].as_str().is_some_and(|text| !text.is_empty()));
    client.call("chat.abort", json!({ "sessionKey": "main" })).await;
    // What was given up waits no more, and stands nowhere.
    let after = read(&mut client, json!({ "inputRunIds": ["w0"] })).await;
    assert_eq!((&after["inputReceipts"], ids(&after).len()), (&json!([]), 0));
}

//! What waits, and what a session remembers.

use super::*;

/// accepts: I6, I7, I8
#[tokio::test]
async fn messages_wait_for_their_turn_and_keep_their_order() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    client.call("sessions.subscribe", json!({})).await;
    say(&mut client, "main", &words(40), "k1").await;
    for run in ["k2", "k3"] {
        say(&mut client, "main", run, run).await;
    }
    let id = client.send("agent", message("main", "a4", "a4")).await;
    assert_eq!(client.response(&id).await["payload"]["status"], "accepted");
    streams(&mut client, "k1").await;
    let page = client.call("chat.history", json!({ "sessionKey": "main" })).await;
    let flying = &page["inFlightRun"];
    assert_eq!(flying["runId"], "k1");
    let so_far = flying["text"].as_str().unwrap();
    assert!(so_far.starts_with("This") && so_far.trim_end() == so_far, "{so_far}");
    assert_eq!(page["sessionInfo"]["activeRunIds"], json!(["k1"]));
    let pending = &page["pendingInputs"];
    assert_eq!(pending["total"], 3);
    for (item, run) in pending["items"].as_array().unwrap().iter().zip(["k2", "k3", "a4"]) {
        assert_eq!((&item["runId"], &item["state"]), (&json!(run), &json!("queued")));
        assert_eq!(item["message"]["content"], run);
        let meta = &item["message"]["__openclaw"];
        assert_eq!(meta["id"], format!("pending:{}", item["id"].as_str().unwrap()));
        assert_eq!(meta["transport"]["clients"], json!([{ "id": "cli", "mode": "cli" }]));
    }
    let first = pending["items"][0]["id"].clone();
    settled(&mut client, "a4").await;
    let ends: Vec<&str> = client
        .events
        .iter()
        .filter(|e| e["event"] == "chat" && e["payload"]["state"] == "final")
        .map(|e| e["payload"]["runId"].as_str().unwrap())
        .collect();
    assert_eq!(ends, ["k1", "k2", "k3", "a4"]);
    let rows = history(&mut client, "main").await;
    let said: Vec<_> = rows.iter().map(|r| (r["role"].as_str().unwrap(), text_of(r))).collect();
    for (turn, run) in ["k1", "k2", "k3", "a4"].into_iter().enumerate() {
        let text = if run == "k1" { words(40) } else { run.to_owned() };
        assert_eq!(said[2 * turn], ("user", &*text));
        let (by, answer) = said[2 * turn + 1];
        assert!(by == "assistant" && answer.ends_with(&format!("(turn {}): {text}", turn + 1)), "{answer}");
    }
    assert_eq!(rows[2]["__openclaw"]["id"], first, "what waited keeps its id");
    assert_eq!(client.response(&id).await["payload"]["status"], "ok");
}

/// accepts: I8
#[tokio::test]
async fn a_backlog_has_an_end() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    say(&mut client, "main", &words(400), "k0").await;
    let mut queued = vec![];
    for n in 1..=20 {
        let run = format!("k{n}");
        say(&mut client, "main", "next", &run).await;
        queued.push(run);
    }
    let error = client.refused("chat.send", message("main", "one too many", "k21")).await;
    assert_eq!(
        error,
        json!({
            "code": "UNAVAILABLE",
            "message": "session backlog is full (20 messages)",
            "retryable": true,
            "retryAfterMs": 1000,
            "details": { "reason": "backlog-full", "limit": 20 },
        })
    );
    // Another session is not concerned.
    say(&mut client, "other", "hello", "o1").await;
    let stopped = client.call("chat.abort", json!({ "sessionKey": "main" })).await;
    queued.push("k0".into());
    assert_eq!(stopped["runIds"], json!(queued));
    say(&mut client, "main", "one too many", "k21").await;
    assert_eq!(client.chat_end("k21").await["state"], "final");
    assert_eq!(client.chat_end("o1").await["state"], "final");
}

/// What is refused is not run, however fast it comes.
/// accepts: I8
#[tokio::test]
async fn a_backlog_has_an_end_for_messages_sent_at_once_too() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    let mut ids = vec![];
    for n in 0..=30 {
        let text = if n == 0 { words(400) } else { "next".to_owned() };
        ids.push(client.send("chat.send", message("main", &text, &format!("k{n}"))).await);
    }
    let mut taken = 0;
    for id in ids {
        taken += usize::from(client.response(&id).await["ok"] == true);
    }
    let stopped = client.call("chat.abort", json!({ "sessionKey": "main" })).await;
    assert_eq!((taken, stopped["runIds"].as_array().unwrap().len()), (21, 21));
}

/// accepts: H1, J3
#[tokio::test]
async fn history_is_read_page_by_page() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    let page = |extra: Value| {
        let mut params = json!({ "sessionKey": "main" });
        params.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        params
    };
    let nothing = client.call("chat.history", page(json!({}))).await;
    assert_eq!((&nothing["messages"], nothing.get("sessionId")), (&json!([]), None));
    let ghost = client.call("chat.history", json!({ "sessionKey": "agent:ghost:main" })).await;
    assert_eq!(ghost["messages"], json!([]));
    for turn in ["one", "two", "three"] {
        say(&mut client, "main", turn, turn).await;
        client.chat_end(turn).await;
    }
    let all = client.call("chat.history", page(json!({}))).await;
    let rows = all["messages"].as_array().unwrap();
    let seqs: Vec<_> = rows.iter().map(|r| r["__openclaw"]["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5, 6]);
    assert_eq!(
        (&all["totalMessages"], &all["hasMore"], all.get("nextOffset")),
        (&json!(6), &json!(false), None)
    );
    assert_eq!(all["sessionInfo"]["sessionId"], all["sessionId"]);
    assert_eq!(client.call("chat.startup", page(json!({}))).await["messages"], all["messages"]);
    let mut offset = json!(0);
    for (from, to, next) in [(4, 6, Some(2)), (2, 4, Some(4)), (0, 2, None)] {
        let part = client.call("chat.history", page(json!({ "limit": 2, "offset": offset }))).await;
        assert_eq!(part["messages"].as_array().unwrap()[..], rows[from..to]);
        assert_eq!((&part["offset"], &part["hasMore"]), (&offset, &json!(next.is_some())));
        assert_eq!(part.get("nextOffset"), next.map(|n| json!(n)).as_ref());
        offset = json!(next);
    }
    let short = client.call("chat.history", page(json!({ "limit": 2, "maxChars": 5 }))).await;
    let row = &short["messages"][1];
    assert_eq!(text_of(row), "This \n...(truncated)...");
    assert_eq!(
        (&row["__openclaw"]["truncated"], &row["__openclaw"]["reason"]),
        (&json!(true), &json!("display-cap"))
    );
    assert_eq!(text_of(&short["messages"][0]), "three");
    assert_eq!(short["messages"][0]["__openclaw"].get("truncated"), None);
}

/// accepts: I4
#[tokio::test]
async fn sessions_come_into_being_when_they_are_spoken_to() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    assert_eq!(client.call("sessions.list", json!({})).await["sessions"], json!([]));
    assert_eq!(client.call("sessions.describe", json!({ "key": "side" })).await, json!({ "session": null }));
    for (key, run) in [("main", "k1"), ("side", "k2")] {
        say(&mut client, key, run, run).await;
        client.chat_end(run).await;
    }
    let asked = json!({ "includeLastMessage": true, "includeDerivedTitles": true });
    let list = client.call("sessions.list", asked).await;
    assert_eq!(list["sessions"][0]["derivedTitle"], "k2", "the first thing that was said");
    let rows = list["sessions"].as_array().unwrap();
    let keys: Vec<_> = rows.iter().map(|r| (r["key"].as_str().unwrap(), r["isMain"] == true)).collect();
    assert_eq!(keys, [("agent:main:side", false), ("agent:main:main", true)], "the newest first");
    assert!(rows[0]["lastMessagePreview"].as_str().unwrap().ends_with("k2"));
    assert_eq!(
        (&list["count"], &list["totalCount"], &list["nextOffset"]),
        (&json!(2), &json!(2), &Value::Null)
    );
    let one = client.call("sessions.list", json!({ "limit": 1 })).await;
    assert_eq!((&one["hasMore"], &one["nextOffset"]), (&json!(true), &json!(1)));
    let described = client.call("sessions.describe", json!({ "key": "side" })).await["session"].clone();
    assert_eq!(described["sessionId"], rows[0]["sessionId"]);
    let subscribed = client.call("sessions.subscribe", json!({ "limit": 1 })).await;
    assert_eq!((&subscribed["subscribed"], &subscribed["list"]["count"]), (&json!(true), &json!(1)));
}

//! What waits, and what a session remembers.

use super::*;
use crabtree_actors::sessions::MANY_LIVE;

/// Submits with `chat.send` and this mode; returns when it is durable.
async fn say_as(client: &mut Client, mode: &str, text: &str, run: &str) -> Value {
    let mut params = message("main", text, run);
    params["queueMode"] = json!(mode);
    client.call("chat.send", params).await
}

/// A gateway whose queue is not waited for, and somebody who hears everything.
async fn quick() -> (Embedded, Client) {
    let config = json!({ "messages": { "queue": { "debounceMs": 0 } } });
    let gateway = Embedded::with(config).await;
    let mut client = Client::admin(gateway.addr).await;
    client.call("sessions.subscribe", json!({})).await;
    (gateway, client)
}

/// The `chat` events that end something, as run and state.
fn ends(client: &Client) -> Vec<(&str, &str)> {
    let chat = client.events.iter().filter(|e| e["event"] == "chat").map(|e| &e["payload"]);
    let ends = chat.filter(|p| !matches!(p["state"].as_str(), Some("delta" | "status")));
    ends.map(|p| (p["runId"].as_str().unwrap(), p["state"].as_str().unwrap())).collect()
}

async fn waited(client: &mut Client, run: &str) -> Value {
    client.call("agent.wait", json!({ "runId": run, "timeoutMs": 20_000 })).await
}

/// accepts: I6, I7, I8, C7
#[tokio::test]
async fn messages_wait_for_their_turn_and_keep_their_order() {
    let (_gateway, mut client) = quick().await;
    say(&mut client, "main", &words(40), "k1").await;
    for run in ["k2", "k3"] {
        assert_eq!(say_as(&mut client, "followup", run, run).await["status"], "started");
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
    // Submissions are settled when they are queued; their turns have names of their own.
    let told = ends(&client);
    assert_eq!(told.iter().map(|(run, _)| *run).take(3).collect::<Vec<_>>(), ["k2", "k3", "k1"]);
    assert!(told[3..5].iter().all(|(run, _)| run.len() == 36) && told[5] == ("a4", "final"), "{told:?}");
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
    assert_eq!(
        waited(&mut client, "k2").await["status"],
        "ok",
        "the submission's name is good to wait for, too"
    );
}

/// accepts: C7, G1
#[tokio::test]
async fn what_is_steered_joins_the_turn_where_the_model_pauses() {
    let (_gateway, mut client) = quick().await;
    say(&mut client, "main", &words(20), "k1").await;
    streams(&mut client, "k1").await;
    for run in ["k2", "k3"] {
        assert_eq!(say_as(&mut client, "steer", run, run).await["status"], "started");
    }
    settled(&mut client, "k1").await;
    assert_eq!(ends(&client), [("k2", "final"), ("k3", "final"), ("k1", "final")]);
    let rows = history(&mut client, "main").await;
    let roles: Vec<_> = rows.iter().map(|row| row["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["user", "assistant", "user", "user", "assistant"]);
    assert_eq!(rows[2]["__openclaw"]["steerTargetRunId"], "k1");
    let last = client.events.iter().rfind(|e| e["payload"]["state"] == "final").unwrap();
    let told = text_of(&last["payload"]["message"]).to_owned();
    let answers = [text_of(&rows[1]), text_of(&rows[4])];
    assert_eq!(told, answers.join("\n\n"), "one text for the whole turn");
    assert!(answers[1].ends_with("k3"));
    for (run, text) in [("k1", &*words(20)), ("k2", "k2"), ("k3", "k3")] {
        assert_eq!(waited(&mut client, run).await["terminalReply"]["text"], told);
        let again = client.call("chat.send", message("main", text, run)).await;
        assert_eq!(again["status"], "ok");
    }
}

/// accepts: C7
#[tokio::test]
async fn what_is_collected_is_asked_together() {
    let (_gateway, mut client) = quick().await;
    say(&mut client, "main", &words(20), "k1").await;
    for run in ["k2", "k3"] {
        say_as(&mut client, "collect", run, run).await;
    }
    let outcome = waited(&mut client, "k3").await;
    assert_eq!(
        (&outcome["status"], &waited(&mut client, "k2").await["endedAt"]),
        (&json!("ok"), &outcome["endedAt"])
    );
    let rows = history(&mut client, "main").await;
    assert_eq!(rows.len(), 4);
    let asked = "[Queued messages while agent was busy]\n\n---\nQueued #1 (from cli)\nk2\n\n---\nQueued #2 (from cli)\nk3";
    assert_eq!(text_of(&rows[2]), asked);
    assert!(rows[2]["idempotencyKey"].as_str().unwrap().starts_with("followup-collect:"));
}

/// accepts: C7
#[tokio::test]
async fn what_interrupts_takes_the_place_of_the_turn() {
    let (_gateway, mut client) = quick().await;
    say(&mut client, "main", &words(400), "k1").await;
    streams(&mut client, "k1").await;
    let ack = say_as(&mut client, "interrupt", "now", "k2").await;
    assert_eq!(ack, json!({ "runId": "k2", "status": "started", "interruptedActiveRun": true }));
    assert_eq!(ends(&client), [("k1", "aborted")], "it is over before the other is taken");
    settled(&mut client, "k2").await;
    let rows = history(&mut client, "main").await;
    let said: Vec<_> = rows.iter().map(text_of).collect();
    assert_eq!((said.len(), said[1]), (3, "now"), "an interrupted answer is not kept");
    let stopped = waited(&mut client, "k1").await;
    assert_eq!((&stopped["status"], &stopped["stopReason"]), (&json!("error"), &json!("aborted")));
}

/// accepts: C7
#[tokio::test]
async fn a_session_queues_as_it_is_told() {
    let config = json!({ "messages": { "queue": { "mode": "collect", "debounceMs": 0 } } });
    let gateway = Embedded::with(config).await;
    let mut client = Client::admin(gateway.addr).await;
    say(&mut client, "main", &words(20), "k1").await;
    for run in ["k2", "k3"] {
        say(&mut client, "main", run, run).await;
    }
    waited(&mut client, "k3").await;
    assert_eq!(history(&mut client, "main").await.len(), 4);
    let row = client.call("sessions.describe", json!({ "key": "main" })).await;
    assert_eq!(row["session"]["effectiveQueueMode"], "collect");
}

/// accepts: I8
#[tokio::test]
async fn what_has_no_room_stands_in_short_in_the_next_question() {
    let config = json!({ "messages": { "queue": { "mode": "followup", "debounceMs": 0, "cap": 2 } } });
    let gateway = Embedded::with(config).await;
    let mut client = Client::admin(gateway.addr).await;
    say(&mut client, "main", &words(30), "k0").await;
    for n in 1..=4 {
        say(&mut client, "main", &format!("text {n}"), &format!("k{n}")).await;
    }
    let outcomes = [waited(&mut client, "k1").await, waited(&mut client, "k3").await];
    assert_eq!(outcomes[0]["endedAt"], outcomes[1]["endedAt"], "answered by the same turn");
    waited(&mut client, "k4").await;
    let rows = history(&mut client, "main").await;
    let asked: Vec<_> = rows.iter().filter(|r| r["role"] == "user").map(text_of).collect();
    assert_eq!(asked.len(), 3);
    assert!(
        asked[1].contains("2 messages") && asked[1].contains("\n- text 1\n- text 2\n\ntext 3"),
        "{}",
        asked[1]
    );
    assert_eq!(asked[2], "text 4");
}

/// accepts: I8
#[tokio::test]
async fn the_oldest_is_dropped_where_that_is_the_rule() {
    let queue = json!({ "mode": "followup", "debounceMs": 0, "cap": 1, "drop": "old" });
    let gateway = Embedded::with(json!({ "messages": { "queue": queue } })).await;
    let mut client = Client::admin(gateway.addr).await;
    say(&mut client, "main", &words(30), "k0").await;
    for run in ["k1", "k2"] {
        say(&mut client, "main", run, run).await;
    }
    let dropped = waited(&mut client, "k1").await;
    assert_eq!(dropped["status"], "error");
    assert!(dropped["error"].as_str().unwrap().contains("more than 1 were waiting"), "{dropped}");
    assert_eq!(waited(&mut client, "k2").await["status"], "ok");
    let error = client.refused("chat.send", message("main", "k1", "k1")).await;
    assert!(error["message"].as_str().unwrap().contains("dropped"), "{error}");
}

/// accepts: I8
#[tokio::test]
async fn a_backlog_has_an_end() {
    let gateway = Embedded::with(json!({ "messages": { "queue": { "drop": "new" } } })).await;
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
    let gateway = Embedded::with(json!({ "messages": { "queue": { "drop": "new" } } })).await;
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

/// accepts: I8
#[tokio::test]
async fn an_idle_session_leaves_memory_and_is_there_when_it_is_spoken_to() {
    let gateway = Embedded::with(json!({ "session": { "passivateAfterSeconds": 1 } })).await;
    let mut client = Client::admin(gateway.addr).await;
    let sessions = |tree: &Value| tree["root"]["children"].as_array().unwrap().len();
    for turn in 0..3 {
        let run = format!("k{turn}");
        say(&mut client, "main", "hello", &run).await;
        assert_eq!(waited(&mut client, &run).await["status"], "ok");
        let path = json!({ "path": "gateway/sessions" });
        assert_eq!(sessions(&client.call("system.actors", path.clone()).await), 1);
        let start = std::time::Instant::now();
        while sessions(&client.call("system.actors", path.clone()).await) == 1 {
            assert!(start.elapsed() < std::time::Duration::from_secs(10), "it stays in memory");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
    assert_eq!(history(&mut client, "main").await.len(), 6);
}

/// accepts: I8
#[tokio::test]
async fn of_many_sessions_those_at_rest_leave_memory_early() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    let live = |tree: Value| tree["root"]["info"]["sessions"].as_u64().unwrap() as usize;
    let path = json!({ "path": "gateway/sessions", "depth": 0 });
    let keys: Vec<_> = (0..MANY_LIVE + 100).map(|n| format!("agent:main:{n}")).collect();
    for key in &keys {
        client.call("sessions.create", json!({ "key": key })).await;
    }
    let start = std::time::Instant::now();
    while live(client.call("system.actors", path.clone()).await) > MANY_LIVE {
        assert!(start.elapsed() < std::time::Duration::from_secs(10), "they stay in memory");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let left = live(client.call("system.actors", path.clone()).await);
    assert!(left >= MANY_LIVE / 2, "the others stay for the configured time, {left} are left");
    let all = client.call("sessions.list", json!({ "limit": 1_000 })).await;
    assert_eq!(all["sessions"].as_array().unwrap().len(), keys.len());
    for key in keys.iter().step_by(50) {
        say(&mut client, key, "hello", key).await;
        assert_eq!(waited(&mut client, key).await["status"], "ok");
    }
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

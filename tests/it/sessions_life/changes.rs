//! Changes of what is kept of a session.

use super::*;

async fn patched(client: &mut Client, params: Value) -> Value {
    client.call("sessions.patch", params).await["entry"].clone()
}

/// accepts: A9, I3
#[tokio::test]
async fn what_is_changed_is_shown_and_survives_a_restart() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    client.call("sessions.subscribe", json!({})).await;
    let shown = json!({
        "label": "Renamed", "icon": "🦀", "color": "red", "category": "grp2", "boardFace": "dashboard",
        "thinkingLevel": "off", "verboseLevel": "full", "reasoningLevel": "stream", "traceLevel": "on",
        "elevatedLevel": "ask", "responseUsage": "full", "sendPolicy": "deny", "groupActivation": "always",
        "fastMode": "auto", "permissionMode": "guarded", "contextWindow": "small",
        "toolOverrides": { "webSearch": false, "skills": { "a": true } },
    });
    let mut params = shown.clone();
    params["key"] = json!("new");
    params["pinned"] = json!(true);
    let answer = client.call("sessions.patch", params).await;
    assert_eq!((&answer["ok"], &answer["key"]), (&json!(true), &json!("agent:main:new")), "it is created");
    assert_eq!(answer["resolved"]["agentRuntime"], json!({ "id": "crabtree", "source": "implicit" }));
    client.event(|e| e["event"] == "sessions.changed" && e["payload"]["reason"] == "patch").await;
    for (name, value) in shown.as_object().unwrap() {
        assert_eq!(&answer["entry"][name], value, "{name}");
    }
    let overrides =
        json!({ "key": "new", "toolOverrides": { "webSearch": true }, "statusNote": " at  work " });
    patched(&mut client, overrides).await;
    let before = row(&mut client, "new").await;

    let gateway = restarted(gateway).await;
    let mut client = Client::admin(gateway.addr).await;
    let after = row(&mut client, "new").await;
    for (name, value) in shown.as_object().unwrap().iter().filter(|(name, _)| *name != "toolOverrides") {
        assert_eq!(&after[name], value, "{name}");
    }
    assert_eq!(after["toolOverrides"], json!({ "webSearch": true }), "they are replaced as a whole");
    assert_eq!((&after["pinnedAt"], &after["updatedAt"]), (&before["pinnedAt"], &before["updatedAt"]));
    assert_eq!((&after["pinned"], &after["agentStatus"]["note"]), (&json!(true), &json!("at work")));

    let mut none: serde_json::Map<_, _> =
        shown.as_object().unwrap().keys().map(|k| (k.clone(), Value::Null)).collect();
    none.remove("boardFace");
    none.insert("key".into(), json!("new"));
    none.insert("pinned".into(), json!(false));
    none.insert("statusNote".into(), Value::Null);
    patched(&mut client, Value::Object(none.clone())).await;
    let bare = row(&mut client, "new").await;
    none.retain(|name, _| name != "key" && name != "pinned");
    assert!(none.keys().all(|name| bare.get(name).is_none()), "{bare}");
    assert_eq!((&bare["pinned"], bare.get("pinnedAt"), bare.get("agentStatus")), (&json!(false), None, None));
}

/// A list that is asked for again and again is told as it was only while nothing has happened.
///
/// accepts: A9
#[tokio::test]
async fn what_has_happened_is_in_the_next_list() {
    async fn listed(client: &mut Client) -> Value {
        client.call("sessions.list", json!({ "limit": 5 })).await["sessions"].clone()
    }
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    let mut other = Client::admin(gateway.addr).await;
    for round in 0..50 {
        let label = json!(format!("label {round}"));
        patched(&mut client, json!({ "key": "new", "label": label })).await;
        for _ in 0..3 {
            assert_eq!(listed(&mut client).await[0]["label"], label);
            assert_eq!(listed(&mut other).await[0]["label"], label);
        }
    }
    assert_eq!(listed(&mut client).await[0]["hasActiveRun"], false);
    long_turn(&mut client, "new", "k1").await;
    assert_eq!(listed(&mut other).await[0]["hasActiveRun"], true);
    client.call("sessions.abort", json!({ "key": "new" })).await;
    client.call("sessions.delete", json!({ "key": "new" })).await;
    assert_eq!(listed(&mut other).await, json!([]));
}

/// accepts: A9
#[tokio::test]
async fn a_model_is_chosen_for_the_next_turn() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    long_turn(&mut client, "s", "k1").await;
    let answer = client.call("sessions.patch", json!({ "key": "s", "model": "offline" })).await;
    let entry = &answer["entry"];
    assert_eq!(
        (&entry["providerOverride"], &entry["modelOverride"]),
        (&json!("crabtree"), &json!("offline"))
    );
    assert_eq!(entry["liveModelSwitchPending"], true, "the turn that runs goes on as it began");
    assert_eq!(answer["resolved"]["thinkingLevels"], json!([{ "id": "off", "label": "off" }]));
    client.call("sessions.abort", json!({ "key": "s" })).await;
    let entry = patched(&mut client, json!({ "key": "s", "model": null })).await;
    assert_eq!(entry["modelOverrideSource"], "default");
    assert_eq!((entry.get("modelOverride"), entry.get("liveModelSwitchPending")), (None, None));
    for (params, message) in [
        (json!({ "model": "nope/x" }), "Unknown provider \"nope\". Use /models to list providers."),
        (
            json!({ "thinkingLevel": "high" }),
            "thinkingLevel \"high\" is not supported for crabtree/offline (use off)",
        ),
        (json!({ "verboseLevel": "loud" }), "verboseLevel \"loud\" is not known (use off, on, full)"),
        (json!({ "execAsk": "always" }), "execAsk is no longer kept; set permissionMode instead"),
        (json!({ "icon": "x".repeat(20_000) }), "the change is larger than 16384 bytes"),
    ] {
        let mut params = params;
        params["key"] = json!("s");
        let error = client.refused("sessions.patch", params).await;
        assert_eq!(error["message"], message);
    }
    let error = client.refused("sessions.patch", json!({ "key": "agent:ghost:x", "pinned": true })).await;
    assert_eq!(error["message"], "Agent \"ghost\" no longer exists in configuration");
}

/// accepts: A9
#[tokio::test]
async fn an_archived_session_is_out_of_sight_until_somebody_speaks_in_it() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    turn(&mut client, "main", "m").await;
    turn(&mut client, "s", "k1").await;
    let id = row(&mut client, "s").await["sessionId"].clone();
    let error = client.refused("sessions.patch", json!({ "key": "s", "archived": true })).await;
    let message = "expectedSessionId required for session lifecycle patch: agent:main:s";
    assert_eq!(error["message"], message);
    let changed = json!({
        "code": "INVALID_REQUEST", "message": "Session agent:main:s changed before patch. Retry.",
        "details": { "reason": "session-changed" },
    });
    long_turn(&mut client, "s", "k2").await;
    let other = json!({ "key": "s", "archived": true, "expectedSessionId": "other" });
    assert_eq!(client.refused("sessions.patch", other).await, changed);
    assert_eq!(row(&mut client, "s").await["hasActiveRun"], true, "a refused change stops nothing");
    let archive = |archived: bool| json!({ "key": "s", "archived": archived, "expectedSessionId": id });
    client.call("sessions.patch", json!({ "key": "s", "pinned": true })).await;
    let entry = patched(&mut client, archive(true)).await;
    assert_eq!((&entry["archiveReason"], entry.get("pinnedAt")), (&json!("manual"), None));
    assert_eq!(client.chat_end("k2").await["state"], "aborted", "nothing goes on in it");
    let again = patched(&mut client, archive(true)).await;
    assert_eq!(again["archivedAt"], entry["archivedAt"]);
    assert_eq!(row(&mut client, "s").await["archived"], true);
    let keys = |list: &Value| -> Vec<String> {
        list["sessions"].as_array().unwrap().iter().map(|r| r["key"].as_str().unwrap().to_owned()).collect()
    };
    let listed = client.call("sessions.list", json!({})).await;
    assert_eq!(keys(&listed), ["agent:main:main"]);
    let error = client.refused("sessions.patch", json!({ "key": "s", "pinned": true })).await;
    assert_eq!(error["code"], "INVALID_REQUEST");
    let entry = patched(&mut client, archive(false)).await;
    assert_eq!((entry.get("archivedAt"), entry.get("archiveReason")), (None, None));
    patched(&mut client, archive(true)).await;
    turn(&mut client, "s", "k3").await;
    assert_eq!(row(&mut client, "s").await["archived"], false);
    let main = row(&mut client, "main").await["sessionId"].clone();
    let main = json!({ "key": "main", "archived": true, "expectedSessionId": main });
    assert_eq!(client.refused("sessions.patch", main).await["code"], "INVALID_REQUEST");
}

/// accepts: A9
#[tokio::test]
async fn an_answer_is_unread_until_somebody_reads_it() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    turn(&mut client, "s", "k1").await;
    let unread = row(&mut client, "s").await;
    assert_eq!((&unread["unread"], unread.get("markedUnreadAt")), (&json!(true), None));
    let read = json!({ "key": "s", "agentId": "main", "expectedMarkedUnreadAt": null, "unread": false });
    let entry = patched(&mut client, read.clone()).await;
    assert!(entry["lastReadAt"].is_u64());
    let seen = row(&mut client, "s").await;
    assert_eq!((&seen["unread"], &seen["updatedAt"]), (&json!(false), &unread["updatedAt"]));

    // Who marks it by hand means it: neither an acknowledgement nor a message takes that away.
    let marked = patched(&mut client, json!({ "key": "s", "unread": true })).await["markedUnreadAt"].clone();
    patched(&mut client, read.clone()).await;
    turn(&mut client, "s", "k2").await;
    let row_ = row(&mut client, "s").await;
    assert_eq!((&row_["unread"], &row_["markedUnreadAt"]), (&json!(true), &marked));
    let again = patched(&mut client, json!({ "key": "s", "unread": true })).await["markedUnreadAt"].clone();
    assert!(again.as_u64() > marked.as_u64());
    let known = json!({ "key": "s", "unread": false, "expectedMarkedUnreadAt": again });
    assert_eq!(patched(&mut client, known).await.get("markedUnreadAt"), None);

    let mixed = json!({ "key": "s", "unread": false, "pinned": true, "expectedMarkedUnreadAt": null });
    assert_eq!(client.refused("sessions.patch", mixed).await["code"], "INVALID_REQUEST");
    let nobody = json!({ "key": "nobody", "unread": false, "expectedMarkedUnreadAt": null });
    let error = client.refused("sessions.patch", nobody).await;
    assert_eq!(error["message"], "session not found: agent:main:nobody");
    turn(&mut client, "s", "k3").await;
    long_turn(&mut client, "s", "k4").await;
    assert_eq!(row(&mut client, "s").await["unread"], false, "who speaks has read");
}

/// accepts: A9
#[tokio::test]
async fn many_sessions_are_changed_in_order_each_for_itself() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    let made = client.call("sessions.create", json!({ "key": "a" })).await;
    let targets = json!([
        { "key": "a", "expectedSessionId": made["sessionId"], "agentId": "main" },
        { "key": "b", "expectedSessionId": "other" },
        { "key": "agent:ghost:x" },
        { "key": "c" },
    ]);
    let asked = json!({ "targets": targets, "patch": { "category": "grp", "pinned": true } });
    let outcomes = client.call("sessions.patchMany", asked).await["outcomes"].clone();
    assert_eq!(outcomes[0], json!({ "ok": true, "key": "agent:main:a", "agentId": "main" }));
    assert_eq!(outcomes[1]["error"]["details"], json!({ "reason": "session-changed" }));
    assert_eq!(outcomes[2]["error"]["message"], "Agent \"ghost\" no longer exists in configuration");
    assert_eq!(outcomes[3], json!({ "ok": true, "key": "agent:main:c" }));
    for (key, category) in [("a", json!("grp")), ("b", Value::Null), ("c", json!("grp"))] {
        assert_eq!(row(&mut client, key).await["category"], category, "{key}");
    }
}

/// accepts: A9, I7
#[tokio::test]
async fn changes_made_at_once_are_all_kept_and_a_name_is_given_once() {
    let gateway = Embedded::start().await;
    let mut one = Client::admin(gateway.addr).await;
    let mut two = Client::admin(gateway.addr).await;
    let fields = [("icon", "i"), ("color", "c"), ("category", "g"), ("execNode", "n"), ("label", "l")];
    let mut ids = vec![];
    for (name, value) in fields {
        ids.push((one.send("sessions.patch", json!({ "key": "s", name: value })).await, "s"));
        two.send("sessions.patch", json!({ "key": "s", "pinned": true })).await;
    }
    for (id, _) in &ids {
        assert_eq!(one.response(id).await["ok"], true);
    }
    let shown = row(&mut one, "s").await;
    for (name, value) in fields {
        assert_eq!(shown[name], value, "{name}");
    }
    let first = one.send("sessions.patch", json!({ "key": "x", "label": "same" })).await;
    let second = two.send("sessions.patch", json!({ "key": "y", "label": "same" })).await;
    let answers = [one.response(&first).await, two.response(&second).await];
    let given = answers.iter().filter(|answer| answer["ok"] == true).count();
    assert_eq!(given, 1, "{answers:?}");
    let refused = answers.iter().find(|answer| answer["ok"] == false).unwrap();
    assert_eq!(refused["error"]["message"], "label already in use: same");
}

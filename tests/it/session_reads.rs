//! Sessions as they are read: lists and their filters, single ones, found by name and by words. Below it: their
//! groups, and what they used.

mod groups;
mod usage;

use crate::client::Client;
use crate::gateway::Embedded;
use crabtree_actors::store::{NewMessage, SessionUpdate, WriteOp};
use serde_json::{Value, json};

const PARENT: &str = "agent:main:main";
const UUID: &str = "e515d1d4-3981-4091-a030-d72cdc3edefb";

fn session(key: &str, at: i64, label: Option<&str>, entry: Value) -> WriteOp {
    let update = SessionUpdate {
        at,
        label: label.map(|label| Some(label.to_owned())),
        session_id_if_new: Some(format!("id of {key}")),
        last_interaction_at: (at % 2 == 0).then_some(100 - at),
        entry: Some(entry),
        ..SessionUpdate::default()
    };
    WriteOp::UpdateSession { key: key.into(), update }
}

fn message(key: &str, n: i64, kind: &str, text: &str) -> WriteOp {
    WriteOp::AppendMessage(NewMessage {
        id: format!("{key} m{n}"),
        session_key: key.into(),
        session_id: String::new(),
        parent: None,
        kind: kind.into(),
        idempotency_key: Some(format!("{key} {n}")),
        run_id: None,
        hidden: false,
        message: json!({ "role": kind, "content": text, "timestamp": n }),
        created_at: n,
    })
}

fn dashboard() -> String {
    format!("agent:main:dashboard:{UUID}")
}

/// One main session with children of several kinds.
fn stored() -> Vec<WriteOp> {
    let parent = |more: Value| {
        let mut entry = json!({ "parentSessionKey": PARENT });
        entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        entry
    };
    vec![
        session(PARENT, 10, None, json!({})),
        session(&dashboard(), 11, Some("Crab nebula plans"), parent(json!({ "category": "grp1" }))),
        session("agent:main:subagent:s", 12, None, json!({ "spawnedBy": PARENT })),
        session("agent:main:cron:daily", 13, None, json!({})),
        session("agent:main:old", 14, None, json!({ "archivedAt": 5, "category": "grp2" })),
        session("agent:main:pin", 8, None, json!({ "pinnedAt": 7, "boardFace": "dashboard" })),
        session("agent:ghost:gone", 9, Some("Left over"), json!({})),
        message(PARENT, 1, "user", "hello there"),
        message(PARENT, 2, "assistant", "a crab answers"),
        message(&dashboard(), 3, "user", "where is the crab"),
        message("agent:main:old", 4, "user", "an old crab"),
    ]
}

fn keys(list: &Value) -> Vec<&str> {
    list["sessions"].as_array().unwrap().iter().map(|row| brief(row["key"].as_str().unwrap())).collect()
}

/// Of a key the word that tells it from the others.
fn brief(key: &str) -> &str {
    key.split(':').nth(2).unwrap()
}

fn members(value: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

/// accepts: G2
#[tokio::test]
async fn lists_hold_what_their_filters_ask_for() {
    let gateway = Embedded::stored(&stored()).await;
    let mut client = Client::admin(gateway.addr).await;
    let cases = [
        (json!({}), "pin cron subagent dashboard main gone"),
        (json!({ "archived": false, "configuredAgentsOnly": true }), "pin cron subagent dashboard main"),
        (json!({ "archived": true }), "old"),
        (json!({ "archived": "all", "agentId": "main" }), "pin old cron subagent dashboard main"),
        (json!({ "spawnedBy": "main" }), "subagent dashboard"),
        (json!({ "spawnedBy": PARENT, "limit": 10_000 }), "subagent dashboard"),
        (json!({ "excludeSubagents": true, "excludeCron": true }), "pin dashboard main gone"),
        (json!({ "excludeSystem": true, "pinned": true }), "pin"),
        (json!({ "group": "grp1" }), "dashboard"),
        (json!({ "label": "Left over" }), "gone"),
        (json!({ "label": "left over" }), ""),
        (json!({ "search": "NEBULA" }), "dashboard"),
        (json!({ "search": "hello there" }), "main"),
        (json!({ "requireLastInteraction": true, "sortBy": "lastInteractionAt" }), "pin main subagent"),
        (json!({ "sortBy": "activity", "agentId": "main", "pinned": false }), "main subagent cron dashboard"),
        (json!({ "activeMinutes": 60 }), ""),
        (json!({ "activeOnly": true }), ""),
        (json!({ "boardFace": "dashboard" }), "pin"),
        (json!({ "hasBoard": true }), ""),
        (json!({ "hasBoard": false, "boardFace": "chat" }), ""),
        // There are no profiles: nobody owns, but the one who asks may see everything.
        (json!({ "ownerId": "x" }), ""),
        (json!({ "creatorId": "x" }), ""),
        (json!({ "involvingProfileId": "x" }), ""),
        (json!({ "involvingMe": true, "ownerFirst": true, "limit": 1 }), "pin"),
        (
            json!({ "includeGlobal": true, "includeUnknown": true, "limit": 2, "offset": 2 }),
            "subagent dashboard",
        ),
    ];
    for (params, expected) in cases {
        let list = client.call("sessions.list", params.clone()).await;
        assert_eq!(keys(&list).join(" "), expected, "{params}");
        assert_eq!(list["count"], keys(&list).len());
    }
}

/// accepts: G2
#[tokio::test]
async fn a_page_tells_where_it_stands() {
    let gateway = Embedded::stored(&stored()).await;
    let mut client = Client::admin(gateway.addr).await;
    let page = client.call("sessions.list", json!({ "limit": 2 })).await;
    let recorded = [
        "count",
        "defaults",
        "hasMore",
        "limitApplied",
        "nextOffset",
        "owners",
        "path",
        "sessions",
        "totalCount",
        "ts",
    ];
    assert_eq!(members(&page), recorded);
    let place = |page: &Value| {
        ["count", "totalCount", "limitApplied", "nextOffset", "hasMore"].map(|name| page[name].clone())
    };
    assert_eq!(place(&page), [json!(2), json!(6), json!(2), json!(2), json!(true)]);
    let last = client.call("sessions.list", json!({ "limit": 20_000, "offset": 4 })).await;
    assert_eq!(place(&last), [json!(2), json!(6), json!(10_000), Value::Null, json!(false)]);
    assert_eq!(last["offset"], 4);
    let people = client.call("sessions.list", json!({ "includePeople": true, "limit": 1 })).await;
    let of_people = ["people", "peopleIncomplete", "peopleSessionCount"].map(|name| people[name].clone());
    assert_eq!(of_people, [json!([]), json!(false), json!(6)]);
    let defaults = [
        "agentRuntime",
        "contextTokens",
        "model",
        "modelProvider",
        "modelSelectionTarget",
        "thinkingDefault",
        "thinkingLevels",
        "thinkingOptions",
    ];
    assert_eq!(members(&page["defaults"]), defaults);

    let nobody = client.call("sessions.list", json!({ "agentId": "nobody" })).await;
    assert_eq!((&nobody["count"], &nobody["path"]), (&json!(0), &json!("(multiple)")));
    assert_eq!(client.call("sessions.list", json!({ "agentId": "main" })).await["path"], "store.sqlite");
    let first = client.call("sessions.subscribe", json!({ "limit": 2 })).await;
    assert_eq!((&first["subscribed"], keys(&first["list"])), (&json!(true), keys(&page)));
    let error = client.refused("sessions.list", json!({ "bogus": true })).await;
    assert_eq!(error["message"], "invalid sessions.list params: at root: unexpected property 'bogus'");

    // What runs is active.
    let slow = json!({ "sessionKey": "runs", "message": "and so on ".repeat(500), "idempotencyKey": "k1" });
    client.call("chat.send", slow).await;
    client.event(|e| e["event"] == "chat" && e["payload"]["state"] == "delta").await;
    let active = client.call("sessions.list", json!({ "activeOnly": true })).await;
    assert_eq!((keys(&active), &active["totalCount"]), (vec!["runs"], &json!(1)));
    assert_eq!(active["sessions"][0]["activeRunIds"], json!(["k1"]));
    let recent = client.call("sessions.list", json!({ "activeMinutes": 60 })).await;
    assert_eq!(keys(&recent), ["runs"]);
}

/// accepts: G2
#[tokio::test]
async fn rows_have_titles_and_last_words_if_they_are_asked_for() {
    let gateway = Embedded::stored(&stored()).await;
    let mut client = Client::admin(gateway.addr).await;
    let extras = json!({ "key": "main", "includeDerivedTitles": true, "includeLastMessage": true });
    let main = client.call("sessions.describe", extras).await["session"].clone();
    let shown = |row: &Value| {
        ["displayName", "derivedTitle", "lastMessagePreview"]
            .map(|name| row[name].as_str().map(str::to_owned))
    };
    let words = |words: [&str; 3]| words.map(|word| Some(word.to_owned()));
    assert_eq!(shown(&main), words(["main", "main", "a crab answers"]));
    let bare = client.call("sessions.describe", json!({ "key": "main", "agentId": "main" })).await;
    assert_eq!(shown(&bare["session"]), [Some("main".to_owned()), None, None]);
    let all =
        json!({ "includeDerivedTitles": true, "includeLastMessage": true, "label": "Crab nebula plans" });
    let list = client.call("sessions.list", all).await;
    assert_eq!(
        shown(&list["sessions"][0]),
        words(["Crab nebula plans", "Crab nebula plans", "where is the crab"])
    );
    let old = json!({ "includeDerivedTitles": true, "archived": true });
    let list = client.call("sessions.list", old).await;
    assert_eq!(shown(&list["sessions"][0]), [None, Some("an old crab".to_owned()), None]);
    assert_eq!(
        client.call("sessions.describe", json!({ "key": "nobody" })).await,
        json!({ "session": null })
    );
    // The same bare key of another agent is another session.
    let gone = client.call("sessions.describe", json!({ "key": "gone", "agentId": "ghost" })).await;
    assert_eq!(gone["session"]["key"], "agent:ghost:gone");
    let rows = client.call("sessions.get", json!({ "key": "main", "limit": 1 })).await;
    assert_eq!(rows["messages"][0]["__openclaw"]["seq"], 2);

    let params = json!({ "keys": ["main", "nobody", "pin", " "], "limit": 1, "maxChars": 20 });
    let previews = client.call("sessions.preview", params).await;
    assert_eq!(
        previews["previews"],
        json!([
            { "key": "main", "status": "ok", "items": [{ "role": "assistant", "text": "a crab answers" }] },
            { "key": "nobody", "status": "missing", "items": [] },
            { "key": "pin", "status": "empty", "items": [] },
            { "key": " ", "status": "missing", "items": [] },
        ])
    );
}

/// accepts: G2
#[tokio::test]
async fn sessions_are_resolved_by_key_id_name_and_short_id() {
    let mut ops = stored();
    ops.push(session(
        "agent:main:dashboard:e515d1d4-0000-4091-a030-d72cdc3edefb",
        15,
        Some("Other"),
        json!({}),
    ));
    let gateway = Embedded::stored(&ops).await;
    let mut client = Client::admin(gateway.addr).await;
    let main = json!({ "ok": true, "key": PARENT, "agentId": "main" });
    let found = json!({ "ok": true, "key": dashboard(), "agentId": "main" });
    let mut named = found.clone();
    named["displayName"] = json!("Crab nebula plans");
    let cases = [
        (json!({ "key": "main" }), main.clone()),
        (json!({ "sessionId": format!("id of {PARENT}") }), main),
        (json!({ "label": "Crab nebula plans" }), found),
        (json!({ "shortId": UUID.replace('-', ""), "agentId": "main", "allowMissing": true }), named.clone()),
        (json!({ "shortId": "E515D1D4", "slugHint": "crab-nebula-plans" }), named.clone()),
        (json!({ "shortId": "e515d1d4", "spawnedBy": "main" }), named),
        (json!({ "key": "nobody", "allowMissing": true }), json!({ "ok": false })),
        (
            json!({ "label": "Crab nebula plans", "agentId": "ghost", "allowMissing": true }),
            json!({ "ok": false }),
        ),
        (json!({ "key": "main", "spawnedBy": "pin", "allowMissing": true }), json!({ "ok": false })),
    ];
    for (params, expected) in cases {
        assert_eq!(client.call("sessions.resolve", params.clone()).await, expected, "{params}");
    }
    let several = client.call("sessions.resolve", json!({ "shortId": "e515d1d4" })).await;
    let names: Vec<&str> = several["candidates"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["displayName"].as_str().unwrap())
        .collect();
    assert_eq!((&several["ok"], names), (&json!(false), vec!["Other", "Crab nebula plans"]));
    let refusals = [
        (json!({ "key": "nobody" }), "No session found: agent:main:nobody"),
        (json!({ "sessionId": "x" }), "No session found: x"),
        (json!({ "label": "Nobody" }), "No session found with label: Nobody"),
        (json!({ "shortId": "ffffffff" }), "No session found: ffffffff"),
        (json!({ "shortId": "xyz" }), "a shortId is 8 to 32 hexadecimal digits without dashes"),
        (json!({ "key": "main", "slugHint": "x" }), "a slugHint goes with a shortId only"),
        (json!({}), "sessions.resolve needs a key, sessionId, label or shortId"),
        (
            json!({ "key": "a", "label": "b" }),
            "sessions.resolve takes only one of key, sessionId, label and shortId",
        ),
        (json!({ "label": "Left over" }), "Agent \"ghost\" no longer exists in configuration"),
    ];
    for (params, words) in refusals {
        assert_eq!(client.refused("sessions.resolve", params.clone()).await["message"], words, "{params}");
    }
}

/// accepts: G2
#[tokio::test]
async fn what_was_said_is_searched_everywhere_or_within_a_scope() {
    let gateway = Embedded::stored(&stored()).await;
    let mut client = Client::admin(gateway.addr).await;
    let hits = |answer: &Value| {
        let hits = answer["results"].as_array().unwrap();
        let mut keys: Vec<_> =
            hits.iter().map(|hit| brief(hit["sessionKey"].as_str().unwrap()).to_owned()).collect();
        keys.sort();
        keys.join(" ")
    };
    let all = client.call("sessions.search", json!({ "query": "CRAB" })).await;
    assert_eq!((hits(&all).as_str(), members(&all)), ("dashboard main old", vec!["results"]));
    let recorded = ["messageId", "role", "score", "sessionId", "sessionKey", "snippet", "timestamp"];
    assert_eq!(members(&all["results"][0]), recorded);
    let few = client.call("sessions.search", json!({ "query": "crab", "limit": 1 })).await;
    assert_eq!((few["results"].as_array().unwrap().len(), &few["truncated"]), (1, &json!(true)));
    let keys = json!({ "query": "crab", "sessionKeys": ["main", "pin"] });
    assert_eq!(hits(&client.call("sessions.search", keys).await), "main");
    for (scope, expected) in [
        (json!({ "includeGlobal": true, "configuredAgentsOnly": true, "agentId": "main" }), "dashboard main"),
        (json!({ "archived": "all" }), "dashboard main old"),
        (json!({ "spawnedBy": PARENT }), "dashboard"),
        (json!({ "excludeSubagents": true, "excludeCron": true, "excludeSystem": true }), "dashboard main"),
        (json!({ "agentId": "ghost" }), ""),
    ] {
        let params = json!({ "query": "crab", "limit": 25, "scope": scope });
        let answer = client.call("sessions.search", params).await;
        assert_eq!(hits(&answer), expected, "{scope}");
        let best: Vec<&Value> =
            answer["results"].as_array().unwrap().iter().map(|hit| &hit["sessionKey"]).collect();
        let rows: Vec<&Value> =
            answer["sessions"].as_array().unwrap().iter().map(|row| &row["key"]).collect();
        assert_eq!(best, rows);
    }
    client.refused("sessions.search", json!({ "query": "  " })).await;
    client.refused("sessions.search", json!({ "query": "x", "scope": { "bogus": 1 } })).await;
}

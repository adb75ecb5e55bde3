//! Sessions that begin anew, go, or are put away.

use super::*;
use ruzstd::decoding::StreamingDecoder;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;

/// The lines of an archive.
fn lines(path: &Value) -> Vec<Value> {
    let path = path.as_str().unwrap();
    assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut text = String::new();
    StreamingDecoder::new(fs::File::open(path).unwrap()).unwrap().read_to_string(&mut text).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// accepts: A12, A17
#[tokio::test]
async fn a_reset_stops_what_runs_and_keeps_what_was_chosen() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    client.call("sessions.subscribe", json!({})).await;
    turn(&mut client, "s", "k0").await;
    client.call("sessions.patch", json!({ "key": "s", "label": "kept", "category": "grp" })).await;
    let before = row(&mut client, "s").await;
    long_turn(&mut client, "s", "k1").await;
    let queued =
        json!({ "sessionKey": "s", "message": "next", "idempotencyKey": "k2", "queueMode": "followup" });
    client.call("chat.send", queued).await;
    let other = json!({ "key": "s", "expectedSessionId": "xx" });
    assert_eq!(
        client.refused("sessions.reset", other).await,
        json!({
            "code": "INVALID_REQUEST", "message": "Session agent:main:s changed before reset. Retry.",
            "details": { "reason": "session-changed" },
        })
    );
    assert_eq!(row(&mut client, "s").await["hasActiveRun"], true, "a refused reset stops nothing");

    let meant = json!({ "key": "s", "expectedSessionId": before["sessionId"] });
    let answer = client.call("sessions.reset", meant).await;
    let end = client.chat_end("k1").await;
    assert_eq!((&end["state"], &end["stopReason"]), (&json!("aborted"), &json!("restart")));
    let entry = &answer["entry"];
    assert_eq!(entry["sessionId"], before["sessionId"]);
    assert_ne!(entry["lifecycleRevision"], entry["sessionId"]);
    for (name, value) in [
        ("label", json!("kept")),
        ("category", json!("grp")),
        ("systemSent", json!(false)),
        ("abortedLastRun", json!(false)),
        ("compactionCount", json!(0)),
        ("inputTokens", json!(0)),
        ("outputTokens", json!(0)),
        ("totalTokens", json!(0)),
        ("totalTokensFresh", json!(true)),
        ("totalTokensVersion", json!(1)),
        ("modelProvider", json!("crabtree")),
    ] {
        assert_eq!(entry[name], value, "{name}");
    }
    assert_eq!((entry.get("status"), &entry["sessionStartedAt"]), (None, &entry["updatedAt"]));
    let told = client.event(|e| e["payload"]["reason"] == "reset").await["payload"].clone();
    assert_eq!((&told["session"]["hasActiveRun"], told["session"].get("status")), (&json!(false), None));
    let rows = history(&mut client, "s").await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!((&rows[0]["role"], &rows[0]["content"][0]["text"]), (&json!("system"), &json!("Reset")));
    let meta = &rows[0]["__openclaw"];
    assert_eq!((&meta["kind"], &meta["seq"]), (&json!("reset"), &json!(1)));
    assert_eq!(row(&mut client, "s").await["unread"], false);

    let gateway = restarted(gateway).await;
    let mut client = Client::admin(gateway.addr).await;
    client.call("sessions.subscribe", json!({})).await;
    assert_eq!(history(&mut client, "s").await, rows);
    turn(&mut client, "s", "k3").await;
    assert_eq!(history(&mut client, "s").await.len(), 3);
    let anew = client.call("sessions.reset", json!({ "key": "s", "reason": "new" })).await;
    assert_ne!(anew["entry"]["lifecycleRevision"], entry["lifecycleRevision"]);
    client.event(|e| e["payload"]["reason"] == "new").await;
    let created = client.call("sessions.reset", json!({ "key": "fresh" })).await;
    assert_eq!(created["entry"]["createdVia"], "operator");
    assert_eq!(history(&mut client, "fresh").await.len(), 1);
    let error = client.refused("sessions.reset", json!({ "key": "agent:ghost:x" })).await;
    assert_eq!(error["message"], "Agent \"ghost\" no longer exists in configuration");
}

/// accepts: A12
#[tokio::test]
async fn a_deleted_session_leaves_an_archive_of_all_it_was() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    client.call("sessions.subscribe", json!({})).await;
    for n in 0..40 {
        // More rows than are read at once.
        let ack = client
            .call(
                "chat.send",
                json!({ "sessionKey": "s", "message": "/help", "idempotencyKey": format!("k{n}") }),
            )
            .await;
        assert_eq!(ack["status"], "started");
    }
    client.call("sessions.reset", json!({ "key": "s" })).await;
    long_turn(&mut client, "s", "long").await;
    let id = row(&mut client, "s").await["sessionId"].clone();
    let error = client.refused("sessions.delete", json!({ "key": "s", "expectedSessionId": "other" })).await;
    assert_eq!(error["message"], "Session agent:main:s changed before deletion. Retry.");
    assert_eq!(row(&mut client, "s").await["hasActiveRun"], true, "a refused deletion stops nothing");

    let answer = client.call("sessions.delete", json!({ "key": "s", "deleteTranscript": true })).await;
    assert_eq!((&answer["ok"], &answer["deleted"]), (&json!(true), &json!(true)));
    let end = client.chat_end("long").await;
    assert_eq!((&end["state"], &end["stopReason"]), (&json!("aborted"), &json!("aborted")));
    let gone = client.event(|e| e["payload"]["reason"] == "delete").await["payload"].clone();
    assert_eq!((&gone["sessionId"], gone.get("session")), (&id, None));
    let archived = answer["archived"].as_array().unwrap();
    assert_eq!(archived.len(), 2, "one for each time it began: {archived:?}");
    let folder = gateway.state.path().join("agents/main/sessions");
    let prefix = format!("{}/{}.jsonl.deleted.", folder.display(), id.as_str().unwrap());
    for path in archived {
        let path = path.as_str().unwrap();
        assert!(path.starts_with(&prefix) && path.ends_with(".zst"), "{path}");
    }
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 2, "no draft is left behind");
    let last = lines(&archived[0]);
    assert_eq!((&last[0]["type"], &last[0]["id"]), (&json!("session"), &id));
    let roles: Vec<_> = last[1..].iter().map(|line| line["message"]["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["system", "user"], "of what was interrupted no answer is kept, as recorded");
    let first = lines(&archived[1]);
    assert_eq!(first.len(), 81);
    for (n, line) in first[1..].iter().enumerate() {
        assert_eq!(line["message"]["__openclaw"]["seq"], n + 1);
    }

    assert_eq!(row(&mut client, "s").await, Value::Null);
    assert_eq!(history(&mut client, "s").await, Vec::<Value>::new());
    let again = client.call("sessions.delete", json!({ "key": "s" })).await;
    assert_eq!(again, json!({ "ok": true, "key": "agent:main:s", "deleted": false, "archived": [] }));
    let gateway = restarted(gateway).await;
    let mut client = Client::admin(gateway.addr).await;
    assert_eq!(row(&mut client, "s").await, Value::Null);
    turn(&mut client, "s", "anew").await;
    assert_eq!(history(&mut client, "s").await.len(), 2);
    assert_ne!(row(&mut client, "s").await["sessionId"], id);
}

/// accepts: A12
#[tokio::test]
async fn what_may_not_go_stays() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    for key in ["main", "s"] {
        turn(&mut client, key, key).await;
    }
    let error = client.refused("sessions.delete", json!({ "key": "main" })).await;
    let message = "Cannot delete the main session (agent:main:main).";
    assert_eq!(error, json!({ "code": "INVALID_REQUEST", "message": message }));
    let only = json!({ "key": "s", "archivedOnly": true });
    assert_eq!(client.refused("sessions.delete", only.clone()).await["code"], "INVALID_REQUEST");
    let known = row(&mut client, "s").await;
    for (name, value) in [("expectedLifecycleRevision", json!("x")), ("expectedSessionUpdatedAt", json!(1))] {
        let error = client.refused("sessions.delete", json!({ "key": "s", name: value })).await;
        assert_eq!(error["details"]["reason"], "session-changed", "{name}");
    }
    // Without an archive nothing goes.
    let folder = gateway.state.path().join("agents/main/sessions");
    fs::create_dir_all(folder.parent().unwrap()).unwrap();
    fs::write(&folder, "in the way").unwrap();
    let error = client.refused("sessions.delete", json!({ "key": "s" })).await;
    let text = error["message"].as_str().unwrap();
    assert!(
        text.starts_with("the session was not deleted, because its archive could not be written"),
        "{text}"
    );
    assert_eq!(row(&mut client, "s").await["sessionId"], known["sessionId"]);
    assert_eq!(history(&mut client, "s").await.len(), 2);
    fs::remove_file(&folder).unwrap();

    let id = known["sessionId"].clone();
    client.call("sessions.patch", json!({ "key": "s", "archived": true, "expectedSessionId": id })).await;
    let mut writer = Client::scoped(gateway.addr, &["operator.read", "operator.write"]).await;
    let error = writer.refused("sessions.delete", json!({ "key": "s" })).await;
    assert_eq!(error["details"]["missingScope"], "operator.admin");
    let meant =
        json!({ "key": "s", "archivedOnly": true, "deleteTranscript": true, "expectedSessionId": id });
    assert_eq!(writer.call("sessions.delete", meant).await["deleted"], true);
}

/// accepts: A12
#[tokio::test]
async fn messages_may_stay_in_the_database() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    turn(&mut client, "s", "k1").await;
    let answer = client.call("sessions.delete", json!({ "key": "s", "deleteTranscript": false })).await;
    assert_eq!((&answer["deleted"], &answer["archived"]), (&json!(true), &json!([])));
    assert_eq!((row(&mut client, "s").await, history(&mut client, "s").await), (Value::Null, vec![]));
    turn(&mut client, "s", "k2").await;
    assert_eq!(history(&mut client, "s").await.len(), 2, "it is another session");
    let answer = client.call("sessions.delete", json!({ "key": "s" })).await;
    let archived = answer["archived"].as_array().unwrap();
    let said: Vec<_> = archived.iter().map(|path| lines(path)[1]["message"]["content"].clone()).collect();
    assert_eq!(said, ["k2", "k1"], "they are archived with what came after them");
}

/// accepts: A9
#[tokio::test]
async fn a_cleanup_tells_what_it_would_do() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    turn(&mut client, "s", "k1").await;
    client.call("sessions.patch", json!({ "key": "agent:main:telegram:direct:1", "icon": "x" })).await;
    let quiet = client.call("sessions.cleanup", json!({})).await;
    for (name, value) in [
        ("agentId", json!("main")),
        ("mode", json!("warn")),
        ("dryRun", json!(true)),
        ("wouldMutate", json!(false)),
        ("beforeCount", json!(2)),
        ("afterCount", json!(2)),
    ] {
        assert_eq!(quiet[name], value, "{name}");
    }
    let kept = json!({ "fixDmScope": true, "activeKey": "agent:main:telegram:direct:1", "enforce": true });
    assert_eq!(client.call("sessions.cleanup", kept).await["wouldMutate"], false);
    let would = client.call("sessions.cleanup", json!({ "fixDmScope": true })).await;
    assert_eq!((&would["dmScopeRetired"], &would["afterCount"]), (&json!(1), &json!(1)));
    assert_ne!(row(&mut client, "agent:main:telegram:direct:1").await, Value::Null);
    let all = client
        .call("sessions.cleanup", json!({ "allAgents": true, "fixDmScope": true, "enforce": true }))
        .await;
    assert_eq!((&all["mode"], &all["dryRun"]), (&json!("enforce"), &json!(false)));
    let done = &all["stores"][0];
    assert_eq!((&done["applied"], &done["appliedCount"]), (&json!(true), &json!(1)));
    assert_eq!(row(&mut client, "agent:main:telegram:direct:1").await, Value::Null);
    let error = client.refused("sessions.cleanup", json!({ "agent": "ghost" })).await;
    assert_eq!(error["message"], "Unknown agent id \"ghost\"");
}

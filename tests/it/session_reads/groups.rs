//! Groups of sessions, as recorded; changed by several at once, and while their sessions are at work.

use super::{dashboard, members, stored};
use crate::client::{Client, TOKEN};
use crate::gateway::Embedded;
use crabtree_actors::settings::{AuthSecret, Secret};
use serde_json::{Value, json};

fn is_groups(event: &Value) -> bool {
    event["event"] == "sessions.changed" && event["payload"]["reason"] == "groups"
}

/// accepts: G2
#[tokio::test]
async fn groups_are_kept_and_changed_as_recorded() {
    let gateway = Embedded::stored(&stored()).await;
    let mut client = Client::admin(gateway.addr).await;
    client.call("sessions.subscribe", json!({})).await;
    let group = |name: &str, position: u64| json!({ "name": name, "position": position });
    let (one, two) = (group("grp1", 0), group("grp2", 1));
    let list = client.call("sessions.groups.list", json!({})).await;
    assert_eq!(list, json!({ "groups": [one, two], "sectionOrder": [] }));
    let put = client.call("sessions.groups.put", json!({ "names": ["grp1", "grp2", "extra"] })).await;
    assert_eq!(put, json!({ "ok": true, "groups": [one, two, group("extra", 2)], "sectionOrder": [] }));
    let told = client.event(is_groups).await["payload"].clone();
    assert_eq!(members(&told), ["reason", "ts"]);
    let error = client.refused("sessions.groups.put", json!({ "names": ["extra"] })).await;
    assert_eq!(
        error["message"],
        "sessions.groups.put cannot drop groups that still have member sessions: \"grp1\" (1), \"grp2\" (1); \
         include them in names or remove them via sessions.groups.delete"
    );
    let renamed = client.call("sessions.groups.rename", json!({ "name": "extra", "to": "extra2" })).await;
    let extra = group("extra2", 2);
    assert_eq!(
        renamed,
        json!({ "ok": true, "groups": [one, two, extra], "sectionOrder": [], "updatedSessions": 0 })
    );
    let update = json!({ "name": "extra2", "cwd": null, "worktree": false });
    let defaults = json!([{ "name": "grp1" }, { "name": "grp2" }, { "name": "extra2", "worktree": false }]);
    assert_eq!(
        client.call("sessions.groups.update", update).await,
        json!({ "ok": true, "defaults": defaults })
    );
    let error = client.refused("sessions.groups.defaults", json!({ "name": "extra2" })).await;
    assert_eq!(
        error["message"],
        "invalid sessions.groups.defaults params: at root: unexpected property 'name'"
    );
    let deleted = client.call("sessions.groups.delete", json!({ "name": "grp2" })).await;
    assert_eq!(
        deleted,
        json!({ "ok": true, "groups": [one, extra], "sectionOrder": [], "updatedSessions": 1 })
    );
    let list = client.call("sessions.groups.list", json!({})).await;
    assert_eq!(list, json!({ "groups": [one, extra], "sectionOrder": [] }));
    let old = client.call("sessions.describe", json!({ "key": "old" })).await;
    assert_eq!(old["session"].get("category"), None);

    for (method, params) in [
        ("sessions.groups.rename", json!({ "name": "nobody", "to": "x" })),
        ("sessions.groups.rename", json!({ "name": "grp1", "to": " " })),
        ("sessions.groups.update", json!({ "name": "nobody", "cwd": null, "worktree": true })),
        ("sessions.groups.update", json!({ "name": "grp1", "cwd": "relative", "worktree": true })),
    ] {
        assert_eq!(client.refused(method, params).await["code"], "INVALID_REQUEST");
    }
    // Whoever may not administer names directories within workspaces only.
    let mut writer = Client::scoped(gateway.addr, &["operator.write"]).await;
    let outside = json!({ "name": "grp1", "cwd": "/etc", "worktree": false });
    assert_eq!(
        writer.refused("sessions.groups.update", outside).await["message"],
        "missing scope: operator.admin"
    );
    let workspace = gateway.state.path().join("workspace/sub");
    let inside = json!({ "name": "grp1", "cwd": workspace, "worktree": true });
    assert_eq!(writer.call("sessions.groups.update", inside).await["defaults"][0]["cwd"], json!(workspace));
}

/// accepts: G2
#[tokio::test]
async fn a_session_at_work_learns_that_its_group_has_another_name() {
    let gateway = Embedded::stored(&stored()).await;
    let mut client = Client::admin(gateway.addr).await;
    client.call("sessions.subscribe", json!({})).await;
    let turn = |key: &str| json!({ "sessionKey": dashboard(), "message": "hello", "idempotencyKey": key });
    client.call("chat.send", turn("k1")).await;
    client.chat_end("k1").await;
    let renamed = client.call("sessions.groups.rename", json!({ "name": "grp1", "to": "other" })).await;
    assert_eq!((&renamed["updatedSessions"], &renamed["groups"][0]["name"]), (&json!(1), &json!("other")));
    client.call("chat.send", turn("k2")).await;
    let changed = client
        .event(|e| {
            e["event"] == "sessions.changed"
                && e["payload"]["runId"] == "k2"
                && e["payload"]["phase"] == "end"
        })
        .await;
    assert_eq!(changed["payload"]["session"]["category"], "other");
}

/// accepts: G2
#[tokio::test]
async fn changes_of_groups_at_the_same_time_are_all_kept() {
    let gateway = Embedded::start().await;
    let mut first = Client::admin(gateway.addr).await;
    let names: Vec<String> = (0..8).map(|n| format!("g{n}")).collect();
    first.call("sessions.groups.put", json!({ "names": names })).await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(Client::admin(gateway.addr).await);
    }
    let mut ids = Vec::new();
    for (n, client) in clients.iter_mut().enumerate() {
        let rename = json!({ "name": format!("g{n}"), "to": format!("new{n}") });
        ids.push(client.send("sessions.groups.rename", rename).await);
    }
    for (client, id) in clients.iter_mut().zip(&ids) {
        assert_eq!(client.response(id).await["ok"], true);
    }
    let list = first.call("sessions.groups.list", json!({})).await;
    let found: Vec<_> =
        list["groups"].as_array().unwrap().iter().map(|g| g["name"].as_str().unwrap()).collect();
    assert_eq!(found, (0..8).map(|n| format!("new{n}")).collect::<Vec<_>>());
    let again = gateway.restarted(AuthSecret::Token(Secret::new(TOKEN))).await;
    let mut client = Client::admin(again.addr).await;
    assert_eq!(client.call("sessions.groups.list", json!({})).await, list);
}

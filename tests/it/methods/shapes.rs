//! What is advertised is answered, in the declared shape.

use crate::client::{Client, Intro};
use crate::fakes::platform::Platform;
use crate::gateway::Embedded;
use crabtree_protocol::Method;
use crabtree_protocol::method::MethodRole;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

/// Parameters every method takes after a first turn in the main session, whose run was `k1`, and whose rows these
/// are; the path is that of a skill; and after a plugin has asked for something.
fn examples(asked: &str, answered: &str, skill: &Path, plugin: &str) -> Vec<(&'static str, Value)> {
    let actor = json!({ "path": "gateway/presence" });
    vec![
        ("sessions.fork", json!({ "sessionKey": "main", "entryId": asked })),
        ("sessions.rewind", json!({ "sessionKey": "main", "entryId": asked })),
        ("sessions.branches.list", json!({ "sessionKey": "main" })),
        ("sessions.branches.switch", json!({ "sessionKey": "main", "leafEntryId": answered })),
        ("health", json!({ "probe": true })),
        ("status", json!({ "includeChannelSummary": false })),
        ("system-presence", json!({})),
        ("system-event", json!({ "text": "a window was opened" })),
        ("system.info", json!({})),
        ("diagnostics.lanes", json!({})),
        ("diagnostics.stability", json!({ "limit": 5 })),
        ("gateway.restart.preflight", json!({})),
        ("gateway.suspend.status", json!({ "suspensionId": "none" })),
        ("gateway.suspend.resume", json!({ "suspensionId": "none" })),
        ("system.store", json!({})),
        ("system.backup", json!({})),
        ("users.list", json!({})),
        ("update.status", json!({ "refreshCheckout": true })),
        ("audit.list", json!({ "kind": "agent_run", "limit": 5 })),
        ("audit.activity.list", json!({ "method": "system." })),
        ("audit.verify", json!({})),
        ("system.actors", json!({})),
        ("system.actors", json!({ "path": "gateway/sessions", "depth": 0, "limit": 1 })),
        ("system.actors.restart", actor.clone()),
        ("system.actors.park", actor.clone()),
        ("system.actors.resume", actor),
        ("system.chaos", json!({ "path": "gateway/presence", "fault": "slow", "ms": 1 })),
        ("hooks.status", json!({ "agentId": "main" })),
        ("last-heartbeat", json!({})),
        ("set-heartbeats", json!({ "enabled": true })),
        ("wake", json!({ "mode": "next-heartbeat", "text": "later" })),
        ("agent.identity.get", json!({ "agentId": "main" })),
        ("agents.files.set", json!({ "agentId": "main", "name": "USER.md", "content": "# user" })),
        ("agents.files.list", json!({ "agentId": "main" })),
        ("agents.files.get", json!({ "agentId": "main", "name": "USER.md" })),
        ("agents.create", json!({ "name": "Helper", "model": "crabtree/offline", "emoji": "🦀" })),
        ("agents.list", json!({})),
        ("agents.update", json!({ "agentId": "helper", "model": null, "avatar": "crab.png" })),
        ("agents.delete", json!({ "agentId": "helper", "deleteFiles": true })),
        ("models.list", json!({ "view": "configured", "refresh": true })),
        ("models.authStatus", json!({ "agentId": "main" })),
        ("models.probe", json!({ "provider": "crabtree", "timeoutMs": 5000 })),
        ("skills.install", json!({ "source": "path", "path": skill })),
        ("skills.status", json!({ "agentId": "main" })),
        ("commands.list", json!({ "scope": "both" })),
        ("tools.catalog", json!({ "agentId": "main", "includePlugins": true })),
        ("tools.effective", json!({ "sessionKey": "main" })),
        ("tools.invoke", json!({ "name": "session_status", "args": {} })),
        ("plugin.surface.refresh", json!({ "surface": "canvas" })),
        ("agent", json!({ "message": "hello", "sessionKey": "main", "idempotencyKey": "k1" })),
        ("agent.wait", json!({ "runId": "k1", "timeoutMs": 1 })),
        ("agent.wait", json!({ "runId": "unknown", "timeoutMs": 1 })),
        ("chat.startup", json!({ "sessionKey": "main", "limit": 80, "maxBytes": 262_144 })),
        ("chat.history", json!({ "sessionKey": "main", "limit": 1 })),
        ("chat.history", json!({ "sessionKey": "unknown" })),
        ("chat.send", json!({ "sessionKey": "main", "message": "hello", "idempotencyKey": "k2" })),
        ("chat.send", json!({ "sessionKey": "main", "message": "/stop", "idempotencyKey": "k3" })),
        ("chat.abort", json!({ "sessionKey": "main" })),
        ("chat.metadata", json!({})),
        ("sessions.list", json!({ "includeDerivedTitles": true, "includeLastMessage": true })),
        ("sessions.describe", json!({ "key": "main" })),
        ("sessions.describe", json!({ "key": "unknown" })),
        ("sessions.subscribe", json!({})),
        ("sessions.subscribe", json!({ "limit": 2 })),
        ("sessions.messages.subscribe", json!({ "key": "main" })),
        ("sessions.messages.unsubscribe", json!({ "key": "main" })),
        ("sessions.get", json!({ "key": "main", "limit": 20 })),
        ("sessions.compact", json!({ "key": "main", "maxLines": 1 })),
        ("sessions.compact", json!({ "key": "main" })),
        ("chat.inject", json!({ "sessionKey": "main", "message": "a note", "label": "probe" })),
        ("session.typing", json!({ "sessionKey": "main", "sessionId": "another", "typing": true })),
        ("sessions.viewers.set", json!({ "sessionKeys": ["main"] })),
        ("chat.startup", json!({ "sessionKey": "main", "inputRunIds": ["k1", "k2", "nobody"] })),
        ("chat.history", json!({ "sessionKey": "main", "cursor": "of another time" })),
        ("chat.message.get", json!({ "sessionKey": "main", "messageId": "unknown" })),
        ("sessions.preview", json!({ "keys": ["main", "unknown"], "limit": 3, "maxChars": 20 })),
        ("sessions.resolve", json!({ "key": "main" })),
        ("sessions.resolve", json!({ "shortId": "00000000", "allowMissing": true })),
        ("sessions.search", json!({ "query": "hello" })),
        ("sessions.search", json!({ "query": "hello", "limit": 25, "scope": { "excludeCron": true } })),
        ("sessions.groups.put", json!({ "names": ["one", "two"], "sectionOrder": ["work", "category:two"] })),
        ("sessions.groups.rename", json!({ "name": "one", "to": "three" })),
        ("sessions.groups.update", json!({ "name": "three", "cwd": "/srv", "worktree": true })),
        ("sessions.groups.delete", json!({ "name": "two" })),
        ("sessions.groups.list", json!({})),
        ("sessions.groups.defaults", json!({})),
        ("sessions.usage", json!({})),
        ("sessions.usage", json!({ "key": "main", "groupBy": "family", "range": "7d", "limit": 5 })),
        ("sessions.usage.logs", json!({ "key": "main" })),
        ("sessions.usage.timeseries", json!({ "key": "main" })),
        ("sessions.observer.visibility", json!({ "visible": true })),
        ("sessions.create", json!({ "key": "side", "label": "side", "model": "crabtree/offline" })),
        ("sessions.create", json!({ "agentId": "main", "message": "hello", "idempotencyKey": "k4" })),
        ("sessions.send", json!({ "key": "side", "message": "hello", "idempotencyKey": "k5" })),
        ("sessions.steer", json!({ "key": "side", "message": "hello" })),
        ("sessions.abort", json!({ "key": "side" })),
        ("sessions.patch", json!({ "key": "side", "pinned": true, "category": "grp", "unread": true })),
        ("sessions.patchMany", json!({ "targets": [{ "key": "side" }], "patch": { "icon": "x" } })),
        ("sessions.list", json!({})),
        ("sessions.reset", json!({ "key": "side", "reason": "new" })),
        ("sessions.delete", json!({ "key": "side", "deleteTranscript": true })),
        ("sessions.cleanup", json!({ "allAgents": true, "fixMissing": true })),
        ("sessions.cleanup", json!({ "enforce": true })),
        ("usage.status", json!({})),
        ("exec.approval.request", json!({ "command": "ls", "timeoutMs": 1 })),
        (
            "exec.approval.request",
            json!({ "id": "appr-1", "command": "ls", "twoPhase": true, "requireDeliveryRoute": false }),
        ),
        ("exec.approval.get", json!({ "id": "appr" })),
        ("exec.approval.list", json!({})),
        ("approval.get", json!({ "id": "appr-1" })),
        ("exec.approval.resolve", json!({ "id": "appr-1", "decision": "allow-once" })),
        ("exec.approval.waitDecision", json!({ "id": "appr-1" })),
        ("approval.resolve", json!({ "id": "appr-1", "kind": "exec", "decision": "deny" })),
        ("plugin.approval.request", json!({ "title": "x", "description": "y", "timeoutMs": 1 })),
        ("plugin.approval.list", json!({})),
        ("plugin.approval.resolve", json!({ "id": plugin, "decision": "deny" })),
        ("plugin.approval.waitDecision", json!({ "id": plugin })),
        ("approval.history", json!({ "limit": 1 })),
        ("exec.approval.grants.list", json!({})),
        ("exec.approval.grants.revoke", json!({ "grantId": "x" })),
        ("exec.approvals.get", json!({})),
        ("exec.approvals.set", json!({ "file": { "version": 1, "defaults": { "ask": "on-miss" } } })),
        (
            "question.request",
            json!({ "id": "q", "questions": [{ "questionId": "q1", "header": "P", "question": "W?", "options": [] }] }),
        ),
        ("question.list", json!({})),
        ("question.waitAnswer", json!({ "id": "q", "timeoutMs": 1 })),
        ("question.resolve", json!({ "id": "q", "answers": { "answers": { "q1": ["A"] } } })),
        ("question.get", json!({ "id": "q" })),
        ("node.list", json!({})),
        ("node.pair.list", json!({})),
        ("environments.list", json!({ "includeDesktopSetup": true })),
        ("environments.status", json!({ "environmentId": "gateway" })),
        ("voicewake.set", json!({ "triggers": [" hey crab "] })),
        ("voicewake.get", json!({})),
        ("voicewake.routing.get", json!({})),
        ("usage.cost", json!({ "days": 7 })),
        ("config.get", json!({})),
        ("config.schema", json!({})),
        ("config.schema.lookup", json!({ "path": "gateway" })),
        ("secrets.store.set", json!({ "name": "A_KEY", "value": "of shapes", "kind": "secret" })),
        ("secrets.store.set", json!({ "name": "A_MODE", "value": "", "kind": "env" })),
        ("secrets.store.list", json!({})),
        ("secrets.store.delete", json!({ "name": "A_KEY" })),
        ("secrets.reload", json!({})),
        ("secrets.resolve", json!({ "commandName": "shapes", "targetIds": ["gateway.auth.token"] })),
        ("logs.tail", json!({ "limit": 10 })),
    ]
}

/// Objects hold what is declared and nothing else.
fn strict(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if members.contains_key("properties") && !members.contains_key("additionalProperties") {
                members.insert("additionalProperties".into(), json!(false));
            }
            members.values_mut().for_each(strict);
        }
        Value::Array(items) => items.iter_mut().for_each(strict),
        _ => {}
    }
}

/// The same of a channel at which two people ask to be let in.
async fn channels(client: &mut Client, platform: &Platform) -> Vec<(&'static str, Value)> {
    for who in ["ann", "eve"] {
        platform.says(who, who, "let me in");
        platform.answers_in(who, 1).await;
    }
    let list = client.call("channels.pairing.list", json!({})).await;
    let of = |at: usize| json!({ "channel": "loopback", "accountId": "default", "requestId": list["requests"][at]["requestId"] });
    let message = json!({ "to": "ann", "message": "hello", "idempotencyKey": "send-1" });
    let account = json!({ "channel": "loopback" });
    vec![
        ("channels.pairing.list", json!({ "channel": "loopback" })),
        ("channels.pairing.approve", of(0)),
        ("channels.pairing.dismiss", of(1)),
        ("channels.status", json!({ "probe": false, "timeoutMs": 1000 })),
        ("channels.presence", json!({})),
        ("send", message),
        (
            "message.action",
            json!({ "channel": "loopback", "action": "send", "params": { "to": "ann", "message": "hi" }, "idempotencyKey": "a1" }),
        ),
        ("conversations.list", json!({ "agentId": "main" })),
        ("channels.stop", account.clone()),
        ("channels.start", account),
    ]
}

/// The same of a job with a schedule.
async fn automations(client: &mut Client) -> Vec<(&'static str, Value)> {
    let job = json!({
        "name": "a", "schedule": { "kind": "every", "everyMs": 3_600_000 }, "sessionTarget": "isolated",
        "wakeMode": "now", "payload": { "kind": "agentTurn", "message": "hello" }, "delivery": { "mode": "none" },
    });
    let added = client.call("cron.add", job.clone()).await;
    let task = client.call("cron.run", json!({ "id": added["id"] })).await["runId"].clone();
    let task = json!({ "taskId": task });
    let of = json!({ "id": added["id"] });
    let with = |name: &str, value: Value| {
        let mut params = of.clone();
        params[name] = value;
        params
    };
    vec![
        ("cron.add", job),
        ("cron.status", json!({})),
        ("cron.list", json!({ "includeDisabled": true, "compact": true })),
        ("cron.get", of.clone()),
        (
            "cron.update",
            with("patch", json!({ "name": "b", "payload": { "kind": "agentTurn", "timeoutSeconds": 5 } })),
        ),
        ("cron.run", with("mode", json!("force"))),
        ("cron.run", with("mode", json!("due"))),
        ("cron.runs", with("limit", json!(5))),
        ("cron.scratch.set", with("content", json!("note"))),
        ("cron.scratch.set", json!({ "id": added["id"], "content": null, "expectedRevision": 7 })),
        ("cron.scratch.get", of.clone()),
        ("tasks.list", json!({ "status": ["queued", "running"], "limit": 500, "agentId": "main" })),
        ("tasks.get", task.clone()),
        ("tasks.cancel", task),
        ("cron.remove", of),
    ]
}

/// What is answered about a terminal.
async fn about_terminals(client: &mut Client) -> Vec<(&'static str, Value)> {
    let opened = client.response_to("terminal.open", json!({ "cols": 80, "rows": 24 })).await;
    let id = &opened["payload"]["sessionId"];
    let mut answers = vec![];
    for (method, params) in [
        ("terminal.list", json!({})),
        ("terminal.input", json!({ "sessionId": id, "data": "true\n" })),
        ("terminal.resize", json!({ "sessionId": id, "cols": 100, "rows": 30 })),
        ("terminal.attach", json!({ "sessionId": id })),
        ("terminal.close", json!({ "sessionId": id })),
    ] {
        answers.push((method, client.response_to(method, params).await));
    }
    answers.push(("terminal.open", opened));
    answers
}

/// accepts: C5, C6, G2, G3
#[tokio::test]
async fn what_is_advertised_is_the_table() {
    for (config, chaos) in
        [(json!({}), false), (json!({ "gateway": { "chaos": { "enabled": true } } }), true)]
    {
        let gateway = Embedded::with(config).await;
        let client = Client::admin(gateway.addr).await;
        let table: Vec<&str> = Method::advertised_names(chaos).collect();
        assert_eq!(client.hello["features"]["methods"], json!(table));
        let events: Vec<&str> = crabtree_protocol::Event::advertised_names().collect();
        assert_eq!(client.hello["features"]["events"], json!(events));
        let once: BTreeSet<&str> = table.iter().copied().collect();
        assert_eq!((once.len(), once.contains("system.chaos")), (table.len(), chaos));
    }
}

/// What is answered about devices: one that wants to write, and one that is a node.
async fn about_devices(admin: &mut Client, addr: SocketAddr) -> Vec<(&'static str, Value)> {
    let reads = Intro { scopes: vec!["operator.read"], device: Some([61; 32]), ..Intro::default() };
    let mut device = Client::connect(addr, &reads).await.unwrap();
    let (id, mode, role) = ("node-host", "node", "node");
    let greedy = Intro { id, mode, role, device: Some([62; 32]), ..reads };
    let refused = Client::connect(addr, &greedy).await.err().unwrap();
    let mut answers = vec![];
    let mut one = async |client: &mut Client, method, params: Value| {
        let answer = client.response_to(method, params).await;
        answers.push((method, answer.clone()));
        answer["payload"].clone()
    };
    let scopes = json!({ "scopes": ["operator.read", "operator.write"] });
    let request = one(&mut device, "device.scopes.requestUpgrade", scopes).await;
    one(admin, "device.pair.list", json!({})).await;
    let paired = one(admin, "device.pair.approve", request.clone()).await;
    one(&mut device, "device.scopes.waitUpgrade", request).await;
    let request = json!({ "requestId": refused["details"]["requestId"] });
    one(admin, "device.pair.reject", request).await;
    let id = &paired["device"]["deviceId"];
    let token = json!({ "deviceId": id, "role": "operator" });
    one(admin, "device.pair.rename", json!({ "deviceId": id, "label": "Mine" })).await;
    one(admin, "device.token.rotate", token.clone()).await;
    one(admin, "device.token.revoke", token).await;
    one(admin, "device.pair.list", json!({})).await;
    one(admin, "device.pair.remove", json!({ "deviceId": id })).await;
    let url = json!({ "publicUrl": "wss://home.example" });
    let setup = one(admin, "device.pair.setupCode", url).await;
    one(admin, "device.pair.setupStatus", json!({ "setupId": setup["setupId"] })).await;
    answers
}

/// Every method of the table is answered, and every answer has the declared shape.
/// accepts: B11, G4
#[tokio::test]
async fn every_answer_has_the_declared_shape() {
    let platform = Platform::start();
    let section = platform.section(json!({ "dmPolicy": "pairing" }));
    let chaos = json!({ "chaos": { "enabled": true } });
    let gateway = Embedded::with(json!({ "gateway": chaos, "channels": { "loopback": section } })).await;
    let mut client = Client::admin(gateway.addr).await;
    let turn = json!({ "message": "hello", "sessionKey": "main", "idempotencyKey": "k1" });
    let id = client.send("agent", turn).await;
    let mut answers = vec![("agent", client.response(&id).await), ("agent", client.response(&id).await)];
    let history = client.call("chat.history", json!({ "sessionKey": "main" })).await;
    let [asked, answered] = [0, 1].map(|at| history["messages"][at]["__openclaw"]["id"].as_str().unwrap());
    let skill = gateway.state.path().join("a-skill");
    std::fs::create_dir(&skill).unwrap();
    std::fs::write(skill.join("SKILL.md"), "---\nname: a\ndescription: b\n---\n").unwrap();
    let reviewer = Intro { caps: vec!["approvals"], ..Intro::default() };
    let _reviewer = Client::connect(gateway.addr, &reviewer).await.unwrap();
    let wish = json!({ "title": "Do thing", "description": "desc", "twoPhase": true });
    let plugin = client.call("plugin.approval.request", wish).await["id"].as_str().unwrap().to_owned();
    for (method, params) in examples(asked, answered, &skill, &plugin) {
        let answer = client.response_to(method, params).await;
        answers.push((method, answer));
    }
    for (method, params) in automations(&mut client).await {
        let answer = client.response_to(method, params).await;
        answers.push((method, answer));
    }
    for (method, params) in channels(&mut client, &platform).await {
        let answer = client.response_to(method, params).await;
        answers.push((method, answer));
    }
    for method in ["config.set", "config.apply", "config.patch"] {
        let config = client.call("config.get", json!({})).await;
        let raw = if method == "config.patch" {
            json!("{session: {mainKey: 'main'}}")
        } else {
            config["raw"].clone()
        };
        let answer = client.response_to(method, json!({ "raw": raw, "baseHash": config["hash"] })).await;
        answers.push((method, answer));
    }
    answers.extend(about_devices(&mut client, gateway.addr).await);
    answers.extend(about_terminals(&mut client).await);
    let mut complaints = vec![];
    let mut seen = BTreeSet::new();
    for (name, answer) in &answers {
        seen.insert(*name);
        if answer["ok"] != true {
            complaints.push(format!("{name}: {answer}"));
            continue;
        }
        let mut schema = Method::from_name(name).unwrap().schemas().1;
        strict(&mut schema);
        let validator = jsonschema::validator_for(&schema).unwrap();
        for error in validator.iter_errors(&answer["payload"]) {
            complaints.push(format!("{name} {}: {error}", error.instance_path()).chars().take(400).collect());
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    // One opens a connection, one a window where there is a desktop (`config::older`), some are refused here (those of channels: `channel_methods`), and some need a node: `nodes`
    // beside this.
    let refused = [
        "connect",
        "config.openFile",
        "users.self",
        "web.login.start",
        "web.login.wait",
        "poll",
        "channels.logout",
        "conversations.send",
        "gateway.restart.request",
        "gateway.suspend.prepare",
    ];
    let of_nodes = [
        "node.describe",
        "node.rename",
        "node.invoke",
        "node.pair.approve",
        "node.pair.reject",
        "node.pair.remove",
        "node.pending.enqueue",
        "exec.approvals.node.get",
        "exec.approvals.node.set",
    ];
    let for_nodes = |name: &str| Method::from_name(name).is_some_and(|m| m.role() == MethodRole::Node);
    let other = |name: &&str| !refused.contains(name) && !of_nodes.contains(name) && !for_nodes(name);
    let table: BTreeSet<&str> = Method::ALL.iter().map(|m| m.name()).filter(other).collect();
    assert_eq!(seen, table, "a method has no example above");
}

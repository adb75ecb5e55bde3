//! What agents do at nodes: commands that they run there, and the tools and skills that nodes offer them.

use super::fake::{Fake, Kind};
use super::{approve, event};
use crate::client::{Client, Intro};
use crate::gateway::Embedded;
use crate::providers::server::{Dialect, Provider, Reply};
use crate::providers::settings;
use serde_json::{Value, json};

const HOST: &str = "system.run system.run.prepare system.which system.execApprovals.get mcp.tools.call.v1";

/// A gateway with these settings, who decides there, and a node that may run commands.
async fn with_host(settings: Value) -> (Embedded, Client, Fake) {
    let gateway = Embedded::with(settings).await;
    let intro = Intro { caps: vec!["approvals"], ..Intro::default() };
    let mut operator = Client::connect(gateway.addr, &intro).await.unwrap();
    let mut node = Fake::connect(gateway.addr, &Kind::linux(HOST)).await;
    node.settled().await;
    approve(&mut operator, &node).await;
    (gateway, operator, node)
}

fn exec(settings: Value) -> Value {
    json!({ "tools": { "exec": settings }, "gateway": { "chaos": { "enabled": true } } })
}

/// Has the built-in model call a tool.
async fn start(operator: &mut Client, tool: &str, args: Value, run: &str) {
    let message = format!("/tool {tool} {args}");
    let said = json!({ "sessionKey": "main", "message": message, "idempotencyKey": run });
    operator.call("chat.send", said).await;
}

/// What the last tool came to, when the turn has ended.
async fn result(operator: &mut Client, run: &str) -> Value {
    operator.chat_end(run).await;
    let page = operator.call("chat.history", json!({ "sessionKey": "main", "limit": 50 })).await;
    page["messages"].as_array().unwrap().iter().rfind(|row| row["role"] == "toolResult").unwrap().clone()
}

fn text(result: &Value) -> &str {
    result["content"][0]["text"].as_str().unwrap()
}

/// What a node is asked to do, with its parameters read.
async fn asked(node: &mut Fake, command: &str) -> (Value, Value) {
    let asked = node.asked().await;
    assert_eq!(asked["command"], command, "{asked}");
    (asked["id"].clone(), serde_json::from_str(asked["paramsJSON"].as_str().unwrap()).unwrap())
}

/// The plan of a node for what it is asked, with this policy of its own; what it was asked.
async fn plans(node: &mut Fake, security: &str, ask: &str) -> Value {
    let (id, params) = asked(node, "system.run.prepare").await;
    let plan = json!({
        "argv": params["command"], "cwd": "/w", "commandText": params["rawCommand"], "commandPreview": null,
        "agentId": params["agentId"], "sessionKey": params["sessionKey"],
    });
    let coverage = json!({ "complete": true, "patterns": [{ "pattern": "/usr/bin/uname" }] });
    let policy = json!({ "security": security, "ask": ask });
    let payload = json!({ "plan": plan, "execPolicy": policy, "allowAlwaysCoverage": coverage });
    node.answer(&id, json!({ "ok": true, "payloadJSON": payload.to_string() })).await;
    params
}

async fn ends(node: &mut Fake, id: &Value, stdout: &str) {
    let payload = json!({
        "exitCode": 0, "timedOut": false, "success": true, "stdout": stdout, "stderr": "", "error": null,
    });
    node.answer(id, json!({ "ok": true, "payloadJSON": payload.to_string() })).await;
}

fn at_node() -> Value {
    json!({ "command": "uname -s", "host": "node", "node": "box" })
}

/// accepts: F4
#[tokio::test]
async fn a_command_runs_at_the_node_that_is_named() {
    let (gateway, mut operator, mut node) = with_host(exec(json!({}))).await;
    start(
        &mut operator,
        "exec",
        json!({ "command": "uname -s", "node": "box", "workdir": "/w", "timeout": 9 }),
        "k1",
    )
    .await;
    let shell = json!(["/bin/sh", "-lc", "uname -s"]);
    let planned = plans(&mut node, "full", "off").await;
    assert_eq!((&planned["command"], &planned["rawCommand"]), (&shell, &json!("uname -s")));
    let (id, sent) = asked(&mut node, "system.run").await;
    assert_eq!((&sent["command"], &sent["cwd"], &sent["timeoutMs"]), (&shell, &json!("/w"), &json!(9_000)));
    assert_eq!((&sent["agentId"], &sent["sessionKey"]), (&json!("main"), &json!("agent:main:main")));
    assert!(sent["runId"].is_string() && sent.get("approved").is_none(), "{sent}");
    // Its end is the result: the agent does not hear it twice.
    let finished = json!({ "runId": sent["runId"], "command": "uname", "exitCode": 0 });
    let told = json!({ "event": "exec.finished", "payload": finished });
    assert_eq!(node.client.call("node.event", told).await["reason"], "unmatched_exec_event");
    ends(&mut node, &id, "Linux\n").await;
    let done = result(&mut operator, "k1").await;
    assert_eq!(text(&done), format!("Node: {}\nLinux", node.id));
    assert!(!gateway.state.path().join("workspace").exists(), "nothing ran here");
    for (args, said) in [
        (json!({ "command": "ls", "node": "nobody" }), "There is no node nobody"),
        (json!({ "command": "ls", "host": "sandbox" }), "there is no sandbox here"),
    ] {
        start(&mut operator, "exec", args, said).await;
        let refused = result(&mut operator, said).await;
        assert!(text(&refused).contains(said), "{refused}");
    }
    // A call that is ended is ended at the node.
    start(&mut operator, "exec", at_node(), "k2").await;
    plans(&mut node, "full", "off").await;
    let (id, _) = asked(&mut node, "system.run").await;
    operator.call("chat.abort", json!({ "sessionKey": "main", "runId": "k2" })).await;
    assert_eq!(node.told("node.invoke.cancel").await["invokeId"], id);
}

/// accepts: E9, F4
#[tokio::test]
async fn people_agree_to_the_plan_of_the_node_and_it_is_sent_that_once() {
    let (_gateway, mut operator, mut node) = with_host(exec(json!({ "ask": "always" }))).await;
    start(&mut operator, "exec", at_node(), "k1").await;
    plans(&mut node, "full", "off").await;
    let question = operator.event(|e| e["event"] == "exec.approval.requested").await["payload"].clone();
    let request = &question["request"];
    assert_eq!((&request["host"], &request["nodeId"]), (&json!("node"), &json!(node.id)));
    assert_eq!((&request["command"], &request["cwd"]), (&json!("uname -s"), &json!("/w")));
    assert_eq!(request["systemRunPlan"]["argv"], json!(["/bin/sh", "-lc", "uname -s"]));
    node.settled().await;
    assert!(!node.client.events.iter().any(|e| e["event"] == "node.invoke.request"), "it waits");
    operator.call("exec.approval.resolve", json!({ "id": question["id"], "decision": "allow-once" })).await;
    let (id, sent) = asked(&mut node, "system.run").await;
    assert_eq!((&sent["approved"], &sent["approvalDecision"]), (&json!(true), &json!("allow-once")));
    assert_eq!((&sent["runId"], &sent["systemRunPlan"]), (&question["id"], &request["systemRunPlan"]));
    assert_eq!((&sent["command"], &sent["cwd"]), (&request["systemRunPlan"]["argv"], &json!("/w")));
    ends(&mut node, &id, "Linux").await;
    assert_eq!(text(&result(&mut operator, "k1").await), format!("Node: {}\nLinux", node.id));

    operator.events.clear();
    start(&mut operator, "exec", at_node(), "k2").await;
    plans(&mut node, "full", "off").await;
    let question = operator.event(|e| e["event"] == "exec.approval.requested").await["payload"].clone();
    operator.call("exec.approval.resolve", json!({ "id": question["id"], "decision": "deny" })).await;
    assert!(text(&result(&mut operator, "k2").await).starts_with("Denied: a person"));
    node.settled().await;
    assert!(!node.client.events.iter().any(|e| e["event"] == "node.invoke.request"), "it does not run");
}

#[tokio::test]
async fn the_stricter_policy_counts_and_the_list_is_that_of_the_node() {
    let (_gateway, mut operator, mut node) = with_host(exec(json!({}))).await;
    // What the node's own list has runs; nobody is asked.
    start(&mut operator, "exec", at_node(), "k1").await;
    plans(&mut node, "allowlist", "on-miss").await;
    let (id, _) = asked(&mut node, "system.execApprovals.get").await;
    let rules = |pattern: &str| {
        let agents = json!({ "*": { "allowlist": [{ "pattern": pattern }] } });
        json!({ "ok": true, "payload": { "hash": "h", "file": { "version": 1, "agents": agents } } })
    };
    node.answer(&id, rules("/usr/bin/uname")).await;
    let (id, sent) = asked(&mut node, "system.run").await;
    assert!(sent.get("approved").is_none());
    ends(&mut node, &id, "Linux").await;
    result(&mut operator, "k1").await;
    assert!(!operator.events.iter().any(|e| e["event"] == "exec.approval.requested"));
    // What it has not is asked about.
    start(&mut operator, "exec", at_node(), "k2").await;
    plans(&mut node, "allowlist", "on-miss").await;
    let (id, _) = asked(&mut node, "system.execApprovals.get").await;
    node.answer(&id, rules("/usr/bin/ls")).await;
    let question = operator.event(|e| e["event"] == "exec.approval.requested").await["payload"].clone();
    assert_eq!(question["request"]["security"], "allowlist");
    operator.call("exec.approval.resolve", json!({ "id": question["id"], "decision": "allow-always" })).await;
    let (id, sent) = asked(&mut node, "system.run").await;
    assert_eq!(sent["approvalDecision"], "allow-always");
    ends(&mut node, &id, "Linux").await;
    result(&mut operator, "k2").await;
    // A node that runs nothing is not asked to.
    start(&mut operator, "exec", at_node(), "k3").await;
    plans(&mut node, "deny", "off").await;
    assert!(text(&result(&mut operator, "k3").await).contains("exec security is \"deny\""));
}

#[tokio::test]
async fn what_the_gateway_forbids_does_not_run_at_a_node_either() {
    let (_gateway, mut operator, mut node) =
        with_host(exec(json!({ "security": "deny", "host": "node" }))).await;
    start(&mut operator, "exec", json!({ "command": "ls" }), "k1").await;
    assert!(text(&result(&mut operator, "k1").await).contains("exec security is \"deny\""));
    node.settled().await;
    assert!(
        !node.client.events.iter().any(|e| e["event"] == "node.invoke.request"),
        "it was not asked at all"
    );
}

/// The stock host plans no scripts that it cannot bind to what people saw.
#[tokio::test]
async fn what_a_node_cannot_plan_runs_only_where_nobody_has_to_agree() {
    let unbound = json!({ "code": "INVALID_REQUEST", "message": "SYSTEM_RUN_DENIED: cannot safely bind" });
    let (_gateway, mut operator, mut node) = with_host(exec(json!({}))).await;
    start(&mut operator, "exec", at_node(), "k1").await;
    let (id, _) = asked(&mut node, "system.run.prepare").await;
    node.answer(&id, json!({ "ok": false, "error": unbound })).await;
    let (id, sent) = asked(&mut node, "system.run").await;
    assert!(sent.get("approved").is_none(), "{sent}");
    let denied = json!({ "code": "UNAVAILABLE", "message": "SYSTEM_RUN_DENIED: approval required" });
    node.answer(&id, json!({ "ok": false, "error": denied })).await;
    let denied = result(&mut operator, "k1").await;
    assert!(text(&denied).contains("SYSTEM_RUN_DENIED: approval required"), "{denied}");
    assert!(text(&denied).contains("one program by its bare name"), "{denied}");

    let (_gateway, mut operator, mut node) = with_host(exec(json!({ "ask": "always" }))).await;
    start(&mut operator, "exec", at_node(), "k1").await;
    let (id, _) = asked(&mut node, "system.run.prepare").await;
    node.answer(&id, json!({ "ok": false, "error": unbound })).await;
    assert!(text(&result(&mut operator, "k1").await).contains("cannot safely bind"));
    node.settled().await;
    assert!(!node.client.events.iter().any(|e| e["event"] == "node.invoke.request"), "it does not run");
}

fn names(catalog: &Value) -> Vec<&str> {
    let groups = catalog["groups"].as_array().unwrap();
    let tools = groups.iter().flat_map(|group| group["tools"].as_array().unwrap());
    tools.filter_map(|tool| tool["id"].as_str()).collect()
}

async fn has_tool(operator: &mut Client, name: &str) -> bool {
    names(&operator.call("tools.catalog", json!({})).await).contains(&name)
}

/// Waits until agents have a tool, or have it no more.
async fn until(operator: &mut Client, name: &str, there: bool) {
    while has_tool(operator, name).await != there {
        operator.event(|e| e["event"] == "chat.metadata.changed").await;
        operator.events.retain(|e| e["event"] != "chat.metadata.changed");
    }
}

fn offered() -> Value {
    let schema =
        json!({ "type": "object", "properties": { "on": { "type": "boolean" } }, "required": ["on"] });
    json!({ "tools": [
        { "pluginId": "home", "name": "lamp", "description": "A lamp.", "parameters": schema, "command": "system.which" },
        { "pluginId": "node-mcp", "name": "docs", "description": "Docs.", "mcp": { "server": "s", "tool": "t" },
          "command": "mcp.tools.call.v1" },
        { "pluginId": "home", "name": "shell", "description": "Runs.", "command": "system.run" },
        { "pluginId": "home", "name": "exec", "description": "Another.", "command": "system.which" },
    ] })
}

/// accepts: F4
#[tokio::test]
async fn tools_of_a_node_come_with_its_approval_and_go_with_it() {
    let gateway = Embedded::start().await;
    let mut operator = Client::admin(gateway.addr).await;
    let mut node = Fake::connect(gateway.addr, &Kind::linux(HOST)).await;
    let taken = node.client.call("node.pluginTools.update", offered()).await;
    assert_eq!(taken["tools"], json!([]), "nothing is approved yet");
    assert!(!has_tool(&mut operator, "lamp").await);
    // The node does not say it again when it is approved.
    approve(&mut operator, &node).await;
    until(&mut operator, "lamp", true).await;
    let shown = operator.call("node.describe", json!({ "nodeId": node.id })).await;
    let told: Vec<_> =
        shown["nodePluginTools"].as_array().unwrap().iter().map(|tool| &tool["name"]).collect();
    assert_eq!(told, ["lamp", "docs", "exec"]);
    assert!(!has_tool(&mut operator, "shell").await, "it would run what it is told");
    let theirs = format!("node_{}_exec", &node.id[..12]);
    assert!(has_tool(&mut operator, &theirs).await, "the gateway's own keeps its name");

    start(&mut operator, "lamp", json!({ "on": 1 }), "k1").await;
    assert!(text(&result(&mut operator, "k1").await).contains("Invalid arguments for lamp"));
    start(&mut operator, "lamp", json!({ "on": true }), "k2").await;
    let (id, sent) = asked(&mut node, "system.which").await;
    assert_eq!(sent, json!({ "on": true }));
    node.answer(&id, json!({ "ok": true, "payload": { "lit": true } })).await;
    assert_eq!(text(&result(&mut operator, "k2").await), "{\"lit\":true}");
    start(&mut operator, "docs", json!({ "q": 1 }), "k3").await;
    let (id, sent) = asked(&mut node, "mcp.tools.call.v1").await;
    assert_eq!(sent, json!({ "server": "s", "tool": "t", "arguments": { "q": 1 } }));
    let payload = json!({ "content": [{ "type": "text", "text": "found" }], "isError": true });
    node.answer(&id, json!({ "ok": true, "payload": payload })).await;
    let done = result(&mut operator, "k3").await;
    assert_eq!((text(&done), &done["isError"]), ("found", &json!(true)));

    // They stay while the actor is reborn, and are there when it is.
    operator.call("system.chaos", json!({ "path": "gateway/nodes", "fault": "panic" })).await;
    operator.event(|e| e["payload"]["path"] == "gateway/nodes" && e["payload"]["state"] == "running").await;
    assert!(has_tool(&mut operator, "lamp").await);
    operator.call("system.chaos", json!({ "path": "gateway/agents", "fault": "panic" })).await;
    operator.event(|e| e["payload"]["path"] == "gateway/agents" && e["payload"]["state"] == "running").await;
    assert!(has_tool(&mut operator, "lamp").await);
    drop(node);
    until(&mut operator, "lamp", false).await;
    start(&mut operator, "lamp", json!({ "on": true }), "k4").await;
    assert!(text(&result(&mut operator, "k4").await).contains("Tool not found: lamp"));
}

#[tokio::test]
async fn tools_go_with_the_approval_too_and_can_be_switched_off() {
    let (_gateway, mut operator, mut node) = with_host(json!({})).await;
    node.client.call("node.pluginTools.update", offered()).await;
    until(&mut operator, "lamp", true).await;
    operator.call("node.pair.remove", json!({ "nodeId": node.id })).await;
    until(&mut operator, "lamp", false).await;

    let off = json!({ "gateway": { "nodes": { "pluginTools": { "enabled": false } } } });
    let (_gateway, mut operator, mut node) = with_host(off).await;
    node.client.call("node.pluginTools.update", offered()).await;
    assert!(!has_tool(&mut operator, "lamp").await);
}

fn skill() -> Value {
    let content = "---\nname: garden\ndescription: waters the garden\n---\nOpen the tap.";
    json!({ "name": "garden", "description": "waters the garden", "content": content })
}

/// accepts: F4
#[tokio::test]
async fn skills_of_a_node_are_told_to_the_model_while_it_is_there() {
    let provider = Provider::start(Dialect::Completions, |_| Reply::text(&["fine"])).await;
    let (_gateway, mut operator, mut node) = with_host(settings(&provider)).await;
    let wrong = json!({ "name": "other", "description": "x", "content": "no head" });
    let taken = node.client.call("node.skills.update", json!({ "skills": [skill(), wrong] })).await;
    assert_eq!(
        taken,
        json!({ "nodeId": node.id, "skills": [skill(), wrong] }),
        "as recorded, all are echoed"
    );
    let say = async |operator: &mut Client, key: &str| {
        operator
            .call("chat.send", json!({ "sessionKey": "main", "message": "hi", "idempotencyKey": key }))
            .await;
        operator.chat_end(key).await;
        provider.asked().last().unwrap().body.to_string()
    };
    let prompt = say(&mut operator, "k1").await;
    let row = format!(
        "<skill><name>garden</name><description>waters the garden</description>\
         <location>node://{0}/skills/garden/SKILL.md</location><node>{0}</node></skill>",
        node.id
    );
    assert!(prompt.contains(&row), "{prompt}");
    assert!(!prompt.contains("<name>other</name>"));
    let id = node.id.clone();
    drop(node);
    event(&mut operator, "node.presence", &id).await;
    assert!(!say(&mut operator, "k2").await.contains("garden"));
}

#[tokio::test]
async fn the_agent_reads_a_skill_of_a_node_and_is_told_where_its_files_are() {
    let (_gateway, mut operator, mut node) = with_host(json!({})).await;
    node.client.call("node.skills.update", json!({ "skills": [skill()] })).await;
    start(&mut operator, "skill_read", json!({ "name": "garden" }), "k1").await;
    assert!(text(&result(&mut operator, "k1").await).ends_with("Open the tap."));
    start(&mut operator, "skill_read", json!({ "name": "garden", "path": "map.md" }), "k2").await;
    let said = result(&mut operator, "k2").await;
    assert!(text(&said).contains(&format!("node://{}/skills/garden as workdir", node.id)), "{said}");
}

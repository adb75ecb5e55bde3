//! The canvas for agents: its files, what the A2UI page shows, and the panels of nodes that show either.

use super::nodes::{Errand, listed, matching};
use super::{Call, Definition, Effects, Permission, Sandbox, Tool, ToolResult, plain};
use crate::canvas::{A2UI, Canvas, MAX_TEXT, PAGES};
use crate::nodes::NodesMsg;
use crate::tree::Slot;
use crabtree_protocol::params::nodes::NodeRow;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;

/// How long a node may take, ms, unless the agent says otherwise; and at most.
const DEFAULT_WAIT_MS: u64 = 30_000;
const MAX_WAIT_MS: u64 = 120_000;
/// Longest script, characters.
const MAX_SCRIPT: usize = 64 * 1024;

/// The tool; `nodes` is who has nodes do something.
pub(super) fn tool(nodes: Slot<NodesMsg>) -> Arc<dyn Tool> {
    plain(definition(), move |call| act(call, nodes.clone()))
}

fn definition() -> Definition {
    let about = format!(
        "Pages for people to look at, served by the gateway at {PAGES}; open ones reload by themselves. write, read, \
         list and delete are about their files (HTML, CSS, JavaScript; nothing is loaded from other servers). a2ui_push \
         adds A2UI 0.8 messages (surfaceUpdate, dataModelUpdate, beginRendering, deleteSurface) to what {A2UI} shows, \
         a2ui_reset clears it. present, hide, navigate, eval and snapshot are about the panel of a node."
    );
    let number = || json!({ "type": "number" });
    Definition {
        name: "canvas".into(),
        label: "Canvas".into(),
        description: about,
        parameters: json!({
            "type": "object",
            "properties": {
                "action": { "enum": [
                    "write", "read", "list", "delete", "a2ui_push", "a2ui_reset",
                    "present", "hide", "navigate", "eval", "snapshot",
                ] },
                "path": { "type": "string", "minLength": 1, "description": "Of a file, e.g. index.html." },
                "content": { "type": "string", "maxLength": MAX_TEXT, "description": "For write: the whole file." },
                "jsonl": { "type": "string", "maxLength": MAX_TEXT, "description": "For a2ui_push: one message a line." },
                "node": { "type": "string", "minLength": 1, "description": "Its id or name; not needed if there is one." },
                "url": {
                    "type": "string", "minLength": 1,
                    "description": format!("For present and navigate, e.g. {PAGES}index.html or {A2UI}."),
                },
                "target": { "type": "string", "minLength": 1, "description": "The same as url." },
                "x": number(), "y": number(), "width": number(), "height": number(),
                "javaScript": { "type": "string", "minLength": 1, "maxLength": MAX_SCRIPT, "description": "For eval." },
                "outputFormat": { "enum": ["png", "jpg", "jpeg"] },
                "maxWidth": { "type": "integer", "minimum": 1 },
                "quality": number(),
                "timeoutMs": { "type": "integer", "minimum": 1, "maximum": MAX_WAIT_MS },
            },
            "required": ["action"],
            "additionalProperties": false,
        }),
        group: "ui".into(),
        permissions: vec![Permission::FsWrite, Permission::Nodes],
        timeout: Duration::from_millis(MAX_WAIT_MS) + Duration::from_secs(10),
        sandbox: Sandbox::None,
        effects: Effects::External,
    }
}

type Outcome = Result<ToolResult, ToolResult>;

async fn act(call: Call, nodes: Slot<NodesMsg>) -> ToolResult {
    let canvas = call.place.store.estate.canvas.clone();
    let action = call.args["action"].as_str().unwrap_or_default();
    let outcome = match action {
        "write" | "read" | "list" | "delete" => file(&call, action, &canvas).await,
        "a2ui_push" => push(&call, &canvas, &nodes).await,
        "a2ui_reset" => reset(&call, &canvas, &nodes).await,
        _ => panel(&call, action, &nodes).await,
    };
    outcome.unwrap_or_else(|refused| refused)
}

/// An argument that an action needs.
fn needed(call: &Call, name: &str) -> Result<String, ToolResult> {
    let given = call.args[name].as_str().map(str::to_owned);
    given.ok_or_else(|| ToolResult::error(format!("This action needs {name}.")))
}

async fn file(call: &Call, action: &str, canvas: &Canvas) -> Outcome {
    let done = match action {
        "write" => canvas.write(needed(call, "path")?, needed(call, "content")?).await,
        "read" => canvas.read(needed(call, "path")?).await,
        "delete" => canvas.remove(needed(call, "path")?).await,
        _ => canvas.list().await,
    };
    done.map(ToolResult::text).map_err(ToolResult::error)
}

/// The gateway's own page shows it in any case; a node's panel if there is one that can.
async fn push(call: &Call, canvas: &Canvas, nodes: &Slot<NodesMsg>) -> Outcome {
    let jsonl = needed(call, "jsonl")?;
    let count = canvas.push(jsonl.clone()).await.map_err(ToolResult::error)?;
    let told = too(call, nodes, "canvas.a2ui.pushJSONL", json!({ "jsonl": jsonl })).await?;
    Ok(ToolResult::text(format!("{count} messages added, shown at {A2UI}{told}")))
}

async fn reset(call: &Call, canvas: &Canvas, nodes: &Slot<NodesMsg>) -> Outcome {
    canvas.reset().await.map_err(ToolResult::error)?;
    let told = too(call, nodes, "canvas.a2ui.reset", json!({})).await?;
    Ok(ToolResult::text(format!("Cleared: {A2UI} shows nothing{told}")))
}

/// Has the node do it as well that is named, or the only one that can.
async fn too(call: &Call, slot: &Slot<NodesMsg>, command: &str, params: Value) -> Result<String, ToolResult> {
    let nodes = rows(slot).await?;
    if call.args["node"].is_null() && able(&nodes, command).count() != 1 {
        return Ok(String::new());
    }
    let node = one(call, &nodes, command)?;
    at_node(call, node, command, params, slot).await?;
    Ok(format!(", and at the node {}", node.node_id))
}

async fn panel(call: &Call, action: &str, slot: &Slot<NodesMsg>) -> Outcome {
    let params = params(call, action)?;
    let (command, nodes) = (format!("canvas.{action}"), rows(slot).await?);
    let node = one(call, &nodes, &command)?;
    let payload = at_node(call, node, &command, params, slot).await?;
    Ok(match picture(&payload).filter(|_| action == "snapshot") {
        Some(picture) => ToolResult { content: vec![picture], ..ToolResult::default() },
        None => ToolResult::text(json!({ "ok": true, "node": node.node_id, "result": payload }).to_string()),
    })
}

/// Has a node do it; what it answers.
async fn at_node(
    call: &Call,
    node: &NodeRow,
    command: &str,
    params: Value,
    slot: &Slot<NodesMsg>,
) -> Result<Value, ToolResult> {
    let node_id = &*node.node_id;
    let done = Errand { call, node_id, command, params, budget: wait(call) }.run(slot).await;
    done.map(|invoked| invoked.payload).map_err(|undone| ToolResult::error(undone.words(node_id)))
}

/// What a command takes.
fn params(call: &Call, action: &str) -> Result<Value, ToolResult> {
    let given = |names: &[&str]| {
        let pairs = names.iter().filter_map(|name| Some((name.to_string(), call.args.get(*name)?.clone())));
        pairs.collect::<Map<String, Value>>()
    };
    let url = ["url", "target"].iter().find_map(|name| call.args.get(*name)).cloned();
    let mut params = match action {
        "eval" => json!({ "javaScript": needed(call, "javaScript")? }),
        "snapshot" => {
            let mut params = given(&["maxWidth", "quality"]);
            params.extend(call.args.get("outputFormat").map(|format| ("format".into(), format.clone())));
            params.into()
        }
        "navigate" if url.is_none() => return Err(ToolResult::error("This action needs url.")),
        _ => json!({}),
    };
    if matches!(action, "present" | "navigate") {
        let placement = given(&["x", "y", "width", "height"]);
        if let Some(url) = url {
            params["url"] = url;
        }
        if action == "present" && !placement.is_empty() {
            params["placement"] = placement.into();
        }
    }
    Ok(params)
}

async fn rows(slot: &Slot<NodesMsg>) -> Result<Vec<NodeRow>, ToolResult> {
    listed(slot)
        .await
        .ok_or_else(|| ToolResult::error("The nodes are being restarted. Try again in a moment."))
}

fn able<'a>(nodes: &'a [NodeRow], command: &str) -> impl Iterator<Item = &'a NodeRow> {
    nodes.iter().filter(move |node| node.connected && node.commands.iter().any(|known| known == command))
}

/// The node that is named; without a name the only one that can.
fn one<'a>(call: &Call, nodes: &'a [NodeRow], command: &str) -> Result<&'a NodeRow, ToolResult> {
    if let Some(named) = call.args["node"].as_str() {
        return matching(nodes, named).map_err(ToolResult::error);
    }
    let mut able = able(nodes, command);
    match (able.next(), able.next()) {
        (Some(node), None) => Ok(node),
        (None, _) => Err(ToolResult::error(format!(
            "No node is connected that may do {command}. People see the pages in a browser too: tell them \
             `crabtree canvas` prints the address."
        ))),
        (Some(first), Some(second)) => {
            let others = able.map(|node| node.node_id.as_str());
            let ids: Vec<_> = [&*first.node_id, &*second.node_id].into_iter().chain(others).collect();
            Err(ToolResult::error(format!("Several nodes can do {command}: name one of {}.", ids.join(", "))))
        }
    }
}

fn wait(call: &Call) -> Duration {
    Duration::from_millis(call.args["timeoutMs"].as_u64().unwrap_or(DEFAULT_WAIT_MS))
}

/// The picture in what a node answers.
fn picture(payload: &Value) -> Option<Value> {
    let data = payload["base64"].as_str()?;
    let kind = if payload["format"] == "png" { "image/png" } else { "image/jpeg" };
    Some(json!({ "type": "image", "data": data, "mimeType": kind }))
}

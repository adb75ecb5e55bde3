//! What agents do with the canvas, and the nodes that show it.

use super::{A2UI, PAGES, ask, capability, get, status, with_page, write};
use crate::client::{Client, TOKEN};
use crate::gateway::Embedded;
use crate::nodes::approve;
use crate::nodes::fake::{Fake, Kind};
use serde_json::{Value, json};

/// Has the agent use the canvas; what its tool says.
async fn canvas(client: &mut Client, args: Value) -> String {
    let answer = client.call("tools.invoke", json!({ "name": "canvas", "args": args })).await;
    assert_eq!(answer["ok"], true, "{answer}");
    answer["output"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

/// accepts: J1
#[tokio::test]
async fn an_agent_writes_pages_and_pushes_messages() {
    let (gateway, mut client) = with_page().await;
    let own = capability(gateway.addr, &client.hello);
    let args = json!({ "action": "write", "path": "app/index.html", "content": "<p>made" });
    let said =
        json!({ "sessionKey": "main", "message": format!("/tool canvas {args}"), "idempotencyKey": "k1" });
    client.call("chat.send", said).await;
    client.chat_end("k1").await;
    assert!(get(gateway.addr, &format!("{own}{PAGES}app/")).await.body.starts_with("<p>made"));
    let list = canvas(&mut client, json!({ "action": "list" })).await;
    assert_eq!(list, "app/index.html (7 bytes)\nindex.html (31 bytes)");
    let read = json!({ "action": "read", "path": "/app/index.html" });
    assert_eq!(canvas(&mut client, read).await, "<p>made");
    canvas(&mut client, json!({ "action": "delete", "path": "app/index.html" })).await;
    assert_eq!(status(gateway.addr, &format!("{own}{PAGES}app/")).await, 404);

    let jsonl = r#"{"beginRendering":{"surfaceId":"s","root":"r"}}"#;
    let told = canvas(&mut client, json!({ "action": "a2ui_push", "jsonl": jsonl })).await;
    assert_eq!(told, "1 messages added, shown at /__openclaw__/a2ui/");
    let kept = get(gateway.addr, &format!("{own}{PAGES}a2ui.jsonl")).await;
    assert_eq!(kept.body, format!("{jsonl}\n"));
    canvas(&mut client, json!({ "action": "a2ui_reset" })).await;
    assert_eq!(get(gateway.addr, &format!("{own}{PAGES}a2ui.jsonl")).await.body, "");
    for (args, why) in [
        (json!({ "action": "write", "path": "../x", "content": "" }), "no path of the canvas"),
        (json!({ "action": "write", "path": "x" }), "needs content"),
        (json!({ "action": "a2ui_push", "jsonl": "{}" }), "No A2UI 0.8 messages"),
        (json!({ "action": "present" }), "No node is connected that may do canvas.present"),
    ] {
        let answer = client.call("tools.invoke", json!({ "name": "canvas", "args": args })).await;
        assert!(answer["ok"] == false && answer["error"].to_string().contains(why), "{answer}");
    }
}

/// accepts: F3, J1
#[tokio::test]
async fn a_node_shows_the_canvas_once_that_is_approved() {
    let config = json!({ "gateway": {
        "nodes": { "commands": { "allow": ["canvas.eval"] } }, "tools": { "allow": ["canvas"] },
    } });
    let gateway = Embedded::with(config).await;
    let addr = gateway.addr;
    write(&gateway, "index.html", "hello");
    let kind = Kind {
        caps: "canvas",
        commands: "canvas.present canvas.hide canvas.navigate canvas.eval canvas.snapshot canvas.a2ui.pushJSONL \
            canvas.a2ui.reset",
        ..Kind::of("openclaw-macos", "macos", "Mac", "panel")
    };
    let mut operator = Client::admin(addr).await;
    let mut node = Fake::connect(addr, &kind).await;
    assert!(node.client.hello.get("pluginSurfaceUrls").is_none(), "nobody has approved it");
    node.settled().await;
    let surface = json!({ "surface": "canvas" });
    let refused = node.client.refused("node.pluginSurface.refresh", surface.clone()).await;
    assert_eq!(refused, json!({ "code": "UNAVAILABLE", "message": "canvas plugin surface unavailable" }));
    approve(&mut operator, &node).await;
    let told = node.client.call("node.pluginSurface.refresh", surface.clone()).await;
    assert_eq!(status(addr, &format!("{}{PAGES}", capability(addr, &told))).await, 200);
    let mut node = Fake::connect(addr, &kind).await;
    let first = capability(addr, &node.client.hello);
    assert_eq!(status(addr, &format!("{first}{A2UI}")).await, 200);
    let told = node.client.call("node.pluginSurface.refresh", surface).await;
    assert_eq!(status(addr, &format!("{first}{A2UI}")).await, 401);
    assert_eq!(status(addr, &format!("{}{A2UI}", capability(addr, &told))).await, 200);
    let linux = Kind { caps: "canvas", ..Kind::linux("canvas.present") };
    let mut other = Fake::connect(addr, &linux).await;
    other.settled().await;
    approve(&mut operator, &other).await;
    let other = Fake::connect(addr, &linux).await;
    assert!(other.client.hello.get("pluginSurfaceUrls").is_none(), "no panel on this platform");

    let (jsonl, url) = (r#"{"deleteSurface":{"surfaceId":"s"}}"#, "/__openclaw__/canvas/index.html");
    for (args, command, params) in [
        (
            json!({ "action": "present", "target": url, "x": 1, "width": 300 }),
            "canvas.present",
            json!({ "url": url, "placement": { "x": 1, "width": 300 } }),
        ),
        (json!({ "action": "hide" }), "canvas.hide", json!({})),
        (json!({ "action": "navigate", "url": url }), "canvas.navigate", json!({ "url": url })),
        (json!({ "action": "eval", "javaScript": "1+1" }), "canvas.eval", json!({ "javaScript": "1+1" })),
        (
            json!({ "action": "snapshot", "outputFormat": "png", "maxWidth": 100 }),
            "canvas.snapshot",
            json!({ "maxWidth": 100, "format": "png" }),
        ),
        (
            json!({ "action": "a2ui_push", "jsonl": jsonl, "node": "panel" }),
            "canvas.a2ui.pushJSONL",
            json!({ "jsonl": jsonl }),
        ),
        (json!({ "action": "a2ui_reset" }), "canvas.a2ui.reset", json!({})),
    ] {
        let asked = json!({ "name": "canvas", "args": args });
        let id = operator.send("tools.invoke", asked).await;
        let invoked = node.asked().await;
        assert_eq!(invoked["command"], command);
        let given: Value = serde_json::from_str(invoked["paramsJSON"].as_str().unwrap()).unwrap();
        assert_eq!(given, params, "{command}");
        let payload = json!({ "ok": true, "payload": { "format": "png", "base64": "aGk=" } });
        node.answer(&invoked["id"], payload).await;
        let done = operator.response(&id).await["payload"].clone();
        let content = &done["output"]["content"][0];
        match command {
            "canvas.snapshot" => {
                assert_eq!(content, &json!({ "type": "image", "data": "aGk=", "mimeType": "image/png" }));
            }
            _ => assert!(content["text"].as_str().is_some_and(|text| text.contains(&node.id)), "{done}"),
        }
    }
}

#[tokio::test]
async fn a_canvas_that_is_turned_off_is_not_there() {
    let host = json!({ "canvas": { "config": { "host": { "enabled": false } } } });
    let gateway = Embedded::with(json!({ "plugins": { "entries": host } })).await;
    let mut client = Client::admin(gateway.addr).await;
    assert!(client.hello.get("pluginSurfaceUrls").is_none());
    let refused = client.refused("plugin.surface.refresh", json!({ "surface": "canvas" })).await;
    assert_eq!(refused["message"], "canvas plugin surface unavailable");
    let secret = [("Authorization", &*format!("Bearer {TOKEN}"))];
    assert_eq!(ask(gateway.addr, "GET", A2UI, &secret).await.status, 404);
    let catalog = client.call("tools.catalog", json!({})).await;
    assert!(!catalog.to_string().contains("\"canvas\""));
}

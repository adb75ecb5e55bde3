//! Devices beside what the recordings show: what is durable, what is closed, upgrades while connected, and the
//! command line.

use crate::client::{Client, Intro, TOKEN, connect_params};
use crate::gateway::{Embedded, Process};
use crabtree_actors::estate::Brought;
use crabtree_actors::settings::{AuthSecret, Secret};
use crabtree_actors::tailscale::Whois;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Output};
use std::sync::Arc;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};

/// A command line in a page of this machine, which is nobody's to let in in silence.
const PAGE: &[(&str, &str)] = &[("origin", "http://localhost:5173")];

/// What a client that sends these headers is answered.
async fn from(addr: SocketAddr, headers: &[(&str, &str)], intro: &Intro) -> (Client, Value) {
    let mut request = format!("ws://{addr}/").into_client_request().unwrap();
    for (name, value) in headers {
        let name = HeaderName::try_from(*name).unwrap();
        request.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
    }
    let (ws, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    let (mut client, challenge) = Client::over(ws).await;
    let answer = client.response_to("connect", connect_params(intro, &challenge)).await;
    client.hello = answer["payload"].clone();
    (client, answer)
}

fn cli(seed: u8, scopes: &[&'static str]) -> Intro {
    Intro { scopes: scopes.to_vec(), device: Some([seed; 32]), ..Intro::default() }
}

fn node(seed: u8, auth: Value) -> Intro {
    let (id, mode, role) = ("node-host", "node", "node");
    Intro { id, mode, role, scopes: vec![], auth, device: Some([seed; 32]), ..Intro::default() }
}

/// Has a device ask, and returns its request.
async fn ask(addr: SocketAddr, intro: &Intro) -> Value {
    let (_, answer) = from(addr, PAGE, intro).await;
    assert_eq!(answer["error"]["details"]["code"], "PAIRING_REQUIRED", "{answer}");
    answer["error"]["details"]["requestId"].clone()
}

fn removed() -> Option<(u16, String)> {
    Some((4001, "device removed".into()))
}

/// accepts: E2, E3
#[tokio::test]
async fn a_pairing_outlives_the_gateway_and_a_removal_does_too() {
    let gateway = Embedded::start().await;
    let mut admin = Client::admin(gateway.addr).await;
    let intro = cli(1, &["operator.read"]);
    let request = ask(gateway.addr, &intro).await;
    let list = admin.call("device.pair.list", json!({})).await;
    assert_eq!((&list["pending"][0]["requestId"], &list["paired"]), (&request, &json!([])));
    let done = admin.call("device.pair.approve", json!({ "requestId": request })).await;
    assert_eq!(done["device"]["approvedVia"], "owner");
    let id = done["device"]["deviceId"].clone();
    admin.call("device.pair.rename", json!({ "deviceId": id, "label": "Mine" })).await;
    let (_, answer) = from(gateway.addr, PAGE, &intro).await;
    let token = answer["payload"]["auth"]["deviceToken"].clone();
    assert!(token.is_string(), "{answer}");

    let gateway = gateway.restarted(AuthSecret::Token(Secret::new(TOKEN))).await;
    let mut admin = Client::admin(gateway.addr).await;
    let list = admin.call("device.pair.list", json!({})).await;
    assert_eq!(list["paired"][0]["operatorLabel"], "Mine");
    let by_token = Intro { auth: json!({ "deviceToken": token }), ..intro.clone() };
    let (mut live, answer) = from(gateway.addr, PAGE, &by_token).await;
    assert_eq!(answer["payload"]["auth"]["deviceToken"], token);
    admin.call("device.pair.remove", json!({ "deviceId": id })).await;
    assert_eq!(live.until_closed().await, removed());

    let gateway = gateway.restarted(AuthSecret::Token(Secret::new(TOKEN))).await;
    let (_, answer) = from(gateway.addr, PAGE, &by_token).await;
    assert_eq!(answer["error"]["details"]["code"], "AUTH_DEVICE_TOKEN_MISMATCH");
    // Paired anew, it does not get back what was taken from it.
    let mut admin = Client::admin(gateway.addr).await;
    let request = ask(gateway.addr, &intro).await;
    admin.call("device.pair.approve", json!({ "requestId": request })).await;
    let (_, answer) = from(gateway.addr, PAGE, &by_token).await;
    assert_eq!(answer["error"]["details"]["code"], "AUTH_DEVICE_TOKEN_MISMATCH");
}

/// accepts: E9
#[tokio::test]
async fn losing_one_device_or_role_closes_no_other() {
    let gateway = Embedded::start().await;
    let mut admin = Client::admin(gateway.addr).await;
    let mut operator = Client::connect(gateway.addr, &cli(2, &["operator.read"])).await.unwrap();
    // The same device is to be a node, too.
    let refused = Client::connect(gateway.addr, &node(2, json!({ "token": TOKEN }))).await.err().unwrap();
    assert_eq!(refused["details"]["reason"], "role-upgrade");
    let request = json!({ "requestId": refused["details"]["requestId"] });
    let id = admin.call("device.pair.approve", request).await["device"]["deviceId"].clone();
    let mut nodes = vec![];
    for seed in [2, 3] {
        nodes.push(Client::connect(gateway.addr, &node(seed, json!({ "token": TOKEN }))).await.unwrap());
    }
    admin.call("device.token.revoke", json!({ "deviceId": id, "role": "node" })).await;
    assert_eq!(nodes[0].until_closed().await, removed());
    assert!(operator.call("health", json!({})).await.is_object());
    assert!(nodes[1].call("health", json!({})).await.is_object());
    admin.call("device.token.rotate", json!({ "deviceId": id, "role": "operator" })).await;
    assert_eq!(operator.until_closed().await, removed());
    assert!(nodes[1].call("health", json!({})).await.is_object());
}

/// accepts: A17
#[tokio::test]
async fn who_asks_to_be_paired_is_not_forgotten_when_the_actor_crashes() {
    let gateway = Embedded::start().await;
    let mut admin = Client::admin(gateway.addr).await;
    let (stranger, intro) = (cli(7, &["operator.read"]), cli(8, &["operator.read"]));
    let request = ask(gateway.addr, &stranger).await;
    let gone = ask(gateway.addr, &cli(9, &["operator.read"])).await;
    admin.call("device.pair.reject", json!({ "requestId": gone })).await;
    let mut device = Client::connect(gateway.addr, &intro).await.unwrap();
    let wanted = json!({ "scopes": ["operator.read", "operator.write"] });
    let upgrade = device.call("device.scopes.requestUpgrade", wanted).await;
    let before = admin.call("device.pair.list", json!({})).await["pending"].clone();
    assert_eq!(before.as_array().unwrap().len(), 2, "{before}");
    admin.call("system.chaos", json!({ "path": "gateway/devices", "fault": "panic" })).await;
    admin.event(|e| e["payload"]["path"] == "gateway/devices" && e["payload"]["state"] == "running").await;
    assert_eq!(admin.call("device.pair.list", json!({})).await["pending"], before);
    assert_eq!(ask(gateway.addr, &stranger).await, request, "it is the same request");
    let waiting = device.send("device.scopes.waitUpgrade", upgrade.clone()).await;
    for decided in [json!({ "requestId": request }), upgrade] {
        admin.call("device.pair.approve", decided).await;
    }
    assert_eq!(device.response(&waiting).await["payload"]["status"], "approved");
    assert!(from(gateway.addr, PAGE, &stranger).await.1["ok"] == true);
    // What was decided does not come back either.
    admin.events.clear();
    admin.call("system.chaos", json!({ "path": "gateway/devices", "fault": "panic" })).await;
    admin.event(|e| e["payload"]["path"] == "gateway/devices" && e["payload"]["state"] == "running").await;
    assert_eq!(admin.call("device.pair.list", json!({})).await["pending"], json!([]));
}

#[tokio::test]
async fn a_connected_device_asks_for_more_and_waits() {
    let gateway = Embedded::start().await;
    let mut admin = Client::admin(gateway.addr).await;
    let intro = cli(4, &["operator.read"]);
    let mut device = Client::connect(gateway.addr, &intro).await.unwrap();
    let old = device.hello["auth"]["deviceToken"].clone();
    let upgrade = |scopes: Value| json!({ "scopes": scopes });
    let less = device.refused("device.scopes.requestUpgrade", upgrade(json!(["operator.write.x"]))).await;
    assert_eq!(less["message"], "requested scopes contain an unknown operator scope");
    let other = device.refused("device.scopes.requestUpgrade", upgrade(json!(["operator.pairing"]))).await;
    assert_eq!(other["message"], "requested scopes must include the connection's current scopes");
    let wanted = json!(["operator.read", "operator.write"]);
    let asked = device.call("device.scopes.requestUpgrade", upgrade(wanted.clone())).await;
    let told = admin.event(|e| e["event"] == "device.pair.requested").await;
    assert_eq!((&told["payload"]["requestId"], &told["payload"]["scopes"]), (&asked["requestId"], &wanted));
    let waiting = device.send("device.scopes.waitUpgrade", asked.clone()).await;
    assert!(device.call("health", json!({})).await.is_object(), "others are answered meanwhile");
    admin.call("device.pair.approve", asked.clone()).await;
    let answer = device.response(&waiting).await["payload"].clone();
    assert_eq!((&answer["status"], &answer["scopes"]), (&json!("approved"), &wanted));
    assert_ne!(answer["deviceToken"], old);
    // It stays connected as it was; with the new token it may more, and the old one is dead.
    assert_eq!(device.refused("wake", json!({ "mode": "now", "text": "x" })).await["code"], "FORBIDDEN");
    let with = |token: &Value| Intro {
        auth: json!({ "deviceToken": token }),
        ..cli(4, &["operator.read", "operator.write"])
    };
    assert!(Client::connect(gateway.addr, &with(&answer["deviceToken"])).await.is_ok());
    let dead = Client::connect(gateway.addr, &with(&old)).await.err().unwrap();
    assert_eq!(dead["details"]["code"], "AUTH_DEVICE_TOKEN_MISMATCH");

    let asked = device.call("device.scopes.requestUpgrade", upgrade(json!(["operator.admin"]))).await;
    admin.call("device.pair.reject", asked.clone()).await;
    let rejected = device.call("device.scopes.waitUpgrade", asked.clone()).await;
    assert_eq!(rejected, json!({ "status": "rejected", "requestId": asked["requestId"] }));
    let words = "scope upgrade expired or not found";
    let mut stranger = Client::connect(gateway.addr, &cli(5, &["operator.read"])).await.unwrap();
    assert_eq!(stranger.refused("device.scopes.waitUpgrade", asked).await["message"], words);
    let nobody = admin.refused("device.scopes.requestUpgrade", upgrade(json!(["operator.read"]))).await;
    assert_eq!(nobody["details"]["code"], "DEVICE_IDENTITY_REQUIRED");
}

#[tokio::test]
async fn a_setup_code_is_limited_unless_more_is_asked_for() {
    let gateway = Embedded::start().await;
    let mut admin = Client::admin(gateway.addr).await;
    let mut code = async |params: Value| admin.call("device.pair.setupCode", params).await;
    let plain = code(json!({ "publicUrl": "wss://home.example" })).await;
    assert_eq!((&plain["access"], &plain["gatewayUrl"]), (&json!("limited"), &json!("wss://home.example")));
    assert!(plain["qrDataUrl"].as_str().unwrap().starts_with("data:image/png;base64,"));
    let full = json!({ "publicUrl": "wss://home.example", "bootstrapProfile": "full", "includeQr": false });
    let full = code(full).await;
    assert_eq!((&full["access"], full.get("qrDataUrl")), (&json!("full"), None));
    let open = json!({ "publicUrl": "ws://192.168.1.5:1", "bootstrapProfile": "full" });
    let open = code(open).await;
    assert_eq!((&open["access"], &open["accessDowngraded"]), (&json!("limited"), &json!(true)));
    let mut pairing = Client::scoped(gateway.addr, &["operator.pairing"]).await;
    assert_eq!(pairing.refused("device.pair.setupCode", json!({})).await["code"], "FORBIDDEN");
    let stored = std::fs::read(gateway.state.path().join("store.sqlite-wal")).unwrap();
    for code in [&plain, &full] {
        let told = base64_json(code["setupCode"].as_str().unwrap());
        let token = told["bootstrapToken"].as_str().unwrap().as_bytes();
        assert!(!stored.windows(token.len()).any(|bytes| bytes == token), "the token is not stored");
    }
}

fn base64_json(text: &str) -> Value {
    use base64::Engine;
    let bytes = base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(text).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

#[tokio::test]
async fn nodes_of_named_addresses_pair_themselves_through_a_proxy_that_is_elsewhere_alone() {
    let config = json!({ "gateway": {
        "trustedProxies": ["127.0.0.1"], "nodes": { "pairing": { "autoApproveCidrs": ["203.0.113.0/24"] } },
    } });
    let gateway = Embedded::with(config).await;
    let headers = [("x-forwarded-for", "203.0.113.9")];
    // Whoever runs a program on this machine could say so.
    let (_, answer) = from(gateway.addr, &headers, &node(6, json!({ "token": TOKEN }))).await;
    assert_eq!(answer["error"]["details"]["code"], "PAIRING_REQUIRED");
    assert_eq!(answer["error"]["details"]["reason"], "not-paired");
}

struct Tailnet;

impl Whois for Tailnet {
    fn login(&self, ip: IpAddr) -> BoxFuture<'static, Option<String>> {
        let known = ip == IpAddr::from([100, 64, 0, 9]);
        Box::pin(async move { known.then(|| "ada@example.com".to_owned()) })
    }
}

#[tokio::test]
async fn whom_tailscale_knows_needs_no_secret_and_a_device_that_is_approved() {
    let config = json!({ "gateway": {
        "auth": { "allowTailscale": true }, "controlUi": { "allowedOrigins": ["https://home.ts.net"] },
    } });
    let brought = Brought { whois: Some(Arc::new(Tailnet)), ..Brought::default() };
    let gateway = Embedded::with_brought(config, brought).await;
    let headers = |ip: &'static str, login: &'static str| {
        [
            ("x-forwarded-for", ip),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "home.ts.net"),
            ("tailscale-user-login", login),
            ("origin", "https://home.ts.net"),
        ]
    };
    let page =
        Intro { id: "openclaw-control-ui", mode: "webchat", auth: json!({}), ..cli(7, &["operator.read"]) };
    let ada = headers("100.64.0.9", "Ada@example.com");
    let (_, answer) = from(gateway.addr, &ada, &page).await;
    let request = answer["error"]["details"]["requestId"].clone();
    assert!(request.is_string(), "{answer}");
    for liar in [headers("100.64.0.9", "eve@example.com"), headers("100.64.0.8", "ada@example.com")] {
        let (_, answer) = from(gateway.addr, &liar, &page).await;
        assert_eq!(answer["error"]["details"]["code"], "AUTH_TOKEN_MISSING", "{answer}");
    }
    let mut admin = Client::admin(gateway.addr).await;
    admin.call("device.pair.approve", json!({ "requestId": request })).await;
    let (_, answer) = from(gateway.addr, &ada, &page).await;
    assert_eq!(answer["payload"]["auth"]["method"], "tailscale", "{answer}");
    assert_eq!(answer["payload"]["auth"].get("deviceToken"), None);
}

fn devices(state: &std::path::Path, addr: SocketAddr, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_crabtree"))
        .arg("devices")
        .args(arguments)
        .args(["--url", &format!("ws://{addr}")])
        .env("CRABTREE_STATE_DIR", state)
        .env("OPENCLAW_GATEWAY_TOKEN", TOKEN)
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_sees_to_devices() {
    let state = tempfile::tempdir().unwrap();
    let gateway = Process::start(state.path()).await;
    let (addr, run) = (gateway.addr, |arguments: &[&str]| devices(state.path(), gateway.addr, arguments));
    assert_eq!(said(&run(&["list"])).trim(), "no device is paired");
    let intro = cli(8, &["operator.read"]);
    let request = ask(addr, &intro).await;
    let request = request.as_str().unwrap();
    let list = said(&run(&["list"]));
    assert!(list.contains(&request[..12]) && list.contains("operator: read"), "{list}");
    let done = run(&["approve", &request[..8]]);
    assert!(done.status.success() && said(&done).starts_with("paired "), "{}", said(&done));
    let again = run(&["approve", &request[..8]]);
    assert_eq!(again.status.code(), Some(1));
    assert!(said(&again).contains("crabtree devices list"), "{}", said(&again));
    let list: Value = serde_json::from_slice(&run(&["list", "--json"]).stdout).unwrap();
    let id = list["paired"][0]["deviceId"].as_str().unwrap();
    assert!(said(&run(&["rename", &id[..8], "Mine"])).contains("is called Mine now"));
    assert!(said(&run(&["rotate", "Mine"])).contains("new operator token"));
    assert!(said(&run(&["revoke", "Mine", "--role", "operator"])).contains("no operator token"));
    let invite = run(&["invite"]);
    assert_eq!(invite.status.code(), Some(1));
    assert!(said(&invite).contains("--public-url"), "{}", said(&invite));
    let invite = said(&run(&["invite", "--public-url", "wss://home.example", "--access", "node"]));
    assert!(invite.contains("Access node, gateway wss://home.example."), "{invite}");
    assert!(said(&run(&["remove", "Mine"])).starts_with("forgot Mine"));
    let other = ask(addr, &Intro { device: Some([9; 32]), ..intro }).await;
    assert!(said(&run(&["reject", other.as_str().unwrap()])).starts_with("refused "));
    assert_eq!(said(&run(&["list"])).trim(), "no device is paired");
}

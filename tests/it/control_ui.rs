//! The stock Control UI as it is served, over real sockets, with files of the test's own.

use crate::client::{Client, Intro, TOKEN};
use crate::gateway::Embedded;
use crate::plain_http::{Answer, ask};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

const BUILD: &str = "2026.9.6-test";
const SCRIPT: &str = "\n  start(\"<html>\");\n";
const IMMUTABLE: &str = "public, max-age=31536000, immutable";
/// What a browser takes when it goes to a page, and what it takes of a file.
const HTML: (&str, &str) = ("Accept", "text/html,application/xhtml+xml,*/*;q=0.8");
const NO_HTML: (&str, &str) = ("Accept", "application/json");

/// A directory such as the package has.
fn files() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let put = |path: &str, content: &str| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    put(
        "index.html",
        &format!(
            "<!doctype html><html data-openclaw-control-ui-build-id=\"{BUILD}\" lang=\"en\"><head>\
             <link rel=\"icon\" href=\"./favicon.svg\" /><script>{SCRIPT}</script>\
             <script type=\"module\" src=\"./assets/main-abc.js\"></script></head><body></body></html>"
        ),
    );
    put("assets/main-abc.js", "plain();");
    put("assets/main-abc.js.br", "as brotli");
    put("assets/main-abc.js.gz", "as gzip");
    put("assets/only-plain.css", "p {}");
    put("favicon.svg", "<svg/>");
    put("favicon.svg.gz", "not for this one");
    put("sw.js", "work();");
    put("manifest.webmanifest", "{}");
    put("notes.md", "for nobody");
    put(".hidden.json", "{}");
    put("social-card.png", "a picture");
    root
}

fn settings(root: &Path, more: Value) -> Value {
    let mut control_ui = json!({ "root": root });
    control_ui.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({ "gateway": { "controlUi": control_ui, "nodes": { "pairing": { "autoApproveLocal": true } } } })
}

async fn serving(more: Value) -> (Embedded, TempDir) {
    let root = files();
    (Embedded::with(settings(root.path(), more)).await, root)
}

async fn get(gateway: &Embedded, path: &str, headers: &[(&str, &str)]) -> Answer {
    ask(gateway.addr, "GET", path, headers).await
}

fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.headers.get(name).map(String::as_str)
}

/// accepts: A15
#[tokio::test]
async fn the_page_is_told_where_it_is_and_may_run_its_own_scripts_only() {
    let environment = json!({ "label": "attic", "color": "teal" });
    let (gateway, root) = serving(json!({ "environment": environment })).await;
    let page = get(&gateway, "/control/", &[HTML]).await;
    assert_eq!((page.status, header(&page, "content-type")), (200, Some("text/html; charset=utf-8")));
    for wanted in [
        "<html data-openclaw-control-ui-base-path=\"/control\" data-openclaw-terminal-enabled=\"true\"",
        "data-openclaw-environment=\"{&quot;label&quot;:&quot;attic&quot;,&quot;color&quot;:&quot;teal&quot;}\"",
        "href=\"/control/favicon.svg?v=2026.9.6-test\"",
        "src=\"/control/assets/main-abc.js\"",
    ] {
        assert!(page.body.contains(wanted), "{wanted}: {}", page.body);
    }
    let policy = header(&page, "content-security-policy").unwrap();
    let hash = BASE64_STANDARD.encode(Sha256::digest(SCRIPT));
    assert!(policy.contains(&format!("script-src 'self' 'sha256-{hash}'")), "{policy}");
    assert_eq!(policy.matches("sha256-").count(), 1, "{policy}");
    for (name, value) in [
        ("cache-control", "no-cache"),
        ("vary", "Accept-Encoding"),
        ("x-frame-options", "DENY"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("permissions-policy", "camera=(self), microphone=*, geolocation=*, clipboard-write=*"),
    ] {
        assert_eq!(header(&page, name), Some(value), "{name}");
    }
    let packed = get(&gateway, "/control/", &[HTML, ("Accept-Encoding", "br, gzip")]).await;
    assert_eq!((packed.status, header(&packed, "content-encoding")), (200, Some("gzip")));
    let head = ask(gateway.addr, "HEAD", "/control/chat/main", &[HTML]).await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    // Another version of the package is there from the next request on.
    let html = fs::read_to_string(root.path().join("index.html")).unwrap();
    fs::write(root.path().join("index.html"), html.replace("start(", "begin_anew(")).unwrap();
    let after = get(&gateway, "/control/", &[HTML]).await;
    assert!(after.body.contains("begin_anew(") && header(&after, "content-security-policy") != Some(policy));
}

/// accepts: A15
#[tokio::test]
async fn pages_are_at_every_address_but_where_files_and_other_things_would_be() {
    let (gateway, _root) = serving(json!({})).await;
    let moved = get(&gateway, "/control?session=main", &[HTML]).await;
    assert_eq!((moved.status, header(&moved, "location")), (302, Some("/control/?session=main")));
    for page in
        ["/control/settings/devices", "/control/chat/main/a.b", "/control/index.html", "/control/focus/x"]
    {
        let page = get(&gateway, page, &[HTML]).await;
        assert!(page.status == 200 && page.body.starts_with("<!doctype html>"), "{}", page.body);
    }
    assert_eq!(get(&gateway, "/control/approve/1", &[NO_HTML]).await.status, 200);
    for nothing in [
        "/control/assets/gone-123.js",
        "/control/gone.png",
        "/control/assets/main-abc.js.br",
        "/control/assets/main-abc.js.gz",
        "/control/avatar/main",
        "/control/__openclaw__/plugin-icon/telegram",
        "/control/api/users/x/avatar",
        "/control/share/main",
        "/controls",
        "/chat/main",
    ] {
        let answer = get(&gateway, nothing, &[HTML]).await;
        assert_eq!((answer.status, answer.body.as_str()), (404, "Not Found"), "{nothing}");
        assert_eq!(header(&answer, "content-type"), Some("text/plain; charset=utf-8"), "{nothing}");
    }
    for (method, path, header) in [
        ("GET", "/control/chat/main", NO_HTML),
        ("POST", "/control/", HTML),
        ("GET", "/control/notes.md", NO_HTML),
    ] {
        assert_eq!(ask(gateway.addr, method, path, &[header]).await.status, 404, "{method} {path}");
    }
    // Everything else is where it was.
    assert!(get(&gateway, "/", &[HTML]).await.body.contains("/crabtree/main.js"));
    assert_eq!(get(&gateway, "/health", &[HTML]).await.json()["status"], "live");
}

/// accepts: A15
#[tokio::test]
async fn files_are_kept_as_long_as_they_cannot_change_and_come_packed_if_they_are() {
    let (gateway, root) = serving(json!({})).await;
    let script = "/control/assets/main-abc.js";
    for (accepted, coding, body) in [
        ("gzip, deflate, br", Some("br"), "as brotli"),
        ("gzip, br;q=0", Some("gzip"), "as gzip"),
        ("identity", None, "plain();"),
    ] {
        let answer = get(&gateway, script, &[("Accept-Encoding", accepted)]).await;
        assert_eq!((header(&answer, "content-encoding"), answer.body.as_str()), (coding, body), "{accepted}");
        assert_eq!(header(&answer, "content-length"), Some(&*body.len().to_string()));
        assert_eq!(header(&answer, "content-type"), Some("application/javascript; charset=utf-8"));
        assert_eq!(header(&answer, "cache-control"), Some(IMMUTABLE));
        assert_eq!(header(&answer, "vary"), Some("Accept-Encoding"));
        assert!(header(&answer, "content-security-policy").unwrap().contains("script-src 'self';"));
    }
    let gzip = ("Accept-Encoding", "br, gzip");
    for (path, kept) in [
        ("/control/assets/only-plain.css", IMMUTABLE),
        ("/control/chat/assets/only-plain.css", IMMUTABLE),
        ("/control/favicon.svg", "no-cache"),
        ("/control/favicon.svg?v=older", "no-cache"),
        ("/control/favicon.svg?v=2026.9.6-test", IMMUTABLE),
        ("/control/__openclaw__/favicon.svg", "no-cache"),
        ("/control/sw.js?v=2026.9.6-test", "no-cache"),
        ("/control/share/card.png", "no-cache"),
    ] {
        let answer = get(&gateway, path, &[gzip]).await;
        assert_eq!((answer.status, header(&answer, "cache-control")), (200, Some(kept)), "{path}");
        assert_eq!(header(&answer, "content-encoding"), None, "{path}");
    }
    // What did not change since is not sent again.
    let icon = "/control/favicon.svg";
    let changed = get(&gateway, icon, &[]).await.headers["last-modified"].clone();
    let since = ("If-Modified-Since", changed.as_str());
    let same = get(&gateway, icon, &[since]).await;
    assert_eq!((same.status, same.body.as_str(), header(&same, "last-modified")), (304, "", Some(&*changed)));
    assert_eq!(header(&same, "cache-control"), Some("no-cache"));
    let old = ("If-Modified-Since", "Sun, 06 Nov 1994 08:49:37 GMT");
    for other in [vec![old], vec![("If-Modified-Since", "soon")], vec![since, ("If-None-Match", "\"x\"")]] {
        assert_eq!(get(&gateway, icon, &other).await.status, 200, "{other:?}");
    }
    let head = ask(gateway.addr, "HEAD", script, &[]).await;
    assert_eq!((head.status, head.body.as_str(), header(&head, "content-length")), (200, "", Some("8")));
    // Longer than what is sent at once.
    let long: String = (0..100_000).map(|n| format!("{n};")).collect();
    fs::write(root.path().join("assets/long.js"), &long).unwrap();
    assert!(get(&gateway, "/control/assets/long.js", &[]).await.body == long, "the whole file");
}

/// Fails with plain paths instead of `cap-std`.
/// accepts: A15
#[tokio::test]
async fn nothing_outside_of_the_directory_is_ever_served() {
    let (gateway, root) = serving(json!({})).await;
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret.json"), "\"a secret\"").unwrap();
    std::os::unix::fs::symlink(outside.path(), root.path().join("assets/away")).unwrap();
    std::os::unix::fs::symlink(outside.path().join("secret.json"), root.path().join("leak.json")).unwrap();
    fs::create_dir(root.path().join("folder.js")).unwrap();
    let name = outside.path().file_name().unwrap().to_str().unwrap();
    for path in [
        &format!("/control/../{name}/secret.json"),
        &format!("/control/assets/..%2f..%2f{name}/secret.json"),
        &format!("/control/%2e%2e/{name}/secret.json"),
        &format!("/control//{}/secret.json", outside.path().display()),
        "/control/assets/away/secret.json",
        "/control/leak.json",
        "/control/.hidden.json",
        "/control/folder.js",
        "/control/favicon.svg%00.json",
        "/control/%ff.json",
    ] {
        let answer = get(&gateway, path, &[HTML]).await;
        assert!(answer.status == 404 && answer.body == "Not Found", "{path}: {}", answer.body);
    }
}

/// accepts: A15
#[tokio::test]
async fn its_settings_are_for_who_knows_the_secret_or_reads_with_a_device() {
    let (gateway, _root) = serving(json!({
        "communityInvite": false, "embedSandbox": "strict", "allowExternalEmbedUrls": true,
        "environment": { "label": "attic", "color": "teal" },
    }))
    .await;
    let path = "/control/control-ui-config.json";
    let bearer = |token: &str| format!("Bearer {token}");
    let unauthorized = json!({ "error": { "message": "Unauthorized", "type": "unauthorized" } });
    for headers in [vec![], vec![("Authorization", "Bearer wrong")]] {
        let refused = get(&gateway, path, &headers).await;
        assert_eq!((refused.status, refused.json()), (401, unauthorized.clone()));
    }
    let secret = bearer(TOKEN);
    let told = get(&gateway, path, &[("Authorization", &secret)]).await;
    let mut told_json = told.json();
    assert_eq!((told.status, header(&told, "cache-control")), (200, Some("no-store")));
    assert_eq!(told_json["terminalEnabled"].take(), true);
    let expected = json!({
        "basePath": "/control", "assistantName": "Assistant", "assistantAvatar": "A",
        "assistantAvatarSource": null, "assistantAvatarStatus": null, "assistantAvatarReason": null,
        "assistantAgentId": "main", "serverVersion": env!("CARGO_PKG_VERSION"), "embedSandbox": "strict",
        "allowExternalEmbedUrls": true, "automaticallyFetchFavicons": false, "communityInvite": false,
        "terminalEnabled": null, "cliAgentsEnabled": false, "pluginAssetsRequireAuth": true,
        "pluginFrameGrants": [], "serverBuildId": BUILD, "environment": { "label": "attic", "color": "teal" },
    });
    assert_eq!(told_json, expected);
    let mut admin = Client::admin(gateway.addr).await;
    let hash = admin.call("config.get", json!({})).await["hash"].clone();
    let patch = json!({ "raw": "{gateway: {terminal: {enabled: false}}}", "baseHash": hash });
    admin.call("config.patch", patch).await;
    let told = get(&gateway, path, &[("Authorization", &secret)]).await.json();
    assert_eq!(told["terminalEnabled"], false);
    assert!(get(&gateway, "/control/", &[HTML]).await.body.contains("terminal-enabled=\"false\""));
    // After a reload a page has nothing but its device's token.
    let device =
        |seed: u8, scopes: Vec<&'static str>| Intro { device: Some([seed; 32]), scopes, ..Intro::default() };
    let token = async |intro: &Intro| {
        let client = Client::connect(gateway.addr, intro).await.unwrap();
        bearer(client.hello["auth"]["deviceToken"].as_str().unwrap())
    };
    let reader = token(&device(51, vec!["operator.read"])).await;
    let alias = "/control/__openclaw/control-ui-config.json";
    for path in [path, alias] {
        assert_eq!(get(&gateway, path, &[("Authorization", &reader)]).await.status, 200, "{path}");
    }
    let media = "/control/__openclaw__/assistant-media?meta=1&source=media%3A%2F%2Finbound%2Fgone.png";
    assert_eq!(get(&gateway, media, &[]).await.status, 401);
    assert_eq!(get(&gateway, media, &[("Authorization", &reader)]).await.json()["available"], false);
    let approver = token(&device(52, vec!["operator.approvals"])).await;
    let refused = get(&gateway, path, &[("Authorization", &approver)]).await;
    assert_eq!((refused.status, &refused.json()["error"]["type"]), (403, &json!("forbidden")));
    // A node reads nothing, and a reader calls no tools.
    let node = Intro { id: "node-host", mode: "node", role: "node", ..device(53, vec![]) };
    let node = token(&node).await;
    assert_eq!(get(&gateway, path, &[("Authorization", &node)]).await.status, 401);
    let invoked = ask(gateway.addr, "POST", "/tools/invoke", &[("Authorization", &reader)]).await;
    assert_eq!(invoked.status, 403, "{}", invoked.body);
    // What is taken back opens nothing any more.
    let mut admin = Client::admin(gateway.addr).await;
    let paired = admin.call("device.pair.list", json!({})).await["paired"].clone();
    let devices = paired.as_array().unwrap();
    let with_scope = |row: &&Value| row["scopes"] == json!(["operator.read"]);
    let id = devices.iter().find(with_scope).unwrap()["deviceId"].clone();
    admin.call("device.pair.remove", json!({ "deviceId": id })).await;
    assert_eq!(get(&gateway, path, &[("Authorization", &reader)]).await.status, 401);
}

/// accepts: A15
#[tokio::test]
async fn at_the_root_it_takes_the_place_of_our_own_page() {
    let (gateway, _root) = serving(json!({ "basePath": "/" })).await;
    assert!(get(&gateway, "/", &[HTML]).await.body.contains("base-path=\"\" "));
    assert!(get(&gateway, "/settings/devices", &[HTML]).await.body.contains("src=\"/assets/main-abc.js\""));
    assert_eq!(get(&gateway, "/assets/only-plain.css", &[]).await.body, "p {}");
    for (path, status) in [
        ("/control-ui-config.json", 401),
        ("/__openclaw__/control-ui-config.json", 401),
        ("/__openclaw__/canvas/", 401),
        ("/health", 200),
        ("/metrics", 200),
        ("/crabtree/", 200),
        ("/crabtree/main.js", 200),
        ("/crabtree/gone.js", 404),
        ("/tools/invoke", 405),
        ("/api/x", 404),
        ("/v1/models", 404),
        ("/plugins/x/y", 200),
        ("/ui", 404),
    ] {
        assert_eq!(get(&gateway, path, &[HTML]).await.status, status, "{path}");
    }
    assert!(get(&gateway, "/crabtree/", &[HTML]).await.body.contains("/crabtree/main.js"));
    assert!(get(&gateway, "/health", &[HTML]).await.body.contains("live"));
    Client::admin(gateway.addr).await.call("health", json!({})).await;
}

/// accepts: A15
#[tokio::test]
async fn without_its_files_it_says_what_to_set_and_it_comes_and_goes_with_its_settings() {
    let gateway = Embedded::with(json!({})).await;
    let none = get(&gateway, "/control/", &[HTML]).await;
    assert!(none.status == 404 && none.body.contains("set gateway.controlUi.root to"), "{}", none.body);
    let mut client = Client::admin(gateway.addr).await;
    let change = async |client: &mut Client, control_ui: Value| {
        let hash = client.call("config.get", json!({})).await["hash"].clone();
        let raw = json!({ "gateway": { "controlUi": control_ui } }).to_string();
        client.call("config.patch", json!({ "raw": raw, "baseHash": hash })).await;
    };
    // A directory that is none of it, and then one that is.
    let (empty, root) = (tempfile::tempdir().unwrap(), files());
    fs::write(empty.path().join("x.json"), "{}").unwrap();
    change(&mut client, json!({ "root": empty.path() })).await;
    for path in ["/control/", "/control/x.json"] {
        let unusable = get(&gateway, path, &[HTML]).await;
        assert_eq!(unusable.status, 503, "{path}");
        assert!(unusable.body.contains("gateway.controlUi.root") && !unusable.body.contains("tmp"));
    }
    fs::write(empty.path().join("index.html"), "x".repeat(1024 * 1024 + 1)).unwrap();
    assert_eq!(get(&gateway, "/control/", &[HTML]).await.status, 503, "a page that is too large");
    change(&mut client, json!({ "root": root.path() })).await;
    assert_eq!(get(&gateway, "/control/", &[HTML]).await.status, 200);
    change(&mut client, json!({ "enabled": false })).await;
    assert_eq!(get(&gateway, "/control/", &[HTML]).await.body, "Not Found");
    change(&mut client, json!({ "enabled": true, "basePath": "/home/ui/" })).await;
    assert!(get(&gateway, "/home/ui/", &[HTML]).await.body.contains("base-path=\"/home/ui\""));
    assert_eq!(get(&gateway, "/control/", &[HTML]).await.status, 404);
    // Our own page has `/` as long as nothing takes its place.
    change(&mut client, json!({ "basePath": "", "root": null })).await;
    assert!(get(&gateway, "/", &[HTML]).await.body.contains("/crabtree/main.js"));
    let hash = client.call("config.get", json!({})).await["hash"].clone();
    let raw = r#"{ "gateway": { "controlUi": { "basePath": "/a b" } } }"#;
    let error = client.refused("config.patch", json!({ "raw": raw, "baseHash": hash })).await;
    assert!(error["message"].as_str().unwrap().contains("is no path such as"), "{error}");
}

//! Secrets from outside: where they are kept, who does without when they are not there, and that nobody sees them.

mod command;

use crate::client::Client;
use crate::fakes::platform::Platform;
use crate::gateway::Embedded;
use crate::leaks;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn written(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn account(status: &Value, id: &str) -> Value {
    let all = status["channelAccounts"]["loopback"].as_array().unwrap();
    all.iter().find(|account| account["accountId"] == id).unwrap_or_else(|| panic!("{id}: {status}")).clone()
}

/// Waits until an account of the channel is like this.
async fn until(client: &mut Client, id: &str, like: impl Fn(&Value) -> bool) -> Value {
    let mut seen = Value::Null;
    for _ in 0..500 {
        seen = account(&client.call("channels.status", json!({})).await, id);
        if like(&seen) {
            return seen;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("{id} stays {seen}");
}

/// accepts: C5
#[tokio::test]
async fn a_secret_that_is_missing_parks_its_owner_alone_until_it_is_there() {
    let (one, two) = (Platform::start(), Platform::start());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys.json");
    let mut needy = two.section(json!({ "token": { "source": "file", "provider": "keys", "id": "/two" } }));
    needy.as_object_mut().unwrap().remove("accounts");
    let config = json!({
        "channels": { "loopback": { "accounts": { "one": one.section(json!({})), "two": needy } } },
        "secrets": { "providers": { "keys": { "source": "file", "path": file } } },
    });
    let gateway = Embedded::with(config).await;
    leaks::register(gateway.addr, ["s3cret-of-two".to_owned()]);
    let mut client = Client::admin(gateway.addr).await;
    let lost = until(&mut client, "two", |two| two["healthState"] == "parked").await;
    let why = lost["lastError"].as_str().unwrap();
    assert!(why.contains("channels.loopback.token has no value") && why.contains("cannot be read"), "{why}");
    let good = until(&mut client, "one", |one| one["connected"] == true).await;
    let wanting = json!([
        { "owner": "channel loopback/two", "path": "channels.loopback.accounts.two.token", "state": "missing" },
    ]);
    let is_told =
        |event: &Value| event["event"] == "health" && event["payload"]["secrets"]["wanting"] == wanting;
    if client.call("health", json!({})).await["secrets"]["wanting"] != wanting {
        client.event(is_told).await;
    }

    written(&file, r#"{"two": "s3cret-of-two"}"#, 0o600);
    let answer = client.call("secrets.reload", json!({})).await;
    assert_eq!(answer, json!({ "ok": true, "warningCount": 0 }));
    until(&mut client, "two", |two| two["connected"] == true).await;
    let still = until(&mut client, "one", |one| one["connected"] == true).await;
    assert_eq!(still["lastStartAt"], good["lastStartAt"], "who has what they need does not notice");

    // What was there holds while it cannot be looked up.
    let before = until(&mut client, "two", |two| two["connected"] == true).await;
    fs::remove_file(&file).unwrap();
    assert_eq!(client.call("secrets.reload", Value::Null).await["warningCount"], 1);
    let after = until(&mut client, "two", |two| two["connected"] == true).await;
    assert_eq!(after["lastStartAt"], before["lastStartAt"]);
}

#[tokio::test]
async fn a_program_is_asked_once_for_all_it_keeps_and_gets_nothing_it_was_not_given() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("vault");
    let script = format!(
        "#!/bin/sh\nread question\nprintf '%s|%s|%s\\n' \"$question\" \"$GIVEN\" \"$HOME\" >> '{0}/asked'\n\
         echo 'noise with s3cret-from-exec' >&2\n\
         echo '{{\"protocolVersion\": 1, \"values\": {{\"a/key\": \"s3cret-from-exec\"}}, \"errors\": {{\"b\": {{\"code\": \"NOT_FOUND\"}}}}}}'\n",
        dir.path().display()
    );
    written(&program, &script, 0o700);
    let key = |id: &str| json!({ "source": "exec", "provider": "vault", "id": id });
    let config = json!({
        "models": { "providers": {
            "x": { "baseUrl": "http://127.0.0.1:9", "apiKey": key("a/key") },
            "y": { "baseUrl": "http://127.0.0.1:9", "apiKey": key("b") },
        } },
        "secrets": { "providers": { "vault": { "source": "exec", "command": program, "env": { "GIVEN": "yes" } } } },
    });
    let gateway = Embedded::with(config).await;
    leaks::register(gateway.addr, ["s3cret-from-exec".to_owned()]);
    let mut client = Client::admin(gateway.addr).await;
    let asked = || fs::read_to_string(dir.path().join("asked")).unwrap();
    assert_eq!(asked().lines().count(), 1);
    assert!(asked().ends_with("|yes|\n") && asked().contains(r#""protocolVersion":1"#), "{}", asked());

    let params = json!({ "commandName": "test", "targetIds": ["models.providers.*.apiKey"] });
    let found = client.call("secrets.resolve", params).await;
    let path = ["models", "providers", "x", "apiKey"];
    assert_eq!(
        found["assignments"],
        json!([{ "pathSegments": path, "value": "s3cret-from-exec", "path": path.join(".") }])
    );
    assert!(found["diagnostics"][0].as_str().unwrap().contains("it knows no b"), "{found}");
    let status = client.call("models.authStatus", json!({})).await;
    let one = |id: &str| {
        let all = status["providers"].as_array().unwrap();
        all.iter().find(|provider| provider["provider"] == id).unwrap()["status"].clone()
    };
    assert_eq!((one("x"), one("y")), (json!("static"), json!("missing")));

    // A change of something else asks nobody again; who asks for it does.
    let hash = client.call("config.get", json!({})).await["hash"].clone();
    let patch = json!({ "raw": "{ session: { mainKey: 'main2' } }", "baseHash": hash });
    client.call("config.patch", patch).await;
    assert_eq!(asked().lines().count(), 1);
    client.call("secrets.reload", json!({})).await;
    assert_eq!(asked().lines().count(), 2);
    let unknown = json!({ "commandName": "test", "targetIds": ["no.such"] });
    let error = client.refused("secrets.resolve", unknown).await;
    assert_eq!(error["message"], "invalid secrets.resolve params: unknown target id \"no.such\"");
}

/// accepts: K2
#[tokio::test]
async fn the_store_tells_names_and_never_values() {
    let config = json!({
        "models": { "providers": { "x": {
            "baseUrl": "http://127.0.0.1:9", "apiKey": { "source": "store", "provider": "default", "id": "X_KEY" },
        } } },
    });
    let gateway = Embedded::with(config).await;
    leaks::register(gateway.addr, ["s3cret-in-store".to_owned()]);
    let mut client = Client::admin(gateway.addr).await;
    assert_eq!(client.call("secrets.store.list", json!({})).await, json!({ "entries": [] }));
    // As recorded of OpenClaw.
    let set = json!({ "name": "MY_KEY", "value": "v1", "kind": "env" });
    assert_eq!(client.call("secrets.store.set", set).await, json!({ "ok": true, "reloaded": false }));
    let mut entry = client.call("secrets.store.list", json!({})).await["entries"][0].take();
    assert!(
        entry["createdAtMs"].as_i64() > Some(0) && entry["createdAtMs"] == entry["updatedAtMs"],
        "{entry}"
    );
    let members = entry.as_object_mut().unwrap();
    members.retain(|name, _| !name.ends_with("AtMs"));
    let expected = json!({
        "name": "MY_KEY", "scopeKind": "team", "scopeId": "", "kind": "env", "updatedBy": "cli", "value": "v1",
    });
    assert_eq!(entry, expected);

    let set = json!({ "name": "X_KEY", "value": "s3cret-in-store", "kind": "secret", "allowedHosts": ["X.example"] });
    let answer = client.call("secrets.store.set", set).await;
    assert_eq!(answer, json!({ "ok": true, "reloaded": true, "warningCount": 0 }));
    let listed = client.call("secrets.store.list", json!({})).await;
    assert!(!listed.to_string().contains("s3cret"), "{listed}");
    assert_eq!(listed["entries"][1]["allowedHosts"], json!(["x.example"]));
    let resolve = json!({ "commandName": "test", "targetIds": ["models.providers.x.apiKey"] });
    let found = client.call("secrets.resolve", resolve.clone()).await;
    assert_eq!(found["assignments"][0]["value"], "s3cret-in-store");
    for name in fs::read_dir(gateway.state.path()).unwrap().map(|entry| entry.unwrap().path()) {
        let content = fs::read(&name).unwrap_or_default();
        let plain = content.windows(15).any(|part| part == b"s3cret-in-store");
        assert!(!plain, "{} has it in plain text", name.display());
    }
    let gone = client.call("secrets.store.delete", json!({ "name": "X_KEY" })).await;
    assert_eq!(
        (&gone["reloaded"], &gone["warningCount"]),
        (&json!(true), &json!(1)),
        "it is in use, and old now"
    );
    let never = client.call("secrets.store.delete", json!({ "name": "NOPE" })).await;
    assert_eq!(never, json!({ "ok": true, "reloaded": false }));
    let error =
        client.refused("secrets.store.set", json!({ "name": "A", "value": "", "kind": "secret" })).await;
    assert_eq!(error["code"], "INVALID_REQUEST");
    let mut reader = Client::scoped(gateway.addr, &["operator.read"]).await;
    for method in ["secrets.reload", "secrets.resolve", "secrets.store.list"] {
        let error = reader.refused(method, json!({})).await;
        assert!(error["message"].as_str().unwrap().contains("operator.admin"), "{method}: {error}");
    }
}

/// accepts: K2
#[tokio::test]
async fn what_the_configuration_shows_is_where_a_secret_is_kept() {
    let config = json!({
        "channels": { "telegram": { "enabled": false, "botToken": "12345:plain-token" } },
        "models": { "providers": { "x": {
            "baseUrl": "http://127.0.0.1:9", "apiKey": { "source": "store", "provider": "default", "id": "X" },
        } } },
    });
    let gateway = Embedded::with(config).await;
    let mut client = Client::admin(gateway.addr).await;
    let shown = client.call("config.get", json!({})).await;
    let reference = json!({ "source": "store", "provider": "default", "id": "X" });
    for part in ["parsed", "config"] {
        assert_eq!(shown[part]["models"]["providers"]["x"]["apiKey"], reference, "{part}");
        assert_eq!(shown[part]["channels"]["telegram"]["botToken"], "__OPENCLAW_REDACTED__", "{part}");
    }
    // What was not shown is kept when it is written back.
    let raw = shown["raw"].as_str().unwrap().replace("\"enabled\":false", "\"enabled\":false,\"name\":\"b\"");
    client.call("config.set", json!({ "raw": raw, "baseHash": shown["hash"] })).await;
    let file = fs::read_to_string(gateway.state.path().join("openclaw.json")).unwrap();
    assert!(file.contains("12345:plain-token") && file.contains("\"name\""), "{file}");
    let written = client.call("config.get", json!({})).await;
    assert_eq!(written["parsed"]["channels"]["telegram"]["name"], "b");
}

/// accepts: K2
#[tokio::test]
async fn a_provider_that_repeats_the_key_does_not_give_it_away() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (tell, told) = tokio::sync::oneshot::channel();
    let provider = tokio::spawn(async move {
        let mut tell = Some(tell);
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut asked = vec![0; 64 * 1024];
            let count = socket.read(&mut asked).await.unwrap_or_default();
            let asked = String::from_utf8_lossy(&asked[..count]).into_owned();
            if let Some(tell) = tell.take_if(|_| asked.contains("sk-repeated-key")) {
                let _ = tell.send(());
            }
            let body = json!({ "error": { "message": "no model for sk-repeated-key" } }).to_string();
            let head = format!(
                "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = socket.write_all(format!("{head}{body}").as_bytes()).await;
        }
    });
    let config = json!({
        "agents": { "defaults": { "model": "x/m" } },
        "models": { "providers": { "x": {
            "baseUrl": format!("http://{addr}/v1"), "api": "openai-completions", "apiKey": "sk-repeated-key",
            "models": [{ "id": "m" }],
        } } },
    });
    let gateway = Embedded::with(config).await;
    let mut client = Client::admin(gateway.addr).await;
    let params = json!({ "sessionKey": "main", "message": "hello", "idempotencyKey": "run-1" });
    client.call("chat.send", params).await;
    let end = client.chat_end("run-1").await;
    assert_eq!(end["state"], "error", "{end}");
    told.await.unwrap();
    let probe = client.call("models.probe", json!({ "provider": "x" })).await.to_string();
    assert!(probe.contains("<secret>") && !probe.contains("sk-repeated-key"), "{probe}");
    provider.abort();
}

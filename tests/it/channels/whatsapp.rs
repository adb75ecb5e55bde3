//! The WhatsApp bridge behind a gateway, with a WhatsApp that is not there. It is tried where there is a `node`.

use crate::client::Client;
use crate::gateway::Embedded;
use crate::mock_model::models;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How long a test waits for something that must come.
const PATIENCE: Duration = Duration::from_secs(30);

async fn account(client: &mut Client) -> Value {
    client.call("channels.status", json!({})).await["channelAccounts"]["whatsapp"][0].clone()
}

/// accepts: A5
#[tokio::test]
async fn the_bridge_logs_in_and_is_started_again_when_it_is_killed() {
    if std::process::Command::new("node").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "CI has node");
        return;
    }
    let root = env!("CARGO_MANIFEST_DIR");
    let section = json!({
        "dmPolicy": "disabled",
        "bridge": format!("{root}/examples/whatsapp-bridge/bridge.mjs"),
        "driver": { "env": { "BAILEYS": format!("{root}/tests/it/driver/baileys.mjs") } },
    });
    let config = json!({ "channels": { "whatsapp": section } });
    let gateway = Embedded::with_models(config, models()).await;
    let mut client = Client::admin(gateway.addr).await;
    let started = client.call("web.login.start", json!({ "timeoutMs": 20_000 })).await;
    let code = started["qrDataUrl"].as_str().unwrap_or_default().to_owned();
    assert!(started["connected"] == true || code.starts_with("data:image/png;base64,"), "{started}");
    let wait = async {
        loop {
            let login =
                client.call("web.login.wait", json!({ "timeoutMs": 5_000, "currentQrDataUrl": code })).await;
            if login["connected"] == true {
                return;
            }
        }
    };
    timeout(PATIENCE, wait).await.expect("it is logged in in the end");
    let before = account(&mut client).await["lastStartAt"].as_i64().unwrap();
    let bridge = bridges(gateway.state.path());
    assert_eq!(bridge.len(), 1, "one owner: {bridge:?}");
    let killed = std::process::Command::new("kill").args(["-9", &bridge[0]]).status().unwrap();
    assert!(killed.success());
    let back = async {
        loop {
            let account = account(&mut client).await;
            if account["healthState"] == "healthy" && account["lastStartAt"].as_i64() > Some(before) {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, back).await.expect("it is back");
    gateway.gateway.shutdown("done").await;
}

/// The processes of bridges that keep their credentials in this state directory.
fn bridges(state: &std::path::Path) -> Vec<String> {
    let state = state.to_string_lossy().into_owned();
    let mut found = vec![];
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words: Vec<String> =
            line.split(|b| *b == 0).map(|w| String::from_utf8_lossy(w).into_owned()).collect();
        let is_bridge = words.first().is_some_and(|program| program.ends_with("node"))
            && words.iter().any(|word| word.starts_with(&state));
        if is_bridge {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found
}

//! A thousand edits, good and bad, of two files, by hand and by method at once.

use crate::client::Client;
use crate::fakes::platform::Platform;
use crate::gateway::Embedded;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use std::path::Path;

const EDITS: usize = 1_000;
/// The file that is included at times.
const PART: &str = "session.json5";
/// How often a write by method may come too late before it is given up.
const LATE: usize = 5;
/// How often the last edit is tried, every 50 ms.
const TRIES: usize = 200;

/// A part that the main file may include.
fn part(random: &mut StdRng) -> String {
    let key = ["a", "b", "c"][random.random_range(0..3)];
    match random.random_range(0..5) {
        0 => "{ mainKey: ".into(),
        1 => "{ mainKey: 7 }".into(),
        2 => format!("{{ $include: '{PART}' }}"),
        _ => format!("{{ mainKey: '{key}' /* mine */ }}"),
    }
}

/// A text that somebody may have written: whole, cut off, or wrong.
fn text(random: &mut StdRng, channels: &Value, part_is_good: bool) -> (String, bool) {
    let key = ["a", "b", "c"][random.random_range(0..3)];
    let mut config = json!({ "channels": channels, "session": { "mainKey": key } });
    match random.random_range(0..9) {
        0 => config["session"]["dmScope"] = json!("nonsense"),
        1 => config["gateway"] = json!({ "port": "x" }),
        2 => {
            let whole = config.to_string();
            let end = random.random_range(1..whole.len());
            return (whole[..end].to_owned(), false);
        }
        3 => config["unheardOf"] = json!({ "n": random.random_range(0..9) }),
        6 => config["mcp"] = json!({ "servers": { "x": { "args": 7 } } }),
        7 => config["channels"]["telegram"] = json!({ "dmPolicy": "nonsense" }),
        8 => {
            config["session"] = json!({ "$include": PART });
            return (config.to_string(), part_is_good);
        }
        4 => config["agents"] = json!({ "list": [{ "id": "main" }, { "id": "main" }] }),
        _ => return (format!("// {}\n{config}", random.random_range(0..9)), true),
    }
    let is_good = config.get("unheardOf").is_some();
    (config.to_string(), is_good)
}

/// accepts: K6
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_edits_drop_no_socket_and_no_channel_and_end_in_a_configuration_that_is_whole() {
    let platform = Platform::start();
    let channels = json!({ "loopback": platform.section(json!({ "allowFrom": ["ann"] })) });
    let first = json!({ "channels": channels, "agents": { "defaults": { "model": "mock/mock-1" } } });
    let gateway = Embedded::with_models(first, crate::mock_model::models()).await;
    let file = gateway.state.path().join("openclaw.json");
    let mut watcher = Client::admin(gateway.addr).await;
    let mut writer = Client::admin(gateway.addr).await;
    let since = up_since(&mut watcher).await;
    let seed = std::env::var("CRABTREE_CONFIG_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    let mut random = StdRng::seed_from_u64(seed);
    let (mut taken, mut refused) = (0, 0);
    let part_file = gateway.state.path().join(PART);
    for _ in 0..EDITS {
        if random.random_bool(0.2) {
            std::fs::write(&part_file, part(&mut random)).unwrap();
        }
        let part = std::fs::read_to_string(&part_file).unwrap_or_default();
        let part_is_good = ["mainKey: '", "mainKey: \""].iter().any(|key| part.contains(key));
        let (text, is_good) = text(&mut random, &channels, part_is_good);
        if random.random_bool(0.5) {
            std::fs::write(&file, &text).unwrap();
            gateway.gateway.reload();
            continue;
        }
        if set(&mut writer, &text).await {
            assert!(is_good, "seed {seed}: {text}, {part}");
            taken += 1;
        } else {
            refused += 1;
        }
    }
    println!("seed {seed}: {taken} of the writes by method were taken, {refused} refused");
    assert!(taken > 20 && refused > 100);
    whole(&mut writer, &file, &channels).await;
    // The channel is the one it was, and answers.
    platform.says("1", "ann", "still there?");
    assert!(platform.answers_in("ann", 1).await[0].ends_with("still there?"));
    assert_eq!(up_since(&mut watcher).await, since, "the channel was never started anew");
    let tree = watcher.call("system.actors", json!({ "depth": 2 })).await;
    assert!(!tree.to_string().contains(r#""state":"parked""#), "{tree}");
}

/// Writes by method as a client should: who came too late reads again and writes once more.
async fn set(client: &mut Client, text: &str) -> bool {
    for _ in 0..LATE {
        let base = client.call("config.get", json!({})).await["hash"].clone();
        let answer = client.response_to("config.set", json!({ "raw": text, "baseHash": base })).await;
        let late = answer["error"]["message"].as_str().is_some_and(|text| text.contains("changed since"));
        if !late {
            return answer["ok"] == true;
        }
    }
    false
}

/// Since when the channel's actor is up.
async fn up_since(client: &mut Client) -> Value {
    let tree = client.call("system.actors", json!({ "path": "gateway/channels" })).await;
    let account = &tree["root"]["children"][0];
    assert_eq!(
        (&account["name"], &account["state"]),
        (&json!("loopback/default"), &json!("running")),
        "{tree}"
    );
    account["sinceMs"].clone()
}

/// A last edit is taken, and is what is in force.
async fn whole(client: &mut Client, file: &Path, channels: &Value) {
    std::fs::write(file, json!({ "channels": channels, "session": { "mainKey": "end" } }).to_string())
        .unwrap();
    for tries in 0.. {
        assert!(tries < TRIES, "the last edit is not taken");
        let now = client.call("config.get", json!({})).await;
        let patch = json!({ "raw": "{session: {mainKey: 'last'}}", "baseHash": now["hash"] });
        let answer = client.response_to("config.patch", patch).await;
        if answer["ok"] == true {
            break;
        }
        // What was written by hand is read within two seconds.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let now = client.call("config.get", json!({})).await;
    assert_eq!((&now["config"]["session"]["mainKey"], &now["valid"]), (&json!("last"), &json!(true)));
}

//! A driver says what it can, to a whole gateway.

use crate::gateway::Embedded;
use crate::mock_model::models;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::timeout;

/// A board that takes 24 characters and can do nothing else. It writes down what it hears.
const SMALL: &str = "
import json, sys
heard = open(sys.argv[1], 'a')
def say(kind, payload, id='f'):
    print(json.dumps({'type': kind, 'id': id, 'timestamp': 1, 'payload': payload}), flush=True)
say('connect', {'protocol': 1, 'driver': 'small', 'capabilities': {'text_limit': 24}})
for frame in map(json.loads, sys.stdin):
    if frame['type'] == 'connected':
        say('channel_status', {'state': 'connected'})
        say('message_in', {'channel': {'kind': 'direct', 'id': 'ann'}, 'sender': {'id': 'ann'},
            'content': 'MOCK{text=one two three four five six seven eight nine;step=4;d=50}'}, 'm1')
    heard.write(json.dumps(frame) + '\\n')
    heard.flush()
    if frame['type'] == 'stream_end':
        say('message_ack', {'id': frame['id'], 'platform_id': frame['id']})
";

#[tokio::test]
async fn an_answer_is_in_pieces_as_the_driver_says_and_nothing_is_shown_that_it_cannot_show() {
    let dir = tempfile::tempdir().unwrap();
    let heard = dir.path().join("heard");
    let driver = json!({ "command": "python3", "args": ["-c", SMALL, &heard] });
    let config = json!({
        "channels": { "board": { "driver": driver, "allowFrom": ["ann"] } },
        "agents": { "defaults": { "model": "mock/mock-1" } },
    });
    let _gateway = Embedded::with_models(config, models()).await;
    let frames = || -> Vec<Value> {
        let heard = std::fs::read_to_string(&heard).unwrap_or_default();
        heard.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    };
    let pieces = || -> Vec<String> {
        let of = |frame: &Value| frame["payload"]["content"].as_str().map(str::to_owned);
        frames().iter().filter(|frame| frame["type"] == "stream_block").filter_map(of).collect()
    };
    let wait = async {
        while !pieces().concat().contains("nine") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(timeout(Duration::from_secs(20), wait).await.is_ok(), "{:?}", frames());
    let pieces = pieces();
    assert!(pieces.len() == 2 && pieces.iter().all(|piece| piece.chars().count() <= 24), "{pieces:?}");
    assert_eq!(pieces.join(" "), "one two three four five six seven eight nine");
    assert!(frames().iter().all(|frame| frame["type"] != "presence"), "{:?}", frames());
}

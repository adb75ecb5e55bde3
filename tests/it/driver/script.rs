//! Drivers in a few lines of Python.

use serde_json::{Value, json};

/// What every one of them begins with: it connects, and can say and hear frames.
const PRELUDE: &str = "
import json, os, sys
def say(kind, payload, id='f'):
    print(json.dumps({'type': kind, 'id': id, 'timestamp': 1, 'payload': payload}), flush=True)
def frames():
    return map(json.loads, sys.stdin)
def message(text):
    return {'channel': {'kind': 'group', 'id': 'g'}, 'sender': {'id': 'u'}, 'content': text}
say('connect', {'protocol': 1, 'driver': 'script', 'capabilities': {
    'text_limit': 4000, 'files': True, 'buttons': True, 'edits_every_ms': 1000}})
assert json.loads(sys.stdin.readline())['type'] == 'connected'
";

/// Hands in a message, and then what it hears about it.
pub const HANDS_IN: &str = "
say('message_in', message('first'), 'm1')
for frame in frames():
    if frame['type'] == 'message_ack':
        say('message_in', message(frame['type'] + ' ' + frame['payload']['id']), 'm2')
";

/// Answers a message with what is written in it.
pub const ANSWER: &str = "
for frame in frames():
    if frame['type'] == 'stream_block':
        text = frame['payload']['content']
    if frame['type'] == 'stream_end' and text == 'exit':
        sys.exit(7)
    if frame['type'] == 'stream_end' and text == 'ack':
        say('message_ack', {'id': frame['id'], 'platform_id': 'p'})
    elif frame['type'] == 'stream_end':
        after = 1500 if text == 'later' else None
        say('error', {'id': frame['id'], 'code': text, 'message': 'so it is', 'retry_after_ms': after})
";

/// The settings of a channel whose driver does this.
pub fn script(lines: &str) -> Value {
    json!({ "driver": { "command": "python3", "args": ["-c", format!("{PRELUDE}{lines}")] } })
}

use serde_json::{Value, json};

use super::*;
use crate::method::Method;

/// Parameters as stock clients send them, by method.
#[test]
fn recorded_parameters_are_accepted() {
    let recorded = [
        (Method::Health, json!({ "probe": true })),
        (Method::Status, json!({ "includeChannelSummary": false, "includeCliProjection": true })),
        (
            Method::SystemEvent,
            json!({ "text": "Node: x", "deviceId": "d1", "host": "h1", "mode": "test", "reason": "periodic" }),
        ),
        (Method::Wake, json!({ "mode": "now", "text": "wake up" })),
        (
            Method::ModelsList,
            json!({ "view": "configured", "includeDetails": true, "agentId": "main", "sessionKey": "k", "preparedOnly": true }),
        ),
        (Method::CommandsList, json!({ "agentId": "main", "scope": "text", "includeArgs": false })),
        (
            Method::Agent,
            json!({ "message": "hi", "agentId": "main", "deliver": false, "timeout": 600, "to": "+15555550123", "idempotencyKey": "k" }),
        ),
        (
            Method::Agent,
            json!({ "message": "hi", "sessionId": "s", "sessionKey": "agent:main:explicit:m", "modelRun": true, "promptMode": "none", "cleanupBundleMcpOnRunEnd": true, "idempotencyKey": "k" }),
        ),
        (Method::AgentWait, json!({ "runId": "r", "timeoutMs": 100 })),
        (
            Method::ChatStartup,
            json!({ "sessionKey": "k", "limit": 80, "maxBytes": 262144, "inputRunIds": ["r"], "cursor": "c" }),
        ),
        (Method::ChatHistory, json!({ "sessionKey": "k", "limit": 1000, "offset": 0, "maxChars": 5 })),
        (
            Method::ChatSend,
            json!({ "sessionKey": "k", "message": "", "idempotencyKey": "i", "queueMode": "steer", "timeoutMs": 6000, "thinking": "low", "deliver": false, "sessionId": "s", "expectedLeafEntryId": null }),
        ),
        (
            Method::ChatSend,
            json!({ "sessionKey": "k", "message": "x", "idempotencyKey": "i", "attachments": [{ "type": "image", "mimeType": "image/png", "fileName": "dot.png", "content": "iVBO" }] }),
        ),
        (
            Method::ChatAbort,
            json!({ "sessionKey": "k", "runId": "r", "agentId": "main", "preserveSideRuns": true }),
        ),
        (Method::ChatMetadata, json!({ "agentId": "main", "sessionKey": "k" })),
        (
            Method::SessionsList,
            json!({ "limit": 200, "archived": "all", "includeGlobal": true, "includeUnknown": true, "configuredAgentsOnly": true, "sortBy": "activity", "activeOnly": true, "hasBoard": true, "excludeSubagents": true, "includeActivitySummary": true, "spawnedBy": "k" }),
        ),
        (Method::SessionsDescribe, json!({ "key": "k", "agentId": "main" })),
        (Method::SessionsSubscribe, json!({ "limit": 2 })),
        (Method::SessionsMessagesSubscribe, json!({ "key": "k", "includeApprovals": true })),
        (Method::LogsTail, json!({ "limit": 500, "cursor": 0, "maxBytes": 250000 })),
        (Method::SystemActors, json!({ "path": "gateway/sessions", "depth": 1, "limit": 5 })),
        (Method::SystemChaos, json!({ "path": "gateway/store", "fault": "slow", "ms": 50 })),
    ];
    for (method, params) in recorded {
        assert_eq!(method.complaints(&params), None, "{method} {params}");
    }
}

/// Decoding and validating must agree on what is acceptable.
#[test]
fn serde_and_schema_agree() {
    let raw = serde_json::value::RawValue::from_string(
        json!({ "sessionKey": "k", "inputRunIds": ["a", "b"], "limit": 10 }).to_string(),
    );
    let parsed = crate::schema::params::<chat::HistoryParams>("chat.history", Some(&raw.unwrap())).unwrap();
    assert_eq!(parsed.input_run_ids.unwrap().len(), 2);
}

#[test]
fn rows_survive_a_round_trip() {
    let row = json!({
        "role": "assistant",
        "content": [{ "type": "text", "text": "hi" }, { "type": "toolCall", "id": "c", "name": "exec", "arguments": { "a": 1 } }, { "type": "odd", "x": 1 }],
        "timestamp": 5,
        "idempotencyKey": "r:assistant",
        "usage": { "input": 1, "output": 2, "totalTokens": 3, "cacheRead": 0, "cacheWrite": 0 },
        "stopReason": "stop",
        "__openclaw": { "runId": "r", "id": "u", "transcriptPosition": { "source": "s", "rawSeq": 4 }, "seq": 2 },
    });
    let parsed: messages::MessageRow = serde_json::from_value(row.clone()).unwrap();
    assert_eq!(parsed.content.visible_text(), "hi");
    assert_eq!(serde_json::to_value(&parsed).unwrap(), row);
    let user = json!({ "role": "user", "content": "text", "timestamp": 5 });
    let parsed: messages::MessageRow = serde_json::from_value(user.clone()).unwrap();
    assert_eq!(serde_json::to_value(&parsed).unwrap(), user);
}

/// The row the terminal UI was recorded with.
#[test]
fn a_recorded_session_row_is_read() {
    let row: Value = serde_json::from_str(r#"{"key":"agent:main:t7term2","visibility":"shared","permissionModePending":false,"createdVia":"operator","participantCount":1,"createdAt":1795140030456,"kind":"direct","classification":"direct","agentId":"main","isMain":false,"isBackground":false,"chatType":"direct","updatedAt":1795140050104,"archived":false,"pinned":false,"unread":true,"lastInteractionAt":1795140042010,"sessionId":"b62a1a96-dcc0-4bfe-ab7b-62e803fe1ee9","systemSent":true,"abortedLastRun":false,"thinkingLevels":[{"id":"off","label":"off"}],"thinkingOptions":["off"],"thinkingDefault":"off","effectiveFastMode":false,"effectiveFastModeSource":"default","fastAutoOnSeconds":60,"inputTokens":100,"outputTokens":80,"totalTokens":100,"totalTokensFresh":true,"estimatedCostUsd":0.00026,"status":"done","startedAt":1795140041782,"endedAt":1795140050030,"runtimeMs":8248,"lastRunId":"d0f32e73","effectiveResponseUsage":"off","effectiveQueueMode":"steer","modelProvider":"mock","model":"mock-1","modelOverrideSource":null,"runtimeSelectionLocked":false,"agentRuntime":{"id":"openclaw","cloudPlacementSupported":true,"devicePlacementSupported":true,"source":"implicit"},"contextTokens":200000,"snapshotAt":1795140148141,"hasActiveRun":false,"sharingRole":"admin"}"#).unwrap();
    let parsed: sessions::SessionRow = serde_json::from_value(row.clone()).unwrap();
    let written: Value = serde_json::to_value(&parsed).unwrap();
    assert_eq!(written, row);
}

#[test]
fn chat_events_are_written_as_recorded() {
    let mut event =
        events::ChatEvent::new("R".into(), crate::SessionKey::main("main"), 1, events::ChatState::Status);
    event.agent_id = Some("main".into());
    event.phase = Some("preparing_workspace".into());
    assert_eq!(
        serde_json::to_value(&event).unwrap(),
        json!({ "runId": "R", "sessionKey": "agent:main:main", "agentId": "main", "seq": 1, "state": "status", "phase": "preparing_workspace" })
    );
}

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
            Method::NodeInvoke,
            json!({ "nodeId": "n", "command": "system.which", "params": { "bins": ["ls"] }, "timeoutMs": 0, "idempotencyKey": "i", "sessionKey": "k", "turnSourceThreadId": 7 }),
        ),
        (
            Method::NodeInvokeResult,
            json!({ "id": "i", "nodeId": "n", "ok": false, "error": { "code": "X", "message": "y" } }),
        ),
        (Method::NodeInvokeResult, json!({ "id": "i", "nodeId": "n", "ok": true, "payload": null })),
        (Method::NodeInvokeProgress, json!({ "invokeId": "i", "nodeId": "n", "seq": 0, "chunk": "" })),
        (Method::NodeEvent, json!({ "event": "node.host.stats", "payloadJSON": "{}" })),
        (
            Method::NodeRunnerInventoryUpdate,
            json!({ "protocolFeatures": ["node-worker-supervisor-v6"], "workerHost": { "enabled": false } }),
        ),
        (
            Method::NodePendingEnqueue,
            json!({ "nodeId": "n", "type": "status.request", "priority": "high", "expiresInMs": 60000, "wake": true }),
        ),
        (
            Method::NodePluginToolsUpdate,
            json!({ "tools": [{ "pluginId": "p", "name": "t", "description": "d", "mcp": { "server": "s", "tool": "t" } }] }),
        ),
        (Method::EnvironmentsList, json!({ "includeDesktopSetup": true })),
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
            json!({ "sessionKey": "k", "message": "x", "idempotencyKey": "i", "sessionId": "s", "deliver": false, "__controlUiReconnectResume": true }),
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
        (
            Method::SessionsResolve,
            json!({ "shortId": "e515d1d439814091a030d72cdc3edefb", "agentId": "main", "allowMissing": true }),
        ),
        (Method::SessionsPreview, json!({ "keys": ["a", "b"], "limit": 2, "maxChars": 20 })),
        (Method::SessionsSearch, json!({ "query": "words" })),
        (
            Method::SessionsCreate,
            json!({ "agentId": "main", "message": "hi", "key": "agent:main:dashboard:e515d1d4", "idempotencyKey": "k" }),
        ),
        (
            Method::SessionsCreate,
            json!({ "label": "My label", "category": "grp1", "model": "mock/mock-2", "thinkingLevel": "off", "worktreeName": "a-1" }),
        ),
        (
            Method::SessionsPatch,
            json!({ "key": "k", "agentId": "main", "expectedMarkedUnreadAt": null, "unread": false }),
        ),
        (
            Method::SessionsPatch,
            json!({ "key": "k", "expectedSessionId": "s", "archived": true, "statusNote": "" }),
        ),
        (Method::SessionsPatchMany, json!({ "targets": [{ "key": "a" }], "patch": { "label": null } })),
        (Method::SessionsReset, json!({ "key": "k", "reason": "new", "expectedSessionId": "s" })),
        (Method::SessionsDelete, json!({ "key": "k", "expectedSessionId": "s", "deleteTranscript": true })),
        (Method::SessionsCompact, json!({ "key": "k", "maxLines": 2 })),
        (
            Method::SessionsCleanup,
            json!({ "allAgents": false, "enforce": true, "fixMissing": false, "fixDmScope": false }),
        ),
        (Method::SessionsAbort, json!({ "runId": "r" })),
        (Method::SessionsAbort, json!({ "key": "k", "clearQueued": true })),
        (Method::SessionsSend, json!({ "key": "k", "message": "x" })),
        (Method::SessionsSteer, json!({ "key": "k", "message": "x", "idempotencyKey": "i" })),
        (Method::SessionsFork, json!({ "sessionKey": "k", "entryId": "e" })),
        (Method::SessionsRewind, json!({ "sessionKey": "k", "entryId": "e" })),
        (Method::SessionsBranchesList, json!({ "sessionKey": "k" })),
        (Method::SessionsBranchesSwitch, json!({ "sessionKey": "k", "leafEntryId": "e" })),
        (Method::SessionsGroupsPut, json!({ "names": ["grp1", "grp2"] })),
        (Method::SessionsGroupsRename, json!({ "name": "extra", "to": "extra2" })),
        (Method::SessionsGroupsUpdate, json!({ "name": "extra2", "cwd": null, "worktree": false })),
        (Method::SessionsGroupsDefaults, json!({})),
        (
            Method::SessionsUsage,
            json!({ "startDate": "2026-10-22", "endDate": "2026-11-20", "agentScope": "all", "mode": "specific", "timeZone": "UTC", "utcOffset": "UTC+0", "groupBy": "family", "limit": 1000, "includeContextWeight": false }),
        ),
        (Method::SessionsUsageLogs, json!({ "key": "k", "limit": 500 })),
        (Method::SessionsViewersSet, json!({ "sessionKeys": [] })),
        (Method::SessionsObserverVisibility, json!({ "visible": true })),
        (
            Method::SessionTyping,
            json!({ "sessionKey": "k", "sessionId": "s", "typing": true, "preview": "" }),
        ),
        (Method::ChatInject, json!({ "sessionKey": "k", "message": "note", "label": "probe" })),
        (Method::ChatMessageGet, json!({ "sessionKey": "k", "messageId": "m" })),
        (Method::LogsTail, json!({ "limit": 500, "cursor": 0, "maxBytes": 250000 })),
        (Method::AgentsCreate, json!({ "name": "Helper Two", "emoji": "🦀", "workspace": "/home/user/w2" })),
        (Method::AgentsUpdate, json!({ "agentId": "helper-two", "name": "Helper 2b", "model": null })),
        (Method::AgentsDelete, json!({ "agentId": "helper-two", "deleteFiles": false })),
        (Method::AgentsFilesSet, json!({ "agentId": "main", "name": "USER.md", "content": "" })),
        (Method::SkillsStatus, json!({ "agentId": "main" })),
        (Method::SkillsStatus, json!({ "agentId": "main", "sessionKey": "k" })),
        (Method::SkillsBins, json!({})),
        (Method::SkillsInstall, json!({ "name": "x", "installId": "y", "timeoutMs": 1000 })),
        (
            Method::SkillsInstall,
            json!({ "agentId": "main", "source": "clawhub", "slug": "@a/b", "version": "1.0.0", "force": true }),
        ),
        (
            Method::SkillsInstall,
            json!({ "source": "upload", "uploadId": "u", "slug": "b", "sha256": "0".repeat(64) }),
        ),
        (
            Method::ExecApprovalRequest,
            json!({ "id": "plan-1", "command": "/usr/bin/uname -s", "commandArgv": ["/usr/bin/uname", "-s"], "systemRunPlan": { "argv": ["/usr/bin/uname", "-s"], "cwd": "/w", "commandText": "/usr/bin/uname -s", "commandPreview": null, "agentId": null, "sessionKey": null, "mutableFileOperand": { "argvIndex": 0, "path": "/usr/bin/uname", "sha256": "ed21" }, "policySnapshot": { "security": "allowlist", "ask": "on-miss", "askFallback": "deny", "autoAllowSkills": false, "allowlistRules": [] } }, "nodeId": "fb14", "host": "node", "cwd": "/w", "twoPhase": true, "timeoutMs": 30000 }),
        ),
        (
            Method::ExecApprovalRequest,
            json!({ "command": "x", "host": null, "scope": { "kind": "payment", "amount": "1", "currency": "EUR", "target": "t" }, "unavailableDecisions": ["allow-always"], "turnSourceThreadId": 5, "env": { "A": "b" }, "commandSpans": [{ "startIndex": 0, "endIndex": 1 }] }),
        ),
        (Method::ExecApprovalResolve, json!({ "id": "appr-1", "decision": "bogus" })),
        (
            Method::ApprovalResolve,
            json!({ "id": "appr-3", "kind": "exec", "decision": "allow-always", "grantExpiresInDays": 7 }),
        ),
        (Method::ApprovalHistory, json!({ "limit": 2 })),
        (
            Method::PluginApprovalRequest,
            json!({ "pluginId": "demo", "title": "Do thing", "description": "desc", "severity": "warning", "toolName": "t", "twoPhase": true, "timeoutMs": 20000, "detail": null, "allowedDecisions": null }),
        ),
        (
            Method::ExecApprovalsSet,
            json!({ "file": { "version": 1, "socket": { "path": "/s" }, "defaults": {}, "agents": { "main": { "allowlist": [{ "pattern": "/usr/bin/uname", "lastUsedAt": 1795139716700_u64 }], "mcpTools": [{ "server": "s", "tool": "t", "source": "allow-always", "addedAt": 1 }] } } }, "baseHash": "80fa" }),
        ),
        (
            Method::QuestionRequest,
            json!({ "questions": [{ "questionId": "q1", "header": "Pick", "question": "Which?", "options": [{ "label": "A" }, { "label": "B", "description": "bee" }], "multiSelect": false }], "agentId": "main", "sessionKey": "agent:main:main", "timeoutMs": 20000 }),
        ),
        (
            Method::QuestionResolve,
            json!({ "id": "q", "answers": { "answers": { "q1": ["A"] } }, "resolvedBy": "me" }),
        ),
        (Method::QuestionResolve, json!({ "id": "q", "cancel": true })),
        (Method::SystemActors, json!({ "path": "gateway/sessions", "depth": 1, "limit": 5 })),
        (Method::SystemChaos, json!({ "path": "gateway/store", "fault": "slow", "ms": 50 })),
    ];
    for (method, params) in recorded {
        assert_eq!(method.complaints(&params), None, "{method} {params}");
    }
}

/// Said wrongly, answers are refused in the recorded words.
#[test]
fn malformed_answers_are_refused_as_recorded() {
    let params = json!({ "id": "q", "answers": { "answers": { "q1": { "answers": ["A"] } } } });
    assert_eq!(
        Method::QuestionResolve.complaints(&params).unwrap(),
        "at /answers/answers/q1: must be array; must have required property 'cancel'; \
         at root: unexpected property 'answers'; must match a schema in anyOf"
    );
    let cancel = json!({ "id": "q", "cancel": false });
    assert!(
        Method::QuestionResolve
            .complaints(&cancel)
            .unwrap()
            .contains("at /cancel: must be equal to constant")
    );
}

/// Decoding and validating must agree on what is acceptable.
#[test]
fn serde_and_schema_agree() {
    let raw = serde_json::value::RawValue::from_string(
        json!({ "sessionKey": "k", "inputRunIds": ["a", "b"], "limit": 10 }).to_string(),
    );
    let parsed =
        crate::schema::params::<history::HistoryParams>("chat.history", Some(&raw.unwrap())).unwrap();
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

/// What is beyond a limit is refused by decoding and by the schema alike, in the words of the schema.
#[test]
fn limits_of_session_methods_are_kept() {
    use session_changes::{PatchManyParams, PatchParams};
    use session_create::CreateParams;
    use session_groups::UpdateParams;
    use session_reads::{PreviewParams, TypingParams, ViewersSetParams};
    use session_usage::UsageParams;

    fn refused<P>(method: Method, params: Value) -> String
    where
        P: serde::de::DeserializeOwned + schemars::JsonSchema + 'static,
    {
        let raw = serde_json::value::RawValue::from_string(params.to_string()).unwrap();
        let refusal =
            crate::schema::params::<P>(method.name(), Some(&raw)).err().unwrap_or_else(|| panic!("{params}"));
        let (_, what) = refusal.message.split_once(" params: ").unwrap();
        what.to_owned()
    }
    let many = |n: usize| vec!["k"; n];
    assert_eq!(
        refused::<PreviewParams>(Method::SessionsPreview, json!({ "keys": [] })),
        "at /keys: must not have fewer than 1 items"
    );
    assert_eq!(
        refused::<ViewersSetParams>(Method::SessionsViewersSet, json!({ "sessionKeys": many(33) })),
        "at /sessionKeys: must not have more than 32 items"
    );
    assert_eq!(
        refused::<PatchManyParams>(
            Method::SessionsPatchMany,
            json!({ "targets": [{ "key": "k" }], "patch": {} })
        ),
        "at /patch: must not have fewer than 1 properties"
    );
    let long = json!({ "key": "k", "statusNote": "x".repeat(121), "expectedMarkedUnreadAt": -1 });
    assert_eq!(
        refused::<PatchParams>(Method::SessionsPatch, long),
        "at /expectedMarkedUnreadAt: must be >= 0; at /expectedMarkedUnreadAt: must be null; \
         at /expectedMarkedUnreadAt: must match a schema in anyOf; \
         at /statusNote: must not have more than 120 characters; at /statusNote: must be null; \
         at /statusNote: must match a schema in anyOf"
    );
    assert_eq!(
        refused::<UpdateParams>(Method::SessionsGroupsUpdate, json!({ "name": "n", "worktree": true })),
        "must have required property 'cwd'"
    );
    let typing = json!({ "sessionKey": "k", "sessionId": "s", "typing": true, "preview": "x".repeat(401) });
    assert_eq!(
        refused::<TypingParams>(Method::SessionTyping, typing),
        "at /preview: must not have more than 400 characters"
    );
    for name in ["", "-a", "A", "a_b", &"a".repeat(65)] {
        let what = refused::<CreateParams>(Method::SessionsCreate, json!({ "worktreeName": name }));
        assert!(what.starts_with("at /worktreeName: must match pattern"), "{what}");
    }
    for day in ["2026-1-1", "2026-11-2x", "2026-11-200", "20261-1-20"] {
        let what = refused::<UsageParams>(Method::SessionsUsage, json!({ "startDate": day }));
        assert!(what.starts_with("at /startDate: must match pattern"), "{what}");
    }
    for offset in ["UTC", "UTC+", "UTC1", "UTC+100", "UTC+1:60", "UTC+1:5", "UTC+1:", "GMT+1"] {
        let what = refused::<UsageParams>(Method::SessionsUsage, json!({ "utcOffset": offset }));
        assert!(what.starts_with("at /utcOffset: must match pattern"), "{what}");
    }
    for offset in ["UTC+1", "UTC-03:30", "UTC+14:59"] {
        let read: UsageParams = serde_json::from_value(json!({ "utcOffset": offset })).unwrap();
        assert_eq!(read.utc_offset.unwrap().as_str(), offset);
    }
}

/// Entries as `sessions.create` and `sessions.reset` were recorded to answer them.
#[test]
fn recorded_answers_of_session_methods_are_read_and_written_alike() {
    let created = json!({ "ok": true, "key": "agent:main:t5msg", "sessionId": "e81b", "entry": { "sessionId": "e81b", "lifecycleRevision": "48b9", "updatedAt": 1795138887741_u64, "sessionRoot": "/w", "delivery": { "kind": "none" }, "createdVia": "operator", "createdAt": 1795138887741_u64, "spawnDepth": 0, "modelOverrideSource": "default", "parentSessionKey": "agent:main:main" }, "runStarted": true, "runId": "1c33", "status": "started", "resolved": { "modelProvider": "mock", "model": "mock-1" } });
    let parsed: session_create::Created = serde_json::from_value(created.clone()).unwrap();
    assert_eq!(serde_json::to_value(parsed).unwrap(), created);
    let reset = json!({ "ok": true, "key": "agent:main:t5msg", "entry": { "sessionId": "5a24", "lifecycleRevision": "38c7", "updatedAt": 5, "sessionStartedAt": 5, "systemSent": false, "abortedLastRun": false, "modelOverrideSource": "default", "chatType": "direct", "compactionCount": 0, "sessionRoot": "/w", "parentSessionKey": "agent:main:main", "createdVia": "operator", "createdAt": 4, "spawnDepth": 0, "delivery": { "kind": "internal" }, "inputTokens": 0, "outputTokens": 0, "totalTokens": 0, "totalTokensFresh": true, "totalTokensVersion": 1, "modelProvider": "mock", "model": "mock-1" }, "resolved": { "modelProvider": "mock", "model": "mock-1" } });
    let parsed: session_lifecycle::Reset = serde_json::from_value(reset.clone()).unwrap();
    assert_eq!(serde_json::to_value(parsed).unwrap(), reset);
    let aborted = json!({ "ok": true, "abortedRunId": null, "status": "no-active-run" });
    let parsed: session_lifecycle::Aborted = serde_json::from_value(aborted.clone()).unwrap();
    assert_eq!(serde_json::to_value(parsed).unwrap(), aborted);
}

/// A row as `skills.status` was recorded to give it.
#[test]
fn a_recorded_skill_is_read_and_written_alike() {
    let row: Value = serde_json::from_str(r#"{"name":"coding-agent","description":"Delegate coding work.","source":"openclaw-bundled","bundled":true,"filePath":"/s/SKILL.md","baseDir":"/s","skillKey":"coding-agent","primaryEnv":"K","emoji":"x","homepage":"https://x.example","always":false,"disabled":false,"blockedByAllowlist":false,"blockedByAgentFilter":false,"eligible":false,"platformIncompatible":false,"modelVisible":false,"userInvocable":true,"commandVisible":false,"requirements":{"bins":[],"anyBins":["claude","codex"],"env":[],"config":["skills.entries.coding-agent.enabled"],"os":[]},"missing":{"bins":[],"anyBins":["claude","codex"],"env":[],"config":["skills.entries.coding-agent.enabled"],"os":[]},"configChecks":[{"path":"skills.entries.coding-agent.enabled","satisfied":false}],"install":[{"id":"node-claude","kind":"node","label":"Install it (npm)","bins":["claude"]}]}"#).unwrap();
    let parsed: skills::SkillRow = serde_json::from_value(row.clone()).unwrap();
    assert_eq!(serde_json::to_value(parsed).unwrap(), row);
    let failed =
        json!({ "ok": false, "message": "Skill not found: x", "stdout": "", "stderr": "", "code": null });
    let parsed: skills::Installation = serde_json::from_value(failed.clone()).unwrap();
    assert_eq!(serde_json::to_value(parsed).unwrap(), failed);
}

/// What `skills.install` takes is one of its kinds, whole.
#[test]
fn kinds_of_skill_installs_are_told_apart() {
    use skills::InstallParams::{ClawHub, Git, Installer, Path, Upload};
    let read = |params: Value| serde_json::from_value::<skills::InstallParams>(params);
    assert!(matches!(read(json!({ "name": "x", "installId": "y" })), Ok(Installer(_))));
    assert!(matches!(read(json!({ "source": "clawhub", "slug": "x" })), Ok(ClawHub(_))));
    assert!(matches!(read(json!({ "source": "upload", "slug": "x", "uploadId": "u" })), Ok(Upload(_))));
    assert!(matches!(read(json!({ "source": "path", "path": "/x", "force": true })), Ok(Path(_))));
    assert!(matches!(read(json!({ "source": "git", "url": "https://x", "timeoutMs": 1000 })), Ok(Git(_))));
    for wrong in [
        json!({}),
        json!({ "source": "path" }),
        json!({ "source": "path", "path": "" }),
        json!({ "source": "path", "path": "/x", "url": "https://x" }),
        json!({ "source": "git", "url": "https://x", "timeoutMs": 999 }),
        json!({ "source": "npm", "slug": "x" }),
    ] {
        assert!(
            read(wrong.clone()).is_err() && Method::SkillsInstall.complaints(&wrong).is_some(),
            "{wrong}"
        );
    }
}

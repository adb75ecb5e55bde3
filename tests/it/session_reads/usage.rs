//! What sessions used.

use super::{PARENT, dashboard, members, stored};
use crate::client::Client;
use crate::gateway::Embedded;
use crabtree_actors::store::{InputState, NewInput, SessionUpdate, WriteOp};
use serde_json::json;

/// Runs of the past, one a minute from the beginning of 1970 on.
fn ran(n: i64, key: &str, status: &str) -> Vec<WriteOp> {
    let input = NewInput {
        id: format!("i{n}"),
        source: "rpc".into(),
        source_id: format!("k{n}"),
        session_key: key.into(),
        run_id: format!("k{n}"),
        kind: "chat.send".into(),
        text: "hello".into(),
        digest: String::new(),
        body: json!({}),
        created_at: n * 60_000,
        priority: 1,
    };
    let outcome = json!({
        "status": status, "text": "", "startedAt": n * 60_000, "endedAt": n * 60_000 + 500,
        "provider": "crabtree", "model": "offline", "usage": { "input": 10, "output": 2, "cost": { "input": 0.01, "output": 0.02 } }, "sessionId": "s",
    });
    let (session, at) = (SessionUpdate::default(), n * 60_000 + 500);
    let input_run = input.run_id.clone();
    let (inputs, state, messages) = (vec![input.id.clone()], InputState::Settled, vec![]);
    vec![
        WriteOp::AcceptInput { input, begin: true, user_message: None, session },
        WriteOp::Settle {
            turn: input_run,
            inputs,
            released: vec![],
            state,
            outcome,
            messages,
            deliveries: vec![],
            events: vec![],
            session: None,
            at,
        },
    ]
}

/// accepts: G2
#[tokio::test]
async fn usage_is_told_by_session_day_and_turn_in_the_recorded_shape() {
    let mut ops = stored();
    for n in 0..300 {
        ops.extend(ran(n, PARENT, if n == 0 { "error" } else { "ok" }));
    }
    ops.extend(ran(2_000, &dashboard(), "ok"));
    let gateway = Embedded::stored(&ops).await;
    let mut client = Client::admin(gateway.addr).await;
    let days =
        json!({ "startDate": "1970-01-01", "endDate": "1970-01-02", "groupBy": "family", "limit": 1000 });
    let usage = client.call("sessions.usage", days.clone()).await;
    let recorded = [
        "aggregates",
        "cacheStatus",
        "creatorOptions",
        "endDate",
        "sessions",
        "startDate",
        "totals",
        "updatedAt",
    ];
    assert_eq!(members(&usage), recorded);
    let rows = usage["sessions"].as_array().unwrap();
    let brief: Vec<_> =
        rows.iter().map(|row| (row["key"].as_str().unwrap(), &row["usage"]["totalTokens"])).collect();
    assert_eq!(brief, [(dashboard().as_str(), &json!(12)), (PARENT, &json!(3600))]);
    assert_eq!(rows[0]["label"], "Crab nebula plans");
    let one = &rows[1]["usage"];
    let counts =
        json!({ "total": 599, "user": 300, "assistant": 299, "toolCalls": 0, "toolResults": 0, "errors": 1 });
    assert_eq!((&one["messageCounts"], &one["activityDates"]), (&counts, &json!(["1970-01-01"])));
    let latency = json!({ "count": 299, "avgMs": 500, "minMs": 500, "maxMs": 500, "p95Ms": 500 });
    assert_eq!((&one["latency"], &one["durationMs"]), (&latency, &json!(299 * 60_000 + 500)));
    let quarters = one["utcQuarterHourTokenUsage"].as_array().unwrap();
    assert_eq!(
        (quarters.len(), &quarters[1]["quarterIndex"], &quarters[1]["input"]),
        (20, &json!(1), &json!(150))
    );
    let recorded = [
        "activityDates",
        "cacheRead",
        "cacheReadCost",
        "cacheWrite",
        "cacheWriteCost",
        "dailyBreakdown",
        "dailyLatency",
        "dailyMessageCounts",
        "dailyModelUsage",
        "durationMs",
        "firstActivity",
        "input",
        "inputCost",
        "lastActivity",
        "latency",
        "messageCounts",
        "missingCostEntries",
        "modelUsage",
        "output",
        "outputCost",
        "sessionId",
        "totalCost",
        "totalTokens",
        "utcQuarterHourMessageCounts",
        "utcQuarterHourTokenUsage",
    ];
    assert_eq!(members(one), recorded);
    let sums = &usage["aggregates"];
    let recorded = [
        "byAgent",
        "byChannel",
        "byCreator",
        "byModel",
        "byProvider",
        "costDaily",
        "daily",
        "dailyLatency",
        "latency",
        "longestSessionDurationMs",
        "messages",
        "modelDaily",
        "sessionCount",
        "tools",
    ];
    assert_eq!(members(sums), recorded);
    assert_eq!((&sums["sessionCount"], &sums["daily"][1]["tokens"]), (&json!(2), &json!(12)));
    assert_eq!(
        (&usage["totals"]["totalTokens"], &usage["totals"]["totalCost"]),
        (&json!(3612), &json!(9.03))
    );
    // Where the day begins later, what was said in the first hours belongs to the day before.
    let mut west = days;
    (west["mode"], west["utcOffset"]) = (json!("specific"), json!("UTC-1"));
    let west = client.call("sessions.usage", west).await;
    assert_eq!(west["aggregates"]["costDaily"][0]["input"], (300 - 60) * 10);

    let series = client.call("sessions.usage.timeseries", json!({ "key": "main" })).await;
    let points = series["points"].as_array().unwrap();
    assert_eq!((points.len(), &points[149]["cumulativeTokens"]), (150, &json!(3600)));
    let logs = client.call("sessions.usage.logs", json!({ "key": "main", "limit": 1 })).await;
    assert_eq!(
        logs,
        json!({ "logs": [
            { "timestamp": 2, "role": "assistant", "content": "a crab answers", "tokens": 0, "cost": 0 },
        ] })
    );
    for method in ["sessions.usage.logs", "sessions.usage.timeseries"] {
        let error = client.refused(method, json!({})).await;
        assert_eq!(error["message"], format!("{method} needs the key of a session"));
    }
    client.refused("sessions.usage.timeseries", json!({ "key": "nobody" })).await;
    client.refused("sessions.usage", json!({ "startDate": "2026-02-30" })).await;
    let cost = client.call("usage.cost", json!({ "days": 2, "agentId": "main" })).await;
    assert_eq!(members(&cost), ["cacheStatus", "daily", "days", "totals", "updatedAt"]);
    assert_eq!(client.call("usage.status", json!({})).await["providers"], json!([]));
}

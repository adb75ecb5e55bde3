//! Appointments an agent makes with itself: the jobs of its own.

use super::{Call, Definition, Effects, Permission, Sandbox, Tool, ToolResult, plain};
use crate::cron::{Answer, Ask, CronMsg};
use crate::store::{self, CronRunsFilter};
use crate::tree::{Reply, Slot};
use crabtree_protocol::params::cron::{AddParams, EnabledFilter, ListParams, RunMode, UpdateParams};
use crabtree_protocol::schema;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// How long their keeper is waited for.
const LIMIT: Duration = Duration::from_secs(10);
/// Records that are shown.
const MAX_RUNS: u32 = 20;

const ABOUT: &str = "Make appointments with yourself: jobs that tell you something, or have you do something, at a time \
    or again and again. Actions: status; list; get, runs, remove, run (id); add (job); update (id, patch). A job is \
    {name, schedule, sessionTarget, wakeMode, payload, delivery?}. schedule: {kind: \"at\", at: ISO 8601 time}, {kind: \
    \"every\", everyMs} or {kind: \"cron\", expr, tz}. To do something on your own: sessionTarget \"isolated\", payload \
    {kind: \"agentTurn\", message}, and delivery {mode: \"announce\", channel?, to?} or {mode: \"none\"}. To be told \
    something in your main session: sessionTarget \"main\", payload {kind: \"systemEvent\", text}. wakeMode: \"now\" or \
    \"next-heartbeat\". session_status tells what time it is.";

/// The tool; `cron` is who keeps the jobs.
pub(super) fn tool(cron: Slot<CronMsg>) -> Arc<dyn Tool> {
    plain(definition(), move |call| act(call, cron.clone()))
}

fn definition() -> Definition {
    let actions = ["status", "list", "get", "add", "update", "remove", "run", "runs"];
    Definition {
        name: "cron".into(),
        label: "Automations".into(),
        description: ABOUT.into(),
        parameters: json!({
            "type": "object",
            "properties": {
                "action": { "type": "string", "enum": actions },
                "id": { "type": "string", "minLength": 1 },
                "job": { "type": "object" },
                "patch": { "type": "object" },
                "includeDisabled": { "type": "boolean" },
            },
            "required": ["action"],
            "additionalProperties": false,
        }),
        group: "automation".into(),
        permissions: vec![Permission::Cron],
        timeout: LIMIT * 3,
        sandbox: Sandbox::None,
        effects: Effects::External,
    }
}

async fn act(call: Call, cron: Slot<CronMsg>) -> ToolResult {
    let id = call.args["id"].as_str().unwrap_or_default().to_owned();
    let action = call.args["action"].as_str().unwrap_or_default();
    if id.is_empty() && !matches!(action, "status" | "list" | "add") {
        return ToolResult::error(format!("{action} needs the id of a job; list tells them."));
    }
    let ask = match action {
        "status" => Ok(Ask::Status),
        "list" => Ok(Ask::List(Box::new(listed(&call)))),
        "add" => added(&call),
        "update" => updated(&call, &id),
        "get" => Ok(Ask::Get(id.clone())),
        "remove" => Ok(Ask::Remove(id.clone())),
        "run" => Ok(Ask::Run { id: id.clone(), mode: RunMode::Force }),
        _ => return runs(&call, &cron, id).await,
    };
    let ask = match ask {
        Ok(ask) => ask,
        Err(why) => return ToolResult::error(why),
    };
    if !id.is_empty()
        && let Err(why) = own(&call, &cron, &id).await
    {
        return ToolResult::error(why);
    }
    match put(&cron, ask).await {
        Ok(answer) => ToolResult::text(answer.to_string()),
        Err(why) => ToolResult::error(why),
    }
}

fn listed(call: &Call) -> ListParams {
    let all = call.args["includeDisabled"] == true;
    ListParams {
        enabled: Some(if all { EnabledFilter::All } else { EnabledFilter::Enabled }),
        agent_id: crabtree_protocol::value::Text::new(call.place.agent_id.clone()),
        compact: Some(true),
        ..ListParams::default()
    }
}

/// A job of this agent's, that comes from this session.
fn added(call: &Call) -> Result<Ask, String> {
    let mut job = call.args["job"].clone();
    if !job.is_object() {
        return Err("add needs a job.".into());
    }
    job["agentId"] = json!(call.place.agent_id);
    job["sessionKey"] = json!(call.place.session);
    job["owner"] = json!({ "agentId": call.place.agent_id, "sessionKey": call.place.session });
    read::<AddParams>(&job).map(|params| Ask::Add(Box::new(params)))
}

fn updated(call: &Call, id: &str) -> Result<Ask, String> {
    let mut patch = call.args["patch"].clone();
    if let Some(members) = patch.as_object_mut() {
        // Whose it is stays.
        members.shift_remove("agentId");
    }
    let params = read::<UpdateParams>(&json!({ "id": id, "patch": patch }))?;
    Ok(Ask::Update { id: id.to_owned(), patch: Box::new(params.patch), expected: None })
}

fn read<P: serde::de::DeserializeOwned + schemars::JsonSchema + 'static>(value: &Value) -> Result<P, String> {
    serde_json::from_value(value.clone())
        .map_err(|e| schema::complaints::<P>(value).unwrap_or_else(|| e.to_string()))
}

/// Whether the job is this agent's.
async fn own(call: &Call, cron: &Slot<CronMsg>, id: &str) -> Result<(), String> {
    let job = put(cron, Ask::Get(id.to_owned())).await?;
    let catalog = call.place.store.estate.catalog.load();
    let agent = job["agentId"].as_str().unwrap_or(&catalog.default_agent().id);
    if agent == call.place.agent_id { Ok(()) } else { Err("That is the job of another agent.".into()) }
}

async fn runs(call: &Call, cron: &Slot<CronMsg>, id: String) -> ToolResult {
    if let Err(why) = own(call, cron, &id).await {
        return ToolResult::error(why);
    }
    let filter = CronRunsFilter { job_id: Some(id), limit: MAX_RUNS, ..CronRunsFilter::default() };
    match call.place.store.read(move |c| store::cron_runs(c, &filter)).await {
        Ok((rows, total)) => {
            let entries: Vec<Value> = rows.iter().map(crate::cron::shown::entry).collect();
            ToolResult::text(json!({ "total": total, "entries": entries }).to_string())
        }
        Err(e) => ToolResult::error(format!("The records could not be read: {e}. Try again in a moment.")),
    }
}

/// Asks once: what is lost with a crash may have been done.
async fn put(cron: &Slot<CronMsg>, ask: Ask) -> Result<Value, String> {
    let (reply, answer) = Reply::<Answer>::oneshot();
    let _ = cron.send(CronMsg::Asked(Box::new(ask), reply));
    match tokio::time::timeout(LIMIT, answer).await {
        Ok(Ok(answer)) => answer.map_err(|refusal| refusal.message),
        _ => {
            Err("Nobody answered; it may or may not have been done. Look with list before trying again."
                .into())
        }
    }
}

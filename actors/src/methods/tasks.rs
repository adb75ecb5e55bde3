//! Tasks: they are read from the store, and ended by the actor of jobs.

use super::{Call, store_refusal};
use crate::connection::ConnectionMsg;
use crate::cron::{Answer, Ask, CronMsg, tasks};
use crate::store::{self, TaskFilter};
use crate::tree::{Ctx, Reply};
use crabtree_protocol::Refusal;
use crabtree_protocol::params::tasks::{
    CancelParams, GetParams, GotTask, ListParams, TaskStatus, TaskStatuses, Tasks,
};
use serde_json::{Value, json};

/// Tasks on a page, unless it is said otherwise (as recorded).
const PAGE: u32 = 100;
/// Characters of what was to be done.
const MAX_PROMPT: usize = 4_000;

fn default_agent(call: &Call<'_>) -> String {
    call.estate().catalog.load().default_agent().id.clone()
}

pub(super) fn list(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<ListParams>() else { return };
    let offset = match params.cursor.as_deref().map(str::parse::<u32>) {
        None => 0,
        Some(Ok(offset)) => offset,
        Some(Err(_)) => return call.responder.refuse(Refusal::no_task_cursor()),
    };
    let agent = default_agent(&call);
    let statuses: Vec<TaskStatus> = match params.status {
        None => Vec::new(),
        Some(TaskStatuses::One(status)) => vec![status],
        Some(TaskStatuses::Several(statuses)) => statuses,
    };
    let limit = params.limit.map_or(PAGE, |n| u32::try_from(n.get()).unwrap_or(PAGE));
    // Runs of jobs belong to no session.
    if params.session_key.is_some() {
        return call.responder.ok(&Tasks { tasks: Vec::new(), next_cursor: None });
    }
    let filter = TaskFilter {
        statuses: statuses.iter().map(|status| status.name().to_owned()).collect(),
        agent_id: params.agent_id.map(String::from),
        default_agent: agent.clone(),
        // One more tells whether there is another page.
        limit: limit + 1,
        offset,
    };
    let (store, responder) = (call.wiring.store.clone(), call.responder);
    ctx.detached(async move {
        let rows = store.read(move |c| store::tasks(c, &filter)).await.map_err(|e| store_refusal(&e));
        responder.settle(rows.map(|rows| {
            let next_cursor = (rows.len() > limit as usize).then(|| (offset + limit).to_string());
            let page = rows.iter().take(limit as usize);
            Tasks { tasks: page.filter_map(|row| tasks::task(row, &agent)).collect(), next_cursor }
        }));
    });
}

pub(super) fn get(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((GetParams { task_id }, call)) = call.parse() else { return };
    let (id, agent) = (task_id.into_string(), default_agent(&call));
    let (store, responder) = (call.wiring.store.clone(), call.responder);
    ctx.detached(async move {
        let name = id.clone();
        let row = store.read(move |c| store::task(c, &name)).await.map_err(|e| store_refusal(&e));
        responder.settle(row.and_then(|row| {
            let row = row.ok_or_else(|| Refusal::no_task(&id))?;
            let mut task = tasks::task(&row, &agent).ok_or_else(|| Refusal::no_task(&id))?;
            let payload = &row.job["payload"];
            let prompt = payload["message"].as_str().or(payload["text"].as_str());
            task.prompt = prompt.map(|prompt| prompt.chars().take(MAX_PROMPT).collect());
            Ok(GotTask { task })
        }));
    });
}

pub(super) fn cancel(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((CancelParams { task_id, .. }, call)) = call.parse() else { return };
    let (id, agent) = (task_id.into_string(), default_agent(&call));
    let (store, cron, responder) = (call.wiring.store.clone(), call.wiring.cron.clone(), call.responder);
    ctx.detached(async move {
        let (reply, answered) = Reply::<Answer>::oneshot();
        if cron.send(CronMsg::Asked(Box::new(Ask::Cancel(id.clone())), reply)).is_err() {
            return;
        }
        // Without an answer the responder is dropped here, and says that it was not answered.
        let Ok(answer) = answered.await else { return };
        let is_open = |answer: &Value| answer["found"] == true;
        responder.settle(match answer {
            Ok(answer) if !is_open(&answer) => {
                let row = store.read(move |c| store::task(c, &id)).await.map_err(|e| store_refusal(&e));
                row.map(|row| json!(tasks::over(row.as_ref(), &agent)))
            }
            answer => answer,
        });
    });
}

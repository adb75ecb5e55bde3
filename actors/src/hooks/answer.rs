//! A request to a webhook, and what it is answered: the one way in.

use super::action::{self, Action, Run};
use super::completion::completion;
use super::template::{Scene, is_template};
use super::{Wrong, mapping, run, wake};
use crate::gateway::Wiring;
use crate::sessions::Saying;
use crate::settings::Secret;
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// How long is waited for several runs to be admitted (as recorded); those that are not go on by themselves.
const PATIENCE: Duration = Duration::from_secs(8);
/// Failures that are named in one answer.
const MAX_ERRORS: usize = 5;

/// A request that may be followed.
pub struct Request {
    /// What it was let in with.
    pub token: Secret,
    /// What it says.
    pub scene: Scene,
    /// Its idempotency key, if its head has one.
    pub key: Option<String>,
}

/// What it is answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The status of HTTP.
    pub status: u16,
    /// JSON; none: it is said in words what the status says.
    pub body: Option<Value>,
}

impl Answer {
    fn ok(body: Value) -> Self {
        Self { status: 200, body: Some(body) }
    }
}

impl From<Wrong> for Answer {
    fn from(wrong: Wrong) -> Self {
        let mut body = json!({ "ok": false, "error": wrong.error });
        if let Some(run_id) = wrong.run_id {
            body["runId"] = json!(run_id);
        }
        Self { status: wrong.status, body: Some(body) }
    }
}

/// Follows it.
pub async fn answer(wiring: &Arc<Wiring>, request: Request) -> Answer {
    let answered = match request.scene.path.as_str() {
        "wake" => woken(wiring, &request).await,
        "agent" => asked(wiring, request).await,
        _ => mapped(wiring, request).await,
    };
    answered.unwrap_or_else(Answer::from)
}

async fn woken(wiring: &Wiring, request: &Request) -> Result<Answer, Wrong> {
    let asked = action::wake(&request.scene.payload)?;
    let mode = asked.mode;
    let fresh = wake::wake(wiring, asked).await?;
    Ok(Answer::ok(json!({ "ok": true, "mode": mode.name(), "eventOutcome": outcome(fresh) })))
}

fn outcome(fresh: bool) -> &'static str {
    if fresh { "queued" } else { "coalesced" }
}

async fn asked(wiring: &Arc<Wiring>, request: Request) -> Result<Answer, Wrong> {
    let config = wiring.store.estate.config.load_full();
    let asked = action::run(&request.scene.payload, &config.settings.channels)?;
    let key = action::key(request.key.as_deref()).or(asked.key.clone());
    let saying = run::admit(wiring, &request.token, "agent", Run { key, ..asked }).await?;
    let mut body = json!({ "ok": true, "runId": saying.run_id });
    if request.scene.payload["waitForCompletion"] == true {
        let run_id = Some(saying.run_id.clone());
        let gone = Wrong { run_id, ..Wrong::later("what came of it cannot be known now; ask again") };
        body["completion"] = json!(completion(&saying).await.ok_or(gone)?);
    }
    Ok(Answer::ok(body))
}

async fn mapped(wiring: &Arc<Wiring>, request: Request) -> Result<Answer, Wrong> {
    let config = wiring.store.estate.config.load_full();
    let mappings = config.settings.hooks.all_mappings();
    let Request { token, scene, key } = request;
    let Some(found) = mapping::find(&mappings, &scene) else { return Ok(Answer { status: 404, body: None }) };
    let names_items = found.session_key.as_deref().is_some_and(is_template);
    let (mut runs, mut wakes) = (Vec::new(), Vec::new());
    for (at, action) in mapping::actions(found, &scene, &config.settings.channels)?.into_iter().enumerate() {
        match action {
            Action::Wake(wake) => wakes.push(wake),
            Action::Run(mut run) => {
                // Where the session names what comes, the same item again is the same run.
                let item = run.session.as_ref().filter(|_| found.for_each.is_some() && names_items);
                run.key = match action::key(key.as_deref()) {
                    Some(key) => Some(format!("{key}\n{at}")),
                    None => item.map(|named| named.key.clone()),
                };
                runs.push(*run);
            }
        }
    }
    let mut woken = None;
    for wake in wakes {
        let mode = wake.mode;
        let fresh = wake::wake(wiring, wake).await?;
        woken = Some((mode, fresh || woken.is_some_and(|(_, before)| before)));
    }
    let mut body = match (runs.len(), woken) {
        (0, None) => return Ok(Answer { status: 204, body: None }),
        (0, Some(_)) => json!({ "ok": true }),
        (1, _) => {
            let saying = run::admit(wiring, &token, &scene.path, runs.swap_remove(0)).await?;
            json!({ "ok": true, "runId": saying.run_id })
        }
        _ => several(wiring, &token, &scene.path, runs).await?,
    };
    if let Some((mode, fresh)) = woken {
        body["mode"] = json!(mode.name());
        body["eventOutcome"] = json!(outcome(fresh));
    }
    let status = if body["ok"] == true { 200 } else { 503 };
    Ok(Answer { status, body: Some(body) })
}

/// Admits several; what does not come in time does so by itself.
async fn several(wiring: &Arc<Wiring>, token: &Secret, path: &str, runs: Vec<Run>) -> Result<Value, Wrong> {
    let count = runs.len();
    let admit = |run: Run| {
        let (wiring, token, path) = (wiring.clone(), token.clone(), path.to_owned());
        let admitted = tokio::spawn(async move { run::admit(&wiring, &token, &path, run).await });
        tokio::time::timeout(PATIENCE, admitted)
    };
    let (mut run_ids, mut errors) = (Vec::new(), Vec::new());
    for admitted in join_all(runs.into_iter().map(admit)).await {
        match admitted {
            Ok(Ok(Ok(Saying { run_id, .. }))) => run_ids.push(run_id),
            Ok(Ok(Err(wrong))) => errors.push(wrong.error),
            Ok(Err(_)) => errors.push("it came to nothing".to_owned()),
            Err(_) => errors.push("it is not admitted yet, and goes on".to_owned()),
        }
    }
    if errors.is_empty() {
        return Ok(json!({ "ok": true, "runId": run_ids[0], "runIds": run_ids, "dispatched": count }));
    }
    errors.truncate(MAX_ERRORS);
    let error = format!("incomplete: {} of {count} runs were admitted", run_ids.len());
    Ok(json!({ "ok": false, "error": error, "runIds": run_ids, "errors": errors }))
}

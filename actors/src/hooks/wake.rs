//! Telling an agent something: in its main session with a heartbeat, or in a session that is named.

use super::action::Wake;
use super::{SOURCE, Wrong, event, outside, rules};
use crate::gateway::Wiring;
use crate::media::Uploads;
use crate::scheduler::SchedulerMsg;
use crate::sessions::{Saying, Submission};
use crate::settings::HookWake;
use crate::store::{CronOp, EventRow, NewInput, WriteOp, WriteReply};
use crabtree_protocol::SessionKey;
use serde_json::json;
use std::time::Duration;
use uuid::Uuid;

/// How long a session may take to take something in (as recorded).
pub const PATIENCE: Duration = Duration::from_secs(15);
/// Place in the backlog: after those who address the agent themselves.
pub const PRIORITY: i64 = 1;

/// Tells it; false if the same waits already.
pub async fn wake(wiring: &Wiring, wake: Wake) -> Result<bool, Wrong> {
    let estate = &wiring.store.estate;
    let config = estate.config.load_full();
    let hooks = &config.settings.hooks;
    let catalog = estate.catalog.load_full();
    let agent = rules::agent(hooks, &catalog, &wake.agent)?;
    if let Some(named) = &wake.session {
        let key = rules::session(hooks, &agent, named)?;
        return say(wiring, key, &wake.text).await.map(|()| true);
    }
    let key = SessionKey::canonical(&catalog.main_key, &agent)?;
    let row = EventRow {
        id: event::id(wake.mode, &Uuid::now_v7().to_string()),
        session_key: key.to_string(),
        text: wake.text,
        at: estate.clock.now_ms(),
        run_id: None,
    };
    let written = wiring.store.write(WriteOp::Cron(CronOp::TellOnce(row))).await;
    let fresh = match written {
        Ok(WriteReply::Count(count)) => count > 0,
        Ok(_) => return Err(Wrong::failed("the store answered an event with something else")),
        Err(e) => return Err(Wrong::later(format!("the event was not stored: {e}; try again"))),
    };
    if wake.mode == HookWake::Now {
        // Should nobody be there to hear it, the event says so itself when somebody is.
        let _ = wiring.scheduler.send(SchedulerMsg::Now(agent));
    }
    Ok(fresh)
}

/// Says it in a session that is no main session.
async fn say(wiring: &Wiring, key: SessionKey, text: &str) -> Result<(), Wrong> {
    let run_id = Uuid::new_v4().to_string();
    let saying = Saying {
        store: wiring.store.clone(),
        sessions: wiring.sessions.clone(),
        source: SOURCE,
        key: key.clone(),
        run_id: run_id.clone(),
    };
    let text = outside::told("wake", &format!("System event: {text}"));
    let sender = json!({ "senderIsOwner": false, "hook": "wake" });
    let taken = saying.taken(|responder| {
        let input = NewInput {
            id: Uuid::now_v7().to_string(),
            source: SOURCE.into(),
            source_id: run_id.clone(),
            session_key: key.to_string(),
            run_id: run_id.clone(),
            kind: "wake".into(),
            digest: run_id.clone(),
            text: text.clone(),
            body: json!({ "sender": sender, "hook": true }),
            created_at: wiring.store.estate.clock.now_ms(),
            priority: PRIORITY,
        };
        let (sender, uploads, responder) = (sender.clone(), Uploads::default(), Some(responder));
        Ok(Submission { input, sender, uploads, responder, must_exist: false })
    });
    match tokio::time::timeout(PATIENCE, taken).await {
        Ok(taken) => Ok(taken?),
        Err(_) => Err(Wrong::later("the session did not take it in time; try again")),
    }
}

//! Asking an agent something: admitted when it is durable, and over when its outcome is.

use super::action::{Chat, Deliver, Run};
use super::event::Tell;
use super::wake::{PATIENCE, PRIORITY};
use super::{SOURCE, Wrong, outside, rules};
use crate::channels::{self, Answer, Target};
use crate::gateway::Wiring;
use crate::media::Uploads;
use crate::scheduler::SchedulerMsg;
use crate::sessions::{Saying, Submission};
use crate::settings::{HookSessionMode, HookWake, Secret, Thinking};
use crate::store::NewInput;
use crabtree_protocol::{RunId, SessionKey};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

/// Admits a run, or finds the one that it is again.
pub async fn admit(wiring: &Arc<Wiring>, token: &Secret, path: &str, run: Run) -> Result<Saying, Wrong> {
    let estate = &wiring.store.estate;
    let config = estate.config.load_full();
    let catalog = estate.catalog.load_full();
    let agent = rules::agent(&config.settings.hooks, &catalog, &run.agent)?;
    let run_id = rules::run_id(token, path, &agent, &run);
    let key = rules::place(&config.settings.hooks, &agent, &run, &run_id)?;
    let saying = Saying {
        store: wiring.store.clone(),
        sessions: wiring.sessions.clone(),
        source: SOURCE,
        key: key.clone(),
        run_id: run_id.to_string(),
    };
    if saying.is_taken().await == Some(true) {
        return Ok(saying);
    }
    if let Some(name) = run.model.as_deref().filter(|name| catalog.model(name).is_none()) {
        return Err(Wrong::request(format!(
            "unknown model {name:?}: `crabtree models` lists those there are"
        )));
    }
    let permit = estate.hook_runs.clone().try_acquire_owned();
    let permit = permit.map_err(|_| Wrong::later("too many runs of webhooks are open; try again later"))?;
    let main = SessionKey::canonical(&catalog.main_key, &agent)?;
    let submission = Draft::of(wiring, &run, &run_id, &key, &main).await?;
    let taken = saying.taken(|responder| Ok(submission.made(wiring, &saying, responder)));
    let refused = |mut wrong: Wrong| {
        wrong.run_id = Some(run_id.to_string());
        wrong
    };
    match tokio::time::timeout(PATIENCE, taken).await {
        Ok(taken) => taken.map_err(|refusal| refused(refusal.into()))?,
        Err(_) => return Err(refused(Wrong::later("the session did not take it in time; try again"))),
    }
    tracing::info!(target: "crabtree::hooks", run = %run_id, name = run.name, agent, "a webhook asks for a run");
    tokio::spawn(follow(wiring.clone(), saying.clone(), permit, (run.name, agent, run.wake)));
    Ok(saying)
}

/// Waits for the end: who is to hear of it at once does.
async fn follow(
    wiring: Arc<Wiring>,
    saying: Saying,
    permit: OwnedSemaphorePermit,
    (name, agent, wake): (String, String, HookWake),
) {
    let outcome = saying.outcome(|| None).await;
    drop(permit);
    let Some(outcome) = outcome else { return };
    tracing::info!(target: "crabtree::hooks", run = saying.run_id, name, status = outcome.status.as_str(),
        "hook agent run completed");
    let input = saying.input().await;
    if wake == HookWake::Now && input.is_some_and(|input| !super::events(&[input], &outcome).is_empty()) {
        let _ = wiring.scheduler.send(SchedulerMsg::Now(agent));
    }
}

/// What is said, before it is.
struct Draft {
    text: String,
    sender: Value,
    body: Value,
}

impl Draft {
    async fn of(
        wiring: &Wiring,
        run: &Run,
        run_id: &RunId,
        key: &SessionKey,
        main: &SessionKey,
    ) -> Result<Self, Wrong> {
        let sender = json!({ "senderIsOwner": false, "hook": run.name });
        let mut body = json!({ "sender": sender, "hook": true });
        if let Some(model) = &run.model {
            body["model"] = json!(model);
        }
        if let Some(level) = run.thinking.clone() {
            body["thinking"] = json!(Thinking::try_from(level).map_err(Wrong::request)?);
        }
        if let Some(seconds) = run.timeout_seconds {
            body["timeoutMs"] = json!(seconds.saturating_mul(1_000));
        }
        let chat = match &run.deliver {
            Deliver::Chat(chat) => chat_of(wiring, chat, main, run_id).await?,
            Deliver::Main | Deliver::Nobody => None,
        };
        // A run in the main session is heard there anyway.
        match chat {
            Some(answer) => body["channel"] = json!(answer),
            None if key == main => {}
            None => {
                let quiet = run.deliver == Deliver::Nobody;
                body["tell"] =
                    json!(Tell { session: main.to_string(), name: run.name.clone(), wake: run.wake, quiet });
            }
        }
        if run.session_mode == HookSessionMode::Isolated {
            body["isolated"] = json!(true);
        }
        let text = if run.trusted { run.message.clone() } else { outside::told(&run.name, &run.message) };
        Ok(Self { text, sender, body })
    }

    fn made(&self, wiring: &Wiring, saying: &Saying, responder: crate::responder::Responder) -> Submission {
        let input = NewInput {
            id: Uuid::now_v7().to_string(),
            source: SOURCE.into(),
            source_id: saying.run_id.clone(),
            session_key: saying.key.to_string(),
            run_id: saying.run_id.clone(),
            kind: "hook".into(),
            // The run's name says what is asked.
            digest: saying.run_id.clone(),
            text: self.text.clone(),
            body: self.body.clone(),
            created_at: wiring.store.estate.clock.now_ms(),
            priority: PRIORITY,
        };
        let (sender, uploads) = (self.sender.clone(), Uploads::default());
        Submission { input, sender, uploads, responder: Some(responder), must_exist: false }
    }
}

/// Where the answer goes; nowhere, if nothing of it was named and nobody has spoken to the main session on a channel.
async fn chat_of(
    wiring: &Wiring,
    chat: &Chat,
    main: &SessionKey,
    run_id: &RunId,
) -> Result<Option<Answer>, Wrong> {
    let target = Target {
        channel: chat.channel.clone(),
        to: chat.to.clone(),
        account: chat.account.clone(),
        thread: None,
    };
    match channels::answer_to(&wiring.store, target, std::slice::from_ref(main), &format!("hook-{run_id}"))
        .await
    {
        Ok(answer) => Ok(Some(answer)),
        Err(_) if *chat == Chat::default() => Ok(None),
        Err(why) => Err(Wrong::request(why)),
    }
}

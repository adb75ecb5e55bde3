//! What comes in on a channel enters a session by the same door as what clients say.

use super::super::commands::{self, Command, Typed};
use super::{Awaited, Said, awaited};
use crate::audit;
use crate::gateway::Wiring;
use crate::responder::Responder;
use crate::sessions::{SessionMsg, SessionsMsg, Submission, merge};
use crate::tree::Reply;
use crabtree_protocol::{Refusal, RunId, SessionKey};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// How long a command of a channel may take: those that ask a model take its time.
const COMMAND_LIMIT: Duration = Duration::from_secs(600);
/// When a session that is starting, or down, is spoken to again.
const AGAIN: Duration = Duration::from_millis(100);

/// Something that was said on a channel.
#[derive(Clone)]
pub(crate) struct Spoken {
    /// The session it belongs to.
    pub key: SessionKey,
    /// Its run: the same for the same message.
    pub run_id: RunId,
    /// Where it came in, and what it is called there.
    pub source: (String, String),
    /// As the agent reads it.
    pub text: String,
    /// As it was written, from somebody who may give commands.
    pub command: Option<String>,
    /// Who said it, as transcripts keep it.
    pub sender: Value,
    /// The same in words.
    pub who: String,
    /// What is kept with the input: where its answer goes, and what was overheard and is told with it.
    pub extra: Value,
    /// Its place in the backlog.
    pub priority: i64,
    /// What came with it: type, name and content of each.
    pub files: Vec<(String, Option<String>, Vec<u8>)>,
}

/// Says it; resolves when it is durable. A command's answer is what it comes back with.
///
/// # Errors
/// The session does not take it, and will not; what passes is waited for.
pub(crate) async fn said_on_channel(
    wiring: &Arc<Wiring>,
    spoken: &Spoken,
) -> Result<Option<String>, Refusal> {
    let estate = &wiring.store.estate;
    let command = spoken.command.as_deref().and_then(|text| {
        let settings = &estate.config.load().settings.session;
        commands::parse(settings, text).map(|command| (command, text.to_owned()))
    });
    match command {
        Some(((Command::Stop, _), _)) => stop(wiring, spoken).await.map(Some),
        Some((command, text)) => {
            let channel = spoken.source.0.split(':').next().unwrap_or_default();
            let key = spoken.key.to_string();
            let note = audit::command(estate, channel, &spoken.sender, &text, &key);
            let answered = answer(wiring, spoken, command, text).await;
            if let Some(note) = note {
                note.end(answered.as_ref().map(drop));
            }
            answered.map(Some)
        }
        None => submit(wiring, spoken).await.map(|()| None),
    }
}

async fn submit(wiring: &Arc<Wiring>, spoken: &Spoken) -> Result<(), Refusal> {
    loop {
        let (answer, answered) = Reply::oneshot();
        match submission(wiring, spoken, answer) {
            Ok(submission) => {
                let submit = SessionMsg::Submit(Box::new(submission));
                let _ = wiring.sessions.send(SessionsMsg::To(spoken.key.clone(), submit));
                match answered.await {
                    Ok(Ok(_)) => return Ok(()),
                    // What passes is waited for; what does not is its outcome.
                    Ok(Err(refusal)) if refusal.retryable != Some(true) => return Err(refusal),
                    Ok(Err(_)) | Err(_) => {}
                }
            }
            Err(refusal) if refusal.retryable != Some(true) => return Err(refusal),
            Err(_) => {}
        }
        tokio::time::sleep(AGAIN).await;
    }
}

fn submission(
    wiring: &Wiring,
    spoken: &Spoken,
    answer: Reply<Result<Value, Refusal>>,
) -> Result<Submission, Refusal> {
    let estate = &wiring.store.estate;
    let said = Said {
        uploads: estate.inbox.bring(spoken.files.clone())?,
        ..Said::message(spoken.run_id.to_string(), spoken.text.clone())
    };
    let responder = Responder::inside(estate.conns.apart(), answer);
    let now = estate.clock.now_ms();
    let mut submission = said.submission(&spoken.key, spoken.sender.clone(), now, Some(responder));
    let input = &mut submission.input;
    (input.source, input.source_id) = spoken.source.clone();
    input.priority = spoken.priority;
    merge(&mut input.body, spoken.extra.clone());
    Ok(submission)
}

async fn stop(wiring: &Arc<Wiring>, spoken: &Spoken) -> Result<String, Refusal> {
    loop {
        let (done, stopped) = Reply::oneshot();
        let abort = SessionMsg::Abort { run_id: None, reason: "stop", done };
        let _ = wiring.sessions.send(SessionsMsg::To(spoken.key.clone(), abort));
        match stopped.await {
            Ok(runs) if runs.is_empty() => return Ok("⚙️ Nothing is running.".into()),
            Ok(_) => return Ok("⚙️ Agent was aborted.".into()),
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}

async fn answer(
    wiring: &Arc<Wiring>,
    spoken: &Spoken,
    command: (Command, String),
    text: String,
) -> Result<String, Refusal> {
    let estate = &wiring.store.estate;
    let from = (spoken.sender.clone(), spoken.who.clone());
    let typed = Typed::new(command, spoken.key.clone(), spoken.run_id.clone(), text, from);
    let (answer, answered) = Reply::oneshot();
    let responder = Responder::inside(estate.conns.apart(), answer);
    commands::answer(wiring.clone(), typed, responder).await;
    answered.await.unwrap_or_else(|_| Err(Refusal::unavailable(100)))?;
    match awaited(&wiring.store, &spoken.run_id, COMMAND_LIMIT).await {
        Awaited::Settled(outcome) => Ok(outcome.text),
        Awaited::Late | Awaited::Parked => Ok("⚠️ The command was not answered in time.".into()),
    }
}

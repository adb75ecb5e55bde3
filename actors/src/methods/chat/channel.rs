//! What comes in on a channel enters a session by the same door as what clients say.

use super::super::commands::{self, Command, Typed};
use super::super::store_refusal;
use super::{Awaited, Said, awaited};
use crate::audit;
use crate::gateway::Wiring;
use crate::responder::Responder;
use crate::sessions::{SessionMsg, SessionsMsg, Submission, merge};
use crate::store;
use crate::tree::Reply;
use crabtree_protocol::{Refusal, RunId, SessionKey};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

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
    /// How long it is tried where the session does not take it for now.
    pub patience: Duration,
}

/// What came of it.
pub(crate) enum Taken {
    /// It is an input of its session, and answered like one.
    In,
    /// It was a command, and this is its answer.
    Answered(String),
    /// The same, once a model has done its part.
    Answering(BoxFuture<'static, Result<String, Refusal>>),
}

/// Says it; resolves when it is durable.
///
/// # Errors
/// The session does not take it, and will not; what passes is waited for, for a while.
pub(crate) async fn said_on_channel(wiring: &Arc<Wiring>, spoken: &Spoken) -> Result<Taken, Refusal> {
    let estate = &wiring.store.estate;
    let command = spoken.command.as_deref().and_then(|text| {
        let settings = &estate.config.load().settings.session;
        commands::parse(settings, text).map(|command| (command, text.to_owned()))
    });
    match command {
        Some(((Command::Stop, _), _)) => stop(wiring, spoken).await.map(Taken::Answered),
        Some((command, text)) => {
            let channel = spoken.source.0.split(':').next().unwrap_or_default();
            let key = spoken.key.to_string();
            let note = audit::command(estate, channel, &spoken.sender, &text, &key);
            let answered = answer(wiring, spoken, command, text).await;
            if let Some(note) = note {
                note.end(answered.as_ref().map(drop));
            }
            answered
        }
        None => submit(wiring, spoken).await,
    }
}

/// How long something is tried.
struct Tries {
    patience: Duration,
    /// When it was refused first.
    since: Option<Instant>,
}

impl Tries {
    fn of(spoken: &Spoken) -> Self {
        Self { patience: spoken.patience, since: None }
    }

    /// Waits before the next one; the refusal, if they were enough. A gateway that takes nothing at the moment is about to
    /// end or to go on: what is not taken in by then comes again.
    async fn again(&mut self, wiring: &Wiring, refusal: Refusal) -> Result<(), Refusal> {
        if !wiring.store.estate.admits() {
            self.since = None;
        } else if self.since.get_or_insert_with(Instant::now).elapsed() >= self.patience {
            return Err(refusal);
        }
        tokio::time::sleep(AGAIN).await;
        Ok(())
    }
}

fn out_of_order() -> Refusal {
    Refusal::failed("this session cannot be reached at the moment; try again later").with_retry(100)
}

async fn submit(wiring: &Arc<Wiring>, spoken: &Spoken) -> Result<Taken, Refusal> {
    let mut tries = Tries::of(spoken);
    loop {
        let (answer, answered) = Reply::oneshot();
        let refusal = match submission(wiring, spoken, answer) {
            Ok(submission) => {
                let submit = SessionMsg::Submit(Box::new(submission));
                let _ = wiring.sessions.send(SessionsMsg::To(spoken.key.clone(), submit));
                match answered.await {
                    Ok(Ok(_)) => return Ok(Taken::In),
                    Ok(Err(refusal)) => refusal,
                    Err(_) => out_of_order(),
                }
            }
            Err(refusal) => refusal,
        };
        // What passes is waited for; what does not is its outcome.
        if refusal.retryable != Some(true) {
            return Err(refusal);
        }
        tries.again(wiring, refusal).await?;
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
    let mut tries = Tries::of(spoken);
    loop {
        let (done, stopped) = Reply::oneshot();
        let abort = SessionMsg::Abort { run_id: None, reason: "stop", done };
        let _ = wiring.sessions.send(SessionsMsg::To(spoken.key.clone(), abort));
        match stopped.await {
            Ok(runs) if runs.is_empty() => return Ok("⚙️ Nothing is running.".into()),
            Ok(_) => return Ok("⚙️ Agent was aborted.".into()),
            Err(_) => tries.again(wiring, out_of_order()).await?,
        }
    }
}

async fn answer(
    wiring: &Arc<Wiring>,
    spoken: &Spoken,
    command: (Command, String),
    text: String,
) -> Result<Taken, Refusal> {
    let from = (spoken.sender.clone(), spoken.who.clone());
    let typed = Typed::new(command, spoken.key.clone(), spoken.run_id.clone(), text, from);
    if typed.is_followed() {
        return begin_and_say(wiring, spoken, &typed).await;
    }
    let takes_long = typed.command == Command::Compact;
    let (answer, answered) = Reply::oneshot();
    let responder = Responder::inside(wiring.store.estate.conns.apart(), answer);
    let carried_out = tokio::spawn(commands::answer(wiring.clone(), typed, responder));
    answered.await.unwrap_or_else(|_| Err(Refusal::unavailable(100)))?;
    let (store, run_id) = (wiring.store.clone(), spoken.run_id.clone());
    let told = async move {
        let _ = carried_out.await;
        match awaited(&store, &run_id, COMMAND_LIMIT).await {
            Awaited::Settled(outcome) => Ok(outcome.text),
            Awaited::Late | Awaited::Parked => Ok("⚠️ The command was not answered in time.".into()),
        }
    };
    if takes_long { Ok(Taken::Answering(Box::pin(told))) } else { told.await.map(Taken::Answered) }
}

/// The session begins anew with what follows the command, which is a message like any other.
async fn begin_and_say(wiring: &Arc<Wiring>, spoken: &Spoken, typed: &Typed) -> Result<Taken, Refusal> {
    let (source, id) = spoken.source.clone();
    let is_said = wiring.store.read(move |c| store::input_by_source(c, &source, &id)).await;
    if is_said.map_err(|e| store_refusal(&e))?.is_none() {
        commands::begin_anew(wiring, typed).await?;
    }
    let mut said = Spoken { text: typed.args.clone(), ..spoken.clone() };
    // What was overheard is told with the next message.
    said.extra["overheard"] = json!([]);
    submit(wiring, &said).await
}

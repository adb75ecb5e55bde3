//! **Owns** one turn of the agent: the model's stream and the text so far.
//! **Hears** its own stream; **tells** its session what happens, and everything at once when asked to report.
//! **On crash** the text is lost: its session starts the input again, or gives it up after two attempts.
//!
//! It outlives a crash of its session. When it has ended it waits until the session has settled the outcome
//! and stops it.

use super::session::SessionMsg;
use crate::agents::{Chunk, Prompt, Said, Speaker, Usage};
use crate::estate::Estate;
use crate::store::{self, HistoryPage, Store};
use crate::tree::*;
use crabtree_protocol::{RunId, SessionKey};
use futures_util::StreamExt;
use std::sync::Arc;
use std::time::Duration;

/// Transcript rows the model is shown.
const CONTEXT_ROWS: u32 = 50;

/// What a run is started with.
#[derive(Clone)]
pub struct RunArgs {
    /// The run.
    pub run_id: RunId,
    /// Its session.
    pub key: SessionKey,
    /// What is to be answered.
    pub text: String,
    /// `provider/model`.
    pub model: String,
    /// How long it may take.
    pub timeout: Duration,
    /// The Estate.
    pub estate: Arc<Estate>,
    /// Where it reads the transcript.
    pub store: Store,
    /// Whom it tells.
    pub session: Slot<SessionMsg>,
}

/// What a run hears.
pub enum RunMsg {
    /// It has a lane and a model.
    Started,
    /// A piece of the answer.
    Wrote(String),
    /// The end.
    Over(RunEnd),
    /// A reborn session asks for everything.
    Report,
}

/// How the model's work ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunEnd {
    /// The answer is complete.
    Done(Usage),
    /// There is none, or it broke off.
    Failed(String),
    /// It took too long.
    TimedOut,
}

/// What a session hears of a run.
pub enum RunNews {
    /// The model's work begins; text told before is void.
    Started {
        /// The model's provider.
        provider: String,
        /// The model.
        model: String,
    },
    /// More text.
    Delta(String),
    /// The end.
    Ended(RunEnd),
    /// Everything so far, for a reborn session.
    Report {
        /// Provider and name of the model, if its work has begun.
        model: Option<(String, String)>,
        /// All of the text.
        text: String,
        /// The end, if it has come.
        ended: Option<RunEnd>,
    },
}

/// See the module.
pub struct Run {
    args: RunArgs,
    model: Option<(String, String)>,
    text: String,
    ended: Option<RunEnd>,
}

impl Behavior for Run {
    type Msg = RunMsg;
    type Args = RunArgs;
    const KIND: &'static str = "run";

    fn start(ctx: &mut Ctx<RunMsg>, args: RunArgs) -> Result<Self, Fault> {
        let me = ctx.me().clone();
        let work = drive(args.clone(), me);
        let timeout = args.timeout;
        ctx.task(
            async move { tokio::time::timeout(timeout, work).await.unwrap_or(RunEnd::TimedOut) },
            RunMsg::Over,
        );
        Ok(Self { args, model: None, text: String::new(), ended: None })
    }

    fn handle(&mut self, _: &mut Ctx<RunMsg>, msg: RunMsg) -> Result<(), Fault> {
        let news = match msg {
            RunMsg::Started => {
                let (provider, model) = self.args.model.split_once('/').unwrap_or(("", &self.args.model));
                self.model = Some((provider.into(), model.into()));
                RunNews::Started { provider: provider.into(), model: model.into() }
            }
            RunMsg::Wrote(text) => {
                self.text.push_str(&text);
                RunNews::Delta(text)
            }
            RunMsg::Over(end) => {
                self.ended = Some(end.clone());
                RunNews::Ended(end)
            }
            RunMsg::Report => RunNews::Report {
                model: self.model.clone(),
                text: self.text.clone(),
                ended: self.ended.clone(),
            },
        };
        // A session that is down asks for a report when it is back.
        let _ = self.args.session.send(SessionMsg::FromRun(self.args.run_id.clone(), news));
        Ok(())
    }
}

/// The agent's loop: a lane, the conversation, the model's answer.
async fn drive(args: RunArgs, me: Addr<RunMsg>) -> RunEnd {
    let Ok(_lane) = args.estate.lanes.clone().acquire_owned().await else {
        return RunEnd::Failed("the gateway is shutting down".into());
    };
    let Some(model) = args.estate.catalog.load().model(&args.model) else {
        return RunEnd::Failed(format!(
            "Unknown model: {}. Set agents.defaults.model to one that `models list` shows.",
            args.model
        ));
    };
    let conversation = match conversation(&args).await {
        Ok(conversation) => conversation,
        Err(e) => return RunEnd::Failed(format!("the transcript could not be read: {e}")),
    };
    let _ = me.send(RunMsg::Started);
    let mut answer = model.answer(Prompt { conversation });
    while let Some(chunk) = answer.next().await {
        match chunk {
            Chunk::Text(text) => {
                let _ = me.send(RunMsg::Wrote(text));
            }
            Chunk::End(usage) => return RunEnd::Done(usage),
            Chunk::Failed(reason) => return RunEnd::Failed(reason),
        }
    }
    RunEnd::Failed("the model's answer broke off".into())
}

async fn conversation(args: &RunArgs) -> Result<Vec<Said>, store::StoreError> {
    let key = args.key.clone();
    let page = HistoryPage { limit: CONTEXT_ROWS, offset: 0 };
    let history = args.store.read(move |c| store::history(c, key.as_str(), page)).await?;
    let earlier = history.rows.iter().filter(|row| row.run_id.as_deref() != Some(args.run_id.as_str()));
    let earlier = earlier.filter(|row| row.message["excludeFromContext"] != true);
    let said = earlier.filter_map(|row| {
        let by = match row.kind.as_str() {
            "user" => Speaker::User,
            "assistant" => Speaker::Assistant,
            _ => return None,
        };
        Some(Said { by, text: store::text_of(&row.message) })
    });
    let asked = Said { by: Speaker::User, text: args.text.clone() };
    Ok(said.chain([asked]).collect())
}

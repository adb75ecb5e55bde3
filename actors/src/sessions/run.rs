//! **Owns** one turn of the agent: the model's stream and the text so far.
//! **Hears** its own stream; **tells** its session what happens, and everything at once when asked to report.
//! **On crash** the text is lost: its session starts the input again, or gives it up after two attempts.
//!
//! It outlives a crash of its session. When the model has come to an end it waits: the session either settles
//! the outcome and stops it, or tells it to go on, because something was said meanwhile.

use super::blocks::{BlockStream, Insert};
use super::session::SessionMsg;
use crate::agents::{Chunk, Prompt, Said, Speaker, Usage};
use crate::estate::Estate;
use crate::kill_points::KillPoint;
use crate::store::{self, HistoryPage, MessageRow, Store};
use crate::tree::*;
use crabtree_protocol::{RunId, SessionKey};
use futures_util::StreamExt;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// Transcript rows the model is shown.
const CONTEXT_ROWS: u32 = 50;

/// What a run is started with.
#[derive(Clone)]
pub struct RunArgs {
    /// The run.
    pub run_id: RunId,
    /// Its session.
    pub key: SessionKey,
    /// Which call of the model comes first: answers of earlier ones are in the transcript.
    pub step: usize,
    /// Rows of the transcript that are to be answered, though something was said after them.
    pub again: Vec<String>,
    /// `provider/model`.
    pub model: String,
    /// How long it may take.
    pub timeout: Duration,
    /// What stands for the older part of the conversation.
    pub compacted: Option<Compacted>,
    /// The Estate.
    pub estate: Arc<Estate>,
    /// Where it reads the transcript.
    pub store: Store,
    /// Whom it tells.
    pub session: Slot<SessionMsg>,
}

/// The summary that a model reads instead of the older part of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compacted {
    summary: String,
    /// `seq` of the first row it still reads.
    first_kept: i64,
}

impl Compacted {
    /// What a session's entry says: `compaction: {summary, firstKeptSeq}`.
    pub fn of(entry: &Value) -> Option<Self> {
        let compaction = entry.get("compaction")?;
        let summary = compaction.get("summary")?.as_str()?.to_owned();
        Some(Self { summary, first_kept: compaction.get("firstKeptSeq")?.as_i64()? })
    }
}

/// What a run hears.
pub enum RunMsg {
    /// It has a lane and a model.
    Started,
    /// A piece of the answer.
    Wrote(String),
    /// Something in the answer that is no text.
    Inserted(Insert),
    /// The model has come to an end.
    Over(RunEnd),
    /// Something has joined the turn: this call of the model follows.
    GoOn(usize),
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
    /// Something else than text.
    Insert(Insert),
    /// The end.
    Ended(RunEnd),
    /// Everything so far, for a reborn session.
    Report {
        /// Provider and name of the model, if its work has begun.
        model: Option<(String, String)>,
        /// The answer of this call so far.
        reply: BlockStream,
        /// The end, if it has come.
        ended: Option<RunEnd>,
    },
}

/// See the module.
pub struct Run {
    args: RunArgs,
    began: Instant,
    step: usize,
    asking: AbortHandle,
    model: Option<(String, String)>,
    reply: BlockStream,
    ended: Option<RunEnd>,
}

impl Behavior for Run {
    type Msg = RunMsg;
    type Args = RunArgs;
    const KIND: &'static str = "run";

    fn start(ctx: &mut Ctx<RunMsg>, args: RunArgs) -> Result<Self, Fault> {
        let (step, began) = (args.step, Instant::now());
        let asking = ask(ctx, &args, step, began);
        Ok(Self { args, began, step, asking, model: None, reply: BlockStream::default(), ended: None })
    }

    fn handle(&mut self, ctx: &mut Ctx<RunMsg>, msg: RunMsg) -> Result<(), Fault> {
        let news = match msg {
            RunMsg::Started => {
                let (provider, model) = self.args.model.split_once('/').unwrap_or(("", &self.args.model));
                self.model = Some((provider.into(), model.into()));
                RunNews::Started { provider: provider.into(), model: model.into() }
            }
            RunMsg::Wrote(text) => {
                self.reply.write(&text);
                RunNews::Delta(text)
            }
            RunMsg::Inserted(insert) => {
                self.reply.insert(insert.clone());
                RunNews::Insert(insert)
            }
            RunMsg::Over(end) => {
                self.args.estate.kill_points.reach(KillPoint::RunOver);
                self.ended = Some(end.clone());
                RunNews::Ended(end)
            }
            RunMsg::GoOn(step) => {
                // It may be said twice, and to one that has been started anew meanwhile.
                if step > self.step {
                    self.asking.abort();
                    (self.step, self.ended) = (step, None);
                    self.reply = BlockStream::default();
                    self.asking = ask(ctx, &self.args, step, self.began);
                }
                return Ok(());
            }
            RunMsg::Report => RunNews::Report {
                model: self.model.clone(),
                reply: self.reply.clone(),
                ended: self.ended.clone(),
            },
        };
        // A session that is down asks for a report when it is back.
        let _ = self.args.session.send(SessionMsg::FromRun(self.args.run_id.clone(), self.step, news));
        Ok(())
    }
}

/// Asks the model, within what is left of the run's time.
fn ask(ctx: &mut Ctx<RunMsg>, args: &RunArgs, step: usize, began: Instant) -> AbortHandle {
    let work = drive(args.clone(), step, ctx.me().clone());
    let end = began + args.timeout;
    let limited = async move { tokio::time::timeout_at(end, work).await.unwrap_or(RunEnd::TimedOut) };
    ctx.task(limited, RunMsg::Over)
}

/// One call of the model: a lane, the conversation, the answer.
async fn drive(args: RunArgs, step: usize, me: Addr<RunMsg>) -> RunEnd {
    let Ok(_lane) = args.estate.lanes.clone().acquire_owned().await else {
        return RunEnd::Failed("the gateway is shutting down".into());
    };
    let Some(model) = args.estate.catalog.load().model(&args.model) else {
        return RunEnd::Failed(format!(
            "Unknown model: {}. Set agents.defaults.model to one that `models list` shows.",
            args.model
        ));
    };
    let conversation = match conversation(&args, step).await {
        Ok(conversation) => conversation,
        Err(e) => return RunEnd::Failed(format!("the transcript could not be read: {e}")),
    };
    let _ = me.send(RunMsg::Started);
    args.estate.kill_points.reach(KillPoint::RunModel);
    let mut answer = model.answer(Prompt { conversation });
    while let Some(chunk) = answer.next().await {
        match chunk {
            Chunk::Text(text) => {
                let _ = me.send(RunMsg::Wrote(text));
            }
            Chunk::Block(insert) => {
                let _ = me.send(RunMsg::Inserted(insert));
            }
            Chunk::End(usage) => return RunEnd::Done(usage),
            Chunk::Failed(reason) => return RunEnd::Failed(reason),
        }
    }
    RunEnd::Failed("the model's answer broke off".into())
}

/// What has been said, as the transcript has it: what is to be answered is its last part.
async fn conversation(args: &RunArgs, step: usize) -> Result<Vec<Said>, store::StoreError> {
    // Later calls go on after the turn's own answers, which stand behind these.
    let again = if step == 1 { args.again.clone() } else { Vec::new() };
    let key = args.key.clone();
    let read = move |c: &store::Connection| {
        let page = HistoryPage { limit: CONTEXT_ROWS, offset: 0 };
        let mut rows = store::history(c, key.as_str(), page)?.rows;
        for id in again {
            rows.retain(|row| row.id != id);
            rows.extend(store::message(c, key.as_str(), &id)?);
        }
        Ok(rows)
    };
    let rows = args.store.read(read).await?;
    let first = args.compacted.as_ref().map_or(0, |compacted| compacted.first_kept);
    let summary = args.compacted.iter().map(|compacted| Said {
        by: Speaker::User,
        text: format!("[Summary of the conversation so far]\n{}", compacted.summary),
    });
    let read =
        rows.iter().filter(|row| row.seq.is_some_and(|seq| seq >= first) || args.again.contains(&row.id));
    Ok(summary.chain(read.filter_map(said)).collect())
}

/// A row as a model reads it; not commands and their answers, nor notes of the gateway.
fn said(row: &MessageRow) -> Option<Said> {
    let by = match row.kind.as_str() {
        "user" => Speaker::User,
        "assistant" => Speaker::Assistant,
        _ => return None,
    };
    (row.message["excludeFromContext"] != true).then(|| Said { by, text: store::text_of(&row.message) })
}

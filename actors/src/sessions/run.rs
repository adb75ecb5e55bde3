//! **Owns** one turn of the agent: the model's stream and the text so far.
//! **Hears** its own stream; **tells** its session what happens, and everything at once when asked to report. What a
//! provider's passing trouble spoils is asked again.
//! **On crash** the text is lost: its session starts the input again, or gives it up after two attempts.
//!
//! It outlives a crash of its session. When the model has come to an end it waits: the session either settles
//! the outcome and stops it, or tells it to go on, because something was said meanwhile.

use super::blocks::{BlockStream, Insert};
use super::session::SessionMsg;
use crate::agents::{Chunk, Failure, Instructions, Prompt, Reason, Said, Speaker, Usage};
use crate::estate::Estate;
use crate::kill_points::KillPoint;
use crate::store::{self, HistoryPage, MessageRow, Store};
use crate::tree::*;
use crabtree_protocol::session_key::SessionMode;
use crabtree_protocol::{RunId, SessionKey};
use futures_util::StreamExt;
use serde_json::Value;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// Transcript rows the model is shown.
const CONTEXT_ROWS: u32 = 50;

/// How often a model is asked again after a passing failure (as recorded).
const MAX_RETRIES: usize = 8;
/// The same while there is another model to take its place.
const RETRIES_BEFORE_FALLBACK: usize = 2;
/// How long is waited before each of these, in milliseconds: from, to (as recorded).
const WAITS: [(u64, u64); MAX_RETRIES] = [
    (1_000, 1_500),
    (1_100, 1_600),
    (2_000, 3_000),
    (6_000, 9_000),
    (11_000, 19_000),
    (24_000, 30_000),
    (30_000, 30_000),
    (30_000, 30_000),
];

/// A model is going to be asked again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Which time it is; the first is 1.
    pub number: usize,
    /// How often at most.
    pub most: usize,
    /// How long until then.
    pub delay: Duration,
    /// What went wrong.
    pub reason: Reason,
}

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
    /// `provider/model`, and the same of those that take its place when it fails, in their order.
    pub models: Vec<String>,
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
    /// It has a lane and this model.
    Started(String),
    /// A piece of the answer.
    Wrote(String),
    /// A piece of what the model thinks.
    Thought(String),
    /// Something in the answer that is no text.
    Inserted(Insert),
    /// There was no answer; the next attempt follows.
    Retrying(Retry),
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
    /// More of what the model thinks.
    Thought(String),
    /// Something else than text.
    Insert(Insert),
    /// The model is going to be asked again; its next start voids the text.
    Retrying(Retry),
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
            RunMsg::Started(model) => {
                let (provider, model) = model.split_once('/').unwrap_or(("", &model));
                self.model = Some((provider.into(), model.into()));
                self.reply = BlockStream::default();
                RunNews::Started { provider: provider.into(), model: model.into() }
            }
            RunMsg::Wrote(text) => {
                self.reply.write(&text);
                RunNews::Delta(text)
            }
            RunMsg::Thought(text) => {
                self.reply.think(&text);
                RunNews::Thought(text)
            }
            RunMsg::Inserted(insert) => {
                self.reply.insert(insert.clone());
                RunNews::Insert(insert)
            }
            RunMsg::Retrying(retry) => RunNews::Retrying(retry),
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

/// Asks the first model, and those after it when it fails for good.
async fn drive(args: RunArgs, step: usize, me: Addr<RunMsg>) -> RunEnd {
    let mut models = args.models.iter().peekable();
    let mut failed = String::from("no model is configured");
    while let Some(model) = models.next() {
        let retries = if models.peek().is_some() { RETRIES_BEFORE_FALLBACK } else { MAX_RETRIES };
        match persist(&args, model, step, &me, retries).await {
            Ok(usage) => return RunEnd::Done(usage),
            Err(failure) => failed = failure.text,
        }
        if let Some(next) = models.peek() {
            tracing::warn!(target: "crabtree::run", %model, %next, "the model failed; the next one takes its place");
        }
    }
    RunEnd::Failed(failed)
}

/// One call of a model, and as many more as passing failures cost.
async fn persist(
    args: &RunArgs,
    model: &str,
    step: usize,
    me: &Addr<RunMsg>,
    retries: usize,
) -> Result<Usage, Failure> {
    let mut number = 0;
    loop {
        number += 1;
        let failure = match attempt(args, model, step, me).await {
            Ok(usage) => return Ok(usage),
            Err(failure) => failure,
        };
        if number > retries || !failure.reason.passes() {
            return Err(failure);
        }
        let delay = wait_before(&args.run_id, number);
        tracing::warn!(target: "crabtree::run", %model, reason = failure.reason.name(),
            "the model did not answer, and is asked again in {} s", delay.as_secs_f64());
        let _ = me.send(RunMsg::Retrying(Retry { number, most: retries, delay, reason: failure.reason }));
        tokio::time::sleep(delay).await;
    }
}

/// Spread so that runs that failed together do not come back together; the same in each replay.
fn wait_before(run_id: &RunId, number: usize) -> Duration {
    let (from, to) = WAITS[number - 1];
    let mut hasher = DefaultHasher::new();
    (run_id, number).hash(&mut hasher);
    Duration::from_millis(from + hasher.finish() % (to - from + 1))
}

/// One attempt: a lane, the conversation, the answer. Who waits for the next one holds no lane.
async fn attempt(args: &RunArgs, name: &str, step: usize, me: &Addr<RunMsg>) -> Result<Usage, Failure> {
    let failed = |text: String| Failure::new(Reason::Unknown, text);
    let lane = args.estate.lanes.clone().acquire_owned().await;
    let _lane = lane.map_err(|_| failed("the gateway is shutting down".into()))?;
    let Some(model) = args.estate.catalog.load().model(name) else {
        return Err(failed(format!(
            "Unknown model: {name}. Set agents.defaults.model to one that `models list` shows."
        )));
    };
    let read = conversation(args, step).await;
    let conversation = read.map_err(|e| failed(format!("the transcript could not be read: {e}")))?;
    let _ = me.send(RunMsg::Started(name.to_owned()));
    args.estate.kill_points.reach(KillPoint::RunModel);
    let mut answer = model.answer(Prompt { instructions: Some(instructions(args)), conversation });
    while let Some(chunk) = answer.next().await {
        match chunk {
            Chunk::Text(text) => {
                let _ = me.send(RunMsg::Wrote(text));
            }
            Chunk::Thought(text) => {
                let _ = me.send(RunMsg::Thought(text));
            }
            Chunk::Block(insert) => {
                let _ = me.send(RunMsg::Inserted(insert));
            }
            Chunk::End(usage) => return Ok(usage),
            Chunk::Failed(failure) => return Err(failure),
        }
    }
    Err(Failure::new(Reason::Timeout, "the model's answer broke off"))
}

/// Who answers in this session.
fn instructions(args: &RunArgs) -> Instructions {
    let agent_id = args.key.agent_id();
    Instructions {
        name: args.estate.catalog.load().agent(agent_id).and_then(|agent| agent.name.clone()),
        session: args.key.to_string(),
        group: args.key.mode() == SessionMode::Group,
        workspace: args.estate.config.load().workspace(agent_id),
        agent_id: agent_id.to_owned(),
    }
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

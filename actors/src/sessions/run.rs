//! **Owns** one turn of the agent: the model's stream and the text so far, and the tools it has called.
//! **Hears** its own stream and its tools; **tells** its session what happens, and everything at once when asked to
//! report. What a provider's passing trouble spoils is asked again.
//! **On crash** the text is lost, and what its tools were doing is ended: its session starts the input again where the
//! transcript ends, or gives it up after two attempts. A tool with effects outside that had begun is not run again.
//!
//! It outlives a crash of its session. When the model, or the last of its tools, has come to an end it waits: the
//! session either settles the outcome and stops it, or tells it to go on: with the tools that were called, or with
//! their results and what was said meanwhile.

mod ask;
mod work;

use super::blocks::{BlockStream, BlockType, Insert};
use super::session::SessionMsg;
use crate::agents::{Failure, Reason, ToolCall, Usage};
use crate::estate::Estate;
use crate::kill_points::KillPoint;
use crate::settings::Thinking;
use crate::store::Store;
use crate::tools::{Askers, ToolResult};
use crate::tree::*;
use crabtree_protocol::{RunId, SessionKey};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::Instant;

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
    pub failure: Failure,
}

/// There is no answer, whatever is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// What went wrong.
    pub failure: Failure,
    /// Which of the run's models it was that failed, from 1; none if it came to no call.
    pub position: Option<usize>,
}

impl Failed {
    /// It is not a model's fault, but this.
    pub fn because(why: impl Into<String>) -> Self {
        Self { failure: Failure::new(Reason::Unknown, why), position: None }
    }
}

/// How far a turn has come: which call of the model it is at, from 1, and whether that has called tools, which are
/// run now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stage {
    /// Calls of the model, the running one counted.
    pub step: usize,
    /// Whether the tools are run.
    pub working: bool,
}

impl Stage {
    /// The model is asked for the `step`th time.
    pub fn asking(step: usize) -> Self {
        Self { step, working: false }
    }

    /// The tools it has called are run.
    pub fn working(self) -> Self {
        Self { working: true, ..self }
    }
}

/// What is to be done in a stage.
#[derive(Clone)]
pub struct Task {
    /// Which.
    pub stage: Stage,
    /// The tools that are to be run in it.
    pub calls: Arc<[ToolCall]>,
    /// Who among those the turn answers does not own the assistant.
    pub askers: Askers,
    /// The only tools it may use, if somebody says so.
    pub only: Option<Arc<[String]>>,
}

/// What a run is started with.
#[derive(Clone)]
pub struct RunArgs {
    /// The run.
    pub run_id: RunId,
    /// Its session.
    pub key: SessionKey,
    /// What comes first: answers and results of before are in the transcript.
    pub task: Task,
    /// Rows of the transcript that are to be answered, though something was said after them.
    pub again: Vec<String>,
    /// `provider/model`, and the same of those that take its place when it fails, in their order.
    pub models: Vec<String>,
    /// How hard they are to think.
    pub thinking: Option<Thinking>,
    /// What they are told besides who they are, in this turn only.
    pub instructions: Option<String>,
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
    /// A tool that the answer calls.
    Called(ToolCall),
    /// How it goes with one.
    Tool(ToolNews),
    /// There was no answer; the next attempt follows.
    Retrying(Retry),
    /// There was none for good; this model takes its place.
    FellBack(Box<Failed>, String),
    /// The model has come to an end, or the last of its tools.
    Over(RunEnd),
    /// This follows.
    GoOn(Task),
    /// A reborn session asks for everything.
    Report,
}

/// How it goes with a call of a tool, by its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolNews {
    /// It has begun.
    Started(String),
    /// What it has come to so far.
    Update(String, ToolResult),
    /// What it has come to.
    Ended(String, ToolResult),
}

/// How a stage ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunEnd {
    /// The answer is complete.
    Done(Box<Usage>),
    /// All tools have ended.
    Worked,
    /// There is none, or it broke off.
    Failed(Box<Failed>),
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
    /// How it goes with a tool.
    Tool(ToolNews),
    /// The model is going to be asked again; its next start voids the text.
    Retrying(Retry),
    /// It failed for good, and this model takes its place; its start voids the text.
    FellBack(Box<Failed>, String),
    /// The end.
    Ended(RunEnd),
    /// Everything so far, for a reborn session.
    Report {
        /// Provider and name of the model, if its work has begun.
        model: Option<(String, String)>,
        /// The answer of this call so far.
        reply: BlockStream,
        /// How it goes with the tools, in order.
        tools: Vec<ToolNews>,
        /// The end, if it has come.
        ended: Option<RunEnd>,
    },
}

/// See the module.
pub struct Run {
    args: RunArgs,
    began: Instant,
    stage: Stage,
    busy: AbortHandle,
    model: Option<(String, String)>,
    reply: BlockStream,
    tools: Vec<ToolNews>,
    ended: Option<RunEnd>,
}

impl Behavior for Run {
    type Msg = RunMsg;
    type Args = RunArgs;
    const KIND: &'static str = "run";

    fn start(ctx: &mut Ctx<RunMsg>, args: RunArgs) -> Result<Self, Fault> {
        let (task, began) = (args.task.clone(), Instant::now());
        let stage = task.stage;
        let busy = begin(ctx, &args, task, began);
        let (model, reply, tools, ended) = (None, BlockStream::default(), Vec::new(), None);
        Ok(Self { args, began, stage, busy, model, reply, tools, ended })
    }

    fn handle(&mut self, ctx: &mut Ctx<RunMsg>, msg: RunMsg) -> Result<(), Fault> {
        let news = match msg {
            RunMsg::Started(model) => self.started(&model),
            RunMsg::Wrote(text) => {
                self.reply.write(&text);
                RunNews::Delta(text)
            }
            RunMsg::Thought(text) => {
                self.reply.think(&text);
                RunNews::Thought(text)
            }
            RunMsg::Inserted(insert) => self.inserted(insert),
            RunMsg::Called(call) => self.inserted(called(&call)),
            RunMsg::Tool(news) => {
                self.note(news.clone());
                RunNews::Tool(news)
            }
            RunMsg::Retrying(retry) => RunNews::Retrying(retry),
            RunMsg::FellBack(failed, next) => RunNews::FellBack(failed, next),
            RunMsg::Over(end) => {
                self.args.estate.kill_points.reach(KillPoint::RunOver);
                self.ended = Some(end.clone());
                RunNews::Ended(end)
            }
            RunMsg::GoOn(task) => {
                // It may be said twice, and to one that has been started anew meanwhile.
                if task.stage > self.stage {
                    self.go_on(ctx, task);
                }
                return Ok(());
            }
            RunMsg::Report => self.report(),
        };
        // A session that is down asks for a report when it is back.
        let _ = self.args.session.send(SessionMsg::FromRun(self.args.run_id.clone(), self.stage, news));
        Ok(())
    }
}

impl Run {
    fn started(&mut self, model: &str) -> RunNews {
        let (provider, model) = model.split_once('/').unwrap_or(("", model));
        self.model = Some((provider.into(), model.into()));
        self.reply = BlockStream::default();
        RunNews::Started { provider: provider.into(), model: model.into() }
    }

    fn inserted(&mut self, insert: Insert) -> RunNews {
        self.reply.insert(insert.clone());
        RunNews::Insert(insert)
    }

    /// Of a call only the latest news counts: a result has what was told before.
    fn note(&mut self, news: ToolNews) {
        self.tools.retain(|known| known.id() != news.id());
        self.tools.push(news);
    }

    fn go_on(&mut self, ctx: &mut Ctx<RunMsg>, task: Task) {
        self.busy.abort();
        (self.stage, self.ended) = (task.stage, None);
        self.reply = BlockStream::default();
        self.tools.clear();
        self.busy = begin(ctx, &self.args, task, self.began);
    }

    fn report(&self) -> RunNews {
        RunNews::Report {
            model: self.model.clone(),
            reply: self.reply.clone(),
            tools: self.tools.clone(),
            ended: self.ended.clone(),
        }
    }
}

impl ToolNews {
    /// Which call.
    pub fn id(&self) -> &str {
        match self {
            Self::Started(id) | Self::Update(id, _) | Self::Ended(id, _) => id,
        }
    }
}

/// A call as it stands in an answer.
pub fn called(call: &ToolCall) -> Insert {
    Insert { block_type: BlockType::ToolCall, content: json!(call), metadata: json!({}) }
}

/// Does what the stage is for, within what is left of the run's time.
fn begin(ctx: &mut Ctx<RunMsg>, args: &RunArgs, task: Task, began: Instant) -> AbortHandle {
    let (args, me, end) = (args.clone(), ctx.me().clone(), began + args.timeout);
    let work = async move {
        match task.stage.working {
            true => work::work(args, task, me).await,
            false => ask::drive(args, task, me).await,
        }
    };
    let limited = async move { tokio::time::timeout_at(end, work).await.unwrap_or(RunEnd::TimedOut) };
    ctx.task(limited, RunMsg::Over)
}

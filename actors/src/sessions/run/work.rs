//! Working: the tools that an answer called, side by side, each for itself: one that fails, hangs or crashes is a
//! result like any other.

use super::{Failed, RunArgs, RunEnd, RunMsg, Task, ToolNews};
use crate::agents::ToolCall;
use crate::kill_points::KillPoint;
use crate::meters::OTHER;
use crate::store::{self, WriteOp};
use crate::tools::{self, Askers, Call, Effects, MAX_RESULT, Place, Policy, ToolResult};
use crate::tree::Addr;
use futures_util::FutureExt;
use futures_util::stream::{self, StreamExt};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Tools of one answer that run at the same time; the others wait.
const SIDE_BY_SIDE: usize = 8;

/// Least time between two pieces of news of a call that goes on; the result has what was not told.
const PACE: Duration = Duration::from_millis(250);

/// What a model is told of a call that was under way when the gateway or its run was lost.
const UNKNOWN: &str = "[not known: this call was cut off by a crash or restart of the gateway after it had begun. It \
    may have taken effect, wholly or in part. Look before you do it again.]";

/// Runs what was called, and tells of each call how it goes.
pub(super) async fn work(args: RunArgs, task: Task, me: Addr<RunMsg>) -> RunEnd {
    let turn = args.run_id.to_string();
    let begun = match args.store.read(move |c| store::begun_calls(c, &turn)).await {
        Ok(begun) => begun,
        Err(e) => {
            let why = format!("which tools had begun could not be read: {e}");
            return RunEnd::Failed(Box::new(Failed::because(why)));
        }
    };
    let place = Arc::new(Place {
        agent_id: args.key.agent_id().to_owned(),
        session: args.key.clone(),
        run_id: args.run_id.clone(),
        workspace: args.estate.config.load().workspace(args.key.agent_id()),
        store: args.store.clone(),
    });
    let bench = Bench { args, step: task.stage.step, askers: task.askers, only: task.only, place, begun, me };
    let bench = Arc::new(bench);
    let each: Vec<_> = task.calls.iter().map(|call| bench.clone().one(call.clone())).collect();
    stream::iter(each).buffer_unordered(SIDE_BY_SIDE).collect::<()>().await;
    RunEnd::Worked
}

/// What all calls of one answer share.
struct Bench {
    args: RunArgs,
    step: usize,
    askers: Askers,
    only: Option<Arc<[String]>>,
    place: Arc<Place>,
    /// Calls of before with effects outside.
    begun: BTreeSet<String>,
    me: Addr<RunMsg>,
}

impl Bench {
    async fn one(self: Arc<Self>, call: ToolCall) {
        let _ = self.me.send(RunMsg::Tool(ToolNews::Started(call.id.clone())));
        let crashed = |_| {
            tracing::error!(target: "crabtree::tools", tool = %call.name, "a tool crashed");
            ToolResult::error(format!("{} crashed. That is a fault of the tool, not of the call.", call.name))
        };
        let result = AssertUnwindSafe(self.result(&call)).catch_unwind().await.unwrap_or_else(crashed);
        self.args.estate.meters.tools.count(self.label(&call.name, &result));
        let _ = self.me.send(RunMsg::Tool(ToolNews::Ended(call.id, result)));
    }

    /// A model may make names up: only those of tools that there are become labels.
    fn label(&self, name: &str, result: &ToolResult) -> (String, &'static str) {
        let known = self.args.estate.tools.load().tool(name).is_some();
        let name = if known { name } else { OTHER };
        (name.to_owned(), if result.is_error { "error" } else { "ok" })
    }

    async fn result(&self, call: &ToolCall) -> ToolResult {
        let args = &self.args;
        let policy = Policy::of_turn(&args.estate.config.load().settings, &args.key, self.askers)
            .only(self.only.as_deref());
        let checked = args.estate.tools.load().check(&call.name, &call.arguments, &policy);
        let tool = match checked {
            Ok(tool) => tool,
            Err(refused) => return refused.into(),
        };
        let external = tool.definition().effects == Effects::External;
        if external && self.begun.contains(&self.mark(call)) {
            return ToolResult::error(UNKNOWN);
        }
        let asked = self.call(call);
        if let Err(why) = tool.permit(&asked).await {
            return ToolResult::error(why);
        }
        if external {
            let begins = WriteOp::BeginCall {
                turn: args.run_id.to_string(),
                call_id: self.mark(call),
                tool: call.name.clone(),
            };
            if let Err(e) = args.store.write(begins).await {
                return ToolResult::error(format!(
                    "Not begun: that it begins could not be written down: {e}"
                ));
            }
        }
        args.estate.kill_points.reach(KillPoint::ToolBegun);
        tools::run(tool.as_ref(), asked).await
    }

    /// A call's name in the turn: another answer may call under the same id.
    fn mark(&self, call: &ToolCall) -> String {
        format!("{}:{}", self.step, call.id)
    }

    fn call(&self, call: &ToolCall) -> Call {
        let (id, whom) = (call.id.clone(), self.me.clone());
        let last = Mutex::new(None::<Instant>);
        let progress = Arc::new(move |so_far: ToolResult| {
            let mut last = last.lock();
            if last.is_none_or(|last| last.elapsed() >= PACE) {
                *last = Some(Instant::now());
                let _ = whom.send(RunMsg::Tool(ToolNews::Update(id.clone(), so_far.cut(MAX_RESULT))));
            }
        });
        Call { id: call.id.clone(), args: call.arguments.clone(), place: self.place.clone(), progress }
    }
}

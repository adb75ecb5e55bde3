//! Asking: the model, the one after it when it fails for good, and each again when its trouble passes.

use super::{Failed, Retry, RunArgs, RunEnd, RunMsg, Task};
use crate::agents::{Chunk, Failure, Instructions, Library, Offer, Prompt, Reason, Said, ToolCall, Usage};
use crate::kill_points::KillPoint;
use crate::sessions::{conversation, silence};
use crate::skills::SKILL_READ;
use crate::store::{self, HistoryPage};
use crate::tools::{Policy, Tool, exec};
use crate::tree::Addr;
use crabtree_protocol::RunId;
use crabtree_protocol::session_key::SessionMode;
use futures_util::StreamExt;
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Transcript rows the model is shown, if they fit.
const CONTEXT_ROWS: u32 = 300;
/// Characters that a token stands for at the least, and the part of a model's context that is for the conversation:
/// the rest is for who it is, for its tools and for its answer.
const TOKEN_CHARS: u64 = 3;
const SHARE: (u64, u64) = (3, 4);

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

/// Asks the first model, and those after it when it fails for good.
pub(super) async fn drive(args: RunArgs, task: Task, me: Addr<RunMsg>) -> RunEnd {
    let mut models = args.models.iter().zip(1..).peekable();
    let mut last = Failed::because("no model is configured");
    while let Some((model, position)) = models.next() {
        let retries = if models.peek().is_some() { RETRIES_BEFORE_FALLBACK } else { MAX_RETRIES };
        match persist(&args, (model, position), &task, &me, retries).await {
            Ok(usage) => return RunEnd::Done(Box::new(usage)),
            Err(failed) => last = failed,
        }
        if let Some((next, _)) = models.peek() {
            tracing::warn!(target: "crabtree::run", %model, %next, "the model failed; the next one takes its place");
            let _ = me.send(RunMsg::FellBack(Box::new(last.clone()), (*next).clone()));
        }
    }
    RunEnd::Failed(Box::new(last))
}

/// One call of a model, and as many more as passing failures cost.
async fn persist(
    args: &RunArgs,
    (model, position): (&str, usize),
    task: &Task,
    me: &Addr<RunMsg>,
    retries: usize,
) -> Result<Usage, Failed> {
    let mut number = 0;
    loop {
        number += 1;
        let failure = match attempt(args, model, task, me).await {
            Ok(Ok(usage)) => return Ok(usage),
            Ok(Err(failure)) => failure.of_model(model),
            Err(failure) => return Err(Failed { failure, position: None }),
        };
        if number > retries || !failure.reason.passes() {
            return Err(Failed { failure, position: Some(position) });
        }
        let delay = wait_before(&args.run_id, number).max(failure.retry_after.unwrap_or_default());
        tracing::warn!(target: "crabtree::run", %model, reason = failure.reason.name(),
            "the model did not answer, and is asked again in {} s", delay.as_secs_f64());
        let _ = me.send(RunMsg::Retrying(Retry { number, most: retries, delay, failure }));
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

/// One attempt: a lane, the conversation, the answer; or why it came to no call. Who waits for the next one holds no
/// lane.
async fn attempt(
    args: &RunArgs,
    name: &str,
    task: &Task,
    me: &Addr<RunMsg>,
) -> Result<Result<Usage, Failure>, Failure> {
    let failed = |text: String| Failure::new(Reason::Unknown, text);
    let lane = args.estate.lane().await;
    let _lane = lane.map_err(|_| failed("the gateway is shutting down".into()))?;
    let Some(model) = args.estate.catalog.load().model(name) else {
        return Err(failed(format!(
            "Unknown model: {name}. Set agents.defaults.model to one that `models list` shows."
        )));
    };
    let read = conversation_so_far(args, task.stage.step, model.context_window()).await;
    let mut conversation = read.map_err(|e| failed(format!("the transcript could not be read: {e}")))?;
    let mut called = called_before(&conversation);
    if !model.takes_images() {
        conversation.iter_mut().for_each(Said::lose_images);
    }
    let policy = Policy::of_turn(&args.estate.config.load().settings, &args.key, task.askers)
        .only(task.only.as_deref());
    let instructions = instructions(args, &policy);
    let _ = me.send(RunMsg::Started(name.to_owned()));
    args.estate.kill_points.reach(KillPoint::RunModel);
    let tools = if model.takes_tools() { offers(args, &policy) } else { Vec::new() };
    let thinking = args.estate.catalog.load().thinking(args.key.agent_id(), name, args.thinking);
    let mut answer = model.answer(Prompt { instructions: Some(instructions), conversation, tools, thinking });
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
            Chunk::Call(call) => {
                let _ = me.send(RunMsg::Called(named_apart(call, &mut called)));
            }
            Chunk::End(usage) => return Ok(Ok(usage)),
            Chunk::Failed(failure) => return Ok(Err(failure)),
        }
    }
    Ok(Err(Failure::broken_off()))
}

/// The ids of the calls in a conversation.
fn called_before(conversation: &[Said]) -> BTreeSet<String> {
    let calls = conversation.iter().flat_map(|said| match said {
        Said::Assistant { calls, .. } => calls.as_slice(),
        Said::User { .. } | Said::Tool { .. } => &[],
    });
    calls.map(|call| call.id.clone()).collect()
}

/// Some providers give no ids to calls, or the same one twice, in one answer or in each.
fn named_apart(mut call: ToolCall, taken: &mut BTreeSet<String>) -> ToolCall {
    if call.id.is_empty() || !taken.insert(call.id.clone()) {
        call.id = format!("call_{}", Uuid::new_v4().simple());
    }
    call
}

/// The tools it may call.
fn offers(args: &RunArgs, policy: &Policy) -> Vec<Offer> {
    let tools = args.estate.tools.load();
    let offer = |tool: &Arc<dyn Tool>| {
        let known = tool.definition();
        Offer {
            name: known.name.clone(),
            description: known.description.clone(),
            parameters: known.parameters.clone(),
        }
    };
    tools.allowed(policy).map(offer).collect()
}

/// Who answers in this session.
fn instructions(args: &RunArgs, policy: &Policy) -> Instructions {
    let agent_id = args.key.agent_id();
    let config = args.estate.config.load_full();
    let reads =
        args.estate.tools.load().tool(SKILL_READ).is_some_and(|tool| policy.allows(tool.definition()));
    let offers = || {
        let exec =
            args.estate.tools.load().tool(exec::NAME).is_some_and(|tool| policy.allows(tool.definition()));
        let offers = if exec { args.estate.nodes.offers.all() } else { Vec::new() };
        exec::reachable(offers, &config.settings, agent_id)
    };
    let library = reads.then(|| Library {
        skills: args.estate.skills.clone(),
        loaded: config.clone(),
        offers: offers(),
    });
    Instructions {
        name: args.estate.catalog.load().agent(agent_id).and_then(|agent| agent.name.clone()),
        session: args.key.to_string(),
        group: args.key.mode() == SessionMode::Group,
        workspace: config.workspace(agent_id),
        agent_id: agent_id.to_owned(),
        library,
        besides: args.instructions.clone(),
    }
}

/// What has been said, as the transcript has it: what is to be answered is its last part.
async fn conversation_so_far(
    args: &RunArgs,
    step: usize,
    window: u64,
) -> Result<Vec<Said>, store::StoreError> {
    // Later calls go on after the turn's own answers, which stand behind these.
    let again = if step == 1 { args.again.clone() } else { Vec::new() };
    let key = args.key.clone();
    let first = args.compacted.as_ref().map_or(0, |compacted| compacted.first_kept);
    let read = move |c: &store::Connection| {
        let page = HistoryPage { limit: CONTEXT_ROWS, offset: 0 };
        let mut rows = store::history(c, key.as_str(), page)?.rows;
        rows.retain(|row| row.seq.is_some_and(|seq| seq >= first));
        for id in again {
            rows.retain(|row| row.id != id);
            rows.extend(store::message(c, key.as_str(), &id)?);
        }
        Ok(rows)
    };
    let rows = args.estate.inbox.shown(args.store.read(read).await?).await?;
    let summary = args
        .compacted
        .iter()
        .map(|compacted| Said::user(format!("[Summary of the conversation so far]\n{}", compacted.summary)));
    let most = usize::try_from(window * TOKEN_CHARS * SHARE.0 / SHARE.1).unwrap_or(usize::MAX);
    let said = conversation::fitting(conversation::conversation(&rows), most);
    let mut said: Vec<Said> = summary.chain(said).collect();
    said.extend(silence::again(&said));
    Ok(said)
}

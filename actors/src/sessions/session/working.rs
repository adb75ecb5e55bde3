//! Tools: an answer that calls some becomes a row of the transcript before any of them begins; what each comes to is
//! written as soon as it is known, and when all have ended the model is asked again.

use super::joining::joins;
use super::{Session, SessionMsg};
use crate::agents::Usage;
use crate::kill_points::KillPoint;
use crate::sessions::outcome::{Status, answer_row};
use crate::sessions::run::{Failed, RunMsg, ToolNews};
use crate::sessions::turn::Scene;
use crate::store::{WriteOp, WriteReply, Written};
use crate::tree::{Ctx, Fault};
use crabtree_protocol::RunId;

impl Session {
    /// Has the tools run that the answer calls; false if it calls none.
    pub(super) fn call_tools(&mut self, ctx: &mut Ctx<SessionMsg>, usage: Usage) -> bool {
        let Some(active) = &self.active else { return false };
        let turn = active.turn.lock();
        if turn.answer().calls().is_empty() {
            return false;
        }
        let most = self.estate().config.load().settings.agents.defaults.max_rounds;
        if turn.stage().step >= most {
            drop(turn);
            let why = format!(
                "The agent was stopped: it asked its model {most} times and still calls tools \
                 (agents.defaults.maxRounds)."
            );
            self.ended(ctx, Status::Error, usage, Some(Failed::because(why)));
            return true;
        }
        let most = self.estate().config.load().settings.agents.defaults.max_cost_usd;
        let cost = turn.usage_with(usage).cost().total();
        if let Some(most) = most.filter(|most| cost > *most) {
            drop(turn);
            let why = format!(
                "The agent was stopped: it has cost {cost}, more than the {most} that a run may \
                 (agents.defaults.maxCostUsd), and still calls tools."
            );
            self.ended(ctx, Status::Error, usage, Some(Failed::because(why)));
            return true;
        }
        let Some(answer) = answer_row(&turn, usage, ctx.now_ms()) else { return false };
        drop(turn);
        self.beginning = true;
        let (store, run_id) = (self.args.store.clone(), active.run_id.clone());
        let write = async move { Box::new(store.carry_on(WriteOp::AppendMessage(answer)).await) };
        ctx.task(write, |written| SessionMsg::Called(run_id, written));
        true
    }

    pub(super) fn called(
        &mut self,
        ctx: &mut Ctx<SessionMsg>,
        run_id: &RunId,
        written: Written,
    ) -> Result<(), Fault> {
        self.estate().kill_points.reach(KillPoint::SessionCalled);
        self.beginning = false;
        let Ok(WriteReply::Appended(answer, _)) = written else {
            return Err(Fault::new(format!("an answer was not written: {:?}", written.err())));
        };
        let Some(active) = self.active.take() else { return Ok(()) };
        if let Some(why) = active.crashed {
            self.try_again(ctx, run_id.clone(), active.rows, why);
            return Ok(());
        }
        let now = ctx.now_ms();
        let turn = active.turn.clone();
        self.active = Some(active);
        let events = turn.lock().call_tools(&answer, now);
        self.publish(events);
        self.tell_rows(&turn, [&answer], now);
        let turn = turn.lock();
        let _ = turn.run.send(RunMsg::GoOn(turn.task()));
        Ok(())
    }

    pub(super) fn tool_news(&mut self, ctx: &mut Ctx<SessionMsg>, news: &ToolNews) {
        let Some(active) = &self.active else { return };
        let (now, registry) = (ctx.now_ms(), self.estate().tools.load_full());
        let row = self.row(now);
        let scene = Scene { registry: &registry, row: &row, now };
        let mut turn = active.turn.lock();
        let events = match news {
            ToolNews::Started(id) => turn.tool_started(id, &scene),
            ToolNews::Update(id, so_far) => turn.tool_update(id, so_far, &scene),
            ToolNews::Ended(id, result) => {
                let events = turn.tool_ended(id, result, &scene);
                // Written again with all the others; here for the case that these take long.
                if let Some(row) = turn.result(id, now).filter(|_| !events.is_empty()) {
                    let store = self.args.store.clone();
                    ctx.detached(async move {
                        let _ = store.write(WriteOp::AppendMessage(row)).await;
                    });
                }
                events
            }
        };
        drop(turn);
        self.publish(events);
    }

    /// All tools have ended: what was said meanwhile joins the turn, and the model is asked again.
    pub(super) fn worked(&mut self, ctx: &mut Ctx<SessionMsg>) {
        let Some(active) = &self.active else { return };
        let steered = self.backlog.take_steered();
        self.beginning = true;
        let (now, run_id) = (ctx.now_ms(), active.run_id.clone());
        let results = active.turn.lock().results(now);
        let op = WriteOp::Begin {
            turn: run_id.to_string(),
            inputs: steered.iter().map(|row| (row.id.clone(), row.attempts + 1)).collect(),
            messages: results.into_iter().chain(steered.iter().map(|row| joins(row, &run_id))).collect(),
            at: now,
        };
        let store = self.args.store.clone();
        ctx.task(async move { Box::new(store.carry_on(op).await) }, |written| {
            SessionMsg::Joined(run_id, written)
        });
    }
}

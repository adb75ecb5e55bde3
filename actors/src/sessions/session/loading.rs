//! What the store knows, and how a reborn session takes it up: runs that go on are adopted, attempts that were
//! lost are made again.

use super::{Active, MAX_ATTEMPTS, Session, SessionArgs, SessionMsg};
use crate::sessions::queue::is_detached;
use crate::sessions::run::RunMsg;
use crate::sessions::turn::Turn;
use crate::store::{self, InputRow, InputState, MessageRow, SessionRecord, StoreError, WriteOp};
use crate::tree::{Behavior, Ctx, Fault};
use crabtree_protocol::{RunId, SessionKey};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the store holds of a session.
pub struct Known {
    record: Option<SessionRecord>,
    /// What waits, oldest first.
    waiting: Vec<InputRow>,
    /// Turns that were begun and have no outcome, or whose end may not have been told.
    turns: BTreeMap<RunId, Begun>,
}

/// A turn that was begun.
pub(super) struct Begun {
    rows: Vec<InputRow>,
    messages: Vec<MessageRow>,
}

/// Reads what is known; of a reborn session only after what it has sent to the store before is committed.
pub(super) fn read(
    args: &SessionArgs,
    reborn: bool,
) -> impl Future<Output = Box<Result<Known, StoreError>>> + Send + use<> {
    let (store, key) = (args.store.clone(), args.key.clone());
    let told: Vec<RunId> =
        args.estate.ledgers.of(&key).iter().map(|turn| turn.lock().run_id.clone()).collect();
    async move {
        if reborn && let Err(e) = store.write(WriteOp::Fence).await {
            return Box::new(Err(e));
        }
        Box::new(store.read(move |c| known(c, &key, told)).await)
    }
}

fn known(c: &store::Connection, key: &SessionKey, told: Vec<RunId>) -> Result<Known, StoreError> {
    let (running, waiting): (Vec<_>, Vec<_>) =
        store::backlog(c, key.as_str())?.into_iter().partition(|row| row.state == InputState::Running);
    let begun = running.iter().filter_map(|row| row.turn.as_deref().map(RunId::from));
    let mut turns = BTreeMap::new();
    for run_id in begun.chain(told) {
        let rows = store::inputs_of_turn(c, run_id.as_str())?;
        let messages = store::messages_by_run(c, run_id.as_str())?;
        turns.insert(run_id, Begun { rows, messages });
    }
    Ok(Known { record: store::session(c, key.as_str())?, waiting, turns })
}

/// Whether an earlier incarnation was there in this process, so that clients may have missed what it did last.
fn is_reborn(ctx: &Ctx<SessionMsg>) -> bool {
    ctx.node().generation() > 1
}

impl Session {
    pub(super) fn loaded(&mut self, ctx: &mut Ctx<SessionMsg>, known: Known) -> Result<(), Fault> {
        self.record = known.record;
        self.loaded = true;
        for row in known.waiting {
            if is_detached(&row) {
                self.tell_unless_past(ctx, &row);
            }
            self.backlog.push(row);
        }
        for (run_id, begun) in known.turns {
            self.take_up(ctx, run_id, begun);
        }
        self.end_strays(ctx);
        for msg in std::mem::take(&mut self.early) {
            self.handle(ctx, msg)?;
        }
        Ok(())
    }

    fn take_up(&mut self, ctx: &mut Ctx<SessionMsg>, run_id: RunId, begun: Begun) {
        if begun.rows.is_empty() {
            // It was about to be ended while it waited, and was not: it still waits.
            return self.estate().ledgers.close(&run_id);
        }
        let (over, open): (Vec<_>, Vec<_>) = begun.rows.into_iter().partition(|row| row.state.is_final());
        if open.is_empty() {
            return self.tell_end(ctx, &run_id, &over, &begun.messages);
        }
        let now = ctx.now_ms();
        let Some(turn) = self.estate().ledgers.get(&run_id) else {
            let turn = self.ledger(&run_id, &open, now);
            if is_reborn(ctx) {
                open.iter()
                    .filter(|row| row.run_id != run_id.as_str())
                    .for_each(|row| self.tell_delivered(row, now));
                self.tell_rows(&turn, &begun.messages, now);
            } else {
                begun.messages.iter().for_each(|row| {
                    turn.lock().tells(row);
                });
            }
            return self.try_again(ctx, run_id, open, "it crashed twice");
        };
        // What joined it was committed, and perhaps not told.
        let (known, joined) = open.into_iter().partition::<Vec<_>, _>(|row| turn.lock().knows(row));
        let is_alive = ctx.node().child(&turn.lock().child).is_some();
        if is_alive && self.active.is_none() {
            return self.adopt(run_id, turn, (known, joined), &begun.messages, now);
        }
        self.tell_rows(&turn, &begun.messages, now);
        joined.iter().filter(|_| !known.is_empty()).for_each(|row| self.tell_delivered(row, now));
        self.try_again(ctx, run_id, [known, joined].concat(), "it crashed twice");
    }

    /// A submission that waits has been delivered. Of one of a process that is gone nobody is told.
    fn tell_unless_past(&self, ctx: &Ctx<SessionMsg>, row: &InputRow) {
        if is_reborn(ctx) {
            self.tell_delivered(row, ctx.now_ms());
        } else {
            self.estate().ledgers.deliver(&RunId::from(row.run_id.as_str()));
        }
    }

    /// The inputs of a turn whose attempt was lost are tried once more. Those that have had all their attempts are
    /// given up; who had joined a turn that is given up waits for another.
    pub(super) fn try_again(
        &mut self,
        ctx: &mut Ctx<SessionMsg>,
        run_id: RunId,
        rows: Vec<InputRow>,
        why: &str,
    ) {
        let hopeless = |row: &InputRow| row.attempts >= MAX_ATTEMPTS;
        if !rows.first().is_some_and(hopeless) {
            tracing::warn!(target: "crabtree::sessions", run = %run_id, "run crashed; it is started again");
            return self.backlog.push_lost(rows);
        }
        let (dead, others): (Vec<_>, Vec<_>) = rows.into_iter().partition(hopeless);
        self.give_up(ctx, run_id, dead, others, why);
    }

    fn adopt(
        &mut self,
        run_id: RunId,
        turn: Arc<Mutex<Turn>>,
        (known, joined): (Vec<InputRow>, Vec<InputRow>),
        messages: &[MessageRow],
        now: i64,
    ) {
        self.active = Some(Active {
            rows: known,
            run_id,
            turn: turn.clone(),
            pace: None,
            in_step: false,
            ended: false,
            crashed: None,
        });
        if joined.is_empty() {
            self.tell_rows(&turn, messages, now);
        } else {
            let answer = messages.iter().rfind(|row| row.kind == "assistant");
            let asked = messages.iter().filter(|row| joined.iter().any(|input| input.id == row.id));
            let said: Vec<MessageRow> = answer.into_iter().chain(asked).cloned().collect();
            self.tell_joined(joined, &said, now);
        }
        let _ = turn.lock().run.send(RunMsg::Report);
    }

    /// Ends runs whose outcome was settled while nobody was here to end them.
    fn end_strays(&self, ctx: &mut Ctx<SessionMsg>) {
        let adopted = self.active.as_ref().map(|active| active.turn.lock().child.clone());
        for child in ctx.node().children().iter().filter(|child| Some(child.name()) != adopted.as_ref()) {
            ctx.stop_child(child.name());
        }
    }
}

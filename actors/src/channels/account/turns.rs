//! The turns whose answers go to chats of this account: while they go on, the chat is shown that somebody writes, and,
//! where messages can be changed, what ([`draft`](super::super::draft)). What they have written is read where they keep
//! it, the newest only and no oftener than it may be shown: so a turn never waits for a platform.

use super::super::contract::{Address, Order};
use super::super::delivery::Post;
use super::super::draft::{self, Came, Draft};
use super::super::outgoing::Answer;
use super::{Account, AccountMsg};
use crate::tree::{Ctx, Timer};
use crabtree_protocol::RunId;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// How often is looked how the turns go.
const LOOK: Duration = Duration::from_millis(250);
/// How long it is shown that somebody writes, after a model was asked last: whoever waits for a tool or a person that
/// long is not writing.
const TYPING_LIMIT: Duration = Duration::from_secs(120);
/// Turns that are looked at; people see of others when they have ended.
const MAX_TURNS: usize = 64;
/// Drafts in the channel's hands at the same time, so that what is to be sent finds it free.
const SIDE_BY_SIDE: usize = 4;

/// Those that are under way, by the name of what will answer.
#[derive(Default)]
pub(super) struct Turns {
    turns: BTreeMap<String, Attended>,
    look: Option<Timer>,
}

struct Attended {
    run_id: RunId,
    answer: Answer,
    /// When it is to be shown again that somebody writes, and until when at most.
    typing: (Instant, Instant),
    /// When the draft may be changed next; none until there is something to show.
    next: Option<Instant>,
    /// The draft, as people see it: its name and its text.
    shown: Option<(String, String)>,
    /// The draft is in the channel's hands.
    busy: bool,
    /// There is no draft in this turn, or no more of it.
    over: bool,
}

impl Turns {
    /// The message that answers is going to be sent.
    pub(super) fn over(&mut self, id: &str) {
        self.turns.remove(id);
    }
}

impl Account {
    /// A turn goes on.
    pub(super) fn attend(&mut self, ctx: &mut Ctx<AccountMsg>, run_id: RunId, answer: Answer) {
        let capabilities = self.args.wanted.channel.capabilities();
        if capabilities.typing.is_none() && !self.drafts() {
            return;
        }
        let (id, now) = (draft::id(run_id.as_str(), &answer), Instant::now());
        let until = now + TYPING_LIMIT;
        let is_full = self.turns.turns.len() >= MAX_TURNS;
        match self.turns.turns.get_mut(&id) {
            Some(turn) => (turn.typing.1, turn.answer) = (until, answer),
            None if is_full => return,
            None => {
                let (typing, over) = ((now, until), !self.drafts());
                let turn = Attended { run_id, answer, typing, next: None, shown: None, busy: false, over };
                self.turns.turns.insert(id, turn);
            }
        }
        self.look_at_turns(ctx);
    }

    /// Whether answers are shown while they are written.
    fn drafts(&self) -> bool {
        let common = &self.args.wanted.common;
        let edits = self.args.wanted.channel.capabilities().edits;
        edits.is_some_and(|limit| common.streaming.0.or(common.stream_mode.0).unwrap_or(limit.drafts))
    }

    pub(super) fn look_at_turns(&mut self, ctx: &mut Ctx<AccountMsg>) {
        let estate = self.args.wiring.store.estate.clone();
        let before = self.turns.turns.len();
        self.turns.turns.retain(|_, turn| turn.busy || estate.ledgers.get(&turn.run_id).is_some());
        if self.turns.turns.len() < before {
            // What ends a draft may be there, and nobody else may say so.
            self.read(ctx);
        }
        self.show_typing();
        let mut busy = self.turns.turns.values().filter(|turn| turn.busy).count();
        let ids: Vec<String> = self.turns.turns.keys().cloned().collect();
        for id in ids {
            if busy < SIDE_BY_SIDE && self.show_draft(ctx, &id).is_some() {
                busy += 1;
            }
        }
        self.turns.look = (!self.turns.turns.is_empty()).then(|| ctx.after(LOOK, AccountMsg::LookAtTurns));
    }

    fn show_typing(&mut self) {
        let Some(every) = self.args.wanted.channel.capabilities().typing else { return };
        let Some(worker) = &self.worker else { return };
        let now = Instant::now();
        for turn in self.turns.turns.values_mut() {
            let (next, until) = turn.typing;
            // It is only shown; if the channel is busy it is shown soon.
            if next <= now
                && now < until
                && worker.orders.try_send(Order::Typing(turn.answer.to.clone())).is_ok()
            {
                turn.typing.0 = now + every;
            }
        }
    }

    /// Shows what a turn has written since; none if there is nothing to be shown now.
    fn show_draft(&mut self, ctx: &mut Ctx<AccountMsg>, id: &str) -> Option<()> {
        let (worker, capabilities) = (self.worker.as_ref()?, self.args.wanted.channel.capabilities());
        let turn = self.turns.turns.get_mut(id).filter(|turn| !turn.busy && !turn.over)?;
        let (now, every) = (Instant::now(), capabilities.edits?.of(turn.answer.to.chat_type));
        if turn.next.is_some_and(|next| next > now) {
            return None;
        }
        let ledger = self.args.wiring.store.estate.ledgers.get(&turn.run_id)?;
        let (text, session_key) = {
            let ledger = ledger.lock();
            (draft::shown(ledger.visible(), capabilities)?, ledger.key.to_string())
        };
        if turn.next.is_none() {
            // What is whole by then needs no draft.
            turn.next = Some(now + every);
            return None;
        }
        if turn.shown.as_ref().is_some_and(|(_, shown)| *shown == text) {
            return None;
        }
        turn.busy = true;
        self.due.hold(id);
        let draft = Draft {
            id: id.to_owned(),
            run_id: turn.run_id.to_string(),
            session_key,
            answer: turn.answer.clone(),
            text,
            platform_id: turn.shown.as_ref().map(|(name, _)| name.clone()),
        };
        let post = Post {
            store: self.args.wiring.store.clone(),
            orders: worker.orders.clone(),
            terms: (capabilities, self.args.wanted.common.on_uncertain),
        };
        let id = id.to_owned();
        ctx.task(draft::show(post, draft), move |came| AccountMsg::Drafted(id, came));
        Some(())
    }

    pub(super) fn drafted(&mut self, ctx: &mut Ctx<AccountMsg>, id: &str, came: Came) {
        self.due.release(id);
        let edits = self.args.wanted.channel.capabilities().edits;
        if let Some((turn, limit)) = self.turns.turns.get_mut(id).zip(edits) {
            turn.busy = false;
            let mut wait = limit.of(turn.answer.to.chat_type);
            match came {
                Came::Shown(name, text) => turn.shown = Some((name, text)),
                Came::NotNow(after) => {
                    wait = wait.max(after.unwrap_or_default());
                    if let Some(after) = after {
                        let until = ctx.now_ms() + after.as_millis() as i64;
                        self.due.leave(chat(&turn.answer.to), until);
                    }
                }
                Came::Over => turn.over = true,
            }
            turn.next = Some(Instant::now() + wait);
        }
        // The answer may have waited for it.
        self.send(ctx);
    }
}

fn chat(to: &Address) -> String {
    serde_json::json!(to).to_string()
}

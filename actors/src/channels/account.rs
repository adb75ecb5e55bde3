//! **Owns** one account of a channel: the thread its code runs on, what is on its way out, and what people see of turns
//! that go on.
//! **Hears** what the channel's code hands in, and that there is something to send; **tells** the sessions what was
//! said, the store what became of every message, and the code what to send.
//! **On crash** nothing is lost: what was not handed in comes again from the platform, and what was not sent is a row. A
//! message that was being sent is sent again only where that cannot be seen twice; else it is reported as uncertain.
//! The crash of the channel's code is this actor's fault; its next incarnation connects anew.

mod turns;

use super::Answer;
use super::contract::{Heard, SendError, Sender, Sent, Trouble};
use super::delivery::{Delivered, Due, WINDOW, deliver};
use super::doing::{self, Doing};
use super::draft::Came;
use super::ingress::Desk;
use super::roster::{AccountName, MAX_ABANDONED, Wanted};
use super::worker::{Ended, PULSE_LIMIT, Worker};
use crate::gateway::Wiring;
use crate::store::{self, DeliveryRow, DeliveryState, StoreError, WriteOp};
use crate::tree::*;
use crabtree_protocol::RunId;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::mpsc;
use turns::Turns;

/// How often is looked whether the channel's code is alive.
const WATCH: Duration = Duration::from_secs(1);
/// Chats that are sent to side by side.
const SIDE_BY_SIDE: usize = 8;

/// What an account hears.
pub enum AccountMsg {
    /// Where it goes on, and what it has to send.
    Loaded(Box<Result<Opening, StoreError>>),
    /// What its code says of the connection.
    News(Heard),
    /// Its code has ended.
    Ended(Ended),
    /// Look whether its code is alive.
    Watch,
    /// There may be something to send.
    Deliver,
    /// What there is to send.
    Due(Result<Vec<DeliveryRow>, StoreError>),
    /// A message was sent, or not.
    Delivered(Box<Delivered>),
    /// A chat may be sent to again.
    Again,
    /// The model is asked in a turn whose answer goes to a chat of this account.
    Turn(RunId, Box<Answer>),
    /// Look how the turns go.
    LookAtTurns,
    /// What came of showing this draft.
    Drafted(String, Came),
    /// Do something in a chat, and tell what became of it.
    Do(Box<Doing>, Reply<Result<Sent, SendError>>),
}

/// What is read before the channel's code runs.
pub struct Opening {
    checkpoint: Option<String>,
    due: Vec<DeliveryRow>,
}

/// What it is started with.
#[derive(Clone)]
pub struct AccountArgs {
    /// The gateway.
    pub wiring: Arc<Wiring>,
    /// The account.
    pub wanted: Wanted,
}

/// See the module.
pub struct Account {
    args: AccountArgs,
    worker: Option<Worker>,
    due: Due,
    turns: Turns,
    reading: bool,
    /// There may be more than what is being read.
    read_again: bool,
    again: Option<Timer>,
    _watch: Timer,
}

impl Behavior for Account {
    type Msg = AccountMsg;
    type Args = AccountArgs;
    const KIND: &'static str = "channel";

    fn start(ctx: &mut Ctx<AccountMsg>, args: AccountArgs) -> Result<Self, Fault> {
        let roster = &args.wiring.store.estate.channels;
        let name = &args.wanted.name;
        let threads = roster.threads(name);
        if threads > MAX_ABANDONED {
            let why =
                format!("{threads} threads of it compute without end; it needs a restart of the gateway");
            roster.note(name, |status| {
                (status.connected, status.fatal, status.last_error) = (false, true, Some(why.clone()));
                status.passing = false;
            });
            return Err(Fault::new(why));
        }
        roster.note(name, |status| {
            status.connected = false;
            status.last_start_at = Some(ctx.now_ms());
        });
        let (store, read) = (args.wiring.store.clone(), name.clone());
        let opening = async move {
            let opening = move |c: &store::Connection| {
                Ok(Opening {
                    checkpoint: store::checkpoint(c, &read.channel, &read.account)?,
                    due: store::open_deliveries(c, &read.channel, &read.account, WINDOW)?,
                })
            };
            Box::new(store.read(opening).await)
        };
        ctx.task(opening, AccountMsg::Loaded);
        let watch = ctx.after(WATCH, AccountMsg::Watch);
        Ok(Self {
            args,
            worker: None,
            due: Due::default(),
            turns: Turns::default(),
            reading: false,
            read_again: false,
            again: None,
            _watch: watch,
        })
    }

    fn handle(&mut self, ctx: &mut Ctx<AccountMsg>, msg: AccountMsg) -> Result<(), Fault> {
        match msg {
            AccountMsg::Loaded(opening) => self.open(ctx, (*opening).map_err(Fault::new)?)?,
            AccountMsg::News(news) => self.news(ctx, news),
            AccountMsg::Ended(ended) => return Err(self.ended(ended)),
            AccountMsg::Watch => {
                self._watch = ctx.after(WATCH, AccountMsg::Watch);
                self.watch(ctx)?;
            }
            AccountMsg::Deliver => self.read(ctx),
            AccountMsg::Due(rows) => {
                self.reading = false;
                self.due.add(rows.map_err(Fault::new)?);
                if std::mem::take(&mut self.read_again) {
                    self.read(ctx);
                }
                self.send(ctx);
            }
            AccountMsg::Delivered(delivered) => self.delivered(ctx, *delivered),
            AccountMsg::Again => self.send(ctx),
            AccountMsg::Turn(run_id, answer) => self.attend(ctx, run_id, *answer),
            AccountMsg::LookAtTurns => self.look_at_turns(ctx),
            AccountMsg::Drafted(id, came) => self.drafted(ctx, &id, came),
            AccountMsg::Do(doing, done) => self.act(ctx, *doing, done),
        }
        self.tell_info(ctx);
        Ok(())
    }
}

impl Account {
    fn name(&self) -> &AccountName {
        &self.args.wanted.name
    }

    fn open(&mut self, ctx: &mut Ctx<AccountMsg>, opening: Opening) -> Result<(), Fault> {
        let Wanted { name, channel, account, common } = self.args.wanted.clone();
        let estate = &self.args.wiring.store.estate;
        let me = ctx.me().clone();
        let ended = move |end| {
            // If the actor is gone, its next incarnation has code of its own.
            let _ = me.send(AccountMsg::Ended(end));
        };
        let told = (&estate.clock, &estate.channels);
        let (worker, ear) = Worker::start((&name, channel), account, opening.checkpoint, told, ended)
            .map_err(|e| Fault::new(format!("no thread for it: {e}")))?;
        self.worker = Some(worker);
        let desk =
            Desk { wiring: self.args.wiring.clone(), name, settings: common, worn_out: Arc::default() };
        ctx.detached(listen(desk, ear, ctx.me().clone()));
        let capabilities = self.args.wanted.channel.capabilities();
        let now = ctx.now_ms();
        let (mut moved, mut all) = (Vec::new(), Vec::new());
        for mut row in opening.due {
            // It was being sent when this account was lost.
            if row.state == DeliveryState::Sending {
                let on_uncertain = self.args.wanted.common.on_uncertain;
                row = super::delivery::after_a_loss(row, capabilities, on_uncertain, now);
                super::delivery::count(estate, &row);
                moved.push(WriteOp::Delivery(row.clone()));
            }
            if row.state == DeliveryState::Queued {
                all.push(row);
            }
        }
        let store = self.args.wiring.store.clone();
        ctx.task(
            async move {
                store.write(WriteOp::All(moved)).await?;
                Ok(all)
            },
            AccountMsg::Due,
        );
        self.reading = true;
        Ok(())
    }

    fn news(&mut self, ctx: &mut Ctx<AccountMsg>, news: Heard) {
        let roster = &self.args.wiring.store.estate.channels;
        match news {
            Heard::Connected(user) => {
                tracing::info!(target: "crabtree::channels", account = %self.name().path(), "connected");
                roster.note(self.name(), |status| {
                    (status.connected, status.user, status.qr) = (true, user, None);
                    status.passing = false;
                });
                self.read(ctx);
            }
            Heard::Disconnected(why) => {
                tracing::warn!(target: "crabtree::channels", account = %self.name().path(), "not connected: {why}");
                roster.note(self.name(), |status| {
                    (status.connected, status.last_error) = (false, Some(why));
                });
            }
            Heard::Qr(qr) => roster.note(self.name(), |status| status.qr = qr),
            Heard::Typing { from, .. } => self.seen(&from, true, ctx.now_ms()),
            Heard::Message(envelope, _) => {
                roster.note(self.name(), |status| status.last_inbound_at = Some(ctx.now_ms()));
                let AccountName { channel, account } = self.name().clone();
                self.args.wiring.store.estate.meters.received.count((channel, account));
                self.seen(&envelope.from, false, ctx.now_ms());
            }
            Heard::Reacted(reaction, _) => self.seen(&reaction.from, false, ctx.now_ms()),
            Heard::Checkpoint(..) => {}
        }
    }

    /// Somebody is there.
    fn seen(&self, who: &Sender, typing: bool, now: i64) {
        let estate = &self.args.wiring.store.estate;
        let key = format!("{}:{}", self.name().channel, who.id);
        if let Some(person) = estate.people.seen(&key, typing, now) {
            super::tell_person(estate, &person);
        }
    }

    fn ended(&mut self, ended: Ended) -> Fault {
        self.worker = None;
        let (why, fatal, passing) = match ended {
            Ended::Panicked(why) => (why, false, false),
            Ended::Trouble(Trouble::Retry(why)) => (why, false, true),
            Ended::Trouble(Trouble::Fatal(why)) => (why, true, false),
        };
        let roster = &self.args.wiring.store.estate.channels;
        roster.note(self.name(), |status| {
            (status.connected, status.fatal, status.passing) = (false, fatal, passing);
            status.last_error = Some(why.clone());
        });
        Fault::new(why)
    }

    fn watch(&mut self, ctx: &mut Ctx<AccountMsg>) -> Result<(), Fault> {
        let Some(worker) = &self.worker else { return Ok(()) };
        let silent = ctx.now_ms() - worker.last.load(Relaxed);
        let why = if worker.spins() {
            let limit = PULSE_LIMIT.as_secs();
            format!("its code has computed for {limit} s without end; its thread is abandoned")
        } else if silent > self.args.wanted.channel.capabilities().silence.as_millis() as i64 {
            format!("nothing was heard of it for {} s", silent / 1000)
        } else {
            return Ok(());
        };
        self.args.wiring.store.estate.channels.note(self.name(), |status| {
            (status.connected, status.last_error) = (false, Some(why.clone()));
            status.passing = false;
        });
        Err(Fault::new(why))
    }

    fn read(&mut self, ctx: &mut Ctx<AccountMsg>) {
        if self.reading || self.worker.is_none() {
            self.read_again = true;
            return;
        }
        self.reading = true;
        self.due.will_read();
        let (store, name) = (self.args.wiring.store.clone(), self.name().clone());
        let read =
            move |c: &store::Connection| store::open_deliveries(c, &name.channel, &name.account, WINDOW);
        ctx.task(async move { store.read(read).await }, AccountMsg::Due);
    }

    /// Hands out what is next for each chat.
    fn send(&mut self, ctx: &mut Ctx<AccountMsg>) {
        let Some(worker) = &self.worker else { return };
        let now = ctx.now_ms();
        while let Some(row) = self.due.next(SIDE_BY_SIDE, now) {
            // From here on its draft is left alone.
            self.turns.over(&super::draft::name(&row));
            let (store, orders) = (self.args.wiring.store.clone(), worker.orders.clone());
            let terms = (self.args.wanted.channel.capabilities(), self.args.wanted.common.on_uncertain);
            let work = async move { Box::new(deliver(store, orders, terms, row).await) };
            ctx.task(work, AccountMsg::Delivered);
        }
        self.again = self.due.wait(now).map(|wait| ctx.after(wait, AccountMsg::Again));
    }

    fn delivered(&mut self, ctx: &mut Ctx<AccountMsg>, delivered: Delivered) {
        let now = ctx.now_ms();
        if delivered.row.state == DeliveryState::Sent {
            let roster = &self.args.wiring.store.estate.channels;
            roster.note(self.name(), |status| status.last_outbound_at = Some(now));
        }
        if self.due.came_back(delivered, now) {
            self.read(ctx);
        }
        self.send(ctx);
    }

    fn act(&self, ctx: &mut Ctx<AccountMsg>, doing: Doing, done: Reply<Result<Sent, SendError>>) {
        match &self.worker {
            Some(worker) => {
                let orders = worker.orders.clone();
                ctx.detached(async move { done.send(doing::carry_out(orders, doing).await) });
            }
            None => done.send(Err(doing::away())),
        }
    }

    fn tell_info(&self, ctx: &Ctx<AccountMsg>) {
        let roster = &self.args.wiring.store.estate.channels;
        let status = roster.status(self.name());
        let mut info = BTreeMap::from([
            ("connected", json!(status.connected)),
            ("sending", json!(self.due.in_flight())),
            ("queued", json!(self.due.waiting())),
        ]);
        let abandoned = roster.threads(self.name()).saturating_sub(usize::from(self.worker.is_some()));
        if abandoned > 0 {
            info.insert("abandonedThreads", json!(abandoned));
        }
        ctx.publish_info(json!(info));
    }
}

/// Takes in what the channel's code hands in, one after another: so the order of a chat is kept. What takes its time is
/// taken in beside.
async fn listen(desk: Desk, mut ear: mpsc::Receiver<Heard>, me: Addr<AccountMsg>) {
    while let Some(heard) = ear.recv().await {
        match heard {
            Heard::Message(envelope, durable) => {
                let (seen, _) = tokio::sync::oneshot::channel();
                let _ = me.send(AccountMsg::News(Heard::Message(envelope.clone(), seen)));
                if Desk::may_wait(&envelope) {
                    let desk = desk.clone();
                    tokio::spawn(async move {
                        if desk.take_in(&envelope).await.is_ok() {
                            let _ = durable.send(());
                        }
                    });
                } else if let Err(why) = desk.take_in(&envelope).await {
                    // Unanswered, the channel hands it in again.
                    tracing::warn!(target: "crabtree::channels", account = %desk.name.path(), "not taken in: {why}");
                } else {
                    let _ = durable.send(());
                }
            }
            Heard::Reacted(reaction, durable) => {
                let (seen, _) = tokio::sync::oneshot::channel();
                let _ = me.send(AccountMsg::News(Heard::Reacted(reaction.clone(), seen)));
                if desk.reacted(&reaction).await.is_ok() {
                    let _ = durable.send(());
                }
            }
            Heard::Checkpoint(place, durable) => {
                let AccountName { channel, account } = desk.name.clone();
                if desk.wiring.store.write(WriteOp::PutCheckpoint { channel, account, place }).await.is_ok() {
                    let _ = durable.send(());
                }
            }
            news => {
                let _ = me.send(AccountMsg::News(news));
            }
        }
    }
}

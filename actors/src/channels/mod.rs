//! **Owns** nothing but the accounts' being: one child an account of a channel that the configuration asks for.
//! **Hears** of configuration changes (it is restarted with the new one), and what operators want of an account;
//! **tells** the Estate's roster with which settings each runs.
//! **On crash** no account notices: they are adopted again.
//!
//! | file | what |
//! |---|---|
//! | `contract` | what a channel implements, hands in and is told |
//! | `account` | the actor of one account; `worker` is the thread of its code |
//! | `ingress` | in: who may write (`access`), which agent answers (`bindings`), whether it does (`activation`, `loops`) |
//! | `approving`, `reacting` | in: decisions on approvals, reactions |
//! | `outgoing`, `chunks`, `ordered`, `delivery` | out: an answer as messages, and what becomes of each |
//! | `account/turns`, `draft` | that somebody writes, and what: an answer is seen while it is written |
//! | `sending`, `doing` | out: what clients and tools want |
//! | `roster`, `condition`, `people` | how accounts are, and who is there |
//! | `loopback` … | the channels, a file each |

mod access;
mod account;
mod activation;
mod approving;
mod bindings;
mod chunks;
mod condition;
pub mod contract;
mod delivery;
pub mod discord;
mod doing;
mod draft;
pub mod driver;
mod ingress;
mod loopback;
mod loops;
mod ordered;
mod outgoing;
mod people;
mod reacting;
mod roster;
mod route;
mod sending;
mod target;
pub mod telegram;
#[cfg(test)]
mod testing;
pub mod whatsapp;
mod worker;

pub use account::AccountMsg;
pub use approving::{Approvers, approvers};
pub use condition::{Condition, condition, configured, summary};
pub use doing::{Doing, act};
pub use loopback::Loopback;
pub use ordered::Enclosure;
pub use outgoing::{Answer, answers};
pub use people::{People, Person, There};
pub use roster::{AccountName, MAX_ABANDONED, Makings, Roster, Status, Wanted};
pub use sending::{Fate, Parcel, Wish, address, deliver, fate, send, the_account};
pub use target::{Target, answer_to};

use crate::estate::Estate;
use crate::event::{Audience, Event};
use crate::gateway::Wiring;
use crate::tree::*;
use account::{Account, AccountArgs};
use contract::Channel;
use crabtree_protocol::{Event as Name, Scope};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The channels of this version. A new one is a file beside these and a line here.
const CHANNELS: &[fn() -> Arc<dyn Channel>] =
    &[|| Arc::new(Loopback), telegram::telegram, || Arc::new(discord::Discord)];

/// An account whose code ends comes back after this, longer each time: platforms count how often one connects.
const BACKOFF: Duration = Duration::from_secs(1);
/// How often is looked whether somebody is not there any more, and whether an account is to be tried again.
const LOOK: Duration = Duration::from_secs(30);
/// How long an account is left alone that ended too often because its platform was out of reach, ms.
const LEFT_ALONE_MS: i64 = 15_000;

/// All channels that need no settings to be one: those of this version and those that the embedding program brings.
pub fn table(brought: &[Arc<dyn Channel>]) -> Vec<Arc<dyn Channel>> {
    CHANNELS.iter().map(|make| make()).chain(brought.iter().cloned()).collect()
}

/// What the parent of all accounts hears.
pub enum ChannelsMsg {
    /// Start and end accounts, so that there are those of the configuration.
    Attend,
    /// Start these, whatever the reason why they do not run; answered with how many there are.
    Start(Vec<AccountName>, Reply<usize>),
    /// End these until they are started or the configuration changes; answered with how many there were.
    Stop(Vec<AccountName>, Reply<usize>),
    /// Look whether somebody is not there any more, and whether an account is to be tried again.
    Look,
}

/// See the module.
pub struct Channels {
    wiring: Arc<Wiring>,
    /// Accounts of the configuration that cannot run, and why.
    broken: BTreeMap<AccountName, String>,
    stopping: bool,
    _look: Timer,
}

impl Behavior for Channels {
    type Msg = ChannelsMsg;
    type Args = Arc<Wiring>;
    const KIND: &'static str = "channels";

    fn start(ctx: &mut Ctx<ChannelsMsg>, wiring: Arc<Wiring>) -> Result<Self, Fault> {
        // Children are told to end and to start once this actor is up to hear how that went.
        let _ = ctx.me().send(ChannelsMsg::Attend);
        let look = ctx.after(LOOK, ChannelsMsg::Look);
        Ok(Self { wiring, broken: BTreeMap::new(), stopping: false, _look: look })
    }

    fn handle(&mut self, ctx: &mut Ctx<ChannelsMsg>, msg: ChannelsMsg) -> Result<(), Fault> {
        match msg {
            ChannelsMsg::Attend => self.attend(ctx),
            ChannelsMsg::Start(names, done) => {
                let count = names.iter().filter(|name| self.revive(ctx, name)).count();
                done.send(count);
            }
            ChannelsMsg::Stop(names, done) => {
                let children: Vec<_> =
                    names.iter().filter_map(|name| ctx.node().child(&name.path())).collect();
                let parked = children.iter().filter(|child| child.command(Order::Park)).count();
                done.send(parked);
            }
            ChannelsMsg::Look => {
                self._look = ctx.after(LOOK, ChannelsMsg::Look);
                self.try_again(ctx);
                let estate = self.estate();
                estate.people.changed(ctx.now_ms()).iter().for_each(|person| tell_person(estate, person));
            }
        }
        Ok(())
    }

    fn child_exited(
        &mut self,
        ctx: &mut Ctx<ChannelsMsg>,
        child: &Arc<Node>,
        _: &Exit,
        fate: NodeState,
    ) -> Result<(), Fault> {
        let Some(name) = name_of(child) else { return Ok(()) };
        self.estate().channels.note(&name, |status| status.connected = false);
        if fate == NodeState::Stopped && !self.stopping {
            self.attend(ctx);
        } else if fate == NodeState::Restarting && self.estate().channels.status(&name).fatal {
            // It would end like this again.
            child.command(Order::Park);
        }
        Ok(())
    }

    fn stopping(&mut self, _: &mut Ctx<ChannelsMsg>) -> Stopping {
        self.stopping = true;
        Stopping::Now
    }
}

fn name_of(child: &Node) -> Option<AccountName> {
    let (channel, account) = child.name().split_once('/')?;
    Some(AccountName { channel: channel.to_owned(), account: account.to_owned() })
}

impl Channels {
    fn estate(&self) -> &Arc<Estate> {
        &self.wiring.store.estate
    }

    /// Ends the accounts that are not wanted any more or not like this, and starts those that are missing. The others
    /// do not notice.
    fn attend(&mut self, ctx: &mut Ctx<ChannelsMsg>) {
        let estate = self.estate().clone();
        let config = estate.config.load();
        let settings = &config.settings.channels;
        let wanted = estate.channels.wanted(settings, &|name| std::env::var(name).ok());
        let as_written = |name: &AccountName| {
            let accounts = settings.accounts(&name.channel);
            accounts.into_iter().find(|(account, _)| *account == name.account).map(|(_, own)| own)
        };
        for child in ctx.node().children() {
            let Some(name) = name_of(&child) else { continue };
            let same = as_written(&name).is_some_and(|own| estate.channels.runs_with(&name, &own));
            if !same {
                // What is still ending is attended to again when it has ended.
                ctx.stop_child(child.name());
            }
        }
        self.broken.clear();
        for (name, wanted) in wanted {
            match wanted {
                Ok(wanted) if ctx.node().child(&name.path()).is_none() => {
                    estate.channels.put(&name, as_written(&name).unwrap_or(Value::Null));
                    self.begin(ctx, wanted);
                }
                Ok(_) => {}
                Err(why) => {
                    tracing::error!(target: "crabtree::channels", account = %name.path(), "not started: {why}");
                    estate.channels.note(&name, |status| {
                        (status.last_error, status.fatal) = (Some(why.clone()), true);
                    });
                    self.broken.insert(name, why);
                }
            }
        }
        self.tell_info(ctx);
    }

    fn begin(&self, ctx: &mut Ctx<ChannelsMsg>, wanted: Wanted) {
        let slot = self.estate().channels.slot(&wanted.name);
        let path = wanted.name.path();
        let args = AccountArgs { wiring: self.wiring.clone(), wanted };
        let spec = ChildSpec::new::<Account>(path, Restart::Permanent, args, &slot);
        let spec =
            spec.backoff(Backoff { base: BACKOFF, ..Backoff::default() }).shutdown(Duration::from_secs(3));
        if let Err(duplicate) = ctx.spawn(spec) {
            tracing::error!(target: "crabtree::channels", "{duplicate}");
        }
    }

    /// Starts an account that is parked, or was broken; true if there is one.
    fn revive(&mut self, ctx: &mut Ctx<ChannelsMsg>, name: &AccountName) -> bool {
        self.estate().channels.note(name, |status| status.fatal = false);
        if let Some(child) = ctx.node().child(&name.path()) {
            return child.state().0 == NodeState::Running || child.command(Order::Restart);
        }
        self.attend(ctx);
        ctx.node().child(&name.path()).is_some()
    }

    /// A network that is away for a while is no reason to be deaf for ever: who was given up for that is started anew.
    fn try_again(&self, ctx: &Ctx<ChannelsMsg>) {
        let long_ago = ctx.now_ms() - LEFT_ALONE_MS;
        for child in ctx.node().children().iter().filter(|child| child.is_given_up()) {
            let passing = name_of(child).is_some_and(|name| self.estate().channels.status(&name).passing);
            if passing && child.state().1 <= long_ago && !self.stopping {
                child.command(Order::Restart);
            }
        }
    }

    fn tell_info(&self, ctx: &Ctx<ChannelsMsg>) {
        let broken: BTreeMap<String, &String> =
            self.broken.iter().map(|(name, why)| (name.path(), why)).collect();
        ctx.publish_info(json!({ "accounts": ctx.node().child_count(), "broken": broken }));
    }
}

/// Tells operators how somebody is there.
pub(crate) fn tell_person(estate: &Estate, person: &Person) {
    let event = Event::new(Name::ChannelPresence, Audience::Scope(Scope::Read), &json!(person));
    estate.conns.publish(event.droppable());
}

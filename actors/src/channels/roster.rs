//! The channels there are, and how their accounts are. Part of the Estate: no actor's crash touches it.
//!
//! Some channels are what their settings say: those that another program speaks.

use super::account::AccountMsg;
use super::contract::{Account, Capabilities, Channel, Offered, Sender};
use super::driver::{Doors, Driver};
use super::loops::Loops;
use super::whatsapp::WhatsApp;
use crate::process::Guard;
use crate::settings::{ChannelSettings, ChannelsSettings};
use crate::tree::Slot;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Weak};

/// Threads of an account that do not end, beside the one that works: the next would be one too many.
pub const MAX_ABANDONED: usize = 2;

/// Which account of which channel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountName {
    /// The channel.
    pub channel: String,
    /// The account.
    pub account: String,
}

impl AccountName {
    /// `telegram/default`: the name of its actor and of its thread.
    pub fn path(&self) -> String {
        format!("{}/{}", self.channel, self.account)
    }

    /// `telegram:default`: the source of its inputs.
    pub fn source(&self) -> String {
        format!("{}:{}", self.channel, self.account)
    }
}

/// How an account is.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// The platform knows us, and as whom.
    pub connected: bool,
    /// As whom.
    pub user: Option<Sender>,
    /// Why it is not connected, or was not the last time.
    pub last_error: Option<String>,
    /// It ended in a way that would come again: it is parked.
    pub fatal: bool,
    /// What it ended with passes by itself, as far as it can tell: it is started again even if it ended too often.
    pub passing: bool,
    /// When a message came in last, ms.
    pub last_inbound_at: Option<i64>,
    /// When one went out last, ms.
    pub last_outbound_at: Option<i64>,
    /// When it was started last, ms.
    pub last_start_at: Option<i64>,
    /// What is shown to who logs in.
    pub qr: Option<String>,
}

/// An account as it is configured, ready to be started.
#[derive(Clone)]
pub struct Wanted {
    /// Which.
    pub name: AccountName,
    /// What runs it.
    pub channel: Arc<dyn Channel>,
    /// What it is run with.
    pub account: Account,
    /// What all channels have.
    pub common: Arc<ChannelSettings>,
}

struct Entry {
    slot: Slot<AccountMsg>,
    /// The settings it was started with, as they are written.
    settings: Value,
    status: Status,
    loops: Loops,
    threads: Vec<Weak<()>>,
}

/// What channels that another program speaks are made with.
pub struct Makings {
    /// Who watches over the programs.
    pub guard: Guard,
    /// Where the gateway keeps its files.
    pub state_dir: PathBuf,
    /// Where programs come in that are elsewhere.
    pub doors: Doors,
}

/// See the module.
pub struct Roster {
    channels: Vec<Arc<dyn Channel>>,
    /// Whether one of them has methods of its own: every request asks.
    has_methods: bool,
    makings: Makings,
    /// Channels that are what their settings say, as they were last.
    made: Mutex<BTreeMap<String, Arc<dyn Channel>>>,
    accounts: Mutex<BTreeMap<AccountName, Entry>>,
}

impl Roster {
    /// A roster of these channels; of two with one name the last counts.
    pub fn new(channels: impl IntoIterator<Item = Arc<dyn Channel>>, makings: Makings) -> Self {
        let channels: Vec<_> = channels.into_iter().collect();
        Self {
            has_methods: channels.iter().any(|channel| !channel.methods().is_empty()),
            channels,
            makings,
            made: Mutex::default(),
            accounts: Mutex::default(),
        }
    }

    /// Where drivers come in that are elsewhere.
    pub fn doors(&self) -> &Doors {
        &self.makings.doors
    }

    /// A channel by name.
    pub fn channel(&self, name: &str) -> Option<Arc<dyn Channel>> {
        let known = self.channels.iter().rfind(|channel| channel.name() == name).cloned();
        known.or_else(|| self.made.lock().get(name).cloned())
    }

    /// The channel of a section of the configuration.
    fn of_section(
        &self,
        name: &str,
        (all, section): (&ChannelsSettings, &Value),
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Arc<dyn Channel>, String> {
        if let Some(known) = self.channels.iter().rfind(|channel| channel.name() == name) {
            return Ok(known.clone());
        }
        let key = format!("channels.{name}");
        let settings = all.with_secrets(section, &key, env).map_err(|e| e.to_string())?;
        let Makings { guard, state_dir, doors } = &self.makings;
        let has = |name: &str| settings.get(name).is_some();
        let made: Arc<dyn Channel> = if name == "whatsapp" && (has("bridge") || !has("driver")) {
            Arc::new(WhatsApp::new(&settings, guard.clone(), state_dir.join("whatsapp"))?)
        } else if has("driver") {
            Arc::new(Driver::new(name, &settings, guard.clone(), doors.clone())?)
        } else {
            return Err(format!(
                "{key}: there is no channel of this name in this version; with {key}.driver another program speaks it"
            ));
        };
        self.made.lock().insert(name.to_owned(), made.clone());
        Ok(made)
    }

    /// What a channel can do; of an unknown one, short texts.
    pub fn capabilities(&self, channel: &str) -> Capabilities {
        self.channel(channel).map_or(Capabilities::texts(2_000), |channel| channel.capabilities())
    }

    /// The accounts that the configuration asks for, each ready or with what is wrong with it.
    pub fn wanted(
        &self,
        settings: &ChannelsSettings,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Vec<(AccountName, Result<Wanted, String>)> {
        let of = |(name, section): (&String, &Value)| {
            let accounts = settings.accounts(name);
            let channel = if accounts.is_empty() {
                Err(String::new())
            } else {
                self.of_section(name, (settings, section), env)
            };
            let one = |(account, own): (String, Value)| {
                let name = AccountName { channel: name.clone(), account };
                let wanted = channel
                    .clone()
                    .and_then(|channel| self.ready(name.clone(), channel, (settings, &own), env));
                (name, wanted)
            };
            accounts.into_iter().map(one).collect::<Vec<_>>()
        };
        settings.0.iter().filter(|(name, _)| *name != "defaults").flat_map(of).collect()
    }

    fn ready(
        &self,
        name: AccountName,
        channel: Arc<dyn Channel>,
        (all, own): (&ChannelsSettings, &Value),
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Wanted, String> {
        let key = format!("channels.{}", name.channel);
        let common = ChannelSettings::deserialize(own).map_err(|e| format!("{key}: {e}"))?;
        let settings = all.with_secrets(own, &key, env).map_err(|e| e.to_string())?;
        let account = Account { id: name.account.clone(), settings };
        channel.check(&account).map_err(|why| format!("{key} ({}): {why}", name.account))?;
        Ok(Wanted { name, channel, account, common: Arc::new(common) })
    }

    /// The address of an account's actor, whether it lives at the moment or not.
    pub fn slot(&self, name: &AccountName) -> Slot<AccountMsg> {
        self.with(name, |entry| entry.slot.clone())
    }

    /// Whether an account was started with these settings.
    pub fn runs_with(&self, name: &AccountName, settings: &Value) -> bool {
        self.accounts.lock().get(name).is_some_and(|entry| entry.settings == *settings)
    }

    /// Notes what an account is started with.
    pub fn put(&self, name: &AccountName, settings: Value) {
        self.with(name, |entry| {
            entry.settings = settings;
            entry.status.fatal = false;
        });
    }

    /// How an account is.
    pub fn status(&self, name: &AccountName) -> Status {
        self.accounts.lock().get(name).map(|entry| entry.status.clone()).unwrap_or_default()
    }

    /// Notes how it is.
    pub fn note(&self, name: &AccountName, change: impl FnOnce(&mut Status)) {
        self.with(name, |entry| change(&mut entry.status));
    }

    /// Looks after what programs have said at an account.
    pub(super) fn loops<T>(&self, name: &AccountName, then: impl FnOnce(&mut Loops) -> T) -> T {
        self.with(name, |entry| then(&mut entry.loops))
    }

    /// Messages of programs that were left out at an account, and until when more are (ms).
    pub fn left_out(&self, name: &AccountName) -> Option<(u64, i64)> {
        self.accounts.lock().get(name)?.loops.left_out()
    }

    /// Notes a thread of an account, for as long as it lives.
    pub(super) fn note_thread(&self, name: &AccountName, alive: &Arc<()>) {
        self.with(name, |entry| entry.threads.push(Arc::downgrade(alive)));
    }

    /// Threads of an account that have not ended.
    pub fn threads(&self, name: &AccountName) -> usize {
        self.with(name, |entry| {
            entry.threads.retain(|thread| thread.strong_count() > 0);
            entry.threads.len()
        })
    }

    /// All accounts that were started.
    pub fn accounts(&self) -> Vec<AccountName> {
        self.accounts.lock().keys().cloned().collect()
    }

    /// The methods of channels that run now: each of a channel with an account that is connected.
    pub fn offered(&self) -> Vec<&'static str> {
        if !self.has_methods {
            return Vec::new();
        }
        self.running().iter().flat_map(|channel| channel.methods()).map(|method| method.name).collect()
    }

    /// The channel that answers a method, and the method, while it runs.
    pub fn offering(&self, method: &str) -> Option<(Arc<dyn Channel>, Offered)> {
        if !self.has_methods {
            return None;
        }
        let of = |channel: Arc<dyn Channel>| {
            let found = channel.methods().iter().find(|offered| offered.name == method).copied()?;
            Some((channel, found))
        };
        self.running().into_iter().find_map(of)
    }

    fn running(&self) -> Vec<Arc<dyn Channel>> {
        let connected: BTreeSet<String> = {
            let accounts = self.accounts.lock();
            let connected = accounts.iter().filter(|(_, entry)| entry.status.connected);
            connected.map(|(name, _)| name.channel.clone()).collect()
        };
        connected.iter().filter_map(|name| self.channel(name)).collect()
    }

    /// Whether one may log in at an account, and is shown how.
    pub fn shown(&self, name: &AccountName) -> Value {
        let status = self.status(name);
        json!({ "connected": status.connected, "qr": status.qr })
    }

    fn with<T>(&self, name: &AccountName, then: impl FnOnce(&mut Entry) -> T) -> T {
        let mut accounts = self.accounts.lock();
        let entry = accounts.entry(name.clone()).or_insert_with(|| Entry {
            slot: Slot::default(),
            settings: Value::Null,
            status: Status::default(),
            loops: Loops::default(),
            threads: Vec::new(),
        });
        then(entry)
    }
}

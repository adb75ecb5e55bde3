//! **Owns** the configuration in force, and its file.
//! **Hears** of changes of the file, of requests to read it again and of changes to make in it; **tells** the Estate
//! the new one, the root which sections changed, and operators the event `config.changed`.
//! **On crash** the configuration stays published and the file is read again; changes that were waiting are refused
//! as retryable, the one being written is in the file or it is not.

pub mod changes;
pub mod edit;
mod file;
mod trial;

pub use file::{ConfigFile, Edit, LAST_GOOD, Plan, Reading, Reload, Writing};

use crate::estate::{Estate, Part};
use crate::event::{Audience, Event};
use crate::gateway::RootMsg;
use crate::responder::Responder;
use crate::settings::{Invalid, Loaded};
use crate::tree::*;
use crabtree_protocol::{Refusal, Scope};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::oneshot;
use trial::{TRIAL, Trial};

/// How often the file is looked at.
const POLL: Duration = Duration::from_secs(2);
/// Changes that may wait for their turn; a person makes one at a time.
const MAX_EDITS: usize = 64;
/// How long an answer waits until everybody works with what was changed.
const IN_FORCE: Duration = Duration::from_secs(5);

/// What the config actor hears.
pub enum ConfigMsg {
    /// Look whether the file has changed.
    Poll,
    /// The file's time of change.
    Seen(Option<SystemTime>),
    /// Read it again, changed or not.
    Reload,
    /// It was read.
    Loaded(Box<Result<Reading, Invalid>>),
    /// Change it; answered when the change is in force.
    Edit(Plan, Responder),
    /// The last change has been in force for a while: is everybody up who was started anew for it?
    Judge,
    /// It was changed, or could not be.
    Edited(Box<Result<(Reading, Value), Refusal>>),
}

/// What it is started with.
#[derive(Clone)]
pub struct ConfigArgs {
    /// Where the configuration is published.
    pub estate: Arc<Estate>,
    /// The file.
    pub file: ConfigFile,
    /// Whom to tell what changed.
    pub root: Slot<RootMsg>,
}

/// See the module.
pub struct Config {
    args: ConfigArgs,
    seen: Option<SystemTime>,
    /// The number of the reading in force.
    reading: u64,
    /// Whom the change being written is answered to; nobody, if it is taken back.
    editing: Option<Option<Responder>>,
    waiting: VecDeque<(Plan, Option<Responder>)>,
    trial: Option<Trial>,
    _poll: Timer,
    _judge: Timer,
}

impl Behavior for Config {
    type Msg = ConfigMsg;
    type Args = ConfigArgs;
    const KIND: &'static str = "config";

    fn start(ctx: &mut Ctx<ConfigMsg>, args: ConfigArgs) -> Result<Self, Fault> {
        let loaded = args.estate.config.load();
        for warning in &loaded.warnings {
            tracing::warn!(target: "crabtree::config", "{warning}");
        }
        args.estate.ready.done(Part::Config);
        let poll = ctx.after(POLL, ConfigMsg::Poll);
        let judge = ctx.after(TRIAL, ConfigMsg::Judge);
        let (editing, waiting) = (None, VecDeque::new());
        let this =
            Self { args, seen: None, reading: 0, editing, waiting, trial: None, _poll: poll, _judge: judge };
        if ctx.node().restarts() > 0 {
            this.reload(ctx);
        }
        Ok(this)
    }

    fn handle(&mut self, ctx: &mut Ctx<ConfigMsg>, msg: ConfigMsg) -> Result<(), Fault> {
        match msg {
            ConfigMsg::Poll => {
                self._poll = ctx.after(POLL, ConfigMsg::Poll);
                let path = self.args.estate.config.load().path.clone();
                ctx.task(changed_at(path), ConfigMsg::Seen);
            }
            ConfigMsg::Seen(at) => {
                // The first time, too: it may have changed since the program read it.
                if at.is_some() && self.seen != at {
                    self.seen = at;
                    self.reload(ctx);
                }
            }
            ConfigMsg::Reload => self.reload(ctx),
            ConfigMsg::Loaded(read) => self.loaded(ctx, *read),
            ConfigMsg::Edit(plan, responder) => self.edit(ctx, plan, responder),
            ConfigMsg::Judge => self.judge(ctx),
            ConfigMsg::Edited(result) => self.edited(ctx, *result),
        }
        Ok(())
    }
}

async fn changed_at(path: PathBuf) -> Option<SystemTime> {
    tokio::task::spawn_blocking(move || std::fs::metadata(path).and_then(|m| m.modified()).ok())
        .await
        .unwrap_or_default()
}

impl Config {
    fn reload(&self, ctx: &mut Ctx<ConfigMsg>) {
        let file = self.args.file.clone();
        let read = async move {
            let read = tokio::task::spawn_blocking(move || file.read()).await;
            read.unwrap_or_else(|e| Err(Invalid::new(e.to_string())))
        };
        ctx.task(read, |read| ConfigMsg::Loaded(Box::new(read)));
    }

    /// A configuration that cannot be read changes nothing.
    fn loaded(&mut self, ctx: &Ctx<ConfigMsg>, read: Result<Reading, Invalid>) {
        match read {
            Ok(reading) => drop(self.publish(ctx, reading, None)),
            Err(e) => tracing::error!(target: "crabtree::config", "the configuration was not reloaded: {e}"),
        }
    }

    fn edit(&mut self, ctx: &mut Ctx<ConfigMsg>, plan: Plan, responder: Responder) {
        if self.waiting.len() >= MAX_EDITS {
            let full =
                format!("{MAX_EDITS} changes of the configuration are waiting already; try again later");
            return responder.refuse(Refusal::failed(full).with_retry(1000));
        }
        self.waiting.push_back((plan, Some(responder)));
        self.next_edit(ctx);
    }

    /// Takes the last change back if an actor was parked for it; keeps what is in force otherwise.
    fn judge(&mut self, ctx: &mut Ctx<ConfigMsg>) {
        let estate = &self.args.estate;
        let trial = self.trial.take();
        let failed = trial.as_ref().map(|trial| trial.failed(estate)).unwrap_or_default();
        match trial {
            Some(trial) if !failed.is_empty() => {
                tracing::error!(target: "crabtree::config", ?failed, "the last change is taken back: these actors \
                    were parked for it; see system.actors for the cause");
                let text = trial.before.text.clone();
                let answer = Box::new(|_: &Loaded| Value::Null);
                let plan: Plan = Box::new(move |_| Ok(Edit { writing: Writing::Text(text), answer }));
                self.waiting.push_front((plan, None));
                self.next_edit(ctx);
            }
            _ => {
                let loaded = estate.config.load_full();
                ctx.detached(async move {
                    // What cannot be kept is missed only by a start with a broken file.
                    let _ = tokio::task::spawn_blocking(move || trial::keep(&loaded)).await;
                });
            }
        }
    }

    /// One at a time, so that none overwrites another.
    fn next_edit(&mut self, ctx: &mut Ctx<ConfigMsg>) {
        if self.editing.is_some() {
            return;
        }
        let Some((plan, responder)) = self.waiting.pop_front() else { return };
        self.editing = Some(responder);
        let file = self.args.file.clone();
        let work = async move {
            let done = tokio::task::spawn_blocking(move || file.rewrite(plan)).await;
            done.unwrap_or_else(|e| Err(Refusal::failed(format!("the configuration was not changed: {e}"))))
        };
        ctx.task(work, |result| ConfigMsg::Edited(Box::new(result)));
    }

    fn edited(&mut self, ctx: &mut Ctx<ConfigMsg>, result: Result<(Reading, Value), Refusal>) {
        let responder = self.editing.take().flatten();
        match result {
            Ok((reading, answer)) => {
                let before = self.args.estate.config.load_full();
                let (done, in_force) = oneshot::channel();
                let changed = self.publish(ctx, reading, Some(done));
                if responder.is_some() && !changed.is_empty() {
                    self.trial = Some(Trial::begin(before, changed, &self.args.estate));
                    self._judge = ctx.after(TRIAL, ConfigMsg::Judge);
                }
                ctx.detached(async move {
                    // An actor that does not come back is shown by `system.actors`; the change is made all the same.
                    let _ = tokio::time::timeout(IN_FORCE, in_force).await;
                    responder.into_iter().for_each(|responder| responder.ok(&answer));
                });
            }
            Err(refusal) => responder.into_iter().for_each(|responder| responder.refuse(refusal.clone())),
        }
        self.next_edit(ctx);
    }

    /// Puts a reading in force, unless a later one is; which sections changed. `done` is dropped when everybody works
    /// with it.
    fn publish(
        &mut self,
        ctx: &Ctx<ConfigMsg>,
        reading: Reading,
        done: Option<oneshot::Sender<()>>,
    ) -> Vec<&'static str> {
        if reading.number < self.reading {
            return Vec::new();
        }
        self.reading = reading.number;
        let next = reading.loaded;
        let last = self.args.estate.config.load_full();
        let changed: Vec<&'static str> = SECTIONS
            .into_iter()
            .filter(|name| next.settings.section_hash(name) != last.settings.section_hash(name))
            .collect();
        for warning in next.warnings.iter().filter(|w| !last.warnings.contains(w)) {
            tracing::warn!(target: "crabtree::config", "{warning}");
        }
        let news = json!({ "path": next.path, "hash": next.hash, "ts": ctx.now_ms() });
        let differs = next.hash != last.hash || !changed.is_empty();
        let auth = next.auth.clone();
        self.args.estate.config.store(Arc::new(next));
        if let Some(auth) = auth {
            self.args.estate.change_auth(auth);
        }
        if differs {
            tracing::info!(target: "crabtree::config", ?changed, "configuration reloaded");
            let audience = Audience::Scope(Scope::Read);
            self.args.estate.conns.publish(Event::new(
                crabtree_protocol::Event::ConfigChanged,
                audience,
                &news,
            ));
            let _ = self.args.root.send(RootMsg::ConfigChanged { changed: changed.clone(), done });
        }
        changed
    }
}

/// The top-level sections that are watched for changes: all that are read.
const SECTIONS: [&str; 17] = [
    "gateway",
    "agents",
    "models",
    "plugins",
    "acp",
    "tools",
    "mcp",
    "skills",
    "channels",
    "approvals",
    "commands",
    "bindings",
    "broadcast",
    "session",
    "messages",
    "store",
    "logging",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_section_is_watched() {
        let settings = serde_json::to_value(crate::settings::Settings::default()).unwrap();
        let sections: Vec<_> = settings.as_object().unwrap().keys().collect();
        assert_eq!(sections, SECTIONS);
    }
}

//! **Owns** the configuration in force, and its files.
//! **Hears** of changes of the files, of requests to read it again and of changes to make in it; **tells** the Estate
//! the new one, the root which sections changed, and operators the event `config.changed`.
//! **On crash** the configuration stays published and the file is read again; changes that were waiting are refused
//! as retryable, the one being written is in the file or it is not.

pub mod changes;
pub mod edit;
mod file;
pub mod include;
mod kept;
pub mod older;
pub mod opener;
mod owner;
mod shown;
mod trial;

pub use file::{
    Ask, ConfigFile, Edit, LAST_GOOD, Plan, Reading, Reload, Rewritten, Unread, Writing, Wrote, is_only_read,
    replaced,
};
pub use kept::{Kept, good};
pub use owner::place;
pub use shown::{conceal, shown};

use crate::estate::{Estate, Part};
use crate::event::{Audience, Event};
use crate::gateway::RootMsg;
use crate::responder::Responder;
use crate::restart;
use crate::secrets::{self, Report};
use crate::settings::{Invalid, Issue, Loaded};
use crate::tree::*;
use crabtree_protocol::{Refusal, Scope};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::oneshot;
use trial::{TRIAL, Trial};

/// How often the files are looked at.
const POLL: Duration = Duration::from_secs(2);
/// Changes that may wait for their turn; a person makes one at a time.
const MAX_EDITS: usize = 64;
/// How long an answer waits until everybody works with what was changed.
const IN_FORCE: Duration = Duration::from_secs(5);

/// What the config actor hears.
pub enum ConfigMsg {
    /// Look whether the files have changed.
    Poll,
    /// How the files are now.
    Seen(Vec<Stamp>),
    /// Read it again, changed or not, and look all its secrets up anew.
    Reload,
    /// The same for somebody who waits until it is in force.
    Renew(Renewal),
    /// It was read.
    Loaded(Box<Result<Prepared, Unread>>, Option<Renewal>),
    /// Change it; answered when the change is in force.
    Edit(Plan, Responder),
    /// The last change has been in force for a while: is everybody up who was started anew for it?
    Judge,
    /// It was changed, or could not be.
    Edited(Box<Result<Changed, Refusal>>),
}

/// Somebody who waits until the configuration was read again.
pub struct Renewal {
    /// Where the answer goes.
    pub responder: Responder,
    /// What is answered, with `warningCount`: secrets that are not to be had.
    pub answer: Value,
    /// What is answered if it is not taken up.
    pub refusal: Refusal,
}

/// A reading whose secrets were looked up, and are no more in it.
pub struct Prepared {
    reading: Reading,
    report: Report,
    kept: Kept,
}

/// What became of a change.
pub struct Changed {
    prepared: Prepared,
    answer: Value,
    wrote: Option<Wrote>,
}

/// A file, and since when it is how long; nothing if it is not there.
type Stamp = (PathBuf, Option<(SystemTime, u64)>);

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
    seen: Vec<Stamp>,
    /// The number of the reading in force.
    reading: u64,
    /// The last reading that failed.
    unread: Option<(u64, Issue)>,
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
        for issue in loaded.issues() {
            tracing::error!(target: "crabtree::config", "{}", issue.told(&loaded.path));
        }
        args.estate.ready.done(Part::Config);
        let poll = ctx.after(POLL, ConfigMsg::Poll);
        let judge = ctx.after(TRIAL, ConfigMsg::Judge);
        let this = Self {
            args,
            seen: Vec::new(),
            reading: 0,
            unread: None,
            editing: None,
            waiting: VecDeque::new(),
            trial: None,
            _poll: poll,
            _judge: judge,
        };
        if ctx.node().restarts() > 0 {
            this.reload(ctx, secrets::Ask::WhatChanged, None);
        }
        Ok(this)
    }

    fn handle(&mut self, ctx: &mut Ctx<ConfigMsg>, msg: ConfigMsg) -> Result<(), Fault> {
        match msg {
            ConfigMsg::Poll => {
                self._poll = ctx.after(POLL, ConfigMsg::Poll);
                let loaded = self.args.estate.config.load();
                let paths = [&loaded.path].into_iter().chain(&loaded.origin.watched).cloned().collect();
                ctx.task(stamps(paths), ConfigMsg::Seen);
            }
            ConfigMsg::Seen(stamps) => {
                // The first time, too: they may have changed since the program read them. A main file that is gone is
                // being written anew.
                let is_there = stamps.first().is_some_and(|(_, stamp)| stamp.is_some());
                if is_there && self.seen != stamps {
                    self.seen = stamps;
                    self.reload(ctx, secrets::Ask::WhatChanged, None);
                }
            }
            ConfigMsg::Reload => self.reload(ctx, secrets::Ask::Anew, None),
            ConfigMsg::Renew(renewal) => self.reload(ctx, secrets::Ask::Anew, Some(renewal)),
            ConfigMsg::Loaded(read, renewal) => self.loaded(ctx, *read, renewal),
            ConfigMsg::Edit(plan, responder) => self.edit(ctx, plan, responder),
            ConfigMsg::Judge => self.judge(ctx),
            ConfigMsg::Edited(result) => self.edited(ctx, *result),
        }
        Ok(())
    }
}

/// Looks the secrets of a reading up; it blocks.
fn prepared(estate: &Estate, mut reading: Reading, ask: secrets::Ask) -> Prepared {
    let kept = Kept::of(&reading.loaded);
    let report = estate.secrets.prepare(&mut reading.loaded, ask);
    Prepared { reading, report, kept }
}

async fn stamps(paths: Vec<PathBuf>) -> Vec<Stamp> {
    let stamp = |path: PathBuf| {
        let about = std::fs::metadata(&path).and_then(|about| Ok((about.modified()?, about.len()))).ok();
        (path, about)
    };
    let all = tokio::task::spawn_blocking(move || paths.into_iter().map(stamp).collect());
    all.await.unwrap_or_default()
}

impl Config {
    fn reload(&self, ctx: &mut Ctx<ConfigMsg>, ask: secrets::Ask, renewal: Option<Renewal>) {
        let (file, estate) = (self.args.file.clone(), self.args.estate.clone());
        let read = async move {
            let read = move || {
                let last = estate.secrets.kept().used();
                let prepared = prepared(&estate, file.read(last.as_ref())?, ask);
                let number = prepared.reading.number;
                let missing = prepared.report.strictly_missing();
                missing.map_or(Ok(prepared), |why| Err(Unread { number, why: Invalid::new(why) }))
            };
            let read = tokio::task::spawn_blocking(read).await;
            let failed = |e: tokio::task::JoinError| Unread { number: 0, why: Invalid::new(e.to_string()) };
            (read.unwrap_or_else(|e| Err(failed(e))), renewal)
        };
        ctx.task(read, |(read, renewal)| ConfigMsg::Loaded(Box::new(read), renewal));
    }

    /// A configuration that cannot be read changes nothing but what is said of it.
    fn loaded(&mut self, ctx: &mut Ctx<ConfigMsg>, read: Result<Prepared, Unread>, renewal: Option<Renewal>) {
        match read {
            Ok(prepared) => {
                let (done, in_force) = oneshot::channel();
                drop(self.publish(ctx, prepared, Some(done)));
                let Some(Renewal { responder, mut answer, .. }) = renewal else { return };
                answer["warningCount"] = self.args.estate.secrets.report().wanting().count().into();
                ctx.detached(async move {
                    let _ = tokio::time::timeout(IN_FORCE, in_force).await;
                    responder.ok(&answer);
                });
            }
            Err(Unread { number, why }) => {
                tracing::error!(target: "crabtree::config", "the configuration was not reloaded: {why}");
                if number > self.reading {
                    self.unread = Some((number, why.issue()));
                    let mut same = Loaded::clone(&self.args.estate.config.load());
                    same.origin.issues = vec![why.issue()];
                    self.args.estate.config.store(Arc::new(same));
                }
                renewal.into_iter().for_each(|renewal| renewal.responder.refuse(renewal.refusal));
            }
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
                let (writing, answer) = (trial.back(), Box::new(|_: &Loaded| Value::Null));
                let plan: Plan = Box::new(move |_| Ok(Edit { writing, answer }));
                self.waiting.push_front((plan, None));
                self.next_edit(ctx);
            }
            _ => {
                let (kept, state_dir) = (estate.secrets.kept(), estate.config.load().state_dir.clone());
                ctx.detached(async move {
                    // What cannot be kept is missed only by a start with a broken file.
                    let _ = tokio::task::spawn_blocking(move || trial::keep(&state_dir, &kept)).await;
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
        let (file, estate) = (self.args.file.clone(), self.args.estate.clone());
        let work = async move {
            let write = move || {
                let last = estate.secrets.kept().used();
                let Rewritten { reading, answer, wrote } = file.rewrite(plan, last.as_ref())?;
                let prepared = prepared(&estate, reading, secrets::Ask::WhatChanged);
                match prepared.report.strictly_missing() {
                    None => Ok(Changed { prepared, answer, wrote }),
                    Some(missing) => {
                        let why = format!("the configuration was written, and is not in force: {missing}");
                        Err(Refusal::failed(why))
                    }
                }
            };
            let done = tokio::task::spawn_blocking(write).await;
            done.unwrap_or_else(|e| Err(Refusal::failed(format!("the configuration was not changed: {e}"))))
        };
        ctx.task(work, |result| ConfigMsg::Edited(Box::new(result)));
    }

    fn edited(&mut self, ctx: &mut Ctx<ConfigMsg>, result: Result<Changed, Refusal>) {
        let responder = self.editing.take().flatten();
        match result {
            Ok(Changed { prepared, answer, wrote }) => {
                let (done, in_force) = oneshot::channel();
                let changed = self.publish(ctx, prepared, Some(done));
                if let Some(wrote) = wrote.filter(|_| responder.is_some() && !changed.is_empty()) {
                    self.trial = Some(Trial::begin(wrote, changed, &self.args.estate));
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
        prepared: Prepared,
        done: Option<oneshot::Sender<()>>,
    ) -> Vec<&'static str> {
        let Prepared { reading, report, kept } = prepared;
        if reading.number < self.reading {
            return Vec::new();
        }
        self.reading = reading.number;
        self.args.estate.secrets.publish(report);
        self.args.estate.secrets.keep(kept);
        let mut next = reading.loaded;
        match &self.unread {
            Some((number, issue)) if *number > reading.number => next.origin.issues.push(issue.clone()),
            _ => self.unread = None,
        }
        let last = self.args.estate.config.load_full();
        let changed: Vec<&'static str> = SECTIONS
            .into_iter()
            .filter(|name| next.settings.section_hash(name) != last.settings.section_hash(name))
            .collect();
        for warning in next.warnings.iter().filter(|w| !last.warnings.contains(w)) {
            tracing::warn!(target: "crabtree::config", "{warning}");
        }
        for issue in next.issues().iter().filter(|issue| !last.issues().contains(issue)) {
            tracing::error!(target: "crabtree::config", "{}", issue.told(&next.path));
        }
        let news = json!({ "path": next.path, "hash": next.hash, "ts": ctx.now_ms() });
        let differs = next.hash != last.hash || !changed.is_empty();
        restart::after_change(&self.args.estate, &last.settings.gateway, &next.settings.gateway);
        self.args.estate.lanes.resize(next.settings.agents.defaults.lanes());
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
const SECTIONS: [&str; 22] = [
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
    "cron",
    "hooks",
    "secrets",
    "store",
    "logging",
    "alerts",
    "discovery",
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

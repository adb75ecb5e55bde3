//! **Owns** the configuration in force.
//! **Hears** of changes of the file and of requests to read it again; **tells** the Estate the new one, the
//! root which sections changed, and operators the event `config.changed`.
//! **On crash** nothing is lost: the configuration stays published; the file is looked at again.

use crate::estate::{Estate, Part};
use crate::event::{Audience, Event};
use crate::gateway::RootMsg;
use crate::settings::Loaded;
use crate::tree::*;
use crabtree_protocol::Scope;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How often the file is looked at.
const POLL: Duration = Duration::from_secs(2);

/// Reads the configuration anew: file, environment and flags. May block.
pub type Reload = Arc<dyn Fn() -> Result<Loaded, String> + Send + Sync>;

/// What the config actor hears.
pub enum ConfigMsg {
    /// Look whether the file has changed.
    Poll,
    /// The file's time of change.
    Seen(Option<SystemTime>),
    /// Read it again, changed or not.
    Reload,
    /// It was read.
    Loaded(Box<Result<Loaded, String>>),
}

/// What it is started with.
#[derive(Clone)]
pub struct ConfigArgs {
    /// Where the configuration is published.
    pub estate: Arc<Estate>,
    /// How it is read.
    pub reload: Reload,
    /// Whom to tell what changed.
    pub root: Slot<RootMsg>,
}

/// See the module.
pub struct Config {
    args: ConfigArgs,
    seen: Option<SystemTime>,
    _poll: Timer,
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
        Ok(Self { args, seen: None, _poll: poll })
    }

    fn handle(&mut self, ctx: &mut Ctx<ConfigMsg>, msg: ConfigMsg) -> Result<(), Fault> {
        match msg {
            ConfigMsg::Poll => {
                self._poll = ctx.after(POLL, ConfigMsg::Poll);
                let path = self.args.estate.config.load().path.clone();
                ctx.task(changed_at(path), ConfigMsg::Seen);
            }
            ConfigMsg::Seen(at) => {
                let known = self.seen.replace(at.unwrap_or(SystemTime::UNIX_EPOCH));
                if known.is_some_and(|known| at.is_some_and(|at| at != known)) {
                    self.reload(ctx);
                }
            }
            ConfigMsg::Reload => self.reload(ctx),
            ConfigMsg::Loaded(loaded) => self.loaded(ctx, *loaded),
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
        let reload = self.args.reload.clone();
        let read = async move {
            tokio::task::spawn_blocking(move || reload()).await.unwrap_or_else(|e| Err(e.to_string()))
        };
        ctx.task(read, |loaded| ConfigMsg::Loaded(Box::new(loaded)));
    }

    /// A configuration that cannot be read changes nothing.
    fn loaded(&self, ctx: &Ctx<ConfigMsg>, loaded: Result<Loaded, String>) {
        let next = match loaded {
            Ok(next) => next,
            Err(e) => {
                tracing::error!(target: "crabtree::config", "the configuration was not reloaded: {e}");
                return;
            }
        };
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
        self.args.estate.config.store(Arc::new(next));
        if differs {
            tracing::info!(target: "crabtree::config", ?changed, "configuration reloaded");
            let audience = Audience::Scope(Scope::Read);
            self.args.estate.conns.publish(Event::new(
                crabtree_protocol::Event::ConfigChanged,
                audience,
                &news,
            ));
            let _ = self.args.root.send(RootMsg::ConfigChanged(changed));
        }
    }
}

/// The top-level sections that are watched for changes.
const SECTIONS: [&str; 5] = ["gateway", "agents", "session", "store", "logging"];

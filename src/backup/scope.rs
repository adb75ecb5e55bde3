//! What belongs in a backup: all of the state directory but what can be made anew, or is another's. What is not known
//! here is taken along.

use std::fs;
use std::path::{Path, PathBuf};

use crabtree_actors::settings::Loaded;

use super::STORE;
use super::archive::LeftOut;
use super::restore::CONFIG;
use crate::owner::LOCK_FILE;

/// How deep folders may be nested.
pub(super) const MAX_DEPTH: usize = 64;
/// What in a state directory is not part of it, by its name, with whatever has the same and a dot or a hyphen after it.
/// The database is copied by itself.
const NOT_TAKEN: [(&str, &str); 7] = [
    (LOCK_FILE, "says which process has the directory"),
    (STORE, ""),
    ("import.tmp", "what an import leaves that was broken off"),
    ("backup.tmp", "copies of the database"),
    ("trash", "deleted agents"),
    ("logs", "the log"),
    (".crabtree-backup.part", "a backup that was broken off"),
];

/// A state directory, as it goes into a backup.
#[derive(Debug, Default)]
pub struct Scope {
    /// The directory.
    pub state_dir: PathBuf,
    /// Files of the configuration that are elsewhere, the main one first.
    config: Vec<PathBuf>,
    /// What people may miss: it is elsewhere.
    elsewhere: Vec<LeftOut>,
    /// Names that are left out because somebody wants it so.
    unwanted: Vec<String>,
    /// The file of the log.
    log: Option<PathBuf>,
}

/// A file that goes into a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Where it is.
    pub from: PathBuf,
    /// Its name there.
    pub path: String,
}

/// What there is.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub files: Vec<Source>,
    pub left_out: Vec<LeftOut>,
    pub config: Option<String>,
}

impl Scope {
    /// Nothing but a state directory.
    pub fn of(state_dir: &Path) -> Self {
        Self { state_dir: state_dir.to_owned(), ..Self::default() }
    }

    /// With a configuration, wherever it is. Agents' workspaces that are elsewhere are not taken along.
    pub fn with(loaded: &Loaded) -> Self {
        let is_elsewhere = |path: &&PathBuf| !path.starts_with(&loaded.state_dir);
        let included = loaded.origin.included.iter().map(|file| &file.path);
        let config =
            [&loaded.path].into_iter().filter(|_| loaded.exists).chain(included).filter(is_elsewhere);
        let settings = &loaded.settings;
        let agents = &settings.agents;
        let default = settings.default_agent_id();
        let mut workspaces: Vec<PathBuf> = agents
            .list
            .iter()
            .map(|agent| agent.id.as_str())
            .chain([default])
            .map(|id| agents.workspace(id, default, &loaded.state_dir))
            .filter(|path| is_elsewhere(&path))
            .collect();
        workspaces.sort_unstable();
        workspaces.dedup();
        let why = "a workspace outside of the state directory";
        Self {
            state_dir: loaded.state_dir.clone(),
            // One that was restored once is in use no more.
            unwanted: config.clone().map(|_| CONFIG.to_owned()).take(1).collect(),
            config: config.cloned().collect(),
            elsewhere: workspaces.iter().map(|path| left(path, why)).collect(),
            log: settings.logging.file.as_ref().map(|file| loaded.state_dir.join(file)),
        }
    }

    /// Without what came with messages.
    pub fn without_media(mut self) -> Self {
        self.unwanted.push("media".into());
        self
    }

    /// Without the workspaces of agents.
    pub fn without_workspaces(mut self) -> Self {
        self.unwanted.push("workspace".into());
        self
    }

    /// What there is now, in the order of the names.
    pub(super) fn sources(&self) -> Found {
        let mut found = Found { left_out: self.elsewhere.clone(), ..Found::default() };
        let main = self.config.first();
        found.config = main.map(|path| path.display().to_string());
        let root = main.and_then(|path| path.parent()).unwrap_or(Path::new("/"));
        for path in &self.config {
            match path.strip_prefix(root).ok().and_then(Path::to_str) {
                Some(name) => {
                    found.files.push(Source { from: path.clone(), path: format!("config/{name}") });
                }
                None => found.left_out.push(left(path, "not beside the configuration")),
            }
        }
        self.walk(&self.state_dir, "state", 0, &mut found);
        found
    }

    fn walk(&self, dir: &Path, name: &str, depth: usize, found: &mut Found) {
        let mut entries = match fs::read_dir(dir).and_then(Iterator::collect::<Result<Vec<_>, _>>) {
            Ok(entries) => entries,
            Err(error) => return found.left_out.push(left(dir, &format!("not to be read: {error}"))),
        };
        entries.sort_unstable_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let file_name = entry.file_name();
            let Some(own) = file_name.to_str().filter(|own| !own.contains(char::is_control)) else {
                found.left_out.push(left(&path, "an odd name"));
                continue;
            };
            if depth == 0
                && let Some(why) = self.why_not(own)
            {
                if !why.is_empty() {
                    found.left_out.push(left(&path, why));
                }
                continue;
            }
            let whole = format!("{name}/{own}");
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && depth < MAX_DEPTH => self.walk(&path, &whole, depth + 1, found),
                Ok(kind) if kind.is_dir() => found.left_out.push(left(&path, "nested too deep")),
                Ok(kind) if kind.is_file() && self.is_log(&path) => {
                    found.left_out.push(left(&path, "the log"));
                }
                Ok(kind) if kind.is_file() => found.files.push(Source { from: path, path: whole }),
                Ok(kind) if kind.is_symlink() => found.left_out.push(left(&path, "a link")),
                Ok(_) => found.left_out.push(left(&path, "no ordinary file")),
                Err(error) => found.left_out.push(left(&path, &error.to_string())),
            }
        }
    }

    /// Why something in the state directory is not taken; without a word, if nobody would miss it.
    fn why_not(&self, name: &str) -> Option<&str> {
        match self.unwanted.iter().any(|unwanted| belongs(name, unwanted)) {
            true => Some("not asked for"),
            false => not_taken(name),
        }
    }

    /// Whether it is the log, or one before it.
    fn is_log(&self, path: &Path) -> bool {
        let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
        let parts = self.log.as_deref().and_then(|log| Some((log.parent()?, name(log)?, name(path)?)));
        parts.is_some_and(|(folder, log, own)| path.parent() == Some(folder) && belongs(&own, &log))
    }
}

/// Why something of this name is in no backup.
pub(super) fn not_taken(name: &str) -> Option<&'static str> {
    NOT_TAKEN.iter().find(|(taken, _)| belongs(name, taken)).map(|(_, why)| *why)
}

fn belongs(name: &str, to: &str) -> bool {
    name.strip_prefix(to).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '-']))
}

fn left(path: &Path, why: &str) -> LeftOut {
    LeftOut { path: path.display().to_string(), why: why.to_owned() }
}

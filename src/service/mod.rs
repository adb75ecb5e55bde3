//! The gateway as a service of its machine: what the machine's service manager is given and told.
//!
//! [`Unit`] is the one source of all unit files. `config/crabtree.service` is what it makes for a system, and a test
//! holds the two together.

mod launchd;
pub mod notify;
mod systemd;

use clap::ValueEnum;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the service is called.
pub const NAME: &str = "crabtree";
/// What launchd calls it.
pub const LABEL: &str = "crabtree.gateway";
/// How long the gateway may take to end: well above what its drain and the end of its tree and sockets are given.
const STOP_LIMIT: Duration = Duration::from_secs(330);
/// How long it may take to start; a database of an older version is copied and carried over first.
const START_LIMIT: Duration = Duration::from_secs(300);
/// A gateway that has said nothing for so long is started anew. It says something twice in that time.
const WATCHDOG: Duration = Duration::from_secs(30);
/// Files that may be open: a socket each client.
const OPEN_FILES: u32 = 65_536;
/// Digits of a template's stamp.
const STAMP: usize = 8;
/// What comes before the stamp in a file.
const BEFORE_STAMP: &str = "template ";

/// Who starts the gateway, and starts it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Platform {
    /// Linux.
    Systemd,
    /// macOS.
    Launchd,
}

impl Platform {
    /// That of this machine.
    pub fn here() -> Self {
        if cfg!(target_os = "macos") { Self::Launchd } else { Self::Systemd }
    }
}

/// Whose service it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// This user's.
    User,
    /// The machine's.
    System,
}

/// One gateway, as a service manager starts it.
#[derive(Clone, Debug)]
pub struct Unit {
    /// Who starts it.
    pub platform: Platform,
    /// Whose it is.
    pub scope: Scope,
    /// The program.
    pub program: PathBuf,
    /// Where it keeps its state, if not where it does anyway.
    pub state_dir: Option<PathBuf>,
    /// Its configuration file, if not the one in the state directory.
    pub config: Option<PathBuf>,
    /// As whom it runs; of a system's service only.
    pub user: String,
    /// Where it finds the programs of tools and bridges, if not where services do anyway.
    pub path: Option<String>,
    /// Directories it may write to beside its state; of a system's service only, others are not kept from any.
    pub writable: Vec<PathBuf>,
    /// The user's home.
    pub home: PathBuf,
}

impl Unit {
    /// As it is published: on a usual machine, with nothing said about it.
    pub fn published(platform: Platform, scope: Scope) -> Self {
        Self {
            platform,
            scope,
            program: "/usr/local/bin/crabtree".into(),
            state_dir: (scope == Scope::System).then(|| system_state_dir(platform)),
            config: None,
            user: NAME.into(),
            path: None,
            writable: Vec::new(),
            home: "/home/user".into(),
        }
    }

    /// The file's content.
    pub fn text(&self) -> String {
        self.render(&stamp(self.platform, self.scope))
    }

    fn render(&self, stamp: &str) -> String {
        match self.platform {
            Platform::Systemd => systemd::text(self, stamp),
            Platform::Launchd => launchd::text(self, stamp),
        }
    }

    /// The arguments of the program, itself the first.
    fn arguments(&self) -> Vec<String> {
        let mut all = vec![shown(&self.program), "run".to_owned()];
        if let Some(config) = &self.config {
            all.extend(["--config".to_owned(), shown(config)]);
        }
        all
    }
}

/// Where a system's service keeps its state unless it is told otherwise.
pub fn system_state_dir(platform: Platform) -> PathBuf {
    match platform {
        Platform::Systemd => "/var/lib/crabtree".into(),
        Platform::Launchd => "/usr/local/var/crabtree".into(),
    }
}

/// Where the file belongs; `settings` is where this user's programs keep their settings, mostly `~/.config`.
pub fn file(platform: Platform, scope: Scope, home: &Path, settings: &Path) -> PathBuf {
    match (platform, scope) {
        (Platform::Systemd, Scope::System) => Path::new("/etc/systemd/system").join(unit_name()),
        (Platform::Systemd, Scope::User) => settings.join("systemd/user").join(unit_name()),
        (Platform::Launchd, Scope::System) => {
            Path::new("/Library/LaunchDaemons").join(format!("{LABEL}.plist"))
        }
        (Platform::Launchd, Scope::User) => home.join("Library/LaunchAgents").join(format!("{LABEL}.plist")),
    }
}

/// What systemd calls it.
pub fn unit_name() -> String {
    format!("{NAME}.service")
}

/// Names the template in this program: the same as long as it would make the same files.
pub fn stamp(platform: Platform, scope: Scope) -> String {
    let text = Unit::published(platform, scope).render("");
    blake3::hash(text.as_bytes()).to_hex()[..STAMP].to_owned()
}

/// The stamp of the template that a file was made from; none if it was not made by this program.
pub fn stamp_in(text: &str) -> Option<&str> {
    let told = text.lines().find_map(|line| line.split_once(BEFORE_STAMP))?.1.get(..STAMP)?;
    told.bytes().all(|digit| digit.is_ascii_hexdigit()).then_some(told)
}

/// A path as text. What is no UTF-8 was refused before.
fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
#[path = "mod_tests.rs"]
mod tests;

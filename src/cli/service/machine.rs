//! The service manager of this machine, as its own command speaks to it.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::{Failure, home, settings_dir};
use crate::config::Environment;
use crate::service::{self, LABEL, NAME, Platform, Scope, Unit};

/// A service that starts may take its time; its manager waits for it.
const LIMIT: Duration = Duration::from_secs(310);
/// A question to the manager is answered sooner.
const ANSWER: Duration = Duration::from_secs(15);
/// What of a complaint is passed on.
const MAX_COMPLAINT: usize = 500;
/// States in which systemd can be asked for something.
const UP: [&str; 5] = ["initializing", "starting", "running", "degraded", "maintenance"];

/// See the module.
pub(super) struct Machine {
    pub(super) platform: Platform,
    pub(super) scope: Scope,
    /// The directory of an image instead of the machine.
    root: Option<PathBuf>,
    pub(super) home: PathBuf,
    settings: PathBuf,
    user: Option<String>,
}

/// A command to be run.
pub(super) struct Step {
    words: Vec<String>,
    /// It may fail, as the end of something that may not be.
    may_fail: bool,
}

impl Step {
    fn new<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        Self { words: words.into_iter().map(str::to_owned).collect(), may_fail: false }
    }

    pub(super) fn shown(&self) -> String {
        let word = |word: &String| if word.contains(' ') { format!("'{word}'") } else { word.clone() };
        self.words.iter().map(word).collect::<Vec<_>>().join(" ")
    }

    pub(super) async fn run(&self) -> Result<(), Failure> {
        let failed = |why: String| {
            Failure::failed(format!("{}: {why}", self.shown()))
                .or_next("the file is written; `crabtree doctor` and the journal say more")
        };
        let ran = self.output(LIMIT).await.map_err(failed)?;
        if ran.status.success() || self.may_fail {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&ran.stderr);
        let said: String = said.trim().chars().take(MAX_COMPLAINT).collect();
        Err(failed(format!("ended with {}: {said}", ran.status)))
    }

    async fn output(&self, limit: Duration) -> Result<Output, String> {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).stdin(Stdio::null()).kill_on_drop(true);
        match timeout(limit, command.output()).await {
            Ok(output) => output.map_err(|error| error.to_string()),
            Err(_) => Err(format!("did not end within {} s", limit.as_secs())),
        }
    }

    /// What it prints, if it could be run.
    async fn asked(&self) -> Option<String> {
        Some(String::from_utf8_lossy(&self.output(ANSWER).await.ok()?.stdout).into_owned())
    }
}

impl Machine {
    pub(super) fn new(
        platform: Platform,
        scope: Scope,
        root: Option<PathBuf>,
        env: &Environment,
    ) -> Result<Self, Failure> {
        let home = home(scope, env)?;
        let settings = settings_dir(&home, env);
        Ok(Self { platform, scope, root, settings, home, user: env.get("USER").map(str::to_owned) })
    }

    /// Where the service's file is.
    pub(super) fn file(&self) -> PathBuf {
        let file = service::file(self.platform, self.scope, &self.home, &self.settings);
        match &self.root {
            Some(root) => root.join(file.strip_prefix("/").unwrap_or(&file)),
            None => file,
        }
    }

    /// Whether the file can be written, as far as that can be told before.
    pub(super) fn may_write(&self) -> Result<(), Failure> {
        if self.scope == Scope::User || self.root.is_some() || rustix::process::geteuid().is_root() {
            return Ok(());
        }
        Err(Failure::failed("a service of the machine is installed by root")
            .or_next("run it with sudo, or leave --system out"))
    }

    /// Whether there is a manager that can be asked for something.
    pub(super) async fn runs(&self) -> bool {
        if self.root.is_some() || self.platform != Platform::here() {
            return false;
        }
        match self.platform {
            Platform::Systemd => {
                let state = self.systemctl(["is-system-running"]).asked().await;
                state.is_some_and(|state| UP.contains(&state.trim()))
            }
            Platform::Launchd => Step::new(["launchctl", "version"]).asked().await.is_some(),
        }
    }

    /// Why nothing was started.
    pub(super) fn silence(&self) -> &'static str {
        match (&self.root, self.platform) {
            (Some(_), _) => "nothing is started in a directory",
            (None, Platform::Systemd) => "systemd does not run here",
            (None, Platform::Launchd) => "launchd does not run here",
        }
    }

    /// When the rest is to be run by hand.
    pub(super) fn then(&self) -> &'static str {
        if self.root.is_some() { "run" } else { "once it does, run" }
    }

    /// What has to be there first: the user of a system's service.
    pub(super) async fn before(&self, unit: &Unit) -> Vec<Step> {
        if self.scope == Scope::User || self.platform == Platform::Launchd {
            return Vec::new();
        }
        let known = match &self.root {
            Some(_) => false,
            None => {
                let asked = Step::new(["id", "-u", &unit.user]).output(ANSWER).await;
                asked.is_ok_and(|ran| ran.status.success())
            }
        };
        let home = unit.state_dir.as_deref().unwrap_or(Path::new("/")).display().to_string();
        let user = ["useradd", "--system", "--home-dir", &home, "--shell", "/usr/sbin/nologin", &unit.user];
        if known { Vec::new() } else { vec![Step::new(user)] }
    }

    /// What has the file taken up, and the service started at once if it may be.
    pub(super) fn after(&self, changed: bool, start: bool) -> Vec<Step> {
        match self.platform {
            Platform::Systemd if self.root.is_some() => vec![self.systemctl(["enable", NAME])],
            Platform::Systemd => {
                let now: &[&str] = if start { &["--now"] } else { &[] };
                let enable = self.systemctl([&["enable"], now, &[NAME]].concat());
                vec![self.systemctl(["daemon-reload"]), enable]
            }
            Platform::Launchd => {
                let file = service::file(self.platform, self.scope, &self.home, &self.settings);
                let file = file.display().to_string();
                let begin = Step::new(["launchctl", "bootstrap", &self.domain(), &file]);
                if changed { vec![self.bootout(), begin] } else { vec![begin] }
            }
        }
    }

    /// What ends the service, and what has its file forgotten once it is gone.
    pub(super) fn leave(&self) -> (Vec<Step>, Vec<Step>) {
        match self.platform {
            Platform::Systemd if self.root.is_some() => (vec![self.systemctl(["disable", NAME])], Vec::new()),
            Platform::Systemd => {
                (vec![self.systemctl(["disable", "--now", NAME])], vec![self.systemctl(["daemon-reload"])])
            }
            Platform::Launchd => (vec![self.bootout()], Vec::new()),
        }
    }

    /// What people may want to do besides.
    pub(super) fn advice(&self) -> Vec<String> {
        let is_users = self.scope == Scope::User && self.platform == Platform::Systemd;
        let Some(user) = self.user.as_deref().filter(|_| is_users) else { return Vec::new() };
        if Path::new("/var/lib/systemd/linger").join(user).exists() {
            return Vec::new();
        }
        vec![format!(
            "loginctl enable-linger {user}: then it runs from the start of the machine, logged in or not"
        )]
    }

    pub(super) async fn is_active(&self) -> bool {
        match self.platform {
            Platform::Systemd => {
                let state = self.systemctl(["is-active", NAME]).asked().await;
                state.is_some_and(|state| matches!(state.trim(), "active" | "reloading" | "activating"))
            }
            Platform::Launchd => self.facts().await.contains("state = running"),
        }
    }

    /// The command that starts it.
    pub(super) fn start(&self) -> String {
        match self.platform {
            Platform::Systemd => self.systemctl(["start", NAME]).shown(),
            Platform::Launchd => format!("launchctl kickstart {}/{LABEL}", self.domain()),
        }
    }

    /// The command that starts it anew.
    pub(super) fn restart(&self) -> String {
        match self.platform {
            Platform::Systemd => self.systemctl(["restart", NAME]).shown(),
            Platform::Launchd => format!("launchctl kickstart -k {}/{LABEL}", self.domain()),
        }
    }

    /// What the manager knows of the service.
    pub(super) async fn facts(&self) -> String {
        let ask = match self.platform {
            Platform::Systemd => {
                let wanted = "--property=ActiveState,SubState,UnitFileState,MainPID,NRestarts,StatusText";
                self.systemctl(["show", NAME, wanted])
            }
            Platform::Launchd => Step::new(["launchctl", "print", &format!("{}/{LABEL}", self.domain())]),
        };
        ask.asked().await.unwrap_or_default()
    }

    fn systemctl<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Step {
        let mut step = Step::new(["systemctl"]);
        step.words.extend(self.root.as_ref().map(|root| format!("--root={}", root.display())));
        step.words.extend((self.scope == Scope::User).then(|| "--user".to_owned()));
        step.words.extend(words.into_iter().map(str::to_owned));
        step
    }

    fn bootout(&self) -> Step {
        let step = Step::new(["launchctl", "bootout", &format!("{}/{LABEL}", self.domain())]);
        Step { may_fail: true, ..step }
    }

    /// Where launchd keeps the service.
    fn domain(&self) -> String {
        match self.scope {
            Scope::User => format!("gui/{}", rustix::process::getuid().as_raw()),
            Scope::System => "system".to_owned(),
        }
    }
}

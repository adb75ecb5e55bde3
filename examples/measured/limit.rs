//! A memory limit of the kernel around one process: a control group of version 1 or 2, where one may be made.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the kernel shows control groups: the memory controller of version 1, version 2, and that beside version 1.
const MOUNTS: [&str; 3] = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// Names of the files of a version.
struct Version {
    limit: &'static str,
    /// The most that was used.
    peak: &'static str,
    /// Lines of a name and a number, among them how many were killed.
    kills: &'static str,
}

const VERSIONS: [Version; 2] = [
    Version {
        limit: "memory.limit_in_bytes",
        peak: "memory.max_usage_in_bytes",
        kills: "memory.oom_control",
    },
    Version { limit: "memory.max", peak: "memory.peak", kills: "memory.events" },
];

/// A group with a limit. It goes with this value, when what was in it has ended.
pub struct Limit {
    dir: PathBuf,
    version: &'static Version,
}

impl Limit {
    /// None where the machine does not let this process make one.
    pub fn of(bytes: u64) -> Option<Self> {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let own: Vec<&str> = own.lines().filter_map(|line| line.splitn(3, ':').nth(2)).collect();
        let name = format!("crabtree-measured-{}-{bytes}", std::process::id());
        for mount in MOUNTS.map(Path::new) {
            let inside = own.iter().map(|path| mount.join(path.trim_start_matches('/')));
            for parent in inside.chain([mount.to_owned()]) {
                if let Some(limit) = Self::at(parent.join(&name), bytes) {
                    return Some(limit);
                }
            }
        }
        None
    }

    fn at(dir: PathBuf, bytes: u64) -> Option<Self> {
        fs::create_dir(&dir).ok()?;
        for version in &VERSIONS {
            if fs::write(dir.join(version.limit), bytes.to_string()).is_ok() {
                return Some(Self { dir, version });
            }
        }
        let _ = fs::remove_dir(&dir);
        None
    }

    /// The same command, inside.
    pub fn around(&self, command: &Command) -> Command {
        let mut inside = Command::new("sh");
        inside.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(self.dir.join("cgroup.procs"));
        inside.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        inside
    }

    /// The most that was used, pages of files among it, which the kernel takes back where they are in the way.
    pub fn peak(&self) -> Option<u64> {
        fs::read_to_string(self.dir.join(self.version.peak)).ok()?.trim().parse().ok()
    }

    /// How many processes were killed for want of memory.
    pub fn kills(&self) -> Option<u64> {
        let text = fs::read_to_string(self.dir.join(self.version.kills)).ok()?;
        text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.dir);
    }
}

//! One gateway per state directory: a lock the kernel releases with the process, however that ends.

use anyhow::Context;
use rustix::process::{Pid, test_kill_process};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The file that is locked, in the state directory.
pub const LOCK_FILE: &str = "gateway.lock";

/// The state directory is ours as long as this lives.
#[derive(Debug)]
pub struct Owner(File);

/// Who holds a state directory, as written in its lock file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Holder {
    /// Its process.
    pub pid: u32,
    /// Where it listens.
    pub listen: Vec<SocketAddr>,
    /// How it was started, for who has to start it again.
    #[serde(default)]
    pub started: Started,
}

/// How a gateway was started. Its lock file is for its user's eyes only, as arguments may name a token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Started {
    /// The file of its program, as it was found then.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Where.
    pub folder: PathBuf,
    /// Whether a service manager did it, and does it again.
    pub by_service: bool,
}

impl Started {
    /// This process.
    fn this() -> Self {
        const SERVICE: [&str; 3] = ["INVOCATION_ID", "NOTIFY_SOCKET", "XPC_SERVICE_NAME"];
        Self {
            program: std::env::current_exe().unwrap_or_default(),
            arguments: std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect(),
            folder: std::env::current_dir().unwrap_or_default(),
            by_service: SERVICE.iter().any(|name| std::env::var_os(name).is_some_and(|value| value != "0")),
        }
    }
}

/// Another gateway owns the state directory.
#[derive(Debug, thiserror::Error)]
#[error("another gateway ({}) owns the state directory {dir}", self.holder_text())]
pub struct Owned {
    /// The directory.
    pub dir: String,
    /// Who; unknown if its file cannot be read.
    pub holder: Option<Holder>,
}

impl Owned {
    fn holder_text(&self) -> String {
        match &self.holder {
            Some(Holder { pid, listen, .. }) => {
                let listen: Vec<String> = listen.iter().map(ToString::to_string).collect();
                format!("pid {pid}, on {}", listen.join(", "))
            }
            None => "its pid could not be read".into(),
        }
    }
}

impl Owner {
    /// Takes the directory. A lock left by a killed process does not count: the kernel has released it.
    ///
    /// # Errors
    /// [`Owned`] if a living process holds it; anything else is a matter of files and permissions.
    pub fn take(state_dir: &Path, listen: &[SocketAddr]) -> anyhow::Result<Self> {
        let path = state_dir.join(LOCK_FILE);
        let open =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let mut file = open.with_context(|| format!("cannot open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let _ = file.read_to_string(&mut text);
                let holder = serde_json::from_str(&text).ok();
                return Err(Owned { dir: state_dir.display().to_string(), holder }.into());
            }
            Err(TryLockError::Error(e)) => {
                return Err(e).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        let holder = Holder { pid: std::process::id(), listen: listen.to_vec(), started: Started::this() };
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(&serde_json::to_vec(&holder)?)?;
        Ok(Self(file))
    }
}

/// Who has this state directory now, as far as its file says.
pub fn holder(state_dir: &Path) -> Option<Holder> {
    let holder: Holder = serde_json::from_slice(&std::fs::read(state_dir.join(LOCK_FILE)).ok()?).ok()?;
    let pid = Pid::from_raw(i32::try_from(holder.pid).ok()?)?;
    // A file that a killed one left behind says nothing.
    test_kill_process(pid).ok()?;
    Some(holder)
}

/// Where the gateway listens that has this state directory now, as far as its file says: the configuration may say
/// something else for its next start.
pub fn address(state_dir: &Path) -> Option<SocketAddr> {
    let listen = holder(state_dir)?.listen;
    let mut known = listen.iter().filter(|address| address.port() != 0);
    // Who comes by another address of this machine counts as somebody else.
    let mut address = *known.clone().find(|address| address.ip().is_loopback()).or_else(|| known.next())?;
    if address.ip().is_unspecified() {
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    Some(address)
}

impl Drop for Owner {
    fn drop(&mut self) {
        // Nobody is named any more; the lock itself goes with the file's handle.
        let _ = self.0.set_len(0);
    }
}

/// The process that listens on `addr`, if it can be told (Linux, and only for processes we may look at).
pub fn who_listens(addr: SocketAddr) -> Option<u32> {
    let table = if addr.is_ipv4() { "/proc/net/tcp" } else { "/proc/net/tcp6" };
    let port = format!("{:04X}", addr.port());
    let rows = std::fs::read_to_string(table).ok()?;
    let listening = |row: &&str| {
        let mut columns = row.split_whitespace().skip(1);
        let local = columns.next().and_then(|local| local.rsplit(':').next());
        // State 0A is LISTEN.
        local == Some(&port) && columns.nth(1) == Some("0A")
    };
    let inode = rows.lines().find(listening)?.split_whitespace().nth(9)?;
    let socket = format!("socket:[{inode}]");
    let pids = std::fs::read_dir("/proc").ok()?.flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).find(|pid| {
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        files
            .filter_map(|file| std::fs::read_link(file.path()).ok())
            .any(|to| to.as_os_str() == socket.as_str())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_owner_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let listen = [SocketAddr::from(([127, 0, 0, 1], 4711))];
        let first = Owner::take(dir.path(), &listen).unwrap();
        let error = Owner::take(dir.path(), &listen).unwrap_err();
        let owned = error.downcast_ref::<Owned>().unwrap();
        let this = Holder { pid: std::process::id(), listen: listen.to_vec(), started: Started::this() };
        assert_eq!(owned.holder, Some(this));
        assert!(error.to_string().contains("127.0.0.1:4711"), "{error}");
        assert_eq!(address(dir.path()), Some(listen[0]));
        drop(first);
        assert_eq!(address(dir.path()), None, "nobody runs");
        Owner::take(dir.path(), &listen).unwrap();
    }

    #[test]
    fn a_listening_port_names_its_process() {
        let door = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(who_listens(door.local_addr().unwrap()), Some(std::process::id()));
    }
}

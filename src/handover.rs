//! A gateway makes way for another program in the same process: its listening sockets stay open and wait with whoever
//! connects meanwhile, so that nobody is refused. The way they are passed on is that of systemd (`LISTEN_FDS`), whose
//! sockets are taken the same way.

use crate::signals;
use anyhow::Context;
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::process::{WaitOptions, wait};
use std::ffi::OsString;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// When clients were told, ms since 1970: tells a program that it takes the place of another.
const TOLD_AT: &str = "GATEWAY_HANDED_OVER";
/// Sockets that are taken: more than addresses can be configured.
const MAX_DOORS: usize = 64;
/// Guards have so long to end the processes they guard and to be buried, before the next program, which does not know
/// them, takes over.
const BURIAL: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(10);

/// The program of this process, and how it was started.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its file, as it was found when it was started: what lies there later takes its place.
    pub path: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

impl Program {
    /// This one; to be asked early.
    ///
    /// # Errors
    /// The system does not say.
    pub fn this() -> io::Result<Self> {
        Ok(Self { path: std::env::current_exe()?, arguments: std::env::args_os().skip(1).collect() })
    }
}

/// What the program before this one, or the service manager, has left.
#[derive(Debug, Default)]
pub struct Arrival {
    /// Bound sockets.
    pub doors: Vec<TcpListener>,
    /// When clients were told that the program before goes, ms since 1970.
    pub told_at: Option<i64>,
}

impl Arrival {
    /// Takes it; to be asked once, before anything else is opened or started.
    pub fn take() -> Self {
        let mut passed = listenfd::ListenFd::from_env();
        let doors =
            (0..passed.len().min(MAX_DOORS)).filter_map(|at| passed.take_tcp_listener(at).ok().flatten());
        let doors = doors.collect();
        let told_at = std::env::var(TOLD_AT).ok().and_then(|at| at.parse().ok());
        // Those that died of the change have nobody else to bury them, and nobody of ours is born yet.
        while told_at.is_some() && matches!(wait(WaitOptions::NOHANG), Ok(Some(_))) {}
        Self { doors, told_at }
    }
}

/// Waits until no child is left, for a while. Only for a process whose gateway has ended.
pub async fn bury() {
    let buried = async {
        while !matches!(wait(WaitOptions::NOHANG), Err(rustix::io::Errno::CHILD)) {
            tokio::time::sleep(LOOK).await;
        }
    };
    if tokio::time::timeout(BURIAL, buried).await.is_err() {
        tracing::warn!(target: "crabtree::gateway", "child processes are left that do not end");
    }
}

/// Whether a file can be run at all.
///
/// # Errors
/// Why not.
pub fn runnable(path: &Path) -> anyhow::Result<()> {
    rustix::fs::access(path, rustix::fs::Access::EXEC_OK)
        .with_context(|| format!("{} cannot be run", path.display()))
}

/// Has this process go on as `program`, with these sockets. Returns only if that fails, with why.
pub fn go_on_as(program: &Program, doors: &[TcpListener], told_at: i64) -> anyhow::Error {
    let kept = match side_by_side(doors) {
        Ok(kept) => kept,
        Err(error) => return anyhow::Error::new(error).context("the listening sockets cannot be passed on"),
    };
    for door in &kept {
        if let Err(error) = fcntl_setfd(door, FdFlags::empty()) {
            return anyhow::Error::new(error).context("the listening sockets cannot be passed on");
        }
    }
    let first = kept.first().map_or(3, AsRawFd::as_raw_fd);
    // What comes in between waits for the next program, which would die of it as long as it does not listen.
    if let Err(error) = signals::hold() {
        return anyhow::Error::new(error).context("signals cannot be held back");
    }
    let error = Command::new(&program.path)
        .args(&program.arguments)
        .env("LISTEN_FDS", kept.len().to_string())
        .env("LISTEN_PID", std::process::id().to_string())
        .env("LISTEN_FDS_FIRST_FD", first.to_string())
        .env_remove("LISTEN_FDNAMES")
        .env(TOLD_AT, told_at.to_string())
        .exec();
    let mended = signals::mend_pipes().and_then(|()| signals::release());
    let error = anyhow::Error::new(error).context(format!("{} cannot be run", program.path.display()));
    match mended {
        Ok(()) => error,
        Err(more) => error.context(more),
    }
}

/// The same sockets under numbers that follow each other.
fn side_by_side(doors: &[TcpListener]) -> io::Result<Vec<OwnedFd>> {
    let mut first = 3;
    'from: loop {
        let mut kept: Vec<OwnedFd> = Vec::with_capacity(doors.len());
        for door in doors {
            let next = kept.last().map_or(first, |last| last.as_raw_fd() + 1);
            let copy = fcntl_dupfd_cloexec(door, next)?;
            if !kept.is_empty() && copy.as_raw_fd() != next {
                first = copy.as_raw_fd();
                continue 'from;
            }
            kept.push(copy);
        }
        return Ok(kept);
    }
}

/// Now, ms since 1970.
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_passed_on_under_numbers_that_follow_each_other() {
        let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
        let doors: Vec<TcpListener> = (0..3).map(|_| bind()).collect();
        // A hole of two, so that three do not fit into it.
        let between = [bind(), bind(), bind()];
        drop(between);
        let kept = side_by_side(&doors).unwrap();
        let numbers: Vec<i32> = kept.iter().map(AsRawFd::as_raw_fd).collect();
        assert_eq!(numbers, (numbers[0]..numbers[0] + 3).collect::<Vec<_>>());
        for (door, copy) in doors.iter().zip(kept) {
            assert_eq!(TcpListener::from(copy).local_addr().unwrap(), door.local_addr().unwrap());
        }
    }

    #[test]
    fn a_program_that_is_not_there_leaves_the_process_as_it_was() {
        let program = Program { path: "/nowhere/crabtree".into(), arguments: Vec::new() };
        let door = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = door.local_addr().unwrap();
        let error = go_on_as(&program, &[door.try_clone().unwrap()], 0);
        assert!(format!("{error:#}").contains("/nowhere/crabtree cannot be run"), "{error:#}");
        assert!(std::net::TcpStream::connect(addr).is_ok());
    }
}

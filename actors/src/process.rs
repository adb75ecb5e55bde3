//! Child processes: the one place that starts them, each under a guard of its own.
//!
//! A guard is our own program, run as `crabtree guard -- CMD ARGS`. Its stdin is one end of a socket, the *lifeline*,
//! whose other end only the gateway has: when that is closed, by us or by the kernel after `kill -9`, the guard ends
//! CMD and whatever CMD started. CMD's own stdin comes to the guard as the first message over the lifeline; stdout
//! and stderr are inherited, so that nothing is copied on the way. A process on a terminal has that as all three, which
//! the guard is told by `--terminal`. What the guard says is a [`Report`].

mod environment;
mod report;
mod terminal;

pub use report::{Exit, Report};
pub use terminal::{Size, Terminal};

use parking_lot::Mutex;
use rustix::cmsg_space;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{Pid, Signal, kill_process_group};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, IoSlice, PipeReader, PipeWriter};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as Socket;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::time::timeout;

/// How long a guard may take to start its process: a program on a sleeping disk, not one that does not answer.
const START_LIMIT: Duration = Duration::from_secs(20);
/// The longest line a guard says.
const MAX_REPORT: usize = 64;

/// Held while descriptors are made and a guard is forked: where they cannot be made close-on-exec in one step, as on
/// macOS, another fork in between would inherit a lifeline and keep its process alive.
static FORKING: Mutex<()> = Mutex::new(());

/// The program that guards processes.
#[derive(Clone, Debug, Default)]
pub struct Guard(Option<PathBuf>);

impl Guard {
    /// There is none, and so no process can be started. This is the default: a program that embeds the gateway is
    /// not its guard.
    pub fn none() -> Self {
        Self(None)
    }

    /// The `crabtree` program at this place.
    pub fn at(program: impl Into<PathBuf>) -> Self {
        Self(Some(program.into()))
    }

    /// This very program, which has to be `crabtree`.
    pub fn this_program() -> Self {
        // On Linux this is the running program even after its file was replaced by an upgrade.
        let running = Path::new("/proc/self/exe");
        if cfg!(target_os = "linux") && running.exists() {
            return Self::at(running);
        }
        Self(std::env::current_exe().ok())
    }

    /// Whether processes can be started at all.
    pub fn is_there(&self) -> bool {
        self.0.is_some()
    }
}

/// Where a process reads from and writes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Streams {
    /// Three pipes.
    #[default]
    Piped,
    /// Nothing to read; both outputs in one pipe, in the order they were written.
    Merged,
    /// A terminal of this size, which it leads a session on.
    Terminal(Size),
}

/// A process to be started. It inherits the gateway's environment except what looks like a secret.
#[derive(Clone, Debug)]
pub struct Command {
    program: OsString,
    args: Vec<OsString>,
    env: BTreeMap<OsString, OsString>,
    dir: Option<PathBuf>,
    streams: Streams,
}

/// Why a process was not started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// See [`Guard::none`].
    #[error("this gateway starts no processes: it was not told which program guards them")]
    NoGuard,
    /// The guard did not come up.
    #[error("the guard of processes did not start: {0}")]
    Guard(io::Error),
    /// The directory to run it in is none.
    #[error("there is no directory {0}")]
    Dir(PathBuf),
    /// The program itself.
    #[error("{0} cannot be started: {1}")]
    Program(String, io::Error),
}

impl Command {
    /// Runs this program, found in `PATH` unless it is a path.
    pub fn new(program: impl Into<OsString>) -> Self {
        let (args, dir, streams) = (Vec::new(), None, Streams::default());
        Self { program: program.into(), args, env: environment::inherited(), dir, streams }
    }

    /// With these arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// With this in its environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// With nothing in its environment so far.
    #[must_use]
    pub fn bare(mut self) -> Self {
        self.env.clear();
        self
    }

    /// In this directory.
    #[must_use]
    pub fn dir(self, dir: impl Into<PathBuf>) -> Self {
        Self { dir: Some(dir.into()), ..self }
    }

    /// Reading and writing like this.
    #[must_use]
    pub fn streams(self, streams: Streams) -> Self {
        Self { streams, ..self }
    }

    /// Starts it.
    ///
    /// # Errors
    /// It does not run, and nothing is left of it.
    pub async fn spawn(self, guard: &Guard) -> Result<Child, SpawnError> {
        let guard = guard.0.clone().ok_or(SpawnError::NoGuard)?;
        let program = self.program.to_string_lossy().into_owned();
        let start = move || self.start(&guard);
        let started = tokio::task::spawn_blocking(start).await.map_err(io::Error::other);
        let mut child = started.map_err(SpawnError::Guard)??;
        match timeout(START_LIMIT, child.report()).await {
            Ok(Some(Report::Started(pid))) => child.pid = pid,
            Ok(Some(Report::Failed(error))) => {
                return Err(SpawnError::Program(program, io::Error::from_raw_os_error(error)));
            }
            Ok(_) => return Err(SpawnError::Guard(io::Error::other("it does not speak as a guard"))),
            Err(_) => return Err(SpawnError::Guard(io::ErrorKind::TimedOut.into())),
        }
        Ok(child)
    }

    /// Starts the guard and briefs it.
    fn start(self, guard: &Path) -> Result<Child, SpawnError> {
        if let Some(dir) = self.dir.as_ref().filter(|dir| !dir.is_dir()) {
            return Err(SpawnError::Dir(dir.clone()));
        }
        let program = Path::new(&self.program);
        if matches!(self.streams, Streams::Terminal(_)) && program.is_absolute() && !program.is_file() {
            // The guard would find out too late to say so anywhere but on the terminal.
            let missing = io::ErrorKind::NotFound.into();
            return Err(SpawnError::Program(program.display().to_string(), missing));
        }
        let _forking = FORKING.lock();
        let (lifeline, theirs) = Socket::pair().map_err(SpawnError::Guard)?;
        let (ours, pipes) = Pipes::new(self.streams).map_err(SpawnError::Guard)?;
        brief(&lifeline, pipes.stdin.as_ref()).map_err(SpawnError::Guard)?;
        let mut command = tokio::process::Command::new(guard);
        command
            .arg0("crabtree")
            .arg("guard")
            .args(matches!(self.streams, Streams::Terminal(_)).then_some("--terminal"))
            .arg("--")
            .arg(self.program)
            .args(self.args)
            .stdin(OwnedFd::from(theirs))
            .stdout(pipes.stdout)
            .stderr(pipes.stderr)
            .env_clear()
            .envs(self.env)
            // Ctrl-C in the gateway's terminal is the gateway's business.
            .process_group(0);
        if let Some(dir) = self.dir {
            command.current_dir(dir);
        }
        let guard = command.spawn().map_err(SpawnError::Guard)?;
        ours.child(lifeline, guard).map_err(SpawnError::Guard)
    }
}

/// The child's ends of its pipes.
struct Pipes {
    stdin: Option<OwnedFd>,
    stdout: Stdio,
    stderr: Stdio,
}

/// Our ends of them.
#[derive(Default)]
struct OurPipes {
    stdin: Option<PipeWriter>,
    stdout: Option<PipeReader>,
    stderr: Option<PipeReader>,
    terminal: Option<OwnedFd>,
}

impl Pipes {
    fn new(streams: Streams) -> io::Result<(OurPipes, Self)> {
        if let Streams::Terminal(size) = streams {
            let (terminal, theirs) = terminal::pair(size)?;
            let pipes = Self { stdin: Some(theirs), stdout: Stdio::null(), stderr: Stdio::null() };
            return Ok((OurPipes { terminal: Some(terminal), ..OurPipes::default() }, pipes));
        }
        let (stdout, out) = io::pipe()?;
        let stdout = Some(stdout);
        if streams == Streams::Merged {
            let err = out.try_clone()?;
            let pipes = Self { stdin: None, stdout: out.into(), stderr: err.into() };
            return Ok((OurPipes { stdout, ..OurPipes::default() }, pipes));
        }
        let (input, stdin) = io::pipe()?;
        let (stderr, err) = io::pipe()?;
        let pipes = Self { stdin: Some(input.into()), stdout: out.into(), stderr: err.into() };
        Ok((OurPipes { stdin: Some(stdin), stdout, stderr: Some(stderr), terminal: None }, pipes))
    }
}

impl OurPipes {
    fn child(self, lifeline: Socket, guard: tokio::process::Child) -> io::Result<Child> {
        lifeline.set_nonblocking(true)?;
        let stdin = self.stdin.map(|pipe| pipe::Sender::from_owned_fd(pipe.into())).transpose()?;
        let stdout = self.stdout.map(|pipe| pipe::Receiver::from_owned_fd(pipe.into())).transpose()?;
        let stderr = self.stderr.map(|pipe| pipe::Receiver::from_owned_fd(pipe.into())).transpose()?;
        let terminal = self.terminal.map(Terminal::new).transpose()?;
        let lifeline = UnixStream::from_std(lifeline)?;
        Ok(Child { stdin, stdout, stderr, terminal, pid: 0, lifeline, guard, said: Vec::new(), exit: None })
    }
}

/// The first message over the lifeline: one byte, and with it the process's stdin if it has one.
fn brief(lifeline: &Socket, stdin: Option<&OwnedFd>) -> io::Result<()> {
    let descriptors: Vec<_> = stdin.iter().map(|stdin| stdin.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
    }
    sendmsg(lifeline, &[IoSlice::new(b".")], &mut control, SendFlags::empty())?;
    Ok(())
}

/// A running process. Dropping it ends the process and whatever that started: SIGTERM, two seconds later SIGKILL.
#[derive(Debug)]
pub struct Child {
    /// What it reads; dropping it is the end of that.
    pub stdin: Option<pipe::Sender>,
    /// What it writes.
    pub stdout: Option<pipe::Receiver>,
    /// What it writes beside that.
    pub stderr: Option<pipe::Receiver>,
    /// Its terminal, if it has one instead of these.
    pub terminal: Option<Terminal>,
    pid: u32,
    lifeline: UnixStream,
    guard: tokio::process::Child,
    said: Vec<u8>,
    exit: Option<Exit>,
}

impl Child {
    /// Its process, which is also its group.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until it and whatever it started have ended. May be dropped and called again.
    pub async fn wait(&mut self) -> Exit {
        if let Some(exit) = self.exit {
            return exit;
        }
        let exit = match self.report().await {
            Some(Report::Ended(exit)) => exit,
            _ => Exit::Lost,
        };
        if exit == Exit::Lost {
            self.kill_group();
        }
        self.exit = Some(exit);
        let _ = self.guard.wait().await;
        exit
    }

    /// Ends it as dropping it does, and waits for that.
    pub async fn kill(&mut self) -> Exit {
        // An error means that the guard is gone, which `wait` finds out.
        let _ = self.lifeline.shutdown().await;
        self.wait().await
    }

    /// The next thing its guard says, unless that is gone or talks nonsense.
    async fn report(&mut self) -> Option<Report> {
        loop {
            if let Some(end) = self.said.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.said.drain(..=end).collect();
                return std::str::from_utf8(&line).ok()?.trim_end().parse().ok();
            }
            let more = self.lifeline.read_buf(&mut self.said).await.ok()?;
            if more == 0 || self.said.len() > MAX_REPORT {
                return None;
            }
        }
    }

    /// What is left to do when the guard was killed. What left the group is out of reach then.
    fn kill_group(&self) {
        if let Some(group) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.exit.is_none()
            && let Ok(Some(guard)) = self.guard.try_wait()
            && guard.signal().is_some()
        {
            self.kill_group();
        }
    }
}

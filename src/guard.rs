//! `crabtree guard [--terminal] -- CMD ARGS`: a small process between the gateway and one child, started by
//! [`crabtree_actors::process`], which describes what goes over its stdin.
//!
//! Whichever comes first, the end of CMD or that of the gateway: the guard ends CMD's process group and, on Linux,
//! where it is the reaper of orphans, also what has left the group. (On macOS a process that made a session of its own
//! escapes.) Then it says how CMD ended and exits with the same code, 128 and the number for a signal.

use crabtree_actors::process::{Exit, Report};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, Shutdown, recvmsg, shutdown};
use rustix::process::{
    Pid, Signal, WaitOptions, ioctl_tiocsctty, kill_process, kill_process_group, setsid,
    test_kill_process_group, wait,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU};
use std::ffi::{OsStr, OsString};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// How long processes have to end after SIGTERM, and how long they are given to die of SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
/// How often SIGKILL is repeated, for processes that were just being born, and how often a group is looked after.
const ROUND: Duration = Duration::from_millis(20);
/// How a guard calls this program to have it lead a session.
const LEAD: &str = "--lead";
/// What a terminal tells its programs: none of it is ignored by a program that does not ask for that.
const OF_TERMINALS: [i32; 7] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU];
/// Exit code when this was not called as the gateway calls it.
const USAGE: u8 = 2;

/// Guards one process: `arguments` are `--`, its program and its arguments. With `--terminal` before them its stdin, a
/// terminal, is also what it writes to, and the process leads a session on it.
pub fn run(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let mut first = arguments.next();
    if first.as_deref() == Some(LEAD.as_ref()) {
        return lead(arguments);
    }
    let on_terminal = first.as_deref() == Some("--terminal".as_ref());
    if on_terminal {
        first = arguments.next();
    }
    let program = first.filter(|dashes| dashes == "--").and_then(|_| arguments.next());
    let (Some(program), Ok(stdin)) = (program, briefing()) else {
        eprintln!("usage: crabtree guard -- PROGRAM ARGUMENTS, started by a gateway that holds its stdin");
        return ExitCode::from(USAGE);
    };
    // Failing, it leaves us with the process group.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));

    let (to_ending, group) = channel();
    // It runs before there is anything to end, so that nothing ever runs without it.
    let ending = thread::Builder::new().spawn(move || end_with_the_gateway(&group));
    let spawn = || match stdin {
        Some(terminal) if on_terminal => leader(&program, arguments, terminal)?.spawn(),
        stdin => {
            let stdin = stdin.map_or_else(Stdio::null, Stdio::from);
            Command::new(&program).args(arguments).stdin(stdin).process_group(0).spawn()
        }
    };
    let group = match ending.and_then(|_| spawn()) {
        Ok(child) => Pid::from_child(&child),
        Err(error) => {
            tell(Report::Failed(error.raw_os_error().unwrap_or(rustix::io::Errno::IO.raw_os_error())));
            return ExitCode::from(if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 });
        }
    };
    let _ = to_ending.send(group);
    let_go_of_output();
    tell(Report::Started(group.as_raw_pid().unsigned_abs()));
    let exit = reap(group);
    tell(Report::Ended(exit));
    match exit {
        Exit::Code(code) => ExitCode::from(code.to_le_bytes()[0]),
        Exit::Signal(signal) => ExitCode::from(128_i32.wrapping_add(signal).to_le_bytes()[0]),
        Exit::Lost => ExitCode::FAILURE,
    }
}

/// The first message over the lifeline, with the stdin of the process in it.
fn briefing() -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let message = recvmsg(io::stdin(), &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::empty())?;
    if message.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut descriptors = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let stdin: Option<OwnedFd> = descriptors.next().and_then(|mut descriptors| descriptors.next());
    if let Some(stdin) = &stdin {
        fcntl_setfd(stdin, FdFlags::CLOEXEC)?;
    }
    Ok(stdin)
}

/// The program on a terminal. It is this one first, which makes itself the leader of a session: what has a process group
/// of its own from the start cannot.
fn leader(
    program: &OsStr,
    arguments: impl Iterator<Item = OsString>,
    terminal: OwnedFd,
) -> io::Result<Command> {
    let this = Path::new("/proc/self/exe");
    let this = if this.exists() { this.to_owned() } else { std::env::current_exe()? };
    let mut command = Command::new(this);
    command.arg0("crabtree").args(["guard", LEAD, "--"]).arg(program).args(arguments);
    command.stdout(terminal.try_clone()?).stderr(terminal.try_clone()?).stdin(terminal);
    Ok(command)
}

/// Leads a session on the terminal that is its stdin, and becomes the program.
fn lead(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let program = arguments.next().filter(|dashes| dashes == "--").and_then(|_| arguments.next());
    let Some(program) = program else { return ExitCode::from(USAGE) };
    if let Err(error) = setsid().and_then(|_| ioctl_tiocsctty(io::stdin())) {
        eprintln!("no session on this terminal: {error}");
        return ExitCode::FAILURE;
    }
    // What is ignored here (SIGINT is, in the background of a shell; SIGHUP, under nohup) would stay so in the program;
    // what is handled does not.
    for signal in OF_TERMINALS {
        let _ = signal_hook::flag::register(signal, Arc::default());
    }
    let error = Command::new(&program).args(arguments).exec();
    eprintln!("{}: {error}", program.display());
    ExitCode::from(if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 })
}

/// Says something to the gateway. If that is gone, nobody minds.
fn tell(report: Report) {
    let _ = rustix::io::write(io::stdin(), format!("{report}\n").as_bytes());
}

/// Makes the process the only one that holds its output, so that who reads it sees its end.
fn let_go_of_output() {
    let Ok(nothing) = std::fs::OpenOptions::new().write(true).open("/dev/null") else { return };
    let _ = rustix::stdio::dup2_stdout(&nothing);
    let _ = rustix::stdio::dup2_stderr(&nothing);
}

/// Waits for every process below this one. Once CMD has ended, the others are made to end too.
fn reap(group: Pid) -> Exit {
    let mut exit = Exit::Lost;
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == group => {
                let code = status.exit_status().map(Exit::Code);
                exit = code.or(status.terminating_signal().map(Exit::Signal)).unwrap_or(Exit::Lost);
                // The other thread takes it for the end of the gateway.
                let _ = shutdown(io::stdin(), Shutdown::Read);
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => break,
        }
    }
    // Without a reaper of orphans, members of the group may be left that are nobody's child here.
    while test_kill_process_group(group).is_ok() {
        thread::sleep(ROUND);
    }
    exit
}

/// Waits for the end of the lifeline, then ends all processes. The other thread exits when they are gone; if they
/// cannot be killed, this one does.
fn end_with_the_gateway(group: &Receiver<Pid>) {
    wait_for_end(io::stdin().as_fd());
    let Ok(group) = group.recv() else { return };
    signal_all(group, Signal::TERM);
    thread::sleep(GRACE);
    let start = Instant::now();
    while start.elapsed() < GRACE {
        signal_all(group, Signal::KILL);
        thread::sleep(ROUND);
    }
    std::process::exit(1);
}

fn wait_for_end(lifeline: BorrowedFd<'_>) {
    let mut noise = [0; 64];
    while matches!(rustix::io::read(lifeline, &mut noise), Ok(1..) | Err(rustix::io::Errno::INTR)) {}
}

fn signal_all(group: Pid, signal: Signal) {
    let _ = kill_process_group(group, signal);
    for pid in descendants() {
        let _ = kill_process(pid, signal);
    }
}

/// The processes below this one, whatever groups they are in.
#[cfg(target_os = "linux")]
fn descendants() -> Vec<Pid> {
    let parents: Vec<(i32, i32)> = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            // Pid, name in brackets, state, parent; the name may contain anything.
            let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
            Some((pid, parent))
        })
        .collect();
    let mut found = vec![std::process::id().cast_signed()];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found.into_iter().skip(1).filter_map(Pid::from_raw).collect()
}

#[cfg(not(target_os = "linux"))]
fn descendants() -> Vec<Pid> {
    Vec::new()
}

//! The program of a terminal, from its start to its end: a task beside the actor.

use super::table::Facts;
use super::terminal::{Ended, TerminalMsg};
use crate::process::{Command, Exit, Guard, Size, Streams, Terminal as Screen};
use crate::tree::Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};

/// What is read of the program at once, and so the largest piece that is told.
const CHUNK: usize = 64 * 1024;
/// Pieces that are read before the first of them is told; then the program waits, as it does for a slow terminal.
const CHUNKS: usize = 4;
/// How long pieces are gathered: a program writes in small ones.
const GATHER: Duration = Duration::from_millis(4);
/// How long a program that has ended is waited for to say something more.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// See the module. Dropped, it ends the program.
pub(super) struct Life {
    pub command: Command,
    pub guard: Guard,
    pub actor: Addr<TerminalMsg>,
    pub typing: mpsc::Receiver<String>,
    /// Bytes that were typed and are not taken yet.
    pub typed: Arc<AtomicUsize>,
}

impl Life {
    pub async fn run(mut self) -> Ended {
        let mut child = match self.command.clone().spawn(&self.guard).await {
            Ok(child) => child,
            Err(error) => return Ended::NotStarted(error.to_string()),
        };
        let Some(screen) = child.terminal.take() else { return Ended::Ran(Exit::Lost) };
        let screen = Arc::new(screen);
        let _ = self.actor.send(TerminalMsg::Opened(screen.clone()));
        let permits = Arc::new(Semaphore::new(CHUNKS));
        let reading = read(&screen, &self.actor, &permits);
        let writing = write(&screen, &mut self.typing, &self.typed);
        tokio::pin!(reading, writing);
        let (mut is_read, mut is_written) = (false, false);
        let exit = loop {
            tokio::select! {
                () = &mut reading, if !is_read => is_read = true,
                () = &mut writing, if !is_written => is_written = true,
                exit = child.wait() => break exit,
            }
        };
        // What is left goes out as fast as those who look take it.
        while !is_read {
            is_read = timeout(LAST_WORDS, &mut reading).await.is_ok() || permits.available_permits() > 0;
        }
        Ended::Ran(exit)
    }
}

/// The shell as it is started. What shows it is the client's terminal, not the one the gateway was started on.
pub(super) fn command(facts: &Facts, size: Size) -> Command {
    Command::new(&facts.shell)
        .args(&facts.args)
        .dir(&facts.cwd)
        .env("OPENCLAW_TERMINAL", "1")
        .env("TERM", "xterm-256color")
        .streams(Streams::Terminal(size))
}

/// Hands on what the program shows, as fast as it is taken.
async fn read(screen: &Screen, actor: &Addr<TerminalMsg>, permits: &Arc<Semaphore>) {
    let mut buffer = vec![0; CHUNK];
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let Ok(mut filled @ 1..) = screen.read(&mut buffer).await else { return };
        sleep(GATHER).await;
        while filled < CHUNK {
            match screen.try_read(&mut buffer[filled..]) {
                Ok(more @ 1..) => filled += more,
                // Nothing more for now; the end shows itself when it is read again.
                _ => break,
            }
        }
        if actor.send(TerminalMsg::Shown(buffer[..filled].to_vec(), permit)).is_err() {
            return;
        }
    }
}

/// Types what comes in.
async fn write(screen: &Screen, typing: &mut mpsc::Receiver<String>, typed: &AtomicUsize) {
    while let Some(text) = typing.recv().await {
        let done = screen.write_all(text.as_bytes()).await;
        typed.fetch_sub(text.len(), Relaxed);
        if done.is_err() {
            return;
        }
    }
}

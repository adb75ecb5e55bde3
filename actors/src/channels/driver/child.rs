//! A driver that is a child process: one frame a line.

use super::session::short;
use super::settings::DriverSettings;
use super::talk::{Line, Wire};
use crate::process::{Child, Command, Exit, Guard};
use bytes::BytesMut;
use crabtree_protocol::driver::MAX_FRAME;
use futures_util::{SinkExt, StreamExt};
use parking_lot::Mutex;
use std::convert::Infallible;
use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::time::timeout;
use tokio_util::codec::{Decoder, FramedRead, FramedWrite, LinesCodec, LinesCodecError};

/// How much is kept of one line that a driver writes beside its frames, bytes.
const MAX_COMPLAINT: usize = 1024;
/// How long a driver that has closed its output may take to end, so that one can tell how it ended.
const ENDING: Duration = Duration::from_secs(1);

/// Starts the driver.
pub(super) async fn start(settings: &DriverSettings, program: &str, guard: &Guard) -> Result<Child, String> {
    let mut command = Command::new(program).args(&settings.args);
    for (name, value) in &settings.env {
        command = command.env(name, value);
    }
    if let Some(dir) = settings.dir() {
        command = command.dir(dir);
    }
    command.spawn(guard).await.map_err(|e| e.to_string())
}

/// Its frames, and what it writes beside them.
pub(super) fn wire(child: &mut Child) -> Option<(Wire, pipe::Receiver)> {
    let (stdin, stdout, stderr) = (child.stdin.take()?, child.stdout.take()?, child.stderr.take()?);
    let incoming = FramedRead::new(stdout, Lines(LinesCodec::new_with_max_length(MAX_FRAME)))
        .map(|line| line.unwrap_or_else(|e| Line::Ended(format!("the driver cannot be heard: {e}"))));
    let outgoing =
        SinkExt::<String>::sink_map_err(FramedWrite::new(stdin, LinesCodec::new()), io::Error::other);
    Some((Wire { incoming: incoming.boxed(), outgoing: Box::pin(outgoing) }, stderr))
}

/// Lines; one that is too long or no text is skipped, and said to be.
struct Lines(LinesCodec);

impl Decoder for Lines {
    type Item = Line;
    type Error = io::Error;

    fn decode(&mut self, bytes: &mut BytesMut) -> io::Result<Option<Line>> {
        line(self.0.decode(bytes))
    }

    fn decode_eof(&mut self, bytes: &mut BytesMut) -> io::Result<Option<Line>> {
        line(self.0.decode_eof(bytes))
    }
}

fn line(read: Result<Option<String>, LinesCodecError>) -> io::Result<Option<Line>> {
    match read {
        Ok(text) => Ok(text.map(Line::Frame)),
        Err(LinesCodecError::MaxLineLengthExceeded) => {
            Ok(Some(Line::Skipped("a line of more than 1 MiB was skipped")))
        }
        Err(LinesCodecError::Io(e)) if e.kind() == io::ErrorKind::InvalidData => {
            Ok(Some(Line::Skipped("a line that is not UTF-8 was skipped")))
        }
        Err(LinesCodecError::Io(e)) => Err(e),
    }
}

/// What a driver said last beside its frames before it was in: it has seen no messages yet.
#[derive(Default)]
pub(super) struct Complaint(Mutex<Option<String>>, AtomicBool);

impl Complaint {
    /// The driver is in.
    pub fn close(&self) {
        self.1.store(true, Relaxed);
        self.0.lock().take();
    }

    fn hear(&self, line: &str) {
        if !self.1.load(Relaxed) && !line.is_empty() {
            *self.0.lock() = Some(short(line));
        }
    }
}

/// Reads what a driver says beside its frames, and never returns. It may have text of messages in it.
pub(super) async fn beside(who: &str, mut stderr: pipe::Receiver, complaint: &Complaint) -> Infallible {
    let (mut chunk, mut line) = ([0; MAX_COMPLAINT], Vec::new());
    while let Ok(read @ 1..) = stderr.read(&mut chunk).await {
        for piece in chunk[..read].split_inclusive(|byte| *byte == b'\n') {
            line.extend(piece.iter().take(MAX_COMPLAINT - line.len()));
            if piece.ends_with(b"\n") {
                let said = String::from_utf8_lossy(&line);
                tracing::trace!(target: "crabtree::driver", driver = who, "stderr: {}", said.trim_end());
                complaint.hear(said.trim());
                line.clear();
            }
        }
    }
    std::future::pending().await
}

/// What became of a driver that is done with.
pub(super) async fn how_it_ended(child: &mut Child, complaint: &Complaint) -> String {
    let how = match timeout(ENDING, child.wait()).await {
        Ok(Exit::Code(code)) => format!("it ended with code {code}"),
        Ok(exit) => format!("it was ended by {}", exit.signal_name().unwrap_or_else(|| "somebody".into())),
        Err(_) => "it is still running, and is ended".into(),
    };
    match complaint.0.lock().take() {
        Some(said) => format!("{how}, saying: {said}"),
        None => format!("{how} (OPENCLAW_LOG_DRIVER=trace shows what it writes to stderr)"),
    }
}

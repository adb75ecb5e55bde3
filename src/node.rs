//! Our own headless node host, `crabtree node run`: a process on another machine (or this one) that connects to a
//! gateway with the role `node` and carries out what it is asked, within what its owner allows.
//!
//! | module | what |
//! |---|---|
//! | `keep` | what outlives a run: the node's key and its token, and that only one process uses them |
//! | `wire` | one WebSocket: requests out, answers and events in |
//! | `hello` | who the node says it is, and what it offers |
//! | `session` | one connection, from its challenge to its end |
//! | `retry` | what follows from a refusal or a lost connection; pure |
//! | `duty` | one command: who does it, and what is answered |
//! | `run`, `policy`, `plan` | `system.run`: whether, what, and how |
//! | `roots`, `files` | files, inside the directories that were given and nowhere else |
//!
//! Its commands live and die with its connection: when that is lost nobody waits for a result any more, so they are
//! ended. Nothing is carried out twice, whatever is lost.

mod duty;
mod files;
mod hello;
mod keep;
mod plan;
mod policy;
mod retry;
mod roots;
mod run;
mod session;
mod told;
mod wire;

pub use keep::{Keep, KeepError, stored_gateway};
pub use told::{Ended, Told};

use crabtree_actors::approvals::ExecApprovalsFile;
use crabtree_actors::process::Guard;
use crabtree_actors::settings::ExecSecurity;
use crabtree_actors::tls::Fingerprint;
use crabtree_protocol::connect::ConnectAuth;
use retry::{Backoff, Next};
use roots::Roots;
use session::{Attendance, End};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How long connecting may take, from the name of the gateway to its hello.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// What a node is started with.
pub struct Options {
    /// Where the gateway is.
    pub url: String,
    /// The fingerprint of its certificate, if that is not one the machine trusts anyway.
    pub pin: Option<Fingerprint>,
    /// What lets the node in while it has no token of its own for this gateway.
    pub auth: ConnectAuth,
    /// What people call it.
    pub name: String,
    /// The directories whose files it gives.
    pub roots: Vec<PathBuf>,
    /// Which commands it runs at most, whatever its document of approvals says.
    pub security: ExecSecurity,
    /// Who watches over the commands it runs.
    pub guard: Guard,
}

/// A node, ready to connect.
pub struct Node {
    keep: Keep,
    host: Arc<Host>,
    url: String,
    pin: Option<Fingerprint>,
    auth: ConnectAuth,
}

/// What commands work with.
struct Host {
    name: String,
    instance: String,
    roots: Roots,
    security: ExecSecurity,
    approvals: ExecApprovalsFile,
    guard: Guard,
}

/// Why a node cannot be started.
#[derive(Debug, thiserror::Error)]
#[error("{0} cannot be given: {1}; name a directory that is there, or leave --root out")]
pub struct RootError(PathBuf, std::io::Error);

impl Node {
    /// A node with what it keeps.
    ///
    /// # Errors
    /// A directory it is to give cannot be opened.
    pub fn new(keep: Keep, options: Options) -> Result<Self, RootError> {
        let host = Host {
            name: options.name,
            instance: Uuid::new_v4().to_string(),
            roots: Roots::open(&options.roots).map_err(|(root, why)| RootError(root, why))?,
            security: options.security,
            approvals: ExecApprovalsFile::open(keep.dir()),
            guard: options.guard,
        };
        Ok(Self { keep, host: Arc::new(host), url: options.url, pin: options.pin, auth: options.auth })
    }

    /// Connects, and connects again, until it is stopped or the gateway does not want it.
    pub async fn run(&self, tell: &dyn Fn(Told), stop: &CancellationToken) -> Ended {
        let mut backoff = Backoff::default();
        let mut waits = None;
        tell(Told::Connecting { url: self.url.clone() });
        loop {
            let kept = self.keep.token(&self.url);
            let auth = kept.as_ref().map_or_else(
                || self.auth.clone(),
                |token| ConnectAuth { device_token: Some(token.clone()), ..ConnectAuth::default() },
            );
            let (keep, host, url, pin) = (&self.keep, &self.host, &self.url, self.pin);
            let attendance = Attendance { keep, host, url, pin, tell, stop };
            let end = attendance.attend(auth, &mut backoff).await;
            let has_other = kept.is_some() && retry::lets_in(&self.auth);
            let next = match end {
                End::Stopped => return Ended::Stopped,
                End::Closed { code, reason } if retry::is_removal(code, &reason) => {
                    self.keep.forget_token();
                    return Ended::Removed { reason };
                }
                End::Refused(error) => retry::after_refusal(&error, has_other),
                End::Closed { code, reason } => Next::Again { why: closed(code, &reason), wait: None },
                End::Lost(why) => Next::Again { why, wait: None },
            };
            let wait = match next {
                Next::End(error) => return Ended::Refused(error),
                Next::WithoutToken => {
                    self.keep.forget_token();
                    continue;
                }
                Next::Approval { request_id } => {
                    if waits.as_ref() != Some(&request_id) {
                        tell(Told::DeviceWaits { request_id: request_id.clone() });
                        waits = Some(request_id);
                    }
                    backoff.next()
                }
                Next::Again { why, wait } => {
                    let wait = wait.unwrap_or_else(|| backoff.next());
                    tell(Told::Disconnected { why, retry_in: wait });
                    wait
                }
            };
            tokio::select! {
                () = stop.cancelled() => return Ended::Stopped,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }
}

fn closed(code: u16, reason: &str) -> String {
    match reason {
        "" => format!("the gateway closed the connection ({code})"),
        reason => format!("the gateway closed the connection ({code}: {reason})"),
    }
}

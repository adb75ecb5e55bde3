//! One process of an agent, from its start to its end, and what is said to it meanwhile.
//!
//! It begins with the first prompt and ends when it has rested for a while, when it breaks off, or when nobody wants it
//! any more. What goes wrong is the failure of the answer in hand, and of nothing else: the next prompt starts another.

use super::permit::{Asker, Permit};
use super::session::{self, Session, chunk};
use super::{AcpModel, Key, Peers, Program, Resting};
use crate::agents::failure::{Failure, Reason};
use crate::agents::model::{Chunk, Prompt};
use crate::process::{Child, Command};
use agent_client_protocol::schema::ProtocolVersion;
use agent_client_protocol::v1::ConnectionTo;
use agent_client_protocol::v1::schema::{
    Implementation, InitializeRequest, InitializeResponse, RequestPermissionRequest, SessionNotification,
};
use agent_client_protocol::{
    Agent, Client, Error, Lines, is_incoming_transport_closed, on_receive_notification, on_receive_request,
};
use futures_util::{SinkExt, TryStreamExt};
use parking_lot::Mutex;
use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::codec::{FramedRead, FramedWrite, LinesCodec};

/// How long a process is kept that has nothing to do.
const REST: Duration = Duration::from_secs(30 * 60);
/// How long an agent may take to introduce itself, and to begin a session: some are downloaded first.
pub(super) const START: Duration = Duration::from_secs(120);
/// How long it may take to let go of what was cancelled; then it is ended.
pub(super) const CANCEL: Duration = Duration::from_secs(10);
/// How long the end of what a process has complained of is waited for, when it has ended itself.
const COMPLAINT: Duration = Duration::from_secs(1);
/// The longest line an agent may write: a file it shows the changes of. A longer one ends the process.
const MAX_LINE: usize = 16 << 20;
/// Bytes of its complaints that are kept.
pub(super) const MAX_COMPLAINT: usize = 600;

/// A prompt, and where the answer goes.
pub(super) struct Asked {
    pub(super) prompt: Prompt,
    pub(super) tell: Sender<Chunk>,
}

impl Asked {
    /// There is no answer; who has gone meanwhile does not mind.
    pub(super) fn fail(&self, failure: Failure) {
        let _ = self.tell.try_send(Chunk::Failed(failure));
    }
}

/// See the module.
pub(super) struct Peer {
    peers: Weak<Peers>,
    guard: crate::process::Guard,
    permit: Permit,
    pub(super) program: Arc<Program>,
    key: Option<Key>,
    resting: Resting,
}

/// Where the answer in hand goes.
pub(super) type Ear = Arc<Mutex<Option<Sender<Chunk>>>>;

impl Peer {
    pub(super) fn new(model: &AcpModel, key: Option<Key>, resting: Resting) -> Self {
        let (peers, program, permit) = (&model.peers, model.program.clone(), model.permit.clone());
        let (guard, peers) = (peers.guard.clone(), Arc::downgrade(peers));
        Self { peers, guard, permit, program, key, resting }
    }

    /// Answers what it is asked, until its end.
    pub(super) async fn live(self, mut asked: Receiver<Asked>) {
        let Some(first) = asked.recv().await else { return };
        let dir = match self.dir(&first.prompt).await {
            Ok(dir) => dir,
            Err(why) => return first.fail(self.unusable(&why)),
        };
        let child = match self.spawn(&dir).await {
            Ok(child) => child,
            Err(why) => return first.fail(self.unusable(&why)),
        };
        self.speak(child, dir, first, asked).await;
    }

    /// Where it works, which is made if need be.
    async fn dir(&self, prompt: &Prompt) -> Result<PathBuf, String> {
        let dir = match (&self.program.cwd, &prompt.instructions) {
            (Some(dir), _) => dir.clone(),
            (None, Some(instructions)) => instructions.workspace.clone(),
            (None, None) => std::env::temp_dir(),
        };
        let made = move || {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
            made.map(|()| dir.clone()).map_err(|e| format!("{} cannot be made: {e}", dir.display()))
        };
        tokio::task::spawn_blocking(made).await.unwrap_or_else(|e| Err(e.to_string()))
    }

    async fn spawn(&self, dir: &std::path::Path) -> Result<Child, String> {
        let mut command = Command::new(&self.program.command).args(&self.program.args).dir(dir);
        for (name, value) in &self.program.env {
            command = command.env(name, value.expose());
        }
        command.spawn(&self.guard).await.map_err(|e| e.to_string())
    }

    async fn speak(&self, mut child: Child, dir: PathBuf, first: Asked, asked: Receiver<Asked>) {
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return;
        };
        let complaint = watch::Sender::new(Complaint::default());
        let (said, to_talk) = (complaint.subscribe(), complaint.subscribe());
        let ear = Ear::default();
        let outgoing =
            SinkExt::<String>::sink_map_err(FramedWrite::new(stdin, LinesCodec::new()), io::Error::other);
        let incoming = FramedRead::new(stdout, LinesCodec::new_with_max_length(MAX_LINE));
        let (to_ear, asker) = (ear.clone(), self.asker(&ear));
        let (over, in_hand, first_tell) = (Notify::new(), ear.clone(), first.tell.clone());
        let connection = Client
            .v1()
            .name(format!("acp/{}", self.program.name))
            .on_receive_notification(
                async move |told: SessionNotification, _| {
                    let ear = to_ear.lock().clone();
                    if let (Some(ear), Some(chunk)) = (ear, chunk(told.update)) {
                        // Who does not listen any more is about to cancel.
                        let _ = ear.send(chunk).await;
                    }
                    Ok(())
                },
                on_receive_notification!(),
            )
            .on_receive_request(
                async move |request: RequestPermissionRequest, responder, agent: ConnectionTo<Agent>| {
                    agent.spawn(asker.clone().ask(request, responder))
                },
                on_receive_request!(),
            )
            .connect_with(
                Lines::new(outgoing, incoming.map_err(io::Error::other)),
                async |agent: ConnectionTo<Agent>| {
                    self.talk(Talk { peer: self, agent, dir, ear, said: to_talk }, first, asked).await;
                    over.notify_one();
                    Ok(())
                },
            );
        let mut listening = pin!(listen(stderr, complaint));
        let broken = tokio::select! {
            ended = connection => ended.err(),
            // It does not even read any more what was said last.
            () = async {
                over.notified().await;
                sleep(CANCEL).await;
            } => None,
            never = &mut listening => match never {},
        };
        let Some(error) = broken else { return };
        tracing::warn!(target: "crabtree::acp", agent = %self.program.name, error = error.message, "its process is ended");
        let midway = in_hand.lock().take();
        let failure = tokio::select! {
            failure = self.broken(&mut child, &error, &said, midway.is_some()) => failure,
            never = &mut listening => match never {},
        };
        let _ = midway.unwrap_or(first_tell).try_send(Chunk::Failed(failure));
    }

    /// What it means that the connection broke: the process has ended, or it says what cannot be understood.
    async fn broken(
        &self,
        child: &mut Child,
        error: &Error,
        said: &watch::Receiver<Complaint>,
        midway: bool,
    ) -> Failure {
        if timeout(COMPLAINT, child.wait()).await.is_err() {
            return self.unusable(&format!("it does not keep to the protocol: {}", session::worded(error)));
        }
        match midway {
            true => {
                let text = format!("The agent acp/{} ended in the middle of its answer.", self.program.name);
                Failure::new(Reason::ServerError, text)
            }
            false => self.ended_at_once(said).await,
        }
    }

    async fn ended_at_once(&self, said: &watch::Receiver<Complaint>) -> Failure {
        let mut said = said.clone();
        let _ = timeout(COMPLAINT, said.wait_for(|complaint| complaint.whole)).await;
        let text = String::from_utf8_lossy(&said.borrow().text).into_owned();
        let words: Vec<_> = text.split_whitespace().collect();
        let why =
            if words.is_empty() { "without a word".into() } else { format!("saying: {}", words.join(" ")) };
        self.unusable(&format!("{} ended at once, {why}", self.program.command))
    }

    fn asker(&self, ear: &Ear) -> Asker {
        Asker {
            permit: self.permit.clone(),
            ear: ear.clone(),
            agent: self.program.name.clone(),
            session: self.key.as_ref().map(|(_, session)| session.clone()),
        }
    }

    /// From the handshake to the end of the last answer.
    async fn talk(&self, talk: Talk<'_>, first: Asked, mut asked: Receiver<Asked>) {
        let hello = match tokio::select! {
            hello = talk.introduced() => hello,
            () = first.tell.closed() => return,
        } {
            Ok(hello) => hello,
            Err(failure) => return first.fail(failure),
        };
        let memory = self.key.as_ref().and_then(|key| self.peers.upgrade()?.recall(key));
        let mut session = Session { talk, hello, memory, loaded: false };
        let mut next = Some(first);
        while let Some(asked_now) = next {
            *self.resting.lock() = None;
            if !session.answer(&asked_now).await {
                return;
            }
            drop(asked_now);
            *self.resting.lock() = Some(Instant::now());
            next = tokio::select! {
                next = timeout(REST, asked.recv()) => next.unwrap_or_else(|_| {
                    // What was asked at the last moment is still answered.
                    asked.close();
                    asked.try_recv().ok()
                }),
                () = session.talk.agent.incoming_closed() => None,
            };
        }
        if let (Some(key), Some(memory), Some(peers)) = (&self.key, session.memory, self.peers.upgrade()) {
            peers.remember(key.clone(), memory);
        }
    }

    /// It cannot be used as it is configured.
    fn unusable(&self, why: &str) -> Failure {
        let name = &self.program.name;
        Failure::new(
            Reason::Unknown,
            format!(
                "The agent acp/{name} cannot be used: {}. Check acp.agents.{name} in the configuration.",
                why.trim_end_matches('.')
            ),
        )
    }
}

/// A connection to the agent.
pub(super) struct Talk<'a> {
    pub(super) peer: &'a Peer,
    pub(super) agent: ConnectionTo<Agent>,
    pub(super) dir: PathBuf,
    pub(super) ear: Ear,
    said: watch::Receiver<Complaint>,
}

impl Talk<'_> {
    /// The handshake.
    async fn introduced(&self) -> Result<InitializeResponse, Failure> {
        let hello = InitializeRequest::new(ProtocolVersion::V1).client_info(
            Implementation::new("crabtree", env!("CARGO_PKG_VERSION")).title("Crabtree".to_owned()),
        );
        let said = timeout(START, self.agent.send_request(hello).block_task()).await;
        match said.map_err(|_| self.silent())? {
            Ok(hello) => Ok(hello),
            Err(error) if is_incoming_transport_closed(&error) => {
                Err(self.peer.ended_at_once(&self.said).await)
            }
            Err(error) => Err(self.peer.unusable(&session::worded(&error))),
        }
    }

    pub(super) fn silent(&self) -> Failure {
        self.peer.unusable(&format!("it did not answer within {} s", START.as_secs()))
    }
}

/// The end of what a process has written to its standard error.
#[derive(Default)]
struct Complaint {
    text: Vec<u8>,
    whole: bool,
}

/// Reads it, so that the process does not have to wait, and never returns.
async fn listen(mut stderr: impl AsyncRead + Unpin, complaint: watch::Sender<Complaint>) -> Infallible {
    let mut piece = [0; 4096];
    while let Ok(read @ 1..) = stderr.read(&mut piece).await {
        complaint.send_modify(|complaint| {
            complaint.text.extend_from_slice(&piece[..read]);
            let more = complaint.text.len().saturating_sub(MAX_COMPLAINT);
            complaint.text.drain(..more);
        });
    }
    complaint.send_modify(|complaint| complaint.whole = true);
    std::future::pending().await
}

//! The connection with a driver, whatever carries its frames.

use super::outgoing;
use super::session::{Session, Step, Voice, sender, short};
use super::waiting::{Asker, Waiting};
use crate::channels::contract::{
    Capabilities, Envelope, Heard, Link, Order, Orders, Outgoing as Message, SendError, Trouble,
};
use crabtree_protocol::driver::{
    ChannelStatus, HEARTBEAT_MS, MAX_UNACKNOWLEDGED, Nothing, RefusedCode, ToDriver,
};
use futures_util::stream::BoxStream;
use futures_util::{Sink, SinkExt, StreamExt};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use uuid::Uuid;

/// How often a heartbeat is said.
pub(super) const HEARTBEAT: Duration = Duration::from_millis(HEARTBEAT_MS);
/// How long a driver may say nothing, or not read.
pub(super) const SILENCE: Duration = Duration::from_millis(2 * HEARTBEAT_MS);
/// How long a driver may take from its start to `connect`: some are slow programs on slow disks.
const START: Duration = Duration::from_secs(60);
/// Kilobytes of messages of a driver that wait for those before them; then it is not heard until there is room.
const INBOX_KB: usize = 32 << 10;
/// Frames for a driver that wait for it to read. Each may have a piece of a file in it.
const OUTBOX: usize = 16;
/// How often it is looked whether an answer is late.
const SWEEP: Duration = Duration::from_secs(1);
/// How long a driver that does not listen any more is still heard, and one that is not heard any more still told.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Something of what carries the frames.
#[derive(Debug)]
pub(super) enum Line {
    /// A frame.
    Frame(String),
    /// Something that cannot be one, and was skipped.
    Skipped(&'static str),
    /// Nothing more comes.
    Ended(String),
}

/// What takes the frames for a driver.
pub(super) type Outgoing = Pin<Box<dyn Sink<String, Error = io::Error> + Send>>;

/// What carries the frames.
pub(super) struct Wire {
    pub incoming: BoxStream<'static, Line>,
    pub outgoing: Outgoing,
}

impl Wire {
    /// The next line, unless the driver is silent for this long.
    async fn next(&mut self, patience: Duration) -> Result<Line, Trouble> {
        next(&mut self.incoming, patience).await
    }

    /// Says a frame, unless the driver does not read.
    pub async fn say(&mut self, frame: String) -> Result<(), Trouble> {
        say(&mut self.outgoing, frame).await
    }

    /// Listens until the driver is in.
    pub async fn greet(&mut self, session: &mut Session) -> Result<(), Trouble> {
        let greeting = async {
            loop {
                let step = match self.next(START).await? {
                    Line::Frame(frame) => session.hear(&frame),
                    Line::Skipped(why) => Step::Say(session.voice().refuse(None, RefusedCode::Invalid, why)),
                    Line::Ended(why) => return Err(Trouble::Retry(why)),
                };
                match step {
                    Step::Welcome(frame) => return self.say(frame).await,
                    Step::Say(frame) => self.say(frame).await?,
                    Step::End(frame, trouble) => {
                        let _ = self.say(frame).await;
                        return Err(trouble);
                    }
                    // It is not in.
                    _ => {}
                }
            }
        };
        let late = || Trouble::Retry(format!("the driver has not said connect within {} s", START.as_secs()));
        timeout(START, greeting).await.unwrap_or_else(|_| Err(late()))
    }

    /// Carries messages in and orders out until something ends that.
    pub async fn talk(self, session: Session, link: &Link, orders: &mut Orders) -> Trouble {
        let Self { incoming, mut outgoing } = self;
        let (voice, can) = (session.voice(), session.can());
        let (to_inbox, mut inbox) = mpsc::channel(MAX_UNACKNOWLEDGED);
        let (to_outbox, mut outbox) = mpsc::channel(OUTBOX);
        let waiting = Waiting::default();
        let ear = Ear {
            session,
            link,
            waiting: &waiting,
            inbox: to_inbox,
            room: Arc::new(Semaphore::new(INBOX_KB)),
            outbox: to_outbox.clone(),
            login: false,
        };
        tokio::select! {
            ended = ear.listen(incoming) => ended,
            ended = hand_in(&voice, link, &mut inbox, &to_outbox) => ended,
            ended = carry((&voice, can), orders, &waiting, &to_outbox) => ended,
            ended = speak(&voice, &mut outgoing, &mut outbox, &waiting) => ended,
        }
    }
}

async fn next(incoming: &mut BoxStream<'static, Line>, patience: Duration) -> Result<Line, Trouble> {
    let silent = || Trouble::Retry(format!("nothing was heard of the driver for {} s", patience.as_secs()));
    let line = timeout(patience, incoming.next()).await.map_err(|_| silent())?;
    Ok(line.unwrap_or_else(|| Line::Ended("the driver has ended".into())))
}

async fn say(outgoing: &mut Outgoing, frame: String) -> Result<(), Trouble> {
    match timeout(SILENCE, outgoing.send(frame)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(e)) => Err(Trouble::Retry(format!("the driver cannot be told anything: {e}"))),
        Err(_) => {
            Err(Trouble::Retry(format!("the driver has not read anything for {} s", SILENCE.as_secs())))
        }
    }
}

/// A frame that is to be said, and whether it is the end of one that is answered.
struct Said {
    frame: String,
    ends: Option<String>,
}

impl From<String> for Said {
    fn from(frame: String) -> Self {
        Self { frame, ends: None }
    }
}

pub(super) fn stopped() -> Trouble {
    Trouble::Retry("the account was stopped".into())
}

/// Who hears the driver.
struct Ear<'a> {
    session: Session,
    link: &'a Link,
    waiting: &'a Waiting,
    inbox: mpsc::Sender<Unacknowledged>,
    room: Arc<Semaphore>,
    outbox: mpsc::Sender<Said>,
    /// Whether a QR code is shown.
    login: bool,
}

impl Ear<'_> {
    async fn listen(mut self, mut incoming: BoxStream<'static, Line>) -> Trouble {
        loop {
            let step = match next(&mut incoming, SILENCE).await {
                Ok(Line::Frame(frame)) => {
                    self.link.alive();
                    self.session.hear(&frame)
                }
                Ok(Line::Skipped(why)) => {
                    Step::Say(self.session.voice().refuse(None, RefusedCode::Invalid, why))
                }
                Ok(Line::Ended(why)) => return Trouble::Retry(why),
                Err(trouble) => return trouble,
            };
            if let Err(trouble) = self.follow(step).await {
                return trouble;
            }
        }
    }

    async fn follow(&mut self, step: Step) -> Result<(), Trouble> {
        match step {
            Step::None => Ok(()),
            Step::Say(frame) | Step::Welcome(frame) => self.say(frame).await,
            Step::Receive(envelope) => {
                let room = self.room.clone().acquire_many_owned(weight(&envelope)).await;
                let _room = room.map_err(|_| stopped())?;
                self.inbox.send(Unacknowledged { envelope, _room }).await.map_err(|_| stopped())
            }
            Step::Typing(from, at) => self.tell(Heard::Typing { from, at }).await,
            Step::Status(status) => self.stand(status).await,
            Step::Settled(id, answer) => {
                if !self.waiting.settle(&id, answer) {
                    tracing::debug!(target: "crabtree::driver", "an answer came too late, or to nothing");
                }
                Ok(())
            }
            Step::End(frame, trouble) => {
                self.say(frame).await?;
                // So that it is told.
                sleep(LAST_WORDS).await;
                Err(trouble)
            }
        }
    }

    async fn stand(&mut self, status: ChannelStatus) -> Result<(), Trouble> {
        match status {
            ChannelStatus::Connected { me } => {
                if std::mem::take(&mut self.login) {
                    self.tell(Heard::Qr(None)).await?;
                }
                self.tell(Heard::Connected(me.map(|me| sender(me).0))).await
            }
            ChannelStatus::Login { qr } => {
                self.login = true;
                self.tell(Heard::Qr(Some(qr))).await
            }
            ChannelStatus::Disconnected { reason } => self.tell(Heard::Disconnected(short(&reason))).await,
            ChannelStatus::Failed { reason } => Err(Trouble::Fatal(short(&reason))),
        }
    }

    async fn say(&self, frame: String) -> Result<(), Trouble> {
        self.outbox.send(frame.into()).await.map_err(|_| stopped())
    }

    async fn tell(&self, news: Heard) -> Result<(), Trouble> {
        self.link.say(news).await.map_err(|_| stopped())
    }
}

/// A message that waits to be handed in, and the room that it takes.
struct Unacknowledged {
    envelope: Box<Envelope>,
    _room: OwnedSemaphorePermit,
}

/// What a message takes of the room, kilobytes. A single one always has room.
fn weight(envelope: &Envelope) -> u32 {
    let files: usize = envelope.attachments.iter().map(|file| file.bytes.len()).sum();
    u32::try_from((files + envelope.text.len()).div_ceil(1024).clamp(1, INBOX_KB)).unwrap_or(u32::MAX)
}

/// Hands messages in, one after the other, and acknowledges what is durable.
async fn hand_in(
    voice: &Voice,
    link: &Link,
    inbox: &mut mpsc::Receiver<Unacknowledged>,
    outbox: &mpsc::Sender<Said>,
) -> Trouble {
    while let Some(Unacknowledged { envelope, _room }) = inbox.recv().await {
        let id = envelope.id.clone();
        let handed_in = link.receive(*envelope).await.is_ok();
        if !handed_in || outbox.send(voice.ack(&id).into()).await.is_err() {
            break;
        }
    }
    stopped()
}

/// A message as far as the driver can carry it out; or what it cannot.
fn within(can: &Capabilities, mut message: Message) -> Result<Message, SendError> {
    let cannot = |what: &str| Err(SendError::Refused(format!("the driver cannot {what}")));
    if message.edits.is_some() && can.edits.is_none() {
        return cannot("change messages");
    }
    if !message.attachments.is_empty() && !can.files {
        return cannot("send files");
    }
    if !can.buttons {
        message.buttons.clear();
    }
    Ok(message)
}

/// Turns orders into frames, as far as the driver can.
async fn carry(
    (voice, can): (&Voice, Capabilities),
    orders: &mut Orders,
    waiting: &Waiting,
    outbox: &mpsc::Sender<Said>,
) -> Trouble {
    loop {
        let Some(order) = orders.recv().await else { return stopped() };
        match order {
            Order::Send(message, done) => {
                let message = match within(&can, *message) {
                    Ok(message) => message,
                    Err(error) => {
                        Asker::Send(done).tell(Err(error));
                        continue;
                    }
                };
                let frames = match outgoing::message(voice, &message) {
                    Ok(frames) => frames,
                    Err(error) => {
                        Asker::Send(done).tell(Err(error));
                        continue;
                    }
                };
                waiting.ask(message.id.clone(), Asker::Send(done));
                let mut frames = frames.peekable();
                while let Some(frame) = frames.next() {
                    let ends = frames.peek().is_none().then(|| message.id.clone());
                    let _ = outbox.send(Said { frame, ends }).await;
                }
            }
            Order::Typing(_) if can.typing.is_none() => {}
            Order::Typing(at) => drop(outbox.send(outgoing::typing(voice, &at).into()).await),
            Order::Act { done, .. } => {
                let _ = done.send(Err(SendError::Refused("drivers have no word for this".into())));
            }
            Order::React { done, .. } if !can.reactions => {
                Asker::React(done).tell(Err(SendError::Refused("the driver cannot react".into())));
            }
            Order::React { at, message, emoji, done } => {
                let id = Uuid::now_v7().to_string();
                waiting.ask(id.clone(), Asker::React(done));
                let frame = outgoing::reaction(voice, &id, &at, message, emoji);
                let _ = outbox.send(Said { frame, ends: Some(id) }).await;
            }
        }
    }
}

/// Says what is to be said, and that we live; gives up what is not answered.
async fn speak(
    voice: &Voice,
    outgoing: &mut Outgoing,
    outbox: &mut mpsc::Receiver<Said>,
    waiting: &Waiting,
) -> Trouble {
    let (mut heartbeat, mut sweep) = (interval(HEARTBEAT), interval(SWEEP));
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    heartbeat.reset();
    loop {
        let said = tokio::select! {
            Some(Said { frame, ends }) = outbox.recv() => {
                if let Some(id) = ends {
                    waiting.hand_over(&id);
                }
                say(outgoing, frame).await
            }
            _ = heartbeat.tick() => say(outgoing, voice.say(ToDriver::Heartbeat(Nothing {}))).await,
            _ = sweep.tick() => {
                waiting.expire();
                Ok(())
            }
        };
        if let Err(trouble) = said {
            // It may have said why before it stopped to listen.
            sleep(LAST_WORDS).await;
            return trouble;
        }
    }
}

#[cfg(test)]
#[path = "talk_tests.rs"]
mod tests;

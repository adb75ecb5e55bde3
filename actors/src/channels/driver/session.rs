//! What a driver's frames mean, from `connect` on: a state machine without sockets, processes or a clock.

use super::gathered::Gathered;
use super::settings::unit;
use crate::channels::contract::{
    Address, Capabilities, Envelope, Kind, Place, Quote, SendError, Sender, Trouble,
};
use crate::settings::AuthSecret;
use crabtree_protocol::driver::{
    Ack, ChannelStatus, Chat, ChatKind, Connect, Connected, Failure, FailureCode, Frame, FromDriver,
    HEARTBEAT_MS, MAX_FILES, MAX_FRAME, MAX_UNACKNOWLEDGED, MessageIn, Offers, PROTOCOL, Person, Refused,
    RefusedCode, ToDriver,
};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// The longest pause a driver may ask for.
const MAX_PAUSE: Duration = Duration::from_secs(3600);
/// Characters of a reason that are kept.
const MAX_REASON: usize = 200;

/// Says frames for a connection. Cheap to copy.
#[derive(Clone, Debug)]
pub(super) struct Voice {
    session: Arc<str>,
    now: fn() -> i64,
}

impl Voice {
    /// A frame with an id of its own.
    pub fn say(&self, body: ToDriver) -> String {
        self.say_as(&Uuid::now_v7().to_string(), body)
    }

    /// A frame with this id.
    pub fn say_as(&self, id: &str, body: ToDriver) -> String {
        let timestamp = (self.now)().unsigned_abs();
        Frame { body, id: id.into(), timestamp, session_id: Some(self.session.to_string()) }.write()
    }

    /// A message of the driver is durable.
    pub fn ack(&self, id: &str) -> String {
        self.say(ToDriver::MessageAck(Ack { id: id.into(), platform_id: None }))
    }

    /// What was said was not taken.
    pub fn refuse(&self, id: Option<&str>, code: RefusedCode, message: impl Into<String>) -> String {
        let (id, message) = (id.map(str::to_owned), message.into());
        self.say(ToDriver::Error(Refused { id, code, message }))
    }
}

/// What a frame leads to.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// Nothing.
    None,
    /// This is to be said.
    Say(String),
    /// The driver is in: this is to be said first.
    Welcome(String),
    /// This is to be handed in, and acknowledged then.
    Receive(Box<Envelope>),
    /// Somebody writes there.
    Typing(Sender, Address),
    /// How the driver stands with its platform.
    Status(ChannelStatus),
    /// What became of a frame of ours: the platform's id of what was sent.
    Settled(String, Result<String, SendError>),
    /// This is to be said, and is the end.
    End(String, Trouble),
}

/// One connection of a driver.
pub(super) struct Session {
    client_id: String,
    secret: AuthSecret,
    claims: Capabilities,
    voice: Voice,
    known: bool,
    connected: bool,
    gathered: Gathered,
}

impl Session {
    /// One for the account called `client_id`, for who knows the secret and can do what is claimed of its platform.
    pub fn new(client_id: String, secret: AuthSecret, claims: Capabilities, now: fn() -> i64) -> Self {
        let voice = Voice { session: Uuid::new_v4().to_string().into(), now };
        Self {
            client_id,
            secret,
            claims,
            voice,
            known: false,
            connected: false,
            gathered: Gathered::default(),
        }
    }

    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    pub fn voice(&self) -> Voice {
        self.voice.clone()
    }

    /// Whether the secret was told.
    pub fn is_known(&self) -> bool {
        self.known
    }

    /// What this frame leads to.
    pub fn hear(&mut self, text: &str) -> Step {
        let frame = match Frame::read(text) {
            Ok(frame) => frame,
            Err(e) => return Step::Say(self.voice.refuse(e.id.as_deref(), RefusedCode::Invalid, e.why)),
        };
        let refused = |why: &str| Step::Say(self.voice.refuse(Some(&frame.id), RefusedCode::Refused, why));
        if frame.session_id.as_deref().is_some_and(|session| session != &*self.voice.session) {
            return refused(
                "it belongs to another connection; take session_id from connected, or leave it out",
            );
        }
        match (self.connected, frame.body) {
            (false, FromDriver::Connect(connect)) => self.connect(&frame.id, &connect),
            (true, FromDriver::Connect(_) | FromDriver::Seal(_)) => refused("it is connected already"),
            (false, _) => refused("connect comes first"),
            (true, body) => self.understand(frame.id, frame.timestamp, body),
        }
    }

    fn connect(&mut self, id: &str, connect: &Connect) -> Step {
        let end = |code, why: String| {
            Step::End(self.voice.refuse(Some(id), code, why.as_str()), Trouble::Fatal(why))
        };
        if !self.secret.admits(connect.token.as_deref().unwrap_or_default()) {
            return end(RefusedCode::Unauthorized, "the token is not that of the configuration".into());
        }
        self.known = true;
        if connect.protocol != PROTOCOL {
            let theirs = connect.protocol;
            return end(
                RefusedCode::Unsupported,
                format!("the driver speaks protocol {theirs}, and this gateway {PROTOCOL}"),
            );
        }
        if let Err(why) = able(&self.claims, &connect.capabilities) {
            let channel = self.client_id.split('/').next().unwrap_or_default();
            return end(
                RefusedCode::Unsupported,
                format!("{why}; change channels.{channel}.driver.capabilities"),
            );
        }
        self.connected = true;
        Step::Welcome(self.voice.say(ToDriver::Connected(Connected {
            protocol: PROTOCOL,
            client_id: self.client_id.clone(),
            heartbeat_ms: HEARTBEAT_MS,
            max_frame: MAX_FRAME,
            max_files: MAX_FILES,
            max_unacknowledged: MAX_UNACKNOWLEDGED,
        })))
    }

    fn understand(&mut self, id: String, timestamp: u64, body: FromDriver) -> Step {
        match body {
            FromDriver::MessageIn(message) => self.receive(id, timestamp, *message),
            FromDriver::StreamBlock(block) => match self.gathered.add(block) {
                Ok(()) => Step::None,
                Err(_) => {
                    let why = "it has begun the files of too many messages that it has not ended";
                    Step::End(
                        self.voice.refuse(Some(&id), RefusedCode::Refused, why),
                        Trouble::Retry(format!("the driver is not heard any further: {why}")),
                    )
                }
            },
            FromDriver::MessageAck(Ack { id, platform_id }) => {
                // Where messages have no ids of their own, ours does.
                let sent = platform_id.unwrap_or_else(|| id.clone());
                Step::Settled(id, Ok(sent))
            }
            FromDriver::Error(failure) => {
                let id = failure.id.clone();
                Step::Settled(id, Err(send_error(failure)))
            }
            FromDriver::Presence(presence) => {
                Step::Typing(sender(presence.sender).0, address(&presence.channel))
            }
            FromDriver::ChannelStatus(status) => Step::Status(status),
            // Nobody asks for reactions yet.
            FromDriver::Reaction(_) | FromDriver::Heartbeat(_) => Step::None,
            FromDriver::Connect(_) | FromDriver::Seal(_) => Step::None,
        }
    }

    fn receive(&mut self, id: String, timestamp: u64, message: MessageIn) -> Step {
        let attachments = match self.gathered.take(&id) {
            Ok(attachments) => attachments,
            Err(why) => {
                let why = format!("{why}; send it again under the same id without them");
                return Step::Say(self.voice.refuse(Some(&id), RefusedCode::Refused, why));
            }
        };
        let (from, roles) = sender(message.sender);
        Step::Receive(Box::new(Envelope {
            id,
            from,
            at: address(&message.channel),
            place: Place {
                title: message.channel.title,
                own_sessions: message.channel.own_sessions,
                parent: message.channel.parent,
                guild: message.channel.guild,
                team: message.channel.team,
                roles,
            },
            text: message.content,
            attachments,
            mentions_me: message.mentions_me,
            replies_to_me: message.replies_to_me,
            quote: message.quote.map(|quote| Quote { id: quote.id, from: quote.sender, text: quote.content }),
            at_ms: i64::try_from(message.sent_at.unwrap_or(timestamp)).unwrap_or(i64::MAX),
        }))
    }
}

/// Whether the platform can do what is claimed of it, or what it cannot.
fn able(claims: &Capabilities, offers: &Offers) -> Result<(), String> {
    if let Some(theirs) = offers.unit
        && unit(theirs) != claims.unit
    {
        let theirs = format!("{theirs:?}").to_lowercase();
        return Err(format!("unit has to be {theirs} as the driver counts"));
    }
    if let Some(limit) = offers.text_limit.filter(|limit| *limit < claims.text_limit) {
        return Err(format!("textLimit is {}, and the driver takes {limit} at most", claims.text_limit));
    }
    for (name, claimed, offered) in [
        ("idempotent", claims.idempotent, offers.idempotent),
        ("editsEveryMs", claims.edits.is_some(), offers.edits_every_ms.is_some()),
        ("typing", claims.typing.is_some(), offers.typing),
        ("buttons", claims.buttons, offers.buttons),
        ("reactions", claims.reactions, offers.reactions),
        ("files", claims.files, offers.files),
    ] {
        if claimed && !offered {
            return Err(format!("{name} is set, and the driver cannot do that"));
        }
    }
    Ok(())
}

/// A person, and their roles.
pub(super) fn sender(person: Person) -> (Sender, Vec<String>) {
    let Person { id, name, username, is_bot, roles } = person;
    (Sender { id, name, username, is_bot }, roles)
}

fn address(chat: &Chat) -> Address {
    let chat_type = match chat.kind {
        ChatKind::Direct => Kind::Direct,
        ChatKind::Group => Kind::Group,
        ChatKind::Channel => Kind::Channel,
    };
    Address { chat_type, chat: chat.id.clone(), thread: chat.thread.clone() }
}

fn send_error(failure: Failure) -> SendError {
    let why = short(&failure.message);
    match failure.code {
        FailureCode::Refused => SendError::Refused(why),
        FailureCode::Unknown => SendError::Unknown(why),
        FailureCode::Later => {
            let after = failure.retry_after_ms.map(|ms| Duration::from_millis(ms).min(MAX_PAUSE));
            SendError::Later { why, after }
        }
    }
}

/// A driver's words, no longer than can be shown.
pub(super) fn short(words: &str) -> String {
    words.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_REASON).collect()
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;

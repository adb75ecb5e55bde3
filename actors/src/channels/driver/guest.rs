//! A driver at the door: what it has to say before it is in. A state machine over frames.

use super::abilities::{Claims, Told};
use super::sealed::{self, LinkKey, Opener, Sealer};
use super::session::{Session, Step};
use super::settings::client_id;
use crate::settings::AuthSecret;
use crabtree_protocol::driver::{
    Connect, Frame, FromDriver, MAX_FRAME, PROTOCOL, RefusedCode, Seal, Sealed, ToDriver, unauthorized,
};
use crabtree_protocol::frame::Close;
use x25519_dalek::{PublicKey, StaticSecret};

/// Bytes a guest may say at once.
const MAX_GREETING: usize = 64 << 10;

/// A message of a WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
}

/// What a driver of an account has to know.
#[derive(Clone)]
pub(super) struct Terms {
    pub client_id: String,
    pub secret: AuthSecret,
    /// The driver's public key, where the link has to be sealed.
    pub pinned: Option<PublicKey>,
    pub claims: (Claims, Told),
}

/// A driver that has come in.
pub(super) struct Admitted {
    pub session: Session,
    /// Of a sealed link.
    pub opener: Option<Opener>,
    /// Of a sealed link.
    pub sealer: Option<Sealer>,
    /// What is to be said first.
    pub welcome: String,
}

/// What is done about what a guest says.
pub(super) enum Verdict {
    /// It is answered.
    Answer(Packet),
    /// It comes in.
    In(Box<Admitted>),
    /// It goes, after this was said.
    Out(Option<Packet>, Close),
}

/// See the module. `find` tells the terms of an account, if that waits for a driver.
pub(super) struct Guest<'a> {
    find: &'a (dyn Fn(&str) -> Option<Terms> + Send + Sync),
    key: Option<&'a LinkKey>,
    now: fn() -> i64,
    sealed: Option<(Session, Opener, Sealer)>,
}

impl<'a> Guest<'a> {
    pub fn new(
        find: &'a (dyn Fn(&str) -> Option<Terms> + Send + Sync),
        key: Option<&'a LinkKey>,
        now: fn() -> i64,
    ) -> Self {
        Self { find, key, now, sealed: None }
    }

    /// Hears what it says. Whoever is not let in is told no more than that.
    pub fn hear(&mut self, packet: &Packet) -> Verdict {
        let heard = match (self.sealed.take(), packet) {
            (None, Packet::Text(text)) if text.len() <= MAX_GREETING => self.greeted(text),
            (Some((mut session, mut opener, sealer)), Packet::Binary(bytes)) => opener
                .open(bytes)
                .ok()
                .map(|text| decide(session.hear(&text), session, Some((opener, sealer)))),
            _ => None,
        };
        heard.unwrap_or_else(|| Verdict::Out(None, unauthorized()))
    }

    fn greeted(&mut self, text: &str) -> Option<Verdict> {
        match Frame::read(text).ok()?.body {
            FromDriver::Connect(connect) => self.connect(&connect, text),
            FromDriver::Seal(seal) => self.seal(&seal),
            _ => None,
        }
    }

    fn connect(&self, connect: &Connect, text: &str) -> Option<Verdict> {
        let terms = self.terms(connect.channel.as_deref()?, connect.account.as_deref())?;
        // Who has to seal and does not is not who is expected, or is overheard.
        if terms.pinned.is_some() {
            return None;
        }
        let mut session = Session::new(terms.client_id, terms.secret, terms.claims, self.now);
        Some(decide(session.hear(text), session, None))
    }

    fn seal(&mut self, seal: &Seal) -> Option<Verdict> {
        let terms = self.terms(&seal.channel, seal.account.as_deref())?;
        let theirs = sealed::public_key(&seal.key)?;
        let (key, pinned) = (self.key?, terms.pinned?);
        let agreed = sealed::agree(key, &pinned, &terms.client_id, &theirs, &StaticSecret::random())?;
        let session = Session::new(terms.client_id, terms.secret, terms.claims, self.now);
        let voice = session.voice();
        if seal.protocol != PROTOCOL {
            let why = format!("this gateway speaks protocol {PROTOCOL}");
            let said = voice.refuse(None, RefusedCode::Unsupported, why.as_str());
            return Some(Verdict::Out(Some(Packet::Text(said)), Close::policy(why)));
        }
        self.sealed = Some((session, agreed.opener, agreed.sealer));
        Some(Verdict::Answer(Packet::Text(voice.say(ToDriver::Seal(Sealed { key: agreed.key })))))
    }

    fn terms(&self, channel: &str, account: Option<&str>) -> Option<Terms> {
        (self.find)(&client_id(channel, account.unwrap_or("default")))
    }
}

fn decide(step: Step, session: Session, link: Option<(Opener, Sealer)>) -> Verdict {
    let (opener, mut sealer) = link.unzip();
    match step {
        Step::Welcome(welcome) => Verdict::In(Box::new(Admitted { session, opener, sealer, welcome })),
        Step::End(frame, trouble) if session.is_known() => {
            Verdict::Out(wrap(sealer.as_mut(), frame), Close::policy(trouble.to_string()))
        }
        _ => Verdict::Out(None, unauthorized()),
    }
}

/// A frame as it goes over the link; none when a sealed one is used up.
pub(super) fn wrap(sealer: Option<&mut Sealer>, frame: String) -> Option<Packet> {
    match sealer {
        None => Some(Packet::Text(frame)),
        Some(sealer) => sealer.seal(&frame).ok().map(Packet::Binary),
    }
}

/// The frame that came over the link, or how that has to be closed.
pub(super) fn unwrap(opener: Option<&mut Opener>, packet: Packet) -> Result<String, Close> {
    match (opener, packet) {
        (None, Packet::Text(text)) if text.len() <= MAX_FRAME => Ok(text),
        (None, Packet::Text(_)) => Err(Close::new(1009, "frame too large")),
        (None, Packet::Binary(_)) => Err(Close::new(1003, "frames are text")),
        (Some(opener), Packet::Binary(bytes)) => opener.open(&bytes).map_err(|_| unauthorized()),
        (Some(_), Packet::Text(_)) => Err(unauthorized()),
    }
}

#[cfg(test)]
#[path = "guest_tests.rs"]
mod tests;

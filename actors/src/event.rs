//! Events: encoded once, with the rule of who hears them.

use crate::conns::Conn;
use crabtree_protocol::frame::{EventBody, StateVersion, event_head};
use crabtree_protocol::{ConnId, Scope, SessionKey};
use serde::Serialize;

/// Who hears an event. The rules are those recorded in chat.md section 4.
#[derive(Clone, Debug)]
pub enum Audience {
    /// Every connection, whatever its role and scopes.
    Everyone,
    /// Operators with this scope.
    Scope(Scope),
    /// `chat` and `agent`: operators who may read; those who asked for scoped events only if they
    /// subscribed to the session's messages.
    Turn(SessionKey),
    /// `session.message`: who subscribed to all sessions or to this one's messages.
    Messages(SessionKey),
    /// `sessions.changed`: who subscribed to all sessions.
    Sessions,
    /// One connection.
    One(ConnId),
}

impl Audience {
    /// Whether this connection hears it.
    pub fn admits(&self, conn: &Conn) -> bool {
        let Some(grant) = conn.grant() else { return false };
        let reads = || grant.may(Scope::Read);
        match self {
            Self::Everyone => true,
            Self::Scope(scope) => grant.may(*scope),
            Self::Turn(key) => reads() && (!grant.scoped_events || conn.hears_messages_of(key)),
            Self::Messages(key) => reads() && (conn.hears_sessions() || conn.hears_messages_of(key)),
            Self::Sessions => reads() && conn.hears_sessions(),
            Self::One(id) => conn.id() == id,
        }
    }
}

/// A published event.
#[derive(Debug)]
pub struct Event {
    /// The frame without its `seq`.
    pub body: EventBody,
    /// Who hears it.
    pub audience: Audience,
    /// Whether a connection that is behind may miss it.
    pub droppable: bool,
}

impl Event {
    /// Encodes `payload` once.
    pub fn new(name: crabtree_protocol::Event, audience: Audience, payload: &impl Serialize) -> Self {
        let payload = serde_json::to_vec(payload).expect("event payloads are plain data");
        Self::encoded(name.name(), audience, &payload)
    }

    /// An event whose payload is JSON already.
    pub fn encoded(name: &str, audience: Audience, payload: &[u8]) -> Self {
        Self { body: event_head(name, payload, None), audience, droppable: false }
    }

    /// Carries the versions of presence and health (those two events only).
    pub fn versioned(
        name: crabtree_protocol::Event,
        audience: Audience,
        payload: &[u8],
        version: StateVersion,
    ) -> Self {
        Self { body: event_head(name.name(), payload, Some(version)), audience, droppable: false }
    }

    /// May be missed by a connection that is behind.
    pub fn droppable(mut self) -> Self {
        self.droppable = true;
        self
    }
}

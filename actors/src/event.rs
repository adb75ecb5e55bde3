//! Events: encoded once, with the rule of who hears them.

use crate::approvals::{Kind, Requester, hears, may_see};
use crate::conns::Conn;
use crabtree_protocol::frame::{EventBody, StateVersion, event_head};
use crabtree_protocol::{ConnId, Role, Scope, SessionKey};
use serde::Serialize;
use std::ops::Range;
use std::sync::Arc;

/// Who hears an event. The rules are those recorded in chat.md section 4.
#[derive(Clone, Debug)]
pub enum Audience {
    /// Every connection, whatever its role and scopes.
    Everyone,
    /// Operators with this scope.
    Scope(Scope),
    /// `chat` and `agent`: operators who may read; those who asked for scoped events only if they
    /// subscribed to the session's messages. A node hears what it subscribed to.
    Turn(SessionKey),
    /// `agent` of the stream `tool`: these connections, whose run it is, as far as they want to hear of tools.
    OwnTools(Arc<[ConnId]>),
    /// `session.tool`: who subscribed to all sessions, but for those who hear of it as their own.
    OthersTools(SessionKey, Arc<[ConnId]>),
    /// `session.message`: who subscribed to all sessions or to this one's messages.
    Messages(SessionKey),
    /// `session.typing`: who subscribed to this session's messages, but for the one it is about.
    Others(SessionKey, ConnId),
    /// `sessions.changed`: who subscribed to all sessions.
    Sessions,
    /// What people are asked, and what they said: who may decide and can show it. Of an approval that a client asks for,
    /// whoever may see it.
    Asked {
        /// What it is about.
        kind: Kind,
        /// The client that asks; the gateway itself by default.
        requester: Option<Arc<Requester>>,
        /// Who is not told: it knows.
        except: Option<ConnId>,
    },
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
            Self::Turn(key) if grant.role == Role::Node => conn.hears_messages_of(key),
            Self::Turn(key) => reads() && (!grant.scoped_events || conn.hears_messages_of(key)),
            Self::OwnTools(ids) => reads() && grant.tool_events && ids.contains(conn.id()),
            Self::OthersTools(key, ids) => {
                let is_own = grant.tool_events && ids.contains(conn.id());
                let scoped = grant.scoped_events && !conn.hears_messages_of(key);
                reads() && conn.hears_sessions() && !is_own && !scoped
            }
            Self::Messages(key) => reads() && (conn.hears_sessions() || conn.hears_messages_of(key)),
            Self::Others(key, id) => reads() && conn.id() != id && conn.hears_messages_of(key),
            Self::Sessions => reads() && conn.hears_sessions(),
            Self::Asked { kind, requester, except } => {
                hears(grant, *kind)
                    && except.as_ref() != Some(conn.id())
                    && (*kind == Kind::Question || may_see(conn, requester.as_deref()))
            }
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
    /// The versions of presence and health it carries.
    pub version: Option<StateVersion>,
    /// What of it is a piece that can be joined to the next one.
    piece: Option<Piece>,
}

/// A piece of a growing text: successive ones of the same key can be told in one frame.
#[derive(Debug, PartialEq, Eq)]
struct Piece {
    key: Box<str>,
    /// Where the escaped piece lies in the body's head.
    at: Range<usize>,
}

impl Event {
    /// Encodes `payload` once.
    pub fn new(name: crabtree_protocol::Event, audience: Audience, payload: &impl Serialize) -> Self {
        let payload = serde_json::to_vec(payload).expect("event payloads are plain data");
        Self::encoded(name.name(), audience, &payload)
    }

    /// An event whose payload is JSON already.
    pub fn encoded(name: &str, audience: Audience, payload: &[u8]) -> Self {
        Self { body: event_head(name, payload, None), audience, droppable: false, version: None, piece: None }
    }

    /// Carries the versions of presence and health (those two events only).
    pub fn versioned(
        name: crabtree_protocol::Event,
        audience: Audience,
        payload: &[u8],
        version: StateVersion,
    ) -> Self {
        let body = event_head(name.name(), payload, Some(version));
        Self { body, audience, droppable: false, version: Some(version), piece: None }
    }

    /// Says that the string member `field` holds the `piece` that this event adds to what was told under
    /// `key`; everything else in it is as of now.
    pub fn adding(mut self, key: &str, field: &str, piece: &str) -> Self {
        let opening = format!("\"{field}\":\"");
        // Within strings quotes are escaped, so the first match is the member itself.
        let found = self.body.head.windows(opening.len()).position(|w| w == opening.as_bytes());
        let escaped = serde_json::to_string(piece).expect("a string is plain data").len() - 2;
        self.piece = found.map(|at| {
            let start = at + opening.len();
            Piece { key: key.into(), at: start..start + escaped }
        });
        self
    }

    /// Whether it adds to a text, so that it may change places with events that add to others.
    pub fn is_piece(&self) -> bool {
        self.piece.is_some()
    }

    /// This event and a later one that adds to the same text as one: the later one, with both pieces.
    pub fn joined(&self, later: &Event) -> Option<Event> {
        let (first, second) = (self.piece.as_ref()?, later.piece.as_ref()?);
        if first.key != second.key {
            return None;
        }
        let (old, new) = (&self.body.head[first.at.clone()], &later.body.head);
        let head = [&new[..second.at.start], old, &new[second.at.start..]].concat();
        let piece = Piece { key: second.key.clone(), at: second.at.start..second.at.end + old.len() };
        Some(Event {
            body: EventBody { head, tail: later.body.tail.clone() },
            audience: later.audience.clone(),
            droppable: later.droppable,
            version: later.version,
            piece: Some(piece),
        })
    }

    /// May be missed by a connection that is behind.
    pub fn droppable(mut self) -> Self {
        self.droppable = true;
        self
    }
}

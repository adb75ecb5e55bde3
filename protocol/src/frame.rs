//! Frames: the request as it arrives, responses and events as they leave, close codes.
//!
//! Decoding borrows from the received text and builds no tree; only a frame that is refused is
//! looked at a second time, to say what is wrong with it in the recorded words.

use std::borrow::Cow;
use std::io::Write;

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::refusal::Refusal;

/// The protocol this gateway speaks and announces in every hello.
pub const PROTOCOL_VERSION: u32 = 4;
/// The oldest protocol accepted from nodes and probes.
pub const MIN_PROBE_PROTOCOL: u32 = 3;
/// Largest frame in bytes after authentication; a frame of exactly this size is accepted.
pub const MAX_PAYLOAD: usize = 26_214_400;
/// Largest frame in bytes before authentication; a frame of exactly this size is accepted.
pub const MAX_PREAUTH_FRAME: usize = 65_536;
/// Bytes that may wait for one slow connection (ours; announced in `policy.maxBufferedBytes`).
pub const MAX_BUFFERED_BYTES: usize = 8 * 1024 * 1024;
/// Milliseconds between two `tick` events.
pub const TICK_INTERVAL_MS: u64 = 30_000;
/// Milliseconds between two WebSocket pings; a client that left one unanswered is dropped.
pub const PING_INTERVAL_MS: u64 = 25_000;
/// Milliseconds a client has to complete the handshake.
pub const HANDSHAKE_TIMEOUT_MS: u64 = 15_000;
/// Frames kept while `connect` is in hand; one more closes the connection.
pub const MAX_PENDING_HANDSHAKE_FRAMES: usize = 15;
/// Consecutive `unauthorized role` answers that are tolerated; the next one closes.
pub const MAX_UNAUTHORIZED_ROLE: u32 = 10;
/// Largest attachment in bytes, decoded.
pub const MAX_ATTACHMENT_BYTES: u64 = 19_464_192;
/// Largest image attachment in bytes, decoded.
pub const MAX_IMAGE_BYTES: u64 = 6_291_456;
/// Longest `traceparent` of a request frame, in characters.
pub const MAX_TRACEPARENT_CHARS: usize = 128;
/// Longest reason of a close frame in UTF-8 bytes.
pub const MAX_CLOSE_REASON_BYTES: usize = 120;
/// The raw id a frame without a usable id is answered under.
pub const INVALID_ID: &str = "\"invalid\"";

/// A request of a client, borrowed from the frame's text.
#[derive(Debug)]
pub struct RequestFrame<'a> {
    /// The id as raw JSON (`"c1"` with its quotes), echoed byte for byte in the answer.
    pub id: &'a str,
    /// The method's name.
    pub method: Cow<'a, str>,
    /// The parameters as raw JSON; `None` when absent or null.
    pub params: Option<&'a RawValue>,
    /// The profile the client believes to act for; see [`Refusal::expected_profile_mismatch`].
    pub expected_profile_id: Option<Cow<'a, str>>,
    /// The W3C trace context sent along, at most [`MAX_TRACEPARENT_CHARS`] characters.
    pub traceparent: Option<Cow<'a, str>>,
}

/// Why a text is not a request.
///
/// After the handshake `NotJson` is ignored and `Invalid` answered. Before it `NotJson` closes
/// with [`Close::silent`] and `Invalid` with [`Close::invalid_frame`], both without an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The text is empty or no JSON at all.
    #[error("frame is not JSON")]
    NotJson,
    /// The text is JSON but no valid request.
    #[error("{message}")]
    Invalid {
        /// The raw JSON id to answer under ([`INVALID_ID`] when the frame has none).
        id: String,
        /// The recorded text, starting with `invalid request frame: `.
        message: String,
    },
}

impl FrameError {
    /// The refusal that answers the frame, `None` when it is ignored.
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::NotJson => None,
            Self::Invalid { message, .. } => Some(Refusal::invalid_request(message.clone())),
        }
    }

    /// How the socket is closed when this was the first frame.
    pub fn close_before_handshake(&self) -> Close {
        match self {
            Self::NotJson => Close::silent(),
            Self::Invalid { .. } => Close::invalid_frame(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Wire<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    id: &'a RawValue,
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "text")]
    traceparent: Option<String>,
    #[serde(default, deserialize_with = "text")]
    expected_profile_id: Option<String>,
}

/// A text that is there: `null` is none.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    String::deserialize(deserializer).map(Some)
}

impl Wire<'_> {
    fn is_valid(&self) -> bool {
        let id = self.id.get();
        let traced =
            self.traceparent.as_deref().is_none_or(|trace| trace.chars().count() <= MAX_TRACEPARENT_CHARS);
        let profiled = self.expected_profile_id.as_deref() != Some("");
        self.kind == "req"
            && id.starts_with('"')
            && id.len() > 2
            && !self.method.is_empty()
            && traced
            && profiled
    }
}

impl<'a> RequestFrame<'a> {
    /// Reads a request. The order and wording of complaints are the recorded ones: a missing
    /// property, then an unexpected one, then values in the order type, id, method.
    pub fn parse(text: &'a str) -> Result<Self, FrameError> {
        match serde_json::from_str::<Wire<'a>>(text) {
            Ok(wire) if text.trim_start().starts_with('{') && wire.is_valid() => Ok(Self {
                id: wire.id.get(),
                method: wire.method,
                params: wire.params.filter(|params| params.get() != "null"),
                expected_profile_id: wire.expected_profile_id.map(Cow::Owned),
                traceparent: wire.traceparent.map(Cow::Owned),
            }),
            _ => Err(complaint(text)),
        }
    }

    /// The id without its quotes and escapes.
    pub fn id_text(&self) -> String {
        serde_json::from_str(self.id).unwrap_or_else(|_| self.id.to_owned())
    }
}

const PROPERTIES: [&str; 6] = ["type", "id", "method", "params", "traceparent", "expectedProfileId"];

fn complaint(text: &str) -> FrameError {
    let Ok(value) = serde_json::from_str::<Value>(text) else {
        return FrameError::NotJson;
    };
    let Value::Object(frame) = value else {
        return invalid(INVALID_ID.to_owned(), "must be object");
    };
    let id = match frame.get("id") {
        Some(id @ (Value::String(_) | Value::Number(_))) => id.to_string(),
        _ => INVALID_ID.to_owned(),
    };
    let mut parts = Vec::new();
    if let Some(missing) = PROPERTIES[..3].iter().find(|name| !frame.contains_key(**name)) {
        parts.push(format!("must have required property '{missing}'"));
    }
    if let Some(unexpected) = frame.keys().find(|key| !PROPERTIES.contains(&key.as_str())) {
        parts.push(format!("at root: unexpected property '{unexpected}'"));
    }
    if frame.get("type").is_some_and(|kind| kind != "req") {
        parts.push("at /type: must be equal to constant".to_owned());
    }
    for (name, least, most) in [
        ("id", 1, usize::MAX),
        ("method", 1, usize::MAX),
        ("traceparent", 0, MAX_TRACEPARENT_CHARS),
        ("expectedProfileId", 1, usize::MAX),
    ] {
        parts.extend(text_complaint(name, frame.get(name), least, most));
    }
    if parts.is_empty() {
        parts.push("must not repeat a property".to_owned());
    }
    invalid(id, &parts.join("; "))
}

fn text_complaint(name: &str, value: Option<&Value>, least: usize, most: usize) -> Option<String> {
    let Value::String(text) = value? else {
        return Some(format!("at /{name}: must be string"));
    };
    let length = text.chars().count();
    if length < least {
        Some(format!("at /{name}: must not have fewer than {least} characters"))
    } else if length > most {
        Some(format!("at /{name}: must not have more than {most} characters"))
    } else {
        None
    }
}

fn invalid(id: String, what: &str) -> FrameError {
    FrameError::Invalid { id, message: format!("invalid request frame: {what}") }
}

/// Encodes a successful response with its payload.
pub fn encode_ok(id_raw: &str, payload_json: &[u8]) -> Vec<u8> {
    let mut out = response_head(id_raw, true, 12 + payload_json.len());
    out.extend_from_slice(b",\"payload\":");
    out.extend_from_slice(payload_json);
    out.push(b'}');
    out
}

/// Encodes a successful response that carries no payload at all.
pub fn encode_ok_empty(id_raw: &str) -> Vec<u8> {
    let mut out = response_head(id_raw, true, 1);
    out.push(b'}');
    out
}

/// Encodes a refusal as the response of a request.
pub fn encode_refusal(id_raw: &str, refusal: &Refusal) -> Vec<u8> {
    let mut out = response_head(id_raw, false, 10 + refusal.encoded_len());
    out.extend_from_slice(b",\"error\":");
    refusal.write_json(&mut out);
    out.push(b'}');
    out
}

/// Encodes a refusal with a payload before it, as the cached failure of a run is answered.
pub fn encode_error_with_payload(id_raw: &str, refusal: &Refusal, payload_json: &[u8]) -> Vec<u8> {
    let mut out = response_head(id_raw, false, 22 + payload_json.len() + refusal.encoded_len());
    out.extend_from_slice(b",\"payload\":");
    out.extend_from_slice(payload_json);
    out.extend_from_slice(b",\"error\":");
    refusal.write_json(&mut out);
    out.push(b'}');
    out
}

fn response_head(id_raw: &str, ok: bool, room: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(32 + id_raw.len() + room);
    out.extend_from_slice(b"{\"type\":\"res\",\"id\":");
    out.extend_from_slice(id_raw.as_bytes());
    out.extend_from_slice(if ok { b",\"ok\":true" } else { b",\"ok\":false" });
    out
}

/// The versions of the two snapshots in a hello; sent along with `presence` and `health` events.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
pub struct StateVersion {
    /// Grows with every change of the presence list.
    pub presence: u64,
    /// Grows with every change of the health snapshot.
    pub health: u64,
}

/// What stands before an event's number.
const SEQ: &[u8] = b",\"seq\":";

/// An event encoded once for all its receivers: each connection splices its own `seq` in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventBody {
    /// From the opening brace to the end of the payload.
    pub head: Vec<u8>,
    /// The state version, if any, and the closing brace.
    pub tail: Vec<u8>,
}

impl EventBody {
    /// Appends the frame; `seq` is absent for frames sent to one connection outside the order
    /// of broadcasts (`connect.challenge`).
    pub fn write(&self, seq: Option<u64>, out: &mut Vec<u8>) {
        out.reserve(self.max_len());
        out.extend_from_slice(&self.head);
        if let Some(seq) = seq {
            out.extend_from_slice(SEQ);
            write!(out, "{seq}").expect("memory takes what is written to it");
        }
        out.extend_from_slice(&self.tail);
    }

    /// The frame as its own buffer.
    pub fn encode(&self, seq: Option<u64>) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(seq, &mut out);
        out
    }

    /// The bytes the frame takes with this `seq`.
    pub fn len(&self, seq: u64) -> usize {
        let digits = seq.checked_ilog10().unwrap_or(0) as usize + 1;
        self.head.len() + SEQ.len() + digits + self.tail.len()
    }

    /// The most bytes the frame can take with any `seq`.
    pub fn max_len(&self) -> usize {
        self.len(u64::MAX)
    }
}

/// Encodes an event up to the place of its `seq`; see [`EventBody`].
pub fn event_head(event: &str, payload_json: &[u8], state_version: Option<StateVersion>) -> EventBody {
    let mut head = Vec::with_capacity(42 + event.len() + payload_json.len());
    head.extend_from_slice(b"{\"type\":\"event\",\"event\":");
    serde_json::to_writer(&mut head, event).expect("a string always serialises into memory");
    head.extend_from_slice(b",\"payload\":");
    head.extend_from_slice(payload_json);
    let tail = match state_version {
        Some(StateVersion { presence, health }) => {
            format!(",\"stateVersion\":{{\"presence\":{presence},\"health\":{health}}}}}").into_bytes()
        }
        None => b"}".to_vec(),
    };
    EventBody { head, tail }
}

/// The close frame that ends a connection from our side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// The WebSocket close code.
    pub code: u16,
    /// The reason, at most [`MAX_CLOSE_REASON_BYTES`] bytes.
    pub reason: String,
}

impl Close {
    /// A close with its reason cut to [`MAX_CLOSE_REASON_BYTES`] at a character's boundary.
    pub fn new(code: u16, reason: impl Into<String>) -> Self {
        let mut reason = reason.into();
        reason.truncate(reason.floor_char_boundary(MAX_CLOSE_REASON_BYTES));
        Self { code, reason }
    }

    /// 1008 with a reason: the client broke a rule or was refused.
    pub fn policy(reason: impl Into<String>) -> Self {
        Self::new(1008, reason)
    }

    /// 1000 without a reason: no handshake in time, or a first frame that is no JSON.
    pub fn silent() -> Self {
        Self::new(1000, "")
    }

    /// 1002: the protocol range does not cover ours.
    pub fn protocol_mismatch() -> Self {
        Self::new(1002, "protocol mismatch")
    }

    /// 1008: the first frame is JSON but no request.
    pub fn invalid_frame() -> Self {
        Self::policy("invalid request frame")
    }

    /// 1008: the connect claims to be a worker, which is another protocol.
    pub fn invalid_handshake() -> Self {
        Self::policy("invalid-handshake")
    }

    /// 1008: more than [`MAX_PENDING_HANDSHAKE_FRAMES`] frames while `connect` is in hand.
    pub fn too_many_pending() -> Self {
        Self::policy("too many pending handshake frames")
    }

    /// 1008: the client does not read what it is sent.
    pub fn slow_consumer() -> Self {
        Self::policy("slow consumer")
    }

    /// 1008: the client kept calling methods of the other role.
    pub fn repeated_unauthorized() -> Self {
        Self::policy("repeated unauthorized calls")
    }

    /// 1009 without a reason: the frame is larger than allowed.
    pub fn too_big() -> Self {
        Self::new(1009, "")
    }

    /// 1011: the connection itself failed inside the gateway (ours).
    pub fn internal() -> Self {
        Self::new(1011, "internal error")
    }

    /// 1012: the gateway stops or restarts.
    pub fn restart() -> Self {
        Self::new(1012, "service restart")
    }

    /// 1013: the gateway is not ready yet.
    pub fn starting() -> Self {
        Self::new(1013, "gateway starting")
    }

    /// 4001: the device's token was rotated or revoked, or the device removed.
    pub fn device_removed() -> Self {
        Self::new(4001, "device removed")
    }

    /// 4001: the shared secret this connection used was changed.
    pub fn auth_changed() -> Self {
        Self::new(4001, "gateway auth changed")
    }
}

#[cfg(test)]
mod tests;

//! The other side of the wire: what a client of a gateway writes and reads. Used by our own
//! command line, by tests and by load generators; lenient, since gateways differ.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::frame::StateVersion;
use crate::refusal::Refusal;

/// Encodes a request; `params_json` must be JSON.
pub fn encode_request(id: &str, method: &str, params_json: Option<&[u8]>) -> Vec<u8> {
    let params = params_json.unwrap_or_default();
    let mut out = Vec::with_capacity(56 + id.len() + method.len() + params.len());
    let in_memory = "a string always serialises into memory";
    out.extend_from_slice(b"{\"type\":\"req\",\"id\":");
    serde_json::to_writer(&mut out, id).expect(in_memory);
    out.extend_from_slice(b",\"method\":");
    serde_json::to_writer(&mut out, method).expect(in_memory);
    if !params.is_empty() {
        out.extend_from_slice(b",\"params\":");
        out.extend_from_slice(params);
    }
    out.push(b'}');
    out
}

/// A frame of a gateway, borrowed from its text.
#[derive(Debug)]
pub enum ServerFrame<'a> {
    /// The answer to a request.
    Response(ResponseFrame<'a>),
    /// An event.
    Event(EventFrame<'a>),
}

/// The answer to a request.
#[derive(Debug)]
pub struct ResponseFrame<'a> {
    /// The id as raw JSON.
    pub id: &'a str,
    /// Whether the request was carried out.
    pub ok: bool,
    /// The result, or what accompanies a failure.
    pub payload: Option<&'a RawValue>,
    /// The refusal of a request that was not.
    pub error: Option<Refusal>,
}

/// An event.
#[derive(Debug)]
pub struct EventFrame<'a> {
    /// Its name.
    pub event: Cow<'a, str>,
    /// Its payload.
    pub payload: Option<&'a RawValue>,
    /// Its number on this connection; a gap tells that something was left out.
    pub seq: Option<u64>,
    /// The versions of the snapshots, if it carries one of them.
    pub state_version: Option<StateVersion>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    ok: Option<bool>,
    #[serde(borrow, default, deserialize_with = "raw")]
    payload: Option<&'a RawValue>,
    error: Option<Refusal>,
    event: Option<String>,
    seq: Option<u64>,
    state_version: Option<StateVersion>,
}

/// Keeps a payload of `null` apart from none.
fn raw<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

impl<'a> ServerFrame<'a> {
    /// Reads a frame; unknown properties are ignored.
    ///
    /// # Errors
    /// The text is no JSON, or neither a response nor an event.
    pub fn parse(text: &'a str) -> Result<Self, serde_json::Error> {
        let wire: Wire<'a> = serde_json::from_str(text)?;
        let bad = |what: &str| <serde_json::Error as serde::de::Error>::custom(what);
        match (&*wire.kind, wire.id, wire.ok, wire.event) {
            ("res", Some(id), Some(ok), _) => Ok(Self::Response(ResponseFrame {
                id: id.get(),
                ok,
                payload: wire.payload,
                error: wire.error,
            })),
            ("event", _, _, Some(event)) => Ok(Self::Event(EventFrame {
                event: Cow::Owned(event),
                payload: wire.payload,
                seq: wire.seq,
                state_version: wire.state_version,
            })),
            _ => Err(bad("neither a response nor an event")),
        }
    }
}

impl<'a> ResponseFrame<'a> {
    /// The payload of a request that was carried out, the refusal of one that was not.
    pub fn into_result(self) -> Result<Option<&'a RawValue>, Refusal> {
        match (self.ok, self.error) {
            (true, _) => Ok(self.payload),
            (false, Some(refusal)) => Err(refusal),
            (false, None) => Err(Refusal::failed("the gateway gave no reason")),
        }
    }
}

/// The parts of a hello a client reads; everything may be missing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HelloView {
    /// The gateway's protocol.
    pub protocol: Option<u32>,
    /// Which gateway it is.
    pub server: ServerView,
    /// What it offers.
    pub features: FeaturesView,
    /// What was granted.
    pub auth: AuthView,
    /// Its limits.
    pub policy: PolicyView,
}

/// Which gateway it is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServerView {
    /// Its version.
    pub version: Option<String>,
    /// The id it gave this connection.
    pub conn_id: Option<String>,
    /// Changes with every start of its process.
    pub boot_id: Option<String>,
}

/// What a gateway offers.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct FeaturesView {
    /// Names of its methods.
    pub methods: Vec<String>,
    /// Names of its events.
    pub events: Vec<String>,
    /// Its capabilities.
    pub capabilities: Vec<String>,
}

/// What was granted to a client.
#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AuthView {
    /// How the client authenticated.
    pub method: Option<String>,
    /// The role.
    pub role: Option<String>,
    /// The scopes.
    pub scopes: Vec<String>,
    /// The device token to keep.
    pub device_token: Option<String>,
}

/// Never shows the token.
impl std::fmt::Debug for AuthView {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("AuthView")
            .field("role", &self.role)
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}

/// The limits of a gateway.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyView {
    /// Milliseconds between two ticks.
    pub tick_interval_ms: u64,
    /// Largest frame in bytes.
    pub max_payload: u64,
}

impl Default for PolicyView {
    fn default() -> Self {
        Self {
            tick_interval_ms: crate::frame::TICK_INTERVAL_MS,
            max_payload: crate::frame::MAX_PAYLOAD as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{RequestFrame, encode_ok, encode_refusal, event_head};

    #[test]
    fn both_sides_understand_each_other() {
        let request =
            String::from_utf8(encode_request("1:a\"b", "health", Some(b"{\"probe\":true}"))).unwrap();
        let frame = RequestFrame::parse(&request).unwrap();
        assert_eq!((&*frame.id_text(), &*frame.method), ("1:a\"b", "health"));

        let answer = String::from_utf8(encode_ok(frame.id, b"null")).unwrap();
        let ServerFrame::Response(response) = ServerFrame::parse(&answer).unwrap() else { unreachable!() };
        assert_eq!(response.id, frame.id);
        assert_eq!(response.into_result().unwrap().unwrap().get(), "null");

        let refused = String::from_utf8(encode_refusal(frame.id, &Refusal::unknown_method("x"))).unwrap();
        let ServerFrame::Response(response) = ServerFrame::parse(&refused).unwrap() else { unreachable!() };
        assert_eq!(response.into_result().unwrap_err(), Refusal::unknown_method("x"));

        let event = String::from_utf8(event_head("tick", b"{\"ts\":1}", None).encode(Some(4))).unwrap();
        let ServerFrame::Event(event) = ServerFrame::parse(&event).unwrap() else { unreachable!() };
        assert_eq!((&*event.event, event.seq), ("tick", Some(4)));
    }

    #[test]
    fn any_object_is_a_hello() {
        let hello: HelloView = serde_json::from_str("{}").unwrap();
        assert_eq!(hello.policy.tick_interval_ms, 30_000);
        assert!(ServerFrame::parse("{}").is_err());
    }
}

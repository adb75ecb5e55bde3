//! One WebSocket to a gateway: requests out, answers and events in.

use crate::dial::{Socket, dial};
use crabtree_actors::tls::Fingerprint;
use crabtree_protocol::client::encode_request;
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use std::time::Duration;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode};
use tokio_tungstenite::tungstenite::{Bytes, Error, Message, Utf8Bytes};

/// The largest message that is read: what the gateway sends at most, and some.
const MAX_MESSAGE: usize = 26 << 20;
/// How much is read at once: a node is small, and mostly at rest.
const READ: usize = 4 << 10;
/// How long a message may take to be sent before the connection counts as lost.
const SEND_LIMIT: Duration = Duration::from_secs(30);

/// See the module.
pub(super) struct Wire {
    socket: Socket,
    last_id: u64,
}

/// What came.
#[derive(Debug)]
pub(super) enum Heard {
    /// The answer to a request; what was said against it, if it was refused.
    Answer { id: String, result: Result<Value, Value> },
    /// An event.
    Event { name: String, payload: Value },
    /// The gateway closed the socket.
    Closed { code: u16, reason: String },
    /// The connection is lost.
    Lost(String),
}

impl Wire {
    /// Connects, to nobody but who has the certificate of this fingerprint, if there is one.
    ///
    /// # Errors
    /// Why not, in words.
    pub async fn open(url: &str, pin: Option<Fingerprint>) -> Result<Self, String> {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ)
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let socket = dial(url, pin, config).await.map_err(|error| error.to_string())?;
        Ok(Self { socket, last_id: 0 })
    }

    /// Sends a request; its answer comes with the id returned.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn send(&mut self, method: &str, params: &Value) -> Result<String, String> {
        self.last_id += 1;
        let id = self.last_id.to_string();
        let frame = encode_request(&id, method, Some(params.to_string().as_bytes()));
        let text = Utf8Bytes::try_from(Bytes::from(frame)).map_err(|error| error.to_string())?;
        match timeout(SEND_LIMIT, self.socket.send(Message::Text(text))).await {
            Ok(sent) => sent.map_err(|error| error.to_string())?,
            Err(_) => return Err("the gateway does not read".into()),
        }
        Ok(id)
    }

    /// The next thing that comes. May be dropped and called again.
    pub async fn next(&mut self) -> Heard {
        loop {
            let text = match self.socket.next().await {
                Some(Ok(Message::Text(text))) => text,
                Some(Ok(Message::Close(Some(close)))) => {
                    return Heard::Closed { code: close.code.into(), reason: close.reason.to_string() };
                }
                Some(Ok(Message::Ping(_))) => {
                    return Heard::Event { name: "ping".into(), payload: Value::Null };
                }
                Some(Ok(_)) => continue,
                None | Some(Err(Error::ConnectionClosed)) => {
                    return Heard::Lost("the connection ended".into());
                }
                Some(Err(error)) => return Heard::Lost(error.to_string()),
            };
            if let Some(heard) = serde_json::from_str(&text).ok().and_then(decoded) {
                return heard;
            }
        }
    }

    /// Says goodbye, as far as the gateway listens.
    pub async fn close(&mut self) {
        let goodbye = CloseFrame { code: CloseCode::Normal, reason: "node stopping".into() };
        let _ = timeout(Duration::from_secs(1), self.socket.close(Some(goodbye))).await;
    }
}

/// A frame, if it is of a known kind.
fn decoded(mut frame: Value) -> Option<Heard> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    match frame["type"].as_str()? {
        "res" => {
            let ok = frame["ok"] == true;
            let result = if ok { Ok(frame["payload"].take()) } else { Err(frame["error"].take()) };
            Some(Heard::Answer { id: text(&frame["id"])?, result })
        }
        "event" => Some(Heard::Event { name: text(&frame["event"])?, payload: frame["payload"].take() }),
        _ => None,
    }
}

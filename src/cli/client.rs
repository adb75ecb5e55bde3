//! A small client of the gateway: one socket, requests answered by id, events in between.

use std::{net::IpAddr, time::Duration};

use crabtree_actors::settings::AuthSecret;
use crabtree_actors::tls::Fingerprint;
use crabtree_protocol::{Scope, frame::PROTOCOL_VERSION};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest, protocol::WebSocketConfig};
use uuid::Uuid;

use super::Failure;
use crate::dial::{self, DialError, dial};

/// The gateway to talk to.
pub(super) struct Target {
    pub url: String,
    pub secret: AuthSecret,
    /// For connecting, and for each request.
    pub timeout: Duration,
    /// The fingerprint of its certificate, if that is not one the machine trusts anyway.
    pub pin: Option<Fingerprint>,
}

/// A connection that the gateway has accepted.
pub(super) struct Client {
    /// What the gateway said of itself.
    pub hello: Value,
    /// How long each request is waited for.
    pub timeout: Duration,
    socket: Socket,
    last_id: u64,
}

/// What comes from the gateway.
pub(super) enum Incoming {
    /// The answer to a request; `agent` has two.
    Response { id: String, result: Result<Value, Failure> },
    /// An event.
    Event { name: String, payload: Value },
}

struct Socket {
    url: String,
    stream: dial::Socket,
}

impl Client {
    /// Connects and introduces itself, with what it wants to hear of beside the usual. A gateway that is still starting
    /// is waited for.
    pub async fn connect(target: &Target, scopes: &[Scope], caps: &[&str]) -> Result<Self, Failure> {
        let deadline = Instant::now() + target.timeout;
        loop {
            let attempt =
                timeout_at(deadline, Self::introduce(target, scopes, caps)).await.unwrap_or_else(|_| {
                    let why = format!("no answer within {} ms", target.timeout.as_millis());
                    Err(Failure::unreachable(&target.url, why))
                });
            match attempt {
                Err(failure) => match failure.starting_retry_ms() {
                    Some(millis) if Instant::now() < deadline => sleep(Duration::from_millis(millis)).await,
                    _ => return Err(failure),
                },
                connected => return connected,
            }
        }
    }

    async fn introduce(target: &Target, scopes: &[Scope], caps: &[&str]) -> Result<Self, Failure> {
        let mut socket = Socket::open(&target.url, target.pin).await?;
        loop {
            if matches!(socket.next().await?, Incoming::Event { name, .. } if name == "connect.challenge") {
                break;
            }
        }
        let auth = match &target.secret {
            AuthSecret::Token(token) => json!({"token": token.expose()}),
            AuthSecret::Password(password) => json!({"password": password.expose()}),
            AuthSecret::TrustedProxy(Some(password)) => json!({"password": password.expose()}),
            AuthSecret::TrustedProxy(None) | AuthSecret::None => json!({}),
        };
        let params = json!({
            "minProtocol": PROTOCOL_VERSION,
            "maxProtocol": PROTOCOL_VERSION,
            "client": {
                "id": "cli",
                "version": env!("CARGO_PKG_VERSION"),
                "platform": std::env::consts::OS,
                "mode": "cli",
                "instanceId": Uuid::new_v4().to_string(),
            },
            "caps": caps,
            "auth": auth,
            "role": "operator",
            "scopes": scopes.iter().map(|scope| scope.name()).collect::<Vec<_>>(),
        });
        let mut client = Self { hello: Value::Null, socket, timeout: target.timeout, last_id: 0 };
        client.hello = client.request("connect", params).await?;
        Ok(client)
    }

    /// Sends a request and waits for its answer. Events meanwhile are dropped.
    pub async fn request(&mut self, method: &str, params: Value) -> Result<Value, Failure> {
        let (limit, wanted) = (self.timeout, self.send(method, params).await?);
        let answer = async {
            loop {
                match self.next().await? {
                    Incoming::Response { id, result } if id == wanted => return result,
                    _ => {}
                }
            }
        };
        timeout(limit, answer).await.unwrap_or_else(|_| Err(Failure::timeout(method, limit.as_millis())))
    }

    /// Sends a request; its answers come through [`Client::next`] under the id returned.
    pub async fn send(&mut self, method: &str, params: Value) -> Result<String, Failure> {
        self.last_id += 1;
        let id = self.last_id.to_string();
        self.socket.send(&json!({"type": "req", "id": id, "method": method, "params": params})).await?;
        Ok(id)
    }

    /// What comes next from the gateway.
    pub async fn next(&mut self) -> Result<Incoming, Failure> {
        self.socket.next().await
    }

    /// The next frame from the gateway, as it is.
    pub async fn frame(&mut self) -> Result<Value, Failure> {
        self.socket.frame().await
    }
}

impl Socket {
    async fn open(url: &str, pin: Option<Fingerprint>) -> Result<Self, Failure> {
        let stream = dial(url, pin, WebSocketConfig::default()).await.map_err(|error| match error {
            DialError::Address(..) => Failure::config(error.to_string()),
            DialError::Certificate(why) => Failure::unreachable(url, why).but_next(
                "`crabtree tls fingerprint` on the gateway's machine says which certificate is its own: give that with \
                 --tls-fingerprint, or in gateway.remote.tlsFingerprint",
            ),
            DialError::Lost(why) => Failure::unreachable(url, why),
        })?;
        Ok(Self { url: url.to_owned(), stream })
    }

    async fn send(&mut self, frame: &Value) -> Result<(), Failure> {
        let sent = self.stream.send(Message::text(frame.to_string())).await;
        sent.map_err(|error| Failure::unreachable(&self.url, error))
    }

    async fn next(&mut self) -> Result<Incoming, Failure> {
        loop {
            if let Some(incoming) = decoded(self.frame().await?) {
                return Ok(incoming);
            }
        }
    }

    async fn frame(&mut self) -> Result<Value, Failure> {
        loop {
            let text = match self.stream.next().await {
                Some(Ok(Message::Text(text))) => text,
                Some(Ok(Message::Close(Some(close)))) => {
                    let why = format!("it closed the connection ({}: {})", close.code, close.reason);
                    return Err(Failure::unreachable(&self.url, why));
                }
                Some(Ok(_)) => continue,
                Some(Err(error)) => return Err(Failure::unreachable(&self.url, error)),
                None => return Err(Failure::unreachable(&self.url, "it closed the connection")),
            };
            if let Ok(frame) = serde_json::from_str(&text) {
                return Ok(frame);
            }
        }
    }
}

/// A frame, if it is of a known type.
pub(super) fn decoded(mut frame: Value) -> Option<Incoming> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    match frame["type"].as_str()? {
        "res" => {
            let result = if frame["ok"] == true {
                Ok(frame["payload"].take())
            } else {
                Err(Failure::refused(&frame["error"]))
            };
            Some(Incoming::Response { id: text(&frame["id"])?, result })
        }
        "event" => Some(Incoming::Event { name: text(&frame["event"])?, payload: frame["payload"].take() }),
        _ => None,
    }
}

/// Whether an address is of this machine, so that its secrets may go there.
pub(super) fn is_local(url: &str) -> bool {
    let host = url.into_client_request().ok().and_then(|request| request.uri().host().map(str::to_owned));
    host.is_some_and(|host| {
        let plain = host.trim_start_matches('[').trim_end_matches(']');
        plain == "localhost" || plain.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
    })
}

#[cfg(test)]
mod tests {
    use crabtree_actors::settings::Secret;
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn secrets_stay_on_this_machine() {
        assert!(["ws://127.0.0.1:1", "ws://localhost/x", "ws://[::1]:5"].into_iter().all(is_local));
        assert!(!["ws://127.0.0.1.example.com:1", "ws://192.168.1.2", "nonsense"].into_iter().any(is_local));
    }

    #[test]
    fn frames_are_decoded() {
        let ok = decoded(json!({"type": "res", "id": "1", "ok": true, "payload": {"a": 1}}));
        assert!(matches!(ok, Some(Incoming::Response { id, result: Ok(p) }) if id == "1" && p["a"] == 1));
        let refused = decoded(json!({"type": "res", "id": "1", "ok": false, "error": {"code": "X"}}));
        assert!(matches!(refused, Some(Incoming::Response { result: Err(_), .. })));
        let event = decoded(json!({"type": "event", "event": "tick", "payload": {}, "seq": 1}));
        assert!(matches!(event, Some(Incoming::Event { name, .. }) if name == "tick"));
        assert!(decoded(json!({"type": "new"})).is_none() && decoded(json!(3)).is_none());
    }

    /// Accepts one client and answers each of its requests.
    async fn gateway(listener: TcpListener) -> Result<(), Box<dyn std::error::Error>> {
        let mut socket = tokio_tungstenite::accept_async(listener.accept().await?.0).await?;
        let challenge = json!({"type": "event", "event": "connect.challenge", "payload": {"nonce": "n"}});
        socket.send(Message::text(challenge.to_string())).await?;
        while let Some(Ok(Message::Text(text))) = socket.next().await {
            let request: Value = serde_json::from_str(&text)?;
            let tick = json!({"type": "event", "event": "tick", "payload": {}});
            socket.send(Message::text(tick.to_string())).await?;
            let payload = json!({"method": request["method"], "params": request["params"]});
            let answer = json!({"type": "res", "id": request["id"], "ok": true, "payload": payload});
            socket.send(Message::text(answer.to_string())).await?;
        }
        Ok(())
    }

    #[tokio::test]
    async fn it_introduces_itself_and_asks() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("ws://{}", listener.local_addr().expect("bound"));
        let served = tokio::spawn(async move { gateway(listener).await.map_err(|error| error.to_string()) });
        let secret = AuthSecret::Token(Secret::new("t"));
        let target = Target { url: url.clone(), secret, timeout: Duration::from_secs(5), pin: None };
        let mut client = Client::connect(&target, &[Scope::Read], &["tool-events"]).await.expect("accepted");
        assert_eq!(client.hello["params"]["auth"], json!({"token": "t"}));
        assert_eq!(client.hello["params"]["scopes"], json!(["operator.read"]));
        assert_eq!(client.hello["params"]["caps"], json!(["tool-events"]));
        assert_eq!(client.request("health", json!({})).await.expect("answered")["method"], "health");
        drop(client);
        assert_eq!(served.await.expect("no panic"), Ok(()));
        assert!(Client::connect(&target, &[], &[]).await.is_err(), "nobody listens any more");
    }
}

//! `/driver`: the WebSocket of a channel's driver that is no child of the gateway. What is said on it is
//! `crabtree_actors::channels::driver`'s; here are the socket, and who may try.

use crabtree_actors::auth_limiter::{Culprit, SecretKind};
use crabtree_actors::channels::driver::Packet;
use crabtree_actors::conns::Peer;
use crabtree_actors::estate::Estate;
use crabtree_protocol::driver::MAX_FRAME;
use crabtree_protocol::frame::Close;
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_util::sync::CancellationToken;

/// The path of drivers.
pub const PATH: &str = "/driver";
/// What a sealed frame is longer than what is in it.
const SEAL: usize = 16;
/// How long a driver counts among those that have not said who they are; it has been sent away by then if it did not.
const UNKNOWN: Duration = Duration::from_secs(10);
/// How long it may take its close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// The close code of who does not say the right secret.
const UNAUTHORIZED: u16 = 4001;

/// Runs a driver's socket to its end, or until it is `cut`.
pub async fn run(upgraded: Upgraded, peer: Peer, estate: Arc<Estate>, cut: CancellationToken) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_FRAME + SEAL))
        .max_frame_size(Some(MAX_FRAME + SEAL))
        .accept_unmasked_frames(false);
    let ws = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
    let (mut out, incoming) = ws.split();
    let culprit = Culprit::of(&peer);
    let limits = estate.config.load().settings.gateway.auth.rate_limit.clone();
    let now = || estate.clock.uptime();
    let close = match estate.auth_limiter.locked(&culprit, SecretKind::Shared, now(), &limits) {
        Some(_) => Close { code: UNAUTHORIZED, reason: "too many failed attempts".into() },
        None => {
            let packets = incoming.filter_map(|message| std::future::ready(packet(message)));
            let frames = (&mut out).with(|packet| std::future::ready(Ok::<_, Error>(message(packet))));
            let leave = async {
                tokio::time::sleep(UNKNOWN).await;
                if let Some(place) = &peer.place {
                    place.leave();
                }
                std::future::pending().await
            };
            tokio::select! {
                close = estate.channels.doors().serve(Box::pin(packets), Box::pin(frames)) => close,
                close = leave => close,
                () = cut.cancelled() => Close::restart(),
            }
        }
    };
    if close.code == UNAUTHORIZED {
        let delay = estate.auth_limiter.failed(&culprit, SecretKind::Shared, now(), &limits);
        tokio::time::sleep(delay).await;
    }
    let frame = CloseFrame { code: CloseCode::from(close.code), reason: close.reason.into() };
    let _ = timeout(CLOSE_TIMEOUT, out.send(Message::Close(Some(frame)))).await;
}

fn packet(message: Result<Message, Error>) -> Option<Packet> {
    match message.ok()? {
        Message::Text(text) => Some(Packet::Text(text.to_string())),
        Message::Binary(bytes) => Some(Packet::Binary(bytes.to_vec())),
        // The library answers pings, and ends the stream at a close.
        _ => None,
    }
}

fn message(packet: Packet) -> Message {
    match packet {
        Packet::Text(text) => Message::text(text),
        Packet::Binary(bytes) => Message::binary(bytes),
    }
}

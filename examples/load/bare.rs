//! The server for comparison: it lets everybody in, answers whatever is asked with as many bytes as a gateway does, and
//! tells everybody what a gateway would. It is what tokio-tungstenite costs without a gateway.

use crate::measured::{Ws, frame};
use anyhow::Result;
use futures_util::{FutureExt, SinkExt};
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

/// Bytes of its payloads.
const HELLO: usize = 2_000;
const ANSWER: usize = 700;
/// Events that may wait for a connection.
const EVENTS: usize = 64 * 1024;

pub async fn serve(port: u16) -> Result<()> {
    let door = TcpListener::bind(("127.0.0.1", port)).await?;
    let (events, _) = broadcast::channel(EVENTS);
    loop {
        let (stream, _) = door.accept().await?;
        stream.set_nodelay(true)?;
        let events = events.clone();
        tokio::spawn(async move {
            let config = WebSocketConfig::default().read_buffer_size(4 * 1024);
            let mut ws = tokio_tungstenite::accept_async_with_config(stream, Some(config)).await?;
            // It ends with the socket; what is flushed is the answer to a close.
            let _ = speak(&mut ws, &events).await;
            ws.flush().await
        });
    }
}

async fn speak(ws: &mut Ws, events: &broadcast::Sender<Utf8Bytes>) -> Result<()> {
    let challenge = r#"{"type":"event","event":"connect.challenge","payload":{"nonce":"","ts":0}}"#;
    ws.send(Message::text(challenge)).await?;
    let (hello, health) = ("h".repeat(HELLO), "h".repeat(ANSWER));
    let mut told = events.subscribe();
    loop {
        tokio::select! {
            event = told.recv() => {
                let mut next = Some(event?);
                while let Some(event) = next {
                    ws.feed(Message::Text(event)).await?;
                    next = told.try_recv().ok();
                }
            }
            text = frame(ws) => {
                let mut next = Some(text?);
                while let Some(text) = next {
                    let word = |at| text.split('"').nth(at).unwrap_or_default();
                    let (id, method) = (word(7), word(11));
                    if method == crate::fanout::METHOD {
                        events.send(event(&text))?;
                    }
                    let payload = if id == "c" { &hello } else { &health };
                    let answer = format!(r#"{{"type":"res","id":"{id}","ok":true,"payload":"{payload}"}}"#);
                    ws.feed(Message::text(answer)).await?;
                    next = frame(ws).now_or_never().transpose()?;
                }
            }
        }
        ws.flush().await?;
    }
}

/// The event that a request makes: its parameters, to all.
fn event(request: &str) -> Utf8Bytes {
    let (_, params) = request.split_once(r#""params":"#).unwrap_or_default();
    let params = params.strip_suffix('}').unwrap_or("{}");
    format!(r#"{{"type":"event","event":"{}","payload":{params},"seq":1}}"#, crate::fanout::EVENT).into()
}

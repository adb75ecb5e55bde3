//! Updates as Telegram brings them to a webhook.

use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// What came of an update.
#[derive(Clone, Debug, PartialEq)]
pub struct Brought {
    /// Nothing if it was broken off.
    pub status: Option<u16>,
    /// Head and body.
    pub said: String,
}

/// A port that is free at the moment.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// What Ann writes, as an update.
pub fn update(number: i64, text: &str) -> String {
    let ann = json!({ "id": 42, "is_bot": false, "first_name": "Ann" });
    let chat = json!({ "id": 42, "type": "private" });
    let message: Value =
        json!({ "message_id": number, "date": 1_700_000_000, "chat": chat, "from": ann, "text": text });
    json!({ "update_id": number, "message": message }).to_string()
}

/// Brings a body to a listener, as soon as there is one, with these secrets in its head.
pub async fn brings(port: u16, path: &str, secrets: &[&str], body: &str) -> Brought {
    let until = Instant::now() + Duration::from_secs(10);
    let mut stream = loop {
        match TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
            Ok(stream) => break stream,
            Err(e) => assert!(Instant::now() < until, "nobody listens at {port}: {e}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let secrets: String =
        secrets.iter().map(|secret| format!("X-Telegram-Bot-Api-Secret-Token: {secret}\r\n")).collect();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: bot.example\r\n{secrets}Content-Length: {}\r\n\r\n",
        body.len()
    );
    // Whoever is sent away may be so before all was said.
    let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
    let mut said = vec![];
    let _ = stream.read_to_end(&mut said).await;
    let said = String::from_utf8(said).unwrap();
    let status = said.split(' ').nth(1).map(|status| status.parse().unwrap());
    Brought { status, said }
}

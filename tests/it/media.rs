//! Files that come with messages: kept before they are acknowledged, shown to the model, served to pages, and gone with
//! their session.

use crate::client::{Client, TOKEN};
use crate::gateway::Embedded;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use crabtree_actors::agents::{Chunk, Model, ModelInfo, Prompt, Said, Usage};
use crabtree_actors::settings::{AuthSecret, Secret};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A picture of one dot.
pub const PNG: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/// A model that remembers what it was shown last.
#[derive(Clone, Default)]
pub struct Witness {
    blind: bool,
    seen: Arc<Mutex<Vec<Said>>>,
}

impl Witness {
    /// What a person showed it last: the words, and the types of the pictures.
    pub fn last(&self) -> (String, Vec<String>) {
        match self.seen.lock().last() {
            Some(Said::User { text, images }) => {
                (text.clone(), images.iter().map(|image| image.mime_type.clone()).collect())
            }
            other => panic!("{other:?}"),
        }
    }
}

impl Model for Witness {
    fn provider(&self) -> &str {
        "test"
    }

    fn id(&self) -> &str {
        "witness"
    }

    fn info(&self) -> ModelInfo {
        let input = if self.blind { vec!["text".into()] } else { vec!["text".into(), "image".into()] };
        ModelInfo { name: "Witness".into(), input, reasoning: false, local: true }
    }

    fn answer(&self, prompt: Prompt) -> BoxStream<'static, Chunk> {
        *self.seen.lock() = prompt.conversation;
        stream::iter([Chunk::Text("seen".into()), Chunk::End(Usage::default())]).boxed()
    }
}

async fn watched(blind: bool) -> (Embedded, Client, Witness) {
    let witness = Witness { blind, ..Witness::default() };
    let config = json!({ "agents": { "defaults": { "model": "test/witness" } } });
    let gateway = Embedded::with_models(config, vec![Arc::new(witness.clone())]).await;
    let client = Client::admin(gateway.addr).await;
    (gateway, client, witness)
}

fn dot() -> Value {
    json!({ "type": "image", "mimeType": "image/png", "fileName": "dot.png", "content": PNG })
}

fn note(text: &str) -> Value {
    json!({ "type": "file", "mimeType": "text/plain", "fileName": "a.txt", "content": BASE64_STANDARD.encode(text) })
}

fn message(key: &str, text: &str, run: &str, files: &[Value]) -> Value {
    json!({ "sessionKey": key, "message": text, "idempotencyKey": run, "attachments": files })
}

async fn history(client: &mut Client, key: &str) -> Value {
    client.call("chat.history", json!({ "sessionKey": key })).await["messages"].clone()
}

fn files(gateway: &Embedded) -> Vec<PathBuf> {
    let found = std::fs::read_dir(gateway.state.path().join("media/inbound")).into_iter().flatten();
    found.map(|file| file.unwrap().path()).collect()
}

#[tokio::test]
async fn what_comes_with_a_message_is_stored_before_the_ack_and_shown_to_the_model() {
    let (gateway, mut client, witness) = watched(false).await;
    let sent = message("main", "look", "k1", &[dot(), note("hello")]);
    assert_eq!(client.call("chat.send", sent).await["status"], "started");
    let mut stored: Vec<u64> = files(&gateway).iter().map(|file| file.metadata().unwrap().len()).collect();
    stored.sort_unstable();
    assert_eq!(stored, [5, 70]);
    client.chat_end("k1").await;
    let (text, pictures) = witness.last();
    assert!(
        text.starts_with("look\n\n[attached file a.txt, text/plain, 5 bytes, begins]\nhello\n"),
        "{text}"
    );
    assert_eq!(pictures, ["image/png"]);
    let rows = history(&mut client, "main").await;
    assert_eq!(rows[0]["content"], "look");
    let media = &rows[0]["__openclaw"]["media"];
    assert_eq!((&media[0]["kind"], &media[1]["fileName"]), (&json!("image"), &json!("a.txt")));
    assert!(rows.to_string().len() < 3_000, "no row carries bytes");
    // It is still shown later, and after a restart.
    let again = client.call("chat.send", message("main", "and now?", "k2", &[])).await;
    assert_eq!(again["status"], "started");
    client.chat_end("k2").await;
    assert!(matches!(&witness.seen.lock()[0], Said::User { images, .. } if images.len() == 1));
}

#[tokio::test]
async fn a_model_that_sees_nothing_is_told_of_pictures() {
    let (_gateway, mut client, witness) = watched(true).await;
    client.call("agent", message("main", "look", "k1", &[dot()])).await;
    client.chat_end("k1").await;
    assert_eq!(witness.last(), ("look\n[a picture, image/png, which you cannot see]".into(), vec![]));
}

#[tokio::test]
async fn files_alone_are_a_message_and_never_a_command() {
    let (_gateway, mut client, witness) = watched(false).await;
    client.call("chat.send", message("main", "", "k1", &[dot()])).await;
    client.chat_end("k1").await;
    assert_eq!(witness.last(), (String::new(), vec!["image/png".into()]));
    client.call("chat.send", message("main", "/status", "k2", &[dot()])).await;
    client.chat_end("k2").await;
    assert_eq!(witness.last().0, "/status");
    let created = json!({ "key": "new", "attachments": [dot()], "idempotencyKey": "c" });
    let created = client.call("sessions.create", created).await;
    let run = created["runId"].as_str().unwrap().to_owned();
    client.chat_end(&run).await;
    let mut sent = message("new", "", "k3", &[note("x")]);
    sent["key"] = sent["sessionKey"].take();
    sent.as_object_mut().unwrap().remove("sessionKey");
    client.call("sessions.send", sent).await;
    client.chat_end("k3").await;
    assert!(witness.last().0.starts_with("[attached file a.txt"));
}

/// accepts: G10
#[tokio::test]
async fn the_same_key_with_other_files_is_a_conflict_and_leaves_no_file() {
    let (gateway, mut client, _) = watched(false).await;
    client.call("chat.send", message("main", "look", "k1", &[dot()])).await;
    client.chat_end("k1").await;
    let again = client.call("chat.send", message("main", "look", "k1", &[dot()])).await;
    assert_eq!(again["status"], "ok");
    for other in [&[][..], &[note("x")], &[dot(), dot()]] {
        let error = client.refused("chat.send", message("main", "look", "k1", other)).await;
        assert_eq!(error["details"]["reason"], "chat-request-conflict");
    }
    // They are removed beside the answer; a deleted session waits for its own.
    client.call("sessions.reset", json!({ "key": "main" })).await;
    for _ in 0..500 {
        if files(&gateway).len() == 1 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{:?}", files(&gateway));
}

#[tokio::test]
async fn the_files_of_a_deleted_session_go_unless_a_fork_shows_them_still() {
    let (gateway, mut client, witness) = watched(false).await;
    client.call("chat.send", message("a", "look", "k1", &[dot()])).await;
    client.chat_end("k1").await;
    client.call("chat.send", message("a", "more", "k2", &[])).await;
    client.chat_end("k2").await;
    let rows = history(&mut client, "a").await;
    let forked = client
        .call("sessions.fork", json!({ "sessionKey": "a", "entryId": rows[2]["__openclaw"]["id"] }))
        .await;
    client.call("sessions.delete", json!({ "key": "a" })).await;
    assert_eq!(files(&gateway).len(), 1);
    let key = forked["sessionKey"].as_str().unwrap();
    client.call("chat.send", message(key, "still there?", "k3", &[])).await;
    client.chat_end("k3").await;
    assert!(matches!(&witness.seen.lock()[0], Said::User { images, .. } if images.len() == 1));
    client.call("sessions.delete", json!({ "key": key })).await;
    assert!(files(&gateway).is_empty());
}

struct Got {
    status: u16,
    head: String,
    body: Vec<u8>,
}

async fn get(addr: SocketAddr, path: &str, token: Option<&str>) -> Got {
    let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    let auth = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let head = format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n{auth}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let at = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(answer[..at].to_vec()).unwrap().to_ascii_lowercase();
    Got { status: head.split(' ').nth(1).unwrap().parse().unwrap(), head, body: answer[at + 4..].to_vec() }
}

#[tokio::test]
async fn pages_fetch_files_with_the_token_or_a_ticket_for_that_file() {
    let (gateway, mut client, _) = watched(false).await;
    client.call("chat.send", message("main", "look", "k1", &[dot(), note("<script>")])).await;
    client.chat_end("k1").await;
    let rows = history(&mut client, "main").await;
    let path = |at: usize| {
        let url = rows[0]["__openclaw"]["media"][at]["url"].as_str().unwrap();
        format!("/__openclaw__/assistant-media?source={}", url.replace(':', "%3A").replace('/', "%2F"))
    };
    let addr = gateway.addr;
    assert_eq!(get(addr, &path(0), None).await.status, 401);
    assert_eq!(get(addr, &path(0), Some("wrong")).await.status, 401);
    let picture = get(addr, &path(0), Some(TOKEN)).await;
    assert_eq!((picture.status, picture.body), (200, BASE64_STANDARD.decode(PNG).unwrap()));
    assert!(picture.head.contains("content-type: image/png") && picture.head.contains("disposition: inline"));
    let text = get(addr, &path(1), Some(TOKEN)).await;
    assert!(text.head.contains("application/octet-stream") && text.head.contains("disposition: attachment"));

    let meta = get(addr, &format!("{}&meta=1", path(0)), Some(TOKEN)).await;
    let meta: Value = serde_json::from_slice(&meta.body).unwrap();
    assert_eq!((&meta["available"], &meta["sizeBytes"]), (&json!(true), &json!(70)));
    let ticket = meta["mediaTicket"].as_str().unwrap();
    assert_eq!(get(addr, &format!("{}&mediaTicket={ticket}", path(0)), None).await.status, 200);
    assert_eq!(
        get(addr, &format!("{}&mediaTicket={ticket}", path(1)), None).await.status,
        401,
        "of another file"
    );
    let forged = ticket.replacen("v1.", "v1.9", 1);
    assert_eq!(
        get(addr, &format!("{}&mediaTicket={forged}", path(0)), None).await.status,
        401,
        "made longer"
    );
    assert_eq!(get(addr, &format!("{}&meta=1&mediaTicket={ticket}", path(0)), None).await.status, 401);

    let outside = "/__openclaw__/assistant-media?source=media://inbound/../../openclaw.json";
    assert_eq!(get(addr, outside, Some(TOKEN)).await.status, 404);
    let meta = get(addr, &format!("{outside}&meta=1"), Some(TOKEN)).await;
    assert!(String::from_utf8(meta.body).unwrap().contains("\"available\":false"));
    assert_eq!(get(addr, "/__openclaw__/assistant-media", Some(TOKEN)).await.status, 404);
}

#[tokio::test]
async fn files_outlive_a_restart() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    client.call("chat.send", message("main", "look", "k1", &[dot()])).await;
    client.chat_end("k1").await;
    let gateway = gateway.restarted(AuthSecret::Token(Secret::new(TOKEN))).await;
    let mut client = Client::admin(gateway.addr).await;
    let rows = history(&mut client, "main").await;
    let url = rows[0]["__openclaw"]["media"][0]["url"].as_str().unwrap();
    let path = format!("/__openclaw__/assistant-media?source={url}");
    assert_eq!(get(gateway.addr, &path, Some(TOKEN)).await.body.len(), 70);
}

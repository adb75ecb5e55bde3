use std::time::Duration;

use crabtree_actors::settings::{AuthSecret, Secret};
use crabtree_protocol::Scope;
use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;

use super::*;
use crate::cli::client::Target;

/// Lets one client in, and answers each of its requests with these frames; `ID` stands for the request's.
async fn gateway(listener: TcpListener, frames: Vec<Value>) {
    let accepted = listener.accept().await.expect("somebody comes");
    let mut socket = tokio_tungstenite::accept_async(accepted.0).await.expect("a socket");
    let challenge = json!({"type": "event", "event": "connect.challenge", "payload": {}});
    socket.send(Message::text(challenge.to_string())).await.expect("it is open");
    let hello = json!({"type": "res", "id": "ID", "ok": true, "payload": {"snapshot": {"stateVersion": {"presence": 5}}}});
    let mut answers = vec![hello];
    while let Some(Ok(Message::Text(text))) = socket.next().await {
        let request: Value = serde_json::from_str(&text).expect("a request");
        for frame in &answers {
            let text = frame.to_string().replace("\"ID\"", &request["id"].to_string());
            socket.send(Message::text(text)).await.expect("it is open");
        }
        answers.clone_from(&frames);
        if request["method"] == "end" {
            return;
        }
    }
}

/// What a line holds against these frames; `lose` has the socket end.
async fn seen(frames: &[Value], lose: bool) -> Tally {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("ws://{}", listener.local_addr().expect("bound"));
    tokio::spawn(gateway(listener, frames.to_vec()));
    let secret = AuthSecret::Token(Secret::new("t"));
    let target = Target { url, secret, timeout: Duration::from_secs(5), pin: None };
    let client = Client::connect(&target, &[Scope::Read], &[]).await.expect("it is let in");
    let mut line = Line::new(client, "witness");
    let method = if lose { "end" } else { "look" };
    let _ = line.once(method, json!({}), |_| {}).await;
    if lose {
        let _ = line.once("more", json!({}), |_| {}).await;
    }
    line.end().await
}

fn event(seq: u64, presence: u64) -> Value {
    json!({"type": "event", "event": "presence", "payload": {}, "seq": seq, "stateVersion": {"presence": presence}})
}

fn answer() -> Value {
    json!({"type": "res", "id": "ID", "ok": true, "payload": {}})
}

fn expected(tally: &Tally) -> Vec<&str> {
    tally.violations.iter().map(|violation| violation.expected.as_str()).collect()
}

#[tokio::test]
async fn what_is_in_order_is_only_counted() {
    let tally = seen(&[event(7, 5), event(8, 6), answer()], false).await;
    assert_eq!((tally.requests, tally.answers, tally.events), (1, 1, 2));
    assert_eq!((tally.missed, tally.lost, expected(&tally)), (0, false, vec![]));
}

#[tokio::test]
async fn what_is_not_in_order_is_held_against_the_gateway() {
    let tally = seen(&[event(1, 5), event(4, 5), answer()], false).await;
    assert_eq!((tally.missed, expected(&tally)), (2, vec!["no event is missing"]));
    let tally = seen(&[event(2, 5), event(2, 5), answer()], false).await;
    assert_eq!(expected(&tally), ["numbers of events go up"]);
    let tally = seen(&[event(1, 4), answer()], false).await;
    assert_eq!(expected(&tally), ["the version of presence never goes back"]);
    let twice = json!({"type": "res", "id": "1", "ok": true, "payload": {}});
    let tally = seen(&[twice, answer()], false).await;
    assert_eq!(expected(&tally), ["each request is answered once"]);
}

#[tokio::test]
async fn a_socket_that_ends_is_lost_and_its_requests_unanswered() {
    let tally = seen(&[answer()], true).await;
    assert!(tally.lost);
    assert_eq!(expected(&tally), ["its socket stays open", "each request is answered once"]);
}

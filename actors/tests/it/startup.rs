//! A gateway that is not ready yet: who connects is told to come back, in the recorded words (`startup_connect`).

use crate::planting::{TOKEN, estate_args};
use crabtree_actors::connection::ConnectionMsg;
use crabtree_actors::connections::ConnectionsMsg;
use crabtree_actors::conns::Peer;
use crabtree_actors::estate::Estate;
use crabtree_actors::gateway::{RootArgs, Wiring, plant};
use crabtree_actors::outbox::{Outgoing, Spool};
use crabtree_actors::settings::Invalid;
use crabtree_actors::store::Db;
use crabtree_actors::tree::{self, Clock, Slot};
use crabtree_protocol::ConnId;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

fn estate() -> Arc<Estate> {
    Estate::new(estate_args(Clock::system(), json!({})))
}

/// Connects, and returns everything that is said until the answer to `connect` and, if there is one, the close.
async fn connect(wiring: &Arc<Wiring>) -> (Value, Option<(u16, String)>) {
    let (conn, mut items) =
        wiring.store.estate.conns.open(ConnId::random(), Peer::new([127, 0, 0, 1].into()));
    let actor = Slot::default();
    wiring.connections.ask(|reply| ConnectionsMsg::Open(conn.clone(), actor.clone(), reply)).await;
    actor.newer_than(0).await;
    let client = json!({ "id": "cli", "mode": "cli", "version": "1", "platform": "linux" });
    let params = json!({ "minProtocol": 4, "maxProtocol": 4, "client": client, "auth": { "token": TOKEN } });
    let frame = json!({ "type": "req", "id": "c", "method": "connect", "params": params }).to_string();
    let permit = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
    let _ = actor.send(ConnectionMsg::Frame(frame.into_bytes().into(), permit));
    let (mut spool, mut answer) = (Spool::default(), Value::Null);
    while let Some(item) = items.recv().await {
        let mut said = Vec::new();
        spool.take_batch(std::iter::once(item), &mut |outgoing| said.push(outgoing));
        for outgoing in said {
            match outgoing {
                Outgoing::Text(text) => {
                    let frame: Value = serde_json::from_slice(&text).unwrap();
                    if frame["type"] == "res" {
                        answer = frame;
                    }
                    if answer["ok"] == true {
                        return (answer, None);
                    }
                }
                Outgoing::Event(..) => {}
                Outgoing::Close(close) => return (answer, Some((close.code, close.reason))),
            }
        }
    }
    (answer, None)
}

/// accepts: C4 (conflict)
#[tokio::test]
async fn who_connects_before_the_database_is_open_is_told_to_come_back() {
    let (open, opened) = std::sync::mpsc::channel::<()>();
    let opened = parking_lot::Mutex::new(opened);
    let wiring = Wiring::new(estate());
    let root = plant(RootArgs {
        wiring: wiring.clone(),
        open: Arc::new(move || {
            let _ = opened.lock().recv();
            Db::memory()
        }),
        reload: Arc::new(|_| Err(Invalid::new("nothing to read"))),
        listener: None,
    });
    let started = tokio::time::Instant::now();
    let (answer, close) = connect(&wiring).await;
    assert_eq!(
        answer["error"],
        json!({
            "code": "UNAVAILABLE", "message": "gateway starting; retry shortly", "retryable": true,
            "retryAfterMs": 500, "details": { "reason": "startup-sidecars" },
        })
    );
    assert_eq!(close, Some((1013, "gateway starting".into())));
    assert!(started.elapsed() >= Duration::from_millis(250), "it is waited for a moment");
    // Ready in that moment: nobody is sent away.
    let waiting = connect(&wiring);
    open.send(()).unwrap();
    let (answer, close) = waiting.await;
    assert_eq!((&answer["payload"]["type"], close), (&json!("hello-ok"), None));
    tree::shutdown(&root).await;
}

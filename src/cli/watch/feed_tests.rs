use futures_util::{SinkExt, StreamExt};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

use super::*;

/// Long beyond everything that is waited for here.
const LIMIT: Duration = Duration::from_secs(20);

/// A gateway of which the test decides what it says.
struct Gateway {
    socket: WebSocketStream<TcpStream>,
}

impl Gateway {
    /// Takes the next client in, with these scopes.
    async fn accept(listener: &TcpListener, scopes: &[&str]) -> Self {
        let (stream, _) = timeout(LIMIT, listener.accept()).await.expect("a client").expect("accepted");
        let socket = tokio_tungstenite::accept_async(stream).await.expect("a WebSocket");
        let mut gateway = Self { socket };
        gateway.event("connect.challenge", json!({"nonce": "n"})).await;
        let (_, id) = gateway.asked("connect").await;
        gateway.answer(&id, json!({"auth": {"scopes": scopes}})).await;
        gateway
    }

    async fn send(&mut self, frame: Value) {
        self.socket.send(Message::text(frame.to_string())).await.expect("sent");
    }

    async fn event(&mut self, name: &str, payload: Value) {
        self.send(json!({"type": "event", "event": name, "payload": payload})).await;
    }

    async fn answer(&mut self, id: &Value, payload: Value) {
        self.send(json!({"type": "res", "id": id, "ok": true, "payload": payload})).await;
    }

    /// Waits for this request, past others; its parameters and id.
    async fn asked(&mut self, method: &str) -> (Value, Value) {
        loop {
            let frame =
                timeout(LIMIT, self.socket.next()).await.expect("in time").expect("open").expect("a frame");
            let mut frame: Value = serde_json::from_slice(&frame.into_data()).expect("JSON");
            if frame["method"] == method {
                return (frame["params"].take(), frame["id"].take());
            }
        }
    }
}

fn global(listener: &TcpListener) -> Global {
    let url = format!("ws://{}", listener.local_addr().expect("bound"));
    Global { url: Some(url), token: Some("t".into()), ..Global::default() }
}

async fn next(told: &mut mpsc::Receiver<Heard>) -> Heard {
    timeout(LIMIT, told.recv()).await.expect("in time").expect("told")
}

#[tokio::test]
async fn it_reads_on_events_carries_orders_out_and_finds_a_lost_gateway_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let global = global(&listener);
    let (connected, mut gateway) =
        tokio::join!(connect(&global), Gateway::accept(&listener, &["operator.read", "operator.admin"]));
    let (client, admin) = connected.expect("accepted");
    assert!(admin);
    let (ask, asks) = mpsc::channel(4);
    let (tell, mut told) = mpsc::channel(4);
    let script = async {
        let (_, id) = gateway.asked("system.actors").await;
        gateway.event("system.actors.changed", json!({"n": 1})).await;
        gateway.event("system.actors.changed", json!({"n": 2})).await;
        gateway.answer(&id, json!({"tree": 1})).await;
        assert!(matches!(next(&mut told).await, Heard::Tree { tree, changed: Some(last) }
            if tree["tree"] == 1 && last["n"] == 2));
        // The events bring the next reading long before the poll would.
        let (_, id) = timeout(POLL / 2, gateway.asked("system.actors")).await.expect("soon");
        gateway.answer(&id, json!({"tree": 2})).await;
        assert!(matches!(next(&mut told).await, Heard::Tree { changed: None, .. }));
        ask.send(Ask::Show(View::Channels)).await.expect("heard");
        let (_, id) = gateway.asked("channels.status").await;
        gateway.answer(&id, json!({})).await;
        assert!(matches!(next(&mut told).await, Heard::Channels(_)));
        let order = Order { verb: Verb::Park, path: "gateway/x".into() };
        ask.send(Ask::Order(order.clone())).await.expect("heard");
        let (params, id) = gateway.asked("system.actors.park").await;
        assert_eq!(params, json!({"path": "gateway/x"}));
        gateway.answer(&id, json!({"state": "parked"})).await;
        assert!(matches!(next(&mut told).await, Heard::Done(text) if text == "gateway/x: parked"));
        // Lost before it answers; what is asked meanwhile is not done afterwards.
        ask.send(Ask::Order(order.clone())).await.expect("heard");
        gateway.asked("system.actors.park").await;
        drop(gateway);
        assert!(matches!(next(&mut told).await, Heard::Lost { unanswered: true, .. }));
        ask.send(Ask::Order(order)).await.expect("heard");
        let mut gateway = Gateway::accept(&listener, &["operator.read"]).await;
        assert!(matches!(next(&mut told).await, Heard::Connected { admin: false }));
        let (_, id) = gateway.asked("system.actors").await;
        gateway.answer(&id, json!({"tree": 3})).await;
        assert!(matches!(next(&mut told).await, Heard::Tree { .. }));
        ask.send(Ask::Show(View::Tree)).await.expect("heard");
        drop(ask);
        while told.recv().await.is_some() {}
        gateway
    };
    let (mut gateway, ()) = tokio::join!(script, Feed::new(&global, asks, tell).follow(client));
    while let Some(Ok(Message::Text(text))) = gateway.socket.next().await {
        assert!(!text.contains("system.actors.park"), "{text}");
    }
}

#[tokio::test]
async fn a_gateway_that_answers_nothing_any_more_is_lost() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let global = Global { timeout_ms: Some(200), ..global(&listener) };
    let (connected, _silent) = tokio::join!(connect(&global), Gateway::accept(&listener, &[]));
    let (client, admin) = connected.expect("accepted");
    assert!(!admin);
    let (_ask, asks) = mpsc::channel(4);
    let (tell, mut told) = mpsc::channel(4);
    tokio::select! {
        heard = next(&mut told) => assert!(matches!(heard, Heard::Lost { unanswered: false, .. }), "{heard:?}"),
        () = Feed::new(&global, asks, tell).follow(client) => panic!("somebody listens"),
    }
}

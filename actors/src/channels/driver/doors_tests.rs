use super::*;
use crate::channels::contract::{Address, Kind, Outgoing};
use crate::channels::driver::sealed::public_key;
use crate::channels::driver::sealed::tests::{call, encoded};
use crate::settings::{AuthSecret, Secret};
use serde_json::{Value, json};
use std::sync::atomic::AtomicI64;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use x25519_dalek::{PublicKey, StaticSecret};

/// The gateway's side of `signal/default`, which waits for a driver.
struct Account {
    doors: Doors,
    heard: mpsc::Receiver<Heard>,
    orders: mpsc::Sender<Order>,
    last: Arc<AtomicI64>,
    running: JoinHandle<Trouble>,
}

impl Account {
    async fn wait() -> Self {
        let doors = Doors::default();
        let (to_desk, heard) = mpsc::channel(64);
        let (orders, mut to_channel) = mpsc::channel(64);
        let last = Arc::new(AtomicI64::new(0));
        let link = Link::new(to_desk, last.clone(), Arc::new(|| 7), None);
        let terms = Terms {
            client_id: "signal/default".into(),
            secret: AuthSecret::Token(Secret::new("right")),
            pinned: None,
            claims: Default::default(),
        };
        let door = doors.open(terms).unwrap();
        let running = tokio::spawn(async move {
            let Err(trouble) = door.serve(&link, &mut to_channel).await;
            trouble
        });
        let mut account = Self { doors, heard, orders, last, running };
        assert!(account.disconnected().await.contains("no driver has connected"));
        account
    }

    async fn disconnected(&mut self) -> String {
        match self.heard.recv().await {
            Some(Heard::Disconnected(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    async fn send(&self) -> Result<crate::channels::contract::Sent, SendError> {
        let (done, sent) = oneshot::channel();
        let message = Outgoing {
            id: "o".into(),
            to: Address { chat_type: Kind::Direct, chat: "c".into(), thread: None },
            text: "hello".into(),
            reply_to: None,
            edits: None,
            buttons: vec![],
            attachments: vec![],
        };
        self.orders.send(Order::Send(Box::new(message), done)).await.unwrap();
        sent.await.unwrap()
    }
}

/// A driver at a WebSocket.
struct Driver {
    say: mpsc::Sender<Packet>,
    hear: mpsc::Receiver<Packet>,
    served: JoinHandle<Close>,
}

impl Driver {
    fn knock(doors: &Doors) -> Self {
        let (say, mut packets) = mpsc::channel(8);
        let (out, hear) = mpsc::channel(8);
        let doors = doors.clone();
        let served = tokio::spawn(async move {
            let incoming = stream::poll_fn(move |context| packets.poll_recv(context));
            doors.serve(incoming, PollSender::new(out)).await
        });
        Self { say, hear, served }
    }

    async fn dial(doors: &Doors, token: &str) -> Self {
        let driver = Self::knock(doors);
        let hello = json!({ "protocol": 1, "driver": "t", "channel": "signal", "token": token });
        driver.say("connect", "c", hello).await;
        driver
    }

    async fn say(&self, kind: &str, id: &str, payload: Value) {
        let frame = json!({ "type": kind, "id": id, "timestamp": 1, "payload": payload });
        self.say.send(Packet::Text(frame.to_string())).await.unwrap();
    }

    async fn hear(&mut self) -> Value {
        match self.hear.recv().await {
            Some(Packet::Text(text)) => serde_json::from_str(&text).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    async fn message(&self) {
        let payload =
            json!({ "channel": { "kind": "direct", "id": "c" }, "sender": { "id": "u" }, "content": "hi" });
        self.say("message_in", "m", payload).await;
    }
}

/// accepts: B15, B19
#[tokio::test(start_paused = true)]
async fn a_driver_comes_in_and_talks() {
    let mut account = Account::wait().await;
    let mut driver = Driver::dial(&account.doors, "right").await;
    assert_eq!(driver.hear().await["type"], "connected");
    driver.message().await;
    let Some(Heard::Message(envelope, durable)) = account.heard.recv().await else { panic!() };
    assert_eq!(envelope.text, "hi");
    durable.send(()).unwrap();
    assert_eq!(driver.hear().await["type"], "message_ack");
    let wrong = Driver::dial(&account.doors, "wrong").await;
    let close = wrong.served.await.unwrap();
    assert_eq!((close.code, close.reason.as_str()), (4001, "Unauthorized"));
    assert!(!driver.served.is_finished(), "who may not come in does not push out who has");
}

#[tokio::test(start_paused = true)]
async fn without_a_driver_orders_are_for_later_and_the_account_is_not_stuck() {
    let account = Account::wait().await;
    assert!(matches!(account.send().await, Err(SendError::Later { .. })));
    account.last.store(0, Relaxed);
    tokio::time::sleep(HEARTBEAT * 2).await;
    assert_eq!(account.last.load(Relaxed), 7);
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_goes_is_waited_for_again() {
    let mut account = Account::wait().await;
    for _ in 0..3 {
        let mut driver = Driver::dial(&account.doors, "right").await;
        assert_eq!(driver.hear().await["type"], "connected");
        let Driver { say, served, .. } = driver;
        drop(say);
        assert_eq!(served.await.unwrap().code, 1000);
        assert!(account.disconnected().await.contains("the driver has ended"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_stops_reading_is_left() {
    let mut account = Account::wait().await;
    let mut driver = Driver::dial(&account.doors, "right").await;
    assert_eq!(driver.hear().await["type"], "connected");
    // Eight acknowledgements find room on the way to it; the next one is what it does not read.
    for _ in 0..12 {
        driver.message().await;
        let Some(Heard::Message(_, durable)) = account.heard.recv().await else { panic!() };
        durable.send(()).unwrap();
    }
    let left = timeout(SILENCE * 3, driver.served).await.expect("it is left");
    assert_eq!(left.unwrap().code, 1012);
}

#[tokio::test(start_paused = true)]
async fn a_newer_driver_takes_the_place_of_an_older() {
    let mut account = Account::wait().await;
    let mut older = Driver::dial(&account.doors, "right").await;
    older.hear().await;
    let mut newer = Driver::dial(&account.doors, "right").await;
    assert_eq!(newer.hear().await["type"], "connected");
    assert_eq!(older.served.await.unwrap().code, 1012);
    newer.message().await;
    assert!(matches!(account.heard.recv().await, Some(Heard::Message(..))));
}

#[tokio::test(start_paused = true)]
async fn what_would_not_go_better_next_time_ends_the_account_and_closes_its_door() {
    let account = Account::wait().await;
    let mut driver = Driver::dial(&account.doors, "right").await;
    driver.hear().await;
    driver.say("channel_status", "1", json!({ "state": "failed", "reason": "banned" })).await;
    assert_eq!(account.running.await.unwrap(), Trouble::Fatal("banned".into()));
    assert_eq!(driver.served.await.unwrap().code, 1012);
    let late = Driver::dial(&account.doors, "right").await;
    assert_eq!(late.served.await.unwrap().code, 4001);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_say_who_it_is_is_not_waited_for() {
    let doors = Doors::default();
    let (_silent, mut packets) = mpsc::channel::<Packet>(1);
    let (out, _hear) = mpsc::channel(1);
    let incoming = stream::poll_fn(move |context| packets.poll_recv(context));
    let begin = tokio::time::Instant::now();
    assert_eq!(doors.serve(incoming, PollSender::new(out)).await.code, 4001);
    assert_eq!(begin.elapsed(), GREETING);
}

#[tokio::test(start_paused = true)]
async fn a_sealed_link_carries_everything_sealed() {
    let secret = |byte| StaticSecret::from([byte; 32]);
    let doors = Doors::new(LinkKey::new([2; 32]));
    let terms = Terms {
        client_id: "signal/default".into(),
        secret: AuthSecret::None,
        pinned: Some(PublicKey::from(&secret(1))),
        claims: Default::default(),
    };
    let (to_desk, mut heard) = mpsc::channel(64);
    let (_orders, mut to_channel) = mpsc::channel(64);
    let link = Link::new(to_desk, Arc::default(), Arc::new(|| 7), None);
    let door = doors.open(terms).unwrap();
    tokio::spawn(async move { door.serve(&link, &mut to_channel).await.map(drop) });
    let mut driver = Driver::knock(&doors);
    let key = encoded(&PublicKey::from(&secret(3)));
    driver.say("seal", "s", json!({ "protocol": 1, "channel": "signal", "key": key })).await;
    let theirs = driver.hear().await["payload"]["key"].as_str().and_then(public_key).unwrap();
    let gateway = PublicKey::from(&secret(2));
    let mut caller = call(&secret(1), &secret(3), &gateway, &theirs, "signal/default");
    let hello = json!({ "protocol": 1, "driver": "t", "channel": "signal" });
    let status = json!({ "state": "connected" });
    for (kind, payload) in [("connect", hello), ("channel_status", status)] {
        let frame = json!({ "type": kind, "id": "1", "timestamp": 1, "payload": payload }).to_string();
        driver.say.send(Packet::Binary(caller.sealer.seal(&frame).unwrap())).await.unwrap();
    }
    let Some(Packet::Binary(welcome)) = driver.hear.recv().await else { panic!("it is sealed") };
    assert!(caller.opener.open(&welcome).unwrap().contains("connected"));
    assert!(matches!(heard.recv().await, Some(Heard::Disconnected(_))));
    assert!(matches!(heard.recv().await, Some(Heard::Connected(None))));
    driver.say.send(Packet::Binary(vec![0; 40])).await.unwrap();
    assert_eq!(driver.served.await.unwrap().code, 4001, "somebody else has said that");
}

#[test]
fn a_door_that_is_replaced_stays_open_and_sealing_needs_a_key() {
    let terms = |pinned| Terms {
        client_id: "signal/default".into(),
        secret: AuthSecret::None,
        pinned,
        claims: Default::default(),
    };
    let doors = Doors::default();
    let older = doors.open(terms(None)).unwrap();
    let newer = doors.open(terms(None)).unwrap();
    drop(older);
    assert!(doors.0.plates.lock().contains_key("signal/default"));
    drop(newer);
    assert!(doors.0.plates.lock().is_empty());
    let key = public_key(&LinkKey::new([1; 32]).public());
    assert!(doors.open(terms(key)).err().unwrap().contains("has no key"));
}

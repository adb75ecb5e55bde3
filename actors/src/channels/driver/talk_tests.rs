use super::*;
use crate::channels::contract::{Address, Attachment, Button, Kind, Outgoing as Message, SendError, Sent};
use crate::settings::AuthSecret;
use futures_util::stream;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::PollSender;

/// A driver in the test's hand, and the gateway's side of it.
struct Rig {
    to_gateway: mpsc::Sender<Line>,
    from_gateway: mpsc::Receiver<String>,
    heard: mpsc::Receiver<Heard>,
    orders: mpsc::Sender<Order>,
    last: Arc<AtomicI64>,
    running: JoinHandle<Trouble>,
}

impl Rig {
    /// A connected driver whose pipe takes this many frames.
    async fn new(room: usize) -> Self {
        Self::able(room, json!({ "typing": true, "reactions": true })).await
    }

    /// One that can do this.
    async fn able(room: usize, capabilities: Value) -> Self {
        let (to_gateway, mut lines) = mpsc::channel(64);
        let (frames, from_gateway) = mpsc::channel(room);
        let (to_desk, heard) = mpsc::channel(64);
        let (orders, mut to_channel) = mpsc::channel(64);
        let last = Arc::new(AtomicI64::new(0));
        let link = Link::new(to_desk, last.clone(), Arc::new(|| 7), None);
        let incoming = stream::poll_fn(move |context| lines.poll_recv(context)).boxed();
        let outgoing = Box::pin(PollSender::new(frames).sink_map_err(io::Error::other));
        let running = tokio::spawn(async move {
            let mut wire = Wire { incoming, outgoing };
            let mut session = Session::new("x/default".into(), AuthSecret::None, Default::default(), || 5);
            match wire.greet(&mut session).await {
                Ok(()) => wire.talk(session, &link, &mut to_channel).await,
                Err(trouble) => trouble,
            }
        });
        let mut rig = Self { to_gateway, from_gateway, heard, orders, last, running };
        let connect = json!({ "protocol": 1, "driver": "test", "capabilities": capabilities });
        rig.say("connect", "c", connect).await;
        assert_eq!(rig.hear().await["type"], "connected");
        rig
    }

    async fn say(&self, kind: &str, id: &str, payload: Value) {
        let frame = json!({ "type": kind, "id": id, "timestamp": 1, "payload": payload });
        self.to_gateway.send(Line::Frame(frame.to_string())).await.unwrap();
    }

    async fn hear(&mut self) -> Value {
        serde_json::from_str(&self.from_gateway.recv().await.unwrap()).unwrap()
    }

    async fn message(&self, id: &str) {
        let payload =
            json!({ "channel": { "kind": "direct", "id": "c" }, "sender": { "id": "u" }, "content": "hi" });
        self.say("message_in", id, payload).await;
    }

    async fn order(&self, id: &str) -> oneshot::Receiver<Result<Sent, SendError>> {
        let (done, sent) = oneshot::channel();
        let to = Address { chat_type: Kind::Direct, chat: "c".into(), thread: None };
        let message = Message {
            id: id.into(),
            to,
            text: "hello".into(),
            reply_to: None,
            edits: None,
            buttons: vec![],
            attachments: vec![],
        };
        self.orders.send(Order::Send(Box::new(message), done)).await.unwrap();
        sent
    }
}

/// accepts: C16
#[tokio::test(start_paused = true)]
async fn both_say_that_they_live_and_silence_of_two_heartbeats_is_the_end() {
    let mut rig = Rig::new(8).await;
    let begin = Instant::now();
    assert_eq!(rig.hear().await["type"], "heartbeat");
    assert_eq!(begin.elapsed(), Duration::from_secs(30));
    rig.say("heartbeat", "h", json!({})).await;
    assert_eq!(rig.hear().await["type"], "heartbeat");
    assert_eq!(rig.last.load(Relaxed), 7, "the account is alive");
    let ended = rig.running.await.unwrap();
    assert_eq!(ended, Trouble::Retry("nothing was heard of the driver for 60 s".into()));
    assert_eq!(begin.elapsed().as_secs(), 90, "60 s after its heartbeat");
}

/// accepts: B19
#[tokio::test(start_paused = true)]
async fn a_message_is_acknowledged_when_it_is_durable_and_not_before() {
    let mut rig = Rig::new(8).await;
    rig.message("m1").await;
    let Some(Heard::Message(envelope, durable)) = rig.heard.recv().await else { panic!() };
    assert_eq!(envelope.id, "m1");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(rig.from_gateway.try_recv().is_err(), "it is not durable yet");
    durable.send(()).unwrap();
    let ack = rig.hear().await;
    assert_eq!((&ack["type"], &ack["payload"]), (&json!("message_ack"), &json!({ "id": "m1" })));
}

#[tokio::test(start_paused = true)]
async fn while_the_gateway_is_busy_a_driver_is_heard_as_long_as_there_is_room_and_never_called_silent() {
    let mut rig = Rig::new(8).await;
    for n in 0..MAX_UNACKNOWLEDGED {
        rig.message(&n.to_string()).await;
    }
    let sent = rig.order("o1").await;
    rig.hear().await;
    rig.hear().await;
    rig.say("message_ack", "a", json!({ "id": "o1" })).await;
    assert!(sent.await.unwrap().is_ok(), "an answer passes what waits");
    for n in MAX_UNACKNOWLEDGED..MAX_UNACKNOWLEDGED + 8 {
        rig.message(&n.to_string()).await;
    }
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert!(!rig.running.is_finished());
    assert!(rig.to_gateway.capacity() < 64, "the rest waits where the driver has put it");
    tokio::spawn(async move { while rig.from_gateway.recv().await.is_some() {} });
    for n in 0..MAX_UNACKNOWLEDGED + 8 {
        let Some(Heard::Message(envelope, durable)) = rig.heard.recv().await else { panic!() };
        assert_eq!(envelope.id, n.to_string(), "they come in order");
        durable.send(()).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn large_messages_take_more_of_the_room() {
    let rig = Rig::new(8).await;
    let file = "A".repeat(1 << 20);
    for n in 0..20 {
        let id = n.to_string();
        let sent = tokio::time::timeout(Duration::from_secs(1), async {
            for _ in 0..12 {
                let block = json!({ "id": id, "block_id": "1", "block_type": "file", "content": file });
                rig.say("stream_block", "b", block).await;
            }
            rig.message(&id).await;
        });
        if sent.await.is_err() {
            assert!(n > 3, "9 MiB each: three have room, and 64 lines are on their way; this is {n}");
            return;
        }
    }
    panic!("it is heard on and on");
}

/// accepts: B19
#[tokio::test(start_paused = true)]
async fn a_reply_is_blocks_and_an_end_and_is_sent_when_the_driver_says_so() {
    let mut rig = Rig::new(8).await;
    let sent = rig.order("o1").await;
    let block = rig.hear().await;
    assert_eq!(
        (&block["type"], &block["payload"]),
        (
            &json!("stream_block"),
            &json!({ "id": "o1", "block_id": "text", "block_type": "text", "content": "hello" })
        )
    );
    let end = rig.hear().await;
    assert_eq!((&end["type"], &end["id"]), (&json!("stream_end"), &json!("o1")));
    assert_eq!(end["payload"], json!({ "id": "o1", "channel": { "kind": "direct", "id": "c" } }));
    rig.say("message_ack", "a", json!({ "id": "o1", "platform_id": "p1" })).await;
    assert_eq!(sent.await.unwrap(), Ok(Sent { id: "p1".into() }));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_answered_within_a_minute_is_not_known() {
    let mut rig = Rig::new(8).await;
    let begin = Instant::now();
    let mut sent = rig.order("o1").await;
    let answer = loop {
        rig.say("heartbeat", "h", json!({})).await;
        tokio::select! {
            answer = &mut sent => break answer.unwrap(),
            _ = rig.hear() => {}
        }
    };
    let Err(SendError::Unknown(why)) = answer else { panic!("{answer:?}") };
    assert!(why.contains("60 s"), "{why}");
    assert!((60..=62).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
    rig.say("message_ack", "a", json!({ "id": "o1" })).await;
    rig.message("m").await;
    assert!(matches!(rig.heard.recv().await, Some(Heard::Message(..))), "a late answer does no harm");
}

#[tokio::test(start_paused = true)]
async fn when_a_driver_ends_what_it_may_have_heard_is_not_known_and_the_rest_is_for_later() {
    let mut rig = Rig::new(1).await;
    let heard_of = rig.order("o1").await;
    assert_eq!(rig.hear().await["type"], "stream_block");
    assert_eq!(rig.hear().await["type"], "stream_end");
    let not_heard_of = rig.order("o2").await;
    // The block of the second fills the pipe; its end waits behind it.
    tokio::time::sleep(Duration::from_millis(10)).await;
    let one_more = rig.order("o3").await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    rig.to_gateway.send(Line::Ended("gone".into())).await.unwrap();
    assert_eq!(rig.running.await.unwrap(), Trouble::Retry("gone".into()));
    assert!(matches!(heard_of.await.unwrap(), Err(SendError::Unknown(_))));
    assert!(matches!(one_more.await.unwrap(), Err(SendError::Later { .. })));
    // Its end may have been half written.
    assert!(matches!(not_heard_of.await.unwrap(), Err(SendError::Unknown(_))));
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_does_not_read_is_done_with() {
    let rig = Rig::new(1).await;
    let begin = Instant::now();
    let _sent = rig.order("o1").await;
    let alive = rig.to_gateway.clone();
    tokio::spawn(async move {
        loop {
            let frame = json!({ "type": "heartbeat", "id": "h", "timestamp": 1, "payload": {} }).to_string();
            if alive.send(Line::Frame(frame)).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_secs(20)).await;
        }
    });
    let ended = rig.running.await.unwrap();
    assert_eq!(ended, Trouble::Retry("the driver has not read anything for 60 s".into()));
    assert!((60..65).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn how_it_stands_with_its_platform_is_told() {
    let mut rig = Rig::new(8).await;
    rig.say("channel_status", "1", json!({ "state": "login", "qr": "2@abc" })).await;
    assert!(matches!(rig.heard.recv().await, Some(Heard::Qr(Some(code))) if code == "2@abc"));
    rig.say("channel_status", "2", json!({ "state": "connected", "me": { "id": "me" } })).await;
    assert!(matches!(rig.heard.recv().await, Some(Heard::Qr(None))), "it is not needed any more");
    assert!(matches!(rig.heard.recv().await, Some(Heard::Connected(Some(me))) if me.id == "me"));
    rig.say("channel_status", "3", json!({ "state": "disconnected", "reason": "lost" })).await;
    assert!(matches!(rig.heard.recv().await, Some(Heard::Disconnected(why)) if why == "lost"));
    rig.say("channel_status", "4", json!({ "state": "failed", "reason": "logged out" })).await;
    assert_eq!(rig.running.await.unwrap(), Trouble::Fatal("logged out".into()));
}

#[tokio::test(start_paused = true)]
async fn who_writes_is_shown_both_ways_and_reactions_are_answered() {
    let mut rig = Rig::new(8).await;
    let chat = json!({ "kind": "direct", "id": "c" });
    rig.say("presence", "1", json!({ "channel": chat, "sender": { "id": "u" }, "state": "typing" })).await;
    assert!(matches!(rig.heard.recv().await, Some(Heard::Typing { from, .. }) if from.id == "u"));
    let at = Address { chat_type: Kind::Direct, chat: "c".into(), thread: None };
    rig.orders.send(Order::Typing(at.clone())).await.unwrap();
    let shown = rig.hear().await;
    assert_eq!(
        (&shown["type"], &shown["payload"]),
        (&json!("presence"), &json!({ "channel": chat, "state": "typing" }))
    );
    let (done, reacted) = oneshot::channel();
    let order = Order::React { at, message: "m".into(), emoji: "👍".into(), done };
    rig.orders.send(order).await.unwrap();
    let told = rig.hear().await;
    assert_eq!(told["payload"], json!({ "channel": chat, "message_id": "m", "emoji": "👍" }));
    rig.say("error", "2", json!({ "id": told["id"], "code": "refused", "message": "no" })).await;
    assert_eq!(reacted.await.unwrap(), Err(SendError::Refused("no".into())));
}

#[tokio::test(start_paused = true)]
async fn what_was_skipped_is_told_and_the_rest_is_heard() {
    let mut rig = Rig::new(8).await;
    rig.to_gateway.send(Line::Skipped("a line of more than 1 MiB was skipped")).await.unwrap();
    assert_eq!(rig.hear().await["payload"]["code"], "invalid");
    rig.message("m").await;
    assert!(matches!(rig.heard.recv().await, Some(Heard::Message(..))));
}

#[tokio::test(start_paused = true)]
async fn a_driver_is_told_nothing_that_it_cannot_do() {
    let mut rig = Rig::able(8, json!({})).await;
    let at = Address { chat_type: Kind::Direct, chat: "c".into(), thread: None };
    rig.orders.send(Order::Typing(at.clone())).await.unwrap();
    let (done, reacted) = oneshot::channel();
    let order = Order::React { at: at.clone(), message: "m".into(), emoji: "👍".into(), done };
    rig.orders.send(order).await.unwrap();
    assert_eq!(reacted.await.unwrap(), Err(SendError::Refused("the driver cannot react".into())));
    let file = Attachment { mime_type: "text/plain".into(), file_name: None, bytes: b"x".into() };
    let button = Button { label: "Yes".into(), says: "yes".into() };
    let plain = Message {
        id: "plain".into(),
        to: at,
        text: "hello".into(),
        reply_to: None,
        edits: None,
        buttons: vec![],
        attachments: vec![],
    };
    for (message, what) in [
        (Message { edits: Some("m".into()), ..plain.clone() }, "the driver cannot change messages"),
        (Message { attachments: vec![file], ..plain.clone() }, "the driver cannot send files"),
    ] {
        let (done, sent) = oneshot::channel();
        rig.orders.send(Order::Send(Box::new(message), done)).await.unwrap();
        assert_eq!(sent.await.unwrap(), Err(SendError::Refused(what.into())));
    }
    // A text says what its buttons would.
    let (done, _sent) = oneshot::channel();
    let message = Message { buttons: vec![button], ..plain };
    rig.orders.send(Order::Send(Box::new(message), done)).await.unwrap();
    let (block, end) = (rig.hear().await, rig.hear().await);
    assert_eq!((&block["type"], &end["type"]), (&json!("stream_block"), &json!("stream_end")));
    assert!(end["payload"].get("buttons").is_none_or(|buttons| *buttons == json!([])), "{end}");
}

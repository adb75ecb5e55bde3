//! Drivers that are child processes, alone: a desk stands for the gateway.

mod able;
mod script;
mod whatsapp;

use crate::fakes::desk::{Desk, direct, group};
use crabtree_actors::channels::contract::{
    Attachment, Button, Channel, Heard, Order, Outgoing, SendError, Trouble,
};
use crabtree_actors::channels::driver::{Doors, Driver};
use crabtree_actors::process::Guard;
use script::{ANSWER, HANDS_IN, script};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

fn driver(settings: &Value) -> Arc<dyn Channel> {
    Arc::new(Driver::new("test", settings, guard(), Doors::default()).unwrap())
}

pub fn guard() -> Guard {
    Guard::at(env!("CARGO_BIN_EXE_crabtree"))
}

/// Runs a driver of which the configuration says this.
fn open(settings: Value) -> Desk {
    Desk::open(driver(&settings), settings)
}

fn outgoing(id: &str, text: &str) -> Outgoing {
    Outgoing {
        id: id.into(),
        to: group("g"),
        text: text.into(),
        reply_to: None,
        edits: None,
        buttons: vec![],
        attachments: vec![],
    }
}

async fn dial(socket: &Path) -> UnixStream {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match UnixStream::connect(socket).await {
            Ok(stream) => return stream,
            Err(e) => assert!(Instant::now() < deadline, "{e}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// accepts: B19, B20, B21
#[tokio::test]
async fn the_driver_that_is_shown_hands_in_and_carries_out() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("chat.sock");
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/drivers/echo.py");
    let mut desk = open(json!({ "driver": { "command": "python3", "args": [program, &socket] } }));
    assert!(matches!(desk.next(|news| matches!(news, Heard::Connected(_))).await, Heard::Connected(None)));
    let mut ann = BufReader::new(dial(&socket).await);
    ann.write_all("ann\nhällo\n".as_bytes()).await.unwrap();
    let message = desk.message().await;
    assert_eq!(
        (message.at, message.from.id.as_str(), message.text.as_str()),
        (direct("ann"), "ann", "hällo")
    );
    let sent = desk.send(direct("ann"), "good day").await.unwrap();
    assert!(!sent.id.is_empty());
    let mut line = String::new();
    ann.read_line(&mut line).await.unwrap();
    assert_eq!(line, "good day\n");
    let gone = desk.send(direct("bo"), "anybody?").await;
    assert_eq!(gone, Err(SendError::Refused("nobody of that name is here".into())));
}

/// accepts: B19
#[tokio::test]
async fn a_driver_hears_of_its_message_when_that_is_durable_and_not_before() {
    let mut desk = open(script(HANDS_IN));
    let (message, durable) = desk.unacknowledged().await;
    assert_eq!((message.id.as_str(), message.text.as_str()), ("m1", "first"));
    desk.hears_no_message(Duration::from_millis(300)).await;
    durable.send(()).unwrap();
    assert_eq!(desk.message().await.text, "message_ack m1");
}

#[tokio::test]
async fn what_a_driver_answers_becomes_of_a_message() {
    let desk = open(script(ANSWER));
    assert_eq!(desk.send(group("g"), "ack").await.unwrap().id, "p");
    assert_eq!(desk.send(group("g"), "refused").await, Err(SendError::Refused("so it is".into())));
    assert_eq!(desk.send(group("g"), "unknown").await, Err(SendError::Unknown("so it is".into())));
    let after = Some(Duration::from_millis(1500));
    let later = SendError::Later { why: "so it is".into(), after };
    assert_eq!(desk.send(group("g"), "later").await, Err(later));
    let lost = desk.send(group("g"), "exit").await;
    assert!(matches!(lost, Err(SendError::Unknown(_))), "{lost:?}");
    let Trouble::Retry(why) = desk.ended().await else { panic!() };
    assert!(why.contains("it ended with code 7"), "{why}");
}

#[tokio::test]
async fn everything_of_a_message_arrives_and_files_go_both_ways() {
    let mut settings = script(
        "
kept = []
for frame in frames():
    if frame['type'] == 'stream_block' and frame['payload']['block_type'] == 'file':
        kept.append(frame['payload'])
    if frame['type'] == 'stream_end':
        for block in kept:
            say('stream_block', dict(block, id='back'))
        say('message_in', message(json.dumps(frame['payload'], sort_keys=True)), 'back')
        say('message_ack', {'id': frame['id'], 'platform_id': 'p'})
",
    );
    settings["driver"]["capabilities"] = json!({ "files": true, "buttons": true });
    let mut desk = open(settings);
    let large: Vec<u8> = (0..1_300_000_u32).map(|n| (n % 251) as u8).collect();
    let file = |name: &str, bytes: &[u8]| Attachment {
        mime_type: "image/png".into(),
        file_name: Some(name.into()),
        bytes: bytes.into(),
    };
    let files = vec![file("large.png", &large), file("empty.png", b""), file("small.png", b"abc")];
    let sent = desk.order(Outgoing {
        reply_to: Some("r".into()),
        edits: Some("e".into()),
        buttons: vec![Button { label: "Yes".into(), says: "/yes".into() }],
        attachments: files.clone(),
        ..outgoing("o1", "look")
    });
    assert_eq!(sent.await.unwrap().id, "p");
    let back = desk.message().await;
    assert_eq!(back.attachments, files);
    assert_eq!(
        serde_json::from_str::<Value>(&back.text).unwrap(),
        json!({
            "id": "o1", "channel": { "kind": "group", "id": "g" }, "reply_to": "r", "edits": "e",
            "buttons": [{ "label": "Yes", "says": "/yes" }],
        })
    );
    let heavy = Outgoing { attachments: vec![file("x", &vec![0; (16 << 20) + 1])], ..outgoing("o2", "") };
    assert!(matches!(desk.order(heavy).await, Err(SendError::Refused(why)) if why.contains("16 MiB")));
}

#[tokio::test]
async fn a_line_that_is_too_long_or_no_frame_is_told_and_the_rest_is_heard() {
    let mut desk = open(script(
        "
print('x' * (2 << 20), flush=True)
print('no json', flush=True)
sys.stdout.buffer.write(b'\\xff\\n')
for frame in frames():
    if frame['type'] == 'error':
        say('message_in', message(frame['payload']['message']))
",
    ));
    let texts = [desk.message().await.text, desk.message().await.text, desk.message().await.text];
    assert_eq!(texts[0], "a line of more than 1 MiB was skipped");
    assert!(texts[1].contains("expected"), "{}", texts[1]);
    assert_eq!(texts[2], "a line that is not UTF-8 was skipped");
}

#[tokio::test]
async fn a_driver_has_its_arguments_its_environment_and_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings =
        script("say('message_in', message(os.environ['A'] + ' ' + os.getcwd()))\nlist(frames())");
    settings["driver"]["env"] = json!({ "A": "b" });
    settings["driver"]["cwd"] = json!(dir.path());
    let expected = format!("b {}", dir.path().canonicalize().unwrap().display());
    assert_eq!(open(settings).message().await.text, expected);
}

#[tokio::test]
async fn a_driver_that_does_not_come_up_says_why() {
    for (command, args, told) in [
        ("sh", vec!["-c", "echo no such module >&2; exit 3"], "it ended with code 3, saying: no such module"),
        ("sh", vec!["-c", "kill -9 $$"], "it was ended by SIGKILL"),
        ("no-such-driver-here", vec![], "no-such-driver-here cannot be started"),
    ] {
        let Trouble::Retry(why) =
            open(json!({ "driver": { "command": command, "args": args } })).ended().await
        else {
            panic!("{command}")
        };
        assert!(why.contains(told), "{why}");
    }
}

#[tokio::test]
async fn a_driver_that_cannot_do_what_is_configured_is_not_tried_again() {
    let mut settings = script("list(frames())");
    settings["driver"]["capabilities"] = json!({ "reactions": true, "textLimit": 100_000 });
    let channel = Driver::new("test", &settings, guard(), Doors::default());
    assert!(channel.err().unwrap().contains("textLimit is not within 1 and 65536"));
    settings["driver"]["capabilities"]["textLimit"] = json!(9000);
    let Trouble::Fatal(why) = open(settings).ended().await else { panic!() };
    assert!(
        why.contains("textLimit is 9000, and the driver takes 4000 at most")
            && why.contains("change channels.test.driver.capabilities"),
        "{why}"
    );
}

#[tokio::test]
async fn what_is_missing_in_the_settings_is_named() {
    let account =
        |settings: Value| crabtree_actors::channels::contract::Account { id: "default".into(), settings };
    let channel = driver(&json!({ "driver": {} }));
    for (settings, told) in [
        (json!({}), "channels.test.driver is missing"),
        (json!({ "driver": {} }), "channels.test.driver.command is missing"),
        (json!({ "driver": { "command": " " } }), "channels.test.driver.command is missing"),
        (json!({ "driver": { "command": 7 } }), "channels.test.driver cannot be read"),
    ] {
        let why = channel.check(&account(settings)).unwrap_err();
        assert!(why.starts_with(told), "{why}");
    }
}

#[tokio::test]
async fn an_account_that_is_stopped_takes_its_driver_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let mark = dir.path().join("pid");
    let mut settings = script(
        "open(os.environ['MARK'], 'w').write(str(os.getpid()))\nsay('message_in', message('up'))\nlist(frames())\nimport time\ntime.sleep(1000)",
    );
    settings["driver"]["env"] = json!({ "MARK": &mark });
    let mut desk = open(settings);
    desk.message().await;
    let pid: i32 = std::fs::read_to_string(&mark).unwrap().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    desk.give(Order::Typing(direct("c"))).await;
    desk.kill();
    let deadline = Instant::now() + Duration::from_secs(5);
    while rustix::process::test_kill_process(pid).is_ok() {
        assert!(Instant::now() < deadline, "it is still there");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

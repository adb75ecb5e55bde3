//! Updates that are brought.

use super::{QUIET, meanwhile, open};
use crate::fakes::desk::Desk;
use crate::fakes::telegram::{Fault, Telegram, brings, free_port, update};
use crabtree_actors::channels::contract::{Heard, Trouble};
use crabtree_actors::channels::telegram::telegram;
use serde_json::{Value, json};
use tokio::time::timeout;

const SECRET: &str = "long-and_secret";
const PATH: &str = "/telegram-webhook";

fn settings(fake: &Telegram, port: u16) -> Value {
    let mut settings = fake.settings();
    settings["webhookUrl"] = "https://bot.example/tg".into();
    settings["webhookSecret"] = SECRET.into();
    settings["webhookPort"] = port.into();
    settings
}

/// One that has told Telegram where it listens, and that port.
async fn listening(fake: &Telegram) -> (Desk, u16) {
    let port = free_port();
    let mut desk = Desk::open(telegram(), settings(fake, port));
    desk.next(|news| matches!(news, Heard::Connected(_))).await;
    (desk, port)
}

#[tokio::test]
async fn an_update_is_accepted_when_it_is_durable_and_not_before() {
    let fake = Telegram::start().await;
    let (mut desk, port) = listening(&fake).await;
    let told = fake.called("setWebhook").await;
    let expected = json!({
        "url": "https://bot.example/tg", "secret_token": SECRET, "max_connections": 1,
        "allowed_updates": ["message", "channel_post", "callback_query", "message_reaction"],
    });
    assert_eq!(told, expected);
    assert_eq!((fake.calls("deleteWebhook"), fake.calls("getUpdates")), (0, 0));
    let body = update(1, "hello");
    let mut first = Box::pin(brings(port, PATH, &[SECRET], &body));
    let (heard, durable) = tokio::select! {
        heard = desk.unacknowledged() => heard,
        early = &mut first => panic!("{early:?}"),
    };
    assert_eq!((heard.text.as_str(), heard.id.as_str()), ("hello", "42:1"));
    assert!(timeout(QUIET, &mut first).await.is_err(), "nobody knows yet whether it is durable");
    durable.send(()).unwrap();
    let accepted = first.await;
    assert_eq!(accepted.status, Some(200));
    assert!(accepted.said.contains("x-openclaw-delivery-accepted: durable"), "{accepted:?}");
    // The same once more is known.
    assert_eq!(meanwhile(&mut desk, brings(port, PATH, &[SECRET], &body)).await.status, Some(200));
    desk.hears_no_message(QUIET).await;
}

#[tokio::test]
async fn an_update_that_was_not_durable_is_not_accepted_and_comes_again() {
    let fake = Telegram::start().await;
    let (mut desk, port) = listening(&fake).await;
    let body = update(1, "hello");
    let brought = tokio::spawn({
        let body = body.clone();
        async move { brings(port, PATH, &[SECRET], &body).await }
    });
    let _lost = desk.unacknowledged().await;
    let checkpoint = desk.kill();
    assert_ne!(brought.await.unwrap().status, Some(200));
    let mut desk = Desk::resume(telegram(), settings(&fake, port), checkpoint);
    let again = tokio::spawn(async move { brings(port, PATH, &[SECRET], &body).await });
    assert_eq!(desk.message().await.text, "hello");
    assert_eq!(meanwhile(&mut desk, again).await.unwrap().status, Some(200));
}

#[tokio::test]
async fn who_does_not_know_the_secret_or_says_what_is_no_update_is_sent_away() {
    let fake = Telegram::start().await;
    let (mut desk, port) = listening(&fake).await;
    let body = update(1, "hello");
    for secrets in [&[][..], &[""], &["long-and_secreT"], &["long-and_secret2"], &[SECRET, "other"]] {
        let refused = meanwhile(&mut desk, brings(port, PATH, secrets, &body)).await;
        assert_eq!(refused.status, Some(401), "{secrets:?}");
        assert!(!refused.said.contains("durable"));
    }
    let large = "x".repeat((1 << 20) + 1);
    for (path, body, status) in [
        ("/", &*body, 404),
        ("/telegram-webhook/", &body, 404),
        ("/healthz", "", 200),
        (PATH, "nonsense", 400),
        (PATH, "{\"message\":{}}", 400),
        (PATH, &large, 413),
    ] {
        let refused = meanwhile(&mut desk, brings(port, path, &[SECRET], body)).await;
        assert_eq!(refused.status, Some(status), "{path}");
        assert!(!refused.said.contains("durable"));
    }
    desk.hears_no_message(QUIET).await;
    // What cannot be read of an update is left out, as when it is fetched: it would come for ever.
    let unknown = json!({ "update_id": 2, "message": { "text": "no chat" } }).to_string();
    assert_eq!(meanwhile(&mut desk, brings(port, PATH, &[SECRET], &unknown)).await.status, Some(200));
}

#[tokio::test]
async fn who_fetches_again_takes_the_webhook_away() {
    let fake = Telegram::start().await;
    let (desk, _) = listening(&fake).await;
    let checkpoint = desk.kill();
    fake.text("hello");
    let mut desk = Desk::resume(telegram(), fake.settings(), checkpoint);
    assert_eq!(desk.message().await.text, "hello");
    assert_eq!(fake.calls("deleteWebhook"), 1);
}

#[tokio::test]
async fn what_is_wrong_with_the_webhook_is_said() {
    let fake = Telegram::start().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let trouble = Desk::open(telegram(), settings(&fake, port)).ended().await;
    assert!(matches!(&trouble, Trouble::Retry(why) if why.contains("webhookPort")), "{trouble:?}");
    let url = "Bad Request: bad webhook: An HTTPS URL must be provided for webhook";
    for (fault, is_fatal, word) in [
        (Fault::error(400, url), true, "webhookUrl"),
        (Fault::error(401, "Unauthorized"), true, "botToken"),
        (Fault::error(502, "Bad Gateway"), false, "Bad Gateway"),
    ] {
        fake.fail("setWebhook", fault);
        let trouble = Desk::open(telegram(), settings(&fake, free_port())).ended().await;
        assert_eq!(matches!(trouble, Trouble::Fatal(_)), is_fatal, "{trouble:?}");
        assert!(trouble.to_string().contains(word) && !trouble.to_string().contains(SECRET), "{trouble}");
    }
    let mut missing = settings(&fake, free_port());
    missing["webhookCertPath"] = "/no/such/cert.pem".into();
    let trouble = Desk::open(telegram(), missing).ended().await;
    assert!(matches!(&trouble, Trouble::Fatal(why) if why.contains("webhookCertPath")), "{trouble:?}");
}

#[tokio::test]
async fn a_certificate_of_ones_own_is_told() {
    let fake = Telegram::start().await;
    let cert = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(cert.path(), "-----BEGIN CERTIFICATE-----").unwrap();
    let mut own = settings(&fake, free_port());
    own["webhookCertPath"] = cert.path().to_str().unwrap().into();
    let mut desk = Desk::open(telegram(), own);
    desk.next(|news| matches!(news, Heard::Connected(_))).await;
    let told = fake.called("setWebhook").await;
    assert!(told["certificate"].to_string().contains("BEGIN CERTIFICATE"), "{told}");
    assert_eq!(told["secret_token"], SECRET);
    drop(open(&fake));
}

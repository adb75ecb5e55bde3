//! Guessing: many at a time, from behind a proxy, and on this machine. How long each kind of secret is closed after how
//! many failures the recordings `rate_limit_*` show, which are replayed elsewhere.

use super::arsenal::connect_of;
use super::proofs::{taken, verdict};
use crate::client::{Client, Intro, TOKEN, connect_params};
use crate::flood::tcp;
use crate::gateway::Embedded;
use crabtree_protocol::proof::DeviceKey;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};
use tokio_tungstenite::{MaybeTlsStream, client_async};

/// Unauthenticated sockets of one address, as many as there may be.
const SOCKETS: usize = 32;
/// Failures after which an address is locked out, by default.
const ATTEMPTS: usize = 10;

/// A socket from the `nth` address of this machine with these headers, or the status it is refused with.
pub async fn through(
    addr: SocketAddr,
    nth: Option<usize>,
    headers: &[(&str, &str)],
) -> Result<(Client, Value), u16> {
    let mut request = format!("ws://{addr}/").into_client_request().unwrap();
    for (name, value) in headers {
        let name = HeaderName::try_from(*name).unwrap();
        request.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
    }
    let stream = match nth {
        Some(nth) => tcp(addr, nth).await,
        None => TcpStream::connect(addr).await.unwrap(),
    };
    match client_async(request, MaybeTlsStream::Plain(stream)).await {
        Ok((ws, _)) => Ok(Client::over(ws).await),
        Err(tokio_tungstenite::tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
        Err(e) => panic!("{e}"),
    }
}

fn auth(secret: String) -> Value {
    json!({ "token": secret })
}

/// accepts: D7
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_guesses_at_a_time_are_no_more_than_the_sockets_of_an_address() {
    let config = json!({ "gateway": { "auth": { "rateLimit": { "exemptLoopback": false } } } });
    let gateway = Embedded::with(config).await;
    for (nth, device) in [(1, false), (2, true)] {
        // All of them have their challenge before the first of them guesses.
        let mut sockets = vec![];
        for _ in 0..SOCKETS {
            sockets.push(through(gateway.addr, Some(nth), &[]).await.unwrap());
        }
        let mut guesses = tokio::task::JoinSet::new();
        for (n, (mut client, challenge)) in sockets.into_iter().enumerate() {
            guesses.spawn(async move {
                let guess = auth(format!("guess {n}"));
                let key = DeviceKey::from_seed(&[n as u8 + 1; 32]);
                let params = match device {
                    true => connect_of(&key, guess, &taken(&challenge))["params"].clone(),
                    false => connect_params(&Intro { auth: guess, ..Intro::default() }, &challenge),
                };
                verdict(&client.response_to("connect", params).await)
            });
        }
        let mut told = BTreeMap::<String, usize>::new();
        for verdict in guesses.join_all().await {
            *told.entry(verdict).or_default() += 1;
        }
        let looked_at = told.get("AUTH_TOKEN_MISMATCH").copied().unwrap_or_default();
        assert!((ATTEMPTS..=SOCKETS).contains(&looked_at), "{told:?}");
        assert_eq!(
            looked_at + told.get("AUTH_RATE_LIMITED").copied().unwrap_or_default(),
            SOCKETS,
            "{told:?}"
        );
        // From now on nothing is looked at, the right secret among it; and only from there.
        for (from, expected) in [(nth, "AUTH_RATE_LIMITED"), (nth + 10, "ok")] {
            let (mut client, challenge) = through(gateway.addr, Some(from), &[]).await.unwrap();
            let answer = client.response_to("connect", connect_params(&Intro::default(), &challenge)).await;
            assert_eq!(verdict(&answer), expected);
        }
        let bearer = format!("Bearer {TOKEN}");
        let upgrade = through(gateway.addr, Some(nth), &[("authorization", &bearer)]).await;
        assert_eq!(upgrade.err(), Some(429));
    }
}

/// Whoever writes other addresses before its own is counted by the one that the proxy saw; and nobody is believed who is
/// no proxy.
/// accepts: D13
#[tokio::test]
async fn made_up_addresses_do_not_help_a_guesser() {
    let limits = json!({ "maxAttempts": 3 });
    let config = json!({ "gateway": { "auth": { "rateLimit": limits }, "trustedProxies": ["127.8.0.2"] } });
    let gateway = Embedded::with(config).await;
    let guess = async |forwarded: &str, secret: &str| {
        let headers = [("x-forwarded-for", forwarded)];
        let (mut client, challenge) = through(gateway.addr, Some(1), &headers).await?;
        let intro = Intro { auth: auth(secret.into()), ..Intro::default() };
        Ok::<_, u16>(verdict(&client.response_to("connect", connect_params(&intro, &challenge)).await))
    };
    for n in 0..3 {
        let forwarded = format!("198.51.100.{n}, 127.0.0.1, 203.0.113.7");
        assert_eq!(guess(&forwarded, "wrong").await.as_deref(), Ok("AUTH_TOKEN_MISMATCH"));
    }
    assert_eq!(guess("198.51.100.9, 203.0.113.7", TOKEN).await.as_deref(), Ok("AUTH_RATE_LIMITED"));
    assert_eq!(guess("203.0.113.8", TOKEN).await.as_deref(), Ok("ok"));
    for forwarded in ["127.0.0.1", "203.0.113.8, ::1", "203.0.113.8, [::ffff:127.0.0.1]:80", "unknown", ""] {
        assert_eq!(guess(forwarded, TOKEN).await, Err(403), "{forwarded}");
    }
    // Not the proxy, and not as if it were on this machine either.
    for name in ["x-forwarded-for", "x-real-ip", "forwarded", "x-forwarded-user", "tailscale-user-login"] {
        let refused = through(gateway.addr, Some(2), &[(name, "203.0.113.8")]).await;
        assert_eq!(refused.err(), Some(403), "{name}");
    }
    // A header that caps what is granted never adds to it.
    let headers = [("x-openclaw-scopes", "operator.admin,operator.read")];
    let (mut client, challenge) = through(gateway.addr, None, &headers).await.unwrap();
    let reader = Intro { scopes: vec!["operator.read"], ..Intro::default() };
    let hello = client.call("connect", connect_params(&reader, &challenge)).await;
    assert_eq!(hello["auth"]["scopes"], json!(["operator.read"]));
}

/// On this machine nobody is locked out; but who guesses side by side waits as long as one after the other.
/// accepts: D7
#[tokio::test]
async fn guesses_on_this_machine_wait_longer_and_longer() {
    let gateway = Embedded::start().await;
    let start = Instant::now();
    let mut guesses = tokio::task::JoinSet::new();
    for n in 0..4 {
        let addr = gateway.addr;
        guesses.spawn(async move {
            let intro = Intro { auth: auth(format!("guess {n}")), ..Intro::default() };
            let refused = Client::connect(addr, &intro).await.err().unwrap();
            assert_eq!(refused["details"]["code"], "AUTH_TOKEN_MISMATCH");
            start.elapsed()
        });
    }
    let mut waits = guesses.join_all().await;
    waits.sort();
    for (wait, least) in waits.iter().zip([250, 500, 1_000, 2_000]) {
        assert!(*wait >= Duration::from_millis(least), "{waits:?}");
    }
    // The owner is let in meanwhile, and is believed again.
    Client::admin(gateway.addr).await;
}

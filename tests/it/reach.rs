//! The gateway as it is reached from elsewhere: over TLS, and through Tailscale.

mod tailscale;

use crate::client::TOKEN;
use crate::gateway::{Embedded, Process};
use crate::plain_http::{Answer, ask};
use crabtree_actors::tls::{Fingerprint, pinned_config};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;

/// Much longer than anything takes here.
const PATIENCE: Duration = Duration::from_secs(15);

async fn sealed(more: Value) -> Embedded {
    let mut gateway = json!({ "tls": { "enabled": true } });
    gateway.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Embedded::with(json!({ "gateway": gateway })).await
}

fn own(gateway: &Embedded) -> Fingerprint {
    gateway.gateway.certificate().unwrap().fingerprint
}

async fn tls(addr: SocketAddr, pin: Fingerprint) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(addr).await?;
    let connector = TlsConnector::from(Arc::new(pinned_config(pin).unwrap()));
    let name = ServerName::try_from("127.0.0.1").unwrap();
    connector.connect(name, stream).await
}

/// The head of the answer on a connection that stays.
async fn head(stream: &mut TlsStream<TcpStream>, path: &str) -> String {
    stream.write_all(format!("HEAD {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        assert!(stream.read_buf(&mut head).await.unwrap() > 0, "it is closed");
    }
    String::from_utf8(head).unwrap().to_ascii_lowercase()
}

/// Our own command line, with a state directory of its own unless it is the gateway's.
async fn crabtree(state: &Path, arguments: &[&str]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_crabtree"));
    program.args(arguments).arg("--state-dir").arg(state).env_remove("OPENCLAW_GATEWAY_TOKEN");
    tokio::task::spawn_blocking(move || program.output().unwrap()).await.unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// accepts: J8
#[tokio::test]
async fn clients_that_know_the_certificate_get_in_over_tls_and_those_that_expect_another_do_not() {
    let gateway = sealed(json!({})).await;
    let (url, pin) = (format!("wss://{}", gateway.addr), own(&gateway).to_string());
    assert_eq!(gateway.gateway.url(), url);
    let elsewhere = tempfile::tempdir().unwrap();
    let call = |url: &str, pin: Option<&str>, state: &Path| {
        let mut words = vec!["health", "--json", "--url", url, "--token", TOKEN];
        words.extend(pin.into_iter().flat_map(|pin| ["--tls-fingerprint", pin]));
        let (words, state) = (words.into_iter().map(str::to_owned).collect::<Vec<_>>(), state.to_owned());
        async move { crabtree(&state, &words.iter().map(String::as_str).collect::<Vec<_>>()).await }
    };
    let known = call(&url, Some(&pin), elsewhere.path()).await;
    let health: Value = serde_json::from_slice(&known.stdout).unwrap_or_else(|_| panic!("{}", said(&known)));
    assert_eq!((&health["ok"], &health["reach"]["tls"]["fingerprint"]), (&json!(true), &json!(pin)));
    // The gateway's own machine knows it anyway.
    let here = call(&url, None, gateway.state.path()).await;
    assert!(here.status.success(), "{}", said(&here));
    let printed = crabtree(gateway.state.path(), &["tls", "fingerprint"]).await;
    assert_eq!(String::from_utf8_lossy(&printed.stdout).trim(), pin);

    let other = "0".repeat(64);
    let wrong = call(&url, Some(&other), elsewhere.path()).await;
    assert_eq!(wrong.status.code(), Some(69), "{}", said(&wrong));
    assert!(said(&wrong).contains(&pin) && said(&wrong).contains(&other), "{}", said(&wrong));
    let unknown = call(&url, None, elsewhere.path()).await;
    assert_eq!(unknown.status.code(), Some(69), "{}", said(&unknown));
    assert!(said(&unknown).contains("--tls-fingerprint"), "{}", said(&unknown));
    let plain = call(&url.replace("wss:", "ws:"), None, elsewhere.path()).await;
    assert_eq!(plain.status.code(), Some(69), "{}", said(&plain));
}

/// accepts: J8
#[tokio::test]
async fn pages_come_over_tls_and_who_speaks_plain_http_is_told() {
    let hsts = "max-age=300";
    let http = json!({ "securityHeaders": { "strictTransportSecurity": hsts } });
    let gateway = sealed(json!({ "http": http })).await;
    let mut stream = tls(gateway.addr, own(&gateway)).await.unwrap();
    for path in ["/health", "/", "/crabtree/main.js", "/nowhere"] {
        let head = head(&mut stream, path).await;
        assert!(head.contains(&format!("strict-transport-security: {hsts}")), "{path}: {head}");
    }
    let Answer { status, body, .. } = ask(gateway.addr, "GET", "/health", &[]).await;
    assert_eq!((status, body.contains("https://") && body.contains("wss://")), (400, true), "{body}");
    assert_eq!(
        tls(gateway.addr, Fingerprint::of(b"another")).await.err().map(|error| error.kind()),
        Some(std::io::ErrorKind::InvalidData)
    );
}

/// accepts: J8
#[tokio::test]
async fn a_health_check_knows_the_certificate() {
    let state = tempfile::tempdir().unwrap();
    std::fs::write(state.path().join("openclaw.json"), "{ gateway: { tls: { enabled: true } } }").unwrap();
    let gateway = Process::spawn(state.path());
    let deadline = Instant::now() + PATIENCE;
    loop {
        let asked = crabtree(state.path(), &["healthcheck"]).await;
        if asked.status.success() {
            break;
        }
        assert!(Instant::now() < deadline, "{}", said(&asked));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    gateway.kill();
}

/// accepts: J8
#[tokio::test]
async fn a_certificate_is_replaced_while_clients_stay() {
    let gateway = sealed(json!({})).await;
    let before = own(&gateway);
    let mut old = tls(gateway.addr, before).await.unwrap();
    let place = gateway.state.path().join("gateway/tls");
    let other = sealed(json!({})).await;
    let after = own(&other);
    for name in ["gateway-cert.pem", "gateway-key.pem"] {
        std::fs::copy(other.state.path().join("gateway/tls").join(name), place.join(name)).unwrap();
    }
    let deadline = Instant::now() + PATIENCE;
    while tls(gateway.addr, after).await.is_err() {
        assert!(Instant::now() < deadline, "the new certificate is not served");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(own(&gateway), after);
    assert!(
        head(&mut old, "/health").await.starts_with("http/1.1 200"),
        "the connection from before goes on"
    );
    assert!(tls(gateway.addr, before).await.is_err());
}

/// accepts: J8
#[tokio::test]
async fn handshakes_of_one_address_are_bounded() {
    let gateway = sealed(json!({ "maxPreauthConnectionsPerIp": 2 })).await;
    let idle =
        [TcpStream::connect(gateway.addr).await.unwrap(), TcpStream::connect(gateway.addr).await.unwrap()];
    let mut third = TcpStream::connect(gateway.addr).await.unwrap();
    let ended = timeout(PATIENCE, third.read(&mut [0])).await.expect("it is not kept waiting");
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    drop(idle);
    let deadline = Instant::now() + PATIENCE;
    while tls(gateway.addr, own(&gateway)).await.is_err() {
        assert!(Instant::now() < deadline, "the places are not free again");
    }
}

/// accepts: C5, J8
#[tokio::test]
async fn without_the_certificate_that_is_asked_for_the_gateway_does_not_start() {
    let state = tempfile::tempdir().unwrap();
    let missing = json!({ "gateway": { "port": 0, "tls": { "enabled": true, "autoGenerate": false } } });
    std::fs::write(state.path().join("openclaw.json"), missing.to_string()).unwrap();
    let run = crabtree(state.path(), &["run"]).await;
    assert_eq!(run.status.code(), Some(78), "{}", said(&run));
    assert!(said(&run).contains("gateway-cert.pem"), "{}", said(&run));
}

/// accepts: C19
#[tokio::test]
async fn tls_costs_nothing_where_it_is_not_asked_for() {
    let gateway = Embedded::with(json!({})).await;
    assert_eq!(ask(gateway.addr, "GET", "/health", &[]).await.status, 200);
    assert!(gateway.gateway.certificate().is_none() && !gateway.state.path().join("gateway").exists());
    let children: Vec<_> =
        gateway.gateway.root().children().iter().map(|node| node.name().to_string()).collect();
    assert!(!children.iter().any(|name| ["tailscale", "mdns"].contains(&name.as_str())), "{children:?}");
}

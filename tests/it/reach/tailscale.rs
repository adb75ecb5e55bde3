//! What Tailscale brings, with somebody in its place.

use super::{PATIENCE, crabtree, said};
use crate::client::{Client, TOKEN};
use crate::gateway::{Embedded, Process};
use crate::plain_http::ask;
use crabtree_actors::estate::Brought;
use crabtree_actors::tailscale::{Claim, Routes};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

const HOME: &str = "https://home.tail1.ts.net";

/// Tailscale as it is told to be.
#[derive(Default)]
struct Fake {
    asked: Mutex<Vec<(&'static str, u16)>>,
    fails: Mutex<Option<String>>,
    ends: Mutex<Option<oneshot::Sender<String>>>,
}

impl Routes for Fake {
    fn claim(&self, command: &'static str, port: u16) -> BoxFuture<'static, Result<Claim, String>> {
        self.asked.lock().push((command, port));
        let claim = match self.fails.lock().clone() {
            Some(why) => Err(why),
            None => {
                let (end, ended) = oneshot::channel();
                *self.ends.lock() = Some(end);
                let lost = async { ended.await.unwrap_or_else(|_| "gone".into()) };
                Ok(Claim { address: Some(HOME.into()), lost: Box::pin(lost) })
            }
        };
        Box::pin(async { claim })
    }
}

async fn with(fake: &Arc<Fake>, gateway: Value) -> Embedded {
    let brought = Brought { routes: Some(fake.clone()), ..Brought::default() };
    Embedded::with_brought(json!({ "gateway": gateway }), brought).await
}

/// Waits until health says so of Tailscale.
async fn stands(client: &mut Client, state: &str) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let health = client.call("health", json!({})).await;
        let found = health["reach"]["tailscale"].clone();
        if found["state"] == state {
            assert_eq!(health["ok"], true, "the gateway gets along without");
            return found;
        }
        assert!(Instant::now() < deadline, "{found}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// accepts: J9, J10
#[tokio::test]
async fn tailscale_brings_clients_by_a_door_of_their_own() {
    let fake = Arc::new(Fake::default());
    let gateway = with(&fake, json!({ "tailscale": { "mode": "serve" } })).await;
    let mut client = Client::admin(gateway.addr).await;
    let up = stands(&mut client, "up").await;
    assert_eq!((&up["mode"], &up["url"]), (&json!("serve"), &json!(HOME)));
    let (command, port) = fake.asked.lock()[0];
    assert!(command == "serve" && port != gateway.addr.port());
    let door = SocketAddr::from(([127, 0, 0, 1], port));
    let from = ("x-forwarded-for", "100.64.0.9");
    assert_eq!(ask(door, "GET", "/health", &[from]).await.status, 200);
    assert_eq!(ask(door, "GET", "/metrics", &[from]).await.status, 401, "it is not this machine");
    let bearer = format!("Bearer {TOKEN}");
    let knows = [from, ("authorization", bearer.as_str())];
    assert_eq!(ask(door, "GET", "/metrics", &knows).await.status, 200);
    assert_eq!(ask(door, "GET", "/health", &[]).await.status, 403, "nobody says who it is");
    assert_eq!(
        ask(gateway.addr, "GET", "/health", &[from]).await.status,
        403,
        "the front door believes nobody"
    );
    assert_eq!(ask(gateway.addr, "GET", "/metrics", &[]).await.status, 200);
}

/// accepts: J9
#[tokio::test]
async fn a_route_that_fails_or_is_lost_is_made_again_and_harms_nobody() {
    let fake = Arc::new(Fake::default());
    *fake.fails.lock() = Some("not logged in".into());
    let gateway = with(&fake, json!({ "tailscale": { "mode": "funnel" } })).await;
    let mut client = Client::admin(gateway.addr).await;
    assert_eq!(stands(&mut client, "down").await["reason"], "not logged in");
    *fake.fails.lock() = None;
    stands(&mut client, "up").await;
    let end = fake.ends.lock().take().unwrap();
    end.send("tailscale ended".into()).unwrap();
    assert_eq!(stands(&mut client, "down").await["reason"], "tailscale ended");
    stands(&mut client, "up").await;
    assert!(fake.asked.lock().iter().all(|(command, _)| *command == "funnel"));
}

/// accepts: J9, J11
#[tokio::test]
async fn a_door_that_is_there_does_not_lose_its_lock() {
    let fake = Arc::new(Fake::default());
    let gateway = with(&fake, json!({ "tailscale": { "mode": "serve" } })).await;
    let mut client = Client::admin(gateway.addr).await;
    let open = json!({ "gateway": { "tailscale": { "mode": "serve" }, "auth": { "mode": "none" } } });
    fs::write(gateway.state.path().join("openclaw.json"), open.to_string()).unwrap();
    gateway.gateway.reload();
    client.event(|event| event["event"] == "config.changed").await;
    assert_eq!(ask(gateway.addr, "GET", "/health?view=summary", &[("Host", "elsewhere")]).await.status, 401);
}

/// accepts: J9
#[tokio::test]
async fn a_funnel_without_a_password_is_not_opened() {
    let state = tempfile::tempdir().unwrap();
    let funnel = json!({ "gateway": { "port": 0, "tailscale": { "mode": "funnel" } } });
    fs::write(state.path().join("openclaw.json"), funnel.to_string()).unwrap();
    let run = crabtree(state.path(), &["run"]).await;
    assert_eq!(run.status.code(), Some(78), "{}", said(&run));
    assert!(said(&run).contains("gateway.auth.password"), "{}", said(&run));
}

/// A `tailscale` that says what it is told to do, and stays.
fn program(dir: &Path) {
    let script = format!(
        "#!/bin/sh\necho \"$@\" > '{0}/asked'\necho 'Available within your tailnet:'\necho '{HOME}/'\n\
         echo $$ > '{0}/pid.new'\nmv '{0}/pid.new' '{0}/pid'\nexec sleep 600\n",
        dir.display()
    );
    let path = dir.join("tailscale");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
}

/// accepts: J9
#[tokio::test]
async fn the_program_is_asked_and_ends_with_the_gateway_however_that_ends() {
    let (state, bin) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    program(bin.path());
    let serve = json!({ "gateway": { "tailscale": { "mode": "serve" } } });
    fs::write(state.path().join("openclaw.json"), serve.to_string()).unwrap();
    let path = format!("{}:{}", bin.path().display(), std::env::var("PATH").unwrap());
    let gateway = Process::with_env(state.path(), &[("PATH", &path)]).await;
    let mut client = Client::admin(gateway.addr).await;
    assert_eq!(stands(&mut client, "up").await["url"], HOME);
    let asked = fs::read_to_string(bin.path().join("asked")).unwrap();
    let port = asked.trim().strip_prefix("serve --yes --bg=false ").unwrap();
    assert!(port.parse::<u16>().is_ok_and(|port| port != gateway.addr.port()), "{asked}");
    let pid = async || loop {
        if let Ok(pid) = fs::read_to_string(bin.path().join("pid")) {
            return pid.trim().to_owned();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let pid = pid().await;
    gateway.kill();
    let deadline = Instant::now() + PATIENCE;
    while Path::new("/proc").join(&pid).join("exe").exists() {
        assert!(Instant::now() < deadline, "it goes on without the gateway");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

//! What systemd hears: a socket in its place.

use crate::client::Client;
use crate::gateway::Process;
use serde_json::json;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Nothing takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A gateway that systemd has started, as far as it can tell.
struct Service {
    gateway: Process,
    state: TempDir,
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Service {
    async fn start(watchdog: Duration) -> Self {
        Self::with_threads(watchdog, "2").await
    }

    /// With so many threads of its core.
    async fn with_threads(watchdog: Duration, threads: &str) -> Self {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let micros = watchdog.as_micros().to_string();
        let env = [
            ("NOTIFY_SOCKET", path.to_str().unwrap()),
            ("WATCHDOG_USEC", &*micros),
            ("TOKIO_WORKER_THREADS", threads),
        ];
        let gateway = Process::with_env(state.path(), &env).await;
        Self { gateway, state, socket, heard: Vec::new() }
    }

    /// What has come so far.
    fn listen(&mut self) {
        let mut buffer = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            self.heard.push(String::from_utf8(buffer[..length].to_vec()).unwrap());
        }
    }

    /// Listens until a message after the first `from` has this in it; where it is.
    async fn hears(&mut self, from: usize, what: &str) -> usize {
        let limit = Instant::now() + PATIENCE;
        loop {
            self.listen();
            if let Some(at) = self.heard.iter().skip(from).position(|message| message.contains(what)) {
                return from + at;
            }
            assert!(Instant::now() < limit, "{what} was not told: {:#?}", self.heard);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn until_there(path: &Path) {
    let limit = Instant::now() + PATIENCE;
    while !path.exists() {
        assert!(Instant::now() < limit, "{} did not come", path.display());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// accepts: K8
#[tokio::test]
async fn systemd_hears_of_every_phase_and_gives_turns_the_time_to_end() {
    let mut service = Service::start(Duration::from_secs(20)).await;
    let ready = service.hears(0, "READY=1\n").await;
    assert!(service.heard[0].contains("STATUS=starting"), "{:#?}", service.heard);
    assert!(service.heard[ready].contains(&format!("STATUS=serving on {}", service.gateway.addr)));

    service.gateway.signal("HUP");
    let reloading = service.hears(ready, "RELOADING=1\n").await;
    let micros = service.heard[reloading].lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
    assert!(micros.unwrap().parse::<u64>().unwrap() > 0);
    let again = service.hears(reloading, "READY=1\n").await;

    let mut client = Client::admin(service.gateway.addr).await;
    let command =
        "echo \"$NOTIFY_SOCKET$WATCHDOG_USEC\" > env; touch begun; until [ -e on ]; do sleep 0.02; done";
    let message = format!("/tool exec {}", json!({ "command": command }));
    client
        .call("chat.send", json!({ "sessionKey": "main", "message": message, "idempotencyKey": "k" }))
        .await;
    let workspace = service.state.path().join("workspace");
    until_there(&workspace.join("begun")).await;
    service.gateway.signal("TERM");
    let stopping = service.hears(again, "STOPPING=1\n").await;
    assert!(service.heard[stopping].contains("STATUS=draining: 1 turn under way"), "{:#?}", service.heard);
    assert!(service.heard[stopping].contains("EXTEND_TIMEOUT_USEC=60000000\n"), "{:#?}", service.heard);
    std::fs::write(workspace.join("on"), "").unwrap();
    assert_eq!(client.chat_end("k").await["state"], "final");
    assert_eq!(service.gateway.ended().code(), Some(0));
    let env = std::fs::read_to_string(workspace.join("env")).unwrap();
    assert_eq!(env, "\n", "what is told systemd is told by the gateway alone");
}

/// accepts: K8
#[tokio::test]
async fn the_watchdog_hears_twice_in_its_time_that_the_tree_lives() {
    let mut service = Service::start(Duration::from_secs(1)).await;
    let ready = service.hears(0, "READY=1\n").await;
    let began = Instant::now();
    let mut last = ready;
    for _ in 0..3 {
        last = service.hears(last + 1, "WATCHDOG=1\n").await;
    }
    // Three at half a second each; a busy machine may be late, a gateway that says it once in its time is far off.
    assert!(began.elapsed() < Duration::from_millis(2_500), "{:?}: {:#?}", began.elapsed(), service.heard);
}

/// The only thread of the core computes and comes to nothing else: silence, after which systemd would start it anew.
///
/// accepts: K8
#[tokio::test]
async fn the_watchdog_hears_nothing_of_a_core_that_hangs() {
    let mut service = Service::with_threads(Duration::from_secs(1), "1").await;
    let ready = service.hears(0, "READY=1\n").await;
    let mut last = service.hears(ready, "WATCHDOG=1\n").await;
    let mut client = Client::admin(service.gateway.addr).await;
    client.send("system.chaos", json!({ "path": "gateway/presence", "fault": "spin", "ms": 3_000 })).await;
    let limit = Instant::now() + PATIENCE;
    loop {
        let before = Instant::now();
        last = service.hears(last + 1, "WATCHDOG=1\n").await;
        if before.elapsed() >= Duration::from_secs(2) {
            return;
        }
        assert!(Instant::now() < limit, "it is said to live all the time: {:#?}", service.heard);
    }
}

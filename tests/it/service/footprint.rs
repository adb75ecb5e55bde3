//! The gateway lives in little memory, and under a limit of the kernel where one may be set.

#[path = "../../../examples/measured/limit.rs"]
mod limit;

use crate::client::{Client, Intro, TOKEN};
use crate::gateway::http_status;
use limit::Limit;
use serde_json::json;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What the program of this profile may use. Built for use 64 MiB are enough for a hundred clients and a thousand turns
/// (examples/footprint.rs); for tests its code is ten times as long, and slow when its pages have to be read again.
const LIMIT: u64 = if cfg!(debug_assertions) { 160 << 20 } else { 64 << 20 };
/// What of that is its own: the heap and the stacks, which are the same in all profiles.
const OWN: u64 = 40 << 20;
const CLIENTS: usize = 100;
/// Those of them that hear everything, and talk.
const TALKERS: usize = 10;
const TURNS_OF_EACH: usize = 5;

struct Held {
    gateway: Child,
    addr: SocketAddr,
    limit: Option<Limit>,
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.gateway.kill();
        let _ = self.gateway.wait();
    }
}

impl Held {
    async fn start(state: &std::path::Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(env!("CARGO_BIN_EXE_crabtree"));
        command.args(["run", "--log-level", "warn", "--port", &port.to_string()]);
        command.env("CRABTREE_STATE_DIR", state).env("OPENCLAW_GATEWAY_TOKEN", TOKEN);
        command.env("CRABTREE_PLUGINS__ENTRIES__OLLAMA__CONFIG__DISCOVERY__ENABLED", "false");
        let limit = Limit::of(LIMIT);
        let mut command = match &limit {
            Some(limit) => limit.around(&command),
            None => command,
        };
        let gateway = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut held = Self { gateway, addr: ([127, 0, 0, 1], port).into(), limit };
        let deadline = Instant::now() + Duration::from_secs(20);
        while http_status(held.addr, "/ready").await != Some(200) {
            assert!(Instant::now() < deadline && held.gateway.try_wait().unwrap().is_none());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        held
    }

    /// A figure of /proc/PID/status, in bytes.
    fn memory(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.gateway.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
    }
}

/// accepts: K8
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg(target_os = "linux")]
async fn a_hundred_clients_and_their_turns_fit_into_little_memory() {
    let state = tempfile::tempdir().unwrap();
    let held = Held::start(state.path()).await;
    let mut clients = Vec::new();
    for client in 0..CLIENTS {
        let scopes = if client < TALKERS { vec!["operator.admin"] } else { vec!["operator.pairing"] };
        clients.push(Client::connect(held.addr, &Intro { scopes, ..Intro::default() }).await.unwrap());
    }
    let silent = clients.split_off(TALKERS);
    let talking = clients.into_iter().enumerate().map(|(number, mut client)| {
        tokio::spawn(async move {
            for turn in 0..TURNS_OF_EACH {
                let key = format!("k{number}-{turn}");
                let said =
                    json!({ "sessionKey": format!("s{number}"), "message": "hello", "idempotencyKey": key });
                client.call("chat.send", said).await;
                assert_eq!(client.chat_end(&key).await["state"], "final");
            }
            client
        })
    });
    let mut own = 0;
    let mut done = Vec::new();
    for talk in talking.collect::<Vec<_>>() {
        done.push(talk.await.unwrap());
        own = own.max(held.memory("RssAnon"));
    }
    for mut client in silent {
        client.call("device.pair.list", json!({})).await;
    }
    let resident = held.memory("VmHWM");
    let how = match &held.limit {
        Some(limit) => {
            assert_eq!(limit.kills(), Some(0), "killed for want of memory");
            format!(
                "in a control group of {} MiB, at its peak {:?} MiB",
                LIMIT >> 20,
                limit.peak().map(|b| b >> 20)
            )
        }
        None => {
            assert!(resident <= LIMIT, "{} MiB were resident", resident >> 20);
            "without a control group, which may not be made here".to_owned()
        }
    };
    eprintln!("{} MiB of its own, {} MiB resident, {how}", own >> 20, resident >> 20);
    assert!(own <= OWN, "{} MiB are its own", own >> 20);
}

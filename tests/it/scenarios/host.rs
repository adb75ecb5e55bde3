//! Where a scenario is played: on a gateway in this process, or on one in a process that can be killed.

use crate::gateway::{Embedded, Process};
use crate::mock_model;
use serde_json::json;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub enum Host {
    Here(Box<Embedded>),
    /// None once it was sent a signal and has ended.
    There(TempDir, Option<Process>),
}

impl Host {
    pub async fn here() -> Self {
        let gateway = Embedded::with_models(config(), mock_model::models()).await;
        // What one of the scenarios reads.
        let workspace = gateway.state.path().join("workspace");
        std::fs::create_dir_all(&workspace).unwrap();
        std::fs::write(workspace.join("readme-probe.txt"), "hello from file\nline2\n").unwrap();
        Self::Here(Box::new(gateway))
    }

    pub async fn there() -> Self {
        let state = tempfile::tempdir().unwrap();
        std::fs::write(state.path().join("openclaw.json"), config().to_string()).unwrap();
        let process = Process::with_mock_models(state.path()).await;
        Self::There(state, Some(process))
    }

    pub fn addr(&self) -> SocketAddr {
        match self {
            Self::Here(gateway) => gateway.addr,
            Self::There(_, process) => process.as_ref().expect("it is running").addr,
        }
    }

    /// A directory of its own.
    pub fn home(&self) -> &Path {
        match self {
            Self::Here(gateway) => gateway.state.path(),
            Self::There(state, _) => state.path(),
        }
    }

    /// As recorded: `SIGTERM` or `SIGKILL`. What follows comes after it: a signal takes a moment to be heard.
    pub async fn signal(&mut self, name: &str) {
        let Self::There(_, process) = self else { panic!("this process is not to be killed") };
        match name {
            "SIGKILL" => process.take().expect("it is running").kill(),
            _ => {
                let process = process.as_ref().expect("it is running");
                process.signal(name.trim_start_matches("SIG"));
                draining(process.addr).await;
            }
        }
    }

    /// Waits for its end, and starts it again on what it left.
    pub async fn restart(&mut self) {
        let Self::There(state, process) = self else { panic!("this process is not to be killed") };
        if let Some(mut process) = process.take() {
            assert!(process.ended().success());
        }
        *process = Some(Process::with_mock_models(state.path()).await);
    }

    pub async fn stop(self) {
        if let Self::Here(gateway) = self {
            gateway.gateway.shutdown("played").await;
        }
    }
}

/// Resolves when the gateway says that it drains.
async fn draining(addr: SocketAddr) {
    for _ in 0..500 {
        let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
        let request = format!("GET /ready HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        if answer.contains("gateway-draining") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it does not drain");
}

fn config() -> serde_json::Value {
    json!({ "agents": { "defaults": { "model": "mock/mock-1" } } })
}

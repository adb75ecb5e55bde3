//! Where a scenario is played: on a gateway in this process, or on one in a process that can be killed.

use crate::gateway::{Embedded, Process};
use crate::mock_model;
use serde_json::json;
use std::net::SocketAddr;
use std::path::Path;
use tempfile::TempDir;

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

    /// As recorded: `SIGTERM` or `SIGKILL`.
    pub fn signal(&mut self, name: &str) {
        let Self::There(_, process) = self else { panic!("this process is not to be killed") };
        match name {
            "SIGKILL" => process.take().expect("it is running").kill(),
            _ => process.as_ref().expect("it is running").signal(name.trim_start_matches("SIG")),
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

fn config() -> serde_json::Value {
    json!({ "agents": { "defaults": { "model": "mock/mock-1" } } })
}

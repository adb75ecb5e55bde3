//! A machine with a node on it: a state directory, a directory it gives, and the process.

use crate::client::{Client, TOKEN};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

/// Nothing in a test takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Machine {
    pub dir: TempDir,
}

/// A node at work. Dropped, it is killed.
pub struct Host {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// What it said of itself, in order.
    pub told: Vec<Value>,
}

impl Machine {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("given")).unwrap();
        Self { dir }
    }

    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// A file in the directory that is given.
    pub fn given(&self, name: &str) -> String {
        self.dir.path().canonicalize().unwrap().join("given").join(name).to_string_lossy().into_owned()
    }

    pub fn program(&self, args: &[&str]) -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_crabtree"));
        program
            .args(["node", "--json", "--state-dir"])
            .arg(self.state())
            .args(args)
            .current_dir(self.dir.path())
            .env_remove("OPENCLAW_GATEWAY_TOKEN")
            .env_remove("CRABTREE_STATE_DIR")
            .env("HOME_API_KEY", "a secret of this machine")
            .kill_on_drop(true);
        program
    }

    /// A node that is started with these arguments.
    pub fn start(&self, args: &[&str]) -> Host {
        let given = self.given("");
        let mut program = self.program(&["run", "--name", "attic", "--root", &given]);
        let mut child = program.args(args).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Host { child, lines, told: Vec::new() }
    }

    /// The same with the token of every gateway under test.
    pub fn with_token(&self, addr: SocketAddr, args: &[&str]) -> Host {
        let url = format!("ws://{addr}");
        self.start(&[&["--url", &url, "--token", TOKEN][..], args].concat())
    }

    /// What `crabtree node status` says, and whether it was content.
    pub async fn status(&self, args: &[&str]) -> (Value, bool) {
        let said = self.program(&[&["status"][..], args].concat()).output().await.unwrap();
        (serde_json::from_slice(&said.stdout).unwrap(), said.status.success())
    }

    /// How many lines there are in a file, the pids in it.
    pub fn pids(path: &Path) -> Vec<i32> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }
}

impl Host {
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Reads until it says something like this.
    pub async fn says(&mut self, state: &str) -> Value {
        self.until(|told| told["state"] == state).await
    }

    pub async fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let line = timeout(PATIENCE, self.lines.next_line()).await;
            let line = line.unwrap_or_else(|_| panic!("it only said {:?}", self.told)).unwrap();
            let told: Value =
                serde_json::from_str(&line.unwrap_or_else(|| panic!("{:?}", self.told))).unwrap();
            self.told.push(told.clone());
            if wanted(&told) {
                return told;
            }
        }
    }

    /// Waits for its own end: how it ended, and the failure it told.
    pub async fn ended(mut self) -> (ExitStatus, Value) {
        let mut rest = String::new();
        let mut out = self.lines.into_inner();
        timeout(PATIENCE, out.read_to_string(&mut rest)).await.expect("it ends").unwrap();
        let failure = rest.find("{\n").map_or(Value::Null, |at| serde_json::from_str(&rest[at..]).unwrap());
        (timeout(PATIENCE, self.child.wait()).await.unwrap().unwrap(), failure)
    }

    /// Asks it to end, as a service manager does.
    pub fn terminate(&self) {
        let pid = rustix::process::Pid::from_raw(self.pid().cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }
}

/// Approves what the only node asks for; its id.
pub async fn approve(operator: &mut Client, host: &mut Host) -> String {
    let waits = host.until(|told| told["for"] == "commands").await;
    let pending = operator.call("node.pair.list", json!({})).await["pending"][0].clone();
    assert_eq!(waits["requestId"], pending["requestId"], "the node says what is to be approved");
    assert!(waits["next"].as_str().unwrap().starts_with("crabtree node approve "), "{waits}");
    operator.call("node.pair.approve", json!({ "requestId": pending["requestId"] })).await;
    host.says("approved").await;
    pending["nodeId"].as_str().unwrap().to_owned()
}

/// The parameters of `node.invoke`.
pub fn invocation(node: &str, command: &str, params: Value) -> Value {
    json!({ "nodeId": node, "command": command, "params": params, "idempotencyKey": "k" })
}

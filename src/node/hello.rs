//! Who a node says it is, and what it offers.

use super::{Host, Keep};
use crabtree_actors::settings::ExecSecurity;
use crabtree_protocol::connect::{ConnectAuth, ConnectParams};
use crabtree_protocol::frame::PROTOCOL_VERSION;
use serde_json::{Value, json};

/// What is offered whatever the owner says.
const ALWAYS: [&str; 1] = ["system.which"];
/// What is offered unless no command may run.
const RUN: [&str; 4] =
    ["system.execApprovals.get", "system.execApprovals.set", "system.run", "system.run.prepare"];
/// What is offered with a directory to give.
const FILES: [&str; 5] = ["dir.list", "file.fetch", "file.stat", "file.write", "fs.listDir"];

impl Host {
    /// The commands it offers, sorted.
    pub(super) fn commands(&self) -> Vec<&'static str> {
        let run = RUN.iter().filter(|_| self.security != ExecSecurity::Deny);
        let files = FILES.iter().filter(|_| !self.roots.is_empty());
        let mut commands: Vec<_> = ALWAYS.iter().chain(run).chain(files).copied().collect();
        commands.sort_unstable();
        commands
    }

    fn caps(&self) -> Vec<&'static str> {
        if self.roots.is_empty() { vec!["system"] } else { vec!["file", "system"] }
    }
}

/// How the platform calls the kind of machine.
fn family() -> &'static str {
    match std::env::consts::OS {
        "linux" => "Linux",
        "macos" => "Mac",
        other => other,
    }
}

/// The parameters of `connect`, with the challenge answered; `None` if there was no nonce in it.
pub(super) fn introduction(
    keep: &Keep,
    host: &Host,
    auth: ConnectAuth,
    challenge: &Value,
) -> Option<ConnectParams> {
    let params = json!({
        "minProtocol": PROTOCOL_VERSION,
        "maxProtocol": PROTOCOL_VERSION,
        "client": {
            "id": "node-host",
            "displayName": host.name,
            "version": env!("CARGO_PKG_VERSION"),
            "platform": std::env::consts::OS,
            "deviceFamily": family(),
            "mode": "node",
            "instanceId": host.instance,
        },
        "caps": host.caps(),
        "commands": host.commands(),
        "pathEnv": std::env::var("PATH").unwrap_or_default(),
        "auth": auth,
        "role": "node",
        "scopes": [],
    });
    let mut params: ConnectParams = serde_json::from_value(params).ok()?;
    // Signed at the gateway's time: the clock of a small machine may be wrong.
    keep.key().sign_device(&mut params, challenge["nonce"].as_str()?, challenge["ts"].as_u64()?);
    params.device.is_some().then_some(params)
}

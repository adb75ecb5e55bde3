//! The gateway itself: whether it can listen, whether it answers, and how its actors are.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use crabtree_actors::settings::{AuthSecret, Secret};
use crabtree_protocol::Scope;
use serde_json::{Value, json};

use super::{Finding, Name, Scene, blocking};
use crate::config as files;
use crate::owner;

pub(super) async fn port(name: Name, scene: Arc<Scene>) -> Vec<Finding> {
    let Ok(loaded) = &scene.loaded else {
        return vec![name.warn("not looked at: the configuration cannot be read", "mend it first")];
    };
    let secret = loaded.auth.clone().unwrap_or_else(|| AuthSecret::Token(Secret::new("of its own")));
    let addresses = match files::listen_addresses(loaded, &secret) {
        Ok(addresses) => addresses,
        Err(e) => return vec![name.problem(e.to_string(), "the gateway does not start with this")],
    };
    let held = scene.holder.clone();
    blocking(move || {
        let ours = held.as_ref().map_or(&[][..], |holder| &holder.listen);
        addresses.iter().enumerate().map(|(at, address)| look(name, *address, ours, at > 0)).collect()
    })
    .await
    .unwrap_or_default()
}

/// `also`: the IPv6 side of loopback, without which a gateway gets along.
fn look(name: Name, address: SocketAddr, ours: &[SocketAddr], also: bool) -> Finding {
    if address.port() == 0 {
        return name.ok("any free port is taken");
    }
    if !ours.is_empty() {
        return match ours.contains(&address) {
            true => name.ok(format!("{address} is held by this gateway")),
            false => name.warn(
                format!("the gateway listens on {}, and will on {address}", ours[0]),
                "the configuration has changed since: it takes effect at the next start",
            ),
        };
    }
    match TcpListener::bind(address) {
        Ok(_) => name.ok(format!("{address} is free")),
        Err(e) if also && e.kind() != std::io::ErrorKind::AddrInUse => {
            name.ok(format!("there is no {} here, and it is not needed", address.ip()))
        }
        Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => {
            let next = "stop that program, or set gateway.port to another";
            name.problem(format!("{address} is held by {}", holder(address)), next)
        }
        Err(e) => {
            name.problem(format!("{address}: {e}"), "set gateway.port and gateway.bind to what is possible")
        }
    }
}

fn holder(address: SocketAddr) -> String {
    match owner::who_listens(address) {
        Some(pid) => {
            let program = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            format!("process {pid} ({})", program.trim())
        }
        None => "a process of somebody else".into(),
    }
}

pub(super) async fn check(name: Name, scene: Arc<Scene>) -> Vec<Finding> {
    let Some(holder) = &scene.holder else {
        return vec![name.warn("it does not run", "start it: `crabtree run`, or its service")];
    };
    let mut client = match scene.connect(Scope::Read).await {
        Ok(client) => client,
        Err(why) => {
            let seen = format!("process {} has the state directory and does not answer: {why}", holder.pid);
            return vec![name.problem(seen, "look at its log; if it hangs, restart it")];
        }
    };
    let version = client.hello["server"]["version"].as_str().unwrap_or("?").to_owned();
    let here = env!("CARGO_PKG_VERSION");
    let mut found = vec![if version == here {
        name.ok(format!("it runs as process {}, version {version}", holder.pid))
    } else {
        name.warn(format!("it runs in version {version}, and this program is {here}"), "restart the gateway")
    }];
    match client.request("health", json!({})).await {
        Ok(health) => found.extend(actors(name, &health)),
        Err(failure) => found.push(name.problem(failure.told(), "look at `crabtree tree`")),
    }
    found
}

fn actors(name: Name, health: &Value) -> Vec<Finding> {
    let paths = |state: &'static str| {
        let paths = health["actors"][state].as_array().into_iter().flatten();
        paths.filter_map(Value::as_str).map(move |path| (state, path))
    };
    let told = paths("parked").chain(paths("stuck")).map(|(state, path)| {
        let next = match state {
            "parked" => format!(
                "see why in `crabtree tree`; then `crabtree call system.actors.resume '{{\"path\":\"{path}\"}}'`"
            ),
            _ => "it is replaced if it does not come back; see the log".to_owned(),
        };
        name.problem(format!("{path} is {state}"), &next)
    });
    told.collect()
}

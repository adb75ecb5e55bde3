//! Terminals: shells of operators.

use super::{Call, store_refusal};
use crate::connection::ConnectionMsg;
use crate::estate::Estate;
use crate::gateway::Wiring;
use crate::process::Size;
use crate::responder::Responder;
use crate::settings::TerminalSettings;
use crate::store;
use crate::terminals::{Facts, TerminalMsg, TerminalsMsg};
use crate::tree::Ctx;
use crabtree_protocol::params::core::NoParams;
use crabtree_protocol::params::terminals::{
    Done, InputParams, OpenParams, ResizeParams, Side, TerminalParams, Terminals,
};
use crabtree_protocol::{Refusal, SessionKey};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use uuid::Uuid;

fn is_on(call: &Call<'_>) -> bool {
    call.estate().config.load().settings.gateway.terminal.enabled
}

pub(super) fn open(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<OpenParams>() else { return };
    let (agent_id, session) = match wanted(&call, &params) {
        Ok(wanted) => wanted,
        Err(refusal) => return call.responder.refuse(refusal),
    };
    let size = size(params.cols, params.rows);
    let (wiring, responder) = (call.wiring.clone(), call.responder);
    ctx.detached(async move {
        match facts(&wiring, agent_id, session).await {
            // Without a parent it is dropped, and that answers.
            Ok(facts) => drop(wiring.terminals.send(TerminalsMsg::Open(Arc::new(facts), size, responder))),
            Err(refusal) => responder.refuse(refusal),
        }
    });
}

/// For which agent and session it is, if it may be.
fn wanted(call: &Call<'_>, params: &OpenParams) -> Result<(String, Option<SessionKey>), Refusal> {
    if !is_on(call) {
        return Err(Refusal::failed("terminal is disabled"));
    }
    if let Some(entry) = &params.catalog {
        let text = format!("unknown session catalog: {}", &*entry.catalog_id);
        return Err(Refusal::invalid_request(text));
    }
    let loaded = call.estate().config.load();
    let agent_id = params.agent_id.as_deref().unwrap_or(loaded.settings.default_agent_id());
    if !loaded.settings.agent_ids().contains(&agent_id) {
        return Err(Refusal::invalid_request(format!("unknown agent \"{agent_id}\"")));
    }
    if is_confined(&loaded.raw, agent_id) {
        return Err(Refusal::invalid_request(format!(
            "terminal unavailable: agent \"{agent_id}\" runs in a sandbox (mode \"all\"); in-sandbox terminals are not \
             supported yet"
        )));
    }
    let key = |raw: &str| SessionKey::canonical(raw, agent_id);
    Ok((agent_id.to_owned(), params.session_key.as_deref().map(key).transpose()?))
}

/// Whether the configuration says that an agent shall reach nothing of this machine. OpenClaw's key; nothing else here
/// reads it, and who wrote it does not want a shell outside of the sandbox.
fn is_confined(config: &Value, agent_id: &str) -> bool {
    let agents = &config["agents"];
    let listed = agents["list"].as_array().into_iter().flatten().find(|agent| agent["id"] == agent_id);
    let mode = |agent: &Value| agent["sandbox"]["mode"].as_str().map(str::to_owned);
    let own = listed.and_then(mode).or_else(|| mode(&agents["entries"][agent_id]));
    own.or_else(|| mode(&agents["defaults"])).is_some_and(|mode| mode == "all")
}

/// What the terminal will be.
async fn facts(wiring: &Wiring, agent_id: String, session: Option<SessionKey>) -> Result<Facts, Refusal> {
    if let Some(key) = session.clone() {
        let known = wiring.store.read(move |c| store::session(c, key.as_str())).await;
        let record = known.map_err(|error| store_refusal(&error))?;
        if record.is_none_or(|record| record.entry.get("archivedAt").is_some()) {
            return Err(Refusal::failed("session is no longer available; refresh and retry"));
        }
    }
    let estate = wiring.store.estate.clone();
    let made = tokio::task::spawn_blocking(move || {
        let (shell, args) = shell(&estate.config.load().settings.gateway.terminal);
        let (cwd, created_at_ms) = (directory(&estate, &agent_id), estate.clock.now_ms());
        Facts { id: Uuid::new_v4().to_string(), agent_id, shell, args, cwd, session, created_at_ms }
    });
    made.await.map_err(|error| Refusal::failed(error.to_string()))
}

/// The program: as configured, else that of who runs the gateway, as a login shell.
fn shell(settings: &TerminalSettings) -> (String, Vec<String>) {
    if let Some(shell) = settings.shell.as_deref().map(str::trim).filter(|shell| !shell.is_empty()) {
        return (shell.to_owned(), Vec::new());
    }
    let own = std::env::var("SHELL").ok().filter(|shell| !shell.trim().is_empty());
    let usual = || if Path::new("/bin/bash").exists() { "/bin/bash" } else { "/bin/sh" }.to_owned();
    (own.unwrap_or_else(usual), vec!["-l".into()])
}

/// Where it starts: the agent's workspace if there is one, else at home.
fn directory(estate: &Estate, agent_id: &str) -> PathBuf {
    let loaded = estate.config.load();
    let home = std::env::home_dir();
    let found = [Some(loaded.workspace(agent_id)), home].into_iter().flatten().find(|dir| dir.is_dir());
    found.unwrap_or_else(|| loaded.state_dir.clone())
}

fn size(cols: Side, rows: Side) -> Size {
    let side = |side: Side| u16::try_from(side.get()).expect("a side is at most 2000");
    Size { cols: side(cols), rows: side(rows) }
}

/// Hands a request to a terminal; without one, nothing was done.
fn hand(call: Call<'_>, id: &str, make: impl FnOnce(Responder) -> TerminalMsg) {
    match call.estate().terminals.find(id) {
        // One that is just going drops it, and that answers.
        Some(terminal) => drop(terminal.send(make(call.responder))),
        None => call.responder.ok(&Done { ok: false }),
    }
}

pub(super) fn input(call: Call<'_>) {
    let Some((InputParams { session_id, data }, call)) = call.parse() else { return };
    hand(call, &session_id, |responder| TerminalMsg::Type(data, responder));
}

pub(super) fn resize(call: Call<'_>) {
    let Some((params, call)) = call.parse::<ResizeParams>() else { return };
    let size = size(params.cols, params.rows);
    hand(call, &params.session_id, |responder| TerminalMsg::Resize(size, responder));
}

pub(super) fn close(call: Call<'_>) {
    let Some((params, call)) = call.parse::<TerminalParams>() else { return };
    hand(call, &params.session_id, TerminalMsg::Close);
}

pub(super) fn attach(call: Call<'_>) {
    let Some((params, call)) = call.parse::<TerminalParams>() else { return };
    if !is_on(&call) {
        return call.responder.refuse(Refusal::failed("terminal is not available"));
    }
    match call.estate().terminals.find(&params.session_id) {
        Some(terminal) => drop(terminal.send(TerminalMsg::Attach(call.responder))),
        None => {
            let text = format!("unknown terminal session \"{}\"", &*params.session_id);
            call.responder.refuse(Refusal::invalid_request(text));
        }
    }
}

pub(super) fn list(call: Call<'_>) {
    let Some((NoParams {}, call)) = call.parse() else { return };
    let sessions = if is_on(&call) { call.estate().terminals.list() } else { Vec::new() };
    call.responder.ok(&Terminals { sessions });
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_confined_agent_is_one_that_is_said_to_be() {
        let list = json!({ "agents": {
            "defaults": { "sandbox": { "mode": "all" } },
            "list": [{ "id": "a" }, { "id": "b", "sandbox": { "mode": "off" } }],
        } });
        assert!(is_confined(&list, "a") && !is_confined(&list, "b"));
        let entries = json!({ "agents": { "entries": { "a": { "sandbox": { "mode": "all" } }, "b": {} } } });
        assert!(is_confined(&entries, "a") && !is_confined(&entries, "b") && !is_confined(&json!({}), "a"));
    }
}

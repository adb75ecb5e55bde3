//! The commands that ask one question: `health`, `status`, `call` and `token`.

use std::process::ExitCode;

use crabtree_actors::settings::AuthSecret;
use crabtree_protocol::{Method, Scope};
use serde_json::{Value, json};

use super::{Failure, Global, here, print_json, print_line, printable, tree::span};
use crate::config;

pub(super) async fn health(global: &Global) -> Result<ExitCode, Failure> {
    let health = global.connect(&[Scope::Read]).await?.request("health", json!({})).await?;
    if global.json {
        print_json(&health);
    } else {
        print_line(&health_text(&health));
    }
    Ok(if health["ok"] == false { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn health_text(health: &Value) -> String {
    let mut lines = vec![if health["ok"] == false { "not well".to_owned() } else { "well".to_owned() }];
    for state in ["parked", "stuck"] {
        for path in health["actors"][state].as_array().into_iter().flatten().filter_map(Value::as_str) {
            lines.push(format!("{state:7}  {path}"));
        }
    }
    if let Some(trouble) = health["store"]["trouble"].as_str() {
        lines.push(format!("store    {trouble}"));
    }
    for issue in health["config"]["issues"].as_array().into_iter().flatten() {
        let text = |key: &str| issue[key].as_str().unwrap_or_default();
        lines.push(format!("config   {}: {}", text("path"), text("message")));
    }
    for agent in health["agents"].as_array().into_iter().flatten() {
        lines.push(format!("agent    {}", agent["agentId"].as_str().unwrap_or("?")));
    }
    for secret in health["secrets"]["wanting"].as_array().into_iter().flatten() {
        let [owner, path, state] = ["owner", "path", "state"].map(|key| secret[key].as_str().unwrap_or("?"));
        lines.push(format!("secret   {path}  {state}, for {owner}"));
    }
    for (name, channel) in health["channels"].as_object().into_iter().flatten() {
        let connected = match channel["connected"].as_bool() {
            Some(true) => "connected",
            Some(false) => "not connected",
            None => "",
        };
        lines.push(format!("channel  {name}  {connected}").trim_end().to_owned());
    }
    printable(&lines.join("\n"))
}

pub(super) async fn status(global: &Global) -> Result<ExitCode, Failure> {
    let mut client = global.connect(&[Scope::Read]).await?;
    let status = client.request("status", json!({})).await?;
    if global.json {
        print_json(&status);
    } else {
        print_line(&status_text(&client.hello, &status));
    }
    Ok(ExitCode::SUCCESS)
}

fn status_text(hello: &Value, status: &Value) -> String {
    let snapshot = &hello["snapshot"];
    let mut lines = vec![format!("version   {}", hello["server"]["version"].as_str().unwrap_or("?"))];
    if let Some(uptime) = snapshot["uptimeMs"].as_u64() {
        lines.push(format!("up        {}", span(uptime)));
    }
    if let Some(clients) = snapshot["presence"].as_array() {
        lines.push(format!("present   {}", clients.len()));
    }
    for state in ["parked", "stuck"] {
        for path in status["actors"][state].as_array().into_iter().flatten().filter_map(Value::as_str) {
            lines.push(format!("{state:8}  {path}"));
        }
    }
    if let Some(sessions) = status["sessions"]["count"].as_u64() {
        lines.push(format!("sessions  {sessions}"));
    }
    let recent = status["sessions"]["recent"].as_array();
    for key in recent.into_iter().flatten().filter_map(|session| session["key"].as_str()) {
        lines.push(format!("          {key}"));
    }
    for issue in status["config"]["issues"].as_array().into_iter().flatten() {
        let text = |key: &str| issue[key].as_str().unwrap_or_default();
        lines.push(format!("config    {}: {}", text("path"), text("message")));
    }
    if let Some(tasks) = status["tasks"]["active"].as_u64() {
        lines.push(format!("active    {tasks}"));
    }
    printable(&lines.join("\n"))
}

pub(super) async fn call(global: &Global, method: &str, params: &str) -> Result<ExitCode, Failure> {
    let params: Value = json5::from_str(params).map_err(|error| {
        Failure::failed(format!("the parameters are no JSON: {error}"))
            .or_next("quote them for the shell: crabtree call agents.list '{}'")
    })?;
    // What is not in the table is for the gateway to judge, with all rights.
    let scope = Method::from_name(method).map_or(Some(Scope::Admin), |method| method.scope().minimum());
    print_json(&global.connect(scope.as_slice()).await?.request(method, params).await?);
    Ok(ExitCode::SUCCESS)
}

pub(super) fn token(global: &Global) -> Result<ExitCode, Failure> {
    let (loaded, env) = global.loaded()?;
    let url = here(&loaded)?;
    let (mode, secret) = match config::client_secret(&loaded, &env)? {
        Some(AuthSecret::Token(token)) => ("token", token),
        Some(AuthSecret::Password(password) | AuthSecret::TrustedProxy(Some(password))) => {
            ("password", password)
        }
        None => {
            let text = format!("there is no gateway token in {} yet", loaded.state_dir.display());
            return Err(Failure::config(text).or_next("start the gateway once with `crabtree run`"));
        }
        Some(AuthSecret::TrustedProxy(None)) => {
            let text = "gateway.auth.mode is \"trusted-proxy\": a proxy lets clients in";
            return Err(Failure::config(text).or_next("set gateway.auth.password for those on this machine"));
        }
        Some(AuthSecret::None) => {
            return Err(Failure::config("gateway.auth.mode is \"none\": clients need no token"));
        }
    };
    if global.json {
        print_json(&json!({"ok": true, "mode": mode, mode: secret.expose(), "url": url}));
    } else {
        print_line(secret.expose());
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_short() {
        let channels = json!({"telegram": {"connected": false}});
        let config = json!({"issues": [{"path": "channels.x", "message": "wrong"}]});
        let health = json!({"ok": true, "agents": [{"agentId": "main"}], "channels": channels, "config": config,
            "actors": {"total": 9, "parked": ["gateway/x"], "stuck": []}, "store": {"trouble": "the disk is full"}});
        assert_eq!(
            health_text(&health),
            "well\nparked   gateway/x\nstore    the disk is full\nconfig   channels.x: wrong\nagent    main\n\
             channel  telegram  not connected"
        );
        assert_eq!(health_text(&json!({})), "well");
        let hello =
            json!({"server": {"version": "0.1.0"}, "snapshot": {"uptimeMs": 61_000, "presence": [1]}});
        let status = json!({"sessions": {"count": 1, "recent": [{"key": "agent:main:main"}]}, "tasks": {"active": 0},
                "actors": {"parked": [], "stuck": ["gateway/x"]}});
        assert_eq!(
            status_text(&hello, &status),
            "version   0.1.0\nup        1 m 01 s\npresent   1\nstuck     gateway/x\nsessions  1\n          agent:main:main\nactive    0"
        );
    }
}

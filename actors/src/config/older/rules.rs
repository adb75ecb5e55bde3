//! The older forms, topic by topic: those that OpenClaw moved, of keys that are read here.

use super::{For, Renewal, keys, with};
use crate::config::edit::{Change, Step};
use serde_json::{Map, Value, json};

/// Channels whose sections once stood at the top.
const CHANNELS: [&str; 8] =
    ["telegram", "discord", "whatsapp", "slack", "signal", "imessage", "msteams", "googlechat"];
/// Channels that heard `routing.groupChat.requireMention`.
const MENTIONED: [&str; 3] = ["whatsapp", "telegram", "imessage"];
/// Addresses that `gateway.bind` once was.
const BINDS: [(&str, &str); 8] = [
    ("0.0.0.0", "lan"),
    ("::", "lan"),
    ("[::]", "lan"),
    ("*", "lan"),
    ("127.0.0.1", "loopback"),
    ("localhost", "loopback"),
    ("::1", "loopback"),
    ("[::1]", "loopback"),
];
/// Queue modes that are no more.
const MODES: [(&str, &str); 3] =
    [("queue", "steer"), ("steer-backlog", "followup"), ("steer+backlog", "followup")];
/// Keys of an MCP server and what they are called now; numbers were seconds.
const MCP: [(&str, &str); 4] = [
    ("workingDirectory", "cwd"),
    ("connectTimeout", "connectionTimeoutMs"),
    ("connect_timeout", "connectionTimeoutMs"),
    ("timeout", "requestTimeoutMs"),
];

/// All of them, in an order in which each finds what the ones before it have moved.
pub(super) fn apply(of: &mut Renewal) {
    for name in CHANNELS {
        of.relocate(&keys(&[name]), &keys(&["channels", name]));
    }
    gateway(of);
    routing(of);
    agents(of);
    channels(of);
    session(of);
    messages(of);
    models(of);
    mcp(of);
    tools(of);
}

fn gateway(of: &mut Renewal) {
    for secret in ["token", "password"] {
        of.relocate(&keys(&["gateway", secret]), &keys(&["gateway", "auth", secret]));
    }
    rename(of, &keys(&["gateway", "bind"]), &BINDS);
    tailscale(of);
    let nodes = |rest: &[&str]| keys(&[&["gateway", "nodes"], rest].concat());
    of.relocate(&nodes(&["allowCommands"]), &nodes(&["commands", "allow"]));
    of.relocate(&nodes(&["denyCommands"]), &nodes(&["commands", "deny"]));
    if of.at(&nodes(&["skills", "enabled"])).is_some() {
        of.relocate(&nodes(&["skills", "enabled"]), &nodes(&["allowSkills"]));
        of.tidy(&nodes(&["skills"]));
    }
}

/// `expose_via_tailscale` said whether, `tailscale_mode` how.
fn tailscale(of: &mut Renewal) {
    let [exposed, how, mode] = [&["expose_via_tailscale"][..], &["tailscale_mode"], &["tailscale", "mode"]]
        .map(|rest| keys(&[&["gateway"], rest].concat()));
    let whether = of.at(&exposed).and_then(Value::as_bool);
    if whether != Some(false) {
        of.relocate(&how, &mode);
    }
    if let Some(whether) = whether {
        let mut changes = vec![Change::Remove(exposed.clone())];
        if !whether && of.at(&how).is_some() {
            changes.push(Change::Remove(how));
        }
        if whether && of.at(&mode).is_none() {
            changes.push(Change::Set(mode.clone(), json!("serve")));
        }
        of.make(&exposed, super::dotted(&mode), changes);
    }
}

/// A text that has another name now.
fn rename(of: &mut Renewal, path: &[Step], names: &[(&str, &str)]) {
    let said = of.at(path).and_then(Value::as_str).map(|said| said.trim().to_lowercase());
    let now = said.and_then(|said| names.iter().find(|(old, _)| *old == said).map(|(_, now)| *now));
    if let Some(now) = now {
        of.replace(path, now);
    }
}

/// `routing`: before there were several agents.
fn routing(of: &mut Renewal) {
    let at = |rest: &[&str]| keys(&[&["routing"], rest].concat());
    if of.at(&keys(&["routing"])).is_none() {
        return;
    }
    if of.at(&keys(&["channels", "whatsapp"])).is_some() {
        of.relocate(&at(&["allowFrom"]), &keys(&["channels", "whatsapp", "allowFrom"]));
    }
    let mention = at(&["groupChat", "requireMention"]);
    if let Some(value) = of.at(&mention).cloned() {
        let there = |name: &&&str| of.at(&keys(&["channels", name])).is_some();
        let places = MENTIONED
            .iter()
            .filter(there)
            .map(|name| keys(&["channels", name, "groups", "*", "requireMention"]));
        let places: Vec<_> = places.filter(|place| of.at(place).is_none()).collect();
        let became = places.iter().map(|place| super::dotted(place)).collect::<Vec<_>>().join(" and ");
        if !places.is_empty() {
            let mut changes: Vec<_> =
                places.into_iter().map(|place| Change::Set(place, value.clone())).collect();
            changes.push(Change::Remove(mention.clone()));
            of.make(&mention, became, changes);
        }
    }
    of.relocate(&at(&["queue"]), &keys(&["messages", "queue"]));
    of.relocate(&at(&["bindings"]), &keys(&["bindings"]));
    let agents = at(&["agents"]);
    let default = of.at(&at(&["defaultAgentId"])).and_then(Value::as_str).map(str::to_owned);
    of.relocate(&agents, &keys(&["agents", "entries"]));
    if let Some(id) = default {
        let entry = keys(&["agents", "entries", &id]);
        if of.at(&entry).is_some_and(Value::is_object) {
            of.convert(&at(&["defaultAgentId"]), &with(&entry, "default"), true);
        }
    }
    of.tidy(&at(&["groupChat"]));
    of.tidy(&keys(&["routing"]));
}

fn agents(of: &mut Renewal) {
    of.relocate(&keys(&["agent", "tools"]), &keys(&["tools"]));
    of.relocate(&keys(&["agent", "bash"]), &keys(&["tools", "exec"]));
    let fallbacks = keys(&["agent", "modelFallbacks"]);
    let primary = of.at(&keys(&["agent", "model"])).and_then(Value::as_str).map(str::to_owned);
    if let (Some(primary), Some(all)) = (primary, of.at(&fallbacks).cloned()) {
        let model = keys(&["agents", "defaults", "model"]);
        of.convert(&fallbacks, &model, json!({ "primary": primary, "fallbacks": all }));
    }
    of.relocate(&keys(&["agent"]), &keys(&["agents", "defaults"]));
    of.relocate(&keys(&["defaultModel"]), &keys(&["agents", "defaults", "model"]));
    if of.purpose == For::Writing {
        keyed(of);
    } else {
        joined(of);
    }
    if let Some(entry) = answering(of) {
        of.relocate(&keys(&["identity"]), &with(&entry, "identity"));
    }
    for at in 0..items(of, &keys(&["bindings"])) {
        let kind = [vec!["bindings".into(), at.into()], keys(&["match", "peer", "kind"])].concat();
        rename(of, &kind, &[("dm", "direct")]);
        let matches = |key: &str| [vec!["bindings".into(), at.into()], keys(&["match", key])].concat();
        of.relocate(&matches("provider"), &matches("channel"));
    }
}

/// How long a list is.
fn items(of: &Renewal, path: &[Step]) -> usize {
    of.at(path).and_then(Value::as_array).map_or(0, Vec::len)
}

/// Where the agent stands that answers when nobody else is named.
fn answering(of: &Renewal) -> Option<Vec<Step>> {
    let is_default = |agent: &Value| agent["default"] == true;
    if let Some(list) = of.at(&keys(&["agents", "list"])).and_then(Value::as_array) {
        let index = list.iter().position(is_default).unwrap_or(0);
        return (!list.is_empty()).then(|| vec!["agents".into(), "list".into(), index.into()]);
    }
    let entries = of.at(&keys(&["agents", "entries"])).and_then(Value::as_object);
    let named =
        entries.and_then(|all| all.iter().find(|(_, agent)| is_default(agent)).map(|(id, _)| id.as_str()));
    let first = || {
        entries.filter(|all| !all.contains_key("main")).and_then(|all| all.keys().min().map(String::as_str))
    };
    Some(keys(&["agents", "entries", named.or_else(first).unwrap_or("main")]))
}

/// The list of agents by id; nothing if it cannot be read.
fn listed(of: &Renewal) -> Option<Vec<(String, Map<String, Value>)>> {
    let list = of.at(&keys(&["agents", "list"]))?.as_array()?;
    let entry = |agent: &Value| {
        let mut entry = agent.as_object()?.clone();
        let Some(Value::String(id)) = entry.shift_remove("id") else { return None };
        Some((id, entry))
    };
    let all: Vec<_> = list.iter().map(entry).collect::<Option<_>>()?;
    let is_known = |(at, (id, _)): (usize, &(String, _))| all[..at].iter().any(|(known, _)| known == id);
    (!all.iter().enumerate().any(is_known)).then_some(all)
}

/// `agents.list` as `agents.entries`. The first of the list answers when nobody else is named; of `entries` that has to
/// be said.
fn keyed(of: &mut Renewal) {
    let Some(list) = listed(of) else { return };
    let entries = keys(&["agents", "entries"]);
    let mut now = of.at(&entries).and_then(Value::as_object).cloned().unwrap_or_default();
    let is_said = list.iter().any(|(_, agent)| agent.get("default") == Some(&json!(true)));
    for (at, (id, mut agent)) in list.into_iter().enumerate() {
        if at == 0 && !is_said && id != "main" {
            agent.insert("default".into(), json!(true));
        }
        let own = now.get(&id).and_then(Value::as_object).cloned().unwrap_or_default();
        agent.extend(own);
        now.insert(id, Value::Object(agent));
    }
    let path = keys(&["agents", "list"]);
    of.make(
        &path,
        "agents.entries".into(),
        vec![Change::Set(entries, now.into()), Change::Remove(path.clone())],
    );
}

/// `agents.list` is read as it is, with what `agents.entries` says of the same agents.
fn joined(of: &mut Renewal) {
    let Some(list) = listed(of) else { return };
    let mut changes = Vec::new();
    for (at, (id, _)) in list.iter().enumerate() {
        let entry = keys(&["agents", "entries", id]);
        if let Some(own) = of.at(&entry).and_then(Value::as_object) {
            let place = |key: &str| vec!["agents".into(), "list".into(), at.into(), key.into()];
            changes.extend(own.iter().map(|(key, value)| Change::Set(place(key), value.clone())));
            changes.push(Change::Remove(entry));
        }
    }
    of.make(&keys(&["agents", "list"]), "agents.entries".into(), changes);
}

fn channels(of: &mut Renewal) {
    if of.at(&keys(&["channels", "whatsapp"])).is_some() {
        of.relocate(&keys(&["web", "enabled"]), &keys(&["channels", "whatsapp", "enabled"]));
        of.tidy(&keys(&["web"]));
    }
    for name in of.below(&keys(&["channels"])) {
        let section = keys(&["channels", &name]);
        account(of, &name, &section);
        let accounts = with(&section, "accounts");
        for id in of.below(&accounts) {
            account(of, &name, &with(&accounts, id.as_str()));
        }
    }
}

/// What one account, or all of a channel, says.
fn account(of: &mut Renewal, channel: &str, section: &[Step]) {
    let at = |rest: &[&str]| [section, &keys(rest)].concat();
    if of.at(&at(&["dm"])).is_some_and(Value::is_object) {
        of.relocate(&at(&["dm", "policy"]), &at(&["dmPolicy"]));
        of.relocate(&at(&["dm", "allowFrom"]), &at(&["allowFrom"]));
        of.tidy(&at(&["dm"]));
    }
    if channel == "telegram" {
        for older in ["requireMention", "groupMentionsOnly"] {
            of.relocate(&at(&[older]), &at(&["groups", "*", "requireMention"]));
        }
    }
    if of.at(&at(&["streaming"])).is_none_or(Value::is_object) {
        of.relocate(&at(&["streamMode"]), &at(&["streaming", "mode"]));
    }
}

fn session(of: &mut Renewal) {
    let at = |rest: &[&str]| keys(&[&["session"], rest].concat());
    let minutes = at(&["idleMinutes"]);
    if let Some(value) = of.at(&minutes).cloned() {
        match of.at(&at(&["reset"])).is_some() {
            true => of.relocate(&minutes, &at(&["reset", "idleMinutes"])),
            false => {
                let reset = json!({ "mode": "idle", "idleMinutes": value });
                of.convert(&minutes, &at(&["reset"]), reset);
            }
        }
    }
    of.relocate(&at(&["resetByType", "dm"]), &at(&["resetByType", "direct"]));
}

fn messages(of: &mut Renewal) {
    let queue = keys(&["messages", "queue"]);
    rename(of, &with(&queue, "mode"), &MODES);
    let by_channel = with(&queue, "byChannel");
    of.relocate(&with(&queue, "byProvider"), &by_channel);
    for name in of.below(&by_channel) {
        rename(of, &with(&by_channel, name.as_str()), &MODES);
    }
}

fn models(of: &mut Renewal) {
    let providers = keys(&["models", "providers"]);
    for name in of.below(&providers) {
        let api = with(&with(&providers, name.as_str()), "api");
        rename(of, &api, &[("openai", "openai-completions")]);
    }
}

fn mcp(of: &mut Renewal) {
    let servers = keys(&["mcp", "servers"]);
    for name in of.below(&servers) {
        let server = with(&servers, name.as_str());
        let at = |key: &str| with(&server, key);
        if let Some(is_off) = of.at(&at("disabled")).and_then(Value::as_bool) {
            of.convert(&at("disabled"), &at("enabled"), !is_off);
        }
        for (older, now) in MCP {
            match of.at(&at(older)).and_then(Value::as_f64) {
                Some(seconds) if older != "workingDirectory" => {
                    of.convert(&at(older), &at(now), (seconds * 1000.0).round() as u64);
                }
                _ => of.relocate(&at(older), &at(now)),
            }
        }
        let transport = match of.at(&at("type")).and_then(Value::as_str) {
            Some("stdio") => "stdio",
            Some("http" | "streamable-http" | "streamableHttp") => "streamable-http",
            Some("sse") => "sse",
            _ => continue,
        };
        of.convert(&at("type"), &at("transport"), transport);
    }
}

/// `tools` of everybody and of each agent.
fn tools(of: &mut Renewal) {
    exec(of, &keys(&["tools", "exec"]));
    for id in of.below(&keys(&["agents", "entries"])) {
        exec(of, &keys(&["agents", "entries", &id, "tools", "exec"]));
    }
    for at in 0..items(of, &keys(&["agents", "list"])) {
        exec(of, &[vec!["agents".into(), "list".into(), at.into()], keys(&["tools", "exec"])].concat());
    }
}

fn exec(of: &mut Renewal, exec: &[Step]) {
    of.relocate(&with(exec, "timeoutSec"), &with(exec, "timeoutSeconds"));
    if of.purpose == For::Reading {
        mode(of, exec);
    }
}

/// `tools.exec.mode` is the newer form of `security` and `ask`, which are what is read: no older form, but the same.
fn mode(of: &mut Renewal, exec: &[Step]) {
    let Some(Value::Object(said)) = super::found_mut(&mut of.document, exec) else { return };
    let Some(mode) = said.shift_remove("mode") else { return };
    let (security, ask) = match mode.as_str() {
        Some("ask" | "auto") => (json!("allowlist"), "on-miss"),
        // A name that is none is refused there, and does not count as nothing said.
        _ => (mode, "off"),
    };
    said.insert("security".into(), security);
    said.insert("ask".into(), json!(ask));
}

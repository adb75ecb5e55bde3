//! Programs that the configuration needs, and providers of models, which are asked only with `--probe`.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crabtree_actors::settings::{ExecSandbox, Settings};
use crabtree_protocol::Scope;
use futures_util::future::join_all;
use serde_json::json;

use super::{Finding, Name, Scene, blocking};

/// How long a provider has, ms.
const PROVIDER_MS: u64 = 8_000;

pub(super) async fn check(name: Name, scene: Arc<Scene>) -> Vec<Finding> {
    let Ok(loaded) = &scene.loaded else {
        return vec![name.warn("not looked for: the configuration cannot be read", "mend it first")];
    };
    let path = scene.env().get("PATH").unwrap_or_default().to_owned();
    let wanted = wanted(&loaded.settings);
    blocking(move || look(name, wanted, &path)).await.unwrap_or_default()
}

/// What is needed, and for what.
fn wanted(settings: &Settings) -> Vec<(String, String)> {
    let mut all = Vec::new();
    if settings.tools.exec.sandbox == ExecSandbox::Bwrap {
        all.push(("bwrap".to_owned(), "tools.exec.sandbox".to_owned()));
    }
    if settings.gateway.auth.allow_tailscale {
        all.push(("tailscale".to_owned(), "gateway.auth.allowTailscale".to_owned()));
    }
    for (name, server) in &settings.mcp.servers {
        if let Some(command) = server.command.as_ref().filter(|_| server.enabled) {
            all.push((command.clone(), format!("mcp.servers.{name}")));
        }
    }
    for (name, agent) in &settings.acp.agents {
        all.push((agent.command.clone(), format!("acp.agents.{name}")));
    }
    for channel in settings.channels.0.keys() {
        for (_, own) in settings.channels.accounts(channel) {
            if channel == "whatsapp" {
                all.push(("node".to_owned(), "channels.whatsapp".to_owned()));
            }
            if let Some(command) = own["driver"]["command"].as_str() {
                all.push((command.to_owned(), format!("channels.{channel}.driver")));
            }
        }
    }
    all.sort();
    all.dedup();
    all
}

fn look(name: Name, wanted: Vec<(String, String)>, path: &str) -> Vec<Finding> {
    let mut found: Vec<Finding> = wanted
        .into_iter()
        .map(|(program, needs)| match find(&program, path) {
            Some(place) => name.ok(format!("{program} is {} ({needs})", place.display())),
            None => name.problem(
                format!("{program} is not there; {needs} needs it"),
                "install it, or write its whole path; a service may have another PATH than you",
            ),
        })
        .collect();
    if !found.iter().any(|finding| finding.seen.starts_with("bwrap")) {
        found.push(match find("bwrap", path) {
            Some(_) => name.ok("bwrap is there: tools.exec.sandbox can be \"bwrap\""),
            None => name.ok("bwrap is not there; it is needed for tools.exec.sandbox: \"bwrap\" only"),
        });
    }
    found
}

fn find(program: &str, path: &str) -> Option<PathBuf> {
    let runs = |place: &Path| {
        place.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        let home = std::env::var_os("HOME").map(PathBuf::from);
        let place = match (program.strip_prefix("~/"), home) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => PathBuf::from(program),
        };
        return Some(place).filter(|place| runs(place));
    }
    std::env::split_paths(path).map(|dir| dir.join(program)).find(|place| runs(place))
}

pub(super) async fn models(name: Name, scene: Arc<Scene>) -> Vec<Finding> {
    let Ok(loaded) = &scene.loaded else {
        return vec![name.warn("not looked at: the configuration cannot be read", "mend it first")];
    };
    let providers: Vec<String> = loaded.settings.models.providers.keys().cloned().collect();
    let primary = &loaded.settings.agents.defaults.model.primary;
    let mut found = vec![match primary.as_str() {
        "crabtree/offline" => name.warn(
            "agents answer with crabtree/offline, which cannot think",
            "name a provider in models.providers, and its model in agents.defaults.model",
        ),
        model => name.ok(format!("agents answer with {model}")),
    }];
    if !scene.probe {
        if !providers.is_empty() {
            found.push(name.ok(format!("not asked: {}; `--probe` asks them", providers.join(", "))));
        }
        return found;
    }
    if !scene.is_up() {
        found.push(
            name.warn("providers are asked by the gateway, which does not run", "start it, then again"),
        );
        return found;
    }
    found.extend(join_all(providers.into_iter().map(|provider| probe(name, &scene, provider))).await);
    found
}

async fn probe(name: Name, scene: &Scene, provider: String) -> Finding {
    let params = json!({ "provider": provider, "timeoutMs": PROVIDER_MS });
    let next = format!("look at models.providers.{provider}: its baseUrl and its apiKey");
    match scene.ask(Scope::Admin, "models.probe", params).await {
        Ok(answer) if answer["status"] == "ok" => name.ok(format!("{provider} answers")),
        Ok(answer) => {
            let status = answer["status"].as_str().unwrap_or("?");
            let why = answer["error"].as_str().map(|why| format!(": {why}")).unwrap_or_default();
            name.problem(format!("{provider}: {status}{why}"), &next)
        }
        Err(why) => name.problem(format!("{provider}: {why}"), &next),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_of_the_configuration_are_looked_for() {
        let settings: Settings = serde_json::from_value(json!({
            "tools": { "exec": { "sandbox": "bwrap" } },
            "mcp": { "servers": { "a": { "command": "no-such-program" }, "b": { "command": "sh", "enabled": false } } },
            "channels": { "echo": { "driver": { "command": "sh" } } },
        }))
        .expect("settings");
        let dir = tempfile::tempdir().expect("a directory");
        let sh = dir.path().join("sh");
        std::fs::write(&sh, "").expect("writable");
        let seen = || {
            let found = look(Name("programs"), wanted(&settings), &dir.path().display().to_string());
            found.into_iter().map(|one| (one.status.name(), one.seen)).collect::<Vec<_>>()
        };
        let problems = |seen: &[(&str, String)]| seen.iter().filter(|one| one.0 == "problem").count();
        assert_eq!(problems(&seen()), 3, "a file that cannot be run is no program: {:?}", seen());
        std::fs::set_permissions(&sh, PermissionsExt::from_mode(0o755)).expect("its owner may");
        assert_eq!(problems(&seen()), 2, "{:?}", seen());
    }
}

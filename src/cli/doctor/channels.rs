//! Channels: the running gateway asks each platform; without one, what is configured is looked at for its form.

use std::sync::Arc;

use crabtree_actors::settings::Settings;
use crabtree_protocol::Scope;
use serde_json::{Value, json};

use super::{Finding, Name, Scene};
use crate::config::Environment;

/// What the gateway leaves a platform, ms: less than it has itself for its answer.
const PLATFORM_MS: u64 = 8_000;

pub(super) async fn check(name: Name, scene: Arc<Scene>) -> Vec<Finding> {
    let found = if scene.is_up() {
        let params = json!({ "probe": true, "timeoutMs": PLATFORM_MS });
        match scene.ask(Scope::Read, "channels.status", params).await {
            Ok(status) => running(name, &status),
            Err(why) => vec![name.warn(format!("the gateway did not say: {why}"), "see `gateway`")],
        }
    } else {
        match &scene.loaded {
            Ok(loaded) => configured(name, &loaded.settings, scene.env()),
            Err(_) => vec![name.warn("not looked at: the configuration cannot be read", "mend it first")],
        }
    };
    if found.is_empty() { vec![name.ok("none is configured")] } else { found }
}

fn running(name: Name, status: &Value) -> Vec<Finding> {
    let mut found = Vec::new();
    for (channel, accounts) in status["channelAccounts"].as_object().into_iter().flatten() {
        for row in accounts.as_array().into_iter().flatten() {
            let account = format!("{channel}/{}", row["accountId"].as_str().unwrap_or("?"));
            let health = row["healthState"].as_str().unwrap_or("?");
            let why = row["lastError"].as_str().map(|why| format!(": {why}")).unwrap_or_default();
            found.push(match health {
                "healthy" => name.ok(format!("{account} is connected")),
                "stopped" => {
                    name.warn(format!("{account} is stopped"), &format!("crabtree channels start {channel}"))
                }
                "starting" | "restarting" => {
                    name.warn(format!("{account} is {health}{why}"), "wait; if it stays so, see the log")
                }
                _ => name.problem(
                    format!("{account} is {health}{why}"),
                    &format!("correct channels.{channel}, then `crabtree channels start {channel}`"),
                ),
            });
        }
    }
    found
}

fn configured(name: Name, settings: &Settings, env: &Environment) -> Vec<Finding> {
    let lookup = |variable: &str| env.get(variable).map(str::to_owned);
    let mut found = Vec::new();
    for channel in settings.channels.0.keys() {
        for (account, own) in settings.channels.accounts(channel) {
            let place = format!("{channel}/{account}");
            let key = format!("channels.{channel}");
            let Ok(own) = settings.channels.with_secrets(&own, &key, &lookup) else {
                found.push(
                    name.ok(format!("{place} is configured; `secrets` tells whether its secrets are there")),
                );
                continue;
            };
            found.push(match misshapen(channel, &own) {
                None => {
                    name.ok(format!("{place} has what it needs; whether it is right is seen when it runs"))
                }
                Some(why) => name.problem(format!("{place}: {why}"), &format!("correct channels.{channel}")),
            });
        }
    }
    found
}

/// What is wrong with an account's credentials, as far as their form tells.
fn misshapen(channel: &str, own: &Value) -> Option<&'static str> {
    let text = |name: &str| own[name].as_str().filter(|text| !text.trim().is_empty());
    match channel {
        _ if !own["driver"].is_null() && channel != "whatsapp" => None,
        "telegram" => match text("botToken") {
            None => Some("botToken is missing"),
            Some(token) if !telegram_token(token) => {
                Some("botToken has not the form 123456789:ABC… that BotFather gives")
            }
            Some(_) => None,
        },
        "discord" => match text("token") {
            None => Some("token is missing"),
            Some(token) if token.split('.').count() != 3 => {
                Some("token has not the form of a bot's token, which has two dots")
            }
            Some(_) => None,
        },
        "whatsapp" => match text("bridge") {
            None => Some("bridge is missing: the path of the bridge's program"),
            Some(bridge) if bridge.starts_with('/') && !std::path::Path::new(bridge).is_file() => {
                Some("bridge names no file")
            }
            Some(_) => None,
        },
        _ => None,
    }
}

fn telegram_token(token: &str) -> bool {
    token.split_once(':').is_some_and(|(id, secret)| {
        !id.is_empty()
            && id.chars().all(|c| c.is_ascii_digit())
            && secret.len() >= 20
            && secret.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_looked_at_for_their_form_and_not_shown() {
        let good = format!("123456:{}", "a".repeat(35));
        assert_eq!(misshapen("telegram", &json!({ "botToken": good })), None);
        for (channel, own) in [
            ("telegram", json!({})),
            ("telegram", json!({ "botToken": "hunter2" })),
            ("telegram", json!({ "botToken": " " })),
            ("discord", json!({ "token": "hunter2" })),
            ("whatsapp", json!({ "bridge": "/no/such/file.mjs" })),
        ] {
            let why = misshapen(channel, &own).unwrap_or_else(|| panic!("{channel} {own}"));
            assert!(!why.contains("hunter2"), "{why}");
        }
        assert_eq!(misshapen("discord", &json!({ "token": "a.b.c" })), None);
        assert_eq!(misshapen("echo", &json!({ "driver": { "command": "echo.py" } })), None);
    }

    #[test]
    fn a_parked_account_is_a_problem_and_a_stopped_one_a_warning() {
        let status = json!({ "channelAccounts": { "telegram": [
            { "accountId": "a", "healthState": "healthy" },
            { "accountId": "b", "healthState": "parked", "lastError": "Unauthorized" },
            { "accountId": "c", "healthState": "stopped" },
        ] } });
        let found = running(Name("channels"), &status);
        let words: Vec<_> = found.iter().map(|one| (one.status.name(), one.seen.as_str())).collect();
        assert_eq!(
            words,
            [
                ("ok", "telegram/a is connected"),
                ("problem", "telegram/b is parked: Unauthorized"),
                ("warn", "telegram/c is stopped"),
            ]
        );
    }
}

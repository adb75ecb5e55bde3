//! The secrets: looking them up anew, the store of them, and, for programs of the operator, the values themselves.

use super::Call;
use crate::config::{ConfigMsg, Renewal};
use crate::connection::ConnectionMsg;
use crate::estate::Estate;
use crate::responder::Responder;
use crate::secrets::spots::{refers_to_store, visit};
use crate::secrets::store::{Entry, Kind, StoreError, Writing};
use crate::settings::{Secret, SecretInput};
use crate::tree::{Ctx, Slot};
use crabtree_protocol::Refusal;
use crabtree_protocol::params::core::{Empty, NoParams};
use crabtree_protocol::params::secrets::{
    Assignment, Entries, ResolveParams, Resolved, StoreDeleteParams, StoreEntry, StoreKind, StoreSetParams,
};
use serde_json::{Value, json};
use std::sync::Arc;

/// The sections in which OpenClaw's programs look for secrets.
const TARGETS: [&str; 15] = [
    "acp",
    "agents",
    "auth-profiles",
    "channels",
    "cron",
    "gateway",
    "hooks",
    "mcp",
    "messages",
    "models",
    "plugins",
    "skills",
    "talk",
    "tools",
    "tts",
];

pub(super) fn reload(call: Call<'_>) {
    let Some((NoParams {}, call)) = call.parse() else { return };
    let refusal = Refusal::failed("secrets.reload failed");
    let renewal = Renewal { responder: call.responder, answer: json!({ "ok": true }), refusal };
    // An actor that is down drops the responder with the message: retryable.
    let _ = call.wiring.config.send(ConfigMsg::Renew(renewal));
}

/// The values of references, which go out by design: to operators who may write the configuration that names them.
pub(super) fn resolve(call: Call<'_>) {
    let Some((params, call)) = call.parse::<ResolveParams>() else { return };
    if params.command_name.trim().is_empty() {
        let why = "invalid secrets.resolve params: commandName";
        return call.responder.refuse(Refusal::invalid_request(why));
    }
    let targets: Vec<&str> =
        params.target_ids.iter().map(|id| id.trim()).filter(|id| !id.is_empty()).collect();
    let is_known = |id: &&str| id.split_once('.').is_some_and(|(section, _)| TARGETS.contains(&section));
    if let Some(unknown) = targets.iter().find(|id| !is_known(id)) {
        let why = format!("invalid secrets.resolve params: unknown target id \"{unknown}\"");
        return call.responder.refuse(Refusal::invalid_request(why));
    }
    let allowed = |key: &str| {
        params.allowed_paths.as_ref().is_none_or(|paths| paths.iter().any(|path| path.trim() == key))
    };
    let env = |name: &str| std::env::var(name).ok();
    let (mut assignments, mut diagnostics, mut inactive) = (Vec::new(), Vec::new(), Vec::new());
    let settings = &call.estate().config.load().settings;
    visit(&mut settings.clone(), &mut |spot, input| {
        let key = spot.key();
        let refers = match input {
            SecretInput::Held(held) => held.reference.is_some(),
            other => other.variable().is_some() || matches!(other, SecretInput::Reference(_)),
        };
        if !refers || !allowed(&key) || !targets.iter().any(|target| matches(target, &spot.path)) {
            return None;
        }
        if !spot.active {
            inactive.push(key);
            return None;
        }
        match input.resolve(&key, &env) {
            Ok(secret) => assignments.push(Assignment {
                path_segments: spot.path.clone(),
                value: secret.expose().into(),
                path: Some(key),
            }),
            Err(error) => diagnostics.push(error.to_string()),
        }
        None
    });
    call.responder.ok(&Resolved { ok: true, assignments, diagnostics, inactive_ref_paths: inactive });
}

/// Whether a place is meant by a target, in which `*` stands for any key.
fn matches(target: &str, path: &[String]) -> bool {
    let parts: Vec<&str> = target.split('.').collect();
    parts.len() == path.len() && parts.iter().zip(path).all(|(part, key)| *part == "*" || part == key)
}

pub(super) fn list(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((Empty {}, call)) = call.parse() else { return };
    let (estate, responder) = (call.estate().clone(), call.responder);
    ctx.detached(async move {
        match blocking(move || listed(&estate)).await {
            Ok(entries) => responder.ok(&Entries { entries }),
            Err(error) => responder.refuse(refused("secrets.store.list", error)),
        }
    });
}

fn listed(estate: &Estate) -> Result<Vec<StoreEntry>, StoreError> {
    let store = &estate.secrets.store;
    let one = |(name, entry): (String, Entry)| {
        let is_env = entry.kind == Kind::Env;
        let value = if is_env { Some(store.value(&entry)?.expose().to_owned()) } else { None };
        Ok(StoreEntry {
            name,
            scope_kind: "team".into(),
            scope_id: String::new(),
            created_at_ms: entry.created_at_ms.unsigned_abs(),
            updated_at_ms: entry.updated_at_ms.unsigned_abs(),
            updated_by: entry.updated_by,
            kind: if is_env { StoreKind::Env } else { StoreKind::Secret },
            value,
            allowed_hosts: (!is_env).then_some(entry.allowed_hosts),
        })
    };
    store.entries()?.into_iter().map(one).collect()
}

pub(super) fn set(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<StoreSetParams>() else { return };
    let client = call.responder.conn().grant().map(|grant| &grant.params.client);
    let by = client.map(|client| client.display_name.as_deref().unwrap_or(&client.id.to_string()).to_owned());
    let (estate, config, responder) = (call.estate().clone(), call.wiring.config.clone(), call.responder);
    let name = params.name.as_str().to_owned();
    let hosts = params.allowed_hosts.map(|hosts| hosts.iter().map(|host| host.to_lowercase()).collect());
    let writing = Writing {
        name: name.clone(),
        value: Secret::new(params.value.into_string()),
        kind: if params.kind == StoreKind::Env { Kind::Env } else { Kind::Secret },
        allowed_hosts: hosts,
        by: by.unwrap_or_else(|| "gateway".into()),
        at: estate.clock.now_ms(),
    };
    ctx.detached(async move {
        let store = estate.clone();
        match blocking(move || store.secrets.store.set(writing)).await {
            Ok(()) => taken_up(&estate, &config, &name, responder, "saved"),
            Err(error) => responder.refuse(refused("secrets.store.set", error)),
        }
    });
}

pub(super) fn delete(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<StoreDeleteParams>() else { return };
    let (estate, config, responder) = (call.estate().clone(), call.wiring.config.clone(), call.responder);
    let name = params.name.as_str().to_owned();
    ctx.detached(async move {
        let (store, meant) = (estate.clone(), name.clone());
        match blocking(move || store.secrets.store.delete(&meant)).await {
            Ok(()) => taken_up(&estate, &config, &name, responder, "deleted"),
            Err(error) => responder.refuse(refused("secrets.store.delete", error)),
        }
    });
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(StoreError::Invalid(format!("it was not done: {error}"))))
}

/// What is wrong with what was asked is told (as recorded), what is wrong with the store is logged.
fn refused(method: &str, error: StoreError) -> Refusal {
    match error {
        StoreError::Invalid(why) => Refusal::invalid_request(why),
        error => {
            tracing::warn!(target: "crabtree::secrets", "{method}: {error}");
            Refusal::failed(format!("{method} failed"))
        }
    }
}

/// The answer to a change of the store, when those who work with what was changed do so.
fn taken_up(
    estate: &Arc<Estate>,
    config: &Slot<ConfigMsg>,
    name: &str,
    responder: Responder,
    done: &'static str,
) {
    let mut answer: Value = json!({ "ok": true, "reloaded": false });
    if !refers_to_store(&estate.config.load().settings, name) {
        return responder.ok(&answer);
    }
    answer["reloaded"] = true.into();
    let refusal = Refusal::failed(format!(
        "Secret store entry was {done}, but what refers to it could not be looked up. See the log, then retry \
         secrets.reload."
    ));
    // An actor that is down drops the responder with the message: retryable.
    let _ = config.send(ConfigMsg::Renew(Renewal { responder, answer, refusal }));
}

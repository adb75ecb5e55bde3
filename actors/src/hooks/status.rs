//! How it is with webhooks (`hooks.status`).

use super::MAX_OPEN;
use crate::estate::Estate;
use crate::settings::{HookAction, HookMapping};
use crabtree_protocol::params::hooks::{MappingRow, Status, Webhooks};

/// It.
pub fn status(estate: &Estate, agent: &str) -> Status {
    let config = estate.config.load();
    let hooks = &config.settings.hooks;
    let mut warnings = hooks.warnings();
    let secret = hooks.secret();
    if hooks.enabled && secret.is_none() {
        warnings.push("hooks.token has no value; nobody is heard until it has".into());
    }
    if secret.is_some_and(|secret| estate.auth().is_secret(secret.expose())) {
        warnings.push("hooks.token is the gateway's own secret; give it a value of its own".into());
    }
    Status {
        workspace_dir: config.workspace(agent).display().to_string(),
        managed_hooks_dir: config.state_dir.join("hooks").display().to_string(),
        hooks: Vec::new(),
        webhooks: Webhooks {
            enabled: hooks.enabled,
            path: hooks.path.as_str().to_owned(),
            open: (MAX_OPEN - estate.hook_runs.available_permits().min(MAX_OPEN)) as u64,
            mappings: hooks.all_mappings().iter().map(row).collect(),
            warnings,
        },
    }
}

fn row(mapping: &HookMapping) -> MappingRow {
    MappingRow {
        id: mapping.id.clone().unwrap_or_default(),
        path: mapping.path().map(str::to_owned),
        source: mapping.matching.source.clone(),
        action: match mapping.action {
            HookAction::Wake => "wake".into(),
            HookAction::Agent => "agent".into(),
        },
        agent_id: mapping.agent_id.clone(),
        runs: mapping.transform.is_none(),
    }
}

//! The configuration: it is read as the gateway would read it.

use std::sync::Arc;

use crabtree_actors::config::LAST_GOOD;
use crabtree_actors::settings::Issue;

use super::{Finding, Name, Scene};

pub(super) async fn check(name: Name, scene: Arc<Scene>) -> Vec<Finding> {
    let loaded = match &scene.loaded {
        Ok(loaded) => loaded,
        Err(invalid) => {
            let kept = scene.state_dir.join(LAST_GOOD).exists();
            let next = match kept {
                true => {
                    "mend the file: until then the gateway works with the last configuration that was good"
                }
                false => "mend the file: the gateway does not start with it",
            };
            return vec![name.problem(invalid.to_string(), next)];
        }
    };
    let next = |warning: &str| match loaded.origin.older.iter().any(|old| is_about(warning, &old.path)) {
        true => "`crabtree config migrate` writes it as it is written now",
        false => "correct the name, or take it out: `crabtree config schema` shows what there is",
    };
    let mut found: Vec<Finding> =
        loaded.warnings.iter().map(|warning| name.warn(warning, next(warning))).collect();
    let path = loaded.path.display();
    let mend = |issue: &Issue| {
        let next = "correct that: the gateway starts without it, and a running one keeps what it was";
        let at = if issue.path.is_empty() { String::new() } else { format!("{}: ", issue.path) };
        name.problem(format!("{path}: {at}{}", issue.message), next)
    };
    let seen = match loaded.exists {
        true => format!("{path} is good"),
        false => format!("{path} is not there: everything is at its default"),
    };
    match loaded.issues().is_empty() {
        true => found.insert(0, name.ok(seen)),
        false => found.extend(loaded.issues().iter().map(mend)),
    }
    found
}

fn is_about(warning: &str, older: &str) -> bool {
    warning.contains(&format!("{older} is an older form"))
}

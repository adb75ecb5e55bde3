//! Secrets: each reference in the configuration leads to a value. Values are not looked at.

use std::sync::Arc;

use crabtree_actors::process::Guard;
use crabtree_actors::secrets::{Ask, Secrets};
use crabtree_actors::settings::Loaded;

use super::{Finding, Name, Scene, blocking};
use crate::config::{self as files, Environment};

pub(super) async fn check(name: Name, scene: Arc<Scene>) -> Vec<Finding> {
    let Ok(loaded) = &scene.loaded else {
        return vec![name.warn("not looked for: the configuration cannot be read", "mend it first")];
    };
    let (loaded, env) = (loaded.clone(), scene.env().clone());
    blocking(move || look(name, &loaded, &env)).await.unwrap_or_default()
}

fn look(name: Name, loaded: &Loaded, env: &Environment) -> Vec<Finding> {
    let mut loaded = loaded.clone();
    let secrets = Secrets::new(&loaded.state_dir.clone(), Guard::this_program(), &[0; 32]);
    let report = secrets.prepare(&mut loaded, Ask::Anew);
    let mut found: Vec<Finding> = report
        .wanting()
        .map(|row| {
            let why = row.why.as_deref().unwrap_or("it is not found");
            let next = match row.spot.is_critical() {
                true => "give it a value where it is kept: without it the gateway does not start",
                false => "give it a value where it is kept; the key stays as it is",
            };
            name.problem(format!("{} has no value: {why}", row.spot.key()), next)
        })
        .collect();
    let critical = report.wanting().any(|row| row.spot.is_critical());
    if let Err(error) = files::client_secret(&loaded, env)
        && !critical
    {
        found.push(name.problem(error.to_string(), "without it the gateway does not start"));
    }
    if found.is_empty() {
        let seen = match report.rows.len() {
            0 => "none is referred to".to_owned(),
            1 => "the one that is referred to is there".to_owned(),
            n => format!("all {n} that are referred to are there"),
        };
        found.push(name.ok(seen));
    }
    found
}

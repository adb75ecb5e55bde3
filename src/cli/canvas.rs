//! `crabtree canvas`: where a browser sees the canvas, for as long as the command runs.

use super::{Failure, Global, print_json, print_line};
use crabtree_actors::canvas::{A2UI, LIFETIME, PAGES, SURFACE};
use crabtree_protocol::Scope;
use serde_json::{Value, json};
use std::process::ExitCode;
use tokio::time::timeout;

pub(super) async fn run(global: &Global) -> Result<ExitCode, Failure> {
    let mut client = global.connect(&[Scope::Read]).await?;
    loop {
        let told = client.request("plugin.surface.refresh", json!({ "surface": SURFACE })).await?;
        let base = told["pluginSurfaceUrls"][SURFACE].as_str().unwrap_or_default();
        show(global, base, &told["expiresAtMs"]);
        // The address dies with the connection, so what comes over it is read on.
        let ended = timeout(LIFETIME, async {
            loop {
                if let Err(failure) = client.next().await {
                    return failure;
                }
            }
        });
        if let Ok(failure) = ended.await {
            return Err(failure);
        }
    }
}

fn show(global: &Global, base: &str, until: &Value) {
    let (pages, a2ui) = (format!("{base}{PAGES}"), format!("{base}{A2UI}"));
    if global.json {
        return print_json(&json!({ "canvas": pages, "a2ui": a2ui, "expiresAtMs": until }));
    }
    print_line(&format!("pages  {pages}"));
    print_line(&format!("a2ui   {a2ui}"));
    let minutes = LIFETIME.as_secs() / 60;
    print_line(&format!(
        "Good while this runs, {minutes} minutes at the most; then the next ones are printed."
    ));
}

//! `crabtree logs`: the log of a running gateway.

use std::{process::ExitCode, time::Duration};

use crabtree_protocol::Scope;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{Failure, Global, LogsArgs, print_line, printable};

/// Between two looks while following.
const POLL: Duration = Duration::from_secs(1);
/// What one answer may hold; the gateway keeps no more.
const MAX_BYTES: u64 = 256 * 1024;

pub(super) async fn run(global: &Global, arguments: LogsArgs) -> Result<ExitCode, Failure> {
    let mut client = global.connect(&[Scope::Read]).await?;
    let mut params = json!({"limit": arguments.lines, "maxBytes": MAX_BYTES});
    loop {
        let tail = client.request("logs.tail", params).await?;
        if tail["reset"] == true {
            eprintln!("crabtree: some lines are gone");
        }
        for line in tail["lines"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let shown = if global.json { line.to_owned() } else { rendered(line) };
            if matches(&shown, arguments.filter.as_deref()) {
                print_line(&shown);
            }
        }
        if !arguments.follow {
            return Ok(ExitCode::SUCCESS);
        }
        params = json!({"limit": 5000, "maxBytes": MAX_BYTES, "cursor": tail["cursor"]});
        sleep(POLL).await;
    }
}

fn matches(line: &str, filter: Option<&str>) -> bool {
    filter.is_none_or(|filter| line.to_lowercase().contains(&filter.to_lowercase()))
}

/// A line for people: time, level, subsystem, and message.
fn rendered(line: &str) -> String {
    let Ok(parsed) = serde_json::from_str::<Value>(line) else { return printable(line) };
    let meta = &parsed["_meta"];
    let name =
        meta["name"].as_str().and_then(|name| serde_json::from_str::<Value>(name).ok()).unwrap_or_default();
    let text = format!(
        "{} {:5} {}: {}",
        parsed["time"].as_str().unwrap_or("-"),
        meta["logLevelName"].as_str().unwrap_or("-"),
        name["subsystem"].as_str().unwrap_or("-"),
        parsed["message"].as_str().unwrap_or_default(),
    );
    printable(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_rendered_and_filtered() {
        let line = json!({"message": "child exited restarts=2", "time": "T",
            "_meta": {"logLevelName": "WARN", "name": "{\"subsystem\":\"tree\"}"}});
        let text = rendered(&line.to_string());
        assert_eq!(text, "T WARN  tree: child exited restarts=2");
        assert!(matches(&text, Some("CHILD")) && matches(&text, None) && !matches(&text, Some("store")));
        assert_eq!(rendered("no JSON \x1b[31m"), "no JSON \u{fffd}[31m");
    }
}

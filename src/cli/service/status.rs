//! `crabtree service status`.

use std::fs;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::machine::Machine;
use super::{Failure, Global, installed, print_json, print_line};
use crate::cli::printable;
use crate::service::Platform;

/// What systemd knows, and what we call it.
const FACTS: [(&str, &str); 6] = [
    ("ActiveState", "active"),
    ("SubState", "state"),
    ("UnitFileState", "enabled"),
    ("MainPID", "pid"),
    ("NRestarts", "restarts"),
    ("StatusText", "says"),
];

pub(super) async fn run(global: &Global, machine: &Machine) -> Result<ExitCode, Failure> {
    let text = fs::read_to_string(machine.file()).ok();
    let mut told = installed(text.as_deref(), machine);
    let runs = machine.runs().await;
    told["managerRuns"] = runs.into();
    if runs {
        facts(&mut told, machine.platform, &machine.facts().await);
    }
    let is_up = told["active"] == "active";
    told["ok"] = is_up.into();
    if global.json {
        print_json(&told);
    } else {
        print_line(&printable(&words(&told, machine.silence())));
    }
    Ok(if is_up { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn facts(told: &mut Value, platform: Platform, said: &str) {
    let between = if platform == Platform::Systemd { "=" } else { " = " };
    let of = |key: &str| said.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(between));
    if platform == Platform::Launchd {
        told["active"] = json!(if of("state") == Some("running") { "active" } else { "inactive" });
        told["pid"] = json!(of("pid").and_then(|pid| pid.parse::<u32>().ok()));
        return;
    }
    for (key, name) in FACTS {
        let Some(value) = of(key).filter(|value| !value.is_empty()) else { continue };
        told[name] = value.parse::<u32>().map_or_else(|_| json!(value), |number| json!(number));
    }
    if told["pid"] == 0 {
        told["pid"] = Value::Null;
    }
}

fn words(told: &Value, silence: &str) -> String {
    let text = |key: &str| match &told[key] {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => "?".to_owned(),
    };
    let file = match (told["installed"] == true, told["upToDate"] == true) {
        (false, _) => "not there: crabtree service install".to_owned(),
        (true, true) => "up to date".to_owned(),
        (true, false) => "older than this program, or not its own: crabtree service install".to_owned(),
    };
    let mut lines = vec![format!("file      {}, {file}", text("file"))];
    if told["managerRuns"] != true {
        lines.push(format!("state     unknown: {silence}"));
        return lines.join("\n");
    }
    lines.push(format!("state     {} ({}), {}", text("active"), text("state"), text("enabled")));
    if told["pid"].is_u64() {
        lines.push(format!("pid       {}, {} restarts", text("pid"), text("restarts")));
    }
    if told["says"].is_string() {
        lines.push(format!("says      {}", text("says")));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_manager_knows_is_told_in_our_words() {
        let mut told = json!({ "file": "/f", "installed": true, "upToDate": true, "managerRuns": true });
        let said = "ActiveState=active\nSubState=running\nUnitFileState=enabled\nMainPID=12\nNRestarts=3\n\
                    StatusText=serving on 127.0.0.1:1\n";
        facts(&mut told, Platform::Systemd, said);
        assert_eq!(
            (&told["active"], &told["pid"], &told["restarts"]),
            (&json!("active"), &json!(12), &json!(3))
        );
        assert_eq!(
            words(&told, ""),
            "file      /f, up to date\nstate     active (running), enabled\npid       12, 3 restarts\n\
             says      serving on 127.0.0.1:1"
        );
        let mut told = json!({});
        facts(&mut told, Platform::Launchd, "{\n\tstate = running\n\tpid = 7\n}\n");
        assert_eq!((&told["active"], &told["pid"]), (&json!("active"), &json!(7)));
    }
}

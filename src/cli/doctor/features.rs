//! For each feature, how one sees that it works, and how it is taken back.

use serde_json::json;

use super::{print_json, print_line};
use crate::cli::table;

/// What, how it is verified, how it is taken back.
const FEATURES: &[[&str; 3]] = &[
    ["gateway", "crabtree health; event health; GET /ready", "stop it; its state stays"],
    ["configuration", "crabtree config validate; event config.changed", "openclaw.json.bak beside it"],
    [
        "agent and models",
        "crabtree agent -m hello; crabtree call models.probe '{\"provider\":\"P\"}'",
        "config unset agents.defaults.model",
    ],
    ["sessions", "crabtree call sessions.list; event sessions.changed", "sessions.delete leaves an archive"],
    ["tools", "crabtree call tools.effective '{\"sessionKey\":\"main\"}'; say /tool NAME JSON", "tools.deny"],
    [
        "approvals",
        "crabtree call approval.history; a message with buttons in the channel",
        "exec.approvals.set",
    ],
    ["skills", "crabtree skills check", "remove its folder"],
    ["MCP servers", "crabtree tree (gateway/agents); tools.catalog", "mcp.servers.NAME.enabled: false"],
    ["channels", "crabtree channels list; a visible reply in the chat", "crabtree channels stop NAME"],
    [
        "pairing of people",
        "crabtree channels pending; the reply to their next message",
        "allowFrom, dmPolicy",
    ],
    ["devices", "crabtree devices list; event device.pair.resolved", "crabtree devices remove ID"],
    ["nodes", "crabtree call node.list; crabtree node status there", "crabtree devices remove ID"],
    ["canvas", "crabtree canvas", "plugins.entries.canvas.config.host.enabled: false"],
    ["actors", "crabtree tree --watch; event system.actors.changed", "system.actors.resume"],
    ["ledger of acts", "crabtree audit list; crabtree audit verify", "logging.audit.enabled: false"],
    ["metrics and log", "GET /metrics; crabtree logs -f", "logging.level"],
    ["service", "crabtree service status; crabtree healthcheck", "crabtree service uninstall"],
    ["database", "crabtree call system.store", "a copy is kept before each migration"],
    ["backups", "crabtree backup verify FILE", "crabtree backup restore FILE"],
];

pub(super) fn print(as_json: bool) {
    if as_json {
        let rows: Vec<_> = FEATURES
            .iter()
            .map(|[feature, verify, undo]| json!({ "feature": feature, "verify": verify, "undo": undo }))
            .collect();
        return print_json(&json!({ "features": rows }));
    }
    let head = ["FEATURE", "VERIFY", "TAKE BACK"];
    let rows: Vec<[String; 3]> =
        std::iter::once(&head).chain(FEATURES).map(|row| row.map(str::to_owned)).collect();
    table::lines(&rows).iter().for_each(|line| print_line(line));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::CommandFactory;
    use crabtree_protocol::{Event, Method};

    /// accepts: K14
    #[test]
    fn every_command_method_and_event_that_is_named_exists() {
        for [feature, verify, _] in FEATURES {
            for how in verify.split("; ") {
                let words: Vec<&str> = how.split_whitespace().collect();
                match words[..] {
                    ["crabtree", "call", method, ..] => {
                        assert!(Method::from_name(method).is_some(), "{feature}: {method}");
                    }
                    ["crabtree", command, ..] => {
                        let known = Cli::command();
                        assert!(known.get_subcommands().any(|sub| sub.get_name() == command), "{how}");
                    }
                    ["event", event] => {
                        assert!(Event::ALL.iter().any(|known| known.name() == event), "{how}");
                    }
                    _ => {}
                }
            }
        }
    }
}

//! On which machine a command runs: what the call asks for, as far as the configuration lets it. Pure.

use crate::settings::{ExecHost, ExecSandbox, ExecSettings, Settings};
use crabtree_protocol::params::nodes::NodeRow;

/// The command that a node must be approved for.
pub(super) const RUN: &str = "system.run";

/// On which machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Venue {
    /// On the gateway's own.
    Here,
    /// At a node.
    Node,
}

/// Where a call that asks for this host runs. What is kept in the sandbox does not leave it because a call says so.
///
/// # Errors
/// Nowhere; why, for the model.
pub(super) fn venue(asked: ExecHost, settings: &ExecSettings) -> Result<Venue, String> {
    let sandboxed = settings.sandbox == ExecSandbox::Bwrap;
    let named = asked != ExecHost::Auto;
    if named && settings.host != ExecHost::Auto && asked != settings.host {
        return Err("exec runs elsewhere by configuration (tools.exec.host): leave host out".into());
    }
    match if named { asked } else { settings.host } {
        ExecHost::Gateway | ExecHost::Node if settings.host == ExecHost::Auto && sandboxed => Err(
            "commands are kept in the sandbox: leave host out, or somebody has to name this one in tools.exec.host"
                .into(),
        ),
        ExecHost::Sandbox if !sandboxed => {
            Err("there is no sandbox here: leave host out, or somebody has to set tools.exec.sandbox to bwrap"
                .into())
        }
        ExecHost::Node => Ok(Venue::Node),
        ExecHost::Auto | ExecHost::Sandbox | ExecHost::Gateway => Ok(Venue::Here),
    }
}

/// The node that the configuration binds an agent's commands to: its own `tools`, then everybody's.
pub(super) fn bound<'a>(settings: &'a Settings, agent_id: &str) -> Option<&'a str> {
    let own = settings.agents.entry(agent_id).and_then(|agent| agent.tools.as_ref());
    own.and_then(|tools| tools.exec.node.as_deref()).or(settings.tools.exec.node.as_deref())
}

/// The node at which a command runs: the one that the configuration binds commands to, the one that is asked for, or
/// the only one that can.
///
/// # Errors
/// There is none, in words for the model.
pub(super) fn node<'a>(
    nodes: &'a [NodeRow],
    bound: Option<&str>,
    asked: Option<&str>,
) -> Result<&'a NodeRow, String> {
    use crate::tools::nodes::matching;
    let runs = |node: &&NodeRow| node.connected && node.commands.iter().any(|command| command == RUN);
    let named = match (bound.map(|name| matching(nodes, name)), asked.map(|name| matching(nodes, name))) {
        (Some(bound), None) => Some(bound?),
        (None, asked) => asked.transpose()?,
        (Some(bound), Some(asked)) => {
            let (bound, asked) = (bound?, asked?);
            if bound.node_id != asked.node_id {
                return Err(format!(
                    "exec is bound to the node {} by configuration: leave node out",
                    bound.node_id
                ));
            }
            Some(bound)
        }
    };
    let able: Vec<&NodeRow> = nodes.iter().filter(runs).collect();
    let names = || able.iter().map(|node| node.node_id.as_str()).collect::<Vec<_>>().join(", ");
    match (named, &able[..]) {
        (Some(node), _) if runs(&node) => Ok(node),
        (Some(node), _) => Err(format!(
            "The node {} is not connected or may not run commands; those that can: [{}]",
            node.node_id,
            names()
        )),
        (None, [only]) => Ok(*only),
        (None, []) => {
            Err("No node is connected that may run commands: one has to be started, and a person has to \
            approve it"
                .into())
        }
        (None, _) => Err(format!("Several nodes can run commands: give one as node: {}", names())),
    }
}

/// The words that run a line in the shell of a node of this platform.
pub(super) fn shell(platform: Option<&str>, line: &str) -> Vec<String> {
    let platform = platform.unwrap_or_default().trim().to_ascii_lowercase();
    let words: &[&str] = match () {
        () if platform.starts_with("win") => &["cmd.exe", "/d", "/s", "/c"],
        () if platform == "darwin" || platform.starts_with("macos") => &["/bin/sh", "-c"],
        () => &["/bin/sh", "-lc"],
    };
    words.iter().copied().chain([line]).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(id: &str, name: &str, connected: bool, commands: &[&str]) -> NodeRow {
        let row = json!({
            "nodeId": id, "displayName": name, "caps": [], "commands": commands, "sessionHost": false,
            "approvalState": "approved", "paired": true, "connected": connected, "remoteIp": "10.0.0.7",
        });
        serde_json::from_value(row).unwrap()
    }

    #[test]
    fn a_call_does_not_leave_the_sandbox_by_itself() {
        use ExecHost::{Auto, Gateway, Node, Sandbox};
        let of = |host, sandbox, asked| {
            venue(asked, &ExecSettings { host, sandbox, ..ExecSettings::default() }).ok()
        };
        let (here, there) = (Some(Venue::Here), Some(Venue::Node));
        let (off, on) = (ExecSandbox::Off, ExecSandbox::Bwrap);
        assert_eq!(
            [Auto, Gateway, Node, Sandbox].map(|asked| of(Auto, off, asked)),
            [here, here, there, None]
        );
        assert_eq!([Auto, Gateway, Node, Sandbox].map(|asked| of(Auto, on, asked)), [here, None, None, here]);
        assert_eq!(
            [Auto, Gateway, Node, Sandbox].map(|asked| of(Node, on, asked)),
            [there, None, there, None]
        );
        assert_eq!([Auto, Node].map(|asked| of(Gateway, off, asked)), [here, None]);
    }

    #[test]
    fn the_only_able_node_is_meant_unless_one_is_named() {
        let nodes = [
            row("aaaaaaaa", "one", true, &[RUN]),
            row("bbbbbbbb", "two", false, &[RUN]),
            row("cc", "three", true, &[]),
        ];
        let id = |bound, asked| node(&nodes, bound, asked).map(|node| node.node_id.as_str());
        assert_eq!(id(None, None), Ok("aaaaaaaa"));
        assert_eq!(id(None, Some("ONE")), Ok("aaaaaaaa"));
        assert_eq!(id(Some("aaaaaa"), Some("one")), Ok("aaaaaaaa"));
        assert!(id(None, Some("aaa")).unwrap_err().contains("There is no node aaa"), "that is too short");
        assert!(id(None, Some("two")).unwrap_err().contains("those that can: [aaaaaaaa]"));
        assert!(id(None, Some("cc")).unwrap_err().contains("may not run commands"));
        assert!(id(Some("one"), Some("two")).unwrap_err().contains("bound to the node aaaaaaaa"));
        assert!(id(None, Some("10.0.0.7")).unwrap_err().contains("Several nodes are called"));
        assert!(node(&nodes[1..], None, None).unwrap_err().contains("No node is connected"));
        let two = [row("a", "one", true, &[RUN]), row("b", "two", true, &[RUN])];
        assert!(node(&two, None, None).unwrap_err().contains("give one as node: a, b"));
    }

    #[test]
    fn each_platform_has_its_shell() {
        assert_eq!(shell(Some("Windows 11"), "dir"), ["cmd.exe", "/d", "/s", "/c", "dir"]);
        assert_eq!(shell(Some("macOS 15"), "ls"), ["/bin/sh", "-c", "ls"]);
        assert_eq!(shell(None, "ls"), ["/bin/sh", "-lc", "ls"]);
    }
}

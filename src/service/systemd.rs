//! Unit files of systemd.
//!
//! A system's service is confined as far as its tools can live with it. What is left out on purpose:
//! `ProtectKernelTunables`, `ProtectKernelLogs` and `ProcSubset=pid` cover parts of `/proc`, and `RestrictNamespaces`
//! forbids namespaces: with any of them bubblewrap, in which commands of agents run, cannot start.
//! `MemoryDenyWriteExecute` stops Node, which bridges and MCP servers run on.

use super::{OPEN_FILES, START_LIMIT, STOP_LIMIT, Scope, Unit, WATCHDOG, shown};
use std::path::Path;

/// Homes, of which a confined service sees nothing unless it has to.
const HOMES: [&str; 3] = ["/home", "/root", "/run/user"];
/// Where systemd makes and opens the state directories of services.
const STATE_DIRS: &str = "/var/lib";

/// When it is started, stopped, and started again.
const LIFE: &str = "\
# It tells that it lives twice in this time, unless its tree or what watches over that hangs.
WatchdogSec={watchdog}
TimeoutStartSec={start}
# Turns under way may end first.
KillMode=mixed
TimeoutStopSec={stop}
# 70: it cannot heal itself, and is started anew; 78: a faulty configuration is for a person to correct.
Restart=on-failure
RestartSec=2
RestartPreventExitStatus=78

# Tools and bridges count, too. The one that takes too much is ended then, not the gateway.
MemoryHigh=50%
MemoryMax=75%
OOMPolicy=continue
LimitNOFILE={files}
UMask=0077

";

/// What both kinds are held to; no privilege is needed for it.
const FORBIDDEN: &str = "\
NoNewPrivileges=true
LockPersonality=true
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictRealtime=true
RestrictSUIDSGID=true
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
SystemCallFilter=~@clock @cpu-emulation @debug @module @obsolete @raw-io @reboot @swap
";

/// What only the system's manager can do.
const CONFINED: &str = "\
# Not ProtectKernelTunables, ProtectKernelLogs, ProcSubset or RestrictNamespaces: with them bubblewrap does not start.
AmbientCapabilities=
CapabilityBoundingSet=
KeyringMode=private
PrivateDevices=true
PrivateTmp=true
ProtectClock=true
ProtectControlGroups=true
ProtectHostname=true
ProtectKernelModules=true
ProtectProc=invisible
RemoveIPC=true
";

pub(super) fn text(unit: &Unit, stamp: &str) -> String {
    let life = LIFE
        .replace("{watchdog}", &WATCHDOG.as_secs().to_string())
        .replace("{start}", &START_LIMIT.as_secs().to_string())
        .replace("{stop}", &STOP_LIMIT.as_secs().to_string())
        .replace("{files}", &OPEN_FILES.to_string());
    let (confined, target) = match unit.scope {
        Scope::User => (String::new(), "default.target"),
        Scope::System => (format!("{CONFINED}{}", files(unit)), "multi-user.target"),
    };
    let (head, service) = (head(unit, stamp), service(unit));
    format!("{head}{service}{life}{FORBIDDEN}{confined}\n[Install]\nWantedBy={target}\n")
}

/// What people should know, and what it waits for.
fn head(unit: &Unit, stamp: &str) -> String {
    let (kind, flag, system, of_user) = match unit.scope {
        Scope::User => ("a user's", "", "", " --user"),
        Scope::System => {
            ("a system", " --system", "Wants=network-online.target\nAfter=network-online.target\n", "")
        }
    };
    let token = match (unit.scope, &unit.state_dir) {
        (Scope::System, Some(dir)) => {
            format!("sudo -u {} {} token --state-dir {}", unit.user, shown(&unit.program), shown(dir))
        }
        _ => format!("{} token", shown(&unit.program)),
    };
    format!(
        "\
# Crabtree as {kind} service: `crabtree service install{flag}`, template {stamp}
# What is changed belongs beside this file, which is written anew: systemctl{of_user} edit crabtree
# The token for clients: {token}
# After a change of the configuration: systemctl{of_user} reload crabtree

[Unit]
Description=Crabtree, an OpenClaw gateway
{system}# It is tried for as long as it takes.
StartLimitIntervalSec=0

"
    )
}

/// What is started, as whom and with what.
fn service(unit: &Unit) -> String {
    let start: Vec<String> = unit.arguments().iter().map(|word| quoted(&word.replace('$', "$$"))).collect();
    let mut lines = vec![
        "[Service]".to_owned(),
        "Type=notify".to_owned(),
        "NotifyAccess=main".to_owned(),
        format!("ExecStart={}", start.join(" ")),
        "ExecReload=/bin/kill -HUP $MAINPID".to_owned(),
    ];
    if unit.scope == Scope::System {
        lines.push(format!("User={}", unit.user));
    }
    if let Some(dir) = &unit.state_dir {
        lines.push(format!("Environment={}", quoted(&format!("CRABTREE_STATE_DIR={}", shown(dir)))));
    }
    if let Some(path) = &unit.path {
        lines.push(format!("Environment={}", quoted(&format!("PATH={path}"))));
    }
    let keys = match unit.scope {
        Scope::User => "%E/crabtree/environment",
        Scope::System => "/etc/crabtree/environment",
    };
    lines.push("# Keys of model providers and channels, one NAME=value a line; mode 0600.".to_owned());
    lines.push(format!("EnvironmentFile=-{keys}"));
    if let Some(name) = managed_state(unit) {
        lines.push(format!("StateDirectory={}\nStateDirectoryMode=0700", quoted(&name)));
    }
    lines.join("\n") + "\n\n"
}

/// The name of its state directory, if it is where systemd looks after it.
fn managed_state(unit: &Unit) -> Option<String> {
    let dir = unit.state_dir.as_deref().filter(|_| unit.scope == Scope::System)?;
    Some(shown(dir.strip_prefix(STATE_DIRS).ok()?))
}

/// Which files it may read and write.
fn files(unit: &Unit) -> String {
    let mut writable: Vec<&Path> = unit.writable.iter().map(|dir| &**dir).collect();
    writable.extend(unit.state_dir.as_deref().filter(|_| managed_state(unit).is_none()));
    let is_in_a_home = |dir: &&Path| HOMES.iter().any(|home| dir.starts_with(home));
    let homes = if writable.iter().any(is_in_a_home) { "read-only" } else { "true" };
    let mut text = format!(
        "ProtectHome={homes}\n# Workspaces of agents that are elsewhere have to be named.\nProtectSystem=strict\n"
    );
    for dir in writable {
        text += &format!("ReadWritePaths={}\n", quoted(&format!("-{}", shown(dir))));
    }
    text
}

/// A word of a setting: `%` is systemd's own.
fn quoted(word: &str) -> String {
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
    let is_plain = !word.contains(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '\\' | ';'));
    if is_plain { escaped } else { format!("\"{escaped}\"") }
}

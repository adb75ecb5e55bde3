//! Which methods leave a row in the ledger of acts: all that change something, by their scope, unless it is said
//! otherwise here. A method that is added needs no entry.

use super::Method;
use crate::scope::Scope;

/// Methods that need more than the right to read, and change nothing, by the last word of their names.
const READING: [&str; 10] = [
    "list",
    "get",
    "status",
    "history",
    "schema",
    "lookup",
    "preview",
    "defaults",
    "setupStatus",
    "preflight",
];

/// Methods that change something and leave no row. What is said to an agent is told by the row of the run that answers
/// it; the rest says no more than that somebody is there, or would fill the ledger with key strokes.
const LEFT_OUT: [&str; 10] = [
    "agent",
    "chat.send",
    "sessions.send",
    "sessions.steer",
    "session.typing",
    "system-event",
    "terminal.input",
    "terminal.resize",
    "secrets.resolve",
    "set-heartbeats",
];

/// Whether a request of this name, which takes this scope, leaves a row in the ledger of acts.
pub fn is_audited(name: &str, scope: Option<Scope>) -> bool {
    let changes = !matches!(scope, None | Some(Scope::Read | Scope::SessionsRead | Scope::TalkSecrets));
    let word = name.rsplit('.').next().unwrap_or(name);
    changes && !READING.contains(&word) && !word.starts_with("wait") && !LEFT_OUT.contains(&name)
}

impl Method {
    /// Whether a request leaves a row in the ledger of acts.
    pub fn is_audited(self) -> bool {
        is_audited(self.name(), self.scope().minimum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_something_is_audited_and_what_reads_or_talks_is_not() {
        let audited = |name: &str| Method::from_name(name).expect("a method").is_audited();
        for name in [
            "config.patch",
            "sessions.delete",
            "sessions.patch",
            "device.pair.approve",
            "exec.approval.resolve",
            "exec.approvals.set",
            "node.invoke",
            "tools.invoke",
            "system.actors.park",
            "chat.abort",
            "send",
            "skills.install",
        ] {
            assert!(audited(name), "{name}");
        }
        for name in [
            "health",
            "config.get",
            "chat.send",
            "agent.wait",
            "device.pair.list",
            "exec.approvals.get",
            "exec.approval.waitDecision",
            "node.event",
            "sessions.groups.defaults",
            "web.login.wait",
            "update.status",
        ] {
            assert!(!audited(name), "{name}");
        }
    }

    #[test]
    fn a_method_of_a_channel_is_judged_alike() {
        assert!(is_audited("mailbox.empty", Some(Scope::Write)));
        assert!(!is_audited("mailbox.list", Some(Scope::Write)) && !is_audited("mailbox.empty", None));
    }
}

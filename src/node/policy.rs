//! Whether a command may run here: what the owner of this machine said when the node was started, and the document of
//! approvals in the node's directory, of which the stricter word counts. A command that neither allows needs a person.

use super::Host;
use crabtree_actors::approvals::policy::{Policy, Verdict, verdict};
use crabtree_actors::approvals::{ExecApprovals, Remembered};
use crabtree_actors::settings::{ExecAsk, ExecSecurity, ExecSettings};
use crabtree_actors::tools::exec::command::{Rule, lists};
use crabtree_protocol::params::approvals::policy::{
    AllowlistEntry, AllowlistRule, PolicySnapshot, SnapshotAsk, SnapshotSecurity,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Whose rules hold for a command that names no agent.
const DEFAULT_AGENT: &str = "main";
/// How an entry begins that allows one command in one directory.
const ONE_COMMAND: &str = "sha256:cwd-argv:v1:";

/// Why a command may not run, as recorded.
#[derive(Debug, PartialEq)]
pub(super) struct Denial {
    /// For programs.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

impl Denial {
    /// Nobody has agreed to it.
    pub fn unapproved(why: &str) -> Self {
        Self { reason: "approval-required", message: format!("SYSTEM_RUN_DENIED: {why}") }
    }

    /// There is no such directory.
    pub fn no_directory() -> Self {
        let message = "SYSTEM_RUN_DENIED: working directory does not exist or is inaccessible".into();
        Self { reason: "cwd-unavailable", message }
    }

    fn disabled(why: &str) -> Self {
        Self { reason: "security=deny", message: format!("SYSTEM_RUN_DISABLED: {why}") }
    }
}

/// A command as it would be started.
#[derive(Debug)]
pub(super) struct Start {
    /// Its words as they came.
    pub argv: Vec<String>,
    /// The program that the first one names, if there is one.
    pub program: Option<PathBuf>,
    /// Where it runs, really.
    pub cwd: PathBuf,
    /// Whether it brings variables of its own: they could turn any program into another one.
    pub has_env: bool,
}

impl Start {
    /// What an entry says that allows just this.
    fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        let cwd = self.cwd.to_string_lossy();
        for word in [cwd.as_ref()].into_iter().chain(self.argv.iter().skip(1).map(String::as_str)) {
            // With its length, so that no two commands are the same text.
            hash.update((word.len() as u64).to_be_bytes());
            hash.update(word.as_bytes());
        }
        format!("{ONE_COMMAND}{}", hex(&hash.finalize()))
    }

    fn is_listed_by(&self, entry: &AllowlistEntry, home: Option<&Path>) -> bool {
        let Some(program) = &self.program else { return false };
        match &entry.arg_pattern {
            // A pattern that is not ours is not understood, and allows nothing.
            Some(pattern) => entry.pattern == program.to_string_lossy() && *pattern == self.fingerprint(),
            None => lists(&[Rule::new(&entry.pattern, None)], &self.argv, program, home),
        }
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where programs are looked for.
pub(super) fn path() -> OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

/// What is in force for one agent.
pub(super) struct InForce {
    document: Arc<ExecApprovals>,
    settings: ExecSettings,
    agent_id: String,
}

impl InForce {
    /// Reads the document anew: somebody may have changed it by hand.
    ///
    /// # Errors
    /// It cannot be used, so nothing may run.
    pub fn read(host: &Host, agent_id: Option<&str>) -> Result<Self, Denial> {
        host.approvals.show().map_err(|refusal| Denial::disabled(&refusal.message))?;
        let settings =
            ExecSettings { security: host.security, ask: ExecAsk::OnMiss, ..ExecSettings::default() };
        let agent_id = agent_id.unwrap_or(DEFAULT_AGENT).to_owned();
        Ok(Self { document: host.approvals.load().clone(), settings, agent_id })
    }

    fn policy(&self) -> Policy {
        Policy::of(&self.document, &self.settings, &self.agent_id)
    }

    /// Whether this may be started; `agreed` says whether a person agreed to it.
    ///
    /// # Errors
    /// Why not.
    pub fn judge(&self, start: &Start, agreed: bool) -> Result<(), Denial> {
        let home = std::env::home_dir();
        let mut entries = self.document.allowlist(&self.agent_id);
        let listed = !start.has_env && entries.any(|entry| start.is_listed_by(entry, home.as_deref()));
        match verdict(&self.document, &self.settings, &self.agent_id, listed) {
            Verdict::Allow => Ok(()),
            Verdict::Ask if agreed => Ok(()),
            Verdict::Ask => Err(Denial::unapproved("approval required")),
            Verdict::Deny(_) => Err(Denial::disabled("security=deny")),
        }
    }

    /// What a person is told of the rules, and what has to be the same when the command runs.
    pub fn snapshot(&self) -> PolicySnapshot {
        let policy = self.policy();
        let rule = |entry: &AllowlistEntry| AllowlistRule {
            pattern: entry.pattern.clone(),
            arg_pattern: entry.arg_pattern.clone(),
            source: entry.source,
        };
        PolicySnapshot {
            security: security(policy.security),
            ask: match policy.ask {
                ExecAsk::Off => SnapshotAsk::Off,
                ExecAsk::OnMiss => SnapshotAsk::OnMiss,
                ExecAsk::Always => SnapshotAsk::Always,
            },
            ask_fallback: security(policy.fallback),
            auto_allow_skills: false,
            allowlist_rules: self.document.allowlist(&self.agent_id).map(rule).collect(),
        }
    }

    /// The rules in two words.
    pub fn brief(&self) -> Value {
        let snapshot = self.snapshot();
        json!({ "security": snapshot.security, "ask": snapshot.ask })
    }

    /// The entry that would allow this command for good.
    pub fn coverage(start: &Start) -> Value {
        let patterns: Vec<Value> = start
            .program
            .iter()
            .map(|program| json!({ "pattern": program.to_string_lossy(), "argPattern": start.fingerprint() }))
            .collect();
        json!({ "complete": !patterns.is_empty(), "patterns": patterns })
    }

    /// From now on it may run without asking.
    ///
    /// # Errors
    /// That cannot be kept.
    pub fn remember(&self, host: &Host, start: &Start, text: &str, now_ms: i64) -> Result<(), Denial> {
        let Some(program) = &start.program else { return Ok(()) };
        let program = program.to_string_lossy().into_owned();
        let entry = Remembered {
            agent_id: self.agent_id.clone(),
            pattern: program.clone(),
            arg_pattern: Some(start.fingerprint()),
            command: Some(text.to_owned()),
            resolved_path: Some(program),
        };
        let kept = host.approvals.remember(entry, now_ms);
        kept.map_err(|_| Denial::unapproved("approval state could not be persisted"))
    }
}

fn security(word: ExecSecurity) -> SnapshotSecurity {
    match word {
        ExecSecurity::Deny => SnapshotSecurity::Deny,
        ExecSecurity::Allowlist => SnapshotSecurity::Allowlist,
        ExecSecurity::Full => SnapshotSecurity::Full,
    }
}

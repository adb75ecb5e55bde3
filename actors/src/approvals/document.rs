//! The document `exec-approvals.json` of the state directory, in OpenClaw's shape: which commands may run without
//! asking. Read when the gateway starts and whenever it is shown, changed or added to. A document that cannot be read
//! allows nothing, and is left as it is. Reading and writing may block.

use arc_swap::{ArcSwap, Guard};
use crabtree_protocol::Refusal;
use crabtree_protocol::params::approvals::policy::{
    AgentPolicy, AllowlistEntry, Generated, PolicyFile, PolicyShown, PolicySocket, ResolvedDefaults,
};
use crabtree_protocol::value::{Int, Number, Text};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use uuid::Uuid;

/// Its name.
pub const FILE_NAME: &str = "exec-approvals.json";
/// The largest document that is read or written, bytes.
const MAX_BYTES: usize = 1 << 20;
/// Entries of one agent's allowlist that may be added by saying "always"; then the one unused for longest goes.
const MAX_GENERATED: usize = 500;

/// The document as it was read last.
#[derive(Clone, Debug, PartialEq)]
pub struct ExecApprovals {
    /// What it holds.
    pub file: PolicyFile,
    /// SHA-256 of its bytes, in hex.
    pub hash: String,
    /// Whether there is one.
    pub exists: bool,
    /// Why it cannot be used.
    pub damage: Option<String>,
}

/// Something that may run from now on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// For which agent.
    pub agent_id: String,
    /// The program: its path.
    pub pattern: String,
    /// With which arguments; with any, if there is none.
    pub arg_pattern: Option<String>,
    /// The command it was said of.
    pub command: Option<String>,
    /// The program that was.
    pub resolved_path: Option<String>,
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A document that says nothing.
fn blank() -> PolicyFile {
    let version = Int::new(1).expect("1 is in the range from 1 to 1");
    PolicyFile { version, socket: None, defaults: None, agents: None }
}

impl ExecApprovals {
    /// The document with these bytes; without any there is none.
    fn parse(bytes: Option<&[u8]>) -> Self {
        let (hash, exists) = (hash(bytes.unwrap_or_default()), bytes.is_some());
        let parsed = bytes.map_or_else(
            || Ok(blank()),
            |bytes| {
                let file = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
                wrong_word(&file).map_or(Ok(file), Err)
            },
        );
        let damage = parsed.as_ref().err().cloned();
        Self { file: parsed.unwrap_or_else(|_| blank()), hash, exists, damage }
    }

    /// What holds for an agent, the nearest first: its own section, and that of all agents.
    pub(super) fn sections(&self, agent_id: &str) -> impl Iterator<Item = &AgentPolicy> {
        let agents = self.file.agents.iter();
        let named = move |name: &str| agents.clone().find_map(|agents| agents.get(name)).into_iter();
        named(agent_id).chain(named("*"))
    }

    /// What an agent may run.
    pub fn allowlist(&self, agent_id: &str) -> impl Iterator<Item = &AllowlistEntry> {
        self.sections(agent_id).flat_map(|section| section.allowlist.iter().flatten())
    }

    fn show(&self, path: &Path) -> Result<PolicyShown, Refusal> {
        if let Some(damage) = &self.damage {
            let words = format!("{} cannot be used: {damage}; correct it, or move it away", path.display());
            return Err(Refusal::failed(words));
        }
        let mut file = self.file.clone();
        if let Some(socket) = &mut file.socket {
            socket.token = None;
        }
        let defaults = file.defaults.get_or_insert_default().clone();
        file.agents.get_or_insert_default();
        let or = |word: Option<String>, otherwise: &str| word.unwrap_or_else(|| otherwise.to_owned());
        Ok(PolicyShown {
            path: path.to_string_lossy().into_owned(),
            exists: self.exists,
            file,
            hash: self.hash.clone(),
            resolved_defaults: ResolvedDefaults {
                security: or(defaults.security, "full"),
                ask: or(defaults.ask, "off"),
                ask_fallback: or(defaults.ask_fallback, "deny"),
                auto_allow_skills: defaults.auto_allow_skills.unwrap_or(false),
            },
        })
    }
}

/// A word that means nothing: taken for its default it could allow what it was to forbid.
fn wrong_word(file: &PolicyFile) -> Option<String> {
    const SECURITY: &[&str] = &["deny", "allowlist", "full"];
    const ASK: &[&str] = &["off", "on-miss", "always"];
    let check = |place: &str, words: [(&str, &Option<String>, &[&str]); 3]| {
        words.into_iter().find_map(|(name, word, known)| {
            let word = word.as_deref().filter(|word| !known.contains(word))?;
            Some(format!("{place}.{name} is \"{word}\", and not one of {}", known.join(", ")))
        })
    };
    let defaults = file.defaults.iter().find_map(|section| {
        let (security, ask, fallback) = (&section.security, &section.ask, &section.ask_fallback);
        check(
            "defaults",
            [("security", security, SECURITY), ("ask", ask, ASK), ("askFallback", fallback, SECURITY)],
        )
    });
    defaults.or_else(|| {
        file.agents.iter().flatten().find_map(|(id, section)| {
            let (security, ask, fallback) = (&section.security, &section.ask, &section.ask_fallback);
            let words =
                [("security", security, SECURITY), ("ask", ask, ASK), ("askFallback", fallback, SECURITY)];
            check(&format!("agents.{id}"), words)
        })
    })
}

/// Where the document is kept: for one reader or writer at a time, and what it said last for everybody.
pub struct ExecApprovalsFile {
    path: PathBuf,
    alone: Mutex<()>,
    current: ArcSwap<ExecApprovals>,
}

impl ExecApprovalsFile {
    /// That of the gateway with this state directory.
    pub fn open(state_dir: &Path) -> Self {
        let path = state_dir.join(FILE_NAME);
        let current = ArcSwap::from_pointee(read(&path));
        Self { path, alone: Mutex::default(), current }
    }

    /// What it said when it was read last.
    pub fn load(&self) -> Guard<Arc<ExecApprovals>> {
        self.current.load()
    }

    fn publish(&self, document: ExecApprovals) -> Arc<ExecApprovals> {
        if let Some(damage) = &document.damage {
            tracing::warn!(target: "crabtree::approvals", "{} cannot be used: {damage}", self.path.display());
        }
        let document = Arc::new(document);
        self.current.store(document.clone());
        document
    }

    /// Reads it anew.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn show(&self) -> Result<PolicyShown, Refusal> {
        let _alone = self.alone.lock();
        self.publish(read(&self.path)).show(&self.path)
    }

    /// Replaces it, if it still is the one with the hash `base`. The socket and its secret stay if they are not named.
    ///
    /// # Errors
    /// It is another one by now, cannot be used, or cannot be written.
    pub fn replace(&self, mut file: PolicyFile, base: Option<&str>) -> Result<PolicyShown, Refusal> {
        let _alone = self.alone.lock();
        let now = self.publish(read(&self.path));
        now.show(&self.path)?;
        match base {
            None if now.exists => return Err(Refusal::policy_hash_required()),
            Some(base) if base != now.hash => return Err(Refusal::policy_changed()),
            _ => {}
        }
        if let Some(wrong) = wrong_word(&file) {
            return Err(Refusal::invalid_request(format!("exec approvals: {wrong}")));
        }
        let kept = now.file.socket.clone().unwrap_or_default();
        let sent = file.socket.take().unwrap_or_default();
        let socket = PolicySocket { path: sent.path.or(kept.path), token: sent.token.or(kept.token) };
        file.socket = (socket != PolicySocket::default()).then_some(socket);
        for entry in
            file.agents.iter_mut().flatten().flat_map(|(_, agent)| agent.allowlist.iter_mut().flatten())
        {
            entry.id.get_or_insert_with(fresh_id);
        }
        self.write(&file)?.show(&self.path)
    }

    /// Adds what may run from now on, or notes that it was used again.
    ///
    /// # Errors
    /// It would allow everything, or the document cannot be used or written.
    pub fn remember(&self, what: Remembered, now_ms: i64) -> Result<(), Refusal> {
        let _alone = self.alone.lock();
        let now = self.publish(read(&self.path));
        now.show(&self.path)?;
        let mut file = now.file.clone();
        let agent = file.agents.get_or_insert_default().entry(what.agent_id.clone()).or_default();
        note(agent.allowlist.get_or_insert_default(), what, now_ms)?;
        self.write(&file).map(|_| ())
    }

    fn write(&self, file: &PolicyFile) -> Result<Arc<ExecApprovals>, Refusal> {
        let failed = |e: &dyn std::fmt::Display| Refusal::failed(format!("{}: {e}", self.path.display()));
        let mut text = serde_json::to_string_pretty(file).map_err(|e| failed(&e))?;
        text.push('\n');
        if text.len() > MAX_BYTES {
            let words =
                format!("exec approvals of more than {MAX_BYTES} bytes are not kept; remove some entries");
            return Err(Refusal::invalid_request(words));
        }
        put(&self.path, text.as_bytes()).map_err(|e| failed(&e))?;
        Ok(self.publish(ExecApprovals::parse(Some(text.as_bytes()))))
    }
}

fn fresh_id() -> Text {
    Text::new(Uuid::new_v4().to_string()).expect("a uuid is not empty")
}

fn note(list: &mut Vec<AllowlistEntry>, what: Remembered, now_ms: i64) -> Result<(), Refusal> {
    if what.pattern.chars().all(|c| matches!(c, '*' | '?' | '/') || c.is_whitespace()) {
        return Err(Refusal::invalid_request("a pattern that fits every program is not remembered"));
    }
    let is_same =
        |entry: &AllowlistEntry| entry.pattern == what.pattern && entry.arg_pattern == what.arg_pattern;
    let at = match list.iter().position(is_same) {
        Some(at) => at,
        None => {
            forget_one(list);
            list.push(AllowlistEntry {
                pattern: what.pattern,
                id: Some(fresh_id()),
                source: Some(Generated::AllowAlways),
                command_text: None,
                arg_pattern: what.arg_pattern,
                last_used_at: None,
                last_used_command: None,
                last_resolved_path: None,
            });
            list.len() - 1
        }
    };
    let entry = &mut list[at];
    entry.last_used_at = Number::new(now_ms as f64);
    entry.last_used_command = what.command.or(entry.last_used_command.take());
    entry.last_resolved_path = what.resolved_path.or(entry.last_resolved_path.take());
    Ok(())
}

/// Makes room for one more that no person wrote.
fn forget_one(list: &mut Vec<AllowlistEntry>) {
    let generated = || list.iter().enumerate().filter(|(_, entry)| entry.source.is_some());
    if generated().count() >= MAX_GENERATED {
        let used = |entry: &AllowlistEntry| entry.last_used_at.map_or(0.0, Number::get);
        let oldest = generated().min_by(|(_, a), (_, b)| used(a).total_cmp(&used(b))).map(|(at, _)| at);
        oldest.into_iter().for_each(|at| drop(list.remove(at)));
    }
}

fn read(path: &Path) -> ExecApprovals {
    let damaged =
        |why: String| ExecApprovals { damage: Some(why), exists: true, ..ExecApprovals::parse(None) };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return ExecApprovals::parse(None),
        Err(e) => return damaged(e.to_string()),
    };
    let mut bytes = Vec::new();
    match file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes) {
        Err(e) => damaged(e.to_string()),
        Ok(_) if bytes.len() > MAX_BYTES => damaged(format!("it is larger than {MAX_BYTES} bytes")),
        Ok(_) => ExecApprovals::parse(Some(&bytes)),
    }
}

/// Puts the content there, whole or not at all, for nobody else to read.
fn put(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_file_name(format!(".{FILE_NAME}.{}", Uuid::new_v4().simple()));
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })
}

#[cfg(test)]
#[path = "document_tests.rs"]
pub(super) mod tests;

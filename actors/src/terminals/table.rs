//! The terminals that live, and who may be looking. Part of the Estate: no actor's crash touches it.

use super::terminal::TerminalMsg;
use crate::tree::Slot;
use crabtree_protocol::SessionKey;
use crabtree_protocol::params::terminals::Listed;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::time::Instant;

/// Terminals at the same time; another one is refused, unless one of a session can go that nobody looks at.
pub const MAX_TERMINALS: usize = 24;
/// Terminals whose connection is gone; of more, the one that has waited longest ends.
pub const MAX_DETACHED: usize = 8;

/// What does not change about a terminal.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Its id, `sessionId` on the wire.
    pub id: String,
    /// The agent in whose workspace it starts.
    pub agent_id: String,
    /// The program.
    pub shell: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Where it starts.
    pub cwd: PathBuf,
    /// The session it belongs to; without one it belongs to the connection that opened it.
    pub session: Option<SessionKey>,
    /// When it was opened, ms.
    pub created_at_ms: i64,
}

impl Facts {
    /// Whose it is, on the wire.
    pub fn owner(&self) -> String {
        self.session.as_ref().map_or_else(|| "conn".into(), |key| format!("agent:{key}"))
    }
}

struct Entry {
    facts: Arc<Facts>,
    slot: Slot<TerminalMsg>,
    attached: bool,
    /// Since when it is attached, or is not.
    since: Instant,
}

impl Entry {
    fn end(&self) {
        // One that is just going needs not be told.
        let _ = self.slot.send(TerminalMsg::End);
    }
}

/// See the module.
#[derive(Default)]
pub struct Table(Mutex<BTreeMap<String, Entry>>);

impl Table {
    /// Takes a terminal in; false if there are too many.
    pub(super) fn enter(&self, facts: &Arc<Facts>, slot: &Slot<TerminalMsg>) -> bool {
        let mut live = self.0.lock();
        let in_a_session = |entry: &Entry| entry.facts.session.is_some();
        if live.len() >= MAX_TERMINALS && !end_longest_unattended(&mut live, in_a_session) {
            return false;
        }
        let entry = Entry { facts: facts.clone(), slot: slot.clone(), attached: true, since: Instant::now() };
        live.insert(facts.id.clone(), entry);
        true
    }

    /// Forgets one.
    pub(super) fn leave(&self, id: &str) {
        self.0.lock().remove(id);
    }

    /// Forgets all but these.
    pub(super) fn keep(&self, is_there: impl Fn(&str) -> bool) {
        self.0.lock().retain(|id, _| is_there(id));
    }

    /// Notes whether somebody looks at one from now on. Ends what is detached beyond the limit.
    pub(super) fn note(&self, id: &str, attached: bool) {
        let mut live = self.0.lock();
        if let Some(entry) = live.get_mut(id) {
            (entry.attached, entry.since) = (attached, Instant::now());
        }
        let of_nobody = |entry: &Entry| entry.facts.session.is_none();
        if live.values().filter(|entry| !entry.attached && of_nobody(entry)).count() > MAX_DETACHED {
            end_longest_unattended(&mut live, of_nobody);
        }
    }

    /// Has all of them look who is still there and what is allowed.
    pub fn look(&self) {
        for entry in self.0.lock().values() {
            let _ = entry.slot.send(TerminalMsg::Look);
        }
    }

    /// Ends those of a session.
    pub fn end_of(&self, session: &SessionKey) {
        self.0
            .lock()
            .values()
            .filter(|entry| entry.facts.session.as_ref() == Some(session))
            .for_each(Entry::end);
    }

    /// The address of one.
    pub fn find(&self, id: &str) -> Option<Slot<TerminalMsg>> {
        self.0.lock().get(id).map(|entry| entry.slot.clone())
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.lock().len()
    }

    /// All of them, the oldest first.
    pub fn list(&self) -> Vec<Listed> {
        let live = self.0.lock();
        let mut entries: Vec<&Entry> = live.values().collect();
        entries.sort_by_key(|entry| entry.facts.created_at_ms);
        let listed = |entry: &Entry| Listed {
            session_id: entry.facts.id.clone(),
            agent_id: entry.facts.agent_id.clone(),
            shell: entry.facts.shell.clone(),
            cwd: entry.facts.cwd.display().to_string(),
            confined: false,
            attached: entry.attached,
            owner: entry.facts.owner(),
            created_at_ms: entry.facts.created_at_ms,
        };
        entries.into_iter().map(listed).collect()
    }
}

/// Ends the one of these that nobody has looked at for longest, and forgets it at once; false if there is none.
fn end_longest_unattended(live: &mut BTreeMap<String, Entry>, of: impl Fn(&Entry) -> bool) -> bool {
    let unattended = live.values().filter(|entry| !entry.attached && of(entry));
    let longest = unattended.min_by_key(|entry| entry.since).map(|entry| entry.facts.id.clone());
    let ended = longest.and_then(|id| live.remove(&id));
    ended.as_ref().map(Entry::end).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(id: &str, session: bool) -> Arc<Facts> {
        Arc::new(Facts {
            id: id.into(),
            agent_id: "main".into(),
            shell: "/bin/sh".into(),
            args: Vec::new(),
            cwd: "/".into(),
            session: session.then(|| SessionKey::main("main")),
            created_at_ms: 0,
        })
    }

    fn ids(table: &Table) -> Vec<String> {
        table.list().into_iter().map(|listed| listed.session_id).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn one_too_many_is_refused_unless_one_of_a_session_is_left_alone() {
        let table = Table::default();
        for n in 0..MAX_TERMINALS {
            assert!(table.enter(&facts(&format!("{n:02}"), n < 2), &Slot::default()));
        }
        assert!(!table.enter(&facts("more", false), &Slot::default()));
        for id in ["01", "00"] {
            tokio::time::advance(std::time::Duration::from_secs(1)).await;
            table.note(id, false);
        }
        assert!(table.enter(&facts("more", false), &Slot::default()));
        let left = ids(&table);
        assert_eq!(left.len(), MAX_TERMINALS);
        assert!(!left.contains(&"01".to_owned()) && left.contains(&"00".to_owned()));
    }

    #[tokio::test(start_paused = true)]
    async fn of_too_many_detached_ones_those_go_that_waited_longest() {
        let table = Table::default();
        let all: Vec<String> = (0..MAX_DETACHED + 2).map(|n| format!("{n:02}")).collect();
        all.iter().for_each(|id| assert!(table.enter(&facts(id, false), &Slot::default())));
        for id in &all {
            tokio::time::advance(std::time::Duration::from_secs(1)).await;
            table.note(id, false);
        }
        assert_eq!(ids(&table), all[2..]);
    }
}

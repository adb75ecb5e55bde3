//! A change that clients made is on trial for a while: if it parks an actor that was started anew for it, the file goes
//! back to what it was. What has stood its trial is kept for a start that finds a broken file.

use super::file::{Writing, Wrote, keep_good};
use super::kept::Kept;
use crate::estate::Estate;
use crate::gateway::depends_on;
use crate::tree::{Node, NodeState};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long a change is on trial.
pub const TRIAL: Duration = Duration::from_secs(10);

/// A change on trial.
pub struct Trial {
    /// The file that was written.
    wrote: Wrote,
    changed: Vec<&'static str>,
    parked: BTreeSet<String>,
}

impl Trial {
    /// Begins it; these sections are different now.
    pub fn begin(wrote: Wrote, changed: Vec<&'static str>, estate: &Estate) -> Self {
        Self { wrote, changed, parked: parked(estate) }
    }

    /// The file as it was before; empty, if it was not there.
    pub fn back(self) -> Writing {
        let Wrote { path, before } = self.wrote;
        Writing::Back(path, before.to_string())
    }

    /// The actors that were parked since then, and that the change concerns.
    pub fn failed(&self, estate: &Estate) -> Vec<String> {
        let concerns = |path: &&String| {
            let child = path.split('/').nth(1).unwrap_or_default();
            depends_on(child).iter().any(|section| self.changed.contains(section))
        };
        parked(estate).difference(&self.parked).filter(concerns).cloned().collect()
    }
}

fn parked(estate: &Estate) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    estate.root.get().into_iter().for_each(|root| look(root, &mut found));
    found
}

fn look(node: &Arc<Node>, found: &mut BTreeSet<String>) {
    if node.state().0 == NodeState::Parked {
        found.insert(node.path().to_string());
    }
    node.children().iter().for_each(|child| look(child, found));
}

/// Keeps the configuration that is in force; may block.
pub fn keep(state_dir: &Path, kept: &Kept) {
    if let Some(Err(error)) = kept.good().map(|text| keep_good(state_dir, text)) {
        tracing::debug!(target: "crabtree::config", "the configuration that works was not kept: {error}");
    }
}

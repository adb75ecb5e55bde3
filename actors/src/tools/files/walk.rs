//! A walk through the directories of a workspace, in the order of names. Links are not followed; what `.gitignore`
//! files name, and git's own directory, is left out.

use super::workspace::{Entry, Kind, Workspace};
use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Files and directories that one walk sees.
const MAX_ENTRIES: usize = 100_000;
/// Largest `.gitignore` that is read, bytes.
const MAX_RULES: usize = 64 * 1024;
const RULES: &str = ".gitignore";
const GIT: &str = ".git";

/// See the module.
pub(super) struct Walk<'a> {
    workspace: &'a Workspace,
    cut: &'a CancellationToken,
    /// What is still to be visited, the next at the end.
    pending: Vec<(Found, Rules)>,
    /// How many entries may still be seen.
    left: usize,
    /// Directories that could not be read.
    pub(super) unread: usize,
}

/// Something a walk comes to.
pub(super) struct Found {
    /// Where, from the workspace.
    pub(super) path: PathBuf,
    /// What.
    pub(super) kind: Kind,
}

/// The rules for the entries of a directory, and those of the directories above it.
type Rules = Option<Arc<Level>>;

struct Level {
    dir: PathBuf,
    rules: Gitignore,
    above: Rules,
}

impl<'a> Walk<'a> {
    /// Through all that is in a directory.
    pub(super) fn new(
        workspace: &'a Workspace,
        start: &Path,
        cut: &'a CancellationToken,
    ) -> Result<Self, String> {
        let start = workspace.resolved(start)?;
        let start = start.strip_prefix(".").unwrap_or(&start);
        let mut walk = Self { workspace, cut, pending: Vec::new(), left: MAX_ENTRIES, unread: 0 };
        let mut above: Vec<&Path> = start.ancestors().skip(1).collect();
        above.reverse();
        let rules = above.into_iter().fold(None, |rules, dir| walk.rules(dir, rules));
        walk.enter(start, rules)?;
        Ok(walk)
    }

    /// Whether there was more than one walk sees.
    pub(super) fn cut_short(&self) -> bool {
        self.left == 0
    }

    fn enter(&mut self, dir: &Path, above: Rules) -> Result<(), String> {
        let at = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        let (entries, all) = self.workspace.entries(at, self.left)?;
        self.left = if all { self.left - entries.len() } else { 0 };
        let rules = self.rules(dir, above);
        for Entry { name, kind } in entries.into_iter().rev() {
            let path = dir.join(&name);
            if name != Path::new(GIT) && !is_ignored(&rules, &path, kind == Kind::Dir) {
                self.pending.push((Found { path, kind }, rules.clone()));
            }
        }
        Ok(())
    }

    fn rules(&self, dir: &Path, above: Rules) -> Rules {
        let Ok(text) = self.workspace.content(&dir.join(RULES), MAX_RULES) else { return above };
        let mut rules = GitignoreBuilder::new(".");
        for line in String::from_utf8_lossy(&text).lines() {
            // A line that makes no sense is passed over, as git does.
            let _ = rules.add_line(None, line);
        }
        match rules.build() {
            Ok(rules) => Some(Arc::new(Level { dir: dir.to_owned(), rules, above })),
            Err(_) => above,
        }
    }
}

fn is_ignored(mut rules: &Rules, path: &Path, is_dir: bool) -> bool {
    while let Some(level) = rules {
        match level.rules.matched(path.strip_prefix(&level.dir).unwrap_or(path), is_dir) {
            Match::None => rules = &level.above,
            Match::Ignore(_) => return true,
            Match::Whitelist(_) => return false,
        }
    }
    false
}

impl Iterator for Walk<'_> {
    type Item = Found;

    /// The next one; none also when nobody waits for the result any more.
    fn next(&mut self) -> Option<Found> {
        if self.cut.is_cancelled() {
            return None;
        }
        let (found, rules) = self.pending.pop()?;
        if found.kind == Kind::Dir && self.left > 0 && self.enter(&found.path, rules).is_err() {
            self.unread += 1;
        }
        Some(found)
    }
}

#[cfg(test)]
#[path = "walk_tests.rs"]
mod tests;

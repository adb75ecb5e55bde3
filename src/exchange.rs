//! A new program in place of the one that runs, and the way back as long as it has not served: the file
//! `upgrade.json` in the state directory, which `crabtree upgrade` writes, and which both programs answer in.
//!
//! Whoever sees that the new program does not come up goes back: that program itself, if it can, or the command. What was
//! kept of the program and of the database is put back by the one that comes first, and the other finds it done.

use anyhow::Context;
use crabtree_actors::store::step_back;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The file, in the state directory.
const FILE: &str = "upgrade.json";
/// What the name of the file ends in that was replaced.
const PREVIOUS: &str = ".previous";

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The program before is asked to make way.
    Pending,
    /// It did; the new one has not served yet.
    Handed,
    /// It serves.
    Ready,
    /// It does not, and the one before it was put back,
    Back,
    /// which serves again.
    Returned,
}

/// See the module.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exchange {
    /// How far it is.
    pub state: State,
    /// The file of the program.
    pub program: PathBuf,
    /// The version of the database's tables before.
    pub schema: u32,
    /// How long the new program has to serve, ms.
    pub within_ms: u64,
    /// Why it went back.
    pub why: Option<String>,
    /// How long nobody was served, ms.
    pub gap_ms: Option<i64>,
}

/// Where the program is kept that was replaced.
pub fn previous(program: &Path) -> PathBuf {
    let mut name = program.as_os_str().to_owned();
    name.push(PREVIOUS);
    name.into()
}

impl Exchange {
    /// One that is about to begin.
    pub fn of(program: PathBuf, schema: u32, within: Duration) -> Self {
        let within_ms = within.as_millis() as u64;
        Self { state: State::Pending, program, schema, within_ms, why: None, gap_ms: None }
    }

    /// The one that is under way here, or was last.
    pub fn read(state_dir: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(state_dir.join(FILE)).ok()?).ok()
    }

    /// The one whose new program has not served yet.
    pub fn pending(state_dir: &Path) -> Option<Self> {
        Self::read(state_dir).filter(|exchange| matches!(exchange.state, State::Pending | State::Handed))
    }

    /// Keeps it, whole or not at all.
    ///
    /// # Errors
    /// The disk does not take it.
    pub fn write(&self, state_dir: &Path) -> anyhow::Result<()> {
        let (path, part) = (state_dir.join(FILE), state_dir.join(format!("{FILE}.part")));
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        fs::rename(part, path)?;
        Ok(())
    }

    /// It is over.
    pub fn forget(state_dir: &Path) {
        let _ = fs::remove_file(state_dir.join(FILE));
    }
}

/// Puts `new` in the place of `program`, which is never missing, and keeps what was there.
///
/// # Errors
/// The files cannot be written; `program` is what it was.
pub fn replace(program: &Path, new: &Path) -> anyhow::Result<()> {
    let kept = previous(program);
    let part = kept.with_extension("part");
    let _ = fs::remove_file(&part);
    if fs::hard_link(program, &part).is_err() {
        fs::copy(program, &part).with_context(|| format!("{} cannot be kept", program.display()))?;
    }
    fs::rename(&part, &kept)?;
    fs::rename(new, program).with_context(|| format!("{} cannot be replaced", program.display()))
}

/// The gateway here has ended, and makes way: tells who waits for it.
pub fn handed(state_dir: &Path) {
    let Some(mut exchange) = Exchange::pending(state_dir) else { return };
    exchange.state = State::Handed;
    if let Err(e) = exchange.write(state_dir) {
        tracing::warn!(target: "crabtree::gateway", "nobody can be told that this program makes way: {e:#}");
    }
}

/// The gateway here serves: tells who waits for it.
pub fn served(state_dir: &Path, gap_ms: Option<i64>) {
    let Some(mut exchange) = Exchange::read(state_dir) else { return };
    exchange.state = match exchange.state {
        State::Pending | State::Handed => State::Ready,
        State::Back => State::Returned,
        State::Ready | State::Returned => return,
    };
    exchange.gap_ms = gap_ms;
    match exchange.write(state_dir) {
        Ok(()) => tracing::info!(target: "crabtree::gateway", state = ?exchange.state, "upgrade"),
        Err(e) => {
            tracing::warn!(target: "crabtree::gateway", "nobody can be told that this program serves: {e:#}")
        }
    }
}

/// Puts the program and the database back that were there before, if a new program is under way that has not served.
/// Returns the program. No gateway has the state directory meanwhile.
///
/// # Errors
/// What was kept cannot be put back.
pub fn go_back(state_dir: &Path, why: &str) -> anyhow::Result<Option<PathBuf>> {
    let Some(mut exchange) = Exchange::pending(state_dir) else { return Ok(None) };
    let data = state_dir.join("store.sqlite");
    if let Some(aside) = step_back(&data, exchange.schema).map_err(anyhow::Error::from)? {
        tracing::warn!(target: "crabtree::gateway", "the database as the new program made it is {}", aside.display());
    }
    let kept = previous(&exchange.program);
    match fs::rename(&kept, &exchange.program) {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(e).with_context(|| format!("{} cannot be put back", kept.display())),
    }
    (exchange.state, exchange.why) = (State::Back, Some(why.to_owned()));
    exchange.write(state_dir)?;
    Ok(Some(exchange.program))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_replaced_and_put_back_once() {
        let folder = tempfile::tempdir().unwrap();
        let (program, new) = (folder.path().join("crabtree"), folder.path().join("new"));
        fs::write(&program, "old").unwrap();
        fs::write(&new, "new").unwrap();
        replace(&program, &new).unwrap();
        let read = |path: &Path| fs::read_to_string(path).ok();
        assert_eq!(
            (read(&program).as_deref(), read(&previous(&program)).as_deref()),
            (Some("new"), Some("old"))
        );

        let state = folder.path();
        assert_eq!(go_back(state, "nothing is under way").unwrap(), None);
        handed(state);
        Exchange::of(program.clone(), 0, Duration::from_secs(1)).write(state).unwrap();
        handed(state);
        assert_eq!(go_back(state, "it does not serve").unwrap(), Some(program.clone()));
        assert_eq!(read(&program).as_deref(), Some("old"));
        assert_eq!(go_back(state, "again").unwrap(), None, "somebody has done it");
        served(state, Some(12));
        let over = Exchange::read(state).unwrap();
        assert_eq!(
            (over.state, over.why.as_deref(), over.gap_ms),
            (State::Returned, Some("it does not serve"), Some(12))
        );
    }

    #[test]
    fn who_has_served_does_not_go_back() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("crabtree");
        fs::write(&program, "new").unwrap();
        Exchange::of(program.clone(), 0, Duration::from_secs(1)).write(folder.path()).unwrap();
        served(folder.path(), None);
        assert_eq!(go_back(folder.path(), "a late crash").unwrap(), None);
        assert_eq!(fs::read_to_string(program).unwrap(), "new");
    }
}

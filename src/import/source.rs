//! A foreign installation: where its files are, and how they are read. Nothing is ever written there.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use crabtree_actors::store::Foreign;
use rustix::process::{Pid, test_kill_process};
use serde::Deserialize;
use serde_json::{Map, Value};

/// Longest file of JSON that is read whole, bytes.
const MAX_JSON: u64 = 64 << 20;

/// An installation of OpenClaw.
pub struct Source {
    /// Its state directory.
    pub dir: PathBuf,
    /// The database that all its agents share.
    pub shared: Option<Foreign>,
    /// Its agents.
    pub agents: Vec<Agent>,
    private: Private,
}

/// One of its agents.
pub struct Agent {
    /// Its id.
    pub id: String,
    /// Its database.
    pub db: Option<Foreign>,
    /// Where older versions keep its sessions.
    pub sessions: PathBuf,
}

/// A folder of our own for copies, gone with this value.
pub struct Private(PathBuf);

impl Private {
    /// Makes it. What a killed import left at the same place is removed first.
    ///
    /// # Errors
    /// Those of the folder.
    pub fn new(path: PathBuf) -> io::Result<Self> {
        match fs::remove_dir_all(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        // What is left is removed by the next import.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Source {
    /// Finds an installation at `dir`.
    ///
    /// # Errors
    /// There is none, or a database of it cannot be read.
    pub fn open(dir: &Path, private: Private) -> anyhow::Result<Self> {
        let known = ["openclaw.json", "state/openclaw.sqlite", "agents", "devices", "cron"];
        if !known.iter().any(|name| dir.join(name).exists()) {
            bail!("there is no installation of OpenClaw in {}", dir.display());
        }
        let shared = database(&dir.join("state/openclaw.sqlite"), &private)?;
        let mut agents = Vec::new();
        for id in names(&dir.join("agents"))? {
            let home = dir.join("agents").join(&id);
            if home.is_dir() {
                let db = database(&home.join("agent/openclaw-agent.sqlite"), &private)?;
                agents.push(Agent { id, db, sessions: home.join("sessions") });
            }
        }
        Ok(Self { dir: dir.to_owned(), shared, agents, private })
    }

    /// The rows of a table that all agents share.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn rows(&self, table: &str) -> anyhow::Result<Vec<Map<String, Value>>> {
        let mut rows = Vec::new();
        if let Some(shared) = &self.shared {
            shared.each(table, &mut |row| rows.push(row)).with_context(|| format!("the table {table}"))?;
        }
        Ok(rows)
    }

    /// What a file of JSON in it says, if it is there.
    ///
    /// # Errors
    /// It cannot be read, or is none.
    pub fn json(&self, name: &str) -> anyhow::Result<Option<Value>> {
        json(&self.dir.join(name))
    }

    /// The process of its gateway, if that runs.
    pub fn running(&self) -> Option<u32> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Lock {
            pid: u32,
            start_time: Option<u64>,
        }
        let locks =
            names(&self.dir.join("tmp")).ok()?.into_iter().map(|name| self.dir.join("tmp").join(name));
        let text = locks.filter_map(|dir| fs::read_to_string(dir.join("gateway.state.lock")).ok());
        let mut held = text.filter_map(|text| serde_json::from_str::<Lock>(text.trim()).ok());
        held.find(|lock| is_alive(lock.pid, lock.start_time)).map(|lock| lock.pid)
    }

    /// The folder of our own.
    pub fn private(&self) -> &Path {
        self.private.path()
    }
}

/// A file of JSON, if it is there.
///
/// # Errors
/// It cannot be read, is too long, or is no JSON.
pub fn json(path: &Path) -> anyhow::Result<Option<Value>> {
    match fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).with_context(|| format!("{} cannot be read", path.display())),
        Ok(found) if found.len() > MAX_JSON => {
            bail!("{} is longer than {} MiB", path.display(), MAX_JSON >> 20)
        }
        Ok(_) => {}
    }
    let text = fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    // The text may hold secrets: an error says where, not what.
    let read = serde_json::from_str(&text).map_err(|e| {
        anyhow::anyhow!("{} is no JSON: line {}, column {}", path.display(), e.line(), e.column())
    });
    read.map(Some)
}

/// The names in a folder in their order; none if there is no such folder.
///
/// # Errors
/// Those of the folder.
pub fn names(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        // A name that is no text is none of OpenClaw's.
        names.extend(entry?.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

fn database(path: &Path, private: &Private) -> anyhow::Result<Option<Foreign>> {
    if !path.exists() {
        return Ok(None);
    }
    Foreign::open(path, private.path())
        .map(Some)
        .with_context(|| format!("{} cannot be read", path.display()))
}

/// Whether a process is the one that began then (in clock ticks, where the system tells).
fn is_alive(pid: u32, began: Option<u64>) -> bool {
    let alive = i32::try_from(pid).ok().and_then(Pid::from_raw).map(test_kill_process);
    let gone = !matches!(alive, Some(Ok(()) | Err(rustix::io::Errno::PERM)));
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in brackets may hold anything; the 20th field after it is the start.
    let ticks = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(19)?.parse().ok());
    !gone && began.zip(ticks).is_none_or(|(began, ticks): (u64, u64)| began == ticks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(dir: &Path) -> Source {
        let private = Private::new(dir.join("private")).unwrap();
        Source::open(dir, private).unwrap()
    }

    #[test]
    fn a_running_gateway_is_told_from_a_lock_that_was_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let locks = dir.path().join("tmp/openclaw-0");
        fs::create_dir_all(&locks).unwrap();
        fs::write(dir.path().join("openclaw.json"), "{}").unwrap();
        assert_eq!(source(dir.path()).running(), None);
        let me = std::process::id();
        // As OpenClaw writes it: with blanks after it.
        let lock = |text: String| fs::write(locks.join("gateway.state.lock"), text + "\n\t \t  ").unwrap();
        lock(format!(r#"{{"pid":{me}}}"#));
        assert_eq!(source(dir.path()).running(), Some(me));
        lock(format!(r#"{{"pid":{me},"startTime":1}}"#));
        let elsewhere = !Path::new("/proc/self/stat").exists();
        assert_eq!(source(dir.path()).running(), elsewhere.then_some(me), "another process has its id now");
        lock(r#"{"pid":2147483646}"#.into());
        assert_eq!(source(dir.path()).running(), None);
    }

    #[test]
    fn a_folder_without_anything_of_openclaw_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let private = Private::new(dir.path().join("private")).unwrap();
        let error = Source::open(dir.path(), private).err().unwrap().to_string();
        assert!(error.contains("no installation of OpenClaw"), "{error}");
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_without_its_content() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("x.json"), "{\"token\": \"hush\"").unwrap();
        let error = json(&dir.path().join("x.json")).unwrap_err().to_string();
        assert!(error.contains("line 1") && !error.contains("hush"), "{error}");
        assert_eq!(json(&dir.path().join("none.json")).unwrap(), None);
    }
}

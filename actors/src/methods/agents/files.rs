//! The files of an agent's workspace that say who it is: a fixed set of names, never outside the workspace.

use super::super::Call;
use super::roster::{known_id, not_found};
use crate::connection::ConnectionMsg;
use crate::estate::Estate;
use crate::responder::Responder;
use crate::tree::Ctx;
use crabtree_protocol::Refusal;
use crabtree_protocol::params::agents::roster::{
    AgentFile, FilesGetParams, FilesList, FilesListParams, FilesSetParams, OneFile,
};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The names there are, in the order of the list. `IDENTITY.md` is not listed.
const NAMES: [&str; 6] = ["AGENTS.md", "SOUL.md", "USER.md", "BOOTSTRAP.md", "MEMORY.md", IDENTITY];
const IDENTITY: &str = "IDENTITY.md";
/// The file that an agent makes itself when it has something to remember.
const MADE_LATER: &str = "MEMORY.md";
/// Largest file that is read or written: 2 MiB, OpenClaw's bound.
const MAX_BYTES: usize = 2_097_152;

pub(in crate::methods) fn list(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<FilesListParams>() else { return };
    match Workspace::of(&call, params.agent_id.as_str()) {
        Ok(workspace) => blocking(ctx, call.responder, move || Ok(workspace.list())),
        Err(refusal) => call.responder.refuse(refusal),
    }
}

pub(in crate::methods) fn get(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<FilesGetParams>() else { return };
    let found = Workspace::of(&call, params.agent_id.as_str())
        .and_then(|workspace| Ok((workspace, supported(params.name.as_str())?)));
    match found {
        Ok((workspace, name)) => blocking(ctx, call.responder, move || workspace.get(name)),
        Err(refusal) => call.responder.refuse(refusal),
    }
}

pub(in crate::methods) fn set(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<FilesSetParams>() else { return };
    let found = Workspace::of(&call, params.agent_id.as_str())
        .and_then(|workspace| Ok((workspace, supported(params.name.as_str())?)));
    let estate = call.estate().clone();
    match found {
        Ok((workspace, name)) => blocking(ctx, call.responder, move || {
            let expected = params.expected_hash.as_ref().map(|hash| hash.as_str().to_lowercase());
            workspace.set(&estate, name, params.content, expected.as_deref())
        }),
        Err(refusal) => call.responder.refuse(refusal),
    }
}

fn blocking<T: serde::Serialize + Send + 'static>(
    ctx: &mut Ctx<ConnectionMsg>,
    responder: Responder,
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) {
    ctx.detached(async move {
        let done = tokio::task::spawn_blocking(work).await;
        responder.settle(done.unwrap_or_else(|e| Err(Refusal::failed(e.to_string()))));
    });
}

fn supported(name: &str) -> Result<&'static str, Refusal> {
    let name = name.trim();
    let known = NAMES.into_iter().find(|known| *known == name);
    known.ok_or_else(|| Refusal::invalid_request(format!("unsupported file \"{name}\"")))
}

fn unsafe_file(name: &str) -> Refusal {
    Refusal::invalid_request(format!("unsafe workspace file \"{name}\""))
}

fn too_large(name: &str) -> Refusal {
    Refusal::invalid_request(format!("file \"{name}\" is larger than {MAX_BYTES} bytes"))
}

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> Refusal + '_ {
    move |e| Refusal::failed(format!("{}: {e}", path.display()))
}

fn hash(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Nothing but an ordinary file with one name is read or written: a link could lead out of the workspace.
fn plain(meta: &Metadata) -> bool {
    meta.is_file() && meta.nlink() <= 1
}

fn updated_at_ms(meta: &Metadata) -> u64 {
    u64::try_from(meta.mtime() * 1000 + meta.mtime_nsec() / 1_000_000).unwrap_or_default()
}

/// An agent and the directory it works in.
struct Workspace {
    agent_id: String,
    dir: PathBuf,
}

impl Workspace {
    fn of(call: &Call<'_>, id: &str) -> Result<Self, Refusal> {
        let loaded = call.estate().config.load();
        let agent_id = known_id(&loaded, id).ok_or_else(|| not_found(id))?;
        Ok(Self { dir: loaded.workspace(&agent_id), agent_id })
    }

    fn row(&self, name: &str, meta: Option<&Metadata>) -> AgentFile {
        AgentFile {
            name: name.to_owned(),
            path: self.dir.join(name).to_string_lossy().into_owned(),
            missing: meta.is_none(),
            expected_absent: meta.is_none().then_some(name == MADE_LATER),
            size: meta.map(Metadata::len),
            updated_at_ms: meta.map(updated_at_ms),
            hash: None,
            content: None,
        }
    }

    fn answer(self, file: AgentFile, ok: Option<bool>) -> OneFile {
        OneFile { agent_id: self.agent_id, workspace: self.dir.to_string_lossy().into_owned(), file, ok }
    }

    fn list(self) -> FilesList {
        let row = |name: &str| {
            let meta = fs::symlink_metadata(self.dir.join(name)).ok().filter(plain);
            self.row(name, meta.as_ref())
        };
        let files = NAMES.into_iter().filter(|name| *name != IDENTITY).map(row).collect();
        FilesList { files, workspace: self.dir.to_string_lossy().into_owned(), agent_id: self.agent_id }
    }

    fn get(self, name: &str) -> Result<OneFile, Refusal> {
        let file = match self.read(name)? {
            None => self.row(name, None),
            Some((meta, content)) => AgentFile {
                size: Some(content.len() as u64),
                hash: Some(hash(&content)),
                content: Some(String::from_utf8_lossy(&content).into_owned()),
                ..self.row(name, Some(&meta))
            },
        };
        Ok(self.answer(file, None))
    }

    fn read(&self, name: &str) -> Result<Option<(Metadata, Vec<u8>)>, Refusal> {
        let path = self.dir.join(name);
        let seen = match fs::symlink_metadata(&path) {
            Ok(seen) => seen,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed(&path)(e)),
        };
        if !plain(&seen) {
            return Err(unsafe_file(name));
        }
        let file = File::open(&path).map_err(failed(&path))?;
        let meta = file.metadata().map_err(failed(&path))?;
        if (meta.dev(), meta.ino()) != (seen.dev(), seen.ino()) {
            // It was put there between the look and the opening.
            return Err(unsafe_file(name));
        }
        let mut content = Vec::new();
        file.take(MAX_BYTES as u64 + 1).read_to_end(&mut content).map_err(failed(&path))?;
        if content.len() > MAX_BYTES {
            return Err(too_large(name));
        }
        Ok(Some((meta, content)))
    }

    fn set(
        self,
        estate: &Arc<Estate>,
        name: &str,
        content: String,
        expected: Option<&str>,
    ) -> Result<OneFile, Refusal> {
        if content.len() > MAX_BYTES {
            return Err(too_large(name));
        }
        let dir = &self.dir;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed(dir))?;
        let _alone = estate.workspace_files.lock();
        let current = self.read(name)?.map(|(_, content)| hash(&content));
        if expected.is_some() && expected != current.as_deref() {
            let mut details = json!({ "type": "agent_file_conflict", "name": name });
            if let Some(current) = current {
                details["currentHash"] = json!(current);
            }
            let text = format!("agent file \"{name}\" changed since it was read");
            return Err(Refusal::invalid_request(text).with_details(details));
        }
        let meta = self.write(name, content.as_bytes())?;
        let hash = Some(hash(content.as_bytes()));
        let file = AgentFile { hash, content: Some(content), ..self.row(name, Some(&meta)) };
        Ok(self.answer(file, Some(true)))
    }

    /// Puts the content there, whole or not at all.
    fn write(&self, name: &str, content: &[u8]) -> Result<Metadata, Refusal> {
        let path = self.dir.join(name);
        let temporary = self.dir.join(format!(".{name}.{}", uuid::Uuid::new_v4().simple()));
        let write = || {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            file.metadata()
        };
        write().map_err(|e| {
            let _ = fs::remove_file(&temporary);
            failed(&path)(e)
        })
    }
}

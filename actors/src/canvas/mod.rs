//! The canvas: pages that agents make and people look at, in `canvas` of the state directory, and user interfaces in
//! the A2UI format beside them.
//!
//! | module | what |
//! |---|---|
//! | `folder` | the files: nothing outside of the directory is reached, whatever a path or a link says |
//! | `a2ui` | the messages that make up what the A2UI page shows: `a2ui.jsonl` among the files |
//! | `capability` | addresses that open the pages without the secret, for a while |
//! | `host` | the actor that sees files change while somebody looks |

mod a2ui;
mod capability;
mod folder;
mod host;

pub use capability::{Capabilities, LIFETIME, Pass};
pub use folder::{Found, MAX_FILE, MAX_FILES, MAX_TEXT, MAX_TOTAL};
pub use host::{CanvasHost, CanvasMsg};

use crate::conns::Conn;
use crate::estate::Estate;
use folder::Folder;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// What the surface is called in hello-ok and in refreshes.
pub const SURFACE: &str = "canvas";
/// Where the files are served.
pub const PAGES: &str = "/__openclaw__/canvas/";
/// Where the A2UI page is.
pub const A2UI: &str = "/__openclaw__/a2ui/";
/// What is before a capability in an address.
pub const CAPABILITY: &str = "/__openclaw__/cap/";
/// Pages that hear of changes at the same time; another one is answered 503.
pub const MAX_WATCHERS: usize = 32;
/// Files that are read for clients at the same time: each is in memory whole. Others wait.
const READERS: usize = 4;

/// See the module. Part of the Estate.
#[derive(Clone)]
pub struct Canvas {
    /// Who may look without the secret.
    pub capabilities: Arc<Capabilities>,
    folder: Arc<Folder>,
    readers: Arc<Semaphore>,
    watchers: Arc<Semaphore>,
    print: watch::Sender<String>,
}

/// Somebody who hears when files change, until it is dropped.
pub struct Watcher {
    print: watch::Receiver<String>,
    _seat: OwnedSemaphorePermit,
}

impl Watcher {
    /// Waits for news, and tells the print of all files as they are now.
    pub async fn news(&mut self) -> String {
        // The sender is in the Estate; without one there is never any news.
        if self.print.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.print.borrow_and_update().clone()
    }
}

impl Canvas {
    /// That of a state directory.
    pub fn open(state_dir: &Path) -> Self {
        Self {
            capabilities: Arc::default(),
            folder: Arc::new(Folder::at(state_dir.join("canvas"))),
            readers: Arc::new(Semaphore::new(READERS)),
            watchers: Arc::new(Semaphore::new(MAX_WATCHERS)),
            print: watch::Sender::default(),
        }
    }

    /// What is at a path, for a client.
    pub async fn look(&self, path: String) -> Found {
        let reader = self.readers.clone().acquire_owned().await;
        let looked = self.work(move |folder| {
            let _reader = reader;
            folder.look(&path)
        });
        looked.await.unwrap_or(Found::Nothing)
    }

    /// A seat among those who hear of changes; `None` if all are taken. The actor has to be told of it.
    pub fn watch(&self) -> Option<Watcher> {
        let seat = self.watchers.clone().try_acquire_owned().ok()?;
        Some(Watcher { print: self.print.subscribe(), _seat: seat })
    }

    fn has_watchers(&self) -> bool {
        self.watchers.available_permits() < MAX_WATCHERS
    }

    /// Puts a text there; what is told of it.
    ///
    /// # Errors
    /// Why it was not written, and what to do.
    pub async fn write(&self, path: String, text: String) -> Result<String, String> {
        self.done(move |folder| folder.write(&path, &text)).await
    }

    /// The text of a file.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub async fn read(&self, path: String) -> Result<String, String> {
        self.done(move |folder| folder.read(&path)).await
    }

    /// Which files there are.
    ///
    /// # Errors
    /// A fault of the gateway.
    pub async fn list(&self) -> Result<String, String> {
        self.done(Folder::list).await
    }

    /// Removes a file.
    ///
    /// # Errors
    /// Why it was not removed.
    pub async fn remove(&self, path: String) -> Result<String, String> {
        self.done(move |folder| folder.remove(&path)).await
    }

    /// Adds A2UI messages, one a line; how many.
    ///
    /// # Errors
    /// What is wrong with them: none was added then.
    pub async fn push(&self, jsonl: String) -> Result<usize, String> {
        self.done(move |folder| a2ui::push(folder, &jsonl)).await
    }

    /// The A2UI page shows nothing any more.
    ///
    /// # Errors
    /// Why it still does.
    pub async fn reset(&self) -> Result<(), String> {
        self.done(a2ui::reset).await
    }

    async fn done<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Folder) -> Result<T, String> + Send + 'static,
    ) -> Result<T, String> {
        self.work(work)
            .await
            .unwrap_or_else(|| Err("The canvas failed through a fault of the gateway.".into()))
    }

    /// On a thread that may wait for the disk.
    async fn work<T: Send + 'static>(&self, work: impl FnOnce(&Folder) -> T + Send + 'static) -> Option<T> {
        let folder = self.folder.clone();
        tokio::task::spawn_blocking(move || work(&folder)).await.ok()
    }
}

impl Estate {
    /// The address of the canvas for a connection, `{canvas: URL}`, and until when it is good, ms; the one it had
    /// before is good no more. `None` if there is no canvas, or the client did not say how it reaches this gateway.
    pub fn canvas_urls(&self, conn: &Conn) -> Option<(Value, i64)> {
        if !self.config.load().settings.plugins.entries.canvas.config.host.enabled {
            return None;
        }
        let origin = origin_of(conn)?;
        let token = self.canvas.capabilities.issue(conn, self.clock.uptime())?;
        let until = self.clock.now_ms() + LIFETIME.as_millis() as i64;
        Some((json!({ SURFACE: format!("{origin}{CAPABILITY}{token}") }), until))
    }
}

/// The gateway as the client reaches it.
fn origin_of(conn: &Conn) -> Option<String> {
    let host = conn.peer.host.as_deref()?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b".-_:[]".contains(&b);
    if host.is_empty() || !host.bytes().all(plain) {
        return None;
    }
    // A proxy that speaks TLS may not say so; a browser tells what it sees of it.
    let seen = conn.peer.origin.as_deref().and_then(|origin| origin.split_once("://"));
    let scheme = match seen {
        Some((scheme @ ("http" | "https"), at)) if at.eq_ignore_ascii_case(host) => scheme,
        _ if conn.peer.tls => "https",
        _ => "http",
    };
    Some(format!("{scheme}://{host}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conns::{Conns, Peer};
    use crabtree_protocol::ConnId;

    fn origin(host: Option<&str>, origin: Option<&str>, tls: bool) -> Option<String> {
        let peer = Peer::new([127, 0, 0, 1].into());
        let (host, origin) = (host.map(Into::into), origin.map(Into::into));
        origin_of(&Conns::default().open(ConnId::random(), Peer { host, origin, tls, ..peer }).0)
    }

    #[test]
    fn the_address_is_that_by_which_the_client_came() {
        let plain = Some("http://home:18789".to_owned());
        assert_eq!(origin(Some("home:18789"), None, false), plain);
        assert_eq!(origin(Some("home:18789"), Some("https://elsewhere"), false), plain);
        assert_eq!(origin(Some("[::1]:1"), None, false).as_deref(), Some("http://[::1]:1"));
        assert_eq!(origin(Some("home"), Some("https://home"), false).as_deref(), Some("https://home"));
        assert_eq!(origin(Some("home"), None, true).as_deref(), Some("https://home"));
        for host in [None, Some(""), Some("a/b"), Some("a b"), Some("user@home"), Some("a\"b")] {
            assert_eq!(origin(host, None, false), None, "{host:?}");
        }
    }
}

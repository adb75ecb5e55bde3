//! A complete channel in one file: a folder as a mailbox. A file put into `in/` is a message of who it is named after
//! (`in/ann.txt`), and answers are files in `out/`. `cargo run --profile ci --example mailbox_channel`, then
//! `echo hello > /tmp/crabtree-mailbox/in/ann.txt`.
//!
//! What makes a channel is in `impl Channel`. It knows no sessions, agents or rules, keeps nothing and tries nothing
//! again: a file is taken away only when the gateway has it for good, and an answer's file is named after its id, so
//! that writing it twice is writing it once.

use crabtree::{Gateway, Options, config};
use crabtree_actors::channels::contract::{
    Account, Address, Capabilities, Channel, Envelope, Heard, Kind, Link, Order, Orders, Outgoing, Place,
    SendError, Sender, Sent, Trouble,
};
use crabtree_actors::estate::Brought;
use crabtree_actors::log_ring::LogRing;
use crabtree_actors::process::Guard;
use crabtree_actors::settings::{AuthSecret, Secret};
use futures_util::future::BoxFuture;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::fs;

/// How often the mailbox is looked into.
const LOOK: Duration = Duration::from_millis(500);

struct Mailbox;

impl Channel for Mailbox {
    fn name(&self) -> &str {
        "mailbox"
    }

    fn label(&self) -> &str {
        "Mailbox"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { idempotent: true, ..Capabilities::texts(10_000) }
    }

    fn check(&self, account: &Account) -> Result<(), String> {
        account.text("folder").map(|_| ()).ok_or_else(|| "folder: say where the mailbox is".into())
    }

    fn run(self: Arc<Self>, account: Account, link: Link, orders: Orders) -> BoxFuture<'static, Trouble> {
        let folder = PathBuf::from(account.text("folder").unwrap_or_default());
        Box::pin(async move {
            match serve(&folder, link, orders).await {
                Ok(()) => Trouble::Retry("it was stopped".into()),
                // The gateway restarts it, later each time, and parks it if that never helps.
                Err(e) => Trouble::Retry(format!("{}: {e}", folder.display())),
            }
        })
    }
}

async fn serve(folder: &Path, link: Link, mut orders: Orders) -> anyhow::Result<()> {
    for part in ["in", "out"] {
        fs::create_dir_all(folder.join(part)).await?;
    }
    link.say(Heard::Connected(None)).await?;
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                None => return Ok(()),
                Some(Order::Send(outgoing, done)) => {
                    let _ = done.send(put(folder, &outgoing).await);
                }
                Some(Order::Typing(_)) => {}
                Some(Order::React { done, .. }) => {
                    let _ = done.send(Err(SendError::Refused("files have no reactions".into())));
                }
                Some(Order::Act { done, .. }) => {
                    let _ = done.send(Err(SendError::Refused("a mailbox takes texts only".into())));
                }
            },
            _ = look.tick() => {
                link.alive();
                take(folder, &link).await?;
            }
        }
    }
}

/// Hands in what lies in the mailbox, and takes away what the gateway has.
async fn take(folder: &Path, link: &Link) -> anyhow::Result<()> {
    let mut files = fs::read_dir(folder.join("in")).await?;
    while let Some(file) = files.next_entry().await? {
        let (path, written) = (file.path(), file.metadata().await?.modified()?);
        let who = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let at_ms = written.duration_since(std::time::UNIX_EPOCH)?.as_millis() as i64;
        let envelope = Envelope {
            // The same file again is the same message.
            id: format!("{who} {}", written.duration_since(std::time::UNIX_EPOCH)?.as_nanos()),
            from: Sender { id: who.clone(), ..Sender::default() },
            at: Address { chat_type: Kind::Direct, chat: who, thread: None },
            place: Place::default(),
            text: fs::read_to_string(&path).await?,
            attachments: Vec::new(),
            mentions_me: false,
            replies_to_me: false,
            quote: None,
            at_ms,
        };
        link.receive(envelope).await?;
        fs::remove_file(&path).await?;
    }
    Ok(())
}

/// Writes an answer. What is half written has another name.
async fn put(folder: &Path, outgoing: &Outgoing) -> Result<Sent, SendError> {
    let name = outgoing.id.replace([':', '/'], "-");
    let path = folder.join("out").join(format!("{}-{name}.txt", outgoing.to.chat));
    let part = path.with_extension("part");
    let later = |e: std::io::Error| SendError::Later { why: e.to_string(), after: None };
    fs::write(&part, &outgoing.text).await.map_err(later)?;
    fs::rename(&part, &path).await.map_err(later)?;
    println!("{}: {}", outgoing.to.chat, outgoing.text);
    Ok(Sent { id: name })
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = std::env::temp_dir().join("crabtree-mailbox");
    let state_dir = folder.join("state");
    fs::create_dir_all(&state_dir).await?;
    let section = json!({ "channels": { "mailbox": { "folder": folder, "dmPolicy": "open" } } });
    fs::write(state_dir.join("openclaw.json"), section.to_string()).await?;
    let sources =
        config::Sources { state_dir, file: None, env: config::Environment::of_process(), flags: json!({}) };
    let loaded = config::load(&sources)?;
    let gateway = Gateway::start(Options {
        loaded,
        reload: sources.reader(),
        token: AuthSecret::Token(Secret::new("the-token-of-the-mailbox")),
        device_key: rand::random(),
        log_ring: Arc::new(LogRing::default()),
        listen: vec![([127, 0, 0, 1], 0).into()],
        brought: Brought { channels: vec![Arc::new(Mailbox)], ..Brought::default() },
        guard: Guard::none(),
        start: Default::default(),
    })
    .await?;
    println!("put a file into {}, for instance ann.txt", folder.join("in").display());
    tokio::signal::ctrl_c().await?;
    gateway.shutdown("the mailbox is closed").await;
    Ok(())
}

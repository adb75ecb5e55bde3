//! A tour through the tree with a hammer: a client watches one turn after the other while each actor in turn
//! is made to panic. `cargo run --profile ci --example crash_tour`

use anyhow::{Context, bail};
use crabtree::{Gateway, Options, config};
use crabtree_actors::estate::Brought;
use crabtree_actors::log_ring::LogRing;
use crabtree_actors::process::Guard;
use crabtree_actors::settings::{AuthSecret, Secret};
use crabtree_actors::tree::{Chaos, NodeState};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::io::Write;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

const TOKEN: &str = "the-token-of-the-tour";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let state = std::env::temp_dir().join(format!("crabtree-tour-{}", std::process::id()));
    std::fs::create_dir_all(&state)?;
    let gateway = start(state.clone()).await?;
    let mut client = Client::connect(&gateway).await?;
    let actors: Vec<String> = gateway.root().children().iter().map(|c| c.path().to_string()).collect();
    for path in actors {
        println!("\n== a turn begins, and {path} panics");
        client.say(&format!("what if {path} dies?")).await?;
        let node = gateway.root().find(&path).context("the actor is gone")?;
        let mut watch = node.watch();
        let generation = node.generation();
        node.inject(Chaos::Panic);
        client.hear_the_end().await?;
        watch.wait_for(|(state, g)| *g > generation && *state == NodeState::Running).await?;
        let reason = node.last_exit().map(|exit| exit.reason).unwrap_or_default();
        println!(
            "   {path} is back ({} restarts, last exit: {reason}); the socket never closed",
            node.restarts()
        );
    }
    gateway.shutdown("the tour is over").await;
    std::fs::remove_dir_all(state)?;
    Ok(())
}

async fn start(state_dir: std::path::PathBuf) -> anyhow::Result<Gateway> {
    let sources =
        config::Sources { state_dir, file: None, env: config::Environment::of_process(), flags: json!({}) };
    let loaded = config::load(&sources)?;
    let gateway = Gateway::start(Options {
        loaded,
        reload: sources.reader(),
        token: AuthSecret::Token(Secret::new(TOKEN)),
        device_key: rand::random(),
        log_ring: Arc::new(LogRing::default()),
        listen: vec![([127, 0, 0, 1], 0).into()],
        brought: Brought::default(),
        guard: Guard::none(),
        start: Default::default(),
    })
    .await?;
    gateway.ready().await;
    Ok(gateway)
}

struct Client {
    ws: WebSocketStream<MaybeTlsStream<TcpStream>>,
    turn: u32,
}

impl Client {
    async fn connect(gateway: &Gateway) -> anyhow::Result<Self> {
        let (ws, _) = connect_async(format!("ws://{}", gateway.local_addr())).await?;
        let mut client = Self { ws, turn: 0 };
        client.frame().await?;
        let about = json!({ "id": "cli", "mode": "cli", "version": "tour", "platform": "any" });
        let params = json!({
            "minProtocol": 4, "maxProtocol": 4, "client": about, "role": "operator",
            "scopes": ["operator.write"], "auth": { "token": TOKEN },
        });
        client.request("connect", "connect", params).await?;
        Ok(client)
    }

    async fn frame(&mut self) -> anyhow::Result<Value> {
        loop {
            match self.ws.next().await.context("the socket closed")?? {
                Message::Text(text) => return Ok(serde_json::from_str(&text)?),
                Message::Close(frame) => bail!("the socket was closed: {frame:?}"),
                _ => {}
            }
        }
    }

    async fn request(&mut self, id: &str, method: &str, params: Value) -> anyhow::Result<Value> {
        let frame = json!({ "type": "req", "id": id, "method": method, "params": params });
        self.ws.send(Message::text(frame.to_string())).await?;
        loop {
            let frame = self.frame().await?;
            if frame["type"] == "res" && frame["id"] == id {
                return Ok(frame);
            }
        }
    }

    /// Sends a message and waits for its first words.
    async fn say(&mut self, text: &str) -> anyhow::Result<()> {
        self.turn += 1;
        let id = format!("turn-{}", self.turn);
        let params = json!({ "sessionKey": "main", "message": text, "idempotencyKey": id });
        let answer = self.request(&id, "chat.send", params).await?;
        println!("   {text}\n   acknowledged: {}", answer["payload"]);
        loop {
            let payload = self.frame().await?["payload"].clone();
            if payload["state"] == "delta" {
                print!("   {}", payload["deltaText"].as_str().unwrap_or_default());
                return Ok(());
            }
        }
    }

    /// Prints the answer as it streams.
    async fn hear_the_end(&mut self) -> anyhow::Result<()> {
        loop {
            let payload = self.frame().await?["payload"].clone();
            print!("{}", payload["deltaText"].as_str().unwrap_or_default());
            std::io::stdout().flush()?;
            if let Some(state @ ("final" | "error" | "aborted")) = payload["state"].as_str() {
                println!("\n   ended: {state}");
                return Ok(());
            }
        }
    }
}

//! Models of an Ollama that nobody has configured.

use crate::client::Client;
use crate::gateway::Embedded;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// An Ollama that has these models, and says `here` whatever it is asked.
struct Ollama {
    addr: SocketAddr,
    has: Arc<Mutex<Vec<&'static str>>>,
    /// Lines of the requests it has had.
    asked: Arc<Mutex<Vec<String>>>,
    _serving: JoinSet<()>,
}

impl Ollama {
    async fn start(has: &[&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (has, asked) = (Arc::new(Mutex::new(has.to_vec())), Arc::<Mutex<Vec<String>>>::default());
        let addr = listener.local_addr().unwrap();
        let (mut serving, inside, noted) = (JoinSet::new(), has.clone(), asked.clone());
        serving.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                // Who only looks whether somebody listens says nothing.
                let _ = serve(BufReader::new(socket), &inside, &noted).await;
            }
        });
        Self { addr, has, asked, _serving: serving }
    }

    fn settings(&self) -> Value {
        json!({
            "models": { "providers": { "ollama": { "baseUrl": format!("http://{}", self.addr) } } },
            "plugins": { "entries": { "ollama": { "config": { "discovery": { "enabled": true } } } } },
        })
    }

    fn asked(&self, path: &str) -> usize {
        self.asked.lock().iter().filter(|line| line.contains(path)).count()
    }
}

async fn serve(
    mut socket: BufReader<TcpStream>,
    has: &Mutex<Vec<&'static str>>,
    asked: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let (mut line, mut length) = (String::new(), 0);
    if socket.read_line(&mut line).await? == 0 {
        return Ok(());
    }
    loop {
        let mut header = String::new();
        socket.read_line(&mut header).await?;
        let Some((name, value)) = header.trim().split_once(": ") else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await?;
    let answer = if line.contains("/api/tags") {
        let tag = |name: &&str| json!({ "name": name, "model": name, "digest": format!("digest of {name}") });
        json!({ "models": has.lock().iter().map(tag).collect::<Vec<_>>() })
    } else if line.contains("/api/show") {
        let body: Value = serde_json::from_slice(&body).unwrap();
        let can =
            if body["model"] == "nomic" { json!(["embedding"]) } else { json!(["completion", "tools"]) };
        json!({ "capabilities": can, "model_info": { "qwen3.context_length": 40960 } })
    } else {
        json!({
            "model": "m", "message": { "role": "assistant", "content": "here" }, "done": true, "done_reason": "stop",
        })
    };
    asked.lock().push(line);
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n";
    let answer = format!("{answer}\n");
    let whole = format!("{head}content-length: {}\r\n\r\n{answer}", answer.len());
    socket.write_all(whole.as_bytes()).await
}

/// `provider/id` of the models.
async fn models(client: &mut Client, params: Value) -> Vec<String> {
    let models = client.call("models.list", params).await["models"].clone();
    let name =
        |model: &Value| format!("{}/{}", model["provider"].as_str().unwrap(), model["id"].as_str().unwrap());
    models.as_array().unwrap().iter().map(name).collect()
}

#[tokio::test]
async fn what_an_ollama_has_can_be_used_as_soon_as_it_is_found() {
    let ollama = Ollama::start(&["qwen3:8b", "nomic"]).await;
    let gateway = Embedded::with(ollama.settings()).await;
    let mut client = Client::admin(gateway.addr).await;
    let expected = ["crabtree/offline", "ollama/qwen3:8b"];
    assert_eq!(models(&mut client, json!({ "refresh": true })).await, expected, "none that only embeds");
    let rows = client.call("models.list", json!({})).await["models"].clone();
    assert_eq!((&rows[1]["contextWindow"], &rows[1]["local"]), (&json!(40960), &json!(true)));
    assert_eq!(rows[0]["tags"], json!(["default"]), "what is found does not become the default");
    client.call("sessions.create", json!({ "key": "one", "model": "ollama/qwen3:8b" })).await;
    let said = json!({ "sessionKey": "one", "message": "hello", "idempotencyKey": "k1" });
    client.call("chat.send", said).await;
    let end = client.chat_end("k1").await;
    assert_eq!(end["message"]["content"][0]["text"], "here", "{end}");
}

#[tokio::test]
async fn who_wants_to_know_now_hears_of_what_is_new_and_so_do_all_others() {
    let ollama = Ollama::start(&["a"]).await;
    let gateway = Embedded::with(ollama.settings()).await;
    let mut client = Client::admin(gateway.addr).await;
    models(&mut client, json!({ "refresh": true })).await;
    *ollama.has.lock() = vec!["a", "b"];
    let mut other = Client::admin(gateway.addr).await;
    assert_eq!(models(&mut other, json!({})).await.len(), 2, "nobody has looked");
    let found = models(&mut client, json!({ "refresh": true })).await;
    assert_eq!(found, ["crabtree/offline", "ollama/a", "ollama/b"]);
    other.event(|event| event["event"] == "chat.metadata.changed").await;
    let shown = ollama.asked("/api/show");
    models(&mut client, json!({ "refresh": true })).await;
    assert_eq!((shown, ollama.asked("/api/show")), (2, 2), "what is the same is not asked about again");
    *ollama.has.lock() = vec!["b"];
    assert_eq!(models(&mut client, json!({ "refresh": true })).await, ["crabtree/offline", "ollama/b"]);
}

#[tokio::test]
async fn nobody_looks_where_that_is_not_wanted() {
    let ollama = Ollama::start(&["a"]).await;
    let mut off = ollama.settings();
    off["plugins"]["entries"]["ollama"]["config"]["discovery"]["enabled"] = json!(false);
    let mut named = ollama.settings();
    named["models"]["providers"]["ollama"]["models"] = json!([{ "id": "mine" }]);
    for (settings, expected) in
        [(off, &["crabtree/offline"][..]), (named, &["crabtree/offline", "ollama/mine"])]
    {
        let gateway = Embedded::with(settings).await;
        let mut client = Client::admin(gateway.addr).await;
        assert_eq!(models(&mut client, json!({ "refresh": true })).await, expected);
    }
    assert_eq!(ollama.asked("/"), 0);
}

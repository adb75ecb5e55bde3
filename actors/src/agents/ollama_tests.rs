//! Ollama: where it is looked for, and what is made of what it says.

use super::*;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

fn places_of(settings: Value) -> Vec<String> {
    places(&serde_json::from_value(settings).unwrap()).into_keys().collect()
}

#[test]
fn it_is_looked_for_where_it_may_be() {
    let off = json!({ "entries": { "ollama": { "config": { "discovery": { "enabled": false } } } } });
    let models = json!([{ "id": "m" }]);
    let at = |id: &str, provider: Value| json!({ "models": { "providers": { id: provider } } });
    assert_eq!(places_of(json!({})), ["ollama"]);
    assert_eq!(places_of(json!({ "plugins": off })), [""; 0]);
    assert_eq!(places_of(at("ollama", json!({ "baseUrl": "http://nas:11434" }))), ["ollama"]);
    assert_eq!(places_of(at("ollama", json!({ "models": models }))), [""; 0], "it says what it has");
    let nas = json!({ "baseUrl": "http://nas:11434", "api": "ollama" });
    assert_eq!(places_of(at("nas", nas)), ["nas", "ollama"]);
    assert_eq!(
        places_of(at("nas", json!({ "baseUrl": "http://nas:8080/v1" }))),
        ["ollama"],
        "another dialect"
    );
}

fn found(capabilities: Value) -> Option<Found> {
    let tag = Tag { name: "qwen3:8b".into(), digest: "d1".into() };
    let shown = json!({
        "capabilities": capabilities,
        "model_info": { "general.architecture": "qwen3", "qwen3.context_length": 40960 },
    });
    Found::new(tag, serde_json::from_value(shown).unwrap())
}

#[test]
fn a_model_is_what_it_can_do() {
    let entry = found(json!(["completion", "tools", "vision", "thinking"])).unwrap().entry;
    assert_eq!((entry.id.as_str(), entry.context_window, entry.reasoning), ("qwen3:8b", 40960, true));
    assert_eq!((entry.input, entry.compat.supports_tools), (vec!["text".into(), "image".into()], Some(true)));
    assert_eq!(entry.cost, Some(Prices::default()), "nobody pays for it");
    let plain = found(json!(["completion"])).unwrap().entry;
    assert_eq!((plain.input.len(), plain.reasoning, plain.compat.supports_tools), (1, false, Some(false)));
    assert!(found(json!(["embedding"])).is_none(), "nobody can talk to it");
    let unknown = Found::new(Tag { name: "old".into(), digest: String::new() }, Shown::default()).unwrap();
    assert_eq!(unknown.entry.compat.supports_tools, None, "an old Ollama does not say");
    assert_eq!(unknown.entry.context_window, ModelEntry::default().context_window);
}

#[tokio::test]
async fn what_was_known_stays_while_nobody_answers() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    let provider = ProviderSettings { base_url: Some(address.clone()), ..ProviderSettings::default() };
    let places = BTreeMap::from([("ollama".to_owned(), provider)]);
    let known = Finds::from([("ollama".to_owned(), vec![found(json!(["completion"])).unwrap()])]);
    let http = Http::default();
    assert_eq!(look(places.clone(), known.clone(), http.clone()).await, known);
    assert!(look(places, Finds::new(), http.clone()).await.is_empty());
    assert!(http.is_idle(), "no client is made for that");
    assert!(look(BTreeMap::new(), known, http).await.is_empty(), "a place that is gone has nothing");
}

/// Guard: an endless answer is not read to its end.
#[tokio::test]
async fn an_answer_has_a_limit() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut asked = [0; 1024];
            if socket.read(&mut asked).await.unwrap_or(0) == 0 {
                continue;
            }
            let head = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
            let _ = tokio::io::AsyncWriteExt::write_all(&mut socket, head).await;
            let much = vec![b' '; 64 << 10];
            while tokio::io::AsyncWriteExt::write_all(&mut socket, &much).await.is_ok() {}
        }
    });
    let provider = ProviderSettings { base_url: Some(url), ..ProviderSettings::default() };
    let why = at("ollama", &provider, &[], &Http::default()).await.unwrap_err();
    assert!(why.contains("larger than"), "{why}");
    serving.abort();
}

//! The canvas from outside: who may look and for how long, what is served and what is not, and pages that hear of
//! changes.

mod agents;

use crate::client::{Client, TOKEN};
use crate::gateway::Embedded;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;

const PAGES: &str = "/__openclaw__/canvas/";
const A2UI: &str = "/__openclaw__/a2ui/";
const UNAUTHORIZED: &str = r#"{"error":{"message":"Unauthorized","type":"unauthorized"}}"#;
/// Nothing here takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

async fn asked(addr: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> TcpStream {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n");
    headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
    stream.write_all(format!("{head}\r\n").as_bytes()).await.unwrap();
    stream
}

async fn ask(addr: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut answer = Vec::new();
    asked(addr, method, path, headers).await.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let pairs = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        headers: pairs.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect(),
        body: body.to_owned(),
    }
}

async fn get(addr: SocketAddr, path: &str) -> Answer {
    ask(addr, "GET", path, &[]).await
}

async fn status(addr: SocketAddr, path: &str) -> u16 {
    get(addr, path).await.status
}

/// The path of the address that a hello or a refresh gives, for this gateway.
fn capability(addr: SocketAddr, told: &Value) -> String {
    let url = told["pluginSurfaceUrls"]["canvas"].as_str().unwrap_or_else(|| panic!("{told}"));
    let path = url.strip_prefix(&format!("http://{addr}")).unwrap_or_else(|| panic!("{url}"));
    let token = path.strip_prefix("/__openclaw__/cap/").unwrap();
    assert_eq!(token.len(), 24);
    assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)), "{token}");
    path.to_owned()
}

/// A stream of news about the files.
struct News(Lines<BufReader<TcpStream>>);

impl News {
    async fn of(addr: SocketAddr, capability: &str) -> Self {
        let stream = asked(addr, "GET", &format!("{capability}{PAGES}.events"), &[]).await;
        Self(BufReader::new(stream).lines())
    }

    async fn line(&mut self) -> Option<String> {
        tokio::time::timeout(PATIENCE, self.0.next_line()).await.expect("news in time").unwrap_or(None)
    }

    /// The next print; `None` at the end.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(print) = self.line().await?.strip_prefix("data:") {
                return Some(print.trim().to_owned());
            }
        }
    }

    /// The first print that is another one.
    async fn other_than(&mut self, known: &str) -> String {
        loop {
            let print = self.next().await.expect("the stream goes on");
            if print != known {
                return print;
            }
        }
    }
}

/// A gateway with a page, and an operator.
async fn with_page() -> (Embedded, Client) {
    let gateway = Embedded::with(json!({ "gateway": { "tools": { "allow": ["canvas"] } } })).await;
    write(&gateway, "index.html", "<html><body>hello</body></html>");
    let operator = Client::admin(gateway.addr).await;
    (gateway, operator)
}

fn file(gateway: &Embedded, path: &str) -> PathBuf {
    gateway.state.path().join("canvas").join(path)
}

fn write(gateway: &Embedded, path: &str, text: &str) {
    let path = file(gateway, path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// accepts: J1, B3
#[tokio::test]
async fn pages_are_served_on_the_one_port_to_who_knows_the_secret_or_was_given_an_address() {
    let (gateway, operator) = with_page().await;
    let (addr, own) = (gateway.addr, capability(gateway.addr, &operator.hello));
    for path in [
        PAGES,
        A2UI,
        "/__openclaw__/canvas",
        "/__openclaw__/canvas/.events",
        "/__openclaw__/cap/x",
        "/__openclaw__/cap/",
    ] {
        let refused = get(addr, path).await;
        assert_eq!((refused.status, refused.body.as_str()), (401, UNAUTHORIZED), "{path}");
        assert_eq!(refused.header("access-control-allow-origin"), "", "{path}");
    }
    let foreign = format!("/__openclaw__/cap/{}{PAGES}", "A".repeat(24));
    let secret = [("Authorization", &*format!("Bearer {TOKEN}"))];
    assert_eq!(
        ask(addr, "GET", &foreign, &secret).await.status,
        401,
        "a wrong capability is not mended by a secret"
    );
    assert_eq!(ask(addr, "GET", PAGES, &[("Authorization", "Bearer wrong")]).await.status, 401);

    let (known, given) = (ask(addr, "GET", PAGES, &secret).await, get(addr, &format!("{own}{PAGES}")).await);
    for page in [&known, &given] {
        assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
        assert!(page.body.starts_with("<html><body>hello<script>") && page.body.ends_with("</body></html>"));
        let policy = page.header("content-security-policy");
        assert!(
            policy.starts_with("sandbox allow-scripts") && !policy.contains("allow-same-origin"),
            "{policy}"
        );
        assert!(policy.contains("default-src 'self'"), "{policy}");
        assert_eq!(
            (page.header("cache-control"), page.header("x-content-type-options")),
            ("no-store", "nosniff")
        );
        assert_eq!(page.header("referrer-policy"), "no-referrer");
    }
    assert!(known.header("content-security-policy").ends_with("frame-ancestors 'none'"));
    assert_eq!((known.header("x-frame-options"), known.header("access-control-allow-origin")), ("DENY", ""));
    assert!(given.header("content-security-policy").ends_with("frame-ancestors *"));
    assert_eq!((given.header("x-frame-options"), given.header("access-control-allow-origin")), ("", "*"));

    for (path, kind) in [("", "text/html"), ("a2ui.js", "text/javascript"), ("a2ui.css", "text/css")] {
        let page = get(addr, &format!("{own}{A2UI}{path}")).await;
        assert_eq!(page.status, 200, "{path}");
        assert!(page.header("content-type").starts_with(kind), "{path}");
    }
    for path in
        [format!("{own}{PAGES}nowhere"), format!("{own}{A2UI}x"), format!("{own}/health"), own.clone()]
    {
        assert_eq!(status(addr, &path).await, 404, "{path}");
    }
    let posted = ask(addr, "POST", &format!("{own}{PAGES}"), &[]).await;
    assert_eq!((posted.status, posted.header("allow")), (405, "GET, HEAD"));
    let moved = get(addr, &format!("{own}/__openclaw__/canvas")).await;
    assert_eq!((moved.status, moved.header("location")), (302, "canvas/"));
    // Documents lie where OpenClaw's clients look for them.
    write(&gateway, "documents/d 1/index.html", "a document");
    assert_eq!(status(addr, &format!("{own}{PAGES}documents/d%201/index.html")).await, 200);
    let moved = get(addr, &format!("{own}{PAGES}documents/d%201")).await;
    assert_eq!((moved.status, moved.header("location")), (302, "d%201/"));
}

/// accepts: J1
#[tokio::test]
async fn no_address_leads_out_of_the_directory() {
    let (gateway, operator) = with_page().await;
    let own = capability(gateway.addr, &operator.hello);
    let secret = gateway.state.path().join("gateway.token");
    std::fs::write(&secret, "secret").unwrap();
    std::os::unix::fs::symlink(&secret, file(&gateway, "link.txt")).unwrap();
    std::os::unix::fs::symlink(gateway.state.path(), file(&gateway, "door")).unwrap();
    for path in [
        "link.txt",
        "door/gateway.token",
        "../gateway.token",
        "..%2fgateway.token",
        "%2e%2e/gateway.token",
        "x/../../gateway.token",
        "/../gateway.token",
        ".hidden",
        "%00",
        "%ff",
        "%",
    ] {
        let answer = get(gateway.addr, &format!("{own}{PAGES}{path}")).await;
        assert_eq!((answer.status, answer.body.as_str()), (404, "not found"), "{path}");
    }
}

/// accepts: J1
#[tokio::test]
async fn an_address_is_good_until_its_refresh_its_time_or_the_end_of_its_connection() {
    // A jump of time is no silence of the client.
    let gateway = Embedded::with(json!({ "gateway": { "pingIntervalMs": 86_400_000 } })).await;
    let addr = gateway.addr;
    write(&gateway, "index.html", "hello");
    let mut operator = Client::admin(addr).await;
    let mut other = Client::scoped(addr, &["operator.approvals"]).await;
    let (first, others) = (capability(addr, &operator.hello), capability(addr, &other.hello));
    let refused = other.refused("plugin.surface.refresh", json!({ "surface": "canvas" })).await;
    assert_eq!(refused["message"], "missing scope: operator.read");

    let before = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64;
    let told = operator.call("plugin.surface.refresh", json!({ "surface": " canvas " })).await;
    let second = capability(addr, &told);
    let left = told["expiresAtMs"].as_i64().unwrap() - before;
    assert!(told["surface"] == "canvas" && (600_000..605_000).contains(&left), "{told}");
    assert_eq!(status(addr, &format!("{first}{PAGES}")).await, 401, "revoked by the refresh");
    assert_eq!(status(addr, &format!("{second}{PAGES}")).await, 200);
    for (params, why) in [
        (json!({}), "surface required"),
        (json!({ "surface": " " }), "surface required"),
        (json!({ "surface": "nope" }), "nope plugin surface unavailable"),
    ] {
        assert_eq!(operator.refused("plugin.surface.refresh", params).await["message"], why);
    }

    assert_eq!(status(addr, &format!("{others}{PAGES}")).await, 200);
    let mut news = News::of(addr, &others).await;
    assert!(news.next().await.is_some());
    drop(other);
    assert_eq!(news.next().await, None, "who watches is told so by the end of the stream");
    assert_eq!(status(addr, &format!("{others}{PAGES}")).await, 401, "its connection has ended");

    let mut news = News::of(addr, &second).await;
    assert!(news.next().await.is_some());
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(590)).await;
    tokio::time::resume();
    assert_eq!(status(addr, &format!("{second}{PAGES}")).await, 200);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(11)).await;
    tokio::time::resume();
    let late = get(addr, &format!("{second}{PAGES}")).await;
    assert_eq!((late.status, late.body.as_str()), (401, UNAUTHORIZED), "expired");
    while news.next().await.is_some() {}
    let third = operator.call("plugin.surface.refresh", json!({ "surface": "canvas" })).await;
    assert_eq!(status(addr, &format!("{}{PAGES}", capability(addr, &third))).await, 200);
}

/// accepts: J1
#[tokio::test]
async fn whoever_watches_hears_of_every_change_over_a_crash_too() {
    let gateway = Embedded::start().await;
    let mut operator = Client::admin(gateway.addr).await;
    let own = capability(gateway.addr, &operator.hello);
    let empty = get(gateway.addr, &format!("{own}{PAGES}")).await;
    assert!(empty.status == 200 && empty.body.contains("Nothing here yet"), "{}", empty.body);
    let mut news = News::of(gateway.addr, &own).await;
    let mut print = news.next().await.unwrap();
    assert!(empty.body.contains(&format!("\"{print}\"")), "the page knows what it was made of");
    for text in ["one", "three"] {
        write(&gateway, "sub/page.html", text);
        print = news.other_than(&print).await;
    }
    let page = get(gateway.addr, &format!("{own}{PAGES}sub/page.html")).await;
    assert!(page.body.contains(&print), "{}", page.body);
    operator.call("system.chaos", json!({ "path": "gateway/canvas", "fault": "panic" })).await;
    write(&gateway, "sub/page.html", "fourth");
    news.other_than(&print).await;
}

/// accepts: J1
#[tokio::test]
async fn only_so_many_watch_at_once() {
    let (gateway, operator) = with_page().await;
    let own = capability(gateway.addr, &operator.hello);
    let mut watching = Vec::new();
    for _ in 0..crabtree_actors::canvas::MAX_WATCHERS {
        let mut news = News::of(gateway.addr, &own).await;
        assert!(news.line().await.unwrap().contains("200"));
        watching.push(news);
    }
    let late = get(gateway.addr, &format!("{own}{PAGES}.events")).await;
    assert_eq!(late.status, 503, "{}", late.body);
    assert_eq!(status(gateway.addr, &format!("{own}{PAGES}")).await, 200, "pages are served all the same");
}

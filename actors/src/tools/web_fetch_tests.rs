use super::*;
use crate::settings::SsrfPolicy;
use crate::settings::ToolsSettings;
use crate::tools::Policy;
use crate::tools::testing::outcome;
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A site on this machine; it ends with the test.
struct Site {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    serving: JoinHandle<()>,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Site {
    /// `answer` gives, for a path and the port, the head after the status line, and the body.
    async fn new(answer: fn(&str, u16) -> (String, Vec<u8>)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, asked) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let seen = asked.clone();
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, seen.clone(), move |path| answer(path, address.port())));
            }
        });
        Self { address, asked, serving }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().clone()
    }
}

async fn serve(
    mut stream: TcpStream,
    seen: Arc<Mutex<Vec<String>>>,
    answer: impl Fn(&str) -> (String, Vec<u8>),
) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let Ok(1..) = stream.read_buf(&mut request).await else { return };
    }
    let request = String::from_utf8(request).unwrap();
    let path = request.split(' ').nth(1).unwrap().to_owned();
    seen.lock().push(request.clone());
    if path == "/never" {
        std::future::pending::<()>().await;
    }
    let (head, body) = answer(&path);
    let head = format!("HTTP/1.1 {head}\r\nConnection: close\r\n\r\n");
    // Whoever has enough hangs up.
    let _ = stream.write_all(&[head.as_bytes(), &body].concat()).await;
}

fn answer(path: &str, port: u16) -> (String, Vec<u8>) {
    let found =
        |content_type: &str, body: &[u8]| (format!("200 OK\r\nContent-Type: {content_type}"), body.to_vec());
    let to = |location: &str| (format!("302 Found\r\nContent-Length: 0\r\nLocation: {location}"), Vec::new());
    match path {
        "/page" => found(
            "text/html; charset=utf-8",
            "<title>Tïtle</title><h1>Head</h1><p>a <a href=b>b</a>".as_bytes(),
        ),
        "/json" => found("application/json", b"{\"a\":  1}"),
        "/latin" => found("text/plain; charset=iso-8859-1", b"gr\xfc\xdfe"),
        "/meta" => found("text/html", b"<meta charset=\"iso-8859-1\"><p>gr\xfc\xdfe"),
        "/unsaid" => ("200 OK".into(), b"<!DOCTYPE html><p>text".to_vec()),
        "/binary" => found("text/plain", b"a\0b"),
        "/pdf" => {
            ("200 OK\r\nContent-Type: application/pdf\r\nContent-Length: 8".into(), b"%PDF-1.7".to_vec())
        }
        "/large" => found("text/plain", &vec![b'x'; MAX_BODY + 1_000]),
        "/moved" => to("/page"),
        "/again" => to("/again"),
        "/to-name" => to(&format!("http://localhost:{port}/secret")),
        "/to-address" => to(&format!("http://[::ffff:127.0.0.1]:{port}/secret")),
        "/to-file" => to("file:///etc/passwd"),
        "/to-user" => to(&format!("http://user:word@127.0.0.1:{port}/secret")),
        "/secret" => found("text/plain", b"the secret"),
        _ => ("404 Not Found\r\nContent-Type: text/html".into(), b"<h1>No such page</h1>".to_vec()),
    }
}

/// Only the address the site has is allowed.
fn settings() -> WebFetchSettings {
    let ssrf_policy = SsrfPolicy { allowed_hostnames: vec!["127.0.0.1".into()], ..SsrfPolicy::default() };
    WebFetchSettings { ssrf_policy, ..WebFetchSettings::default() }
}

async fn fetched(settings: &WebFetchSettings, args: Value) -> ToolResult {
    let tool = tool(settings).unwrap();
    outcome(tool.as_ref(), Path::new("/nowhere"), args).await
}

#[tokio::test]
async fn a_page_is_given_as_text_between_marks() {
    let site = Site::new(answer).await;
    let url = site.url("/moved");
    let page = fetched(&settings(), json!({ "url": url })).await;
    let (text, at) = (page.as_text(), site.url("/page"));
    assert!(!page.is_error, "{text}");
    let b = site.url("/b");
    assert!(text.contains(&format!(">>>\nTitle: Tïtle\n\n# Head\n\na [b]({b})\n<<<END ")), "{text}");
    assert!(text.starts_with(&format!("{at} answered 200 OK.")) && text.contains("strangers"), "{text}");
    let length = format!("# Head\n\na [b]({b})").len();
    let details = json!({
        "url": url, "finalUrl": at, "status": 200, "contentType": "text/html; charset=utf-8", "truncated": false,
        "length": length, "title": "Tïtle",
    });
    assert_eq!(page.details, details);
    let again = fetched(&settings(), json!({ "url": at, "extractMode": "text" })).await.as_text();
    assert!(again.contains("Head\n\na b\n<<<END "), "{again}");
    let mark = |text: &str| text.split_once("<<<END ").unwrap().1[..32].to_owned();
    assert_ne!(mark(&text), mark(&again), "a page cannot know the mark");
    let asked = site.asked().join("").to_lowercase();
    assert!(!asked.contains("cookie") && !asked.contains("referer"), "{asked}");
}

#[tokio::test]
async fn text_of_every_kind_is_read_and_nothing_else_is() {
    let site = Site::new(answer).await;
    for (path, text) in [
        ("/json", "\n{\"a\":  1}\n<<<END"),
        ("/latin", "\ngrüße\n<<<END"),
        ("/meta", "\ngrüße\n<<<END"),
        ("/unsaid", "\ntext\n<<<END"),
    ] {
        let page = fetched(&settings(), json!({ "url": site.url(path) })).await;
        assert!(!page.is_error && page.as_text().contains(text), "{}", page.as_text());
    }
    let refused = fetched(&settings(), json!({ "url": site.url("/pdf") })).await;
    assert!(
        refused.is_error && refused.as_text().contains("application/pdf (8 bytes)"),
        "{}",
        refused.as_text()
    );
    let refused = fetched(&settings(), json!({ "url": site.url("/binary") })).await;
    assert!(refused.is_error && refused.as_text().contains("binary data (3 bytes)"), "{}", refused.as_text());
}

#[tokio::test]
async fn an_error_of_the_site_is_one_and_says_what_the_site_said() {
    let site = Site::new(answer).await;
    let page = fetched(&settings(), json!({ "url": site.url("/gone") })).await;
    assert!(page.is_error);
    assert!(page.as_text().contains("404 Not Found") && page.as_text().contains("# No such page"));
    assert_eq!(page.details["status"], 404);
    let nobody = fetched(&settings(), json!({ "url": "http://127.0.0.1:1/" })).await;
    assert!(nobody.is_error && nobody.as_text().contains("cannot be reached"), "{}", nobody.as_text());
}

#[tokio::test]
async fn a_large_page_is_cut() {
    let site = Site::new(answer).await;
    let page = fetched(&settings(), json!({ "url": site.url("/large") })).await;
    let text = page.as_text();
    assert!(text.len() < MAX_TEXT && text.contains("x\n<<<END "), "{}", text.len());
    assert!(
        text.ends_with("\n[The first 50000 of more than 2097152 characters are shown.]"),
        "{}",
        &text[50_000..]
    );
    assert_eq!((&page.details["truncated"], &page.details["length"]), (&json!(true), &json!(MAX_BODY)));
    let page = fetched(&settings(), json!({ "url": site.url("/page"), "maxChars": 100 })).await;
    assert_eq!(page.details["truncated"], false);
    assert_eq!(beginning("äöü", 2), ("äö", 3));
    assert!(beginning(&"ä".repeat(MAX_TEXT), MAX_TEXT).0.len() <= MAX_TEXT);
}

#[tokio::test]
async fn redirects_end() {
    let site = Site::new(answer).await;
    let page = fetched(&settings(), json!({ "url": site.url("/again") })).await;
    assert!(page.is_error && page.as_text().contains("more than 3 redirects"), "{}", page.as_text());
    assert_eq!(site.asked().len(), 4);
    let none = WebFetchSettings { max_redirects: 0, ..settings() };
    assert!(fetched(&none, json!({ "url": site.url("/moved") })).await.is_error);
}

#[tokio::test]
async fn a_redirect_to_a_refused_address_is_not_followed() {
    let site = Site::new(answer).await;
    for path in ["/to-name", "/to-address", "/to-file", "/to-user"] {
        let page = fetched(&settings(), json!({ "url": site.url(path) })).await;
        assert!(
            page.is_error && page.as_text().contains("refused") | page.as_text().contains("public"),
            "{}",
            page.as_text()
        );
    }
    assert_eq!(site.asked().len(), 4, "the secret was asked for");
    let any = SsrfPolicy { dangerously_allow_private_network: true, ..SsrfPolicy::default() };
    let any = WebFetchSettings { ssrf_policy: any, ..WebFetchSettings::default() };
    let page = fetched(&any, json!({ "url": site.url("/to-name") })).await;
    assert!(page.as_text().contains("the secret"), "without the guard it is found: {}", page.as_text());
}

#[tokio::test]
async fn a_name_that_leads_to_this_machine_is_not_asked() {
    let site = Site::new(answer).await;
    let port = site.address.port();
    let localhost = fetched(&settings(), json!({ "url": format!("http://localhost:{port}/secret") })).await;
    assert!(localhost.is_error && localhost.as_text().contains("ssrfPolicy.allowedHostnames"));
    let lookup: super::super::ssrf::Lookup =
        Arc::new(|_| Box::pin(async { Ok(vec![SocketAddr::from(([127, 0, 0, 1], 0))]) }));
    let url = format!("http://rebound.example:{port}/secret");
    let tool = |settings: WebFetchSettings| {
        WebFetch::new(&settings, Guard::with_lookup(&settings.ssrf_policy, lookup.clone()))
    };
    let page =
        outcome(&tool(WebFetchSettings::default()), Path::new("/nowhere"), json!({ "url": url })).await;
    assert!(
        page.as_text().starts_with("rebound.example leads to 127.0.0.1, which is no public address."),
        "{}",
        page.as_text()
    );
    assert!(page.is_error && site.asked().is_empty());
    let ssrf_policy =
        SsrfPolicy { allowed_hostnames: vec!["rebound.example".into()], ..SsrfPolicy::default() };
    let allowed = tool(WebFetchSettings { ssrf_policy, ..WebFetchSettings::default() });
    let page = outcome(&allowed, Path::new("/nowhere"), json!({ "url": url })).await;
    assert!(page.as_text().contains("the secret"), "{}", page.as_text());
}

#[tokio::test]
async fn a_site_that_does_not_answer_is_left() {
    let site = Site::new(answer).await;
    let impatient = WebFetchSettings { timeout_seconds: 1, ..settings() };
    let page = fetched(&impatient, json!({ "url": site.url("/never") })).await;
    assert!(page.is_error && page.as_text().contains("longer than 1 s"), "{}", page.as_text());
    assert_eq!(site.asked().len(), 1);
}

#[test]
fn the_tool_can_be_turned_off_and_its_schema_is_one() {
    assert!(tool(&WebFetchSettings { enabled: false, ..WebFetchSettings::default() }).is_none());
    let registry = crate::tools::Registry::new(tool(&WebFetchSettings::default()));
    let may = Policy::new(&ToolsSettings::default());
    assert!(registry.check("web_fetch", &json!({ "url": "x", "extractMode": "text" }), &may).is_ok());
    assert!(registry.check("web_fetch", &json!({ "url": "x", "method": "POST" }), &may).is_err());
}

#[test]
fn the_key_is_written_as_openclaw_writes_it() {
    let policy = json!({ "dangerouslyAllowPrivateNetwork": true, "allowedHostnames": ["nas.local"] });
    let settings: WebFetchSettings = serde_json::from_value(json!({ "ssrfPolicy": policy })).unwrap();
    assert!(settings.ssrf_policy.dangerously_allow_private_network);
    assert_eq!(settings.ssrf_policy.allowed_hostnames, ["nas.local"]);
}

//! `/__openclaw__/canvas/` and `/__openclaw__/a2ui/`: pages that agents make, for who knows the secret, and below
//! `/__openclaw__/cap/CAPABILITY` for who was given an address. Agents write them, so they are strangers here: each is
//! sandboxed into an origin of its own and loads nothing from other servers.

use crate::routes::{error, not_allowed, refusal, secure, text};
use crabtree_actors::canvas::{A2UI, CAPABILITY, CanvasMsg, Found, PAGES, Pass, Watcher};
use crabtree_actors::gateway::Wiring;
use crabtree_protocol::Scope;
use futures_util::{Stream, StreamExt, stream};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use warp::http::header::{self, HeaderMap, HeaderValue};
use warp::http::{Method, StatusCode};
use warp::path::FullPath;
use warp::reply::Response;
use warp::sse::{self, Event};
use warp::{Filter, Rejection, Reply};

/// What is loaded from a page: itself, its neighbours, and what is in it.
const PAGE_POLICY: &str = "sandbox allow-scripts allow-forms allow-modals; default-src 'self' data: blob: \
     'unsafe-inline' 'unsafe-eval'; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors ";
/// The same for the page of ours, whose scripts are known.
const A2UI_POLICY: &str = "sandbox allow-scripts allow-forms; default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self' data:; media-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors ";
/// Below [`PAGES`]: a stream that tells when files change. No file is called so.
const EVENTS: &str = ".events";
/// Without news this is how often a stream says that it is alive: whoever has gone is noticed by it.
const ALIVE: Duration = Duration::from_secs(15);

const A2UI_HTML: &str = include_str!("canvas/a2ui.html");
const A2UI_CSS: &str = include_str!("canvas/a2ui.css");
const A2UI_JS: &str = include_str!("canvas/a2ui.js");
const EMPTY_HTML: &str = include_str!("canvas/empty.html");
/// Goes into every page; `PRINT` is that of the files as it was sent.
const LIVE_JS: &str = include_str!("canvas/live.js");

/// The answers below these addresses; everything else is left to others.
pub fn routes(
    addr: SocketAddr,
    wiring: Arc<Wiring>,
) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone + Send + Sync + 'static {
    let ours = warp::path::full().and_then(|path: FullPath| async move {
        let is_ours = [PAGES, A2UI, CAPABILITY].iter().any(|root| is_below(path.as_str(), root));
        if is_ours { Ok(path) } else { Err(warp::reject::not_found()) }
    });
    ours.and(warp::method()).and(warp::header::headers_cloned()).then(move |path, method, headers| {
        let asked = Asked { addr, path, method, headers, wiring: wiring.clone() };
        async move { asked.answer().await }
    })
}

/// Whether a path is a root or below it; the slash at its end may be missing.
fn is_below(path: &str, root: &str) -> bool {
    path.starts_with(root) || root.strip_suffix('/') == Some(path)
}

struct Asked {
    addr: SocketAddr,
    path: FullPath,
    method: Method,
    headers: HeaderMap,
    wiring: Arc<Wiring>,
}

/// An answer, and what its page may do if it is one.
type Told = (Response, Option<&'static str>);

impl Asked {
    async fn answer(&self) -> Response {
        let estate = &self.wiring.store.estate;
        let path = self.path.as_str();
        let (pass, (mut response, policy)) = match path.strip_prefix(CAPABILITY) {
            Some(rest) => {
                let token = rest.split('/').next().unwrap_or_default();
                match estate.canvas.capabilities.admit(token, estate.clock.uptime()) {
                    None => (None, (error(StatusCode::UNAUTHORIZED, "Unauthorized", "unauthorized"), None)),
                    Some(pass) => {
                        let told = self.place(&rest[token.len()..], Some(&pass)).await;
                        (Some(pass), told)
                    }
                }
            }
            None => match refusal(&self.headers, self.addr, &self.wiring, Scope::Read).await {
                Some(refusal) => (None, (refusal, None)),
                None => (None, self.place(path, None).await),
            },
        };
        protect(response.headers_mut(), policy, pass.is_some());
        response
    }

    async fn place(&self, path: &str, pass: Option<&Pass>) -> Told {
        let estate = &self.wiring.store.estate;
        if !estate.config.load().settings.plugins.entries.canvas.config.host.enabled {
            return nothing();
        }
        if !matches!(self.method, Method::GET | Method::HEAD) {
            return (not_allowed("GET, HEAD"), None);
        }
        match (path.strip_prefix(PAGES), path.strip_prefix(A2UI)) {
            (Some(EVENTS), _) => (self.events(pass), None),
            (Some(rest), _) => self.file(rest).await,
            (_, Some("" | "index.html")) => {
                (of_kind("text/html; charset=utf-8", A2UI_HTML), Some(A2UI_POLICY))
            }
            (_, Some("a2ui.css")) => (of_kind("text/css; charset=utf-8", A2UI_CSS), None),
            (_, Some("a2ui.js")) => (of_kind("text/javascript; charset=utf-8", A2UI_JS), None),
            _ if is_below(path, PAGES) => (moved("canvas/"), None),
            _ if is_below(path, A2UI) && !path.starts_with(A2UI) => (moved("a2ui/"), None),
            _ => nothing(),
        }
    }

    async fn file(&self, path: &str) -> Told {
        let Some(path) = decoded(path) else { return nothing() };
        match self.wiring.store.estate.canvas.look(path.clone()).await {
            Found::File { path, content, print } => {
                let (kind, policy) = (kind(&path), Some(PAGE_POLICY));
                match print {
                    Some(print) => (of_kind(kind, live(content, &print)), policy),
                    // A drawing can bring scripts, and anything may be shown by itself.
                    None => (of_kind(kind, content), policy),
                }
            }
            Found::Empty { print } => {
                (of_kind("text/html; charset=utf-8", live(EMPTY_HTML.into(), &print)), Some(PAGE_POLICY))
            }
            Found::Directory => {
                let name = path.rsplit('/').next().unwrap_or_default();
                (moved(&format!("{}/", encoded(name))), None)
            }
            Found::TooLarge => (text(StatusCode::PAYLOAD_TOO_LARGE, "too large to be served"), None),
            Found::Nothing => nothing(),
        }
    }

    /// Tells the print of all files now and whenever it is another one, until the capability or the gateway ends.
    fn events(&self, pass: Option<&Pass>) -> Response {
        let estate = &self.wiring.store.estate;
        let Some(watcher) = estate.canvas.watch() else {
            return text(StatusCode::SERVICE_UNAVAILABLE, "Too many pages watch the canvas: close some.");
        };
        // A host that is just restarting finds the watcher by itself.
        let _ = self.wiring.canvas.send(CanvasMsg::Watch);
        let news = news(watcher, pass.cloned(), estate.draining.subscribe());
        sse::reply(sse::keep_alive().interval(ALIVE).stream(news)).into_response()
    }
}

fn news(
    watcher: Watcher,
    pass: Option<Pass>,
    mut draining: watch::Receiver<bool>,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let over = async move {
        match pass {
            Some(Pass { left, gone }) => {
                let _ = tokio::time::timeout(left, gone.cancelled()).await;
            }
            None => std::future::pending().await,
        }
    };
    let ends = async move {
        tokio::select! {
            () = over => {}
            _ = draining.wait_for(|draining| *draining) => {}
        }
    };
    let prints = stream::unfold(watcher, |mut watcher| async {
        let print = watcher.news().await;
        Some((Ok(Event::default().data(print)), watcher))
    });
    prints.take_until(Box::pin(ends))
}

fn nothing() -> Told {
    (text(StatusCode::NOT_FOUND, "not found"), None)
}

fn of_kind(kind: &'static str, content: impl Into<Vec<u8>>) -> Response {
    let mut response = warp::reply::with_status(content.into(), StatusCode::OK).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// To a place beside the one asked for.
fn moved(to: &str) -> Response {
    let mut response = text(StatusCode::FOUND, "");
    if let Ok(to) = HeaderValue::from_str(to) {
        response.headers_mut().insert(header::LOCATION, to);
    }
    response
}

/// A page is in an origin of its own, so what it loads is from elsewhere to it. It may read what its capability opens;
/// nobody else's page may read anything. Who was given an address may frame it.
fn protect(headers: &mut HeaderMap, policy: Option<&str>, by_capability: bool) {
    secure(headers);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let ancestors = if by_capability { "*" } else { "'none'" };
    if let Some(policy) = policy
        && let Ok(policy) = HeaderValue::try_from(format!("{policy}{ancestors}"))
    {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    if by_capability {
        headers.remove(header::X_FRAME_OPTIONS);
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    }
}

/// A page that loads itself again when something changes.
fn live(page: Vec<u8>, print: &str) -> Vec<u8> {
    let script = format!("<script>{}</script>", LIVE_JS.replace("PRINT", print));
    let end = page.windows(7).rposition(|tag| tag.eq_ignore_ascii_case(b"</body>")).unwrap_or(page.len());
    [&page[..end], script.as_bytes(), &page[end..]].concat()
}

/// The path that percent signs stand for; `None` if that is no text.
pub fn decoded(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

fn encoded(name: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    name.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// The type of a file, by the end of its name.
fn kind(path: &Path) -> &'static str {
    let extension = path.extension().and_then(|ext| ext.to_str()).unwrap_or_default().to_ascii_lowercase();
    match extension.as_str() {
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" | "map" => "application/json; charset=utf-8",
        "jsonl" | "txt" | "md" | "csv" | "log" => "text/plain; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "avif" => "image/avif",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "woff" => "font/woff",
        "ttf" => "font/ttf",
        "mp3" => "audio/mpeg",
        "ogg" => "audio/ogg",
        "wav" => "audio/wav",
        "mp4" => "video/mp4",
        "webm" => "video/webm",
        "wasm" => "application/wasm",
        "pdf" => "application/pdf",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_gets_its_script_before_its_end() {
        let page = |text: &str| String::from_utf8(live(text.into(), "0123")).unwrap();
        let told = page("<html><BODY>one</body><p></BODY></html>");
        assert!(
            told.starts_with("<html><BODY>one</body><p><script>")
                && told.ends_with("</script></BODY></html>")
        );
        assert!(told.contains("\"0123\"") && !told.contains("PRINT"), "{told}");
        assert!(page("just text").starts_with("just text<script>"));
    }

    #[test]
    fn percent_signs_are_decoded_once() {
        assert_eq!(decoded("a%20b%2Fc").as_deref(), Some("a b/c"));
        assert_eq!(decoded("%252e%252e").as_deref(), Some("%2e%2e"));
        for wrong in ["%", "%2", "%zz", "%ff"] {
            assert_eq!(decoded(wrong), None, "{wrong}");
        }
        assert_eq!(encoded("ä b"), "%C3%A4%20b");
    }

    #[test]
    fn only_our_own_places_are_ours() {
        for path in ["/__openclaw__/canvas", "/__openclaw__/canvas/", "/__openclaw__/canvas/a/b"] {
            assert!(is_below(path, PAGES), "{path}");
        }
        for path in ["/__openclaw__/canvasx", "/__openclaw__/", "/canvas/", "/__openclaw__/a2ui/"] {
            assert!(!is_below(path, PAGES), "{path}");
        }
    }
}

//! The stock Control UI, below `gateway.controlUi.basePath`: the files of the npm package `openclaw` as they are, but
//! for the page itself, which is told where it is. Anybody may have them, there is nothing of the gateway in them; what
//! they show they ask for over the WebSocket, as any client. Only their settings are for who may read.

mod files;
mod index;
mod place;

use crate::canvas::decoded;
use crate::routes::{json, refusal, text};
use arc_swap::ArcSwapOption;
use chrono::{DateTime, Utc};
use crabtree_actors::estate::Estate;
use crabtree_actors::gateway::Wiring;
use crabtree_actors::settings::{AuthSecret, ControlUiSettings};
use crabtree_protocol::Scope;
use files::{Found, Root, Stamp};
use index::{Frame, Index, policy};
use place::{ASSETS, Place, WORKER, kind, place};
use serde_json::{Value, json};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::Semaphore;
use warp::Reply;
use warp::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use warp::http::{Method, StatusCode};
use warp::reply::Response;

/// Reads of files at the same time; others wait. They come from anybody, and the threads are everybody's.
const READERS: usize = 8;
/// What is named by its content or its build never changes.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";
/// Asked after each time, and told that nothing changed.
const REVALIDATED: &str = "no-cache";
/// What its pages may ask of the browser (as recorded).
const PERMISSIONS: &str = "camera=(self), microphone=*, geolocation=*, clipboard-write=*";
/// `Last-Modified`, as HTTP writes it.
const HTTP_DATE: &str = "%a, %d %b %Y %H:%M:%S GMT";
/// Where nothing is served yet.
const NO_ROOT: &str = "The Control UI is not set up: set gateway.controlUi.root to the directory dist/control-ui of the \
     npm package openclaw. This gateway's own page is at /crabtree/.";
/// Where nothing can be.
const BAD_ROOT: &str = "gateway.controlUi.root is no directory with an index.html that can be read: it should be \
     dist/control-ui of the npm package openclaw. This gateway's own page is at /crabtree/.";

/// What is kept of it: the page as it was made last.
pub struct ControlUi {
    made: ArcSwapOption<Made>,
    readers: Arc<Semaphore>,
}

impl Default for ControlUi {
    fn default() -> Self {
        Self { made: ArcSwapOption::empty(), readers: Arc::new(Semaphore::new(READERS)) }
    }
}

/// A page, and what it was made of.
struct Made {
    root: PathBuf,
    stamp: Stamp,
    frame: Frame,
    index: Index,
}

/// A request that may be for it.
pub struct Asked<'a> {
    /// Who asks.
    pub addr: SocketAddr,
    /// How.
    pub method: &'a Method,
    /// For what.
    pub path: &'a str,
    /// With which parameters.
    pub query: &'a str,
    /// And headers.
    pub headers: &'a HeaderMap,
}

impl ControlUi {
    /// The answer, if the request is for it.
    pub async fn answer(self: &Arc<Self>, asked: &Asked<'_>, wiring: &Arc<Wiring>) -> Option<Response> {
        let config = wiring.store.estate.config.load_full();
        let settings = &config.settings.gateway.control_ui;
        let reads = matches!(*asked.method, Method::GET | Method::HEAD);
        let place = place(settings.base(), asked.path, asked.takes_html())?;
        if !settings.enabled || !reads {
            return None;
        }
        let Some(root) = settings.served() else {
            // Our own page stays where it is.
            let ours = settings.base().is_empty() && asked.path == "/";
            return (!ours).then(|| text(StatusCode::NOT_FOUND, NO_ROOT));
        };
        Some(match place {
            Place::Base => moved(settings.base(), asked.query),
            Place::Nothing => nothing(),
            Place::Config => match refusal(asked.headers, asked.addr, wiring, Scope::Read).await {
                Some(refusal) => refusal,
                None => {
                    let made = self.look(root, wiring, |_| ()).await.ok().map(|(made, ())| made);
                    json(StatusCode::OK, &told(settings, made.as_deref(), wiring))
                }
            },
            Place::Page => match self.look(root, wiring, |_| ()).await {
                Ok((made, ())) => page(&made.index, asked),
                Err(why) => unusable(&why),
            },
            Place::File(path) => {
                let (wanted, headers) = (path.clone(), asked.headers.clone());
                let find = move |root: &Root| root.find(&wanted, |coding| takes(&headers, coding));
                match self.look(root, wiring, find).await {
                    Ok((made, Some(found))) => {
                        self.file(found, &path, asked.is_kept(&path, made.index.build.as_deref()), asked)
                    }
                    Ok((_, None)) => nothing(),
                    Err(why) => unusable(&why),
                }
            }
        })
    }

    /// The page as it is to be now, and what else is asked of the directory.
    async fn look<T: Send + 'static>(
        self: &Arc<Self>,
        root: PathBuf,
        wiring: &Wiring,
        find: impl FnOnce(&Root) -> T + Send + 'static,
    ) -> io::Result<(Arc<Made>, T)> {
        let estate = &wiring.store.estate;
        let settings = &estate.config.load().settings.gateway.control_ui;
        let frame = Frame {
            base: settings.base().to_owned(),
            environment: settings.environment.clone(),
            terminal: has_terminals(estate),
        };
        let this = self.clone();
        let reader = self.readers.clone().acquire_owned().await.map_err(io::Error::other)?;
        let looked = tokio::task::spawn_blocking(move || {
            let _reader = reader;
            let opened = Root::open(&root)?;
            Ok((this.made(&opened, root, frame)?, find(&opened)))
        });
        looked.await.map_err(io::Error::other)?
    }

    /// The page, made anew if it, or what is said in it, is different now.
    fn made(&self, opened: &Root, root: PathBuf, frame: Frame) -> io::Result<Arc<Made>> {
        // Looked at before it is read: what is changed in between is seen the next time.
        let stamp = opened.stamp()?;
        let same = |made: &Arc<Made>| made.root == root && made.stamp == stamp && made.frame == frame;
        if let Some(made) = self.made.load_full().filter(same) {
            return Ok(made);
        }
        let index = Index::new(&opened.page()?, &frame);
        let made = Arc::new(Made { root, stamp, frame, index });
        self.made.store(Some(made.clone()));
        Ok(made)
    }

    fn file(&self, found: Found, path: &str, kept: bool, asked: &Asked<'_>) -> Response {
        let (changed, len, coding) = (found.changed, found.len, found.coding);
        let known = asked.knows_since(changed);
        let mut response = match (known, asked.method) {
            (true, _) => StatusCode::NOT_MODIFIED.into_response(),
            (false, &Method::HEAD) => StatusCode::OK.into_response(),
            (false, _) => warp::reply::stream(found.pieces(self.readers.clone())).into_response(),
        };
        let headers = response.headers_mut();
        let kind = path.rsplit_once('.').and_then(|(_, extension)| kind(extension));
        if !known {
            let kind = HeaderValue::from_static(kind.unwrap_or("application/octet-stream"));
            headers.insert(header::CONTENT_TYPE, kind);
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(len));
            headers.extend(coding.map(|coding| (header::CONTENT_ENCODING, HeaderValue::from_static(coding))));
        }
        if let Ok(date) = HeaderValue::try_from(DateTime::<Utc>::from(changed).format(HTTP_DATE).to_string())
        {
            headers.insert(header::LAST_MODIFIED, date);
        }
        guard(&mut response, &policy(&[], false), if kept { IMMUTABLE } else { REVALIDATED });
        response
    }
}

impl Asked<'_> {
    fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Whether a page would be taken.
    fn takes_html(&self) -> bool {
        let Some(accept) = self.header(header::ACCEPT).filter(|accept| !accept.trim().is_empty()) else {
            return true;
        };
        ["text/html", "application/xhtml+xml", "text/*", "*/*"].iter().any(|kind| lists(accept, kind))
    }

    /// Whether the file can be kept for good, as it was asked for.
    fn is_kept(&self, path: &str, build: Option<&str>) -> bool {
        let named = self.query.split('&').find_map(|pair| decoded(pair.strip_prefix("v=")?));
        build.is_some_and(|build| {
            path.starts_with(ASSETS) || path != WORKER && named.is_some_and(|named| named == build)
        })
    }

    /// Whether what was changed then is no news.
    fn knows_since(&self, changed: SystemTime) -> bool {
        let since = self
            .header(header::IF_MODIFIED_SINCE)
            .filter(|_| !self.headers.contains_key(header::IF_NONE_MATCH));
        let since = since.and_then(|since| DateTime::parse_from_rfc2822(since).ok());
        let changed = changed.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        since.is_some_and(|since| u64::try_from(since.timestamp()).is_ok_and(|since| since >= changed))
    }
}

/// Whether a packed answer would be taken.
fn takes(headers: &HeaderMap, coding: &str) -> bool {
    let accepted = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    accepted.is_some_and(|accepted| lists(accepted, coding))
}

/// Whether a list such as `br;q=1, gzip` names it, and does not rule it out.
fn lists(list: &str, name: &str) -> bool {
    list.split(',').any(|entry| {
        let (named, weight) = entry.split_once(';').unwrap_or((entry, ""));
        let weight = weight.trim().strip_prefix("q=").and_then(|weight| weight.trim().parse::<f32>().ok());
        named.trim().eq_ignore_ascii_case(name) && weight.is_none_or(|weight| weight > 0.0)
    })
}

/// Whether there are terminals to be used from a page.
fn has_terminals(estate: &Estate) -> bool {
    estate.config.load().settings.gateway.terminal.enabled && estate.guard.is_there()
}

fn page(index: &Index, asked: &Asked<'_>) -> Response {
    let packed = takes(asked.headers, "gzip");
    let html = if packed { &index.packed } else { &index.html };
    let mut response = Response::new(html.clone().into());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    if packed {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    guard(&mut response, &index.policy, REVALIDATED);
    response
}

/// The headers of pages and files.
fn guard(response: &mut Response, policy: &str, kept: &'static str) {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(kept));
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    headers.insert("permissions-policy", HeaderValue::from_static(PERMISSIONS));
    if let Ok(policy) = HeaderValue::from_str(policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
}

/// `control-ui-config.json`: what the pages have to know before they connect, and cannot be told by the page.
fn told(settings: &ControlUiSettings, made: Option<&Made>, wiring: &Wiring) -> Value {
    let estate = &wiring.store.estate;
    let catalog = estate.catalog.load();
    let agent = catalog.identity(&catalog.default_agent().id).unwrap_or_default();
    let mut told = json!({
        "basePath": settings.base(),
        "assistantName": agent["name"],
        "assistantAvatar": agent["avatar"],
        "assistantAvatarSource": null,
        "assistantAvatarStatus": null,
        "assistantAvatarReason": null,
        "assistantAgentId": agent["agentId"],
        "serverVersion": estate.boot.version,
        "embedSandbox": settings.embed_sandbox,
        "allowExternalEmbedUrls": settings.allow_external_embed_urls,
        // Nothing here fetches the icons of other sites, nor starts other assistants in a terminal.
        "automaticallyFetchFavicons": false,
        "communityInvite": settings.community_invite,
        "terminalEnabled": has_terminals(estate),
        "cliAgentsEnabled": false,
        "pluginAssetsRequireAuth": *estate.auth() != AuthSecret::None,
        "pluginFrameGrants": [],
    });
    // The build that the page is of: another one would have it say that it is out of date.
    if let Some(build) = made.and_then(|made| made.index.build.as_ref()) {
        told["serverBuildId"] = json!(build);
    }
    if let Some(environment) = &settings.environment {
        told["environment"] = json!(environment);
    }
    told
}

fn nothing() -> Response {
    text(StatusCode::NOT_FOUND, "Not Found")
}

fn unusable(why: &io::Error) -> Response {
    tracing::debug!(target: "crabtree::control_ui", "gateway.controlUi.root cannot be used: {why}");
    text(StatusCode::SERVICE_UNAVAILABLE, BAD_ROOT)
}

fn moved(base: &str, query: &str) -> Response {
    let mark = if query.is_empty() { "" } else { "?" };
    let mut response = text(StatusCode::FOUND, "");
    if let Ok(to) = HeaderValue::try_from(format!("{base}/{mark}{query}")) {
        response.headers_mut().insert(header::LOCATION, to);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_what_it_does_not_rule_out() {
        for list in ["br", "gzip, BR;q=0.5", "gzip;q=0, br ;q=1.0"] {
            assert!(lists(list, "br"), "{list}");
        }
        for list in ["", "gzip", "br;q=0", "br; q=0.000", "brotli"] {
            assert!(!lists(list, "br"), "{list}");
        }
    }

    #[test]
    fn dates_are_written_as_http_wants_them_and_read_back() {
        let at = UNIX_EPOCH + std::time::Duration::from_secs(784_111_777);
        let written = DateTime::<Utc>::from(at).format(HTTP_DATE).to_string();
        assert_eq!(written, "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(DateTime::parse_from_rfc2822(&written).unwrap().timestamp(), 784_111_777);
    }
}

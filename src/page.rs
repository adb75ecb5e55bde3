//! Our own page at `/crabtree/`, and at `/` unless the stock Control UI is there: files that are part of the program.
//! Anybody may have them, there is nothing of the gateway in them; what they show they ask for over the WebSocket, as
//! any client.

use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;
use std::sync::LazyLock;
use warp::Reply;
use warp::http::header::{self, HeaderMap, HeaderValue};
use warp::http::{Method, StatusCode};
use warp::reply::Response;

use crate::routes::not_allowed;

/// Nothing from elsewhere, nothing inline, no frames.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// Asked after each time, and told that nothing changed.
const KEPT: &str = "no-cache";
const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const PICTURE: &str = "image/svg+xml";

/// Path, type and content of each file.
macro_rules! files {
    ($($path:literal $kind:ident $file:literal)*) => {
        [$(($path, $kind, include_str!(concat!("page/web/", $file)))),*]
    };
}

/// Where the page is always.
const HOME: &str = "/crabtree/";

const FILES: [(&str, &str, &str); 18] = files! {
    "/" HTML "index.html"
    "/crabtree/style.css" STYLE "style.css"
    "/crabtree/icon.svg" PICTURE "icon.svg"
    "/crabtree/main.js" SCRIPT "main.js"
    "/crabtree/dom.js" SCRIPT "dom.js"
    "/crabtree/link.js" SCRIPT "link.js"
    "/crabtree/identity.js" SCRIPT "identity.js"
    "/crabtree/markdown.js" SCRIPT "markdown.js"
    "/crabtree/chat.js" SCRIPT "chat.js"
    "/crabtree/sessions.js" SCRIPT "sessions.js"
    "/crabtree/approvals.js" SCRIPT "approvals.js"
    "/crabtree/channels.js" SCRIPT "channels.js"
    "/crabtree/cron.js" SCRIPT "cron.js"
    "/crabtree/devices.js" SCRIPT "devices.js"
    "/crabtree/tree.js" SCRIPT "tree.js"
    "/crabtree/health.js" SCRIPT "health.js"
    "/crabtree/logs.js" SCRIPT "logs.js"
    "/crabtree/config.js" SCRIPT "config.js"
};

/// A file, ready to be sent.
struct File {
    path: &'static str,
    kind: &'static str,
    plain: &'static str,
    packed: Vec<u8>,
    tag: String,
}

/// Made when somebody asks for the first.
static READY: LazyLock<Vec<File>> = LazyLock::new(|| FILES.into_iter().map(ready).collect());

fn ready((path, kind, plain): (&'static str, &'static str, &'static str)) -> File {
    let mut packer = GzEncoder::new(Vec::new(), Compression::best());
    let packed = packer.write_all(plain.as_bytes()).and_then(|()| packer.finish());
    let packed = packed.expect("a Vec takes all that is written");
    let hash = blake3::hash(plain.as_bytes()).to_hex();
    File { path, kind, plain, packed, tag: format!("\"{}\"", &hash[..16]) }
}

/// The answer, if the path is one of the page's.
pub fn answer(method: &Method, path: &str, headers: &HeaderMap) -> Option<Response> {
    let path = if matches!(path, HOME | "/crabtree") { "/" } else { path };
    let file = READY.iter().find(|file| file.path == path)?;
    Some(match *method {
        Method::GET | Method::HEAD => file.answer(headers),
        _ => not_allowed("GET, HEAD"),
    })
}

impl File {
    fn answer(&'static self, asked: &HeaderMap) -> Response {
        let said =
            |name| asked.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default();
        let is_known =
            said(header::IF_NONE_MATCH).split(',').any(|tag| tag.trim().trim_start_matches("W/") == self.tag);
        let is_packed = said(header::ACCEPT_ENCODING).split(',').any(|coding| coding.trim() == "gzip");
        let mut response = match (is_known, is_packed) {
            (true, _) => StatusCode::NOT_MODIFIED.into_response(),
            (false, true) => self.packed.as_slice().into_response(),
            (false, false) => self.plain.into_response(),
        };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.kind));
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(KEPT));
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        if let Ok(tag) = HeaderValue::from_str(&self.tag) {
            headers.insert(header::ETAG, tag);
        }
        if is_packed && !is_known {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Largest weight of the whole page, packed, in bytes.
    const MOST: usize = 200_000;

    #[test]
    fn the_whole_page_is_small() {
        let weight: usize = READY.iter().map(|file| file.packed.len()).sum();
        println!("the page weighs {weight} bytes, packed");
        assert!(weight < MOST, "{weight}");
    }

    #[test]
    fn every_file_that_is_named_is_there_and_none_is_from_elsewhere() {
        for File { path, plain, .. } in READY.iter() {
            for named in
                plain.split('"').filter(|text| text.starts_with("./") || text.starts_with("/crabtree/"))
            {
                let wanted = named.replacen("./", "/crabtree/", 1);
                assert!(READY.iter().any(|file| file.path == wanted), "{path} names {named}");
            }
            assert!(!plain.contains("innerHTML") && !plain.contains("//cdn"), "{path}");
        }
    }
}

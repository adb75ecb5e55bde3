//! What a path of the Control UI stands for. Pure.

use crate::canvas::decoded;

/// Files beside the page that its addresses name with the build; the service worker alone is never kept.
pub const PUBLIC: [&str; 6] =
    ["apple-touch-icon.png", "favicon-32.png", "favicon.ico", "favicon.svg", "manifest.webmanifest", WORKER];
/// The service worker.
pub const WORKER: &str = "sw.js";
/// Where the names of files are made of their content.
pub const ASSETS: &str = "assets/";
/// What the pages ask for first, below the base path.
const CONFIG: &str = "/control-ui-config.json";
/// Of the gateway itself, whatever the base path is.
const NAMESPACE: &str = "/__openclaw__/";
/// Its own pages and files, which are there as well.
const OURS: &str = "/crabtree";
/// Where no page is.
const RESERVED: [&str; 5] = ["/api", "/avatar", "/j", "/share", "/v1"];
/// Pages, whatever is accepted.
const PAGES: [&str; 3] = ["/approve", "/focus", "/index.html"];

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The base path without its slash.
    Base,
    /// The settings of the pages.
    Config,
    /// A file, by its path below the root.
    File(String),
    /// The page, which shows one thing or another by its address.
    Page,
    /// Nothing is there.
    Nothing,
}

/// What is at `path`; `None` if it is not below the base path. `html` says whether a page would be accepted.
pub fn place(base: &str, path: &str, html: bool) -> Option<Place> {
    let inner = path.strip_prefix(base)?;
    if inner.is_empty() {
        return Some(Place::Base);
    }
    if !inner.starts_with('/') || base.is_empty() && is_at(path, OURS) {
        return None;
    }
    let Some(inner) = decoded(inner) else { return Some(Place::Nothing) };
    Some(inside(&inner, base.is_empty(), html))
}

fn inside(path: &str, at_root: bool, html: bool) -> Place {
    let file = |path: &str| Place::File(path.to_owned());
    // Names that begin with a dot are no files of it, and `..` leads out.
    if path.split('/').any(|name| name.starts_with('.')) || path.contains('\0') {
        return Place::Nothing;
    }
    match path {
        CONFIG => return Place::Config,
        "/share/card.png" => return file("social-card.png"),
        path if path.strip_prefix("/__openclaw") == Some(CONFIG) => return Place::Config,
        path if at_root && path.strip_prefix("/__openclaw__") == Some(CONFIG) => return Place::Config,
        _ => {}
    }
    if let Some(name) = path.strip_prefix(NAMESPACE) {
        return if PUBLIC.contains(&name) { file(name) } else { Place::Nothing };
    }
    if RESERVED.iter().any(|reserved| is_at(path, reserved)) || at_root && is_at(path, "/ui") {
        return Place::Nothing;
    }
    if PAGES.iter().any(|page| is_at(path, page)) {
        return Place::Page;
    }
    // A page may lie at any depth, and what it names relative to itself does too.
    let (path, is_asset) = match path.find("/assets/") {
        Some(at) => (&path[at..], true),
        None => (path, false),
    };
    match path.rsplit_once('.').map(|(_, extension)| extension) {
        Some(extension) if kind(extension).is_some() => file(&path[1..]),
        Some("br" | "gz") => Place::Nothing,
        _ if html && !is_asset => Place::Page,
        _ => Place::Nothing,
    }
}

/// Whether a path is this one or below it.
fn is_at(path: &str, place: &str) -> bool {
    path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The type of a file, by the extension of its name (as recorded). Nothing else is served.
pub fn kind(extension: &str) -> Option<&'static str> {
    Some(match extension.to_ascii_lowercase().as_str() {
        "js" => "application/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "ico" => "image/x-icon",
        "txt" => "text/plain; charset=utf-8",
        "wasm" => "application/wasm",
        "webmanifest" => "application/manifest+json; charset=utf-8",
        "woff2" => "font/woff2",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> Option<Place> {
        Some(Place::File(path.to_owned()))
    }

    #[test]
    fn below_a_base_path_there_are_pages_files_and_settings() {
        let at = |path: &str| place("/control", path, true);
        assert_eq!(at("/control"), Some(Place::Base));
        assert_eq!(at("/control/"), Some(Place::Page));
        for page in
            ["/control/settings/devices", "/control/approve/1", "/control/plugins", "/control/chat/a.b"]
        {
            assert_eq!(at(page), Some(Place::Page), "{page}");
        }
        assert_eq!(at("/control/assets/a%20b.js"), file("assets/a b.js"));
        assert_eq!(at("/control/settings/assets/x.css"), file("assets/x.css"));
        assert_eq!(at("/control/fonts/x.woff2"), file("fonts/x.woff2"));
        assert_eq!(at("/control/__openclaw__/sw.js"), file("sw.js"));
        assert_eq!(at("/control/share/card.png"), file("social-card.png"));
        for config in ["/control/control-ui-config.json", "/control/__openclaw/control-ui-config.json"] {
            assert_eq!(at(config), Some(Place::Config), "{config}");
        }
        for elsewhere in ["/", "/controls/x", "/chat/main", "/__openclaw__/control-ui-config.json"] {
            assert_eq!(at(elsewhere), None, "{elsewhere}");
        }
    }

    #[test]
    fn at_the_root_everything_else_keeps_its_place() {
        let at = |path: &str| place("", path, true);
        assert_eq!(at("/"), Some(Place::Page));
        assert_eq!(at("/__openclaw__/control-ui-config.json"), Some(Place::Config));
        assert_eq!((at("/crabtree"), at("/crabtree/main.js")), (None, None));
        for nothing in ["/ui", "/ui/x", "/api/x", "/v1/models", "/j/x", "/avatar/main", "/share/x"] {
            assert_eq!(at(nothing), Some(Place::Nothing), "{nothing}");
        }
    }

    #[test]
    fn nothing_leads_out_and_only_who_takes_pages_gets_one() {
        for path in [
            "/../openclaw.json",
            "/assets/../../x.js",
            "/%2e%2e/x.json",
            "/assets/%2e%2e%2f%2e%2e%2fx.js",
            "/.git/x.json",
            "/%ff",
            "/x%00.js",
            "/assets/x.js.br",
            "/assets/",
            "/x.gz",
            "/__openclaw__/plugin-icon/x",
        ] {
            assert_eq!(place("", path, true), Some(Place::Nothing), "{path}");
        }
        assert_eq!(place("", "/chat/main", false), Some(Place::Nothing));
        assert_eq!(place("", "/approve/1", false), Some(Place::Page));
    }
}

//! The page: its html with the addresses it has here, and what it may load. Pure.

use super::place::{PUBLIC, WORKER};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use crabtree_actors::settings::Environment;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};
use std::io::Write;

/// Names the build in the page's own html.
const BUILD: &str = "data-openclaw-control-ui-build-id=\"";
/// Longest name of a build.
const MAX_BUILD: usize = 256;

/// What of the configuration is in the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The base path.
    pub base: String,
    /// What tells it from the pages of other gateways.
    pub environment: Option<Environment>,
    /// Whether the gateway has terminals.
    pub terminal: bool,
}

/// See the module.
pub struct Index {
    /// The html.
    pub html: Bytes,
    /// The same, packed with gzip.
    pub packed: Bytes,
    /// `Content-Security-Policy`.
    pub policy: String,
    /// The build, if it is named.
    pub build: Option<String>,
}

impl Index {
    /// Made of the html as it lies there.
    pub fn new(html: &str, frame: &Frame) -> Self {
        let build = build(html);
        let html = framed(&anchored(html, &frame.base, build.as_deref()), frame);
        let mut packer = GzEncoder::new(Vec::new(), Compression::best());
        let packed = packer.write_all(html.as_bytes()).and_then(|()| packer.finish());
        let packed = packed.expect("a Vec takes all that is written").into();
        Self { policy: policy(&inline(&html), frame.terminal), html: html.into(), packed, build }
    }
}

/// What a page may load, which runs these scripts of its own (as recorded, but for the gateway's other ports, where
/// nothing is).
pub fn policy(scripts: &[&str], wasm: bool) -> String {
    let hash = |script: &&str| format!(" 'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(script)));
    let scripts: String = scripts.iter().map(hash).collect();
    let wasm = if wasm { " 'wasm-unsafe-eval'" } else { "" };
    format!(
        "default-src 'self'; base-uri 'none'; object-src 'none'; frame-ancestors 'none'; \
         frame-src 'self' http: https:; script-src 'self'{scripts}{wasm}; \
         style-src 'self' 'unsafe-inline' https://fonts.googleapis.com; img-src 'self' data: blob: https:; \
         media-src 'self' data: blob:; font-src 'self' https://fonts.gstatic.com; worker-src 'self'; \
         connect-src 'self' ws: wss: data: https://api.openai.com https://tweakcn.com"
    )
}

/// The build that the html names. It becomes part of addresses.
fn build(html: &str) -> Option<String> {
    let (_, rest) = html.split_once(BUILD)?;
    let (build, _) = rest.split_once('"')?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (!build.is_empty() && build.len() <= MAX_BUILD && build.chars().all(plain)).then(|| build.to_owned())
}

/// With absolute addresses: a page may lie at any depth.
fn anchored(html: &str, base: &str, build: Option<&str>) -> String {
    let html = html.replace("src=\"./assets/", &format!("src=\"{base}/assets/"));
    let html = html.replace("href=\"./assets/", &format!("href=\"{base}/assets/"));
    let version = build.map_or_else(String::new, |build| format!("?v={build}"));
    PUBLIC.iter().filter(|name| **name != WORKER).fold(html, |html, name| {
        let here = format!("href=\"{base}/{name}{version}\"");
        html.replace(&format!("href=\"./{name}\""), &here).replace(&format!("href=\"/{name}\""), &here)
    })
}

/// With what the scripts read off the root of the document.
fn framed(html: &str, Frame { base, environment, terminal }: &Frame) -> String {
    let environment = environment.as_ref().map_or_else(String::new, |environment| {
        let told = serde_json::to_string(environment).expect("it has text only");
        format!(" data-openclaw-environment=\"{}\"", escaped(&told))
    });
    let Some(at) = tags(html, "html").next() else { return html.to_owned() };
    let (before, after) = html.split_at(at + "<html".len());
    format!(
        "{before} data-openclaw-control-ui-base-path=\"{}\" data-openclaw-terminal-enabled=\"{terminal}\"\
         {environment}{after}",
        escaped(base)
    )
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('"', "&quot;").replace('\'', "&#39;");
    text.replace('<', "&lt;").replace('>', "&gt;")
}

/// The scripts that stand in the html itself.
fn inline(html: &str) -> Vec<&str> {
    let script = |at: usize| {
        let (tag, rest) = html[at..].split_once('>')?;
        let end = find(rest, "</script")?;
        let is_elsewhere = tag
            .split_ascii_whitespace()
            .any(|part| part.split('=').next().is_some_and(|name| name.eq_ignore_ascii_case("src")));
        (!is_elsewhere && end > 0).then(|| &rest[..end])
    };
    tags(html, "script").filter_map(script).collect()
}

/// Where tags of this name begin.
fn tags<'a>(html: &'a str, name: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_tag = move |at: &usize| {
        let rest = &html.as_bytes()[at + 1..];
        let (found, after) = rest.split_at_checked(name.len()).unwrap_or_default();
        found.eq_ignore_ascii_case(name.as_bytes())
            && after.first().is_some_and(|c| c.is_ascii_whitespace() || *c == b'>')
    };
    html.match_indices('<').map(|(at, _)| at).filter(is_tag)
}

/// Where the text is, however it is written.
fn find(text: &str, wanted: &str) -> Option<usize> {
    text.as_bytes().windows(wanted.len()).position(|part| part.eq_ignore_ascii_case(wanted.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const HTML: &str = concat!(
        "<!doctype html>\n<html data-openclaw-control-ui-build-id=\"1.2-a\" lang=\"en\"><head>",
        "<link rel=\"icon\" href=\"./favicon.svg\" /><link rel=\"manifest\" href=\"/manifest.webmanifest\" />",
        "<SCRIPT data-x=\"1\">first()</SCRIPT><script type=\"module\" crossorigin src=\"./assets/a.js\"></script>",
        "<link rel=\"stylesheet\" href=\"./assets/a.css\"></head><body><script>if (1<2) second()</script></body>",
    );

    fn frame(base: &str) -> Frame {
        let environment = json!({ "label": "a<\"b\">&'c'", "color": "red" });
        Frame {
            base: base.into(),
            environment: Some(serde_json::from_value(environment).unwrap()),
            terminal: false,
        }
    }

    fn html(index: &Index) -> &str {
        std::str::from_utf8(&index.html).unwrap()
    }

    #[test]
    fn addresses_are_absolute_and_name_the_build() {
        let index = Index::new(HTML, &frame("/control"));
        let html = html(&index);
        for wanted in [
            "<html data-openclaw-control-ui-base-path=\"/control\" data-openclaw-terminal-enabled=\"false\" \
             data-openclaw-environment=\"{&quot;label&quot;:&quot;a&lt;\\&quot;b\\&quot;&gt;&amp;&#39;c&#39;&quot;,\
             &quot;color&quot;:&quot;red&quot;}\" data-openclaw-control-ui-build-id=\"1.2-a\" lang=\"en\">",
            "href=\"/control/favicon.svg?v=1.2-a\"",
            "href=\"/control/manifest.webmanifest?v=1.2-a\"",
            "src=\"/control/assets/a.js\"",
            "href=\"/control/assets/a.css\"",
        ] {
            assert!(html.contains(wanted), "{wanted}\n{html}");
        }
        assert_eq!(index.build.as_deref(), Some("1.2-a"));
        let at_root = Index::new(HTML, &Frame { base: String::new(), environment: None, terminal: true });
        assert!(
            self::html(&at_root).contains("base-path=\"\" data-openclaw-terminal-enabled=\"true\" data-")
        );
        assert!(self::html(&at_root).contains("src=\"/assets/a.js\""));
    }

    #[test]
    fn a_build_that_could_be_more_than_a_name_is_none() {
        for build in ["", "a\u{20}b", "a'b", "ä", &"x".repeat(257)] {
            assert_eq!(super::build(&format!("<html {BUILD}{build}\">")), None, "{build}");
        }
    }

    #[test]
    fn the_policy_knows_each_script_of_the_page_and_no_other() {
        let index = Index::new(HTML, &frame(""));
        assert_eq!(inline(html(&index)), ["first()", "if (1<2) second()"]);
        // printf 'first()' | openssl dgst -sha256 -binary | base64
        let first = "'sha256-fDYmfWjvur9AxjhDbjHe6RvExc05MbXhhrbgz2vvy/A='";
        assert!(index.policy.contains(first), "{}", index.policy);
        assert_eq!(index.policy.matches("'sha256-").count(), 2);
        assert!(
            !index.policy.contains("wasm-unsafe-eval") && policy(&[], true).contains("'wasm-unsafe-eval'")
        );
    }
}

//! `gateway.controlUi`: the stock Control UI in a browser.

use super::expanded;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Where it is unless somebody says otherwise; our own page has `/`.
const BASE_PATH: &str = "/control";
/// Longest name of an environment, in characters (as documented).
const MAX_LABEL: usize = 24;

/// `gateway.controlUi`: the Control UI in a browser.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ControlUiSettings {
    /// Origins of pages that may connect, besides this gateway's own and those of this machine; `*` is any.
    pub allowed_origins: Vec<String>,
    /// Whether its files are served.
    pub enabled: bool,
    /// The directory of its files: `dist/control-ui` of the npm package `openclaw`. Without one nothing is served.
    pub root: Option<String>,
    /// Where it is, `/control` unless this says otherwise; at `/` it takes the place of our own page, which then is
    /// at `/crabtree/`.
    pub base_path: Option<BasePath>,
    /// What tells this gateway's pages from those of others, also before anybody logs in.
    pub environment: Option<Environment>,
    /// Whether the pages invite to OpenClaw's community.
    pub community_invite: bool,
    /// What pages that are shown in a conversation may do.
    pub embed_sandbox: EmbedSandbox,
    /// Whether a conversation may show pages of other servers.
    pub allow_external_embed_urls: bool,
}

impl Default for ControlUiSettings {
    fn default() -> Self {
        Self {
            allowed_origins: Vec::new(),
            enabled: true,
            root: None,
            base_path: None,
            environment: None,
            community_invite: true,
            embed_sandbox: EmbedSandbox::default(),
            allow_external_embed_urls: false,
        }
    }
}

impl ControlUiSettings {
    /// What its addresses begin with; empty if it is at `/`.
    pub fn base(&self) -> &str {
        self.base_path.as_ref().map_or(BASE_PATH, |path| &path.0)
    }

    /// The directory of its files, if they are to be served.
    pub fn served(&self) -> Option<PathBuf> {
        self.root.as_deref().filter(|root| self.enabled && !root.trim().is_empty()).map(expanded)
    }
}

/// The path below which it is, such as `/control`. It is part of addresses and pages as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
pub struct BasePath(String);

impl TryFrom<String> for BasePath {
    type Error = String;

    fn try_from(path: String) -> Result<Self, String> {
        let inner = path.trim().trim_matches('/');
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.~".contains(c);
        let is_name = |name: &str| !name.is_empty() && !name.starts_with('.') && name.chars().all(plain);
        match inner {
            "" => Ok(Self(String::new())),
            names if names.split('/').all(is_name) => Ok(Self(format!("/{names}"))),
            _ => Err(format!(
                "{path:?} is no path such as \"/control\": letters, digits, - _ . ~ and / were expected"
            )),
        }
    }
}

/// `gateway.controlUi.environment`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Environment {
    /// Its name, 1 to 24 characters.
    label: Label,
    /// Its colour.
    color: EnvironmentColor,
}

/// The name of an environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
struct Label(String);

impl TryFrom<String> for Label {
    type Error = String;

    fn try_from(label: String) -> Result<Self, String> {
        let label = label.trim();
        match label.chars().count() {
            1..=MAX_LABEL => Ok(Self(label.to_owned())),
            _ => Err(format!("{label:?} has to have 1 to {MAX_LABEL} characters")),
        }
    }
}

/// The colours there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "colours need no words")]
pub enum EnvironmentColor {
    Teal,
    Amber,
    Purple,
    Coral,
    Pink,
    Blue,
    Green,
    Red,
    Gray,
}

/// `gateway.controlUi.embedSandbox`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EmbedSandbox {
    /// Nothing but being seen.
    Strict,
    /// Run scripts, in an origin of their own.
    #[default]
    Scripts,
    /// All that the Control UI may do itself.
    Trusted,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(settings: Value) -> Result<ControlUiSettings, String> {
        serde_json::from_value(settings).map_err(|why| why.to_string())
    }

    #[test]
    fn a_base_path_is_a_plain_path_or_nothing() {
        let base = |path: &str| read(json!({ "basePath": path })).map(|settings| settings.base().to_owned());
        assert_eq!(read(json!({})).unwrap().base(), "/control");
        for (path, wanted) in
            [("", ""), ("/", ""), (" /ui ", "/ui"), ("ui/", "/ui"), ("/home/openclaw/", "/home/openclaw")]
        {
            assert_eq!(base(path).as_deref(), Ok(wanted), "{path}");
        }
        for path in ["/../x", "/a//b", "/a b", "/a\"><script>", "/ä", "/a?b", "/.git", "/a%2fb"] {
            assert!(base(path).unwrap_err().contains("is no path such as"), "{path}");
        }
    }

    #[test]
    fn an_environment_has_a_short_name_and_a_known_colour() {
        let told = |label: &str, color: &str| {
            read(json!({ "environment": { "label": label, "color": color } }))
                .map(|read| serde_json::to_value(read.environment).unwrap())
        };
        assert_eq!(told(" edge ", "amber"), Ok(json!({ "label": "edge", "color": "amber" })));
        assert!(told(" ", "amber").is_err() && told(&"x".repeat(25), "amber").is_err());
        assert!(told("edge", "beige").is_err());
    }

    #[test]
    fn nothing_is_served_without_a_root_or_when_it_is_off() {
        assert_eq!(read(json!({})).unwrap().served(), None);
        assert_eq!(read(json!({ "root": " " })).unwrap().served(), None);
        assert_eq!(read(json!({ "root": "/ui", "enabled": false })).unwrap().served(), None);
        assert_eq!(read(json!({ "root": "/ui" })).unwrap().served(), Some("/ui".into()));
    }
}

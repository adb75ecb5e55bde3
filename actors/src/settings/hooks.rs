//! `hooks`: what programs elsewhere may tell agents over plain HTTP.

use super::{Secret, SecretInput};
use crabtree_protocol::SessionKey;
use crabtree_protocol::value::Int;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Bytes of a body, unless told (as recorded), and at the most.
const MAX_BODY: u64 = 256 * 1024;
const LARGEST_BODY: u64 = 32 * 1024 * 1024;
/// What the mail watcher may add to each message of a body, and messages of one body (as OpenClaw has it).
const MAIL_OVERHEAD: u64 = 8192;
const MAILS: u64 = 100;
/// Bytes of one mail, unless told.
const MAIL_BYTES: u64 = 20_000;
/// The beginning of a key that nobody has named.
const GENERATED: &str = "hook:";
/// The one preset there is.
const GMAIL: &str = "gmail";

/// `hooks`: what programs elsewhere may tell agents over plain HTTP.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "HooksInput", rename_all = "camelCase")]
pub struct HooksSettings {
    /// Whether they may.
    pub enabled: bool,
    /// What they have to know; not the gateway's own secret.
    pub token: Option<SecretInput>,
    /// Below which path.
    pub path: HooksPath,
    /// Bytes of a body.
    pub max_body_bytes: Option<Int<1, LARGEST_BODY>>,
    /// The session of runs that name none.
    pub default_session_key: Option<String>,
    /// Whether a request may name a session.
    pub allow_request_session_key: bool,
    /// How the key of a session has to begin; any way, if there are none.
    pub allowed_session_key_prefixes: Vec<String>,
    /// The only agents that hear of them; `*`: all.
    pub allowed_agent_ids: Option<Vec<String>>,
    /// What paths of one's own do; the first that matches.
    pub mappings: Vec<HookMapping>,
    /// Mappings of OpenClaw's own, after these.
    pub presets: Vec<String>,
    /// Where OpenClaw keeps JavaScript for them, which is not run here.
    pub transforms_dir: Option<String>,
    /// Mail.
    pub gmail: Option<GmailHook>,
}

/// As it is written.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
struct HooksInput {
    /// Whether programs elsewhere may tell agents something over plain HTTP; needs a `token`.
    enabled: bool,
    /// What they have to know; not the gateway's own secret.
    token: Option<SecretInput>,
    /// Below which path.
    path: HooksPath,
    /// Bytes of a body.
    max_body_bytes: Option<Int<1, LARGEST_BODY>>,
    /// The session of runs that name none.
    default_session_key: Option<String>,
    /// Whether a request may name a session.
    allow_request_session_key: bool,
    /// How the key of a session has to begin; any way, if there are none.
    allowed_session_key_prefixes: Vec<String>,
    /// The only agents that hear of them; `*`: all.
    allowed_agent_ids: Option<Vec<String>>,
    /// What paths of one's own do; the first that matches.
    mappings: Vec<HookMapping>,
    /// Mappings of OpenClaw's own, after these: `gmail`.
    presets: Vec<String>,
    /// Where OpenClaw keeps JavaScript for them, which is not run here.
    transforms_dir: Option<String>,
    /// Mail.
    gmail: Option<GmailHook>,
}

/// One of `hooks.mappings`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct HookMapping {
    /// What it is called.
    pub id: Option<String>,
    /// Which requests it is for.
    #[serde(rename = "match")]
    pub matching: HookMatch,
    /// What it does.
    pub action: HookAction,
    /// When the main session hears of it.
    pub wake_mode: HookWake,
    /// What a run is called, with templates.
    pub name: Option<String>,
    /// The agent.
    pub agent_id: Option<String>,
    /// The session, with templates.
    pub session_key: Option<String>,
    /// Whether it goes on in that session.
    pub session_mode: HookSessionMode,
    /// What an agent is asked, with templates.
    pub message_template: Option<String>,
    /// What an agent is told, with templates.
    pub text_template: Option<String>,
    /// A list in the body: once for each of its items.
    pub for_each: Option<String>,
    /// Whether people are told what came of it; they are, unless this is false.
    pub deliver: Option<bool>,
    /// On which channel; `last`: where the main session was spoken to last.
    pub channel: Option<String>,
    /// In which chat, with templates.
    pub to: Option<String>,
    /// The model, with templates.
    pub model: Option<String>,
    /// How hard it thinks, with templates.
    pub thinking: Option<String>,
    /// How long a run may take.
    pub timeout_seconds: Option<u64>,
    /// Whether the agent is not told that strangers wrote what it reads.
    pub allow_unsafe_external_content: bool,
    /// JavaScript, which is not run here.
    pub transform: Option<Value>,
}

/// `hooks.mappings[].match`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct HookMatch {
    /// The path behind `hooks.path`; any, if there is none.
    pub path: Option<String>,
    /// What `source` in the body says; anything, if there is none.
    pub source: Option<String>,
}

/// What a mapping does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HookAction {
    /// It tells the main session.
    Wake,
    /// It has an agent do something.
    #[default]
    Agent,
}

/// When the main session hears of something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HookWake {
    /// At once.
    #[default]
    Now,
    /// With its next heartbeat.
    NextHeartbeat,
}

impl HookWake {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Now => "now",
            Self::NextHeartbeat => "next-heartbeat",
        }
    }
}

/// In which session a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HookSessionMode {
    /// In one of its own.
    #[default]
    Isolated,
    /// In the one that is named.
    Persistent,
}

/// `hooks.gmail`, as far as it concerns what comes in; the watcher that sends it is not started here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct GmailHook {
    /// Whose mail.
    pub account: Option<String>,
    /// Bytes of one mail.
    pub max_bytes: Option<u64>,
    /// The model, if the mapping names none.
    pub model: Option<String>,
    /// How hard it thinks, if the mapping does not say so.
    pub thinking: Option<String>,
    /// Whether the agent is not told that strangers wrote what it reads.
    pub allow_unsafe_external_content: bool,
}

/// `hooks.path`: with a slash before it and none behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
pub struct HooksPath(String);

impl Default for HooksPath {
    fn default() -> Self {
        Self("/hooks".into())
    }
}

impl TryFrom<String> for HooksPath {
    type Error = &'static str;

    fn try_from(path: String) -> Result<Self, Self::Error> {
        match path.trim().trim_matches('/') {
            "" => Err("hooks.path may not be \"/\": give it a path of its own, such as /hooks"),
            path => Ok(Self(format!("/{path}"))),
        }
    }
}

impl HooksPath {
    /// It.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What of a path is below it, without slashes around it; none if it is elsewhere.
    pub fn below<'a>(&self, path: &'a str) -> Option<&'a str> {
        let rest = path.strip_prefix(self.0.as_str())?;
        (rest.is_empty() || rest.starts_with('/')).then(|| rest.trim_matches('/'))
    }
}

impl TryFrom<HooksInput> for HooksSettings {
    type Error = String;

    fn try_from(input: HooksInput) -> Result<Self, String> {
        let settings = Self {
            enabled: input.enabled,
            token: input.token,
            path: input.path,
            max_body_bytes: input.max_body_bytes,
            default_session_key: input.default_session_key.filter(|key| !key.trim().is_empty()),
            allow_request_session_key: input.allow_request_session_key,
            allowed_session_key_prefixes: input.allowed_session_key_prefixes,
            allowed_agent_ids: input.allowed_agent_ids,
            mappings: input.mappings,
            presets: input.presets,
            transforms_dir: input.transforms_dir,
            gmail: input.gmail,
        };
        if settings.enabled {
            settings.check()?;
        }
        Ok(settings)
    }
}

impl HooksSettings {
    /// What they have to know; none: nobody is heard.
    pub fn secret(&self) -> Option<Secret> {
        let token = self.token.as_ref().filter(|_| self.enabled)?;
        token.resolve("hooks.token", &|_| None).ok()
    }

    /// Bytes of a body that comes in there.
    pub fn max_body(&self, below: &str) -> usize {
        let usual = self.max_body_bytes.map_or(MAX_BODY, Int::get);
        let mails = self.all_mappings().iter().any(|mapping| mapping.path() == Some(GMAIL));
        let of_mail = self.gmail.as_ref().and_then(|gmail| gmail.max_bytes).unwrap_or(MAIL_BYTES);
        let most = if below == GMAIL && mails {
            let wanted = of_mail.saturating_mul(3).saturating_add(MAIL_OVERHEAD).saturating_mul(MAILS);
            usual.max(wanted.min(LARGEST_BODY))
        } else {
            usual
        };
        usize::try_from(most).unwrap_or(usize::MAX)
    }

    /// The mappings, and then those of the presets.
    pub fn all_mappings(&self) -> Vec<HookMapping> {
        let mut all = self.mappings.clone();
        all.extend(self.presets.iter().any(|name| name == GMAIL).then(mail));
        for (index, mapping) in all.iter_mut().enumerate() {
            mapping.id.get_or_insert_with(|| format!("mapping-{}", index + 1));
            let Some(gmail) = self.gmail.as_ref().filter(|_| mapping.path() == Some(GMAIL)) else { continue };
            mapping.model = mapping.model.take().or_else(|| gmail.model.clone());
            mapping.thinking = mapping.thinking.take().or_else(|| gmail.thinking.clone());
            mapping.allow_unsafe_external_content |= gmail.allow_unsafe_external_content;
        }
        all
    }

    /// The beginnings that keys need.
    pub fn prefixes(&self) -> Vec<String> {
        let prefixes = self.allowed_session_key_prefixes.iter().map(|prefix| prefix.trim().to_lowercase());
        prefixes.filter(|prefix| !prefix.is_empty()).collect()
    }

    /// Whether a key (without its agent) may be.
    pub fn admits(&self, key: &str) -> bool {
        let (prefixes, key) = (self.prefixes(), key.to_lowercase());
        prefixes.is_empty() || prefixes.iter().any(|prefix| key.starts_with(prefix.as_str()))
    }

    fn check(&self) -> Result<(), String> {
        if !self.token.as_ref().is_some_and(SecretInput::is_given) {
            return Err(
                "hooks.enabled needs hooks.token: give it a long random value that is not the gateway's token".into(),
            );
        }
        let key = self.default_session_key.as_deref();
        if let Some(key) = key.filter(|key| SessionKey::is_reserved(key)) {
            return Err(format!(
                "hooks.defaultSessionKey: {key} is a session of the gateway's own; name another"
            ));
        }
        if !self.admits(key.unwrap_or(GENERATED)) {
            let wrong = key.map_or("sessions that nobody names begin with hook:".into(), |key| {
                format!("hooks.defaultSessionKey {key} begins otherwise")
            });
            return Err(format!(
                "hooks.allowedSessionKeyPrefixes: {wrong}; add that beginning, or change hooks.defaultSessionKey"
            ));
        }
        let all = self.all_mappings();
        // One that an earlier one stands before is never reached.
        let first = |at: usize| {
            let hides = |other: &HookMapping| {
                other.matching.source.is_none() && (other.path().is_none() || other.path() == all[at].path())
            };
            !all[..at].iter().any(hides)
        };
        all.iter().enumerate().filter(|(at, _)| first(*at)).try_for_each(|(at, mapping)| {
            self.check_mapping(mapping).map_err(|why| format!("hooks.mappings[{at}]: {why}"))
        })
    }

    fn check_mapping(&self, mapping: &HookMapping) -> Result<(), String> {
        let key = mapping.session_key.as_deref();
        if key.is_some_and(|key| key.contains("{{")) && self.prefixes().is_empty() {
            return Err("a sessionKey with templates needs hooks.allowedSessionKeyPrefixes".into());
        }
        if let Some(key) = key.filter(|key| SessionKey::is_reserved(key)) {
            return Err(format!("sessionKey {key} is a session of the gateway's own; name another"));
        }
        if mapping.session_mode == HookSessionMode::Persistent
            && key.is_none()
            && self.default_session_key.is_none()
        {
            return Err("sessionMode \"persistent\" needs a sessionKey, or hooks.defaultSessionKey".into());
        }
        match mapping.for_each.as_deref() {
            Some(list) if list.is_empty() || list.contains(['.', '[', '{']) => {
                Err(format!("forEach {list:?} is not the name of a list in the body"))
            }
            _ => Ok(()),
        }
    }

    /// What the operator should know of it.
    pub fn warnings(&self) -> Vec<String> {
        if !self.enabled {
            return Vec::new();
        }
        let mut warnings = Vec::new();
        for (at, mapping) in self.mappings.iter().enumerate().filter(|(_, it)| it.transform.is_some()) {
            let id = mapping.id.as_deref().map(|id| format!(" ({id})")).unwrap_or_default();
            warnings.push(format!(
                "hooks.mappings[{at}]{id}: transform is JavaScript, which is not run here; requests for it are \
                 refused until it is a messageTemplate or a textTemplate"
            ));
        }
        for name in self.presets.iter().filter(|name| *name != GMAIL) {
            warnings.push(format!("hooks.presets: there is no preset {name:?}; it has no effect"));
        }
        if self.gmail.as_ref().is_some_and(|gmail| gmail.account.is_some()) {
            warnings.push(format!(
                "hooks.gmail: the mail watcher is not started here; run `gog gmail watch serve` as a service, with \
                 {}/gmail of this gateway as its hook URL",
                self.path.as_str()
            ));
        }
        warnings
    }
}

impl HookMapping {
    /// The path it is for.
    pub fn path(&self) -> Option<&str> {
        self.matching
            .path
            .as_deref()
            .map(|path| path.trim().trim_matches('/'))
            .filter(|path| !path.is_empty())
    }
}

/// The preset for mail.
fn mail() -> HookMapping {
    HookMapping {
        id: Some(GMAIL.into()),
        matching: HookMatch { path: Some(GMAIL.into()), source: None },
        name: Some("Gmail".into()),
        for_each: Some("messages".into()),
        session_key: Some("hook:gmail:{{messages[0].id}}".into()),
        message_template: Some(
            "A mail has come.\nFrom: {{messages[0].from}}\nSubject: {{messages[0].subject}}\n\n{{messages[0].snippet}}\n{{messages[0].body}}"
                .into(),
        ),
        ..HookMapping::default()
    }
}

#[cfg(test)]
#[path = "hooks_tests.rs"]
mod tests;

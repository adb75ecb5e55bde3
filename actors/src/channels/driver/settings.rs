//! `channels.<name>.driver`: which program speaks for the channel, or how one that calls proves who it is.

use super::sealed::public_key;
use crate::channels::contract::{Capabilities, EditLimit, Unit};
use crate::settings::{AuthSecret, Secret, expanded};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use x25519_dalek::PublicKey;

/// The longest text of a message that may be configured: in JSON it fits a frame, whatever is in it.
const MAX_TEXT: usize = 65_536;
/// How long nothing may be heard of an account until it counts as stuck: two heartbeats are missed before.
const SILENCE: Duration = Duration::from_secs(180);

/// See the module. No `Debug`: its environment and token may be secrets.
#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct DriverSettings {
    pub command: Option<String>,
    pub args: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub cwd: Option<String>,
    pub capabilities: Claims,
    token: Option<String>,
    sealed: Option<Sealed>,
}

/// `channels.<name>.driver.sealed`: a link that is sealed.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sealed {
    public_key: String,
}

/// Who speaks for a channel.
pub(super) enum Speaker {
    /// A program of ours.
    Program(String),
    /// Who comes in at the door and knows this.
    Guest(AuthSecret, Option<PublicKey>),
}

/// `channels.<name>.driver.capabilities`: what the platform can do, as the driver says of itself too.
#[derive(Clone, Copy, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Claims {
    text_limit: usize,
    unit: crabtree_protocol::driver::Unit,
    idempotent: bool,
    edits_every_ms: Option<u64>,
    typing: bool,
    buttons: bool,
    reactions: bool,
    files: bool,
}

impl Default for Claims {
    fn default() -> Self {
        Self {
            text_limit: 4000,
            unit: crabtree_protocol::driver::Unit::Chars,
            idempotent: false,
            edits_every_ms: None,
            typing: false,
            buttons: false,
            reactions: false,
            files: false,
        }
    }
}

impl Claims {
    pub fn capabilities(self) -> Capabilities {
        Capabilities {
            text_limit: self.text_limit,
            unit: unit(self.unit),
            idempotent: self.idempotent,
            edits: self.edits_every_ms.map(|ms| EditLimit { every: Duration::from_millis(ms) }),
            typing: self.typing,
            buttons: self.buttons,
            reactions: self.reactions,
            files: self.files,
            silence: SILENCE,
            ..Capabilities::texts(self.text_limit)
        }
    }
}

/// The gateway's word for a unit of the wire.
pub(super) fn unit(unit: crabtree_protocol::driver::Unit) -> Unit {
    match unit {
        crabtree_protocol::driver::Unit::Chars => Unit::Chars,
        crabtree_protocol::driver::Unit::Utf16 => Unit::Utf16,
        crabtree_protocol::driver::Unit::Bytes => Unit::Bytes,
    }
}

impl DriverSettings {
    /// Those of a channel called `name`, or what to change in them.
    pub fn read(name: &str, channel: &Value) -> Result<Self, String> {
        let Some(driver) = channel.get("driver") else {
            return Err(format!("channels.{name}.driver is missing; give it a command"));
        };
        let read: Self = serde_json::from_value(driver.clone())
            .map_err(|e| format!("channels.{name}.driver cannot be read: {e}"))?;
        match read.capabilities.text_limit {
            1..=MAX_TEXT => Ok(read),
            _ => Err(format!("channels.{name}.driver.capabilities.textLimit is not within 1 and {MAX_TEXT}")),
        }
    }

    /// Who speaks for the channel, or what to change.
    pub fn speaker(&self, name: &str) -> Result<Speaker, String> {
        let key = |key: &str| format!("channels.{name}.driver.{key}");
        let filled = |text: &Option<String>| text.clone().filter(|text| !text.trim().is_empty());
        let pinned = match &self.sealed {
            None => None,
            Some(sealed) => Some(public_key(&sealed.public_key).ok_or_else(|| {
                format!("{} is not an X25519 public key of 32 bytes in base64", key("sealed.publicKey"))
            })?),
        };
        match (filled(&self.command), filled(&self.token), pinned) {
            (Some(command), None, None) => Ok(Speaker::Program(command)),
            (Some(_), ..) => Err(format!(
                "{} is of no use to a driver that the gateway starts; leave out {0} and sealed, or command",
                key("token")
            )),
            (None, Some(token), pinned) => Ok(Speaker::Guest(AuthSecret::Token(Secret::new(token)), pinned)),
            (None, None, Some(pinned)) => Ok(Speaker::Guest(AuthSecret::None, Some(pinned))),
            (None, None, None) => Err(format!(
                "{} is missing; name the driver's program, or the token of one that connects at /driver",
                key("command")
            )),
        }
    }

    /// Where the program runs.
    pub fn dir(&self) -> Option<PathBuf> {
        self.cwd.as_deref().map(expanded)
    }
}

/// An account's name for drivers and the log.
pub(super) fn client_id(channel: &str, account: &str) -> String {
    format!("{channel}/{account}")
}

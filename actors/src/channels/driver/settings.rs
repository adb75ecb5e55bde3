//! `channels.<name>.driver`: which program speaks for the channel, or how one that calls proves who it is.

use crate::channels::contract::{Account, Capabilities, EditLimit, Unit};
use crate::settings::expanded;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

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

    /// The program, or what to change.
    pub fn program(&self, name: &str) -> Result<&str, String> {
        let command = self.command.as_deref().filter(|command| !command.trim().is_empty());
        command.ok_or_else(|| format!("channels.{name}.driver.command is missing; name the driver's program"))
    }

    /// Where the program runs.
    pub fn dir(&self) -> Option<PathBuf> {
        self.cwd.as_deref().map(expanded)
    }
}

/// An account's name for drivers and the log.
pub(super) fn client_id(channel: &str, account: &Account) -> String {
    format!("{channel}/{}", account.id)
}

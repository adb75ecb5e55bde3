//! Terminals: shells of operators on the gateway's machine.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::params::record;
use crate::value::{Int, Text};

/// Columns or lines of a terminal.
pub type Side = Int<1, 2000>;

/// Parameters of `terminal.open`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OpenParams {
    /// The agent in whose workspace it starts; the default one when absent.
    pub agent_id: Option<Text>,
    /// The session it belongs to, so that it stays when who opened it goes.
    pub session_key: Option<Text>,
    /// A session of another product to go on with; there are none.
    pub catalog: Option<CatalogEntry>,
    /// Columns.
    pub cols: Side,
    /// Lines.
    pub rows: Side,
}

/// A session of another product.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CatalogEntry {
    /// Where it is listed.
    pub catalog_id: Text,
    /// On which machine.
    pub host_id: Text,
    /// Which.
    pub thread_id: Text,
    /// The home it was found in.
    pub source_home_id: Option<Text>,
}

/// Parameters of `terminal.input`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InputParams {
    /// The terminal.
    pub session_id: Text,
    /// What was typed.
    pub data: String,
}

/// Parameters of `terminal.resize`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResizeParams {
    /// The terminal.
    pub session_id: Text,
    /// Columns.
    pub cols: Side,
    /// Lines.
    pub rows: Side,
}

/// Parameters of `terminal.close` and `terminal.attach`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TerminalParams {
    /// The terminal.
    pub session_id: Text,
}

record! {
    /// Result of `terminal.open`.
    pub struct Opened {
        /// The terminal.
        session_id: String,
        /// The agent in whose workspace it started.
        agent_id: String,
        /// The program that runs in it.
        shell: String,
        /// Where it started.
        cwd: String,
        /// Whether it is shut in; it is not.
        confined: bool,
    }
}

record! {
    /// Result of `terminal.attach`.
    pub struct Attached {
        /// The terminal.
        session_id: String,
        /// The agent in whose workspace it started.
        agent_id: String,
        /// The program that runs in it.
        shell: String,
        /// Where it started.
        cwd: String,
        /// Whether it is shut in; it is not.
        confined: bool,
        /// The end of what it has shown.
        buffer: String,
        ; optional
        /// `conn`, or `agent:` and the session it belongs to.
        owner: String,
        /// How much it has shown in all, in UTF-16 units.
        seq: u64,
    }
}

record! {
    /// A terminal that can be attached.
    pub struct Listed {
        /// The terminal.
        session_id: String,
        /// The agent in whose workspace it started.
        agent_id: String,
        /// The program that runs in it.
        shell: String,
        /// Where it started.
        cwd: String,
        /// Whether it is shut in; it is not.
        confined: bool,
        /// Whether somebody looks at it.
        attached: bool,
        /// `conn`, or `agent:` and the session it belongs to.
        owner: String,
        /// When it was opened, in milliseconds since the epoch.
        created_at_ms: i64,
    }
}

record! {
    /// Result of `terminal.list`.
    pub struct Terminals {
        /// The terminals, the oldest first.
        sessions: Vec<Listed>,
    }
}

record! {
    /// Result of `terminal.input`, `.resize` and `.close`.
    pub struct Done {
        /// Whether there is such a terminal of the caller's, and it was done.
        ok: bool,
    }
}

record! {
    /// Payload of `terminal.data`.
    pub struct DataEvent {
        /// The terminal.
        session_id: String,
        /// How much it has shown in all after this, in UTF-16 units.
        seq: u64,
        /// What it shows.
        data: String,
    }
}

record! {
    /// Payload of `terminal.exit`.
    pub struct ExitEvent {
        /// The terminal, which is none any more for who hears this.
        session_id: String,
        /// The code its program ended with.
        exit_code: Option<i32>,
        /// The signal that ended it.
        signal: Option<i32>,
        /// `process_exit`, `closed`, `disconnected`, `detached` or `error`.
        reason: String,
        ; optional
        /// What went wrong.
        error: String,
    }
}

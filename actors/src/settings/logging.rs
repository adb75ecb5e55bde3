//! `logging`: what is written into the log, and where.

use super::AuditSettings;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The largest file unless the settings say otherwise, bytes; as in OpenClaw.
const MAX_FILE_BYTES: u64 = 100 * 1024 * 1024;

/// `logging`: what is written into the log, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct LoggingSettings {
    /// The least serious level that is written.
    pub level: LogLevel,
    /// The same of single subsystems, as the log names them; ours.
    pub subsystems: BTreeMap<String, LogLevel>,
    /// The same of the console, if it is to be another.
    pub console_level: Option<LogLevel>,
    /// How the console shows it.
    pub console_style: Option<ConsoleStyle>,
    /// A file that is written besides, a JSON object a line; relative to the state directory.
    pub file: Option<String>,
    /// How large it may become before it is put aside; five that were are kept.
    pub max_file_bytes: u64,
    /// Who did what.
    pub audit: AuditSettings,
}

impl Default for LoggingSettings {
    fn default() -> Self {
        Self {
            level: LogLevel::default(),
            subsystems: BTreeMap::new(),
            console_level: None,
            console_style: None,
            file: None,
            max_file_bytes: MAX_FILE_BYTES,
            audit: AuditSettings::default(),
        }
    }
}

/// How the console shows the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ConsoleStyle {
    /// Lines for people.
    #[serde(alias = "compact")]
    Pretty,
    /// A JSON object a line.
    Json,
}

/// OpenClaw's names of log levels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum LogLevel {
    Silent,
    Fatal,
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

//! Why a command failed, as people and programs need it: what happened, what to do next, and the exit code.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::{print_json, printable};
use crate::config::ConfigError;

/// How the words begin with which a method is refused that does not exist.
const UNKNOWN_METHOD: &str = "unknown method";
const FAILED: u8 = 1;
const USAGE: u8 = 2;
const UNREACHABLE: u8 = 69;
const UNAUTHORISED: u8 = 77;
pub(super) const CONFIGURATION: u8 = 78;

/// Why a command failed.
#[derive(Debug)]
pub struct Failure {
    exit: u8,
    /// `{code, message, next?}` and whatever else a refusal said.
    error: Value,
}

impl Failure {
    fn new(exit: u8, code: &str, message: impl Into<String>, next: &str) -> Self {
        let mut error = json!({"code": code, "message": message.into()});
        if !next.is_empty() {
            error["next"] = next.into();
        }
        Self { exit, error }
    }

    /// It did not work.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(FAILED, "FAILED", message, "")
    }

    /// It did not work, with an exit code of its own.
    pub(super) fn with_exit(exit: u8, message: impl Into<String>) -> Self {
        Self::new(exit, "FAILED", message, "")
    }

    /// It was not asked for in a way that can be done.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::new(USAGE, "USAGE", message, "")
    }

    /// The configuration cannot be used.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(CONFIGURATION, "CONFIGURATION", message, "")
    }

    /// Somebody does not know what they would have to.
    pub(super) fn unauthorised(message: impl Into<String>) -> Self {
        Self::new(UNAUTHORISED, "UNAUTHORISED", message, "")
    }

    /// Nobody answers at the address.
    pub(super) fn unreachable(url: &str, why: impl std::fmt::Display) -> Self {
        let message = format!("the gateway at {url} cannot be reached: {why}");
        Self::new(
            UNREACHABLE,
            "UNREACHABLE",
            message,
            "start it with `crabtree run`, or name another with --url",
        )
    }

    /// No answer came in time.
    pub(super) fn timeout(method: &str, millis: u128) -> Self {
        let message = format!("{method} was not answered within {millis} ms; whether it was done is unknown");
        Self::new(FAILED, "TIMEOUT", message, "look at `crabtree tree`, or wait longer with --timeout-ms")
    }

    /// The gateway refused; `error` is what it said.
    pub(super) fn refused(error: &Value) -> Self {
        let code = error["code"].as_str().unwrap_or("REFUSED");
        let detail = error["details"]["code"].as_str().unwrap_or_default();
        let (exit, next) = if code == "NOT_PAIRED" || detail == "PAIRING_REQUIRED" {
            (
                UNAUTHORISED,
                "`crabtree devices list` on the gateway's machine shows the request; approve it there, or give --token",
            )
        } else if detail.starts_with("AUTH_") || detail.starts_with("DEVICE_") {
            (UNAUTHORISED, "compare --token with what `crabtree token` prints on the gateway's machine")
        } else if code == "FORBIDDEN" {
            (UNAUTHORISED, "the token does not carry the scope that this needs")
        } else if error["message"].as_str().is_some_and(|message| message.starts_with(UNKNOWN_METHOD)) {
            (FAILED, "`crabtree protocol schema` lists the methods")
        } else {
            (FAILED, "")
        };
        let mut failure = Self::new(exit, code, error["message"].as_str().unwrap_or("refused"), next);
        for (key, value) in error.as_object().into_iter().flatten() {
            if failure.error.get(key).is_none() {
                failure.error[key] = value.clone();
            }
        }
        failure
    }

    /// How long to wait before asking again, if the gateway is merely starting.
    pub(super) fn starting_retry_ms(&self) -> Option<u64> {
        let starting = self.error["details"]["reason"] == "startup-sidecars";
        starting.then(|| self.error["retryAfterMs"].as_u64().unwrap_or(500).clamp(100, 2000))
    }

    /// How long to wait before asking again, if that is worth it.
    pub(super) fn retry_ms(&self) -> Option<u64> {
        (self.error["retryable"] == true).then(|| self.error["retryAfterMs"].as_u64().unwrap_or(100))
    }

    /// Whether the gateway does not have that method.
    pub(super) fn is_unknown_method(&self) -> bool {
        self.error["message"].as_str().is_some_and(|message| message.starts_with(UNKNOWN_METHOD))
    }

    /// Whether it was asked for by somebody who may not.
    pub(super) fn is_unauthorised(&self) -> bool {
        self.exit == UNAUTHORISED
    }

    /// Whether nobody answered at all.
    pub(super) fn is_unreachable(&self) -> bool {
        self.exit == UNREACHABLE
    }

    /// What happened and what to do next, for people.
    pub fn told(&self) -> String {
        let message = self.error["message"].as_str().unwrap_or_default();
        self.error["next"].as_str().map_or_else(|| message.to_owned(), |next| format!("{message} ({next})"))
    }

    /// Adds what to do next, if nothing is said about it yet.
    pub fn or_next(mut self, next: &str) -> Self {
        if self.error.get("next").is_none() {
            self.error["next"] = next.into();
        }
        self
    }

    /// Says what to do next, instead of what is said about it yet.
    pub(super) fn but_next(mut self, next: &str) -> Self {
        self.error["next"] = next.into();
        self
    }

    /// Tells the user, on standard error or as JSON on standard output.
    pub fn report(&self, json: bool) -> ExitCode {
        if json {
            print_json(&json!({"ok": false, "error": self.error}));
        } else {
            eprintln!("crabtree: {}", printable(self.error["message"].as_str().unwrap_or_default()));
            if let Some(next) = self.error["next"].as_str() {
                eprintln!("  next: {next}");
            }
        }
        ExitCode::from(self.exit)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::config(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_become_exit_codes() {
        let exit = |error: Value| Failure::refused(&error).exit;
        let auth =
            json!({"code": "INVALID_REQUEST", "message": "m", "details": {"code": "AUTH_TOKEN_MISMATCH"}});
        assert_eq!(exit(auth), 77);
        assert_eq!(exit(json!({"code": "NOT_PAIRED", "message": "device identity required"})), 77);
        assert_eq!(exit(json!({"code": "FORBIDDEN", "message": "missing scope: operator.read"})), 77);
        assert_eq!(exit(json!({"code": "INVALID_REQUEST", "message": "unknown method: x"})), 1);
        assert_eq!(exit(json!(null)), 1);
    }

    #[test]
    fn programs_see_all_that_the_gateway_said() {
        let error = json!({"code": "UNAVAILABLE", "message": "gateway starting", "retryable": true,
            "retryAfterMs": 50, "details": {"reason": "startup-sidecars"}});
        let failure = Failure::refused(&error);
        assert_eq!(failure.error, error);
        assert_eq!(failure.starting_retry_ms(), Some(100));
        assert_eq!(Failure::failed("x").starting_retry_ms(), None);
    }
}

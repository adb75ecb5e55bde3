//! Secrets: values that cannot be printed, and the ways a configuration may write them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

/// A secret value. It has neither `Debug` nor `Display`, so it cannot end up in a log line by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value that must not be shown.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, for the one place that compares or sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// The shared secret that clients of the gateway present.
#[derive(Clone, PartialEq, Eq)]
pub enum AuthSecret {
    /// A bearer token.
    Token(Secret),
    /// A password.
    Password(Secret),
    /// A proxy says who they are; who connects directly on this machine may know a password instead.
    TrustedProxy(Option<Secret>),
    /// No shared secret is asked for.
    None,
}

impl AuthSecret {
    /// `gateway.auth.mode`.
    pub fn mode(&self) -> &'static str {
        match self {
            Self::Token(_) => "token",
            Self::Password(_) => "password",
            Self::TrustedProxy(_) => "trusted-proxy",
            Self::None => "none",
        }
    }

    /// Whether `candidate` is the secret, or none is asked for. Compared in constant time; hashing first
    /// makes that independent of the lengths.
    pub fn admits(&self, candidate: &str) -> bool {
        let secret = match self {
            Self::Token(secret) | Self::Password(secret) | Self::TrustedProxy(Some(secret)) => secret,
            Self::TrustedProxy(None) => return false,
            Self::None => return true,
        };
        let (a, b) = (blake3::hash(candidate.as_bytes()), blake3::hash(secret.expose().as_bytes()));
        bool::from(a.as_bytes().ct_eq(b.as_bytes()))
    }
}

/// A secret as a configuration may write it: in plain text, as `"${NAME}"`, or as a reference.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a string, \"${NAME}\" or {source: \"env\", id: \"NAME\"}")]
pub enum SecretInput {
    /// The value, or `${NAME}`.
    Text(String),
    /// Where the value is kept.
    Reference {
        /// The kind of place.
        source: SecretSource,
        /// Its name there.
        id: String,
    },
}

/// Where a referenced secret is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SecretSource {
    /// An environment variable.
    Env,
    /// A file.
    File,
    /// The output of a command.
    Exec,
}

/// Why a secret has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The environment variable is not set, or blank.
    #[error("{key} refers to the environment variable {name}, which is not set; set it, or change {key}")]
    Unset {
        /// The configuration key.
        key: String,
        /// The variable.
        name: String,
    },
    /// The value is blank.
    #[error("{key} is empty; give it a value, or remove the key")]
    Empty {
        /// The configuration key.
        key: String,
    },
    /// This kind of reference cannot be followed.
    #[error(
        "{key} is sealed, or refers to a file or a command, which is not supported yet; use {{source: \"env\", id: \"NAME\"}}"
    )]
    Unsupported {
        /// The configuration key.
        key: String,
    },
}

impl SecretInput {
    /// The value, looked up through `env`; `key` is the configuration key named in errors.
    pub fn resolve(&self, key: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Secret, SecretError> {
        let name = match self {
            Self::Text(text) => match variable_name(text) {
                Some(name) => name,
                None if text.starts_with("sealed:") => {
                    return Err(SecretError::Unsupported { key: key.into() });
                }
                None if text.trim().is_empty() => return Err(SecretError::Empty { key: key.into() }),
                None => return Ok(Secret::new(text)),
            },
            Self::Reference { source: SecretSource::Env, id } => id,
            Self::Reference { .. } => return Err(SecretError::Unsupported { key: key.into() }),
        };
        match env(name).filter(|value| !value.trim().is_empty()) {
            Some(value) => Ok(Secret::new(value)),
            None => Err(SecretError::Unset { key: key.into(), name: name.into() }),
        }
    }
}

/// The name in `${NAME}`.
pub(super) fn variable_name(text: &str) -> Option<&str> {
    let name = text.strip_prefix("${")?.strip_suffix('}')?;
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (!name.is_empty() && name.chars().all(word)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(json: &str) -> Result<Secret, SecretError> {
        let input: SecretInput = serde_json::from_str(json).expect("a secret input");
        input.resolve("gateway.auth.token", &|name| match name {
            "HERE" => Some("s3cret".into()),
            "BLANK" => Some(" ".into()),
            _ => None,
        })
    }

    #[test]
    fn resolves_text_and_environment() {
        for json in [r#""s3cret""#, r#""${HERE}""#, r#"{"source":"env","provider":"default","id":"HERE"}"#] {
            assert_eq!(resolve(json).map(|s| s.expose().to_owned()), Ok("s3cret".into()), "{json}");
        }
        assert_eq!(resolve(r#""a${HERE}""#).map(|s| s.expose().to_owned()), Ok("a${HERE}".into()));
    }

    #[test]
    fn says_what_is_missing() {
        let text = |json| resolve(json).err().expect("no value").to_string();
        assert!(text(r#""${GONE}""#).contains("gateway.auth.token refers to the environment variable GONE"));
        assert!(text(r#""${BLANK}""#).contains("not set"));
        assert!(text(r#""""#).contains("is empty"));
        assert!(text(r#"{"source":"exec","id":"pass"}"#).contains("not supported yet; use {source: \"env\""));
    }
}

//! Secrets: values that cannot be printed, and the ways a configuration may write them.

use super::{AuthMode, AuthSettings};
use schemars::JsonSchema;
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Shorter ones are not looked for in what others say: they would be found in innocent words.
const SHORTEST: usize = 6;

/// A secret value. It has neither `Debug` nor `Display`, so it cannot end up in a log line by accident; copies share one
/// text, which is overwritten when the last of them goes.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<Zeroizing<String>>);

impl Secret {
    /// Wraps a value that must not be shown.
    pub fn new(value: impl Into<String>) -> Self {
        Self(Arc::new(Zeroizing::new(value.into())))
    }

    /// The value itself, for the one place that compares or sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether `candidate` is it. Compared in constant time; hashing first makes that independent of the lengths.
    pub fn is(&self, candidate: &str) -> bool {
        let (a, b) = (blake3::hash(candidate.as_bytes()), blake3::hash(self.expose().as_bytes()));
        bool::from(a.as_bytes().ct_eq(b.as_bytes()))
    }

    /// What somebody else said, who may have repeated the secret, without it.
    pub fn struck_from(&self, said: &str) -> String {
        if self.0.len() < SHORTEST { said.to_owned() } else { said.replace(self.expose(), "<secret>") }
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

    /// Whether a shared secret is asked for, and this is it.
    pub fn is_secret(&self, candidate: &str) -> bool {
        *self != Self::None && self.admits(candidate)
    }

    /// Whether `candidate` is the secret, or none is asked for.
    pub fn admits(&self, candidate: &str) -> bool {
        let secret = match self {
            Self::Token(secret) | Self::Password(secret) | Self::TrustedProxy(Some(secret)) => secret,
            Self::TrustedProxy(None) => return false,
            Self::None => return true,
        };
        secret.is(candidate)
    }
}

/// A secret as a configuration may write it: in plain text, as `"${NAME}"`, sealed, or as a reference.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a string, \"${NAME}\" or {source: \"env\", id: \"NAME\"}")]
pub enum SecretInput {
    /// The value, `${NAME}`, or `sealed:…`.
    Text(String),
    /// Where the value is kept.
    Reference(SecretRef),
    /// What was written has been looked up; no file says so.
    #[serde(skip)]
    Held(Held),
}

/// Where a secret is kept: OpenClaw's `SecretRef`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct SecretRef {
    /// The kind of place.
    pub source: SecretSource,
    /// Which place of that kind, of `secrets.providers`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Its name there.
    pub id: String,
}

/// Where a referenced secret is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SecretSource {
    /// An environment variable.
    Env,
    /// A file.
    File,
    /// The output of a command.
    Exec,
    /// The gateway's own store, see `secrets.store.set`.
    Store,
}

impl SecretSource {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Env => "env",
            Self::File => "file",
            Self::Exec => "exec",
            Self::Store => "store",
        }
    }
}

/// A secret that was looked up, in the place of what was written. Where it is serialised it says that it is there, and
/// whether it is the same as before, but not what it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Held {
    /// What refers to it, if it was not in the file itself.
    pub reference: Option<SecretRef>,
    /// Differs when the value does.
    pub mark: String,
    /// The value, or why there is none.
    pub value: Result<Secret, String>,
}

/// How the mark of a held secret begins.
pub const HELD: &str = "held:";
/// How a sealed value begins.
pub const SEALED: &str = "sealed:";

impl Serialize for SecretInput {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => to.serialize_str(text),
            Self::Reference(reference) => reference.serialize(to),
            Self::Held(Held { reference: None, mark, .. }) => to.serialize_str(mark),
            Self::Held(Held { reference: Some(reference), mark, .. }) => {
                let mut members = to.serialize_map(None)?;
                members.serialize_entry("source", &reference.source)?;
                if let Some(provider) = &reference.provider {
                    members.serialize_entry("provider", provider)?;
                }
                members.serialize_entry("id", &reference.id)?;
                members.serialize_entry("held", mark)?;
                members.end()
            }
        }
    }
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
    /// What it refers to cannot be had.
    #[error("{key} has no value: {why}")]
    Unavailable {
        /// The configuration key.
        key: String,
        /// Why, and what to do.
        why: String,
    },
}

impl SecretInput {
    /// The value, looked up through `env`; `key` is the configuration key named in errors.
    pub fn resolve(&self, key: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Secret, SecretError> {
        let unavailable = |why: &str| SecretError::Unavailable { key: key.into(), why: why.into() };
        let name = match self {
            Self::Text(text) => match variable_name(text) {
                Some(name) => name,
                None if text.starts_with(SEALED) => {
                    return Err(unavailable("it is sealed, and was not opened"));
                }
                None if text.trim().is_empty() => return Err(SecretError::Empty { key: key.into() }),
                None => return Ok(Secret::new(text)),
            },
            Self::Reference(SecretRef { source: SecretSource::Env, id, .. }) => id,
            Self::Reference(reference) => {
                return Err(unavailable(&format!(
                    "the {} it refers to was not asked",
                    reference.source.name()
                )));
            }
            Self::Held(held) => return held.value.clone().map_err(|why| unavailable(&why)),
        };
        match env(name).filter(|value| !value.trim().is_empty()) {
            Some(value) => Ok(Secret::new(value)),
            None => Err(SecretError::Unset { key: key.into(), name: name.into() }),
        }
    }

    /// Whether anything is written.
    pub fn is_given(&self) -> bool {
        !matches!(self, Self::Text(text) if text.trim().is_empty())
    }

    /// The environment variable it names, if it does.
    pub fn variable(&self) -> Option<&str> {
        match self {
            Self::Text(text) => variable_name(text),
            Self::Reference(SecretRef { source: SecretSource::Env, id, .. }) => Some(id),
            Self::Reference(_) | Self::Held(_) => None,
        }
    }
}

/// The key of the gateway's password.
const PASSWORD: &str = "gateway.auth.password";

impl AuthSettings {
    /// The shared secret that they name; `None` if the gateway has to make one.
    ///
    /// # Errors
    /// Its value is not to be had, or something it needs is not set.
    pub fn secret(&self, env: &dyn Fn(&str) -> Option<String>) -> Result<Option<AuthSecret>, SecretError> {
        let password = || self.password.as_ref().map(|it| it.resolve(PASSWORD, env)).transpose();
        match self.effective_mode() {
            AuthMode::None => Ok(Some(AuthSecret::None)),
            AuthMode::Token => {
                let token = self.token.as_ref().map(|token| token.resolve("gateway.auth.token", env));
                Ok(token.transpose()?.map(AuthSecret::Token))
            }
            AuthMode::Password => {
                let password = password()?.ok_or_else(|| SecretError::Empty { key: PASSWORD.into() })?;
                Ok(Some(AuthSecret::Password(password)))
            }
            AuthMode::TrustedProxy if self.trusted_proxy.user_header.trim().is_empty() => {
                Err(SecretError::Empty { key: "gateway.auth.trustedProxy.userHeader".into() })
            }
            AuthMode::TrustedProxy => Ok(Some(AuthSecret::TrustedProxy(password()?))),
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
        assert!(text(r#"{"source":"exec","id":"pass"}"#).contains("the exec it refers to was not asked"));
        assert!(text(r#""sealed:AAAA""#).contains("gateway.auth.token has no value: it is sealed"));
    }

    #[test]
    fn a_secret_that_somebody_repeats_is_struck_out() {
        let said = "Incorrect API key provided: sk-123456 (sk-123456)";
        assert_eq!(
            Secret::new("sk-123456").struck_from(said),
            "Incorrect API key provided: <secret> (<secret>)"
        );
        assert_eq!(Secret::new("key").struck_from(said), said);
    }

    #[test]
    fn what_is_held_tells_that_it_is_there_and_not_what_it_is() {
        let reference = SecretRef { source: SecretSource::File, provider: Some("f".into()), id: "/a".into() };
        let held = |reference| {
            let value = Ok(Secret::new("s3cret"));
            SecretInput::Held(Held { reference, mark: "held:1".into(), value })
        };
        let written = |input: &SecretInput| serde_json::to_string(input).unwrap();
        assert_eq!(written(&held(None)), r#""held:1""#);
        assert_eq!(
            written(&held(Some(reference))),
            r#"{"source":"file","provider":"f","id":"/a","held":"held:1"}"#
        );
        let env = |_: &str| None;
        assert_eq!(held(None).resolve("k", &env).map(|s| s.expose().to_owned()), Ok("s3cret".into()));
        let lost = Held { reference: None, mark: String::new(), value: Err("it is gone".into()) };
        let error = SecretInput::Held(lost).resolve("k", &env).err().expect("no value");
        assert_eq!(error.to_string(), "k has no value: it is gone");
    }
}

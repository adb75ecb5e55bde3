//! `mcp`: servers of the Model Context Protocol, as OpenClaw writes them.

use super::agents::expanded;
use super::document::{is_secret_key, redacted_secret};
use super::secret::variable_name;
use super::{REDACTED, SEALED, Secret, SecretError, SecretInput};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Number, Value};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// `mcp`: whose tools agents may use beside the gateway's own.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct McpSettings {
    /// The servers by name; their tools are called `NAME__TOOL`.
    pub servers: BTreeMap<String, McpServerSettings>,
}

/// `mcp.servers.<name>`: a program (`command`) or an address (`url`).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct McpServerSettings {
    /// Whether it is used.
    pub enabled: bool,
    /// The program, found in `PATH` unless it is a path.
    pub command: Option<String>,
    /// Its arguments.
    pub args: Vec<String>,
    /// What its environment has beside what the gateway's has that is no secret.
    #[serde(deserialize_with = "texts")]
    pub env: BTreeMap<String, SecretInput>,
    /// The directory it runs in.
    pub cwd: Option<String>,
    /// Where it is asked over HTTP.
    pub url: Option<String>,
    /// How it is spoken to; what is left out follows from `command` and `url`.
    pub transport: Option<McpTransport>,
    /// What every request over HTTP has in its head.
    #[serde(deserialize_with = "texts")]
    pub headers: BTreeMap<String, SecretInput>,
    /// How long it may take until it is ready and has said which tools it has.
    pub connection_timeout_ms: u64,
    /// How long a call may take.
    pub request_timeout_ms: u64,
    /// Which of its tools are used.
    pub tool_filter: ToolFilter,
}

impl Default for McpServerSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            command: None,
            args: Vec::new(),
            env: BTreeMap::new(),
            cwd: None,
            url: None,
            transport: None,
            headers: BTreeMap::new(),
            connection_timeout_ms: 30_000,
            request_timeout_ms: 60_000,
            tool_filter: ToolFilter::default(),
        }
    }
}

/// How a server is spoken to, by OpenClaw's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum McpTransport {
    /// A child process.
    Stdio,
    /// Over HTTP.
    StreamableHttp,
    /// One that is not spoken here.
    #[serde(other)]
    Other,
}

/// `mcp.servers.<name>.toolFilter`: names as the server has them, with `*` for any part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ToolFilter {
    /// Only these, if any are named.
    pub include: Vec<String>,
    /// None of these.
    pub exclude: Vec<String>,
}

/// Where a server is, with nothing left to look up.
#[derive(Clone)]
pub enum McpTarget {
    /// A child process.
    Process {
        /// The program.
        command: String,
        /// Its arguments.
        args: Vec<String>,
        /// What is added to its environment.
        env: Vec<(String, Secret)>,
        /// The directory it runs in.
        cwd: Option<PathBuf>,
    },
    /// Over HTTP.
    Http {
        /// The address.
        url: Secret,
        /// Heads of every request.
        headers: Vec<(String, Secret)>,
    },
}

impl McpServerSettings {
    /// Whether it is a process on this machine.
    pub fn is_process(&self) -> bool {
        self.transport.map_or(self.url.is_none(), |transport| transport == McpTransport::Stdio)
    }

    /// Where the server called `name` is; `${NAME}` is looked up through `env`.
    ///
    /// # Errors
    /// What is missing or cannot be done, and which key to change.
    pub fn target(&self, name: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<McpTarget, String> {
        let key = |key: &str| format!("mcp.servers.{name}.{key}");
        let text = |at: &str, text: &str| filled(text, &key(at), env).map_err(|e| e.to_string());
        let all = |at: &str, values: &BTreeMap<String, SecretInput>| {
            let one = |(name, value): (&String, &SecretInput)| {
                let value = secret(value, &key(&format!("{at}.{name}")), env);
                Ok((name.clone(), value.map_err(|e| e.to_string())?))
            };
            values.iter().map(one).collect::<Result<Vec<_>, String>>()
        };
        if self.transport == Some(McpTransport::Other) {
            return Err(format!("{} is not spoken here; use stdio or streamable-http", key("transport")));
        }
        if !self.is_process() {
            let url = self.url.as_deref().filter(|url| !url.trim().is_empty());
            let url = url.ok_or_else(|| format!("{} is missing; say where it listens", key("url")))?;
            return Ok(McpTarget::Http {
                url: Secret::new(text("url", url)?),
                headers: all("headers", &self.headers)?,
            });
        }
        let command = self.command.as_deref().filter(|command| !command.trim().is_empty());
        let missing = || format!("{} is missing; give it a program, or a url", key("command"));
        Ok(McpTarget::Process {
            command: command.ok_or_else(missing)?.to_owned(),
            args: self.args.iter().map(|arg| text("args", arg)).collect::<Result<_, _>>()?,
            env: all("env", &self.env)?,
            cwd: self.cwd.as_deref().map(expanded),
        })
    }
}

/// A value that may be a secret. Unlike secrets that are needed it may be empty, and have text around `${NAME}`.
fn secret(
    value: &SecretInput,
    key: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Secret, SecretError> {
    match value {
        SecretInput::Text(text) if !text.starts_with(SEALED) => filled(text, key, env).map(Secret::new),
        value => value.resolve(key, env),
    }
}

/// The text with what `${NAME}` stands for in their places.
fn filled(text: &str, key: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, SecretError> {
    let (mut done, mut rest) = (String::new(), text);
    while let Some(at) = rest.find("${") {
        let end = rest[at..].find('}').map_or(rest.len(), |end| at + end + 1);
        done.push_str(&rest[..at]);
        match variable_name(&rest[at..end]) {
            Some(name) => {
                let unset = || SecretError::Unset { key: key.into(), name: name.into() };
                done.push_str(&env(name).filter(|value| !value.trim().is_empty()).ok_or_else(unset)?);
                rest = &rest[end..];
            }
            None => {
                done.push_str("${");
                rest = &rest[at + 2..];
            }
        }
    }
    done.push_str(rest);
    Ok(done)
}

/// Numbers and booleans are taken for what they look like.
fn texts<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, SecretInput>, D::Error> {
    #[derive(Deserialize, JsonSchema)]
    #[serde(untagged)]
    enum Written {
        Secret(SecretInput),
        Number(Number),
        Bool(bool),
    }
    let written = BTreeMap::<String, Written>::deserialize(from)?;
    let text = |value| match value {
        Written::Secret(secret) => secret,
        Written::Number(number) => SecretInput::Text(number.to_string()),
        Written::Bool(bool) => SecretInput::Text(bool.to_string()),
    };
    Ok(written.into_iter().map(|(name, value)| (name, text(value))).collect())
}

/// Hides in a document that is to be shown what may be secret in its servers, whatever its key: all of `env` and
/// `headers`, the arguments that look like it, and what an address has beside its place.
pub(super) fn conceal(document: &mut Value) {
    let servers = document.pointer_mut("/mcp/servers").and_then(Value::as_object_mut);
    for server in servers.into_iter().flat_map(|servers| servers.values_mut()) {
        for all in ["env", "headers"].map(str::to_owned) {
            let values = server.get_mut(&all).and_then(Value::as_object_mut);
            values
                .into_iter()
                .flat_map(|values| values.values_mut())
                .for_each(|value| *value = hidden(value));
        }
        if let Some(args) = server.get_mut("args").and_then(Value::as_array_mut) {
            conceal_args(args);
        }
        if let Some(url) = server.get_mut("url")
            && let Some(shown) = url.as_str().and_then(without_secrets)
        {
            *url = shown.into();
        }
    }
}

fn hidden(value: &Value) -> Value {
    if value.is_boolean() { REDACTED.into() } else { redacted_secret(value) }
}

/// `--token X` and `--token=X`.
fn conceal_args(args: &mut [Value]) {
    let mut tells = false;
    for arg in args {
        let Some(text) = arg.as_str().map(str::to_owned) else { continue };
        match text.split_once('=') {
            _ if tells => *arg = redacted_secret(arg),
            Some((name, _)) if is_secret_key(name) => *arg = format!("{name}={REDACTED}").into(),
            _ => {}
        }
        tells = !tells && text.starts_with('-') && is_secret_key(&text);
    }
}

/// An address whose user, password and query are hidden; `None` if it has none of them.
fn without_secrets(url: &str) -> Option<String> {
    let mut parsed = reqwest::Url::parse(url).ok()?;
    let telling = parsed.query().is_some() || parsed.password().is_some() || !parsed.username().is_empty();
    if !telling {
        return None;
    }
    let query = parsed.query().is_some().then_some(REDACTED);
    parsed.set_query(query);
    // An address without a host has neither.
    let _ = parsed.set_username("");
    let _ = parsed.set_password(None);
    Some(parsed.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn server(written: Value) -> McpServerSettings {
        serde_json::from_value(written).unwrap()
    }

    fn target(written: Value) -> Result<McpTarget, String> {
        server(written).target("x", &|name| (name == "HERE").then(|| "s3cret".into()))
    }

    fn plain(values: &[(String, Secret)]) -> Vec<(&str, &str)> {
        values.iter().map(|(name, value)| (name.as_str(), value.expose())).collect()
    }

    #[test]
    fn a_program_is_started_with_what_its_texts_stand_for() {
        let written = json!({
            "command": "npx", "args": ["-y", "pkg", "--key=${HERE}", "${", "${a b}"], "cwd": "/srv",
            "env": { "A": "${HERE}", "B": "", "C": 7, "D": true, "E": { "source": "env", "id": "HERE" } },
        });
        let Ok(McpTarget::Process { command, args, env, cwd }) = target(written) else { panic!() };
        assert_eq!((command.as_str(), cwd), ("npx", Some("/srv".into())));
        assert_eq!(args, ["-y", "pkg", "--key=s3cret", "${", "${a b}"]);
        assert_eq!(plain(&env), [("A", "s3cret"), ("B", ""), ("C", "7"), ("D", "true"), ("E", "s3cret")]);
    }

    #[test]
    fn an_address_is_asked_over_http_whether_it_says_so_or_not() {
        for transport in [json!(null), json!("streamable-http")] {
            let written = json!({
                "url": "https://h/mcp", "transport": transport, "headers": { "Authorization": "Bearer ${HERE}" },
            });
            let Ok(McpTarget::Http { url, headers }) = target(written) else { panic!() };
            assert_eq!(
                (url.expose(), plain(&headers)),
                ("https://h/mcp", vec![("Authorization", "Bearer s3cret")])
            );
        }
    }

    #[test]
    fn what_cannot_be_used_says_which_key_to_change() {
        for (written, why) in [
            (json!({}), "mcp.servers.x.command is missing"),
            (json!({ "transport": "streamable-http" }), "mcp.servers.x.url is missing"),
            (json!({ "url": "http://h", "transport": "sse" }), "mcp.servers.x.transport is not spoken here"),
            (
                json!({ "command": "a", "env": { "K": "x${GONE}" } }),
                "mcp.servers.x.env.K refers to the environment variable GONE",
            ),
            (
                json!({ "command": "a", "env": { "K": "sealed:x" } }),
                "mcp.servers.x.env.K has no value: it is sealed",
            ),
        ] {
            let Err(said) = target(written) else { panic!("{why}") };
            assert!(said.starts_with(why), "{said}");
        }
    }

    #[test]
    fn what_may_be_secret_is_not_shown() {
        let shown = super::super::redacted(&json!({ "mcp": { "servers": {
            "a": {
                "command": "npx", "args": ["--api-key", "sk", "--token=t", "--verbose", "x"],
                "env": { "PLACE": "dsn://user:word@h", "KEPT": "${NAME}", "N": 7, "B": true },
            },
            "b": { "url": "https://me:word@h/mcp?key=k", "headers": { "X-Any": "k" } },
            "c": { "url": "https://h/mcp" },
        } } }));
        assert_eq!(
            shown["mcp"]["servers"],
            json!({
                "a": {
                    "command": "npx",
                    "args": ["--api-key", REDACTED, format!("--token={REDACTED}"), "--verbose", "x"],
                    "env": { "PLACE": REDACTED, "KEPT": "${NAME}", "N": REDACTED, "B": REDACTED },
                },
                "b": { "url": format!("https://h/mcp?{REDACTED}"), "headers": { "X-Any": REDACTED } },
                "c": { "url": "https://h/mcp" },
            })
        );
    }
}

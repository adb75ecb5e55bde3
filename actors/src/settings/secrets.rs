//! `secrets`: where secrets are kept that the configuration refers to, as OpenClaw writes it.

use super::document::redacted_secret;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// `secrets`: where secrets are kept that the configuration refers to.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SecretsSettings {
    /// The places, by the name that references give as `provider`.
    pub providers: BTreeMap<String, SecretProvider>,
    /// Which place is meant by a reference that names none.
    pub defaults: SecretDefaults,
    /// Whether the gateway refuses to start, or to take up a configuration, while any secret in use is missing. Else
    /// only who needs it does without.
    pub strict: bool,
}

/// `secrets.defaults`: which place of each kind is meant by a reference that names none; `default` without it.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SecretDefaults {
    /// For `source: "env"`.
    pub env: Option<String>,
    /// For `source: "file"`.
    pub file: Option<String>,
    /// For `source: "exec"`.
    pub exec: Option<String>,
    /// For `source: "store"`.
    pub store: Option<String>,
}

/// `secrets.providers.<name>`: a place where secrets are kept.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "source", rename_all = "lowercase")]
#[schemars(transform = with_source)]
pub enum SecretProvider {
    /// The gateway's environment.
    Env {
        /// Only these variables; any, if it is left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        allowlist: Option<Vec<String>>,
    },
    /// A file that only the gateway's user can read.
    File(FileProvider),
    /// A program that is asked.
    Exec(ExecProvider),
    /// The gateway's own store.
    Store {},
}

/// A file with secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FileProvider {
    /// The file; `~/` is the home directory.
    pub path: String,
    /// What is in it.
    #[serde(default)]
    pub mode: FileMode,
    /// How long reading it may take; 5 s unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// How large it may be; 1 MiB unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
}

/// What is in a file with secrets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum FileMode {
    /// A JSON object; ids are pointers into it (`/providers/openai/apiKey`).
    #[default]
    Json,
    /// One secret; its id is `value`.
    SingleValue,
}

/// A program that is asked for secrets: once for all of them, in JSON on its stdin, which it answers on its stdout.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ExecProvider {
    /// The program: an absolute path, of a file that nobody else may change.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// How long it may take; 5 s unless told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// How long it may say nothing; as long as it may take, unless told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_output_timeout_ms: Option<u64>,
    /// How much it may say; 1 MiB unless told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_output_bytes: Option<u64>,
    /// Whether it has to answer in JSON; else, asked for one secret, it may print just that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json_only: Option<bool>,
    /// Its environment, beside `passEnv`.
    pub env: BTreeMap<String, String>,
    /// Variables of the gateway's environment that it gets; it gets no others.
    pub pass_env: Vec<String>,
    /// Where it has to be; anywhere, if nothing is named.
    pub trusted_dirs: Vec<String>,
    /// OpenClaw's plugins are not run here: references to one have no value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin_integration: Option<Value>,
}

/// Says what the tag is for.
fn with_source(schema: &mut Schema) {
    let forms = schema.get_mut("oneOf").and_then(Value::as_array_mut);
    for form in forms.into_iter().flatten() {
        form["properties"]["source"]["description"] = "The kind of place.".into();
    }
}

/// Hides what programs that are asked have in their environment.
pub(super) fn conceal(document: &mut Value) {
    let providers = document.pointer_mut("/secrets/providers").and_then(Value::as_object_mut);
    for provider in providers.into_iter().flat_map(|providers| providers.values_mut()) {
        let values = provider.get_mut("env").and_then(Value::as_object_mut);
        values
            .into_iter()
            .flat_map(|values| values.values_mut())
            .for_each(|value| *value = redacted_secret(value));
    }
}

#[cfg(test)]
mod tests {
    use super::super::redacted;
    use super::*;
    use serde_json::json;

    #[test]
    fn openclaws_forms_are_read() {
        let read: SecretsSettings = serde_json::from_value(json!({
            "providers": {
                "default": { "source": "env" },
                "some": { "source": "env", "allowlist": ["A"] },
                "teamstore": { "source": "store" },
                "filemain": { "source": "file", "path": "~/s.json", "mode": "json" },
                "one": { "source": "file", "path": "/k", "mode": "singleValue", "maxBytes": 10 },
                "vault": { "source": "exec", "command": "/bin/v", "passEnv": ["PATH"], "jsonOnly": false },
                "team": { "source": "exec", "pluginIntegration": { "pluginId": "a", "integrationId": "b" } },
            },
            "defaults": { "env": "default", "file": "filemain", "exec": "vault", "store": "teamstore" },
        }))
        .unwrap();
        let Some(SecretProvider::File(one)) = read.providers.get("one") else { panic!("a file") };
        assert_eq!((one.mode, one.max_bytes), (FileMode::SingleValue, Some(10)));
        let Some(SecretProvider::Exec(vault)) = read.providers.get("vault") else { panic!("a program") };
        assert_eq!((vault.json_only, &*vault.pass_env[0]), (Some(false), "PATH"));
        assert_eq!((read.defaults.exec.as_deref(), read.strict), (Some("vault"), false));
    }

    #[test]
    fn what_programs_are_given_is_not_shown() {
        let shown = redacted(&json!({
            "secrets": { "providers": { "v": { "source": "exec", "command": "/v", "env": { "ADDR": "s3cret" } } } },
        }));
        assert!(!shown.to_string().contains("s3cret"), "{shown}");
    }
}

//! `skills`: which skills agents may use, and with which keys.

use super::SecretInput;
use super::agents::expanded;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// `skills`: which skills agents may use, and with which keys.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SkillsSettings {
    /// Where skills are looked for besides.
    pub load: SkillsLoad,
    /// What is set for single skills, by their key.
    pub entries: BTreeMap<String, SkillEntry>,
}

/// `skills.load`: where skills are looked for besides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct SkillsLoad {
    /// Directories of skill folders, after the workspace and the managed ones.
    pub extra_dirs: Vec<String>,
}

impl SkillsLoad {
    /// The directories, `~/` resolved.
    pub fn dirs(&self) -> impl Iterator<Item = PathBuf> {
        self.extra_dirs.iter().map(|dir| expanded(dir))
    }
}

/// `skills.entries.<key>`: what is set for one skill.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct SkillEntry {
    /// Whether it may be used.
    pub enabled: bool,
    /// Value of the variable that the skill calls its primary one.
    pub api_key: Option<SecretInput>,
    /// Variables it needs, where the gateway's environment has none of that name.
    pub env: BTreeMap<String, SecretInput>,
}

impl Default for SkillEntry {
    fn default() -> Self {
        Self { enabled: true, api_key: None, env: BTreeMap::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skill_is_enabled_unless_it_is_said_otherwise() {
        let read: SkillsSettings = serde_json::from_str(
            r#"{"load": {"extraDirs": ["/srv/skills"]},
                "entries": {"a": {"apiKey": "${KEY}", "env": {"X": "1"}}, "b": {"enabled": false}}}"#,
        )
        .unwrap();
        assert!(read.entries["a"].enabled && !read.entries["b"].enabled);
        assert!(read.entries["a"].api_key == Some(SecretInput::Text("${KEY}".into())));
        assert_eq!(read.load.dirs().collect::<Vec<_>>(), [PathBuf::from("/srv/skills")]);
    }
}

//! Whether a skill can work here: programs, variables, configuration and platform.

use super::manifest::Requires;
use super::scan::Skill;
use crate::settings::{Loaded, Secret, SkillEntry};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;

/// The machine skills run on.
pub struct Machine {
    os: &'static str,
    path: OsString,
    variable: fn(&str) -> Option<String>,
    /// Programs that were looked for already.
    known: RefCell<HashMap<String, bool>>,
}

/// How a skill is off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fitness {
    /// The configuration says it may not be used.
    pub disabled: bool,
    /// It is for other platforms.
    pub foreign: bool,
    /// What is missing of what it requires.
    pub missing: Requires,
    /// The paths of the configuration it requires, and whether they are set.
    pub config: Vec<(String, bool)>,
    /// Whether it can be used.
    pub eligible: bool,
}

impl Machine {
    /// This one.
    pub fn here() -> Self {
        let os = match std::env::consts::OS {
            "macos" => "darwin",
            "windows" => "win32",
            other => other,
        };
        let path = std::env::var_os("PATH").unwrap_or_default();
        Self { os, path, variable: |name| std::env::var(name).ok(), known: RefCell::default() }
    }

    /// OpenClaw's word for its platform.
    pub fn os(&self) -> &'static str {
        self.os
    }

    /// Whether something for these platforms is for this one.
    pub fn is_among(&self, os: &[String]) -> bool {
        os.is_empty() || os.iter().any(|os| os == self.os)
    }

    /// Whether a variable of the environment has a value.
    pub fn has_variable(&self, name: &str) -> bool {
        (self.variable)(name).is_some_and(|value| !value.trim().is_empty())
    }

    /// The value that the configuration has for a variable of a skill.
    fn configured(&self, skill: &Skill, entry: &SkillEntry, name: &str) -> Option<Secret> {
        let primary = skill.manifest.needs.primary_env.as_deref() == Some(name);
        let input = entry.env.get(name).or(entry.api_key.as_ref().filter(|_| primary))?;
        input.resolve(name, &self.variable).ok()
    }

    /// The variables that the configuration has for a skill, and the environment has not.
    pub fn variables(&self, skill: &Skill, loaded: &Loaded) -> Vec<(String, Secret)> {
        let Some(entry) = loaded.settings.skills.entries.get(skill.key()) else { return vec![] };
        let names = entry.env.keys().chain(&skill.manifest.needs.primary_env);
        let names = names.filter(|name| !self.has_variable(name));
        names.filter_map(|name| Some((name.clone(), self.configured(skill, entry, name)?))).collect()
    }

    /// Whether there is such a program.
    fn has_program(&self, name: &str) -> bool {
        if let Some(known) = self.known.borrow().get(name) {
            return *known;
        }
        let program = |dir: std::path::PathBuf| {
            dir.join(name)
                .metadata()
                .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        };
        let found = !name.is_empty() && !name.contains('/') && std::env::split_paths(&self.path).any(program);
        self.known.borrow_mut().insert(name.to_owned(), found);
        found
    }

    /// How a skill is off here.
    pub fn fitness(&self, skill: &Skill, loaded: &Loaded) -> Fitness {
        let needs = &skill.manifest.needs;
        let entry = loaded.settings.skills.entries.get(skill.key());
        let set = |path: &String| (path.clone(), is_set(&loaded.raw, path));
        let config: Vec<_> = needs.requires.config.iter().map(set).collect();
        let given = |name: &str| {
            self.has_variable(name)
                || entry.is_some_and(|entry| self.configured(skill, entry, name).is_some())
        };
        let without = |all: &[String], there: &dyn Fn(&str) -> bool| -> Vec<String> {
            all.iter().filter(|name| !there(name)).cloned().collect()
        };
        let program = |name: &str| self.has_program(name);
        let any = &needs.requires.any_bins;
        let missing = Requires {
            bins: without(&needs.requires.bins, &program),
            any_bins: if any.iter().any(|name| program(name)) { vec![] } else { any.clone() },
            env: without(&needs.requires.env, &given),
            config: config.iter().filter(|(_, set)| !set).map(|(path, _)| path.clone()).collect(),
        };
        let disabled = entry.is_some_and(|entry| !entry.enabled);
        let foreign = !self.is_among(&needs.os);
        let eligible = !disabled && !foreign && (needs.always || missing == Requires::default());
        Fitness { disabled, foreign, missing, config, eligible }
    }
}

impl Fitness {
    /// Why it cannot be used, on one line.
    pub fn why_not(&self, os: &[String]) -> Option<String> {
        if self.eligible {
            return None;
        }
        if self.disabled {
            return Some("it is switched off in the configuration".into());
        }
        if self.foreign {
            return Some(format!("it works on {} only", os.join(" and ")));
        }
        let Requires { bins, any_bins, env, config } = &self.missing;
        let parts = [
            ("these programs", bins, ", "),
            ("one of these programs", any_bins, " or "),
            ("these variables", env, ", "),
            ("these settings", config, ", "),
        ];
        let part = |(what, names, between): (&str, &Vec<String>, &str)| {
            (!names.is_empty()).then(|| format!("{what}: {}", names.join(between)))
        };
        Some(format!("it needs {}", parts.into_iter().filter_map(part).collect::<Vec<_>>().join("; ")))
    }
}

/// Whether the value at a path of the document is there and not off.
fn is_set(document: &Value, path: &str) -> bool {
    match path.split('.').try_fold(document, |value, key| value.get(key)) {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::String(text)) => !text.trim().is_empty(),
        Some(Value::Number(number)) => number.as_f64() != Some(0.0),
        Some(_) => true,
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::settings::Settings;
    use crate::skills::manifest;
    use crate::skills::scan::Source;
    use serde_json::json;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    pub fn loaded(raw: Value, state_dir: &Path) -> Loaded {
        Loaded {
            path: state_dir.join("openclaw.json"),
            exists: true,
            text: String::new(),
            settings: serde_json::from_value::<Settings>(raw.clone()).unwrap(),
            raw,
            warnings: vec![],
            hash: String::new(),
            state_dir: state_dir.to_owned(),
            auth: None,
            origin: Default::default(),
        }
    }

    fn machine(os: &'static str, path: &Path) -> Machine {
        let variable = |name: &str| match name {
            "HERE" => Some("1".to_owned()),
            "BLANK" => Some(" ".to_owned()),
            _ => None,
        };
        Machine { os, path: path.into(), variable, known: RefCell::default() }
    }

    fn skill(openclaw: Value) -> Skill {
        let text =
            format!("---\nname: x\ndescription: y\nmetadata: {}\n---\n", json!({ "openclaw": openclaw }));
        let manifest = Arc::new(manifest::parse(text.as_bytes()).unwrap());
        Skill { manifest, source: Source::Managed, dir: PathBuf::from("/x") }
    }

    #[test]
    fn everything_required_has_to_be_there() {
        let bin = tempfile::tempdir().unwrap();
        for (name, mode) in [("tool", 0o755), ("plain", 0o644)] {
            std::fs::write(bin.path().join(name), "").unwrap();
            std::fs::set_permissions(bin.path().join(name), PermissionsExt::from_mode(mode)).unwrap();
        }
        std::fs::create_dir(bin.path().join("folder")).unwrap();
        let here = machine("linux", bin.path());
        let config = json!({
            "skills": { "entries": { "x": { "apiKey": "k", "env": { "GIVEN": "v" } } } },
            "browser": { "enabled": true, "off": false, "zero": 0, "blank": "", "list": [] },
        });
        let with = loaded(config, bin.path());
        let missing = |requires: Value| {
            let fitness = here.fitness(&skill(json!({ "requires": requires, "primaryEnv": "KEY" })), &with);
            let Requires { bins, any_bins, env, config } = fitness.missing.clone();
            let all = [bins, any_bins, env, config].concat();
            assert_eq!(fitness.eligible, all.is_empty());
            assert_eq!(fitness.why_not(&[]).is_none(), all.is_empty());
            all
        };
        assert_eq!(missing(json!({})), [""; 0]);
        let bins = json!({ "bins": ["tool", "plain", "folder", "gone", "../tool"] });
        assert_eq!(missing(bins), ["plain", "folder", "gone", "../tool"]);
        assert_eq!(missing(json!({ "anyBins": ["gone", "tool"] })), [""; 0]);
        assert_eq!(missing(json!({ "anyBins": ["gone", "lost"] })), ["gone", "lost"]);
        let env = json!({ "env": ["HERE", "BLANK", "GONE", "GIVEN", "KEY"] });
        assert_eq!(missing(env), ["BLANK", "GONE"]);
        let paths =
            ["browser.enabled", "browser.list", "browser.off", "browser.zero", "browser.blank", "a.b"];
        assert_eq!(missing(json!({ "config": paths })), paths[2..]);
    }

    #[test]
    fn platform_and_switch_count_even_for_what_always_works() {
        let dir = tempfile::tempdir().unwrap();
        let here = machine("linux", dir.path());
        let plain = loaded(json!({}), dir.path());
        let always = skill(json!({ "always": true, "requires": { "bins": ["gone"] } }));
        let fitness = here.fitness(&always, &plain);
        assert!(fitness.eligible && fitness.missing.bins == ["gone"]);
        let foreign = skill(json!({ "always": true, "os": ["darwin", "win32"] }));
        let fitness = here.fitness(&foreign, &plain);
        assert!(!fitness.eligible && fitness.foreign);
        assert_eq!(fitness.why_not(&foreign.manifest.needs.os).unwrap(), "it works on darwin and win32 only");
        assert!(machine("darwin", dir.path()).fitness(&foreign, &plain).eligible);

        let off = json!({ "skills": { "entries": { "other": { "enabled": false } } } });
        let off = loaded(off, dir.path());
        assert!(here.fitness(&always, &off).eligible);
        let keyed = skill(json!({ "skillKey": "other" }));
        let fitness = here.fitness(&keyed, &off);
        assert!(fitness.disabled && !fitness.eligible);
        assert!(fitness.why_not(&[]).unwrap().contains("switched off"));
    }

    #[test]
    fn what_is_missing_is_told_on_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let requires = json!({ "bins": ["a"], "anyBins": ["b", "c"], "env": ["D"], "config": ["e.f"] });
        let fitness = machine("linux", dir.path())
            .fitness(&skill(json!({ "requires": requires })), &loaded(json!({}), dir.path()));
        assert_eq!(
            fitness.why_not(&[]).unwrap(),
            "it needs these programs: a; one of these programs: b or c; these variables: D; these settings: e.f"
        );
        assert_eq!(fitness.config, [("e.f".to_owned(), false)]);
    }
}

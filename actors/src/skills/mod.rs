//! Skills: folders with a `SKILL.md` that tells a model how to do one kind of work. A model is told the names and
//! descriptions of those that work here, and reads the rest when it needs it.
//!
//! | module | what |
//! |---|---|
//! | `manifest` | what a `SKILL.md` says of its skill |
//! | `scan` | which skills there are, and what is broken |
//! | `fitness` | which of them work here |
//! | `listing` | what a model is told of them |
//! | `reading` | the tool a model reads them with |
//! | `remote` | those that connected nodes offer |
//! | `install`, `parcel`, `git` | how one comes to be here |
//!
//! Nothing is read when the gateway starts: whoever asks waits for the disk, on a thread that may.

mod fitness;
mod git;
mod install;
mod listing;
mod manifest;
mod parcel;
mod reading;
mod remote;
mod scan;

pub use fitness::{Fitness, Machine};
pub use install::{Installed, Order, Origin};
pub(crate) use manifest::parse as parse_skill;
pub use manifest::{Installer, Manifest, Needs, Requires};
pub use reading::{SKILL_READ, SkillRead};
pub use scan::{Broken, Skill, Source, managed};

use crate::nodes::Offer;
use crate::settings::{Loaded, Secret};
use listing::Entry;
use scan::{Readings, roots};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::task::spawn_blocking;

/// The skills of this gateway. They live in files; what is kept here saves reading them again.
#[derive(Default)]
pub struct Skills {
    readings: Readings,
    /// Held while one is installed.
    installing: Arc<tokio::sync::Mutex<()>>,
}

/// The skills of an agent.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// All that are whole, by name, and whether they work here.
    pub skills: Vec<(Skill, Fitness)>,
    /// What cannot be used, and why.
    pub broken: Vec<Broken>,
}

impl Skills {
    /// Looks for the skills of an agent; takes its time.
    pub fn look(&self, loaded: &Loaded, agent_id: &str) -> Survey {
        let machine = Machine::here();
        let found = self.readings.scan(&roots(loaded, agent_id));
        let judged = |skill: Skill| {
            let fitness = machine.fitness(&skill, loaded);
            (skill, fitness)
        };
        Survey { skills: found.skills.into_iter().map(judged).collect(), broken: found.broken }
    }

    /// The same, on a thread that may wait for the disk.
    pub async fn survey(self: &Arc<Self>, loaded: Arc<Loaded>, agent_id: &str) -> Survey {
        let (this, agent_id) = (self.clone(), agent_id.to_owned());
        spawn_blocking(move || this.look(&loaded, &agent_id)).await.unwrap_or_default()
    }

    /// What a model is told of the skills of its agent and those of nodes; nothing if there is none for it.
    pub async fn listing(
        self: &Arc<Self>,
        loaded: Arc<Loaded>,
        agent_id: &str,
        offers: &[Offer],
    ) -> Option<String> {
        let survey = self.survey(loaded, agent_id).await;
        let visible =
            |(skill, fitness): &&(Skill, Fitness)| fitness.eligible && skill.manifest.model_invocable;
        let far = remote::remote(offers, survey.skills.iter().map(|(skill, _)| &*skill.manifest.name));
        let here = survey.skills.iter().filter(visible).map(|(skill, _)| Entry::from(skill));
        listing::text(here.chain(far.iter().filter(|skill| skill.model_invocable).map(Entry::from)))
    }

    /// The variables that programs of an agent's skills need and the gateway's environment does not have, from
    /// `skills.entries`.
    pub async fn variables(
        self: &Arc<Self>,
        loaded: Arc<Loaded>,
        agent_id: &str,
    ) -> BTreeMap<String, Secret> {
        let (machine, survey) = (Machine::here(), self.survey(loaded.clone(), agent_id).await);
        let eligible = survey.skills.iter().filter(|(_, fitness)| fitness.eligible);
        eligible.flat_map(|(skill, _)| machine.variables(skill, &loaded)).collect()
    }

    /// The programs that skills of any agent ask for or bring, whether they are there or not; takes its time.
    pub fn bins(&self, loaded: &Loaded) -> BTreeSet<String> {
        let mut bins = BTreeSet::new();
        for agent_id in loaded.settings.agent_ids() {
            for skill in self.readings.scan(&roots(loaded, agent_id)).skills {
                let needs = &skill.manifest.needs;
                let brought = needs.install.iter().flat_map(|installer| &installer.bins);
                let all = needs.requires.bins.iter().chain(&needs.requires.any_bins).chain(brought);
                bins.extend(all.filter(|bin| !bin.is_empty()).cloned());
            }
        }
        bins
    }
}

#[cfg(test)]
mod tests {
    use super::fitness::tests::loaded;
    use super::*;
    use serde_json::json;
    use std::path::Path;

    fn skill(state: &Path, folder: &str, name: &str, more: &str) {
        let dir = state.join(folder).join(name);
        std::fs::create_dir_all(&dir).unwrap();
        let text = format!("---\nname: {name}\ndescription: about {name}\n{more}\n---\n");
        std::fs::write(dir.join("SKILL.md"), text).unwrap();
    }

    #[tokio::test]
    async fn models_hear_of_what_works_and_is_meant_for_them() {
        let state = tempfile::tempdir().unwrap();
        skill(state.path(), "workspace/skills", "one", "");
        skill(state.path(), "skills", "two", "");
        skill(state.path(), "skills", "hidden", "disable-model-invocation: true");
        let lost = r#"metadata: {"openclaw": {"requires": {"bins": ["no-such-program"]}}}"#;
        skill(state.path(), "skills", "lost", lost);
        skill(state.path(), "workspace-b/skills", "other", "");
        let agents = json!({ "agents": { "list": [{ "id": "main" }, { "id": "b" }] } });
        let (skills, loaded) = (Arc::<Skills>::default(), Arc::new(loaded(agents, state.path())));
        let text = skills.listing(loaded.clone(), "main", &[]).await.unwrap();
        for (name, told) in
            [("one", true), ("two", true), ("hidden", false), ("lost", false), ("other", false)]
        {
            assert_eq!(text.contains(&format!("<name>{name}</name>")), told, "{name}: {text}");
        }
        assert!(skills.listing(loaded.clone(), "b", &[]).await.unwrap().contains("<name>other</name>"));
        assert_eq!(skills.bins(&loaded).into_iter().collect::<Vec<_>>(), ["no-such-program"]);
    }

    #[tokio::test]
    async fn keys_of_the_configuration_become_variables_of_what_works() {
        let state = tempfile::tempdir().unwrap();
        let needs = r#"metadata: {"openclaw": {"requires": {"env": ["WORDS_KEY", "WORDS_URL"]}, "primaryEnv": "WORDS_KEY"}}"#;
        skill(state.path(), "skills", "words", needs);
        let entry = |entry| json!({ "skills": { "entries": { "words": entry } } });
        let variables = async |entry: serde_json::Value| {
            let loaded = Arc::new(loaded(entry, state.path()));
            let found = Arc::<Skills>::default().variables(loaded, "main").await;
            found.iter().map(|(name, value)| format!("{name}={}", value.expose())).collect::<Vec<_>>()
        };
        let whole = json!({ "apiKey": "k", "env": { "WORDS_URL": "u", "PATH": "/evil" } });
        assert_eq!(variables(entry(whole)).await, ["WORDS_KEY=k", "WORDS_URL=u"]);
        assert_eq!(
            variables(entry(json!({ "apiKey": "k" }))).await,
            [""; 0],
            "it does not work without the other"
        );
        let unset = json!({ "apiKey": "${CRABTREE_NO_SUCH_VARIABLE}", "env": { "WORDS_URL": "u" } });
        assert_eq!(variables(entry(unset)).await, [""; 0]);
    }
}

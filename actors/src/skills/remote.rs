//! Skills that connected nodes offer: their files and programs stay there, and what they ask for runs there.

use super::manifest::parse;
use crate::nodes::Offer;
use std::collections::{BTreeMap, BTreeSet};

/// The longest name of a skill, and how much of it says which node's it is if that must be said.
const MAX_NAME: usize = 64;
const MAX_NODE: usize = 24;

/// A skill at a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteSkill {
    /// What models call it.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Where its `SKILL.md` is: `node://ID/skills/NAME/SKILL.md`.
    pub location: String,
    /// The node.
    pub node_id: String,
    /// Its `SKILL.md`.
    pub content: String,
    /// Whether models hear of it.
    pub model_invocable: bool,
}

impl RemoteSkill {
    /// The folder it is in.
    pub fn folder(&self) -> &str {
        self.location.strip_suffix("/SKILL.md").unwrap_or(&self.location)
    }
}

/// The skills of these offers. A name that a skill of this machine has, or two nodes give, says whose it is.
pub fn remote<'a>(offers: &[Offer], local: impl Iterator<Item = &'a str>) -> Vec<RemoteSkill> {
    let mut used: BTreeSet<String> = local.map(str::to_owned).collect();
    let each = || offers.iter().flat_map(|offer| offer.skills.iter().map(move |skill| (offer, skill)));
    let mut counts = BTreeMap::<&str, usize>::new();
    for (_, skill) in each() {
        *counts.entry(skill.name.as_str()).or_default() += 1;
    }
    let mut skills = Vec::new();
    for (offer, skill) in each() {
        let own = skill.name.as_str();
        let prefixed = prefixed(&offer.node_id, own);
        let alone = counts.get(own) == Some(&1) && !used.contains(own);
        let name = if alone { own.to_owned() } else { prefixed };
        if !used.insert(name.clone()) {
            tracing::warn!(target: "crabtree::skills", node = %offer.node_id, skill = own, "left out: its name is taken");
            continue;
        }
        skills.push(RemoteSkill {
            name,
            description: skill.description.as_str().to_owned(),
            location: format!("node://{}/skills/{own}/SKILL.md", offer.node_id),
            node_id: offer.node_id.clone(),
            content: skill.content.as_str().to_owned(),
            model_invocable: parse(skill.content.as_bytes()).is_ok_and(|read| read.model_invocable),
        });
    }
    skills.sort_by(|a, b| a.name.cmp(&b.name));
    skills
}

fn prefixed(node_id: &str, name: &str) -> String {
    let node: String = node_id.chars().filter(char::is_ascii_alphanumeric).take(MAX_NODE).collect();
    let mut name = format!("{}-{name}", node.to_ascii_lowercase());
    name.truncate(MAX_NAME);
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn offer(node_id: &str, names: &[&str]) -> Offer {
        let skill = |name: &&str| {
            let content = format!("---\nname: {name}\ndescription: about\n---\nDo it.");
            serde_json::from_value(json!({ "name": name, "description": "about", "content": content }))
                .unwrap()
        };
        Offer {
            node_id: node_id.into(),
            name: node_id.into(),
            remote_ip: None,
            tools: Vec::new(),
            skills: names.iter().map(skill).collect(),
        }
    }

    #[test]
    fn a_name_says_whose_a_skill_is_where_it_must() {
        let offers = [offer("aa", &["lamp", "notes", "door"]), offer("bb", &["lamp"])];
        let found = remote(&offers, ["notes"].into_iter());
        let names: Vec<&str> = found.iter().map(|skill| &*skill.name).collect();
        assert_eq!(names, ["aa-lamp", "aa-notes", "bb-lamp", "door"]);
        assert_eq!(found[3].location, "node://aa/skills/door/SKILL.md");
        assert_eq!(found[3].folder(), "node://aa/skills/door");
        assert_eq!(found[0].location, "node://aa/skills/lamp/SKILL.md");
        assert!(found[3].model_invocable);
    }
}

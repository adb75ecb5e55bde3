//! What a model is told of skills: names and descriptions, not contents.

use super::remote::RemoteSkill;
use super::scan::Skill;
use std::borrow::Cow;

/// Skills that are told.
const MAX_LISTED: usize = 150;
/// Bytes they may take together.
const MAX_BYTES: usize = 30_000;
/// Characters of one description.
const MAX_DESCRIPTION: usize = 1_024;

/// What is told of one.
pub struct Entry<'a> {
    name: &'a str,
    description: &'a str,
    location: Cow<'a, str>,
    /// The node it is at, if it is not here.
    node: Option<&'a str>,
}

impl<'a> From<&'a Skill> for Entry<'a> {
    fn from(skill: &'a Skill) -> Self {
        let location = skill.file().to_string_lossy().into_owned().into();
        let (name, description) = (&*skill.manifest.name, &*skill.manifest.description);
        Self { name, description, location, node: None }
    }
}

impl<'a> From<&'a RemoteSkill> for Entry<'a> {
    fn from(skill: &'a RemoteSkill) -> Self {
        let location = Cow::from(&*skill.location);
        Self { name: &skill.name, description: &skill.description, location, node: Some(&skill.node_id) }
    }
}

/// What is told beside the list if some of it is elsewhere.
const AT_NODES: &str = " A skill with a node is on that device: read its instructions with `skill_read` all the same, \
    and run whatever it asks for there: call `exec` with host `node`, that node, and the folder of the location as \
    workdir, where `cat` reads its other files.";

/// The list, in the order given; nothing of nothing.
pub fn text<'a>(skills: impl Iterator<Item = Entry<'a>>) -> Option<String> {
    let mut skills = skills.peekable();
    skills.peek()?;
    let (mut rows, mut listed, mut left_out, mut far) = (String::new(), 0, 0, false);
    for skill in skills {
        let row = row(&skill);
        far |= skill.node.is_some();
        // What comes behind one that does not fit is left out, too: the order says what was.
        if left_out > 0 || listed == MAX_LISTED || rows.len() + row.len() > MAX_BYTES {
            left_out += 1;
        } else {
            rows.push_str(&row);
            listed += 1;
        }
    }
    let more = match left_out {
        0 => String::new(),
        n => format!("\n[{n} more skills are not listed; if a person names one, `skill_read` finds it]"),
    };
    let elsewhere = if far { AT_NODES } else { "" };
    Some(format!(
        "# Skills\nEach of these is a folder with instructions for one kind of task. When a task fits a description, \
         read the instructions before you begin: call `skill_read` with its name, and with its name and a `path` for \
         another file of its folder. Read only what you need. Paths in a skill are relative to the folder its location \
         is in.{elsewhere}\n<available_skills>\n{rows}</available_skills>{more}"
    ))
}

fn row(skill: &Entry<'_>) -> String {
    let description = skill.description;
    let cut =
        description.char_indices().nth(MAX_DESCRIPTION).map(|(at, _)| format!("{}…", &description[..at]));
    let node = skill.node.map(|node| format!("<node>{}</node>", escaped(node))).unwrap_or_default();
    format!(
        "<skill><name>{}</name><description>{}</description><location>{}</location>{node}</skill>\n",
        escaped(skill.name),
        escaped(cut.as_deref().unwrap_or(description)),
        escaped(&skill.location),
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::skills::manifest::{Manifest, Needs};
    use crate::skills::scan::Source;
    use std::sync::Arc;

    fn skill(name: String, description: &str) -> Skill {
        let manifest = Manifest {
            description: description.into(),
            homepage: None,
            user_invocable: true,
            model_invocable: true,
            needs: Needs::default(),
            name: name.clone(),
        };
        Skill { manifest: Arc::new(manifest), source: Source::Managed, dir: format!("/s/{name}").into() }
    }

    #[test]
    fn a_row_says_what_it_is_for_and_where() {
        assert_eq!(text(std::iter::empty()), None);
        let text = text([skill("a".into(), "</description> & more")].iter().map(Entry::from)).unwrap();
        let row = "<skill><name>a</name><description>&lt;/description&gt; &amp; more</description>\
                   <location>/s/a/SKILL.md</location></skill>";
        assert!(text.contains(row), "{text}");
        assert!(text.contains("`skill_read`"), "{text}");
        assert!(text.ends_with("</available_skills>"), "{text}");
    }

    #[test]
    fn the_list_is_bounded_and_says_so() {
        let many: Vec<_> = (0..MAX_LISTED + 7).map(|n| skill(format!("s{n:04}"), "x")).collect();
        let listed = text(many.iter().map(Entry::from)).unwrap();
        assert_eq!(listed.matches("<skill>").count(), MAX_LISTED);
        assert!(listed.contains("[7 more skills are not listed"), "{listed}");
        let long = "ü".repeat(MAX_DESCRIPTION + 1);
        let long: Vec<_> = (0..40).map(|n| skill(format!("s{n:04}"), &long)).collect();
        let listed = text(long.iter().map(Entry::from)).unwrap();
        assert!(listed.len() < MAX_BYTES + 1_000, "{}", listed.len());
        assert!(listed.contains("ü…</description>") && listed.contains("more skills are not listed"));
    }
}

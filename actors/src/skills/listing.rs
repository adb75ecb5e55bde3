//! What a model is told of skills: names and descriptions, not contents.

use super::scan::Skill;

/// Skills that are told.
const MAX_LISTED: usize = 150;
/// Bytes they may take together.
const MAX_BYTES: usize = 30_000;
/// Characters of one description.
const MAX_DESCRIPTION: usize = 1_024;

/// The list, in the order given; nothing of nothing.
pub fn text<'a>(skills: impl Iterator<Item = &'a Skill>) -> Option<String> {
    let mut skills = skills.peekable();
    skills.peek()?;
    let (mut rows, mut listed, mut left_out) = (String::new(), 0, 0);
    for skill in skills {
        let row = row(skill);
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
    Some(format!(
        "# Skills\nEach of these is a folder with instructions for one kind of task. When a task fits a description, \
         read the instructions before you begin: call `skill_read` with its name, and with its name and a `path` for \
         another file of its folder. Read only what you need. Paths in a skill are relative to the folder its location \
         is in.\n<available_skills>\n{rows}</available_skills>{more}"
    ))
}

fn row(skill: &Skill) -> String {
    let description = &skill.manifest.description;
    let cut =
        description.char_indices().nth(MAX_DESCRIPTION).map(|(at, _)| format!("{}…", &description[..at]));
    format!(
        "<skill><name>{}</name><description>{}</description><location>{}</location></skill>\n",
        skill.manifest.name,
        escaped(cut.as_deref().unwrap_or(description)),
        escaped(&skill.file().to_string_lossy()),
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
        assert_eq!(text([].iter()), None);
        let text = text([skill("a".into(), "</description> & more")].iter()).unwrap();
        let row = "<skill><name>a</name><description>&lt;/description&gt; &amp; more</description>\
                   <location>/s/a/SKILL.md</location></skill>";
        assert!(text.contains(row), "{text}");
        assert!(text.contains("`skill_read`"), "{text}");
        assert!(text.ends_with("</available_skills>"), "{text}");
    }

    #[test]
    fn the_list_is_bounded_and_says_so() {
        let many: Vec<_> = (0..MAX_LISTED + 7).map(|n| skill(format!("s{n:04}"), "x")).collect();
        let listed = text(many.iter()).unwrap();
        assert_eq!(listed.matches("<skill>").count(), MAX_LISTED);
        assert!(listed.contains("[7 more skills are not listed"), "{listed}");
        let long = "ü".repeat(MAX_DESCRIPTION + 1);
        let long: Vec<_> = (0..40).map(|n| skill(format!("s{n:04}"), &long)).collect();
        let listed = text(long.iter()).unwrap();
        assert!(listed.len() < MAX_BYTES + 1_000, "{}", listed.len());
        assert!(listed.contains("ü…</description>") && listed.contains("more skills are not listed"));
    }
}

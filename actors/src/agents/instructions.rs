//! What a model is told before the conversation: who it is, what day it is, and what the files of its workspace say.

use crate::nodes::Offer;
use crate::settings::Loaded;
use crate::skills::Skills;
use chrono::Local;
use std::path::PathBuf;
use std::sync::Arc;
use std::{fmt, fs};

/// Files that are read into every conversation, in this order, where they are present.
const FILES: [&str; 5] = ["AGENTS.md", "SOUL.md", "IDENTITY.md", "USER.md", "TOOLS.md"];
/// What the agent remembers of its people: not for groups, where others would hear of it.
const MEMORY: &str = "MEMORY.md";
/// Characters of one file; what is behind them is left out, and the model is told so.
const MAX_CHARS: usize = 20_000;

/// Who answers, and where. Read anew for every call: files change while the gateway runs.
#[derive(Clone, Debug)]
pub struct Instructions {
    /// The agent.
    pub agent_id: String,
    /// Its name for people.
    pub name: Option<String>,
    /// The session.
    pub session: String,
    /// Whether others than the agent's own people take part in it.
    pub group: bool,
    /// Where the agent works.
    pub workspace: PathBuf,
    /// Where it finds what it knows how to do, if it may read that.
    pub library: Option<Library>,
    /// What it is told for this turn only, by whoever asks.
    pub besides: Option<String>,
}

/// The skills, and the configuration that says which of them are there for whom.
#[derive(Clone)]
pub struct Library {
    /// The skills.
    pub skills: Arc<Skills>,
    /// The configuration.
    pub loaded: Arc<Loaded>,
    /// What nodes offer, if it may run commands there.
    pub offers: Vec<Offer>,
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Library").finish_non_exhaustive()
    }
}

impl Instructions {
    /// The text, read on a thread that may wait for the disk.
    pub async fn text(mut self) -> String {
        let besides = self.besides.take();
        let listing = match &self.library {
            Some(Library { skills, loaded, offers }) => {
                skills.listing(loaded.clone(), &self.agent_id, offers).await
            }
            None => None,
        };
        let text = tokio::task::spawn_blocking(move || self.read()).await.unwrap_or_default();
        [text].into_iter().chain(listing).chain(besides).collect::<Vec<_>>().join("\n\n")
    }

    fn read(&self) -> String {
        let name = self.name.as_deref().unwrap_or("a personal assistant");
        let today = Local::now().format("%A, %Y-%m-%d");
        let mut text = format!(
            "You are {name}. People reach you through chat; you live in Crabtree, a gateway, as the agent \
             `{}`, and this conversation is the session `{}`. Today is {today}.\n\
             If nothing needs to be said, answer with NO_REPLY and nothing else.",
            self.agent_id, self.session
        );
        let names = FILES.into_iter().chain((!self.group).then_some(MEMORY));
        let files: Vec<_> = names.filter_map(|name| Some((name, self.file(name)?))).collect();
        if !files.is_empty() {
            text.push_str("\n\nThe files of your workspace follow. They say who you are and what you know.");
        }
        for (name, content) in files {
            text.push_str(&format!("\n\n# {name}\n{content}"));
        }
        text
    }

    /// A file of the workspace itself: a link could lead out of it.
    fn file(&self, name: &str) -> Option<String> {
        let path = self.workspace.join(name);
        let plain = fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file());
        let content = String::from_utf8_lossy(&plain.then(|| fs::read(&path).ok())??).trim().to_owned();
        let Some((at, _)) = content.char_indices().nth(MAX_CHARS) else {
            return (!content.is_empty()).then_some(content);
        };
        let more = content[at..].chars().count();
        Some(format!("{}\n[{more} more characters of {name} are not shown]", &content[..at]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(workspace: &std::path::Path, group: bool) -> Instructions {
        Instructions {
            agent_id: "main".into(),
            name: None,
            session: "agent:main:main".into(),
            group,
            workspace: workspace.to_owned(),
            library: None,
            besides: None,
        }
    }

    #[test]
    fn files_are_read_in_their_order_and_memory_not_in_groups() {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in
            [("SOUL.md", "kind\n"), ("AGENTS.md", "rules"), (MEMORY, "secret"), ("USER.md", " ")]
        {
            fs::write(dir.path().join(name), content).unwrap();
        }
        let text = of(dir.path(), false).read();
        assert!(text.contains("# AGENTS.md\nrules\n\n# SOUL.md\nkind\n\n# MEMORY.md\nsecret"), "{text}");
        assert!(!text.contains("USER.md"), "what is empty is left out: {text}");
        assert!(!of(dir.path(), true).read().contains("secret"));
        assert!(!of(&dir.path().join("gone"), false).read().contains('#'));
    }

    #[test]
    fn no_link_is_followed_and_a_long_file_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("outside"), "secret").unwrap();
        std::os::unix::fs::symlink(dir.path().join("outside"), dir.path().join("SOUL.md")).unwrap();
        fs::write(dir.path().join("USER.md"), "ä".repeat(MAX_CHARS + 7)).unwrap();
        let text = of(dir.path(), false).read();
        assert!(!text.contains("secret"));
        assert!(text.ends_with("ä\n[7 more characters of USER.md are not shown]"), "its end is told");
    }
}

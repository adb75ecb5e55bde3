//! `skill_read`: a model reads a skill, or another file of its folder.

use super::manifest::MAX_FILE;
use super::remote::remote;
use super::scan::{FILE, Skill};
use crate::nodes::Offer;
use crate::settings::Loaded;
use crate::skills::Skills;
use crate::tools::{Call, Definition, Effects, Permission, Sandbox, Tool, ToolResult};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::json;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path};
use std::time::Duration;

/// How long the disk may take.
const LIMIT: Duration = Duration::from_secs(20);
/// Names that are told when there is no such file.
const MAX_NAMES: usize = 50;

/// The tool's name.
pub const SKILL_READ: &str = "skill_read";

/// The tool.
pub struct SkillRead {
    definition: Definition,
}

impl Default for SkillRead {
    fn default() -> Self {
        let name = json!({ "type": "string", "description": "Name of the skill, as it is listed" });
        let path = json!({
            "type": "string",
            "description": "A file of the skill's folder, relative to it; SKILL.md, the instructions, if it is left out"
        });
        let parameters = json!({
            "type": "object",
            "properties": { "name": name, "path": path },
            "required": ["name"],
            "additionalProperties": false,
        });
        let definition = Definition {
            name: SKILL_READ.into(),
            label: "Skill".into(),
            description: "Reads the instructions of a skill, or another text file of its folder.".into(),
            parameters,
            group: "skills".into(),
            permissions: vec![Permission::FsRead],
            timeout: LIMIT,
            sandbox: Sandbox::Workspace,
            effects: Effects::None,
        };
        Self { definition }
    }
}

impl Tool for SkillRead {
    fn definition(&self) -> &Definition {
        &self.definition
    }

    fn call(&self, call: Call) -> BoxFuture<'static, ToolResult> {
        let text = |key: &str| call.args[key].as_str().map(str::to_owned);
        let (name, path) = (text("name").unwrap_or_default(), text("path").unwrap_or_else(|| FILE.into()));
        let (estate, agent_id) = (call.place.store.estate.clone(), call.place.agent_id.clone());
        let read = move || {
            let loaded = estate.config.load();
            let far = estate.nodes.offers.all();
            let content = read(&estate.skills, &loaded, (&agent_id, &far), &name, &path)?;
            Ok(ToolResult::text(content).with_details(json!({ "name": name, "path": path })))
        };
        let work = async move {
            let done: Result<ToolResult, String> =
                tokio::task::spawn_blocking(read).await.unwrap_or_else(|e| Err(e.to_string()));
            done.unwrap_or_else(ToolResult::error)
        };
        work.boxed()
    }
}

/// A file of a skill that an agent may use, its own or a node's.
fn read(
    skills: &Skills,
    loaded: &Loaded,
    (agent_id, offers): (&str, &[Offer]),
    name: &str,
    path: &str,
) -> Result<String, String> {
    let survey = skills.look(loaded, agent_id);
    let Some((skill, fitness)) = survey.skills.iter().find(|(skill, _)| skill.manifest.name == name) else {
        let far = remote(offers, survey.skills.iter().map(|(skill, _)| &*skill.manifest.name));
        let skill = far.into_iter().find(|skill| skill.name == name);
        let skill = skill
            .ok_or_else(|| format!("There is no skill called {name}; use a name from the list of skills"))?;
        if path == FILE {
            return Ok(skill.content);
        }
        return Err(format!(
            "{path} is at the node {}: call exec with host node, that node, {} as workdir, and `cat`",
            skill.node_id,
            skill.folder()
        ));
    };
    match fitness.why_not(&skill.manifest.needs.os) {
        None => content(skill, path),
        Some(why) => {
            Err(format!("The skill {name} cannot be used: {why}. Tell the person, or do without it"))
        }
    }
}

fn content(skill: &Skill, path: &str) -> Result<String, String> {
    let relative = Path::new(path);
    let inside = |part: Component| matches!(part, Component::Normal(_) | Component::CurDir);
    let outside =
        || format!("{path} is not in the folder of the skill; give a path relative to it, without `..`");
    if !relative.components().all(inside) {
        return Err(outside());
    }
    let folder = skill.dir.canonicalize().map_err(|e| e.to_string())?;
    let missing = |e| format!("{path}: {e}; the folder holds: {}", names(&folder));
    let full = folder.join(relative).canonicalize().map_err(missing)?;
    if !full.starts_with(&folder) {
        return Err(outside());
    }
    let seen = fs::symlink_metadata(&full).map_err(missing)?;
    if seen.is_dir() {
        return Err(format!("{path} is a folder; it holds: {}", names(&full)));
    }
    if !seen.is_file() || seen.len() > MAX_FILE {
        return Err(format!("{path} is no file of up to {MAX_FILE} bytes; it cannot be read like this"));
    }
    let file = File::open(&full).map_err(missing)?;
    let meta = file.metadata().map_err(missing)?;
    if (meta.dev(), meta.ino()) != (seen.dev(), seen.ino()) {
        // A link was put there between the look and the opening.
        return Err(outside());
    }
    let mut text = String::new();
    file.take(MAX_FILE).read_to_string(&mut text).map_err(|e| format!("{path} is no text: {e}"))?;
    Ok(text)
}

/// What is in a folder.
fn names(folder: &Path) -> String {
    let name = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.ok()?;
        let end = if entry.file_type().ok()?.is_dir() { "/" } else { "" };
        Some(format!("{}{end}", entry.file_name().to_string_lossy()))
    };
    let mut names: Vec<_> =
        fs::read_dir(folder).into_iter().flatten().take(MAX_NAMES).filter_map(name).collect();
    names.sort_unstable();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use crate::skills::fitness::tests::loaded;
    use crate::tools::{Policy, Registry};
    use crabtree_protocol::SessionKey;
    use std::os::unix::fs::symlink;
    use std::sync::Arc;

    #[test]
    fn a_model_reads_the_folder_of_a_skill_and_nothing_else() {
        let state = tempfile::tempdir().unwrap();
        let dir = state.path().join("skills/notes");
        fs::create_dir_all(dir.join("more")).unwrap();
        fs::write(state.path().join("secret"), "secret").unwrap();
        let body = "---\nname: notes\ndescription: x\n---\nDo it.";
        fs::write(dir.join(FILE), body).unwrap();
        fs::write(dir.join("more/a.md"), "deeper").unwrap();
        fs::write(dir.join("data"), b"\xff\xfe").unwrap();
        fs::write(dir.join("big"), vec![b'x'; MAX_FILE as usize + 1]).unwrap();
        symlink("more/a.md", dir.join("inner")).unwrap();
        symlink(state.path().join("secret"), dir.join("outer")).unwrap();
        symlink(state.path(), dir.join("up")).unwrap();
        let (skills, loaded) = (Skills::default(), loaded(json!({}), state.path()));
        let read = |name: &str, path: &str| read(&skills, &loaded, ("main", &[]), name, path);
        assert_eq!(read("notes", FILE).unwrap(), body);
        assert_eq!(read("notes", "./more/a.md").unwrap(), "deeper");
        assert_eq!(read("notes", "inner").unwrap(), "deeper");
        let absolute = state.path().join("secret");
        for path in ["outer", "up/secret", "../../secret", "more/../../../secret", absolute.to_str().unwrap()]
        {
            let why = read("notes", path).unwrap_err();
            assert!(why.contains("is not in the folder of the skill"), "{path}: {why}");
        }
        let refused = [
            ("notes", "gone", "the folder holds: SKILL.md, big, data, inner, more/, outer, up"),
            ("notes", "more", "is a folder; it holds: a.md"),
            ("notes", "data", "is no text"),
            ("notes", "big", "up to 262144 bytes"),
            ("other", FILE, "There is no skill called other"),
            ("../notes", FILE, "There is no skill called"),
        ];
        for (name, path, expected) in refused {
            let why = read(name, path).unwrap_err();
            assert!(why.contains(expected), "{name} {path}: {why}");
        }
    }

    #[test]
    fn its_arguments_are_checked() {
        let registry = Registry::new([Arc::new(SkillRead::default()) as Arc<dyn Tool>]);
        let key = SessionKey::canonical("main", "main").unwrap();
        let policy = Policy::of(&Settings::default(), &key);
        let check = |args| registry.check(SKILL_READ, &args, &policy).is_ok();
        assert!(check(json!({ "name": "notes", "path": "a.md" })) && check(json!({ "name": "notes" })));
        assert!(!check(json!({ "path": "a.md" })) && !check(json!({ "name": "notes", "x": 1 })));
    }

    #[test]
    fn what_cannot_work_is_not_read() {
        let state = tempfile::tempdir().unwrap();
        let dir = state.path().join("skills/notes");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(FILE), "---\nname: notes\ndescription: x\n---\n").unwrap();
        let off = loaded(json!({ "skills": { "entries": { "notes": { "enabled": false } } } }), state.path());
        let why = read(&Skills::default(), &off, ("main", &[]), "notes", FILE).unwrap_err();
        assert!(why.contains("switched off in the configuration. Tell the person"), "{why}");
    }
}

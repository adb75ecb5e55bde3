//! Making, changing and removing agents: each is one change of the configuration file, planned here and carried out
//! by the `config` actor.

use super::super::Call;
use crate::config::edit::{Change, Step};
use crate::config::{ConfigMsg, Edit, Plan, Writing};
use crate::settings::{AgentEntry, Loaded};
use crabtree_protocol::Refusal;
use crabtree_protocol::params::agents::roster::{CreateParams, DeleteParams, UpdateParams};
use crabtree_protocol::value::{Maybe, Text};
use serde_json::{Map, Value, json};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Longest id of an agent.
const MAX_ID: usize = 64;
/// Longest name of an agent, in characters: it stands in lists and prompts.
const MAX_NAME: usize = 200;
/// Ids that OpenClaw keeps for agents of its own.
const RESERVED: [&str; 2] = ["openclaw", "crestodian"];
/// The agent there is while none is written down.
const IMPLIED: &str = "main";

pub(in crate::methods) fn create(call: Call<'_>) {
    let Some((params, call)) = call.parse::<CreateParams>() else { return };
    change(call, Box::new(move |loaded| plan_create(loaded, params)));
}

pub(in crate::methods) fn update(call: Call<'_>) {
    let Some((params, call)) = call.parse::<UpdateParams>() else { return };
    change(call, Box::new(move |loaded| plan_update(loaded, params)));
}

pub(in crate::methods) fn delete(call: Call<'_>) {
    let Some((params, call)) = call.parse::<DeleteParams>() else { return };
    change(call, Box::new(move |loaded| plan_delete(loaded, &params)));
}

fn change(call: Call<'_>, plan: Plan) {
    // An actor that is down drops the responder with the message: retryable.
    let _ = call.wiring.config.send(ConfigMsg::Edit(plan, call.responder));
}

/// The id an agent of this name gets; nothing if no letter or digit is left.
pub(super) fn agent_id(name: &str) -> Option<String> {
    let kept = |c: char| if matches!(c, 'a'..='z' | '0'..='9' | '_' | '-') { c } else { ' ' };
    let plain: String = name.trim().to_lowercase().chars().map(kept).collect();
    let joined = plain.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-");
    let id: String = joined.trim_matches('-').chars().take(MAX_ID).collect();
    (!id.is_empty()).then_some(id)
}

pub(super) fn not_found(id: &str) -> Refusal {
    Refusal::invalid_request(format!("agent \"{id}\" not found"))
}

/// A name on one line.
fn one_line(name: &str) -> Result<String, Refusal> {
    let line = name.split(|c: char| c.is_control() || c.is_whitespace()).filter(|word| !word.is_empty());
    let line = line.collect::<Vec<_>>().join(" ");
    match line.chars().count() {
        0 => Err(Refusal::invalid_request("name must not be blank")),
        count if count > MAX_NAME => {
            Err(Refusal::invalid_request(format!("name is longer than {MAX_NAME} characters")))
        }
        _ => Ok(line),
    }
}

/// Makes a workspace, for its owner only; what is there stays.
fn made(workspace: &Path) -> Result<(), Refusal> {
    if !workspace.is_absolute() {
        let text = format!("workspace \"{}\" is not an absolute path", workspace.display());
        return Err(Refusal::invalid_request(text));
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(workspace).map_err(|e| {
        let text = format!("workspace \"{}\" cannot be made: {e}; choose another", workspace.display());
        Refusal::invalid_request(text)
    })
}

fn edit(changes: Vec<Change>, answer: Value) -> Edit {
    Edit { writing: Writing::Changes(changes), answer: Box::new(move |_| answer) }
}

fn text(value: Option<Text>) -> Option<String> {
    value.map(|text| text.as_str().trim().to_owned()).filter(|text| !text.is_empty())
}

fn plan_create(loaded: &Loaded, params: CreateParams) -> Result<Edit, Refusal> {
    let name = one_line(params.name.as_str())?;
    let id = agent_id(&name).ok_or_else(|| {
        Refusal::invalid_request(format!(
            "Agent name \"{name}\" has no valid id characters. Use at least one letter a-z or digit."
        ))
    })?;
    if RESERVED.contains(&id.as_str()) {
        return Err(Refusal::invalid_request(format!("\"{id}\" is reserved")));
    }
    let taken = loaded.settings.agent_ids().into_iter().any(|known| agent_id(known).as_deref() == Some(&id));
    if taken {
        return Err(Refusal::invalid_request(format!("agent \"{id}\" already exists")));
    }
    let mut agents = loaded.settings.agents.clone();
    let workspace = text(params.workspace);
    agents.list.push(AgentEntry { id: id.clone(), workspace, ..AgentEntry::default() });
    let workspace = agents.workspace(&id, loaded.settings.default_agent_id(), &loaded.state_dir);
    made(&workspace)?;

    let mut answer = json!({ "ok": true, "agentId": id, "name": name, "workspace": workspace });
    let mut identity = json!({ "name": name });
    for (key, value) in [("emoji", params.emoji), ("avatar", params.avatar)] {
        if let Some(value) = value.filter(|value| !value.trim().is_empty()) {
            identity[key] = json!(value.trim());
        }
    }
    let mut entry = json!({ "name": name, "workspace": workspace, "identity": identity });
    if let Some(model) = text(params.model) {
        entry["model"] = json!(model);
        answer["model"] = json!(model);
    }
    let mut changes = Vec::new();
    let mut roster = Roster::of(loaded);
    if loaded.settings.agents.list.is_empty() {
        // Once somebody is written down, nobody is implied any more.
        changes.push(roster.add(IMPLIED, Map::new()));
    }
    let Value::Object(entry) = entry else { return Err(Refusal::failed("an agent is an object")) };
    changes.push(roster.add(&id, entry));
    Ok(edit(changes, answer))
}

fn plan_update(loaded: &Loaded, params: UpdateParams) -> Result<Edit, Refusal> {
    let (id, at, mut changes) = written(loaded, params.agent_id.as_str())?;
    let member = |keys: &[&str]| [at.clone(), keys.iter().map(|key| Step::from(*key)).collect()].concat();
    let mut set = |keys: &[&str], value: String| changes.push(Change::Set(member(keys), json!(value)));
    if let Some(name) = params.name {
        let name = one_line(name.as_str())?;
        set(&["name"], name.clone());
        set(&["identity", "name"], name);
    }
    if let Some(emoji) = params.emoji {
        set(&["identity", "emoji"], emoji.trim().to_owned());
    }
    if let Some(avatar) = params.avatar {
        set(&["identity", "avatar"], avatar.trim().to_owned());
    }
    if let Some(workspace) = text(params.workspace) {
        let mut agents = loaded.settings.agents.clone();
        agents.list =
            vec![AgentEntry { id: id.clone(), workspace: Some(workspace), ..AgentEntry::default() }];
        let workspace = agents.workspace(&id, &id, &loaded.state_dir);
        made(&workspace)?;
        set(&["workspace"], workspace.to_string_lossy().into_owned());
    }
    match params.model {
        Maybe::Value(model) => set(&["model"], model.as_str().trim().to_owned()),
        Maybe::Null if loaded.settings.agents.entry(&id).is_some_and(|entry| entry.model.is_some()) => {
            changes.push(Change::Remove(member(&["model"])));
        }
        Maybe::Null | Maybe::Absent => {}
    }
    Ok(edit(changes, json!({ "ok": true, "agentId": id })))
}

fn plan_delete(loaded: &Loaded, params: &DeleteParams) -> Result<Edit, Refusal> {
    let raw_id = params.agent_id.as_str();
    let id = known_id(loaded, raw_id).ok_or_else(|| not_found(raw_id))?;
    if loaded.settings.agent_ids().len() == 1 {
        let only = format!("Agent \"{id}\" is the only configured agent and cannot be deleted.");
        return Err(Refusal::invalid_request(only));
    }
    let (id, at, mut changes) = written(loaded, &id)?;
    changes.push(Change::Remove(at));
    let bindings = loaded.raw.get("bindings").and_then(Value::as_array);
    let bound =
        bindings.into_iter().flatten().enumerate().filter(|(_, binding)| binding["agentId"] == id.as_str());
    let bound: Vec<usize> = bound.map(|(index, _)| index).collect();
    // From the last to the first, so that the others keep their place.
    changes.extend(bound.iter().rev().map(|index| Change::Remove(vec!["bindings".into(), (*index).into()])));

    let workspace = params.delete_files.unwrap_or(false).then(|| loaded.workspace(&id));
    let shared = workspace.as_deref().and_then(|path| why_kept(loaded, &id, path));
    let state_dir = loaded.state_dir.clone();
    let answer = move |_: &Loaded| {
        let (mut removed, mut failed) = (Vec::new(), Vec::new());
        if let Some(path) = workspace {
            match shared.map_or_else(|| into_trash(&path, &state_dir), Err) {
                Ok(method) => removed.push(json!({ "path": path, "method": method })),
                Err(reason) => failed.push(json!({ "path": path, "reason": reason })),
            }
        }
        json!({
            "ok": true, "agentId": id, "removedBindings": bound.len(), "removed": removed, "failed": failed,
        })
    };
    Ok(Edit { writing: Writing::Changes(changes), answer: Box::new(answer) })
}

/// The id of an agent as the configuration spells it.
pub(in crate::methods) fn known_id(loaded: &Loaded, id: &str) -> Option<String> {
    let wanted = agent_id(id)?;
    let mut known = loaded.settings.agent_ids().into_iter();
    known.find(|known| agent_id(known).as_deref() == Some(&wanted)).map(str::to_owned)
}

/// The id of an agent, where it stands in the file, and what has to be written so that it stands there.
fn written(loaded: &Loaded, id: &str) -> Result<(String, Vec<Step>, Vec<Change>), Refusal> {
    let id = known_id(loaded, id).ok_or_else(|| not_found(id))?;
    let mut roster = Roster::of(loaded);
    if loaded.settings.agents.list.is_empty() {
        let added = roster.add(&id, Map::new());
        let at = added.places().concat();
        return Ok((id, at, vec![added]));
    }
    let at = roster.find(&id).ok_or_else(|| {
        let text =
            format!("agent \"{id}\" does not stand in {}; change it where it does", loaded.path.display());
        Refusal::invalid_request(text)
    })?;
    Ok((id, at, Vec::new()))
}

/// How the file holds its agents: by id, or as the older list.
struct Roster<'a> {
    agents: Option<&'a Value>,
    /// The length of the list, if there is one.
    listed: Option<usize>,
}

impl<'a> Roster<'a> {
    fn of(loaded: &'a Loaded) -> Self {
        let agents = loaded.raw.get("agents");
        let listed = agents.and_then(|agents| agents.get("list")?.as_array()).map(Vec::len);
        Self { agents, listed }
    }

    fn add(&mut self, id: &str, mut entry: Map<String, Value>) -> Change {
        match &mut self.listed {
            Some(length) => {
                let at = vec!["agents".into(), "list".into(), Step::from(*length)];
                *length += 1;
                entry.shift_insert(0, "id".to_owned(), json!(id));
                Change::Set(at, Value::Object(entry))
            }
            None => Change::Set(vec!["agents".into(), "entries".into(), id.into()], Value::Object(entry)),
        }
    }

    fn find(&self, id: &str) -> Option<Vec<Step>> {
        let agents = self.agents?;
        let mut list = agents.get("list").and_then(Value::as_array).into_iter().flatten();
        if let Some(index) = list.position(|entry| entry["id"] == id) {
            return Some(vec!["agents".into(), "list".into(), index.into()]);
        }
        let entry = agents.get("entries")?.get(id)?;
        entry.is_object().then(|| vec!["agents".into(), "entries".into(), id.into()])
    }
}

/// Why a workspace is not removed with its agent; nothing if it may be.
fn why_kept(loaded: &Loaded, id: &str, workspace: &Path) -> Option<String> {
    let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mine = real(workspace);
    let others = loaded.settings.agent_ids().into_iter().filter(|other| *other != id);
    let mut others = others.map(|other| (other, real(&loaded.workspace(other))));
    if let Some((other, _)) = others.find(|(_, path)| path.starts_with(&mine) || mine.starts_with(path)) {
        return Some(format!("agent \"{other}\" works there, too"));
    }
    let home = std::env::home_dir().map(|home| real(&home));
    let needed = [Some(real(&loaded.state_dir)), Some(real(&loaded.path)), home];
    let needed = needed.into_iter().flatten().any(|path| path.starts_with(&mine));
    needed.then(|| "it holds more than the agent's files".to_owned())
}

/// Moves a workspace into the state directory's `trash`, from where it can be taken back.
fn into_trash(workspace: &Path, state_dir: &Path) -> Result<&'static str, String> {
    if !workspace.exists() {
        return Ok("missing");
    }
    let trash = state_dir.join("trash");
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&trash).map_err(|e| e.to_string())?;
    let name = workspace.file_name().map(PathBuf::from).unwrap_or_default();
    let place = trash.join(format!("{}-{}", name.display(), uuid::Uuid::now_v7().simple()));
    std::fs::rename(workspace, place).map_err(|e| format!("{e}; remove it by hand"))?;
    Ok("trash")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_made_from_names() {
        let id = |name| agent_id(name).unwrap_or_default();
        assert_eq!((id("Helper Two").as_str(), id(" ops_1-x ").as_str()), ("helper-two", "ops_1-x"));
        assert_eq!((id("../Evil").as_str(), id("Ä b/c").as_str(), id("🦀").as_str()), ("evil", "b-c", ""));
        assert_eq!(id(&"x".repeat(100)).len(), MAX_ID);
        assert_eq!(one_line(" a\n b ").expect("a name"), "a b");
        assert!(one_line("\t").is_err() && one_line(&"x".repeat(201)).is_err());
    }
}

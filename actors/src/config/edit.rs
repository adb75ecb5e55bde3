//! Changes to the text of a configuration file that leave comments, order and formatting as they are. Pure.

use jsonc_parser::ParseOptions;
use jsonc_parser::cst::{CstArray, CstInputValue, CstNode, CstObject, CstRootNode};
use serde_json::{Map, Value};

/// One step of a path into the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A member of an object.
    Key(String),
    /// An element of a list.
    Index(usize),
}

impl From<&str> for Step {
    fn from(key: &str) -> Self {
        Self::Key(key.to_owned())
    }
}

impl From<usize> for Step {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Puts a value there. Objects on the way are made; one past the end of a list appends.
    Set(Vec<Step>, Value),
    /// Takes away what is there.
    Remove(Vec<Step>),
    /// Takes what is at the first place to the second, where nothing is, with the comments in it.
    Move(Vec<Step>, Vec<Step>),
}

impl Change {
    /// The places that it touches.
    pub fn places(&self) -> Vec<&[Step]> {
        match self {
            Self::Set(path, _) | Self::Remove(path) => vec![path],
            Self::Move(from, to) => vec![from, to],
        }
    }
}

/// `text` with the changes made; `raw` is what the gateway reads in it, before and then after them.
///
/// # Errors
/// Why the text cannot be edited: the editor reads it otherwise than the gateway does, or a change does not fit.
pub fn edited(text: &str, raw: &mut Value, changes: &[Change]) -> Result<String, String> {
    let mut text = if text.trim().is_empty() { "{}\n" } else { text }.to_owned();
    let unfit = || "it holds something that can be read, but not rewritten".to_owned();
    let parsed = |text: &str| CstRootNode::parse(text, &ParseOptions::default()).map_err(|e| e.to_string());
    let mut root = parsed(&text)?;
    if !same(root.to_serde_value().as_ref(), raw) {
        return Err(unfit());
    }
    for change in changes {
        let misfit = || "a change does not fit what is there".to_owned();
        apply(raw, change).ok_or_else(misfit)?;
        if let Change::Move(from, to) = change {
            text = moved(&root, from, to).ok_or_else(misfit)?;
            root = parsed(&text)?;
        } else {
            apply_to_text(&root, change).ok_or_else(misfit)?;
        }
    }
    let after = root.to_string();
    if !same(parsed(&after)?.to_serde_value().as_ref(), raw) {
        return Err(unfit());
    }
    Ok(after)
}

/// Whether two readings agree; `1` and `1.0` do.
fn same(read: Option<&Value>, raw: &Value) -> bool {
    match (read, raw) {
        (Some(Value::Object(a)), Value::Object(b)) => {
            a.len() == b.len() && b.iter().all(|(key, value)| same(a.get(key), value))
        }
        (Some(Value::Array(a)), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(Some(a), b))
        }
        (Some(Value::Number(a)), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (a, b) => a == Some(b),
    }
}

/// Makes a change in a document; nothing if it does not fit what is there.
pub fn apply(value: &mut Value, change: &Change) -> Option<()> {
    let (path, new) = match change {
        Change::Set(path, new) => (path, Some(new)),
        Change::Remove(path) => (path, None),
        Change::Move(from, to) => {
            let there = found(value, from)?.clone();
            apply(value, &Change::Remove(from.clone()))?;
            return apply(value, &Change::Set(to.clone(), there));
        }
    };
    let Some((last, way)) = path.split_last() else {
        *value = new?.clone();
        return Some(());
    };
    let mut place = value;
    for step in way {
        place = match step {
            Step::Key(key) => {
                place.as_object_mut()?.entry(key.clone()).or_insert_with(|| Value::Object(Map::new()))
            }
            Step::Index(index) => place.as_array_mut()?.get_mut(*index)?,
        };
    }
    match (last, new) {
        (Step::Key(key), Some(new)) => drop(place.as_object_mut()?.insert(key.clone(), new.clone())),
        (Step::Key(key), None) => drop(place.as_object_mut()?.shift_remove(key)?),
        (Step::Index(index), new) => {
            let list = place.as_array_mut()?;
            match new {
                Some(new) if *index == list.len() => list.push(new.clone()),
                None if *index < list.len() => drop(list.remove(*index)),
                _ => return None,
            }
        }
    }
    Some(())
}

/// What stands at a place.
pub fn found<'a>(document: &'a Value, path: &[Step]) -> Option<&'a Value> {
    path.iter().try_fold(document, |place, step| match step {
        Step::Key(key) => place.as_object()?.get(key),
        Step::Index(index) => place.as_array()?.get(*index),
    })
}

/// An object or a list in the text.
enum Place {
    Object(CstObject),
    List(CstArray),
}

impl Place {
    fn of(node: &CstNode) -> Option<Self> {
        node.as_object().map(Self::Object).or_else(|| node.as_array().map(Self::List))
    }
}

fn apply_to_text(root: &CstRootNode, change: &Change) -> Option<()> {
    let (Change::Set(path, _) | Change::Remove(path)) = change else { return None };
    let Some((last, way)) = path.split_last() else {
        let Change::Set(_, value) = change else { return None };
        root.set_value(input(value));
        return Some(());
    };
    let mut place = Place::of(&root.value()?)?;
    for step in way {
        place = match (place, step) {
            (Place::Object(object), Step::Key(key)) => match object.get(key) {
                Some(member) => Place::of(&member.value()?)?,
                None => Place::Object(object.object_value_or_create(key)?),
            },
            (Place::List(list), Step::Index(index)) => Place::of(list.elements().get(*index)?)?,
            _ => return None,
        };
    }
    match (place, last, change) {
        (Place::Object(object), Step::Key(key), Change::Set(_, value)) => match object.get(key) {
            Some(member) => member.set_value(input(value)),
            None => drop(object.append(key, input(value))),
        },
        (Place::Object(object), Step::Key(key), Change::Remove(_)) => object.get(key)?.remove(),
        (Place::List(list), Step::Index(_), Change::Set(_, value)) => drop(list.append(input(value))),
        (Place::List(list), Step::Index(index), Change::Remove(_)) => {
            list.elements().get(*index)?.clone().remove();
        }
        _ => return None,
    }
    Some(())
}

/// The text with a member taken elsewhere as it is written.
fn moved(root: &CstRootNode, from: &[Step], to: &[Step]) -> Option<String> {
    let (Step::Key(key), way) = from.split_last()? else { return None };
    let mut place = Place::of(&root.value()?)?;
    for step in way {
        place = match (place, step) {
            (Place::Object(object), Step::Key(key)) => Place::of(&object.get(key)?.value()?)?,
            (Place::List(list), Step::Index(index)) => Place::of(list.elements().get(*index)?)?,
            _ => return None,
        };
    }
    let Place::Object(object) = place else { return None };
    let member = object.get(key)?;
    let (written, before) = (member.value()?.to_string(), CstNode::from(member.clone()).indent_text());
    member.remove();
    let stand_in = uuid::Uuid::new_v4().to_string();
    apply_to_text(root, &Change::Set(to.to_vec(), Value::from(stand_in.as_str())))?;
    let (text, stand_in) = (root.to_string(), format!("\"{stand_in}\""));
    let line = text.lines().find(|line| line.contains(&stand_in))?;
    let after = &line[..line.len() - line.trim_start().len()];
    let (first, rest) = written.split_once('\n').map_or((&*written, None), |(a, b)| (a, Some(b)));
    let mut shifted = first.to_owned();
    for line in rest.into_iter().flat_map(|rest| rest.split('\n')) {
        let inner = line.strip_prefix(before.as_deref().unwrap_or_default());
        shifted.push('\n');
        shifted.extend(inner.map(|inner| format!("{after}{inner}")).as_deref().or(Some(line)));
    }
    Some(text.replacen(&stand_in, &shifted, 1))
}

fn input(value: &Value) -> CstInputValue {
    match value {
        Value::Null => CstInputValue::Null,
        Value::Bool(value) => CstInputValue::Bool(*value),
        Value::Number(value) => CstInputValue::Number(value.to_string()),
        Value::String(value) => CstInputValue::String(value.clone()),
        Value::Array(items) => CstInputValue::Array(items.iter().map(input).collect()),
        Value::Object(members) => {
            CstInputValue::Object(members.iter().map(|(key, value)| (key.clone(), input(value))).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn path(steps: &[&str]) -> Vec<Step> {
        steps.iter().map(|step| step.parse::<usize>().map_or_else(|_| (*step).into(), Step::from)).collect()
    }

    fn set(steps: &[&str], value: Value) -> Change {
        Change::Set(path(steps), value)
    }

    #[test]
    fn comments_order_and_spelling_stay() {
        let text = "// mine\n{\n  gateway: { port: 0x10, 'mode': 'local', }, // why\n  agents: {\n    list: [\n      { id: 'main' }, // first\n    ],\n  },\n}\n";
        let mut raw = json!({"gateway": {"port": 16, "mode": "local"}, "agents": {"list": [{"id": "main"}]}});
        let changes = [
            set(&["agents", "list", "1"], json!({"id": "b", "name": "it's \"b\"\n"})),
            set(&["agents", "list", "0", "name"], json!("A")),
            set(&["gateway", "port"], json!(17)),
            Change::Remove(path(&["gateway", "mode"])),
            set(&["session", "reset", "mode"], json!("idle")),
        ];
        let after = edited(text, &mut raw, &changes).unwrap();
        for kept in ["// mine\n", "// why", "// first", "list: [", "port: 17", "id: 'main'"] {
            assert!(after.contains(kept), "{kept}: {after}");
        }
        assert_eq!(raw["agents"]["list"][1]["name"], "it's \"b\"\n");
        assert_eq!(raw["gateway"], json!({"port": 17}));
        assert_eq!(raw["session"], json!({"reset": {"mode": "idle"}}));
    }

    #[test]
    fn what_is_moved_keeps_its_comments_and_can_be_changed_there() {
        let text = "{\n  // the bot\n  telegram: {\n    botToken: 't', // mine\n    /* on */ enabled: true,\n  },\n  channels: {\n    discord: {},\n  },\n}\n";
        let mut raw = json!({"telegram": {"botToken": "t", "enabled": true}, "channels": {"discord": {}}});
        let changes = [
            Change::Move(path(&["telegram"]), path(&["channels", "telegram"])),
            set(&["channels", "telegram", "enabled"], json!(false)),
        ];
        let after = edited(text, &mut raw, &changes).unwrap();
        for kept in ["// the bot\n", "\n      botToken: 't', // mine\n", "/* on */ enabled: false"] {
            assert!(after.contains(kept), "{kept}: {after}");
        }
        assert_eq!(raw["channels"]["telegram"], json!({"botToken": "t", "enabled": false}));
        assert_eq!(raw.get("telegram"), None);
    }

    #[test]
    fn a_file_that_is_a_list_is_edited_and_replaced() {
        let mut raw = json!([{"id": "a"}]);
        let changes = [set(&["1"], json!({"id": "b"})), set(&["0", "n"], json!(1))];
        let after = edited("[ // agents\n  { id: 'a' },\n]\n", &mut raw, &changes).unwrap();
        assert!(after.contains("// agents"), "{after}");
        assert_eq!(raw, json!([{"id": "a", "n": 1}, {"id": "b"}]));
        let after = edited("// all\n[1]\n", &mut json!([1]), &[Change::Set(vec![], json!([2]))]).unwrap();
        assert!(after.contains("// all") && after.contains('2'), "{after}");
    }

    #[test]
    fn an_empty_file_becomes_an_object() {
        let mut raw = json!({});
        let after =
            edited(" \n", &mut raw, &[set(&["agents", "entries", "b"], json!({"name": "B"}))]).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&after).unwrap(), raw);
    }

    #[test]
    fn what_cannot_be_edited_is_refused() {
        let broken = [
            ("{ a: ", json!({}), set(&["a"], json!(1))),
            ("{ a: 1, a: 2 }", json!({"a": 2}), set(&["a"], json!(3))),
            ("{ a: 1 }", json!({"a": 2}), set(&["a"], json!(3))),
            ("{ a: 1 }", json!({"a": 1}), set(&["a", "b"], json!(3))),
            ("{ a: [1] }", json!({"a": [1]}), set(&["a", "5"], json!(3))),
            ("{ a: 1 }", json!({"a": 1}), Change::Remove(path(&["b"]))),
        ];
        for (text, mut raw, change) in broken {
            assert!(edited(text, &mut raw, &[change]).is_err(), "{text}");
        }
    }
}

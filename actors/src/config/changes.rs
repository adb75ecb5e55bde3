//! What differs between two documents, as changes that leave the rest of a file alone; a patch laid over a document;
//! and the secrets that a client was not shown, put back where it left their stand-in. Pure.

use super::edit::{Change, Step};
use crate::settings::REDACTED;
use serde_json::{Map, Value};

/// The changes that make `new` of `old`. Lists of the same length whose elements are objects are compared one by one,
/// other lists are replaced.
pub fn between(old: &Value, new: &Value) -> Vec<Change> {
    let mut found = Vec::new();
    compare(old, new, &mut Vec::new(), &mut found);
    found
}

fn compare(old: &Value, new: &Value, at: &mut Vec<Step>, found: &mut Vec<Change>) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for key in old.keys().filter(|key| !new.contains_key(*key)) {
                found.push(Change::Remove(joined(at, key.as_str())));
            }
            for (key, value) in new {
                match old.get(key) {
                    None => found.push(Change::Set(joined(at, key.as_str()), value.clone())),
                    Some(before) => within(at, key.as_str(), |at| compare(before, value, at, found)),
                }
            }
        }
        (Value::Array(old), Value::Array(new))
            if old.len() == new.len() && are_objects(old) && are_objects(new) =>
        {
            for (index, (old, new)) in old.iter().zip(new).enumerate() {
                within(at, index, |at| compare(old, new, at, found));
            }
        }
        _ if old == new => {}
        _ => found.push(Change::Set(at.clone(), new.clone())),
    }
}

fn are_objects(items: &[Value]) -> bool {
    items.iter().all(Value::is_object)
}

fn joined(at: &[Step], step: impl Into<Step>) -> Vec<Step> {
    at.iter().cloned().chain([step.into()]).collect()
}

fn within(at: &mut Vec<Step>, step: impl Into<Step>, work: impl FnOnce(&mut Vec<Step>)) {
    at.push(step.into());
    work(at);
    at.pop();
}

/// `base` with a merge patch (RFC 7396) laid over it: `null` takes away, objects are merged, everything else replaces.
/// At the paths of `whole` an object replaces, too.
pub fn merged(base: &Value, patch: &Value, whole: &[String]) -> Value {
    laid(base, patch, whole, &mut String::new())
}

fn laid(base: &Value, patch: &Value, whole: &[String], at: &mut String) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let is_whole = whole.contains(at);
    let mut result = base.as_object().filter(|_| !is_whole).cloned().unwrap_or_default();
    for (key, value) in patch {
        if value.is_null() {
            result.shift_remove(key);
            continue;
        }
        let before = at.len();
        *at += if at.is_empty() { "" } else { "." };
        *at += key;
        let laid = laid(result.get(key).unwrap_or(&Value::Null), value, whole, at);
        at.truncate(before);
        result.insert(key.clone(), laid);
    }
    Value::Object(result)
}

/// `new` with each [`REDACTED`] replaced by what stands in `old` at the same place.
///
/// # Errors
/// The path of one that stands where there was no secret.
pub fn restored(new: &Value, old: &Value) -> Result<Value, String> {
    put_back(new, Some(old), &mut String::new())
}

fn put_back(new: &Value, old: Option<&Value>, at: &mut String) -> Result<Value, String> {
    let mut deeper = |key: &str, new: &Value, old: Option<&Value>| {
        let before = at.len();
        *at += if at.is_empty() { "" } else { "." };
        *at += key;
        let done = put_back(new, old, at);
        at.truncate(before);
        done
    };
    match new {
        Value::String(text) if text == REDACTED => match old {
            Some(Value::String(_) | Value::Number(_)) => Ok(old.cloned().unwrap_or_default()),
            _ => Err(at.clone()),
        },
        Value::Object(members) => {
            let of = |key: &str| old.and_then(|old| old.get(key));
            let done = members.iter().map(|(key, value)| Ok((key.clone(), deeper(key, value, of(key))?)));
            done.collect::<Result<Map<_, _>, _>>().map(Value::Object)
        }
        Value::Array(items) => {
            let of = |index: usize, item: &Value| counterpart(item, index, old);
            let done = items.iter().enumerate();
            let done = done.map(|(index, item)| deeper(&index.to_string(), item, of(index, item)));
            done.collect::<Result<_, _>>().map(Value::Array)
        }
        other => Ok(other.clone()),
    }
}

/// What an element of a list was before: the one with its id, else the one at its place.
fn counterpart<'a>(item: &Value, index: usize, old: Option<&'a Value>) -> Option<&'a Value> {
    let old = old?.as_array()?;
    match item.get("id").filter(|id| id.is_string()) {
        Some(id) => old.iter().find(|old| old.get("id") == Some(id)),
        None => old.get(index),
    }
}

/// Whether at a place, with dots, stands a [`REDACTED`].
pub fn holds_stand_in(document: &Value, path: &str) -> bool {
    let found = path.split('.').try_fold(document, |place, key| match key.parse::<usize>() {
        Ok(index) if place.is_array() => place.get(index),
        _ => place.get(key),
    });
    found.is_some_and(|value| value.to_string().contains(REDACTED))
}

/// The places that changes touch, with dots.
pub fn paths(changes: &[Change]) -> Vec<String> {
    changes.iter().flat_map(Change::places).map(dotted).collect()
}

/// A place, with dots.
pub fn dotted(path: &[Step]) -> String {
    let name = |step: &Step| match step {
        Step::Key(key) => key.clone(),
        Step::Index(index) => index.to_string(),
    };
    path.iter().map(name).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::super::edit::edited;
    use super::*;
    use serde_json::json;

    #[test]
    fn the_changes_between_two_documents_make_one_of_the_other() {
        let old = json!({"a": 1, "b": {"c": [1, 2], "d": {"e": true}}, "l": [{"id": "x", "n": 1}, {"id": "y"}], "g": 0});
        let new = json!({"a": 1, "b": {"c": [2], "d": {}}, "l": [{"id": "x", "n": 2}, {"id": "y"}], "h": {"i": null}});
        let changes = between(&old, &new);
        assert_eq!(paths(&changes), ["g", "b.c", "b.d.e", "l.0.n", "h"]);
        let mut raw = old.clone();
        let text = edited(&old.to_string(), &mut raw, &changes).unwrap();
        assert_eq!((serde_json::from_str::<Value>(&text).unwrap(), raw), (new.clone(), new.clone()));
        assert_eq!(between(&new, &new), []);
    }

    #[test]
    fn a_patch_merges_takes_away_and_replaces_where_it_says_so() {
        let base = json!({"a": {"b": 1, "c": 2}, "d": [1], "e": {"f": 1}});
        let patch = json!({"a": {"b": null, "x": {"y": null, "z": 1}}, "d": [2], "e": {"g": 2}});
        let expected = json!({"a": {"c": 2, "x": {"z": 1}}, "d": [2], "e": {"f": 1, "g": 2}});
        assert_eq!(merged(&base, &patch, &[]), expected);
        assert_eq!(merged(&base, &patch, &["e".into()])["e"], json!({"g": 2}));
    }

    #[test]
    fn secrets_that_were_not_shown_come_back_and_cannot_be_moved() {
        let old = json!({"auth": {"token": "t"}, "list": [{"id": "a", "key": "ka"}, {"id": "b", "key": "kb"}], "n": ["s"]});
        let new =
            json!({"auth": {"token": REDACTED}, "list": [{"id": "b", "key": REDACTED}], "n": [REDACTED]});
        let back = json!({"auth": {"token": "t"}, "list": [{"id": "b", "key": "kb"}], "n": ["s"]});
        assert_eq!(restored(&new, &old), Ok(back));
        assert_eq!(restored(&json!({"other": {"token": REDACTED}}), &old), Err("other.token".into()));
        assert_eq!(
            restored(&json!({"list": [{"id": "c", "key": REDACTED}]}), &old),
            Err("list.0.key".into())
        );
    }
}

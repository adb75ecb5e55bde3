//! What may stand in a configuration, as JSON Schema, made of the types that read it and of what their docs say.

use super::document::is_secret_key;
use super::{Settings, needs_restart};
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

/// How deep a schema is looked through.
const DEEPEST: usize = 16;

static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<Settings>().to_value();
    // OpenClaw allows it, and editors use it.
    schema["properties"]["$schema"] =
        json!({ "type": "string", "description": "Where this schema is found." });
    schema
});

/// The schema (draft 7), without references.
pub fn schema() -> &'static Value {
    &SCHEMA
}

/// What pages should know of single places (with dots, `*` for any name): which hold secrets.
pub fn ui_hints() -> Value {
    let mut found = Map::new();
    secrets(&SCHEMA, "", DEEPEST, &mut found);
    Value::Object(found)
}

fn secrets(schema: &Value, path: &str, depth: usize, found: &mut Map<String, Value>) {
    if depth == 0 {
        return;
    }
    for (key, below) in below(schema) {
        let path = joined(path, &key);
        if is_secret_key(&key) {
            found.insert(path, json!({ "sensitive": true }));
        } else {
            secrets(below, &path, depth - 1, found);
        }
    }
}

fn joined(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The places right below: members, `*` for a member of any name, `[]` for the elements of a list.
fn below(schema: &Value) -> Vec<(String, &Value)> {
    let members = schema["properties"].as_object().into_iter().flatten();
    let mut all: Vec<_> = members.map(|(key, schema)| (key.clone(), schema)).collect();
    all.extend(
        schema.get("additionalProperties").filter(|any| any.is_object()).map(|any| ("*".to_owned(), any)),
    );
    all.extend(schema.get("items").filter(|any| any.is_object()).map(|any| ("[]".to_owned(), any)));
    // What may be left out, or be written in several ways.
    for way in ["anyOf", "oneOf"] {
        all.extend(schema[way].as_array().into_iter().flatten().flat_map(below));
    }
    all
}

/// One place and what is right below it (as recorded). The path has dots; `*`, `[]` and indices stand for any.
pub fn lookup(path: &str) -> Option<Value> {
    let schema = path.split('.').try_fold(&*SCHEMA, |schema, key| {
        let is = |name: &str| name == key || (name == "[]" && key.parse::<usize>().is_ok());
        let all = below(schema);
        let exact = all.iter().find(|(name, _)| is(name));
        exact.or_else(|| all.iter().find(|(name, _)| name == "*")).map(|(_, schema)| *schema)
    })?;
    let children: Vec<Value> =
        below(schema).into_iter().map(|(key, child)| shown(schema, path, &key, child)).collect();
    let mut plain = schema.clone();
    if !children.is_empty() {
        for key in ["properties", "items", "anyOf", "oneOf"] {
            plain.as_object_mut()?.shift_remove(key);
        }
    }
    let mut answer =
        json!({ "path": path, "schema": plain, "reloadKind": reload_kind(path), "children": children });
    with_hint(&mut answer, path, schema);
    Some(answer)
}

fn shown(parent: &Value, path: &str, key: &str, child: &Value) -> Value {
    let path = joined(path, key);
    let required = parent["required"].as_array().is_some_and(|all| all.iter().any(|name| name == key));
    let mut shown = json!({
        "key": key, "path": path, "type": child.get("type"), "required": required,
        "hasChildren": !below(child).is_empty(), "reloadKind": reload_kind(&path),
    });
    with_hint(&mut shown, &path, child);
    shown
}

fn with_hint(shown: &mut Value, path: &str, schema: &Value) {
    if let Some(help) = schema.get("description") {
        shown["hint"] = json!({ "help": help });
        shown["hintPath"] = json!(path);
    }
}

fn reload_kind(path: &str) -> &'static str {
    if needs_restart(path) { "restart" } else { "hot" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_a_type_and_says_what_it_is() {
        fn look(schema: &Value, path: &str, silent: &mut Vec<String>) {
            for (key, child) in below(schema) {
                let path = joined(path, &key);
                let is_named = !["*", "[]"].contains(&key.as_str());
                if is_named && child.get("description").is_none() {
                    silent.push(path.clone());
                }
                look(child, &path, silent);
            }
        }
        let mut silent = Vec::new();
        look(schema(), "", &mut silent);
        assert_eq!(silent, [""; 0]);
        assert_eq!(schema()["$schema"], "http://json-schema.org/draft-07/schema#");
        assert!(!schema().to_string().contains("\"$ref\""), "pages follow no references");
    }

    #[test]
    fn a_place_is_found_with_what_is_below_it() {
        let port = lookup("gateway.port").unwrap();
        assert_eq!((&port["schema"]["type"], &port["reloadKind"]), (&json!("integer"), &json!("restart")));
        let scope = lookup("session.dmScope").unwrap()["schema"].to_string();
        assert!(scope.contains("per-peer"), "{scope}");
        let gateway = lookup("gateway").unwrap();
        let children: Vec<_> =
            gateway["children"].as_array().unwrap().iter().map(|child| &child["key"]).collect();
        assert!(children.contains(&&json!("auth")) && gateway["reloadKind"] == "hot", "{gateway}");
        for path in ["agents.entries.any.model", "agents.list.0.id", "models.providers.x.models.[].id"] {
            assert!(lookup(path).is_some(), "{path}");
        }
        assert_eq!(lookup("nope.nope"), None);
    }

    #[test]
    fn the_defaults_fit_the_schema_and_places_of_secrets_are_marked() {
        let settings = serde_json::to_value(Settings::default()).unwrap();
        let validator = jsonschema::validator_for(schema()).unwrap();
        let wrong: Vec<String> = validator.iter_errors(&settings).map(|error| error.to_string()).collect();
        assert_eq!(wrong, [""; 0]);
        let hints = ui_hints();
        for path in ["gateway.auth.token", "models.providers.*.apiKey"] {
            assert_eq!(hints[path]["sensitive"], true, "{path}: {hints}");
        }
    }
}

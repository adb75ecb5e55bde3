//! Parameters against their schema.
//!
//! The happy path is serde alone. Only what serde refuses, or what holds a `null` or a list, is
//! checked against the schema generated from the same type, and the complaints are rendered in the
//! words (and order) stock clients know. (Of a list serde makes an object, member by member.)

use std::any::TypeId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jsonschema::error::{TypeKind, ValidationError, ValidationErrorKind as Kind};
use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use schemars::{JsonSchema, Schema};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::event::Event;
use crate::method::Method;
use crate::refusal::Refusal;

/// Reads the parameters of `method`; absent ones are `{}`.
///
/// # Errors
/// INVALID_REQUEST `invalid <method> params: …`, as recorded.
pub fn params<'a, P>(method: &str, raw: Option<&'a RawValue>) -> Result<P, Refusal>
where
    P: Deserialize<'a> + JsonSchema + 'static,
{
    let text = raw.map_or("{}", RawValue::get);
    read(method, text, serde_json::from_str(text), text.contains('['))
}

/// Reads the parameters of `method`, whose type takes objects alone where it has objects.
///
/// # Errors
/// As of [`params`].
pub fn params_of_objects<'a, P>(method: &str, text: &'a str) -> Result<P, Refusal>
where
    P: Deserialize<'a> + JsonSchema + 'static,
{
    read(method, text, serde_json::from_str(text), false)
}

fn read<P: JsonSchema + 'static>(
    method: &str,
    text: &str,
    parsed: serde_json::Result<P>,
    lists: bool,
) -> Result<P, Refusal> {
    let parsed = match parsed {
        Ok(parsed) if text.starts_with('{') && !text.contains("null") && !lists => return Ok(parsed),
        other => other,
    };
    let Ok(value) = serde_json::from_str::<Value>(text) else {
        return Err(Refusal::invalid_params(method, "must be well-formed JSON text"));
    };
    if let Some(refusal) = fence(method, &value) {
        return Err(refusal);
    }
    match (complaints::<P>(&value), parsed) {
        (Some(what), _) => Err(Refusal::invalid_params(method, what)),
        (None, Ok(parsed)) => Ok(parsed),
        (None, Err(error)) => Err(Refusal::invalid_params(method, error)),
    }
}

/// A change that names no session is refused in other words than a malformed one.
fn fence(method: &str, params: &Value) -> Option<Refusal> {
    let target = match Method::from_name(method)? {
        Method::ChatSend
        | Method::ChatAbort
        | Method::ChatInject
        | Method::SessionsFork
        | Method::SessionsRewind
        | Method::SessionsBranchesSwitch => "sessionKey",
        Method::SessionsPatch
        | Method::SessionsReset
        | Method::SessionsDelete
        | Method::SessionsCompact
        | Method::SessionsSend
        | Method::SessionsSteer => "key",
        _ => return None,
    };
    let aimless = params.is_object() && !params.get(target).is_some_and(Value::is_string);
    aimless.then(|| Refusal::session_mutation_target(method))
}

/// What is wrong with `value` as a `P`, `None` if nothing is.
pub fn complaints<P: JsonSchema + 'static>(value: &Value) -> Option<String> {
    let compiled = compiled::<P>();
    let mut errors: Vec<_> = compiled.validator.iter_errors(value).collect();
    if errors.is_empty() {
        return None;
    }
    let mut parts = Vec::new();
    render(&mut errors, &compiled.schema, &mut parts);
    let mut seen = std::collections::HashSet::new();
    parts.retain(|part| seen.insert(part.clone()));
    Some(parts.join("; "))
}

struct Compiled {
    schema: Value,
    validator: jsonschema::Validator,
}

fn compiled<P: JsonSchema + 'static>() -> Arc<Compiled> {
    static CACHE: Mutex<Option<HashMap<TypeId, Arc<Compiled>>>> = Mutex::new(None);
    let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
    let entry = cache.get_or_insert_default().entry(TypeId::of::<P>());
    let compiled = entry.or_insert_with(|| {
        let schema = inbound::<P>();
        let validator = jsonschema::validator_for(&schema)
            .expect("a schema generated from a type is valid: `every_schema_compiles` checks them all");
        Arc::new(Compiled { schema, validator })
    });
    Arc::clone(compiled)
}

/// The schema of what a client may send as `P`, everything inlined.
pub fn inbound<P: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft07()
        .with(|settings| settings.inline_subschemas = true)
        .with_transform(OptionalIsNotNull)
        .for_deserialize();
    settings.into_generator().into_root_schema_for::<P>().to_value()
}

/// The schema of what the gateway sends as `R`, everything inlined.
pub fn outbound<R: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft07()
        .with(|settings| settings.inline_subschemas = true)
        .with_transform(OptionalIsNotNull)
        .for_serialize();
    settings.into_generator().into_root_schema_for::<R>().to_value()
}

/// An optional property may be absent, but not `null`: takes `null` out of what `Option` adds to
/// a schema, and says of an object without properties that it has none. Where `null` is meant ([`crate::value::Maybe`]) the schema says `nullable`.
#[derive(Clone)]
struct OptionalIsNotNull;

impl Transform for OptionalIsNotNull {
    fn transform(&mut self, schema: &mut Schema) {
        transform_subschemas(self, schema);
        let Some(object) = schema.as_object_mut() else { return };
        let required: Vec<Value> =
            object.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
        if object.get("additionalProperties") == Some(&Value::Bool(false)) {
            // Else a validator does not name what it finds in an object that takes nothing.
            object.entry("properties").or_insert_with(|| json!({}));
        }
        let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) else { return };
        for (name, property) in properties {
            let optional = !required.iter().any(|required| required == name);
            if let (true, Value::Object(property)) = (optional, property) {
                without_null(property);
            }
        }
    }
}

fn without_null(property: &mut Map<String, Value>) {
    if property.contains_key("nullable") {
        return;
    }
    if property.get("default") == Some(&Value::Null) {
        property.shift_remove("default");
    }
    if let Some(Value::Array(types)) = property.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            property.insert("type".into(), only);
        }
    }
    if let Some(Value::Array(values)) = property.get_mut("enum") {
        values.retain(|value| !value.is_null());
        if let [only] = values.as_slice() {
            let only = only.clone();
            property.shift_remove("enum");
            property.insert("const".into(), only);
        }
    }
    if let Some(Value::Array(options)) = property.get_mut("anyOf") {
        options.retain(|option| option.get("type").is_none_or(|kind| kind != "null"));
        if let [Value::Object(only)] = options.as_mut_slice() {
            let only = std::mem::take(only);
            property.shift_remove("anyOf");
            property.extend(only);
        }
    }
}

/// Where an error stands among its siblings: type, missing, unexpected, the properties in the
/// schema's order, then everything else.
type Rank = Vec<(usize, usize)>;

const PROPERTY: usize = 3;

fn rank(error: &ValidationError<'_>, schema: &Value) -> Rank {
    let mut ranks = Vec::new();
    let mut at = Some(schema);
    for segment in pointer(error).split('/').skip(1) {
        let properties = at.and_then(|schema| schema.get("properties")).and_then(Value::as_object);
        let named = properties.and_then(|properties| properties.keys().position(|name| name == segment));
        let index = named.or_else(|| segment.parse().ok()).unwrap_or(usize::MAX);
        ranks.push((PROPERTY, index));
        at = at.and_then(|schema| {
            schema
                .get("properties")
                .and_then(|properties| properties.get(segment))
                .or_else(|| schema.get("items"))
        });
    }
    let keyword = match error.kind() {
        Kind::Type { .. } => 0,
        Kind::Required { .. } => 1,
        Kind::AdditionalProperties { .. } => 2,
        _ => PROPERTY + 1,
    };
    ranks.push((keyword, 0));
    ranks
}

fn pointer(error: &ValidationError<'_>) -> String {
    error.instance_path().to_string()
}

fn render(errors: &mut [ValidationError<'_>], schema: &Value, parts: &mut Vec<String>) {
    errors.sort_by_cached_key(|error| rank(error, schema));
    let mut missing_at: Option<String> = None;
    for error in errors {
        let path = pointer(error);
        if let Kind::Required { .. } = error.kind() {
            // Only the first missing property of an object is named.
            if missing_at.as_deref() == Some(&path) {
                continue;
            }
            missing_at = Some(path.clone());
        }
        render_one(error, parts);
    }
}

/// A union's branches complain before the union itself does.
fn render_one(error: &ValidationError<'_>, parts: &mut Vec<String>) {
    if let Kind::AnyOf { context } | Kind::OneOfNotValid { context } = error.kind() {
        for inner in context.iter().flatten() {
            render_one(inner, parts);
        }
    }
    parts.push(line(error));
}

fn line(error: &ValidationError<'_>) -> String {
    let path = pointer(error);
    let at = if path.is_empty() { String::new() } else { format!("at {path}: ") };
    match error.kind() {
        Kind::AdditionalProperties { unexpected } => {
            let place = if path.is_empty() { "root" } else { &path };
            let name = unexpected.first().map_or("", String::as_str);
            format!("at {place}: unexpected property '{name}'")
        }
        kind => format!("{at}{}", words(kind)),
    }
}

fn words(kind: &Kind) -> String {
    match kind {
        Kind::Required { property } => {
            format!("must have required property '{}'", property.as_str().unwrap_or_default())
        }
        Kind::Type { kind: TypeKind::Single(expected) } => format!("must be {expected}"),
        Kind::Type { kind: TypeKind::Multiple(expected) } => {
            let names: Vec<String> = expected.iter().map(|kind| kind.to_string()).collect();
            format!("must be either {}", names.join(" or "))
        }
        Kind::Enum { .. } => "must be equal to one of the allowed values".into(),
        Kind::Constant { .. } => "must be equal to constant".into(),
        Kind::AnyOf { .. } => "must match a schema in anyOf".into(),
        Kind::OneOfNotValid { .. } | Kind::OneOfMultipleValid { .. } => {
            "must match exactly one schema in oneOf".into()
        }
        Kind::Minimum { limit } => format!("must be >= {limit}"),
        Kind::Maximum { limit } => format!("must be <= {limit}"),
        Kind::ExclusiveMinimum { limit } => format!("must be > {limit}"),
        Kind::ExclusiveMaximum { limit } => format!("must be < {limit}"),
        Kind::MinLength { limit } => format!("must not have fewer than {limit} characters"),
        Kind::MaxLength { limit } => format!("must not have more than {limit} characters"),
        Kind::MinItems { limit } => format!("must not have fewer than {limit} items"),
        Kind::MaxItems { limit } => format!("must not have more than {limit} items"),
        Kind::MinProperties { limit } => format!("must not have fewer than {limit} properties"),
        Kind::UniqueItems => "must not have duplicate items".into(),
        Kind::Pattern { pattern } => format!("must match pattern \"{pattern}\""),
        other => format!("must satisfy {}", other.keyword()),
    }
}

/// The whole contract as one JSON document: request, response and event frames, and for each
/// method its role, scope, parameters and result.
pub fn document() -> Value {
    let methods: Map<String, Value> = Method::ALL
        .iter()
        .map(|method| {
            let (params, result) = method.schemas();
            let entry = json!({
                "role": method.role().name(),
                "scope": method.scope().name(),
                "advertised": method.advertised_with(false),
                "params": params,
                "result": result,
            });
            (method.name().to_owned(), entry)
        })
        .collect();
    let events: Map<String, Value> = Event::ALL
        .iter()
        .map(|event| (event.name().to_owned(), json!({ "audience": event.scope().name() })))
        .collect();
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Crabtree gateway protocol",
        "protocol": crate::frame::PROTOCOL_VERSION,
        "frames": frames(),
        "methods": methods,
        "events": events,
    })
}

fn frames() -> Value {
    let text = json!({ "type": "string", "minLength": 1 });
    let request = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["type", "id", "method"],
        "properties": {
            "type": { "const": "req" },
            "id": text,
            "method": text,
            "params": {},
            "traceparent": { "type": "string", "maxLength": crate::frame::MAX_TRACEPARENT_CHARS },
            "expectedProfileId": text,
        },
    });
    let response = json!({
        "type": "object",
        "required": ["type", "id", "ok"],
        "properties": {
            "type": { "const": "res" },
            "id": {},
            "ok": { "type": "boolean" },
            "payload": {},
            "error": outbound::<Refusal>(),
        },
    });
    let event = json!({
        "type": "object",
        "required": ["type", "event"],
        "properties": {
            "type": { "const": "event" },
            "event": text,
            "payload": {},
            "seq": { "type": "integer", "minimum": 1 },
            "stateVersion": outbound::<crate::frame::StateVersion>(),
        },
    });
    json!({ "request": request, "response": response, "event": event })
}

#[cfg(test)]
mod tests;

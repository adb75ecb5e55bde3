//! Templates: `{{…}}` in a text, replaced by what a request says there. Pure.

use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Bytes of a rendered text: a template can say the same value again and again.
pub const MAX_RENDERED: usize = 1024 * 1024;

/// What templates can name.
#[derive(Clone, Debug, Default)]
pub struct Scene {
    /// The body.
    pub payload: Value,
    /// The head, by names in small letters, without secrets.
    pub headers: BTreeMap<String, String>,
    /// What stands behind `?`.
    pub query: BTreeMap<String, String>,
    /// The path below that of the hooks.
    pub path: String,
    /// The time, in ISO 8601.
    pub now: String,
}

/// Whether a text has any.
pub fn is_template(text: &str) -> bool {
    text.contains("{{")
}

/// The text with everything replaced; what is not there is nothing. None if it is too long.
pub fn render(template: &str, scene: &Scene) -> Option<String> {
    let (mut text, mut rest) = (String::new(), template);
    while let Some((before, behind)) = rest.split_once("{{") {
        text.push_str(before);
        match behind.split_once("}}") {
            Some((name, behind)) => {
                text.push_str(&said(name.trim(), scene));
                rest = behind;
            }
            None => {
                text.push_str("{{");
                rest = behind;
            }
        }
        if text.len() > MAX_RENDERED {
            return None;
        }
    }
    text.push_str(rest);
    (text.len() <= MAX_RENDERED).then_some(text)
}

fn said<'a>(name: &str, scene: &'a Scene) -> Cow<'a, str> {
    let found = |list: &'a BTreeMap<String, String>, name: &str| {
        Cow::Borrowed(list.get(name).map(String::as_str).unwrap_or_default())
    };
    if let Some(name) = name.strip_prefix("headers.") {
        return found(&scene.headers, &name.to_ascii_lowercase());
    }
    if let Some(name) = name.strip_prefix("query.") {
        return found(&scene.query, name);
    }
    match name {
        "" => Cow::Borrowed(""),
        "path" => Cow::Borrowed(&scene.path),
        "now" => Cow::Borrowed(&scene.now),
        "payload" => shown(Some(&scene.payload)),
        _ => shown(at(&scene.payload, name.strip_prefix("payload.").unwrap_or(name))),
    }
}

/// What stands at `path.to[0].field`.
fn at<'a>(mut value: &'a Value, path: &str) -> Option<&'a Value> {
    for part in path.split('.') {
        let (name, mut indexes) = part.split_at(part.find('[').unwrap_or(part.len()));
        if !name.is_empty() {
            value = match value {
                Value::Array(items) => items.get(name.parse::<usize>().ok()?)?,
                other => other.get(name)?,
            };
        }
        while let Some(rest) = indexes.strip_prefix('[') {
            let (index, rest) = rest.split_once(']')?;
            value = value.get(index.trim().parse::<usize>().ok()?)?;
            indexes = rest;
        }
        if !indexes.is_empty() {
            return None;
        }
    }
    Some(value)
}

fn shown(value: Option<&Value>) -> Cow<'_, str> {
    match value {
        None | Some(Value::Null) => Cow::Borrowed(""),
        Some(Value::String(text)) => Cow::Borrowed(text),
        Some(other) => Cow::Owned(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn scene() -> Scene {
        let list = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        Scene {
            payload: json!({
                "action": "opened", "number": 7, "draft": false, "none": null,
                "repo": { "name": "crab" }, "messages": [{ "subject": "one", "tags": ["a", "b"] }, { "subject": "two" }],
            }),
            headers: list("x-event-type", "push"),
            query: list("kind", "full"),
            path: "github".into(),
            now: "2026-11-21T00:00:00.000Z".into(),
        }
    }

    fn of(template: &str) -> String {
        render(template, &scene()).unwrap()
    }

    #[test]
    fn values_are_found_by_their_paths() {
        assert_eq!(
            of("{{action}} #{{ number }} in {{payload.repo.name}}: {{draft}}"),
            "opened #7 in crab: false"
        );
        assert_eq!(of("{{messages[1].subject}}/{{messages[0].tags[1]}}/{{messages.0.subject}}"), "two/b/one");
        assert_eq!(
            of("{{headers.X-Event-Type}} {{query.kind}} {{path}} {{now}}"),
            "push full github 2026-11-21T00:00:00.000Z"
        );
    }

    #[test]
    fn what_is_not_there_is_nothing_and_objects_are_json() {
        assert_eq!(
            of(
                "[{{gone}}{{none}}{{messages[9].subject}}{{messages[x]}}{{repo.name.deep}}{{headers.no}}{{}}]"
            ),
            "[]"
        );
        assert_eq!(of("{{repo}}"), r#"{"name":"crab"}"#);
        assert!(of("{{payload}}").starts_with(r#"{"action":"opened""#));
        assert_eq!(of("{{messages[0].tags}}"), r#"["a","b"]"#);
    }

    #[test]
    fn what_is_no_template_stays() {
        assert_eq!(of("a { b } {{ c"), "a { b } {{ c");
        assert_eq!(of("}} {{action}}"), "}} opened");
        assert!(!is_template("{ a }") && is_template("{{a}}"));
    }

    #[test]
    fn what_a_value_says_is_not_a_template() {
        let scene = Scene { payload: json!({ "a": "{{b}}", "b": "secret" }), ..Scene::default() };
        assert_eq!(render("{{a}}", &scene).unwrap(), "{{b}}");
    }

    #[test]
    fn a_text_that_grows_too_long_is_none() {
        let scene = Scene { payload: json!({ "a": "x".repeat(MAX_RENDERED / 2) }), ..Scene::default() };
        assert!(render("{{a}}{{a}}", &scene).is_some());
        assert!(render("{{a}}{{a}}!", &scene).is_none());
    }
}

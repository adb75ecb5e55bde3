//! The EMPTY table: methods that stock clients call whether they are advertised or not, of things this gateway
//! does not have (yet). Each is answered with the truthful empty state, in the recorded shape, for its recorded
//! scope; none is advertised. A row goes when its method becomes real.
//!
//! Strings that begin with `@` are filled in by whoever answers, see [`Empty::answer`].

use crate::Scope;
use Scope::{Admin, Approvals, Read};
use serde_json::{Map, Value};

/// A method that is answered with its empty state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Empty(u8);

/// Name, scope, answer.
const TABLE: &[(&str, Scope, &str)] = &[
    ("artifacts.list", Read, r#"{"artifacts":[]}"#),
    ("board.get", Read, r#"{"sessionKey":"@sessionKey","revision":0,"tabs":[],"widgets":[]}"#),
    ("controlUi.sessionPullRequests.subscribe", Read, r#"{"subscribed":false}"#),
    (
        "doctor.memory.status",
        Read,
        r#"{"agentId":"@agentId","provider":"none","embedding":{"ok":false,"checked":false,"error":"this gateway has no memory search"}}"#,
    ),
    ("memory.search", Read, r#"{"agentId":"@agentId","provider":"none","searchMode":"none","results":[]}"#),
    ("mentions.list", Read, r#"{"gatewayInstanceId":"@bootId","revision":0,"items":[]}"#),
    ("migrations.memory.plan", Admin, r#"{"agentId":"@agentId","workspace":"@workspace","providers":[]}"#),
    ("openclaw.approval.list", Approvals, "[]"),
    ("openclaw.chat.history", Admin, r#"{"turns":[]}"#),
    ("plugins.catalog.browse", Read, r#"{"items":[]}"#),
    ("plugins.controlUi.list", Read, r#"{"revision":"empty","plugins":[],"diagnostics":[]}"#),
    ("plugins.list", Read, r#"{"plugins":[],"diagnostics":[],"mutationAllowed":false,"generation":0}"#),
    ("portal.list", Read, r#"{"portals":[]}"#),
    ("progressCard.get", Read, r#"{"card":null}"#),
    ("projects.list", Read, r#"{"projects":[],"recents":[]}"#),
    ("session.discussion.info", Read, r#"{"state":"none"}"#),
    ("sessions.catalog.list", Read, r#"{"catalogs":[]}"#),
    ("sessions.companion.state", Read, r#"{"exchanges":[]}"#),
    (
        "skills.library.list",
        Read,
        r#"{"entries":[],"profileId":"gateway-owner","multipleProfiles":false,"defaultTarget":"workspace",
            "canManageWorkspace":false,"defaultSelectionLimit":64}"#,
    ),
    (
        "skills.proposals.list",
        Read,
        r#"{"schema":"openclaw.skill-workshop.proposals-manifest.v1","updatedAt":"1970-01-01T00:00:00.000Z","proposals":[],
            "installedSkills":[]}"#,
    ),
    ("skills.search", Read, r#"{"results":[]}"#),
    (
        "talk.catalog",
        Read,
        r#"{"modes":[],"transports":[],"brains":[],"speech":{"providers":[]},"transcription":{"ready":false,"providers":[]},
            "realtime":{"ready":false,"providers":[]}}"#,
    ),
    ("taskSuggestions.list", Read, r#"{"suggestions":[]}"#),
    // The client brings its themes; only others come from a gateway.
    (
        "themes.list",
        Read,
        r#"{"current":{"id":"claw","mode":"system","scope":"profile","overrides":{}},
            "theme":{"id":"claw","name":"Claw","source":"builtin","modes":["light","dark"]},"themes":[]}"#,
    ),
    (
        "tools.github.status",
        Read,
        r#"{"agentId":"@agentId","selectedScope":"system","selected":{"scope":"system","configured":false,
            "identity":{"source":"system-detected","credentialKind":"native","credentialState":"unavailable",
            "account":null,"gitAuthor":{"name":null,"email":null},"evidence":"none","accessExpiresAtMs":null,
            "refreshState":"not_applicable","oauthScopes":[],"repositoryGrants":"unknown"}},
            "effective":{"source":"system-detected","credentialKind":"native","credentialState":"unavailable",
            "account":null,"gitAuthor":{"name":null,"email":null},"evidence":"none","accessExpiresAtMs":null,
            "refreshState":"not_applicable","oauthScopes":[],"repositoryGrants":"unknown"}}"#,
    ),
    (
        "tts.status",
        Read,
        r#"{"enabled":false,"auto":"off","provider":"","persona":null,"personas":[],"fallbackProvider":null,
            "fallbackProviders":[],"providerStates":[]}"#,
    ),
    ("users.prefs.get", Read, r#"{"status":"ok","entries":{}}"#),
    ("worktrees.list", Read, r#"{"worktrees":[]}"#),
];

impl Empty {
    /// All of them, by name.
    pub fn all() -> impl Iterator<Item = Empty> {
        (0..TABLE.len() as u8).map(Empty)
    }

    /// The method of a name on the wire.
    pub fn from_name(name: &str) -> Option<Empty> {
        TABLE.binary_search_by_key(&name, |row| row.0).ok().map(|at| Empty(at as u8))
    }

    const fn row(self) -> &'static (&'static str, Scope, &'static str) {
        &TABLE[self.0 as usize]
    }

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        self.row().0
    }

    /// The scope an operator needs.
    pub const fn scope(self) -> Scope {
        self.row().1
    }

    /// The answer; `value` gives what a name behind `@` stands for.
    pub fn answer(self, value: impl Fn(&str) -> Value) -> Value {
        let mut answer = serde_json::from_str(self.row().2).expect("a test reads every row");
        fill(&mut answer, &value);
        answer
    }
}

/// Replaces every string `@name` by the value of the name.
fn fill(answer: &mut Value, value: &impl Fn(&str) -> Value) {
    match answer {
        Value::String(text) => {
            if let Some(name) = text.strip_prefix('@') {
                *answer = value(name);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| fill(item, value)),
        Value::Object(members) => members.values_mut().for_each(|member| fill(member, value)),
        _ => {}
    }
}

/// What an empty method looks at of its parameters: only that they are an object, or nothing.
pub type EmptyParams = Option<Map<String, Value>>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Method;
    use serde_json::json;

    #[test]
    fn rows_are_sorted_readable_and_of_no_real_method() {
        let names: Vec<_> = Empty::all().map(Empty::name).collect();
        assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
        for empty in Empty::all() {
            assert_eq!(Empty::from_name(empty.name()), Some(empty));
            assert_eq!(Method::from_name(empty.name()), Some(Method::Empty(empty)));
            assert!(!Method::Empty(empty).advertised_with(true));
            assert!(Method::ALL.iter().all(|method| method.name() != empty.name()));
            let answer = empty.answer(|_| Value::Null);
            assert!(answer.is_object() || answer == json!([]), "{}", empty.name());
        }
        assert_eq!(Empty::from_name("chat.send"), None);
    }

    #[test]
    fn names_are_filled_in_wherever_they_stand() {
        let mut answer = json!({ "a": "@x", "b": ["@y", { "c": "@x" }], "d": "x@", "e": 1 });
        fill(&mut answer, &|name| json!(format!("<{name}>")));
        assert_eq!(answer, json!({ "a": "<x>", "b": ["<y>", { "c": "<x>" }], "d": "x@", "e": 1 }));
    }
}

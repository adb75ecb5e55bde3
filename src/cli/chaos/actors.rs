//! The tree as `system.actors` tells it, as far as faults need it.

use std::collections::BTreeMap;

use serde_json::Value;

/// How an actor ended last.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Exit {
    pub kind: String,
    pub reason: String,
    /// When, on the gateway's clock.
    pub at_ms: u64,
    pub backoff_ms: u64,
}

/// One actor.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Actor {
    pub state: String,
    /// Since when, on the gateway's clock.
    pub since_ms: u64,
    pub restarts: u64,
    /// How often it may still end before it is parked; none for those that are not brought back.
    pub left: Option<u64>,
    pub exit: Option<Exit>,
    /// Messages that wait, and the one in hand.
    pub waiting: u64,
}

impl Actor {
    pub fn of(row: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let number = |value: &Value| value.as_u64().unwrap_or_default();
        let exit = &row["lastExit"];
        Self {
            state: text(&row["state"]),
            since_ms: number(&row["sinceMs"]),
            restarts: number(&row["restarts"]),
            left: row["restartsLeft"].as_u64(),
            exit: exit.is_object().then(|| Exit {
                kind: text(&exit["kind"]),
                reason: text(&exit["reason"]),
                at_ms: number(&exit["at"]),
                backoff_ms: number(&exit["backoffMs"]),
            }),
            waiting: number(&row["mailbox"]["depth"]) + u64::from(row["busyMs"].is_u64()),
        }
    }

    pub fn runs(&self) -> bool {
        self.state == "running"
    }

    pub fn is_parked(&self) -> bool {
        self.state == "parked"
    }
}

/// All of them, by path.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Tree {
    /// The parts of the gateway, in the order in which they start.
    pub parts: Vec<String>,
    pub actors: BTreeMap<String, Actor>,
}

impl Tree {
    /// Out of the result of `system.actors`.
    pub fn of(result: &Value) -> Self {
        let mut tree = Self::default();
        let children = result["root"]["children"].as_array().into_iter().flatten();
        tree.parts = children.filter_map(|part| Some(part["path"].as_str()?.to_owned())).collect();
        tree.add(&result["root"]);
        tree
    }

    fn add(&mut self, row: &Value) {
        let Some(path) = row["path"].as_str() else { return };
        self.actors.insert(path.to_owned(), Actor::of(row));
        row["children"].as_array().into_iter().flatten().for_each(|child| self.add(child));
    }

    /// Those directly below a path.
    pub fn below(&self, path: &str) -> impl Iterator<Item = &String> {
        let prefix = format!("{path}/");
        self.actors
            .keys()
            .filter(move |path| path.strip_prefix(&prefix).is_some_and(|rest| !rest.contains('/')))
    }

    /// Those that are parked.
    pub fn parked(&self) -> Vec<String> {
        self.actors.iter().filter(|(_, actor)| actor.is_parked()).map(|(path, _)| path.clone()).collect()
    }

    /// The first that is to run and does not; who was parked `before` may stay so.
    pub fn missing(&self, before: &Tree) -> Option<(&str, &str)> {
        let kept = |path: &String| before.actors.get(path).is_some_and(Actor::is_parked);
        let down = |(path, actor): &(&String, &Actor)| actor.left.is_some() && !actor.runs() && !kept(path);
        self.actors.iter().find(down).map(|(path, actor)| (path.as_str(), actor.state.as_str()))
    }

    /// Parts that have ended since `before` by themselves, although nothing was done to them, and why.
    pub fn harmed(&self, before: &Tree, targets: &[String]) -> Vec<(String, String)> {
        let harm = |path: &String| {
            let (was, is) = (before.actors.get(path)?, self.actors.get(path)?);
            let exit = is.exit.as_ref().filter(|exit| exit.kind != "stopped")?;
            (is.restarts > was.restarts).then(|| (path.clone(), format!("{}: {}", exit.kind, exit.reason)))
        };
        self.parts.iter().filter(|path| !targets.contains(path)).filter_map(harm).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(path: &str, state: &str, children: Value) -> Value {
        json!({"path": path, "state": state, "sinceMs": 1, "restarts": 0, "restartsLeft": 5,
            "mailbox": {"depth": 0}, "children": children})
    }

    fn tree(parts: Value) -> Tree {
        Tree::of(&json!({"root": row("gateway", "running", parts)}))
    }

    #[test]
    fn what_does_not_run_is_missed_unless_it_was_parked_before() {
        let whole =
            tree(json!([row("gateway/a", "running", json!([])), row("gateway/b", "parked", json!([]))]));
        assert_eq!(whole.missing(&Tree::default()), Some(("gateway/b", "parked")));
        assert_eq!((whole.missing(&whole), whole.parked()), (None, vec!["gateway/b".to_owned()]));
        let mut of_the_moment = row("gateway/a", "stopped", json!([]));
        of_the_moment["restartsLeft"] = Value::Null;
        assert_eq!(tree(json!([of_the_moment])).missing(&whole), None, "nobody brings that one back");
    }

    #[test]
    fn who_ends_without_being_struck_is_harmed() {
        let before =
            tree(json!([row("gateway/a", "running", json!([])), row("gateway/b", "running", json!([]))]));
        let ended = |kind: &str| {
            let mut b = row("gateway/b", "running", json!([]));
            b["restarts"] = json!(1);
            b["lastExit"] = json!({"kind": kind, "reason": "why", "at": 5, "backoffMs": 7});
            tree(json!([row("gateway/a", "running", json!([])), b]))
        };
        let harm = vec![("gateway/b".to_owned(), "panic: why".to_owned())];
        assert_eq!(ended("panic").harmed(&before, &["gateway/a".into()]), harm);
        assert!(ended("panic").harmed(&before, &["gateway/b".into()]).is_empty());
        assert!(ended("stopped").harmed(&before, &[]).is_empty(), "somebody has asked for that");
        assert_eq!(ended("panic").actors["gateway/b"].exit.as_ref().map(|exit| exit.backoff_ms), Some(7));
    }

    #[test]
    fn children_are_found_one_level_below() {
        let run = row("gateway/sessions/s/r", "running", json!([]));
        let session = row("gateway/sessions/s", "running", json!([run]));
        let tree = tree(json!([row("gateway/sessions", "running", json!([session]))]));
        assert_eq!(tree.below("gateway/sessions").collect::<Vec<_>>(), ["gateway/sessions/s"]);
        assert_eq!(tree.parts, ["gateway/sessions"]);
    }
}

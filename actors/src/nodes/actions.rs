//! What phones could not do while they were in the background: it waits until they look, do it and say so. Kept in
//! memory, for ten minutes. Pure.

use crabtree_protocol::params::nodes::PendingAction;
use std::collections::BTreeMap;
use uuid::Uuid;

/// Actions kept for one node, as OpenClaw has it; the oldest makes room.
const MAX_ACTIONS: usize = 64;
/// How long one waits, as OpenClaw has it, ms.
const TTL_MS: i64 = 600_000;
/// How commands begin that a phone carries out in the foreground only.
const FOREGROUND: [&str; 4] = ["camera.", "canvas.", "screen.", "talk."];

/// The actions of all nodes, each with the key under which it was asked for.
#[derive(Default)]
pub struct Actions(BTreeMap<String, Vec<(String, PendingAction)>>);

/// Whether a command that failed like this can be done later.
pub fn can_wait(platform: &str, command: &str, code: Option<&str>, message: Option<&str>) -> bool {
    let platform = platform.trim().to_ascii_lowercase();
    let phone = platform.starts_with("ios") || platform.starts_with("ipados");
    let background = code == Some("NODE_BACKGROUND_UNAVAILABLE")
        || message.is_some_and(|words| words.to_ascii_uppercase().contains("BACKGROUND_UNAVAILABLE"));
    phone && background && FOREGROUND.iter().any(|beginning| command.starts_with(beginning))
}

impl Actions {
    /// This waits from now on; its id. What was asked for under the same key waits already.
    pub fn add(
        &mut self,
        node_id: &str,
        command: &str,
        params_json: Option<String>,
        key: &str,
        now: i64,
    ) -> String {
        let waiting = self.0.entry(node_id.to_owned()).or_default();
        waiting.retain(|(_, action)| now - action.enqueued_at_ms < TTL_MS);
        if let Some((_, action)) = waiting.iter().find(|(known, _)| known == key) {
            return action.id.clone();
        }
        if waiting.len() >= MAX_ACTIONS {
            waiting.remove(0);
        }
        let id = Uuid::new_v4().to_string();
        let (command, enqueued_at_ms) = (command.to_owned(), now);
        waiting
            .push((key.to_owned(), PendingAction { id: id.clone(), command, params_json, enqueued_at_ms }));
        id
    }

    /// What waits for a node, the oldest first; what is not wanted any more is dropped.
    pub fn waiting(
        &mut self,
        node_id: &str,
        wanted: impl Fn(&PendingAction) -> bool,
        now: i64,
    ) -> Vec<PendingAction> {
        let Some(waiting) = self.0.get_mut(node_id) else { return Vec::new() };
        waiting.retain(|(_, action)| now - action.enqueued_at_ms < TTL_MS && wanted(action));
        waiting.iter().map(|(_, action)| action.clone()).collect()
    }

    /// These are done; how many wait on.
    pub fn done(&mut self, node_id: &str, ids: &[String]) -> usize {
        let Some(waiting) = self.0.get_mut(node_id) else { return 0 };
        waiting.retain(|(_, action)| !ids.contains(&action.id));
        waiting.len()
    }

    /// The node is not one any more.
    pub fn forget(&mut self, node_id: &str) {
        self.0.remove(node_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_waits_once_for_a_while_and_in_order() {
        let mut actions = Actions::default();
        let first = actions.add("n", "camera.snap", Some("{}".into()), "a", 0);
        assert_eq!(actions.add("n", "camera.snap", None, "a", 1), first, "the same key");
        let second = actions.add("n", "talk.ptt.start", None, "b", 1);
        let ids = |actions: &mut Actions, now| {
            actions.waiting("n", |_| true, now).into_iter().map(|action| action.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(&mut actions, 2), [first.clone(), second.clone()]);
        assert_eq!(ids(&mut actions, TTL_MS), std::slice::from_ref(&second));
        assert_eq!((actions.done("n", &[first]), actions.done("n", &[second])), (1, 0));
        assert_eq!(actions.done("other", &[]), 0);
    }

    #[test]
    fn the_number_is_bounded_and_what_is_not_wanted_is_dropped() {
        let mut actions = Actions::default();
        for at in 0..200 {
            actions.add("n", "camera.snap", None, &at.to_string(), at);
        }
        let all = actions.waiting("n", |_| true, 200);
        assert_eq!((all.len(), all[0].enqueued_at_ms), (MAX_ACTIONS, 200 - MAX_ACTIONS as i64));
        assert_eq!(actions.waiting("n", |_| false, 200).len(), 0);
        assert_eq!(actions.waiting("n", |_| true, 200).len(), 0);
    }

    #[test]
    fn only_phones_in_the_background_do_things_later() {
        let code = Some("NODE_BACKGROUND_UNAVAILABLE");
        assert!(can_wait("iOS 18.4.0", "camera.snap", code, None));
        assert!(can_wait("ios", "canvas.present", None, Some("NODE_BACKGROUND_UNAVAILABLE: foreground")));
        assert!(!can_wait("android", "camera.snap", code, None));
        assert!(!can_wait("ios", "location.get", code, None));
        assert!(!can_wait("ios", "camera.snap", Some("CAMERA_DISABLED"), None));
    }
}

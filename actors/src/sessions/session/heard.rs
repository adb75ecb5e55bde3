//! What of a session changes by being spoken to: who takes part, what is read, where it is reached.

use super::{Session, Submission};
use serde_json::{Value, json};

impl Session {
    /// What changes of the entry when this is said: who speaks has read what there was, and does so in a session
    /// that is not put away. A session that was marked as unread by hand stays so, as recorded.
    pub(super) fn heard(&self, submission: &Submission) -> Option<Value> {
        let mut entry = self.with_participant(&submission.sender).unwrap_or_else(|| json!({}));
        let has = |name| self.record.as_ref().is_some_and(|record| record.entry.get(name).is_some());
        if submission.input.kind != "wake" {
            let read = has("unread") && !has("markedUnreadAt");
            let members = [("unread", read), ("archivedAt", true), ("archiveReason", true)];
            for (name, _) in members.into_iter().filter(|(name, gone)| *gone && has(name)) {
                entry[name] = Value::Null;
            }
        }
        if let Some(route) = submission.input.body.get("route").filter(|route| route.is_object()) {
            let before = self.record.as_ref().and_then(|record| record.entry.get("deliveryContext"));
            if before != Some(route) {
                entry["deliveryContext"] = route.clone();
                // What is written is put over what is there, and a thread is left by being nothing.
                if route.get("threadId").is_none() {
                    entry["deliveryContext"]["threadId"] = Value::Null;
                }
            }
        }
        entry.as_object().is_some_and(|members| !members.is_empty()).then_some(entry)
    }

    /// The list of who has spoken here, if this sender is new in it.
    fn with_participant(&self, sender: &Value) -> Option<Value> {
        let id = sender["transport"]["clients"][0]["id"].as_str()?;
        let known = self.record.as_ref().and_then(|record| record.entry.get("participants")?.as_array());
        let mut all = known.cloned().unwrap_or_default();
        if all.iter().any(|other| other["identity"]["id"] == id) {
            return None;
        }
        all.push(json!({ "identity": {
            "type": "observation", "pluginId": null, "accountId": null, "senderKind": "unknown", "id": id,
        } }));
        Some(json!({ "participants": all }))
    }
}

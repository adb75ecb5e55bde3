//! Refusals of the methods that read and change sessions.

use serde_json::json;

use super::Refusal;

impl Refusal {
    /// A mutation of a session whose parameters name none, answered before they are validated.
    pub fn session_mutation_target(method: &str) -> Self {
        Self::invalid_request("session mutation target is unavailable")
            .with_details(json!({ "code": "SESSION_MUTATION_TARGET_REQUIRED", "method": method }))
    }

    /// No session under this key, for methods that do not create one.
    pub fn session_not_found(key: &str) -> Self {
        Self::invalid_request(format!("session not found: {key}"))
    }

    /// `chat.inject` into a session that does not exist.
    pub fn no_session() -> Self {
        Self::invalid_request("session not found")
    }

    /// `sessions.resolve` found none by key, id or short id.
    pub fn nothing_resolved(asked: &str) -> Self {
        Self::invalid_request(format!("No session found: {asked}"))
    }

    /// `sessions.resolve` found none by name.
    pub fn no_session_labelled(label: &str) -> Self {
        Self::invalid_request(format!("No session found with label: {label}"))
    }

    /// `sessions.resolve` found several by name; `keys` are those.
    pub fn many_sessions_labelled(label: &str, keys: &[&str]) -> Self {
        Self::invalid_request(format!(
            "several agents have a session with label {label}: {}",
            keys.join(", ")
        ))
    }

    /// `sessions.resolve` was asked for none.
    pub fn resolve_what() -> Self {
        Self::invalid_request("sessions.resolve needs a key, sessionId, label or shortId")
    }

    /// `sessions.resolve` was asked for several.
    pub fn resolve_which() -> Self {
        Self::invalid_request("sessions.resolve takes only one of key, sessionId, label and shortId")
    }

    /// A short id that cannot be one.
    pub fn short_id() -> Self {
        Self::invalid_request("a shortId is 8 to 32 hexadecimal digits without dashes")
    }

    /// A hint at a title without a short id.
    pub fn slug_without_short_id() -> Self {
        Self::invalid_request("a slugHint goes with a shortId only")
    }

    /// A change that says which session it means by key alone, but must not.
    pub fn expected_session_id_required(key: &str) -> Self {
        Self::invalid_request(format!("expectedSessionId required for session lifecycle patch: {key}"))
    }

    /// The session is not the one the client knows any more; `doing` is `reset`, `patch`, `deletion`, `rewind`
    /// or `compaction`.
    pub fn session_changed(key: &str, doing: &str) -> Self {
        Self::invalid_request(format!("Session {key} changed before {doing}. Retry."))
            .with_details(json!({ "reason": "session-changed" }))
    }

    /// The agent's main session stays.
    pub fn main_session_stays(key: &str) -> Self {
        Self::invalid_request(format!("Cannot delete the main session ({key})."))
    }

    /// The agent's main session is not archived.
    pub fn main_session_unarchived() -> Self {
        Self::invalid_request("an agent's main session stays; archive another one")
    }

    /// Only an archived session was to be deleted, and this one is not.
    pub fn session_not_archived(key: &str) -> Self {
        Self::invalid_request(format!(
            "session {key} is not archived, and only archived ones were to be deleted"
        ))
    }

    /// A session that runs is not compacted.
    pub fn compact_active(key: &str) -> Self {
        Self::invalid_request(format!(
            "session {key} is answering; stop it or wait for its end, then compact it"
        ))
    }

    /// A session with a backlog is not compacted.
    pub fn compact_queued(key: &str) -> Self {
        Self::invalid_request(format!("messages wait in session {key}; compact it when they are answered"))
    }

    /// The run to be aborted belongs to another session.
    pub fn run_of_other_session() -> Self {
        Self::invalid_request("the run belongs to another session; name its own, or the run alone")
    }

    /// The row to fork or rewind at is no message of a person.
    pub fn entry_not_user(entry_id: &str) -> Self {
        Self::invalid_request(format!("entry is not a user message: {entry_id}"))
    }

    /// There is no such row.
    pub fn entry_not_found(entry_id: &str) -> Self {
        Self::invalid_request(format!("message entry not found: {entry_id}"))
    }

    /// No branch of the session ends in this row.
    pub fn no_branch(leaf_entry_id: &str) -> Self {
        Self::invalid_request(format!(
            "no branch ends in {leaf_entry_id}; sessions.branches.list names the branches there are"
        ))
    }

    /// The row a client has seen last is not part of the conversation as it goes on now.
    pub fn leaf_changed() -> Self {
        Self::invalid_request("the session goes on with another branch; look at it again before you send")
            .with_details(json!({ "reason": "active-leaf-changed" }))
    }

    /// A model of a provider that is not configured.
    pub fn unknown_provider(provider: &str) -> Self {
        Self::invalid_request(format!("Unknown provider \"{provider}\". Use /models to list providers."))
    }

    /// A model that its provider does not have.
    pub fn unknown_model(provider: &str, model: &str) -> Self {
        Self::invalid_request(format!("Unknown model: {provider}/{model}. Use /models to list models."))
    }

    /// A model cannot think like that; `levels` is how it can.
    pub fn thinking_unsupported(level: &str, provider: &str, model: &str, levels: &[&str]) -> Self {
        let levels = levels.join(", ");
        Self::invalid_request(format!(
            "thinkingLevel \"{level}\" is not supported for {provider}/{model} (use {levels})"
        ))
    }

    /// A pinned session is one that is not archived.
    pub fn pin_archived() -> Self {
        Self::invalid_request("an archived session is not pinned; send archived: false first")
    }

    /// An agent's file that clients may neither read nor write.
    pub fn unsupported_file(name: &str) -> Self {
        Self::invalid_request(format!("unsupported file \"{name}\""))
    }

    /// `sessions.groups.put` leaves out groups that have sessions; `used` says how many each.
    pub fn groups_in_use(used: &[(&str, u64)]) -> Self {
        let named: Vec<_> = used.iter().map(|(name, members)| format!("\"{name}\" ({members})")).collect();
        Self::invalid_request(format!(
            "sessions.groups.put cannot drop groups that still have member sessions: {}; \
             include them in names or remove them via sessions.groups.delete",
            named.join(", ")
        ))
    }

    /// There is no such group.
    pub fn unknown_group(name: &str) -> Self {
        Self::invalid_request(format!("no session group is called {name}; sessions.groups.list names them"))
    }

    /// Sessions of a group start in a directory that is named in full.
    pub fn group_cwd_relative() -> Self {
        Self::invalid_request("the directory of a session group is named in full, from the root")
    }

    /// `sessions.usage.logs` or `.timeseries` names no session.
    pub fn usage_key_required(method: &str) -> Self {
        Self::invalid_request(format!("{method} needs the key of a session"))
    }

    /// `sessions.usage.timeseries` of a session without messages.
    pub fn no_transcript(key: &str) -> Self {
        Self::invalid_request(format!("{key} has no messages to sum up"))
    }
}

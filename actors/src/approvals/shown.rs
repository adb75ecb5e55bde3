//! How requests and their ends are shown to clients, and how text is made fit to be shown. Pure.

use super::request::{Kind, Outcome, Status};
use crate::store::ApprovalRow;
use crabtree_protocol::params::approvals::{
    Approval, ApprovalDecision, ApprovalKind, ApprovalSource, Decided, ExecApproval, ExecPresentation,
    PendingApproval, PluginPresentation, Presentation, Severity,
};
use crabtree_protocol::params::questions::{Answered, QuestionRecord, QuestionStatus};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Text that hides nothing: characters that are not seen, or that change how others are seen, are spelled out.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.replace("\r\n", "\n").chars() {
        if c != '\n' && is_invisible(c) {
            shown.push_str(&format!("\\u{{{:X}}}", u32::from(c)));
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Control and format characters, separators of lines and all spaces but the common one, and blank letters.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || (c.is_whitespace() && c != ' ')
        || matches!(u32::from(c),
            0xAD | 0x600..=0x605 | 0x61C | 0x6DD | 0x70F | 0x890..=0x891 | 0x8E2 | 0x115F..=0x1160 | 0x180E
            | 0x200B..=0x200F | 0x202A..=0x202E | 0x2060..=0x206F | 0x3164 | 0xFEFF | 0xFFA0 | 0xFFF9..=0xFFFB
            | 0x110BD | 0x110CD | 0x13430..=0x1343F | 0x1BCA0..=0x1BCA3 | 0x1D173..=0x1D17A
            | 0xE0001 | 0xE0020..=0xE007F)
}

fn ms(at: i64) -> u64 {
    at.max(0).unsigned_abs()
}

fn member<T: DeserializeOwned>(request: &Value, name: &str) -> Option<T> {
    serde_json::from_value(request.get(name)?.clone()).ok()
}

/// What may be decided.
pub fn allowed(row: &ApprovalRow) -> Vec<ApprovalDecision> {
    member(&row.request, "allowedDecisions").unwrap_or_else(|| ApprovalDecision::ALL.to_vec())
}

fn kind_of(row: &ApprovalRow) -> ApprovalKind {
    ApprovalKind::from_name(&row.kind).unwrap_or(ApprovalKind::Exec)
}

/// A request that waits, for lists.
pub fn pending(row: &ApprovalRow) -> PendingApproval {
    PendingApproval {
        id: row.id.clone(),
        request: row.request.clone(),
        created_at_ms: ms(row.created_at),
        expires_at_ms: ms(row.expires_at),
        approval_kind: kind_of(row),
    }
}

/// What became of a request; with the reason for who waited for it.
pub fn decided(row: &ApprovalRow, outcome: &Outcome, with_reason: bool) -> Decided {
    Decided {
        id: row.id.clone(),
        decision: outcome.decision,
        created_at_ms: ms(row.created_at),
        expires_at_ms: ms(row.expires_at),
        terminal_reason: with_reason.then(|| outcome.reason.clone()),
    }
}

/// A command that waits.
pub fn exec(row: &ApprovalRow) -> ExecApproval {
    let request = &row.request;
    ExecApproval {
        id: row.id.clone(),
        command_text: command(request),
        command_preview: preview(request),
        allowed_decisions: allowed(row),
        host: member(request, "host"),
        node_id: member(request, "nodeId"),
        agent_id: member(request, "agentId"),
        expires_at_ms: ms(row.expires_at),
    }
}

fn command(request: &Value) -> String {
    member(request, "command").unwrap_or_default()
}

fn preview(request: &Value) -> Option<String> {
    member(request, "commandPreview")
}

fn presentation(row: &ApprovalRow) -> Presentation {
    let request = &row.request;
    let scope = request.get("scope").filter(|scope| !scope.is_null()).cloned();
    match kind_of(row) {
        ApprovalKind::Plugin => Presentation::Plugin(PluginPresentation {
            kind: ApprovalKind::Plugin,
            title: member(request, "title").unwrap_or_default(),
            description: member(request, "description").unwrap_or_default(),
            severity: member(request, "severity").unwrap_or(Severity::Warning),
            plugin_id: member(request, "pluginId"),
            tool_name: member(request, "toolName"),
            agent_id: member(request, "agentId"),
            allowed_decisions: allowed(row),
            detail: member(request, "detail"),
            scope,
        }),
        kind => Presentation::Exec(ExecPresentation {
            kind,
            command_text: command(request),
            command_preview: preview(request),
            warning_text: member(request, "warningText"),
            host: member(request, "host"),
            node_id: member(request, "nodeId"),
            agent_id: member(request, "agentId"),
            allowed_decisions: allowed(row),
            scope,
        }),
    }
}

/// An approval, whatever became of it.
pub fn approval(row: &ApprovalRow) -> Approval {
    let outcome = Outcome::stored(row);
    let status = outcome.as_ref().map_or("pending", |outcome| outcome.status.name());
    let mut shown = Approval {
        id: row.id.clone(),
        status: status.to_owned(),
        presentation: presentation(row),
        url_path: format!("/approve/{}", encoded(&row.id)),
        created_at_ms: ms(row.created_at),
        expires_at_ms: ms(row.expires_at),
        resolved_at_ms: row.resolved_at.map(ms),
        reason: None,
        decision: None,
        source: None,
        resolver: None,
    };
    if let Some(outcome) = outcome {
        let denied = (outcome.status == Status::Denied).then_some(ApprovalDecision::Deny);
        shown.decision = outcome.decision.or(denied);
        shown.reason = Some(outcome.reason);
        shown.resolver = Some(outcome.resolver);
        let (agent_id, session_key) = (member(&row.request, "agentId"), member(&row.request, "sessionKey"));
        shown.source = Some(ApprovalSource { agent_id, session_key });
    }
    shown
}

/// An id as a part of an address.
fn encoded(id: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte);
    let one = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    id.bytes().map(one).collect()
}

/// A request of questions, whatever became of it.
pub fn question(row: &ApprovalRow) -> QuestionRecord {
    let request = &row.request;
    let outcome = Outcome::stored(row);
    QuestionRecord {
        id: row.id.clone(),
        questions: member(request, "questions").unwrap_or_default(),
        created_at_ms: ms(row.created_at),
        expires_at_ms: ms(row.expires_at),
        status: outcome.as_ref().map_or(QuestionStatus::Pending, question_status),
        agent_id: member(request, "agentId"),
        session_key: member(request, "sessionKey"),
        run_id: member(request, "runId"),
        answers: outcome.as_ref().and_then(|outcome| outcome.answers.clone()),
        resolved_by: outcome.and_then(|outcome| outcome.resolved_by),
    }
}

fn question_status(outcome: &Outcome) -> QuestionStatus {
    match outcome.status {
        Status::Answered => QuestionStatus::Answered,
        Status::Cancelled => QuestionStatus::Cancelled,
        _ => QuestionStatus::Expired,
    }
}

/// What who waited for an answer is told.
pub fn answered(outcome: &Outcome) -> Answered {
    Answered { status: question_status(outcome), id: None, answers: outcome.answers.clone() }
}

/// The event that tells of a request.
pub(super) fn requested_event(kind: Kind, row: &ApprovalRow) -> Value {
    match kind {
        Kind::Question => json!(question(row)),
        Kind::Exec | Kind::Plugin => json!(pending(row)),
    }
}

/// The event that tells of its end. To those who show requests, what nobody allowed is denied.
pub(super) fn resolved_event(kind: Kind, row: &ApprovalRow, outcome: &Outcome) -> Value {
    match kind {
        Kind::Question => json!(Answered { id: Some(row.id.clone()), ..answered(outcome) }),
        Kind::Exec | Kind::Plugin => json!({
            "id": row.id,
            "decision": outcome.decision.unwrap_or(ApprovalDecision::Deny),
            "resolvedBy": outcome.resolved_by,
            "ts": row.resolved_at,
            "request": row.request,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_seen_is_spelled_out() {
        assert_eq!(visible("ls -la \"ä/日\" 🦀"), "ls -la \"ä/日\" 🦀");
        assert_eq!(visible("echo a\r\necho b\tc"), "echo a\necho b\\u{9}c");
        assert_eq!(visible("rm \u{202E}gpj.x\u{200B}"), "rm \\u{202E}gpj.x\\u{200B}");
        assert_eq!(visible("a\u{A0}b\u{2028}c\u{1B}[2J"), "a\\u{A0}b\\u{2028}c\\u{1B}[2J");
    }

    #[test]
    fn ids_are_fit_for_addresses() {
        assert_eq!(encoded("appr-1"), "appr-1");
        assert_eq!(encoded("plugin:a/b?ä"), "plugin%3Aa%2Fb%3F%C3%A4");
    }
}

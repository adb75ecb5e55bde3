//! A request as a message on a channel: what is to be decided, and what can be pressed. Pure.

use super::shown::{allowed, visible};
use crate::channels::contract::Capabilities;
use crate::store::ApprovalRow;
use crabtree_protocol::params::approvals::ApprovalDecision;
use serde_json::{Value, json};

/// Digits of a handle: short enough for a button, and as good as unique.
const HANDLE: usize = 16;
/// Characters of a text that is only shown for orientation.
const MAX_HINT: usize = 200;
/// Room for what is said below a request when it is over.
const ROOM: usize = 200;

/// The name of a request that fits on a button, and begins the ids of its messages.
pub(super) fn handle(row: &ApprovalRow) -> String {
    digest(&format!("{}\n{}", row.kind, row.id))
}

pub(super) fn digest(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..HANDLE].to_owned()
}

/// The text, and what goes with it.
pub(super) fn card(row: &ApprovalRow, capabilities: Capabilities) -> (String, Value) {
    let (handle, has_buttons) = (handle(row), capabilities.buttons);
    let whole = text(row, &handle, has_buttons);
    if capabilities.unit.of(&whole) + ROOM > capabilities.text_limit {
        // Nobody agrees to what they cannot see.
        let text = format!(
            "🔒 Something waits for a decision that is too long to be shown here. Look at it in the Control UI, or \
             with `openclaw approvals pending`.\nID: `{handle}`"
        );
        return (text, json!({}));
    }
    let says = |decision: ApprovalDecision| json!({ "label": label(decision), "says": format!("/approve {handle} {}", decision.name()) });
    let may: Vec<Value> = buttons(row).into_iter().map(says).collect();
    (whole, if has_buttons { json!({ "buttons": may }) } else { json!({}) })
}

fn buttons(row: &ApprovalRow) -> Vec<ApprovalDecision> {
    let allowed = allowed(row);
    let is_offered =
        |decision: &ApprovalDecision| *decision == ApprovalDecision::Deny || allowed.contains(decision);
    ApprovalDecision::ALL.iter().copied().filter(is_offered).collect()
}

fn label(decision: ApprovalDecision) -> &'static str {
    match decision {
        ApprovalDecision::AllowOnce => "Allow once",
        ApprovalDecision::AllowAlways => "Allow always",
        ApprovalDecision::Deny => "Deny",
    }
}

fn text(row: &ApprovalRow, handle: &str, has_buttons: bool) -> String {
    let word = |name: &str| row.request.get(name).and_then(Value::as_str).filter(|word| !word.is_empty());
    let mut text = match word("command") {
        Some(command) => format!("🔒 **A command waits for your decision**\n\n{}", fenced(command)),
        None => {
            let title = word("title").map(hint).unwrap_or_default();
            let parts = [word("description"), word("detail")].into_iter().flatten().map(fenced);
            format!("🔒 **{title}** waits for your decision\n\n{}", parts.collect::<Vec<_>>().join("\n"))
        }
    };
    let facts = [("warningText", "⚠️"), ("agentId", "Agent:"), ("cwd", "In:"), ("host", "At:")];
    for (name, label) in facts {
        if let Some(fact) = word(name) {
            text.push_str(&format!("\n{label} {}", hint(fact)));
        }
    }
    text.push_str(&format!("\nID: `{handle}`"));
    if !has_buttons {
        let words: Vec<_> = buttons(row).into_iter().map(ApprovalDecision::name).collect();
        text.push_str(&format!("\nDecide with: `/approve {handle} {}`", words.join("|")));
    }
    text
}

/// As it is, whatever is in it: what could end the fence is taken apart.
fn fenced(text: &str) -> String {
    format!("```\n{}\n```", text.replace("```", "`\u{200b}`\u{200b}`"))
}

/// One line, with nothing in it that is read as formatting.
fn hint(text: &str) -> String {
    let plain = visible(text).replace('\n', " ").replace(['`', '*', '_', '[', ']', '<', '>', '|', '~'], " ");
    plain.chars().take(MAX_HINT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(request: Value) -> ApprovalRow {
        ApprovalRow { kind: "exec".into(), id: "run:call:1".into(), request, ..ApprovalRow::default() }
    }

    #[test]
    fn a_request_is_shown_whole_and_cannot_look_like_something_else() {
        let command = "echo ```\n**Allowed** ```";
        let row = row(json!({ "command": command, "cwd": "/tmp/`x`", "agentId": "main", "host": "gateway" }));
        let text = text(&row, "abcd", true);
        assert_eq!(text.matches("```").count(), 2, "{text}");
        assert!(text.contains("In: /tmp/ x ") && text.ends_with("ID: `abcd`"), "{text}");
        let typed = super::text(&row, "abcd", false);
        assert!(typed.ends_with("`/approve abcd allow-once|allow-always|deny`"), "{typed}");
    }

    #[test]
    fn only_what_may_be_decided_is_offered_and_no_is_always() {
        let offered = |allowed: Value| buttons(&row(json!({ "allowedDecisions": allowed })));
        assert_eq!(offered(json!(["allow-once"])), [ApprovalDecision::AllowOnce, ApprovalDecision::Deny]);
        assert_eq!(buttons(&row(json!({}))).len(), 3);
    }

    #[test]
    fn what_a_button_says_fits_into_what_telegram_keeps() {
        let longest = format!("/approve {} allow-always", handle(&row(json!({}))));
        assert!(longest.len() <= 64, "{longest}");
    }
}

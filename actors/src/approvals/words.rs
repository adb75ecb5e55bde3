//! `/approve <id> allow-once|allow-always|deny`: deciding in words, on channels and in chats of clients.

use super::card::handle;
use super::on_channels::shown_at;
use super::request::{By, Key, Kind, Outcome};
use super::{ApprovalsMsg, Resolve, Said, Shape};
use crate::channels::AccountName;
use crate::channels::contract::Address;
use crate::gateway::Wiring;
use crate::responder::Responder;
use crate::store::{self, ApprovalRow, DeliveryRow};
use crate::tree::Reply;
use crabtree_protocol::params::approvals::ApprovalDecision;
use std::time::Duration;

/// How it is written.
pub const USAGE: &str = "Usage: /approve <id> allow-once|allow-always|deny";
/// How long what is over can still be named, ms.
const REMEMBERED_MS: i64 = 24 * 3_600_000;
/// Letters of an id that name it at least.
const MIN_PREFIX: usize = 4;
/// How long a decision may take to be stored.
const LIMIT: Duration = Duration::from_secs(30);

/// What was said, as far as it can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Words {
    /// To a request, by its id, how that begins, or its handle.
    Decision(String, ApprovalDecision),
    /// Something else.
    Unclear,
}

/// What became of it.
#[derive(Debug)]
pub struct Decided {
    /// In words.
    pub text: String,
    /// Whether it is what counts.
    applied: bool,
    /// The messages that showed the request.
    shown: Vec<DeliveryRow>,
}

impl Decided {
    /// Whether a message in this chat shows it anyway.
    pub fn is_told_at(&self, name: &AccountName, at: &Address) -> bool {
        self.applied && shown_at(&self.shown, name, at)
    }
}

/// The command in a message, if it is this one.
pub fn said(message: &str) -> Option<Words> {
    let rest = message.trim().strip_prefix("/approve")?;
    (rest.is_empty() || rest.starts_with(char::is_whitespace)).then(|| read(rest))
}

/// What stands after the command.
pub fn read(args: &str) -> Words {
    let mut words = args.split_whitespace();
    let decision = match (words.next(), words.next(), words.next()) {
        (Some(id), Some(decision), None) => decided(decision).map(|decision| (id, decision)),
        _ => None,
    };
    decision.map_or(Words::Unclear, |(id, decision)| Words::Decision(id.to_owned(), decision))
}

fn decided(word: &str) -> Option<ApprovalDecision> {
    match word.to_ascii_lowercase().as_str() {
        "allow-once" | "once" | "allow" => Some(ApprovalDecision::AllowOnce),
        "allow-always" | "always" => Some(ApprovalDecision::AllowAlways),
        "deny" | "reject" => Some(ApprovalDecision::Deny),
        _ => None,
    }
}

/// Decides, in the name of somebody who may.
///
/// # Errors
/// Why nothing was decided, in words for who said it.
pub async fn decide(wiring: &Wiring, words: Words, by: By) -> Result<Decided, String> {
    let Words::Decision(name, decision) = words else { return Err(USAGE.into()) };
    let estate = &wiring.store.estate;
    let since = estate.clock.now_ms() - REMEMBERED_MS;
    let rows = wiring
        .store
        .read(move |c| Ok((store::pending_approvals(c)?, store::approvals_resolved_since(c, since)?)));
    let (pending, over) = rows.await.map_err(|e| format!("The requests cannot be read: {e}. Try again."))?;
    let row = match meant(&pending, &name)? {
        Some(row) => row,
        None => match meant(&over, &name)? {
            Some(row) => return Err(format!("This was decided already: {}.", ending(row))),
            None => return Err("No request that waits has this id. It may have been decided already.".into()),
        },
    };
    let kind = Kind::from_name(&row.kind).unwrap_or(Kind::Exec);
    let key = Key { kind, id: row.id.clone() };
    let (answer, answered) = Reply::oneshot();
    let responder = Responder::inside(estate.conns.apart(), answer);
    let said = Said::Decision(decision);
    let resolve = Resolve { key, prefix: false, said, by, shape: Shape::Approval, responder };
    // If the actor is down, the message is dropped, and with it the answer.
    let _ = wiring.approvals.send(ApprovalsMsg::Resolve(Box::new(resolve)));
    let answer = tokio::time::timeout(LIMIT, answered).await;
    let answer = answer.ok().and_then(Result::ok).ok_or("It was not decided in time. Try again.")?;
    let answer = answer.map_err(|refusal| refusal.message)?;
    let begins = handle(&row);
    let shown = wiring.store.read(move |c| store::deliveries_like(c, &begins)).await.unwrap_or_default();
    let applied = answer["applied"] == true;
    let text = match (applied, decision) {
        (true, ApprovalDecision::AllowOnce) => "✅ Allowed once.".to_owned(),
        (true, ApprovalDecision::AllowAlways) => "✅ Allowed always.".to_owned(),
        (true, ApprovalDecision::Deny) => "❌ Denied.".to_owned(),
        (false, _) => "Somebody else has decided before.".to_owned(),
    };
    Ok(Decided { text, applied, shown })
}

/// The request that is named; of several, none.
fn meant(rows: &[ApprovalRow], name: &str) -> Result<Option<ApprovalRow>, String> {
    let rows = rows.iter().filter(|row| row.kind != Kind::Question.name());
    let is_exact = |row: &&ApprovalRow| row.id == name || handle(row) == name;
    if let Some(exact) = rows.clone().find(is_exact) {
        return Ok(Some(exact.clone()));
    }
    let mut fitting = rows.filter(|row| name.len() >= MIN_PREFIX && row.id.starts_with(name));
    match (fitting.next(), fitting.next()) {
        (Some(_), Some(_)) => {
            Err("Several requests have an id that begins like this: give more of it.".into())
        }
        (only, _) => Ok(only.cloned()),
    }
}

/// How a request has ended, in words.
pub(super) fn ending(row: ApprovalRow) -> String {
    let Some(outcome) = Outcome::stored(&row) else { return "it waits".into() };
    let by = outcome.resolved_by.map(|by| format!(" by {by}")).unwrap_or_default();
    match (outcome.decision, outcome.status) {
        (Some(ApprovalDecision::AllowOnce), _) => format!("✅ Allowed once{by}"),
        (Some(ApprovalDecision::AllowAlways), _) => format!("✅ Allowed always{by}"),
        (Some(ApprovalDecision::Deny), _) => format!("❌ Denied{by}"),
        (None, super::request::Status::Expired) => "⌛ Nobody decided in time".into(),
        (None, super::request::Status::Cancelled) => "Taken back: nobody waits for it any more".into(),
        (None, _) => "❌ Denied".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ApprovalDecision::{AllowAlways, AllowOnce, Deny};

    #[test]
    fn a_decision_is_an_id_and_a_word() {
        let decision = |id: &str, decision| Some(Words::Decision(id.to_owned(), decision));
        assert_eq!(said("/approve abc allow-once"), decision("abc", AllowOnce));
        assert_eq!(said(" /approve\tabc  ALWAYS\n"), decision("abc", AllowAlways));
        assert_eq!(said("/approve abc deny"), decision("abc", Deny));
        for unclear in ["/approve", "/approve abc", "/approve abc maybe", "/approve abc deny now"] {
            assert_eq!(said(unclear), Some(Words::Unclear), "{unclear}");
        }
        for other in ["/approved abc deny", "approve abc deny", "please /approve abc deny"] {
            assert_eq!(said(other), None, "{other}");
        }
    }

    #[test]
    fn a_request_is_meant_by_its_id_its_handle_or_an_only_beginning() {
        let row = |id: &str| ApprovalRow { kind: "exec".into(), id: id.into(), ..ApprovalRow::default() };
        let rows = [row("abcd-1"), row("abcd-2"), row("wxyz-1")];
        let id = |name: &str| meant(&rows, name).map(|row| row.map(|row| row.id));
        assert_eq!(id("abcd-1"), Ok(Some("abcd-1".into())));
        assert_eq!(id(&handle(&rows[1])), Ok(Some("abcd-2".into())));
        assert_eq!(id("wxyz"), Ok(Some("wxyz-1".into())));
        assert!(id("abcd").is_err());
        assert_eq!(id("wx"), Ok(None));
    }
}

//! What an agent asks before it does something, and how the answer is put.

use super::peer::Ear;
use crate::approvals::{ActionAsked, ApprovalsMsg, Ask, Asked, Decision, ask};
use crate::tree::Slot;
use agent_client_protocol::Error;
use agent_client_protocol::v1::Responder;
use agent_client_protocol::v1::schema::{
    PermissionOption, PermissionOptionKind, RequestPermissionOutcome, RequestPermissionRequest,
    RequestPermissionResponse, SelectedPermissionOutcome,
};
use crabtree_protocol::params::approvals::{ApprovalDecision, Severity};
use futures_util::FutureExt;
#[cfg(test)]
use futures_util::future;
use futures_util::future::BoxFuture;
use serde_json::Value;
use std::sync::Arc;
use uuid::Uuid;

/// Something that an agent wants to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Permission {
    /// The agent: the name behind `acp/`.
    pub agent: String,
    /// The session it thinks for; none for work beside all sessions.
    pub session: Option<String>,
    /// Its own id of the call, unique in its session.
    pub call_id: String,
    /// What, in short.
    pub title: String,
    /// What, in full, as far as it says so.
    pub input: Option<Value>,
    /// Whether it may be allowed for good.
    pub may_always: bool,
}

/// What is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// This time.
    Once,
    /// This and the like, from now on.
    Always,
    /// No.
    Deny,
}

/// Who decides. Dropped undecided, nobody wants to know any more.
pub type Permit = Arc<dyn Fn(Permission) -> BoxFuture<'static, Verdict> + Send + Sync>;

/// People decide, as they do of what plugins want.
pub(crate) fn people(approvals: Slot<ApprovalsMsg>) -> Permit {
    Arc::new(move |permission| {
        let approvals = approvals.clone();
        async move {
            match ask(&approvals, question(permission)).await {
                Decision::AllowOnce => Verdict::Once,
                Decision::AllowAlways => Verdict::Always,
                Decision::Deny | Decision::Expired | Decision::Cancelled => Verdict::Deny,
            }
        }
        .boxed()
    })
}

/// A question of its own each time: an agent that asks again has been started anew.
fn question(permission: Permission) -> Ask {
    let Permission { agent, session, call_id, title, input, may_always } = permission;
    let always = |decision: &ApprovalDecision| may_always || *decision != ApprovalDecision::AllowAlways;
    Ask {
        id: Uuid::new_v4().to_string(),
        about: Asked::Action(ActionAsked {
            description: format!("The agent acp/{agent} asks for it."),
            detail: input.map(|input| input.to_string()),
            plugin_id: Some(format!("acp/{agent}")),
            title,
            severity: Severity::Warning,
            tool_name: None,
            allowed: ApprovalDecision::ALL.iter().copied().filter(always).collect(),
            agent_id: None,
            session_key: session,
            run_id: None,
            tool_call_id: Some(call_id),
        }),
        wait: None,
    }
}

/// Nothing is allowed.
#[cfg(test)]
pub(crate) fn refuse() -> Permit {
    Arc::new(|_| future::ready(Verdict::Deny).boxed())
}

/// Puts what an agent asks to who decides.
#[derive(Clone)]
pub(super) struct Asker {
    pub(super) permit: Permit,
    /// Where the answer in hand goes: without one, nothing is permitted.
    pub(super) ear: Ear,
    pub(super) agent: String,
    pub(super) session: Option<String>,
}

impl Asker {
    /// Answers when it is decided, or when nobody wants the answer in hand any more.
    pub(super) async fn ask(
        self,
        request: RequestPermissionRequest,
        responder: Responder<RequestPermissionResponse>,
    ) -> Result<(), Error> {
        let asked = asked(&self.agent, self.session.as_deref(), &request);
        let ear = self.ear.lock().clone();
        let decided = async {
            let ear = ear?;
            tokio::select! {
                verdict = (self.permit)(asked) => Some(outcome(verdict, &request.options)),
                () = ear.closed() => None,
            }
        };
        let outcome = decided.await.unwrap_or(RequestPermissionOutcome::Cancelled);
        responder.respond(RequestPermissionResponse::new(outcome))
    }
}

/// What is asked, in our words.
fn asked(agent: &str, session: Option<&str>, request: &RequestPermissionRequest) -> Permission {
    let call = &request.tool_call;
    Permission {
        agent: agent.to_owned(),
        session: session.map(str::to_owned),
        call_id: call.tool_call_id.0.to_string(),
        title: call.fields.title.clone().unwrap_or_else(|| "something it does not name".into()),
        input: call.fields.raw_input.clone(),
        may_always: find(&request.options, PermissionOptionKind::AllowAlways).is_some(),
    }
}

/// The answer. What was allowed once is never allowed for good.
fn outcome(verdict: Verdict, options: &[PermissionOption]) -> RequestPermissionOutcome {
    use PermissionOptionKind::{AllowAlways, AllowOnce, RejectAlways, RejectOnce};
    let wanted: &[_] = match verdict {
        Verdict::Once => &[AllowOnce, RejectOnce, RejectAlways],
        Verdict::Always => &[AllowAlways, AllowOnce, RejectOnce, RejectAlways],
        Verdict::Deny => &[RejectOnce, RejectAlways],
    };
    match wanted.iter().find_map(|kind| find(options, *kind)) {
        Some(option) => {
            RequestPermissionOutcome::Selected(SelectedPermissionOutcome::new(option.option_id.clone()))
        }
        None => RequestPermissionOutcome::Cancelled,
    }
}

fn find(options: &[PermissionOption], kind: PermissionOptionKind) -> Option<&PermissionOption> {
    options.iter().find(|option| option.kind == kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use PermissionOptionKind::{AllowAlways, AllowOnce, RejectAlways, RejectOnce};

    fn chosen(verdict: Verdict, kinds: &[PermissionOptionKind]) -> Option<String> {
        let options: Vec<_> =
            kinds.iter().map(|kind| PermissionOption::new(format!("{kind:?}"), "x", *kind)).collect();
        match outcome(verdict, &options) {
            RequestPermissionOutcome::Selected(selected) => Some(selected.option_id.0.to_string()),
            _ => None,
        }
    }

    #[test]
    fn a_verdict_is_never_widened() {
        let all = [AllowAlways, AllowOnce, RejectAlways, RejectOnce];
        assert_eq!(chosen(Verdict::Once, &all).as_deref(), Some("AllowOnce"));
        assert_eq!(chosen(Verdict::Always, &all).as_deref(), Some("AllowAlways"));
        assert_eq!(chosen(Verdict::Deny, &all).as_deref(), Some("RejectOnce"));
        assert_eq!(chosen(Verdict::Once, &[AllowAlways, RejectAlways]).as_deref(), Some("RejectAlways"));
        assert_eq!(chosen(Verdict::Always, &[AllowOnce]).as_deref(), Some("AllowOnce"));
        assert_eq!(chosen(Verdict::Deny, &[AllowOnce, AllowAlways]), None, "cancelled");
        assert_eq!(chosen(Verdict::Once, &[AllowAlways]), None, "cancelled");
    }
}

//! What is asked and what becomes of it: plain data, its stored form, and who sees it. Pure.

use crate::conns::{Conn, Grant};
use crate::store::ApprovalRow;
use crabtree_protocol::connect::{CAP_APPROVALS, CAP_EXEC_APPROVALS, CAP_PLUGIN_APPROVALS};
use crabtree_protocol::params::approvals::{ApprovalDecision, Resolver};
use crabtree_protocol::params::questions::Answers;
use crabtree_protocol::{ClientId, ConnId, ConnectParams, DeviceId, Event, Scope};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How the ids of what plugins and tools ask begin, and no others.
pub const PLUGIN_PREFIX: &str = "plugin:";

/// What people are asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A command.
    Exec,
    /// Something a plugin or a tool wants to do.
    Plugin,
    /// A question of an agent.
    Question,
}

impl Kind {
    /// The word in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::Plugin => "plugin",
            Self::Question => "question",
        }
    }

    /// The kind a stored word stands for.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Exec, Self::Plugin, Self::Question].into_iter().find(|kind| kind.name() == name)
    }

    /// The kind of the approval with this id.
    pub fn of_id(id: &str) -> Self {
        if id.starts_with(PLUGIN_PREFIX) { Self::Plugin } else { Self::Exec }
    }

    /// The scope that decides.
    pub fn scope(self) -> Scope {
        match self {
            Self::Exec | Self::Plugin => Scope::Approvals,
            Self::Question => Scope::Questions,
        }
    }

    /// The events that tell of a request and of its end.
    pub(super) fn events(self) -> [Event; 2] {
        match self {
            Self::Exec => [Event::ExecApprovalRequested, Event::ExecApprovalResolved],
            Self::Plugin => [Event::PluginApprovalRequested, Event::PluginApprovalResolved],
            Self::Question => [Event::QuestionRequested, Event::QuestionResolved],
        }
    }
}

/// Names a request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Its kind.
    pub kind: Kind,
    /// Its id, unique among its kind.
    pub id: String,
}

/// The client that asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Requester {
    /// Its connection.
    pub conn: ConnId,
    /// Its device.
    pub device: Option<DeviceId>,
    /// Nobody is told of the request.
    pub silent: bool,
}

impl Requester {
    /// The client of this connection.
    pub fn of(conn: &Conn, silent: bool) -> Self {
        let device = conn.grant().and_then(|grant| grant.device.clone());
        Self { conn: *conn.id(), device, silent }
    }

    pub(super) fn stored(row: &ApprovalRow) -> Option<Self> {
        row.requester.as_ref().and_then(|requester| serde_json::from_value(requester.clone()).ok())
    }
}

/// Whether a client sees what this one asks: administrators see everything, others what they asked themselves, and
/// everybody what the gateway asks.
pub fn may_see(conn: &Conn, requester: Option<&Requester>) -> bool {
    let Some(grant) = conn.grant() else { return false };
    let Some(requester) = requester else { return true };
    let mine = match &requester.device {
        Some(device) => grant.device.as_ref() == Some(device),
        None => requester.conn == *conn.id(),
    };
    grant.may(Scope::Admin) || mine
}

/// Whether a client is told of what people are asked: it may decide, and can show it. Questions need no skill.
pub fn hears(grant: &Grant, kind: Kind) -> bool {
    let (client, params) = (grant.params.client.id, &grant.params);
    let shows = match kind {
        Kind::Exec => {
            let apps = [ClientId::ControlUi, ClientId::Macos, ClientId::Ios, ClientId::Android];
            apps.contains(&client) || has_cap(params, [CAP_APPROVALS, CAP_EXEC_APPROVALS])
        }
        Kind::Plugin => {
            let apps = [ClientId::ControlUi, ClientId::Tui];
            apps.contains(&client) || has_cap(params, [CAP_APPROVALS, CAP_PLUGIN_APPROVALS])
        }
        Kind::Question => true,
    };
    shows && grant.may(kind.scope())
}

fn has_cap(params: &ConnectParams, caps: [&str; 2]) -> bool {
    caps.into_iter().any(|cap| params.has_cap(cap))
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Somebody agreed.
    Allowed,
    /// Somebody did not, or nobody could be asked.
    Denied,
    /// Nobody said anything in time.
    Expired,
    /// Whoever asked does not want to know any more.
    Cancelled,
    /// The question is answered.
    Answered,
}

impl Status {
    /// The word on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Answered => "answered",
        }
    }
}

/// What became of a request, as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// How it ended.
    pub status: Status,
    /// Why: `user`, `timeout`, `no-route`, `malformed-verdict`, `run-aborted`.
    pub reason: String,
    /// What somebody decided.
    pub decision: Option<ApprovalDecision>,
    /// Who that was.
    pub resolver: Resolver,
    /// The same, as it is told.
    pub resolved_by: Option<String>,
    /// What somebody answered.
    pub answers: Option<Answers>,
}

impl Outcome {
    fn nobody(status: Status, reason: &str) -> Self {
        let resolver = Resolver { kind: "system".into(), id: None };
        Self { status, reason: reason.into(), decision: None, resolver, resolved_by: None, answers: None }
    }

    /// Nobody said anything in time.
    pub fn expired() -> Self {
        Self::nobody(Status::Expired, "timeout")
    }

    /// Nobody can be asked.
    pub fn no_route() -> Self {
        Self::nobody(Status::Denied, "no-route")
    }

    /// Whoever asked is gone.
    pub fn aborted() -> Self {
        Self::nobody(Status::Cancelled, "run-aborted")
    }

    fn somebody(by: &By, status: Status) -> Self {
        let reason = "user".to_owned();
        let (resolver, resolved_by) = (by.resolver.clone(), Some(by.label.clone()));
        Self { status, reason, decision: None, resolver, resolved_by, answers: None }
    }

    /// Somebody decided.
    pub fn decided(by: &By, decision: ApprovalDecision) -> Self {
        let status = if decision.allows() { Status::Allowed } else { Status::Denied };
        Self { decision: Some(decision), ..Self::somebody(by, status) }
    }

    /// Somebody said what cannot be meant.
    pub fn malformed(by: &By) -> Self {
        Self { reason: "malformed-verdict".into(), ..Self::decided(by, ApprovalDecision::Deny) }
    }

    /// Somebody answered.
    pub fn answered(by: &By, answers: Answers) -> Self {
        Self { answers: Some(answers), ..Self::somebody(by, Status::Answered) }
    }

    /// Somebody does not want to answer.
    pub fn declined(by: &By) -> Self {
        Self::somebody(by, Status::Cancelled)
    }

    /// What became of a stored request; `None` while it waits.
    pub fn stored(row: &ApprovalRow) -> Option<Self> {
        let outcome = row.outcome.as_ref()?;
        // What cannot be read any more is no yes.
        let unreadable = |_| Self::nobody(Status::Denied, "storage-corrupt");
        Some(serde_json::from_value(outcome.clone()).unwrap_or_else(unreadable))
    }

    /// As it is stored.
    pub(super) fn to_value(&self) -> Value {
        serde_json::to_value(self).expect("outcomes are plain data")
    }
}

/// Who decides.
#[derive(Clone, Debug)]
pub struct By {
    /// The name it goes by.
    pub label: String,
    /// What it is.
    pub resolver: Resolver,
}

impl By {
    /// The client of this connection.
    pub fn of(conn: &Conn) -> Self {
        let Some(grant) = conn.grant() else {
            return Self { label: String::new(), resolver: Resolver { kind: "runtime".into(), id: None } };
        };
        let client = &grant.params.client;
        let name = client.display_name.as_ref().map(|name| name.to_string()).filter(|name| !name.is_empty());
        let resolver = match &grant.device {
            Some(device) => Resolver { kind: "device".into(), id: Some(device.to_string()) },
            None => Resolver { kind: "runtime".into(), id: Some(client.id.name().into()) },
        };
        Self { label: name.unwrap_or_else(|| client.id.name().into()), resolver }
    }
}

/// What the gateway itself learns of what it asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Yes, this time.
    AllowOnce,
    /// Yes, and do not ask again: see [`super::Remembered`].
    AllowAlways,
    /// No; also if the question could not be put: it is too long to be shown, too many wait, the store is full.
    Deny,
    /// Nobody answered in time: see [`super::policy::unanswered`].
    Expired,
    /// The question was taken back.
    Cancelled,
}

impl From<&Outcome> for Decision {
    fn from(outcome: &Outcome) -> Self {
        match (outcome.decision, outcome.status) {
            (Some(ApprovalDecision::AllowOnce), _) => Self::AllowOnce,
            (Some(ApprovalDecision::AllowAlways), _) => Self::AllowAlways,
            (Some(ApprovalDecision::Deny), _) => Self::Deny,
            (None, Status::Cancelled) => Self::Cancelled,
            (None, Status::Denied) => Self::Deny,
            (None, _) => Self::Expired,
        }
    }
}

//! What a node offers, what of it a person has approved, and what it asks for beyond. Pure.

use super::policy::Policy;
use crabtree_protocol::{ConnectParams, Scope};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use uuid::Uuid;

/// What only administrators let a node do.
const FOR_ADMINS: &[&str] = &[
    "system.run",
    "system.run.prepare",
    "system.which",
    "browser.proxy",
    "browser.proxy.upload.v1",
    "fs.listDir",
    "system.execApprovals.get",
    "system.execApprovals.set",
];

/// What a node can do and may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Surface {
    /// Its abilities.
    pub caps: Vec<String>,
    /// Its commands, as far as the policy goes.
    pub commands: Vec<String>,
    /// What the person at the node allows there, if the node tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions: Option<BTreeMap<String, bool>>,
}

impl Surface {
    /// What a node declares, cut to what the policy lets it.
    pub fn declared(params: &ConnectParams, policy: &Policy<'_>) -> Self {
        let mut caps: Vec<String> = Vec::new();
        for cap in params.caps.iter().flatten().map(|cap| cap.trim()).filter(|cap| !cap.is_empty()) {
            if !caps.iter().any(|known| known == cap) {
                caps.push(cap.to_owned());
            }
        }
        Self {
            caps,
            commands: policy.kept(params.commands.iter().flatten().map(|command| command.as_str())),
            permissions: params.permissions.as_deref().cloned(),
        }
    }

    /// Whether there is something in it that was not approved. Less is never a question.
    fn exceeds(&self, approved: &Self) -> bool {
        let beyond = |ours: &[String], theirs: &[String]| ours.iter().any(|item| !theirs.contains(item));
        let granted =
            |name: &str| approved.permissions.as_ref().is_some_and(|map| map.get(name) == Some(&true));
        let new = |(name, on): (&String, &bool)| *on && !granted(name);
        beyond(&self.caps, &approved.caps)
            || beyond(&self.commands, &approved.commands)
            || self.permissions.iter().flatten().any(new)
    }

    /// What of it counts: what was approved and is still declared.
    pub fn within(&self, approved: &Self) -> Self {
        let both = |ours: &[String], theirs: &[String]| {
            ours.iter().filter(|item| theirs.contains(item)).cloned().collect()
        };
        let granted =
            |name: &str| approved.permissions.as_ref().is_some_and(|map| map.get(name) == Some(&true));
        let permissions = self
            .permissions
            .as_ref()
            .map(|map| map.iter().map(|(name, on)| (name.clone(), *on && granted(name))).collect());
        Self {
            caps: both(&self.caps, &approved.caps),
            commands: both(&self.commands, &approved.commands),
            permissions,
        }
    }

    /// What of it does no harm: its abilities and permissions, which tell of it and let it do nothing, and the commands
    /// of which [`Policy::is_harmless`] says so.
    pub fn harmless(&self, policy: &Policy<'_>) -> Self {
        let commands = self.commands.iter().filter(|command| policy.is_harmless(command)).cloned().collect();
        Self { commands, ..self.clone() }
    }

    /// Whoever approves it needs all of these.
    pub fn approve_scopes(&self) -> Vec<Scope> {
        let more = match self.commands.iter().any(|command| FOR_ADMINS.contains(&command.as_str())) {
            true => Some(Scope::Admin),
            false => (!self.commands.is_empty()).then_some(Scope::Write),
        };
        [Scope::Pairing].into_iter().chain(more).collect()
    }
}

/// A surface that waits for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// Its id.
    pub request_id: String,
    /// What is asked for.
    pub surface: Surface,
    /// Whether its device was paired without asking anybody.
    pub silent: bool,
    /// When it was made, ms.
    pub ts: i64,
}

impl Request {
    /// A request for this; `silent`: its device was paired without asking anybody.
    pub fn new(surface: Surface, silent: bool, ts: i64) -> Self {
        Self { request_id: Uuid::new_v4().to_string(), surface, silent, ts }
    }
}

/// How a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// What it declares is approved.
    Approved,
    /// Nothing is, and a person is asked.
    Pending,
    /// It asks for more.
    PendingMore,
    /// Nothing is, and nobody is asked.
    Unapproved,
}

impl Standing {
    /// How a node with these stands.
    pub fn of(approved: Option<&Surface>, request: Option<&Request>) -> Self {
        match (approved, request) {
            (Some(_), None) => Self::Approved,
            (Some(_), Some(_)) => Self::PendingMore,
            (None, Some(_)) => Self::Pending,
            (None, None) => Self::Unapproved,
        }
    }

    /// The word on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Pending => "pending-approval",
            Self::PendingMore => "pending-reapproval",
            Self::Unapproved => "unapproved",
        }
    }
}

/// What becomes of a node's request when it connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It stays as it is.
    None,
    /// There is nothing to ask for any more.
    Withdrawn,
    /// It asks this, in place of whatever it asked before.
    Asks(Request),
}

/// Compares what a node declares with what is approved and what is asked already. `silent`: see [`Request`].
pub fn change(
    declared: &Surface,
    approved: Option<&Surface>,
    request: Option<&Request>,
    silent: bool,
    now: i64,
) -> Change {
    match (approved, request) {
        (Some(approved), request) if !declared.exceeds(approved) => match request {
            Some(_) => Change::Withdrawn,
            None => Change::None,
        },
        (_, Some(request)) if request.surface == *declared => Change::None,
        _ => Change::Asks(Request::new(declared.clone(), silent && approved.is_none(), now)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::policy::Platform;
    use super::*;
    use crate::settings::NodeCommandSettings;
    use serde_json::json;

    fn strings(words: &str) -> Vec<String> {
        words.split_whitespace().map(str::to_owned).collect()
    }

    fn surface(caps: &str, commands: &str, permissions: serde_json::Value) -> Surface {
        let permissions = serde_json::from_value(permissions).unwrap();
        Surface { caps: strings(caps), commands: strings(commands), permissions }
    }

    /// The recording `n2`: a Mac comes back with another command.
    #[test]
    fn more_is_asked_for_and_less_is_not() {
        let nothing = json!(null);
        let approved = surface("camera", "camera.list camera.snap", nothing.clone());
        let same = change(&approved, Some(&approved), None, true, 1);
        assert_eq!(same, Change::None);
        let less = surface("", "camera.list", nothing.clone());
        assert_eq!(change(&less, Some(&approved), None, true, 1), Change::None);
        let more = surface("camera", "camera.list screen.snapshot", nothing.clone());
        let Change::Asks(request) = change(&more, Some(&approved), None, true, 1) else {
            panic!("not asked")
        };
        assert_eq!((request.silent, &request.surface), (false, &more));
        assert_eq!(more.within(&approved).commands, strings("camera.list"));
        // The same again is the same request; without the wish there is none.
        assert_eq!(change(&more, Some(&approved), Some(&request), true, 2), Change::None);
        assert_eq!(change(&less, Some(&approved), Some(&request), true, 2), Change::Withdrawn);
        let other = surface("camera", "camera.list screen.record", nothing);
        assert!(matches!(change(&other, Some(&approved), Some(&request), true, 2),
            Change::Asks(other) if other.request_id != request.request_id));
    }

    #[test]
    fn a_new_node_always_asks_also_for_nothing() {
        let empty = Surface::default();
        assert!(matches!(change(&empty, None, None, true, 1), Change::Asks(request) if request.silent));
        assert_eq!(empty.approve_scopes(), [Scope::Pairing]);
    }

    #[test]
    fn abilities_and_permissions_are_part_of_it() {
        let approved = surface("a", "x", json!({ "camera": true, "screen": false }));
        let asks =
            |declared: &Surface| matches!(change(declared, Some(&approved), None, false, 1), Change::Asks(_));
        assert!(asks(&surface("a b", "x", json!(null))));
        assert!(asks(&surface("a", "x", json!({ "screen": true }))));
        assert!(asks(&surface("a", "x", json!({ "microphone": true }))));
        assert!(!asks(&surface("a", "x", json!({ "camera": false, "microphone": false }))));
        let now = surface("a", "x", json!({ "camera": true, "screen": true }));
        assert_eq!(
            now.within(&approved).permissions,
            surface("", "", json!({ "camera": true, "screen": false })).permissions
        );
    }

    #[test]
    fn who_approves_needs_more_for_more() {
        let scopes = |commands: &str| surface("", commands, json!(null)).approve_scopes();
        assert_eq!(scopes("camera.list"), [Scope::Pairing, Scope::Write]);
        for command in FOR_ADMINS {
            assert_eq!(
                scopes(&format!("camera.list {command}")),
                [Scope::Pairing, Scope::Admin],
                "{command}"
            );
        }
    }

    #[test]
    fn a_declaration_is_cut_to_the_policy_and_each_item_counts_once() {
        let params = json!({
            "minProtocol": 4, "maxProtocol": 4, "caps": ["system", "system", " "],
            "client": { "id": "node-host", "mode": "node", "version": "1", "platform": "linux" },
            "commands": ["system.run", "file.write", "system.run", "camera.snap"],
        });
        let params = serde_json::from_value(params).unwrap();
        let commands = NodeCommandSettings::default();
        let declared = Surface::declared(&params, &Policy { platform: Platform::Linux, commands: &commands });
        assert_eq!((declared.caps, declared.commands), (strings("system"), strings("system.run")));
    }

    #[test]
    fn a_node_stands_as_its_surfaces_say() {
        let some = Surface::default();
        let Change::Asks(request) = change(&some, None, None, true, 1) else { panic!("not asked") };
        let names = [
            Standing::of(None, None),
            Standing::of(None, Some(&request)),
            Standing::of(Some(&some), Some(&request)),
            Standing::of(Some(&some), None),
        ];
        assert_eq!(
            names.map(Standing::name),
            ["unapproved", "pending-approval", "pending-reapproval", "approved"]
        );
    }
}

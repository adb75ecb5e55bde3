//! What operators decide about devices, and who may decide what. Pure; the rules are recorded (handshake.md,
//! section 4).

use super::book::{Book, issued_at, token_scopes};
use crate::conns::Conn;
use crate::nodes::Dismissal;
use crate::pairing::{PendingRequest, with};
use crate::store::DeviceRow;
use crabtree_protocol::params::devices::{
    Approved, Devices, PairedDevice, Rejected, Removed, Renamed, Revoked, Rotated,
};
use crabtree_protocol::{Event as Name, Refusal, Role, Scope, Scopes};
use serde_json::json;

/// Who decides.
pub(super) struct Caller {
    /// The device, if it is let in by its own token: then it may see to itself alone.
    device: Option<String>,
    scopes: Scopes,
}

impl Caller {
    pub fn of(conn: &Conn) -> Self {
        let grant = conn.grant();
        let device = grant.filter(|grant| grant.method == "device-token").and_then(|g| g.device.as_ref());
        Self {
            device: device.map(ToString::to_string),
            scopes: grant.map_or_else(Scopes::none, |grant| grant.scopes.clone()),
        }
    }

    fn is_admin(&self) -> bool {
        self.scopes.contains(Scope::Admin)
    }

    /// Whether this device is none of the caller's business.
    fn is_strange(&self, device_id: &str) -> bool {
        !self.is_admin() && self.device.as_deref().is_some_and(|own| own != device_id)
    }

    /// Whether the caller is its own device and that is more than an operator, which is for administrators.
    fn is_limited(&self, device: Option<&DeviceRow>) -> bool {
        let operator = Role::Operator.name();
        let more = device.is_some_and(|device| device.roles.iter().any(|role| role != operator));
        !self.is_admin() && self.device.is_some() && more
    }

    /// The first of these scopes that the caller could not give.
    fn lacks<'a>(&self, scopes: &'a [String]) -> Option<&'a String> {
        let covered =
            |scope: &&String| !Scopes::parse(std::slice::from_ref(*scope)).is_subset_of(&self.scopes);
        scopes.iter().find(covered)
    }
}

impl Book {
    pub fn list(&self, caller: &Caller, connected: impl Fn(&str) -> bool, now: i64) -> Devices {
        let mut paired: Vec<&DeviceRow> =
            self.devices.values().filter(|device| !caller.is_strange(&device.device_id)).collect();
        paired.sort_by(|a, b| b.approved_at.cmp(&a.approved_at).then_with(|| a.device_id.cmp(&b.device_id)));
        let waiting = self.pending.all(now).into_iter();
        Devices {
            pending: waiting
                .filter(|request| !caller.is_strange(&request.ask.device.device_id))
                .map(PendingRequest::shown)
                .collect(),
            paired: paired
                .into_iter()
                .map(|device| PairedDevice {
                    connected: Some(connected(&device.device_id)),
                    ..self.shown(device)
                })
                .collect(),
        }
    }

    pub fn approve(&mut self, caller: &Caller, request_id: &str, now: i64) -> Result<Approved, Refusal> {
        let request = self.pending.find(request_id, now).cloned();
        if !caller.is_admin() {
            let may = request.as_ref().is_some_and(|request| {
                !caller.is_strange(&request.ask.device.device_id) && request.roles == [Role::Operator]
            });
            if !may {
                return Err(Refusal::device_denied("pairing approval"));
            }
        }
        let request = request.ok_or_else(Refusal::unknown_request_id)?;
        let device_id = request.ask.device.device_id.clone();
        let operator = request.roles.contains(&Role::Operator);
        if let Some(scope) = request.scopes.iter().find(|scope| !operator && scope.starts_with("operator.")) {
            return Err(Refusal::invalid_request(format!("invalid scope for requested roles: {scope}")));
        }
        let granted = self.granted(&request);
        let given = token_scopes(&[&request.scopes[..], &granted].concat());
        if let Some(scope) = caller.lacks(&given).filter(|_| operator) {
            return Err(Refusal::invalid_request(format!("missing scope: {scope}")));
        }
        let had_node = self.tokens.contains_key(&(device_id.clone(), Role::Node));
        self.pair(&request, "owner", now);
        for role in &request.roles {
            let scopes = if *role == Role::Operator { &granted[..] } else { &[] };
            self.renew(&device_id, *role, scopes, now);
        }
        if had_node && request.roles.contains(&Role::Node) {
            self.change.cut.push((device_id.clone(), Some(Role::Node)));
        }
        self.pending.withdraw(&device_id);
        self.change.tell_resolved(request_id, &device_id, true, now);
        Ok(Approved { request_id: request_id.to_owned(), device: self.shown(&self.devices[&device_id]) })
    }

    /// What the operator's token may do after an approval: what it could, and what is new in the request.
    fn granted(&self, request: &PendingRequest) -> Vec<String> {
        let device_id = &request.ask.device.device_id;
        let token = self.active(device_id, Role::Operator);
        let approved = self.devices.get(device_id).map(|device| token_scopes(&device.scopes));
        let asked = token_scopes(&request.scopes);
        match (token, approved) {
            (Some(token), Some(approved)) => {
                let new = asked.iter().filter(|scope| approved.is_empty() || !approved.contains(scope));
                new.fold(token.scopes.clone(), with)
            }
            (None, Some(approved)) if asked.is_empty() => approved,
            _ => asked,
        }
    }

    /// The device as a request describes it is paired from now on.
    pub fn pair(&mut self, request: &PendingRequest, via: &str, now: i64) {
        let said = request.ask.device.clone();
        let known = self.devices.remove(&said.device_id).unwrap_or_default();
        let kept = known.approved_via.filter(|old| via != "owner" && matches!(&**old, "owner" | "bootstrap"));
        let row = DeviceRow {
            roles: request.roles.iter().map(|role| role.name()).fold(known.roles, with),
            scopes: request.scopes.iter().fold(known.scopes, with),
            approved_via: Some(kept.unwrap_or_else(|| via.to_owned())),
            created_at: if known.created_at == 0 { now } else { known.created_at },
            approved_at: now,
            label: known.label,
            last_seen_at: known.last_seen_at,
            last_seen_reason: known.last_seen_reason,
            ..said
        };
        self.touch(&row.device_id);
        self.devices.insert(row.device_id.clone(), row);
    }

    pub fn reject(&mut self, caller: &Caller, request_id: &str, now: i64) -> Result<Rejected, Refusal> {
        let device_id =
            self.pending.find(request_id, now).map(|request| request.ask.device.device_id.clone());
        let own = caller.device.is_some() && !caller.is_admin();
        if own && device_id.as_deref().is_none_or(|id| caller.is_strange(id)) {
            return Err(Refusal::device_denied("pairing rejection"));
        }
        let device_id = device_id.ok_or_else(Refusal::unknown_request_id)?;
        self.pending.withdraw(&device_id);
        self.change.setups.extend(self.setups.revoke(&device_id));
        self.change.tell_resolved(request_id, &device_id, false, now);
        Ok(Rejected { request_id: request_id.to_owned(), device_id })
    }

    pub fn remove(&mut self, caller: &Caller, device_id: &str) -> Result<Removed, Refusal> {
        let device = self.devices.get(device_id);
        if caller.is_strange(device_id) || caller.is_limited(device) {
            return Err(Refusal::device_denied("pairing removal"));
        }
        if device.is_none() {
            return Err(Refusal::unknown_device_id());
        }
        self.forget(device_id);
        self.change.cut.push((device_id.to_owned(), None));
        Ok(Removed { device_id: device_id.to_owned() })
    }

    /// A device loses a role, and is forgotten if it had no other. Whose connections that closes is the nodes' part.
    pub fn dismiss(&mut self, device_id: &str, role: Role, admin: bool, now: i64) -> Dismissal {
        let Some(device) = self.devices.get_mut(device_id) else { return Dismissal::Unknown };
        if !device.roles.iter().any(|known| known == role.name()) {
            return Dismissal::Unknown;
        }
        if device.roles.len() > 1 && !admin {
            return Dismissal::NeedsAdmin;
        }
        device.roles.retain(|known| known != role.name());
        if device.roles.is_empty() {
            self.forget(device_id);
        } else {
            if let Some(token) = self.tokens.get_mut(&(device_id.to_owned(), role)) {
                token.revoked_at = Some(now);
            }
            self.touch(device_id);
            self.change.nodes.insert(device_id.to_owned());
        }
        Dismissal::Done
    }

    pub fn rename(&mut self, caller: &Caller, device_id: &str, label: &str) -> Result<Renamed, Refusal> {
        let label = label.trim();
        if label.is_empty() {
            return Err(Refusal::invalid_request("label required"));
        }
        let device = self.devices.get(device_id);
        if caller.is_strange(device_id) || caller.is_limited(device) {
            return Err(Refusal::device_denied("pairing rename"));
        }
        let device = self.devices.get_mut(device_id).ok_or_else(Refusal::unknown_device_id)?;
        device.label = Some(label.to_owned());
        self.touch(device_id);
        self.change.tell(Name::DevicePairChanged, &json!({}));
        Ok(Renamed { device_id: device_id.to_owned(), label: label.to_owned() })
    }

    pub fn rotate(
        &mut self,
        caller: &Caller,
        device_id: &str,
        role: &str,
        scopes: Option<&[String]>,
        now: i64,
    ) -> Result<Rotated, Refusal> {
        let denied = || Refusal::device_denied("token rotation");
        let role = self.managed(caller, device_id, role).ok_or_else(denied)?;
        let device = &self.devices[device_id];
        let last = self.tokens.get(&(device_id.to_owned(), role));
        let default = if role == Role::Operator { &device.scopes[..] } else { &[] };
        let scopes = token_scopes(scopes.unwrap_or_else(|| last.map_or(default, |token| &token.scopes)));
        let approved = if role == Role::Operator { Scopes::parse(&device.scopes) } else { Scopes::none() };
        let beyond = !Scopes::parse(&scopes).is_subset_of(&approved);
        if beyond || (role == Role::Operator && caller.lacks(&scopes).is_some()) {
            return Err(denied());
        }
        let token = self.renew(device_id, role, &scopes, now);
        self.change.cut.push((device_id.to_owned(), Some(role)));
        let own = caller.device.as_deref() == Some(device_id);
        Ok(Rotated {
            device_id: device_id.to_owned(),
            role: token.role.clone(),
            rotated_at_ms: issued_at(&token),
            token_delivery: if own { "in-band" } else { "withheld-cross-device" }.into(),
            token: own.then(|| self.derive(&token)),
            scopes: token.scopes,
        })
    }

    pub fn revoke(
        &mut self,
        caller: &Caller,
        device_id: &str,
        role: &str,
        now: i64,
    ) -> Result<Revoked, Refusal> {
        let denied = || Refusal::device_denied("token revocation");
        let role = self.managed(caller, device_id, role).ok_or_else(denied)?;
        let token = self.tokens.get_mut(&(device_id.to_owned(), role)).ok_or_else(denied)?;
        if role == Role::Operator && caller.lacks(&token.scopes).is_some() {
            return Err(denied());
        }
        token.revoked_at = Some(now);
        self.touch(device_id);
        self.change.cut.push((device_id.to_owned(), Some(role)));
        Ok(Revoked { device_id: device_id.to_owned(), role: role.name().to_owned(), revoked_at_ms: now })
    }

    /// The role, if the device has it and the caller may see to its token.
    fn managed(&self, caller: &Caller, device_id: &str, role: &str) -> Option<Role> {
        let role = Role::from_name(role.trim())?;
        let known = self.devices.get(device_id)?;
        let may = !caller.is_strange(device_id) && (caller.is_admin() || role == Role::Operator);
        (may && known.roles.iter().any(|name| name == role.name())).then_some(role)
    }
}

#[cfg(test)]
#[path = "deciding_tests.rs"]
mod tests;

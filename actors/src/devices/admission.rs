//! Whether a device that proved itself may come in, and with what.

use super::book::{Book, issued_at};
use super::setups::operator_scopes;
use super::{Admission, Request};
use crate::auth_limiter::SecretKind;
use crate::estate::Estate;
use crate::handshake::{self, Shared};
use crate::origin::is_browser;
use crate::pairing::{self, Ask, PendingRequest, Ruling, Trust, described, rule};
use crate::settings::AuthSecret;
use crate::store::{DeviceRow, TokenRow};
use crabtree_protocol::hello::IssuedToken;
use crabtree_protocol::params::devices::SetupProfile;
use crabtree_protocol::proof::VerifiedDevice;
use crabtree_protocol::refusal::{PairingReason, PairingRequired};
use crabtree_protocol::{ClientId, ConnectRefusal, Event as Name, Role, Scope, Scopes};
use std::collections::BTreeSet;
use subtle::ConstantTimeEq;

/// What a device is believed for.
enum Proof {
    /// The shared secret, or none is asked for: `auth.method`.
    Shared(&'static str),
    /// Its own token.
    Device,
    /// A setup code.
    Setup(String, SetupProfile),
}

impl Proof {
    fn method(&self) -> &'static str {
        match self {
            Self::Shared(method) => method,
            Self::Device => "device-token",
            Self::Setup(..) => "bootstrap-token",
        }
    }

    /// How a device is approved in silence.
    fn approved_via(&self) -> &'static str {
        match self {
            Self::Shared("trusted-proxy") => "trusted-proxy",
            _ => "silent",
        }
    }
}

/// The scopes of a person's browser that is paired since a trusted proxy says whose it is, if that is wanted.
fn by_proxy(estate: &Estate, request: &Request, proof: &Proof, reason: PairingReason) -> Option<Scopes> {
    let config = estate.config.load();
    let policy = &config.settings.gateway.auth.trusted_proxy.device_auto_approve;
    let (params, claim) = (&request.params, &request.claim);
    let page = is_browser(params.client.id, params.client.mode) || pairing::is_native(params);
    let fresh = matches!(reason, PairingReason::NotPaired | PairingReason::ScopeUpgrade);
    let meant = policy.enabled && page && fresh && claim.role == Role::Operator;
    if !meant || !matches!(proof, Proof::Shared("trusted-proxy")) {
        return None;
    }
    let given = match &policy.scopes {
        Some(scopes) => Scopes::parse(scopes),
        None => Scopes::of(&[Scope::Approvals, Scope::Questions, Scope::Read, Scope::Write]),
    };
    if params.scopes.is_none() {
        return Some(
            request.conn.peer.scope_cap.as_ref().map_or_else(|| given.clone(), |cap| given.capped(cap)),
        );
    }
    let mut asked: BTreeSet<&str> = claim.scopes.as_list().iter().map(String::as_str).collect();
    if policy.scopes.is_none() {
        asked.insert(Scope::Questions.name());
    }
    // Word by word: what a wider scope brings along is not what was asked for.
    let both = asked.into_iter().filter(|scope| given.as_list().iter().any(|name| name == scope));
    let both = Scopes::parse(&both.map(str::to_owned).collect::<Vec<_>>());
    Some(request.conn.peer.scope_cap.as_ref().map_or_else(|| both.clone(), |cap| both.capped(cap)))
}

type Refused = Box<ConnectRefusal>;

impl Book {
    /// Decides about a device that wants in.
    pub fn admit(
        &mut self,
        estate: &Estate,
        request: &Request,
        device: &VerifiedDevice,
        now: i64,
    ) -> Result<Admission, Refused> {
        let (claim, id) = (&request.claim, device.id.as_str());
        let proof = self.prove(estate, request, id, now)?;
        let known = self.devices.get(id);
        let backend = handshake::is_backend(&request.params) && matches!(proof, Proof::Shared(_));
        if known.is_none() && backend && request.local {
            // The gateway's own helpers need no pairing, and get no token.
            return Ok(Admission::new(proof.method(), claim.scopes.clone()));
        }
        if let Proof::Setup(setup_id, access) = &proof
            && pairing::may_set_up(&request.params, claim, *access, known)
        {
            return Ok(self.set_up(request, setup_id, *access, now));
        }
        let by_secret = matches!(proof, Proof::Shared("none" | "token" | "password"));
        let active = self.active(id, claim.role).is_some();
        let trust = Trust { local: request.local, vouched: request.vouched, by_secret };
        let mut ruling = rule(&request.params, claim, trust, known, active);
        let mut scopes = claim.scopes.clone();
        if let Ruling::Ask(reason) = ruling {
            let Some(given) = by_proxy(estate, request, &proof, reason) else {
                return Err(self.ask_to_pair(request, id, reason, now));
            };
            (scopes, ruling) = (given, Ruling::Approve);
        }
        let token = self.welcome(request, &scopes, ruling, proof.approved_via(), now);
        let mut admission = Admission::new(proof.method(), scopes);
        // A page gets none where none would be asked for, and a person who is known needs none.
        let page = request.params.client.id == ClientId::ControlUi;
        let open = matches!(*estate.auth(), AuthSecret::None);
        if !(page && open || request.conn.peer.user().is_some()) {
            admission.token = Some(self.issued(&token));
        }
        if let Proof::Setup(setup_id, _) = &proof {
            self.complete(setup_id, None, now);
        }
        Ok(admission)
    }

    /// Takes over what is new of a device that is let in; its token.
    fn welcome(
        &mut self,
        request: &Request,
        scopes: &Scopes,
        ruling: Ruling,
        via: &str,
        now: i64,
    ) -> TokenRow {
        let claim = &request.claim;
        let ask = Ask { scopes: scopes.as_list().to_vec(), ..self.asked(request, true) };
        let (device_id, name) = (ask.device.device_id.clone(), ask.device.display_name.clone());
        let id = &*device_id;
        let covers = |token: &&TokenRow| scopes.is_subset_of(&Scopes::parse(&token.scopes));
        let kept = self.active(id, claim.role).filter(|_| ruling != Ruling::Approve).filter(covers).cloned();
        if ruling == Ruling::Refresh
            && let Some(device) = self.devices.get_mut(id)
        {
            let said = described(&request.params, id);
            device.platform = said.platform.or(device.platform.take());
            device.device_family = said.device_family.or(device.device_family.take());
            self.touch(id);
        }
        let token = kept.unwrap_or_else(|| {
            let last = self.active(id, claim.role).map_or_else(Vec::new, |token| token.scopes.clone());
            if ruling == Ruling::Approve {
                let asked = self.ask_silently(ask, now);
                self.pair(&asked, via, now);
                self.change.tell_resolved(&asked.request_id, id, true, now);
            }
            let scopes = scopes.as_list().iter().fold(last, pairing::with);
            self.renew(id, claim.role, &scopes, now)
        });
        if let Some(device) = self.devices.get_mut(id) {
            device.last_seen_at = Some(now);
            device.last_seen_reason = Some("connect".into());
            // Recorded: a device that leaves its name out has none any more.
            if device.display_name != name {
                device.display_name = name;
                self.touch(id);
            }
        }
        if let Some(token) = self.tokens.get_mut(&(id.to_owned(), claim.role)) {
            token.last_used_at = Some(now);
        }
        token
    }

    /// A device pairs itself with a setup code: as a node, and as the operator the code makes of it.
    fn set_up(&mut self, request: &Request, setup_id: &str, access: SetupProfile, now: i64) -> Admission {
        let scopes = operator_scopes(access);
        let operator = scopes.as_ref().map_or(&[][..], Scopes::as_list);
        let mut ask = self.asked(request, true);
        ask.scopes = operator.to_vec();
        let id = ask.device.device_id.clone();
        let mut asked = self.ask_silently(ask, now);
        if scopes.is_some() {
            asked.roles.push(Role::Operator);
        }
        let replaced = asked.roles.iter().filter(|role| self.active(&id, **role).is_some());
        let replaced: Vec<_> = replaced.map(|role| (id.clone(), Some(*role))).collect();
        self.change.cut.extend(replaced);
        self.pair(&asked, "bootstrap", now);
        self.change.tell_resolved(&asked.request_id, &id, true, now);
        let node = self.renew(&id, Role::Node, &[], now);
        let others = scopes.map(|scopes| self.renew(&id, Role::Operator, scopes.as_list(), now));
        let name = asked.ask.device.display_name.clone();
        self.complete(setup_id, name, now);
        Admission {
            token: Some(self.issued(&node)),
            others: others.iter().map(|token| self.issued(token)).collect(),
            ..Admission::new("bootstrap-token", request.claim.scopes.clone())
        }
    }

    fn complete(&mut self, setup_id: &str, name: Option<String>, now: i64) {
        if let Some(completed) = self.setups.complete(setup_id, name, now) {
            self.change.setups.insert(setup_id.to_owned());
            self.change.tell(Name::DevicePairSetupCompleted, &completed);
        }
    }

    /// A request that is approved as it is made, so that nobody has to hear of it before.
    fn ask_silently(&mut self, ask: Ask, now: i64) -> PendingRequest {
        let device_id = ask.device.device_id.clone();
        if let Some(before) = self.pending.withdraw(&device_id) {
            self.change.tell_resolved(&before.request_id, &device_id, false, now);
        }
        PendingRequest::new(ask, now)
    }

    fn asked(&self, request: &Request, silent: bool) -> Ask {
        let claim = &request.claim;
        let (id, public_key) = claim
            .device
            .as_ref()
            .map(|device| (device.id.as_str(), device.public_key.clone()))
            .unwrap_or_default();
        let remote_ip = request.remote_ip.map(|ip| ip.to_string());
        let device = DeviceRow { public_key, remote_ip, ..described(&request.params, id) };
        let (role, scopes) = (claim.role, claim.scopes.as_list().to_vec());
        Ask { device, role, scopes, silent, is_repair: self.devices.contains_key(id) }
    }

    fn issued(&self, token: &TokenRow) -> IssuedToken {
        IssuedToken {
            device_token: self.derive(token),
            role: Role::from_name(&token.role).unwrap_or(Role::Node),
            scopes: Scopes::parse(&token.scopes),
            issued_at_ms: issued_at(token).unsigned_abs(),
        }
    }

    /// What stands for the shared secret if that was not right, or goes before it: a setup code, or the device's
    /// token. Failures are counted by the connection.
    fn prove(&mut self, estate: &Estate, request: &Request, id: &str, now: i64) -> Result<Proof, Refused> {
        let claim = &request.claim;
        let locked = |kind| request.locked(estate, kind);
        let passed = |kind| estate.auth_limiter.passed(&request.culprit, kind);
        let auth = request.params.auth.as_ref();
        let sent = |text: Option<&String>| text.filter(|t| !t.is_empty()).cloned();
        let offered = sent(auth.and_then(|a| a.device_token.as_ref()));
        let shared = sent(auth.and_then(|a| a.token.as_ref()));
        let setup = sent(auth.and_then(|a| a.bootstrap_token.as_ref()));
        let mut refusal = None;
        if let Some(token) = &setup {
            let found = locked(SecretKind::Bootstrap).map_or_else(
                || {
                    let found = self.setups.present(token, id, claim.role, &claim.scopes, now);
                    found.ok_or_else(ConnectRefusal::bootstrap_token_invalid)
                },
                Err,
            );
            match found {
                Ok((setup_id, access)) => {
                    passed(SecretKind::Bootstrap);
                    self.change.setups.insert(setup_id.clone());
                    return Ok(Proof::Setup(setup_id, access));
                }
                Err(refused) => refusal = Some(refused),
            }
        }
        if let Shared::Granted(method) = claim.shared {
            return Ok(Proof::Shared(method));
        }
        if let Some(left) = locked(SecretKind::Device).filter(|_| offered.is_some()) {
            return Err(Box::new(left));
        }
        let mine = self.active(id, claim.role).map(|token| (self.derive(token), token));
        let right = mine.filter(|(derived, row)| {
            let mut candidates = offered.iter().chain(&shared);
            candidates.any(|candidate| {
                bool::from(derived.as_bytes().ct_eq(candidate.as_bytes())) || self.is_imported(row, candidate)
            })
        });
        Err(Box::new(match (right, refusal) {
            (Some((_, token)), _) if claim.scopes.is_subset_of(&Scopes::parse(&token.scopes)) => {
                passed(SecretKind::Device);
                return Ok(Proof::Device);
            }
            (Some(_), _) => ConnectRefusal::scope_mismatch(),
            (None, _) if offered.is_some() => ConnectRefusal::device_token_mismatch(),
            (None, Some(refusal)) => refusal,
            (None, None) => handshake::refuse_shared(claim, shared.is_some()),
        }))
    }

    fn ask_to_pair(&mut self, request: &Request, id: &str, reason: PairingReason, now: i64) -> Refused {
        let claim = &request.claim;
        let silent = request.local && reason == PairingReason::NotPaired;
        let asked = self.ask(self.asked(request, silent), now);
        let known = self.devices.get(id);
        Box::new(ConnectRefusal::pairing_required(&PairingRequired {
            reason,
            request_id: &asked.request.request_id,
            wait_then_retry: request.params.client.id == ClientId::ControlUi,
            device_id: id,
            requested_role: claim.role.name(),
            requested_scopes: claim.scopes.as_list(),
            approved_roles: known.map_or(&[], |d| d.roles.as_slice()),
            approved_scopes: known.map_or(&[], |d| d.scopes.as_slice()),
        }))
    }
}

impl Request {
    fn locked(&self, estate: &Estate, kind: SecretKind) -> Option<ConnectRefusal> {
        let limits = &estate.config.load().settings.gateway.auth.rate_limit;
        let left = estate.auth_limiter.locked(&self.culprit, kind, estate.clock.uptime(), limits)?;
        Some(ConnectRefusal::rate_limited(left.as_millis().max(1) as u64))
    }
}

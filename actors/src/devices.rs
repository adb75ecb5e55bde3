//! **Owns** the paired devices and their tokens.
//! **Hears** of devices that proved themselves; **tells** their connection what they are granted, operators
//! who was paired, and the store every change before anybody else hears of it.
//! **On crash** no device is lost: it reads the store again. Connections that were waiting ask again; requests to
//! pair that wait for an operator are made anew when their devices ask again, which they do.
//!
//! Device tokens are never stored. A token is a keyed hash of device, role and rotation, made with a key that
//! only this gateway has; so it is the same at each hello, and the database holds nothing worth stealing. In those of
//! browsers the shared secret is mixed in: they die when it changes.

use crate::auth_limiter::{Culprit, SecretKind};
use crate::estate::{Estate, Part};
use crate::event::{Audience, Event};
use crate::handshake::{self, Claim, Shared};
use crate::nodes::Dismissal;
use crate::origin::is_browser;
use crate::pairing::{Pending, Ruling, described, rule, with};
use crate::settings::AuthSecret;
use crate::store::{self, DeviceRow, Store, StoreError, TokenRow, WriteOp};
use crate::tree::*;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use crabtree_protocol::refusal::{PairingReason, PairingRequired};
use crabtree_protocol::{ClientId, ClientMode, ConnectParams, ConnectRefusal, Role, Scope, Scopes};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use subtle::ConstantTimeEq;
use uuid::Uuid;

/// A device that proved itself and asks to come in.
pub struct Request {
    /// What it asked for.
    pub params: ConnectParams,
    /// What was made of it.
    pub claim: Claim,
    /// Whether it may be approved in silence; see [`crate::pairing::is_trusted_local`].
    pub local: bool,
    /// Its address, unless it is on this machine.
    pub remote_ip: Option<IpAddr>,
    /// Who its failures count for.
    pub culprit: Culprit,
}

/// What a device is granted.
#[derive(Clone, Debug)]
pub struct Admission {
    /// How it authenticated.
    pub method: &'static str,
    /// Its scopes.
    pub scopes: Scopes,
    /// Its token and when that was issued (ms).
    pub token: Option<(String, i64)>,
}

/// The answer to a request.
pub type Verdict = Result<Admission, ConnectRefusal>;

/// What the devices actor hears.
pub enum DevicesMsg {
    /// The store's devices and tokens.
    Loaded(Result<(Vec<DeviceRow>, Vec<TokenRow>), StoreError>),
    /// May this device come in?
    Admit(Arc<Request>, Reply<Verdict>),
    /// A device loses a role, and is forgotten if it had no other.
    Dismiss {
        /// Which device.
        device_id: String,
        /// Which role.
        role: Role,
        /// Whether an administrator says so.
        admin: bool,
        /// Answered when it is stored.
        reply: Reply<Dismissal>,
    },
}

/// See the module.
pub struct Devices {
    estate: Arc<Estate>,
    store: Store,
    devices: HashMap<String, DeviceRow>,
    tokens: HashMap<(String, Role), TokenRow>,
    pending: Pending,
    /// Names the shared secret in force; tokens of browsers die with it.
    generation: String,
    loaded: bool,
    early: Vec<DevicesMsg>,
}

impl Behavior for Devices {
    type Msg = DevicesMsg;
    type Args = Store;
    const KIND: &'static str = "devices";

    fn start(ctx: &mut Ctx<DevicesMsg>, store: Store) -> Result<Self, Fault> {
        let reader = store.clone();
        let read = async move { reader.read(|c| Ok((store::devices(c)?, store::tokens(c)?))).await };
        ctx.task(read, DevicesMsg::Loaded);
        let estate = store.estate.clone();
        Ok(Self {
            generation: handshake::generation(&estate.auth, &estate.device_key),
            estate,
            store,
            devices: HashMap::new(),
            tokens: HashMap::new(),
            pending: Pending::default(),
            loaded: false,
            early: Vec::new(),
        })
    }

    fn handle(&mut self, ctx: &mut Ctx<DevicesMsg>, msg: DevicesMsg) -> Result<(), Fault> {
        match msg {
            DevicesMsg::Loaded(rows) => self.loaded(ctx, rows.map_err(Fault::new)?)?,
            early if !self.loaded => self.early.push(early),
            DevicesMsg::Admit(request, reply) => self.admit(ctx, &request, reply),
            DevicesMsg::Dismiss { device_id, role, admin, reply } => {
                self.dismiss(ctx, &device_id, role, admin, reply);
            }
        }
        ctx.publish_info(json!({ "paired": self.devices.len(), "pending": self.pending.count() }));
        Ok(())
    }
}

impl Devices {
    fn loaded(
        &mut self,
        ctx: &mut Ctx<DevicesMsg>,
        (devices, tokens): (Vec<DeviceRow>, Vec<TokenRow>),
    ) -> Result<(), Fault> {
        self.devices = devices.into_iter().map(|d| (d.device_id.clone(), d)).collect();
        self.tokens = tokens
            .into_iter()
            .filter_map(|t| Some(((t.device_id.clone(), Role::from_name(&t.role)?), t)))
            .collect();
        self.loaded = true;
        self.estate.ready.done(Part::Devices);
        for msg in std::mem::take(&mut self.early) {
            self.handle(ctx, msg)?;
        }
        Ok(())
    }

    fn admit(&mut self, ctx: &mut Ctx<DevicesMsg>, request: &Request, reply: Reply<Verdict>) {
        let now = ctx.now_ms();
        let Changes { admission, ops, durable } = match self.decide(request, now) {
            Ok(changes) => changes,
            Err(refusal) => return reply.send(Err(*refusal)),
        };
        let store = self.store.clone();
        ctx.detached(async move {
            // A pairing is durable before the device hears of it; that it was seen may be lost.
            let mut reply = Some((reply, admission));
            if !durable && let Some((reply, admission)) = reply.take() {
                reply.send(Ok(admission));
            }
            for op in ops {
                if let Err(e) = store.write(op).await
                    && durable
                {
                    tracing::error!(target: "crabtree::devices", "a pairing was not stored: {e}");
                    return;
                }
            }
            if let Some((reply, admission)) = reply {
                reply.send(Ok(admission));
            }
        });
    }

    fn decide(&mut self, request: &Request, now: i64) -> Result<Changes, Box<ConnectRefusal>> {
        let claim = &request.claim;
        let device = claim.device.as_ref().expect("only proven devices are asked about");
        let id = device.id.as_str().to_owned();
        let method = match claim.shared {
            Shared::Granted(method) => method,
            _ => self.by_device_token(request, &id)?,
        };
        let known = self.devices.get(&id);
        let token = self.tokens.get(&(id.clone(), claim.role)).filter(|t| t.revoked_at.is_none());
        let backend = handshake::is_backend(&request.params) && matches!(claim.shared, Shared::Granted(_));
        if known.is_none() && backend && request.local {
            // The gateway's own helpers need no pairing, and get no token.
            let admission = Admission { method, scopes: claim.scopes.clone(), token: None };
            return Ok(Changes { admission, ops: Vec::new(), durable: false });
        }
        let ruling = rule(&request.params, claim, request.local, known, token.is_some());
        if let Ruling::Ask(reason) = ruling {
            return Err(Box::new(self.ask_to_pair(request, &id, reason, now)));
        }
        let fresh = DeviceRow { created_at: now, ..DeviceRow::default() };
        let before = known.cloned().unwrap_or(fresh);
        let covers = |t: &&TokenRow| claim.scopes.is_subset_of(&Scopes::parse(&t.scopes));
        let kept = token.filter(|_| ruling != Ruling::Approve).filter(covers).cloned();
        let renewed = kept.is_none();
        let token = kept.unwrap_or_else(|| self.new_token(&id, claim, now));
        let mut row = DeviceRow { public_key: device.public_key.clone(), ..before };
        if ruling != Ruling::Known || renewed {
            let scopes = token.scopes.iter().fold(row.scopes, with);
            row = DeviceRow {
                public_key: row.public_key,
                approved_via: row.approved_via.or(Some("silent".into())),
                approved_at: if row.approved_at == 0 { now } else { row.approved_at },
                created_at: row.created_at,
                roles: with(row.roles, claim.role.name()),
                scopes,
                ..described(&request.params, &id)
            };
        }
        let ops = self.remember(ruling, renewed, &row, &token, now);
        let hidden =
            matches!(self.estate.auth, AuthSecret::None) && request.params.client.id == ClientId::ControlUi;
        let shown = (!hidden).then(|| (self.derive(&token, &row), token.created_at));
        let admission = Admission { method, scopes: claim.scopes.clone(), token: shown };
        Ok(Changes { admission, ops, durable: renewed || ruling != Ruling::Known })
    }

    /// The row of a token that replaces whatever this device had for the role.
    fn new_token(&self, id: &str, claim: &Claim, now: i64) -> TokenRow {
        let last = self.tokens.get(&(id.to_owned(), claim.role));
        let active = last.filter(|t| t.revoked_at.is_none());
        let scopes = active.map_or_else(Vec::new, |t| t.scopes.clone());
        let rotation = last.map_or(0, |t| t.rotation + 1);
        TokenRow {
            device_id: id.to_owned(),
            role: claim.role.name().to_owned(),
            scopes: claim.scopes.as_list().iter().fold(scopes, with),
            rotation,
            created_at: now,
            rotated_at: (rotation > 0).then_some(now),
            last_used_at: Some(now),
            revoked_at: None,
        }
    }

    /// Takes the new rows over, tells operators, and returns what is to be written.
    fn remember(
        &mut self,
        ruling: Ruling,
        renewed: bool,
        device: &DeviceRow,
        token: &TokenRow,
        now: i64,
    ) -> Vec<WriteOp> {
        let id = device.device_id.clone();
        let mut ops = Vec::new();
        if ruling == Ruling::Known && !renewed {
            ops.push(WriteOp::SeeDevice { device_id: id.clone(), at: now, reason: Some("connect".into()) });
        } else {
            ops.push(WriteOp::PutDevice(device.clone()));
        }
        if renewed {
            ops.push(WriteOp::PutToken(token.clone()));
            if let Some(request_id) = self.pending.withdraw(&id) {
                self.tell_resolved(&request_id, &id, "rejected", now);
            }
            self.tell_resolved(&Uuid::new_v4().to_string(), &id, "approved", now);
        }
        if let Some(role) = Role::from_name(&token.role) {
            self.tokens.insert((id.clone(), role), token.clone());
        }
        self.devices.insert(id, device.clone());
        ops
    }

    /// The shared secret was not right: a device token may stand for it. Failures are counted by the connection.
    fn by_device_token(&self, request: &Request, id: &str) -> Result<&'static str, Box<ConnectRefusal>> {
        let claim = &request.claim;
        let auth = request.params.auth.as_ref();
        let sent = |text: Option<&String>| text.filter(|t| !t.is_empty()).cloned();
        let offered = sent(auth.and_then(|a| a.device_token.as_ref()));
        let shared = sent(auth.and_then(|a| a.token.as_ref()));
        let setup = sent(auth.and_then(|a| a.bootstrap_token.as_ref()));
        if let Some(left) = self.locked(request, SecretKind::Device).filter(|_| offered.is_some()) {
            return Err(Box::new(left));
        }
        let token = self.tokens.get(&(id.to_owned(), claim.role)).filter(|t| t.revoked_at.is_none());
        let (device, token) = (self.devices.get(id), token);
        let mine = device.zip(token).map(|(device, token)| (self.derive(token, device), token));
        let right = mine.filter(|(derived, _)| {
            let mut candidates = offered.iter().chain(&shared);
            candidates.any(|candidate| bool::from(derived.as_bytes().ct_eq(candidate.as_bytes())))
        });
        Err(Box::new(match right {
            Some((_, token)) if claim.scopes.is_subset_of(&Scopes::parse(&token.scopes)) => {
                self.estate.auth_limiter.passed(&request.culprit, SecretKind::Device);
                return Ok("device-token");
            }
            Some(_) => ConnectRefusal::scope_mismatch(),
            None if offered.is_some() => ConnectRefusal::device_token_mismatch(),
            None if setup.is_some() => self
                .locked(request, SecretKind::Bootstrap)
                .unwrap_or_else(ConnectRefusal::bootstrap_token_invalid),
            None => handshake::refuse_shared(claim, shared.is_some()),
        }))
    }

    fn locked(&self, request: &Request, kind: SecretKind) -> Option<ConnectRefusal> {
        let limits = &self.estate.config.load().settings.gateway.auth.rate_limit;
        let now = self.estate.clock.uptime();
        let left = self.estate.auth_limiter.locked(&request.culprit, kind, now, limits)?;
        Some(ConnectRefusal::rate_limited(left.as_millis().max(1) as u64))
    }

    fn derive(&self, token: &TokenRow, device: &DeviceRow) -> String {
        let client = device.client_id.as_deref().and_then(ClientId::from_name);
        let mode = device.client_mode.as_deref().and_then(ClientMode::from_name);
        let browser = client.zip(mode).is_some_and(|(client, mode)| is_browser(client, mode));
        let bound = if browser && token.role == Role::Operator.name() { &*self.generation } else { "" };
        let mut hasher = blake3::Hasher::new_keyed(&self.estate.device_key);
        let rotation = token.rotation.to_string();
        let parts = ["device-token", &token.device_id, &token.role, &rotation, bound];
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
        }
        BASE64_URL_SAFE_NO_PAD.encode(hasher.finalize().as_bytes())
    }

    fn ask_to_pair(
        &mut self,
        request: &Request,
        id: &str,
        reason: PairingReason,
        now: i64,
    ) -> ConnectRefusal {
        let claim = &request.claim;
        let asked = self.pending.ask(id, claim.role, claim.scopes.as_list(), now);
        let request_id = &asked.request.request_id;
        if let Some(old) = &asked.superseded {
            self.tell_resolved(old, id, "rejected", now);
        }
        if asked.is_new {
            let described = described(&request.params, id);
            let mut news = Map::new();
            let mut put = |name: &str, value: Value| {
                if !value.is_null() {
                    news.insert(name.to_owned(), value);
                }
            };
            put("requestId", json!(request_id));
            put("deviceId", json!(id));
            put("publicKey", json!(claim.device.as_ref().map(|device| &device.public_key)));
            put("displayName", json!(described.display_name));
            put("platform", json!(described.platform));
            put("deviceFamily", json!(described.device_family));
            put("clientId", json!(described.client_id));
            put("clientMode", json!(described.client_mode));
            put("role", json!(claim.role.name()));
            put("roles", json!(asked.request.roles));
            put("scopes", json!(asked.request.scopes));
            put("remoteIp", json!(request.remote_ip));
            put("silent", json!(request.local && reason == PairingReason::NotPaired));
            put("isRepair", json!(self.devices.contains_key(id)));
            put("ts", json!(now));
            let name = crabtree_protocol::Event::DevicePairRequested;
            let audience = Audience::Scope(Scope::Pairing);
            self.estate.conns.publish(Event::new(name, audience, &Value::Object(news)));
        }
        let known = self.devices.get(id);
        ConnectRefusal::pairing_required(&PairingRequired {
            reason,
            request_id,
            wait_then_retry: request.params.client.id == ClientId::ControlUi,
            device_id: id,
            requested_role: claim.role.name(),
            requested_scopes: claim.scopes.as_list(),
            approved_roles: known.map_or(&[], |d| d.roles.as_slice()),
            approved_scopes: known.map_or(&[], |d| d.scopes.as_slice()),
        })
    }

    /// Of a device that is an operator too, only administrators take a role away.
    fn dismiss(
        &mut self,
        ctx: &mut Ctx<DevicesMsg>,
        device_id: &str,
        role: Role,
        admin: bool,
        reply: Reply<Dismissal>,
    ) {
        let Some(device) = self.devices.get_mut(device_id) else { return reply.send(Dismissal::Unknown) };
        if !device.roles.iter().any(|known| known == role.name()) {
            return reply.send(Dismissal::Unknown);
        }
        if device.roles.len() > 1 && !admin {
            return reply.send(Dismissal::NeedsAdmin);
        }
        device.roles.retain(|known| known != role.name());
        let mut ops = vec![WriteOp::RemoveNode { node_id: device_id.to_owned() }];
        let token = self.tokens.remove(&(device_id.to_owned(), role));
        if device.roles.is_empty() {
            self.devices.remove(device_id);
            ops = vec![WriteOp::RemoveDevice { device_id: device_id.to_owned() }];
        } else {
            ops.push(WriteOp::PutDevice(device.clone()));
            if let Some(token) = token {
                let revoked = TokenRow { revoked_at: Some(ctx.now_ms()), ..token };
                ops.push(WriteOp::PutToken(revoked.clone()));
                self.tokens.insert((device_id.to_owned(), role), revoked);
            }
        }
        let store = self.store.clone();
        ctx.detached(async move {
            let stored = store.write(WriteOp::All(ops)).await;
            reply.send(if stored.is_ok() { Dismissal::Done } else { Dismissal::Failed });
        });
    }

    fn tell_resolved(&self, request_id: &str, device_id: &str, decision: &str, now: i64) {
        let news = json!({ "requestId": request_id, "deviceId": device_id, "decision": decision, "ts": now });
        let name = crabtree_protocol::Event::DevicePairResolved;
        self.estate.conns.publish(Event::new(name, Audience::Scope(Scope::Pairing), &news));
    }
}

/// What an admission leaves behind.
struct Changes {
    admission: Admission,
    ops: Vec<WriteOp>,
    /// Whether it must be stored before anybody hears of it.
    durable: bool,
}

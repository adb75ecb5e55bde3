//! **Owns** the paired devices and their tokens.
//! **Hears** of devices that proved themselves; **tells** their connection what they are granted, operators
//! who was paired, and the store every change before anybody else hears of it.
//! **On crash** nothing is lost: it reads the store again. Connections that were waiting ask again.
//!
//! Device tokens are never stored. A token is a keyed hash of device, role and rotation, made with a key that
//! only this gateway has; so it is the same at each hello, and the database holds nothing worth stealing.

use crate::estate::{Estate, Part};
use crate::event::{Audience, Event};
use crate::handshake::{Claim, Shared};
use crate::store::{self, DeviceRow, Store, StoreError, TokenRow, WriteOp};
use crate::tree::*;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use crabtree_protocol::refusal::{PairingReason, PairingRequired};
use crabtree_protocol::{ClientId, ConnectParams, ConnectRefusal, Role, Scope, Scopes};
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;
use subtle::ConstantTimeEq;
use uuid::Uuid;

/// Requests to pair that are kept; more are refused without being remembered.
const MAX_PENDING: usize = 100;

/// A device that proved itself and asks to come in.
pub struct Request {
    /// What it asked for.
    pub params: ConnectParams,
    /// What was made of it.
    pub claim: Claim,
    /// Whether it connects directly over loopback.
    pub local: bool,
}

/// What a device is granted.
#[derive(Clone, Debug)]
pub struct Admission {
    /// How it authenticated.
    pub method: &'static str,
    /// Its scopes.
    pub scopes: Scopes,
    /// Its token and when that was issued (ms).
    pub token: (String, i64),
}

/// The answer to a request.
pub type Verdict = Result<Admission, ConnectRefusal>;

/// What the devices actor hears.
pub enum DevicesMsg {
    /// The store's devices and tokens.
    Loaded(Result<(Vec<DeviceRow>, Vec<TokenRow>), StoreError>),
    /// May this device come in?
    Admit(Arc<Request>, Reply<Verdict>),
}

/// See the module.
pub struct Devices {
    estate: Arc<Estate>,
    store: Store,
    devices: HashMap<String, DeviceRow>,
    tokens: HashMap<(String, Role), TokenRow>,
    pending: HashMap<(String, String), String>,
    loaded: bool,
    early: Vec<(Arc<Request>, Reply<Verdict>)>,
}

impl Behavior for Devices {
    type Msg = DevicesMsg;
    type Args = Store;
    const KIND: &'static str = "devices";

    fn start(ctx: &mut Ctx<DevicesMsg>, store: Store) -> Result<Self, Fault> {
        let reader = store.clone();
        let read = async move { reader.read(|c| Ok((store::devices(c)?, store::tokens(c)?))).await };
        ctx.task(read, DevicesMsg::Loaded);
        Ok(Self {
            estate: store.estate.clone(),
            store,
            devices: HashMap::new(),
            tokens: HashMap::new(),
            pending: HashMap::new(),
            loaded: false,
            early: Vec::new(),
        })
    }

    fn handle(&mut self, ctx: &mut Ctx<DevicesMsg>, msg: DevicesMsg) -> Result<(), Fault> {
        match msg {
            DevicesMsg::Loaded(rows) => self.loaded(ctx, rows.map_err(Fault::new)?),
            DevicesMsg::Admit(request, reply) if self.loaded => self.admit(ctx, &request, reply),
            DevicesMsg::Admit(request, reply) => self.early.push((request, reply)),
        }
        ctx.publish_info(json!({ "paired": self.devices.len(), "pending": self.pending.len() }));
        Ok(())
    }
}

impl Devices {
    fn loaded(&mut self, ctx: &mut Ctx<DevicesMsg>, (devices, tokens): (Vec<DeviceRow>, Vec<TokenRow>)) {
        self.devices = devices.into_iter().map(|d| (d.device_id.clone(), d)).collect();
        self.tokens = tokens
            .into_iter()
            .filter_map(|t| Some(((t.device_id.clone(), Role::from_name(&t.role)?), t)))
            .collect();
        self.loaded = true;
        self.estate.ready.done(Part::Devices);
        for (request, reply) in std::mem::take(&mut self.early) {
            self.admit(ctx, &request, reply);
        }
    }

    fn admit(&mut self, ctx: &mut Ctx<DevicesMsg>, request: &Request, reply: Reply<Verdict>) {
        let now = ctx.now_ms();
        let changes = match self.decide(request, now) {
            Ok(changes) => changes,
            Err(refusal) => return reply.send(Err(*refusal)),
        };
        let Changes { method, scopes, device, token, news } = changes;
        let admission = Admission { method, scopes, token: (self.derive(&token), token.created_at) };
        let mut ops = vec![WriteOp::SeeDevice {
            device_id: device.device_id.clone(),
            at: now,
            reason: Some("connect".into()),
        }];
        if news {
            ops = vec![WriteOp::PutDevice(device.clone()), WriteOp::PutToken(token.clone())];
            self.tell_paired(&device, now);
        }
        if let Some(role) = Role::from_name(&token.role) {
            self.tokens.insert((device.device_id.clone(), role), token);
        }
        self.devices.insert(device.device_id.clone(), device);
        let store = self.store.clone();
        ctx.detached(async move {
            // A pairing is durable before the device hears of it; that it was seen may be lost.
            if news {
                for op in ops {
                    if let Err(e) = store.write(op).await {
                        tracing::error!(target: "crabtree::devices", "a pairing was not stored: {e}");
                        return;
                    }
                }
                reply.send(Ok(admission));
            } else {
                reply.send(Ok(admission));
                for op in ops {
                    let _ = store.write(op).await;
                }
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
        let fresh = DeviceRow {
            public_key: device.public_key.clone(),
            roles: Vec::new(),
            scopes: Vec::new(),
            created_at: now,
            ..described(&request.params, &id)
        };
        if let Err(reason) = may_pair(request, known) {
            return Err(Box::new(self.ask_to_pair(request, &id, reason, now)));
        }
        let mut row = known.cloned().unwrap_or(fresh);
        let role = claim.role.name().to_owned();
        let token = self.tokens.get(&(id.clone(), claim.role));
        let covered = token
            .is_some_and(|t| t.revoked_at.is_none() && claim.scopes.is_subset_of(&Scopes::parse(&t.scopes)));
        if let Some(token) = token.filter(|_| covered) {
            let scopes = claim.scopes.clone();
            return Ok(Changes { method, scopes, device: row, token: token.clone(), news: false });
        }
        let mut scopes = token.map_or_else(Vec::new, |t| t.scopes.clone());
        scopes.extend(
            claim.scopes.as_list().iter().filter(|s| !scopes.contains(s)).cloned().collect::<Vec<_>>(),
        );
        let rotation = token.map_or(0, |t| t.rotation + 1);
        row = DeviceRow {
            public_key: row.public_key.clone(),
            approved_via: row.approved_via.clone().or(Some("silent".into())),
            approved_at: if row.approved_at == 0 { now } else { row.approved_at },
            created_at: row.created_at,
            roles: with(row.roles.clone(), &role),
            scopes: scopes.iter().fold(row.scopes.clone(), |all, s| with(all, s)),
            ..described(&request.params, &id)
        };
        let token = TokenRow {
            device_id: id,
            role,
            scopes,
            rotation,
            created_at: now,
            rotated_at: (rotation > 0).then_some(now),
            last_used_at: Some(now),
            revoked_at: None,
        };
        Ok(Changes { method, scopes: claim.scopes.clone(), device: row, token, news: true })
    }

    /// The shared secret was not right: a device token may stand for it.
    fn by_device_token(&self, request: &Request, id: &str) -> Result<&'static str, Box<ConnectRefusal>> {
        let claim = &request.claim;
        let auth = request.params.auth.as_ref();
        let offered = auth.and_then(|a| a.device_token.as_deref());
        let sent = auth.and_then(|a| a.token.as_deref());
        let token = self.tokens.get(&(id.to_owned(), claim.role)).filter(|t| t.revoked_at.is_none());
        let right = [offered, sent].into_iter().flatten().find(|candidate| {
            token.is_some_and(|t| bool::from(self.derive(t).as_bytes().ct_eq(candidate.as_bytes())))
        });
        match (right, token) {
            (Some(_), Some(token)) if claim.scopes.is_subset_of(&Scopes::parse(&token.scopes)) => {
                Ok("device-token")
            }
            (Some(_), _) => Err(Box::new(ConnectRefusal::scope_mismatch())),
            (None, _) if offered.is_some() => Err(Box::new(ConnectRefusal::device_token_mismatch())),
            (None, _) if claim.shared == Shared::Missing => {
                Err(Box::new(ConnectRefusal::credential_missing(claim.credential, claim.hint)))
            }
            (None, _) => {
                Err(Box::new(ConnectRefusal::credential_mismatch(claim.credential, claim.hint, true)))
            }
        }
    }

    fn derive(&self, token: &TokenRow) -> String {
        let mut hasher = blake3::Hasher::new_keyed(&self.estate.device_key);
        for part in ["device-token", &token.device_id, &token.role, &token.rotation.to_string()] {
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
        let asked = format!("{}|{}", claim.role.name(), claim.scopes.as_list().join(","));
        let known = self.devices.get(id);
        let key = (id.to_owned(), asked);
        let is_new = !self.pending.contains_key(&key);
        if is_new && self.pending.len() >= MAX_PENDING {
            self.pending.clear();
        }
        let request_id = self.pending.entry(key).or_insert_with(|| Uuid::new_v4().to_string()).clone();
        if is_new {
            let news = json!({
                "requestId": request_id, "deviceId": id, "role": claim.role.name(),
                "roles": [claim.role.name()], "scopes": claim.scopes.as_list(),
                "platform": request.params.client.platform.as_str(),
                "clientId": request.params.client.id.name(), "clientMode": request.params.client.mode.name(),
                "silent": false, "isRepair": known.is_some(), "ts": now,
            });
            let audience = Audience::Scope(Scope::Pairing);
            let name = crabtree_protocol::Event::DevicePairRequested;
            self.estate.conns.publish(Event::new(name, audience, &news));
        }
        ConnectRefusal::pairing_required(&PairingRequired {
            reason,
            request_id: &request_id,
            wait_then_retry: request.params.client.id == ClientId::ControlUi,
            device_id: id,
            requested_role: claim.role.name(),
            requested_scopes: claim.scopes.as_list(),
            approved_roles: known.map_or(&[], |d| d.roles.as_slice()),
            approved_scopes: known.map_or(&[], |d| d.scopes.as_slice()),
        })
    }

    fn tell_paired(&self, device: &DeviceRow, now: i64) {
        let news = json!({
            "requestId": Uuid::new_v4(), "deviceId": device.device_id, "decision": "approved", "ts": now,
        });
        let name = crabtree_protocol::Event::DevicePairResolved;
        self.estate.conns.publish(Event::new(name, Audience::Scope(Scope::Pairing), &news));
    }
}

struct Changes {
    method: &'static str,
    scopes: Scopes,
    device: DeviceRow,
    token: TokenRow,
    /// Whether a device or token is new or changed.
    news: bool,
}

/// Direct loopback clients are paired in silence; what needs an operator says why.
fn may_pair(request: &Request, known: Option<&DeviceRow>) -> Result<(), PairingReason> {
    let claim = &request.claim;
    let role = claim.role.name();
    let Some(known) = known else {
        let silent = request.local && (claim.role == Role::Operator || claim.scopes.is_empty());
        return if silent { Ok(()) } else { Err(PairingReason::NotPaired) };
    };
    let described = described(&request.params, &known.device_id);
    if described.platform != known.platform || described.device_family != known.device_family {
        return Err(PairingReason::MetadataUpgrade);
    }
    if !known.roles.iter().any(|r| r == role) {
        let silent = request.local && claim.role == Role::Operator;
        return if silent { Ok(()) } else { Err(PairingReason::RoleUpgrade) };
    }
    if claim.scopes.is_subset_of(&Scopes::parse(&known.scopes))
        || (request.local && claim.role == Role::Operator)
    {
        Ok(())
    } else {
        Err(PairingReason::ScopeUpgrade)
    }
}

fn described(params: &ConnectParams, id: &str) -> DeviceRow {
    let client = &params.client;
    let normal = |text: &str| crabtree_protocol::proof::normalized(text);
    DeviceRow {
        device_id: id.to_owned(),
        display_name: client.display_name.as_ref().map(ToString::to_string),
        platform: Some(normal(&client.platform)),
        device_family: client.device_family.as_deref().map(normal),
        client_id: Some(client.id.name().into()),
        client_mode: Some(client.mode.name().into()),
        ..DeviceRow::default()
    }
}

fn with(mut list: Vec<String>, item: &str) -> Vec<String> {
    if !list.iter().any(|i| i == item) {
        list.push(item.to_owned());
    }
    list
}

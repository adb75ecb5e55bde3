//! **Owns** one client's side of the protocol, from the challenge to the last answer.
//! **Hears** frames from its socket; **tells** each request to the actor that answers it.
//! **On crash** its socket closes, and nothing else: its entry in the table of connections goes with it,
//! whichever way it ends.

use crate::audit;
use crate::auth_limiter::{Culprit, SecretKind};
use crate::broadcast::BroadcastMsg;
use crate::conns::{Conn, Grant};
use crate::devices::{Admission, DevicesMsg, Request, Verdict};
use crate::gateway::Wiring;
use crate::handshake::{self, Rules, Shared};
use crate::methods::{self, Call};
use crate::nodes::NodesMsg;
use crate::pairing::is_trusted_local;
use crate::presence::{PresenceMsg, is_tracked};
use crate::responder::Responder;
use crate::settings::AuthSecret;
use crate::tree::*;
use bytes::Bytes;
use crabtree_protocol::connect::{CAP_SESSION_SCOPED_EVENTS, CAP_TOOL_EVENTS, Challenge};
use crabtree_protocol::frame::{
    Close, MAX_PENDING_HANDSHAKE_FRAMES, MAX_UNAUTHORIZED_ROLE, RequestFrame, encode_ok, encode_refusal,
    event_head,
};
use crabtree_protocol::{ConnectParams, ConnectRefusal, Event as Name, Refusal, Role, Scopes, authorize};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

/// How long a `connect` waits for the gateway to become ready before it is told to come back.
const READY_WAIT: Duration = Duration::from_millis(250);

/// What a connection hears.
pub enum ConnectionMsg {
    /// A message of the client: UTF-8 text, or what should have been.
    Frame(Bytes, OwnedSemaphorePermit),
    /// The socket has ended.
    Gone,
    /// The handshake took too long.
    TimedOut,
    /// The gateway is ready, or still is not.
    Ready(bool),
    /// What the device is granted.
    Verdict(Verdict),
    /// A failure was delayed long enough.
    Due(Box<ConnectRefusal>),
    /// Events are heard from now on.
    Joined,
}

/// What a connection is started with.
#[derive(Clone)]
pub struct ConnectionArgs {
    /// Its entry in the table.
    pub conn: Arc<Conn>,
    /// Everybody it may talk to.
    pub wiring: Arc<Wiring>,
}

enum Phase {
    /// The challenge is out.
    Challenged { nonce: Box<str> },
    /// A `connect` is being looked at; frames that follow wait.
    Connecting(Box<Connecting>),
    /// It failed to authenticate, and is told so after a while; frames that follow are lost.
    Delayed { id: Box<str>, _timer: Timer },
    /// Authenticated.
    Open,
    /// Refused; the socket is being closed.
    Refused,
}

struct Connecting {
    id: String,
    nonce: Box<str>,
    params: ConnectParams,
    admission: Option<Admission>,
    /// The shared secret that was in force when it was looked at.
    secret: Option<Arc<AuthSecret>>,
    /// It is let in, and joins the roster.
    granted: bool,
    waiting: Vec<(Bytes, OwnedSemaphorePermit)>,
}

/// See the module.
pub struct Connection {
    conn: Arc<Conn>,
    wiring: Arc<Wiring>,
    phase: Phase,
    unauthorized: u32,
    _timeout: Option<Timer>,
}

impl Behavior for Connection {
    type Msg = ConnectionMsg;
    type Args = ConnectionArgs;
    const KIND: &'static str = "connection";

    fn start(ctx: &mut Ctx<ConnectionMsg>, args: ConnectionArgs) -> Result<Self, Fault> {
        let nonce = Uuid::new_v4().to_string();
        let challenge = Challenge::new(nonce.clone(), ctx.now_ms().max(0) as u64);
        let payload = serde_json::to_vec(&challenge).map_err(Fault::new)?;
        args.conn.outbox.frame(event_head(Name::ConnectChallenge.name(), &payload, None).encode(None));
        let wait = args.wiring.store.estate.config.load().settings.gateway.handshake_timeout_ms;
        let timeout = ctx.after(Duration::from_millis(wait), ConnectionMsg::TimedOut);
        Ok(Self {
            conn: args.conn,
            wiring: args.wiring,
            phase: Phase::Challenged { nonce: nonce.into() },
            unauthorized: 0,
            _timeout: Some(timeout),
        })
    }

    fn handle(&mut self, ctx: &mut Ctx<ConnectionMsg>, msg: ConnectionMsg) -> Result<(), Fault> {
        match msg {
            ConnectionMsg::Frame(frame, permit) => self.frame(ctx, frame, permit),
            ConnectionMsg::Gone => ctx.stop(),
            ConnectionMsg::TimedOut => self.timed_out(),
            ConnectionMsg::Ready(ready) => self.ready(ctx, ready),
            ConnectionMsg::Verdict(Ok(admission)) => self.admitted(ctx, admission),
            ConnectionMsg::Verdict(Err(refusal)) => self.refuse(ctx, refusal),
            ConnectionMsg::Due(refusal) => self.due(*refusal),
            ConnectionMsg::Joined => self.joined(ctx),
        }
        Ok(())
    }

    fn stopping(&mut self, _: &mut Ctx<ConnectionMsg>) -> Stopping {
        self.conn.outbox.close(Close::restart());
        Stopping::Now
    }
}

/// Whichever way a connection ends, its socket closes and it is nobody's audience any more.
impl Drop for Connection {
    fn drop(&mut self) {
        self.conn.outbox.close(Close::internal());
        self.wiring.store.estate.conns.forget(self.conn.id());
        self.wiring.store.estate.canvas.capabilities.revoke(self.conn.id());
        if let Some(grant) = self.conn.grant() {
            self.wiring.store.estate.terminals.look();
            let _ = self.wiring.broadcast.send(BroadcastMsg::Left);
            if self.wiring.store.estate.nodes.leave(self.conn.id()).is_some() {
                let _ = self.wiring.nodes.send(NodesMsg::Left(self.conn.clone()));
            }
            if is_tracked(grant) {
                let _ = self.wiring.presence.send(PresenceMsg::Left(*self.conn.id()));
            }
        }
    }
}

impl Connection {
    fn frame(&mut self, ctx: &mut Ctx<ConnectionMsg>, frame: Bytes, permit: OwnedSemaphorePermit) {
        if self.conn.outbox.is_closing() {
            // Whatever it asks for now, it has lost the right to.
            return;
        }
        match &mut self.phase {
            Phase::Open => self.request(ctx, &frame, permit),
            Phase::Challenged { .. } => self.connect(ctx, &frame),
            Phase::Connecting(connecting)
                if connecting.granted || connecting.waiting.len() < MAX_PENDING_HANDSHAKE_FRAMES =>
            {
                connecting.waiting.push((frame, permit));
            }
            Phase::Connecting(_) => self.close(Close::too_many_pending()),
            Phase::Delayed { .. } | Phase::Refused => {}
        }
    }

    // ---- the handshake ----

    fn connect(&mut self, ctx: &mut Ctx<ConnectionMsg>, frame: &[u8]) {
        let Phase::Challenged { nonce } = &self.phase else { return };
        let nonce = nonce.clone();
        let text = std::str::from_utf8(frame).unwrap_or_default();
        let request = match RequestFrame::parse(text) {
            Ok(request) => request,
            Err(_) if ConnectParams::claims_worker(text) => return self.close(Close::invalid_handshake()),
            Err(e) => return self.close(e.close_before_handshake()),
        };
        let id = request.id.to_owned();
        let params = if request.method == "connect" {
            ConnectParams::parse(request.params)
        } else {
            Err(ConnectRefusal::first_not_connect())
        };
        match params {
            Err(_) if ConnectParams::claims_worker(text) => self.close(Close::invalid_handshake()),
            Err(refusal) => self.answer_refusal(&id, refusal),
            Ok(params) if params.is_worker() => self.answer_refusal(&id, ConnectRefusal::worker()),
            Ok(params) => {
                let (admission, secret, granted, waiting) = (None, None, false, Vec::new());
                let connecting = Connecting { id, nonce, params, admission, secret, granted, waiting };
                self.phase = Phase::Connecting(Box::new(connecting));
                let estate = self.wiring.store.estate.clone();
                if estate.ready.is_complete() {
                    self.ready(ctx, true);
                } else {
                    let wait = async move {
                        tokio::time::timeout(READY_WAIT, estate.ready.complete()).await.is_ok()
                    };
                    ctx.task(wait, ConnectionMsg::Ready);
                }
            }
        }
    }

    fn ready(&mut self, ctx: &mut Ctx<ConnectionMsg>, ready: bool) {
        if !ready {
            return self.refuse(ctx, ConnectRefusal::starting());
        }
        let Phase::Connecting(connecting) = &self.phase else { return };
        let (estate, peer) = (&self.wiring.store.estate, &self.conn.peer);
        let (config, culprit) = (estate.config.load(), Culprit::of(peer));
        let gateway = &config.settings.gateway;
        let limits = &gateway.auth.rate_limit;
        let secret = estate.auth();
        let own = estate.reach.published();
        let allowed: Vec<_> = gateway.control_ui.allowed_origins.iter().cloned().chain(own).collect();
        let rules = Rules {
            auth: &secret,
            allowed_origins: &allowed,
            locked: estate.auth_limiter.locked(&culprit, SecretKind::Shared, estate.clock.uptime(), limits),
        };
        let params = &connecting.params;
        let judged = handshake::judge(params, peer, rules, &connecting.nonce, ctx.now_ms());
        if judged.as_ref().is_ok_and(|claim| matches!(claim.shared, Shared::Granted(_))) {
            estate.auth_limiter.passed(&culprit, SecretKind::Shared);
        }
        let vouched = !peer.is_loopback()
            && !peer.via.is_some_and(|proxy| proxy.to_canonical().is_loopback())
            && peer.origin.is_none()
            && gateway.nodes.pairing.auto_approve_cidrs.cover(peer.ip);
        let Phase::Connecting(connecting) = &mut self.phase else { return };
        connecting.secret = Some(secret);
        let params = &connecting.params;
        match judged {
            Err(refusal) => self.refuse(ctx, refusal),
            Ok(claim) if claim.device.is_none() => match claim.shared {
                Shared::Granted(method) => self.grant(ctx, method, claim.scopes),
                _ => self.refuse(ctx, ConnectRefusal::device_required()),
            },
            Ok(claim) => {
                let request = Arc::new(Request {
                    conn: self.conn.clone(),
                    vouched,
                    local: is_trusted_local(params, peer) && gateway.nodes.pairing.auto_approve_local,
                    params: params.clone(),
                    claim,
                    remote_ip: (!peer.is_loopback()).then_some(peer.ip),
                    culprit,
                });
                let devices = self.wiring.devices.clone();
                let ask = async move { devices.ask(|reply| DevicesMsg::Admit(request.clone(), reply)).await };
                ctx.task(ask, ConnectionMsg::Verdict);
            }
        }
    }

    fn admitted(&mut self, ctx: &mut Ctx<ConnectionMsg>, admission: Admission) {
        let Phase::Connecting(connecting) = &mut self.phase else { return };
        let (method, scopes) = (admission.method, admission.scopes.clone());
        connecting.admission = Some(admission);
        self.grant(ctx, method, scopes);
    }

    fn grant(&mut self, ctx: &mut Ctx<ConnectionMsg>, method: &'static str, scopes: Scopes) {
        let Phase::Connecting(connecting) = &mut self.phase else { return };
        connecting.granted = true;
        let mut params = connecting.params.clone();
        // What let it in is not kept: it is secret, and of no use any more.
        params.auth = None;
        let device = params.device.take();
        self.conn.admit(Grant {
            role: params.role().unwrap_or(Role::Operator),
            scopes,
            device: device.map(|proof| proof.id.as_str().into()),
            method,
            scoped_events: params.has_cap(CAP_SESSION_SCOPED_EVENTS),
            tool_events: params.has_cap(CAP_TOOL_EVENTS),
            params,
        });
        let broadcast = self.wiring.broadcast.clone();
        ctx.task(async move { broadcast.ask(BroadcastMsg::Join).await }, |()| ConnectionMsg::Joined);
    }

    /// The connection is on the roster: from here on no event passes it by.
    fn joined(&mut self, ctx: &mut Ctx<ConnectionMsg>) {
        let Phase::Connecting(connecting) = std::mem::replace(&mut self.phase, Phase::Open) else { return };
        self._timeout = None;
        let secret = self.wiring.store.estate.auth();
        let is_same = connecting.secret.is_some_and(|then| Arc::ptr_eq(&then, &secret));
        if !is_same && self.conn.grant().is_some_and(Grant::rests_on_secret) {
            return self.close(Close::auth_changed());
        }
        let version = self.wiring.store.estate.state_version();
        let hello = self.wiring.hello(&self.conn, connecting.admission.as_ref());
        self.conn.outbox.hello(encode_ok(&connecting.id, &hello), version);
        methods::users::seen(ctx, &self.wiring, &self.conn);
        if self.conn.grant().is_some_and(is_tracked) {
            let _ = self.wiring.presence.send(PresenceMsg::Arrived(*self.conn.id()));
        }
        if self.wiring.store.estate.nodes.join(&self.conn, ctx.now_ms()) {
            let _ = self.wiring.nodes.send(NodesMsg::Arrived(*self.conn.id()));
        }
        for (frame, permit) in connecting.waiting {
            self.request(ctx, &frame, permit);
        }
    }

    fn refuse(&mut self, ctx: &mut Ctx<ConnectionMsg>, refusal: ConnectRefusal) {
        let Phase::Connecting(connecting) = &self.phase else { return };
        let id = connecting.id.clone();
        if let Some(told) = &refusal.refusal {
            audit::turned_away(&self.wiring.store.estate, &self.conn, &connecting.params, told);
        }
        let wait = self.penalty(&connecting.params, &refusal);
        if wait.is_zero() {
            return self.answer_refusal(&id, refusal);
        }
        self._timeout = None;
        let _timer = ctx.after(wait, ConnectionMsg::Due(Box::new(refusal)));
        self.phase = Phase::Delayed { id: id.into(), _timer };
    }

    fn due(&mut self, refusal: ConnectRefusal) {
        if let Phase::Delayed { id, .. } = &self.phase {
            let id = id.clone();
            self.answer_refusal(&id, refusal);
        }
    }

    /// Counts what was wrong; returns how long the client waits to hear of it. What is missing does not count.
    fn penalty(&self, params: &ConnectParams, refusal: &ConnectRefusal) -> Duration {
        use SecretKind::{Bootstrap, Device, Shared};
        let tried_shared = handshake::shared_attempts(params).next().is_some();
        let kinds: &[SecretKind] = match refusal.refusal.as_ref().and_then(Refusal::detail_code) {
            Some("AUTH_TOKEN_MISMATCH" | "AUTH_PASSWORD_MISMATCH") => &[Shared],
            Some("AUTH_DEVICE_TOKEN_MISMATCH") if tried_shared => &[Device, Shared],
            Some("AUTH_DEVICE_TOKEN_MISMATCH") => &[Device],
            Some("AUTH_BOOTSTRAP_TOKEN_INVALID") if tried_shared => &[Bootstrap, Shared],
            Some("AUTH_BOOTSTRAP_TOKEN_INVALID") => &[Bootstrap],
            _ => return Duration::ZERO,
        };
        let estate = &self.wiring.store.estate;
        let (config, now) = (estate.config.load(), estate.clock.uptime());
        let (culprit, limits) = (Culprit::of(&self.conn.peer), &config.settings.gateway.auth.rate_limit);
        let failed = |kind: &SecretKind| estate.auth_limiter.failed(&culprit, *kind, now, limits);
        kinds.iter().map(failed).max().unwrap_or_default()
    }

    fn timed_out(&mut self) {
        if !matches!(self.phase, Phase::Open) {
            self.close(Close::silent());
        }
    }

    fn answer_refusal(&mut self, id: &str, refusal: ConnectRefusal) {
        let answer = refusal.refusal.as_ref();
        let reason = answer.map_or("CLOSED", |answer| answer.detail_code().unwrap_or(answer.code.name()));
        self.wiring.store.estate.meters.refused.count(reason.to_owned());
        if let Some(answer) = &refusal.refusal {
            self.conn.outbox.frame(encode_refusal(id, answer));
        }
        self.close(refusal.close);
    }

    fn close(&mut self, close: Close) {
        self.phase = Phase::Refused;
        self._timeout = None;
        self.conn.outbox.close(close);
    }

    // ---- requests ----

    fn request(&mut self, ctx: &mut Ctx<ConnectionMsg>, frame: &[u8], permit: OwnedSemaphorePermit) {
        let text = std::str::from_utf8(frame).unwrap_or_default();
        let request = match RequestFrame::parse(text) {
            Ok(request) => request,
            Err(e) => {
                if let (Some(refusal), crabtree_protocol::FrameError::Invalid { id, .. }) = (e.refusal(), &e)
                {
                    Responder::new(self.conn.clone(), id, Some(permit), ctx.taken_up()).refuse(refusal);
                }
                return;
            }
        };
        let responder = Responder::new(self.conn.clone(), request.id, Some(permit), ctx.taken_up());
        if request
            .expected_profile_id
            .is_some_and(|wanted| methods::users::profile_id(&self.conn).as_deref() != Some(&*wanted))
        {
            return responder.refuse(Refusal::expected_profile_mismatch());
        }
        let Some(grant) = self.conn.grant() else { return };
        let asked = (&*request.method, request.params);
        let Some(responder) = methods::brought(ctx, &self.wiring, grant, asked, responder) else { return };
        match authorize(&request.method, grant.role, &grant.scopes, request.params) {
            Err(refusal) => {
                let estate = &self.wiring.store.estate;
                audit::forbidden(estate, &self.conn, &request.method, request.params, &refusal);
                self.unauthorized(responder, refusal);
            }
            Ok(method) => {
                self.unauthorized = 0;
                let (estate, asked) = (&self.wiring.store.estate, (method.name(), method.scope().minimum()));
                let responder = responder.noted(audit::request(estate, &self.conn, asked, request.params));
                methods::dispatch(
                    ctx,
                    Call { wiring: &self.wiring, method, params: request.params, responder },
                );
            }
        }
    }

    /// Who keeps calling what its role may not is closed.
    fn unauthorized(&mut self, responder: Responder, refusal: Refusal) {
        let by_role = refusal.message.starts_with("unauthorized role");
        self.unauthorized = if by_role { self.unauthorized + 1 } else { 0 };
        responder.refuse(refusal);
        if self.unauthorized > MAX_UNAUTHORIZED_ROLE {
            self.close(Close::repeated_unauthorized());
        }
    }
}

//! **Owns** one terminal: its program under a guard, the end of what it has shown, and who looks at it.
//! **Hears** what is typed, what the program shows, and who comes; **tells** those who look, and nobody else. They are
//! told all of it: while one of them is behind, the program waits.
//! **On crash** the program ends with it and everything it started, as a socket does with its connection; who looked is
//! told with `terminal.exit`, and opens another.

use super::life::{Life, command};
use super::scrollback::Scrollback;
use super::table::Facts;
use crate::conns::Conn;
use crate::estate::Estate;
use crate::event::{Audience, Event};
use crate::process::{Exit, Size, Terminal as Screen};
use crate::responder::Responder;
use crate::tree::*;
use crabtree_protocol::Event as Name;
use crabtree_protocol::params::terminals::{Attached, DataEvent, Done, ExitEvent, Opened};
use crabtree_protocol::{ConnId, Refusal};
use parking_lot::Mutex;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;

/// Bytes on their way to a client beyond which the program waits for it. Beyond eight times as many its connection would
/// be closed; scrollback is there when it comes again.
const BEHIND: usize = 1024 * 1024;
/// How often it is looked whether a client is still behind.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Pieces that wait to be typed; what comes then is refused.
const MAX_PIECES: usize = 256;
/// Bytes that wait to be typed; what comes then is refused.
const MAX_TYPED: usize = 4 * 1024 * 1024;
/// Milliseconds after which a client whose typing was refused may try again.
const TYPE_AGAIN_MS: u64 = 500;
/// The cap of clients that know whose a terminal is.
const CAP_METADATA: &str = "terminal-session-metadata";
/// The cap of clients that count what they are told.
const CAP_OFFSET: &str = "terminal-offset-seq";

/// What a terminal hears. Those who ask are named by their connection.
pub enum TerminalMsg {
    /// Its program runs, on this.
    Opened(Arc<Screen>),
    /// Its program showed this; the permit lets it go on.
    Shown(Vec<u8>, OwnedSemaphorePermit),
    /// Its program ended, or never ran.
    Ended(Ended),
    /// Somebody types.
    Type(String, Responder),
    /// Somebody's window has another size.
    Resize(Size, Responder),
    /// Somebody has had enough of it.
    Close(Responder),
    /// Somebody wants to see it.
    Attach(Responder),
    /// It has to go.
    End,
    /// Look who is still there, and what is allowed.
    Look,
}

/// How a program ended.
pub enum Ended {
    /// It was not started: why.
    NotStarted(String),
    /// It ran.
    Ran(Exit),
}

/// What it is started with.
#[derive(Clone)]
pub(super) struct TerminalArgs {
    pub estate: Arc<Estate>,
    pub facts: Arc<Facts>,
    pub size: Size,
    pub viewer: ConnId,
    /// Who asked for it, until it is open.
    pub opening: Arc<Mutex<Option<Responder>>>,
}

/// See the module.
pub(super) struct Terminal {
    estate: Arc<Estate>,
    facts: Arc<Facts>,
    opening: Option<Responder>,
    /// Where its program runs, once it does.
    screen: Option<Arc<Screen>>,
    shown: Scrollback,
    /// Who looks at it. If it belongs to a connection, that is the only one.
    viewers: Vec<ConnId>,
    /// Who opened it for a session, until somebody uses it: with this connection it goes.
    unused_by: Option<ConnId>,
    detached_at: Option<Instant>,
    typing: mpsc::Sender<String>,
    typed: Arc<AtomicUsize>,
    /// Keeps the program waiting while a client is behind.
    held: Vec<OwnedSemaphorePermit>,
    /// Whether its end was told, or need not be.
    is_over: bool,
    look: Option<Timer>,
}

impl Behavior for Terminal {
    type Msg = TerminalMsg;
    type Args = TerminalArgs;
    const KIND: &'static str = "terminal";

    fn start(ctx: &mut Ctx<TerminalMsg>, args: TerminalArgs) -> Result<Self, Fault> {
        let (typing, pieces) = mpsc::channel(MAX_PIECES);
        let typed = Arc::new(AtomicUsize::new(0));
        let life = Life {
            command: command(&args.facts, args.size),
            guard: args.estate.guard.clone(),
            actor: ctx.me().clone(),
            typing: pieces,
            typed: typed.clone(),
        };
        ctx.task(life.run(), TerminalMsg::Ended);
        Ok(Self {
            unused_by: args.facts.session.as_ref().map(|_| args.viewer),
            opening: args.opening.lock().take(),
            estate: args.estate,
            facts: args.facts,
            screen: None,
            shown: Scrollback::default(),
            viewers: vec![args.viewer],
            detached_at: None,
            typing,
            typed,
            held: Vec::new(),
            is_over: false,
            look: None,
        })
    }

    fn handle(&mut self, ctx: &mut Ctx<TerminalMsg>, msg: TerminalMsg) -> Result<(), Fault> {
        match msg {
            TerminalMsg::Opened(screen) => self.opened(ctx, screen),
            TerminalMsg::Shown(bytes, permit) => self.show(ctx, &bytes, permit),
            TerminalMsg::Ended(ended) => self.ended(ctx, ended),
            TerminalMsg::Type(text, responder) => self.input(text, responder),
            TerminalMsg::Resize(size, responder) => {
                let may = self.uses(responder.conn_id());
                let done = may && self.screen.as_ref().is_some_and(|screen| screen.resize(size).is_ok());
                responder.ok(&Done { ok: done });
            }
            TerminalMsg::Close(responder) => self.close(ctx, responder),
            TerminalMsg::Attach(responder) => self.attach(ctx, responder),
            TerminalMsg::End => self.end(ctx, None),
            TerminalMsg::Look => self.look(ctx),
        }
        Ok(())
    }
}

impl Terminal {
    fn opened(&mut self, ctx: &mut Ctx<TerminalMsg>, screen: Arc<Screen>) {
        let Some(responder) = self.opening.take() else { return };
        self.screen = Some(screen);
        if self.estate.conns.get(responder.conn_id()).is_none() {
            // Nobody knows of it, and nobody will ask.
            return self.end(ctx, None);
        }
        let facts = &self.facts;
        tracing::info!(target: "crabtree::terminals", id = facts.id, agent = facts.agent_id,
            conn = %responder.conn_id(), shell = facts.shell, "terminal opened");
        responder.ok(&Opened {
            session_id: facts.id.clone(),
            agent_id: facts.agent_id.clone(),
            shell: facts.shell.clone(),
            cwd: facts.cwd.display().to_string(),
            confined: false,
        });
    }

    fn show(&mut self, ctx: &mut Ctx<TerminalMsg>, bytes: &[u8], permit: OwnedSemaphorePermit) {
        let text = self.shown.push(bytes);
        if text.is_empty() {
            return;
        }
        let data = DataEvent { session_id: self.facts.id.clone(), seq: self.shown.seq(), data: text };
        for conn in self.present() {
            let event = Event::new(Name::TerminalData, Audience::One(*conn.id()), &data);
            conn.outbox.event(Arc::new(event.adding(&data.session_id, "data", &data.data)));
        }
        if self.is_somebody_behind() {
            self.held.push(permit);
            self.look = Some(ctx.after(LOOK_AGAIN, TerminalMsg::Look));
        }
    }

    fn ended(&mut self, ctx: &mut Ctx<TerminalMsg>, ended: Ended) {
        match ended {
            Ended::NotStarted(why) => {
                self.is_over = true;
                self.estate.terminals.leave(&self.facts.id);
                if let Some(responder) = self.opening.take() {
                    responder.refuse(Refusal::failed(why));
                }
            }
            Ended::Ran(Exit::Code(code)) => self.tell_exit("process_exit", Some(code), None, None),
            Ended::Ran(Exit::Signal(signal)) => self.tell_exit("process_exit", None, Some(signal), None),
            Ended::Ran(Exit::Lost) => self.tell_exit("error", None, None, Some("its guard was lost")),
        }
        ctx.stop();
    }

    /// Whether the connection may use it; if so, it is in use.
    fn uses(&mut self, conn: &ConnId) -> bool {
        let may = self.viewers.contains(conn);
        if may {
            self.unused_by = None;
        }
        may
    }

    fn input(&mut self, text: String, responder: Responder) {
        if !self.uses(responder.conn_id()) {
            return responder.ok(&Done { ok: false });
        }
        let bytes = text.len();
        let fits = self.typed.load(Relaxed) + bytes <= MAX_TYPED;
        // Counted first: it may be taken at once.
        self.typed.fetch_add(bytes, Relaxed);
        if fits && self.typing.try_send(text).is_ok() {
            return responder.ok(&Done { ok: true });
        }
        self.typed.fetch_sub(bytes, Relaxed);
        let text = "the program does not read what is typed; stop it, or try again later";
        responder.refuse(Refusal::failed(text).with_retry(TYPE_AGAIN_MS));
    }

    fn close(&mut self, ctx: &mut Ctx<TerminalMsg>, responder: Responder) {
        let conn = responder.conn_id();
        let looks = self.viewers.contains(conn);
        if looks && (self.facts.session.is_none() || self.unused_by.as_ref() == Some(conn)) {
            self.end(ctx, None);
        } else if looks {
            self.viewers.retain(|viewer| viewer != conn);
            self.note(ctx);
        }
        responder.ok(&Done { ok: looks });
    }

    /// Somebody takes it over, or looks at it too if it belongs to a session.
    fn attach(&mut self, ctx: &mut Ctx<TerminalMsg>, responder: Responder) {
        let conn = *responder.conn_id();
        if self.facts.session.is_none() {
            for before in self.viewers.drain(..).filter(|viewer| *viewer != conn) {
                tell(&self.estate, &before, &exit(&self.facts.id, "detached"));
            }
        }
        self.unused_by = None;
        if !self.viewers.contains(&conn) {
            self.viewers.push(conn);
        }
        self.note(ctx);
        let has = |cap| responder.conn().grant().is_some_and(|grant| grant.params.has_cap(cap));
        let attached = Attached {
            session_id: self.facts.id.clone(),
            agent_id: self.facts.agent_id.clone(),
            shell: self.facts.shell.clone(),
            cwd: self.facts.cwd.display().to_string(),
            confined: false,
            buffer: self.shown.text().to_owned(),
            owner: has(CAP_METADATA).then(|| self.facts.owner()),
            seq: has(CAP_OFFSET).then(|| self.shown.seq()),
        };
        responder.ok(&attached);
        // It may have gone while it was asking, and then nobody says so again.
        self.look(ctx);
    }

    /// Notes for everybody whether somebody looks.
    fn note(&mut self, ctx: &Ctx<TerminalMsg>) {
        let attached = !self.viewers.is_empty();
        self.detached_at = (!attached).then(|| self.detached_at.unwrap_or_else(Instant::now));
        self.estate.terminals.note(&self.facts.id, attached);
        ctx.publish_info(json!({ "viewers": self.viewers.len(), "shown": self.shown.seq() }));
    }

    fn look(&mut self, ctx: &mut Ctx<TerminalMsg>) {
        let estate = self.estate.clone();
        let before = self.viewers.len();
        self.viewers.retain(|viewer| estate.conns.get(viewer).is_some());
        if before != self.viewers.len() {
            self.note(ctx);
        }
        let settings = &estate.config.load().settings.gateway.terminal;
        if !settings.enabled {
            return self.end(ctx, Some("terminals were turned off (gateway.terminal.enabled)"));
        }
        if self.unused_by.as_ref().is_some_and(|conn| !self.viewers.contains(conn)) {
            return self.end(ctx, None);
        }
        let grace = Duration::from_secs(settings.detached_session_timeout_seconds);
        let detached = self.detached_at.filter(|_| self.facts.session.is_none());
        let left = detached.map(|at| grace.saturating_sub(at.elapsed()));
        if left == Some(Duration::ZERO) {
            return self.end(ctx, None);
        }
        if !self.is_somebody_behind() {
            self.held.clear();
        }
        let wait = if self.held.is_empty() { left } else { Some(LOOK_AGAIN) };
        self.look = wait.map(|wait| ctx.after(wait, TerminalMsg::Look));
    }

    fn present(&self) -> impl Iterator<Item = Arc<Conn>> {
        self.viewers.iter().filter_map(|id| self.estate.conns.get(id))
    }

    fn is_somebody_behind(&self) -> bool {
        self.present().any(|conn| conn.outbox.buffered() > BEHIND)
    }

    fn end(&mut self, ctx: &mut Ctx<TerminalMsg>, why: Option<&str>) {
        self.tell_exit("closed", None, None, why);
        ctx.stop();
    }

    fn tell_exit(&mut self, reason: &str, code: Option<i32>, signal: Option<i32>, error: Option<&str>) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        // Whoever has heard of its end finds it no more.
        self.estate.terminals.leave(&self.facts.id);
        let told = ExitEvent {
            exit_code: code,
            signal,
            error: error.map(str::to_owned),
            ..exit(&self.facts.id, reason)
        };
        for viewer in &self.viewers {
            tell(&self.estate, viewer, &told);
        }
    }
}

impl Drop for Terminal {
    /// However it goes, nobody finds it any more. When the gateway ends, its clients know already.
    fn drop(&mut self) {
        self.estate.terminals.leave(&self.facts.id);
        if !self.estate.is_draining() {
            self.tell_exit("error", None, None, Some("the terminal was ended; open another one"));
        }
    }
}

fn exit(id: &str, reason: &str) -> ExitEvent {
    ExitEvent { session_id: id.into(), exit_code: None, signal: None, reason: reason.into(), error: None }
}

fn tell(estate: &Estate, conn: &ConnId, told: &ExitEvent) {
    if let Some(conn) = estate.conns.get(conn) {
        conn.outbox.event(Arc::new(Event::new(Name::TerminalExit, Audience::One(*conn.id()), told)));
    }
}

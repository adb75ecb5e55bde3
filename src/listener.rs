//! **Owns** the accept loops, and the watch over the certificate. The bound sockets themselves, and the certificate that
//! is served, are part of what outlives it.
//! **Hears** its own timer, if TLS is spoken; **tells** each accepted socket to a task of its own, and the Estate which
//! certificate is served.
//! **On crash** no socket closes: open ones have their own tasks, and new ones wait in the kernel's queue
//! until the next incarnation accepts them.

use crate::certificate::Served;
use crate::control_ui::ControlUi;
use crate::http::{self, Open, Visit};
use crate::ingress::Door;
use crate::line::Line;
use crabtree_actors::gateway::Wiring;
use crabtree_actors::preauth::PreAuth;
use crabtree_actors::reach::Certificate;
use crabtree_actors::tree::{Behavior, Ctx, Fault, Timer};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Pause after a failed accept (out of file descriptors, for instance).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often the files of the certificate are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long a client may take for the handshake of TLS.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes at the same time; who comes then waits for a turn. Of one address there are as many as it may have sockets
/// that have not authenticated, and a socket beyond that is closed.
const MAX_HANDSHAKES: usize = 256;
/// What the first byte of TLS is.
const TLS_RECORD: u8 = 0x16;
/// How much is read of somebody who speaks plain HTTP to a port of TLS.
const MAX_PLAIN: usize = 16 * 1024;
/// What is answered then.
pub const SPEAK_TLS: &str = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 56\r\nConnection: close\r\n\r\nThis port speaks TLS: use https:// or wss:// to get here";

/// What the listener is started with.
#[derive(Clone)]
pub struct Doors {
    /// The bound sockets.
    pub doors: Arc<Vec<(std::net::TcpListener, Door)>>,
    /// Who serves what comes in.
    pub wiring: Arc<Wiring>,
    /// The stock Control UI, as it was made last.
    pub ui: Arc<ControlUi>,
    /// Counts what is open.
    pub open: Open,
    /// How TLS is spoken at the front doors, if it is.
    pub tls: Option<Arc<Tls>>,
}

/// How TLS is spoken.
pub struct Tls {
    served: Served,
    places: PreAuth,
    turns: Semaphore,
}

impl Tls {
    /// With this certificate.
    pub fn new(served: Served) -> Self {
        Self { served, places: PreAuth::default(), turns: Semaphore::new(MAX_HANDSHAKES) }
    }

    /// The certificate that is served now.
    pub fn certificate(&self) -> Certificate {
        self.served.about()
    }
}

/// What the listener hears.
pub enum ListenerMsg {
    /// Look whether there is a new certificate.
    Look,
    /// What was found: a new one, or why it is not taken.
    Looked(Option<Result<Certificate, String>>),
}

/// See the module.
pub struct Listener {
    doors: Doors,
    _look: Option<Timer>,
}

impl Behavior for Listener {
    type Msg = ListenerMsg;
    type Args = Doors;
    const KIND: &'static str = "listener";

    fn start(ctx: &mut Ctx<ListenerMsg>, doors: Doors) -> Result<Self, Fault> {
        for (socket, door) in doors.doors.iter() {
            let socket = socket.try_clone().map_err(Fault::new)?;
            let socket = TcpListener::from_std(socket).map_err(Fault::new)?;
            ctx.detached(accept(socket, *door, doors.clone()));
        }
        let look = doors.tls.as_ref().map(|_| ctx.after(LOOK, ListenerMsg::Look));
        Ok(Self { doors, _look: look })
    }

    fn handle(&mut self, ctx: &mut Ctx<ListenerMsg>, msg: ListenerMsg) -> Result<(), Fault> {
        match msg {
            ListenerMsg::Look => self.look(ctx),
            ListenerMsg::Looked(found) => {
                self._look = Some(ctx.after(LOOK, ListenerMsg::Look));
                self.looked(found);
            }
        }
        Ok(())
    }
}

impl Listener {
    fn look(&self, ctx: &mut Ctx<ListenerMsg>) {
        let Some(tls) = self.doors.tls.clone() else { return };
        let look = tokio::task::spawn_blocking(move || tls.served.look());
        ctx.task(look, |found| ListenerMsg::Looked(found.ok().flatten()));
    }

    fn looked(&self, found: Option<Result<Certificate, String>>) {
        match found {
            None => {}
            Some(Ok(certificate)) => {
                let fingerprint = certificate.fingerprint;
                tracing::info!(target: "crabtree::tls", "another certificate is served; its fingerprint: {fingerprint}");
                self.doors.wiring.store.estate.reach.certificate.send_replace(Some(certificate));
            }
            Some(Err(why)) => tracing::error!(target: "crabtree::tls", "{why}"),
        }
    }
}

async fn accept(socket: TcpListener, door: Door, doors: Doors) {
    loop {
        match socket.accept().await {
            Ok((stream, peer)) => {
                // Frames are flushed in batches; waiting for more bytes would only add delay.
                let _ = stream.set_nodelay(true);
                tokio::spawn(welcome(stream, peer, door, doors.clone()));
            }
            Err(e) => {
                tracing::warn!(target: "crabtree::listener", "accept failed: {e}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn welcome(stream: TcpStream, peer: SocketAddr, door: Door, doors: Doors) {
    let line = match &doors.tls {
        Some(tls) if door == Door::Front => sealed(stream, peer, tls, &doors.wiring).await,
        _ => Some(Line::Plain(stream)),
    };
    if let Some(line) = line {
        let Doors { wiring, ui, open, .. } = doors;
        http::serve(line, Visit { peer, door }, wiring, ui, open).await;
    }
}

/// The handshake. Nothing comes of it if it takes too long, or if there are too many: of one address at once, unless it
/// is that of a proxy, which comes for many; or in all for so long that this one would be given up anyway.
async fn sealed(stream: TcpStream, peer: SocketAddr, tls: &Tls, wiring: &Wiring) -> Option<Line> {
    let estate = &wiring.store.estate;
    let config = estate.config.load_full();
    let gateway = &config.settings.gateway;
    let refused = |why: &str| estate.meters.refused.count(why.to_owned());
    let is_proxy = gateway.trusted_proxies.cover(peer.ip().to_canonical());
    let place = tls.places.take(peer.ip(), gateway.max_preauth_connections_per_ip);
    if place.is_none() && !is_proxy {
        refused("TLS_TOO_MANY");
        return None;
    }
    let Ok(_turn) = timeout(HANDSHAKE, tls.turns.acquire()).await else {
        refused("TLS_TOO_MANY");
        return None;
    };
    let line = shaken(stream, &tls.served).await;
    if line.is_none() {
        refused("TLS_HANDSHAKE");
    }
    line
}

async fn shaken(mut stream: TcpStream, served: &Served) -> Option<Line> {
    let shake = async {
        let mut first = [0];
        if stream.peek(&mut first).await.ok()? == 0 {
            return None;
        }
        if first[0] != TLS_RECORD {
            point_out(&mut stream).await;
            return None;
        }
        let stream = served.acceptor().accept(stream).await.ok()?;
        Some(Line::Sealed(Box::new(stream)))
    };
    timeout(HANDSHAKE, shake).await.ok().flatten()
}

/// Tells somebody who speaks plain HTTP what is spoken here, once the head of the request has come: an answer before that
/// would be lost.
async fn point_out(stream: &mut TcpStream) {
    let mut head = Vec::new();
    while head.len() < MAX_PLAIN && !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if !matches!(stream.read_buf(&mut head).await, Ok(1..)) {
            return;
        }
    }
    let _ = stream.write_all(SPEAK_TLS.as_bytes()).await;
    let _ = stream.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, Sources, load};
    use serde_json::json;
    use tokio::time::Instant;

    /// accepts: J8
    #[tokio::test(start_paused = true)]
    async fn who_does_not_shake_hands_is_left_after_a_while() {
        let dir = tempfile::tempdir().unwrap();
        let flags = json!({ "gateway": { "tls": { "enabled": true } } });
        let sources =
            Sources { state_dir: dir.path().to_owned(), file: None, env: Environment::default(), flags };
        let served = Served::open(&load(&sources).unwrap(), "attic", &[]).unwrap().unwrap();
        let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
        // The first bytes of a handshake, a bit of plain HTTP, and nothing at all.
        for said in [&[TLS_RECORD, 3, 1][..], b"GET / HT", b""] {
            let mut client = TcpStream::connect(door.local_addr().unwrap()).await.unwrap();
            client.write_all(said).await.unwrap();
            let (stream, _) = door.accept().await.unwrap();
            let began = Instant::now();
            assert!(shaken(stream, &served).await.is_none());
            assert_eq!(began.elapsed().as_secs(), HANDSHAKE.as_secs(), "{said:?}");
        }
    }
}

//! Three toy actors in the shape of the gateway: a `worker`, a dynamic parent `connections` with one child
//! a socket, and a `listener`. Each line a client sends is answered `<n>:<line>` by the worker.

use crabtree_actors::tree::*;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};

#[derive(Clone, Default)]
pub struct Slots {
    pub root: Slot<()>,
    pub worker: Slot<Work>,
    pub connections: Slot<Opened>,
    pub listener: Slot<()>,
}

pub struct Work(pub String, pub Reply<String>);

struct Worker(u64);

impl Behavior for Worker {
    type Msg = Work;
    type Args = ();
    const KIND: &'static str = "worker";

    fn start(_: &mut Ctx<Work>, (): ()) -> Result<Self, Fault> {
        Ok(Self(0))
    }

    fn handle(&mut self, _: &mut Ctx<Work>, Work(line, reply): Work) -> Result<(), Fault> {
        self.0 += 1;
        reply.send(format!("{}:{line}", self.0));
        Ok(())
    }
}

pub struct Opened(u16, Arc<parking_lot::Mutex<Option<TcpStream>>>, Reply<()>);

struct Connections(Slots);

impl Behavior for Connections {
    type Msg = Opened;
    type Args = Slots;
    const KIND: &'static str = "connections";

    fn start(_: &mut Ctx<Opened>, slots: Slots) -> Result<Self, Fault> {
        Ok(Self(slots))
    }

    fn handle(&mut self, ctx: &mut Ctx<Opened>, Opened(port, socket, opened): Opened) -> Result<(), Fault> {
        let args = (socket, self.0.worker.clone());
        let spec = ChildSpec::new::<Connection>(port.to_string(), Restart::Temporary, args, &Slot::default())
            .quiet();
        // A socket that asks again, because the first answer was lost, has its child already.
        match ctx.spawn(spec) {
            Ok(_) | Err(Duplicate(_)) => opened.send(()),
        }
        Ok(())
    }
}

enum Line {
    Read(String),
    Answer(String),
    Closed,
}

struct Connection {
    out: OwnedWriteHalf,
    worker: Slot<Work>,
}

impl Behavior for Connection {
    type Msg = Line;
    type Args = (Arc<parking_lot::Mutex<Option<TcpStream>>>, Slot<Work>);
    const KIND: &'static str = "connection";

    fn start(ctx: &mut Ctx<Line>, (socket, worker): Self::Args) -> Result<Self, Fault> {
        let socket = socket.lock().take().ok_or_else(|| Fault::new("the socket is gone"))?;
        let (read, out) = socket.into_split();
        let me = ctx.me().clone();
        ctx.detached(async move {
            let mut lines = BufReader::new(read).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let _ = me.send(Line::Read(line));
            }
            let _ = me.send(Line::Closed);
        });
        Ok(Self { out, worker })
    }

    fn handle(&mut self, ctx: &mut Ctx<Line>, msg: Line) -> Result<(), Fault> {
        match msg {
            Line::Read(line) => {
                let worker = self.worker.clone();
                ctx.task(async move { worker.ask(|reply| Work(line.clone(), reply)).await }, Line::Answer);
            }
            Line::Answer(text) => {
                self.out.try_write(format!("{text}\n").as_bytes()).map_err(Fault::new)?;
            }
            Line::Closed => ctx.stop(),
        }
        Ok(())
    }
}

struct Listener;

impl Behavior for Listener {
    type Msg = ();
    type Args = (Arc<std::net::TcpListener>, Slots);
    const KIND: &'static str = "listener";

    fn start(ctx: &mut Ctx<()>, (socket, slots): Self::Args) -> Result<Self, Fault> {
        let socket = TcpListener::from_std(socket.try_clone().map_err(Fault::new)?).map_err(Fault::new)?;
        ctx.detached(async move {
            while let Ok((stream, peer)) = socket.accept().await {
                let stream = Arc::new(parking_lot::Mutex::new(Some(stream)));
                let connections = slots.connections.clone();
                // Not a task of the listener: an accepted socket outlives it.
                tokio::spawn(async move {
                    connections.ask(|opened| Opened(peer.port(), stream.clone(), opened)).await;
                });
            }
        });
        Ok(Self)
    }

    fn handle(&mut self, _: &mut Ctx<()>, (): ()) -> Result<(), Fault> {
        Ok(())
    }
}

struct Root;

impl Behavior for Root {
    type Msg = ();
    type Args = (Arc<std::net::TcpListener>, Slots);
    const KIND: &'static str = "root";
    const SHUTDOWN: ShutdownOrder = ShutdownOrder::Reverse;

    fn start(ctx: &mut Ctx<()>, (socket, s): Self::Args) -> Result<Self, Fault> {
        let quick = Duration::from_millis(50);
        let listener = (socket, s.clone());
        for spec in [
            ChildSpec::new::<Worker>("worker", Restart::Permanent, (), &s.worker),
            ChildSpec::new::<Connections>("connections", Restart::Permanent, s.clone(), &s.connections),
            ChildSpec::new::<Listener>("listener", Restart::Permanent, listener, &s.listener),
        ] {
            ctx.spawn(spec.shutdown(quick)).map_err(Fault::new)?;
        }
        Ok(Self)
    }

    fn handle(&mut self, _: &mut Ctx<()>, (): ()) -> Result<(), Fault> {
        Ok(())
    }
}

pub struct Toy {
    pub root: Arc<Node>,
    pub addr: SocketAddr,
    pub log: Arc<parking_lot::Mutex<Vec<Lifecycle>>>,
}

impl Toy {
    pub fn start() -> Self {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let addr = socket.local_addr().unwrap();
        let slots = Slots::default();
        let log: Arc<parking_lot::Mutex<Vec<Lifecycle>>> = Arc::default();
        let observer: Observer = {
            let log = log.clone();
            Arc::new(move |change| log.lock().push(change.clone()))
        };
        let spec = ChildSpec::new::<Root>(
            "root",
            Restart::Permanent,
            (Arc::new(socket), slots.clone()),
            &slots.root,
        );
        Self { root: grow(spec, Clock::system(), observer), addr, log }
    }

    /// Waits until `path` is in `state` with at least this many restarts.
    pub async fn until(&self, path: &str, state: NodeState, restarts: u32) -> Arc<Node> {
        let wait = async {
            loop {
                if let Some(node) = self.root.find(path)
                    && node.state().0 == state
                    && node.restarts() >= restarts
                {
                    return node;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), wait)
            .await
            .unwrap_or_else(|_| panic!("{path} did not become {state:?}: {:?}", self.log.lock()))
    }
}

/// A client's end of a toy socket.
pub struct Client {
    lines: tokio::io::Lines<BufReader<tokio::net::tcp::OwnedReadHalf>>,
    out: OwnedWriteHalf,
}

impl Client {
    pub async fn connect(addr: SocketAddr) -> (u16, Self) {
        let stream = TcpStream::connect(addr).await.unwrap();
        let port = stream.local_addr().unwrap().port();
        let (read, out) = stream.into_split();
        (port, Self { lines: BufReader::new(read).lines(), out })
    }

    /// Sends a line; `None` if the socket was closed.
    pub async fn echo(&mut self, line: &str) -> Option<String> {
        self.out.write_all(format!("{line}\n").as_bytes()).await.ok()?;
        tokio::time::timeout(Duration::from_secs(10), self.lines.next_line()).await.unwrap().ok()?
    }
}

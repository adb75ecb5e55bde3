//! **Owns** nothing but the connections' being: one child a socket.
//! **Hears** of accepted sockets; **tells** the socket where its frames go.
//! **On crash** no connection notices: they are adopted again. A socket that was being opened waits for the
//! next incarnation.

use crate::connection::{Connection, ConnectionArgs, ConnectionMsg};
use crate::conns::Conn;
use crate::gateway::Wiring;
use crate::tree::*;
use serde_json::json;
use std::sync::Arc;

/// What the parent of all connections hears.
pub enum ConnectionsMsg {
    /// A socket was accepted: start its actor behind this address.
    Open(Arc<Conn>, Slot<ConnectionMsg>, Reply<()>),
}

/// See the module.
pub struct Connections {
    wiring: Arc<Wiring>,
    opened: u64,
}

impl Behavior for Connections {
    type Msg = ConnectionsMsg;
    type Args = Arc<Wiring>;
    const KIND: &'static str = "connections";

    fn start(_: &mut Ctx<ConnectionsMsg>, wiring: Arc<Wiring>) -> Result<Self, Fault> {
        Ok(Self { wiring, opened: 0 })
    }

    fn handle(&mut self, ctx: &mut Ctx<ConnectionsMsg>, msg: ConnectionsMsg) -> Result<(), Fault> {
        let ConnectionsMsg::Open(conn, slot, opened) = msg;
        let args = ConnectionArgs { conn: conn.clone(), wiring: self.wiring.clone() };
        let spec =
            ChildSpec::new::<Connection>(conn.id().to_string(), Restart::Temporary, args, &slot).quiet();
        match ctx.spawn(spec) {
            // The same socket asks again if it lost the first answer.
            Ok(_) | Err(Duplicate(_)) => opened.send(()),
        }
        self.opened += 1;
        ctx.publish_info(json!({ "open": self.wiring.store.estate.conns.count(), "opened": self.opened }));
        Ok(())
    }
}

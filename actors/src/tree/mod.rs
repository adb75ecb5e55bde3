//! The supervision kernel: how an actor is written, addressed, watched and brought back.
//!
//! | file | what |
//! |---|---|
//! | `behavior` | [`Behavior`], the trait every actor implements, and [`Ctx`], what it may do |
//! | `host` | the one ractor actor that runs every behavior and measures it |
//! | `addr` | [`Addr`], the restart-proof [`Slot`], and [`Reply`], the port a question ends in |
//! | `lifecycle` | the words for what happens to an actor: states, exits, faults |
//! | `node` | [`Node`]: what is known of an actor, kept outside of it, so that it outlives a crash |
//! | `policy` | restart, backoff and intensity as pure data and one pure decision |
//! | `supervise` | the supervisor: starts, exits, timers, parking, ordered shutdown |
//! | `clock` | monotonic and wall time, both real or both simulated |
//!
//! ractor gives mailboxes, kill signals and panic isolation. Its links are not used: a ractor parent kills
//! its linked children when it dies, and here a reborn parent adopts them. So every actor is spawned
//! unlinked; its end is written to its [`Node`] by a drop guard (which also runs for a kill), and the
//! parent is told by a hint it may miss, since it reads the nodes again when it is reborn.

mod addr;
mod behavior;
mod clock;
mod host;
mod lifecycle;
mod node;
mod policy;
mod supervise;
mod tasks;

pub use addr::{Addr, Gauge, Reply, Slot};
pub use behavior::{Behavior, Ctx, Fault, Stopping, Timer};
pub use clock::Clock;
pub use lifecycle::{Chaos, Exit, ExitKind, Lifecycle, NodeState, Observer};
pub use node::Node;
pub use policy::{Backoff, Intensity, Restart, ShutdownOrder};
pub use supervise::{ChildSpec, Duplicate, Order, fell, grow, shutdown};

//! The wire of an OpenClaw-compatible gateway, protocol 4.
//!
//! Everything a byte on a client's WebSocket can mean is decided here: frames, the handshake,
//! refusals and close codes, the tables of methods and events with their roles and scopes, the
//! parameters and results of each method, device signatures and session keys. The crate is pure:
//! no runtime, no I/O, no clock; whoever needs the time or a random number passes it in.
//!
//! Reading order: [`frame`], [`refusal`], [`scope`], [`method`], [`event`], [`connect`],
//! [`hello`], [`proof`], then [`params`]. Drivers of channels speak [`driver`], a protocol of
//! their own.

pub mod client;
pub mod connect;
pub mod driver;
pub mod empty;
pub mod event;
pub mod frame;
pub mod hello;
pub mod ids;
pub mod method;
pub mod params;
pub mod proof;
pub mod refusal;
pub mod schema;
pub mod scope;
pub mod session_key;
pub mod value;

pub use connect::{ClientId, ClientMode, ConnectParams};
pub use empty::Empty;
pub use event::Event;
pub use frame::{Close, EventBody, FrameError, RequestFrame, StateVersion};
pub use ids::{ConnId, DeviceId, RunId};
pub use method::{Method, authorize, is_audited};
pub use refusal::{ConnectRefusal, ErrorCode, Refusal};
pub use scope::{Role, Scope, Scopes};
pub use session_key::SessionKey;

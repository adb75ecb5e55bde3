//! The gateway as a supervision tree: one actor a file, and the pure state machines beside them.
//!
//! Read `gateway` first: it is the tree on one screen. `tree` is the kernel under it, `estate` what outlives
//! every actor, and each other file one actor, which begins with what it owns, hears, tells, and what is
//! lost when it crashes.

pub mod agents;
pub mod alerts;
pub mod approvals;
pub mod audit;
pub mod auth_limiter;
pub mod broadcast;
pub mod canvas;
pub mod channels;
pub mod config;
pub mod connection;
pub mod connections;
pub mod conns;
pub mod cron;
pub mod devices;
pub mod estate;
pub mod event;
pub mod gateway;
pub mod handshake;
pub mod health;
pub mod hooks;
pub mod host;
pub mod kill_points;
pub mod lanes;
pub mod log_ring;
pub mod mdns;
pub mod media;
pub mod meters;
pub mod methods;
pub mod nodes;
pub mod origin;
pub mod outbox;
pub mod pairing;
pub mod preauth;
pub mod presence;
pub mod process;
pub mod reach;
pub mod reset;
pub mod responder;
pub mod restart;
pub mod routing;
pub mod scheduler;
pub mod secrets;
pub mod sessions;
pub mod settings;
pub mod skills;
pub mod stability;
pub mod store;
pub mod suspension;
pub mod tailscale;
pub mod terminals;
pub mod tls;
pub mod tools;
pub mod tree;
pub mod work;

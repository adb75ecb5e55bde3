//! The gateway from outside: real sockets, real processes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail like tests")]

mod client;
mod gateway;

mod config;
mod durability;
mod chat;
mod faults;
mod first_breath;
mod methods;
mod wire;

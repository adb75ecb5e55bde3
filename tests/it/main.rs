//! The gateway from outside: real sockets, real processes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail like tests")]

mod client;
mod gateway;

mod access;
mod calls;
mod chat;
mod config;
mod durability;
mod faults;
mod first_breath;
mod flood;
mod liveness;
mod methods;
mod owner;
mod pages;
mod plain_http;
mod replay;
mod wire;

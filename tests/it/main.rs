//! The gateway from outside: real sockets, real processes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail like tests")]

mod client;
mod gateway;

mod access;
mod acp;
mod agents;
mod approvals;
mod branches;
mod calls;
mod canvas;
mod channel_approvals;
mod channel_methods;
mod channels;
mod chat;
mod commands;
mod config;
mod context;
mod crash;
mod discord;
mod drafts;
mod driver;
mod durability;
mod fakes;
mod faults;
mod first_breath;
mod flood;
mod history;
mod hostile;
mod liveness;
mod mcp;
mod media;
mod methods;
mod mock_model;
mod node_host;
mod nodes;
mod owner;
mod pages;
mod pairing;
mod plain_http;
mod platforms;
mod processes;
mod providers;
mod replay;
mod scenarios;
mod session_reads;
mod sessions_life;
mod skills;
mod telegram;
mod tools;
mod wire;

//! Tailscale on this machine: whose an address is, and the route by which it brings clients.

mod program;
mod route;

pub use program::{Program, Whois};
pub use route::{Claim, Route, RouteArgs, RouteMsg, Routes};

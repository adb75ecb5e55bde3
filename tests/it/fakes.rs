//! Platforms that are not there: servers on loopback that speak as their public documentation says, and the
//! gateway's side of a channel without a gateway.

pub mod desk;
pub mod discord;
pub mod platform;
pub mod telegram;

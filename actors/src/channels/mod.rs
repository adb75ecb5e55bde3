//! The messaging channels.

pub mod contract;
pub mod discord;

//! The messaging channels.

pub mod contract;

//! The messaging channels.

pub mod contract;
pub mod driver;
pub mod whatsapp;

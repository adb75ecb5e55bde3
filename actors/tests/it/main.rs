//! The actors crate from outside.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail like tests")]

mod alerts;
mod approvals;
mod chats;
mod drafts;
mod kernel;
mod planting;
mod sim;
mod startup;
mod supervise;
mod toy;

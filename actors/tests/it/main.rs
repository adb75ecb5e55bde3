//! The actors crate from outside.

mod kernel;
mod toy;

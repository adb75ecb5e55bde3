//! Nodes.
pub mod invoke;
pub mod policy;
pub mod surface;
pub mod work;

//! The gateway as a supervision tree: one actor a file, and the pure state machines beside them.

pub mod tree;

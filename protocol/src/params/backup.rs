//! `system.backup` (ours): what a gateway does for a backup of itself.

use super::record;

/// Parameters of `system.backup`: none.
pub type CopyParams = super::core::Empty;

record! {
    /// Result of `system.backup`: a copy of the database that whoever asked takes away.
    pub struct StoreCopy {
        /// The file, below the state directory; the next copy takes its place.
        path: String,
        /// Its size.
        bytes: u64,
        /// The version of its tables.
        schema_version: u32,
    }
}

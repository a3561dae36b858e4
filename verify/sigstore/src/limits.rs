//! The sizes beyond which nothing is read.

/// The largest bundle that is read, in bytes.
pub const MAX_BUNDLE: usize = 1 << 20;
/// The most entries of a log that one bundle may have.
pub const MAX_ENTRIES: usize = 4;
/// The largest trust root that is read, in bytes.
pub const MAX_TRUST_ROOT: usize = 1 << 20;

//! How much is read of what hostile hands wrote.

/// The most files that a manifest lists.
pub const MAX_FILES: usize = 100_000;
/// The largest sealed manifest.
pub const MAX_MANIFEST: u64 = 64 << 20;
/// The largest envelope.
pub const MAX_ENVELOPE: usize = 64 << 10;

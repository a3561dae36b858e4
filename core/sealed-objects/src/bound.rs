//! Numbers of the format.

use coffer_core_sealed_stream::SegmentSize;

/// The segment size of everything here: a reader of a few bytes fetches little more.
pub const SEGMENT: SegmentSize = SegmentSize::KIB_64;
/// The most parts: one more than these is the list, and stores take ten thousand.
pub const MAX_PARTS: usize = 9999;
/// Stores refuse smaller parts, except as the last one; and the last one is the list.
pub const LEAST_PART: u64 = 5 << 20;
/// An object with parts has this many bytes more than a multiple of the segment size. A stream has 0 or more than 16.
pub(crate) const RESIDUE: u64 = 8;
/// The object's last bytes: how long the sealed list is, big-endian.
pub const FOOTER: u64 = 8;
/// As much of an object's end holds the list of most.
pub const TRAILER_AT_FIRST: u64 = 64 << 10;

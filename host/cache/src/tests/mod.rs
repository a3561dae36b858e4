//! The cache against registries that misbehave, processes that are killed and disks that are full.

mod fetching;
mod images;
mod machine;
mod registry;
mod room;
mod serving;
mod sharing;

use std::path::Path;
use std::time::Duration;

use crate::{Blob, Cache, CacheError, Patience, Settings};
use registry::Registry;

/// The pieces of tests are small, so that blobs have many.
const PIECE: u64 = 4096;

fn settings(folder: &Path) -> Settings {
    let patience = Patience {
        attempts: 4,
        first: Duration::from_millis(1),
        longest: Duration::from_millis(20),
        stall: Duration::from_secs(10),
        piece: Duration::from_secs(20),
        rest: Duration::from_millis(1),
    };
    Settings { piece: PIECE, bound: 64 << 20, patience, ..Settings::new(folder) }
}

fn cache(folder: &Path) -> Cache {
    Cache::open(settings(folder)).unwrap()
}

/// Bytes that differ at every place, and from other seeds' bytes.
fn content(length: usize, seed: u64) -> Vec<u8> {
    let mut chance = Chance(seed);
    (0..length).map(|_| chance.below(256) as u8).collect()
}

/// The blob of this content at a registry, in a cache.
async fn blob(cache: &Cache, registry: &Registry, content: &[u8]) -> Result<Blob, CacheError> {
    let digest = registry.put_blob(content);
    let remote = cache.remote(&registry.reference(), true)?;
    cache.blob(&remote, &digest, content.len() as u64).await
}

/// Numbers that are the same in every run (Marsaglia, "Xorshift RNGs").
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed ^= mixed >> 30;
        mixed = mixed.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^= mixed >> 27;
        mixed % bound
    }
}

fn file_of(blob: &Blob) -> Vec<u8> {
    std::fs::read(blob.path().expect("whole")).unwrap()
}

fn partials(folder: &Path) -> usize {
    std::fs::read_dir(folder.join("partial")).unwrap().count()
}

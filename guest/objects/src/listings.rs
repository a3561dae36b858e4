//! Listings that were gathered, for the pages that follow.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const KEPT: usize = 2;
const KEPT_FOR: Duration = Duration::from_secs(60);

/// What stands under a plain name.
#[derive(Clone)]
pub(crate) enum Entry {
    Folder,
    Object { key: String, size: u64, etag: String, modified: String },
}

/// A folder's names, or all below it, in their order.
pub(crate) type Gathered = Arc<BTreeMap<String, Entry>>;
/// Bucket, prefix, delimiter.
pub(crate) type About = (String, String, String);

/// Listings whose next pages may be asked for.
#[derive(Default)]
pub(crate) struct Listings(Mutex<Vec<(About, Instant, Gathered)>>);

impl Listings {
    pub(crate) fn get(&self, about: &About) -> Option<Gathered> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(_, since, _)| since.elapsed() < KEPT_FOR);
        kept.iter().find(|(own, ..)| own == about).map(|(.., found)| Arc::clone(found))
    }

    pub(crate) fn keep(&self, about: About, found: &Gathered) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(own, since, _)| *own != about && since.elapsed() < KEPT_FOR);
        if kept.len() >= KEPT {
            kept.remove(0);
        }
        kept.push((about, Instant::now(), Arc::clone(found)));
    }
}

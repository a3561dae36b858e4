//! What was found out about objects: bounded, by their sealed keys and the store's tags.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use coffer_core_sealed_objects::Shape;

/// Streams of all objects together. Each is about a hundred bytes.
const MOST_STREAMS: usize = 40_000;
const MOST_OBJECTS: usize = 4096;
const MOST_SIZES: usize = 20_000;

type Header = [u8; 40];

/// One version of one object.
pub(crate) struct Seen {
    /// The store's tag, as it was sent.
    pub(crate) etag: String,
    pub(crate) sealed_size: u64,
    pub(crate) modified: String,
    /// The sealed metadata.
    pub(crate) metadata: Option<String>,
    pub(crate) shape: Arc<Shape>,
    /// Headers of streams, as far as they were needed.
    headers: Mutex<BTreeMap<usize, Header>>,
}

impl Seen {
    pub(crate) fn new(
        etag: String,
        sealed_size: u64,
        modified: String,
        metadata: Option<String>,
        shape: Shape,
    ) -> Self {
        Self { etag, sealed_size, modified, metadata, shape: Arc::new(shape), headers: Mutex::default() }
    }

    pub(crate) fn header(&self, stream: usize) -> Option<Header> {
        self.headers.lock().unwrap_or_else(PoisonError::into_inner).get(&stream).copied()
    }

    pub(crate) fn keep_header(&self, stream: usize, header: Header) {
        self.headers.lock().unwrap_or_else(PoisonError::into_inner).insert(stream, header);
    }
}

/// Bucket, sealed key, the store's tag and the length that it tells.
pub(crate) type Listed = (String, String, String, u64);

/// The objects that were seen last.
#[derive(Default)]
pub(crate) struct Known(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    /// Bucket and sealed key, and when it was used last.
    objects: BTreeMap<(String, String), (u64, Arc<Seen>)>,
    streams: usize,
    clock: u64,
    /// Sizes of objects with parts that were listed.
    sizes: BTreeMap<Listed, u64>,
}

impl Known {
    pub(crate) fn size(&self, listed: &Listed) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).sizes.get(listed).copied()
    }

    pub(crate) fn keep_size(&self, listed: Listed, size: u64) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.sizes.len() >= MOST_SIZES {
            // Some of them go, whichever they are.
            kept.sizes.pop_first();
        }
        kept.sizes.insert(listed, size);
    }

    pub(crate) fn get(&self, bucket: &str, key: &str) -> Option<Arc<Seen>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clock += 1;
        let now = kept.clock;
        let found = kept.objects.get_mut(&(bucket.to_owned(), key.to_owned()))?;
        found.0 = now;
        Some(Arc::clone(&found.1))
    }

    pub(crate) fn keep(&self, bucket: &str, key: &str, seen: &Arc<Seen>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clock += 1;
        let now = kept.clock;
        kept.remove(&(bucket.to_owned(), key.to_owned()));
        kept.streams += seen.shape.streams();
        kept.objects.insert((bucket.to_owned(), key.to_owned()), (now, Arc::clone(seen)));
        while kept.objects.len() > 1 && (kept.streams > MOST_STREAMS || kept.objects.len() > MOST_OBJECTS) {
            let oldest = kept.objects.iter().min_by_key(|(_, (used, _))| *used).map(|(name, _)| name.clone());
            let Some(oldest) = oldest else { return };
            kept.remove(&oldest);
        }
    }

    pub(crate) fn forget(&self, bucket: &str, key: &str) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.remove(&(bucket.to_owned(), key.to_owned()));
    }
}

impl Kept {
    fn remove(&mut self, name: &(String, String)) {
        if let Some((_, seen)) = self.objects.remove(name) {
            self.streams = self.streams.saturating_sub(seen.shape.streams());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_core_sealed_objects::{Index, ObjectName, Part, PartId};

    #[test]
    fn what_is_kept_is_bounded_by_streams_and_the_oldest_goes_first() {
        let name = ObjectName::new("b", "k").unwrap();
        let part = Part { id: PartId::insecure_from([0; 16]), size: 5 << 20 };
        let index = Index::new(vec![part; 9000]).unwrap();
        let stored = part.stored().unwrap() * 9000;
        let size = stored - stored % 65_536 + 65_536 + 8;
        let seen = || {
            let shape = Shape::parts(&name, size, &index).unwrap();
            Arc::new(Seen::new("e".into(), size, String::new(), None, shape))
        };
        let known = Known::default();
        for number in 0..4 {
            known.keep("b", &number.to_string(), &seen());
        }
        assert!(known.get("b", "0").is_some());
        known.keep("b", "4", &seen());
        assert!(known.get("b", "0").is_some() && known.get("b", "1").is_none());
        known.forget("b", "0");
        assert!(known.get("b", "0").is_none());
        assert_eq!(known.0.lock().unwrap().streams, 27_000);
    }
}

//! What was verified before, by a digest over all that the verification read.
//!
//! INVARIANT: only successes are kept, and only under a digest of their whole input but the time; whoever takes one
//! out asks for the time again.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use coffer_core_digest::Digest;

/// A bounded map; the oldest entry goes first.
#[derive(Debug)]
pub(crate) struct Remembered<T> {
    limit: usize,
    kept: Mutex<Kept<T>>,
}

#[derive(Debug)]
struct Kept<T> {
    values: HashMap<Digest, Arc<T>>,
    order: VecDeque<Digest>,
}

impl<T> Remembered<T> {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, kept: Mutex::new(Kept { values: HashMap::new(), order: VecDeque::new() }) }
    }

    pub(crate) fn get(&self, name: &Digest) -> Option<Arc<T>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).values.get(name).cloned()
    }

    pub(crate) fn keep(&self, name: Digest, value: Arc<T>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.values.insert(name, value).is_none() {
            kept.order.push_back(name);
        }
        if kept.order.len() > self.limit
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.values.remove(&oldest);
        }
    }
}

/// A digest over parts, lengths first, so that no two lists of parts have the same.
pub(crate) fn name(parts: &[&[u8]]) -> Digest {
    let mut hasher = coffer_core_digest::Hasher::new(coffer_core_digest::Algorithm::Sha256);
    for part in parts {
        hasher.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(part);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_kept_than_the_limit_and_the_newest_stay() {
        let kept = Remembered::new(2);
        for number in 0..4_u8 {
            kept.keep(name(&[&[number]]), Arc::new(number));
            kept.keep(name(&[&[number]]), Arc::new(number));
        }
        assert_eq!(kept.get(&name(&[&[1]])), None);
        assert_eq!(kept.get(&name(&[&[2]])).as_deref(), Some(&2));
        assert_eq!(kept.get(&name(&[&[3]])).as_deref(), Some(&3));
        assert_ne!(name(&[b"ab", b"c"]), name(&[b"a", b"bc"]));
    }
}

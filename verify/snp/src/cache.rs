//! What was verified before, by the digest of what it was verified from.
//!
//! INVARIANT: only what holds at every time and for every question is kept here: signatures. Times of validity and
//! fields of reports are asked again at each use.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use coffer_core_digest::Digest;

#[derive(Debug)]
pub(crate) struct Cache<T> {
    bound: usize,
    kept: Mutex<Kept<T>>,
}

#[derive(Debug)]
struct Kept<T> {
    values: HashMap<Digest, Arc<T>>,
    /// The oldest first.
    order: VecDeque<Digest>,
}

impl<T> Cache<T> {
    pub(crate) fn new(bound: usize) -> Self {
        Self { bound, kept: Mutex::new(Kept { values: HashMap::new(), order: VecDeque::new() }) }
    }

    pub(crate) fn get(&self, name: &Digest) -> Option<Arc<T>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).values.get(name).cloned()
    }

    pub(crate) fn keep(&self, name: Digest, value: T) -> Arc<T> {
        let value = Arc::new(value);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.values.insert(name, Arc::clone(&value)).is_none() {
            kept.order.push_back(name);
        }
        if kept.order.len() > self.bound
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.values.remove(&oldest);
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_kept_than_the_bound_and_the_newest_stay() {
        let cache = Cache::new(3);
        let name = |number: u8| Digest::sha256(&[number]);
        for number in 0..10 {
            cache.keep(name(number), number);
            cache.keep(name(number), number);
        }
        let kept: Vec<u8> = (0..10).filter_map(|number| cache.get(&name(number))).map(|one| *one).collect();
        assert_eq!(kept, [7, 8, 9]);
        assert_eq!(cache.kept.lock().unwrap().order.len(), 3);
    }
}

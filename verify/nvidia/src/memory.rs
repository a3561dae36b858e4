//! What was verified before, by digests of everything that it depends on but the time.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use coffer_core_digest::Digest;

/// A fleet has some drivers and firmwares, and each machine at most eight GPUs.
const MAX_KEPT: usize = 1024;

/// Remembers successes; the oldest goes first. The time is asked again by who uses one.
#[derive(Debug)]
pub(crate) struct Memory<T>(Mutex<VecDeque<(Digest, Arc<T>)>>);

impl<T> Default for Memory<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Memory<T> {
    pub(crate) fn find(&self, name: &Digest) -> Option<Arc<T>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().rev().find(|(other, _)| other == name).map(|(_, value)| Arc::clone(value))
    }

    pub(crate) fn keep(&self, name: Digest, value: T) -> Arc<T> {
        let value = Arc::new(value);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_KEPT {
            known.pop_front();
        }
        known.push_back((name, Arc::clone(&value)));
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_kept_than_the_bound_and_the_newest_stays() {
        let memory = Memory::default();
        let name = |number: usize| Digest::sha256(&number.to_be_bytes());
        for number in 0..MAX_KEPT + 3 {
            memory.keep(name(number), number);
        }
        assert!(memory.find(&name(2)).is_none());
        assert_eq!(memory.find(&name(3)).as_deref(), Some(&3));
        assert_eq!(memory.find(&name(MAX_KEPT + 2)).as_deref(), Some(&(MAX_KEPT + 2)));
    }
}

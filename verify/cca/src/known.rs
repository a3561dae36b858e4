//! Platform tokens whose signature was verified before. A platform makes one for each start of its monitor, and
//! sends it with the token of every realm.
//!
//! INVARIANT: a token is kept by its digest under one set of anchors that never changes, and has no time of
//! validity, so that an answer kept is the answer that would be given.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use coffer_core_digest::Digest;

/// How many are kept.
const MAX_KEPT: usize = 1024;

/// Verified platform tokens, by digest, with the anchor that verified each.
#[derive(Debug, Default)]
pub(crate) struct Known(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    anchors: HashMap<Digest, usize>,
    /// The oldest first.
    order: VecDeque<Digest>,
}

impl Known {
    /// The anchor that verified this token.
    pub(crate) fn anchor(&self, token: &Digest) -> Option<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).anchors.get(token).copied()
    }

    /// Keeps a token that was verified.
    pub(crate) fn keep(&self, token: Digest, anchor: usize) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.anchors.insert(token, anchor).is_none() {
            kept.order.push_back(token);
        }
        if kept.order.len() > MAX_KEPT
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.anchors.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_kept_than_the_bound_and_the_newest_stay() {
        let known = Known::default();
        let name = |number: usize| Digest::sha256(&number.to_be_bytes());
        for number in 0..MAX_KEPT + 2 {
            known.keep(name(number), number);
            known.keep(name(number), number);
        }
        assert_eq!(known.0.lock().unwrap().order.len(), MAX_KEPT);
        assert_eq!((known.anchor(&name(1)), known.anchor(&name(2))), (None, Some(2)));
    }
}

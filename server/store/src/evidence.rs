//! The last evidence that was judged, for owners who try a changed policy on it. A ring of its own: it may go before
//! its attempt, and an attempt may go before it. It is written by the journal.

use coffer_core_secret::SecretBytes;

use crate::StoreError;
use crate::scope::{Scope, get};
use crate::table::EVIDENCE;

/// The longest evidence that is kept, in bytes.
pub const MAX_EVIDENCE: usize = 1 << 20;

impl Scope {
    /// The evidence of an attempt, if it is kept.
    pub fn evidence(&self, attempt: &str) -> Result<Option<SecretBytes>, StoreError> {
        self.inner.read(|view| get(&self.inner.keys, view, &self.tenant, EVIDENCE, attempt))
    }
}

//! What is written down of attempts: that they were made, what was decided on them, and what was released.
//!
//! INVARIANT I-1: a release is made only if its decision is durable. INVARIANT: a release is made only under the revision
//! that it was decided under, of a version that is active, not expired, and within its count; all of this is compared in
//! the transaction that writes the decision, so that it holds for all replicas. A batch is one transaction, so that
//! many callers share one sync, and the batch of one tenant's entries cannot fail another's.
//!
//! Refused attempts have a ring of their own inside the whole, so that whoever sends refusable evidence in any number
//! cannot push the others out. Rings are in the order of time, and replicas share no counter.
//! Replicas' clocks must be near each other: what one that is behind adds is the first that is dropped, until it has
//! seen where the others are.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, PoisonError};

use coffer_core_admin::TenantName;

use crate::StoreError;
use crate::batch::Batch;
use crate::entries::{JournalEntry, Written};
use crate::rings::Ring;
use crate::store::Store;

impl Store {
    /// Writes entries down in one transaction. Durable when this returns; says of each what became of it.
    pub fn journal(&self, entries: &[(TenantName, JournalEntry)]) -> Result<Vec<Written>, StoreError> {
        let inner = &*self.inner;
        // Held for the whole of it, so that what is remembered of the rings is what was committed.
        let mut rings = inner.rings.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = inner.write(|change| {
            let mut known: HashMap<Arc<str>, Ring> = HashMap::new();
            for (tenant, _) in entries {
                if let Entry::Vacant(place) = known.entry(Arc::from(tenant.as_str())) {
                    let ring = match rings.get(tenant.as_str()) {
                        Some(ring) => *ring,
                        None => Ring::counted(&*change, tenant.as_str())?,
                    };
                    place.insert(ring);
                }
            }
            Batch::load(inner, change, entries, known)?.run()
        });
        match outcome {
            Ok((written, known)) => {
                rings.extend(known);
                Ok(written)
            }
            Err(error) => {
                // Whether it was kept is not known, so they are counted again.
                for (tenant, _) in entries {
                    rings.remove(tenant.as_str());
                }
                Err(error)
            }
        }
    }
}

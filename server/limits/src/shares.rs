//! Places for heavy work, waited for.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coffer_core_admin::TenantName;
use tokio::sync::oneshot;

use crate::turns::{Share, Ticket, Turns};

/// Too many wait already. An answer of 503 or 429 with `Retry-After` is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{waiting} calls of the tenant wait already; try again later")]
pub struct Busy {
    /// How many wait.
    pub waiting: usize,
}

/// Places for heavy work. Clones are the same places.
#[derive(Clone)]
pub struct Shares(Arc<Mutex<State>>);

struct State {
    turns: Turns<TenantName>,
    calls: HashMap<Ticket, oneshot::Sender<Place>>,
}

/// A place, until it is dropped.
pub struct Place {
    shares: Shares,
    tenant: TenantName,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("tenant", &self.tenant).finish_non_exhaustive()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shares.state().turns.leave(&self.tenant);
        self.shares.serve();
    }
}

/// Somebody who waits. Going away leaves the queue.
struct Waiting<'a> {
    shares: &'a Shares,
    tenant: &'a TenantName,
    ticket: Ticket,
    granted: oneshot::Receiver<Place>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.shares.state();
        state.calls.remove(&self.ticket);
        state.turns.withdraw(self.tenant, self.ticket);
        // A place that was granted and not taken is in the channel, and goes back with it, after the lock.
    }
}

impl Shares {
    /// So many places.
    pub fn new(places: usize) -> Self {
        Self(Arc::new(Mutex::new(State { turns: Turns::new(places.max(1)), calls: HashMap::new() })))
    }

    /// Waits for a place. `share` is the tenant's, as it is now.
    pub async fn enter(&self, tenant: &TenantName, share: Share) -> Result<Place, Busy> {
        // A tenant without a place could wait for ever.
        let share = Share { at_once: share.at_once.max(1), ..share };
        let mut waiting = {
            let mut state = self.state();
            let ticket = state.turns.enter(tenant, share).map_err(|full| Busy { waiting: full.waiting })?;
            let (grants, granted) = oneshot::channel();
            state.calls.insert(ticket, grants);
            Waiting { shares: self, tenant, ticket, granted }
        };
        self.serve();
        let granted = (&mut waiting.granted).await;
        // INVARIANT: a sender goes away only with a place, or when its `Waiting` does.
        granted.map_err(|_| Busy { waiting: 0 })
    }

    /// How many wait now, of all tenants.
    pub fn waiting(&self) -> usize {
        self.state().turns.waiting()
    }

    /// How many places are free now.
    pub fn free(&self) -> usize {
        self.state().turns.free()
    }

    /// Gives places away as long as there are some. A place that its caller no longer wants comes back by its own
    /// drop, which needs the lock: so it is let go outside.
    fn serve(&self) {
        loop {
            let mut state = self.state();
            let Some((tenant, ticket)) = state.turns.grant() else { return };
            let call = state.calls.remove(&ticket);
            drop(state);
            let place = Place { shares: self.clone(), tenant };
            if let Some(call) = call {
                // A refusal means that the caller is gone; the place is dropped here and served again.
                let _ = call.send(place);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroUsize;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn share(at_once: usize, waiting: usize) -> Share {
        Share { at_once, waiting, weight: NonZeroUsize::MIN }
    }

    fn tenant(name: &str) -> TenantName {
        name.parse().unwrap()
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_leaves_no_place_and_no_queue_behind() {
        let (shares, a) = (Shares::new(1), tenant("a"));
        let place = shares.enter(&a, share(1, 9)).await.unwrap();
        for _ in 0..50 {
            let waits = shares.enter(&a, share(1, 9));
            tokio::select! {
                biased;
                _ = waits => panic!("there is no place"),
                () = tokio::task::yield_now() => {}
            }
        }
        assert_eq!((shares.waiting(), shares.free(), shares.state().calls.len()), (0, 0, 0));
        drop(place);
        assert_eq!(shares.free(), 1);
        // Granted, and dropped before it was taken.
        let place = shares.enter(&a, share(1, 9)).await.unwrap();
        let mut waits = Box::pin(shares.enter(&a, share(1, 9)));
        tokio::select! {
            biased;
            _ = &mut waits => panic!("there is no place"),
            () = tokio::task::yield_now() => {}
        }
        drop(place);
        assert_eq!(shares.free(), 0, "granted to who waits");
        drop(waits);
        assert_eq!((shares.free(), shares.waiting()), (1, 0));
    }

    #[tokio::test]
    async fn a_full_queue_is_refused_at_once() {
        let (shares, a) = (Shares::new(1), tenant("a"));
        let _place = shares.enter(&a, share(1, 0)).await.unwrap();
        assert_eq!(shares.enter(&a, share(1, 0)).await.unwrap_err(), Busy { waiting: 0 });
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn many_calls_at_once_never_exceed_their_places_and_all_end() {
        let shares = Shares::new(3);
        let most = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
        let mut calls = Vec::new();
        for call in 0..600_usize {
            let (shares, most) = (shares.clone(), Arc::clone(&most));
            calls.push(tokio::spawn(async move {
                let which = call % 2;
                let name = tenant(if which == 0 { "a" } else { "b" });
                let _place = shares.enter(&name, share(2, 1000)).await.unwrap();
                let now = most[which].fetch_add(1, Ordering::SeqCst) + 1;
                assert!(now <= 2);
                tokio::task::yield_now().await;
                most[which].fetch_sub(1, Ordering::SeqCst);
            }));
        }
        for call in calls {
            call.await.unwrap();
        }
        assert_eq!((shares.free(), shares.waiting(), shares.state().calls.len()), (3, 0, 0));
    }
}

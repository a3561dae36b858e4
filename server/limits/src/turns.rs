//! Whose turn it is: places for heavy work, in turn among tenants and in order within one. No waiting, no async.
//!
//! INVARIANT: of two tenants with somebody waiting and places of their own left, neither gets more than its weight
//! in grants between two grants of the other.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::num::NonZeroUsize;

/// What one tenant may have of the places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Places at once.
    pub at_once: usize,
    /// Calls that may wait.
    pub waiting: usize,
    /// Grants in a row before it is another's turn; one for all, unless some pay more.
    pub weight: NonZeroUsize,
}

/// A call that waits or works.
pub(crate) type Ticket = u64;

/// The places and who waits for them.
pub(crate) struct Turns<K> {
    free: usize,
    next: Ticket,
    tenants: HashMap<K, Tenant>,
    /// Tenants with somebody waiting, whose turn it is first.
    ring: VecDeque<K>,
}

struct Tenant {
    working: usize,
    share: Share,
    waiting: VecDeque<Ticket>,
    /// Grants left in this turn.
    left: usize,
}

/// There is no room to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full {
    pub(crate) waiting: usize,
}

impl<K: Clone + Eq + Hash> Turns<K> {
    pub(crate) fn new(places: usize) -> Self {
        Self { free: places, next: 0, tenants: HashMap::new(), ring: VecDeque::new() }
    }

    /// Queues a call. The share is the tenant's present one.
    pub(crate) fn enter(&mut self, who: &K, share: Share) -> Result<Ticket, Full> {
        let tenant = self.tenants.entry(who.clone()).or_insert_with(|| Tenant {
            working: 0,
            share,
            waiting: VecDeque::new(),
            left: share.weight.get(),
        });
        tenant.share = share;
        // Places are given away as long as somebody may have one. So if one is free and this tenant may have it, the
        // call waits for nobody, and the bound is not for it.
        let at_once = self.free > 0 && tenant.waiting.is_empty() && tenant.working < share.at_once;
        if tenant.waiting.len() >= share.waiting && !at_once {
            let full = Full { waiting: tenant.waiting.len() };
            self.forget(who);
            return Err(full);
        }
        let ticket = self.next;
        self.next = self.next.wrapping_add(1);
        if tenant.waiting.is_empty() {
            tenant.left = share.weight.get();
            self.ring.push_back(who.clone());
        }
        tenant.waiting.push_back(ticket);
        Ok(ticket)
    }

    /// Gives a place to whose turn it is. None if there is no place or nobody may have it.
    pub(crate) fn grant(&mut self) -> Option<(K, Ticket)> {
        if self.free == 0 {
            return None;
        }
        let may = |who: &K| self.tenants.get(who).is_some_and(|one| one.working < one.share.at_once);
        let at = self.ring.iter().position(may)?;
        let who = self.ring.get(at)?.clone();
        let tenant = self.tenants.get_mut(&who)?;
        let ticket = tenant.waiting.pop_front()?;
        tenant.working = tenant.working.saturating_add(1);
        tenant.left = tenant.left.saturating_sub(1);
        self.free = self.free.saturating_sub(1);
        let (ended, empty) = (tenant.left == 0, tenant.waiting.is_empty());
        if ended || empty {
            tenant.left = tenant.share.weight.get();
            self.ring.remove(at);
        }
        if ended && !empty {
            self.ring.push_back(who.clone());
        }
        Some((who, ticket))
    }

    /// A call that worked has ended.
    pub(crate) fn leave(&mut self, who: &K) {
        if let Some(tenant) = self.tenants.get_mut(who)
            && tenant.working > 0
        {
            tenant.working = tenant.working.saturating_sub(1);
            self.free = self.free.saturating_add(1);
        }
        self.forget(who);
    }

    /// A call that waited went away. False if it does not wait.
    pub(crate) fn withdraw(&mut self, who: &K, ticket: Ticket) -> bool {
        let Some(tenant) = self.tenants.get_mut(who) else { return false };
        let Some(at) = tenant.waiting.iter().position(|one| *one == ticket) else { return false };
        tenant.waiting.remove(at);
        if tenant.waiting.is_empty() {
            self.ring.retain(|one| one != who);
        }
        self.forget(who);
        true
    }

    /// Memory is for tenants that work or wait.
    fn forget(&mut self, who: &K) {
        if self.tenants.get(who).is_some_and(|one| one.working == 0 && one.waiting.is_empty()) {
            self.tenants.remove(who);
        }
    }

    pub(crate) fn waiting(&self) -> usize {
        self.tenants.values().map(|one| one.waiting.len()).sum()
    }

    pub(crate) fn free(&self) -> usize {
        self.free
    }

    #[cfg(test)]
    fn known(&self) -> usize {
        self.tenants.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn share(at_once: usize, weight: usize) -> Share {
        Share { at_once, waiting: 1000, weight: NonZeroUsize::new(weight).unwrap() }
    }

    #[test]
    fn a_tenant_with_one_call_is_next_however_many_another_queued() {
        let mut turns = Turns::new(1);
        for _ in 0..500 {
            turns.enter(&'a', share(8, 1)).unwrap();
        }
        assert_eq!(turns.grant().unwrap().0, 'a');
        turns.enter(&'b', share(8, 1)).unwrap();
        turns.leave(&'a');
        assert_eq!(turns.grant().unwrap().0, 'a', "it was before");
        turns.leave(&'a');
        assert_eq!(turns.grant().unwrap().0, 'b');
    }

    #[test]
    fn nobody_takes_more_than_their_places_and_the_rest_stays_free_for_others() {
        let mut turns = Turns::new(4);
        for _ in 0..10 {
            turns.enter(&'a', share(2, 1)).unwrap();
        }
        assert!(turns.grant().is_some() && turns.grant().is_some());
        assert_eq!((turns.grant(), turns.free()), (None, 2));
        turns.enter(&'b', share(2, 1)).unwrap();
        assert_eq!(turns.grant().unwrap().0, 'b');
    }

    #[test]
    fn a_full_queue_is_said_at_once_and_leaves_nothing_behind() {
        let mut turns = Turns::new(1);
        let none = Share { waiting: 0, ..share(1, 1) };
        turns.enter(&'a', none).unwrap();
        assert!(turns.grant().is_some());
        assert_eq!(turns.enter(&'a', none), Err(Full { waiting: 0 }));
        assert_eq!(turns.enter(&'b', none), Err(Full { waiting: 0 }));
        assert_eq!(turns.known(), 1);
        turns.leave(&'a');
        assert_eq!((turns.known(), turns.free(), turns.waiting()), (0, 1, 0));
    }

    #[derive(Clone, Debug)]
    enum Act {
        Enter(u8),
        Grant,
        Leave(usize),
        Withdraw(usize),
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let act = prop_oneof![
            3 => (0_u8..5).prop_map(Act::Enter),
            3 => Just(Act::Grant),
            2 => any::<usize>().prop_map(Act::Leave),
            1 => any::<usize>().prop_map(Act::Withdraw),
        ];
        prop::collection::vec(act, 1..300)
    }

    proptest! {
        #[test]
        fn no_place_is_lost_nobody_has_too_many_and_everyone_waits_at_most_one_round(
            places in 1_usize..6,
            at_once in 1_usize..4,
            weights in prop::array::uniform5(1_usize..4),
            acts in acts(),
        ) {
            let mut turns = Turns::new(places);
            let mut working: Vec<u8> = Vec::new();
            // Who waits, in order, with the grants that others had while the tenant could have had one.
            let mut waiting: Vec<(u8, Ticket)> = Vec::new();
            let mut passed_over = [0_usize; 5];
            let of = |who: u8| share(at_once, weights[usize::from(who)]);
            for act in acts {
                match act {
                    Act::Enter(who) => {
                        if !waiting.iter().any(|one| one.0 == who) {
                            passed_over[usize::from(who)] = 0;
                        }
                        waiting.push((who, turns.enter(&who, of(who)).unwrap()));
                    }
                    Act::Grant => {
                        let count = |who: u8| working.iter().filter(|one| **one == who).count();
                        let able: Vec<u8> = (0..5)
                            .filter(|who| waiting.iter().any(|one| one.0 == *who) && count(*who) < at_once)
                            .collect();
                        match turns.grant() {
                            None => prop_assert!(working.len() == places || able.is_empty()),
                            Some((who, ticket)) => {
                                let first = waiting.iter().position(|one| one.0 == who).unwrap();
                                prop_assert_eq!(waiting.remove(first).1, ticket);
                                prop_assert!(working.len() < places && able.contains(&who));
                                working.push(who);
                                for other in able.into_iter().filter(|other| *other != who) {
                                    passed_over[usize::from(other)] += 1;
                                    // One round: each of the others once by its weight.
                                    let round: usize = weights.iter().sum::<usize>() - weights[usize::from(other)];
                                    prop_assert!(passed_over[usize::from(other)] <= round);
                                }
                                passed_over[usize::from(who)] = 0;
                            }
                        }
                    }
                    Act::Leave(which) if !working.is_empty() => {
                        let who = working.swap_remove(which % working.len());
                        turns.leave(&who);
                    }
                    Act::Withdraw(which) if !waiting.is_empty() => {
                        let (who, ticket) = waiting.remove(which % waiting.len());
                        prop_assert!(turns.withdraw(&who, ticket));
                        prop_assert!(!turns.withdraw(&who, ticket));
                    }
                    Act::Leave(_) | Act::Withdraw(_) => {}
                }
                prop_assert_eq!(turns.free() + working.len(), places);
                prop_assert_eq!(turns.waiting(), waiting.len());
            }
        }
    }
}

//! How often and how long a transaction is begun again.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use coffer_server_store::StoreError;

use crate::config::Target;
use crate::failure::Failure;

/// How often a transaction that met others is tried.
const MAX_TRIES: u32 = 20;
const CONFLICT_PAUSE: Duration = Duration::from_millis(1);
const LOSS_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// The tries of one call.
pub(crate) struct Tries<'a> {
    target: &'a Target,
    /// When waiting ends: for a connection, and for what became of a commit.
    pub(crate) end: Instant,
    last_start: Instant,
    made: u32,
}

impl<'a> Tries<'a> {
    pub(crate) fn new(target: &'a Target) -> Self {
        let now = Instant::now();
        Self { target, end: now + target.timeouts.call, last_start: now + target.timeouts.retry, made: 0 }
    }

    /// When an answer to a statement that is sent now is no longer waited for. A transaction of many statements, as a
    /// backup is, may take longer than a call that waits.
    pub(crate) fn answer_by(&self) -> Instant {
        Instant::now() + self.target.timeouts.statement
    }

    /// Until when the outcome of a commit is asked for.
    pub(crate) fn learn_by(&self) -> Instant {
        self.end.max(Instant::now() + self.target.timeouts.connect)
    }

    /// After which nothing is begun again.
    pub(crate) fn last_start(&self) -> Instant {
        self.last_start
    }

    /// Whether the transaction met others already.
    pub(crate) fn is_contended(&self) -> bool {
        self.made > 0
    }

    /// Pauses before the next try, or says why there is none.
    pub(crate) fn again(&mut self, failure: Failure) -> Result<(), StoreError> {
        self.made = self.made.saturating_add(1);
        let (first, why) = match failure {
            Failure::Refused(error) => return Err(error),
            Failure::Conflict(why) if self.made >= MAX_TRIES => {
                return Err(
                    self.give_up(&format!("{MAX_TRIES} tries met other transactions; the last: {why}"))
                );
            }
            Failure::Conflict(why) => (CONFLICT_PAUSE, why),
            Failure::Lost(why) => (LOSS_PAUSE, why),
        };
        let pause = jitter(first.saturating_mul(1 << self.made.min(10)).min(LONGEST_PAUSE));
        if Instant::now() + pause >= self.last_start.min(self.end) {
            return Err(self.give_up(&why));
        }
        thread::sleep(pause);
        Ok(())
    }

    pub(crate) fn give_up(&self, why: &str) -> StoreError {
        StoreError::Unavailable { place: self.target.place.clone(), why: why.to_owned() }
    }
}

/// Half of a time at least, so that those who met do not meet again.
pub(crate) fn jitter(time: Duration) -> Duration {
    // A hasher's keys differ each time (`RandomState`); nothing secret hangs on this.
    let dice = RandomState::new().hash_one(0_u8) % 1_024;
    let part = u32::try_from(dice).unwrap_or(0);
    time / 2 + time.saturating_mul(part) / 2_048
}

/// Where transactions that met others in this process are tried again one after the other, because together they
/// would meet again.
#[derive(Default)]
pub(crate) struct Lane {
    taken: Mutex<bool>,
    freed: Condvar,
}

/// The right to be the one that tries.
pub(crate) struct Turn<'a>(&'a Lane);

impl Lane {
    /// Waits for its turn, for so long; who does not get it tries without.
    pub(crate) fn enter(&self, end: Instant) -> Option<Turn<'_>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        while *taken {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            taken = self.freed.wait_timeout(taken, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        *taken = true;
        Some(Turn(self))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.taken.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.0.freed.notify_one();
    }
}

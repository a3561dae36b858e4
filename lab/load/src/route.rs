//! A client's way to a broker of several replicas: round robin, and another replica when one fails or is busy.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::dice::Dice;
use crate::link::{Answer, Call, CallError, Link};

/// How long a client goes on.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For one call to one replica.
    pub per_call: Duration,
    /// For all of what a guest came for.
    pub deadline: Duration,
    /// The first pause before a second try; it doubles.
    pub first_pause: Duration,
    /// No pause is longer, whatever Retry-After says.
    pub longest_pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            per_call: Duration::from_secs(10),
            deadline: Duration::from_secs(60),
            first_pause: Duration::from_millis(50),
            longest_pause: Duration::from_secs(2),
        }
    }
}

/// Links to all replicas. Each call goes to the next one, so what one replica began another finishes.
pub struct Route {
    links: Vec<Arc<Link>>,
    next: AtomicUsize,
    patience: Patience,
    again: AtomicU64,
}

impl Route {
    /// Begins at the link of this number.
    pub fn new(links: Vec<Arc<Link>>, first: usize, patience: Patience) -> Self {
        Self { links, next: AtomicUsize::new(first), patience, again: AtomicU64::new(0) }
    }

    /// When what begins now must have ended.
    pub fn deadline(&self) -> Instant {
        Instant::now() + self.patience.deadline
    }

    /// How often a call was sent again.
    pub fn sent_again(&self) -> u64 {
        self.again.load(Ordering::Relaxed)
    }

    /// Forgets all connections.
    pub async fn close(&self) {
        for link in &self.links {
            link.close().await;
        }
    }

    /// Sends until an answer is not one that says to come again, or until the time is over. Then the last answer is
    /// given, or the last error if no replica answered at all.
    pub async fn call(&self, call: &Call, until: Instant) -> Result<Answer, CallError> {
        let mut pause = self.patience.first_pause;
        loop {
            let link = self.pick();
            let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            let answer = link.call(call, self.patience.per_call.min(left)).await;
            let wait = match &answer {
                Ok(answer) if !comes_again(answer.status) => return Ok(answer.clone()),
                Ok(answer) => answer.retry_after.unwrap_or(pause).max(pause),
                // There is no second way to write it.
                Err(CallError::Call { .. }) => return answer,
                Err(_) => pause,
            };
            let wait = jittered(wait.min(self.patience.longest_pause));
            if Instant::now() + wait >= until {
                return answer;
            }
            self.again.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(self.patience.longest_pause);
        }
    }

    /// The next link; of those that failed a moment ago, one only if all did.
    fn pick(&self) -> &Link {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let count = self.links.len();
        let awake = (0..count).map(|step| &self.links[(first + step) % count]).find(|link| !link.rests());
        awake.unwrap_or(&self.links[first % count])
    }
}

/// What a client tries again by itself: too many requests, and what a replica or a proxy before it cannot do now.
pub(crate) fn comes_again(status: u16) -> bool {
    matches!(status, 408 | 429 | 502 | 503 | 504)
}

/// Between half and all of it, so that those who failed together do not come back together.
fn jittered(pause: Duration) -> Duration {
    static SEED: AtomicU64 = AtomicU64::new(1);
    let mut dice = Dice::new(SEED.fetch_add(0x9E37_79B9, Ordering::Relaxed));
    pause / 2 + pause.mul_f64(dice.roll(1000) as f64 / 2000.0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_between_half_and_all_of_what_it_should_be() {
        for _ in 0..100 {
            let found = jittered(Duration::from_millis(100));
            assert!((50..=100).contains(&found.as_millis()), "{found:?}");
        }
    }

    #[test]
    fn refusals_are_not_tried_again_and_busy_replicas_are() {
        assert!([429, 503].into_iter().all(comes_again));
        assert!(![200, 400, 401, 403, 404, 409, 413, 500].into_iter().any(comes_again));
    }
}

//! How much evidence the broker holds at once.
//!
//! INVARIANT I-10: room for a body is taken before the body is read, and given back when the evidence is judged. So
//! what clients send together, however many they are, costs a bounded amount of memory; who finds no room waits for
//! a while and is then told to come again.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use coffer_core_admin::TenantName;
use coffer_core_protocol::error::Code;
use coffer_server_limits::{Place as Turn, Quantity, Quotas, Share, Shares};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::reply::Refused;

/// Room for bodies, in KiB. Judging a body takes about five times its length: as JSON, decoded, and as events.
const ROOM: u32 = 32 << 10;
/// What a shorter body takes of it, so that no more than this many are judged at once.
const LEAST: u32 = ROOM / 512;
/// How much evidence is judged at once, of all tenants.
const TURNS: usize = 512;
/// How long room is waited for.
const WAIT: Duration = Duration::from_secs(5);
/// How long a body may take that has room. A client on a slow line has the same room as others, not longer.
const READ: Duration = Duration::from_secs(10);

/// The room.
pub(crate) struct Intake {
    room: Arc<Semaphore>,
    turns: Shares,
    wait: Duration,
}

/// Room for one body, until it is dropped.
#[allow(dead_code, reason = "held for its drop")]
pub(crate) struct Place(OwnedSemaphorePermit, Option<Turn>);

impl Default for Intake {
    fn default() -> Self {
        Self { room: Arc::new(Semaphore::new(ROOM as usize)), turns: Shares::new(TURNS), wait: WAIT }
    }
}

impl Intake {
    /// Takes room for a body of this length, of which at most `limit` bytes are going to be kept. One that does not
    /// say how long it is takes as much as the longest. Tenants take turns, so that one that sends much does not take
    /// the room of others.
    pub(crate) async fn admit(
        &self,
        tenant: &TenantName,
        quotas: &Quotas,
        length: Option<u64>,
        limit: usize,
    ) -> Result<Place, Refused> {
        let length = length.and_then(|length| usize::try_from(length).ok());
        let kib = length.map_or(limit, |length| length.min(limit)).div_ceil(1 << 10);
        let room = u32::try_from(kib).unwrap_or(ROOM).clamp(LEAST, ROOM);
        let bound = |what| usize::try_from(quotas.limit(what)).unwrap_or(usize::MAX);
        let share = Share {
            // Never all of them: somebody else's turn must come.
            at_once: bound(Quantity::Concurrent).min(TURNS / 2),
            waiting: bound(Quantity::Waiting),
            weight: NonZeroUsize::MIN,
        };
        let busy =
            || Refused::new(Code::RateLimited, "The broker is judging as much evidence as it takes at once.");
        let entering = async {
            let turn = self.turns.enter(tenant, share).await.map_err(|_| busy())?;
            let room = self.room.clone().acquire_many_owned(room).await.map_err(|_| busy())?;
            Ok(Place(room, Some(turn)))
        };
        tokio::time::timeout(self.wait, entering).await.map_err(|_| busy())?
    }

    /// All of the room, as much evidence takes it.
    #[cfg(test)]
    pub(crate) async fn fill(&self) -> Place {
        Place(self.room.clone().acquire_many_owned(ROOM).await.unwrap(), None)
    }
}

/// Reads a body that has room, if it comes in time.
pub(crate) async fn in_time<T>(body: impl Future<Output = Result<T, Refused>>) -> Result<T, Refused> {
    let slow = format!("The request's body was not sent within {} s.", READ.as_secs());
    tokio::time::timeout(READ, body).await.map_err(|_| Refused::new(Code::Malformed, slow))?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intake() -> Intake {
        Intake { wait: Duration::from_millis(20), ..Intake::default() }
    }

    /// As if there were no other tenant.
    fn wide() -> Quotas {
        Quotas { concurrent_attestations: 1 << 20, waiting_attestations: 1 << 20, ..Quotas::default() }
    }

    async fn places(intake: &Intake, length: impl Into<Option<u64>>, limit: usize) -> usize {
        let length = length.into();
        let mut places = Vec::new();
        loop {
            match intake.admit(&TenantName::default(), &wide(), length, limit).await {
                Ok(place) => places.push(place),
                Err(refused) => {
                    assert_eq!(refused.code(), "request.rate-limited");
                    return places.len();
                }
            }
        }
    }

    #[tokio::test]
    async fn bodies_take_room_by_their_length_and_short_ones_a_least_share() {
        let intake = intake();
        assert_eq!(places(&intake, 1 << 20, 1 << 20).await, 32);
        // All of it was given back, and no length takes more than is kept of it.
        assert_eq!(places(&intake, 8 << 20, 1 << 20).await, 32);
        assert_eq!(places(&intake, 256 << 10, 1 << 20).await, 128);
        assert_eq!(places(&intake, 0, 1 << 20).await, TURNS / 2);
        assert_eq!(places(&intake, None, 1 << 20).await, 32);
        assert_eq!(places(&intake, u64::MAX, 1 << 20).await, 32);
    }

    #[tokio::test]
    async fn who_waits_gets_the_room_that_is_given_back() {
        let intake = Intake { wait: Duration::from_secs(60), ..Intake::default() };
        let all = intake.fill().await;
        let (name, quotas) = (TenantName::default(), wide());
        let waiting = intake.admit(&name, &quotas, Some(1), 1 << 20);
        tokio::pin!(waiting);
        tokio::select! {
            biased;
            _ = &mut waiting => panic!("there was room"),
            () = tokio::task::yield_now() => (),
        }
        drop(all);
        assert!(waiting.await.is_ok());
    }
}

//! Where attempts and evidence stand in their rings, and what else is known of an attempt without its body.

use crate::StoreError;
use crate::keys::damaged;
use crate::table::{self, ATTEMPT_STATES, OTHERS, REFUSED};

/// Where an attempt stands, and how many decisions it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AttemptState {
    pub(crate) place: Place,
    pub(crate) refused: bool,
    pub(crate) decisions: u32,
}

/// A place in a ring: milliseconds since 1970, then the place in the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) at: u64,
    pub(crate) nth: u16,
}

/// The length of a place as text.
pub(crate) const PLACE: usize = 20;

impl Place {
    /// The place of the batch's nth entry, not before `floor`.
    pub(crate) fn new(at_ms: i64, nth: usize, floor: u64) -> Self {
        let at = u64::try_from(at_ms).unwrap_or(0).max(floor);
        Self { at, nth: u16::try_from(nth).unwrap_or(u16::MAX) }
    }

    /// The place in a ring's key.
    pub(crate) fn of_key(key: &str) -> Option<Self> {
        let (at, nth) = table::split(key)?.1.get(..PLACE)?.split_at_checked(16)?;
        Some(Self { at: u64::from_str_radix(at, 16).ok()?, nth: u16::from_str_radix(nth, 16).ok()? })
    }

    fn text(self) -> String {
        format!("{:016x}{:04x}", self.at, self.nth)
    }

    /// The key of a ring's row.
    pub(crate) fn key(self, tenant: &str, id: &str) -> String {
        table::part(tenant, &self.text(), id)
    }

    pub(crate) fn join(self) -> [u8; 10] {
        let mut bytes = [0; 10];
        let (at, nth) = bytes.split_at_mut(8);
        at.copy_from_slice(&self.at.to_be_bytes());
        nth.copy_from_slice(&self.nth.to_be_bytes());
        bytes
    }

    pub(crate) fn split(plain: &[u8]) -> Option<(Self, &[u8])> {
        let (at, rest) = plain.split_first_chunk()?;
        let (nth, rest) = rest.split_first_chunk()?;
        Some((Self { at: u64::from_be_bytes(*at), nth: u16::from_be_bytes(*nth) }, rest))
    }
}

impl AttemptState {
    pub(crate) fn join(self) -> Vec<u8> {
        let mut bytes = self.place.join().to_vec();
        bytes.push(u8::from(self.refused));
        bytes.extend_from_slice(&self.decisions.to_be_bytes());
        bytes
    }

    pub(crate) fn split(key: &str, plain: &[u8]) -> Result<Self, StoreError> {
        let read = || {
            let (place, rest) = Place::split(plain)?;
            let (refused, rest) = rest.split_first()?;
            let decisions = u32::from_be_bytes(rest.try_into().ok()?);
            Some(Self { place, refused: *refused != 0, decisions })
        };
        read().ok_or_else(|| damaged(ATTEMPT_STATES, key))
    }

    /// The ring that it stands in.
    pub(crate) fn ring(self) -> &'static str {
        if self.refused { REFUSED } else { OTHERS }
    }
}

/// The name of an attempt's nth decision.
pub(crate) fn decision_key(tenant: &str, attempt: &str, nth: u32) -> String {
    table::part(tenant, attempt, &format!("{nth:010}"))
}

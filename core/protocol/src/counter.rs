//! Counters of volumes: what a guest and its broker say to each other about how often a volume was opened.
//!
//! `GET /coffer/v1/counter/{repository}/{type}/{tag}` gives a [`Counter`]; `POST` of a [`MoveCounter`] there moves it by
//! one and gives the new one. The path is that of the volume's key.

use serde::{Deserialize, Serialize};

/// The digits of a mark.
const MARK_DIGITS: usize = 32;

/// A counter's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counter {
    /// How often it was moved; 0 for one that nobody moved yet.
    pub number: u64,
    /// Who moved it last: 16 random bytes in lower-case hexadecimal digits; zeros where nobody did.
    pub mark: String,
}

/// Asks to move a counter by one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoveCounter {
    /// What it is now, as far as the caller knows.
    pub from: Counter,
    /// The new mark.
    pub mark: String,
}

/// Why a counter is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CounterError {
    /// The mark is not 32 lower-case hexadecimal digits.
    #[error("a counter's mark has {MARK_DIGITS} lower-case hexadecimal digits")]
    Mark,
    /// It cannot count further.
    #[error("the counter is at its end")]
    End,
}

impl Default for Counter {
    fn default() -> Self {
        Self { number: 0, mark: "0".repeat(MARK_DIGITS) }
    }
}

impl Counter {
    /// Checks the mark's form.
    pub fn check(&self) -> Result<(), CounterError> {
        match is_mark(&self.mark) {
            true => Ok(()),
            false => Err(CounterError::Mark),
        }
    }
}

impl MoveCounter {
    /// What the counter is afterwards.
    pub fn to(&self) -> Result<Counter, CounterError> {
        self.from.check()?;
        if !is_mark(&self.mark) {
            return Err(CounterError::Mark);
        }
        let number = self.from.number.checked_add(1).ok_or(CounterError::End)?;
        Ok(Counter { number, mark: self.mark.clone() })
    }
}

fn is_mark(text: &str) -> bool {
    text.len() == MARK_DIGITS && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counter_moves_by_one_and_only_with_a_mark() {
        let mark = "ab".repeat(16);
        let asked = MoveCounter { from: Counter::default(), mark: mark.clone() };
        assert_eq!(asked.to(), Ok(Counter { number: 1, mark }));
        for wrong in ["", "AB", &"AB".repeat(16), &"g".repeat(32), &"a".repeat(33)] {
            let asked = MoveCounter { from: Counter::default(), mark: wrong.to_owned() };
            assert_eq!(asked.to(), Err(CounterError::Mark), "{wrong:?}");
        }
        let last = Counter { number: u64::MAX, ..Counter::default() };
        assert_eq!(MoveCounter { from: last, mark: "0".repeat(32) }.to(), Err(CounterError::End));
    }
}

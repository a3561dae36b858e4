//! What one worker counted: times of each step, and answers by status and code.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ending::{Ended, Step};
use crate::histogram::Histogram;

/// Counts of one worker, or of all of them.
#[derive(Clone, Default)]
pub struct Tally {
    /// Of each step's answers that were a success.
    pub times: BTreeMap<Step, Histogram>,
    /// From when the guest was due until it had its key.
    pub whole: Histogram,
    /// Answers by step, status and code.
    pub answers: BTreeMap<(Step, u16, String), u64>,
    /// How guests ended.
    pub ends: BTreeMap<&'static str, u64>,
    /// Calls that were sent again.
    pub again: u64,
    /// Some of what no answer was given to, in words.
    pub words: Vec<String>,
}

/// So many causes are kept in words.
const WORDS: usize = 10;

impl Tally {
    /// Notes an answer.
    pub fn answer(&mut self, step: Step, status: u16, code: &str, time: Duration) {
        if (200..300).contains(&status) {
            self.times.entry(step).or_default().add(time);
        }
        *self.answers.entry((step, status, code.to_string())).or_default() += 1;
    }

    /// Notes how a guest ended, and when it came to its key.
    pub fn end(&mut self, ended: &Ended, time: Duration) {
        match ended {
            Ended::Key { .. } => self.whole.add(time),
            Ended::Unreachable { .. } | Ended::Wrong { .. } if self.words.len() < WORDS => {
                self.words.push(ended.to_string());
            }
            _ => (),
        }
        *self.ends.entry(ended.name()).or_default() += 1;
    }

    /// How many guests ended so.
    pub fn ended(&self, name: &str) -> u64 {
        self.ends.get(name).copied().unwrap_or(0)
    }

    /// Adds another's counts.
    pub fn merge(&mut self, other: Self) {
        for (step, times) in &other.times {
            self.times.entry(*step).or_default().merge(times);
        }
        self.whole.merge(&other.whole);
        for (key, count) in other.answers {
            *self.answers.entry(key).or_default() += count;
        }
        for (name, count) in other.ends {
            *self.ends.entry(name).or_default() += count;
        }
        self.again += other.again;
        self.words.extend(other.words);
        self.words.truncate(WORDS);
    }
}

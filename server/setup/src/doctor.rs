//! What is wrong with a broker, found without changing anything.
//!
//! Each finding says what was looked at, what was expected, what was found, and what to do. Left out: whether evidence
//! would be accepted, which is `coffer policy replay`'s.

mod host;
mod peers;
mod rows;

use std::fmt;

use coffer_server_http::BrokerConfig;
use serde::Serialize;

use crate::SetupError;

/// How a finding is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As expected.
    Ok,
    /// The broker works; somebody should look.
    Warning,
    /// The broker does not start, or does not do its work.
    Problem,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How it is to be taken.
    pub state: State,
    /// What was looked at.
    pub what: String,
    /// What was expected.
    pub expected: String,
    /// What was found.
    pub found: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Finding {
    fn ok(what: &str, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self {
            state: State::Ok,
            what: what.to_owned(),
            expected: expected.into(),
            found: found.into(),
            remedy: None,
        }
    }

    fn bad(state: State, what: &str, expected: &str, found: impl Into<String>, remedy: &str) -> Self {
        Self {
            state,
            what: what.to_owned(),
            expected: expected.to_owned(),
            found: found.into(),
            remedy: Some(remedy.to_owned()),
        }
    }

    fn problem(what: &str, expected: &str, found: impl Into<String>, remedy: &str) -> Self {
        Self::bad(State::Problem, what, expected, found, remedy)
    }

    fn warning(what: &str, expected: &str, found: impl Into<String>, remedy: &str) -> Self {
        Self::bad(State::Warning, what, expected, found, remedy)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.state {
            State::Ok => "ok     ",
            State::Warning => "WARNING",
            State::Problem => "PROBLEM",
        };
        write!(f, "{mark}  {}: {}", self.what, self.found)?;
        if let Some(remedy) = &self.remedy {
            write!(f, "\n         expected: {}\n         do: {remedy}", self.expected)?;
        }
        Ok(())
    }
}

/// Looks at everything that the configuration names. Waits on disks and networks; nothing is changed but a file of a
/// few bytes that is written into the data folder and removed.
pub fn doctor(config: &BrokerConfig) -> Vec<Finding> {
    let mut all = vec![Finding::ok("configuration", "known members only", "read")];
    all.extend(host::look(config));
    all.extend(rows::look(config));
    all.extend(peers::look(config));
    all
}

/// What there is to say where the configuration cannot be read.
pub fn unreadable(error: &SetupError) -> Vec<Finding> {
    vec![Finding::problem(
        "configuration",
        "a file with known members only",
        error.to_string(),
        "correct it; nothing else was looked at",
    )]
}

//! How a guest ends, and at which call.

use std::fmt;

use coffer_core_secret::SecretBytes;

/// A call of the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The challenge.
    Auth,
    /// The evidence.
    Attest,
    /// The key.
    Resource,
}

impl Step {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Attest => "attest",
            Self::Resource => "resource",
        }
    }
}

/// How a guest ended.
pub enum Ended {
    /// With its key.
    Key {
        /// The attempt's name, as the broker journals it.
        attempt: String,
        /// The key.
        value: SecretBytes,
    },
    /// With a refusal that trying again does not change.
    Refused {
        /// Of which call.
        step: Step,
        /// The status.
        status: u16,
        /// The stable code.
        code: String,
    },
    /// With an answer that says to come again.
    Retryable {
        /// To which call.
        step: Step,
        /// The status.
        status: u16,
        /// The stable code.
        code: String,
    },
    /// No replica answered within the guest's time.
    Unreachable {
        /// Which call.
        step: Step,
        /// The last cause.
        why: String,
    },
    /// An answer was not what the protocol says. This is never good.
    Wrong {
        /// To which call.
        step: Step,
        /// What was wrong.
        why: String,
    },
}

impl Ended {
    /// Its name in reports.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Key { .. } => "key",
            Self::Refused { .. } => "refused",
            Self::Retryable { .. } => "retryable",
            Self::Unreachable { .. } => "unreachable",
            Self::Wrong { .. } => "wrong",
        }
    }

    /// Whether the guest has its key.
    pub fn is_key(&self) -> bool {
        matches!(self, Self::Key { .. })
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key { attempt, .. } => write!(f, "key of attempt {attempt}"),
            Self::Refused { step, status, code } => write!(f, "{} refused: {status} {code}", step.name()),
            Self::Retryable { step, status, code } => {
                write!(f, "{} to come again: {status} {code}", step.name())
            }
            Self::Unreachable { step, why } => write!(f, "{} without an answer: {why}", step.name()),
            Self::Wrong { step, why } => write!(f, "{} answered wrongly: {why}", step.name()),
        }
    }
}

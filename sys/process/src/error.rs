//! What can go wrong between a process and the kernel.

use std::io;

/// A kernel operation on a process that was refused.
#[derive(Debug, thiserror::Error)]
#[error("{operation}: {source}")]
pub struct ProcessError {
    /// What was attempted, in words.
    pub operation: String,
    /// What the kernel answered.
    pub source: io::Error,
}

impl ProcessError {
    pub(crate) fn new(operation: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self { operation: operation.into(), source: source.into() }
    }

    /// The error that the last system call of this thread left behind.
    pub(crate) fn last(operation: impl Into<String>) -> Self {
        Self::new(operation, io::Error::last_os_error())
    }
}

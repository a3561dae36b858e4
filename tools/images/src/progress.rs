//! How long work is shown to whoever waits for it.

use std::sync::Arc;

/// A step of long work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// `fetch`, `unpack`, `seal`, `push`.
    pub what: &'static str,
    /// What it is done to: a short digest or a name.
    pub item: String,
    /// Bytes done.
    pub done: u64,
    /// Bytes in all, if known.
    pub total: Option<u64>,
}

/// Receives steps. Cloning is cheap.
#[derive(Clone)]
pub struct Progress(Arc<dyn Fn(&Step) + Send + Sync>);

impl Progress {
    /// Calls `receive` for each step.
    pub fn new(receive: impl Fn(&Step) + Send + Sync + 'static) -> Self {
        Self(Arc::new(receive))
    }

    /// Shows nothing.
    pub fn none() -> Self {
        Self::new(|_| {})
    }

    pub(crate) fn step(&self, what: &'static str, item: &str, done: u64, total: Option<u64>) {
        (self.0)(&Step { what, item: item.into(), done, total });
    }
}

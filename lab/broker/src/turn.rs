//! Turns: one test of this crate at a time, also over several test programs.

use std::fs::File;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use nix::fcntl::{Flock, FlockArg};

static TURN: Mutex<()> = Mutex::new(());

/// A test's turn; the next one begins when it is dropped.
pub struct Turn {
    _file: Flock<File>,
    _own: MutexGuard<'static, ()>,
}

/// Waits until no other test of this crate runs.
pub fn take_turn() -> Result<Turn> {
    let own = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let file = File::create(std::env::temp_dir().join("coffer-lab-broker.turn"))?;
    let file = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error)?;
    Ok(Turn { _file: file, _own: own })
}

//! A bounded number of connections, lent to one transaction at a time. Every wait for one is bounded.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::runtime::Handle;

use crate::config::Target;
use crate::connect::{self, Session};
use crate::failure::Failure;

/// Connections.
pub(crate) struct Pool {
    runtime: Handle,
    target: Arc<Target>,
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Default)]
struct State {
    /// Ready ones, the last used at the end, so that the others may grow old together.
    idle: Vec<Session>,
    /// How many there are, those lent and those being made included.
    open: usize,
    generation: u64,
}

/// A connection lent. Where it is dropped rather than given back, it is closed: nobody knows in which state it is.
pub(crate) struct Lease<'a> {
    pool: &'a Pool,
    session: Option<Session>,
}

impl Pool {
    pub(crate) fn new(runtime: Handle, target: Arc<Target>) -> Self {
        Self { runtime, target, state: Mutex::default(), freed: Condvar::new() }
    }

    /// A connection: a ready one, a new one, or the next that becomes free until `end`.
    pub(crate) fn take(&self, end: Instant) -> Result<Lease<'_>, Failure> {
        let patience = end.min(Instant::now() + self.target.timeouts.wait);
        let mut state = self.lock();
        loop {
            while let Some(session) = state.idle.pop() {
                if session.generation == state.generation && !session.link.client.is_closed() {
                    return Ok(Lease { pool: self, session: Some(session) });
                }
                state.open = state.open.saturating_sub(1);
                session.link.cut();
            }
            if state.open < self.target.connections {
                state.open = state.open.saturating_add(1);
                let generation = state.generation;
                drop(state);
                // From here on the lease counts down, also where no connection comes of it.
                let mut lease = Lease { pool: self, session: None };
                lease.session = Some(connect::session(&self.runtime, &self.target, generation, end)?);
                return Ok(lease);
            }
            let left = patience.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let why = format!("all {} connections were in use for too long", self.target.connections);
                return Err(Failure::Lost(why));
            }
            state = self.freed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// After a connection was lost the others that lead to the same server are not used again.
    pub(crate) fn suspect(&self, generation: u64) {
        let mut state = self.lock();
        if state.generation == generation {
            state.generation = generation.wrapping_add(1);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease<'_> {
    pub(crate) fn session(&self) -> &Session {
        let Some(session) = &self.session else { unreachable!("a lease is handed out with its connection") };
        session
    }

    /// Gives the connection back; it is outside of any transaction, or what ends the transaction was sent.
    pub(crate) fn give_back(mut self) {
        let Some(session) = self.session.take() else { return };
        let mut state = self.pool.lock();
        if session.generation == state.generation && !session.link.client.is_closed() {
            state.idle.push(session);
            drop(state);
            self.pool.freed.notify_one();
            // The place is still taken, by a connection that is idle now.
            std::mem::forget(self);
        } else {
            drop(state);
            self.session = Some(session);
        }
    }

    /// Closes the connection, and those of its age.
    pub(crate) fn lose(self) {
        self.pool.suspect(self.session().generation);
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            session.link.cut();
        }
        let mut state = self.pool.lock();
        state.open = state.open.saturating_sub(1);
        drop(state);
        self.pool.freed.notify_one();
    }
}

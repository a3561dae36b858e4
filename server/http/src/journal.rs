//! Writing attempts and decisions down, many callers to one sync.
//!
//! One thread has the pen: it takes what has gathered, writes it in one durable transaction, and tells each caller.
//! Under load the cost of a sync is shared: if the last batch had company, the next one waits a moment for its own.
//! Without load it adds a hop and waits for nobody.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use coffer_core_admin::TenantName;
use coffer_core_protocol::error::Code;
use coffer_server_store::{JournalEntry, Store, Written};
use tokio::sync::{mpsc, oneshot};

use crate::metrics::JournalMetrics;

/// How many entries may wait; more make their callers wait.
const WAITING: usize = 1024;
/// How many are written in one transaction.
const BATCH: usize = 128;
/// How long a batch waits for company. About as long as a sync takes anyway.
const GATHER: Duration = Duration::from_millis(2);

type Order = ((TenantName, JournalEntry), oneshot::Sender<Result<(), NotWritten>>);

/// The way to the pen. When it is dropped, what waits is written and the thread has ended.
pub(crate) struct Journal {
    orders: Option<mpsc::Sender<Order>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// It was not written down; nothing may be released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotWritten {
    /// The store or its thread failed.
    Fault,
    /// The attempt that the decision is about is no longer kept, or can have no more decisions.
    Attempt,
    /// What the decision rests on was changed meanwhile.
    Stale,
    /// The resource was revoked meanwhile.
    Revoked,
    /// The resource's time is over.
    Expired,
    /// The resource was released to as many as its owner allowed.
    Spent,
}

impl From<NotWritten> for Code {
    fn from(not: NotWritten) -> Self {
        match not {
            NotWritten::Fault => Self::StoreUnavailable,
            NotWritten::Attempt => Self::TokenAttempt,
            NotWritten::Stale => Self::ChangedMeanwhile,
            NotWritten::Revoked => Self::ResourceRevoked,
            NotWritten::Expired => Self::ResourceExpired,
            NotWritten::Spent => Self::ResourceSpent,
        }
    }
}

impl Journal {
    /// Starts the thread.
    pub(crate) fn start(store: Arc<Store>, metrics: JournalMetrics) -> std::io::Result<Self> {
        let (sender, mut orders) = mpsc::channel::<Order>(WAITING);
        let thread = thread::Builder::new().name("journal".into()).spawn(move || {
            let mut company = false;
            while let Some(first) = orders.blocking_recv() {
                if company && orders.len() + 1 < BATCH {
                    thread::sleep(GATHER);
                }
                let (mut entries, mut callers) = (vec![first.0], vec![first.1]);
                while entries.len() < BATCH {
                    let Ok((entry, caller)) = orders.try_recv() else { break };
                    entries.push(entry);
                    callers.push(caller);
                }
                company = entries.len() > 1;
                let begun = Instant::now();
                let written = store.journal(&entries);
                metrics.written(entries.len(), begun.elapsed(), written.is_ok());
                if let Err(error) = &written {
                    tracing::error!(%error, "the journal could not be written");
                }
                let written = written.unwrap_or_default();
                for (place, caller) in callers.into_iter().enumerate() {
                    let told = match written.get(place) {
                        Some(Written::Kept) => Ok(()),
                        Some(Written::AttemptGone | Written::AttemptFull | Written::TenantGone) => {
                            Err(NotWritten::Attempt)
                        }
                        Some(Written::Stale) => Err(NotWritten::Stale),
                        Some(Written::Revoked) => Err(NotWritten::Revoked),
                        Some(Written::Expired) => Err(NotWritten::Expired),
                        Some(Written::Spent) => Err(NotWritten::Spent),
                        Some(Written::Damaged) | None => Err(NotWritten::Fault),
                    };
                    // A caller that went away does not need the answer.
                    let _ = caller.send(told);
                }
            }
        })?;
        Ok(Self { orders: Some(sender), thread: Some(thread) })
    }

    /// Writes an entry down. Durable when this returns `Ok`.
    pub(crate) async fn write(&self, tenant: &TenantName, entry: JournalEntry) -> Result<(), NotWritten> {
        let (caller, answer) = oneshot::channel();
        let orders = self.orders.as_ref().ok_or(NotWritten::Fault)?;
        orders.send(((tenant.clone(), entry), caller)).await.map_err(|_| NotWritten::Fault)?;
        answer.await.unwrap_or(Err(NotWritten::Fault))
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            // A journal that panicked has told its callers so by hanging up.
            let _ = thread.join();
        }
    }
}

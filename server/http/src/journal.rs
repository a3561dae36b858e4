//! Writing attempts and decisions down, many callers to one sync.
//!
//! One thread has the pen: it takes what has gathered, writes it in one durable transaction, and tells each caller.
//! Under load the cost of a sync is shared; without load it adds a hop.

use std::sync::Arc;
use std::thread;

use coffer_server_store::{JournalEntry, Store};
use tokio::sync::{mpsc, oneshot};

/// How many entries may wait; more make their callers wait.
const WAITING: usize = 1024;
/// How many are written in one transaction.
const BATCH: usize = 128;

type Order = (JournalEntry, oneshot::Sender<bool>);

/// The way to the pen. When it is dropped, what waits is written and the thread has ended.
pub(crate) struct Journal {
    orders: Option<mpsc::Sender<Order>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// It was not written down; nothing may be released.
#[derive(Debug)]
pub(crate) struct NotWritten;

impl Journal {
    /// Starts the thread.
    pub(crate) fn start(store: Arc<Store>) -> std::io::Result<Self> {
        let (sender, mut orders) = mpsc::channel::<Order>(WAITING);
        let thread = thread::Builder::new().name("journal".into()).spawn(move || {
            while let Some(first) = orders.blocking_recv() {
                let (mut entries, mut callers) = (vec![first.0], vec![first.1]);
                while entries.len() < BATCH {
                    let Ok((entry, caller)) = orders.try_recv() else { break };
                    entries.push(entry);
                    callers.push(caller);
                }
                let written = store.journal(&entries);
                if let Err(error) = &written {
                    tracing::error!(%error, "the journal could not be written");
                }
                for caller in callers {
                    // A caller that went away does not need the answer.
                    let _ = caller.send(written.is_ok());
                }
            }
        })?;
        Ok(Self { orders: Some(sender), thread: Some(thread) })
    }

    /// Writes an entry down. Durable when this returns `Ok`.
    pub(crate) async fn write(&self, entry: JournalEntry) -> Result<(), NotWritten> {
        let (caller, answer) = oneshot::channel();
        let orders = self.orders.as_ref().ok_or(NotWritten)?;
        orders.send((entry, caller)).await.map_err(|_| NotWritten)?;
        match answer.await {
            Ok(true) => Ok(()),
            _ => Err(NotWritten),
        }
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

//! What keeps rows: tables of string keys and bytes, and transactions over them.
//!
//! An engine sees sealed values only. It is asked for three things: a read that sees one state, a write that is durable
//! when it returns and that no other write overlaps, and that it says when it cannot. Left out: what rows mean.

use crate::StoreError;

/// Rows and transactions. Calls wait: on a disk, and where [`Engine::is_remote`] says so on a network.
pub trait Engine: Send + Sync {
    /// Runs `work` on one state of all rows.
    fn read(&self, work: &mut dyn FnMut(&dyn View) -> Result<(), StoreError>) -> Result<(), StoreError>;

    /// Runs `work` as one transaction, serializable with all others. Durable when this returns `Ok`; on an error of
    /// `work` nothing is kept. `work` may be run more than once (a transaction that met another one is run again), so
    /// it must begin from nothing each time. `work` may give another error than the one that a call of its own met: an
    /// engine that runs conflicting transactions again remembers the conflict itself.
    fn write(
        &self,
        work: &mut dyn FnMut(&mut dyn Change) -> Result<(), StoreError>,
    ) -> Result<(), StoreError>;

    /// Whether calls wait on a network, so that they belong off the threads that serve.
    fn is_remote(&self) -> bool;

    /// Whether other processes may write the same rows.
    fn is_shared(&self) -> bool;

    /// What it is and where, for a person, without credentials: `the file /var/lib/…/store.redb`.
    fn place(&self) -> String;

    /// Whether it answers now.
    fn check(&self) -> Result<(), StoreError>;
}

/// From which end rows are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The smallest key first (by bytes).
    Ascending,
    /// The largest key first.
    Descending,
}

/// Reading rows. Keys compare as bytes.
pub trait View {
    /// The value of a key.
    fn get(&self, table: &'static str, key: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// The rows with `from <= key < until`, at most `limit`.
    fn range(
        &self,
        table: &'static str,
        from: &str,
        until: &str,
        order: Order,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError>;

    /// How many rows there are with `from <= key < until`.
    fn count(&self, table: &'static str, from: &str, until: &str) -> Result<u64, StoreError>;

    /// The values of some keys, in their order. An engine on a network asks once.
    fn get_many(&self, table: &'static str, keys: &[&str]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        keys.iter().map(|key| self.get(table, key)).collect()
    }
}

/// Changing rows. What was changed is seen by later reads of the same transaction.
pub trait Change: View {
    /// Stores a value, or replaces it.
    fn put(&mut self, table: &'static str, key: &str, value: &[u8]) -> Result<(), StoreError>;

    /// Removes a value; says whether it was there.
    fn remove(&mut self, table: &'static str, key: &str) -> Result<bool, StoreError>;

    /// Removes a value, where nobody needs to know whether it was there.
    fn discard(&mut self, table: &'static str, key: &str) -> Result<(), StoreError> {
        self.remove(table, key).map(|_| ())
    }
}

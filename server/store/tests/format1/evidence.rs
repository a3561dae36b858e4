//! The last evidence that was judged, for owners who try a changed policy on it. A ring of its own: it may go before
//! its attempt, and an attempt may go before it.

use coffer_core_secret::SecretBytes;
use redb::{ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction};

use crate::format1::{Store, StoreError};

/// The longest evidence that is kept, in bytes.
pub const MAX_EVIDENCE: usize = 1 << 20;

const NAME: &str = "evidence";
/// By the attempt's name: its place in the ring, eight bytes, then the sealed evidence.
const ROWS: TableDefinition<&str, &[u8]> = TableDefinition::new(NAME);
/// Sequence number to the attempt's name.
const RING: TableDefinition<u64, &str> = TableDefinition::new("evidence-ring");

impl Store {
    /// The evidence of an attempt, if it is kept.
    pub fn evidence(&self, attempt: &str) -> Result<Option<SecretBytes>, StoreError> {
        let rows = match self.database.begin_read()?.open_table(ROWS) {
            Ok(rows) => rows,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let Some(row) = rows.get(attempt)? else { return Ok(None) };
        let damaged = || StoreError::Record { table: NAME, key: attempt.to_string() };
        let (_, sealed) = row.value().split_first_chunk::<8>().ok_or_else(damaged)?;
        self.unseal(NAME, attempt, sealed).map(Some)
    }

    pub(crate) fn keep_evidence(
        &self,
        transaction: &WriteTransaction,
        attempt: &str,
        body: &[u8],
        keep: u64,
    ) -> Result<(), StoreError> {
        let mut rows = transaction.open_table(ROWS)?;
        let mut ring = transaction.open_table(RING)?;
        let before = rows.get(attempt)?.and_then(|row| row.value().first_chunk().copied());
        if let Some(sequence) = before {
            ring.remove(u64::from_be_bytes(sequence))?;
            rows.remove(attempt)?;
        }
        if body.len() <= MAX_EVIDENCE && keep > 0 {
            let sequence = ring.last()?.map_or(0, |(sequence, _)| sequence.value()).saturating_add(1);
            let sealed = self.key.seal(NAME, attempt, body)?;
            rows.insert(attempt, [sequence.to_be_bytes().as_slice(), &sealed].concat().as_slice())?;
            ring.insert(sequence, attempt)?;
        }
        while ring.len()? > keep {
            let Some(oldest) = ring.pop_first()?.map(|(_, attempt)| attempt.value().to_string()) else {
                break;
            };
            rows.remove(oldest.as_str())?;
        }
        Ok(())
    }
}

//! Attestation attempts and what was asked for with each: a ring, pruned in the transaction that adds.
//!
//! Refused attempts have a ring of their own inside the whole, so that whoever sends refusable evidence in any
//! number cannot push the others out. A batch is one transaction, so that many callers share one sync.

use coffer_core_secret::SecretBytes;
use redb::{ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction};

use crate::format1::{Store, StoreError};

/// How many refused attempts are kept.
pub const MAX_REFUSED: u64 = 1_000;
/// How many attempts are kept in all.
pub const MAX_ATTEMPTS: u64 = 10_000;
/// How many decisions are written down for each attempt. None is dropped while its attempt is kept: the next one
/// is refused, and whoever asks again attests again.
pub const MAX_DECISIONS: u64 = 256;

const NAME: &str = "attempts";
const DECISIONS_NAME: &str = "decisions";
const ROWS: TableDefinition<&str, &[u8]> = TableDefinition::new(NAME);
const DECISIONS: TableDefinition<(&str, u64), &[u8]> = TableDefinition::new(DECISIONS_NAME);
/// Sequence number to id, one table for each ring.
const REFUSED: TableDefinition<u64, &str> = TableDefinition::new("attempts-refused");
const OTHERS: TableDefinition<u64, &str> = TableDefinition::new("attempts-others");

/// An attempt as it is kept.
pub struct AttemptEntry {
    /// Its name.
    pub id: String,
    /// Whether it counts among the refused ones.
    pub refused: bool,
    /// What the broker knows of it.
    pub body: Vec<u8>,
}

/// One thing to write down.
pub enum JournalEntry {
    /// An attempt; replaces one of the same name.
    Attempt(AttemptEntry),
    /// What was decided on a request made with an attempt's token.
    Decision {
        /// The attempt's name.
        attempt: String,
        /// What was decided.
        body: Vec<u8>,
    },
    /// The evidence that an attempt was made with, where evidence is kept.
    Evidence {
        /// The attempt's name.
        attempt: String,
        /// What was sent.
        body: Vec<u8>,
        /// How many are kept, with this one; the oldest go.
        keep: u64,
    },
}

/// What became of an entry. A decision that was not kept was not made: nothing may be released on it.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is in the store.
    Kept,
    /// It is not: its attempt is no longer kept, so nobody could tell what the decision was about.
    AttemptGone,
    /// It is not: its attempt has as many decisions as are kept.
    AttemptFull,
}

pub(crate) fn create_tables(transaction: &WriteTransaction) -> Result<(), StoreError> {
    transaction.open_table(ROWS)?;
    transaction.open_table(DECISIONS)?;
    transaction.open_table(REFUSED)?;
    transaction.open_table(OTHERS)?;
    Ok(())
}

impl Store {
    /// Writes entries down in one transaction. Durable when this returns; says of each what became of it.
    pub fn journal(&self, entries: &[JournalEntry]) -> Result<Vec<Written>, StoreError> {
        self.write(|transaction| {
            let mut tables = Tables::open(self, transaction)?;
            let mut written = Vec::with_capacity(entries.len());
            // Attempts first, and what they push out: a decision that is kept is one that is still there afterwards.
            for entry in entries {
                if let JournalEntry::Attempt(attempt) = entry {
                    tables.add(attempt)?;
                }
            }
            tables.prune()?;
            for entry in entries {
                written.push(match entry {
                    JournalEntry::Attempt(_) => Written::Kept,
                    JournalEntry::Decision { attempt, body } => tables.decide(attempt, body)?,
                    JournalEntry::Evidence { attempt, body, keep } => {
                        self.keep_evidence(transaction, attempt, body, *keep)?;
                        Written::Kept
                    }
                });
            }
            Ok(written)
        })
    }

    /// An attempt's body.
    pub fn attempt(&self, id: &str) -> Result<Option<SecretBytes>, StoreError> {
        let transaction = self.database.begin_read()?;
        let rows = transaction.open_table(ROWS)?;
        let Some(sealed) = rows.get(id)? else { return Ok(None) };
        let plain = self.unseal(NAME, id, sealed.value())?;
        let (_, body) = Place::split(id, plain.expose())?;
        Ok(Some(SecretBytes::copy_of(body)))
    }

    /// The bodies of an attempt's decisions, oldest first.
    pub fn decisions(&self, id: &str) -> Result<Vec<SecretBytes>, StoreError> {
        let transaction = self.database.begin_read()?;
        let rows = transaction.open_table(DECISIONS)?;
        let mut list = Vec::new();
        for row in rows.range((id, 0)..=(id, u64::MAX))? {
            let (key, sealed) = row?;
            list.push(self.unseal(DECISIONS_NAME, &decision_name(id, key.value().1), sealed.value())?);
        }
        Ok(list)
    }

    /// The last attempts, newest first.
    pub fn attempts(&self, limit: usize) -> Result<Vec<(String, SecretBytes)>, StoreError> {
        let transaction = self.database.begin_read()?;
        let mut order = Vec::new();
        for definition in [REFUSED, OTHERS] {
            let table = transaction.open_table(definition)?;
            for row in table.iter()?.rev().take(limit) {
                let (sequence, id) = row?;
                order.push((sequence.value(), id.value().to_string()));
            }
        }
        order.sort_unstable_by(|a, b| b.cmp(a));
        order.truncate(limit);
        let rows = transaction.open_table(ROWS)?;
        let mut list = Vec::with_capacity(order.len());
        for (_, id) in order {
            if let Some(sealed) = rows.get(id.as_str())? {
                let plain = self.unseal(NAME, &id, sealed.value())?;
                let (_, body) = Place::split(&id, plain.expose())?;
                list.push((id, SecretBytes::copy_of(body)));
            }
        }
        Ok(list)
    }

    /// How many attempts are kept: refused, and in all.
    pub fn attempt_counts(&self) -> Result<(u64, u64), StoreError> {
        let transaction = self.database.begin_read()?;
        let refused = transaction.open_table(REFUSED)?.len()?;
        Ok((refused, refused.saturating_add(transaction.open_table(OTHERS)?.len()?)))
    }
}

/// Where an attempt stands: nine bytes before its body.
struct Place {
    sequence: u64,
    refused: bool,
}

impl Place {
    fn split<'a>(id: &str, plain: &'a [u8]) -> Result<(Self, &'a [u8]), StoreError> {
        let damaged = || StoreError::Record { table: NAME, key: id.to_string() };
        let (sequence, rest) = plain.split_first_chunk().ok_or_else(damaged)?;
        let (refused, body) = rest.split_first().ok_or_else(damaged)?;
        Ok((Self { sequence: u64::from_be_bytes(*sequence), refused: *refused != 0 }, body))
    }

    fn join(&self, body: &[u8]) -> Vec<u8> {
        let mut plain = Vec::with_capacity(body.len() + 9);
        plain.extend_from_slice(&self.sequence.to_be_bytes());
        plain.push(u8::from(self.refused));
        plain.extend_from_slice(body);
        plain
    }
}

fn decision_name(id: &str, number: u64) -> String {
    format!("{id}/{number}")
}

struct Tables<'a> {
    store: &'a Store,
    rows: redb::Table<'a, &'static str, &'static [u8]>,
    decisions: redb::Table<'a, (&'static str, u64), &'static [u8]>,
    refused: redb::Table<'a, u64, &'static str>,
    others: redb::Table<'a, u64, &'static str>,
}

impl<'a> Tables<'a> {
    fn open(store: &'a Store, transaction: &'a WriteTransaction) -> Result<Self, StoreError> {
        Ok(Self {
            store,
            rows: transaction.open_table(ROWS)?,
            decisions: transaction.open_table(DECISIONS)?,
            refused: transaction.open_table(REFUSED)?,
            others: transaction.open_table(OTHERS)?,
        })
    }

    fn ring(&mut self, refused: bool) -> &mut redb::Table<'a, u64, &'static str> {
        if refused { &mut self.refused } else { &mut self.others }
    }

    fn add(&mut self, attempt: &AttemptEntry) -> Result<(), StoreError> {
        self.leave_ring(&attempt.id)?;
        let last = |ring: &redb::Table<'a, u64, &'static str>| -> Result<u64, StoreError> {
            Ok(ring.last()?.map_or(0, |(sequence, _)| sequence.value()))
        };
        let sequence = last(&self.refused)?.max(last(&self.others)?).saturating_add(1);
        self.ring(attempt.refused).insert(sequence, attempt.id.as_str())?;
        let plain = Place { sequence, refused: attempt.refused }.join(&attempt.body);
        let sealed = self.store.key.seal(NAME, &attempt.id, &plain)?;
        self.rows.insert(attempt.id.as_str(), sealed.as_slice())?;
        Ok(())
    }

    fn decide(&mut self, id: &str, body: &[u8]) -> Result<Written, StoreError> {
        if self.rows.get(id)?.is_none() {
            return Ok(Written::AttemptGone);
        }
        let last = self.decisions.range((id, 0)..=(id, u64::MAX))?.next_back().transpose()?;
        // They are numbered from 1 without gaps, because they go only all together.
        let number = last.map_or(0, |(key, _)| key.value().1).saturating_add(1);
        if number > MAX_DECISIONS {
            return Ok(Written::AttemptFull);
        }
        let sealed = self.store.key.seal(DECISIONS_NAME, &decision_name(id, number), body)?;
        self.decisions.insert((id, number), sealed.as_slice())?;
        Ok(Written::Kept)
    }

    /// Takes an attempt that is judged again out of its ring. Its decisions stay: they were made.
    fn leave_ring(&mut self, id: &str) -> Result<(), StoreError> {
        let Some(sealed) = self.rows.get(id)?.map(|sealed| sealed.value().to_vec()) else { return Ok(()) };
        let place = {
            let plain = self.store.unseal(NAME, id, &sealed)?;
            Place::split(id, plain.expose())?.0
        };
        self.ring(place.refused).remove(place.sequence)?;
        self.rows.remove(id)?;
        Ok(())
    }

    fn remove_decisions(&mut self, id: &str) -> Result<(), StoreError> {
        self.decisions.retain_in((id, 0)..=(id, u64::MAX), |_, _| false)?;
        Ok(())
    }

    fn prune(&mut self) -> Result<(), StoreError> {
        while self.refused.len()? > MAX_REFUSED {
            self.drop_oldest(true)?;
        }
        while self.refused.len()?.saturating_add(self.others.len()?) > MAX_ATTEMPTS {
            // The refused ones are within their own bound here, so it is the others that are too many.
            self.drop_oldest(false)?;
        }
        Ok(())
    }

    fn drop_oldest(&mut self, refused: bool) -> Result<(), StoreError> {
        let Some(id) = self.ring(refused).pop_first()?.map(|(_, id)| id.value().to_string()) else {
            return Ok(());
        };
        self.rows.remove(id.as_str())?;
        self.remove_decisions(&id)
    }
}

//! A table in memory, for tests, fuzzing and trials: it forgets everything when it is dropped.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use coffer_core_secret::SecretBytes;

use crate::{KeyName, KeyTable, Replaced, TableFault};

/// Records in memory.
#[derive(Default)]
pub struct MemoryTable(Mutex<BTreeMap<String, SecretBytes>>);

impl KeyTable for MemoryTable {
    fn names(&self) -> Result<Vec<String>, TableFault> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect())
    }

    fn read(&self, name: &KeyName) -> Result<Option<SecretBytes>, TableFault> {
        let rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(rows.get(name.as_str()).map(|record| SecretBytes::copy_of(record.expose())))
    }

    fn replace(
        &self,
        name: &KeyName,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<Replaced, TableFault> {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = match (rows.get(name.as_str()), expected) {
            (None, None) => true,
            (Some(found), Some(expected)) => found.equals(expected),
            _ => false,
        };
        if !same {
            return Ok(Replaced::Changed);
        }
        match new {
            Some(record) => rows.insert(name.as_str().to_string(), SecretBytes::copy_of(record)),
            None => rows.remove(name.as_str()),
        };
        Ok(Replaced::Done)
    }
}

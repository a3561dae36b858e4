//! A tenant's wrapping keys, in its rows.

use std::sync::Arc;

use coffer_core_secret::SecretBytes;
use coffer_server_store::{Scope, StoreError, Table};
use coffer_server_wrapping::{KeyName, KeyTable, Keyring, Replaced, TableFault};

/// A tenant's keys: one ring for as long as the tenant is loaded, because it holds uses that it reserved.
pub(crate) fn keyring(rows: &Scope, quotas: impl Fn() -> u64 + Send + Sync + 'static) -> Keyring {
    Keyring::new(Arc::new(Rows { rows: rows.clone(), at_most: Box::new(quotas) }))
}

/// A tenant's records, in its rows.
struct Rows {
    rows: Scope,
    /// How many keys the tenant may have, now.
    at_most: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl KeyTable for Rows {
    fn names(&self) -> Result<Vec<String>, TableFault> {
        let rows = self.rows.list(Table::WrappingKeys).map_err(fault)?;
        Ok(rows.into_iter().map(|(name, _)| name).collect())
    }

    fn read(&self, name: &KeyName) -> Result<Option<SecretBytes>, TableFault> {
        self.rows.get(Table::WrappingKeys, name.as_str()).map_err(fault)
    }

    fn replace(
        &self,
        name: &KeyName,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<Replaced, TableFault> {
        let at_most = (self.at_most)();
        let replaced = self.rows.transact(|rows| {
            let found = rows.get(Table::WrappingKeys, name.as_str())?;
            let same = match (&found, expected) {
                (None, None) => true,
                (Some(found), Some(expected)) => found.equals(expected),
                _ => false,
            };
            if !same {
                return Ok(Ok(Replaced::Changed));
            }
            match new {
                Some(_) if found.is_none() && rows.count(Table::WrappingKeys)? >= at_most => {
                    return Ok(Err(TableFault(format!(
                        "the tenant has {} wrapping keys, as many as it may",
                        at_most
                    ))));
                }
                Some(new) => rows.put(Table::WrappingKeys, name.as_str(), new)?,
                None => drop(rows.delete(Table::WrappingKeys, name.as_str())?),
            }
            Ok::<_, StoreError>(Ok(Replaced::Done))
        });
        replaced.map_err(fault)?
    }
}

fn fault(error: StoreError) -> TableFault {
    tracing::error!(%error, "the store failed");
    TableFault("a row could not be read or written".to_owned())
}

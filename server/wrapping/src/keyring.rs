//! A tenant's keys: found, changed and counted in a table that several replicas may share.
//!
//! A change is a comparison and a replacement; who loses the race reads again. Uses are reserved in blocks: a block
//! is added to the version's count in the table before any of it is spent here, so a count is never too low, and a
//! replica that stops loses at most a block for each version it was using.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::rand;
use coffer_core_secret::SecretBytes;
use zeroize::Zeroizing;

use crate::error::most;
use crate::key::Use;
use crate::seal::MAX_PLAINTEXT;
use crate::{
    Binding, Change, Deletion, KeyName, KeyOptions, KeyTable, Moment, Replaced, VersionState, WrapError,
    Wrapped, WrappingKey,
};

/// How many uses are reserved at once: one durable write for so many wraps.
const BLOCK: u64 = 8192;
/// How often a race is run again.
const ATTEMPTS: usize = 16;
/// How many leases are kept. Beyond, all are dropped, which costs uses and nothing else.
const MAX_LEASES: usize = 10_000;

/// A tenant's keys. One for each tenant in a process, kept between requests.
pub struct Keyring {
    table: Arc<dyn KeyTable>,
    /// Uses that are reserved and not yet spent, by key and version.
    leases: Mutex<HashMap<([u8; 16], u32), u64>>,
}

/// A key as it was read, with the record it was read from.
pub struct Held {
    key: WrappingKey,
    record: SecretBytes,
}

impl Held {
    /// The key.
    pub fn key(&self) -> &WrappingKey {
        &self.key
    }
}

impl Keyring {
    /// The keys in a table.
    pub fn new(table: Arc<dyn KeyTable>) -> Self {
        Self { table, leases: Mutex::new(HashMap::new()) }
    }

    /// All names, in their order.
    pub fn names(&self) -> Result<Vec<String>, WrapError> {
        Ok(self.table.names()?)
    }

    /// Creates a key.
    pub fn create(&self, name: &KeyName, options: KeyOptions, now: Moment) -> Result<WrappingKey, WrapError> {
        let key = WrappingKey::generate(name.clone(), options, now)?;
        let record = key.to_bytes()?;
        match self.table.replace(name, None, Some(record.expose()))? {
            Replaced::Done => Ok(key),
            Replaced::Changed => Err(WrapError::Exists(name.clone())),
        }
    }

    /// The key of a name, if there is one.
    pub fn find(&self, name: &KeyName) -> Result<Option<Held>, WrapError> {
        let Some(record) = self.table.read(name)? else { return Ok(None) };
        let key = WrappingKey::from_bytes(name, record.expose())?;
        Ok(Some(Held { key, record }))
    }

    /// The key of a name.
    pub fn hold(&self, name: &KeyName) -> Result<Held, WrapError> {
        self.find(name)?.ok_or_else(|| WrapError::NotFound(name.clone()))
    }

    /// Adds a version, which wraps from now on.
    pub fn rotate(&self, name: &KeyName, now: Moment) -> Result<WrappingKey, WrapError> {
        self.change(name, |key| key.rotate(now))
    }

    /// Changes what may be changed.
    pub fn configure(&self, name: &KeyName, change: &Change) -> Result<WrappingKey, WrapError> {
        self.change(name, |key| key.configure(change))
    }

    /// Enables, disables or destroys a version.
    pub fn set_state(
        &self,
        name: &KeyName,
        version: u32,
        state: VersionState,
    ) -> Result<WrappingKey, WrapError> {
        self.change(name, |key| key.set_state(version, state))
    }

    /// Deletes a key that allows it.
    pub fn delete(&self, name: &KeyName) -> Result<(), WrapError> {
        for _ in 0..ATTEMPTS {
            let held = self.hold(name)?;
            if held.key.options().deletion == Deletion::Refused {
                return Err(WrapError::DeletionRefused(name.clone()));
            }
            if self.table.replace(name, Some(held.record.expose()), None)? == Replaced::Done {
                return Ok(());
            }
        }
        Err(WrapError::Contended(name.clone()))
    }

    /// Wraps under the version named, or the latest.
    pub fn wrap(
        &self,
        held: &mut Held,
        version: Option<u32>,
        binding: &Binding<'_>,
        plaintext: &[u8],
    ) -> Result<Wrapped, WrapError> {
        most("plaintext in bytes", plaintext.len(), MAX_PLAINTEXT)?;
        let counted = self.spend(held, version)?;
        held.key.wrap(counted, binding, plaintext)
    }

    /// Wraps again under the version named, or the latest. What already is under it is returned as it was, once
    /// it was seen to open.
    pub fn rewrap(
        &self,
        held: &mut Held,
        wrapped: &Wrapped,
        version: Option<u32>,
        binding: &Binding<'_>,
    ) -> Result<Wrapped, WrapError> {
        let plaintext = held.key.unwrap(wrapped, binding)?;
        if held.key.wrapping_version(version)? == wrapped.version {
            return Ok(wrapped.clone());
        }
        self.wrap(held, version, binding, plaintext.expose())
    }

    /// Makes a data key of so many bytes: plain and wrapped. Who may see the plain one is for the caller to decide.
    pub fn generate(
        &self,
        held: &mut Held,
        length: usize,
        version: Option<u32>,
        binding: &Binding<'_>,
    ) -> Result<(SecretBytes, Wrapped), WrapError> {
        most("the data key in bytes", length, MAX_PLAINTEXT)?;
        let mut plaintext = Zeroizing::new(vec![0; length]);
        rand::fill(plaintext.as_mut_slice()).map_err(|_| WrapError::NoRandomness)?;
        let wrapped = self.wrap(held, version, binding, &plaintext)?;
        Ok((SecretBytes::new(std::mem::take(&mut *plaintext)), wrapped))
    }

    fn change(
        &self,
        name: &KeyName,
        mut work: impl FnMut(&mut WrappingKey) -> Result<(), WrapError>,
    ) -> Result<WrappingKey, WrapError> {
        for _ in 0..ATTEMPTS {
            let Held { mut key, record } = self.hold(name)?;
            work(&mut key)?;
            let new = key.to_bytes()?;
            if self.table.replace(name, Some(record.expose()), Some(new.expose()))? == Replaced::Done {
                return Ok(key);
            }
        }
        Err(WrapError::Contended(name.clone()))
    }

    /// Counts one use. The key is read again where another replica changed it meanwhile.
    fn spend(&self, held: &mut Held, asked: Option<u32>) -> Result<Use, WrapError> {
        let name = held.key.name().clone();
        for _ in 0..ATTEMPTS {
            let version = held.key.wrapping_version(asked)?;
            let lease = (held.key.id, version);
            if self.take(lease) {
                return Ok(Use { id: held.key.id, version });
            }
            let granted = held.key.reserve(version, BLOCK)?;
            let new = held.key.to_bytes()?;
            match self.table.replace(&name, Some(held.record.expose()), Some(new.expose()))? {
                Replaced::Done => {
                    held.record = new;
                    self.give(lease, granted);
                }
                Replaced::Changed => *held = self.hold(&name)?,
            }
        }
        Err(WrapError::Contended(name))
    }

    fn take(&self, lease: ([u8; 16], u32)) -> bool {
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        match leases.get_mut(&lease).and_then(|left| left.checked_sub(1).map(|less| *left = less)) {
            Some(()) => true,
            None => {
                leases.remove(&lease);
                false
            }
        }
    }

    fn give(&self, lease: ([u8; 16], u32), granted: u64) {
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        if leases.len() >= MAX_LEASES {
            leases.clear();
        }
        let left = leases.entry(lease).or_insert(0);
        *left = left.saturating_add(granted);
    }
}

#[cfg(test)]
#[path = "keyring_tests.rs"]
mod tests;

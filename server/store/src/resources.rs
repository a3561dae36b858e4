//! Secrets by path: versions, their states, and how often each was released.
//!
//! Releases themselves are made in `journal.rs`, in the transaction that writes their decisions down.

use std::collections::HashMap;

use coffer_core_secret::SecretBytes;

use crate::StoreError;
use crate::engine::{Order, View};
use crate::heads::{Head, Origin, State, VersionInfo};
use crate::keys::{Keyring, damaged};
use crate::scope::{Scope, Transaction};
use crate::table::{self, RELEASE_COUNTS, RELEASES, RESOURCES, TOMBSTONES, VALUES};

/// How many versions of a secret are kept unless the caller says otherwise.
pub const KEPT_VERSIONS: usize = 5;
/// The most versions of a secret that are kept.
pub const MAX_VERSIONS: usize = 100;
/// How many rows of old releases go in one transaction.
const STEP: usize = 1_000;

/// A secret and what is known of it.
pub struct Resource {
    /// What is known of it.
    pub about: StoredResource,
    /// The value.
    pub value: SecretBytes,
}

/// What is known of a secret: of its newest version, or of the one that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredResource {
    /// `repository/type/tag`.
    pub path: String,
    /// Length of the value in bytes.
    pub bytes: u64,
    /// 1 for the first value, one more for each later one; never given twice for a path.
    pub version: u64,
    /// Seconds since 1970.
    pub changed_at: i64,
    /// Whether it may be released.
    pub state: State,
    /// When it may be released no longer, in seconds since 1970.
    pub expires_at: Option<i64>,
    /// To how many attempts it may be released.
    pub release_limit: Option<u64>,
    /// With a limit: to how many attempts it was released. Without: how often it was.
    pub released: u64,
    /// Where it came from.
    pub origin: Origin,
    /// How many versions of it are kept.
    pub versions: u64,
}

/// What is known of all kept versions of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceInfo {
    /// `repository/type/tag`.
    pub path: String,
    /// The newest first.
    pub versions: Vec<VersionInfo>,
}

/// A value to be stored at a path.
#[derive(Clone, Copy)]
pub struct NewResource<'a> {
    /// The value.
    pub value: &'a SecretBytes,
    /// Now, in seconds since 1970.
    pub at: i64,
    /// When it may be released no longer, in seconds since 1970.
    pub expires_at: Option<i64>,
    /// To how many attempts it may be released.
    pub release_limit: Option<u64>,
    /// Where it came from.
    pub origin: Origin,
    /// How many versions are kept with this one, 1 to [`MAX_VERSIONS`]; the oldest go.
    pub keep: usize,
    /// The newest version that the caller knows of, 0 for none; another one is a conflict.
    pub if_version: Option<u64>,
    /// How many secrets the tenant may have with this one.
    pub at_most: Option<u64>,
}

impl<'a> NewResource<'a> {
    /// A value that an admin stores, without conditions.
    pub fn stored(value: &'a SecretBytes, at: i64) -> Self {
        Self {
            value,
            at,
            expires_at: None,
            release_limit: None,
            origin: Origin::Stored,
            keep: KEPT_VERSIONS,
            if_version: None,
            at_most: None,
        }
    }
}

/// A value was not stored.
#[derive(Debug, thiserror::Error)]
pub enum ResourceError {
    /// Somebody else changed it.
    #[error(
        "expected version {expected} of {path} to be the newest, found version {found}; read it again and decide anew"
    )]
    Conflict {
        /// The path.
        path: String,
        /// What the caller expected; 0 is none.
        expected: u64,
        /// What is there; 0 is none.
        found: u64,
    },
    /// The tenant has as many as it may.
    #[error(
        "the tenant has {limit} resources, as many as it may; delete some, or have the operator raise the quota"
    )]
    TooMany {
        /// How many it may have.
        limit: u64,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The key of a version's value.
fn value_key(tenant: &str, path: &str, version: u64) -> String {
    table::part(tenant, path, &table::version(version))
}

/// The key of a counter of releases. Counter 0 is exact and belongs to versions with a limit; the others share the count
/// of the rest among replicas.
pub(crate) fn count_key(tenant: &str, path: &str, version: u64, shard: u8) -> String {
    table::part(tenant, path, &format!("{}\0{shard:02x}", table::version(version)))
}

/// The key that says that a version was released to an attempt.
pub(crate) fn release_key(tenant: &str, path: &str, version: u64, attempt: &str) -> String {
    table::part(tenant, path, &format!("{}\0{attempt}", table::version(version)))
}

pub(crate) fn split_count(key: &str, plain: &[u8]) -> Result<u64, StoreError> {
    let bytes = plain.try_into().map_err(|_| damaged(RELEASE_COUNTS, key))?;
    Ok(u64::from_be_bytes(bytes))
}

fn read_head(
    keys: &Keyring,
    view: &(impl View + ?Sized),
    tenant: &str,
    path: &str,
) -> Result<Option<Head>, StoreError> {
    let key = table::key(tenant, path);
    let Some(sealed) = view.get(RESOURCES, &key)? else { return Ok(None) };
    let plain = keys.open(view, RESOURCES, tenant, &key, &sealed)?;
    Head::split(&key, plain.expose()).map(Some)
}

/// The counts of releases in a range of keys, by path and version.
fn read_counts(
    keys: &Keyring,
    view: &(impl View + ?Sized),
    tenant: &str,
    from: &str,
    until: &str,
) -> Result<HashMap<(String, u64), u64>, StoreError> {
    let mut counts: HashMap<(String, u64), u64> = HashMap::new();
    for (key, sealed) in view.range(RELEASE_COUNTS, from, until, Order::Ascending, usize::MAX)? {
        let number = split_count(&key, keys.open(view, RELEASE_COUNTS, tenant, &key, &sealed)?.expose())?;
        let mut parts = key.split('\0');
        let path = parts.next().and_then(table::split).map(|(_, path)| path.to_owned());
        let version = parts.next().and_then(|version| version.parse().ok());
        let (Some(path), Some(version)) = (path, version) else {
            return Err(damaged(RELEASE_COUNTS, &key));
        };
        let sum = counts.entry((path, version)).or_default();
        *sum = sum.saturating_add(number);
    }
    Ok(counts)
}

fn about(path: &str, head: &Head, version: &VersionInfo, released: u64) -> StoredResource {
    let known = version.clone();
    StoredResource {
        path: path.to_owned(),
        bytes: known.bytes,
        version: known.version,
        changed_at: known.changed_at,
        state: known.state,
        expires_at: known.expires_at,
        release_limit: known.release_limit,
        released,
        origin: known.origin,
        versions: head.versions.len() as u64,
    }
}

impl Scope {
    /// The newest version of the secret at a path. How often it was released is not read with it, and said to be 0: see
    /// [`Scope::resource_info`].
    pub fn resource(&self, path: &str) -> Result<Option<Resource>, StoreError> {
        self.find(path, None)
    }

    /// A version of the secret at a path, as [`Scope::resource`] gives it.
    pub fn resource_version(&self, path: &str, version: u64) -> Result<Option<Resource>, StoreError> {
        self.find(path, Some(version))
    }

    fn find(&self, path: &str, version: Option<u64>) -> Result<Option<Resource>, StoreError> {
        let (keys, tenant) = (&self.inner.keys, &*self.tenant);
        self.inner.read(|view| {
            let Some(head) = read_head(keys, view, tenant, path)? else { return Ok(None) };
            let version = match version {
                None => head.versions.last(),
                Some(number) => head.version(number),
            };
            let Some(version) = version else { return Ok(None) };
            let key = value_key(tenant, path, version.version);
            // The record says that the value is there.
            let sealed = view.get(VALUES, &key)?.ok_or_else(|| damaged(VALUES, &key))?;
            let value = keys.open(view, VALUES, tenant, &key, &sealed)?;
            if value.expose().len() as u64 != version.bytes {
                return Err(damaged(VALUES, &key));
            }
            // How often it was released is for admins to ask, and not read for each guest.
            Ok(Some(Resource { about: about(path, &head, version, 0), value }))
        })
    }

    /// What is known of all kept versions of the secret at a path.
    pub fn resource_info(&self, path: &str) -> Result<Option<ResourceInfo>, StoreError> {
        let (keys, tenant) = (&self.inner.keys, &*self.tenant);
        let (from, until) = table::part_bounds(tenant, path);
        self.inner.read(|view| {
            let Some(head) = read_head(keys, view, tenant, path)? else { return Ok(None) };
            let counts = read_counts(keys, view, tenant, &from, &until)?;
            let mut versions = head.versions;
            versions.reverse();
            for version in &mut versions {
                version.released = counts.get(&(path.to_owned(), version.version)).copied().unwrap_or(0);
            }
            Ok(Some(ResourceInfo { path: path.to_owned(), versions }))
        })
    }

    /// What is known of the secrets at the paths after `after`, in the order of their paths; at most `limit`.
    pub fn resources(&self, after: Option<&str>, limit: usize) -> Result<Vec<StoredResource>, StoreError> {
        let (keys, tenant) = (&self.inner.keys, &*self.tenant);
        let (first, end) = table::bounds(tenant);
        let from = after.map_or(first, |path| table::after(&table::key(tenant, path)));
        self.inner.read(|view| {
            let rows = view.range(RESOURCES, &from, &end, Order::Ascending, limit)?;
            let (Some((first, _)), Some((last, _))) = (rows.first(), rows.last()) else {
                return Ok(Vec::new());
            };
            let counts = read_counts(keys, view, tenant, first, &format!("{last}\u{1}"))?;
            let mut list = Vec::with_capacity(rows.len());
            for (key, sealed) in rows {
                let plain = keys.open(view, RESOURCES, tenant, &key, &sealed)?;
                let head = Head::split(&key, plain.expose())?;
                let path = table::split(&key).map(|(_, path)| path).unwrap_or_default();
                let newest = head.versions.last().ok_or_else(|| damaged(RESOURCES, &key))?;
                let released = counts.get(&(path.to_owned(), newest.version)).copied().unwrap_or(0);
                list.push(about(path, &head, newest, released));
            }
            Ok(list)
        })
    }

    /// How many secrets there are.
    pub fn resource_count(&self) -> Result<u64, StoreError> {
        let (from, until) = table::bounds(&self.tenant);
        self.inner.read(|view| view.count(RESOURCES, &from, &until))
    }

    /// Stores a new version of the secret at a path; gives its number. Durable when this returns.
    pub fn put_resource(&self, path: &str, new: NewResource<'_>) -> Result<u64, ResourceError> {
        let mut gone = Vec::new();
        let version = self.transact(|transaction| {
            gone.clear();
            transaction.put_resource(path, &new, &mut gone)
        })?;
        self.drop_releases(path, &gone)?;
        Ok(version)
    }

    /// Removes a secret with all its versions; says whether it was there. Its versions' numbers are not given again.
    pub fn delete_resource(&self, path: &str) -> Result<bool, StoreError> {
        let mut gone = Vec::new();
        let found = self.transact(|transaction| {
            gone.clear();
            transaction.delete_resource(path, &mut gone)
        })?;
        self.drop_releases(path, &gone)?;
        Ok(found)
    }

    /// Lets a version be released or not, or all versions; says whether there was one to be changed. When this
    /// returns, no replica releases what was revoked.
    pub fn set_resource_state(
        &self,
        path: &str,
        version: Option<u64>,
        state: State,
    ) -> Result<bool, StoreError> {
        self.transact(|transaction| {
            let (keys, tenant) = (transaction.keys, transaction.tenant);
            let Some(mut head) = read_head(keys, &*transaction.change, tenant, path)? else {
                return Ok(false);
            };
            let mut found = false;
            for known in &mut head.versions {
                if version.is_none_or(|version| version == known.version) {
                    known.state = state.clone();
                    found = true;
                }
            }
            transaction.put_sealed(RESOURCES, &table::key(tenant, path), &head.join())?;
            Ok(found)
        })
    }

    /// Removes what is known of the releases of versions that are gone. They count nothing any more, so that it does not
    /// matter if this is not finished: what is left goes with the next version of the path that does.
    fn drop_releases(&self, path: &str, gone: &[u64]) -> Result<(), StoreError> {
        let Some(last) = gone.iter().max() else { return Ok(()) };
        let (from, _) = table::part_bounds(&self.tenant, path);
        let until = table::part(&self.tenant, path, &format!("{}\u{1}", table::version(*last)));
        for name in [RELEASES, RELEASE_COUNTS] {
            loop {
                let removed = self.inner.write(|change| {
                    let head = read_head(&self.inner.keys, &*change, &self.tenant, path)?.unwrap_or_default();
                    let rows = change.range(name, &from, &until, Order::Ascending, STEP)?;
                    let mut removed = 0_usize;
                    for (key, _) in &rows {
                        let version = key.split('\0').nth(1).and_then(|version| version.parse().ok());
                        if version.is_none_or(|version| head.version(version).is_none()) {
                            change.discard(name, key)?;
                            removed = removed.saturating_add(1);
                        }
                    }
                    Ok(if rows.len() < STEP { 0 } else { removed })
                })?;
                if removed == 0 {
                    break;
                }
            }
        }
        Ok(())
    }
}

impl Transaction<'_> {
    fn put_resource(
        &mut self,
        path: &str,
        new: &NewResource<'_>,
        gone: &mut Vec<u64>,
    ) -> Result<u64, ResourceError> {
        table::check(path)?;
        let (keys, tenant) = (self.keys, self.tenant);
        let key = table::key(tenant, path);
        let before = read_head(keys, &*self.change, tenant, path)?;
        let found = before.as_ref().and_then(|head| head.versions.last()).map_or(0, |known| known.version);
        if let Some(expected) = new.if_version
            && expected != found
        {
            return Err(ResourceError::Conflict { path: path.to_owned(), expected, found });
        }
        let mut head = match before {
            Some(head) => head,
            None => {
                let (from, until) = table::bounds(tenant);
                if let Some(limit) = new.at_most
                    && self.change.count(RESOURCES, &from, &until)? >= limit
                {
                    return Err(ResourceError::TooMany { limit });
                }
                self.take_tombstone(&key)?
            }
        };
        head.last = head.last.checked_add(1).ok_or_else(|| damaged(RESOURCES, &key))?;
        head.versions.push(VersionInfo {
            version: head.last,
            bytes: new.value.expose().len() as u64,
            changed_at: new.at,
            state: State::Active,
            expires_at: new.expires_at,
            release_limit: new.release_limit,
            released: 0,
            origin: new.origin,
        });
        let excess = head.versions.len().saturating_sub(new.keep.clamp(1, MAX_VERSIONS));
        for old in head.versions.drain(..excess) {
            self.change.discard(VALUES, &value_key(tenant, path, old.version))?;
            gone.push(old.version);
        }
        self.put_sealed(VALUES, &value_key(tenant, path, head.last), new.value.expose())?;
        self.put_sealed(RESOURCES, &key, &head.join())?;
        Ok(head.last)
    }

    /// The record of a path that has none: it goes on where a deleted one ended.
    fn take_tombstone(&mut self, key: &str) -> Result<Head, StoreError> {
        let Some(sealed) = self.change.get(TOMBSTONES, key)? else { return Ok(Head::default()) };
        let plain = self.keys.open(&*self.change, TOMBSTONES, self.tenant, key, &sealed)?;
        let last = plain.expose().as_slice().try_into().map_err(|_| damaged(TOMBSTONES, key))?;
        self.change.discard(TOMBSTONES, key)?;
        Ok(Head { last: u64::from_be_bytes(last), versions: Vec::new() })
    }

    fn delete_resource(&mut self, path: &str, gone: &mut Vec<u64>) -> Result<bool, StoreError> {
        let (keys, tenant) = (self.keys, self.tenant);
        let Some(head) = read_head(keys, &*self.change, tenant, path)? else { return Ok(false) };
        let key = table::key(tenant, path);
        for old in &head.versions {
            self.change.discard(VALUES, &value_key(tenant, path, old.version))?;
            gone.push(old.version);
        }
        self.change.discard(RESOURCES, &key)?;
        self.put_sealed(TOMBSTONES, &key, &head.last.to_be_bytes())?;
        Ok(true)
    }
}

//! Opening a store, and the two kinds of transactions that everything else is made of.

use std::path::Path;
use std::sync::{Arc, Mutex, RwLock};

use aws_lc_rs::rand;
use coffer_core_admin::TenantName;
use coffer_core_secret::Secret;

use crate::embedded::Embedded;
use crate::engine::{Engine, View};
use crate::inner::{CLUSTER, Inner, write};
use crate::keys::{self, Keyring};
use crate::master::{MasterKey, MasterKeyFile};
use crate::master_error::MasterKeyError;
use crate::scope::Scope;
use crate::table::{self, META};
use crate::{StoreError, files, removal};

/// The format that this program reads and writes.
pub(crate) const FORMAT: u64 = 2;
/// Where the format stands, as in every format.
pub(crate) const META_FORMAT: &str = "format";
/// The cluster's data key, wrapped by the master key.
const META_DATA_KEY: &str = "data-key";
/// The name of the master key that wrapped it.
pub(crate) const META_MASTER: &str = "master-key";
/// A restore that was begun and not finished.
pub(crate) const META_RESTORING: &str = "restoring";

/// The master key of [`Store::open`].
pub(crate) const MASTER_FILE: &str = "master.key";
/// The master key that a rotation is about to put in its place.
pub(crate) const NEXT_MASTER_FILE: &str = "master.key.next";

/// An open store. Clones are handles on the same one.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

impl Store {
    /// The embedded engine in `folder`, for another master key than a file beside it; says whether it was made now.
    pub fn embedded(folder: &Path) -> Result<(Arc<dyn Engine>, bool), StoreError> {
        let engine = Embedded::open(folder)?;
        let created = engine.was_created();
        Ok((Arc::new(engine), created))
    }

    /// Opens the store in an engine, or makes one in an empty engine.
    pub fn open_with(engine: Arc<dyn Engine>, master: &dyn MasterKey) -> Result<Self, StoreError> {
        let (root, created) = match root_of(&*engine, master)? {
            Some(root) => (root, false),
            None => make(&*engine, master)?,
        };
        let mut shard = [0];
        rand::fill(&mut shard).map_err(|_| StoreError::NoRandomness)?;
        let inner = Inner {
            engine,
            keys: Keyring::new(root),
            rings: Mutex::default(),
            limits: RwLock::default(),
            shard: shard[0] % 15 + 1,
            created,
        };
        let store = Self { inner: Arc::new(inner) };
        if store.inner.read(|view| store.inner.keys.state(view, CLUSTER))?.is_none() {
            return Err(keys::damaged(table::REVISIONS, &keys::state_key(CLUSTER)));
        }
        removal::take_up_removals(&store.inner)?;
        Ok(store)
    }

    /// Whether this store was made when it was opened.
    pub fn was_created(&self) -> bool {
        self.inner.created
    }

    /// What no tenant owns.
    pub fn cluster(&self) -> Scope {
        Scope::new(self.inner.clone(), CLUSTER)
    }

    /// What a tenant owns. Whether there is the tenant is found out by what is done with it: nothing is read of a tenant
    /// that there is not, and nothing can be written to it.
    pub fn tenant(&self, tenant: &TenantName) -> Scope {
        Scope::new(self.inner.clone(), tenant.as_str())
    }

    /// Where the store is, for a person, without credentials.
    pub fn place(&self) -> String {
        self.inner.engine.place()
    }

    /// Whether calls wait on a network.
    pub fn is_remote(&self) -> bool {
        self.inner.engine.is_remote()
    }

    /// Whether other brokers may write to the same store.
    pub fn is_shared(&self) -> bool {
        self.inner.engine.is_shared()
    }

    /// Whether the store answers now.
    pub fn check(&self) -> Result<(), StoreError> {
        self.inner.engine.check()
    }

    /// The name of the master key that the store is closed with.
    pub fn master_key_id(&self) -> Result<String, StoreError> {
        let id = self.inner.read(|view| view.get(META, META_MASTER))?;
        Ok(String::from_utf8_lossy(&id.unwrap_or_default()).into_owned())
    }

    /// Closes the store with another master key. The old one opens it no more, but it opens old copies of it.
    pub fn rotate_master(&self, new: &dyn MasterKey) -> Result<(), StoreError> {
        let wrapped = new.wrap(self.inner.keys.root().expose())?;
        let id = new.id();
        self.inner.write(|change| {
            change.put(META, META_DATA_KEY, &wrapped)?;
            change.put(META, META_MASTER, id.as_bytes())
        })
    }

    /// Closes the store of [`Store::open`] with a new key in `master.key`. Killed at any instant, it opens: the next
    /// key has a file of its own until the store is closed with it.
    pub fn rotate_master_file(&self, folder: &Path) -> Result<(), StoreError> {
        let next_path = folder.join(NEXT_MASTER_FILE);
        let next = match MasterKeyFile::open(&next_path)? {
            Some(next) => next,
            None => MasterKeyFile::create(&next_path)?,
        };
        self.rotate_master(&next)?;
        files::replace(&next_path, &folder.join(MASTER_FILE))
    }
}

/// The cluster's data key, if there is a store.
fn root_of(engine: &dyn Engine, master: &dyn MasterKey) -> Result<Option<Secret<[u8; 32]>>, StoreError> {
    let mut found = None;
    engine.read(&mut |view| {
        found = Some((
            view.get(META, META_FORMAT)?,
            view.get(META, META_DATA_KEY)?,
            view.get(META, META_MASTER)?,
            view.get(META, META_RESTORING)?,
        ));
        Ok(())
    })?;
    let place = engine.place();
    let (format, wrapped, id) = match found {
        Some((_, _, _, Some(_))) => return Err(StoreError::RestoreUnfinished { place }),
        Some((None, None, None, None)) | None => return Ok(None),
        Some((Some(format), Some(wrapped), id, None)) => (format, wrapped, id.unwrap_or_default()),
        Some(_) => {
            return Err(StoreError::NotAStore { place, why: "it has no format or no key".to_owned() });
        }
    };
    match <[u8; 8]>::try_from(format.as_slice()).map(u64::from_be_bytes) {
        Ok(FORMAT) => {}
        Ok(1) => return Err(StoreError::UpgradeFirst { place }),
        Ok(found) => return Err(StoreError::Version { expected: FORMAT, found: found.to_string() }),
        Err(_) => {
            return Err(StoreError::Version { expected: FORMAT, found: "that is no number".to_owned() });
        }
    }
    let wrong = || StoreError::WrongMasterKey {
        place: master.place(),
        expected: String::from_utf8_lossy(&id).into_owned(),
        found: master.id(),
    };
    let root = match master.unwrap(&wrapped) {
        Ok(root) => root,
        // The right key does not open it: it is no longer what that key closed.
        Err(MasterKeyError::Wrong { .. }) if id == master.id().as_bytes() => {
            return Err(keys::damaged(META, META_DATA_KEY));
        }
        Err(MasterKeyError::Wrong { .. }) => return Err(wrong()),
        Err(MasterKeyError::Refused { .. }) if id != master.id().as_bytes() => return Err(wrong()),
        Err(error) => return Err(error.into()),
    };
    let root = <[u8; 32]>::try_from(root.expose().as_slice()).map_err(|_| wrong())?;
    Ok(Some(Secret::new(root)))
}

/// Makes a store in an empty engine, unless another process was faster: then that one is the store.
fn make(engine: &dyn Engine, master: &dyn MasterKey) -> Result<(Secret<[u8; 32]>, bool), StoreError> {
    let root = Secret::<[u8; 32]>::random().map_err(|_| StoreError::NoRandomness)?;
    let wrapped = master.wrap(root.expose())?;
    let ring = Keyring::new(root);
    let id = master.id();
    let made = write(engine, |change| {
        if change.get(META, META_FORMAT)?.is_some() {
            return Ok(false);
        }
        for name in table::all() {
            if !is_empty(&*change, name)? {
                let why = format!("no format, and rows in {name}");
                return Err(StoreError::NotAStore { place: engine.place(), why });
            }
        }
        change.put(META, META_DATA_KEY, &wrapped)?;
        change.put(META, META_MASTER, id.as_bytes())?;
        for tenant in [CLUSTER, TenantName::DEFAULT] {
            removal::make(&ring, change, tenant, b"{}")?;
        }
        change.put(META, META_FORMAT, &FORMAT.to_be_bytes())?;
        Ok(true)
    })?;
    match made {
        true => Ok((Secret::new(*ring.root().expose()), true)),
        false => match root_of(engine, master)? {
            Some(root) => Ok((root, false)),
            None => Err(StoreError::NotAStore {
                place: engine.place(),
                why: "it was there a moment ago".to_owned(),
            }),
        },
    }
}

/// Whether a table has no rows.
pub(crate) fn is_empty(view: &(impl View + ?Sized), name: &'static str) -> Result<bool, StoreError> {
    // No key begins with this character, the last one of Unicode.
    Ok(view.range(name, "", "\u{10ffff}", crate::engine::Order::Ascending, 1)?.is_empty())
}

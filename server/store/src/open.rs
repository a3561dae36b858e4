//! Opening the store of one broker in its folder: its master key, its file, and what older programs left.

use std::path::Path;

use crate::embedded::{Embedded, FILE};
use crate::master::{MasterKey, MasterKeyFile};
use crate::store::{MASTER_FILE, NEXT_MASTER_FILE, Store};
use crate::upgrade;
use crate::{StoreError, files};

impl Store {
    /// Opens the embedded store in `folder` with its master key `master.key`, or makes both there. A store of the
    /// first format is upgraded; the old file stays beside it.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        files::create_private_folder(folder)?;
        let key_path = folder.join(MASTER_FILE);
        let master = match (MasterKeyFile::open(&key_path)?, folder.join(FILE).exists()) {
            (Some(master), _) => master,
            (None, true) => return Err(StoreError::MasterKeyMissing(key_path)),
            (None, false) => MasterKeyFile::create(&key_path)?,
        };
        let engine = upgrade::if_needed(Embedded::open(folder)?, &master)?;
        match Self::open_with(engine.clone(), &master) {
            // A rotation that was killed between the store's row and the file's name.
            Err(StoreError::WrongMasterKey { expected, place, found }) => {
                let next_path = folder.join(NEXT_MASTER_FILE);
                match MasterKeyFile::open(&next_path)? {
                    Some(next) if next.id() == expected => {
                        let store = Self::open_with(engine, &next)?;
                        files::replace(&next_path, &key_path)?;
                        Ok(store)
                    }
                    _ => Err(StoreError::WrongMasterKey { expected, place, found }),
                }
            }
            other => other,
        }
    }
}

//! The master key: what closes the cluster's data key, and nothing else.
//!
//! It may be a file, or something that never gives its key away (a TPM, a token, a key service); the store only asks
//! it to wrap and to unwrap 32 bytes. Left out: those others, which are `server/masterkey`.

use std::path::{Path, PathBuf};

use aws_lc_rs::hmac;
use coffer_core_secret::{Secret, SecretBytes};

use crate::master_error::MasterKeyError;
use crate::seal::SealingKey;
use crate::{StoreError, files};

/// Where a wrapped data key says that it belongs.
const TABLE: &str = "master";
const PLACE: &str = "data-key";
const ID_LABEL: &[u8] = b"coffer master key id v1";

/// Wraps and unwraps the cluster's data key.
pub trait MasterKey: Send + Sync {
    /// Closes a key.
    fn wrap(&self, key: &[u8]) -> Result<Vec<u8>, MasterKeyError>;

    /// Opens what [`MasterKey::wrap`] closed; anything else is [`MasterKeyError::Wrong`].
    fn unwrap(&self, wrapped: &[u8]) -> Result<SecretBytes, MasterKeyError>;

    /// Names the key, always in the same way, and tells nothing of it.
    fn id(&self) -> String;

    /// Where it is, for a person, without credentials: `the file /var/lib/…/master.key`.
    fn place(&self) -> String;
}

/// A master key of 32 bytes in a file that only its owner may read.
pub struct MasterKeyFile {
    path: PathBuf,
    key: Secret<[u8; 32]>,
}

impl MasterKeyFile {
    /// Reads the key, if the file is there; refuses one that others may read.
    pub fn open(path: &Path) -> Result<Option<Self>, StoreError> {
        let Some(bytes) = files::read_private(path)? else { return Ok(None) };
        let found = bytes.expose().len();
        let wrong = |_| StoreError::MasterKeyLength { path: path.to_path_buf(), found };
        let key = <[u8; 32]>::try_from(bytes.expose().as_slice()).map_err(wrong)?;
        Ok(Some(Self { path: path.to_path_buf(), key: Secret::new(key) }))
    }

    /// Makes the file with a new key in it. Fails if the file is there.
    pub fn create(path: &Path) -> Result<Self, StoreError> {
        let key = Secret::<[u8; 32]>::random().map_err(|_| StoreError::NoRandomness)?;
        files::create_private(path, key.expose())?;
        Ok(Self { path: path.to_path_buf(), key })
    }

    /// The key itself, for the first format, whose data key it closed in another form.
    pub(crate) fn key(&self) -> &Secret<[u8; 32]> {
        &self.key
    }
}

impl MasterKey for MasterKeyFile {
    fn wrap(&self, key: &[u8]) -> Result<Vec<u8>, MasterKeyError> {
        SealingKey::new(&self.key).seal(0, TABLE, PLACE, key).map_err(|_| MasterKeyError::NoRandomness)
    }

    fn unwrap(&self, wrapped: &[u8]) -> Result<SecretBytes, MasterKeyError> {
        let wrong = |_| MasterKeyError::Wrong { place: self.place(), id: self.id() };
        SealingKey::new(&self.key).open(TABLE, PLACE, wrapped).map_err(wrong)
    }

    fn id(&self) -> String {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, self.key.expose()), ID_LABEL);
        format!("file:{}", hex::encode(tag.as_ref().split_at(8).0))
    }

    fn place(&self) -> String {
        format!("the file {}", self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_file_wrapped_no_other_unwraps() {
        let folder = tempfile::tempdir().unwrap();
        let one = MasterKeyFile::create(&folder.path().join("one")).unwrap();
        let two = MasterKeyFile::create(&folder.path().join("two")).unwrap();
        let wrapped = one.wrap(&[7; 32]).unwrap();
        assert!(one.unwrap(&wrapped).unwrap().equals(&[7; 32]));
        assert!(matches!(two.unwrap(&wrapped), Err(MasterKeyError::Wrong { .. })));
        assert_ne!(one.id(), two.id());
        let again = MasterKeyFile::open(&folder.path().join("one")).unwrap().unwrap();
        assert_eq!(one.id(), again.id());
    }
}

//! Master keys: a file, a TPM, a PKCS#11 token, or a key management service, by the operator's settings.
//!
//! Nothing is ever overwritten: a key that is there is used, and one that is to be made must not be there. Left out:
//! what a master key closes, which is `server/store`'s.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod source;
mod token;
mod tpm;
mod transit;

use std::path::Path;

use coffer_server_store::{MasterKey, MasterKeyError, MasterKeyFile, StoreError};

pub use source::{FileSource, MasterKeySource, TokenSource, TpmSource, TransitSource};
pub use token::TokenKey;
pub use tpm::TpmKey;
pub use transit::TransitKey;

/// Bound to all that is wrapped by a token or a service, so that nothing else that their key closed is taken for ours.
const PURPOSE: &[u8] = b"coffer master key v1";

/// The key that the settings name; `None` if it is not there. Nothing is made.
pub fn open(source: &MasterKeySource, data: &Path) -> Result<Option<Box<dyn MasterKey>>, MasterKeyError> {
    Ok(match source {
        MasterKeySource::File(source) => {
            let path = source::file(source.path.as_deref(), data, "master.key");
            let opened = MasterKeyFile::open(&path).map_err(|error| of_file(&path, error))?;
            opened.map(boxed)
        }
        MasterKeySource::Tpm(source) => TpmKey::open(source, data)?.map(boxed),
        MasterKeySource::Pkcs11(source) => TokenKey::open(source)?.map(boxed),
        MasterKeySource::VaultTransit(source) => TransitKey::open(source)?.map(boxed),
    })
}

/// A new key where the settings say. Refused if there is one, and where only the service's owner makes keys.
pub fn create(source: &MasterKeySource, data: &Path) -> Result<Box<dyn MasterKey>, MasterKeyError> {
    Ok(match source {
        MasterKeySource::File(source) => {
            let path = source::file(source.path.as_deref(), data, "master.key");
            boxed(MasterKeyFile::create(&path).map_err(|error| of_file(&path, error))?)
        }
        MasterKeySource::Tpm(source) => boxed(TpmKey::create(source, data)?),
        MasterKeySource::Pkcs11(source) => boxed(TokenKey::create(source)?),
        MasterKeySource::VaultTransit(TransitSource { mount, key, .. }) => {
            return Err(MasterKeyError::Refused {
                place: format!("the transit key {key:?}"),
                why: "the broker makes no keys in a key management service".to_owned(),
                remedy: format!("make it there: vault write -f {mount}/keys/{key}"),
            });
        }
    })
}

fn boxed<K: MasterKey + 'static>(key: K) -> Box<dyn MasterKey> {
    Box::new(key)
}

fn of_file(path: &Path, error: StoreError) -> MasterKeyError {
    MasterKeyError::Refused {
        place: format!("the file {}", path.display()),
        why: error.to_string(),
        remedy: "correct that; no key was changed".to_owned(),
    }
}

//! A wrapping key: a name, versions with their bytes, and what may be done with it.
//!
//! INVARIANT: versions are numbered from 1 without gaps; a version has bytes exactly if it is not destroyed.
//! INVARIANT: a wrap costs a [`Use`], and only the keyring makes one, after the use was reserved durably.

use aws_lc_rs::rand;
use coffer_core_secret::{Secret, SecretBytes};
use serde::{Deserialize, Serialize};

use crate::options::{Deletion, KeyOptions, PlaintextOverTls};
use crate::seal::Place;
use crate::{Binding, KeyName, Moment, WrapError, Wrapped};

/// How often one version may wrap: NIST SP 800-38D, section 8.3, for random nonces of 96 bits.
pub const MAX_USES: u64 = 1 << 32;
/// How many versions a key may have.
pub const MAX_VERSIONS: usize = 1000;

/// Whether a version may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VersionState {
    /// It wraps and unwraps.
    Enabled,
    /// It does neither until it is enabled again.
    Disabled,
    /// Its bytes are gone.
    Destroyed,
}

/// What may be changed later. What is `None` stays.
#[derive(Clone, Copy, Debug, Default)]
pub struct Change {
    /// The least version that unwraps.
    pub min_decryption_version: Option<u32>,
    /// The least version that may be named for wrapping; 0 for the latest only.
    pub min_encryption_version: Option<u32>,
    /// Whether the key may be deleted.
    pub deletion: Option<Deletion>,
}

/// What should be done about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Advice {
    /// Half of the uses of the latest version are reserved.
    #[error("version {0} has used half of what it may wrap; rotate the key")]
    Rotate(u32),
}

/// A version without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionInfo {
    /// Its number; the first is 1.
    pub number: u32,
    /// When it was made.
    pub created_at: Moment,
    /// Whether it may be used.
    pub state: VersionState,
    /// How many uses were reserved.
    pub uses: u64,
}

pub(crate) struct Version {
    pub(crate) created_at: Moment,
    pub(crate) state: VersionState,
    pub(crate) uses: u64,
    pub(crate) material: Option<Secret<[u8; 32]>>,
}

impl Version {
    fn generate(now: Moment) -> Result<Self, WrapError> {
        let material = Secret::random().map_err(|_| WrapError::NoRandomness)?;
        Ok(Self { created_at: now, state: VersionState::Enabled, uses: 0, material: Some(material) })
    }
}

/// The right to one wrap under one version, which was counted.
pub(crate) struct Use {
    pub(crate) id: [u8; 16],
    pub(crate) version: u32,
}

/// A key that wraps data keys.
pub struct WrappingKey {
    pub(crate) id: [u8; 16],
    pub(crate) name: KeyName,
    pub(crate) options: KeyOptions,
    pub(crate) min_decryption_version: u32,
    pub(crate) min_encryption_version: u32,
    pub(crate) versions: Vec<Version>,
}

impl WrappingKey {
    /// Makes a key with one version.
    pub fn generate(name: KeyName, options: KeyOptions, now: Moment) -> Result<Self, WrapError> {
        options.check()?;
        let mut id = [0; 16];
        rand::fill(&mut id).map_err(|_| WrapError::NoRandomness)?;
        let versions = vec![Version::generate(now)?];
        Ok(Self { id, name, options, min_decryption_version: 1, min_encryption_version: 0, versions })
    }

    /// Its name.
    pub fn name(&self) -> &KeyName {
        &self.name
    }

    /// What was decided at its creation.
    pub fn options(&self) -> &KeyOptions {
        &self.options
    }

    /// The number of the latest version.
    pub fn latest(&self) -> u32 {
        u32::try_from(self.versions.len()).unwrap_or(u32::MAX)
    }

    /// The least version that unwraps.
    pub fn min_decryption_version(&self) -> u32 {
        self.min_decryption_version
    }

    /// The least version that may be named for wrapping; 0 for the latest only.
    pub fn min_encryption_version(&self) -> u32 {
        self.min_encryption_version
    }

    /// The versions, first to latest.
    pub fn versions(&self) -> impl Iterator<Item = VersionInfo> {
        (1..).zip(&self.versions).map(|(number, version)| VersionInfo {
            number,
            created_at: version.created_at,
            state: version.state,
            uses: version.uses,
        })
    }

    /// What should be done about the key.
    pub fn advice(&self) -> Option<Advice> {
        let uses = self.versions.last()?.uses;
        (uses >= MAX_USES >> 1).then(|| Advice::Rotate(self.latest()))
    }

    /// Adds a version, which wraps from now on.
    pub fn rotate(&mut self, now: Moment) -> Result<(), WrapError> {
        if self.versions.len() >= MAX_VERSIONS {
            return Err(WrapError::Versions { name: self.name.clone(), most: MAX_VERSIONS });
        }
        self.versions.push(Version::generate(now)?);
        Ok(())
    }

    /// Enables, disables or destroys a version. What is destroyed stays so.
    pub fn set_state(&mut self, number: u32, state: VersionState) -> Result<(), WrapError> {
        let name = self.name.clone();
        let latest = self.latest();
        let version = position(number).and_then(|index| self.versions.get_mut(index));
        let version = version.ok_or(WrapError::NoVersion { name: name.clone(), version: number, latest })?;
        match state {
            VersionState::Destroyed => version.material = None,
            _ if version.state == VersionState::Destroyed => {
                return Err(WrapError::Destroyed { name, version: number });
            }
            _ => {}
        }
        version.state = state;
        Ok(())
    }

    /// Changes what may be changed; nothing if any part is refused.
    pub fn configure(&mut self, change: &Change) -> Result<(), WrapError> {
        let latest = self.latest();
        let decryption = change.min_decryption_version.unwrap_or(self.min_decryption_version).max(1);
        let encryption = change.min_encryption_version.unwrap_or(self.min_encryption_version);
        if decryption > latest || encryption > latest {
            let version = decryption.max(encryption);
            return Err(WrapError::NoVersion { name: self.name.clone(), version, latest });
        }
        if encryption != 0 && encryption < decryption {
            return Err(WrapError::Option {
                what: "min_encryption_version",
                found: encryption.to_string(),
                expected: "0, or not less than min_decryption_version",
            });
        }
        self.min_decryption_version = decryption;
        self.min_encryption_version = encryption;
        self.options.deletion = change.deletion.unwrap_or(self.options.deletion);
        Ok(())
    }

    /// Opens what the key wrapped.
    pub fn unwrap(&self, wrapped: &Wrapped, binding: &Binding<'_>) -> Result<SecretBytes, WrapError> {
        let least = self.min_decryption_version;
        let place = self.place(wrapped.version, least)?;
        place.open(binding, &wrapped.sealed)
    }

    /// Refuses unless the holder of a token may be given plaintext.
    pub fn gives_plaintext_over_tls(&self) -> Result<(), WrapError> {
        match self.options.plaintext_over_tls {
            PlaintextOverTls::InsecureAllowed => Ok(()),
            PlaintextOverTls::Refused => Err(WrapError::PlaintextRefused(self.name.clone())),
        }
    }

    /// The version that a wrap uses: the one named, or the latest.
    pub(crate) fn wrapping_version(&self, asked: Option<u32>) -> Result<u32, WrapError> {
        let latest = self.latest();
        let least = match self.min_encryption_version {
            0 => latest,
            least => least,
        };
        let number = asked.unwrap_or(latest);
        self.place(number, least)?;
        Ok(number)
    }

    /// Reserves up to `wanted` uses of a version; says how many.
    pub(crate) fn reserve(&mut self, number: u32, wanted: u64) -> Result<u64, WrapError> {
        let (name, latest) = (self.name.clone(), self.latest());
        let version = position(number).and_then(|index| self.versions.get_mut(index));
        let Some(version) = version else {
            return Err(WrapError::NoVersion { name, version: number, latest });
        };
        let granted = MAX_USES.saturating_sub(version.uses).min(wanted);
        if granted == 0 {
            return Err(WrapError::Spent { name, version: number });
        }
        version.uses = version.uses.saturating_add(granted);
        Ok(granted)
    }

    /// Wraps, for a use that was counted.
    pub(crate) fn wrap(
        &self,
        counted: Use,
        binding: &Binding<'_>,
        plaintext: &[u8],
    ) -> Result<Wrapped, WrapError> {
        if counted.id != self.id {
            return Err(WrapError::Contended(self.name.clone()));
        }
        let sealed = self.place(counted.version, 1)?.seal(binding, plaintext)?;
        Ok(Wrapped { version: counted.version, sealed })
    }

    fn place(&self, number: u32, least: u32) -> Result<Place<'_>, WrapError> {
        let name = &self.name;
        let version = position(number).and_then(|index| self.versions.get(index));
        let missing = || WrapError::NoVersion { name: name.clone(), version: number, latest: self.latest() };
        let version = version.ok_or_else(missing)?;
        if number < least {
            return Err(WrapError::TooOld { name: name.clone(), version: number, least });
        }
        match (version.state, &version.material) {
            (VersionState::Enabled, Some(material)) => {
                Ok(Place { name, version: number, derivation: self.options.derivation, material })
            }
            (VersionState::Disabled, Some(_)) => {
                Err(WrapError::Disabled { name: name.clone(), version: number })
            }
            _ => Err(WrapError::Destroyed { name: name.clone(), version: number }),
        }
    }
}

fn position(number: u32) -> Option<usize> {
    usize::try_from(number.checked_sub(1)?).ok()
}

#[cfg(test)]
#[path = "key_tests.rs"]
mod tests;

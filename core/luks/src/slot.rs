//! A key slot (specification, sections 3.2 and 3.5): the volume's key, split, encrypted under what opens the slot, and the
//! digest that says whether it was the right one.

use std::num::NonZeroU32;

use aws_lc_rs::pbkdf2;
use coffer_core_seal::xts::{Sectors, Xts};
use coffer_core_secret::{Secret, SecretBytes};

use crate::{ITERATIONS, KEY, LuksError, VolumeKey, af};

/// More rounds than an honest slot has; each costs the guest time.
pub(crate) const MAX_ITERATIONS: u32 = 10_000_000;
/// Where the one area of volumes of ours is, in bytes: behind both headers.
pub(crate) const AREA_OFFSET: u64 = 32_768;
/// The stripes that every slot has.
pub(crate) const STRIPES: usize = 4000;
/// Length of the area that is in use: whole sectors of 512 bytes.
pub(crate) const AREA: usize = KEY * STRIPES;

/// How something is derived: PBKDF2 with SHA-256.
#[derive(Clone, Debug)]
pub(crate) struct Derivation {
    pub(crate) salt: Vec<u8>,
    pub(crate) iterations: u32,
}

/// A key slot, and the digest of the key in it.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) derivation: Derivation,
    pub(crate) offset: u64,
    pub(crate) check: Derivation,
    pub(crate) digest: Vec<u8>,
}

impl Slot {
    /// A slot for a key; nothing of it is secret.
    pub(crate) fn new(key: &VolumeKey) -> Result<Self, LuksError> {
        let derivation = || {
            let salt = Secret::<[u8; 32]>::random()?.expose().to_vec();
            Ok::<_, LuksError>(Derivation { salt, iterations: ITERATIONS })
        };
        let check = derivation()?;
        let digest = check.derive::<32>(key.expose())?.expose().to_vec();
        Ok(Self { derivation: derivation()?, offset: AREA_OFFSET, check, digest })
    }

    pub(crate) fn area_offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn area_length(&self) -> usize {
        AREA
    }

    /// The area's bytes.
    pub(crate) fn seal(&self, key: &VolumeKey, passphrase: &SecretBytes) -> Result<Vec<u8>, LuksError> {
        let stripes = af::split(key, STRIPES)?;
        let mut area = stripes.expose().clone();
        self.cipher(passphrase)?.encrypt(0, &mut area)?;
        Ok(area)
    }

    /// The key in the area's bytes; `None` if this does not open it.
    pub(crate) fn open(
        &self,
        mut area: Vec<u8>,
        passphrase: &SecretBytes,
    ) -> Result<Option<VolumeKey>, LuksError> {
        self.cipher(passphrase)?.decrypt(0, &mut area)?;
        let key = af::merge(&SecretBytes::new(area));
        let found = self.check.derive::<32>(key.expose())?;
        Ok(found.equals(&self.digest).then_some(key))
    }

    fn cipher(&self, passphrase: &SecretBytes) -> Result<Xts, LuksError> {
        Ok(Xts::over(Sectors::Small, &self.derivation.derive::<KEY>(passphrase.expose())?)?)
    }
}

impl Derivation {
    fn derive<const N: usize>(&self, secret: &[u8]) -> Result<Secret<[u8; N]>, LuksError> {
        let none = || LuksError::Malformed("PBKDF2 of no rounds".into());
        let iterations = NonZeroU32::new(self.iterations).ok_or_else(none)?;
        let mut out = [0; N];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &self.salt, secret, &mut out);
        Ok(Secret::new(out))
    }
}

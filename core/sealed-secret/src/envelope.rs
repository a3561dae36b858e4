//! A value under a data key, and the data key under a key of the broker's.
//!
//! The data key is wrapped with AES key wrap (RFC 3394) under the broker's 32 bytes, which is how this format fills
//! what upstream leaves open for the provider `kbs`. A256GCM is written; A256CTR, which has no tag of its own, is read
//! as well, because the signature around it covers the ciphertext.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_256 as AES_256_CIPHER, DecryptingKey, DecryptionContext, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrap};
use coffer_core_protocol::uri::ResourcePath;
use coffer_core_secret::{Secret, SecretBytes};
use zeroize::Zeroizing;

use crate::{KEY_LEN, SealedSecretError};

/// The length of a wrapped data key.
const WRAPPED_LEN: usize = 40;
/// The length of an IV of AES-GCM, and of a counter block of AES-CTR.
const GCM_IV_LEN: usize = 12;
const CTR_IV_LEN: usize = 16;

/// How a value is encrypted under its data key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrapType {
    /// AES-256-GCM, the tag after the ciphertext.
    A256Gcm,
    /// AES-256 in counter mode. Only read.
    A256Ctr,
}

impl WrapType {
    /// The name in `wrap_type`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::A256Gcm => "A256GCM",
            Self::A256Ctr => "A256CTR",
        }
    }

    fn iv_len(self) -> usize {
        match self {
            Self::A256Gcm => GCM_IV_LEN,
            Self::A256Ctr => CTR_IV_LEN,
        }
    }
}

/// A sealed value whose members have the right lengths.
#[derive(Clone, Debug)]
pub(crate) struct Envelope {
    pub(crate) key: ResourcePath,
    pub(crate) wrapped: [u8; WRAPPED_LEN],
    pub(crate) value: Vec<u8>,
    pub(crate) wrap_type: WrapType,
    pub(crate) iv: Vec<u8>,
}

impl Envelope {
    pub(crate) fn new(
        key: ResourcePath,
        wrapped: &[u8],
        value: Vec<u8>,
        wrap_type: WrapType,
        iv: Vec<u8>,
    ) -> Result<Self, SealedSecretError> {
        let length = |member, expected, found| SealedSecretError::Length { member, expected, found };
        let wrapped = wrapped.try_into().map_err(|_| length("encrypted_key", WRAPPED_LEN, wrapped.len()))?;
        if iv.len() != wrap_type.iv_len() {
            return Err(length("iv", wrap_type.iv_len(), iv.len()));
        }
        Ok(Self { key, wrapped, value, wrap_type, iv })
    }

    /// A value under a new data key, and that under the key which the broker has at `path`.
    pub(crate) fn seal(
        path: &ResourcePath,
        key: &Secret<[u8; KEY_LEN]>,
        value: &SecretBytes,
    ) -> Result<Self, SealedSecretError> {
        let data_key = Secret::<[u8; KEY_LEN]>::random()?;
        let failed = |_| SealedSecretError::Provider("the key wrapping");
        let mut wrapped = [0; WRAPPED_LEN];
        let kek = AesKek::new(&AES_256, key.expose()).map_err(failed)?;
        kek.wrap(data_key.expose(), &mut wrapped).map_err(failed)?;
        // The data key is used once, so any IV is.
        let iv = *Secret::<[u8; GCM_IV_LEN]>::random()?.expose();
        // In place, with room for the tag, so that no copy of the value is left behind.
        let mut text = Vec::with_capacity(value.expose().len().saturating_add(AES_256_GCM.tag_len()));
        text.extend_from_slice(value.expose());
        gcm(data_key.expose())?
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(iv), Aad::empty(), &mut text)
            .map_err(|_| SealedSecretError::Provider("AES-GCM"))?;
        Ok(Self { key: path.clone(), wrapped, value: text, wrap_type: WrapType::A256Gcm, iv: iv.to_vec() })
    }

    /// Opens it with the key that the broker has at [`Envelope::key`].
    pub(crate) fn open(&self, key: &SecretBytes) -> Result<SecretBytes, SealedSecretError> {
        let found = key.expose().len();
        if found != KEY_LEN {
            return Err(SealedSecretError::EnvelopeKeyLength { found });
        }
        let data_key = unwrap(key, &self.wrapped)?;
        match self.wrap_type {
            WrapType::A256Gcm => self.open_gcm(&data_key),
            WrapType::A256Ctr => self.open_ctr(&data_key),
        }
    }

    fn open_gcm(&self, data_key: &SecretBytes) -> Result<SecretBytes, SealedSecretError> {
        let iv = Nonce::try_assume_unique_for_key(&self.iv);
        let iv = iv.map_err(|_| SealedSecretError::Provider("the IV"))?;
        let mut text = self.value.clone();
        let length = gcm(data_key.expose())?
            .open_in_place(iv, Aad::empty(), &mut text)
            .map_err(|_| SealedSecretError::Value)?
            .len();
        text.truncate(length);
        Ok(SecretBytes::new(text))
    }

    fn open_ctr(&self, data_key: &SecretBytes) -> Result<SecretBytes, SealedSecretError> {
        let failed = |_| SealedSecretError::Provider("AES in counter mode");
        let key = UnboundCipherKey::new(&AES_256_CIPHER, data_key.expose()).and_then(DecryptingKey::ctr);
        let iv = FixedLength::<CTR_IV_LEN>::try_from(self.iv.as_slice()).map_err(failed)?;
        let mut text = self.value.clone();
        key.map_err(failed)?.decrypt(&mut text, DecryptionContext::Iv128(iv)).map_err(failed)?;
        Ok(SecretBytes::new(text))
    }
}

fn unwrap(key: &SecretBytes, wrapped: &[u8; WRAPPED_LEN]) -> Result<SecretBytes, SealedSecretError> {
    let mut room = Zeroizing::new([0; KEY_LEN]);
    let kek = AesKek::new(&AES_256, key.expose()).map_err(|_| SealedSecretError::Provider("the key"))?;
    let opened = kek.unwrap(wrapped, room.as_mut_slice()).map_err(|_| SealedSecretError::EnvelopeKey)?;
    Ok(SecretBytes::copy_of(opened))
}

fn gcm(key: &[u8]) -> Result<LessSafeKey, SealedSecretError> {
    let key = UnboundKey::new(&AES_256_GCM, key).map_err(|_| SealedSecretError::Provider("the data key"))?;
    Ok(LessSafeKey::new(key))
}

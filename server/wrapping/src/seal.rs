//! One wrap: AES-256-GCM under a version's bytes, bound to name, version, context and associated data.
//!
//! A wrapped key is `1 || nonce (12) || ciphertext || tag (16)`; its version stands beside it, in the form that the
//! dialect has for versions, and is authenticated. A derived key wraps under HMAC-SHA256(key, label || context)
//! (NIST SP 800-108 would add a counter for more than one block; one is all that is needed).

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{hmac, rand};
use coffer_core_secret::{Secret, SecretBytes};
use zeroize::Zeroizing;

use crate::error::most;
use crate::{Derivation, KeyName, WrapError};

/// The longest plaintext that is wrapped.
pub const MAX_PLAINTEXT: usize = 64 << 10;
/// The longest context, and the longest associated data.
pub const MAX_BINDING: usize = 4 << 10;

const FORM: u8 = 1;
const HEADER: usize = 1 + NONCE_LEN;
const TAG: usize = 16;
const LABEL: &[u8] = b"coffer wrapped key v1";
const DERIVE: &[u8] = b"coffer wrapping key by context v1";

/// What a wrapped key is bound to besides its key's name and version.
#[derive(Clone, Copy, Debug, Default)]
pub struct Binding<'a> {
    /// What a derived key derives from; associated data where the key is not derived.
    pub context: &'a [u8],
    /// Data that must be the same when it is unwrapped.
    pub associated_data: &'a [u8],
}

/// Something wrapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrapped {
    /// The version of the key that wrapped it.
    pub version: u32,
    /// The bytes.
    pub sealed: Vec<u8>,
}

/// The key, the version and the bytes that wrap.
pub(crate) struct Place<'a> {
    pub(crate) name: &'a KeyName,
    pub(crate) version: u32,
    pub(crate) derivation: Derivation,
    pub(crate) material: &'a Secret<[u8; 32]>,
}

impl Place<'_> {
    pub(crate) fn seal(&self, binding: &Binding<'_>, plaintext: &[u8]) -> Result<Vec<u8>, WrapError> {
        most("plaintext in bytes", plaintext.len(), MAX_PLAINTEXT)?;
        let (key, aad) = self.prepare(binding)?;
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).map_err(|_| WrapError::NoRandomness)?;
        let mut body = Zeroizing::new(plaintext.to_vec());
        let tag = key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(aad),
                body.as_mut_slice(),
            )
            .map_err(|_| WrapError::NoRandomness)?;
        Ok([&[FORM], nonce.as_slice(), &body, tag.as_ref()].concat())
    }

    pub(crate) fn open(&self, binding: &Binding<'_>, sealed: &[u8]) -> Result<SecretBytes, WrapError> {
        most("the wrapped key in bytes", sealed.len(), MAX_PLAINTEXT.saturating_add(HEADER + TAG))?;
        let short = || WrapError::Form("it is too short");
        let (header, body) = sealed.split_at_checked(HEADER).ok_or_else(short)?;
        let (form, nonce) = header.split_first().ok_or_else(short)?;
        if *form != FORM {
            return Err(WrapError::Form("its first byte is not 1"));
        }
        if body.len() < TAG {
            return Err(short());
        }
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| short())?;
        let (key, aad) = self.prepare(binding)?;
        let mut plain = Zeroizing::new(body.to_vec());
        let opened = key.open_in_place(nonce, Aad::from(aad), plain.as_mut_slice());
        let broken = |_| WrapError::Broken { name: self.name.clone(), version: self.version };
        let length = opened.map_err(broken)?.len();
        plain.truncate(length);
        Ok(SecretBytes::new(std::mem::take(&mut *plain)))
    }

    fn prepare(&self, binding: &Binding<'_>) -> Result<(LessSafeKey, Vec<u8>), WrapError> {
        most("context in bytes", binding.context.len(), MAX_BINDING)?;
        most("associated data in bytes", binding.associated_data.len(), MAX_BINDING)?;
        let unbound = match self.derivation {
            Derivation::None => UnboundKey::new(&AES_256_GCM, self.material.expose()),
            Derivation::ByContext if binding.context.is_empty() => {
                return Err(WrapError::ContextMissing(self.name.clone()));
            }
            Derivation::ByContext => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, self.material.expose());
                let mut derive = hmac::Context::with_key(&key);
                derive.update(DERIVE);
                derive.update(binding.context);
                UnboundKey::new(&AES_256_GCM, derive.sign().as_ref())
            }
        };
        let key = unbound.map(LessSafeKey::new).map_err(|_| WrapError::NoRandomness)?;
        Ok((key, self.associated(binding)))
    }

    /// Lengths before what they measure, so that no two places have the same bytes.
    fn associated(&self, binding: &Binding<'_>) -> Vec<u8> {
        let length = |bytes: &[u8]| (bytes.len() as u64).to_be_bytes();
        let name = self.name.as_str().as_bytes();
        [
            LABEL,
            &length(name),
            name,
            &self.version.to_be_bytes(),
            &length(binding.context),
            binding.context,
            &length(binding.associated_data),
            binding.associated_data,
        ]
        .concat()
    }
}

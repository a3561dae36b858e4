//! SIGSTRUCT: an enclave's measurement, product, version and attributes under its signer's key.
//!
//! SPEC: Intel SDM, volume 3D, section 36.13 (layout; all numbers little-endian) and EINIT (the checks; RSA-3072 with
//! exponent 3, PKCS #1 1.5 with SHA-256).

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use coffer_core_digest::{Algorithm, Digest};

use crate::LaunchError;
use crate::bytes::{slice, u16_at, u32_at, u64_at};

const SIZE: usize = 1808;
const HEADER: [u8; 16] = [6, 0, 0, 0, 0xe1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0];
const HEADER2: [u8; 16] = [1, 1, 0, 0, 0x60, 0, 0, 0, 0x60, 0, 0, 0, 1, 0, 0, 0];
const KEY_SIZE: usize = 384;
const EXPONENT: u32 = 3;
/// `ATTRIBUTES.DEBUG`.
const DEBUG: u64 = 1 << 1;

/// What a signer says of an enclave. Made only from a structure with a good signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sigstruct {
    /// The enclave.
    pub mrenclave: Digest,
    /// The signer: SHA-256 of the modulus.
    pub mrsigner: Digest,
    /// The product.
    pub isv_prod_id: u16,
    /// The security version.
    pub isv_svn: u16,
    /// The day of the build, as in `0x20261120`.
    pub date: u32,
    /// The attributes' flags and their mask: a flag counts where the mask has a one.
    pub attributes: u64,
    /// The mask.
    pub attribute_mask: u64,
}

impl Sigstruct {
    /// Reads the structure and checks its signature.
    pub fn parse(bytes: &[u8]) -> Result<Self, LaunchError> {
        if bytes.len() != SIZE {
            return Err(LaunchError::Sigstruct("it has not 1808 bytes"));
        }
        Self::fields(bytes).ok_or(LaunchError::Sigstruct("it has not the form of a SIGSTRUCT"))?
    }

    fn fields(bytes: &[u8]) -> Option<Result<Self, LaunchError>> {
        let vendor = u32_at(bytes, 16)?;
        let form = slice(bytes, 0, 16)? == HEADER
            && slice(bytes, 24, 16)? == HEADER2
            && (vendor == 0 || vendor == 0x8086)
            && u32_at(bytes, 512)? == EXPONENT;
        form.then_some(())?;
        let modulus = slice(bytes, 128, KEY_SIZE)?;
        let signed = [slice(bytes, 0, 128)?, slice(bytes, 900, 128)?].concat();
        let reversed = |part: &[u8]| part.iter().rev().copied().collect::<Vec<u8>>();
        let key = RsaPublicKeyComponents { n: reversed(modulus), e: vec![3] };
        let signature = reversed(slice(bytes, 516, KEY_SIZE)?);
        if key.verify(&RSA_PKCS1_2048_8192_SHA256, &signed, &signature).is_err() {
            return Some(Err(LaunchError::Sigstruct("its signature is wrong")));
        }
        Some(Ok(Self {
            mrenclave: Digest::from_bytes(Algorithm::Sha256, slice(bytes, 960, 32)?).ok()?,
            mrsigner: Digest::sha256(modulus),
            isv_prod_id: u16_at(bytes, 1024)?,
            isv_svn: u16_at(bytes, 1026)?,
            date: u32_at(bytes, 20)?,
            attributes: u64_at(bytes, 928)?,
            attribute_mask: u64_at(bytes, 944)?,
        }))
    }

    /// Whether the signature also admits the enclave in debug mode, where the host reads its memory.
    pub const fn admits_debug(&self) -> bool {
        self.attribute_mask & DEBUG == 0 || self.attributes & DEBUG != 0
    }
}

//! The ID block, by which an owner lets only a signed launch begin, and the digests that the report then shows.
//!
//! SPEC: AMD 56860, section 8.20, tables "ID block" and "ID authentication information". Left out: signing, which
//! is for the owner's key.

use coffer_core_digest::{Algorithm, Digest};

use crate::LaunchError;
use crate::bytes::{put, slice, u32_at};

/// `ECDSA P-384 with SHA-384`, and the curve's number.
const ALGORITHM: u32 = 1;
const CURVE_P384: u32 = 2;
const KEY_SIZE: usize = 0x404;
const AUTH_SIZE: usize = 0x1000;
const ID_KEY: usize = 0x240;
const AUTHOR_KEY: usize = 0x880;
const COORDINATE: usize = 48;

/// What the owner signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdBlock {
    /// The launch measurement.
    pub measurement: Digest,
    /// The family's identifier.
    pub family_id: [u8; 16],
    /// The image's identifier.
    pub image_id: [u8; 16],
    /// The guest's security version.
    pub guest_svn: u32,
    /// The guest policy.
    pub policy: u64,
}

impl IdBlock {
    /// The bytes that are signed and given to the launcher.
    pub fn to_bytes(&self) -> Vec<u8> {
        [
            self.measurement.as_bytes(),
            &self.family_id,
            &self.image_id,
            // The version of the structure.
            &1u32.to_le_bytes(),
            &self.guest_svn.to_le_bytes(),
            &self.policy.to_le_bytes(),
        ]
        .concat()
    }
}

/// The digest of an ID key or author key, as the report shows it: of a P-384 point as SEC 1 writes it uncompressed.
pub fn key_digest(point: &[u8]) -> Result<Digest, LaunchError> {
    const WRONG: LaunchError = LaunchError::IdKey("it is no uncompressed P-384 point of 97 bytes");
    let (Some((4, coordinates)), 97) = (point.split_first(), point.len()) else { return Err(WRONG) };
    let (x, y) = coordinates.split_at_checked(COORDINATE).ok_or(WRONG)?;
    let mut key = [0u8; KEY_SIZE];
    let reversed = |part: &[u8]| part.iter().rev().copied().collect::<Vec<u8>>();
    put(&mut key, 0, &CURVE_P384.to_le_bytes()).ok_or(WRONG)?;
    put(&mut key, 4, &reversed(x)).ok_or(WRONG)?;
    put(&mut key, 4 + 72, &reversed(y)).ok_or(WRONG)?;
    Ok(Digest::of(Algorithm::Sha384, &key))
}

/// The ID authentication information: signatures and keys that come with an ID block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthBlock {
    /// `ID_KEY_DIGEST` of the report.
    pub id_key_digest: Digest,
    /// `AUTHOR_KEY_DIGEST` of the report, if there is an author key.
    pub author_key_digest: Option<Digest>,
}

impl AuthBlock {
    /// Reads the structure.
    pub fn parse(bytes: &[u8]) -> Result<Self, LaunchError> {
        if bytes.len() != AUTH_SIZE {
            return Err(LaunchError::IdKey("the authentication information has not 4096 bytes"));
        }
        let id_key = key(bytes, 0, ID_KEY)?;
        let author_key = key(bytes, 4, AUTHOR_KEY)?;
        let id_key_digest =
            id_key.ok_or(LaunchError::IdKey("the authentication information has no ID key"))?;
        Ok(Self { id_key_digest, author_key_digest: author_key })
    }
}

/// The digest of the key at `at`, whose algorithm stands at `algorithm`.
fn key(bytes: &[u8], algorithm: usize, at: usize) -> Result<Option<Digest>, LaunchError> {
    const SHORT: LaunchError = LaunchError::IdKey("the authentication information is cut off");
    let key = slice(bytes, at, KEY_SIZE).ok_or(SHORT)?;
    match (u32_at(bytes, algorithm).ok_or(SHORT)?, u32_at(key, 0).ok_or(SHORT)?) {
        (_, 0) => Ok(None),
        (ALGORITHM, CURVE_P384) => Ok(Some(Digest::of(Algorithm::Sha384, key))),
        _ => Err(LaunchError::IdKey("the key is not for ECDSA on P-384 with SHA-384")),
    }
}

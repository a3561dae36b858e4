//! One segment: header, the key derived over it, nonces.

use std::sync::atomic::{AtomicBool, Ordering};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{hkdf, rand};
use coffer_core_secret::NoRandomness;
use zeroize::Zeroizing;

use crate::layout::{HEADER_LEN, TAG_LEN};
use crate::{ArtifactId, FilePath, Key, Layout, StreamError};

const HEADER: usize = HEADER_LEN as usize;
const TAG: usize = TAG_LEN as usize;
const SALT: usize = 32;
const PREFIX: usize = 7;

/// What a stream is about. It goes into the derivation of the stream's key, so a stream opens as nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssociatedData(Vec<u8>);

impl AssociatedData {
    /// A file of an artifact.
    #[must_use]
    pub fn file(artifact: &ArtifactId, path: &FilePath) -> Self {
        Self(format!("coffer sealed-stream v1 file {artifact} {path}").into_bytes())
    }

    /// The manifest of an artifact.
    #[must_use]
    pub fn manifest(artifact: &ArtifactId) -> Self {
        Self(format!("coffer sealed-stream v1 manifest {artifact}").into_bytes())
    }

    /// Anything else, as another writer of the published format chose it.
    #[must_use]
    pub fn foreign(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

/// What a stream begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header([u8; HEADER]);

impl Header {
    /// With a new salt and nonce prefix.
    pub fn random() -> Result<Self, NoRandomness> {
        let mut bytes = [0; HEADER];
        rand::fill(&mut bytes).map_err(|_| NoRandomness)?;
        Ok(Self::begun(bytes))
    }

    /// With a salt and prefix of the caller's: for vectors. Two streams with one header, key and associated data
    /// reveal what they have in common, and let others forge both.
    #[must_use]
    pub fn insecure_with(salt: [u8; SALT], prefix: [u8; PREFIX]) -> Self {
        let mut bytes = [0; HEADER];
        for (to, from) in bytes.iter_mut().skip(1).zip(salt.iter().chain(&prefix)) {
            *to = *from;
        }
        Self::begun(bytes)
    }

    /// Reads a header.
    pub fn parse(bytes: &[u8; HEADER]) -> Result<Self, StreamError> {
        let [length, ..] = *bytes;
        if usize::from(length) == HEADER {
            Ok(Self(*bytes))
        } else {
            Err(StreamError::Header { found: length })
        }
    }

    /// The bytes as they are stored.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; HEADER] {
        &self.0
    }

    fn begun(mut bytes: [u8; HEADER]) -> Self {
        let [length, ..] = &mut bytes;
        *length = HEADER_LEN as u8;
        Self(bytes)
    }

    fn salt(&self) -> &[u8] {
        self.0.get(1..SALT.saturating_add(1)).unwrap_or_default()
    }

    fn prefix(&self) -> &[u8] {
        self.0.get(SALT.saturating_add(1)..).unwrap_or_default()
    }
}

/// Whether a segment is a stream's last, which is in its nonce.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Inner,
    Last,
}

/// Seals and opens the segments of one stream.
pub(crate) struct Cipher {
    key: LessSafeKey,
    header: Header,
}

struct DerivedLen;

impl hkdf::KeyType for DerivedLen {
    fn len(&self) -> usize {
        32
    }
}

impl Cipher {
    /// Derives the stream's key: HKDF-SHA256 (RFC 5869) over the salt, with the associated data as info.
    pub(crate) fn new(key: &Key, header: Header, data: &AssociatedData) -> Result<Self, StreamError> {
        let mut own = Zeroizing::new([0; 32]);
        hkdf::Salt::new(hkdf::HKDF_SHA256, header.salt())
            .extract(key.expose())
            .expand(&[&data.0], DerivedLen)
            .and_then(|material| material.fill(own.as_mut_slice()))
            .map_err(|_| StreamError::Provider("HKDF"))?;
        let key = UnboundKey::new(&AES_256_GCM, own.as_slice());
        let key = key.map_err(|_| StreamError::Provider("the AES key"))?;
        Ok(Self { key: LessSafeKey::new(key), header })
    }

    /// The header with which the stream begins.
    pub(crate) const fn header(&self) -> &Header {
        &self.header
    }

    /// Prefix, number (big-endian), and 1 for the last segment.
    fn nonce(&self, segment: u32, place: Place) -> Nonce {
        let mut nonce = [0; 12];
        let last = [u8::from(place == Place::Last)];
        let number = segment.to_be_bytes();
        let parts = self.header.prefix().iter().chain(&number).chain(&last);
        for (to, from) in nonce.iter_mut().zip(parts) {
            *to = *from;
        }
        Nonce::assume_unique_for_key(nonce)
    }

    /// Seals in place and returns the tag. Never call it twice for one segment.
    pub(crate) fn seal(
        &self,
        segment: u32,
        place: Place,
        bytes: &mut [u8],
    ) -> Result<[u8; TAG], StreamError> {
        let tag = self.key.seal_in_place_separate_tag(self.nonce(segment, place), Aad::empty(), bytes);
        let tag = tag.map_err(|_| StreamError::Provider("AES-GCM"))?;
        tag.as_ref().try_into().map_err(|_| StreamError::Provider("AES-GCM: the tag's length"))
    }

    /// Opens ciphertext and tag into a buffer of exactly the plaintext's length. Nothing is left in it after `None`.
    pub(crate) fn open(&self, segment: u32, place: Place, sealed: &[u8], plain: &mut [u8]) -> Option<()> {
        let (ciphertext, tag) = sealed.split_at_checked(sealed.len().checked_sub(TAG)?)?;
        if ciphertext.len() != plain.len() {
            return None;
        }
        let nonce = self.nonce(segment, place);
        match self.key.open_separate_gather(nonce, Aad::empty(), ciphertext, tag, plain) {
            Ok(()) => Some(()),
            Err(_) => {
                plain.fill(0);
                None
            }
        }
    }
}

/// Opens any segment of one stream whose length is known; several threads may share it.
pub struct SegmentOpener {
    cipher: Cipher,
    layout: Layout,
    /// A wrong key can be told from a changed segment only after something was opened.
    opened: AtomicBool,
}

impl SegmentOpener {
    /// For the stream with this header.
    pub fn new(
        key: &Key,
        header: Header,
        data: &AssociatedData,
        layout: Layout,
    ) -> Result<Self, StreamError> {
        Ok(Self { cipher: Cipher::new(key, header, data)?, layout, opened: AtomicBool::new(false) })
    }

    /// The stream's shape, which says where each segment is.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The header with which the stream begins.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.cipher.header
    }

    /// Opens one segment from its ciphertext (what [`Layout::sealed_range`] names) into the beginning of `plain`, and
    /// returns how many bytes it has. Nothing of a segment that is refused is left in `plain`.
    pub fn open(&self, segment: u32, sealed: &[u8], plain: &mut [u8]) -> Result<usize, StreamError> {
        let absent = || StreamError::NoSegment { segment, segments: self.layout.segments() };
        let range = self.layout.sealed_range(segment).ok_or_else(absent)?;
        let whole = usize::try_from(range.end.saturating_sub(range.start)).map_err(|_| absent())?;
        if sealed.len() < whole {
            return Err(StreamError::Truncated { segment });
        }
        if sealed.len() > whole {
            return Err(StreamError::Extended { segment });
        }
        let (expected, found) = (whole.saturating_sub(TAG), plain.len());
        let plain = plain.get_mut(..expected).ok_or(StreamError::Buffer { expected, found })?;
        let place = if self.layout.is_last(segment) { Place::Last } else { Place::Inner };
        if self.cipher.open(segment, place, sealed, plain).is_some() {
            self.opened.store(true, Ordering::Relaxed);
            return Ok(expected);
        }
        Err(match self.opened.load(Ordering::Relaxed) {
            true => StreamError::Corrupt { segment },
            false => StreamError::WrongKeyOrFile,
        })
    }

    /// Turns the plaintext of a segment back into its ciphertext and tag, so that plaintext which was kept can be
    /// compared with digest and root of the stream.
    ///
    /// The result is for hashing only: if the plaintext was changed meanwhile, ciphertext and stream together would
    /// give both away.
    pub fn seal_again(&self, segment: u32, plain: &mut Vec<u8>) -> Result<(), StreamError> {
        let segments = self.layout.segments();
        let range = self.layout.plain_range(segment).ok_or(StreamError::NoSegment { segment, segments })?;
        let (expected, found) = (range.end.saturating_sub(range.start), plain.len());
        if expected != found as u64 {
            return Err(StreamError::Size { expected, found: found as u64 });
        }
        let place = if self.layout.is_last(segment) { Place::Last } else { Place::Inner };
        let tag = self.cipher.seal(segment, place, plain)?;
        plain.extend_from_slice(&tag);
        Ok(())
    }
}

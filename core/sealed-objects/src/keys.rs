//! From the data key to the keys of names and contents, and what each stream is about.

use aws_lc_rs::{hkdf, hmac};
use coffer_core_sealed_stream::{AssociatedData, Key, SegmentSealer, StreamError};
use zeroize::Zeroizing;

use crate::bound::SEGMENT;
use crate::{ObjectError, ObjectName, PartId};

const SALT: &[u8] = b"coffer sealed-objects v1";

/// The keys under one data key. Buckets may share them.
pub struct ObjectKeys {
    pub(crate) content: Key,
    /// Authenticates names.
    pub(crate) siv: hmac::Key,
    /// Encrypts names.
    pub(crate) ctr: Zeroizing<[u8; 32]>,
}

struct Length;

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        32
    }
}

impl ObjectKeys {
    /// HKDF-SHA256 (RFC 5869), one key for each use.
    pub fn derive(key: &Key) -> Result<Self, ObjectError> {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, SALT);
        let own = salt.extract(key.expose());
        let derived = |info: &[u8]| {
            let mut bytes = Zeroizing::new([0; 32]);
            own.expand(&[info], Length)
                .and_then(|material| material.fill(bytes.as_mut_slice()))
                .map_err(|_| ObjectError::Stream(StreamError::Provider("HKDF")))?;
            Ok::<_, ObjectError>(bytes)
        };
        Ok(Self {
            content: Key::new(*derived(b"content")?),
            siv: hmac::Key::new(hmac::HMAC_SHA256, derived(b"names, authenticated")?.as_slice()),
            ctr: derived(b"names, encrypted")?,
        })
    }

    /// Seals an object that is written in one piece.
    pub fn object(&self, name: &ObjectName) -> Result<SegmentSealer, ObjectError> {
        Ok(SegmentSealer::new(&self.content, &about_object(name), SEGMENT)?)
    }

    /// Seals a part of an upload.
    pub fn part(&self, name: &ObjectName, id: &PartId) -> Result<SegmentSealer, ObjectError> {
        Ok(SegmentSealer::new(&self.content, &about_part(name, id), SEGMENT)?)
    }
}

fn about(what: &str, name: &ObjectName) -> AssociatedData {
    let (bucket, key) = (name.bucket(), name.key());
    // A bucket's name has no zero byte, so no two names give the same bytes.
    AssociatedData::foreign(format!("coffer sealed-object v1 {what}\0{bucket}\0{key}").as_bytes())
}

pub(crate) fn about_object(name: &ObjectName) -> AssociatedData {
    about("object", name)
}

pub(crate) fn about_part(name: &ObjectName, id: &PartId) -> AssociatedData {
    about(&format!("part {id}"), name)
}

pub(crate) fn about_index(name: &ObjectName) -> AssociatedData {
    about("index", name)
}

pub(crate) fn about_metadata(name: &ObjectName) -> AssociatedData {
    about("metadata", name)
}

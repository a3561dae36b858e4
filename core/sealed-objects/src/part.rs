//! One part of an upload: its name, which no other part has, and its size.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::rand;
use coffer_core_sealed_stream::{Layout, StreamError};

use crate::ObjectError;
use crate::bound::{LEAST_PART, SEGMENT};

const ID: usize = 16;

/// 16 random bytes that name a part of one upload and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PartId([u8; ID]);

impl PartId {
    /// A new one.
    pub fn random() -> Result<Self, ObjectError> {
        let mut bytes = [0; ID];
        rand::fill(&mut bytes).map_err(|_| ObjectError::Stream(no_randomness()))?;
        Ok(Self(bytes))
    }

    pub(crate) const fn as_bytes(&self) -> &[u8; ID] {
        &self.0
    }

    /// One that was chosen before: parts that are sealed under one id can be exchanged.
    #[must_use]
    pub const fn insecure_from(bytes: [u8; ID]) -> Self {
        Self(bytes)
    }
}

fn no_randomness() -> StreamError {
    StreamError::Provider("the random source")
}

impl fmt::Display for PartId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// One part as it was uploaded: what its sealer gives to the client, who gives it back when the upload is completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Which stream it is.
    pub id: PartId,
    /// Bytes of plaintext.
    pub size: u64,
}

impl Part {
    /// The bytes that a store has of it: the stream, and zeros up to the least that a store takes.
    pub fn stored(&self) -> Result<u64, ObjectError> {
        Ok(Layout::new(SEGMENT, self.size)?.sealed_size().max(LEAST_PART))
    }
}

/// `ID-SIZE`, both hexadecimal.
impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:x}", self.id, self.size)
    }
}

impl FromStr for Part {
    type Err = ObjectError;

    fn from_str(text: &str) -> Result<Self, ObjectError> {
        let refused = || ObjectError::Index("a part's tag is not one of ours");
        let (id, size) = text.split_once('-').ok_or_else(refused)?;
        let mut bytes = [0; ID];
        hex::decode_to_slice(id, &mut bytes).map_err(|_| refused())?;
        let own = Self { id: PartId(bytes), size: u64::from_str_radix(size, 16).map_err(|_| refused())? };
        if own.to_string() == text { Ok(own) } else { Err(refused()) }
    }
}

//! The name of an artifact, which keeps its files apart from those of every other one.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::rand;
use coffer_core_secret::NoRandomness;

use crate::ArtifactError;

/// 16 random bytes, chosen when an artifact is sealed; 32 lower-case hexadecimal digits in text. It is public.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArtifactId([u8; 16]);

impl ArtifactId {
    /// A new one.
    pub fn random() -> Result<Self, NoRandomness> {
        let mut bytes = [0; 16];
        rand::fill(&mut bytes).map_err(|_| NoRandomness)?;
        Ok(Self(bytes))
    }

    /// One that was chosen before: what this seals can be exchanged with what was sealed under it then.
    #[must_use]
    pub const fn insecure_from(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for ArtifactId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for ArtifactId {
    type Err = ArtifactError;

    fn from_str(text: &str) -> Result<Self, ArtifactError> {
        let refused = || ArtifactError::Form {
            what: "artifact's id",
            why: format!("found {:?}, expected 32 lower-case hexadecimal digits", crate::path::shown(text)),
        };
        let mut bytes = [0; 16];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| refused())?;
        let own = Self(bytes);
        // Upper-case digits would be a second form of one name.
        if own.to_string() == text { Ok(own) } else { Err(refused()) }
    }
}

//! What is decided about a wrapping key when it is created.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{WrapError, most};

/// How many attributes a key may have.
pub const MAX_ATTRIBUTES: usize = 32;
/// How long a description, an attribute's name and its value may be, in bytes.
pub const MAX_TEXT: usize = 1024;

/// Whether the holder of a token is given plaintext data keys, which TLS alone protects on their way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlaintextOverTls {
    /// Only an attested guest is, encrypted to its own key.
    #[default]
    Refused,
    /// The holder of a token is.
    InsecureAllowed,
}

/// Whether the key may be deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deletion {
    /// Not now.
    #[default]
    Refused,
    /// It may.
    Allowed,
}

/// Whether each context has its own key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Derivation {
    /// One key for all; a context is associated data.
    #[default]
    None,
    /// A key for each context, which every call must bring.
    ByContext,
}

/// How long the data keys are that Hadoop's calls generate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub enum DataKeyBits {
    /// 128.
    Bits128,
    /// 192.
    Bits192,
    /// 256.
    #[default]
    Bits256,
}

impl From<DataKeyBits> for u32 {
    fn from(bits: DataKeyBits) -> Self {
        match bits {
            DataKeyBits::Bits128 => 128,
            DataKeyBits::Bits192 => 192,
            DataKeyBits::Bits256 => 256,
        }
    }
}

impl DataKeyBits {
    /// The length in bytes.
    pub fn bytes(self) -> usize {
        match self {
            Self::Bits128 => 16,
            Self::Bits192 => 24,
            Self::Bits256 => 32,
        }
    }
}

impl TryFrom<u32> for DataKeyBits {
    type Error = WrapError;

    fn try_from(bits: u32) -> Result<Self, WrapError> {
        match bits {
            128 => Ok(Self::Bits128),
            192 => Ok(Self::Bits192),
            256 => Ok(Self::Bits256),
            _ => Err(WrapError::Option {
                what: "the length of data keys in bits",
                found: bits.to_string(),
                expected: "128, 192 or 256",
            }),
        }
    }
}

/// What is decided when a key is created.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyOptions {
    /// For people.
    #[serde(default)]
    pub description: String,
    /// For clients, which read them back.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    /// How long Hadoop's data keys are.
    #[serde(default)]
    pub data_key_bits: DataKeyBits,
    /// Whether each context has its own key. Never changes.
    #[serde(default)]
    pub derivation: Derivation,
    /// Whether the holder of a token is given plaintext. Never changes.
    #[serde(default)]
    pub plaintext_over_tls: PlaintextOverTls,
    /// Whether the key may be deleted.
    #[serde(default)]
    pub deletion: Deletion,
}

impl KeyOptions {
    pub(crate) fn check(&self) -> Result<(), WrapError> {
        most("the description in bytes", self.description.len(), MAX_TEXT)?;
        most("the number of attributes", self.attributes.len(), MAX_ATTRIBUTES)?;
        self.attributes.iter().try_for_each(|(name, value)| {
            most("an attribute's name in bytes", name.len(), MAX_TEXT)?;
            most("an attribute's value in bytes", value.len(), MAX_TEXT)
        })
    }
}

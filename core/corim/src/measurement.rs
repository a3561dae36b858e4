//! Measurements: what is measured, and the values that it should have (draft-ietf-rats-corim, section 5.1.4.1.5).

use coffer_core_cose::cbor::{Map, Value};
use coffer_core_digest::{Algorithm, Digest};

use crate::error::CorimError;
use crate::fields::{self, optional, part, required, text};

const TAG_UUID: u64 = 37;
const TAG_SVN: u64 = 552;
const TAG_MIN_SVN: u64 = 553;
const TAG_BYTES: u64 = 560;
const TAG_MASKED: u64 = 563;

/// What is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// A name.
    Text(String),
    /// A number.
    Number(u64),
    /// A UUID.
    Uuid([u8; 16]),
    /// Something that another profile defines.
    Other(Value),
}

/// A hash algorithm as a document names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashName {
    /// By its number (IANA, "Named Information Hash Algorithm").
    Number(i64),
    /// By a name.
    Text(String),
}

/// A digest as a document has it, of any algorithm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hash {
    /// The algorithm.
    pub algorithm: HashName,
    /// The value.
    pub value: Vec<u8>,
}

/// A security version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Svn {
    /// Exactly this.
    Exactly(u64),
    /// This or more.
    AtLeast(u64),
}

/// A value as bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw {
    /// The bytes.
    pub value: Vec<u8>,
    /// Which of their bits count; none if all do.
    pub mask: Option<Vec<u8>>,
}

/// One thing that is measured, with the values that it should have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Measurement {
    /// What is measured; none where the environment says it all.
    pub key: Option<Key>,
    /// Its version.
    pub version: Option<String>,
    /// Its security version.
    pub svn: Option<Svn>,
    /// Its digests.
    pub digests: Vec<Hash>,
    /// Its value as bytes.
    pub raw: Option<Raw>,
    /// Its serial number.
    pub serial_number: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// Registers by number or name.
    pub registers: Vec<(Value, Vec<Hash>)>,
}

impl Hash {
    /// A digest in its document form.
    pub fn of(digest: &Digest) -> Self {
        let algorithm = match digest.algorithm() {
            Algorithm::Sha256 => HashName::Number(1),
            Algorithm::Sha384 => HashName::Number(7),
            Algorithm::Sha512 => HashName::Number(8),
            // No numbers are registered for the others.
            other => HashName::Text(other.name().to_owned()),
        };
        Self { algorithm, value: digest.as_bytes().to_vec() }
    }

    /// The digest, if the algorithm is known and the value has its length.
    pub fn digest(&self) -> Option<Digest> {
        let algorithm = match &self.algorithm {
            HashName::Number(1) => Algorithm::Sha256,
            HashName::Number(7) => Algorithm::Sha384,
            HashName::Number(8) => Algorithm::Sha512,
            HashName::Number(_) => return None,
            HashName::Text(name) => name.parse().ok()?,
        };
        Digest::from_bytes(algorithm, &self.value).ok()
    }

    fn parse(value: &Value) -> Option<Self> {
        let [algorithm, value] = value.as_array()? else { return None };
        let algorithm = match (algorithm.as_i64(), algorithm.as_text()) {
            (Some(number), _) => HashName::Number(number),
            (_, Some(name)) => HashName::Text(name.to_owned()),
            _ => return None,
        };
        Some(Self { algorithm, value: value.as_bytes()?.to_vec() })
    }

    fn list(value: &Value) -> Option<Vec<Self>> {
        let items = value.as_array().filter(|items| !items.is_empty())?;
        // Some writers leave the list out around a single digest.
        match Self::parse(value) {
            Some(one) => Some(vec![one]),
            None => items.iter().map(Self::parse).collect(),
        }
    }

    fn to_value(&self) -> Value {
        let algorithm = match &self.algorithm {
            HashName::Number(number) => (*number).into(),
            HashName::Text(name) => name.as_str().into(),
        };
        Value::Array(vec![algorithm, self.value.as_slice().into()])
    }

    fn values(list: &[Self]) -> Value {
        Value::Array(list.iter().map(Self::to_value).collect())
    }
}

impl Key {
    fn parse(value: &Value) -> Self {
        let uuid = |inner: &Value| inner.as_bytes().and_then(|bytes| bytes.try_into().ok());
        match value {
            Value::Text(name) => Self::Text(name.clone()),
            Value::Unsigned(number) => Self::Number(*number),
            Value::Tag(TAG_UUID, inner) => uuid(inner).map_or_else(|| Self::Other(value.clone()), Self::Uuid),
            other => Self::Other(other.clone()),
        }
    }

    fn to_value(&self) -> Value {
        match self {
            Self::Text(name) => name.as_str().into(),
            Self::Number(number) => (*number).into(),
            Self::Uuid(bytes) => Value::tag(TAG_UUID, &bytes[..]),
            Self::Other(value) => value.clone(),
        }
    }
}

impl Svn {
    fn parse(value: &Value) -> Option<Self> {
        match value.as_tag() {
            None => value.as_u64().map(Self::Exactly),
            Some((TAG_SVN, inner)) => inner.as_u64().map(Self::Exactly),
            Some((TAG_MIN_SVN, inner)) => inner.as_u64().map(Self::AtLeast),
            Some(_) => None,
        }
    }

    fn to_value(self) -> Value {
        match self {
            Self::Exactly(number) => Value::tag(TAG_SVN, number),
            Self::AtLeast(number) => Value::tag(TAG_MIN_SVN, number),
        }
    }
}

impl Measurement {
    /// A measurement of something that has a name.
    pub fn named(name: impl Into<String>) -> Self {
        Self { key: Some(Key::Text(name.into())), ..Self::default() }
    }

    pub(crate) fn parse(value: &Value) -> Result<Self, CorimError> {
        let outer = fields::map("measurement", value)?;
        let values = required(outer, 1, "measurement values", "a map that is not empty", |value| {
            value.as_map().filter(|map| !map.is_empty())
        })?;
        Ok(Self {
            key: outer.at(0).map(Key::parse),
            version: optional(values, 0, "version", "a map with a text", |value| {
                value.as_map()?.at(0).and_then(text)
            })?,
            svn: optional(values, 1, "svn", "a number, exact or least", Svn::parse)?,
            digests: optional(values, 2, "digests", "a list of algorithm and bytes", Hash::list)?
                .unwrap_or_default(),
            raw: raw(values)?,
            serial_number: optional(values, 8, "serial number", "a text", text)?,
            name: optional(values, 11, "name", "a text", text)?,
            registers: part(values, 14, registers)?.unwrap_or_default(),
        })
    }

    pub(crate) fn to_value(&self) -> Value {
        let mut values = Map::new();
        if let Some(version) = &self.version {
            values.insert(0, Map::new().with(0, version.as_str()));
        }
        if let Some(svn) = self.svn {
            values.insert(1, svn.to_value());
        }
        if !self.digests.is_empty() {
            values.insert(2, Hash::values(&self.digests));
        }
        if let Some(Raw { value: bytes, mask }) = &self.raw {
            let masked = |mask: &Vec<u8>| {
                Value::tag(TAG_MASKED, Value::Array(vec![bytes.as_slice().into(), mask.as_slice().into()]))
            };
            values.insert(4, mask.as_ref().map_or_else(|| Value::tag(TAG_BYTES, bytes.as_slice()), masked));
        }
        for (key, value) in [(8, &self.serial_number), (11, &self.name)] {
            if let Some(value) = value {
                values.insert(key, value.as_str());
            }
        }
        if !self.registers.is_empty() {
            let each =
                |map: Map, (key, hashes): &(Value, Vec<Hash>)| map.with(key.clone(), Hash::values(hashes));
            values.insert(14, self.registers.iter().fold(Map::new(), each));
        }
        let map = Map::new().with(1, values);
        match &self.key {
            Some(key) => map.with(0, key.to_value()),
            None => map,
        }
        .into()
    }
}

/// Bytes under a tag; the mask inside it, or beside it as older drafts have it. Other kinds are skipped.
fn raw(values: &Map) -> Result<Option<Raw>, CorimError> {
    let bytes = |value: &Value| value.as_bytes().map(<[u8]>::to_vec);
    let beside = optional(values, 5, "raw value mask", "bytes", bytes)?;
    Ok(match values.at(4).and_then(Value::as_tag) {
        Some((TAG_BYTES, inner)) => bytes(inner).map(|value| Raw { value, mask: beside }),
        Some((TAG_MASKED, inner)) => match inner.as_array() {
            Some([value, mask]) => bytes(value).map(|value| Raw { value, mask: bytes(mask) }),
            _ => None,
        },
        _ => None,
    })
}

fn registers(value: &Value) -> Result<Vec<(Value, Vec<Hash>)>, CorimError> {
    let map = fields::map("integrity registers", value)?;
    let each = |(key, value): (&Value, &Value)| {
        let hashes = Hash::list(value).filter(|_| key.as_u64().is_some() || key.as_text().is_some());
        let wrong =
            || CorimError::form("integrity registers", "lists of digests by number or text", Some(value));
        hashes.map(|hashes| (key.clone(), hashes)).ok_or_else(wrong)
    };
    map.iter().map(each).collect()
}

//! The document: identifier, profile, validity, and the modules' statements (draft-ietf-rats-corim, section 4.1).

use coffer_core_cose::cbor::{self, Map, Value};

use crate::comid::Comid;
use crate::entity::Entity;
use crate::error::CorimError;
use crate::fields::{self, identifier, of_time, of_uri, optional, part, required, time, uri};

/// Any CoRIM, in older drafts.
pub(crate) const TAG_ANY: u64 = 500;
/// An unsigned CoRIM.
pub(crate) const TAG_UNSIGNED: u64 = 501;
/// A signed CoRIM, in older drafts.
pub(crate) const TAG_SIGNED: u64 = 502;
/// A CoMID.
const TAG_COMID: u64 = 506;

/// When a document, or a signature, is valid, in seconds since 1970. Both ends belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// From when.
    pub not_before: Option<i64>,
    /// Until when.
    pub not_after: i64,
}

/// A document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Corim {
    /// Its identifier; a UUID as people write it.
    pub id: String,
    /// The profiles that say what its names mean: URIs, or OIDs in hexadecimal.
    pub profiles: Vec<String>,
    /// When its values hold.
    pub validity: Option<Validity>,
    /// Who is responsible for it.
    pub entities: Vec<Entity>,
    /// The modules' statements.
    pub modules: Vec<Comid>,
    /// How many other tags there were.
    pub skipped: usize,
}

impl Corim {
    /// Reads an unsigned document.
    pub fn parse(bytes: &[u8]) -> Result<Self, CorimError> {
        if bytes.len() > crate::MAX_CORIM {
            return Err(CorimError::TooLong(bytes.len()));
        }
        match unwrapped(cbor::decode(bytes)?) {
            Value::Tag(TAG_UNSIGNED, inner) => Self::of(fields::map("CoRIM", &inner)?),
            Value::Tag(TAG_SIGNED | 18, _) => Err(CorimError::Signed),
            other => Err(CorimError::form("CoRIM", "tag 501", Some(&other))),
        }
    }

    fn of(map: &Map) -> Result<Self, CorimError> {
        let tags = required(map, 1, "tags", "a list that is not empty", |value| {
            value.as_array().filter(|tags| !tags.is_empty())
        })?;
        let (mut modules, mut skipped) = (Vec::new(), 0_usize);
        for tag in tags {
            match tag {
                Value::Tag(TAG_COMID, inner) => {
                    let wrong = || CorimError::form("CoMID", "bytes under tag 506", Some(inner));
                    modules.push(Comid::parse(inner.as_bytes().ok_or_else(wrong)?)?);
                }
                _ => skipped = skipped.saturating_add(1),
            }
        }
        Ok(Self {
            id: required(map, 0, "id", "a text or a UUID", identifier)?,
            profiles: optional(map, 3, "profile", "a URI or an OID", profiles)?.unwrap_or_default(),
            validity: part(map, 4, Validity::parse)?,
            entities: part(map, 5, Entity::list)?.unwrap_or_default(),
            modules,
            skipped,
        })
    }

    /// Writes an unsigned document.
    pub fn to_bytes(&self) -> Vec<u8> {
        let module = |module: &Comid| Value::tag(TAG_COMID, module.to_bytes());
        let modules = Value::Array(self.modules.iter().map(module).collect());
        let mut map = Map::new().with(0, self.id.as_str()).with(1, modules);
        match self.profiles.as_slice() {
            [] => {}
            [one] => drop(map.insert(3, of_uri(one))),
            several => drop(map.insert(3, Value::Array(several.iter().map(|one| of_uri(one)).collect()))),
        }
        if let Some(validity) = self.validity {
            map.insert(4, validity.to_value());
        }
        if !self.entities.is_empty() {
            map.insert(5, Value::Array(self.entities.iter().map(Entity::to_value).collect()));
        }
        cbor::encode(&Value::tag(TAG_UNSIGNED, map))
    }
}

/// Without the tags that older drafts put around both kinds.
pub(crate) fn unwrapped(value: Value) -> Value {
    match value {
        Value::Tag(TAG_ANY, inner) => *inner,
        other => other,
    }
}

fn profiles(value: &Value) -> Option<Vec<String>> {
    // An OID (RFC 9090), which nobody needs but for a message.
    let oid = |value: &Value| match value.as_tag() {
        Some((111, inner)) => inner.as_bytes().map(hex::encode),
        _ => None,
    };
    let one = |value: &Value| uri(value).or_else(|| oid(value));
    match value.as_array() {
        Some(list) => list.iter().map(one).collect(),
        None => one(value).map(|one| vec![one]),
    }
}

impl Validity {
    pub(crate) fn parse(value: &Value) -> Result<Self, CorimError> {
        let map = fields::map("validity", value)?;
        Ok(Self {
            not_before: optional(map, 0, "not before", "a time", time)?,
            not_after: required(map, 1, "not after", "a time", time)?,
        })
    }

    pub(crate) fn to_value(self) -> Value {
        let map = Map::new().with(1, of_time(self.not_after));
        match self.not_before {
            Some(from) => map.with(0, of_time(from)),
            None => map,
        }
        .into()
    }

    /// Whether a time, in seconds since 1970, is within.
    pub fn holds_at(&self, seconds: i64) -> bool {
        self.not_before.is_none_or(|from| from <= seconds) && seconds <= self.not_after
    }
}

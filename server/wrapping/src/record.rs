//! The record of a key, which the store seals: `1 || length (4) || header || bytes of the versions (32 each)`.
//!
//! The header is JSON and has no secret in it, so that no secret passes through a JSON writer's buffers. After it
//! come the bytes of each version that is not destroyed, first to latest, and nothing more.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coffer_core_secret::{Secret, SecretBytes};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::key::Version;
use crate::{KeyName, KeyOptions, MAX_USES, MAX_VERSIONS, Moment, VersionState, WrapError, WrappingKey};

const FORM: u8 = 1;
const LONGEST: usize = 1 << 20;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    id: String,
    name: String,
    options: KeyOptions,
    min_decryption_version: u32,
    min_encryption_version: u32,
    versions: Vec<HeaderVersion>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderVersion {
    created_at_ms: u64,
    state: VersionState,
    uses: u64,
}

impl WrappingKey {
    /// Writes the record.
    pub fn to_bytes(&self) -> Result<SecretBytes, WrapError> {
        let header = Header {
            id: URL_SAFE_NO_PAD.encode(self.id),
            name: self.name.as_str().to_string(),
            options: self.options.clone(),
            min_decryption_version: self.min_decryption_version,
            min_encryption_version: self.min_encryption_version,
            versions: self
                .versions
                .iter()
                .map(|version| HeaderVersion {
                    created_at_ms: version.created_at.0,
                    state: version.state,
                    uses: version.uses,
                })
                .collect(),
        };
        let damaged = |why| WrapError::Damaged { name: self.name.clone(), why };
        let header = serde_json::to_vec(&header).map_err(|_| damaged("its header cannot be written"))?;
        let length = u32::try_from(header.len()).map_err(|_| damaged("its header is too long"))?;
        let materials = || self.versions.iter().filter_map(|version| version.material.as_ref());
        // All at once, because a buffer that grows leaves copies behind.
        let capacity = header.len().saturating_add(materials().count().saturating_mul(32)).saturating_add(5);
        let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
        bytes.push(FORM);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&header);
        materials().for_each(|material| bytes.extend_from_slice(material.expose()));
        Ok(SecretBytes::new(std::mem::take(&mut *bytes)))
    }

    /// Reads the record of the key of this name.
    pub fn from_bytes(name: &KeyName, record: &[u8]) -> Result<Self, WrapError> {
        parse(name, record).map_err(|why| WrapError::Damaged { name: name.clone(), why })
    }
}

fn parse(name: &KeyName, record: &[u8]) -> Result<WrappingKey, &'static str> {
    if record.len() > LONGEST {
        return Err("it is too long");
    }
    let (form, rest) = record.split_first().ok_or("it is empty")?;
    if *form != FORM {
        return Err("it has a form that this program does not know");
    }
    let (length, rest) = rest.split_first_chunk::<4>().ok_or("it is cut off")?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| "its header is too long")?;
    let (header, materials) = rest.split_at_checked(length).ok_or("it is cut off")?;
    let header: Header = serde_json::from_slice(header).map_err(|_| "its header is not valid")?;
    if header.name != name.as_str() {
        return Err("it belongs to another name");
    }
    header.options.check().map_err(|_| "its options are not valid")?;
    let id = URL_SAFE_NO_PAD
        .decode(&header.id)
        .ok()
        .and_then(|id| id.try_into().ok())
        .ok_or("its id is not one")?;
    let latest = header.versions.len();
    let within = |version: u32| usize::try_from(version).is_ok_and(|version| version <= latest);
    if latest == 0
        || latest > MAX_VERSIONS
        || header.min_decryption_version == 0
        || !within(header.min_decryption_version)
        || !within(header.min_encryption_version)
    {
        return Err("its versions are not valid");
    }
    let (materials, rest) = materials.as_chunks::<32>();
    if !rest.is_empty() {
        return Err("its keys are cut off");
    }
    let mut materials = materials.iter();
    let mut versions = Vec::with_capacity(latest);
    for version in header.versions {
        if version.uses > MAX_USES {
            return Err("a version was used too often");
        }
        let material = match version.state {
            VersionState::Destroyed => None,
            _ => Some(Secret::new(*materials.next().ok_or("a version has no key")?)),
        };
        let created_at = Moment(version.created_at_ms);
        versions.push(Version { created_at, state: version.state, uses: version.uses, material });
    }
    match materials.next() {
        Some(_) => Err("it has more keys than versions"),
        None => Ok(WrappingKey {
            id,
            name: name.clone(),
            options: header.options,
            min_decryption_version: header.min_decryption_version,
            min_encryption_version: header.min_encryption_version,
            versions,
        }),
    }
}

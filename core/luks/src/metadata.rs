//! The metadata (specification, section 3): JSON with objects by number, and long numbers as decimal texts.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::slot::{AREA, AREA_OFFSET, Derivation, MAX_ITERATIONS, STRIPES, Slot};
use crate::{DATA_OFFSET, KEY, LuksError};

/// What an area takes: whole blocks of 4096 bytes.
const AREA_ROOM: u64 = 258_048;
const CIPHER: &str = "aes-xts-plain64";
/// The type of the token with the key's address.
const TOKEN: &str = "coffer";
/// More key slots are not read; cryptsetup has 32.
const MAX_SLOTS: usize = 32;
/// Areas and data are not looked for beyond this: 8 EiB.
const MAX_OFFSET: u64 = 1 << 63;

/// What the metadata says, as far as it is read here.
#[derive(Clone, Debug)]
pub(crate) struct Metadata {
    whole: Whole,
    offset: u64,
    sector_size: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Whole {
    keyslots: BTreeMap<String, Value>,
    #[serde(default)]
    tokens: BTreeMap<String, Value>,
    segments: BTreeMap<String, Segment>,
    digests: BTreeMap<String, Value>,
    config: Config,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Config {
    json_size: String,
    keyslots_size: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    requirements: Vec<Value>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Segment {
    #[serde(rename = "type")]
    kind: String,
    offset: String,
    size: String,
    iv_tweak: String,
    encryption: String,
    sector_size: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    integrity: Option<Value>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    flags: Vec<String>,
}

#[derive(Deserialize)]
struct Keyslot {
    key_size: usize,
    af: Splitter,
    area: Area,
    kdf: Value,
}

#[derive(Deserialize)]
struct Splitter {
    #[serde(rename = "type")]
    kind: String,
    stripes: usize,
    hash: String,
}

#[derive(Deserialize)]
struct Area {
    #[serde(rename = "type")]
    kind: String,
    offset: String,
    size: String,
    encryption: String,
    key_size: usize,
}

#[derive(Deserialize)]
struct Rounds {
    hash: String,
    iterations: u32,
    salt: String,
}

#[derive(Deserialize)]
struct Checked {
    #[serde(rename = "type")]
    kind: String,
    keyslots: Vec<String>,
    segments: Vec<String>,
    digest: String,
    #[serde(flatten)]
    rounds: Rounds,
}

impl Metadata {
    /// Of a new volume.
    pub(crate) fn new(slot: &Slot, key_address: Option<&str>) -> Self {
        let rounds = |of: &Derivation| json!({"type": "pbkdf2", "hash": "sha256", "iterations": of.iterations, "salt": STANDARD.encode(&of.salt)});
        let keyslot = json!({
            "type": "luks2", "key_size": KEY,
            "af": {"type": "luks1", "stripes": STRIPES, "hash": "sha256"},
            "area": {"type": "raw", "offset": AREA_OFFSET.to_string(), "size": AREA_ROOM.to_string(),
                "encryption": CIPHER, "key_size": KEY},
            "kdf": rounds(&slot.derivation),
        });
        let mut digest = rounds(&slot.check);
        if let Some(members) = digest.as_object_mut() {
            members.insert("keyslots".into(), json!(["0"]));
            members.insert("segments".into(), json!(["0"]));
            members.insert("digest".into(), STANDARD.encode(&slot.digest).into());
        }
        let token = key_address.map(|address| json!({"type": TOKEN, "keyslots": ["0"], "key": address}));
        let one = |value: Value| BTreeMap::from([("0".to_owned(), value)]);
        let segment = Segment {
            kind: "crypt".into(),
            offset: DATA_OFFSET.to_string(),
            size: "dynamic".into(),
            iv_tweak: "0".into(),
            encryption: CIPHER.into(),
            sector_size: 4096,
            integrity: None,
            flags: Vec::new(),
        };
        let whole = Whole {
            keyslots: one(keyslot),
            tokens: token.map(one).unwrap_or_default(),
            segments: BTreeMap::from([("0".to_owned(), segment)]),
            digests: one(digest),
            config: Config {
                json_size: "12288".into(),
                keyslots_size: DATA_OFFSET.saturating_sub(AREA_OFFSET).to_string(),
                requirements: Vec::new(),
            },
        };
        Self { whole, offset: DATA_OFFSET, sector_size: 4096 }
    }

    pub(crate) fn to_json(&self) -> Result<Vec<u8>, LuksError> {
        serde_json::to_vec(&self.whole).map_err(|error| LuksError::Malformed(error.to_string()))
    }

    /// Reads what a checksum covered.
    pub(crate) fn parse(area: &[u8]) -> Result<Self, LuksError> {
        let text = area.split(|byte| *byte == 0).next().unwrap_or_default();
        let whole: Whole =
            serde_json::from_slice(text).map_err(|error| LuksError::Malformed(error.to_string()))?;
        if !whole.config.requirements.is_empty() {
            let found = "requirements, as a volume has that is being reencrypted".into();
            return Err(LuksError::Unsupported { expected: "none", found });
        }
        let segments: Vec<&Segment> = whole.segments.values().collect();
        let [segment] = segments.as_slice() else {
            let found = format!("{} data segments", segments.len());
            return Err(LuksError::Unsupported { expected: "one", found });
        };
        let form = (segment.kind.as_str(), segment.encryption.as_str(), segment.iv_tweak.as_str());
        let plain = segment.size == "dynamic" && segment.integrity.is_none() && segment.flags.is_empty();
        if form != ("crypt", CIPHER, "0") || !plain || !matches!(segment.sector_size, 512 | 4096) {
            let found =
                format!("a data segment of {} with {}", short(&segment.encryption), short(&segment.kind));
            return Err(LuksError::Unsupported {
                expected: "crypt, aes-xts-plain64, to the device's end",
                found,
            });
        }
        let (offset, sector_size) = (number(&segment.offset)?, segment.sector_size);
        if !offset.is_multiple_of(4096) || offset < AREA_OFFSET {
            return Err(LuksError::Malformed(format!("its data begins at byte {offset}")));
        }
        Ok(Self { whole, offset, sector_size })
    }

    /// The slots that can be opened here.
    pub(crate) fn slots(&self) -> Result<Vec<Slot>, LuksError> {
        let mut slots = Vec::new();
        let mut refusal = None;
        for (number, value) in self.whole.keyslots.iter().take(MAX_SLOTS) {
            match self.slot(number, value) {
                Ok(slot) => slots.push(slot),
                Err(error) => refusal = Some(error),
            }
        }
        match (slots.is_empty(), refusal) {
            (true, Some(error)) => Err(error),
            (true, None) => Err(LuksError::Malformed("it has no key slot".into())),
            _ => Ok(slots),
        }
    }

    fn slot(&self, name: &str, value: &Value) -> Result<Slot, LuksError> {
        let malformed =
            |error: serde_json::Error| LuksError::Malformed(format!("key slot {}: {error}", short(name)));
        let unsupported = |found: String| LuksError::Unsupported {
            expected: "a key slot of luks2 with pbkdf2 and sha256 (`cryptsetup luksConvertKey --pbkdf pbkdf2 --hash sha256`)",
            found,
        };
        let kind = |value: &Value| value.get("type").and_then(Value::as_str).map(short).unwrap_or_default();
        if kind(value) != "luks2" {
            return Err(unsupported(format!("a key slot of {:?}", kind(value))));
        }
        let keyslot = Keyslot::deserialize(value).map_err(malformed)?;
        if kind(&keyslot.kdf) != "pbkdf2" {
            return Err(unsupported(format!("a key slot with {:?}", kind(&keyslot.kdf))));
        }
        let Area { offset, size, .. } = &keyslot.area;
        let (offset, size) = (number(offset)?, number(size)?);
        let form = (keyslot.af.kind.as_str(), keyslot.af.hash.as_str(), keyslot.area.kind.as_str());
        let lengths = (keyslot.key_size, keyslot.area.key_size, keyslot.af.stripes);
        if form != ("luks1", "sha256", "raw")
            || lengths != (KEY, KEY, STRIPES)
            || keyslot.area.encryption != CIPHER
        {
            return Err(unsupported(format!(
                "a key slot with {} and {}",
                short(&keyslot.area.encryption),
                short(&keyslot.af.hash)
            )));
        }
        if size < AREA as u64 || offset.saturating_add(size) > self.offset {
            return Err(LuksError::Malformed(format!("key slot {} is where data is", short(name))));
        }
        let rounds = Rounds::deserialize(&keyslot.kdf).map_err(malformed)?;
        let checked = self.whole.digests.values().filter_map(|value| Checked::deserialize(value).ok());
        let mut checked =
            checked.filter(|one| one.keyslots.iter().any(|slot| slot == name) && !one.segments.is_empty());
        let check = checked
            .next()
            .ok_or_else(|| LuksError::Malformed(format!("key slot {} has no digest", short(name))))?;
        if check.kind != "pbkdf2" {
            return Err(unsupported(format!("a digest of {}", short(&check.kind))));
        }
        let digest = STANDARD.decode(&check.digest).ok().filter(|digest| digest.len() == 32);
        Ok(Slot {
            derivation: derivation(&rounds)?,
            offset,
            check: derivation(&check.rounds)?,
            digest: digest.ok_or_else(|| LuksError::Malformed("a digest is not 32 bytes".into()))?,
        })
    }

    pub(crate) fn data_offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn sector_size(&self) -> u32 {
        self.sector_size
    }

    pub(crate) fn key_address(&self) -> Option<&str> {
        let of_ours = |token: &&Value| token.get("type").and_then(Value::as_str) == Some(TOKEN);
        self.whole.tokens.values().find(of_ours)?.get("key")?.as_str()
    }
}

fn derivation(rounds: &Rounds) -> Result<Derivation, LuksError> {
    if rounds.hash != "sha256" {
        let found = format!("pbkdf2 with {}", short(&rounds.hash));
        return Err(LuksError::Unsupported { expected: "pbkdf2 with sha256", found });
    }
    if !(1..=MAX_ITERATIONS).contains(&rounds.iterations) {
        return Err(LuksError::Malformed(format!("{} rounds of PBKDF2", rounds.iterations)));
    }
    let salt = STANDARD.decode(&rounds.salt).ok().filter(|salt| salt.len() <= 128);
    let salt =
        salt.ok_or_else(|| LuksError::Malformed("a salt is not base64 of at most 128 bytes".into()))?;
    Ok(Derivation { salt, iterations: rounds.iterations })
}

fn number(text: &str) -> Result<u64, LuksError> {
    let number = text.parse().ok().filter(|number| *number < MAX_OFFSET);
    number.ok_or_else(|| LuksError::Malformed(format!("{:?} is no number of bytes", short(text))))
}

fn short(text: &str) -> String {
    text.chars().take(64).collect()
}

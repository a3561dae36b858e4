//! Our profile: one set of reference values as one document.
//!
//! The environment is of the class with vendor `Coffer` and the TEE's name as model. A measurement's key is a
//! register's name, its digest the value; a version is an SVN, exact or least. `init-data` and `init-data/<entry>`
//! are digests of what the guest must be given, `bank` names the bank of the event log. Beside the measurements, at
//! key −1 of the CoMID, stands the JSON form, which explains them with events and variations.
//!
//! INVARIANT: the measurements decide. An explanation that says something else is refused, and one that is missing
//! takes nothing but explanations away.

use std::collections::BTreeMap;

use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::Tee;
use coffer_core_launch::{Bound, ExpectedInitData, ReferenceValues};
use jiff::Timestamp;

use crate::PROFILE;
use crate::comid::{Class, Comid, Environment, Triple};
use crate::document::{Corim, Validity};
use crate::entity::Entity;
use crate::error::CorimError;
use crate::measurement::{Hash, Key, Measurement, Svn};

const VENDOR: &str = "Coffer";
const INIT_DATA: &str = "init-data";
const BANK: &str = "bank";
/// `manifest-creator`.
const CREATOR: i64 = 1;
/// 9999-12-31T23:59:59Z: values that have a beginning and no end.
const NEVER: i64 = 253_402_300_799;

/// Writes reference values as an unsigned document.
pub fn to_corim(values: &ReferenceValues) -> Result<Vec<u8>, CorimError> {
    let class = Class {
        vendor: Some(VENDOR.to_owned()),
        model: Some(values.platform().name().to_owned()),
        ..Class::default()
    };
    let environment = Environment { class: Some(class), ..Environment::default() };
    let explanation = Some(values.to_json());
    let module = Comid {
        id: values.id().to_owned(),
        references: vec![Triple { environment, measurements: measurements(values) }],
        explanation,
        ..Comid::default()
    };
    let entity = |name: &String| Entity { name: name.clone(), uri: None, roles: vec![CREATOR] };
    let corim = Corim {
        id: values.id().to_owned(),
        profiles: vec![PROFILE.to_owned()],
        validity: validity(values)?,
        entities: Some(&values.origin).filter(|origin| !origin.is_empty()).map(entity).into_iter().collect(),
        modules: vec![module],
        skipped: 0,
    };
    let bytes = corim.to_bytes();
    match bytes.len() {
        ..=crate::MAX_CORIM => Ok(bytes),
        found => Err(CorimError::TooLong(found)),
    }
}

fn measurements(values: &ReferenceValues) -> Vec<Measurement> {
    let digest = |name: String, digest: &Digest| Measurement {
        digests: vec![Hash::of(digest)],
        ..Measurement::named(name)
    };
    let registers = values.registers().iter().map(|(name, value)| digest(name.clone(), value));
    let versions = values.versions().iter().map(|(name, bound)| {
        let svn = match *bound {
            Bound::Exactly(number) => Svn::Exactly(number),
            Bound::AtLeast(number) => Svn::AtLeast(number),
        };
        Measurement { svn: Some(svn), ..Measurement::named(name) }
    });
    let bank = Measurement { name: Some(values.bank().name().to_owned()), ..Measurement::named(BANK) };
    let init_data = values.init_data().into_iter().flat_map(|init_data| {
        let entries = init_data.entries.iter();
        let entries = entries.map(|(name, value)| digest(format!("{INIT_DATA}/{name}"), value));
        std::iter::once(digest(INIT_DATA.to_owned(), &init_data.digest)).chain(entries)
    });
    registers.chain(versions).chain(std::iter::once(bank)).chain(init_data).collect()
}

/// Reads an unsigned document of our profile: one set of values for each of its modules.
pub fn from_corim(unsigned: &[u8]) -> Result<Vec<ReferenceValues>, CorimError> {
    let corim = Corim::parse(unsigned)?;
    if corim.profiles != [PROFILE] {
        return Err(CorimError::Profile { found: corim.profiles.join(", ") });
    }
    corim.modules.iter().map(|module| values(&corim, module)).collect()
}

fn values(corim: &Corim, module: &Comid) -> Result<ReferenceValues, CorimError> {
    let wrong = |what, expected, found: &str| CorimError::Form { what, expected, found: found.to_owned() };
    let [triple] = module.references.as_slice() else {
        return Err(wrong("reference triples", "one environment", "none or several"));
    };
    let class = triple.environment.class.clone().unwrap_or_default();
    let model = class.model.filter(|_| class.vendor.as_deref() == Some(VENDOR));
    let platform: Option<Tee> =
        model.as_ref().and_then(|name| serde_json::from_value(name.as_str().into()).ok());
    let platform = platform.ok_or_else(|| {
        wrong("environment", "the vendor Coffer and a TEE", model.as_deref().unwrap_or("another"))
    })?;

    let read = Read::of(&triple.measurements)?;
    let bank = read.bank.ok_or_else(|| wrong("bank", "the event log's algorithm", "nothing"))?;
    let mut plain =
        ReferenceValues::from_registers(platform, bank, read.registers, read.versions, read.init_data)?;
    plain.origin = corim.entities.first().map_or_else(String::new, |entity| entity.name.clone());
    let seconds = |seconds: i64| {
        let time = Timestamp::from_second(seconds).map_err(|_| CorimError::Time(seconds.to_string()))?;
        Ok::<_, CorimError>(time.to_string())
    };
    plain.not_before = corim.validity.and_then(|validity| validity.not_before).map(seconds).transpose()?;
    let end = corim.validity.map(|validity| validity.not_after).filter(|end| *end != NEVER);
    plain.expires = end.map(|end| seconds(end.saturating_add(1))).transpose()?;
    explained(corim, module, plain)
}

/// The values with their explanation, if there is one and it says the same.
fn explained(corim: &Corim, module: &Comid, plain: ReferenceValues) -> Result<ReferenceValues, CorimError> {
    let Some(json) = &module.explanation else { return Ok(plain) };
    let full = ReferenceValues::from_json(json.as_bytes())?;
    let same = [
        ("the platform", full.platform() == plain.platform()),
        ("the bank", full.bank() == plain.bank()),
        ("a register", full.registers() == plain.registers()),
        ("a version", full.versions() == plain.versions()),
        ("the init-data", full.init_data() == plain.init_data()),
        ("the origin", full.origin == plain.origin),
        ("the validity", validity(&full)? == corim.validity),
    ];
    match same.iter().find(|(_, same)| !same) {
        Some((what, _)) => Err(CorimError::Contradiction(what)),
        None => Ok(full),
    }
}

/// The times of the values, which count whole seconds. The end of reference values does not belong to them; that of
/// a document does.
fn validity(values: &ReferenceValues) -> Result<Option<Validity>, CorimError> {
    let seconds = |text: &String| {
        let time: Timestamp = text.parse().map_err(|_| CorimError::Time(text.clone()))?;
        Ok::<_, CorimError>(time.as_second())
    };
    let not_before = values.not_before.as_ref().map(seconds).transpose()?;
    let end = values.expires.as_ref().map(seconds).transpose()?;
    Ok(match (not_before, end) {
        (None, None) => None,
        (not_before, end) => {
            let not_after = end.map_or(NEVER, |end| end.saturating_sub(1));
            Some(Validity { not_before, not_after })
        }
    })
}

/// The measurements of a module by what they are.
#[derive(Default)]
struct Read {
    registers: BTreeMap<String, Digest>,
    versions: BTreeMap<String, Bound>,
    bank: Option<Algorithm>,
    init_data: Option<ExpectedInitData>,
}

impl Read {
    fn of(measurements: &[Measurement]) -> Result<Self, CorimError> {
        let mut read = Self::default();
        let mut entries = BTreeMap::new();
        for measurement in measurements {
            let wrong = |found: &str| CorimError::Form {
                what: "measurement",
                expected: "a name with one digest, one SVN, or the bank's name, each name once",
                found: found.to_owned(),
            };
            let Some(Key::Text(name)) = &measurement.key else { return Err(wrong("another key")) };
            let again = match (measurement.digests.as_slice(), measurement.svn, &measurement.name) {
                ([], None, Some(bank)) if name == BANK => {
                    let bank = bank.parse().map_err(|_| wrong(bank))?;
                    read.bank.replace(bank).is_some()
                }
                ([], Some(Svn::Exactly(number)), None) => {
                    read.versions.insert(name.clone(), Bound::Exactly(number)).is_some()
                }
                ([], Some(Svn::AtLeast(number)), None) => {
                    read.versions.insert(name.clone(), Bound::AtLeast(number)).is_some()
                }
                ([hash], None, None) => {
                    let digest = hash.digest().ok_or_else(|| wrong("a digest of an unknown algorithm"))?;
                    match name.strip_prefix(INIT_DATA) {
                        Some("") => {
                            let expected = ExpectedInitData { digest, entries: BTreeMap::new() };
                            read.init_data.replace(expected).is_some()
                        }
                        Some(rest) if let Some(entry) = rest.strip_prefix('/') => {
                            entries.insert(entry.to_owned(), digest).is_some()
                        }
                        _ => read.registers.insert(name.clone(), digest).is_some(),
                    }
                }
                _ => return Err(wrong(name)),
            };
            if again {
                return Err(wrong(name));
            }
        }
        match &mut read.init_data {
            Some(init_data) => init_data.entries = entries,
            None if entries.is_empty() => {}
            None => return Err(CorimError::form("init-data", "a digest beside those of its entries", None)),
        }
        Ok(read)
    }
}

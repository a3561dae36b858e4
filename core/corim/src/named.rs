//! Any document as named values, with the names that Trustee's extractor gives them, so that policies written for
//! it find the same values: vendor, model, key, name and serial number, joined by `/`.

use std::collections::BTreeMap;

use coffer_core_cose::cbor::Value as Cbor;
use serde_json::Value;

use crate::comid::Environment;
use crate::document::Corim;
use crate::error::CorimError;
use crate::fields::uuid;
use crate::measurement::{Hash, Key, Measurement, Svn};

/// The values of an unsigned document by name. Digests are a list in hexadecimal (`…/digests`), those of several
/// measurements of one name together; bytes are a text (`…/raw_bytes`). Ours beside them: `…/svn`, `…/version` and
/// `…/registers/<register>`.
pub fn named_values(unsigned: &[u8]) -> Result<BTreeMap<String, Value>, CorimError> {
    let corim = Corim::parse(unsigned)?;
    let mut values = BTreeMap::new();
    for triple in corim.modules.iter().flat_map(|module| &module.references) {
        for measurement in &triple.measurements {
            add(&mut values, &path(&triple.environment, measurement), measurement);
        }
    }
    Ok(values)
}

fn path(environment: &Environment, measurement: &Measurement) -> Vec<String> {
    let class = environment.class.as_ref();
    let key = measurement.key.as_ref().and_then(|key| match key {
        Key::Text(name) => Some(name.clone()),
        Key::Number(number) => Some(format!("claim{number}")),
        Key::Uuid(bytes) => Some(uuid(*bytes)),
        Key::Other(_) => None,
    });
    let of_class =
        [class.and_then(|class| class.vendor.clone()), class.and_then(|class| class.model.clone())];
    let own = [key, measurement.name.clone(), measurement.serial_number.clone()];
    of_class.into_iter().chain(own).flatten().collect()
}

fn add(values: &mut BTreeMap<String, Value>, path: &[String], measurement: &Measurement) {
    let named = |end: &str| path.iter().map(String::as_str).chain([end]).collect::<Vec<_>>().join("/");
    let mut list = |name: String, hashes: &[Hash]| {
        if let Value::Array(held) = values.entry(name).or_insert_with(|| Value::Array(Vec::new())) {
            let new = hashes.iter().map(|hash| Value::from(hex::encode(&hash.value)));
            let new: Vec<Value> = new.filter(|value| !held.contains(value)).collect();
            held.extend(new);
        }
    };
    if !measurement.digests.is_empty() {
        list(named("digests"), &measurement.digests);
    }
    for (register, hashes) in &measurement.registers {
        let register = match register {
            Cbor::Text(name) => name.clone(),
            other => other.as_u64().map_or_else(|| other.kind(), |number| number.to_string()),
        };
        list(named(&format!("registers/{register}")), hashes);
    }
    if let Some(raw) = &measurement.raw {
        values.insert(named("raw_bytes"), hex::encode(&raw.value).into());
    }
    if let Some(Svn::Exactly(number) | Svn::AtLeast(number)) = measurement.svn {
        values.insert(named("svn"), number.into());
    }
    if let Some(version) = &measurement.version {
        values.insert(named("version"), version.as_str().into());
    }
}

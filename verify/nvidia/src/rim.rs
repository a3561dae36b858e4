//! Reference integrity manifests: SWID tags with the values that a driver or a firmware measures to.
//!
//! SPEC: ISO/IEC 19770-2:2015 and the TCG's RIM Information Model, in the form that NVIDIA's service gives: `Resource`
//! elements with an index, alternatives and a hash for each. Reading believes nothing; the judge verifies first.

use coffer_core_digest::{Algorithm, Digest};

use crate::xml::{Element, XmlError};

const SWID: &str = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd";
const TCG: &str =
    "https://trustedcomputinggroup.org/resource/tcg-reference-integrity-manifest-rim-information-model/";
const SHA384: &str = "http://www.w3.org/2001/04/xmlenc#sha384";
const OPAQUE: &str = "https://docs.nvidia.com/attestation/specs/latest/opaque-data.html";
/// From here on, an index is that of a field of the opaque data.
const OPAQUE_BASE: u32 = 0x1000;
const MAX_ALTERNATIVES: usize = 64;

/// Why bytes are not a manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RimError {
    /// Not XML of the subset.
    #[error(transparent)]
    Xml(#[from] XmlError),
    /// Not a SWID tag, or without one of its parts.
    #[error("the manifest has no {0}")]
    Missing(&'static str),
    /// An attribute of a resource is missing or has a value that it cannot have.
    #[error("resource {index:?}: {attribute} is {found:?}; expected {expected}")]
    Attribute {
        /// The resource's index, as it stands there.
        index: String,
        /// The attribute.
        attribute: String,
        /// What was expected.
        expected: &'static str,
        /// What was found.
        found: Option<String>,
    },
    /// An index stands there twice.
    #[error("two resources have index {0}")]
    Repeated(u32),
}

/// What a manifest says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RimValues {
    /// The chip, as in `GH100`.
    pub product: String,
    /// The version of the driver or firmware.
    pub version: String,
    /// The maker's number, as in `5703`.
    pub manufacturer: String,
    /// The tag's own identifier.
    pub tag_id: String,
    /// Expected measurements.
    pub measurements: Vec<RimMeasurement>,
    /// Least security versions.
    pub minimum_svn: Vec<MinimumSvn>,
}

/// Expected values of one measurement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RimMeasurement {
    /// Its index, from 0. Reports count from 1.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether it is compared.
    pub active: bool,
    /// Any of these will do.
    pub values: Vec<Digest>,
}

/// The least security version in a field of the opaque data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MinimumSvn {
    /// The field.
    pub field: u16,
    /// Its name.
    pub name: String,
    /// The least value.
    pub least: u64,
}

/// Reads a manifest's values without verifying it. To import values as references, verify first with
/// [`crate::NvidiaJudge::verified_rim`].
pub fn rim_values(xml: &[u8]) -> Result<RimValues, RimError> {
    values(&Element::parse(xml)?)
}

pub(crate) fn values(root: &Element) -> Result<RimValues, RimError> {
    if !root.is(SWID, "SoftwareIdentity") {
        return Err(RimError::Missing("SoftwareIdentity element"));
    }
    let meta = root.only(SWID, "Meta").ok_or(RimError::Missing("single Meta element"))?;
    let payload = root.only(SWID, "Payload").ok_or(RimError::Missing("single Payload element"))?;
    let text = |element: &Element, namespace, name| element.attribute(namespace, name).map(str::to_owned);
    let mut read = RimValues {
        product: text(meta, "", "product").ok_or(RimError::Missing("product"))?,
        version: text(meta, "", "colloquialVersion")
            .filter(|version| !version.is_empty())
            .ok_or(RimError::Missing("colloquialVersion"))?,
        manufacturer: text(meta, TCG, "FirmwareManufacturerId").unwrap_or_default(),
        tag_id: text(root, "", "tagId").unwrap_or_default(),
        measurements: Vec::new(),
        minimum_svn: Vec::new(),
    };
    let mut seen = std::collections::BTreeSet::new();
    for resource in payload.named(SWID, "Resource") {
        // Other resources are none of a report's.
        if resource.attribute("", "type") != Some("Measurement") {
            continue;
        }
        let index = number(resource, "", "index", 0xffff + u64::from(OPAQUE_BASE))?;
        let index = u32::try_from(index).map_err(|_| wrong(resource, "index", "a small number"))?;
        if !seen.insert(index) {
            return Err(RimError::Repeated(index));
        }
        let active = match resource.attribute("", "active") {
            Some("True") => true,
            Some("False") => false,
            _ => return Err(wrong(resource, "active", "True or False")),
        };
        let name = text(resource, "", "name").ok_or_else(|| wrong(resource, "name", "a name"))?;
        match index.checked_sub(OPAQUE_BASE) {
            None => read.measurements.push(RimMeasurement { index, name, active, values: hashes(resource)? }),
            Some(field) if active => read.minimum_svn.push(MinimumSvn {
                field: u16::try_from(field).map_err(|_| wrong(resource, "index", "at most 0x10fff"))?,
                name,
                least: number(resource, OPAQUE, "minSvn", u64::MAX)?,
            }),
            Some(_) => {}
        }
    }
    match read.measurements.iter().any(|measurement| measurement.active) {
        true => Ok(read),
        false => Err(RimError::Missing("active measurement")),
    }
}

fn hashes(resource: &Element) -> Result<Vec<Digest>, RimError> {
    let alternatives = number(resource, "", "alternatives", MAX_ALTERNATIVES as u64)?;
    let size = number(resource, "", "size", 64)?;
    if alternatives == 0 {
        return Err(wrong(resource, "alternatives", "at least 1"));
    }
    let one = |number: u64| {
        let name = format!("Hash{number}");
        let hash = resource.attribute(SHA384, &name).and_then(|digits| hex::decode(digits).ok());
        let hash = hash.filter(|hash| hash.len() as u64 == size);
        hash.and_then(|hash| Digest::from_bytes(Algorithm::Sha384, &hash).ok())
            .ok_or_else(|| wrong(resource, &name, "a SHA-384 hash of the resource's size"))
    };
    (0..alternatives).map(one).collect()
}

fn number(resource: &Element, namespace: &str, name: &str, most: u64) -> Result<u64, RimError> {
    let digits =
        resource.attribute(namespace, name).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let value = digits.and_then(|digits| digits.parse().ok());
    value.filter(|value| *value <= most).ok_or_else(|| wrong(resource, name, "a number within bounds"))
}

fn wrong(resource: &Element, attribute: &str, expected: &'static str) -> RimError {
    let short = |text: &str| text.chars().take(128).collect::<String>();
    RimError::Attribute {
        index: resource.attribute("", "index").map(short).unwrap_or_default(),
        attribute: attribute.to_owned(),
        expected,
        found: resource.attribute("", attribute).map(short),
    }
}

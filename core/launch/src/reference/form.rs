//! The JSON form of reference values, and the checks that a document passes before it is believed.
//!
//! Version 2 is written; version 1, which knew TPMs only, is read too: it is version 2 without the later members.

use std::collections::BTreeMap;

use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::Tee;
use serde::{Deserialize, Serialize};

use super::{
    Artifacts, Body, Bound, ExpectedInitData, PredictedEvent, ReferenceError, ReferenceValues, VERSION,
};
use super::{Variation, check};

/// The JSON form before it is checked.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Unchecked {
    version: u32,
    id: String,
    platform: Tee,
    origin: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    made_at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not_before: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    bank: Algorithm,
    registers: BTreeMap<String, Digest>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    versions: BTreeMap<String, Bound>,
    #[serde(default)]
    artifacts: Artifacts,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    init_data: Option<ExpectedInitData>,
    #[serde(default)]
    events: Vec<PredictedEvent>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    variations: Vec<Variation>,
}

impl From<ReferenceValues> for Unchecked {
    fn from(values: ReferenceValues) -> Self {
        let ReferenceValues { id, body, origin, made_at, not_before, expires } = values;
        let Body { platform, bank, registers, versions, events, artifacts, init_data, variations } = body;
        let version = VERSION;
        Self {
            version,
            id,
            platform,
            origin,
            made_at,
            not_before,
            expires,
            bank,
            registers,
            versions,
            artifacts,
            init_data,
            events,
            variations,
        }
    }
}

impl TryFrom<Unchecked> for ReferenceValues {
    type Error = ReferenceError;

    fn try_from(found: Unchecked) -> Result<Self, ReferenceError> {
        if !(1..=VERSION).contains(&found.version) {
            return Err(ReferenceError::Version { found: found.version });
        }
        let body = Body {
            platform: found.platform,
            bank: found.bank,
            registers: found.registers,
            versions: found.versions,
            events: found.events,
            artifacts: found.artifacts,
            init_data: found.init_data,
            variations: found.variations,
        };
        check(&body)?;
        let expected = body.id();
        match found.id == expected {
            false => Err(ReferenceError::Id { expected, found: found.id }),
            true => Ok(Self {
                id: found.id,
                body,
                origin: found.origin,
                made_at: found.made_at,
                not_before: found.not_before,
                expires: found.expires,
            }),
        }
    }
}

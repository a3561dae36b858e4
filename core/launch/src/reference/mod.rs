//! Reference values: what a guest's registers must be, and the events that explain why.
//!
//! INVARIANT: where there are events they replay to the registers, a field that binds init-data is as the
//! init-data makes it, and the identifier is a hash over the registers. A value that was read from JSON has been
//! checked for all three, so an explanation cannot contradict the decision.

mod component;
mod form;
mod platform;

use std::collections::{BTreeMap, BTreeSet};

use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::Tee;
use serde::{Deserialize, Serialize};

pub use component::{Component, PredictedEvent, Variation};
pub use platform::{init_data_register, place_init_data, register_index, register_name};

use crate::AddressWidth;

/// The version of the JSON form that is written. Version 1 is read too.
pub const VERSION: u32 = 2;
/// Real reference values have about 25 events.
const MAX_EVENTS: usize = 1024;
/// The most variations that a prediction computes and a document may hold.
pub const MAX_VARIATIONS: usize = 64;

/// The inputs of a prediction, as far as the platform has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Artifacts {
    /// SHA-256 of the firmware file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firmware: Option<Digest>,
    /// SHA-256 of the kernel file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<Digest>,
    /// SHA-256 of the initrd.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initrd: Option<Digest>,
    /// The command line as it is given to the launcher.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command_line: Option<String>,
    /// Memory in MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u32>,
    /// Processors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vcpus: Option<u32>,
    /// The physical address width.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address_width: Option<AddressWidth>,
    /// The processor type, as the launcher names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    /// SEV_FEATURES of the guest's processors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guest_features: Option<u64>,
    /// The launcher's profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vmm: Option<String>,
    /// SHA-256 of the IGVM file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub igvm: Option<Digest>,
    /// SHA-256 of the enclave's `.sgxs` file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enclave: Option<Digest>,
}

/// The init-data that the guest must have been given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedInitData {
    /// Its digest.
    pub digest: Digest,
    /// The digest of each entry, so that a difference can be named.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub entries: BTreeMap<String, Digest>,
}

/// What a number in the evidence must be, as in an enclave's `isvsvn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    /// Exactly this.
    Exactly(u64),
    /// This or more.
    AtLeast(u64),
}

impl Bound {
    /// Whether a number is within.
    pub const fn admits(self, found: u64) -> bool {
        match self {
            Self::Exactly(expected) => found == expected,
            Self::AtLeast(least) => found >= least,
        }
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exactly(expected) => write!(f, "{expected}"),
            Self::AtLeast(least) => write!(f, "{least} or more"),
        }
    }
}

/// What a guest's registers must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "form::Unchecked", into = "form::Unchecked")]
pub struct ReferenceValues {
    id: String,
    body: Body,
    /// Where they come from, for people: `coffer measure on workstation-3`.
    pub origin: String,
    /// When they were made, RFC 3339.
    pub made_at: Option<String>,
    /// Not valid before this time, RFC 3339.
    pub not_before: Option<String>,
    /// Not valid from this time on, RFC 3339.
    pub expires: Option<String>,
}

/// What the invariant covers.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Body {
    platform: Tee,
    bank: Algorithm,
    registers: BTreeMap<String, Digest>,
    versions: BTreeMap<String, Bound>,
    events: Vec<PredictedEvent>,
    artifacts: Artifacts,
    init_data: Option<ExpectedInitData>,
    variations: Vec<Variation>,
}

/// Why something is not a set of reference values.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReferenceError {
    /// The document has not the form.
    #[error("not reference values: {0}")]
    Form(String),
    /// The document is of another version of the form.
    #[error("reference values of version {found}; this program reads versions 1 to {VERSION}")]
    Version {
        /// The version found.
        found: u32,
    },
    /// The identifier is not that of the registers.
    #[error("the identifier is {found}, but the registers make it {expected}; predict the values again")]
    Id {
        /// The identifier computed.
        expected: String,
        /// The identifier found.
        found: String,
    },
    /// The events do not lead to a register's value.
    #[error("the events lead to another value of {register}; predict the values again")]
    Replay {
        /// The register.
        register: String,
    },
    /// The register that binds init-data is not as the init-data makes it.
    #[error("{register} is {found}, but the init-data makes it {expected}; predict the values again")]
    InitData {
        /// The register.
        register: String,
        /// The value computed.
        expected: Box<Digest>,
        /// The value found.
        found: Box<Digest>,
    },
    /// A variation is of a register that the values do not name.
    #[error("a variation is of the register {register}, which the values do not name")]
    Variation {
        /// The register.
        register: String,
    },
    /// No register is named, or too many events or variations.
    #[error(
        "there are {registers} registers, {events} events and {variations} variations; expected at least one \
         register, at most {MAX_EVENTS} events and at most {MAX_VARIATIONS} variations"
    )]
    Size {
        /// Registers.
        registers: usize,
        /// Events.
        events: usize,
        /// Variations.
        variations: usize,
    },
}

/// What a prediction found out.
pub(crate) struct Prediction {
    pub(crate) platform: Tee,
    /// The event log's bank.
    pub(crate) bank: Algorithm,
    /// Registers that no event leads to.
    pub(crate) measured: BTreeMap<String, Digest>,
    /// The indexes of the registers that must be as the events make them, and zero if no event extends them.
    pub(crate) replayed: Vec<u32>,
    pub(crate) versions: BTreeMap<String, Bound>,
    pub(crate) events: Vec<PredictedEvent>,
    pub(crate) artifacts: Artifacts,
    pub(crate) init_data: Option<Digest>,
}

impl Prediction {
    /// The registers by name.
    pub(crate) fn registers(&self) -> BTreeMap<String, Digest> {
        let values = replay(self.bank, &self.events);
        let zero = Digest::zero(self.bank);
        let mut registers = self.measured.clone();
        for index in &self.replayed {
            if let Some(name) = register_name(self.platform, *index) {
                registers.insert(name, *values.get(index).unwrap_or(&zero));
            }
        }
        if let Some((name, value)) = place_init_data(self.platform, self.bank, self.init_data.as_ref()) {
            registers.entry(name.to_owned()).or_insert(value);
        }
        registers
    }

    /// The reference values. Of a variation only what differs is kept, and one in which nothing does is dropped.
    pub(crate) fn finish(self, variations: impl IntoIterator<Item = Variation>) -> ReferenceValues {
        let registers = self.registers();
        let differing = |variation: Variation| {
            let changed = variation
                .registers
                .into_iter()
                .filter(|(name, value)| registers.get(name).is_some_and(|expected| expected != value))
                .collect::<BTreeMap<_, _>>();
            let new = |digest: &Digest| !self.events.iter().any(|event| event.digest == *digest);
            let events: Vec<Digest> = variation.events.into_iter().filter(new).collect();
            let differs = !changed.is_empty() || !events.is_empty();
            differs.then_some(Variation { registers: changed, events, ..variation })
        };
        let variations = variations.into_iter().filter_map(differing).take(MAX_VARIATIONS).collect();
        let init_data = self.init_data.map(|digest| ExpectedInitData { digest, entries: BTreeMap::new() });
        let Self { platform, bank, versions, events, artifacts, .. } = self;
        Body { platform, bank, registers, versions, events, artifacts, init_data, variations }.into()
    }
}

impl From<Body> for ReferenceValues {
    fn from(body: Body) -> Self {
        let id = body.id();
        Self { id, body, origin: String::new(), made_at: None, not_before: None, expires: None }
    }
}

impl ReferenceValues {
    /// Takes registers that somebody else computed, as from a CoRIM: no events, and no explanation but by name.
    /// The register that binds init-data is added where it is not named: zero if there is no init-data.
    pub fn from_registers(
        platform: Tee,
        bank: Algorithm,
        mut registers: BTreeMap<String, Digest>,
        versions: BTreeMap<String, Bound>,
        init_data: Option<ExpectedInitData>,
    ) -> Result<Self, ReferenceError> {
        let digest = init_data.as_ref().map(|init_data| &init_data.digest);
        if let Some((name, value)) = place_init_data(platform, bank, digest) {
            registers.entry(name.to_owned()).or_insert(value);
        }
        let (events, variations) = (Vec::new(), Vec::new());
        let artifacts = Artifacts::default();
        let body = Body { platform, bank, registers, versions, events, artifacts, init_data, variations };
        check(&body)?;
        Ok(body.into())
    }

    /// Says where the values come from.
    #[must_use]
    pub fn with_origin(mut self, origin: impl Into<String>) -> Self {
        self.origin = origin.into();
        self
    }

    /// Says when they were made and when they expire, both RFC 3339.
    #[must_use]
    pub fn with_times(mut self, made_at: Option<String>, expires: Option<String>) -> Self {
        self.made_at = made_at;
        self.expires = expires;
        self
    }

    /// Requires one register more that no log leads to, as `id-key-digest` of a guest with an ID block.
    pub fn with_register(mut self, name: &str, value: Digest) -> Result<Self, ReferenceError> {
        self.body.registers.insert(name.to_owned(), value);
        check(&self.body)?;
        self.id = self.body.id();
        Ok(self)
    }

    /// Gives the digests of the init-data's entries, to explain differences. Without expected init-data this
    /// does nothing.
    #[must_use]
    pub fn with_init_data_entries(mut self, entries: BTreeMap<String, Digest>) -> Self {
        if let Some(init_data) = &mut self.body.init_data {
            init_data.entries = entries;
        }
        self
    }

    /// A name for exactly these registers and versions: two predictions of the same guest have the same.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The TEE.
    pub const fn platform(&self) -> Tee {
        self.body.platform
    }

    /// The bank of the events' digests, and of the registers that they lead to.
    pub const fn bank(&self) -> Algorithm {
        self.body.bank
    }

    /// The expected registers by name, as in `pcr4`.
    pub const fn registers(&self) -> &BTreeMap<String, Digest> {
        &self.body.registers
    }

    /// The numbers that must be exact or at least so much: `isvprodid`, `isvsvn`, `guest-svn`.
    pub const fn versions(&self) -> &BTreeMap<String, Bound> {
        &self.body.versions
    }

    /// The events in their order. None where nothing is known but the registers.
    pub fn events(&self) -> &[PredictedEvent] {
        &self.body.events
    }

    /// The inputs of the prediction.
    pub const fn artifacts(&self) -> &Artifacts {
        &self.body.artifacts
    }

    /// The init-data expected; none where the register must be zero.
    pub const fn init_data(&self) -> Option<&ExpectedInitData> {
        self.body.init_data.as_ref()
    }

    /// What the registers would be if one thing were different.
    pub fn variations(&self) -> &[Variation] {
        &self.body.variations
    }

    /// The variations in which a register has this value.
    pub fn explaining(&self, register: &str, found: &Digest) -> impl Iterator<Item = &Variation> {
        let has = move |variation: &&Variation| variation.registers.get(register) == Some(found);
        self.body.variations.iter().filter(has)
    }

    /// The variations in which an event has this digest.
    pub fn explaining_event(&self, found: &Digest) -> impl Iterator<Item = &Variation> {
        let has = move |variation: &&Variation| variation.events.contains(found);
        self.body.variations.iter().filter(has)
    }

    /// The registers that the platform's values must name and these do not. A register that is not named is one
    /// that the host may choose, so values that leave one out must affirm nobody.
    pub fn missing_registers(&self) -> Vec<String> {
        let named =
            |name: &str| self.body.registers.contains_key(name) || self.body.versions.contains_key(name);
        let missing = |list: &&[&str]| -> Vec<String> {
            list.iter().filter(|name| !named(name)).map(|name| (*name).to_owned()).collect()
        };
        platform::obligatory(self.body.platform).iter().map(missing).min_by_key(Vec::len).unwrap_or_default()
    }

    /// The components that events of a register measure, by the register's index in the log.
    pub fn components(&self, register: u32) -> BTreeSet<Component> {
        self.body
            .events
            .iter()
            .filter(|event| event.register == register)
            .map(|event| event.component)
            .collect()
    }

    /// Reads the JSON form and checks it.
    pub fn from_json(bytes: &[u8]) -> Result<Self, ReferenceError> {
        let unchecked: form::Unchecked =
            serde_json::from_slice(bytes).map_err(|error| ReferenceError::Form(error.to_string()))?;
        unchecked.try_into()
    }

    /// The JSON form, for people too.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

impl Body {
    fn id(&self) -> String {
        let mut text = format!("{}\n{}\n", self.platform, self.bank);
        for (register, value) in &self.registers {
            text.push_str(&format!("{register}={value}\n"));
        }
        for (name, bound) in &self.versions {
            text.push_str(&format!("{name}: {bound}\n"));
        }
        let hex = Digest::sha256(text.as_bytes()).hex();
        format!("{}-{}", self.platform, hex.get(..24).unwrap_or(&hex))
    }
}

/// The invariant but for the identifier.
fn check(body: &Body) -> Result<(), ReferenceError> {
    let (registers, events, variations) = (body.registers.len(), body.events.len(), body.variations.len());
    if registers == 0 || events > MAX_EVENTS || variations > MAX_VARIATIONS {
        return Err(ReferenceError::Size { registers, events, variations });
    }
    let replayed = replay(body.bank, &body.events);
    let zero = Digest::zero(body.bank);
    for (register, value) in &body.registers {
        let Some(index) = register_index(body.platform, register).filter(|_| events > 0) else { continue };
        if replayed.get(&index).unwrap_or(&zero) != value {
            return Err(ReferenceError::Replay { register: register.clone() });
        }
    }
    let digest = body.init_data.as_ref().map(|init_data| &init_data.digest);
    // Where the log leads to the register, the events have said what it must be.
    if let Some((name, expected)) = place_init_data(body.platform, body.bank, digest)
        && (events == 0 || register_index(body.platform, name).is_none())
        && let Some(found) = body.registers.get(name).filter(|found| **found != expected)
    {
        let (expected, found) = (Box::new(expected), Box::new(*found));
        return Err(ReferenceError::InitData { register: name.to_owned(), expected, found });
    }
    let foreign = body.variations.iter().flat_map(|variation| variation.registers.keys());
    match foreign.into_iter().find(|name| !body.registers.contains_key(*name)) {
        Some(register) => Err(ReferenceError::Variation { register: register.clone() }),
        None => Ok(()),
    }
}

/// What the events make of registers that begin as zero.
pub(crate) fn replay(bank: Algorithm, events: &[PredictedEvent]) -> BTreeMap<u32, Digest> {
    let mut registers = BTreeMap::new();
    for event in events {
        let register = registers.entry(event.register).or_insert_with(|| Digest::zero(bank));
        *register = register.extend(event.digest.as_bytes());
    }
    registers
}

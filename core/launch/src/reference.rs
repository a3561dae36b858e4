//! Reference values: what a guest's registers must be, and the events that explain why.
//!
//! INVARIANT: the events replay to the registers, and the identifier is a hash over the registers. A value that
//! was read from JSON has been checked for both, so an explanation cannot contradict the decision.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::Tee;
use serde::{Deserialize, Serialize};

use crate::AddressWidth;

/// The version of the JSON form.
pub const VERSION: u32 = 1;
/// SPEC: PFP 1.06, section 3.3.4: registers 0 to 7 are the firmware's and its settings'. The kernel's are 8 and 9:
/// what the agent, the boot stub and the kernel measure.
const TPM_OBLIGATORY: Range<u32> = 0..10;
/// Real reference values have about 25 events.
const MAX_EVENTS: usize = 1024;

/// The part of a guest that an event measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Component {
    /// The firmware's code, as it is for the machine's shape.
    Firmware,
    /// The firmware's boot settings.
    FirmwareSettings,
    /// The secure boot variables.
    SecureBoot,
    /// The kernel.
    Kernel,
    /// The kernel's command line.
    CommandLine,
    /// The initial RAM disk.
    Initrd,
    /// The init-data.
    InitData,
    /// The steps of the boot itself: separators and actions.
    BootSequence,
}

impl Component {
    /// The name, as in the check code `measurement.command-line`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Firmware => "firmware",
            Self::FirmwareSettings => "firmware-settings",
            Self::SecureBoot => "secure-boot",
            Self::Kernel => "kernel",
            Self::CommandLine => "command-line",
            Self::Initrd => "initrd",
            Self::InitData => "init-data",
            Self::BootSequence => "boot-sequence",
        }
    }

    /// The name in a sentence.
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Firmware => "firmware",
            Self::FirmwareSettings => "firmware's boot settings",
            Self::SecureBoot => "secure boot state",
            Self::Kernel => "kernel",
            Self::CommandLine => "kernel's command line",
            Self::Initrd => "initrd",
            Self::InitData => "init-data",
            Self::BootSequence => "sequence of the boot",
        }
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One event that will be in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PredictedEvent {
    /// The register's number.
    pub register: u32,
    /// The event type by its specified name, as in `EV_EVENT_TAG`.
    pub kind: String,
    /// What is measured.
    pub component: Component,
    /// The digest that is extended.
    pub digest: Digest,
    /// For a person. For the command line it is the measured text itself.
    pub detail: String,
}

/// The inputs of a prediction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artifacts {
    /// SHA-256 of the firmware file.
    pub firmware: Digest,
    /// SHA-256 of the kernel file.
    pub kernel: Digest,
    /// SHA-256 of the initrd.
    pub initrd: Digest,
    /// The command line as it is given to the launcher.
    pub command_line: String,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Processors.
    pub vcpus: u32,
    /// The physical address width.
    pub address_width: AddressWidth,
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

/// What a guest's registers must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked", into = "Unchecked")]
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
    events: Vec<PredictedEvent>,
    artifacts: Artifacts,
    init_data: Option<ExpectedInitData>,
}

/// Why a JSON document is not a set of reference values.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReferenceError {
    /// The document has not the form.
    #[error("not reference values: {0}")]
    Form(String),
    /// The document is of another version of the form.
    #[error("reference values of version {found}; this program reads version {VERSION}")]
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
    /// No register is named, or too many events.
    #[error(
        "there are {registers} registers and {events} events; expected at least one register and at most {MAX_EVENTS} events"
    )]
    Size {
        /// Registers.
        registers: usize,
        /// Events.
        events: usize,
    },
}

impl ReferenceValues {
    /// Makes the values from the events that will be extended. `registers` are those that must be as computed;
    /// one that no event extends must be zero.
    pub(crate) fn from_events(
        platform: Tee,
        bank: Algorithm,
        registers: impl IntoIterator<Item = u32>,
        events: Vec<PredictedEvent>,
        artifacts: Artifacts,
        init_data: Option<ExpectedInitData>,
    ) -> Self {
        let replayed = replay(bank, &events);
        let zero = Digest::zero(bank);
        let registers = registers
            .into_iter()
            .map(|register| (name(register), *replayed.get(&register).unwrap_or(&zero)))
            .collect();
        let body = Body { platform, bank, registers, events, artifacts, init_data };
        let id = body.id();
        Self { id, body, origin: String::new(), made_at: None, not_before: None, expires: None }
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

    /// Gives the digests of the init-data's entries, to explain differences. Without expected init-data this
    /// does nothing.
    #[must_use]
    pub fn with_init_data_entries(mut self, entries: BTreeMap<String, Digest>) -> Self {
        if let Some(init_data) = &mut self.body.init_data {
            init_data.entries = entries;
        }
        self
    }

    /// A name for exactly these registers: two predictions of the same guest have the same.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The TEE.
    pub const fn platform(&self) -> Tee {
        self.body.platform
    }

    /// The bank of all digests.
    pub const fn bank(&self) -> Algorithm {
        self.body.bank
    }

    /// The expected registers by name, as in `pcr4`.
    pub const fn registers(&self) -> &BTreeMap<String, Digest> {
        &self.body.registers
    }

    /// The events in their order.
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

    /// The registers that the platform's values must name and these do not. A register that is not named is one
    /// that the host may choose, so values that leave one out must affirm nobody.
    pub fn missing_registers(&self) -> Vec<String> {
        let obligatory = match self.body.platform {
            Tee::Tpm => TPM_OBLIGATORY,
            _ => 0..0,
        };
        obligatory.map(name).filter(|name| !self.body.registers.contains_key(name)).collect()
    }

    /// The components that events of a register measure.
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
        let unchecked: Unchecked =
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
        let hex = Digest::sha256(text.as_bytes()).hex();
        format!("{}-{}", self.platform, hex.get(..24).unwrap_or(&hex))
    }
}

fn name(register: u32) -> String {
    format!("pcr{register}")
}

fn replay(bank: Algorithm, events: &[PredictedEvent]) -> BTreeMap<u32, Digest> {
    let mut registers = BTreeMap::new();
    for event in events {
        let register = registers.entry(event.register).or_insert_with(|| Digest::zero(bank));
        *register = register.extend(event.digest.as_bytes());
    }
    registers
}

/// The JSON form before it is checked.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
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
    artifacts: Artifacts,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    init_data: Option<ExpectedInitData>,
    events: Vec<PredictedEvent>,
}

impl From<ReferenceValues> for Unchecked {
    fn from(values: ReferenceValues) -> Self {
        let ReferenceValues { id, body, origin, made_at, not_before, expires } = values;
        let Body { platform, bank, registers, events, artifacts, init_data } = body;
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
            artifacts,
            init_data,
            events,
        }
    }
}

impl TryFrom<Unchecked> for ReferenceValues {
    type Error = ReferenceError;

    fn try_from(found: Unchecked) -> Result<Self, ReferenceError> {
        if found.version != VERSION {
            return Err(ReferenceError::Version { found: found.version });
        }
        if found.registers.is_empty() || found.events.len() > MAX_EVENTS {
            let (registers, events) = (found.registers.len(), found.events.len());
            return Err(ReferenceError::Size { registers, events });
        }
        let replayed = replay(found.bank, &found.events);
        let zero = Digest::zero(found.bank);
        for (register, value) in &found.registers {
            let number = register.strip_prefix("pcr").and_then(|number| number.parse::<u32>().ok());
            let expected = number.map(|number| *replayed.get(&number).unwrap_or(&zero));
            if expected != Some(*value) {
                return Err(ReferenceError::Replay { register: register.clone() });
            }
        }
        let body = Body {
            platform: found.platform,
            bank: found.bank,
            registers: found.registers,
            events: found.events,
            artifacts: found.artifacts,
            init_data: found.init_data,
        };
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

//! The platform's claims (DEN0137, A7.2.3.2; draft-ffm-rats-cca-token-03).
//!
//! INVARIANT: each claim of the specification that is there has the form that the specification gives it. Left
//! out: what the implementation defines for itself, as the configuration's bits.

use coffer_core_cose::cbor::Value;
use coffer_core_digest::{Algorithm, Digest, Hasher};

use crate::members::{ClaimError, Members, digest, wrong};

/// Profiles by the claims that they ask for.
const PROFILES: [(&str, Generation); 3] = [
    ("http://arm.com/CCA-SSD/1.0.0", Generation::First),
    ("tag:arm.com,2023:cca_platform#1.0.0", Generation::First),
    ("tag:arm.com,2024:cca_platform#2.0.0", Generation::Second),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Generation {
    First,
    /// RMM 2.0: with a client, and with what is attached to the platform.
    Second,
}

/// States of the platform by their number (A7.2.3.2.6).
const LIFECYCLES: [(u16, &str); 7] = [
    (0x00, "unknown"),
    (0x10, "assembly-and-test"),
    (0x20, "cca-platform-rot-provisioning"),
    (0x30, Lifecycle::SECURED),
    (0x40, "non-cca-platform-rot-debug"),
    (0x50, "recoverable-cca-platform-rot-debug"),
    (0x60, "decommissioned"),
];

/// The state that a platform is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifecycle(u16);

impl Lifecycle {
    /// The one state in which nothing of the platform is debugged.
    pub const SECURED: &'static str = "secured";

    fn of(value: &Value) -> Option<Self> {
        let number = u16::try_from(value.as_u64()?).ok()?;
        LIFECYCLES.iter().any(|(state, _)| *state == number >> 8).then_some(Self(number))
    }

    /// The number, of which the low 8 bits are the implementation's.
    pub const fn number(self) -> u16 {
        self.0
    }

    /// The state's name in the specification.
    pub fn state(self) -> &'static str {
        LIFECYCLES.iter().find(|(state, _)| *state == self.0 >> 8).map_or("unknown", |(_, name)| name)
    }
}

/// One part of the platform's software.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// Its role, as in `RMM`.
    pub kind: Option<String>,
    /// Its measurement.
    pub measurement: Digest,
    /// Its version.
    pub version: Option<String>,
    /// The hash of the key that signed it.
    pub signer: Digest,
    /// How it was measured.
    pub algorithm: Option<String>,
}

/// What a platform says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformClaims {
    /// The profile.
    pub profile: String,
    /// The hash of the realm's key.
    pub challenge: Digest,
    /// The kind of platform.
    pub implementation_id: [u8; 32],
    /// This one platform: the name of its key.
    pub instance_id: [u8; 33],
    /// How it is configured, as the implementation defines.
    pub config: Vec<u8>,
    /// The state that it is in.
    pub lifecycle: Lifecycle,
    /// Its software.
    pub components: Vec<Component>,
    /// Where a verifier may be found.
    pub verification_service: Option<String>,
    /// How components are measured that do not say it.
    pub hash_algorithm: String,
    /// Who asked for the token; 1 is the realm management monitor. Since RMM 2.0.
    pub client_id: Option<i64>,
    /// How it was manufactured. Since RMM 2.0.
    pub manufacturing_config: Option<Vec<u8>>,
    /// Digests of the measurements of attached devices. Since RMM 2.0.
    pub devices: Vec<AttachedDevice>,
    /// Hashes of the keys of its trusted boot. Since RMM 2.0.
    pub boot_keys: Vec<BootKey>,
    /// Signers of other sockets. Since RMM 2.0.
    pub peer_signers: Option<Vec<u8>>,
}

/// A device that belongs to the platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachedDevice {
    /// Digest of its measurements.
    pub measurements: Digest,
    /// Digest of its certificates.
    pub certificates: Digest,
    /// Whether its link is encrypted.
    pub uses_ide: bool,
    /// How it was attested, as in `spdm-1.2.0`.
    pub protocol: String,
    /// What it is, as in `cxl-type-3`.
    pub kind: String,
}

/// A key of the trusted boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootKey {
    /// What it signs.
    pub name: String,
    /// Which of several lists is in use.
    pub active: i64,
    /// Which key of the list.
    pub index: i64,
    /// Its hash.
    pub hash: Digest,
}

impl PlatformClaims {
    /// Reads the payload of a platform's token.
    pub fn parse(payload: &[u8]) -> Result<Self, ClaimError> {
        let claims = Members::parse(payload)?;
        let profile = claims.text(265, "profile")?;
        let known = PROFILES.iter().find(|(name, _)| *name == profile);
        let Some((_, generation)) = known else { return Err(ClaimError::Profile(profile)) };
        let second = *generation == Generation::Second;
        // Labels that an older profile does not know mean nothing in it.
        let later = |label: i64| second && claims.has(label);
        let client = |value: &Value| value.as_i64().filter(|client| *client == 1);
        Ok(Self {
            profile,
            challenge: claims.digest(10, "challenge")?,
            implementation_id: claims.array(2396, "implementation id", "32 bytes")?,
            instance_id: claims.ueid("instance id")?,
            config: claims.bytes(2401, "config")?,
            lifecycle: claims.read(
                2395,
                "lifecycle",
                "0x0000 to 0x60ff, a state and 8 bits of the implementation's",
                Lifecycle::of,
            )?,
            components: claims.list(2399, "software components", Component::of)?,
            verification_service: claims
                .optional(2400, |claims| claims.text(2400, "verification service"))?,
            hash_algorithm: claims.text(2402, "hash algorithm")?,
            client_id: match second {
                true => Some(claims.read(2394, "client id", "1, the realm management monitor", client)?),
                false => None,
            },
            manufacturing_config: match later(2403) {
                true => Some(claims.bytes(2403, "manufacturing config")?),
                false => None,
            },
            devices: match later(2404) {
                true => claims.list(2404, "attached devices", AttachedDevice::of)?,
                false => Vec::new(),
            },
            boot_keys: match later(2405) {
                true => claims.list(2405, "trusted boot keys", BootKey::of)?,
                false => Vec::new(),
            },
            peer_signers: match later(2406) {
                true => Some(claims.bytes(2406, "peer signers")?),
                false => None,
            },
        })
    }

    /// One digest over all of the platform's software and its configuration: what a realm must believe beside itself,
    /// for its management monitor signs for it. SHA-256 over each part with its length in 8 bytes before it, big
    /// endian: the configuration; then for each component, in the token's order, type, measurement and signer.
    pub fn software(&self) -> Digest {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut part = |bytes: &[u8]| {
            hasher.update(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
            hasher.update(bytes);
        };
        part(&self.config);
        for component in &self.components {
            part(component.kind.as_deref().unwrap_or_default().as_bytes());
            part(component.measurement.as_bytes());
            part(component.signer.as_bytes());
        }
        hasher.finish()
    }
}

impl Component {
    fn of(members: &Members) -> Result<Self, ClaimError> {
        let text = |label, claim| members.optional(label, |members| members.text(label, claim));
        Ok(Self {
            kind: text(1, "component type")?,
            measurement: members.digest(2, "component measurement")?,
            version: text(4, "component version")?,
            signer: members.digest(5, "component signer")?,
            algorithm: text(6, "component hash algorithm")?,
        })
    }
}

impl AttachedDevice {
    fn of(members: &Members) -> Result<Self, ClaimError> {
        let (protocol, kind) = (members.text(5, "device protocol")?, members.text(7, "device type")?);
        // What the protocol, and the type, ask for beside the rest.
        for (label, claim, asked) in [
            (6, "device version, capabilities and algorithms digest", protocol.starts_with("spdm-")),
            (8, "device encryption type", kind == "cxl-type-3"),
        ] {
            if members.has(label) != asked {
                return Err(wrong(
                    claim,
                    "a claim where protocol or type asks for it, and nowhere else",
                    None,
                ));
            }
        }
        members
            .optional(6, |members| members.digest(6, "device version, capabilities and algorithms digest"))?;
        let encryption = |value: &Value| value.as_u64().filter(|kind| *kind <= 2);
        members.optional(8, |members| members.read(8, "device encryption type", "0 to 2", encryption))?;
        Ok(Self {
            measurements: members.read(2, "device measurements digest", "32, 48 or 64 bytes", digest)?,
            certificates: members.read(3, "device certificates digest", "32, 48 or 64 bytes", digest)?,
            uses_ide: members.read(4, "device link encryption", "a boolean", Value::as_bool)?,
            protocol,
            kind,
        })
    }
}

impl BootKey {
    fn of(members: &Members) -> Result<Self, ClaimError> {
        Ok(Self {
            name: members.text(1, "boot key name")?,
            active: members.read(2, "boot key active list", "an integer", Value::as_i64)?,
            index: members.read(3, "boot key index", "an integer", Value::as_i64)?,
            hash: members.digest(4, "boot key hash")?,
        })
    }
}

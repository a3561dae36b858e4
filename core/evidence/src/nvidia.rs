//! The wire form of NVIDIA's devices (KBS protocol, section 3.11): what the guest sends and the judge reads.
//!
//! Reading bounds every member. Left out: what is inside a report, which is `verify/nvidia`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::wire::base64_text;

/// More devices than any machine has.
pub const MAX_DEVICES: usize = 64;
/// A report has about 4 KiB: 64 measurements of 48 bytes and some text.
const MAX_EVIDENCE: usize = 64 << 10;
/// Five certificates in PEM have about 5 KiB.
const MAX_CERTIFICATES: usize = 64 << 10;
const MAX_UUID: usize = 128;

/// Why a JSON value is not evidence of devices.
#[derive(Debug, thiserror::Error)]
pub enum NvidiaWireError {
    /// A member is missing or has the wrong form.
    #[error("the evidence does not have the nvidia form: {0}")]
    Form(#[from] serde_json::Error),
    /// A member is longer than any honest attester makes it.
    #[error("{member} is too long: at most {limit}, found {found}")]
    TooLong {
        /// The member.
        member: &'static str,
        /// The bound.
        limit: usize,
        /// What was found.
        found: usize,
    },
    /// There is no device.
    #[error("device_evidence_list names no device")]
    Empty,
}

/// A generation of devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Architecture {
    /// GPUs of the Hopper generation.
    Hopper,
    /// GPUs of the Blackwell generation.
    Blackwell,
    /// The third NVSwitch.
    Ls10,
}

impl Architecture {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hopper => "HOPPER",
            Self::Blackwell => "BLACKWELL",
            Self::Ls10 => "LS10",
        }
    }

    /// Whether devices of this generation are switches.
    pub const fn is_switch(self) -> bool {
        matches!(self, Self::Ls10)
    }
}

impl Serialize for Architecture {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Architecture {
    /// Upstream's attesters write both `HOPPER` and `Hopper`.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.to_ascii_uppercase().as_str() {
            "HOPPER" => Ok(Self::Hopper),
            "BLACKWELL" => Ok(Self::Blackwell),
            "LS10" => Ok(Self::Ls10),
            _ => Err(serde::de::Error::custom(format_args!(
                "unknown arch {:?}; expected HOPPER, BLACKWELL or LS10",
                text.chars().take(32).collect::<String>()
            ))),
        }
    }
}

/// Evidence of one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceEvidence {
    /// The generation, in the attester's word.
    pub arch: Architecture,
    /// The name that the driver gives the device, in the attester's word.
    #[serde(default)]
    pub uuid: String,
    /// The SPDM request and the signed response to it.
    #[serde(serialize_with = "base64_text::serialize", deserialize_with = "from_base64_or_hex")]
    pub evidence: Vec<u8>,
    /// The device's certificates in PEM, leaf first.
    #[serde(with = "base64_text")]
    pub certificate: Vec<u8>,
}

/// Evidence of all devices of one machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceList {
    /// One for each device.
    pub device_evidence_list: Vec<DeviceEvidence>,
}

impl DeviceList {
    /// Reads the wire form and checks its bounds.
    pub fn parse(evidence: &Value) -> Result<Self, NvidiaWireError> {
        let read = Self::deserialize(evidence)?;
        let bound = |member, limit, found| match found > limit {
            true => Err(NvidiaWireError::TooLong { member, limit, found }),
            false => Ok(()),
        };
        bound("device_evidence_list", MAX_DEVICES, read.device_evidence_list.len())?;
        for device in &read.device_evidence_list {
            bound("uuid", MAX_UUID, device.uuid.len())?;
            bound("evidence", MAX_EVIDENCE, device.evidence.len())?;
            bound("certificate", MAX_CERTIFICATES, device.certificate.len())?;
        }
        match read.device_evidence_list.is_empty() {
            true => Err(NvidiaWireError::Empty),
            false => Ok(read),
        }
    }
}

/// Older attesters wrote hexadecimal. The first byte of a report is SPDM's version 1.x, so that hexadecimal begins with
/// `1`, and base64 with `E` or `F`: no text is both.
fn from_base64_or_hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.starts_with('1')
        && let Ok(bytes) = hex::decode(text.as_bytes())
    {
        return Ok(bytes);
    }
    crate::wire::decode(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence() -> Value {
        let device = serde_json::json!({
            "arch": "HOPPER", "uuid": "GPU-1", "evidence": "EeAB/w==", "certificate": "LS0t",
        });
        serde_json::json!({"device_evidence_list": [device]})
    }

    #[test]
    fn the_form_is_read_and_written_again() {
        let read = DeviceList::parse(&evidence()).unwrap();
        assert_eq!(read.device_evidence_list[0].evidence, [0x11, 0xe0, 1, 0xff]);
        assert_eq!(serde_json::to_value(&read).unwrap(), evidence());
    }

    #[test]
    fn older_attesters_forms_are_read() {
        let mut older = evidence();
        older["device_evidence_list"][0]["evidence"] = "11e001ff".into();
        older["device_evidence_list"][0]["arch"] = "Hopper".into();
        assert_eq!(DeviceList::parse(&older).unwrap(), DeviceList::parse(&evidence()).unwrap());
    }

    #[test]
    fn what_is_out_of_bounds_is_refused_by_name() {
        let refused = |change: fn(&mut Value)| {
            let mut changed = evidence();
            change(&mut changed["device_evidence_list"]);
            DeviceList::parse(&changed).expect_err("accepted").to_string()
        };
        assert!(refused(|list| list[0]["arch"] = "RUBIN".into()).contains("unknown arch \"RUBIN\""));
        assert!(refused(|list| list[0]["evidence"] = "*".into()).contains("not base64"));
        assert!(
            refused(|list| list[0]["evidence"] = "AAAA".repeat(30_000).into()).contains("evidence is too")
        );
        assert!(
            refused(|list| list[0]["certificate"] = "AAAA".repeat(30_000).into()).contains("certificate is")
        );
        assert!(refused(|list| list[0]["uuid"] = "x".repeat(129).into()).contains("uuid is too long"));
        assert!(refused(|list| *list = vec![list[0].clone(); 65].into()).contains("at most 64, found 65"));
        assert!(refused(|list| *list = serde_json::json!([])).contains("no device"));
        assert!(refused(|list| *list = serde_json::json!(7)).contains("nvidia form"));
    }
}

//! The KBS wire form of evidence.
//!
//! The `tpm` form is upstream's, with optional members of ours beside it: the bank, the attestation key's
//! certificates and public area, and the event log. What upstream adds later is tolerated and ignored.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffer_core_digest::{Algorithm, Digest};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// More than the largest log that firmware makes, less than an attack.
const MAX_EVENT_LOG: usize = 1 << 20;
/// A quote, a signature, a public area and an ordinary certificate are far smaller.
const MAX_MEMBER: usize = 16 << 10;
const MAX_CERTIFICATES: usize = 8;
/// As many registers as upstream always sends.
const PCRS: usize = 24;

/// Why a JSON value is not TPM evidence.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// A member is missing or has the wrong form.
    #[error("the evidence does not have the tpm form: {0}")]
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
    /// Not as many registers as a TPM has.
    #[error("tpm_quote.pcrs: expected {PCRS} registers, found {0}")]
    RegisterCount(usize),
    /// A register's value is not a digest of the bank.
    #[error("tpm_quote.pcrs[{register}]: {cause}")]
    Register {
        /// The register.
        register: usize,
        /// Why not.
        cause: coffer_core_digest::DigestError,
    },
}

/// Evidence of a TPM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TpmEvidence {
    /// The attestation key as `SubjectPublicKeyInfo` in DER.
    #[serde(with = "base64_text")]
    pub ak_public: Vec<u8>,
    /// The quote.
    pub tpm_quote: TpmQuote,
    /// The bank that was quoted. Ours; upstream quotes SHA-256.
    #[serde(default = "sha256", skip_serializing_if = "is_sha256")]
    pub pcr_bank: Algorithm,
    /// The attestation key's certificates in DER, leaf first. Ours.
    #[serde(default, with = "base64_texts", skip_serializing_if = "Vec::is_empty")]
    pub ak_certificates: Vec<Vec<u8>>,
    /// The attestation key as `TPMT_PUBLIC`, to show that it is restricted. Ours.
    #[serde(default, with = "base64_option", skip_serializing_if = "Option::is_none")]
    pub ak_tpmt_public: Option<Vec<u8>>,
    /// The firmware's event log. Ours.
    #[serde(default, with = "base64_option", skip_serializing_if = "Option::is_none")]
    pub event_log: Option<Vec<u8>>,
}

/// A quote with the values that it covers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TpmQuote {
    /// `TPMT_SIGNATURE`.
    #[serde(with = "base64_text")]
    pub signature: Vec<u8>,
    /// `TPMS_ATTEST`.
    #[serde(with = "base64_text")]
    pub message: Vec<u8>,
    /// The values of registers 0 to 23, in hexadecimal.
    pub pcrs: Vec<String>,
}

impl TpmEvidence {
    /// Reads the wire form and checks its bounds.
    pub fn parse(evidence: &Value) -> Result<Self, WireError> {
        let read = Self::deserialize(evidence)?;
        let bound = |member, limit, found| match found > limit {
            true => Err(WireError::TooLong { member, limit, found }),
            false => Ok(()),
        };
        bound("ak_public", MAX_MEMBER, read.ak_public.len())?;
        bound("tpm_quote.signature", MAX_MEMBER, read.tpm_quote.signature.len())?;
        bound("tpm_quote.message", MAX_MEMBER, read.tpm_quote.message.len())?;
        bound("ak_tpmt_public", MAX_MEMBER, read.ak_tpmt_public.as_ref().map_or(0, Vec::len))?;
        bound("event_log", MAX_EVENT_LOG, read.event_log.as_ref().map_or(0, Vec::len))?;
        bound("ak_certificates", MAX_CERTIFICATES, read.ak_certificates.len())?;
        for certificate in &read.ak_certificates {
            bound("ak_certificates[]", MAX_MEMBER, certificate.len())?;
        }
        match read.tpm_quote.pcrs.len() {
            PCRS => Ok(read),
            other => Err(WireError::RegisterCount(other)),
        }
    }

    /// The registers' values in the bank, by number.
    pub fn registers(&self) -> Result<Vec<Digest>, WireError> {
        let read = |(register, text): (usize, &String)| {
            let cause = |cause| WireError::Register { register, cause };
            let bytes = hex::decode(text).map_err(|_| cause(coffer_core_digest::DigestError::Hex))?;
            Digest::from_bytes(self.pcr_bank, &bytes).map_err(cause)
        };
        self.tpm_quote.pcrs.iter().enumerate().map(read).collect()
    }
}

const fn sha256() -> Algorithm {
    Algorithm::Sha256
}

// Serde passes a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_sha256(algorithm: &Algorithm) -> bool {
    *algorithm == Algorithm::Sha256
}

pub(crate) fn decode<E: serde::de::Error>(text: &str) -> Result<Vec<u8>, E> {
    STANDARD.decode(text).map_err(|cause| E::custom(format_args!("not base64: {cause}")))
}

pub(crate) mod base64_text {
    //! Bytes as a base64 string.
    use base64::Engine as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    use super::STANDARD;

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        super::decode(&String::deserialize(deserializer)?)
    }
}

mod base64_texts {
    //! Several byte strings as base64 strings.
    use base64::Engine as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    use super::STANDARD;

    pub(super) fn serialize<S: Serializer>(texts: &[Vec<u8>], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(texts.iter().map(|bytes| STANDARD.encode(bytes)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Vec<u8>>, D::Error> {
        Vec::<String>::deserialize(deserializer)?.iter().map(|text| super::decode(text)).collect()
    }
}

mod base64_option {
    //! Bytes that may be absent, as a base64 string.
    use base64::Engine as _;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    use super::STANDARD;

    // Serde's `with` passes a reference to the field.
    #[allow(clippy::ref_option)]
    pub(super) fn serialize<S: Serializer>(
        bytes: &Option<Vec<u8>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        bytes.as_ref().map(|bytes| STANDARD.encode(bytes)).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Vec<u8>>, D::Error> {
        Option::<String>::deserialize(deserializer)?.map(|text| super::decode(&text)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence() -> Value {
        serde_json::json!({
            "ak_public": "AAEC",
            "tpm_quote": {"signature": "AA==", "message": "AQ==", "pcrs": vec!["00".repeat(32); 24]},
        })
    }

    #[test]
    fn upstreams_form_is_read_and_written_without_members_of_ours() {
        let read = TpmEvidence::parse(&evidence()).unwrap();
        assert_eq!(read.pcr_bank, Algorithm::Sha256);
        assert_eq!(read.registers().unwrap(), vec![Digest::zero(Algorithm::Sha256); 24]);
        assert_eq!(serde_json::to_value(&read).unwrap(), evidence());
    }

    #[test]
    fn upstreams_recorded_evidence_is_read() {
        let folder = std::env::var("COFFER_VECTORS")
            .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors").into());
        let Ok(text) = std::fs::read(format!("{folder}/tpm/trustee_tpm_evidence.json")) else {
            println!("skipped: no vectors");
            return;
        };
        let read = TpmEvidence::parse(&serde_json::from_slice(&text).unwrap()).unwrap();
        crate::tpm::Attest::parse(&read.tpm_quote.message).unwrap();
        crate::tpm::Signature::parse(&read.tpm_quote.signature).unwrap();
        assert_eq!(crate::tpm::KeyKind::of_spki(&read.ak_public), Some(crate::tpm::KeyKind::Rsa));
    }

    #[test]
    fn what_is_out_of_bounds_is_refused_by_name() {
        let refused = |change: fn(&mut Value)| {
            let mut changed = evidence();
            change(&mut changed);
            TpmEvidence::parse(&changed).and_then(|read| read.registers()).expect_err("accepted").to_string()
        };
        assert!(
            refused(|e| e["tpm_quote"]["pcrs"] = serde_json::json!(["00"])).contains("24 registers, found 1")
        );
        assert!(refused(|e| e["tpm_quote"]["pcrs"][7] = "zz".into()).contains("pcrs[7]"));
        assert!(
            refused(|e| e["pcr_bank"] = "sha384".into()).contains("pcrs[0]: a sha384 digest has 48 bytes")
        );
        assert!(refused(|e| e["pcr_bank"] = "md5".into()).contains("md5"));
        assert!(refused(|e| e["ak_public"] = "*".into()).contains("not base64"));
        assert!(refused(|e| e["ak_certificates"] = vec!["AA=="; 9].into()).contains("ak_certificates"));
        assert!(
            refused(|e| e["event_log"] = "AAAA".repeat(500_000).into()).contains("event_log is too long")
        );
    }
}

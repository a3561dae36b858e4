//! The KBS wire forms of TDX and SGX evidence, and raw quotes as their attesters write them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Quote;
use crate::Tee;
use crate::eventlog::MAX_LOG;

/// More than any quote: those with a chain in them have about five thousand bytes, buffers up to sixteen thousand.
pub const MAX_QUOTE: usize = 64 << 10;

/// Why a JSON value is not TDX or SGX evidence.
#[derive(Debug, thiserror::Error)]
pub enum DcapWireError {
    /// A member is missing or has the wrong form.
    #[error("the evidence does not have the {tee} form: {cause}")]
    Form {
        /// The TEE.
        tee: Tee,
        /// Why not.
        cause: serde_json::Error,
    },
    /// A member is longer than any honest attester makes it.
    #[error("{member} is too long: at most {limit} bytes, found about {found}")]
    TooLong {
        /// The member.
        member: &'static str,
        /// The bound.
        limit: usize,
        /// What was found.
        found: usize,
    },
    /// A member is not base64.
    #[error("{member} is not base64: {cause}")]
    Base64 {
        /// The member.
        member: &'static str,
        /// Why not.
        cause: base64::DecodeError,
    },
}

/// Evidence of a trust domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TdxEvidence {
    /// The quote.
    pub quote: Vec<u8>,
    /// The firmware's event log (CCEL), with what the agent measured behind it.
    pub cc_eventlog: Option<Vec<u8>>,
}

/// Evidence of an enclave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SgxEvidence {
    /// The quote.
    pub quote: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct TdxWire {
    quote: String,
    #[serde(default)]
    cc_eventlog: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct SgxWire {
    quote: String,
}

impl TdxEvidence {
    /// Reads the wire form and checks its bounds. An empty log is none.
    pub fn parse(evidence: &Value) -> Result<Self, DcapWireError> {
        let wire =
            TdxWire::deserialize(evidence).map_err(|cause| DcapWireError::Form { tee: Tee::Tdx, cause })?;
        let log = wire.cc_eventlog.filter(|text| !text.is_empty());
        Ok(Self {
            quote: decode("quote", MAX_QUOTE, &wire.quote)?,
            cc_eventlog: log.map(|text| decode("cc_eventlog", MAX_LOG, &text)).transpose()?,
        })
    }

    /// Writes the wire form.
    pub fn to_wire(&self) -> Value {
        let log = self.cc_eventlog.as_ref().map(|log| STANDARD.encode(log));
        json!({"quote": STANDARD.encode(&self.quote), "cc_eventlog": log})
    }
}

impl SgxEvidence {
    /// Reads the wire form and checks its bounds.
    pub fn parse(evidence: &Value) -> Result<Self, DcapWireError> {
        let wire =
            SgxWire::deserialize(evidence).map_err(|cause| DcapWireError::Form { tee: Tee::Sgx, cause })?;
        Ok(Self { quote: decode("quote", MAX_QUOTE, &wire.quote)? })
    }

    /// Writes the wire form.
    pub fn to_wire(&self) -> Value {
        json!({"quote": STANDARD.encode(&self.quote)})
    }
}

fn decode(member: &'static str, limit: usize, text: &str) -> Result<Vec<u8>, DcapWireError> {
    // Four characters are three bytes, and the last three may be padding.
    let about = text.len().div_ceil(4).saturating_mul(3);
    if about > limit.saturating_add(3) {
        return Err(DcapWireError::TooLong { member, limit, found: about });
    }
    STANDARD.decode(text).map_err(|cause| DcapWireError::Base64 { member, cause })
}

/// The wire form of a raw quote, in bytes or in hexadecimal; none if the bytes are no quote.
pub fn wire_of_raw(bytes: &[u8]) -> Option<(Tee, Value)> {
    let wire = |quote: &[u8]| {
        let tee = Quote::parse(quote).ok()?.tee();
        let quote = quote.to_vec();
        Some(match tee {
            Tee::Sgx => (tee, SgxEvidence { quote }.to_wire()),
            _ => (tee, TdxEvidence { quote, cc_eventlog: None }.to_wire()),
        })
    };
    if bytes.len() > MAX_QUOTE.saturating_mul(2).saturating_add(8) {
        return None;
    }
    wire(bytes).or_else(|| {
        let text = std::str::from_utf8(bytes).ok()?.trim();
        wire(&hex::decode(text.strip_prefix("0x").unwrap_or(text)).ok()?)
    })
}

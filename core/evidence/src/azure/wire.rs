//! The forms in which attesters send evidence of Azure's guests.
//!
//! Version 0 has no version and lists of numbers; 1 and 2 have hexadecimal and base64. Version 2 says that the hash
//! that the evidence is bound to is also in the paravisor's report, as `user-data`. What is sent is read leniently
//! and written in version 2.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde::Deserialize;
use serde_json::{Value, json};

use super::hcl::LENIENT;

const MAX_HCL: usize = 16 << 10;
const MAX_QUOTE: usize = 64 << 10;
const MAX_TPM: usize = 4 << 10;
const MAX_PCRS: usize = 24;
const MAX_CERTIFICATE: usize = 16 << 10;

/// Why a JSON value is no evidence of an Azure guest.
#[derive(Debug, thiserror::Error)]
pub enum AzureError {
    /// A member is missing or has the wrong form.
    #[error("the evidence does not have the form of an Azure vTPM's: {0}")]
    Form(#[from] serde_json::Error),
    /// A version that is not known.
    #[error("evidence version {0}; expected none, 1 or 2")]
    Version(u64),
    /// A text in it cannot be read.
    #[error("{member}: {why}")]
    Text {
        /// The member.
        member: &'static str,
        /// Why not.
        why: String,
    },
    /// A member is longer than any honest one.
    #[error("{member} is too long: at most {limit}, found {found}")]
    TooLong {
        /// The member.
        member: &'static str,
        /// The bound.
        limit: usize,
        /// What was found.
        found: usize,
    },
}

/// What proves that the paravisor's report is of a genuine platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlatformProof {
    /// The chip's certificate in DER, if the attester has it; the signed report is in the paravisor's.
    Snp(Option<Vec<u8>>),
    /// A TD quote, whose report data is that of the paravisor's TD report.
    Tdx(Vec<u8>),
}

/// A quote of the virtual TPM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AzureQuote {
    /// The signature's octets: RSASSA-PKCS1-v1_5 with SHA-256.
    pub signature: Vec<u8>,
    /// `TPMS_ATTEST`.
    pub message: Vec<u8>,
    /// The SHA-256 registers, from register 0 on.
    pub pcrs: Vec<Vec<u8>>,
}

/// Evidence of an Azure guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AzureEvidence {
    /// The form's version.
    pub version: u64,
    /// The TPM's quote.
    pub quote: AzureQuote,
    /// The paravisor's report.
    pub hcl_report: Vec<u8>,
    /// What the platform adds.
    pub proof: PlatformProof,
}

#[derive(Deserialize)]
struct Wire {
    version: Option<u64>,
    #[serde(alias = "quote")]
    tpm_quote: QuoteJson,
    #[serde(alias = "report")]
    hcl_report: Bytes,
    vcek: Option<Bytes>,
    td_quote: Option<Bytes>,
}

#[derive(Deserialize)]
struct QuoteJson {
    signature: Bytes,
    message: Bytes,
    pcrs: Vec<Bytes>,
}

/// A list of numbers, or text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Bytes {
    List(Vec<u8>),
    Text(String),
}

impl Bytes {
    fn hex(self, member: &'static str, limit: usize) -> Result<Vec<u8>, AzureError> {
        self.read(member, limit, |text| hex::decode(text).map_err(|cause| cause.to_string()))
    }

    fn base64(self, member: &'static str, limit: usize) -> Result<Vec<u8>, AzureError> {
        self.read(member, limit, |text| LENIENT.decode(text).map_err(|cause| cause.to_string()))
    }

    /// A certificate in PEM or, in base64, in DER.
    fn certificate(self, member: &'static str) -> Result<Vec<u8>, AzureError> {
        self.read(member, MAX_CERTIFICATE, |text| match text.split_once("-----BEGIN CERTIFICATE-----") {
            None => LENIENT.decode(text).map_err(|cause| cause.to_string()),
            Some((_, rest)) => {
                let (body, _) = rest.split_once("-----END").ok_or("the certificate has no end")?;
                let body: String = body.split_ascii_whitespace().collect();
                STANDARD.decode(body).map_err(|cause| cause.to_string())
            }
        })
    }

    fn read(
        self,
        member: &'static str,
        limit: usize,
        decode: impl FnOnce(&str) -> Result<Vec<u8>, String>,
    ) -> Result<Vec<u8>, AzureError> {
        // Text is at most twice as long as what it stands for, and a certificate may stand in a chain.
        let most = limit.saturating_mul(2);
        let bytes = match self {
            Self::List(bytes) => bytes,
            Self::Text(text) if text.len() > most => {
                return Err(AzureError::TooLong { member, limit: most, found: text.len() });
            }
            Self::Text(text) => decode(&text).map_err(|why| AzureError::Text { member, why })?,
        };
        match bytes.len() > limit {
            true => Err(AzureError::TooLong { member, limit, found: bytes.len() }),
            false => Ok(bytes),
        }
    }
}

impl AzureEvidence {
    /// Reads `az-snp-vtpm` evidence.
    pub fn parse_snp(evidence: &Value) -> Result<Self, AzureError> {
        Self::parse(evidence, |wire| {
            let vcek = wire.vcek.map(|vcek| vcek.certificate("vcek")).transpose()?;
            Ok(PlatformProof::Snp(vcek.filter(|vcek| !vcek.is_empty())))
        })
    }

    /// Reads `az-tdx-vtpm` evidence.
    pub fn parse_tdx(evidence: &Value) -> Result<Self, AzureError> {
        Self::parse(evidence, |wire| match wire.td_quote {
            Some(quote) => Ok(PlatformProof::Tdx(quote.base64("td_quote", MAX_QUOTE)?)),
            None => Err(AzureError::Text { member: "td_quote", why: "it is missing".into() }),
        })
    }

    fn parse(
        evidence: &Value,
        proof: impl FnOnce(Proof) -> Result<PlatformProof, AzureError>,
    ) -> Result<Self, AzureError> {
        let Wire { version, tpm_quote, hcl_report, vcek, td_quote } = Wire::deserialize(evidence)?;
        let version = match version {
            None => 0,
            Some(known @ 1..=2) => known,
            Some(other) => return Err(AzureError::Version(other)),
        };
        let QuoteJson { signature, message, pcrs } = tpm_quote;
        if pcrs.len() > MAX_PCRS {
            return Err(AzureError::TooLong { member: "tpm_quote.pcrs", limit: MAX_PCRS, found: pcrs.len() });
        }
        let pcrs = pcrs.into_iter().map(|pcr| pcr.hex("tpm_quote.pcrs[]", 64)).collect::<Result<_, _>>()?;
        let quote = AzureQuote {
            signature: signature.hex("tpm_quote.signature", MAX_TPM)?,
            message: message.hex("tpm_quote.message", MAX_TPM)?,
            pcrs,
        };
        let hcl_report = hcl_report.base64("hcl_report", MAX_HCL)?;
        Ok(Self { version, quote, hcl_report, proof: proof(Proof { vcek, td_quote })? })
    }

    /// Writes version 2, whatever it was read from.
    pub fn to_value(&self) -> Value {
        let pcrs: Vec<String> = self.quote.pcrs.iter().map(hex::encode).collect();
        let quote = json!({
            "signature": hex::encode(&self.quote.signature),
            "message": hex::encode(&self.quote.message),
            "pcrs": pcrs,
        });
        let hcl_report = URL_SAFE.encode(&self.hcl_report);
        match &self.proof {
            PlatformProof::Snp(vcek) => json!({
                "version": 2,
                "tpm_quote": quote,
                "hcl_report": hcl_report,
                "vcek": vcek.as_ref().map(|der| URL_SAFE.encode(der)),
            }),
            PlatformProof::Tdx(td_quote) => json!({
                "version": 2,
                "tpm_quote": quote,
                "hcl_report": hcl_report,
                "td_quote": URL_SAFE.encode(td_quote),
            }),
        }
    }
}

struct Proof {
    vcek: Option<Bytes>,
    td_quote: Option<Bytes>,
}

//! What an attestation document says (AWS, "Verifying the root of trust", attestation document specification).
//!
//! Members that are not specified are tolerated and ignored. Left out: who signed it.

use std::collections::BTreeMap;

use coffer_core_cose::cbor::{self, CborError, Map, Value};
use coffer_core_digest::{Algorithm, Digest};

/// Registers have numbers from 0 to 31.
const PCRS: u8 = 32;
/// The registers that measure the enclave's image; all are zero if it was started in debug mode.
const IMAGE: std::ops::Range<u8> = 0..3;
const MAX_CERTIFICATE: usize = 1024;
/// AWS sends four.
const MAX_BUNDLE: usize = 8;
const MAX_MEMBER: usize = 1024;

/// Why a payload is not an attestation document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// Not CBOR.
    #[error(transparent)]
    Cbor(#[from] CborError),
    /// Not a map.
    #[error("the payload is {0}, not a map")]
    NotAMap(String),
    /// A member is missing or of another type.
    #[error("{member}: expected {expected}, found {found}")]
    Member {
        /// The member.
        member: &'static str,
        /// What should be there.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// The digest is not the one that is specified.
    #[error("digest: expected SHA384, found {0:?}")]
    Digest(String),
    /// A register is not as specified.
    #[error("pcrs: expected registers 0 to 31 of 48 bytes, PCR0 to PCR2 among them; {0}")]
    Pcrs(String),
}

impl DocumentError {
    /// The code of the check that fails.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::Digest(_) => "nitro.document.digest",
            Self::Pcrs(_) => "nitro.pcrs.format",
            _ => "nitro.document.format",
        }
    }
}

/// An attestation document's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The enclave's name: instance and enclave.
    pub module_id: String,
    /// When it was made, in milliseconds since 1970.
    pub timestamp: u64,
    /// The locked registers by number.
    pub pcrs: BTreeMap<u8, Digest>,
    /// The certificate of the key that signed, in DER.
    pub certificate: Vec<u8>,
    /// The certificates above it in DER, root first.
    pub cabundle: Vec<Vec<u8>>,
    /// A key that the enclave asked to have signed.
    pub public_key: Option<Vec<u8>>,
    /// Data that the enclave asked to have signed.
    pub user_data: Option<Vec<u8>>,
    /// A nonce that the enclave asked to have signed.
    pub nonce: Option<Vec<u8>>,
}

impl Document {
    /// Reads the payload.
    pub fn parse(payload: &[u8]) -> Result<Self, DocumentError> {
        let map = match cbor::decode(payload)? {
            Value::Map(map) => map,
            other => return Err(DocumentError::NotAMap(other.kind())),
        };
        let members = Members(&map);
        match members.text("digest")? {
            "SHA384" => {}
            other => return Err(DocumentError::Digest(other.chars().take(32).collect())),
        }
        let timestamp = members.required("timestamp", "milliseconds since 1970", Value::as_u64)?;
        Ok(Self {
            module_id: members.text("module_id")?.to_owned(),
            timestamp,
            pcrs: members.pcrs()?,
            certificate: members.certificate()?,
            cabundle: members.bundle()?,
            public_key: members.optional("public_key")?,
            user_data: members.optional("user_data")?,
            nonce: members.optional("nonce")?,
        })
    }

    /// Whether the enclave was started in debug mode, where its console is readable and its image not measured.
    pub fn is_debug(&self) -> bool {
        let zero = Digest::zero(Algorithm::Sha384);
        IMAGE.filter_map(|pcr| self.pcrs.get(&pcr)).all(|value| *value == zero)
    }
}

struct Members<'a>(&'a Map);

impl<'a> Members<'a> {
    fn required<T>(
        &self,
        member: &'static str,
        expected: &'static str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<T, DocumentError> {
        let value = self.0.named(member);
        value.and_then(read).ok_or_else(|| DocumentError::Member {
            member,
            expected,
            found: value.map_or_else(|| "nothing".to_owned(), Value::kind),
        })
    }

    fn text(&self, member: &'static str) -> Result<&'a str, DocumentError> {
        let fits = |text: &&str| !text.is_empty() && text.len() <= MAX_MEMBER;
        self.required(member, "a short text", |value| value.as_text().filter(fits))
    }

    fn certificate(&self) -> Result<Vec<u8>, DocumentError> {
        self.required("certificate", "1 to 1024 bytes", certificate)
    }

    fn bundle(&self) -> Result<Vec<Vec<u8>>, DocumentError> {
        self.required("cabundle", "1 to 8 certificates of 1 to 1024 bytes", |value| {
            let bundle = value.as_array().filter(|bundle| (1..=MAX_BUNDLE).contains(&bundle.len()))?;
            bundle.iter().map(certificate).collect()
        })
    }

    /// Null is written where nothing was asked for, and some writers leave the member out.
    fn optional(&self, member: &'static str) -> Result<Option<Vec<u8>>, DocumentError> {
        if self.0.named(member).is_none_or(Value::is_null) {
            return Ok(None);
        }
        let fits = |bytes: &&[u8]| bytes.len() <= MAX_MEMBER;
        let read = |value: &'a Value| value.as_bytes().filter(fits).map(<[u8]>::to_vec);
        self.required(member, "at most 1024 bytes", read).map(Some)
    }

    fn pcrs(&self) -> Result<BTreeMap<u8, Digest>, DocumentError> {
        let sent = self.required("pcrs", "a map of registers", Value::as_map)?;
        let mut pcrs = BTreeMap::new();
        for (number, value) in sent.iter() {
            let pcr = number.as_u64().and_then(|pcr| u8::try_from(pcr).ok()).filter(|pcr| *pcr < PCRS);
            let pcr =
                pcr.ok_or_else(|| DocumentError::Pcrs(format!("found {} as a number", number.kind())))?;
            let digest = value.as_bytes().and_then(|value| Digest::from_bytes(Algorithm::Sha384, value).ok());
            let digest =
                digest.ok_or_else(|| DocumentError::Pcrs(format!("found {} in PCR{pcr}", value.kind())))?;
            pcrs.insert(pcr, digest);
        }
        match IMAGE.clone().find(|pcr| !pcrs.contains_key(pcr)) {
            Some(missing) => Err(DocumentError::Pcrs(format!("PCR{missing} is missing"))),
            None => Ok(pcrs),
        }
    }
}

fn certificate(value: &Value) -> Option<Vec<u8>> {
    let bytes = value.as_bytes().filter(|bytes| (1..=MAX_CERTIFICATE).contains(&bytes.len()));
    bytes.map(<[u8]>::to_vec)
}

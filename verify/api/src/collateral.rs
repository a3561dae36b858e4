//! What a judge needs beside the evidence, named so that somebody else can fetch it.
//!
//! Judges do no I/O: one that misses a document says which, and is asked again when it is there. A key's text is
//! stable; it names files in the cache and lines in an offline bundle. What a document says is believed only
//! after its signature was checked, so a lying cache can at most make a judgement unavailable or refused.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use coffer_core_digest::Digest;
use serde::{Deserialize, Serialize};

/// Which document.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum CollateralKey {
    /// Intel's TCB info for TDX (PCS API v4, `tdx/certification/v4/tcb`), with the issuer chain.
    TdxTcbInfo([u8; 6]),
    /// Intel's TCB info for SGX, with the issuer chain.
    SgxTcbInfo([u8; 6]),
    /// The identity of the TD quoting enclave, with the issuer chain.
    TdQeIdentity,
    /// The identity of the SGX quoting enclave, with the issuer chain.
    SgxQeIdentity,
    /// The revocation list of the CA that issues PCK certificates, in DER, with the issuer chain.
    PckCrl(PckCa),
    /// The revocation list of Intel's root, in DER.
    IntelRootCrl,
    /// A PCK certificate chain in PEM, leaf first, for a quote that names the platform instead of carrying it:
    /// SHA-256 over the quote's certification data.
    PckChain([u8; 32]),
    /// The certificate of one chip at one TCB, in DER (AMD KDS, `vcek/v1/{product}/{hwid}?…`).
    AmdVcek {
        /// `Milan`, `Genoa`, `Turin`.
        product: String,
        /// The chip id: 64 bytes, 8 for Turin.
        chip: Vec<u8>,
        /// The reported TCB as the report has it, little endian.
        tcb: u64,
    },
    /// ASK and ARK in PEM, for another product than those that are built in.
    AmdVcekChain(String),
    /// ASVK and ARK in PEM, for another product than those that are built in.
    AmdVlekChain(String),
    /// The revocation list of a product's keys, in DER (AMD KDS, `vcek/v1/{product}/crl`).
    AmdCrl(String),
    /// An NVIDIA reference integrity manifest, XML, by its id: `NV_GPU_DRIVER_GH100_550.144.03`.
    NvidiaRim(String),
    /// NVIDIA's answer on one certificate (OCSP, RFC 6960), in DER, by SHA-256 of the certificate.
    NvidiaOcsp([u8; 32]),
    /// Hygon's HSK and CEK certificates for one chip, by its serial number.
    HygonHskCek(String),
}

/// The two CAs of PCK certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PckCa {
    /// Single-package platforms.
    Processor,
    /// Multi-package platforms.
    Platform,
}

impl PckCa {
    /// Its name in Intel's API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Processor => "processor",
            Self::Platform => "platform",
        }
    }
}

/// A text is no collateral key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no collateral; expected as in intel/tdx/tcb-info/b0c06f000000")]
pub struct UnknownCollateral(String);

impl fmt::Display for CollateralKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TdxTcbInfo(fmspc) => write!(f, "intel/tdx/tcb-info/{}", hex(fmspc)),
            Self::SgxTcbInfo(fmspc) => write!(f, "intel/sgx/tcb-info/{}", hex(fmspc)),
            Self::TdQeIdentity => f.write_str("intel/tdx/qe-identity"),
            Self::SgxQeIdentity => f.write_str("intel/sgx/qe-identity"),
            Self::PckCrl(ca) => write!(f, "intel/pck-crl/{}", ca.name()),
            Self::IntelRootCrl => f.write_str("intel/root-crl"),
            Self::PckChain(platform) => write!(f, "intel/pck-chain/{}", hex(platform)),
            Self::AmdVcek { product, chip, tcb } => write!(f, "amd/vcek/{product}/{}/{tcb:016x}", hex(chip)),
            Self::AmdVcekChain(product) => write!(f, "amd/vcek-chain/{product}"),
            Self::AmdVlekChain(product) => write!(f, "amd/vlek-chain/{product}"),
            Self::AmdCrl(product) => write!(f, "amd/crl/{product}"),
            Self::NvidiaRim(id) => write!(f, "nvidia/rim/{id}"),
            Self::NvidiaOcsp(certificate) => write!(f, "nvidia/ocsp/{}", hex(certificate)),
            Self::HygonHskCek(serial) => write!(f, "hygon/hsk-cek/{serial}"),
        }
    }
}

impl FromStr for CollateralKey {
    type Err = UnknownCollateral;

    fn from_str(text: &str) -> Result<Self, UnknownCollateral> {
        parse(text).ok_or_else(|| UnknownCollateral(text.chars().take(128).collect()))
    }
}

fn parse(text: &str) -> Option<CollateralKey> {
    let parts: Vec<&str> = text.split('/').collect();
    Some(match *parts.as_slice() {
        ["intel", "tdx", "tcb-info", fmspc] => CollateralKey::TdxTcbInfo(unhex(fmspc)?.try_into().ok()?),
        ["intel", "sgx", "tcb-info", fmspc] => CollateralKey::SgxTcbInfo(unhex(fmspc)?.try_into().ok()?),
        ["intel", "tdx", "qe-identity"] => CollateralKey::TdQeIdentity,
        ["intel", "sgx", "qe-identity"] => CollateralKey::SgxQeIdentity,
        ["intel", "pck-crl", "processor"] => CollateralKey::PckCrl(PckCa::Processor),
        ["intel", "pck-crl", "platform"] => CollateralKey::PckCrl(PckCa::Platform),
        ["intel", "root-crl"] => CollateralKey::IntelRootCrl,
        ["intel", "pck-chain", platform] => CollateralKey::PckChain(unhex(platform)?.try_into().ok()?),
        ["amd", "vcek", product, chip, tcb] if tcb.len() == 16 => CollateralKey::AmdVcek {
            product: name(product)?,
            chip: unhex(chip)?,
            tcb: u64::from_be_bytes(unhex(tcb)?.try_into().ok()?),
        },
        ["amd", "vcek-chain", product] => CollateralKey::AmdVcekChain(name(product)?),
        ["amd", "vlek-chain", product] => CollateralKey::AmdVlekChain(name(product)?),
        ["amd", "crl", product] => CollateralKey::AmdCrl(name(product)?),
        ["nvidia", "rim", id] => CollateralKey::NvidiaRim(name(id)?),
        ["nvidia", "ocsp", certificate] => CollateralKey::NvidiaOcsp(unhex(certificate)?.try_into().ok()?),
        ["hygon", "hsk-cek", serial] => CollateralKey::HygonHskCek(name(serial)?),
        _ => return None,
    })
}

/// A name is part of a path and of an address, so it holds nothing that means something there.
fn name(text: &str) -> Option<String> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let fits = !text.is_empty() && text.len() <= 128 && text.chars().all(good) && !text.starts_with('.');
    fits.then(|| text.to_owned())
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .bytes()
        .map(|digit| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        })
        .collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0 && digits.len() <= 256)?;
    Some(digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect())
}

impl TryFrom<String> for CollateralKey {
    type Error = UnknownCollateral;

    fn try_from(text: String) -> Result<Self, UnknownCollateral> {
        text.parse()
    }
}

impl From<CollateralKey> for String {
    fn from(key: CollateralKey) -> Self {
        key.to_string()
    }
}

impl CollateralKey {
    /// Whether a name from evidence can be part of a key: short, and of letters, digits, `.`, `_` and `-`.
    pub fn is_name(text: &str) -> bool {
        name(text).is_some()
    }
}

/// A document, as it came. Its digest is computed once, so that judges can remember what they checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    body: Vec<u8>,
    issuer_chain: Vec<u8>,
    digest: Digest,
}

impl Document {
    /// A document, with the certificates in PEM that the source sends beside it; empty if it sends none.
    pub fn new(body: Vec<u8>, issuer_chain: Vec<u8>) -> Self {
        let length = (body.len() as u64).to_be_bytes();
        let digest = Digest::sha256(&[&length, body.as_slice(), issuer_chain.as_slice()].concat());
        Self { body, issuer_chain, digest }
    }

    /// The document itself, byte for byte.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The issuer's certificates in PEM, leaf first.
    pub fn issuer_chain(&self) -> &[u8] {
        &self.issuer_chain
    }

    /// SHA-256 over body and chain.
    pub const fn digest(&self) -> &Digest {
        &self.digest
    }
}

/// Where judges find documents.
pub trait Collateral: Send + Sync {
    /// The document, if it is there now.
    fn find(&self, key: &CollateralKey) -> Option<Arc<Document>>;
}

/// There is none.
pub struct NoCollateral;

impl Collateral for NoCollateral {
    fn find(&self, _: &CollateralKey) -> Option<Arc<Document>> {
        None
    }
}

/// Documents in memory.
#[derive(Clone, Debug, Default)]
pub struct Shelf(BTreeMap<CollateralKey, Arc<Document>>);

impl Shelf {
    /// Puts a document on it.
    pub fn put(&mut self, key: CollateralKey, document: Arc<Document>) {
        self.0.insert(key, document);
    }

    /// The documents by key.
    pub fn iter(&self) -> impl Iterator<Item = (&CollateralKey, &Arc<Document>)> {
        self.0.iter()
    }
}

impl Collateral for Shelf {
    fn find(&self, key: &CollateralKey) -> Option<Arc<Document>> {
        self.0.get(key).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keys_text_names_it_again() {
        let keys = [
            CollateralKey::TdxTcbInfo([0xb0, 0xc0, 0x6f, 0, 0, 0]),
            CollateralKey::SgxTcbInfo([1; 6]),
            CollateralKey::TdQeIdentity,
            CollateralKey::SgxQeIdentity,
            CollateralKey::PckCrl(PckCa::Platform),
            CollateralKey::PckCrl(PckCa::Processor),
            CollateralKey::IntelRootCrl,
            CollateralKey::PckChain([7; 32]),
            CollateralKey::AmdVcek { product: "Milan".into(), chip: vec![1; 64], tcb: 0x7308_0000_0000_0003 },
            CollateralKey::AmdVcekChain("Genoa".into()),
            CollateralKey::AmdVlekChain("Genoa".into()),
            CollateralKey::AmdCrl("Turin".into()),
            CollateralKey::NvidiaRim("NV_GPU_DRIVER_GH100_550.144.03".into()),
            CollateralKey::NvidiaOcsp([9; 32]),
            CollateralKey::HygonHskCek("N1234".into()),
        ];
        for key in keys {
            let text = key.to_string();
            assert_eq!(text.parse(), Ok(key), "{text}");
        }
    }

    #[test]
    fn a_key_never_leaves_its_folder() {
        for text in [
            "nvidia/rim/..",
            "nvidia/rim/a/b",
            "amd/crl/",
            "hygon/hsk-cek/a b",
            "nvidia/rim/\u{e9}",
            "intel/x",
        ] {
            text.parse::<CollateralKey>().expect_err(text);
        }
        assert!(!CollateralKey::is_name("../x") && CollateralKey::is_name("GH100_550.1"));
    }

    #[test]
    fn a_documents_digest_tells_body_from_chain() {
        let whole = Document::new(b"ab".to_vec(), Vec::new());
        assert_ne!(whole.digest(), Document::new(b"a".to_vec(), b"b".to_vec()).digest());
    }
}

//! What a document says of itself: whether it is the kind that its key asks for, and when it ends.
//!
//! Read lightly and without belief: signatures are for judges. It keeps answers of the wrong kind out of the cache
//! and tells when to fetch again.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coffer_verify_api::{CollateralKey, Document, PckCa};
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::der::{self, Certificate, Crl};

/// A document is not what its key asks for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {found}")]
pub struct Unlike {
    /// What the key asks for.
    pub expected: &'static str,
    /// What it is.
    pub found: String,
}

/// `{"tcbInfo": {…}, "signature": "…"}` (PCS API v4).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TcbAnswer<'a> {
    #[serde(borrow)]
    pub(crate) tcb_info: &'a RawValue,
    signature: String,
}

/// `{"enclaveIdentity": {…}, "signature": "…"}`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct IdentityAnswer<'a> {
    #[serde(borrow)]
    pub(crate) enclave_identity: &'a RawValue,
    signature: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Dated {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    fmspc: Option<String>,
    next_update: Timestamp,
}

/// When the document ends by its own word, if it says so; or that it is something else.
pub fn examine(key: &CollateralKey, document: &Document) -> Result<Option<Timestamp>, Unlike> {
    let body = document.body();
    let ends = match key {
        CollateralKey::TdxTcbInfo(fmspc) => Some(tcb_info(body, "TDX", fmspc)?),
        CollateralKey::SgxTcbInfo(fmspc) => Some(tcb_info(body, "SGX", fmspc)?),
        CollateralKey::TdQeIdentity => Some(identity(body, "TD_QE")?),
        CollateralKey::SgxQeIdentity => Some(identity(body, "QE")?),
        CollateralKey::PckCrl(_) | CollateralKey::IntelRootCrl | CollateralKey::AmdCrl(_) => {
            let unlike = || unlike("a revocation list in DER", body);
            Crl::parse(body).ok_or_else(unlike)?.next_update
        }
        CollateralKey::AmdVcek { .. } => {
            let unlike = || unlike("a certificate in DER", body);
            Some(Certificate::parse(body).ok_or_else(unlike)?.not_after)
        }
        CollateralKey::PckChain(_) | CollateralKey::AmdVcekChain(_) | CollateralKey::AmdVlekChain(_) => {
            Some(chain_end(body).ok_or_else(|| unlike("certificates in PEM", body))?)
        }
        CollateralKey::NvidiaRim(_) => {
            is_manifest(body).then_some(()).ok_or_else(|| unlike("a manifest in XML", body))?;
            certificates_in_xml(body).iter().filter_map(|der| Some(Certificate::parse(der)?.not_after)).min()
        }
        CollateralKey::NvidiaOcsp(_) => {
            der::ocsp_next_update(body).ok_or_else(|| unlike("a successful OCSP response", body))?
        }
        CollateralKey::HygonHskCek(_) => {
            (body.len() >= HYGON_CERTIFICATES).then_some(None).ok_or_else(|| unlike("HSK and CEK", body))?
        }
        // A kind that is new: nothing is known of it.
        _ => None,
    };
    let chain = match document.issuer_chain() {
        [] => None,
        pem => Some(chain_end(pem).ok_or_else(|| unlike("an issuer chain in PEM", pem))?),
    };
    Ok(match (ends, chain) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    })
}

/// HSK (832 bytes) and CEK (2084 bytes).
const HYGON_CERTIFICATES: usize = 832 + 2084;

/// Whether a source's word on how long its answer is good counts: certificates and manifests do not change.
pub(crate) fn is_replaced(key: &CollateralKey) -> bool {
    use CollateralKey::{
        AmdCrl, IntelRootCrl, NvidiaOcsp, PckCrl, SgxQeIdentity, SgxTcbInfo, TdQeIdentity, TdxTcbInfo,
    };
    matches!(
        key,
        TdxTcbInfo(_)
            | SgxTcbInfo(_)
            | TdQeIdentity
            | SgxQeIdentity
            | PckCrl(_)
            | IntelRootCrl
            | AmdCrl(_)
            | NvidiaOcsp(_)
    )
}

fn unlike(expected: &'static str, body: &[u8]) -> Unlike {
    let start = body.get(..body.len().min(40)).unwrap_or_default();
    let found = format!("{} bytes that begin with {:?}", body.len(), String::from_utf8_lossy(start));
    Unlike { expected, found }
}

fn tcb_info(body: &[u8], id: &str, fmspc: &[u8]) -> Result<Timestamp, Unlike> {
    let unlike = |found: String| Unlike { expected: "TCB info as {tcbInfo, signature}", found };
    let answer: TcbAnswer<'_> = serde_json::from_slice(body).map_err(|error| unlike(error.to_string()))?;
    let dated: Dated =
        serde_json::from_str(answer.tcb_info.get()).map_err(|error| unlike(error.to_string()))?;
    // Version 2 has no id and is for SGX.
    let named = dated.id.as_deref().unwrap_or("SGX");
    let wanted = hex::encode(fmspc);
    let platform = dated.fmspc.unwrap_or_default().to_ascii_lowercase();
    if named != id || platform != wanted || answer.signature.is_empty() {
        return Err(unlike(format!("TCB info of {named:.16} for {platform:.16}, not of {id} for {wanted}")));
    }
    Ok(dated.next_update)
}

fn identity(body: &[u8], id: &str) -> Result<Timestamp, Unlike> {
    let unlike = |found: String| Unlike { expected: "an identity as {enclaveIdentity, signature}", found };
    let answer: IdentityAnswer<'_> =
        serde_json::from_slice(body).map_err(|error| unlike(error.to_string()))?;
    let dated: Dated =
        serde_json::from_str(answer.enclave_identity.get()).map_err(|error| unlike(error.to_string()))?;
    let named = dated.id.unwrap_or_default();
    if named != id || answer.signature.is_empty() {
        return Err(unlike(format!("the identity of {named:.16}, not of {id}")));
    }
    Ok(dated.next_update)
}

/// The key that an Intel answer belongs to, from what it says.
pub(crate) fn intel_key(tcb_info: &str) -> Option<CollateralKey> {
    let dated: Dated = serde_json::from_str(tcb_info).ok()?;
    let fmspc = hex::decode(dated.fmspc?).ok()?.try_into().ok()?;
    match dated.id.as_deref() {
        Some("TDX") => Some(CollateralKey::TdxTcbInfo(fmspc)),
        Some("SGX") | None => Some(CollateralKey::SgxTcbInfo(fmspc)),
        Some(_) => None,
    }
}

/// The key that an enclave identity belongs to, from what it says.
pub(crate) fn identity_key(identity: &str) -> Option<CollateralKey> {
    let dated: Dated = serde_json::from_str(identity).ok()?;
    match dated.id.as_deref()? {
        "TD_QE" => Some(CollateralKey::TdQeIdentity),
        "QE" => Some(CollateralKey::SgxQeIdentity),
        _ => None,
    }
}

/// The key that a revocation list belongs to, from its issuer's name.
pub(crate) fn crl_key(der: &[u8]) -> Option<CollateralKey> {
    let issuer = Crl::parse(der)?.issuer;
    let named = |name: &str| issuer.windows(name.len()).any(|part| part == name.as_bytes());
    Some(match () {
        () if named("PCK Processor CA") => CollateralKey::PckCrl(PckCa::Processor),
        () if named("PCK Platform CA") => CollateralKey::PckCrl(PckCa::Platform),
        () if named("SGX Root CA") => CollateralKey::IntelRootCrl,
        () if named("Milan") => CollateralKey::AmdCrl("Milan".into()),
        () if named("Genoa") => CollateralKey::AmdCrl("Genoa".into()),
        () if named("Turin") => CollateralKey::AmdCrl("Turin".into()),
        () => return None,
    })
}

/// The key of a chip's certificate, from its extensions (AMD, "VCEK Certificate and KDS Interface", section 3.1).
pub(crate) fn vcek_key(der: &[u8]) -> Option<CollateralKey> {
    const fn oid(arc: [u8; 2]) -> [u8; 10] {
        // 1.3.6.1.4.1.3704.1.x.y
        [0x2b, 0x06, 0x01, 0x04, 0x01, 0x9c, 0x78, 0x01, arc[0], arc[1]]
    }
    let certificate = Certificate::parse(der)?;
    let text = |value: &[u8]| {
        let element = der::Der::new(value).next()?;
        String::from_utf8(element.content.to_vec()).ok()
    };
    let level = |arc: [u8; 2]| -> Option<u8> {
        let value = certificate.extension(&oid(arc))?;
        der::Der::new(value).expect(0x02)?.content.last().copied()
    };
    // 1.3.6.1.4.1.3704.1.2 has one arc less.
    let name = text(certificate.extension(&[0x2b, 0x06, 0x01, 0x04, 0x01, 0x9c, 0x78, 0x01, 0x02])?)?;
    let product = name.split('-').next().filter(|name| CollateralKey::is_name(name))?.to_owned();
    let chip = certificate.extension(&[0x2b, 0x06, 0x01, 0x04, 0x01, 0x9c, 0x78, 0x01, 0x04])?.to_vec();
    let (bootloader, tee, snp, microcode) = (level([3, 1])?, level([3, 2])?, level([3, 3])?, level([3, 8])?);
    let tcb = match level([3, 9]) {
        Some(fmc) => [fmc, bootloader, tee, snp, 0, 0, 0, microcode],
        None => [bootloader, tee, 0, 0, 0, 0, snp, microcode],
    };
    Some(CollateralKey::AmdVcek { product, chip, tcb: u64::from_le_bytes(tcb) })
}

/// The first end in a chain of certificates in PEM.
fn chain_end(pem: &[u8]) -> Option<Timestamp> {
    let chain = certificates_in_pem(pem)?;
    let ends: Option<Vec<Timestamp>> =
        chain.iter().map(|der| Some(Certificate::parse(der)?.not_after)).collect();
    ends?.into_iter().min()
}

/// Certificates in PEM; none if one is broken.
pub(crate) fn certificates_in_pem(pem: &[u8]) -> Option<Vec<Vec<u8>>> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    Some(chain.ok()?.into_iter().map(|der| der.to_vec()).collect())
}

fn is_manifest(body: &[u8]) -> bool {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii_start();
    let word = b"SoftwareIdentity";
    body.starts_with(b"<") && body.windows(word.len()).any(|part| part == word)
}

/// The certificates that a signed manifest carries (XML-DSig, `X509Certificate`).
pub(crate) fn certificates_in_xml(body: &[u8]) -> Vec<Vec<u8>> {
    const OPEN: &str = "X509Certificate>";
    let Ok(text) = std::str::from_utf8(body) else { return Vec::new() };
    let parts = text.split(OPEN).skip(1).filter_map(|part| part.split('<').next());
    let texts = parts.map(|text| text.chars().filter(|c| !c.is_whitespace()).collect::<String>());
    texts.filter(|text| !text.is_empty()).filter_map(|text| STANDARD.decode(text).ok()).take(16).collect()
}

/// A revocation list as services and files have it, in DER: as it is, in PEM, or in hexadecimal digits (PCCS).
pub(crate) fn crl_der(body: Vec<u8>) -> Vec<u8> {
    let text = body.trim_ascii();
    let text = text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(text);
    if text.starts_with(b"-----BEGIN") {
        let list = rustls::pki_types::CertificateRevocationListDer::from_pem_slice(text);
        return list.map(|list| list.to_vec()).unwrap_or(body);
    }
    match text.len().is_multiple_of(2) && text.len() > 8 && text.iter().all(u8::is_ascii_hexdigit) {
        true => hex::decode(text).unwrap_or(body),
        false => body,
    }
}

//! Who signed: the subject that an authority put into the certificate, and the issuer of OpenID Connect that vouched
//! for it (Fulcio's `docs/oid-info.md`, and RFC 5280, section 4.2.1.6).

use coffer_verify_x509::Certificate;
use coffer_verify_x509::der::{Reader, tag};

use crate::error::SigstoreError;
use crate::wire::shown;

const SUBJECT_ALT_NAME: &str = "2.5.29.17";
/// Issuer (V2): an UTF8String in DER.
const ISSUER: &str = "1.3.6.1.4.1.57264.1.8";
/// Issuer: bare text, in older certificates.
const ISSUER_RAW: &str = "1.3.6.1.4.1.57264.1.1";
/// `rfc822Name` and `uniformResourceIdentifier`.
const EMAIL: u8 = 0x81;
const URI: u8 = 0x86;

/// A signer: who, and who says so. Both are compared octet by octet; there are no patterns.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The URL of the OpenID Connect issuer.
    pub issuer: String,
    /// The email address or URI, such as that of a workflow.
    pub subject: String,
}

/// Verifies that the certificate identifies the expected signer.
pub(crate) fn verify(leaf: &Certificate, expected: &Identity) -> Result<(), SigstoreError> {
    let subject = subject(leaf).unwrap_or_default();
    if subject != expected.subject || subject.is_empty() {
        let (expected, found) = (expected.subject.clone(), shown(subject));
        return Err(SigstoreError::Subject { expected, found });
    }
    let issuer = issuer(leaf).unwrap_or_default();
    if issuer != expected.issuer || issuer.is_empty() {
        let (expected, found) = (expected.issuer.clone(), shown(issuer));
        return Err(SigstoreError::Issuer { expected, found });
    }
    Ok(())
}

/// The one alternative name. A certificate with several would have several signers, so it has none.
fn subject(leaf: &Certificate) -> Option<&str> {
    let mut outer = Reader::new(leaf.extension(SUBJECT_ALT_NAME)?);
    let mut names = outer.sequence("subjectAltName").ok()?;
    outer.end("subjectAltName").ok()?;
    let name = names.any("GeneralName").ok()?;
    names.end("GeneralName").ok()?;
    match name.tag {
        EMAIL | URI => std::str::from_utf8(name.content).ok(),
        _ => None,
    }
}

/// The issuer. If it is said twice, both must be the same.
fn issuer(leaf: &Certificate) -> Option<&str> {
    let raw = leaf.extension(ISSUER_RAW).map(std::str::from_utf8).transpose().ok()?;
    let Some(value) = leaf.extension(ISSUER) else { return raw };
    let mut outer = Reader::new(value);
    let text = outer.expect(tag::UTF8_STRING, "issuer").ok()?.content;
    outer.end("issuer").ok()?;
    let issuer = std::str::from_utf8(text).ok()?;
    raw.is_none_or(|raw| raw == issuer).then_some(issuer)
}

//! A certificate's fields, as they stand in it: for judges that compare extensions with evidence.
//!
//! Reading believes nothing: a certificate is believed when a path of [`crate::Paths`] or a judge's own chain says so.

use std::ops::Range;

use crate::der::{self, DerError, Reader, tag};
use crate::error::CertificateError;
use crate::signed;

/// Certificates of evidence are far shorter.
const MAX_CERTIFICATE: usize = 32 << 10;
const MAX_EXTENSIONS: usize = 64;

/// A certificate (RFC 5280, section 4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
    tbs: Range<usize>,
    algorithm: Range<usize>,
    signature: Range<usize>,
    serial: Range<usize>,
    issuer: Range<usize>,
    subject: Range<usize>,
    spki: Range<usize>,
    not_before: i64,
    not_after: i64,
    /// Identifier's content, whether critical, value's content.
    extensions: Vec<(Range<usize>, bool, Range<usize>)>,
}

impl Certificate {
    /// Reads one certificate in DER, with nothing behind it.
    pub fn parse(der: &[u8]) -> Result<Self, CertificateError> {
        if der.len() > MAX_CERTIFICATE {
            return Err(CertificateError::TooLong(der.len()));
        }
        let at = |part: &[u8]| place(der, part);
        let mut outer = Reader::new(der);
        let mut certificate = outer.sequence("the certificate")?;
        outer.end("the certificate")?;
        let tbs = certificate.expect(tag::SEQUENCE, "tbsCertificate")?;
        let algorithm = certificate.expect(tag::SEQUENCE, "signatureAlgorithm")?;
        let signature = certificate.bits("signatureValue")?;
        certificate.end("the signature")?;

        let mut body = Reader::new(tbs.content);
        body.optional(0xa0, "version")?;
        let serial = body.expect(tag::INTEGER, "serialNumber")?;
        if body.expect(tag::SEQUENCE, "signature")?.whole != algorithm.whole {
            return Err(DerError::Value("signature").into());
        }
        let issuer = body.expect(tag::SEQUENCE, "issuer")?;
        let mut validity = body.sequence("validity")?;
        let not_before = der::time(&validity.any("notBefore")?, "notBefore")?;
        let not_after = der::time(&validity.any("notAfter")?, "notAfter")?;
        validity.end("validity")?;
        let subject = body.expect(tag::SEQUENCE, "subject")?;
        let spki = body.expect(tag::SEQUENCE, "subjectPublicKeyInfo")?;
        body.optional(0x81, "issuerUniqueID")?;
        body.optional(0x82, "subjectUniqueID")?;
        let extensions = match body.optional(0xa3, "extensions")? {
            Some(wrapped) => extensions(wrapped.content, der)?,
            None => Vec::new(),
        };
        body.end("tbsCertificate")?;
        Ok(Self {
            tbs: at(tbs.whole),
            algorithm: at(algorithm.whole),
            signature: at(signature),
            serial: at(serial.content),
            issuer: at(issuer.whole),
            subject: at(subject.whole),
            spki: at(spki.whole),
            not_before,
            not_after,
            extensions,
            der: der.to_vec(),
        })
    }

    /// All certificates of a text in PEM, in their order; what is between them is skipped.
    pub fn parse_pem(text: &[u8]) -> Result<Vec<Self>, CertificateError> {
        pem_certificates(text)?.iter().map(|der| Self::parse(der)).collect()
    }

    fn part(&self, range: &Range<usize>) -> &[u8] {
        self.der.get(range.clone()).unwrap_or_default()
    }

    /// The whole.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// What is signed.
    pub fn tbs(&self) -> &[u8] {
        self.part(&self.tbs)
    }

    /// The signature's `AlgorithmIdentifier` in DER.
    pub fn signature_algorithm(&self) -> &[u8] {
        self.part(&self.algorithm)
    }

    /// The signature's octets.
    pub fn signature(&self) -> &[u8] {
        self.part(&self.signature)
    }

    /// The serial number's content octets, as encoded.
    pub fn serial(&self) -> &[u8] {
        self.part(&self.serial)
    }

    /// The issuer's name in DER.
    pub fn issuer_der(&self) -> &[u8] {
        self.part(&self.issuer)
    }

    /// The subject's name in DER.
    pub fn subject_der(&self) -> &[u8] {
        self.part(&self.subject)
    }

    /// The issuer's common name, empty if it has none that is text.
    pub fn issuer_cn(&self) -> String {
        common_name(self.issuer_der())
    }

    /// The subject's common name, empty if it has none that is text.
    pub fn subject_cn(&self) -> String {
        common_name(self.subject_der())
    }

    /// The first second of its validity, since 1970.
    pub const fn not_before(&self) -> i64 {
        self.not_before
    }

    /// The last second of its validity, since 1970.
    pub const fn not_after(&self) -> i64 {
        self.not_after
    }

    /// Whether it is valid at the time, by its own dates alone.
    pub const fn is_valid_at(&self, at: i64) -> bool {
        self.not_before <= at && at <= self.not_after
    }

    /// The key as `SubjectPublicKeyInfo` in DER.
    pub fn spki_der(&self) -> &[u8] {
        self.part(&self.spki)
    }

    /// The key's bits: for elliptic curves the point, for RSA an `RSAPublicKey` in DER.
    pub fn public_key(&self) -> &[u8] {
        signed::key_bits(self.spki_der()).unwrap_or_default()
    }

    /// An extension's value (the content of its OCTET STRING) by the dotted identifier.
    pub fn extension(&self, oid: &str) -> Option<&[u8]> {
        let wanted = der::oid(oid)?;
        self.extensions().find(|(id, _, _)| *id == wanted).map(|(_, _, value)| value)
    }

    /// All extensions: the identifier's content, whether it is critical, the value.
    pub fn extensions(&self) -> impl Iterator<Item = (&[u8], bool, &[u8])> {
        self.extensions.iter().map(|(id, critical, value)| (self.part(id), *critical, self.part(value)))
    }

    /// Whether it says that it is a certification authority (RFC 5280, section 4.2.1.9).
    pub fn is_ca(&self) -> bool {
        let read = |value: &[u8]| {
            let mut constraints = Reader::new(value).sequence("basicConstraints").ok()?;
            constraints.optional(tag::BOOLEAN, "cA").ok()?.map(|ca| ca.content == [0xff])
        };
        self.extension("2.5.29.19").and_then(read).unwrap_or(false)
    }

    /// Whether the key of `issuer` signed it. Names, dates and purposes are the caller's to check.
    pub fn verify_signed_by(&self, issuer: &Self) -> Result<(), CertificateError> {
        signed::verify(issuer.spki_der(), self.signature_algorithm(), self.tbs(), self.signature())
    }
}

/// Where `part`, which was read out of `whole`, stands in it.
pub(crate) fn place(whole: &[u8], part: &[u8]) -> Range<usize> {
    let start = (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize);
    start..start.saturating_add(part.len())
}

type Extension = (Range<usize>, bool, Range<usize>);

pub(crate) fn extensions(wrapped: &[u8], der: &[u8]) -> Result<Vec<Extension>, DerError> {
    let mut wrapped = Reader::new(wrapped);
    let mut list = wrapped.sequence("extensions")?;
    wrapped.end("extensions")?;
    let mut found: Vec<Extension> = Vec::new();
    while !list.is_empty() {
        let mut one = list.sequence("an extension")?;
        let id = one.expect(tag::OID, "an extension's identifier")?.content;
        let critical = match one.optional(tag::BOOLEAN, "critical")? {
            Some(critical) => critical.content == [0xff],
            None => false,
        };
        let value = one.expect(tag::OCTET_STRING, "an extension's value")?.content;
        one.end("an extension")?;
        // RFC 5280, section 4.2: at most one of each kind.
        if found.len() >= MAX_EXTENSIONS
            || found.iter().any(|(other, _, _)| der.get(other.clone()) == Some(id))
        {
            return Err(DerError::Value("extensions"));
        }
        found.push((place(der, id), critical, place(der, value)));
    }
    Ok(found)
}

/// The first common name, as far as it is text.
fn common_name(name: &[u8]) -> String {
    const COMMON_NAME: [u8; 3] = [0x55, 4, 3];
    let read = || {
        let mut parts = Reader::new(name).sequence("name").ok()?;
        while !parts.is_empty() {
            let mut set = Reader::new(parts.expect(tag::SET, "name").ok()?.content);
            while !set.is_empty() {
                let mut pair = set.sequence("name").ok()?;
                let id = pair.expect(tag::OID, "name").ok()?;
                let value = pair.any("name").ok()?;
                if id.content == COMMON_NAME {
                    return std::str::from_utf8(value.content).ok();
                }
            }
        }
        None
    };
    read().unwrap_or_default().chars().filter(|c| !c.is_control()).take(96).collect()
}

/// The certificates in a PEM text in DER, at most as many as any chain has. Each has one spelling: base64 whose spare bits
/// are not zero (RFC 4648, section 3.5) is refused, also of a certificate that nobody needs.
pub fn pem_certificates(text: &[u8]) -> Result<Vec<Vec<u8>>, CertificateError> {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject as _;
    const MAX: usize = 16;
    const END: &[u8] = b"-----END ";
    // Intel ends its chains in quotes with a NUL.
    let end = text.iter().rposition(|byte| *byte != 0).map_or(0, |last| last.saturating_add(1));
    let text = text.get(..end).unwrap_or_default();
    let read = CertificateDer::pem_slice_iter(text).take(MAX.saturating_add(1));
    let found: Vec<Vec<u8>> = read
        .map(|one| one.map(|der| der.to_vec()))
        .collect::<Result<_, _>>()
        .map_err(|cause| CertificateError::Pem(cause.to_string()))?;
    let ends = text.windows(END.len()).enumerate().filter(|(_, window)| *window == END);
    if ends.map(|(at, _)| text.get(..at).unwrap_or_default()).any(has_spare_bits) {
        let why = "the last symbol of a certificate's base64 has bits that belong to no byte (RFC 4648, section 3.5)";
        return Err(CertificateError::Pem(why.into()));
    }
    match found.len() {
        0 => Err(CertificateError::Pem("no certificate is in it".into())),
        1..=MAX => Ok(found),
        more => Err(CertificateError::Pem(format!("{more} certificates are too many"))),
    }
}

/// Whether the last symbol of base64, before its padding, has bits that are thrown away and are not zero.
fn has_spare_bits(text: &[u8]) -> bool {
    let mut symbols = text.iter().rev().filter(|byte| !byte.is_ascii_whitespace()).peekable();
    let mut padding = 0_usize;
    while symbols.next_if_eq(&&b'=').is_some() {
        padding = padding.saturating_add(1);
    }
    // Of six bits, the upper two or four are a byte's.
    let whole: &[u8] = match padding {
        0 => return false,
        1 => b"AEIMQUYcgkosw048",
        _ => b"AQgw",
    };
    symbols.next().is_none_or(|last| !whole.contains(last))
}

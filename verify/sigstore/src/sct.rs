//! Signed certificate timestamps that are embedded in a certificate (RFC 6962, sections 3.2 and 3.3).
//!
//! One timestamp of a log of the trust root is enough. Left out: whether the CT log really has the certificate, which
//! cannot be known offline.

use coffer_verify_x509::Certificate;
use coffer_verify_x509::der::{DerError, Reader, oid, tag};

use crate::error::SigstoreError;
use crate::key::sha256;
use crate::trust_root::TrustRoot;

/// The extension of RFC 6962, section 3.3.
const EXTENSION: &str = "1.3.6.1.4.1.11129.2.4.2";
const MAX_TIMESTAMPS: usize = 8;

/// One timestamp (RFC 6962, section 3.2).
struct Timestamp<'a> {
    log: [u8; 32],
    /// Milliseconds since 1970.
    at: u64,
    extensions: &'a [u8],
    signature: &'a [u8],
}

/// Verifies that a CT log of the trust root took the certificate, which `issuer` issued.
pub(crate) fn verify(
    leaf: &Certificate,
    issuer: &Certificate,
    root: &TrustRoot,
) -> Result<(), SigstoreError> {
    let value = leaf.extension(EXTENSION).ok_or(SigstoreError::SctMissing)?;
    let mut outer = Reader::new(value);
    let octets = outer.expect(tag::OCTET_STRING, "the list").map(|found| found.content);
    let list = octets.and_then(|octets| outer.end("the list").map(|()| octets));
    let list = list.map_err(|_| SigstoreError::SctMalformed("no OCTET STRING"))?;
    let timestamps = timestamps(list).ok_or(SigstoreError::SctMalformed("a length or version is wrong"))?;
    let tbs = precertificate(leaf.tbs())
        .map_err(|_| SigstoreError::SctMalformed("the certificate's extensions"))?;
    let issuer = sha256(issuer.spki_der());

    let mut refusal = SigstoreError::SctMissing;
    for timestamp in timestamps {
        match verify_one(&timestamp, &tbs, &issuer, root) {
            Ok(()) => return Ok(()),
            // A log that is trusted says better what is wrong than one that is not.
            Err(SigstoreError::SctLogUnknown { .. }) if refusal != SigstoreError::SctMissing => {}
            Err(cause) => refusal = cause,
        }
    }
    Err(refusal)
}

fn verify_one(
    one: &Timestamp<'_>,
    tbs: &[u8],
    issuer: &[u8; 32],
    root: &TrustRoot,
) -> Result<(), SigstoreError> {
    let message =
        signed(one, tbs, issuer).ok_or(SigstoreError::SctMalformed("a certificate that is too long"))?;
    let at = i64::try_from(one.at).unwrap_or(i64::MAX);
    let mut refusal = SigstoreError::SctLogUnknown { found: hex::encode(one.log) };
    for log in root.ct_logs.iter().filter(|log| log.id == one.log) {
        if !log.window.holds_millis(at) {
            let stamp = jiff::Timestamp::from_millisecond(at);
            let at = stamp.map_or_else(|_| at.to_string(), |stamp| stamp.to_string());
            refusal = SigstoreError::SctWindow { at, window: log.window.to_string() };
        } else if log.key.has_signed(&message, one.signature) {
            return Ok(());
        } else {
            refusal = SigstoreError::SctSignature { log: hex::encode(one.log) };
        }
    }
    Err(refusal)
}

/// What a CT log signs for a precertificate: `digitally-signed struct` of RFC 6962, section 3.2, with a `PreCert`.
fn signed(one: &Timestamp<'_>, tbs: &[u8], issuer: &[u8; 32]) -> Option<Vec<u8>> {
    let length = u32::try_from(tbs.len()).ok().filter(|length| *length < 1 << 24)?.to_be_bytes();
    let extensions = u16::try_from(one.extensions.len()).ok()?.to_be_bytes();
    let mut message = vec![0, 0];
    message.extend(one.at.to_be_bytes());
    message.extend([0, 1]);
    message.extend(issuer);
    message.extend(length.get(1..)?);
    message.extend(tbs);
    message.extend(extensions);
    message.extend(one.extensions);
    Some(message)
}

/// The `SignedCertificateTimestampList` (RFC 6962, section 3.3), of which nothing may be left over. Timestamps of
/// versions and algorithms that are not known are skipped.
fn timestamps(list: &[u8]) -> Option<Vec<Timestamp<'_>>> {
    let (mut list, rest) = vector(list)?;
    let mut found = Vec::new();
    let mut count = 0_usize;
    while !list.is_empty() {
        let (one, after) = vector(list)?;
        list = after;
        count = count.saturating_add(1);
        found.extend(timestamp(one)?);
    }
    (rest.is_empty() && (1..=MAX_TIMESTAMPS).contains(&count)).then_some(found)
}

/// None if it cannot be read, Some(None) if it is of another version or algorithm.
fn timestamp(one: &[u8]) -> Option<Option<Timestamp<'_>>> {
    // RFC 6962, section 3.2: v1 is 0. RFC 5246, section 7.4.1.4.1: SHA-256 is 4 and ECDSA is 3.
    let Some(one) = one.strip_prefix(&[0]) else { return Some(None) };
    let (log, one) = one.split_first_chunk::<32>()?;
    let (at, one) = one.split_first_chunk::<8>()?;
    let (extensions, one) = vector(one)?;
    let (algorithm, one) = one.split_first_chunk::<2>()?;
    let (signature, rest) = vector(one)?;
    if !rest.is_empty() {
        return None;
    }
    let found = Timestamp { log: *log, at: u64::from_be_bytes(*at), extensions, signature };
    Some((*algorithm == [4, 3]).then_some(found))
}

/// A TLS vector with a length of two octets, and what follows it.
fn vector(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

/// The TBSCertificate without the extension of the timestamps: what the CT log saw (RFC 6962, section 3.2).
fn precertificate(tbs: &[u8]) -> Result<Vec<u8>, DerError> {
    let id = oid(EXTENSION).ok_or(DerError::Value("the extension's identifier"))?;
    let mut body = Reader::new(tbs).sequence("tbsCertificate")?;
    let mut fields = Vec::new();
    while !body.is_empty() {
        let field = body.any("a field of tbsCertificate")?;
        if field.tag != 0xa3 {
            fields.extend(field.whole);
            continue;
        }
        let mut list = Reader::new(field.content).sequence("extensions")?;
        let mut kept = Vec::new();
        while !list.is_empty() {
            let one = list.expect(tag::SEQUENCE, "an extension")?;
            if Reader::new(one.content).expect(tag::OID, "an extension's identifier")?.content != id {
                kept.extend(one.whole);
            }
        }
        fields.extend(wrapped(0xa3, &wrapped(tag::SEQUENCE, &kept)));
    }
    Ok(wrapped(tag::SEQUENCE, &fields))
}

/// An element in DER (X.690, section 8.1.3).
fn wrapped(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let octets: Vec<u8> = length.into_iter().skip_while(|octet| *octet == 0).collect();
    let mut element = vec![tag];
    match *octets.as_slice() {
        [] => element.push(0),
        [short] if short < 0x80 => element.push(short),
        _ => {
            element.push(u8::try_from(octets.len()).unwrap_or_default() | 0x80);
            element.extend(octets);
        }
    }
    element.extend(content);
    element
}

//! The signer's certificate: its path to an authority of the trust root, and what it is for.

use coffer_verify_x509::der::{Reader, oid, tag};
use coffer_verify_x509::{Certificate, PathError, verify_path};

use crate::error::SigstoreError;
use crate::log::time;
use crate::trust_root::{Authority, TrustRoot};

/// `id-kp-codeSigning` (RFC 5280, section 4.2.1.12).
const CODE_SIGNING: &str = "1.3.6.1.5.5.7.3.3";
/// `id-ce-extKeyUsage`.
const EXTENDED_KEY_USAGE: &str = "2.5.29.37";

/// Verifies the path at the time, in seconds since 1970, and returns the certificate of the leaf's issuer.
pub(crate) fn verify<'a>(
    leaf: &Certificate,
    root: &'a TrustRoot,
    at: i64,
) -> Result<&'a Certificate, SigstoreError> {
    let mut refusal =
        SigstoreError::Chain { at: time(at), why: "the trust root has no authority".to_owned() };
    for authority in &root.authorities {
        match path(leaf, authority, at) {
            Ok(issuer) => return Ok(issuer),
            // An authority that issued the certificate says best what is wrong with it.
            Err(cause) if !matches!(cause, SigstoreError::Chain { .. }) => refusal = cause,
            Err(cause) if matches!(refusal, SigstoreError::Chain { .. }) => refusal = cause,
            Err(_) => {}
        }
    }
    Err(refusal)
}

fn path<'a>(leaf: &Certificate, authority: &'a Authority, at: i64) -> Result<&'a Certificate, SigstoreError> {
    let no_path = |why: String| SigstoreError::Chain { at: time(at), why };
    let (anchor, intermediates) = (&authority.anchor, &authority.intermediates);
    let mut sent = vec![leaf.der().to_vec()];
    sent.extend(intermediates.iter().map(|one| one.der().to_vec()));
    verify_path(&sent, &[anchor.der().to_vec()], &[], at).map_err(|cause| match cause {
        PathError::Expired { .. } | PathError::NotYetValid { .. } => {
            SigstoreError::CertificateTime(cause.to_string())
        }
        other => no_path(other.to_string()),
    })?;
    if !authority.window.holds(at) {
        return Err(SigstoreError::AuthorityWindow { at: time(at), window: authority.window.to_string() });
    }
    // The leaf must name the purpose. An authority that names none may certify for any (RFC 5280, section 4.2.1.12).
    if !is_for_code_signing(leaf).unwrap_or(false) {
        return Err(SigstoreError::Purpose { which: "the signer's certificate" });
    }
    if intermediates.iter().any(|one| !is_for_code_signing(one).unwrap_or(true)) {
        return Err(SigstoreError::Purpose { which: "an intermediate certificate" });
    }
    let issued =
        |one: &&Certificate| one.subject_der() == leaf.issuer_der() && leaf.verify_signed_by(one).is_ok();
    intermediates
        .iter()
        .chain([anchor])
        .find(issued)
        .ok_or_else(|| no_path("no issuer of the leaf".to_owned()))
}

/// Whether the certificate names the purpose. None if it names no purpose at all.
fn is_for_code_signing(certificate: &Certificate) -> Option<bool> {
    let value = certificate.extension(EXTENDED_KEY_USAGE)?;
    let wanted = oid(CODE_SIGNING)?;
    let read = || {
        let mut outer = Reader::new(value);
        let mut purposes = outer.sequence("extKeyUsage")?;
        outer.end("extKeyUsage")?;
        let mut named = false;
        while !purposes.is_empty() {
            named |= purposes.expect(tag::OID, "KeyPurposeId")?.content == wanted;
        }
        Ok::<bool, coffer_verify_x509::der::DerError>(named)
    };
    Some(read().unwrap_or(false))
}

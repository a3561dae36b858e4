//! Which certificate is at fault: webpki says what is wrong, but not with which of them.

use std::fmt;

use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, Error, ExtendedKeyUsageValidator, anchor_from_trusted_cert};

use crate::purpose::{self, AnyOf, Named, Purpose};
use crate::{ALGORITHMS, PathError};

/// A certificate, by its place and its subject's common name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Which {
    place: Place,
    name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Sent(usize),
    Anchor(usize),
}

impl Which {
    pub(crate) fn sent(index: usize, der: &CertificateDer<'_>) -> Self {
        Self { place: Place::Sent(index), name: subject(der) }
    }

    pub(crate) fn anchor(index: usize, der: &CertificateDer<'_>) -> Self {
        Self { place: Place::Anchor(index), name: subject(der) }
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Place::Sent(0) => f.write_str("the leaf certificate")?,
            Place::Sent(index) => write!(f, "certificate {index} above the leaf")?,
            Place::Anchor(index) => write!(f, "trust anchor {index}")?,
        }
        match self.name.is_empty() {
            true => Ok(()),
            false => write!(f, " ({:?})", self.name),
        }
    }
}

/// Turns webpki's refusal of the whole into a refusal of one certificate.
pub(crate) fn explain(
    cause: &Error,
    sent: &[CertificateDer<'_>],
    roots: &[CertificateDer<'_>],
    purposes: &[Purpose],
    time: UnixTime,
) -> PathError {
    for (index, der) in sent.iter().enumerate() {
        if let Err(why) = EndEntityCert::try_from(der) {
            return PathError::Malformed { which: Which::sent(index, der), why: why.to_string() };
        }
        if let Err(expired) = check_validity(der, || Which::sent(index, der), time) {
            return expired;
        }
    }
    match cause {
        Error::RequiredEkuNotFoundContext(_) => wrong_purpose(sent, purposes, time),
        Error::InvalidSignatureForPublicKey => wrong_signature(sent, roots, time),
        Error::UnknownIssuer => unknown_issuer(sent, roots),
        _ => None,
    }
    .unwrap_or_else(|| PathError::Rule(cause.to_string()))
}

/// Whether the certificate itself is valid at the time, whoever issued it.
pub(crate) fn check_validity(
    der: &CertificateDer<'_>,
    which: impl FnOnce() -> Which,
    time: UnixTime,
) -> Result<(), PathError> {
    // Without anchors there is never a path, but webpki looks at the certificate's own time first.
    match refusal(der, AnyOf(&[]), time) {
        Some(Error::CertExpired { not_after, time }) => {
            Err(PathError::Expired { which: which(), since: text(not_after), at: text(time) })
        }
        Some(Error::CertNotValidYet { not_before, time }) => {
            Err(PathError::NotYetValid { which: which(), from: text(not_before), at: text(time) })
        }
        _ => Ok(()),
    }
}

fn refusal(
    der: &CertificateDer<'_>,
    purposes: impl ExtendedKeyUsageValidator,
    time: UnixTime,
) -> Option<Error> {
    let certificate = EndEntityCert::try_from(der).ok()?;
    certificate.verify_for_usage(ALGORITHMS, &[], &[], time, purposes, None, None).err()
}

/// Whether the leaf names one of the purposes itself. Without anchors there is never a path, but webpki looks at
/// the purposes first.
pub(crate) fn check_purpose(
    leaf: &CertificateDer<'_>,
    purposes: &[Purpose],
    time: UnixTime,
) -> Result<(), PathError> {
    match refusal(leaf, Named(purposes), time) {
        Some(Error::RequiredEkuNotFoundContext(context)) => Err(PathError::Purpose {
            which: Which::sent(0, leaf),
            expected: purpose::list(purposes),
            found: purpose::dotted(&context.present),
        }),
        _ => Ok(()),
    }
}

fn wrong_purpose(sent: &[CertificateDer<'_>], purposes: &[Purpose], time: UnixTime) -> Option<PathError> {
    sent.iter().enumerate().find_map(|(index, der)| {
        let found = AnyOf(purposes).refuses(der, time)?;
        Some(PathError::Purpose { which: Which::sent(index, der), expected: purpose::list(purposes), found })
    })
}

impl AnyOf<'_> {
    /// The purposes that the certificate names, if none of them will do.
    fn refuses(&self, der: &CertificateDer<'_>, time: UnixTime) -> Option<String> {
        match refusal(der, AnyOf(self.0), time) {
            Some(Error::RequiredEkuNotFoundContext(context)) => Some(purpose::dotted(&context.present)),
            _ => None,
        }
    }
}

/// Walks up from the leaf, taking each issuer that was sent for an anchor, until a signature is wrong.
fn wrong_signature(
    sent: &[CertificateDer<'_>],
    roots: &[CertificateDer<'_>],
    time: UnixTime,
) -> Option<PathError> {
    let leaf = EndEntityCert::try_from(sent.first()?).ok()?;
    let bad = |index: usize, issuer: &CertificateDer<'_>| {
        let below = sent.get(1..=index).unwrap_or_default();
        let anchor = anchor_from_trusted_cert(issuer).ok()?;
        let found =
            leaf.verify_for_usage(ALGORITHMS, &[anchor], below, time, AnyOf(&[]), None, None).err()?;
        let which = Which::sent(index, sent.get(index)?);
        (found == Error::InvalidSignatureForPublicKey)
            .then(|| PathError::Signature { which, issuer: subject(issuer) })
    };
    let inner =
        sent.iter().enumerate().skip(1).find_map(|(above, issuer)| bad(above.checked_sub(1)?, issuer));
    let top = sent.len().checked_sub(1)?;
    inner.or_else(|| roots.iter().find_map(|root| bad(top, root)))
}

/// Walks up by names to the certificate whose issuer nobody knows.
fn unknown_issuer(sent: &[CertificateDer<'_>], roots: &[CertificateDer<'_>]) -> Option<PathError> {
    let mut at = 0;
    for _ in sent {
        let der = sent.get(at)?;
        let certificate = EndEntityCert::try_from(der).ok()?;
        let issues = |other: &CertificateDer<'_>| {
            EndEntityCert::try_from(other).is_ok_and(|other| other.subject() == certificate.issuer())
        };
        let above = sent.iter().position(|other| other != der && issues(other));
        match above {
            Some(above) => at = above,
            None if roots.iter().any(issues) => return None,
            None => {
                let issuer = common_name(certificate.issuer());
                return Some(PathError::UnknownIssuer { which: Which::sent(at, der), issuer });
            }
        }
    }
    None
}

fn subject(der: &CertificateDer<'_>) -> String {
    EndEntityCert::try_from(der).map(|certificate| common_name(certificate.subject())).unwrap_or_default()
}

/// The common name in a DER name, as far as it is plain text. For people only; nothing is decided by it.
fn common_name(name: &[u8]) -> String {
    const COMMON_NAME: [u8; 5] = [6, 3, 0x55, 4, 3];
    let after = name.windows(COMMON_NAME.len()).position(|window| window == COMMON_NAME);
    let value = after.and_then(|at| name.get(at.saturating_add(COMMON_NAME.len())..));
    let text = value.and_then(|value| match value {
        [_, length @ 0..=0x7f, rest @ ..] => rest.get(..usize::from(*length)),
        _ => None,
    });
    let readable = |c: &char| !c.is_control();
    String::from_utf8_lossy(text.unwrap_or_default()).chars().filter(readable).take(96).collect()
}

fn text(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX).to_string()
}

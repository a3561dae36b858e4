//! Extended key usages (RFC 5280, section 4.2.1.12).

use std::fmt;

use webpki::RequiredEkuNotFoundContext;
use webpki::{Error, ExtendedKeyUsageValidator, KeyPurposeId, KeyPurposeIdIter, KeyUsage};

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purpose {
    name: &'static str,
    dotted: &'static str,
    encoded: &'static [u8],
}

impl Purpose {
    /// `tcg-kp-EKCertificate`. Google's platforms put it on attestation keys' certificates, too.
    pub const ENDORSEMENT_KEY: Self =
        Self { name: "tcg-kp-EKCertificate", dotted: "2.23.133.8.1", encoded: &[0x67, 0x81, 5, 8, 1] };
    /// `tcg-kp-AIKCertificate`.
    pub const ATTESTATION_KEY: Self =
        Self { name: "tcg-kp-AIKCertificate", dotted: "2.23.133.8.3", encoded: &[0x67, 0x81, 5, 8, 3] };

    /// The object identifier's content in DER.
    pub(crate) const fn encoded(&self) -> &'static [u8] {
        self.encoded
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.dotted)
    }
}

/// Satisfied by a certificate with one of these purposes, and by one that names none. For every certificate of a
/// path: authorities seldom name purposes.
pub(crate) struct AnyOf<'a>(pub(crate) &'a [Purpose]);

/// Satisfied only by a certificate that names one of these purposes. For the leaf: under a root with many uses, a
/// leaf that names none is a key that anybody may have had certified.
pub(crate) struct Named<'a>(pub(crate) &'a [Purpose]);

impl ExtendedKeyUsageValidator for AnyOf<'_> {
    fn validate(&self, named: KeyPurposeIdIter<'_, '_>) -> Result<(), Error> {
        match lacking(self.0, named)? {
            Some(context) if !context.present.is_empty() => Err(Error::RequiredEkuNotFoundContext(context)),
            _ => Ok(()),
        }
    }
}

impl ExtendedKeyUsageValidator for Named<'_> {
    fn validate(&self, named: KeyPurposeIdIter<'_, '_>) -> Result<(), Error> {
        match lacking(self.0, named)? {
            Some(context) => Err(Error::RequiredEkuNotFoundContext(context)),
            None => Ok(()),
        }
    }
}

/// What is named instead, if none of the purposes is. Without purposes nothing is asked for.
fn lacking(
    purposes: &[Purpose],
    named: KeyPurposeIdIter<'_, '_>,
) -> Result<Option<RequiredEkuNotFoundContext>, Error> {
    let Some(first) = purposes.first() else { return Ok(None) };
    let mut present = Vec::new();
    for id in named {
        let id = id?;
        if purposes.iter().any(|purpose| KeyPurposeId::new(purpose.encoded) == id) {
            return Ok(None);
        }
        present.push(id.to_decoded_oid());
    }
    Ok(Some(RequiredEkuNotFoundContext { required: KeyUsage::required(first.encoded), present }))
}

pub(crate) fn list(purposes: &[Purpose]) -> String {
    purposes.iter().map(Purpose::to_string).collect::<Vec<_>>().join(" or ")
}

pub(crate) fn dotted(found: &[Vec<usize>]) -> String {
    if found.is_empty() {
        return "no purpose that it names".to_owned();
    }
    let one = |oid: &Vec<usize>| oid.iter().map(usize::to_string).collect::<Vec<_>>().join(".");
    found.iter().map(one).collect::<Vec<_>>().join(", ")
}

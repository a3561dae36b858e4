//! Client certificates that TLS verified, and the rules that name admins by them.
//!
//! TRUST: a certificate comes from the TLS layer, which verified its path to a root that was configured, its
//! purpose and that the peer has its key. Here it is only read: names, end, digest.

pub use coffer_core_admin::CertificateName as Names;
use coffer_core_digest::Digest;
use coffer_verify_x509::Certificate;
use coffer_verify_x509::der::{Reader, tag};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{SettingsError, Unauthenticated};
use crate::identity::{Identity, Via};
use crate::local::{check_name, check_roles};
use crate::roles::RoleSet;
use crate::scope::Scope;

/// The subjectAltName extension (RFC 5280, section 4.2.1.6), and its kinds of names.
const SUBJECT_ALT_NAME: &str = "2.5.29.17";
const EMAIL: u8 = 0x81;
const DNS: u8 = 0x82;
const URI: u8 = 0x86;
const MAX_NAMES: usize = 64;

/// Which certificate is which admin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificateRule {
    /// The admin's name, unique in its scope.
    pub name: String,
    /// The certificate.
    pub certificate: Names,
    /// What the admin may do.
    pub roles: RoleSet,
}

impl CertificateRule {
    pub(crate) fn check(&self, scope: &Scope) -> Result<(), SettingsError> {
        let place = format!("certificate rule {:?}", crate::json::short(&self.name));
        check_name(&place, &self.name)?;
        check_roles(&place, self.roles, scope)?;
        let text = match &self.certificate {
            Names::Uri(text) | Names::Dns(text) | Names::Email(text) | Names::CommonName(text) => text,
            Names::Sha256(text) if text.len() == 64 && hex::decode(text).is_ok() => text,
            Names::Sha256(text) => {
                return Err(SettingsError::Field {
                    place,
                    field: "certificate.sha256",
                    expected: "64 hexadecimal digits",
                    found: format!("{:?}", crate::json::short(text)),
                });
            }
        };
        match (1..=1024).contains(&text.len()) {
            true => Ok(()),
            false => Err(SettingsError::Field {
                place,
                field: "certificate",
                expected: "1 to 1024 characters",
                found: text.len().to_string(),
            }),
        }
    }

    pub(crate) fn identify(&self, certificate: &ClientCertificate, scope: &Scope) -> Option<Identity> {
        let listed =
            |kind: u8, text: &str| certificate.names.iter().any(|(k, name)| *k == kind && name == text);
        let fits = match &self.certificate {
            Names::Uri(text) => listed(URI, text),
            Names::Dns(text) => listed(DNS, text),
            Names::Email(text) => listed(EMAIL, text),
            Names::CommonName(text) => certificate.common_name.as_deref() == Some(text),
            Names::Sha256(text) => text.eq_ignore_ascii_case(&hex::encode(certificate.sha256)),
        };
        let via = || Via::ClientCertificate(hex::encode(certificate.sha256));
        fits.then(|| {
            Identity::new(self.name.clone(), scope.clone(), self.roles, via(), certificate.not_after)
        })
    }
}

/// A client certificate that TLS verified, as it is read here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    names: Vec<(u8, String)>,
    common_name: Option<String>,
    not_before: i64,
    not_after: u64,
    sha256: [u8; 32],
}

impl ClientCertificate {
    /// Reads the end-entity certificate of a connection whose TLS handshake verified it.
    pub fn from_verified_der(der: &[u8]) -> Result<Self, Unauthenticated> {
        let wrong = |why: String| Unauthenticated::Certificate(why);
        let read = Certificate::parse(der).map_err(|error| wrong(error.to_string()))?;
        let names = match read.extension(SUBJECT_ALT_NAME) {
            Some(value) => alternative_names(value).ok_or_else(|| wrong("its subjectAltName".to_owned()))?,
            None => Vec::new(),
        };
        let sha256 = Digest::sha256(der);
        let sha256 = <[u8; 32]>::try_from(sha256.as_bytes()).map_err(|_| wrong("its digest".to_owned()))?;
        Ok(Self {
            names,
            common_name: common_name(read.subject_der()),
            not_before: read.not_before(),
            not_after: u64::try_from(read.not_after())
                .map_err(|_| wrong("it ended before 1970".to_owned()))?,
            sha256,
        })
    }

    /// SHA-256 over it, as `cnf` of a bound token has it (RFC 8705, section 3.1).
    pub(crate) fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    /// A connection can outlive the certificate that it began with.
    pub(crate) fn check_time(&self, now: u64) -> Result<(), Unauthenticated> {
        let begins = u64::try_from(self.not_before).unwrap_or(0);
        match (begins <= now, now <= self.not_after) {
            (true, true) => Ok(()),
            (false, _) => Err(Unauthenticated::NotYet { begins, now }),
            (_, false) => Err(Unauthenticated::Expired { ended: self.not_after, now }),
        }
    }
}

fn alternative_names(value: &[u8]) -> Option<Vec<(u8, String)>> {
    let mut list = Reader::new(value).sequence("subjectAltName").ok()?;
    let mut names = Vec::new();
    while !list.is_empty() {
        let name = list.any("a name").ok()?;
        if names.len() >= MAX_NAMES {
            return None;
        }
        if [EMAIL, DNS, URI].contains(&name.tag) {
            // An IA5String: a zero or a letter beyond ASCII would be read differently elsewhere.
            let text = std::str::from_utf8(name.content).ok()?;
            if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
                return None;
            }
            names.push((name.tag, text.to_owned()));
        }
    }
    Some(names)
}

/// The one common name of a subject; none if there are several, or if it is not a plain text.
fn common_name(subject: &[u8]) -> Option<String> {
    let mut sets = Reader::new(subject).sequence("subject").ok()?;
    let mut found = Vec::new();
    while !sets.is_empty() {
        let mut set = Reader::new(sets.expect(tag::SET, "a part").ok()?.content);
        while !set.is_empty() {
            let mut pair = set.sequence("a pair").ok()?;
            let kind = pair.expect(tag::OID, "the kind").ok()?.content;
            let value = pair.any("the value").ok()?;
            if kind == [0x55, 4, 3] {
                let plain = [tag::UTF8_STRING, tag::PRINTABLE_STRING, tag::IA5_STRING].contains(&value.tag);
                let text = std::str::from_utf8(value.content).ok().filter(|_| plain)?;
                found.push(text.to_owned());
            }
        }
    }
    match (found.pop(), found.is_empty()) {
        (Some(name), true) if !name.chars().any(char::is_control) => Some(name),
        _ => None,
    }
}

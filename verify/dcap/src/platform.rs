//! From the quote's signature to a root: attestation key, quoting enclave, platform key, certificates.
//!
//! What stays the same for a platform between two quotes is remembered: all but the quote's own signature.

use std::borrow::Cow;
use std::sync::Arc;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use coffer_core_digest::Digest;
use coffer_core_evidence::dcap::{Authentication, Certification, Header, Quote};
use coffer_verify_api::{Check, Collateral, CollateralKey, Outcome, PckCa, Timestamp};
use coffer_verify_x509::{Certificate, CertificateError};

use crate::Dcap;
use crate::pck::{PckExtension, SGX_EXTENSION};
use crate::remember::{Remembered, name};
use crate::window::Window;

/// One for each attestation key; a quoting enclave keeps its key for months.
const MAX_PLATFORMS: usize = 4096;
const PROFILE: &str = "Intel SGX PCK Certificate and CRL Profile";
const QUOTE: &str = "Intel SGX/TDX DCAP quote, appendix A";

/// A platform whose quoting enclave vouches for an attestation key.
#[derive(Debug)]
pub(crate) struct Platform {
    pub(crate) pck: PckExtension,
    pub(crate) serial: Vec<u8>,
    pub(crate) issuer: Certificate,
    pub(crate) ca: PckCa,
    pub(crate) anchor: usize,
    pub(crate) window: Window,
}

/// The platforms that were verified before.
#[derive(Debug)]
pub(crate) struct Platforms(Remembered<Platform>);

impl Default for Platforms {
    fn default() -> Self {
        Self(Remembered::new(MAX_PLATFORMS))
    }
}

/// What the signatures say, without revocation and TCB.
#[derive(Debug)]
pub struct Signed {
    /// The checks that were made. One of them may have failed.
    pub checks: Vec<Check>,
    pub(crate) platform: Option<Arc<Platform>>,
    pub(crate) missing: Option<CollateralKey>,
}

impl Signed {
    /// Whether anything failed.
    pub fn has_failed(&self) -> bool {
        self.checks.iter().any(Check::has_failed)
    }
}

/// Why the certificates do not do.
struct Refused {
    tail: &'static str,
    title: &'static str,
    expected: &'static str,
    found: String,
    source: &'static str,
}

impl Dcap {
    /// Follows the signatures from the quote to a root. Codes begin with `prefix`.
    pub fn signatures(
        &self,
        prefix: &str,
        quote: &Quote<'_>,
        collateral: &dyn Collateral,
        at: Timestamp,
    ) -> Signed {
        let authentication = &quote.authentication;
        let mut checks = vec![vendor(prefix, &quote.header)];
        checks.push(quote_signature(prefix, quote));
        checks.push(endorsement(prefix, authentication));
        let pem = match carried(&authentication.certification, collateral) {
            Ok(pem) => pem,
            Err(missing) => {
                checks.push(Check::unavailable(
                    format!("{prefix}.pck.chain"),
                    "Not told, because the quote names the platform's certificate and does not carry it",
                ));
                return Signed { checks, platform: None, missing: Some(missing) };
            }
        };
        let remembered = remembered_name(authentication, &pem);
        let known = self.platforms.0.get(&remembered).filter(|known| known.window.holds(at.as_second()));
        match known.map_or_else(|| self.platform(authentication, &pem, at), Ok) {
            Ok(platform) => {
                checks.extend(passed(prefix, &platform));
                if checks.iter().all(|check| check.outcome == Outcome::Passed) {
                    self.platforms.0.keep(remembered, Arc::clone(&platform));
                }
                Signed { checks, platform: Some(platform), missing: None }
            }
            Err(refused) => {
                let check = Check::failed(format!("{prefix}.{}", refused.tail), refused.title)
                    .expected(refused.expected)
                    .found(refused.found)
                    .source(refused.source);
                checks.push(check);
                Signed { checks, platform: None, missing: None }
            }
        }
    }

    fn platform(
        &self,
        authentication: &Authentication<'_>,
        pem: &[u8],
        at: Timestamp,
    ) -> Result<Arc<Platform>, Refused> {
        let unread = |cause: CertificateError| Refused {
            tail: "pck.format",
            title: "The platform's certificates cannot be read",
            expected: "certificates in PEM, leaf first",
            found: cause.to_string(),
            source: PROFILE,
        };
        let chain = Certificate::parse_pem(pem).map_err(unread)?;
        let platform = self.certified(&chain, at)?;
        let leaf = chain.first().map(Certificate::public_key).unwrap_or_default();
        match verify_p256(leaf, authentication.qe_report_bytes, &authentication.qe_report_signature) {
            true => Ok(Arc::new(platform)),
            false => Err(Refused {
                tail: "qe-report.signature",
                title: "The platform's key did not sign the quoting enclave's report",
                expected: "a signature by the key in the PCK certificate over the report in the quote",
                found: "not by this key or not over this report".into(),
                source: QUOTE,
            }),
        }
    }

    fn certified(&self, chain: &[Certificate], at: Timestamp) -> Result<Platform, Refused> {
        let refused = |found: String| Refused {
            tail: "pck.chain",
            title: "No root that is trusted certifies the platform's key",
            expected: "a path over Intel's Platform or Processor CA to a configured root",
            found,
            source: PROFILE,
        };
        let leaf_first: Vec<Vec<u8>> = chain.iter().map(|one| one.der().to_vec()).collect();
        let path = self
            .paths
            .verify(&leaf_first, &[], at.as_second())
            .map_err(|cause| refused(cause.to_string()))?;
        let anchor = self.anchors.get(path.anchor).ok_or_else(|| refused("no root".into()))?;
        let leaf = chain.first().ok_or_else(|| refused("no certificate".into()))?;
        // The issuer must be known by its certificate, because its revocation list and its own revocation are asked
        // about: webpki found a path, this is the one link of it.
        let issues = |one: &&Certificate| {
            one.is_ca()
                && one.subject_der() == leaf.issuer_der()
                && leaf.verify_signed_by(one).is_ok()
                && one.issuer_der() == anchor.subject_der()
                && one.verify_signed_by(anchor).is_ok()
                && one.is_valid_at(at.as_second())
        };
        let issuer = chain.iter().skip(1).find(issues);
        let issuer = issuer.ok_or_else(|| refused("a path that is not leaf, CA, root".into()))?;
        let named = issuer.subject_cn();
        let ca = match () {
            () if named.contains("Platform") => PckCa::Platform,
            () if named.contains("Processor") => PckCa::Processor,
            () => return Err(refused(format!("a certificate issued by {named:?}"))),
        };
        let unread = |found: String| Refused {
            tail: "pck.extension",
            title: "The platform's certificate does not say which platform it is for",
            expected: "the SGX extension 1.2.840.113741.1.13.1 as its profile has it",
            found,
            source: PROFILE,
        };
        let value = leaf.extension(SGX_EXTENSION).ok_or_else(|| unread("none".into()))?;
        let pck = PckExtension::parse(value).map_err(|cause| unread(cause.to_string()))?;
        Ok(Platform {
            pck,
            serial: leaf.serial().to_vec(),
            issuer: issuer.clone(),
            ca,
            anchor: path.anchor,
            window: Window::of(leaf).and(Window::of(issuer)).and(Window::of(anchor)),
        })
    }
}

fn vendor(prefix: &str, header: &Header) -> Check {
    let title = match header.vendor_id == Header::INTEL {
        true => "Intel's quoting enclave made the quote",
        false => "The quote names a quoting enclave of another vendor",
    };
    let (expected, found) = (hex::encode(Header::INTEL), hex::encode(header.vendor_id));
    Check::equal(format!("{prefix}.quote.vendor"), title, &expected, &found).source(QUOTE)
}

fn quote_signature(prefix: &str, quote: &Quote<'_>) -> Check {
    let code = format!("{prefix}.quote.signature");
    let (key, signature) = (&quote.authentication.attestation_key, &quote.authentication.signature);
    match verify_p256(&point(key), quote.signed(), signature) {
        true => Check::passed(code, "The attestation key signed the quote").source(QUOTE),
        false => Check::failed(code, "The attestation key did not sign the quote")
            .expected("an ECDSA signature over SHA-256 by the attestation key in the quote")
            .found("not by this key or not over this quote")
            .source(QUOTE),
    }
}

/// The quoting enclave's report data is the hash over the attestation key and the authentication data.
fn endorsement(prefix: &str, authentication: &Authentication<'_>) -> Check {
    let hashed = [&authentication.attestation_key[..], authentication.qe_authentication].concat();
    let mut expected = Digest::sha256(&hashed).as_bytes().to_vec();
    expected.resize(64, 0);
    let found = &authentication.qe_report.report_data[..];
    let title = match expected == found {
        true => "The quoting enclave vouches for the attestation key",
        false => "The quoting enclave vouches for another attestation key",
    };
    let code = format!("{prefix}.attestation-key.endorsement");
    Check::equal(code, title, &hex::encode(&expected), &hex::encode(found)).source(QUOTE)
}

fn passed(prefix: &str, platform: &Platform) -> [Check; 3] {
    let chain = Check::passed(
        format!("{prefix}.pck.chain"),
        format!("A trusted root certifies the platform's key, over the {} CA", platform.ca.name()),
    );
    let extension =
        Check::passed(format!("{prefix}.pck.extension"), "The certificate says which platform it is for")
            .found(format!("FMSPC {}", hex::encode(platform.pck.fmspc)));
    let signed = Check::passed(
        format!("{prefix}.qe-report.signature"),
        "The platform's key signed the quoting enclave's report",
    );
    [chain.source(PROFILE), extension.source(PROFILE), signed.source(QUOTE)]
}

/// The certificates in PEM, from the quote or from collateral; the key of the document where it is not there.
fn carried<'a>(
    certification: &Certification<'a>,
    collateral: &dyn Collateral,
) -> Result<Cow<'a, [u8]>, CollateralKey> {
    match certification {
        // Intel's sample quotes carry a chain in DER, which no verifier reads: it names the platform like a PPID.
        Certification::Chain(pem) if pem.first() != Some(&0x30) => Ok(Cow::Borrowed(pem)),
        other => {
            let named = Digest::sha256(other.data());
            let key = CollateralKey::PckChain(named.as_bytes().try_into().unwrap_or_default());
            let document = collateral.find(&key).ok_or(key)?;
            Ok(Cow::Owned([document.body(), document.issuer_chain()].join(&b'\n')))
        }
    }
}

/// All that stays the same between two quotes by one attestation key.
fn remembered_name(authentication: &Authentication<'_>, pem: &[u8]) -> Digest {
    name(&[
        &authentication.attestation_key,
        authentication.qe_report_bytes,
        &authentication.qe_report_signature,
        authentication.qe_authentication,
        pem,
    ])
}

fn point(key: &[u8; 64]) -> [u8; 65] {
    let mut point = [4; 65];
    for (to, from) in point.iter_mut().skip(1).zip(key) {
        *to = *from;
    }
    point
}

/// Verifies r and s over SHA-256 of the message with a point on P-256.
pub(crate) fn verify_p256(point: &[u8], message: &[u8], signature: &[u8; 64]) -> bool {
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature).is_ok()
}

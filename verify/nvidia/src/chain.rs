//! Certificate paths of devices and of manifests.
//!
//! NVIDIA's certificates are not what a TLS library expects: a device issues its own leaf, and DICE extensions may be
//! critical. So the path is walked here: names, signatures, dates, authority, and no critical extension that nobody
//! looked at. Left out: revocation lists, which NVIDIA does not publish for devices; see `ocsp`.

use coffer_verify_api::{Check, Timestamp};
use coffer_verify_x509::Certificate;
use coffer_verify_x509::der::{Reader, tag};

const BASIC_CONSTRAINTS: &str = "2.5.29.19";
const KEY_USAGE: &str = "2.5.29.15";
/// `keyCertSign` and `digitalSignature` in the first octet of a key usage.
const MAY_CERTIFY: u8 = 0x04;
const MAY_SIGN: u8 = 0x80;
/// The longest that exists has five.
pub(crate) const MAX_CERTIFICATES: usize = 10;
/// Critical extensions whose meaning is checked here or elsewhere: key usage, alternative name, basic constraints,
/// extended key usage, and those of DICE.
const UNDERSTOOD: [&str; 9] = [
    KEY_USAGE,
    "2.5.29.17",
    BASIC_CONSTRAINTS,
    "2.5.29.37",
    "2.23.133.5.4.1",
    "2.23.133.5.4.1.1",
    "2.23.133.5.4.4",
    "2.23.133.5.4.5",
    "2.23.133.5.4.8",
];

/// Whose path, for codes and sentences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    Device,
    Manifest,
}

impl Whose {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Device => "nvidia.device-certificate",
            Self::Manifest => "nvidia.rim-certificate",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Device => "the device's certificates",
            Self::Manifest => "the manifest's certificates",
        }
    }
}

/// Why there is no path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    defect: &'static str,
    which: String,
    expected: String,
    found: String,
}

impl Broken {
    fn new(defect: &'static str, which: &Certificate, expected: &str, found: impl Into<String>) -> Self {
        Self { defect, which: named(which), expected: expected.to_owned(), found: found.into() }
    }

    /// The check that failed.
    pub(crate) fn check(&self, whose: Whose) -> Check {
        let remedy = match self.defect {
            "expired" | "not-yet-valid" => "fetch a current document, or correct the broker's clock",
            "issuer" => "if this root is to be trusted, add it to the broker's NVIDIA trust anchors",
            _ => "collect the evidence again; if it stays so, ask the platform's provider",
        };
        Check::failed(
            format!("{}.{}", whose.prefix(), self.defect),
            format!("There is no path from {} to a trusted root: {}", whose.name(), self.which),
        )
        .expected(self.expected.clone())
        .found(self.found.clone())
        .source("RFC 5280, section 6; NVIDIA device identity and reference value certificates")
        .remedy(remedy)
    }
}

/// A path that was walked.
#[derive(Clone, Debug)]
pub(crate) struct Path {
    /// From the leaf up. The anchor is last, whether it was sent or not.
    pub(crate) certificates: Vec<Certificate>,
    not_before: i64,
    not_after: i64,
}

impl Path {
    pub(crate) fn leaf(&self) -> Option<&Certificate> {
        self.certificates.first()
    }

    /// The end of validity of what ends first.
    pub(crate) const fn ends(&self) -> i64 {
        self.not_after
    }

    /// Whether all its certificates are valid at a time.
    pub(crate) fn is_valid_at(&self, at: Timestamp) -> bool {
        (self.not_before..=self.not_after).contains(&at.as_second())
    }

    /// Which certificate is not valid at a time.
    pub(crate) fn expired(&self, at: Timestamp) -> Option<Broken> {
        let seconds = at.as_second();
        let bad = self.certificates.iter().find(|certificate| !certificate.is_valid_at(seconds))?;
        let text = |seconds| Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX).to_string();
        let (from, until) = (text(bad.not_before()), text(bad.not_after()));
        let defect = if seconds < bad.not_before() { "not-yet-valid" } else { "expired" };
        Some(Broken::new(defect, bad, &format!("valid at {at}"), format!("valid from {from} to {until}")))
    }
}

/// Walks from the first certificate to one of the anchors. Dates are not looked at: [`Path::expired`] does.
pub(crate) fn walk(sent: &[Certificate], anchors: &[Certificate]) -> Result<Path, Broken> {
    let none = |found: &str| Broken {
        defect: "missing",
        which: "no certificate".to_owned(),
        expected: "certificates from the leaf to a root".to_owned(),
        found: found.to_owned(),
    };
    let leaf = sent.first().ok_or_else(|| none("none"))?;
    if sent.len() > MAX_CERTIFICATES {
        return Err(none("more than any path has"));
    }
    if leaf.is_ca() || !usage(leaf, MAY_SIGN) {
        let expected = "a leaf that may sign and is no authority";
        return Err(Broken::new("leaf", leaf, expected, "an authority, or a key that may not sign"));
    }
    let mut path = vec![leaf.clone()];
    loop {
        let Some(current) = path.last() else { return Err(none("none")) };
        critical(current)?;
        if anchors.iter().any(|anchor| anchor.der() == current.der()) && path.len() > 1 {
            break;
        }
        let anchored = anchors.iter().find(|anchor| issued(current, anchor));
        let above = anchored.or_else(|| {
            let others = sent.iter().filter(|other| path.iter().all(|known| known.der() != other.der()));
            others.clone().find(|other| issued(current, other))
        });
        let Some(above) = above else { return Err(no_issuer(current, sent, anchors)) };
        authority(above, path.len())?;
        if path.len() >= MAX_CERTIFICATES {
            return Err(none("more than any path has"));
        }
        path.push(above.clone());
        if anchored.is_some() {
            break;
        }
    }
    let not_before = path.iter().map(Certificate::not_before).max().unwrap_or(i64::MAX);
    let not_after = path.iter().map(Certificate::not_after).min().unwrap_or(i64::MIN);
    Ok(Path { certificates: path, not_before, not_after })
}

fn issued(certificate: &Certificate, issuer: &Certificate) -> bool {
    certificate.issuer_der() == issuer.subject_der() && certificate.verify_signed_by(issuer).is_ok()
}

fn no_issuer(certificate: &Certificate, sent: &[Certificate], anchors: &[Certificate]) -> Broken {
    let named_so = |other: &&Certificate| {
        other.subject_der() == certificate.issuer_der() && other.der() != certificate.der()
    };
    let issuer = certificate.issuer_cn();
    match sent.iter().chain(anchors).find(named_so) {
        Some(_) => Broken::new(
            "signature-invalid",
            certificate,
            &format!("a signature by {issuer:?}"),
            "another key's, or over other bytes",
        ),
        None => Broken::new(
            "issuer",
            certificate,
            "an issuer that is a trust anchor or was sent",
            format!("issued by {issuer:?}, which is neither"),
        ),
    }
}

/// An authority with room for what is below it, `below` certificates of which one is the leaf.
fn authority(certificate: &Certificate, below: usize) -> Result<(), Broken> {
    let wrong = |found: &str| {
        Broken::new("authority", certificate, "a certificate that may issue certificates", found)
    };
    if !certificate.is_ca() || !usage(certificate, MAY_CERTIFY) {
        return Err(wrong("one that may not"));
    }
    let length = || {
        let mut constraints =
            Reader::new(certificate.extension(BASIC_CONSTRAINTS)?).sequence("constraints").ok()?;
        constraints.optional(tag::BOOLEAN, "cA").ok()?;
        match constraints.is_empty() {
            true => None,
            false => constraints.number("pathLenConstraint").ok(),
        }
    };
    match length() {
        Some(length) if below.saturating_sub(1) as u64 > length => {
            Err(wrong("too many certificates are below it"))
        }
        _ => Ok(()),
    }
}

/// Whether a key usage allows something; without the extension everything is allowed.
fn usage(certificate: &Certificate, bit: u8) -> bool {
    match certificate.extension(KEY_USAGE) {
        None => true,
        Some(value) => {
            let bits = Reader::new(value).expect(tag::BIT_STRING, "keyUsage");
            bits.is_ok_and(|bits| bits.content.get(1).is_some_and(|octet| octet & bit != 0))
        }
    }
}

fn critical(certificate: &Certificate) -> Result<(), Broken> {
    let understood: Vec<Vec<u8>> =
        UNDERSTOOD.iter().filter_map(|oid| coffer_verify_x509::der::oid(oid)).collect();
    let stray = certificate
        .extensions()
        .find(|(id, critical, _)| *critical && !understood.iter().any(|known| known == id));
    match stray {
        None => Ok(()),
        Some((id, _, _)) => Err(Broken::new(
            "extension",
            certificate,
            "critical extensions that are understood",
            format!("extension {}", hex::encode(id)),
        )),
    }
}

fn named(certificate: &Certificate) -> String {
    format!("{:?}", certificate.subject_cn())
}

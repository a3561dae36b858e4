//! Answers about one certificate (OCSP, RFC 6960): good, revoked, on hold or unknown.
//!
//! An answer counts only if the certificate's own issuer signed it, or a key that this issuer certified for answering.
//! Nonces are not used: answers are kept and judged later. Left out: asking, which is the broker's.

use coffer_core_digest::{Algorithm, Digest};
use coffer_verify_api::{Check, Timestamp};
use coffer_verify_x509::der::{self, DerError, Reader, tag};
use coffer_verify_x509::{Certificate, CertificateError, signed};

const BASIC: &str = "1.3.6.1.5.5.7.48.1.1";
const MAY_ANSWER: &str = "1.3.6.1.5.5.7.3.9";
const EXTENDED_KEY_USAGE: &str = "2.5.29.37";
const MAX_ANSWER: usize = 64 << 10;
const MAX_ANSWERS: usize = 64;
const MAX_CERTIFICATES: usize = 8;
/// `certificateHold` (RFC 5280, section 5.3.1).
const HOLD: u64 = 6;
const SOURCE: &str = "RFC 6960";

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OcspError {
    /// Not the DER of one.
    #[error("the answer cannot be read: {0}")]
    Der(#[from] DerError),
    /// A certificate in it cannot be read.
    #[error("a certificate of the answer cannot be read: {0}")]
    Certificate(#[from] CertificateError),
    /// Longer than any.
    #[error("the answer has {0} bytes; at most {MAX_ANSWER} are read")]
    TooLong(usize),
    /// Who was asked does not answer.
    #[error("who was asked did not answer: status {0}")]
    Unsuccessful(u64),
    /// It says nothing of the certificate.
    #[error("the answer is about other certificates")]
    OtherCertificate,
    /// Nobody who may answer signed it.
    #[error("neither the certificate's issuer nor a key that it certified for answering signed the answer")]
    Responder,
}

impl OcspError {
    const fn code(&self) -> &'static str {
        match self {
            Self::Der(_) | Self::Certificate(_) | Self::TooLong(_) => "nvidia.ocsp.format",
            Self::Unsuccessful(_) => "nvidia.ocsp.unsuccessful",
            Self::OtherCertificate => "nvidia.ocsp.mismatch",
            Self::Responder => "nvidia.ocsp.responder",
        }
    }

    pub(crate) fn check(&self, about: &str) -> Check {
        Check::failed(self.code(), format!("The answer about {about} cannot be used"))
            .expected("an answer by who issued the certificate")
            .found(self.to_string())
            .source(SOURCE)
            .remedy("fetch the answer again")
    }
}

/// What is said of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not revoked.
    Good,
    /// Revoked, with the reason's number if one is given.
    Revoked(Option<u64>),
    /// Not known to who was asked.
    Unknown,
}

/// An answer that was verified, but for its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    state: State,
    this_update: i64,
    next_update: Option<i64>,
    /// The validity of the key that answered, if it is not the issuer's own.
    responder: Option<(i64, i64)>,
}

impl Answer {
    /// The check that this answer makes at a time.
    pub(crate) fn check(&self, about: &str, at: Timestamp) -> Check {
        let seconds = at.as_second();
        let text = |seconds| {
            Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |at| at.to_string())
        };
        let until = self.next_update.map_or_else(|| "the next answer".to_owned(), text);
        let window = format!("from {} to {until}", text(self.this_update));
        let responder = self.responder.is_none_or(|(from, until)| from <= seconds && seconds <= until);
        let current = self.this_update <= seconds && self.next_update.is_none_or(|next| seconds <= next);
        if !current || !responder {
            let found = if responder { window } else { "the key that answered is not valid".to_owned() };
            return Check::failed(
                "nvidia.ocsp.stale",
                format!("The answer about {about} is not of this time"),
            )
            .expected(format!("an answer that holds at {at}"))
            .found(found)
            .source("RFC 6960, section 4.2.2.1")
            .remedy("fetch the answer again");
        }
        let failed = |code: &str, title: String, found: String| {
            Check::failed(code, title)
                .expected("good")
                .found(found)
                .source("RFC 6960, section 2.2")
                .remedy("do not trust this device or document until its maker says that it is good")
        };
        match self.state {
            State::Good => {
                Check::passed("nvidia.certificate.good", format!("{about} is not revoked")).source(SOURCE)
            }
            State::Revoked(Some(HOLD)) => failed(
                "nvidia.certificate.on-hold",
                format!("{about} is on hold"),
                "revoked, reason certificateHold".into(),
            ),
            State::Revoked(reason) => failed(
                "nvidia.certificate.revoked",
                format!("{about} is revoked"),
                reason.map_or_else(|| "revoked".into(), |reason| format!("revoked, reason {reason}")),
            ),
            State::Unknown => failed(
                "nvidia.certificate.unknown",
                format!("{about} is unknown to its issuer"),
                "unknown".into(),
            ),
        }
    }
}

/// Reads an answer and verifies that it is about `certificate` and by someone who may answer for `issuer`.
pub fn verify(answer: &[u8], certificate: &Certificate, issuer: &Certificate) -> Result<Answer, OcspError> {
    if answer.len() > MAX_ANSWER {
        return Err(OcspError::TooLong(answer.len()));
    }
    let mut outer = Reader::new(answer);
    let mut response = outer.sequence("OCSPResponse")?;
    outer.end("OCSPResponse")?;
    let status = response.expect(tag::ENUMERATED, "responseStatus")?;
    let status = der::number(status.content, "responseStatus")?;
    if status != 0 {
        return Err(OcspError::Unsuccessful(status));
    }
    let wrapped = response.expect(0xa0, "responseBytes")?;
    let mut bytes = Reader::new(wrapped.content).sequence("responseBytes")?;
    let kind = bytes.expect(tag::OID, "responseType")?.content;
    if der::oid(BASIC).as_deref() != Some(kind) {
        return Err(DerError::Value("responseType").into());
    }
    let mut basic =
        Reader::new(bytes.expect(tag::OCTET_STRING, "response")?.content).sequence("BasicOCSPResponse")?;
    let data = basic.expect(tag::SEQUENCE, "tbsResponseData")?;
    let algorithm = basic.expect(tag::SEQUENCE, "signatureAlgorithm")?.whole;
    let signature = basic.bits("signature")?;
    let sent = match basic.optional(0xa0, "certs")? {
        Some(wrapped) => certificates(wrapped.content)?,
        None => Vec::new(),
    };
    basic.end("BasicOCSPResponse")?;

    let by = |key: &Certificate| signed::verify(key.spki_der(), algorithm, data.whole, signature).is_ok();
    let may_answer = |key: &&Certificate| {
        key.issuer_der() == issuer.subject_der() && answers(key) && key.verify_signed_by(issuer).is_ok()
    };
    let responder = match by(issuer) {
        true => None,
        false => {
            let delegate = sent.iter().filter(may_answer).find(|key| by(key)).ok_or(OcspError::Responder)?;
            Some((delegate.not_before(), delegate.not_after()))
        }
    };
    let (state, this_update, next_update) = find(data.content, certificate, issuer)?;
    Ok(Answer { state, this_update, next_update, responder })
}

fn certificates(wrapped: &[u8]) -> Result<Vec<Certificate>, OcspError> {
    let mut list = Reader::new(wrapped).sequence("certs")?;
    let mut found = Vec::new();
    while !list.is_empty() && found.len() < MAX_CERTIFICATES {
        found.push(Certificate::parse(list.expect(tag::SEQUENCE, "a certificate")?.whole)?);
    }
    Ok(found)
}

fn answers(key: &Certificate) -> bool {
    let read = || {
        let mut purposes = Reader::new(key.extension(EXTENDED_KEY_USAGE)?).sequence("purposes").ok()?;
        let wanted = der::oid(MAY_ANSWER)?;
        while !purposes.is_empty() {
            if purposes.expect(tag::OID, "a purpose").ok()?.content == wanted {
                return Some(true);
            }
        }
        None
    };
    read().unwrap_or(false)
}

/// The answer about one certificate: state, from when, until when.
fn find(
    data: &[u8],
    certificate: &Certificate,
    issuer: &Certificate,
) -> Result<(State, i64, Option<i64>), OcspError> {
    let mut data = Reader::new(data);
    data.optional(0xa0, "version")?;
    // Who answers, by name or by key: the signature tells.
    data.any("responderID")?;
    der::time(&data.any("producedAt")?, "producedAt")?;
    let mut answers = data.sequence("responses")?;
    let mut count = 0_usize;
    while !answers.is_empty() {
        count = count.saturating_add(1);
        if count > MAX_ANSWERS {
            return Err(DerError::Value("responses").into());
        }
        let mut answer = answers.sequence("SingleResponse")?;
        let about = answer.sequence("certID")?;
        let status = answer.any("certStatus")?;
        let this_update = der::time(&answer.any("thisUpdate")?, "thisUpdate")?;
        let next_update = match answer.optional(0xa0, "nextUpdate")? {
            Some(wrapped) => Some(der::time(&Reader::new(wrapped.content).any("nextUpdate")?, "nextUpdate")?),
            None => None,
        };
        if is_about(about, certificate, issuer)? {
            return Ok((state(status)?, this_update, next_update));
        }
    }
    Err(OcspError::OtherCertificate)
}

fn is_about(
    mut about: Reader<'_>,
    certificate: &Certificate,
    issuer: &Certificate,
) -> Result<bool, DerError> {
    let mut algorithm = about.sequence("hashAlgorithm")?;
    let oid = algorithm.expect(tag::OID, "hashAlgorithm")?.content;
    let known = [
        ("1.3.14.3.2.26", Algorithm::Sha1),
        ("2.16.840.1.101.3.4.2.1", Algorithm::Sha256),
        ("2.16.840.1.101.3.4.2.2", Algorithm::Sha384),
        ("2.16.840.1.101.3.4.2.3", Algorithm::Sha512),
    ];
    let name = about.expect(tag::OCTET_STRING, "issuerNameHash")?.content;
    let key = about.expect(tag::OCTET_STRING, "issuerKeyHash")?.content;
    let serial = about.expect(tag::INTEGER, "serialNumber")?.content;
    let found = known.iter().find(|(dotted, _)| der::oid(dotted).as_deref() == Some(oid));
    let Some((_, hash)) = found else { return Ok(false) };
    Ok(serial == certificate.serial()
        && name == Digest::of(*hash, issuer.subject_der()).as_bytes()
        && key == Digest::of(*hash, issuer.public_key()).as_bytes())
}

fn state(status: der::Element<'_>) -> Result<State, DerError> {
    match status.tag {
        0x80 => Ok(State::Good),
        0x82 => Ok(State::Unknown),
        0xa1 => {
            let mut revoked = Reader::new(status.content);
            der::time(&revoked.any("revocationTime")?, "revocationTime")?;
            let reason = match revoked.optional(0xa0, "revocationReason")? {
                Some(wrapped) => {
                    let reason = Reader::new(wrapped.content).expect(tag::ENUMERATED, "revocationReason")?;
                    Some(der::number(reason.content, "revocationReason")?)
                }
                None => None,
            };
            Ok(State::Revoked(reason))
        }
        _ => Err(DerError::Value("certStatus")),
    }
}

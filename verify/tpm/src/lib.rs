//! The judge for TPM 2.0 quotes.
//!
//! It checks that a certified attestation key signed a quote over the registers sent, for this challenge and
//! this key. Left out: whether the registers are the wanted ones, which is `verify/appraisal`.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod claims;
mod key;
mod log;
mod quote;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use coffer_core_evidence::Tee;
use coffer_core_evidence::tpm::{Attest, Public, Signature, TpmError};
use coffer_core_evidence::wire::TpmEvidence;
use coffer_verify_api::{Check, Claims, Fault, Judgement, Posture, Question, Verified, Verifier};
use coffer_verify_x509::Paths;

/// A root that certifies attestation keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustAnchor {
    /// The root's certificate in DER.
    pub certificate: Vec<u8>,
    /// Whether a TPM under this root protects the guest from its host. False for software TPMs.
    pub hardware: bool,
}

/// The judge of `tpm` evidence.
#[derive(Clone, Debug)]
pub struct TpmJudge {
    anchors: Vec<TrustAnchor>,
    paths: Arc<Paths>,
}

impl TpmJudge {
    /// A judge that believes keys certified under these roots. With none, it believes nothing.
    pub fn new(anchors: Vec<TrustAnchor>) -> Self {
        let certificates = anchors.iter().map(|anchor| anchor.certificate.clone()).collect();
        Self { anchors, paths: Arc::new(Paths::new(certificates)) }
    }

    /// A root that is configured twice protects only if both times it is said to.
    fn is_hardware(&self, anchor: usize) -> bool {
        let matched = self.paths.anchors().get(anchor);
        let mut same = self.anchors.iter().filter(|anchor| Some(&anchor.certificate) == matched).peekable();
        same.peek().is_some() && same.all(|anchor| anchor.hardware)
    }
}

/// The parts of evidence, parsed.
struct Parts {
    wire: TpmEvidence,
    attest: Attest,
    signature: Signature,
    public: Option<Public>,
}

impl Verifier for TpmJudge {
    fn tee(&self) -> Tee {
        Tee::Tpm
    }

    fn verify(&self, question: &Question<'_>) -> Result<Judgement, Fault> {
        // The hash in 32 bytes, as the KBS protocol has it for TPMs, or in the 64 bytes that attesters of
        // Confidential Containers pad it to. Both hold at least 256 bits of it.
        let short: [u8; 32] = question.report_data.field();
        let long: [u8; 64] = question.report_data.field();
        Ok(self.judge(question, &[short.to_vec(), long.to_vec()]))
    }
}

impl TpmJudge {
    /// Judges, given the forms of qualifying data that the question allows.
    fn judge(&self, question: &Question<'_>, qualifying_data: &[Vec<u8>]) -> Judgement {
        let parts = match parse(question) {
            Ok(parts) => parts,
            Err(reason) => return Judgement::Rejected(vec![*reason]),
        };
        let mut checks = vec![
            Check::passed("tpm.evidence.format", "The evidence has the tpm form"),
            Check::passed("tpm.quote.magic", "A TPM generated the quote")
                .source("TPM 2.0 Library, Part 2, 6.2"),
        ];
        let restricted = key::restricted(&parts);
        let said_restricted = restricted.outcome == coffer_verify_api::Outcome::Passed;
        checks.push(restricted);
        let (chain, anchor) = key::chain(&parts.wire, &self.paths, said_restricted, question.at);
        checks.push(chain);
        checks.push(quote::signature(&parts));
        checks.extend(quote::freshness_and_binding(&parts.attest, qualifying_data));

        let (registers, found) = quote::registers(&parts);
        checks.extend(found);
        // What is not genuine already is not worth the work on a log of a megabyte that anybody may send.
        let (events, found) = match checks.iter().any(Check::has_failed) {
            true => (None, parts.wire.event_log.as_ref().map(|_| log::not_read())),
            false => log::replay(parts.wire.event_log.as_deref(), registers.as_ref()),
        };
        checks.extend(found);
        if let Some(digest) = question.init_data {
            checks.push(quote::init_data(digest, registers.as_ref()));
        }

        // Found here, so that the reasons are only those that these checks found.
        if checks.iter().any(Check::has_failed) {
            return Judgement::Rejected(checks);
        }
        let hardware = anchor.is_some_and(|anchor| self.is_hardware(anchor));
        let registers = registers.unwrap_or_default();
        let claims = Claims {
            tee: Tee::Tpm,
            hardware,
            posture: Posture::default(),
            json: claims::json(
                &parts.attest,
                parts.wire.pcr_bank,
                &registers,
                events.as_deref(),
                question,
                hardware,
            ),
            registers: registers.iter().map(|(pcr, value)| (format!("pcr{pcr}"), *value)).collect(),
            events: events.unwrap_or_default(),
        };
        match Verified::from_checks(claims, checks) {
            Ok(verified) => Judgement::Verified(verified),
            Err(reasons) => Judgement::Rejected(reasons),
        }
    }
}

/// Everything that must be readable before anything can be judged.
fn parse(question: &Question<'_>) -> Result<Parts, Box<Check>> {
    let unreadable = |cause: String| {
        let failed = Check::failed("tpm.evidence.format", "The evidence cannot be read")
            .expected("tpm evidence of the KBS protocol")
            .found(cause)
            .remedy("use an attester that sends ak_public, tpm_quote and, for this broker, ak_certificates");
        Box::new(failed)
    };
    let not_generated = |found: u32| {
        let failed = Check::failed("tpm.quote.magic", "No TPM generated the quote")
            .expected(format!("{:#010x}", coffer_core_evidence::tpm::GENERATED))
            .found(format!("{found:#010x}"))
            .source("TPM 2.0 Library, Part 2, 6.2");
        Box::new(failed)
    };
    let wire = TpmEvidence::parse(question.evidence).map_err(|cause| unreadable(cause.to_string()))?;
    let attest = Attest::parse(&wire.tpm_quote.message).map_err(|cause| match cause {
        TpmError::Magic { found } => not_generated(found),
        other => unreadable(other.to_string()),
    })?;
    let signature =
        Signature::parse(&wire.tpm_quote.signature).map_err(|cause| unreadable(cause.to_string()))?;
    let public = wire.ak_tpmt_public.as_deref().map(Public::parse).transpose();
    let public = public.map_err(|cause| unreadable(cause.to_string()))?;
    Ok(Parts { wire, attest, signature, public })
}

//! The judge for Nitro Enclaves attestation documents.
//!
//! It checks that AWS's hypervisor signed the document, for this challenge and this key. Left out: whether the
//! registers are the wanted ones, which is `verify/appraisal`; and revocation lists, which AWS says not to use
//! ("Verifying the root of trust", validation of the certificates).

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

mod checks;
mod claims;
mod document;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use coffer_core_cose::{Algorithm, CoseError, Sign1};
use coffer_core_evidence::Tee;
use coffer_core_evidence::nitro::NitroEvidence;
use coffer_verify_api::{Check, Claims, Fault, Judgement, Posture, Question, Verified, Verifier};
use coffer_verify_x509::Paths;

pub use document::{Document, DocumentError};

/// The root of AWS's commercial partition, `aws.nitro-enclaves`, valid from 2019-10-28 to 2049-10-28. SHA-256
/// 641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b (AWS, "Verifying the root of trust").
pub static AWS_ROOT_G1: &[u8] = include_bytes!("../data/aws-nitro-enclaves-root-g1.der");

/// The member of a document that holds the report data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BoundField {
    /// `user_data`, which the enclave itself chooses.
    #[default]
    UserData,
    /// `nonce`. TRUST: right only for enclaves that let nobody else name the nonce of a document; many answer any
    /// stranger's, and such a document proves nothing about a key.
    Nonce,
}

/// The judge of `nitro` evidence.
#[derive(Clone, Debug)]
pub struct NitroJudge {
    paths: Arc<Paths>,
    field: BoundField,
}

impl NitroJudge {
    /// A judge that believes AWS's root for the commercial partition.
    pub fn aws() -> Self {
        Self::new(vec![AWS_ROOT_G1.to_vec()])
    }

    /// A judge that believes these roots, certificates in DER, as those of other partitions. With none, it believes
    /// nothing.
    pub fn new(roots: Vec<Vec<u8>>) -> Self {
        Self { paths: Arc::new(Paths::new(roots)), field: BoundField::default() }
    }

    /// The same judge for enclaves that put the report data elsewhere.
    #[must_use]
    pub fn bound_in(self, field: BoundField) -> Self {
        Self { field, ..self }
    }
}

impl Verifier for NitroJudge {
    fn tee(&self) -> Tee {
        Tee::Nitro
    }

    fn verify(&self, question: &Question<'_>) -> Result<Judgement, Fault> {
        Ok(self.judge(question))
    }
}

impl NitroJudge {
    fn judge(&self, question: &Question<'_>) -> Judgement {
        let (signed, document) = match parse(question) {
            Ok(parts) => parts,
            Err(reason) => return Judgement::Rejected(vec![*reason]),
        };
        let mut checks =
            vec![Check::passed("nitro.document.format", "The evidence is an attestation document")];
        let (found, key) = checks::chain(&document, &self.paths, question.at);
        checks.push(found);
        checks.push(checks::signature(&signed, key.as_ref()));
        checks.extend(checks::freshness_and_binding(&document, self.field, question.report_data));
        if let Some(digest) = question.init_data {
            checks.push(checks::init_data(&document, digest));
        }
        if checks.iter().any(Check::has_failed) {
            return Judgement::Rejected(checks);
        }
        let claims = Claims {
            tee: Tee::Nitro,
            hardware: true,
            posture: Posture { debug: Some(document.is_debug()), ..Posture::default() },
            json: claims::json(&document, self.field, question),
            registers: document.pcrs.iter().map(|(pcr, value)| (format!("pcr{pcr}"), *value)).collect(),
            events: Vec::new(),
        };
        match Verified::from_checks(claims, checks) {
            Ok(verified) => Judgement::Verified(verified),
            Err(reasons) => Judgement::Rejected(reasons),
        }
    }
}

const SPECIFIED: &str = "AWS, \"Verifying the root of trust\", attestation document specification";

/// Everything that must be readable before anything can be judged.
fn parse(question: &Question<'_>) -> Result<(Sign1, Document), Box<Check>> {
    let refused = |code: &str, title: &str, expected: &str, found: String| {
        let failed = Check::failed(code, title).expected(expected).found(found).source(SPECIFIED);
        Box::new(failed.remedy("send the document as /dev/nsm gave it, in base64, as attestation_document"))
    };
    let wire = NitroEvidence::parse(question.evidence).map_err(|cause| {
        let expected = "{\"attestation_document\": base64}";
        refused("nitro.evidence.format", "The evidence cannot be read", expected, cause.to_string())
    })?;
    let signed = Sign1::parse(wire.document()).map_err(|cause| {
        let expected = "COSE_Sign1 (RFC 9052, section 4.2)";
        refused("nitro.document.envelope", "The document cannot be read", expected, cause.to_string())
    })?;
    let other = |found: String| {
        refused("nitro.document.algorithm", "The document names another algorithm", "ES384", found)
    };
    match signed.algorithm() {
        Ok(Algorithm::Es384) => {}
        Ok(found) => return Err(other(found.to_string())),
        Err(CoseError::UnknownAlgorithm { found }) => return Err(other(found)),
        Err(cause) => return Err(other(cause.to_string())),
    }
    let document = Document::parse(signed.payload()).map_err(|cause| {
        let title = "The document's content is not as specified";
        refused(cause.code(), title, "the members that AWS specifies", cause.to_string())
    })?;
    Ok((signed, document))
}

//! The judge for Arm CCA attestation tokens.
//!
//! A token is two: the platform's, signed by a key that is configured, vouches for the key that signed the realm's.
//! Left out: whether platform and realm are the wanted ones, which is `verify/appraisal`; and endorsements fetched
//! from a vendor, for which there is no common service yet.

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

mod anchors;
mod checks;
mod collection;
mod json;
mod known;
mod members;
mod platform;
mod realm;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use coffer_core_cose::Sign1;
use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::Tee;
use coffer_core_evidence::cca::CcaEvidence;
use coffer_verify_api::{Check, Claims, Fault, Judgement, Posture, Question, Verified, Verifier};

pub use anchors::{AnchorError, TrustAnchors};
pub use collection::Collection;
pub use members::ClaimError;
pub use platform::{Component, Lifecycle, PlatformClaims};
pub use realm::RealmClaims;

use known::Known;

/// Where tokens are specified.
pub(crate) const SPECIFIED: &str = "Arm DEN0137 (RMM), A7.2; draft-ffm-rats-cca-token";

/// The judge of `cca` evidence.
#[derive(Clone, Debug)]
pub struct CcaJudge {
    anchors: Arc<TrustAnchors>,
    known: Arc<Known>,
}

impl CcaJudge {
    /// A judge that believes these platforms' keys. With none, it believes nothing.
    pub fn new(anchors: TrustAnchors) -> Self {
        Self { anchors: Arc::new(anchors), known: Arc::default() }
    }
}

/// The parts of a token, parsed.
pub(crate) struct Parts {
    pub(crate) platform_token: Vec<u8>,
    pub(crate) signed_platform: Sign1,
    pub(crate) platform: PlatformClaims,
    pub(crate) signed_realm: Sign1,
    pub(crate) realm: RealmClaims,
}

impl Verifier for CcaJudge {
    fn tee(&self) -> Tee {
        Tee::Cca
    }

    fn verify(&self, question: &Question<'_>) -> Result<Judgement, Fault> {
        Ok(self.judge(question))
    }
}

impl CcaJudge {
    fn judge(&self, question: &Question<'_>) -> Judgement {
        let parts = match parse(question) {
            Ok(parts) => parts,
            Err(reason) => return Judgement::Rejected(vec![*reason]),
        };
        let mut checks =
            vec![Check::passed("cca.token.format", "The evidence is a token of platform and realm")];
        let (platform, hardware) = checks::platform(&parts, &self.anchors, &self.known);
        checks.extend(platform);
        checks.extend(checks::realm(&parts));
        checks.extend(checks::freshness_and_binding(&parts.realm, question.report_data));
        if let Some(digest) = question.init_data {
            checks.push(checks::init_data(&parts.realm, digest));
        }
        if checks.iter().any(Check::has_failed) {
            return Judgement::Rejected(checks);
        }
        let Parts { platform, realm, .. } = &parts;
        let posture = Posture {
            // In every other state somebody outside the realm may read it, or nobody says that he may not.
            debug: Some(platform.lifecycle.state() != Lifecycle::SECURED),
            chip: Some(hex::encode(platform.instance_id)),
            generation: Some(hex::encode(platform.implementation_id)),
            ..Posture::default()
        };
        let claims = Claims {
            tee: Tee::Cca,
            hardware,
            posture,
            json: json::claims(platform, realm, question),
            registers: registers(platform, realm),
            events: Vec::new(),
        };
        match Verified::from_checks(claims, checks) {
            Ok(verified) => Judgement::Verified(verified),
            Err(reasons) => Judgement::Rejected(reasons),
        }
    }
}

/// The realm's measurements by the names of the specification, its personalization value, and the platform's software.
fn registers(platform: &PlatformClaims, realm: &RealmClaims) -> BTreeMap<String, Digest> {
    let measured = std::iter::once(("rim".to_owned(), realm.initial_measurement));
    let extensible = realm.extensible_measurements.iter().enumerate();
    let extended = extensible.map(|(at, value)| (format!("rem{at}"), *value));
    let rpv = Digest::from_bytes(Algorithm::Sha512, &realm.personalization_value).ok();
    let software = std::iter::once(("platform".to_owned(), platform.software()));
    measured.chain(extended).chain(rpv.map(|value| ("rpv".to_owned(), value))).chain(software).collect()
}

/// Everything that must be readable before anything can be judged.
fn parse(question: &Question<'_>) -> Result<Parts, Box<Check>> {
    let refused = |code: &str, title: &str, found: String| {
        let failed = Check::failed(code, title).expected("a CCA token").found(found).source(SPECIFIED);
        Box::new(failed.remedy("send the token as the realm management monitor gave it"))
    };
    let wire = CcaEvidence::parse(question.evidence)
        .map_err(|cause| refused("cca.evidence.format", "The evidence cannot be read", cause.to_string()))?;
    let collection = Collection::parse(wire.token())
        .map_err(|cause| refused("cca.token.format", "The token cannot be read", cause.to_string()))?;
    let envelope = |code: &str, title: &str, token: &[u8]| {
        Sign1::parse(token).map_err(|cause| refused(code, title, cause.to_string()))
    };

    let title = "The platform's token cannot be read";
    let signed_platform = envelope("cca.platform.format", title, &collection.platform)?;
    let platform = PlatformClaims::parse(signed_platform.payload())
        .map_err(|cause| refused(cause.code_for_platform(), title, cause.to_string()))?;
    let title = "The realm's token cannot be read";
    let signed_realm = envelope("cca.realm.format", title, &collection.realm)?;
    let realm = RealmClaims::parse(signed_realm.payload())
        .map_err(|cause| refused(cause.code_for_realm(), title, cause.to_string()))?;
    Ok(Parts { platform_token: collection.platform, signed_platform, platform, signed_realm, realm })
}

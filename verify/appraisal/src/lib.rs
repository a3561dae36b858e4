//! Genuine claims against an owner's standards: the verdict tree that decides and explains.
//!
//! Standards are reference values (what the guest must be), the platform policy (what it may run on), and, if the
//! owner has one, an appraisal policy in Rego, which then decides in place of the reference values.
//!
//! INVARIANT I-8: a verdict is a function of its inputs; there is no clock and no order of chance. What decides is
//! the equality of quoted registers with those of one reference value. The event log and the known variations only
//! explain, because nobody vouches for more of a log than its digests.
//! Left out: who gets which resource, whose policy takes this verdict as its input; and the engine of appraisal
//! policies, which is behind [`Appraiser`], so that a guest can judge its peer without one.

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

mod choice;
mod command_line;
mod compare;
mod difference;
mod evidence;
mod explain;
mod init_data;
pub mod platform;
mod registers;
mod said;
mod trust;
mod validity;
mod variation;

#[cfg(test)]
mod tests;

use coffer_core_evidence::Tee;
pub use coffer_core_evidence::ar4si::{Appraised, Appraiser, NotAppraised};
use coffer_core_initdata::InitData;
use coffer_core_launch::ReferenceValues;
use coffer_verify_api::{
    Check, Claims, CollateralKey, Outcome, Status, Timestamp, TrustVector, Verdict, Verified,
};
use serde_json::{Map, Value, json};

use choice::{Choice, choose};
pub use evidence::{annotated_evidence, init_data_claims};
pub use platform::PlatformPolicy;

/// What to do about a difference that may be the owner's own.
pub(crate) const PREDICT_AGAIN: &str = "If this change is yours, predict it again with `coffer measure` and add it \
     with `coffer ref add`. If it is not, the host changed what it started.";

/// Where a reference value comes from.
pub(crate) fn source(reference: &ReferenceValues) -> String {
    match reference.origin.as_str() {
        "" => format!("reference value {}", reference.id()),
        origin => format!("reference value {} ({origin})", reference.id()),
    }
}

/// What an owner judges by.
#[derive(Clone, Copy)]
pub struct Standards<'a> {
    /// What guests must be.
    pub references: &'a [ReferenceValues],
    /// What they may run on.
    pub platform: &'a PlatformPolicy,
    /// The owner's appraisal policy with its own reference values. Where there is one it makes the vector, and the
    /// comparison with `references` only informs.
    pub policy: Option<&'a dyn Appraiser>,
}

/// What came beside the evidence, bound to it.
#[derive(Clone, Copy)]
pub struct Sent<'a> {
    /// The init-data that the attester sent.
    pub init_data: Option<&'a InitData>,
    /// The runtime data: nonce, key and the devices' evidence. Null where there is none.
    pub runtime_claims: &'a Value,
}

impl Sent<'_> {
    /// Nothing.
    pub const NOTHING: Sent<'static> = Sent { init_data: None, runtime_claims: &Value::Null };
}

/// Judges genuine claims.
///
/// Any reference value that is complete, valid at `at` and equal to the quoted registers affirms. Where none does,
/// the closest one explains what differs. Devices need none: their judge compared them with the vendor's manifests.
pub fn appraise(verified: &Verified<Claims>, by: &Standards<'_>, sent: &Sent<'_>, at: Timestamp) -> Verdict {
    let claims = verified.get();
    let mut checks = vec![platform_group(verified, by.platform, at)];
    // Init-data is the machine's; a device beside it binds none.
    let init_data = sent.init_data.filter(|_| !is_device(claims.tee));
    let Guest { checks: guest, reference } = guest(claims, by.references, init_data, at);
    let mut json = claims.json.clone();
    if let Some(reference) = reference {
        json.insert("reference".to_owned(), json!({ "id": reference.id(), "origin": reference.origin }));
    }
    let (trust, identifiers) = match by.policy {
        None => {
            checks.extend(guest);
            let workload = match reference {
                Some(reference) => reference.init_data().is_some(),
                None => is_device(claims.tee),
            };
            (trust::vector(claims, &checks, workload), None)
        }
        Some(policy) => {
            // The policy may leave the reference values out, but not what binds the init-data that it looks at.
            checks.extend(
                init_data::bound(claims, init_data)
                    .map(|check| Check::group("init-data", "Init-data", vec![check])),
            );
            let seen = trust::vector(claims, &checks, true);
            let evidence = Value::Object(annotated_evidence(claims, sent));
            let appraised = said::by_policy(policy, &evidence, claims.hardware);
            checks.push(appraised.check);
            checks.extend(guest.into_iter().map(informing));
            (trust::tempered(appraised.trust, &seen), appraised.identifiers)
        }
    };
    let failed = checks.iter().any(Check::has_failed);
    let status = if failed { Status::Contraindicated } else { trust.status() };
    Verdict { tee: claims.tee, hardware: claims.hardware, status, trust, checks, claims: json, identifiers }
}

/// Of evidence that is not genuine nothing is believed: no claims, no hardware.
pub fn rejected(tee: Tee, checks: Vec<Check>) -> Verdict {
    // AR4SI, section 2.3.4: neither the instance nor its hardware is recognized.
    let trust = TrustVector { instance_identity: 97, hardware: 97, ..TrustVector::default() };
    let claims = Map::new();
    Verdict {
        tee,
        hardware: false,
        status: Status::Contraindicated,
        trust,
        checks,
        claims,
        identifiers: None,
    }
}

/// No judgement was possible, because these documents are not there. Nothing is said of the evidence.
pub fn unavailable(tee: Tee, keys: &[CollateralKey]) -> Verdict {
    let missing = keys.iter().map(|key| {
        Check::unavailable("collateral.unavailable", format!("The document {key} is not there"))
            .expected(key.to_string())
            .found("nothing")
            .source("the judge's collateral")
            .remedy("Fetch it with `coffer collateral fetch`, or take it from elsewhere with `coffer collateral import`.")
    });
    let title = format!("The {tee} evidence cannot be judged without documents that are missing");
    let group = Check::group("collateral", title, missing.collect());
    // A group without children would inform only.
    let group = Check { outcome: Outcome::Unavailable, ..group };
    let (trust, claims) = (TrustVector::default(), Map::new());
    Verdict {
        tee,
        hardware: false,
        status: Status::None,
        trust,
        checks: vec![group],
        claims,
        identifiers: None,
    }
}

/// What the reference values say.
struct Guest<'a> {
    checks: Vec<Check>,
    /// The one that matches in all, if one does.
    reference: Option<&'a ReferenceValues>,
}

fn guest<'a>(
    claims: &Claims,
    references: &'a [ReferenceValues],
    sent: Option<&InitData>,
    at: Timestamp,
) -> Guest<'a> {
    let chosen = choose(claims, references, at);
    let mut checks = Vec::new();
    match &chosen {
        Choice::None(_) if is_device(claims.tee) => {
            let check = Check::informational(
                "reference.vendor",
                "The device was compared with its vendor's manifests by its judge; the owner's reference values name \
                 no such device",
            );
            checks.push(Check::group("reference", "Reference values", vec![check]));
            return Guest { checks, reference: None };
        }
        Choice::None(check) => {
            checks.push(Check::group("reference", "Reference values", vec![check.clone()]));
            checks.extend(init_data::bound(claims, sent).filter(Check::has_failed));
        }
        Choice::Match(reference) | Choice::Closest(reference) => {
            checks.push(explain::measurements(claims, reference));
            checks.extend(init_data::check(claims, reference, sent));
        }
        Choice::Invalid(reference, check) => {
            checks.push(Check::group("reference", "Reference values", vec![check.clone()]));
            checks.push(explain::measurements(claims, reference));
            checks.extend(init_data::check(claims, reference, sent));
        }
    }
    // The explanation must never be kinder than the decision.
    let reference = match chosen {
        Choice::Match(reference) => Some(reference),
        _ => None,
    };
    let failed = checks.iter().any(Check::has_failed);
    if reference.is_none() && !failed {
        checks.push(
            Check::failed("measurement.registers", "The registers are not those of any reference value")
                .remedy(PREDICT_AGAIN),
        );
    }
    Guest { checks, reference: reference.filter(|_| !failed) }
}

fn is_device(tee: Tee) -> bool {
    tee == Tee::Nvidia
}

/// What the judge checked, and what the owner demands of the platform.
fn platform_group(verified: &Verified<Claims>, policy: &PlatformPolicy, at: Timestamp) -> Check {
    let claims = verified.get();
    let mut children = verified.checks().to_vec();
    children.extend(platform::check(claims, policy, at));
    Check::group(
        "platform",
        format!("The {} evidence is genuine, fresh and bound to the key", claims.tee),
        children,
    )
}

/// A check that tells and does not decide.
fn informing(check: Check) -> Check {
    let children = check.children.into_iter().map(informing).collect();
    let outcome = match check.outcome {
        Outcome::Passed => Outcome::Passed,
        _ => Outcome::Informational,
    };
    Check { outcome, children, ..check }
}

//! Claims against reference values: the verdict tree that decides and explains.
//!
//! INVARIANT I-8: a verdict is a function of its inputs; there is no clock and no order of chance. What decides is
//! the equality of quoted registers with those of one reference value. The event log only explains, because
//! nobody vouches for more of it than its digests.
//! Left out: the owner's policy, which takes this verdict as its input.

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

mod command_line;
mod difference;
mod explain;
mod init_data;
mod validity;

#[cfg(test)]
mod tests;

use coffer_core_initdata::InitData;
use coffer_core_launch::ReferenceValues;
use coffer_verify_api::{Check, Claims, Status, Timestamp, Verdict, Verified};
use serde_json::json;

use validity::Validity;

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

/// Compares genuine claims with reference values.
///
/// Any reference value that is complete, valid at `at` and equal to the quoted registers affirms. Where none does, the closest
/// one explains what differs. `init_data` is the init-data that the attester sent.
pub fn appraise(
    verified: &Verified<Claims>,
    references: &[ReferenceValues],
    init_data: Option<&InitData>,
    at: Timestamp,
) -> Verdict {
    let claims = verified.get();
    let mut checks = vec![platform(verified)];
    let mut json = claims.json.clone();
    let chosen = choose(claims, references, at);
    match &chosen {
        Choice::None(check) => {
            checks.push(Check::group("reference", "Reference values", vec![check.clone()]))
        }
        Choice::Match(reference) | Choice::Closest(reference) => {
            checks.push(explain::measurements(claims, reference));
            checks.push(init_data::check(claims, reference, init_data));
        }
        Choice::Invalid(reference, check) => {
            checks.push(Check::group("reference", "Reference values", vec![check.clone()]));
            checks.push(explain::measurements(claims, reference));
            checks.push(init_data::check(claims, reference, init_data));
        }
    }
    // The explanation must never be kinder than the decision.
    let decided = matches!(chosen, Choice::Match(_));
    if !decided && !checks.iter().any(Check::has_failed) {
        checks.push(
            Check::failed("measurement.registers", "The registers are not those of any reference value")
                .remedy(PREDICT_AGAIN),
        );
    }
    let affirmed = decided && !checks.iter().any(Check::has_failed);
    if affirmed && let Choice::Match(reference) = &chosen {
        json.insert("reference".to_owned(), json!({ "id": reference.id(), "origin": reference.origin }));
    }
    Verdict {
        tee: claims.tee,
        hardware: claims.hardware,
        status: if affirmed { Status::Affirming } else { Status::Contraindicated },
        checks,
        claims: json,
    }
}

/// What the reference values have to say of some registers.
enum Choice<'a> {
    /// There is none for this kind of evidence.
    None(Check),
    /// A valid one equals the registers.
    Match(&'a ReferenceValues),
    /// Valid ones differ; this is the closest.
    Closest(&'a ReferenceValues),
    /// None is valid at this time; this is the closest, and why it is not valid.
    Invalid(&'a ReferenceValues, Check),
}

fn choose<'a>(claims: &Claims, references: &'a [ReferenceValues], at: Timestamp) -> Choice<'a> {
    let banks: Vec<_> = claims.registers.values().map(|digest| digest.algorithm()).collect();
    let fitting: Vec<&ReferenceValues> = references
        .iter()
        .filter(|reference| reference.platform() == claims.tee && banks.contains(&reference.bank()))
        .collect();
    let valid: Vec<_> =
        fitting.iter().copied().filter(|reference| Validity::of(reference, at).is_valid()).collect();
    if let Some(reference) = valid.iter().find(|reference| matches(claims, reference)) {
        return Choice::Match(reference);
    }
    // One that equals the registers but is not valid says more than a valid one that differs.
    let lapsed = fitting.iter().find(|reference| matches(claims, reference));
    if let Some(reference) =
        lapsed.copied().or_else(|| closest(claims, &fitting).filter(|_| valid.is_empty()))
    {
        return Choice::Invalid(reference, Validity::of(reference, at).check(reference, at));
    }
    match closest(claims, &valid) {
        Some(reference) => Choice::Closest(reference),
        None => Choice::None(
            Check::failed(
                "reference.none",
                format!("There is no reference value for {} evidence", claims.tee),
            )
            .expected("a reference value for this platform and bank")
            .found(format!("{} reference values, none of them for it", references.len()))
            .remedy("Predict one with `coffer measure` and add it with `coffer ref add`."),
        ),
    }
}

/// Whether every register of the reference was quoted with its value.
fn matches(claims: &Claims, reference: &ReferenceValues) -> bool {
    agreeing(claims, reference) == reference.registers().len()
}

fn agreeing(claims: &Claims, reference: &ReferenceValues) -> usize {
    reference.registers().iter().filter(|(name, value)| claims.registers.get(*name) == Some(value)).count()
}

/// The reference with the most equal registers; among equals the first.
fn closest<'a>(claims: &Claims, references: &[&'a ReferenceValues]) -> Option<&'a ReferenceValues> {
    references.iter().copied().rev().max_by_key(|reference| agreeing(claims, reference))
}

/// What the judge checked, and who is kept out.
fn platform(verified: &Verified<Claims>) -> Check {
    let claims = verified.get();
    let mut children = verified.checks().to_vec();
    children.push(match claims.hardware {
        true => Check::passed("platform.hardware", "Hardware protects the guest from its host"),
        false => Check::informational(
            "platform.software",
            "The evidence is from software: it shows what was started, and protects nothing from the host",
        )
        .remedy("For secrets that the host must not see, use a policy that asks for hardware."),
    });
    Check::group(
        "platform",
        format!("The {} evidence is genuine, fresh and bound to the key", claims.tee),
        children,
    )
}

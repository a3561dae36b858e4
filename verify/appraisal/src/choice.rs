//! Which reference value speaks of a guest: one that matches, or else the closest.

use coffer_core_evidence::Tee;
use coffer_core_launch::ReferenceValues;
use coffer_verify_api::{Check, Claims, Timestamp};

use crate::validity::Validity;

/// What the reference values have to say of some registers.
pub(crate) enum Choice<'a> {
    /// There is none for this kind of evidence.
    None(Check),
    /// A valid one equals the registers.
    Match(&'a ReferenceValues),
    /// Valid ones differ; this is the closest.
    Closest(&'a ReferenceValues),
    /// None is valid at this time; this is the closest, and why it is not valid.
    Invalid(&'a ReferenceValues, Check),
}

pub(crate) fn choose<'a>(claims: &Claims, references: &'a [ReferenceValues], at: Timestamp) -> Choice<'a> {
    let banked = |reference: &&ReferenceValues| {
        claims.registers.values().any(|digest| digest.algorithm() == reference.bank())
    };
    let fitting: Vec<&ReferenceValues> =
        references.iter().filter(|reference| reference.platform() == claims.tee).filter(banked).collect();
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
        None => Choice::None(none(claims.tee, references.len())),
    }
}

fn none(tee: Tee, known: usize) -> Check {
    Check::failed("reference.none", format!("There is no reference value for {tee} evidence"))
        .expected("a reference value for this platform and bank")
        .found(format!("{known} reference values, none of them for it"))
        .remedy("Predict one with `coffer measure` and add it with `coffer ref add`.")
}

/// Whether every register of the reference was quoted with its value, and every number is within its bound.
fn matches(claims: &Claims, reference: &ReferenceValues) -> bool {
    agreeing(claims, reference) == reference.registers().len().saturating_add(reference.versions().len())
}

fn agreeing(claims: &Claims, reference: &ReferenceValues) -> usize {
    let registers = reference
        .registers()
        .iter()
        .filter(|(name, value)| claims.registers.get(*name) == Some(value))
        .count();
    let within = |name: &str| claims.posture.versions.get(name).copied();
    let versions = reference
        .versions()
        .iter()
        .filter(|(name, bound)| within(name).is_some_and(|found| bound.admits(found)));
    registers.saturating_add(versions.count())
}

/// The reference with the most that agrees; among equals the first.
fn closest<'a>(claims: &Claims, references: &[&'a ReferenceValues]) -> Option<&'a ReferenceValues> {
    references.iter().copied().rev().max_by_key(|reference| agreeing(claims, reference))
}

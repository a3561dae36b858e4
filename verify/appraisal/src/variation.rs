//! Known variations: "this RTMR0 is what you get with 2 vCPUs instead of 4".
//!
//! A variation was computed with the prediction, from the same files. So a register that has a variation's value
//! shows more than that something differs: it shows that nothing else does in what this register measures.

use std::collections::BTreeSet;

use coffer_core_digest::Digest;
use coffer_core_launch::{Component, ReferenceValues, Variation};
use coffer_verify_api::{Check, Claims};

use crate::{PREDICT_AGAIN, registers, source};

/// The most variations that are told of one register.
const MAX_TOLD: usize = 3;

/// The variations that fit best what was found.
pub(crate) struct Fitting<'a> {
    /// Registers that are explained.
    pub(crate) registers: BTreeSet<&'a str>,
    /// The checks, by component.
    pub(crate) checks: Vec<(Component, Check)>,
}

/// Looks for variations that lead to the registers that differ. One that explains more of them is preferred, and
/// one that says of another register what it is not is none.
pub(crate) fn fitting<'a>(
    claims: &Claims,
    reference: &'a ReferenceValues,
    differing: &[&'a str],
) -> Fitting<'a> {
    let mut found = Fitting { registers: BTreeSet::new(), checks: Vec::new() };
    let holds = |variation: &&Variation| {
        variation.registers.iter().all(|(name, value)| claims.registers.get(name) == Some(value))
    };
    let mut left: Vec<&str> = differing.to_vec();
    loop {
        let explained = |variation: &Variation| {
            left.iter().filter(|name| variation.registers.contains_key(**name)).count()
        };
        let candidates: Vec<(usize, &Variation)> = reference
            .variations()
            .iter()
            .filter(holds)
            .map(|variation| (explained(variation), variation))
            .filter(|(count, _)| *count > 0)
            .collect();
        let Some(most) = candidates.iter().map(|(count, _)| *count).max() else { return found };
        let best: Vec<&Variation> =
            candidates.iter().filter(|(count, _)| *count == most).map(|(_, variation)| *variation).collect();
        let Some(first) = best.first() else { return found };
        let names: Vec<&'a str> =
            left.iter().copied().filter(|name| first.registers.contains_key(*name)).collect();
        left.retain(|name| !names.contains(name));
        let same: Vec<&Variation> =
            best.iter().copied().filter(|other| other.registers == first.registers).collect();
        found.checks.push((first.component, tell(claims, reference, &names, &same)));
        found.registers.extend(names);
    }
}

fn tell(claims: &Claims, reference: &ReferenceValues, names: &[&str], same: &[&Variation]) -> Check {
    let component = same.first().map_or(Component::Firmware, |variation| variation.component);
    let details: Vec<&str> = same.iter().take(MAX_TOLD).map(|variation| variation.detail.as_str()).collect();
    let details = details.join(", or with ");
    let labels: Vec<String> = names.iter().map(|name| registers::label(name)).collect();
    let title = match labels.as_slice() {
        [one] => format!("The {} differs: {one} is what you get with {details}", component.noun()),
        several => {
            format!(
                "The {} differs: {} are what you get with {details}",
                component.noun(),
                several.join(" and ")
            )
        }
    };
    let one = names.first().copied().unwrap_or_default();
    let shown = |value: Option<&Digest>| value.map(|value| format!("{one} {value}")).unwrap_or_default();
    Check::failed(format!("measurement.{}", component.name()), title)
        .expected(shown(reference.registers().get(one)))
        .found(format!("{} ({details})", shown(claims.registers.get(one))))
        .source(source(reference))
        .remedy(PREDICT_AGAIN)
}

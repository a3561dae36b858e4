//! The measurements of a guest against one reference value, told by component.

use std::collections::{BTreeMap, BTreeSet};

use coffer_core_digest::Digest;
use coffer_core_launch::{Component, ReferenceValues, register_index};
use coffer_verify_api::{Check, Claims, Outcome};

use crate::difference::{by_kind, differences, replayed};
use crate::{PREDICT_AGAIN, compare, registers, source, variation};

/// The group `measurements`: one check for each component that the reference value covers. Init-data has a group
/// of its own.
pub(crate) fn measurements(claims: &Claims, reference: &ReferenceValues) -> Check {
    let mut tale = Tale {
        claims,
        reference,
        replayed: None,
        checks: BTreeMap::new(),
        others: Vec::new(),
        alike: BTreeSet::new(),
    };
    let mut differing = Vec::new();
    for (name, expected) in reference.registers() {
        if registers::is_init_data(reference, name) {
            continue;
        }
        match claims.registers.get(name) {
            Some(found) if found == expected => tale.alike(name),
            Some(_) => differing.push(name.as_str()),
            None => tale.others.push(
                Check::failed(
                    registers::code(name),
                    format!("The evidence does not quote {}", registers::label(name)),
                )
                .expected(expected.to_string())
                .source(source(reference)),
            ),
        }
    }
    if !differing.is_empty() {
        tale.explain(&differing);
    }
    tale.versions();
    let failed = tale.checks.values().chain(&tale.others).any(Check::has_failed);
    let title = match failed {
        false => format!("The guest is what {} says", source(reference)),
        true => format!("The guest is not what {} says", source(reference)),
    };
    Check::group("measurements", title, tale.finish())
}

/// The checks so far.
struct Tale<'a> {
    claims: &'a Claims,
    reference: &'a ReferenceValues,
    /// What the log leads to, computed when first asked for.
    replayed: Option<BTreeMap<u32, Digest>>,
    checks: BTreeMap<Component, Check>,
    /// What cannot be laid to one component.
    others: Vec<Check>,
    /// Components of registers that no log leads to and that are as expected.
    alike: BTreeSet<Component>,
}

impl<'a> Tale<'a> {
    /// A register is as expected.
    fn alike(&mut self, name: &str) {
        if register_index(self.reference.platform(), name).is_none() || self.reference.events().is_empty() {
            let components = registers::components(self.reference, name);
            if components.is_empty() {
                let title = format!("{} is the expected one", registers::title(name));
                self.others.push(Check::passed(registers::code(name), title).source(source(self.reference)));
            }
            self.alike.extend(components);
        }
    }

    /// Registers differ: by a known variation, by an event of the log, or without a reason that can be told.
    fn explain(&mut self, differing: &[&'a str]) {
        let fitting = variation::fitting(self.claims, self.reference, differing);
        for (component, check) in fitting.checks {
            self.checks.entry(component).or_insert(check);
        }
        for name in differing.iter().filter(|name| !fitting.registers.contains(**name)) {
            if let (Some(expected), Some(found)) =
                (self.reference.registers().get(*name), self.claims.registers.get(*name))
            {
                self.differs(name, expected, found);
            }
        }
    }

    fn differs(&mut self, name: &str, expected: &Digest, found: &Digest) {
        let Self { claims, reference, .. } = *self;
        let bank = reference.bank();
        let Some(index) = register_index(reference.platform(), name) else {
            let why = match reference.variations().is_empty() {
                true => "no event log leads to it",
                false => "it is none of the values that a known variation gives",
            };
            return self.unexplained(name, expected, found, why);
        };
        if claims.events.is_empty() {
            return self.unexplained(name, expected, found, "no event log was sent");
        }
        let replayed = self.replayed.get_or_insert_with(|| replayed(&claims.events, bank));
        if *replayed.get(&index).unwrap_or(&Digest::zero(bank)) != *found {
            return self.unexplained(name, expected, found, "the event log does not lead to its value");
        }
        if reference.events().is_empty() {
            return self.unexplained(
                name,
                expected,
                found,
                "the reference value has no events to compare the log with",
            );
        }
        let differences = differences(reference.events(), &claims.events, index);
        if differences.is_empty() {
            let check = Check::failed(
                "measurement.boot-sequence",
                format!("The events of {} are the expected ones in another order", registers::label(name)),
            );
            self.others.push(check.expected(expected.to_string()).found(found.to_string()));
        }
        for (component, difference) in differences {
            let check = compare::event(claims, reference, component, name, &difference);
            // What a variation said of the component is proven by a register's value, and says more.
            self.checks.entry(component).or_insert(check);
        }
    }

    /// A difference without a log or a variation that explains it.
    fn unexplained(&mut self, name: &str, expected: &Digest, found: &Digest, why: &str) {
        let mut components = registers::components(self.reference, name);
        if components.is_empty() {
            let index = register_index(self.reference.platform(), name);
            let here = self.claims.events.iter().filter(|event| Some(event.register) == index);
            components = here.filter(|event| event.is_extended()).map(by_kind).collect();
        }
        if components.len() > 1 {
            components.remove(&Component::BootSequence);
        }
        let register = registers::title(name);
        let components: Vec<Component> = components.into_iter().collect();
        let (code, title) = match components.as_slice() {
            [] => (registers::code(name), format!("{register} differs; {why}")),
            [one] => (
                format!("measurement.{}", one.name()),
                format!("{register}, which measures the {}, differs; {why}", one.noun()),
            ),
            several => {
                let nouns: Vec<_> = several.iter().map(|component| component.noun()).collect();
                let title = format!(
                    "{register} differs; {why}, so it cannot be told which of these does: the {}",
                    nouns.join(", the ")
                );
                (registers::code(name), title)
            }
        };
        let check = Check::failed(code, title)
            .expected(expected.to_string())
            .found(found.to_string())
            .source(source(self.reference))
            .remedy(PREDICT_AGAIN);
        match components.as_slice() {
            [one] => {
                self.checks.entry(*one).or_insert(check);
            }
            several => {
                for component in several {
                    let unknown = Check::unavailable(
                        format!("measurement.{}", component.name()),
                        format!("Whether the {} differs cannot be told", component.noun()),
                    );
                    self.checks.entry(*component).or_insert(unknown);
                }
                self.others.push(check);
            }
        }
    }

    /// The numbers that the reference value sets a bound to.
    fn versions(&mut self) {
        for (name, bound) in self.reference.versions() {
            let code = format!("measurement.{name}");
            let found = self.claims.posture.versions.get(name);
            let check = match found {
                Some(found) if bound.admits(*found) => Check::passed(code, format!("{name} is as expected")),
                Some(_) => Check::failed(code, format!("{name} is not as expected")),
                None => Check::failed(code, format!("The evidence does not tell {name}")),
            };
            let found = found.map_or_else(|| "nothing".to_owned(), u64::to_string);
            self.others.push(
                check
                    .expected(bound.to_string())
                    .found(found)
                    .source(source(self.reference))
                    .remedy(PREDICT_AGAIN),
            );
        }
    }

    /// The checks in the order of the boot, with those of the components that are as expected.
    fn finish(mut self) -> Vec<Check> {
        self.excuse_kernel();
        let mut covered: BTreeSet<Component> =
            self.reference.events().iter().map(|event| event.component).collect();
        covered.append(&mut self.alike);
        covered.remove(&Component::InitData);
        for component in covered {
            self.checks.entry(component).or_insert_with(|| {
                let title = format!("The {} is the expected one", component.noun());
                Check::passed(format!("measurement.{}", component.name()), title)
                    .found(compare::expected_text(self.reference, component))
                    .source(source(self.reference))
            });
        }
        let mut checks: Vec<Check> = self.checks.into_values().collect();
        checks.append(&mut self.others);
        checks
    }

    /// The launcher writes the initrd's size and place into the kernel's header. So a kernel's hash that differs
    /// beside a changed initrd or memory size does not show another kernel.
    fn excuse_kernel(&mut self) {
        let failed = |component| self.checks.get(&component).is_some_and(Check::has_failed);
        let blamed = match () {
            () if failed(Component::Initrd) => "initrd's size",
            () if failed(Component::Firmware) || failed(Component::Memory) => "machine's memory",
            () => return,
        };
        if let Some(check) = self.checks.get_mut(&Component::Kernel)
            && check.has_failed()
        {
            let excused = Check::unavailable(
                check.code.clone(),
                format!(
                    "The kernel's hash differs, as it does when the {blamed} changes, because the launcher writes \
                     it into the kernel's header; whether the kernel is the expected one cannot be told"
                ),
            );
            let Check { expected, found, source, .. } = check.clone();
            *check = Check { expected, found, source, outcome: Outcome::Unavailable, ..excused };
        }
    }
}

//! The measurements of a guest against one reference value, told by component.

use std::collections::{BTreeMap, BTreeSet};

use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::eventlog::Event;
use coffer_core_launch::{Artifacts, Component, PredictedEvent, ReferenceValues};
use coffer_verify_api::{Check, Claims};

use crate::difference::{Difference, differences, replayed};
use crate::{PREDICT_AGAIN, command_line, source};

/// The group `measurements`: one check for each component that the reference value covers. Init-data has a group
/// of its own.
pub(crate) fn measurements(claims: &Claims, reference: &ReferenceValues) -> Check {
    let mut tale = Tale { claims, reference, replayed: None, checks: BTreeMap::new(), others: Vec::new() };
    for (name, expected) in reference.registers() {
        let Some(register) = name.strip_prefix("pcr").and_then(|number| number.parse().ok()) else {
            continue;
        };
        if is_init_data(reference, register) {
            continue;
        }
        match claims.registers.get(name) {
            Some(found) if found == expected => {}
            Some(found) => tale.differs(register, expected, found),
            None => tale.others.push(
                Check::failed(
                    format!("measurement.{name}"),
                    format!("The evidence does not quote register {register}"),
                )
                .expected(expected.to_string()),
            ),
        }
    }
    let failed = !tale.checks.is_empty() || !tale.others.is_empty();
    let title = match failed {
        false => format!("The guest is what {} says", source(reference)),
        true => format!("The guest is not what {} says", source(reference)),
    };
    Check::group("measurements", title, tale.finish())
}

/// Whether a register belongs to the group `init-data`.
pub(crate) fn is_init_data(reference: &ReferenceValues, register: u32) -> bool {
    let components = reference.components(register);
    components.contains(&Component::InitData)
        || (components.is_empty() && register == crate::init_data::REGISTER)
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
}

impl Tale<'_> {
    fn differs(&mut self, register: u32, expected: &Digest, found: &Digest) {
        let Self { claims, reference, .. } = *self;
        let bank = reference.bank();
        if claims.events.is_empty() {
            return self.unexplained(register, expected, found, "no event log was sent");
        }
        let replayed = self.replayed.get_or_insert_with(|| replayed(&claims.events, bank));
        if *replayed.get(&register).unwrap_or(&Digest::zero(bank)) != *found {
            return self.unexplained(register, expected, found, "the event log does not lead to its value");
        }
        let differences = differences(reference.events(), &claims.events, register);
        if differences.is_empty() {
            let check = Check::failed(
                "measurement.boot-sequence",
                format!("The events of register {register} are the expected ones in another order"),
            );
            self.others.push(check.expected(expected.to_string()).found(found.to_string()));
        }
        for (component, difference) in differences {
            let check = self.compare(component, register, &difference);
            self.checks.entry(component).or_insert(check);
        }
    }

    /// A difference without a log that explains it.
    fn unexplained(&mut self, register: u32, expected: &Digest, found: &Digest, why: &str) {
        let mut components = self.reference.components(register);
        if components.len() > 1 {
            components.remove(&Component::BootSequence);
        }
        let title = match components.iter().collect::<Vec<_>>().as_slice() {
            [one] => format!("Register {register}, which measures the {}, differs; {why}", one.noun()),
            several => {
                let nouns: Vec<_> = several.iter().map(|component| component.noun()).collect();
                format!(
                    "Register {register} differs; {why}, so it cannot be told which of these does: the {}",
                    nouns.join(", the ")
                )
            }
        };
        let code = match components.iter().collect::<Vec<_>>().as_slice() {
            [one] => format!("measurement.{}", one.name()),
            _ => format!("measurement.pcr{register}"),
        };
        let check = Check::failed(code, title)
            .expected(expected.to_string())
            .found(found.to_string())
            .source(source(self.reference))
            .remedy(PREDICT_AGAIN);
        match components.into_iter().collect::<Vec<_>>().as_slice() {
            [one] => {
                self.checks.insert(*one, check);
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

    fn compare(&self, component: Component, register: u32, difference: &Difference<'_>) -> Check {
        let bank = self.reference.bank();
        let code = format!("measurement.{}", component.name());
        let events = &self.claims.events;
        let check = match (component, difference.expected, difference.found) {
            (Component::CommandLine, Some(expected), Some(found)) => {
                command_line(code, expected, found, events, bank)
            }
            (Component::Firmware, Some(expected), Some(found)) => {
                let title = firmware_title(difference.index, self.reference.artifacts());
                texts(Check::failed(code, title), expected, found, bank)
            }
            (_, Some(expected), Some(found)) => {
                let title = format!("The {} is not the expected one", component.noun());
                texts(Check::failed(code, title), expected, found, bank)
            }
            (_, Some(expected), None) => {
                let title = format!("The {} was not measured into register {register}", component.noun());
                Check::failed(code, title).expected(expected.detail.clone()).found("no such event")
            }
            (_, None, found) => {
                let title = format!("Register {register} has an event that was not expected");
                let found = found.map(|event| format!("{}: {}", event.kind, event.describe()));
                Check::failed(code, title).expected("no further event").found(found.unwrap_or_default())
            }
        };
        check.source(source(self.reference)).remedy(PREDICT_AGAIN)
    }

    /// The checks in the order of the boot, with those of the components that are as expected.
    fn finish(mut self) -> Vec<Check> {
        self.excuse_kernel();
        let covered: BTreeSet<Component> =
            self.reference.events().iter().map(|event| event.component).collect();
        for component in covered {
            if component == Component::InitData {
                continue;
            }
            self.checks.entry(component).or_insert_with(|| {
                let title = format!("The {} is the expected one", component.noun());
                Check::passed(format!("measurement.{}", component.name()), title)
                    .found(expected_text(self.reference, component))
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
            () if failed(Component::Firmware) => "machine's memory",
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
            *check = Check {
                expected: check.expected.take(),
                found: check.found.take(),
                source: check.source.take(),
                ..excused
            };
        }
    }
}

fn command_line(
    code: String,
    expected: &PredictedEvent,
    found: &Event,
    events: &[Event],
    bank: Algorithm,
) -> Check {
    let (title, shown) = match command_line::believed(found, events, bank) {
        Some(text) => {
            let word = command_line::first_difference(&expected.detail, &text).unwrap_or_default();
            (format!("The kernel's command line is not the expected one: {word}"), text)
        }
        None => (
            "The kernel's command line is not the expected one; its text was not sent".to_owned(),
            format!(
                "a command line with the hash {}",
                found.digest(bank).map(Digest::to_string).unwrap_or_default()
            ),
        ),
    };
    Check::failed(code, title).expected(expected.detail.clone()).found(shown)
}

fn texts(check: Check, expected: &PredictedEvent, found: &Event, bank: Algorithm) -> Check {
    let digest = found.digest(bank).map(Digest::to_string).unwrap_or_default();
    check
        .expected(format!("{}, {}", expected.detail, expected.digest))
        .found(format!("{}, {digest}", found.describe()))
}

/// Of the firmware's events the second is the volume into which it writes what it found of the machine.
fn firmware_title(index: usize, artifacts: &Artifacts) -> String {
    let Artifacts { memory_mib, vcpus, .. } = artifacts;
    match index {
        1 => format!(
            "The firmware's first volume is not the expected one: another firmware, or a machine that has not \
             {memory_mib} MiB of memory, {vcpus} processors and the expected address width"
        ),
        _ => "The firmware is not the expected one".to_owned(),
    }
}

/// What a person knows the component by.
fn expected_text(reference: &ReferenceValues, component: Component) -> String {
    let artifacts = reference.artifacts();
    match component {
        Component::Firmware => format!(
            "{}, with {} MiB of memory and {} processors",
            artifacts.firmware, artifacts.memory_mib, artifacts.vcpus
        ),
        Component::Kernel => artifacts.kernel.to_string(),
        Component::Initrd => artifacts.initrd.to_string(),
        other => {
            let details: Vec<&str> = reference
                .events()
                .iter()
                .filter(|event| event.component == other && event.detail != "separator")
                .map(|event| event.detail.as_str())
                .collect();
            details.join("; ")
        }
    }
}

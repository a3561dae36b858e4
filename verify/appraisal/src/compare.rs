//! One event against the one that was predicted in its place.

use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::eventlog::Event;
use coffer_core_launch::{Artifacts, Component, PredictedEvent, ReferenceValues};
use coffer_verify_api::{Check, Claims};

use crate::difference::Difference;
use crate::{PREDICT_AGAIN, command_line, registers, source};

/// The check that tells the difference.
pub(crate) fn event(
    claims: &Claims,
    reference: &ReferenceValues,
    component: Component,
    register: &str,
    difference: &Difference<'_>,
) -> Check {
    let bank = reference.bank();
    let code = format!("measurement.{}", component.name());
    let register = registers::label(register);
    let check = match (component, difference.expected, difference.found) {
        (Component::CommandLine, Some(expected), Some(found)) => {
            compare_command_lines(code, expected, found, &claims.events, bank)
        }
        (Component::Firmware, Some(expected), Some(found)) => {
            let title = firmware_title(difference.index, reference.artifacts());
            texts(Check::failed(code, title), expected, found, bank)
        }
        (_, Some(expected), Some(found)) => {
            let title = format!("The {} is not the expected one", component.noun());
            texts(Check::failed(code, title), expected, found, bank)
        }
        (_, Some(expected), None) => {
            let title = format!("The {} was not measured into {register}", component.noun());
            Check::failed(code, title).expected(expected.detail.clone()).found("no such event")
        }
        (_, None, found) => {
            let title = format!("{} has an event that was not expected", capital(&register));
            let found = found.map(|event| format!("{}: {}", event.kind, event.describe()));
            Check::failed(code, title).expected("no further event").found(found.unwrap_or_default())
        }
    };
    check.source(source(reference)).remedy(PREDICT_AGAIN)
}

fn capital(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
}

fn compare_command_lines(
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
    match (index, artifacts.memory_mib, artifacts.vcpus) {
        (1, Some(memory_mib), Some(vcpus)) => format!(
            "The firmware's first volume is not the expected one: another firmware, or a machine that has not \
             {memory_mib} MiB of memory, {vcpus} processors and the expected address width"
        ),
        _ => "The firmware is not the expected one".to_owned(),
    }
}

/// What a person knows the component by.
pub(crate) fn expected_text(reference: &ReferenceValues, component: Component) -> String {
    let artifacts = reference.artifacts();
    let text = |digest: &Option<Digest>| digest.as_ref().map(Digest::to_string);
    let told = match component {
        Component::Firmware => {
            let file = text(&artifacts.firmware).or_else(|| text(&artifacts.igvm));
            let memory = artifacts.memory_mib.map(|memory_mib| format!("{memory_mib} MiB of memory"));
            let vcpus = artifacts.vcpus.map(|vcpus| format!("{vcpus} processors"));
            let parts: Vec<String> = [file, memory, vcpus].into_iter().flatten().collect();
            (!parts.is_empty()).then(|| parts.join(", "))
        }
        Component::Kernel => text(&artifacts.kernel),
        Component::Initrd => text(&artifacts.initrd),
        Component::CommandLine if reference.events().is_empty() => artifacts.command_line.clone(),
        Component::Vcpus => artifacts.vcpus.map(|vcpus| vcpus.to_string()),
        Component::Memory => artifacts.memory_mib.map(|memory_mib| format!("{memory_mib} MiB")),
        Component::Cpu => artifacts.cpu.clone(),
        Component::GuestFeatures => artifacts.guest_features.map(|features| format!("{features:#x}")),
        Component::Vmm => artifacts.vmm.clone(),
        Component::Enclave => text(&artifacts.enclave),
        _ => None,
    };
    told.unwrap_or_else(|| details(reference, component))
}

/// What the predicted events say of it.
fn details(reference: &ReferenceValues, component: Component) -> String {
    let details: Vec<&str> = reference
        .events()
        .iter()
        .filter(|event| event.component == component && event.detail != "separator")
        .map(|event| event.detail.as_str())
        .collect();
    match details.is_empty() {
        true => "as measured".to_owned(),
        false => details.join("; "),
    }
}

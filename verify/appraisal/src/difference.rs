//! Which component of a register differs: the replayed log against the predicted events.
//!
//! Events are compared by component, in their order within it. A type or tag in the log is a claim, so a log can
//! mislead about *which* component differs, but not about *whether* one does: that is decided by the register.

use std::collections::BTreeMap;

use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::eventlog::{
    Event, EventType, INIT_DATA_TAG, LINUX_INITRD_TAG, LINUX_LOAD_OPTIONS_TAG, replay, startup_locality,
};
use coffer_core_launch::{Component, PredictedEvent};

use crate::command_line::own_text;

/// The first difference in one component.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Difference<'a> {
    /// The place among the component's events in this register.
    pub(crate) index: usize,
    /// What was predicted there, if anything was.
    pub(crate) expected: Option<&'a PredictedEvent>,
    /// What the log has there, if anything.
    pub(crate) found: Option<&'a Event>,
}

/// The component that an event measures. What was predicted of its register decides: an event with the digest of a
/// predicted one is that one; one of a type that was predicted for one component only is of this component.
fn component(event: &Event, predicted: &[&PredictedEvent]) -> Component {
    let same = predicted.iter().find(|own| event.digest(own.digest.algorithm()) == Some(&own.digest));
    if let Some(own) = same {
        return own.component;
    }
    let kind = event.kind.name();
    let mut of_kind = predicted.iter().filter(|own| kind == Some(own.kind.as_str())).map(|own| own.component);
    match of_kind.next() {
        Some(one) if of_kind.all(|other| other == one) => one,
        _ => by_kind(event),
    }
}

/// The component by the event's type and tag alone.
pub(crate) fn by_kind(event: &Event) -> Component {
    match event.kind {
        EventType::S_CRTM_VERSION
        | EventType::S_CRTM_CONTENTS
        | EventType::POST_CODE
        | EventType::POST_CODE2
        | EventType::CPU_MICROCODE
        | EventType::EFI_PLATFORM_FIRMWARE_BLOB
        | EventType::EFI_PLATFORM_FIRMWARE_BLOB2
        | EventType::EFI_BOOT_SERVICES_DRIVER
        | EventType::EFI_RUNTIME_SERVICES_DRIVER
        | EventType::EFI_HCRTM_EVENT => Component::Firmware,
        EventType::EFI_VARIABLE_DRIVER_CONFIG | EventType::EFI_VARIABLE_AUTHORITY => Component::SecureBoot,
        EventType::EFI_VARIABLE_BOOT
        | EventType::EFI_VARIABLE_BOOT2
        | EventType::PLATFORM_CONFIG_FLAGS
        | EventType::EFI_HANDOFF_TABLES
        | EventType::EFI_HANDOFF_TABLES2 => Component::FirmwareSettings,
        EventType::EFI_BOOT_SERVICES_APPLICATION => Component::Kernel,
        EventType::EVENT_TAG => tagged(&event.data),
        _ => Component::BootSequence,
    }
}

fn tagged(data: &[u8]) -> Component {
    let tag = data.first_chunk().copied().map(u32::from_le_bytes);
    match tag {
        Some(LINUX_LOAD_OPTIONS_TAG) => Component::CommandLine,
        Some(LINUX_INITRD_TAG) => Component::Initrd,
        Some(INIT_DATA_TAG) => Component::InitData,
        // A loader that writes the text itself.
        _ if own_text(data).is_some() => Component::CommandLine,
        _ => Component::BootSequence,
    }
}

/// The registers that the events lead to.
pub(crate) fn replayed(events: &[Event], bank: Algorithm) -> BTreeMap<u32, Digest> {
    replay(events, bank, startup_locality(events))
}

/// The first difference of each component in one register. Empty where the events are the same but for their order.
pub(crate) fn differences<'a>(
    predicted: &'a [PredictedEvent],
    events: &'a [Event],
    register: u32,
) -> BTreeMap<Component, Difference<'a>> {
    let of_register: Vec<&PredictedEvent> =
        predicted.iter().filter(|event| event.register == register).collect();
    let mut sides: BTreeMap<Component, (Vec<&PredictedEvent>, Vec<&Event>)> = BTreeMap::new();
    for event in &of_register {
        sides.entry(event.component).or_default().0.push(event);
    }
    for event in events.iter().filter(|event| event.is_extended() && event.register == register) {
        sides.entry(component(event, &of_register)).or_default().1.push(event);
    }
    let first = |(component, (expected, found)): (Component, (Vec<&'a PredictedEvent>, Vec<&'a Event>))| {
        let same = |index: usize| match (expected.get(index), found.get(index)) {
            (Some(own), Some(other)) => other.digest(own.digest.algorithm()) == Some(&own.digest),
            _ => false,
        };
        let index = (0..expected.len().max(found.len())).find(|index| !same(*index))?;
        let difference =
            Difference { index, expected: expected.get(index).copied(), found: found.get(index).copied() };
        Some((component, difference))
    };
    sides.into_iter().filter_map(first).collect()
}

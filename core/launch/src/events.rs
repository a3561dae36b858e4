//! Events as firmware and kernel log them, whichever register of whichever platform they are extended into.

use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::eventlog::EventType;

use crate::{Component, PredictedEvent};

/// `EFI_GLOBAL_VARIABLE` and `EFI_IMAGE_SECURITY_DATABASE_GUID`, as stored.
const GLOBAL: [u8; 16] =
    [0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c];
const SECURITY_DATABASE: [u8; 16] =
    [0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f];

/// What OVMF adds to the command line where there is an initrd.
pub(crate) const INITRD_OPTION: &str = " initrd=initrd";
/// The firmware's step before it starts what a boot option says.
pub(crate) const CALLING: &str = "Calling EFI Application from Boot Option";
/// The kernel's steps when it takes over.
pub(crate) const EXIT_BOOT_SERVICES: [&str; 2] =
    ["Exit Boot Services Invocation", "Exit Boot Services Returned with Success"];

/// The secure boot variables with the databases they are in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SecureBootVariables {
    /// `SecureBoot` itself: firmware without secure boot has not even set it to zero.
    pub(crate) state: Vec<u8>,
    pub(crate) pk: Vec<u8>,
    pub(crate) kek: Vec<u8>,
    pub(crate) db: Vec<u8>,
    pub(crate) dbx: Vec<u8>,
}

impl SecureBootVariables {
    pub(crate) fn is_on(&self) -> bool {
        self.state == [1]
    }
}

/// The events so far, in the order of the log.
pub(crate) struct Sequence {
    bank: Algorithm,
    pub(crate) events: Vec<PredictedEvent>,
}

impl Sequence {
    pub(crate) const fn new(bank: Algorithm) -> Self {
        Self { bank, events: Vec::new() }
    }

    /// An event whose digest is of `data`.
    pub(crate) fn add(
        &mut self,
        register: u32,
        kind: EventType,
        component: Component,
        data: &[u8],
        detail: impl Into<String>,
    ) {
        self.digest(register, kind, component, Digest::of(self.bank, data), detail);
    }

    /// An event whose digest is known.
    pub(crate) fn digest(
        &mut self,
        register: u32,
        kind: EventType,
        component: Component,
        digest: Digest,
        detail: impl Into<String>,
    ) {
        let (kind, detail) = (kind.to_string(), detail.into());
        self.events.push(PredictedEvent { register, kind, component, digest, detail });
    }

    pub(crate) fn separator(&mut self, register: u32) {
        self.add(register, EventType::SEPARATOR, Component::BootSequence, &[0; 4], "separator");
    }

    pub(crate) fn action(&mut self, register: u32, step: &str) {
        self.add(register, EventType::EFI_ACTION, Component::BootSequence, step.as_bytes(), step);
    }

    /// The secure boot variables and the separator behind them.
    pub(crate) fn secure_boot(&mut self, register: u32, variables: &SecureBootVariables) {
        let SecureBootVariables { state, pk, kek, db, dbx } = variables;
        let variables: [([u8; 16], &str, &[u8]); 5] = [
            (GLOBAL, "SecureBoot", state),
            (GLOBAL, "PK", pk),
            (GLOBAL, "KEK", kek),
            (SECURITY_DATABASE, "db", db),
            (SECURITY_DATABASE, "dbx", dbx),
        ];
        for (vendor, name, value) in variables {
            let detail = match (name, value) {
                (_, []) => format!("{name} is not set"),
                ("SecureBoot", [0]) => format!("{name} is off"),
                ("SecureBoot", [1]) => format!("{name} is on"),
                (_, value) => format!("{name} of {} bytes, as in the firmware's variables", value.len()),
            };
            let kind = EventType::EFI_VARIABLE_DRIVER_CONFIG;
            self.add(register, kind, Component::SecureBoot, &variable(vendor, name, value), detail);
        }
        self.separator(register);
    }
}

/// `UEFI_VARIABLE_DATA` (TCG PC Client PFP 1.06, section 10.2.6).
fn variable(vendor: [u8; 16], name: &str, value: &[u8]) -> Vec<u8> {
    let units: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let length = |count: usize| u64::try_from(count).unwrap_or(u64::MAX).to_le_bytes();
    [vendor.as_slice(), &length(name.encode_utf16().count()), &length(value.len()), &units, value].concat()
}

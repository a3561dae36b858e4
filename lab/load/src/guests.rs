//! Guests with software TPMs that all measured the same start, and the reference values that affirm them.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::ReportData;
use coffer_core_launch::AddressWidth;
use coffer_lab_testpki::{Authority, EventLogBuilder, KeyKind, TpmFixture};
use serde_json::{Value, json};

/// `EV_EFI_ACTION`.
const EFI_ACTION: u32 = 0x8000_0007;
/// As many events as a start in a machine has.
const EVENTS: u8 = 30;
/// Which event another guest measured otherwise.
const OTHER: u8 = 24;

/// The root of the TPMs, and what all of them measure.
pub struct Guests {
    root: Authority,
    log: Vec<u8>,
    registers: [Digest; 24],
}

impl Default for Guests {
    fn default() -> Self {
        Self::new()
    }
}

impl Guests {
    /// With a root of its own.
    pub fn new() -> Self {
        let (log, registers) = measured(EVENTS);
        Self { root: Authority::root("the root of the load"), log, registers }
    }

    /// A guest that nobody saw before: a new TPM with a certificate.
    pub fn certified(&self) -> TpmFixture {
        let tpm = TpmFixture::new(KeyKind::EccP256);
        let certificate = self.root.certify(&tpm.spki_der());
        tpm.with_certificates(vec![certificate])
    }

    /// A guest's evidence for a challenge.
    pub fn evidence(&self, tpm: &TpmFixture, report_data: &ReportData) -> Value {
        tpm.evidence(&report_data.field(), self.registers, &self.log)
    }

    /// The root's certificate in DER.
    pub fn root_der(&self) -> Vec<u8> {
        self.root.der()
    }

    /// The root's certificate in PEM.
    pub fn root_pem(&self) -> String {
        let text = STANDARD.encode(self.root.der());
        let lines: Vec<&str> =
            text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
    }

    /// The reference values that affirm them.
    pub fn reference(&self) -> Value {
        reference(&self.registers, EVENTS)
    }

    /// Reference values of a guest that measured one thing otherwise.
    pub fn other_reference(&self) -> Value {
        reference(&measured(OTHER).1, OTHER)
    }
}

/// A start's log and registers, in which the event of number `other` is another one.
fn measured(other: u8) -> (Vec<u8>, [Digest; 24]) {
    let mut log = EventLogBuilder::new(Algorithm::Sha256);
    for number in 0..EVENTS {
        log = log.event(number % 10, EFI_ACTION, &content(number, other));
    }
    log.finish()
}

fn content(number: u8, other: u8) -> [u8; 100] {
    [if number == other { 99 } else { number }; 100]
}

fn reference(registers: &[Digest; 24], other: u8) -> Value {
    let registers: BTreeMap<String, Digest> =
        (0..10).zip(registers).map(|(number, value)| (format!("pcr{number}"), *value)).collect();
    let lines: String = registers.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    let id = Digest::sha256(format!("tpm\nsha256\n{lines}").as_bytes()).hex();
    let events: Vec<Value> = (0..EVENTS)
        .map(|number| {
            json!({
                "register": number % 10, "kind": "EV_EFI_ACTION", "component": "boot-sequence",
                "digest": Digest::sha256(&content(number, other)), "detail": format!("step {number}"),
            })
        })
        .collect();
    let nothing = Digest::sha256(b"");
    json!({
        "version": 1, "id": format!("tpm-{}", id.get(..24).unwrap_or_default()), "platform": "tpm",
        "origin": "load", "bank": "sha256", "registers": registers, "events": events,
        "artifacts": {
            "firmware": nothing, "kernel": nothing, "initrd": nothing, "command_line": "",
            "memory_mib": 512, "vcpus": 1, "address_width": AddressWidth::default(),
        },
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use coffer_core_launch::ReferenceValues;

    #[test]
    fn the_reference_values_are_in_the_brokers_form_and_differ_from_the_others() {
        let guests = Guests::new();
        let read = |value: Value| serde_json::from_value::<ReferenceValues>(value).unwrap();
        let (own, other) = (read(guests.reference()), read(guests.other_reference()));
        assert!(own.missing_registers().is_empty());
        assert_ne!(own.id(), other.id());
    }
}

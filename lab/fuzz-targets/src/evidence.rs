//! Evidence: TPM structures, the event log and the JSON that carries them.

use coffer_core_evidence::eventlog::{self, EventLog};
use coffer_core_evidence::tpm::{Attest, Public, Signature};
use coffer_core_evidence::wire::TpmEvidence;
use coffer_core_initdata::{Algorithm, Digest};

/// Reads `TPMS_ATTEST`.
pub fn tpm_attest(data: &[u8]) {
    let _ = Attest::parse(data);
}

/// Reads `TPMT_PUBLIC`, alone and behind its length.
pub fn tpm_public(data: &[u8]) {
    for public in [Public::parse(data), Public::parse_sized(data)].into_iter().flatten() {
        let _ = public.to_spki_der();
        assert!(!public.name().is_empty());
        assert_eq!(Public::parse(public.as_bytes()).unwrap(), public);
    }
}

/// Reads `TPMT_SIGNATURE`.
pub fn tpm_signature(data: &[u8]) {
    if let Ok(signature) = Signature::parse(data) {
        let _ = signature.encoded();
    }
}

/// Reads TPM evidence and everything inside it.
pub fn tpm_evidence(data: &[u8]) {
    let Ok(value) = serde_json::from_slice(data) else { return };
    let Ok(evidence) = TpmEvidence::parse(&value) else { return };
    let _ = evidence.registers();
    tpm_attest(&evidence.tpm_quote.message);
    tpm_signature(&evidence.tpm_quote.signature);
    if let Some(public) = &evidence.ak_tpmt_public {
        tpm_public(public);
    }
    if let Some(log) = &evidence.event_log {
        event_log(log);
    }
    let written = serde_json::to_value(&evidence).unwrap();
    assert_eq!(TpmEvidence::parse(&written).unwrap(), evidence);
}

/// Reads an event log, describes its events and replays it in each bank.
pub fn event_log(data: &[u8]) {
    let Ok(log) = EventLog::parse(data) else { return };
    for event in log.events() {
        let _ = event.describe();
        let _ = eventlog::device_path(&event.data);
    }
    let _ = eventlog::noted_command_line(log.events());
    for bank in [Algorithm::Sha1, Algorithm::Sha256, Algorithm::Sha384, Algorithm::Sha512] {
        let registers = log.replay(bank);
        assert!(registers.values().all(|register| register.algorithm() == bank));
    }
    let note = eventlog::init_data_event(&Digest::sha256(b"init-data"), &[Algorithm::Sha256]);
    if let Ok(longer) = EventLog::append(data, &note) {
        assert_eq!(EventLog::parse(&longer).unwrap().events().len(), log.events().len() + 1);
    }
}

/// A quote over registers 0 and 23 (TPM 2.0 part 2, section 10.12).
pub(crate) fn attest_seeds() -> Vec<Vec<u8>> {
    let mut bytes = 0xff54_4347_u32.to_be_bytes().to_vec();
    bytes.extend([0x80, 0x18, 0, 3, 0, 0x0b, 9, 0, 2, 0x90, 9]);
    bytes.extend([0; 16]);
    bytes.push(1);
    bytes.extend([1; 8]);
    bytes.extend([0, 0, 0, 1, 0, 0x0b, 3, 1, 0, 0x80, 0, 2, 0xaa, 0xbb]);
    vec![bytes]
}

/// A restricted signing key on P-256, and one of RSA (TPM 2.0 part 2, section 12.2.4).
pub(crate) fn public_seeds() -> Vec<Vec<u8>> {
    let attributes = [0, 5, 0, 0x72];
    let mut ecc =
        [&[0, 0x23, 0, 0x0b][..], &attributes, &[0, 0, 0, 0x10, 0, 0x18, 0, 0x0b, 0, 3, 0, 0x10]].concat();
    ecc.extend([&[0, 32][..], &[1; 32], &[0, 32], &[2; 32]].concat());
    let mut rsa =
        [&[0, 1, 0, 0x0b][..], &attributes, &[0, 0, 0, 0x10, 0, 0x14, 0, 0x0b, 8, 0, 0, 0, 0, 0]].concat();
    rsa.extend([&[1, 0][..], &[0x81; 256]].concat());
    let sized = |bytes: &Vec<u8>| [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat();
    vec![sized(&ecc), sized(&rsa), ecc, rsa]
}

pub(crate) fn signature_seeds() -> Vec<Vec<u8>> {
    vec![
        [&[0, 0x18, 0, 0x0b, 0, 32][..], &[1; 32], &[0, 32], &[2; 32]].concat(),
        [&[0, 0x14, 0, 0x0b, 1, 0][..], &[3; 256]].concat(),
    ]
}

pub(crate) fn evidence_seeds() -> Vec<Vec<u8>> {
    let evidence = TpmEvidence {
        ak_public: vec![1, 2, 3],
        tpm_quote: coffer_core_evidence::wire::TpmQuote {
            signature: signature_seeds().remove(0),
            message: attest_seeds().remove(0),
            pcrs: vec!["00".repeat(32); 24],
        },
        pcr_bank: Algorithm::Sha256,
        ak_certificates: vec![vec![0x30, 0]],
        ak_tpmt_public: public_seeds().pop(),
        event_log: event_log_seeds().pop(),
    };
    vec![serde_json::to_vec(&evidence).unwrap()]
}

/// A crypto-agile log with one event: a specification id, then a separator (TCG PC Client PFP, section 10).
pub(crate) fn event_log_seeds() -> Vec<Vec<u8>> {
    let id =
        [&b"Spec ID Event03\0"[..], &[0, 0, 0, 0, 0, 2, 0, 2], &1u32.to_le_bytes(), &[0x0b, 0, 32, 0], &[0]]
            .concat();
    let first =
        [&0u32.to_le_bytes()[..], &3u32.to_le_bytes(), &[0; 20], &(id.len() as u32).to_le_bytes(), &id];
    let separator = [&1u32.to_le_bytes()[..], &[0x0b, 0], Digest::sha256(&[0; 4]).as_bytes()].concat();
    let event = [&0u32.to_le_bytes()[..], &4u32.to_le_bytes(), &separator, &4u32.to_le_bytes(), &[0; 4]];
    let legacy =
        [&7u32.to_le_bytes()[..], &4u32.to_le_bytes(), &[5; 20], &4u32.to_le_bytes(), &[0; 4]].concat();
    vec![legacy, [first.concat(), event.concat()].concat()]
}

//! Real TPMs: swtpm, Google's vTPM, upstream's recorded evidence. Those whose attestation key has no
//! certificate get one of a root made here, so that the whole judge runs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use coffer_core_evidence::tpm::{Attest, Public};
use coffer_core_evidence::wire::{TpmEvidence, TpmQuote};
use coffer_lab_testpki::{Authority, registers};
use coffer_verify_api::{NoCollateral, Verifier as _};

use super::*;

fn vector(name: &str) -> Option<Vec<u8>> {
    let folder = std::env::var("COFFER_VECTORS")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors").into());
    let found = std::fs::read(PathBuf::from(folder).join("tpm").join(name)).ok();
    if found.is_none() {
        println!("skipped: no vectors ({name})");
    }
    found
}

/// One real quote, made complete.
struct Case {
    name: String,
    evidence: TpmEvidence,
    nonce: Vec<u8>,
    root: Authority,
}

impl Case {
    fn new(name: String, mut evidence: TpmEvidence, nonce: Vec<u8>) -> Self {
        let root = Authority::root("vector root");
        evidence.ak_certificates = vec![root.certify(&evidence.ak_public)];
        Self { name, evidence, nonce, root }
    }

    fn judge(&self, change: impl FnOnce(&mut TpmEvidence)) -> Judgement {
        let mut evidence = self.evidence.clone();
        change(&mut evidence);
        let value = serde_json::to_value(evidence).unwrap();
        judge(&software(self.root.der()), &value, &self.nonce)
    }

    fn refused(&self, code: &str, change: impl FnOnce(&mut TpmEvidence)) {
        assert_eq!(causes(self.judge(change)), [code], "{}", self.name);
    }
}

/// Every twin of an accepted quote: the same with one defect, refused for that one.
fn refusal_twins(case: &Case) {
    let flip = |bytes: &mut Vec<u8>| *bytes.last_mut().unwrap() ^= 1;
    case.refused("tpm.quote.signature", |evidence| flip(&mut evidence.tpm_quote.signature));
    case.refused("tpm.evidence.format", |evidence| {
        evidence.tpm_quote.message.pop();
    });
    case.refused("tpm.quote.magic", |evidence| evidence.tpm_quote.message[0] = 0);
    case.refused("tpm.key.chain", |evidence| evidence.ak_certificates.clear());
    case.refused("tpm.key.chain", |evidence| {
        let foreign = Authority::root("vector root");
        evidence.ak_certificates = vec![foreign.certify(&evidence.ak_public)];
    });
    case.refused("tpm.pcrs.digest", |evidence| {
        let selected = selected(&evidence.tpm_quote.message);
        let value = &mut evidence.tpm_quote.pcrs[usize::from(*selected.first().unwrap())];
        *value = value.chars().rev().map(|digit| if digit == '0' { '1' } else { '0' }).collect();
    });
    if case.evidence.ak_tpmt_public.is_some() {
        case.refused("tpm.key.restricted", |evidence| {
            // The attribute `restricted`, bit 16 of the attributes at offset 4.
            evidence.ak_tpmt_public.as_mut().unwrap()[5] ^= 1;
        });
    }
    let value = serde_json::to_value(&case.evidence).unwrap();
    let foreign = judge(&software(case.root.der()), &value, b"another nonce");
    assert_eq!(causes(foreign), ["tpm.quote.freshness"], "{}", case.name);
}

fn selected(message: &[u8]) -> Vec<u8> {
    let coffer_core_evidence::tpm::AttestBody::Quote { selections, .. } =
        Attest::parse(message).unwrap().body;
    selections[0].pcrs.iter().copied().collect()
}

fn complete(
    public: &Public,
    message: Vec<u8>,
    signature: Vec<u8>,
    pcrs: &[Digest; 24],
    log: &[u8],
) -> TpmEvidence {
    TpmEvidence {
        ak_public: public.to_spki_der().unwrap(),
        tpm_quote: TpmQuote { signature, message, pcrs: pcrs.iter().map(Digest::hex).collect() },
        pcr_bank: pcrs[0].algorithm(),
        ak_certificates: Vec::new(),
        ak_tpmt_public: Some(public.as_bytes().to_vec()),
        event_log: Some(log.to_vec()),
    }
}

fn swtpm(kind: &str, key: &str) -> Option<Case> {
    let public = Public::parse_sized(&vector(&format!("swtpm/{key}.pub"))?).unwrap();
    let message = vector(&format!("swtpm/{kind}_quote.msg"))?;
    let signature = vector(&format!("swtpm/{kind}_quote.sig"))?;
    // Lines as in `    14: 0x0000…`.
    let text = String::from_utf8(vector("swtpm/pcrs.yaml")?).unwrap();
    let values: BTreeMap<u32, Digest> = text
        .lines()
        .filter_map(|line| line.split_once(": 0x"))
        .map(|(pcr, value)| {
            let value = hex::decode(value.trim()).unwrap();
            (pcr.trim().parse().unwrap(), Digest::from_bytes(Algorithm::Sha256, &value).unwrap())
        })
        .collect();
    let pcrs = registers(Algorithm::Sha256, &values);
    let evidence = complete(&public, message, signature, &pcrs, &vector("swtpm/eventlog.bin")?);
    Some(Case::new(format!("swtpm {kind}"), evidence, (0..16).collect()))
}

#[test]
fn quotes_of_swtpm_are_accepted_and_each_defect_refused() {
    for (kind, key) in [("ecc", "ak"), ("rsa", "akrsa")] {
        let Some(case) = swtpm(kind, key) else { return };
        let verified = accepted(case.judge(|_| {}));
        assert_eq!(verified.get().registers.len(), 11);
        assert!(!verified.get().events.is_empty());
        refusal_twins(&case);
        case.refused("tpm.event-log.replay", |evidence| {
            // The digest of the last event of PCR 4 is somewhere in the log; any changed digest will do.
            let log = evidence.event_log.as_mut().unwrap();
            let parsed = coffer_core_evidence::eventlog::EventLog::parse(log).unwrap();
            let event = parsed.events().iter().find(|event| event.register == 4).unwrap();
            let digest = *event.digest(Algorithm::Sha256).unwrap();
            let at = log.windows(32).position(|window| window == digest.as_bytes()).unwrap();
            log[at] ^= 1;
        });
    }
    let (Some(ecc), Some(rsa)) = (swtpm("ecc", "ak"), swtpm("rsa", "akrsa")) else { return };
    let swapped = ecc.judge(|evidence| {
        evidence.ak_public = rsa.evidence.ak_public.clone();
        evidence.ak_tpmt_public = rsa.evidence.ak_tpmt_public.clone();
    });
    assert_eq!(causes(swapped), ["tpm.key.chain", "tpm.quote.signature"]);
}

/// The fields of a protobuf message: number and payload. Numbers are given as little-endian bytes.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let (&byte, rest) = bytes.split_first().unwrap();
            *bytes = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        match key & 7 {
            0 => found.push((key >> 3, varint(&mut bytes).to_le_bytes().to_vec())),
            2 => {
                let length = usize::try_from(varint(&mut bytes)).unwrap();
                let (payload, rest) = bytes.split_at(length);
                found.push((key >> 3, payload.to_vec()));
                bytes = rest;
            }
            other => panic!("wire type {other}"),
        }
    }
    found
}

fn field(message: &[(u64, Vec<u8>)], number: u64) -> Option<Vec<u8>> {
    message.iter().find(|(found, _)| *found == number).map(|(_, payload)| payload.clone())
}

/// The quotes of a recorded attestation of Google's vTPM, with the certificate of its key.
fn gce(name: &str) -> Option<(Vec<Case>, Vec<u8>)> {
    let message = fields(&vector(name)?);
    let public = Public::parse(&field(&message, 1).unwrap()).unwrap();
    let log = field(&message, 3).unwrap();
    let quotes = message.iter().filter(|(number, _)| *number == 2).map(|(_, quote)| {
        let quote = fields(quote);
        let pcrs = fields(&field(&quote, 3).unwrap());
        let bank = coffer_core_evidence::tpm::algorithm(u16::from(field(&pcrs, 1).unwrap()[0])).unwrap();
        let values = pcrs.iter().filter(|(number, _)| *number == 2).map(|(_, entry)| {
            let entry = fields(entry);
            // A map's default key, zero, may be left out.
            let pcr = field(&entry, 1).map_or(0, |key| u32::from(key[0]));
            (pcr, Digest::from_bytes(bank, &field(&entry, 2).unwrap()).unwrap())
        });
        let pcrs = registers(bank, &values.collect());
        let (attest, signature) = (field(&quote, 1).unwrap(), field(&quote, 2).unwrap());
        let evidence = complete(&public, attest, signature, &pcrs, &log);
        Case::new(format!("{name} {bank}"), evidence, vec![0x90, 0x09])
    });
    Some((quotes.collect(), field(&message, 6).unwrap()))
}

#[test]
fn quotes_of_google_are_accepted_in_strong_banks_and_each_defect_refused() {
    let Some((cases, certificate)) = gce("gce-cos-85-nonce9009.pb") else { return };
    assert_eq!(cases.len(), 3);
    for case in &cases {
        if case.evidence.pcr_bank == Algorithm::Sha1 {
            case.refused("tpm.quote.bank", |_| {});
            continue;
        }
        let verified = accepted(case.judge(|_| {}));
        assert_eq!(verified.get().registers.len(), 24);
        assert!(verified.get().events.len() > 20);
        // The log has three banks; the quote proves one.
        assert!(measured(verified.get()).iter().all(|event| event.digests.len() == 1));
        refusal_twins(case);
        // Google's own certificate is for this key; its issuer is not among the anchors.
        case.refused("tpm.key.chain", |evidence| evidence.ak_certificates = vec![certificate.clone()]);
    }
}

#[test]
fn quotes_of_google_without_a_nonce_are_refused_as_not_fresh() {
    let Some((cases, _)) = gce("gce-cos-85-no-nonce.pb") else { return };
    for case in cases.iter().filter(|case| case.evidence.pcr_bank != Algorithm::Sha1) {
        case.refused("tpm.quote.freshness", |_| {});
    }
}

#[test]
fn upstreams_recorded_evidence_is_accepted_once_its_key_is_certified() {
    let Some(text) = vector("trustee_tpm_evidence.json") else { return };
    let value: Value = serde_json::from_slice(&text).unwrap();
    let evidence = TpmEvidence::parse(&value).unwrap();
    let attest = Attest::parse(&evidence.tpm_quote.message).unwrap();
    let (hash, padding) = attest.extra_data.split_at(48);
    assert_eq!(padding, [0; 16]);

    let case = Case::new("trustee".into(), evidence, attest.extra_data.clone());
    let report_data = ReportData::from_runtime_hash(Digest::from_bytes(Algorithm::Sha384, hash).unwrap());
    let at = Timestamp::from_second(NOW).unwrap();
    let certified = serde_json::to_value(&case.evidence).unwrap();
    let judge = software(case.root.der());
    let ask = |evidence| Question {
        evidence,
        report_data: &report_data,
        init_data: None,
        collateral: &NoCollateral,
        at,
    };
    let verified = accepted(judge.verify(&ask(&certified)).unwrap());
    assert_eq!(verified.get().registers.len(), 24);
    // As it was recorded, nobody vouches for the key.
    assert_eq!(causes(judge.verify(&ask(&value)).unwrap()), ["tpm.key.chain"]);
    refusal_twins(&case);
}

#[test]
fn a_quote_of_another_age_is_refused_for_its_hash_its_nonce_and_its_bank() {
    use base64::Engine as _;
    let Some(text) = vector("eventlogs/goattest_windows_gcp_shielded_vm.json") else { return };
    let dump: Value = serde_json::from_slice(&text).unwrap();
    let bytes = |pointer: &str| {
        let text = dump.pointer(pointer).unwrap().as_str().unwrap();
        base64::engine::general_purpose::STANDARD.decode(text).unwrap()
    };
    let public = Public::parse(&bytes("/AK/Public")).unwrap();
    let pcrs = [Digest::zero(Algorithm::Sha1); 24];
    let quoted = |message, signature| {
        let evidence = complete(&public, message, signature, &pcrs, &bytes("/Log/Raw"));
        Case::new("windows".into(), evidence, vec![7; 32])
    };
    let case = quoted(bytes("/Quote/Quote"), bytes("/Quote/Signature"));
    assert_eq!(causes(case.judge(|_| {})), ["tpm.quote.signature", "tpm.quote.freshness", "tpm.quote.bank"]);
    // A statement by the same key that is no quote.
    let case = quoted(bytes("/AK/CreateAttestation"), bytes("/AK/CreateSignature"));
    case.refused("tpm.evidence.format", |_| {});
}

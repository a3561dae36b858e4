//! Claims about reading quotes: sizes, versions, and that no cut or change panics.

use proptest::prelude::*;

use super::*;

/// A quote without meaning: right lengths, zeros elsewhere.
fn quote(version: u16, kind: u16) -> Vec<u8> {
    let tee = if kind == 1 { TEE_SGX } else { TEE_TDX };
    let size =
        [0, EnclaveReport::LEN, TdReport::LEN, TdReport::LEN_15, TdReport::LEN_15_EX][usize::from(kind)];
    let mut bytes =
        [&version.to_le_bytes()[..], &[2, 0], &tee.to_le_bytes(), &[0; 4], &Header::INTEL, &[7; 20]].concat();
    if version == 5 {
        bytes.extend(kind.to_le_bytes());
        bytes.extend((size as u32).to_le_bytes());
    }
    bytes.extend((0..size).map(|at| at as u8));
    let chain = b"-----BEGIN CERTIFICATE-----\n";
    let mut inner = [&[1; 384][..], &[2; 64], &[3, 0, 9, 9, 9], &[5, 0]].concat();
    inner.extend((chain.len() as u32).to_le_bytes());
    inner.extend(chain);
    let mut outer = [[4; 64], [5; 64]].concat();
    if version > 3 {
        outer.extend([6, 0]);
        outer.extend((inner.len() as u32).to_le_bytes());
    }
    outer.extend(inner);
    bytes.extend((outer.len() as u32).to_le_bytes());
    bytes.extend(outer);
    bytes
}

const KNOWN: [(u16, u16); 7] = [(3, 1), (4, 1), (4, 2), (5, 1), (5, 2), (5, 3), (5, 4)];

#[test]
fn every_version_and_body_is_read_and_what_is_signed_ends_with_the_body() {
    for (version, kind) in KNOWN {
        let bytes = quote(version, kind);
        let read = Quote::parse(&bytes).unwrap();
        assert_eq!(read.tee(), if kind == 1 { Tee::Sgx } else { Tee::Tdx });
        let size = [0, 384, 584, 648, 885][usize::from(kind)];
        assert_eq!(read.signed().len(), 48 + size + if version == 5 { 6 } else { 0 });
        assert_eq!(read.authentication.qe_authentication, [9, 9, 9]);
        assert!(
            matches!(read.authentication.certification, Certification::Chain(chain) if chain.len() == 28)
        );
        // What an attester's buffer has behind the quote changes nothing.
        let buffer = [&bytes[..], &[0; 70]].concat();
        assert_eq!(Quote::parse(&buffer).unwrap(), read);
    }
}

#[test]
fn no_cut_of_a_quote_is_a_quote() {
    for (version, kind) in KNOWN {
        let bytes = quote(version, kind);
        for length in 0..bytes.len() {
            assert_eq!(Quote::parse(&bytes[..length]).unwrap_err().code(), "truncated", "{version} {length}");
        }
    }
}

#[test]
fn each_wrong_field_of_the_header_has_its_own_error() {
    let refused = |version: u16, kind: u16, change: fn(&mut Vec<u8>)| {
        let mut bytes = quote(version, kind);
        change(&mut bytes);
        Quote::parse(&bytes).unwrap_err()
    };
    assert_eq!(refused(4, 2, |b| b[0] = 9), DcapError::Version(9));
    assert_eq!(refused(4, 2, |b| b[2] = 3), DcapError::KeyType(3));
    assert_eq!(refused(4, 2, |b| b[4] = 1), DcapError::TeeType { version: 4, found: 1 });
    assert_eq!(refused(3, 1, |b| b[4] = 0x81), DcapError::TeeType { version: 3, found: 0x81 });
    assert_eq!(refused(5, 3, |b| b[4] = 0), DcapError::TeeType { version: 5, found: 0 });
    assert_eq!(refused(5, 3, |b| b[48] = 9), DcapError::Body { kind: 9, size: 648 });
    assert_eq!(refused(5, 3, |b| b[50] = 0), DcapError::Body { kind: 3, size: 512 });
    // A TDX body under SGX's name is shorter, so the length that follows is not one.
    assert_eq!(refused(4, 2, |b| b[4] = 0).code(), "truncated");
    let at = 48 + 584 + 4 + 128;
    assert_eq!(quote(4, 2)[at], 6);
    assert_eq!(
        refused(4, 2, |b| b[48 + 584 + 4 + 128] = 5),
        DcapError::Certification { expected: "6", found: 5 }
    );
    assert_eq!(refused(3, 1, |b| b[48 + 384 + 4 + 128 + 384 + 64 + 5] = 6).code(), "certification-data");
}

#[test]
fn bytes_behind_the_last_field_of_the_signature_data_are_refused() {
    let mut bytes = quote(3, 1);
    let at = 48 + 384;
    let length = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) + 1;
    bytes[at..at + 4].copy_from_slice(&length.to_le_bytes());
    bytes.push(0);
    assert_eq!(Quote::parse(&bytes).unwrap_err().code(), "trailing");
}

#[test]
fn reserved_bits_of_td_attributes_are_those_of_the_specification() {
    let defined = [0, 4, 5, 6, 16, 17, 18, 19, 20, 21, 22, 27, 28, 29, 30, 31, 62, 63];
    for bit in 0..64 {
        let attributes = TdAttributes((1_u64 << bit).to_le_bytes());
        assert_eq!(attributes.has(TdAttributes::RESERVED), !defined.contains(&bit), "bit {bit}");
    }
}

#[test]
fn the_wire_forms_are_read_as_they_are_written() {
    let log = Some(vec![1, 2, 3]);
    for evidence in [
        TdxEvidence { quote: quote(4, 2), cc_eventlog: log },
        TdxEvidence { quote: quote(5, 3), cc_eventlog: None },
    ] {
        assert_eq!(TdxEvidence::parse(&evidence.to_wire()).unwrap(), evidence);
        let (tee, wire) = wire_of_raw(&evidence.quote).unwrap();
        assert_eq!((tee, TdxEvidence::parse(&wire).unwrap().quote), (Tee::Tdx, evidence.quote));
    }
    let raw = quote(3, 1);
    let (tee, wire) = wire_of_raw(format!("0x{}\n", hex::encode(&raw)).as_bytes()).unwrap();
    assert_eq!((tee, SgxEvidence::parse(&wire).unwrap().quote), (Tee::Sgx, raw));
    assert_eq!(wire_of_raw(b"no quote"), None);
    // Upstream's attesters leave the log out, or send it empty.
    let bare = serde_json::json!({"quote": "AA=="});
    assert_eq!(TdxEvidence::parse(&bare).unwrap().cc_eventlog, None);
    let empty = serde_json::json!({"quote": "AA==", "cc_eventlog": ""});
    assert_eq!(TdxEvidence::parse(&empty).unwrap().cc_eventlog, None);
}

#[test]
fn what_is_too_long_or_no_base64_is_refused_by_name() {
    let refused = |value: Value| TdxEvidence::parse(&value).unwrap_err().to_string();
    assert!(refused(serde_json::json!({"quote": "*"})).starts_with("quote is not base64"));
    assert!(refused(serde_json::json!({"quote": "AAAA".repeat(30_000)})).starts_with("quote is too long"));
    let log = "AAAA".repeat(4_000_000);
    assert!(
        refused(serde_json::json!({"quote": "", "cc_eventlog": log})).starts_with("cc_eventlog is too long")
    );
    assert!(refused(serde_json::json!({})).contains("tdx form"));
}

use serde_json::Value;

fn vector(name: &str) -> Option<Vec<u8>> {
    let folder = std::env::var("COFFER_VECTORS")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors").into());
    let read = std::fs::read(format!("{folder}/{name}")).ok();
    if read.is_none() {
        println!("skipped: no vectors ({name})");
    }
    read
}

#[test]
fn local_reports_of_trust_domains_are_read() {
    let Some(bytes) = vector("tdx/gc_tdx_report_1.bin") else { return };
    let read = LocalTdReport::parse(&bytes).unwrap();
    assert_ne!(read.mr_td, [0; 48]);
    assert!(!read.td_attributes.has(TdAttributes::RESERVED));
    assert!(read.td_attributes.has(TdAttributes::SEPT_VE_DISABLE));
    LocalTdReport::parse(&bytes[..1023]).unwrap_err();
    // This one is of the right length and of random bytes, as another project's tests need it.
    let Some(bytes) = vector("tdx/gotdx_report.dat") else { return };
    assert_eq!(LocalTdReport::parse(&bytes), Err(DcapError::TeeType { version: 0, found: 0x0f }));
}

proptest! {
    #[test]
    fn a_changed_quote_never_panics(at in any::<prop::sample::Index>(), byte in any::<u8>(), which in 0..7usize) {
        let (version, kind) = KNOWN[which];
        let mut bytes = quote(version, kind);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(read) = Quote::parse(&bytes) {
            prop_assert!(bytes.starts_with(read.signed()));
        }
    }
}

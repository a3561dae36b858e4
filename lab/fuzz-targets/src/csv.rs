//! Hygon CSV: the wire form, reports and certificates.

use coffer_verify_csv::{CA_LEN, CHIP_LEN, Certificate, CsvEvidence, REPORT_LEN, Report};

/// Reads evidence with the report and the certificates in it.
pub fn csv_evidence(data: &[u8]) {
    let Ok(value) = serde_json::from_slice(data) else { return };
    let Ok(evidence) = CsvEvidence::parse(&value) else { return };
    assert_eq!(evidence.pek.len(), CHIP_LEN);
    if let Ok(report) = Report::parse(&evidence.magic, evidence.flags, &evidence.report) {
        assert!(!report.registers().is_empty() && !report.signed().is_empty());
    }
    csv_certificate(&evidence.pek);
}

/// Reads a certificate in both forms and verifies it with its own key; a short one is filled up.
pub fn csv_certificate(data: &[u8]) {
    for (length, parse) in [
        (CA_LEN, Certificate::parse_ca as fn(&[u8]) -> Result<Certificate, _>),
        (CHIP_LEN, Certificate::parse_chip),
    ] {
        let mut bytes = data.to_vec();
        bytes.resize(length, 0);
        if let Ok(certificate) = parse(&bytes) {
            let _ = certificate.is_signed_by(&certificate);
        }
    }
}

/// The generator of SM2's group as a key (GB/T 32918.5-2017), little endian.
fn key() -> Vec<u8> {
    const X: [u8; 32] = [
        0xc7, 0x74, 0x4c, 0x33, 0x89, 0x45, 0x5a, 0x71, 0xe1, 0x0b, 0x66, 0xf2, 0xbf, 0x0b, 0xe3, 0x8f, 0x94,
        0xc9, 0x39, 0x6a, 0x46, 0x04, 0x99, 0x5f, 0x19, 0x81, 0x19, 0x1f, 0x2c, 0xae, 0xc4, 0x32,
    ];
    const Y: [u8; 32] = [
        0xa0, 0xf0, 0x39, 0x21, 0xe5, 0x32, 0xdf, 0x02, 0x40, 0x47, 0x2a, 0xc6, 0x7c, 0x87, 0xa9, 0xd0, 0x53,
        0x21, 0x69, 0x6b, 0xe3, 0xce, 0xbd, 0x59, 0x9c, 0x77, 0xf6, 0xf4, 0xa2, 0x36, 0x37, 0xbc,
    ];
    [&3_u32.to_le_bytes()[..], &X, &[0; 40], &Y, &[0; 40]].concat()
}

pub(crate) fn certificate_seeds() -> Vec<Vec<u8>> {
    let name = [&[4, 0][..], b"TEST", &[0; 250]].concat();
    let ca =
        [&1_u32.to_le_bytes()[..], &[1; 32], &[0x13, 0, 0, 0], &[0; 24], &key(), &name, &[0; 108], &[1; 32]];
    let chip =
        [&[1, 0, 0, 0, 1, 4, 0, 0][..], &[4, 0x10, 0, 0, 4, 0, 0, 0], &key(), &name, &[0; 624]].concat();
    vec![ca.concat(), [chip, vec![4, 0x10, 0, 0, 4, 0, 0, 0], vec![1; 32]].concat()]
}

pub(crate) fn evidence_seeds() -> Vec<Vec<u8>> {
    let slot = serde_json::json!({
        "usage": 4100, "algo": 4, "signature": {"r": vec![1; 72], "s": vec![1; 72]}, "_reserved": vec![0; 368],
    });
    let key = key();
    let pek = serde_json::json!({
        "body": {"ver": 1, "data": {
            "firmware": {"major": 1, "minor": 4}, "reserved1": 0,
            "pubkey": {"usage": 4098, "algo": 4, "key": {"g": 3, "x": key[4..76], "y": key[76..148]}},
            "uid_size": 4, "user_id": vec![84; 254], "sid": vec![0; 16], "reserved2": vec![0; 608],
        }},
        "sigs": [slot, slot],
    });
    let evidence = |magic: &[u8; 16], flags: u32| {
        serde_json::to_vec(&serde_json::json!({
            "attestation_report": {"data": vec![3; REPORT_LEN], "flags": flags, "magic": magic},
            "cert_chain": {"pek": pek},
            "serial_number": b"N1234\0",
            "cc_eventlog": "AAAA",
        }))
        .unwrap()
    };
    vec![evidence(&[0; 16], 0), evidence(b"ATTESTATION_EXT\0", 1)]
}

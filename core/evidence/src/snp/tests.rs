//! Claims about reports, their JSON form and the table of certificates.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::report::at;
use super::*;

/// A report with other bytes wherever its version has a field.
fn report(version: u8, family: u8, seed: u8) -> [u8; REPORT_LENGTH] {
    let mut bytes: [u8; REPORT_LENGTH] = std::array::from_fn(|at| {
        (at as u8).wrapping_mul(31).wrapping_add((at >> 8) as u8).wrapping_add(seed)
    });
    bytes[0..4].copy_from_slice(&[version, 0, 0, 0]);
    bytes[at::RESERVED_0..at::REPORT_DATA].fill(0);
    bytes[at::CPUID..at::CHIP_ID].fill(0);
    if version >= 3 {
        bytes[at::CPUID..at::CPUID + 3].copy_from_slice(&[family, 0x11, 1]);
    }
    let turin = version >= 3 && family >= 0x1a;
    for tcb in [at::CURRENT_TCB, at::REPORTED_TCB, at::COMMITTED_TCB, at::LAUNCH_TCB] {
        let reserved = if turin { tcb + 4..tcb + 7 } else { tcb + 2..tcb + 6 };
        bytes[reserved].fill(0);
    }
    (bytes[at::CURRENT_VERSION + 3], bytes[at::COMMITTED_VERSION + 3]) = (0, 0);
    let reserved = if version >= 5 { at::CURRENT_MITIGATIONS + 8 } else { at::LAUNCH_MITIGATIONS };
    bytes[reserved..at::SIGNATURE_R].fill(0);
    bytes[at::SIGNATURE_S + 72..].fill(0);
    bytes
}

#[test]
fn every_field_is_read_from_its_place() {
    let bytes = report(5, 0x1a, 9);
    let read = Report::parse(&bytes).unwrap();
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!((read.version(), read.guest_svn()), (5, number(4)));
    assert_eq!(
        (read.vmpl(), read.signature_algorithm(), read.key_info()),
        (number(0x30), number(0x34), number(0x48))
    );
    assert_eq!(read.policy().to_le_bytes(), bytes[8..16]);
    assert_eq!(read.platform_info().to_le_bytes(), bytes[0x40..0x48]);
    assert_eq!(
        (read.family_id(), read.image_id()),
        (&bytes[0x10..0x20].try_into().unwrap(), &bytes[0x20..0x30].try_into().unwrap())
    );
    assert_eq!(read.report_data(), &bytes[0x50..0x90]);
    assert_eq!(read.measurement(), &bytes[0x90..0xc0]);
    assert_eq!(read.host_data(), &bytes[0xc0..0xe0]);
    assert_eq!(read.id_key_digest(), &bytes[0xe0..0x110]);
    assert_eq!(read.author_key_digest(), &bytes[0x110..0x140]);
    assert_eq!(read.report_id(), &bytes[0x140..0x160]);
    assert_eq!(read.report_id_ma(), &bytes[0x160..0x180]);
    assert_eq!(read.chip_id(), &bytes[0x1a0..0x1e0]);
    assert_eq!(read.chip(), Some(&bytes[0x1a0..0x1a8]));
    assert_eq!(read.cpuid(), Some(Cpuid { family: 0x1a, model: 0x11, stepping: 1 }));
    let tcb = |at: usize| Tcb::read(bytes[at..at + 8].try_into().unwrap(), TcbLayout::Turin);
    assert_eq!((read.current_tcb(), read.reported_tcb()), (tcb(0x38), tcb(0x180)));
    assert_eq!((read.committed_tcb(), read.launch_tcb()), (tcb(0x1e0), tcb(0x1f0)));
    assert_eq!(read.reported_tcb_raw().to_le_bytes(), bytes[0x180..0x188]);
    let version = |at: usize| Version { build: bytes[at], minor: bytes[at + 1], major: bytes[at + 2] };
    assert_eq!((read.current_version(), read.committed_version()), (version(0x1e8), version(0x1ec)));
    assert_eq!(read.launch_mitigations().unwrap().to_le_bytes(), bytes[0x1f8..0x200]);
    assert_eq!(read.current_mitigations().unwrap().to_le_bytes(), bytes[0x200..0x208]);
    assert_eq!(
        (&read.signature_r()[..], &read.signature_s()[..]),
        (&bytes[0x2a0..0x2e8], &bytes[0x2e8..0x330])
    );
    assert_eq!(read.signed(), &bytes[..0x2a0]);
    assert_eq!(read.as_bytes(), &bytes);
}

#[test]
fn bits_are_read_from_their_places() {
    let set = |at: usize, bit: u8| {
        let mut bytes = [0; REPORT_LENGTH];
        bytes[0] = 3;
        bytes[at + usize::from(bit / 8)] = 1 << (bit % 8);
        Report::parse(&bytes).unwrap()
    };
    let policy = |bit| set(at::POLICY, bit);
    assert!(policy(16).smt_allowed() && !policy(17).smt_allowed());
    assert!(policy(18).migration_allowed() && policy(19).debug_allowed() && policy(20).single_socket());
    assert!(
        policy(21).cxl_allowed() && policy(22).aes_256_xts_required() && policy(23).rapl_disable_required()
    );
    assert!(policy(24).ciphertext_hiding_required() && policy(25).page_swap_disabled());
    assert_eq!((policy(0).policy_abi_minor(), policy(8).policy_abi_major()), (1, 1));
    let platform = |bit| set(at::PLATFORM_INFO, bit);
    assert!(platform(0).smt_enabled() && platform(1).tsme_enabled() && platform(2).ecc_enabled());
    assert!(platform(3).rapl_disabled() && platform(4).ciphertext_hiding_enabled());
    assert!(platform(5).alias_check_complete() && platform(7).tio_enabled() && !platform(6).tio_enabled());
    let keys = |bit| set(at::KEY_INFO, bit);
    assert!(keys(0).author_key_enabled() && keys(1).mask_chip_key());
    assert_eq!(keys(0).signing_key(), SigningKey::Vcek);
    assert_eq!(keys(2).signing_key(), SigningKey::Vlek);
    assert_eq!(keys(3).signing_key(), SigningKey::Reserved(2));
    assert_eq!(set(at::KEY_INFO, 5).signing_key(), SigningKey::Vcek);
}

#[test]
fn versions_and_lengths_that_are_not_known_are_refused() {
    for version in [0, 1, 6, 99] {
        let bytes = report(version, 0x19, 0);
        assert!(
            matches!(Report::parse(&bytes), Err(SnpError::Version(found)) if found == u32::from(version))
        );
    }
    for length in [0, 3, 4, 671, 672, 1183, 1185] {
        assert!(matches!(Report::parse(&vec![2; length]), Err(SnpError::Length(found)) if found == length));
    }
}

#[test]
fn the_json_form_is_upstreams() {
    let written = report_to_json(&Report::parse(&report(5, 0x1a, 1)).unwrap());
    let members: Vec<&str> = written.as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected = vec![
        "version",
        "guest_svn",
        "policy",
        "family_id",
        "image_id",
        "vmpl",
        "sig_algo",
        "current_tcb",
        "plat_info",
        "key_info",
        "report_data",
        "measurement",
        "host_data",
        "id_key_digest",
        "author_key_digest",
        "report_id",
        "report_id_ma",
        "reported_tcb",
        "cpuid_fam_id",
        "cpuid_mod_id",
        "cpuid_step",
        "chip_id",
        "committed_tcb",
        "current",
        "committed",
        "launch_tcb",
        "launch_mit_vector",
        "current_mit_vector",
        "signature",
    ];
    expected.sort_unstable();
    assert_eq!(members, expected);
    let tcb = &written["reported_tcb"];
    assert!(tcb["fmc"].is_u64() && tcb["microcode"].is_u64());
    let older = report_to_json(&Report::parse(&report(2, 0x19, 1)).unwrap());
    assert_eq!((&older["cpuid_fam_id"], &older["reported_tcb"]["fmc"]), (&Value::Null, &Value::Null));
    assert!(older.get("launch_mit_vector").is_none());
}

#[test]
fn the_older_spelling_is_read_with_its_reserved_bytes() {
    for (version, family) in [(2, 0x19), (3, 0x19), (3, 0x1a), (5, 0x1a)] {
        let mut bytes = report(version, family, 5);
        // Bytes that the older form keeps and the newer one has no member for.
        bytes[at::RESERVED_0] = 1;
        bytes[at::CHIP_ID - 1] = 2;
        bytes[at::SIGNATURE_R - 1] = 3;
        bytes[at::REPORTED_TCB + 5] = 4;
        let read = Report::parse(&bytes).unwrap();
        let tcb = |at: usize| {
            json!({
                "bootloader": bytes[at],
                "tee": bytes[at + 1],
                "_reserved": bytes[at + 2..at + 6],
                "snp": bytes[at + 6],
                "microcode": bytes[at + 7],
            })
        };
        let mut older = report_to_json(&read);
        for member in ["key_info", "cpuid_fam_id", "cpuid_mod_id", "cpuid_step", "current", "committed"] {
            older.as_object_mut().unwrap().remove(member);
        }
        let loose = |at: usize| (json!(bytes[at]), json!(bytes[at + 1]), json!(bytes[at + 2]));
        (older["current_build"], older["current_minor"], older["current_major"]) = loose(at::CURRENT_VERSION);
        (older["committed_build"], older["committed_minor"], older["committed_major"]) =
            loose(at::COMMITTED_VERSION);
        older["_author_key_en"] = json!(read.key_info());
        older["_reserved_0"] = json!(1);
        older["_reserved_1"] = json!(bytes[at::CPUID..at::CHIP_ID]);
        older["_reserved_4"] = json!(bytes[at::LAUNCH_MITIGATIONS..at::SIGNATURE_R]);
        for (member, at) in [
            ("current_tcb", at::CURRENT_TCB),
            ("reported_tcb", at::REPORTED_TCB),
            ("committed_tcb", at::COMMITTED_TCB),
            ("launch_tcb", at::LAUNCH_TCB),
        ] {
            older[member] = tcb(at);
        }
        assert_eq!(report_from_json(&older).unwrap(), read, "version {version}, family {family:#x}");
    }
}

fn table(entries: &[([u8; 16], u32, u32)], data: &[u8]) -> Vec<u8> {
    let mut bytes: Vec<u8> = entries
        .iter()
        .flat_map(|(identifier, offset, length)| {
            [&identifier[..], &offset.to_le_bytes(), &length.to_le_bytes()].concat()
        })
        .collect();
    bytes.extend(data);
    bytes
}

const VCEK: [u8; 16] = 0x63da758d_e664_4564_adc5_f4b93be8accd_u128.to_be_bytes();
const VLEK: [u8; 16] = 0xa8074bc2_a25a_483e_aae6_39c045a0b8a1_u128.to_be_bytes();

#[test]
fn the_table_of_certificates_is_read_and_becomes_a_chain() {
    let bytes = table(&[(VCEK, 96, 3), (VLEK, 99, 2), ([7; 16], 96, 0), ([0; 16], 0, 0)], &[1, 2, 3, 4, 5]);
    let entries = parse_certificate_table(&bytes).unwrap();
    let found: Vec<(CertificateKind, &[u8])> =
        entries.iter().map(|entry| (entry.kind.clone(), entry.data.as_slice())).collect();
    let other = CertificateKind::Other("07070707-0707-0707-0707-070707070707".into());
    assert_eq!(
        found,
        [(CertificateKind::Vcek, &[1, 2, 3][..]), (CertificateKind::Vlek, &[4, 5]), (other, &[])]
    );

    let evidence = wire_of_raw(&report(3, 0x19, 0), &bytes).unwrap();
    assert_eq!(evidence["cert_chain"][0], json!({"cert_type": "VCEK", "data": [1, 2, 3]}));
    assert_eq!(
        evidence["cert_chain"][2]["cert_type"],
        json!({"OTHER": "07070707-0707-0707-0707-070707070707"})
    );
    assert_eq!(SnpEvidence::parse(&evidence).unwrap().certificates, entries);
    let without = wire_of_raw(&report(3, 0x19, 0), &[]).unwrap();
    assert_eq!(without["cert_chain"], Value::Null);
    assert_eq!(parse_certificate_table(&[0; 4096]).unwrap(), []);
}

#[test]
fn a_table_that_points_outside_or_does_not_end_is_refused() {
    let refused = |bytes: &[u8]| parse_certificate_table(bytes).unwrap_err().to_string();
    assert!(refused(&table(&[(VCEK, 48, 1), ([0; 16], 0, 0)], &[])).contains("outside"));
    assert!(refused(&table(&[(VCEK, u32::MAX, u32::MAX), ([0; 16], 0, 0)], &[])).contains("outside"));
    assert!(refused(&table(&[(VCEK, 0, 24)], &[])).contains("last entry"));
    assert!(refused(&table(&[(VCEK, 0, 24)], &[0; 23])).contains("last entry"));
    assert!(refused(&[1; 23]).contains("last entry"));
    assert!(refused(&table(&[(VCEK, 0, 0); 17], &[0; 24])).contains("at most 16"));
    assert!(refused(&vec![0; (64 << 10) + 1]).contains("at most 65536"));
}

#[test]
fn the_reserved_bytes_of_newer_firmware_are_sent_beside() {
    let mut bytes = report(5, 0x19, 3);
    bytes[0x210] = 1;
    let evidence = wire_of_raw(&bytes, &[]).unwrap();
    assert_eq!(SnpEvidence::parse(&evidence).unwrap().report.as_bytes(), &bytes);
    assert_ne!(report_from_json(&evidence["attestation_report"]).unwrap().as_bytes(), &bytes);
}

proptest! {
    #[test]
    fn a_report_comes_back_from_json_byte_for_byte(version in 2_u8..=5, family in 0x19_u8..=0x1a, seed: u8) {
        let bytes = report(version, family, seed);
        let read = Report::parse(&bytes).unwrap();
        let evidence = wire_of_raw(&bytes, &[]).unwrap();
        prop_assert!(evidence.get("report").is_none());
        prop_assert_eq!(report_from_json(&report_to_json(&read)).unwrap(), read);
    }

    #[test]
    fn no_bytes_make_the_parsers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1300)) {
        let _ = Report::parse(&bytes);
        let _ = parse_certificate_table(&bytes);
    }
}

//! Claims about the TPM structures, with vectors of real TPMs where they are at hand.

use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

fn vector(path: &str) -> Option<Vec<u8>> {
    let folder = std::env::var("COFFER_VECTORS")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors").into());
    let found = std::fs::read(PathBuf::from(folder).join("tpm").join(path)).ok();
    if found.is_none() {
        println!("skipped: no vectors ({path})");
    }
    found
}

/// A quote over PCR 0 and 23 of the SHA-256 bank, written by hand from the specification.
fn quote() -> Vec<u8> {
    let mut bytes = GENERATED.to_be_bytes().to_vec();
    bytes.extend([0x80, 0x18]);
    bytes.extend([0, 3, 0, 0x0b, 9]);
    bytes.extend([0, 2, 0x90, 0x09]);
    bytes.extend(7u64.to_be_bytes());
    bytes.extend(8u32.to_be_bytes());
    bytes.extend(9u32.to_be_bytes());
    bytes.push(1);
    bytes.extend(0x2019_1023_0016_3636_u64.to_be_bytes());
    bytes.extend([0, 0, 0, 1, 0, 0x0b, 3, 1, 0, 0x80]);
    bytes.extend([0, 2, 0xaa, 0xbb]);
    bytes
}

#[test]
fn every_field_of_a_quote_is_read() {
    let attest = Attest::parse(&quote()).unwrap();
    assert_eq!(attest.qualified_signer, [0, 0x0b, 9]);
    assert_eq!(attest.extra_data, [0x90, 0x09]);
    assert_eq!(attest.clock, ClockInfo { clock: 7, reset_count: 8, restart_count: 9, safe: 1 });
    assert_eq!(attest.firmware_version, 0x2019_1023_0016_3636);
    let AttestBody::Quote { selections, pcr_digest } = attest.body;
    assert_eq!(selections, [PcrSelection { bank: Algorithm::Sha256, pcrs: [0, 23].into() }]);
    assert_eq!(selections[0].to_bytes(), [0, 0x0b, 3, 1, 0, 0x80]);
    assert_eq!(pcr_digest, [0xaa, 0xbb]);
}

#[test]
fn structures_that_are_cut_or_continued_are_refused() {
    let ecc = ecc_public();
    let check = |whole: &[u8], parse: fn(&[u8]) -> Option<TpmError>| {
        assert_eq!(parse(whole), None);
        for length in 0..whole.len() {
            assert!(matches!(parse(&whole[..length]), Some(TpmError::Truncated { .. })), "cut at {length}");
        }
        let longer = [whole, &[0]].concat();
        assert!(matches!(parse(&longer), Some(TpmError::Trailing { found: 1, .. })));
    };
    check(&quote(), |bytes| Attest::parse(bytes).err());
    check(&ecc, |bytes| Public::parse(bytes).err());
    check(&[0, 0x18, 0, 0x0b, 0, 1, 5, 0, 1, 6], |bytes| Signature::parse(bytes).err());
    check(&[0, 0x14, 0, 0x0c, 0, 2, 5, 6], |bytes| Signature::parse(bytes).err());
}

#[test]
fn what_no_tpm_generated_is_refused_as_such() {
    let mut bytes = quote();
    bytes[0] ^= 1;
    assert_eq!(Attest::parse(&bytes), Err(TpmError::Magic { found: GENERATED ^ 0x0100_0000 }));
    let mut bytes = quote();
    bytes[5] = 0x17;
    assert!(matches!(Attest::parse(&bytes), Err(TpmError::Value { field: "type", found: 0x8017, .. })));
}

#[test]
fn lengths_beyond_the_structures_bounds_are_refused_before_anything_is_read() {
    let mut bytes = quote();
    bytes.splice(11..13, [0xff, 0xff]);
    assert!(matches!(Attest::parse(&bytes), Err(TpmError::Value { field: "extraData", .. })));
    let mut bytes = quote();
    let count = bytes.len() - 14;
    bytes.splice(count..count + 4, [0xff; 4]);
    assert!(matches!(Attest::parse(&bytes), Err(TpmError::Value { field: "pcrSelect.count", .. })));
}

fn ecc_public() -> Vec<u8> {
    let mut bytes = vec![0, 0x23, 0, 0x0b, 0, 5, 0, 0x72, 0, 0, 0, 0x10, 0, 0x18, 0, 0x0b, 0, 3, 0, 0x10];
    bytes.extend([0, 32]);
    bytes.extend([0x11; 32]);
    bytes.extend([0, 31]);
    bytes.extend([0x22; 31]);
    bytes
}

#[test]
fn only_a_fixed_restricted_signing_key_counts_as_an_attestation_key() {
    let with = |attributes: u32| {
        let mut bytes = ecc_public();
        bytes.splice(4..8, attributes.to_be_bytes());
        Public::parse(&bytes).unwrap().is_restricted_signing()
    };
    assert!(with(0x0005_0072));
    assert!(!with(0x0004_0072), "not restricted");
    assert!(!with(0x0005_0070), "can leave its TPM");
    assert!(!with(0x0003_0072), "a storage key");
    assert!(!with(0x0007_0072), "signs and decrypts");
}

#[test]
fn a_short_coordinate_is_padded_to_the_curves_width() {
    let der = Public::parse(&ecc_public()).unwrap().to_spki_der().unwrap();
    assert_eq!(KeyKind::of_spki(&der), Some(KeyKind::Ecc(Curve::P256)));
    assert_eq!(der.len(), 91);
    assert_eq!(&der[26..28], [4, 0x11]);
    assert_eq!(&der[59..61], [0, 0x22]);
}

#[test]
fn ecdsa_numbers_are_written_without_leading_zeros_and_never_negative() {
    let signature = Signature::Ecdsa { hash: Algorithm::Sha256, r: vec![0, 0, 1], s: vec![0x80, 2] };
    assert_eq!(signature.encoded(), [0x30, 8, 2, 1, 1, 2, 3, 0, 0x80, 2]);
}

#[test]
fn real_keys_have_the_name_and_the_pem_that_tpm2_tools_gave() {
    for name in ["ak", "akrsa"] {
        let (Some(public), Some(expected), Some(pem)) = (
            vector(&format!("swtpm/{name}.pub")),
            vector(&format!("swtpm/{name}.name")),
            vector(&format!("swtpm/{name}.pem")),
        ) else {
            return;
        };
        let public = Public::parse_sized(&public).unwrap();
        assert!(public.is_restricted_signing());
        assert_eq!(public.name(), expected);
        let text = String::from_utf8(pem).unwrap();
        let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
        let der = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, body).unwrap();
        assert_eq!(public.to_spki_der().unwrap(), der);
    }
}

#[test]
fn an_endorsement_key_is_read_and_is_no_attestation_key() {
    let Some(bytes) = vector("swtpm/ek.pub") else { return };
    let public = Public::parse_sized(&bytes).unwrap();
    assert!(public.attributes.has(Attributes::RESTRICTED | Attributes::DECRYPT));
    assert!(!public.is_restricted_signing());
    assert_eq!(KeyKind::of_spki(&public.to_spki_der().unwrap()), Some(KeyKind::Rsa));
}

#[test]
fn quotes_of_other_projects_are_read() {
    for path in ["swtpm/ecc_quote.msg", "swtpm/rsa_quote.msg", "dstack_tpm_quote_sample.bin"] {
        let Some(bytes) = vector(path) else { return };
        Attest::parse(&bytes).unwrap();
    }
    for path in ["swtpm/ecc_quote.sig", "swtpm/rsa_quote.sig"] {
        let Some(bytes) = vector(path) else { return };
        assert_eq!(Signature::parse(&bytes).unwrap().hash(), Algorithm::Sha256);
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        let _ = Attest::parse(&bytes);
        let _ = Signature::parse(&bytes);
        let _ = KeyKind::of_spki(&bytes);
        let _ = Public::parse_sized(&bytes);
        let _ = Public::parse(&bytes).map(|public| (public.name(), public.to_spki_der()));
    }

    #[test]
    fn a_changed_quote_never_panics(at in 0..60usize, to in any::<u8>()) {
        let mut bytes = quote();
        let at = at % bytes.len();
        bytes[at] = to;
        let _ = Attest::parse(&bytes);
        let mut bytes = ecc_public();
        let at = at % bytes.len();
        bytes[at] = to;
        let _ = Public::parse(&bytes).map(|public| public.to_spki_der());
    }
}

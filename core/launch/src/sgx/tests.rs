//! An enclave of our own making, signed with a key of our own; every change of it is refused or told.
//!
//! `testdata/enclave.sgxs` has a code page, a thread control structure and a page that is half measured;
//! `enclave.sig` is its SIGSTRUCT, made with OpenSSL's `genrsa -3 3072`. The expected MRENCLAVE was computed by
//! another program from the records.

use super::*;

const ENCLAVE: &[u8] = include_bytes!("../../testdata/enclave.sgxs");
const SIGSTRUCT: &[u8] = include_bytes!("../../testdata/enclave.sig");
const MRENCLAVE: &str = "5fdb335dba7ad0133b47e5a290177eedfa2ba061348200459158751ec3963f5e";
const MRSIGNER: &str = "a829c1f7c436a8ab4c5352bc7ce5e4a0530e39c1b8c7509e10b94749201f13b0";

#[test]
fn enclave_and_signer_are_predicted() {
    let digest = Digest::of(Algorithm::Sha384, b"init-data");
    let launch = SgxLaunch {
        enclave: ENCLAVE,
        sigstruct: Some(SIGSTRUCT),
        pinned: Pinned::Enclave,
        init_data: Some(digest),
    };
    let values = predict_sgx(&launch).unwrap();
    assert_eq!(values.registers()["mrenclave"].hex(), MRENCLAVE);
    assert_eq!(values.registers()["mrsigner"].hex(), MRSIGNER);
    assert_eq!(values.registers()["configid"].as_bytes(), [digest.as_bytes(), &[0; 16]].concat());
    assert_eq!(values.versions()["isvprodid"], Bound::Exactly(7));
    assert_eq!(values.versions()["isvsvn"], Bound::AtLeast(3));
    assert!(values.missing_registers().is_empty());
    assert_eq!(ReferenceValues::from_json(values.to_json().as_bytes()), Ok(values.clone()));
    let unsigned = predict_sgx(&SgxLaunch { sigstruct: None, ..launch }).unwrap();
    assert_eq!(unsigned.registers()["mrenclave"], values.registers()["mrenclave"]);
    assert_ne!(unsigned.id(), values.id());
    let by_signer = predict_sgx(&SgxLaunch { pinned: Pinned::Signer, ..launch }).unwrap();
    assert!(!by_signer.registers().contains_key("mrenclave"));
    assert!(by_signer.missing_registers().is_empty());
    assert!(predict_sgx(&SgxLaunch { pinned: Pinned::Signer, sigstruct: None, ..launch }).is_err());
}

#[test]
fn every_byte_of_the_stream_is_measured_or_refused() {
    let good = mrenclave(ENCLAVE).unwrap();
    // The content of chunks that are loaded but not measured is all that may differ.
    let mut unmeasured = vec![false; ENCLAVE.len()];
    let mut at = 64;
    while at < ENCLAVE.len() {
        let (tag, length) = (&ENCLAVE[at..at + 8], if &ENCLAVE[at..at + 4] == b"EADD" { 64 } else { 320 });
        if tag == b"UNMEASRD" {
            unmeasured[at + 64..at + 320].fill(true);
        }
        at += length;
    }
    assert!(unmeasured.contains(&true));
    for at in 0..ENCLAVE.len() {
        let mut other = ENCLAVE.to_vec();
        other[at] ^= 0x40;
        assert_eq!(mrenclave(&other) == Ok(good), unmeasured[at], "byte {at:#x}");
    }
    for size in (0..ENCLAVE.len()).step_by(7) {
        assert_ne!(mrenclave(&ENCLAVE[..size]), Ok(good), "{size}");
    }
}

#[test]
fn a_sigstruct_is_refused_with_its_reason() {
    let read = Sigstruct::parse(SIGSTRUCT).unwrap();
    assert!(!read.admits_debug());
    for at in (0..128).chain(128..132).chain(512..516).chain(516..520).chain(900..1028) {
        let mut other = SIGSTRUCT.to_vec();
        other[at] ^= 1;
        assert!(matches!(Sigstruct::parse(&other), Err(LaunchError::Sigstruct(_))), "byte {at}");
    }
    assert!(Sigstruct::parse(&SIGSTRUCT[1..]).is_err());
    let mut other = ENCLAVE.to_vec();
    let last = other.len() - 1;
    other[last] ^= 1;
    let launch =
        SgxLaunch { enclave: &other, sigstruct: Some(SIGSTRUCT), pinned: Pinned::Enclave, init_data: None };
    assert!(matches!(predict_sgx(&launch), Err(LaunchError::OtherEnclave { .. })));
}

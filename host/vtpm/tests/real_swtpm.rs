//! The whole way of an attestation key with a real swtpm: made, certified, started, found by the guest's
//! code, quoted, and judged by the judge that judges every TPM.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::ReportData;
use coffer_core_evidence::wire::{TpmEvidence, TpmQuote};
use coffer_host_vtpm::{Vtpm, VtpmCa, VtpmError};
use coffer_sys_tpm::{Tpm, ak};
use coffer_verify_api::{Check, Judgement, NoCollateral, Question, Timestamp, Verifier as _};
use coffer_verify_tpm::{TpmJudge, TrustAnchor};

const ALL: [u8; 24] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23];

fn swtpm_is_missing() -> bool {
    let missing = Command::new("swtpm").arg("--version").output().is_err();
    if missing {
        println!("skipped: swtpm is not installed");
    }
    missing
}

/// What a guest's attester does.
fn attest(tpm: &mut Tpm, report_data: &ReportData) -> TpmEvidence {
    let key = ak::load(tpm).unwrap();
    let qualifying_data: [u8; 32] = report_data.field();
    let (message, signature) = key.quote(tpm, &qualifying_data, Algorithm::Sha256, &ALL).unwrap();
    let values = tpm.pcr_read(Algorithm::Sha256, &ALL).unwrap();
    tpm.flush(key.handle).unwrap();
    TpmEvidence {
        ak_public: key.public.to_spki_der().unwrap(),
        tpm_quote: TpmQuote { signature, message, pcrs: values.values().map(Digest::hex).collect() },
        pcr_bank: Algorithm::Sha256,
        ak_certificates: key.certificates,
        ak_tpmt_public: Some(key.public.as_bytes().to_vec()),
        event_log: None,
    }
}

fn judge(ca: &VtpmCa, evidence: &TpmEvidence, report_data: &ReportData, init_data: &Digest) -> Judgement {
    let anchor = TrustAnchor { certificate: ca.root_der().to_vec(), hardware: false };
    let evidence = serde_json::to_value(evidence).unwrap();
    let at = Timestamp::now();
    let question = Question {
        evidence: &evidence,
        report_data,
        init_data: Some(init_data),
        collateral: &NoCollateral,
        at,
    };
    TpmJudge::new(vec![anchor]).verify(&question).unwrap()
}

#[test]
fn a_manufactured_tpm_attests_under_its_own_root_and_no_other() {
    if swtpm_is_missing() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let ca = VtpmCa::load_or_create(directory.path().join("ca")).unwrap();
    let state = directory.path().join("state");
    let vtpm = Vtpm::manufacture(&ca, &state, "sandbox-1").unwrap();

    let report_data = ReportData::from_runtime_hash(Digest::sha256(b"nonce and key"));
    let init_data = Digest::sha256(b"init-data");
    let (running, mut tpm) = vtpm.connect().unwrap();
    assert_eq!(tpm.banks().unwrap(), [Algorithm::Sha256]);
    assert!(tpm.pcr_read(Algorithm::Sha1, &[0]).unwrap().is_empty());
    tpm.pcr_extend(8, &[init_data]).unwrap();
    let evidence = attest(&mut tpm, &report_data);
    drop(tpm);
    running.wait().unwrap();

    let Judgement::Verified(verified) = judge(&ca, &evidence, &report_data, &init_data) else {
        panic!("rejected")
    };
    assert!(!verified.get().hardware, "a software TPM never counts as hardware");
    let expected = Digest::zero(Algorithm::Sha256).extend(init_data.as_bytes());
    assert_eq!(verified.get().registers["pcr8"], expected);

    let other = VtpmCa::load_or_create(directory.path().join("other")).unwrap();
    let Judgement::Rejected(reasons) = judge(&other, &evidence, &report_data, &init_data) else {
        panic!("accepted under a foreign root")
    };
    let causes: Vec<&str> = reasons.iter().flat_map(Check::causes).map(|check| check.code.as_str()).collect();
    assert_eq!(causes, ["tpm.key.chain"]);
}

#[test]
fn the_attestation_key_is_the_same_after_each_start_and_registers_are_not() {
    if swtpm_is_missing() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let ca = VtpmCa::load_or_create(directory.path()).unwrap();
    let state = directory.path().join("state");
    Vtpm::manufacture(&ca, &state, "sandbox-2").unwrap();
    let mut keys = BTreeSet::new();
    for _ in 0..2 {
        let (running, mut tpm) = Vtpm::open(&state).unwrap().connect().unwrap();
        let values = tpm.pcr_read(Algorithm::Sha256, &[8]).unwrap();
        assert_eq!(values[&8], Digest::zero(Algorithm::Sha256));
        tpm.pcr_extend(8, &[Digest::sha256(b"event")]).unwrap();
        let key = ak::load(&mut tpm).unwrap();
        assert_eq!(key.certificates.len(), 1);
        assert_eq!(tpm.read_public(key.handle).unwrap(), key.public);
        assert_eq!(tpm.get_random(40).unwrap().len(), 40);
        keys.insert(key.public.name());
        drop(tpm);
        running.wait().unwrap();
    }
    assert_eq!(keys.len(), 1);
    assert!(matches!(Vtpm::manufacture(&ca, &state, "again"), Err(VtpmError::AlreadyMade(_))));
    // What a killed factory leaves is no TPM, and does not stop the next one.
    let killed = directory.path().join("killed");
    std::fs::create_dir_all(killed.join("making")).unwrap();
    std::fs::write(killed.join("making/tpm2-00.permall"), "half").unwrap();
    assert!(matches!(Vtpm::open(&killed), Err(VtpmError::NotMade(_))));
    Vtpm::manufacture(&ca, &killed, "again").unwrap();
    assert!(!killed.join("making").exists());
}

#[test]
fn refusals_of_a_real_tpm_have_their_names() {
    if swtpm_is_missing() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let ca = VtpmCa::load_or_create(directory.path()).unwrap();
    let vtpm = Vtpm::manufacture(&ca, directory.path().join("state"), "sandbox-3").unwrap();
    let (_running, mut tpm) = vtpm.connect().unwrap();
    let refused = tpm.nv_define(ak::ECC_TEMPLATE, 8).expect_err("defined twice");
    assert!(refused.to_string().contains("TPM_RC_NV_DEFINED"), "{refused}");
    let refused = tpm.nv_read(0x01c1_0000).expect_err("read");
    assert!(refused.to_string().contains("TPM_RC_HANDLE"), "{refused}");
}

#[test]
fn a_running_tpm_has_a_private_socket_and_leaves_nothing_behind() {
    if swtpm_is_missing() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let ca = VtpmCa::load_or_create(directory.path()).unwrap();
    let vtpm = Vtpm::manufacture(&ca, directory.path().join("state"), "sandbox-4").unwrap();
    let socket = directory.path().join("tpm.sock");
    let running = vtpm.start(&socket).unwrap();
    assert_eq!(running.control_socket(), Some(socket.as_path()));
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    // CMD_GET_CAPABILITY of the control channel: it answers at once, without waiting for a socket to appear.
    use std::io::{Read as _, Write as _};
    let mut control = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    control.write_all(&1u32.to_be_bytes()).unwrap();
    let mut answer = [0; 8];
    control.read_exact(&mut answer).unwrap();
    let process = format!("/proc/{}", running.id());
    assert!(Path::new(&process).exists());
    drop(control);
    // A client that went away, as the probe at the start, does not end it; QEMU can still connect.
    std::os::unix::net::UnixStream::connect(&socket).unwrap();
    drop(running);
    assert!(!Path::new(&process).exists());
    assert!(!socket.exists());

    let long = directory.path().join("x".repeat(120));
    let refused = vtpm.start(long).expect_err("started").to_string();
    assert!(refused.contains("at most 107 work"), "{refused}");
}

#[test]
fn two_first_runs_make_one_root() {
    let directory = tempfile::tempdir().unwrap();
    let roots: BTreeSet<Vec<u8>> = std::thread::scope(|scope| {
        let make = || VtpmCa::load_or_create(directory.path()).unwrap().root_der().to_vec();
        let runs: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    assert_eq!(roots.len(), 1);
    let ca = VtpmCa::load_or_create(directory.path()).unwrap();
    assert_eq!(ca.root_der(), roots.first().unwrap());
    assert_eq!(std::fs::read_to_string(ca.root_path()).unwrap(), ca.root_pem());
    let key = directory.path().join("vtpm-root.key.pem");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);

    std::fs::write(&key, "nonsense").unwrap();
    let refused = VtpmCa::load_or_create(directory.path()).err().unwrap().to_string();
    assert!(refused.contains("is damaged"), "{refused}");
}

//! SEV-SNP launch measurements against public answers, and firmware files that must be refused.
//!
//! The expected values are those that virtee/sev publishes for its two firmware suffixes (tests/measurement.rs and
//! tests/id-block.rs); the suffixes are read from the vectors.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::PathBuf;

use coffer_core_digest::{Algorithm, Digest};
use coffer_core_launch::snp::{
    AuthBlock, CpuType, IdBlock, SnpKernel, SnpLaunch, Vmm, key_digest, predict_snp,
};
use coffer_core_launch::{Component, LaunchError};

fn vector(name: &str) -> Option<Vec<u8>> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors");
    let root = std::env::var_os("COFFER_VECTORS").map_or_else(|| PathBuf::from(default), PathBuf::from);
    let file = std::fs::read(root.join("snp/measurement").join(name)).ok();
    if file.is_none() {
        println!("skipped: no vectors");
    }
    file
}

fn launch<'a>(firmware: &'a [u8], command_line: Option<&'a str>) -> SnpLaunch<'a> {
    SnpLaunch {
        firmware,
        kernel: command_line.map(|command_line| SnpKernel { kernel: &[], initrd: &[], command_line }),
        vcpus: 1,
        cpu: "EPYC-v4".parse().unwrap(),
        guest_features: 1,
        vmm: Vmm::Qemu,
        init_data: None,
    }
}

fn measured(launch: &SnpLaunch<'_>) -> String {
    predict_snp(launch).unwrap().registers()["measurement"].hex()
}

#[test]
fn launch_measurements_are_the_published_ones() {
    let (Some(amd), Some(x64)) = (vector("ovmf_AmdSev_suffix.bin"), vector("ovmf_OvmfX64_suffix.bin")) else {
        return;
    };
    let log = Some("console=ttyS0 loglevel=7");
    // Firmware, command line, processors, features, launcher.
    type Case<'a> = (&'a [u8], Option<&'a str>, u32, u64, Vmm, &'a str);
    let cases: [Case<'_>; 16] = [
        (
            &amd,
            Some(""),
            1,
            0x1,
            Vmm::Qemu,
            "ddc5224521617a536ee7ce9dd6224d1b58a8d4fda1c741f3ac99fc4bfa04ba6e9fc98646d4a07a9079397fa3852819b5",
        ),
        (
            &amd,
            Some(""),
            1,
            0x21,
            Vmm::Qemu,
            "329c8ce0972ae52343b64d34a434a86f245dfd74f5ed7aae15d22efc78fb9683632b9b50e4e1d7fa41179ef98a7ef198",
        ),
        (
            &amd,
            log,
            1,
            0x1,
            Vmm::Qemu,
            "6d287813eb5222d770f75005c664e34c204f385ce832cc2ce7d0d6f354454362f390ef83a92046c042e706363b4b08fa",
        ),
        (
            &amd,
            log,
            1,
            0x21,
            Vmm::Qemu,
            "803f691094946e42068aaa3a8f9e26a5c89f36f7b73ecfb28c653360fe4b3aba7e534442e7e1e17895dfe778d0228977",
        ),
        (
            &amd,
            Some(""),
            1,
            0x1,
            Vmm::Ec2,
            "7d3756157c805bf6adf617064c8552e8c1688fa1c8756f11cbf56ba5d25c9270fb69c0505c1cbe1c5c66c0e34c6ed3be",
        ),
        (
            &amd,
            Some(""),
            1,
            0x21,
            Vmm::Ec2,
            "6ae80856486b1396af8c82a40351d6ed76a20c785e9c7fa4ffa27c22d5d6313b4b3b458cd3c9968e6f89fb5d8450d7a6",
        ),
        (
            &amd,
            Some(""),
            1,
            0x1,
            Vmm::Ec2Since2026,
            "0883bd0eeb716e65b7b977a321c278d1e51b33b5c655fab985443bbcc65c086b9c15e8a0bd8811050dec7e24964e5056",
        ),
        (
            &amd,
            Some(""),
            1,
            0x21,
            Vmm::Ec2Since2026,
            "0ce9ccc06bab55eebe8abc234f3df6514883977a68a591b71052498ab52b2f1aa415db338033946ef93aa8278c0d67fb",
        ),
        (
            &amd,
            Some(""),
            1,
            0x1,
            Vmm::Gce,
            "5da7106cf14cf46b1725ebab123eb9e53bd46a1e9f400cd0c08e7827b04b688ea8b4e403c8404efed4397ea5d5d0722e",
        ),
        (
            &amd,
            Some(""),
            4,
            0x1,
            Vmm::Gce,
            "5c5debf100fc339f90276e761ee1f1658d08922c3b20e2a2e6c7a6c3370b2452a15a00eae11886a93d6fd1e7ab81e29d",
        ),
        (
            &amd,
            None,
            1,
            0x1,
            Vmm::Qemu,
            "19358ba9a7615534a9a1e2f0dfc29384dcd4dcb7062ff9c6013b26869a5fc6ecabe033c48dd6f6db5d6d76e7c5df632d",
        ),
        (
            &amd,
            None,
            1,
            0x21,
            Vmm::Qemu,
            "e1e1ca029dd7973ab9513295be68198472dcd4fc834bd9af9b63f6e8a1674dbf281a9278a4a2ebe0eed9f22adbcd0e2b",
        ),
        (
            &amd,
            Some(""),
            4,
            0x1,
            Vmm::Qemu,
            "5061fffb019493a903613d56d54b94912a1a2f9e4502385f5c194616753720a92441310ba6c4933de877c36e23046ad5",
        ),
        (
            &amd,
            Some(""),
            4,
            0x21,
            Vmm::Qemu,
            "4953b1fb416fa874980e8442b3706d345926d5f38879134e00813c5d7abcbe78eafe7b422907be0b4698e2414a631942",
        ),
        (
            &x64,
            None,
            1,
            0x1,
            Vmm::Qemu,
            "da0296de8193586a5512078dcd719eccecbd87e2b825ad4148c44f665dc87df21e5b49e21523a9ad993afdb6a30b4005",
        ),
        (
            &x64,
            None,
            1,
            0x21,
            Vmm::Qemu,
            "28797ae0afaba4005a81e629acebfb59e6687949d6be44007cd5506823b0dd66f146aaae26ff291eed7b493d8a64c385",
        ),
    ];
    for (firmware, command_line, vcpus, guest_features, vmm, expected) in cases {
        let launch = SnpLaunch { vcpus, guest_features, vmm, ..launch(firmware, command_line) };
        assert_eq!(measured(&launch), expected, "{vcpus} {guest_features:#x} {vmm:?}");
    }
}

#[test]
fn a_kernel_that_the_firmware_would_not_check_is_refused() {
    let Some(x64) = vector("ovmf_OvmfX64_suffix.bin") else { return };
    assert_eq!(predict_snp(&launch(&x64, Some(""))), Err(LaunchError::NoKernelHashes));
}

#[test]
fn a_measurement_that_differs_is_told_by_the_variation_that_makes_it() {
    let Some(amd) = vector("ovmf_AmdSev_suffix.bin") else { return };
    let line = "console=ttyS0 quiet";
    let expected = SnpLaunch { vcpus: 4, ..launch(&amd, Some(line)) };
    let values = predict_snp(&expected).unwrap();
    assert!(values.variations().len() <= coffer_core_launch::MAX_VARIATIONS);
    let told = |other: SnpLaunch<'_>| -> Vec<(Component, String)> {
        let found = predict_snp(&other).unwrap().registers()["measurement"];
        assert_ne!(Some(&found), values.registers().get("measurement"));
        values.explaining("measurement", &found).map(|v| (v.component, v.detail.clone())).collect()
    };
    let one = |component, detail: &str| vec![(component, detail.to_owned())];
    assert_eq!(
        told(SnpLaunch { vcpus: 2, ..expected.clone() }),
        one(Component::Vcpus, "2 vCPUs instead of 4")
    );
    assert_eq!(
        told(SnpLaunch { cpu: "EPYC-Genoa".parse().unwrap(), ..expected.clone() }),
        one(Component::Cpu, "processor type EPYC-Genoa instead of EPYC-v4")
    );
    assert_eq!(told(SnpLaunch { guest_features: 0x21, ..expected.clone() })[0].0, Component::GuestFeatures);
    assert_eq!(told(SnpLaunch { vmm: Vmm::Ec2, ..expected.clone() })[0].0, Component::Vmm);
    // A guest of one of Amazon's two launchers, expected of the other.
    let old = predict_snp(&SnpLaunch { vmm: Vmm::Ec2, ..expected.clone() }).unwrap();
    let new = predict_snp(&SnpLaunch { vmm: Vmm::Ec2Since2026, ..expected.clone() }).unwrap();
    let why: Vec<_> = old
        .explaining("measurement", &new.registers()["measurement"])
        .map(|variation| variation.detail.as_str())
        .collect();
    assert_eq!(why, ["launched by ec2-2026 instead of ec2"]);
    assert_eq!(told(SnpLaunch { kernel: None, ..expected.clone() })[0].0, Component::KernelHashes);
    assert_eq!(
        told(SnpLaunch { vcpus: 4, ..launch(&amd, Some("console=ttyS0")) }),
        one(Component::CommandLine, "the command line without `quiet`")
    );
    assert!(told(SnpLaunch { vcpus: 4, ..launch(&amd, Some("something else")) }).is_empty());
}

#[test]
fn every_byte_of_the_table_and_metadata_changes_the_measurement_or_is_refused() {
    let Some(amd) = vector("ovmf_AmdSev_suffix.bin") else { return };
    let good = measured(&launch(&amd, Some("")));
    for at in (0..amd.len()).rev().take(0x600) {
        let mut other = amd.clone();
        other[at] ^= 0x80;
        if let Ok(values) = predict_snp(&launch(&other, Some(""))) {
            assert_ne!(values.registers()["measurement"].hex(), good, "byte {at:#x}");
        }
    }
    let longer = [amd.as_slice(), &[0]].concat();
    for size in [0, 1, 0x20, 0xfff, 0x1001] {
        let cut = &longer[..size];
        assert!(matches!(predict_snp(&launch(cut, None)), Err(LaunchError::Metadata(_))), "{size}");
    }
    assert!(matches!(predict_snp(&launch(&[0; 0x1000], None)), Err(LaunchError::Metadata(_))));
}

#[test]
fn what_no_launcher_does_is_refused_with_its_reason() {
    let many = SnpLaunch { vcpus: 0, ..launch(&[], None) };
    assert!(matches!(predict_snp(&many), Err(LaunchError::Processors { found: 0, .. })));
    let error = "EPYC-Rhine".parse::<CpuType>().unwrap_err();
    assert!(error.to_string().contains("EPYC-Milan"), "{error}");
    assert!("vmware".parse::<Vmm>().is_err());
    assert_eq!("25/1/1".parse::<CpuType>().unwrap().name(), "25/1/1");
}

#[test]
fn init_data_stands_in_host_data() {
    let Some(x64) = vector("ovmf_OvmfX64_suffix.bin") else { return };
    let digest = Digest::of(Algorithm::Sha384, b"init-data");
    let values = predict_snp(&SnpLaunch { init_data: Some(digest), ..launch(&x64, None) }).unwrap();
    assert_eq!(values.registers()["host-data"].as_bytes(), &digest.as_bytes()[..32]);
    let without = predict_snp(&launch(&x64, None)).unwrap();
    assert_eq!(without.registers()["host-data"], Digest::zero(Algorithm::Sha256));
    assert!(values.missing_registers().is_empty());
    assert_eq!(coffer_core_launch::ReferenceValues::from_json(values.to_json().as_bytes()), Ok(values));
}

fn base64(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let bits = text.bytes().filter(|byte| *byte != b'=').map(digit);
    let (mut out, mut held, mut count) = (Vec::new(), 0u32, 0);
    for six in bits {
        (held, count) = ((held << 6) | u32::from(six), count + 6);
        if count >= 8 {
            count -= 8;
            out.push((held >> count) as u8);
        }
    }
    out
}

#[test]
fn id_block_and_key_digests_are_the_published_ones() {
    let hex =
        "a14d638341e5674628fe1e02fbedebe5e5ab4faf1dd72d8966068e615bb99efd13d214b35c231715b38e263dc6059745";
    let block = IdBlock {
        measurement: format!("sha384:{hex}").parse().unwrap(),
        family_id: [0; 16],
        image_id: [0; 16],
        guest_svn: 0,
        policy: 0x30000,
    };
    let expected = "oU1jg0HlZ0Yo/h4C++3r5eWrT68d1y2JZgaOYVu5nv0T0hSzXCMXFbOOJj3GBZdFAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABAAAAAAAAAAAAAwAAAAAA";
    assert_eq!(block.to_bytes(), base64(expected));
    let Some(auth) = vector("test_auth_block.bin") else { return };
    let read = AuthBlock::parse(&auth).unwrap();
    let id = base64("WfssaG36T+9J84M5qndckAUcKNVzg93DuvO160sUlt87DbvcuuX+J2d6ZEggdz/i");
    let author = base64("7tgRafsMteDsNHlPEo/U4MSkb2fGWhrfqB/LJLzAiMJyNpt//D6ytq9qQoShs2xf");
    assert_eq!(read.id_key_digest.as_bytes(), id);
    assert_eq!(read.author_key_digest.unwrap().as_bytes(), author);
    // The same from the point as keys are written elsewhere.
    let part = |at: usize| auth[at..at + 48].iter().rev().copied().collect::<Vec<u8>>();
    let point = [vec![4], part(0x244), part(0x244 + 72)].concat();
    assert_eq!(key_digest(&point).unwrap(), read.id_key_digest);
    assert!(key_digest(&point[1..]).is_err());
    assert!(AuthBlock::parse(&auth[1..]).is_err());
    let mut other = auth.clone();
    other[0x240] = 3;
    assert!(AuthBlock::parse(&other).is_err());
}

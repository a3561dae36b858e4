//! Predictions against event logs of real guests and of Debian's firmware.
//!
//! `testdata/tdvf.log` was made by Debian's OVMF with a TPM, so its events are compared register by register after
//! the mapping of PCRs to RTMRs (UEFI 2.10, section 38.4.1). What a TPM's log does not have is the memory map and
//! the variable store; those are in the recorded logs of TDX guests.

use std::path::PathBuf;

use coffer_core_evidence::eventlog::{Event, EventLog, EventType, replay};
use serde::Deserialize;

use super::boot_options::BootOptions;
use super::machine::{Kernel, RTMR0, RTMR1, RTMR2, Shape};
use super::*;
use crate::PredictedEvent;
use crate::events::{INITRD_OPTION, SecureBootVariables};

const LOG: &[u8] = include_bytes!("../../testdata/tdvf.log");
const INPUTS: &str = include_str!("../../testdata/tdvf.json");
/// What Debian's builds up to 2025.02 have as `Boot0000`; read from the build itself where it is installed.
const MENU: &[u8] = crate::firmware::PROFILES[0].boot_option;
/// SHA-384 of an empty 4 MiB build's variable store, as in Debian's OVMF_VARS_4M.fd.
const EMPTY_STORE: &str =
    "sha384:344bc51c980ba621aaa00da3ed7436f7d6e549197dfe699515dfa2c6583d95e6412af21c097d473155875ffd561d6790";

/// The layout of builds before and after they knew of an SVSM.
const SECTIONS_2022: [(u64, u64, u32); 6] = [
    (0xffe2_0000, 0x1e_0000, 0),
    (0xffe0_0000, 0x2_0000, 1),
    (0x81_0000, 0x1_0000, 3),
    (0x80_b000, 0x2000, 3),
    (0x80_9000, 0x2000, 2),
    (0x80_0000, 0x6000, 3),
];
const SECTIONS_2024: [(u64, u64, u32); 6] = [
    (0xffc8_4000, 0x37_c000, 0),
    (0xffc0_0000, 0x8_4000, 1),
    (0x81_1000, 0xf000, 3),
    (0x80_b000, 0x2000, 3),
    (0x80_9000, 0x2000, 2),
    (0x80_0000, 0x6000, 3),
];

/// A firmware file of one page that has only metadata, with all of its sections empty in the file.
fn firmware(sections: &[(u64, u64, u32)]) -> Vec<u8> {
    let mut metadata = [b"TDVF".as_slice(), &[0; 4], &1u32.to_le_bytes()].concat();
    metadata.extend(u32::try_from(sections.len()).unwrap().to_le_bytes());
    for (gpa, size, kind) in sections {
        metadata.extend([0; 8]);
        metadata.extend(gpa.to_le_bytes());
        metadata.extend(size.to_le_bytes());
        metadata.extend(kind.to_le_bytes());
        metadata.extend([0; 4]);
    }
    let distance = u32::try_from(0x1000 - 0x100).unwrap();
    let mut table = [distance.to_le_bytes().as_slice(), &22u16.to_le_bytes()].concat();
    table.extend([
        0x35, 0x65, 0x7a, 0xe4, 0x4a, 0x98, 0x98, 0x47, 0x86, 0x5e, 0x46, 0x85, 0xa7, 0xbf, 0x8e, 0xc2,
    ]);
    table.extend(40u16.to_le_bytes());
    table.extend([
        0xde, 0x82, 0xb5, 0x96, 0xb2, 0x1f, 0xf7, 0x45, 0xba, 0xea, 0xa3, 0x66, 0xc5, 0x5a, 0x08, 0x2d,
    ]);
    table.extend([0; 32]);
    let mut file = vec![0; 0x1000];
    file[0x100..0x100 + metadata.len()].copy_from_slice(&metadata);
    let at = file.len() - table.len();
    file[at..].copy_from_slice(&table);
    file
}

fn vector(name: &str) -> Option<Vec<u8>> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors");
    let root = std::env::var_os("COFFER_VECTORS").map_or_else(|| PathBuf::from(default), PathBuf::from);
    let file = std::fs::read(root.join("ccel").join(name)).ok();
    if file.is_none() {
        println!("skipped: no vectors");
    }
    file
}

fn extended(log: &[u8]) -> Vec<Event> {
    EventLog::parse(log).unwrap().into_events().into_iter().filter(Event::is_extended).collect()
}

/// Kind and digest of a log's events in one register.
fn recorded(events: &[Event], register: u32) -> Vec<(String, Digest)> {
    let of = |event: &Event| (event.kind.to_string(), *event.digest(BANK).unwrap());
    events.iter().filter(|event| event.register == register).map(of).collect()
}

fn predicted(events: &[PredictedEvent], register: u32) -> Vec<(String, Digest)> {
    let of = |event: &PredictedEvent| (event.kind.clone(), event.digest);
    events.iter().filter(|event| event.register == register).map(of).collect()
}

/// A machine whose ACPI tables are those of the log.
fn machine(
    layout: &[(u64, u64, u32)],
    memory_mib: u32,
    separator: u32,
    state: &[u8],
    acpi: [Digest; 3],
) -> Machine {
    let file = firmware(layout);
    let map = |memory| memory_map_digest(&file, memory, Vmm::Qemu).unwrap();
    let shape =
        Shape { memory_mib, vcpus: 1, measured_line: None, separator, secure_boot_state: state.to_vec() };
    Machine {
        maps: [memory_mib, memory_mib * 2].map(|memory| (memory, map(memory))).into(),
        variables: Some(EMPTY_STORE.parse().unwrap()),
        secure_boot: SecureBootVariables { state: state.to_vec(), ..Default::default() },
        boot_option: Ok(MENU.to_vec()),
        acpi: [((1, memory_mib), acpi)].into(),
        separator,
        kernel: None,
        shape,
    }
}

#[test]
fn rtmr0_of_recorded_guests_is_predicted_event_by_event() {
    /// Log, layout, memory, the separator's register, the state of secure boot.
    type Case<'a> = (&'a str, &'a [(u64, u64, u32)], u32, u32, &'a [u8]);
    let cases: [Case<'_>; 3] = [
        ("trustee_CCEL_data_ovmf", &SECTIONS_2022, 2048, RTMR0, &[]),
        ("goeventlog_CCEL_unpadded.data.bin", &SECTIONS_2022, 8192, RTMR0, &[0]),
        ("dstack_ccel.bin", &SECTIONS_2024, 1024, RTMR1, &[]),
    ];
    for (name, layout, memory, separator, state) in cases {
        let Some(log) = vector(name) else { return };
        let events = extended(&log);
        let acpi: Vec<Digest> = recorded(&events, RTMR0)
            .into_iter()
            .filter(|(kind, _)| kind == "EV_PLATFORM_CONFIG_FLAGS")
            .map(|(_, digest)| digest)
            .collect();
        let machine = machine(layout, memory, separator, state, acpi.try_into().unwrap());
        let (found, left_out) = machine.events(&machine.shape);
        assert_eq!(left_out.len(), 2, "{name}: a kernel is not given");
        assert_eq!(predicted(&found, RTMR0), recorded(&events, RTMR0), "{name}");
        let registers = crate::reference::replay(BANK, &found);
        assert_eq!(registers.get(&RTMR0), replay(&events, BANK, 0).get(&RTMR0), "{name}");
    }
}

#[test]
fn memory_maps_are_those_that_launchers_hand_over() {
    let cases: [(&str, u32, Vmm); 4] = [
        ("trustee_CCEL_data_grub", 10_240, Vmm::Qemu),
        ("goeventlog_CCEL_unpadded.data.bin", 8192, Vmm::Qemu),
        ("trustee_CCEL_data_gcp", 16_384, Vmm::Gce),
        ("goeventlog_cos-113-intel-tdx.bin", 16_384, Vmm::Gce),
    ];
    for (name, memory, vmm) in cases {
        let Some(log) = vector(name) else { return };
        let (kind, digest) = recorded(&extended(&log), RTMR0).remove(0);
        assert_eq!(kind, "EV_EFI_HANDOFF_TABLES2");
        let file = firmware(&SECTIONS_2022);
        assert_eq!(memory_map_digest(&file, memory, vmm), Ok(digest), "{name}");
        assert_ne!(memory_map_digest(&file, memory + 1, vmm), Ok(digest), "{name}");
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Inputs {
    #[serde(rename = "about")]
    _about: String,
    memory_mib: u32,
    vcpus: u32,
    command_line: String,
    initrd: Digest,
    acpi: [Digest; 3],
}

fn debian() -> (Machine, Vec<Event>) {
    let inputs: Inputs = serde_json::from_str(INPUTS).unwrap();
    let events = extended(LOG);
    let mut machine = machine(&SECTIONS_2024, inputs.memory_mib, RTMR1, &[], inputs.acpi);
    let image = recorded(&events, 4).remove(0).1;
    machine.acpi = [((inputs.vcpus, inputs.memory_mib), inputs.acpi)].into();
    machine.shape.vcpus = inputs.vcpus;
    machine.shape.measured_line = Some(format!("{}{INITRD_OPTION}", inputs.command_line));
    machine.kernel = Some(Kernel {
        file: Digest::zero(Algorithm::Sha256),
        images: [(inputs.memory_mib, image)].into(),
        initrd: inputs.initrd,
        initrd_file: Digest::zero(Algorithm::Sha256),
        command_line: inputs.command_line,
        measures: true,
    });
    (machine, events)
}

#[test]
fn a_log_of_debian_s_firmware_is_predicted_after_mapping_its_registers() {
    let (machine, events) = debian();
    let (found, left_out) = machine.events(&machine.shape);
    assert!(left_out.is_empty(), "{left_out:?}");
    // PCRs 2 to 6 are RTMR1's, 8 to 15 RTMR2's; a TPM's log has a separator for each of its own registers.
    let mapped = |registers: &[u32]| -> Vec<(String, Digest)> {
        let of = |event: &Event| (event.kind.to_string(), *event.digest(BANK).unwrap());
        events
            .iter()
            .filter(|event| registers.contains(&event.register))
            .filter(|event| event.kind != EventType::SEPARATOR || [4, 7].contains(&event.register))
            .map(of)
            .collect()
    };
    assert_eq!(predicted(&found, RTMR1), mapped(&[2, 3, 4, 5, 6]));
    assert_eq!(predicted(&found, RTMR2), mapped(&[8, 9]));
    // RTMR0 has what PCRs 1 and 7 have, without the table for the TPM's log, which is 64 KiB of zeros.
    let tpm_log = Digest::of(BANK, &[0; 0x1_0000]);
    let rtmr0: Vec<_> = predicted(&found, RTMR0).split_off(2);
    let without: Vec<_> = mapped(&[1, 7]).into_iter().filter(|(_, digest)| *digest != tpm_log).collect();
    assert_eq!(rtmr0, without);
}

#[test]
fn a_register_that_differs_is_told_by_the_variation_that_makes_it() {
    let (mut machine, _) = debian();
    machine.acpi.insert((4, 512), [1, 2, 3].map(|byte| Digest::of(BANK, &[byte])));
    let variations = machine.variations();
    let details: Vec<_> = variations.iter().map(|variation| variation.detail.as_str()).collect();
    for expected in [
        "4 vCPUs instead of 2",
        "the command line without `quiet`",
        "the variable SecureBoot is off",
        "the separator before the kernel in RTMR0",
        "1024 MiB of memory instead of 512",
    ] {
        assert!(details.contains(&expected), "{expected} is not in {details:?}");
    }
    let more_processors = &variations[details.iter().position(|d| *d == "4 vCPUs instead of 2").unwrap()];
    let (events, _) = machine.events(&Shape { vcpus: 4, ..machine.shape.clone() });
    let registers = crate::reference::replay(BANK, &events);
    assert_eq!(more_processors.registers.get("rtmr0"), registers.get(&RTMR0));
    let more_memory = &variations[details.iter().position(|d| d.starts_with("1024 MiB")).unwrap()];
    assert!(more_memory.events.contains(&machine.maps[&1024]), "the memory map is told though RTMR0 is not");
}

/// A firmware file that a package installed.
fn installed(paths: [&str; 2]) -> Option<Vec<u8>> {
    let file = paths.iter().find_map(|path| std::fs::read(path).ok());
    if file.is_none() {
        println!("skipped: no firmware package");
    }
    file
}

#[test]
fn the_variable_store_and_the_menu_of_debian_s_packages_are_those_in_logs() {
    if let Some(store) = installed(["/usr/share/OVMF/OVMF_VARS_4M.fd", "/usr/share/ovmf/OVMF_VARS_4M.fd"]) {
        assert_eq!(Digest::of(BANK, &store).to_string(), EMPTY_STORE);
    }
    let Some(ovmf) = installed(["/usr/share/ovmf/OVMF.fd", "/usr/share/OVMF/OVMF.fd"]) else { return };
    let parsed = Ovmf::parse(&ovmf).unwrap();
    let sections = parsed.tdx_sections().unwrap();
    let code = sections.iter().find(|section| section.kind == TdxSection::BOOT_VOLUME).unwrap();
    let build = boot_options::of(code.data);
    match build.options {
        BootOptions::Menu(option) => assert_eq!(option, MENU),
        other => assert_eq!(other, BootOptions::Later),
    }
    // As their logs have it: off in 2022.11, not set in 2025.02.
    match Digest::sha256(&ovmf).hex().get(..8) {
        Some("7b456907") => assert!(build.knows_secure_boot),
        Some("14954040") => assert!(!build.knows_secure_boot),
        _ => println!("skipped: another firmware package"),
    }
}

#[test]
fn secure_boot_variables_come_from_the_store() {
    assert_eq!(variables::secure_boot(&[], false), SecureBootVariables::default());
    assert_eq!(variables::secure_boot(&[], true).state, [0]);
    let Some(enrolled) = installed(["/usr/share/OVMF/OVMF_VARS_4M.ms.fd", "/usr/share/OVMF/OVMF_VARS.ms.fd"])
    else {
        return;
    };
    let found = variables::secure_boot(&enrolled, true);
    assert!(found.is_on());
    assert!([&found.pk, &found.kek, &found.db, &found.dbx].iter().all(|value| value.len() > 16));
    for size in 0..0x200 {
        let _ = variables::secure_boot(&enrolled[..size], true);
    }
}

#[test]
fn what_cannot_be_computed_is_left_out_and_said() {
    let file = firmware(&SECTIONS_2024);
    let launch = TdxLaunch {
        firmware: &file,
        kernel: None,
        memory_mib: 2048,
        vcpus: 2,
        vmm: Vmm::Qemu,
        page_order: PageOrder::default(),
        acpi: &[],
        init_data: Some(Digest::sha256(b"init-data")),
    };
    let TdxPrediction { values, left_out } = predict_tdx(&launch).unwrap();
    let names: Vec<_> = left_out.iter().map(|left| left.register).collect();
    assert_eq!(names, ["rtmr0", "rtmr1", "rtmr2"]);
    assert_eq!(values.missing_registers(), names);
    let field = values.registers()["mrconfigid"];
    assert_eq!(field.as_bytes(), [Digest::sha256(b"init-data").as_bytes(), &[0; 16]].concat());
    assert_eq!(ReferenceValues::from_json(values.to_json().as_bytes()), Ok(values));
    let refused = |launch: &TdxLaunch<'_>| predict_tdx(launch).unwrap_err();
    assert!(matches!(refused(&TdxLaunch { memory_mib: 1, ..launch.clone() }), LaunchError::Memory { .. }));
    assert!(matches!(refused(&TdxLaunch { vcpus: 0, ..launch.clone() }), LaunchError::Processors { .. }));
    assert!(matches!(refused(&TdxLaunch { firmware: &[0; 4096], ..launch }), LaunchError::Metadata(_)));
}

#[test]
fn mrtd_of_debian_s_firmware_is_what_another_program_computed() {
    // The file's SHA-256, and MRTD with pages added and extended one by one, and section by section.
    let known = [
        (
            "7b456907dd0786d415999e801a1ac4637b8ed4d7cf5378cfc6edbe5e574dd773",
            "4c7206f0f483c524f12c366c711e9049030a8d47c471ee5aa9c4999a08de4057fb887fed0744d5631a212967fb231c47",
            "acccbcc870a381adab0d3919d90a7f268ac3b0364771f202ed4bb4e892d045b33db3b32e6924cba830a724eed443f7e1",
        ),
        (
            "14954040cc754ade0c625ac3470ea46d4c14318b5b1396de4ef77090203d76db",
            "bdc6fb145880f06f30c8b346b8dce2a99d9351b56892df22f80fcf6574caa9f9c31df8e8576d53b4d0cd1c3f28910e11",
            "456f07902150d008bb913c3e1e84e9297f735a6c83cd2a957a1f0a8bbedb06df188e3837ae48d32c73d473d097dc0db2",
        ),
    ];
    let Some(file) = installed(["/usr/share/ovmf/OVMF.fd", "/usr/share/OVMF/OVMF.fd"]) else { return };
    let hash = Digest::sha256(&file).hex();
    let Some((_, one_by_one, by_section)) = known.iter().find(|(known, ..)| *known == hash) else {
        println!("skipped: another firmware package");
        return;
    };
    let ovmf = Ovmf::parse(&file).unwrap();
    let sections = ovmf.tdx_sections().unwrap();
    assert_eq!(mrtd::of_sections(&sections, PageOrder::Interleaved, false).hex(), *one_by_one);
    assert_eq!(mrtd::of_sections(&sections, PageOrder::AddedFirst, false).hex(), *by_section);
}

/// With `COFFER_RECORDED_BOOT` a folder of one boot: firmware, kernel, initrd, the files of `fw_cfg`, the log of a
/// TPM, and `shape`: memory, processors and command line, a line each.
#[test]
fn a_recorded_boot_is_predicted_from_its_files_alone() {
    let Some(folder) = std::env::var_os("COFFER_RECORDED_BOOT").map(PathBuf::from) else {
        println!("skipped: no recorded boot");
        return;
    };
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let shape = String::from_utf8(read("shape")).unwrap();
    let mut lines = shape.lines();
    let mut number = || lines.next().unwrap().parse::<u32>().unwrap();
    let (memory_mib, vcpus) = (number(), number());
    let command_line = lines.next().unwrap();
    let (firmware, kernel, initrd) = (read("OVMF.fd"), read("vmlinuz"), read("initrd"));
    let (loader, rsdp, tables) = (read("table-loader"), read("rsdp"), read("tables"));
    let acpi = [AcpiTables { vcpus, memory_mib, loader: &loader, rsdp: &rsdp, tables: &tables }];
    let launch = TdxLaunch {
        firmware: &firmware,
        kernel: Some(TdxKernel { kernel: &kernel, initrd: &initrd, command_line }),
        memory_mib,
        vcpus,
        vmm: Vmm::Qemu,
        page_order: PageOrder::default(),
        acpi: &acpi,
        init_data: None,
    };
    let TdxPrediction { values, left_out } = predict_tdx(&launch).unwrap();
    assert_eq!(left_out, []);
    assert!(values.missing_registers().is_empty());
    let events = extended(&read("log.bin"));
    let digests = |kept: fn(&Event) -> bool| -> Vec<Digest> {
        events.iter().filter(|event| kept(event)).map(|event| *event.digest(BANK).unwrap()).collect()
    };
    let of = |register| {
        predicted(values.events(), register).into_iter().map(|(_, digest)| digest).collect::<Vec<_>>()
    };
    assert_eq!(
        of(RTMR1),
        digests(|e| (4..=5).contains(&e.register) && (e.kind != EventType::SEPARATOR || e.register == 4))
    );
    assert_eq!(of(RTMR2), digests(|e| e.register == 9));
    let rtmr0 =
        digests(|e| [1, 7].contains(&e.register) && (e.kind != EventType::SEPARATOR || e.register == 7));
    let tpm_log = Digest::of(BANK, &[0; 0x1_0000]);
    assert_eq!(
        of(RTMR0).split_off(2),
        rtmr0.into_iter().filter(|digest| *digest != tpm_log).collect::<Vec<_>>()
    );
    println!("{} variations, {} bytes", values.variations().len(), values.to_json().len());
}

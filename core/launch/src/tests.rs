//! Predictions against boots that were recorded, and inputs that cannot be predicted.
//!
//! `testdata/boot.log` is the event log of one boot of ours, `boot.json` its inputs by digest and its registers.
//! `testdata/reference.json` is the prediction for it, with init-data, in the JSON form; other crates' tests read it.

use std::collections::BTreeMap;

use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::eventlog::EventLog;
use serde::Deserialize;

use super::*;
use crate::firmware::Shape;

const BOOT_LOG: &[u8] = include_bytes!("../testdata/boot.log");
const BOOT: &str = include_str!("../testdata/boot.json");
const REFERENCE: &str = include_str!("../testdata/reference.json");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Boot {
    #[serde(rename = "about")]
    _about: String,
    memory_mib: u32,
    vcpus: u32,
    command_line: String,
    firmware: Digest,
    kernel: Digest,
    kernel_image: Digest,
    volumes: [Digest; 2],
    initrd: Digest,
    pcrs: BTreeMap<String, Digest>,
}

fn boot() -> Boot {
    serde_json::from_str(BOOT).unwrap()
}

fn predicted(boot: &Boot, init_data: Option<Digest>) -> ReferenceValues {
    let measured = tpm::Measured {
        profile: &firmware::PROFILES[0],
        volumes: boot.volumes,
        image: boot.kernel_image,
        initrd: boot.initrd,
    };
    let inputs = tpm::Inputs {
        firmware: boot.firmware,
        kernel: boot.kernel,
        initrd: boot.initrd,
        command_line: boot.command_line.clone(),
        memory_mib: boot.memory_mib,
        vcpus: boot.vcpus,
        address_width: AddressWidth::Unreported,
    };
    tpm::prediction(Algorithm::Sha256, &measured, &inputs, init_data).finish([])
}

fn firmware_file() -> Option<Vec<u8>> {
    let path = std::env::var("COFFER_OVMF").unwrap_or("/usr/share/OVMF/OVMF_CODE_4M.fd".to_owned());
    let file = std::fs::read(path).ok().filter(|file| firmware::profile(file).is_ok());
    if file.is_none() {
        println!("skipped: no firmware build that has a profile");
    }
    file
}

#[test]
fn a_recorded_boot_is_predicted_event_by_event() {
    let boot = boot();
    let prediction = predicted(&boot, None);
    assert_eq!(*prediction.registers(), boot.pcrs);
    let log = EventLog::parse(BOOT_LOG).unwrap();
    let recorded: Vec<_> = log
        .events()
        .iter()
        .filter(|event| event.is_extended())
        .map(|event| (event.register, event.kind.to_string(), *event.digest(Algorithm::Sha256).unwrap()))
        .collect();
    let events: Vec<_> =
        prediction.events().iter().map(|event| (event.register, event.kind.clone(), event.digest)).collect();
    assert_eq!(events, recorded);
}

/// Memory in MiB, processors, address width, and the digest of the PEI volume that the boot's log had.
const BOOTS: &[(u32, u32, AddressWidth, &str)] = &[
    (512, 1, AddressWidth::Bits(40), "f4f0c52697278027731926901650c9eccd0e4181d6b63339c07552c2c969915d"),
    (384, 1, AddressWidth::Bits(40), "06bd2426b807aefde2f53e9f5411bde6c96840170fa053dffce1221cbd92ea5c"),
    (1024, 1, AddressWidth::Bits(40), "4c251b0c52a393c134c2ddf7c9afb08878cf9dc95f9ff6827cad7ed4394dd209"),
    (2048, 1, AddressWidth::Bits(40), "4c021933a6f530fb027434476cf80cddade4eb63f7334fa380baf53c4c25ca48"),
    (4096, 1, AddressWidth::Bits(40), "4c021933a6f530fb027434476cf80cddade4eb63f7334fa380baf53c4c25ca48"),
    (6144, 1, AddressWidth::Bits(40), "4c021933a6f530fb027434476cf80cddade4eb63f7334fa380baf53c4c25ca48"),
    (40960, 1, AddressWidth::Bits(40), "002b5679fa4b65fb2b48fd6a15b95f2a268ec34ddd6156bd3aec37a790d9ae83"),
    (1500, 1, AddressWidth::Bits(40), "a0d38d433951a0b73548a968708307521b1fa59c7cd6c73ac1a1553cb9040170"),
    (2500, 1, AddressWidth::Bits(40), "8ccb954b255bb54038a6589ad4e14739192c3b1c8d1d656c23d612ce53d3a47b"),
    (2815, 1, AddressWidth::Bits(40), "b84a25bab76d9c74a56d372ea1188fc840bb2c8d26b6f883e0091c3a117ab945"),
    (2817, 1, AddressWidth::Bits(40), "4c021933a6f530fb027434476cf80cddade4eb63f7334fa380baf53c4c25ca48"),
    (512, 2, AddressWidth::Bits(40), "ac3c3bb98ae544cb99b0847315023372f2d059a02852fb7c39cc7bc6413ee279"),
    (256, 4, AddressWidth::Bits(40), "ad1a5f77abc939a46af741e87623ded7720268b3e20f0dffc1b7ff7e8fab9f15"),
    (512, 1, AddressWidth::Unreported, "05f50e00bfb1a99b8af5474be75405dd2d39d5dcdb482e22c32ce34d9db9f619"),
    (640, 2, AddressWidth::Unreported, "892dd619b2c5101a0eb3f265488b4ab0f4ff92014d17d3cd24ac2d6e9608ddbc"),
    (40960, 1, AddressWidth::Unreported, "d83810f79ec8c7d69b584d09320d51c4c575c1b056b2c92f77e11babd89c4360"),
    (512, 1, AddressWidth::Bits(39), "29ad35df234affce0ee69a639c3bb4dfa55c4b82bb777d3c7aafb8e32f54cacd"),
    (512, 1, AddressWidth::Bits(46), "34c481ef70769b7ff91cfd3dc8f6c408478e21e9794d30580a8d74f4165321af"),
];

#[test]
fn the_firmware_s_volumes_are_as_booted_machines_measured_them() {
    let Some(file) = firmware_file() else { return };
    let inner = firmware::decompress(&file).unwrap();
    for (memory_mib, vcpus, address_width, expected) in BOOTS {
        let shape = Shape { memory_mib: *memory_mib, vcpus: *vcpus, address_width: *address_width };
        let (pei, dxe) = firmware::volumes(&firmware::PROFILES[0], &inner, shape).unwrap();
        assert_eq!(Digest::sha256(&pei).hex(), *expected, "{shape:?}");
        assert_eq!(Digest::sha256(dxe), boot().volumes[1], "{shape:?}");
    }
}

#[test]
fn a_changed_firmware_file_is_never_predicted_as_the_known_one() {
    let Some(mut file) = firmware_file() else { return };
    let last = file.len() - 1;
    file[last] ^= 1;
    let error = firmware::profile(&file).err().unwrap();
    assert!(matches!(&error, LaunchError::UnknownFirmware { found, .. } if *found == Digest::sha256(&file)));
    assert!(error.to_string().contains("OVMF_CODE_4M.fd"), "{error}");
}

#[test]
fn what_cannot_be_predicted_is_refused_with_its_reason() {
    let good = TpmLaunch {
        firmware: b"",
        kernel: b"",
        initrd: b"",
        command_line: "quiet",
        memory_mib: 512,
        vcpus: 1,
        address_width: AddressWidth::Unreported,
        init_data: None,
        bank: Algorithm::Sha256,
    };
    let refused = |launch: TpmLaunch<'_>| predict_tpm(&launch).unwrap_err();
    assert!(matches!(refused(TpmLaunch { memory_mib: 64, ..good }), LaunchError::Memory { found: 64, .. }));
    assert!(matches!(refused(TpmLaunch { memory_mib: u32::MAX, ..good }), LaunchError::Memory { .. }));
    assert!(matches!(refused(TpmLaunch { vcpus: 0, ..good }), LaunchError::Processors { found: 0, .. }));
    assert!(matches!(refused(TpmLaunch { vcpus: 65, ..good }), LaunchError::Processors { .. }));
    for line in ["vga=ask", "a\u{e9}", "a\nb", &"x".repeat(3000)] {
        assert!(matches!(refused(TpmLaunch { command_line: line, ..good }), LaunchError::CommandLine(_)));
    }
    assert!(matches!(refused(good), LaunchError::UnknownFirmware { .. }));
    let Some(firmware) = firmware_file() else { return };
    let good = TpmLaunch { firmware: &firmware, ..good };
    assert!(matches!(refused(good), LaunchError::Kernel(_)));
    let wide = TpmLaunch { address_width: AddressWidth::Bits(52), ..good };
    assert_eq!(refused(wide), LaunchError::AddressWidth { found: 52 });
}

const INIT_DATA: &[u8] = include_bytes!("../testdata/init-data.toml");

fn reference() -> ReferenceValues {
    let entries = [("aa.toml", "url"), ("coffer.toml", "broker")]
        .map(|(name, text)| (name.to_owned(), Digest::sha256(text.as_bytes())));
    predicted(&boot(), Some(Digest::sha256(INIT_DATA)))
        .with_origin("coffer measure")
        .with_times(Some("2026-11-20T00:00:00Z".to_owned()), Some("2027-11-20T00:00:00Z".to_owned()))
        .with_init_data_entries(entries.into())
}

#[test]
fn the_json_form_is_the_committed_one_and_reads_back() {
    let made = reference();
    if std::env::var_os("COFFER_BLESS").is_some() {
        std::fs::write(
            concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/reference.json"),
            made.to_json() + "\n",
        )
        .unwrap();
    }
    assert_eq!(made.to_json(), REFERENCE.trim_end());
    assert_eq!(ReferenceValues::from_json(REFERENCE.as_bytes()), Ok(made));
}

#[test]
fn the_identifier_is_of_the_registers_and_of_nothing_else() {
    let plain = predicted(&boot(), None);
    assert_eq!(plain.id(), plain.clone().with_origin("elsewhere").id());
    assert_ne!(plain.id(), reference().id());
}

#[test]
fn values_that_leave_a_register_to_the_host_say_which() {
    assert!(reference().missing_registers().is_empty());
    for left_out in 0..=9 {
        let name = format!("pcr{left_out}");
        let mut json: serde_json::Value = serde_json::from_str(REFERENCE).unwrap();
        json["registers"].as_object_mut().unwrap().remove(&name).unwrap();
        let registers: BTreeMap<String, Digest> = serde_json::from_value(json["registers"].clone()).unwrap();
        let lines: String = registers.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        let id = Digest::sha256(format!("tpm\nsha256\n{lines}").as_bytes()).hex();
        json["id"] = format!("tpm-{}", &id[..24]).into();
        let partial = ReferenceValues::from_json(json.to_string().as_bytes()).unwrap();
        assert_eq!(partial.missing_registers(), [name]);
    }
}

#[test]
fn a_document_that_contradicts_itself_is_refused_with_its_reason() {
    let json: serde_json::Value = serde_json::from_str(REFERENCE).unwrap();
    let with = |path: &str, value: serde_json::Value| {
        let mut json = json.clone();
        *json.pointer_mut(path).unwrap() = value;
        ReferenceValues::from_json(json.to_string().as_bytes()).unwrap_err()
    };
    let other = Digest::sha256(b"other").to_string();
    assert_eq!(with("/version", 3.into()), ReferenceError::Version { found: 3 });
    assert_eq!(with("/version", 0.into()), ReferenceError::Version { found: 0 });
    assert!(matches!(with("/id", "tpm-0".into()), ReferenceError::Id { .. }));
    for register in 0..=9 {
        let name = format!("pcr{register}");
        let error = with(&format!("/registers/{name}"), other.clone().into());
        assert_eq!(error, ReferenceError::Replay { register: name });
    }
    assert!(matches!(with("/events/0/digest", other.into()), ReferenceError::Replay { .. }));
    assert!(matches!(with("/registers", serde_json::json!({})), ReferenceError::Size { .. }));
    assert!(matches!(with("/artifacts", serde_json::json!({"surprise": 1})), ReferenceError::Form(_)));
    let mut unknown = json.clone();
    unknown["surprise"] = 1.into();
    let error = ReferenceValues::from_json(unknown.to_string().as_bytes()).unwrap_err();
    assert!(error.to_string().contains("surprise"), "{error}");
}

#[test]
fn init_data_of_another_algorithm_is_cut_to_the_bank() {
    let digest = Digest::of(Algorithm::Sha384, b"init-data");
    let prediction = predicted(&boot(), Some(digest));
    let event = &digest.as_bytes()[..32];
    assert_eq!(prediction.registers()["pcr8"], Digest::zero(Algorithm::Sha256).extend(event));
}

#[test]
fn version_1_still_reads_and_is_written_as_version_2() {
    const VERSION_1: &str = include_str!("../testdata/reference-v1.json");
    let read = ReferenceValues::from_json(VERSION_1.as_bytes()).unwrap();
    assert_eq!(read, reference());
    assert_eq!(read.to_json(), REFERENCE.trim_end());
}

#[test]
fn values_of_others_are_taken_by_register_for_every_platform() {
    use coffer_core_evidence::Tee;
    let register = |name: &str, size: Algorithm| (name.to_owned(), Digest::of(size, name.as_bytes()));
    let init_data = ExpectedInitData { digest: Digest::sha256(b"init-data"), entries: BTreeMap::new() };
    // Platform, bank, registers, and the one that is then still missing.
    let cases = [
        (Tee::Tdx, Algorithm::Sha384, vec!["mrtd", "rtmr0", "rtmr1", "rtmr2"], "mrconfigid"),
        (Tee::Snp, Algorithm::Sha384, vec!["measurement"], "host-data"),
        (Tee::Sgx, Algorithm::Sha256, vec!["mrenclave"], "configid"),
        (Tee::Cca, Algorithm::Sha256, vec!["rim", "platform"], "rpv"),
        (Tee::Nitro, Algorithm::Sha384, vec!["pcr0", "pcr1", "pcr2"], "pcr16"),
        (
            Tee::AzSnpVtpm,
            Algorithm::Sha256,
            vec!["measurement", "pcr4", "pcr7", "pcr9", "pcr11", "pcr12"],
            "pcr8",
        ),
    ];
    for (platform, bank, names, bound) in cases {
        let registers: BTreeMap<_, _> = names.iter().map(|name| register(name, bank)).collect();
        let take = |registers, init_data| {
            ReferenceValues::from_registers(platform, bank, registers, BTreeMap::new(), init_data)
        };
        let values = take(registers.clone(), Some(init_data.clone())).unwrap();
        assert!(values.missing_registers().is_empty(), "{platform}");
        let placed = place_init_data(platform, bank, Some(&init_data.digest)).unwrap();
        assert_eq!((bound, values.registers()[bound]), placed);
        assert_eq!(ReferenceValues::from_json(values.to_json().as_bytes()), Ok(values.clone()));
        // Without init-data the field must be empty, and one that says otherwise contradicts itself.
        let without = take(registers.clone(), None).unwrap();
        assert_ne!(without.registers().get(bound), values.registers().get(bound));
        let wrong = take(values.registers().clone(), None);
        match platform {
            // An enclave that was given none does not have the register.
            Tee::Nitro => assert!(!without.registers().contains_key(bound)),
            _ => assert!(matches!(wrong, Err(ReferenceError::InitData { .. })), "{platform}"),
        }
        let first = names[0];
        let mut fewer = registers;
        fewer.remove(first);
        assert_eq!(take(fewer, None).unwrap().missing_registers(), [first]);
    }
    let none = ReferenceValues::from_registers(Tee::Csv, Algorithm::Sha256, [].into(), [].into(), None);
    assert!(matches!(none, Err(ReferenceError::Size { registers: 0, .. })));
}

#[test]
fn a_register_that_is_required_besides_makes_other_values() {
    use coffer_core_evidence::Tee;
    let registers = [("measurement".to_owned(), Digest::zero(Algorithm::Sha384))].into();
    let plain =
        ReferenceValues::from_registers(Tee::Snp, Algorithm::Sha384, registers, [].into(), None).unwrap();
    let key = Digest::of(Algorithm::Sha384, b"key");
    let more = plain.clone().with_register("id-key-digest", key).unwrap();
    assert_eq!(more.registers()["id-key-digest"], key);
    assert_ne!(more.id(), plain.id());
    assert_eq!(ReferenceValues::from_json(more.to_json().as_bytes()), Ok(more));
    let refused = reference().with_register("pcr12", key).unwrap_err();
    assert_eq!(refused, ReferenceError::Replay { register: "pcr12".to_owned() });
}

#[test]
fn registers_have_one_name_and_one_index() {
    use coffer_core_evidence::Tee;
    assert_eq!(register_name(Tee::Tdx, 1).as_deref(), Some("rtmr0"));
    assert_eq!(register_name(Tee::Tdx, 0), None);
    assert_eq!(register_name(Tee::Tdx, 5), None);
    for platform in [Tee::Tpm, Tee::Tdx, Tee::Cca, Tee::AzTdxVtpm] {
        for index in 0..24 {
            let Some(name) = register_name(platform, index) else { continue };
            assert_eq!(register_index(platform, &name), Some(index), "{platform} {name}");
        }
    }
    for (platform, name) in [(Tee::Tdx, "mrtd"), (Tee::Tdx, "rtmr4"), (Tee::Snp, "pcr0"), (Tee::Tpm, "pcr01")]
    {
        assert_eq!(register_index(platform, name), None, "{platform} {name}");
    }
}

#[test]
fn variations_of_registers_that_are_not_named_are_refused() {
    let mut json: serde_json::Value = serde_json::from_str(REFERENCE).unwrap();
    let digest = Digest::sha256(b"other").to_string();
    let one = |register: &str| serde_json::json!({"component": "vcpus", "detail": "more", "registers": {register: digest}});
    json["variations"] = serde_json::json!([one("pcr0")]);
    let read = ReferenceValues::from_json(json.to_string().as_bytes()).unwrap();
    assert_eq!(read.explaining("pcr0", &Digest::sha256(b"other")).count(), 1);
    assert_eq!(read.explaining("pcr1", &Digest::sha256(b"other")).count(), 0);
    json["variations"] = serde_json::json!([one("pcr20")]);
    let refused = ReferenceValues::from_json(json.to_string().as_bytes()).unwrap_err();
    assert_eq!(refused, ReferenceError::Variation { register: "pcr20".to_owned() });
    json["variations"] = vec![one("pcr0"); MAX_VARIATIONS + 1].into();
    let refused = ReferenceValues::from_json(json.to_string().as_bytes()).unwrap_err();
    assert!(matches!(refused, ReferenceError::Size { .. }));
}

/// A file that is a PE image and has a kernel's setup header, as a bzImage does.
fn bzimage() -> Vec<u8> {
    let mut image = vec![0; 0x400];
    image[..2].copy_from_slice(b"MZ");
    image[0x3c] = 0x40;
    image[0x40..0x44].copy_from_slice(b"PE\0\0");
    image[0x46] = 1;
    image[0x54] = 0xf0;
    image[0x58..0x5a].copy_from_slice(&0x20bu16.to_le_bytes());
    image[0x94..0x98].copy_from_slice(&0x200u32.to_le_bytes());
    image[0xc4] = 16;
    image[0x158..0x15c].copy_from_slice(&0x200u32.to_le_bytes());
    image[0x15c..0x160].copy_from_slice(&0x200u32.to_le_bytes());
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x206..0x208].copy_from_slice(&0x20fu16.to_le_bytes());
    image[0x211] = 1;
    image[0x236] = 0x7f;
    image
}

#[test]
fn a_register_that_differs_is_told_by_the_variation_that_makes_it() {
    let Some(firmware) = firmware_file() else { return };
    let kernel = bzimage();
    let expected = TpmLaunch {
        firmware: &firmware,
        kernel: &kernel,
        initrd: b"initrd",
        command_line: "console=ttyS0 quiet",
        memory_mib: 1024,
        vcpus: 4,
        address_width: AddressWidth::Unreported,
        init_data: None,
        bank: Algorithm::Sha256,
    };
    let values = predict_tpm(&expected).unwrap();
    let told = |other: TpmLaunch<'_>, register: &str| -> Vec<String> {
        let found = predict_tpm(&other).unwrap().registers()[register];
        assert_ne!(found, values.registers()[register]);
        values.explaining(register, &found).map(|variation| variation.detail.clone()).collect()
    };
    assert_eq!(told(TpmLaunch { vcpus: 2, ..expected }, "pcr0"), ["2 vCPUs instead of 4"]);
    let more = TpmLaunch { memory_mib: 2048, ..expected };
    assert!(told(more, "pcr0").contains(&"2048 MiB of memory instead of 1024".to_owned()));
    // From 2 GiB on the initrd stays where it is.
    assert!(told(more, "pcr4").contains(&"2048 MiB of memory instead of 1024".to_owned()));
    let line = TpmLaunch { command_line: "console=ttyS0", ..expected };
    assert_eq!(told(line, "pcr9"), ["the command line without `quiet`"]);
    assert!(values.variations().len() <= MAX_VARIATIONS);
}

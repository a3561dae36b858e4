//! Event logs of others, replayed against what was quoted, and the same logs with one defect.

use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

fn vectors() -> Option<PathBuf> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors");
    let path = PathBuf::from(std::env::var("COFFER_VECTORS").unwrap_or_else(|_| default.to_owned()));
    if !path.is_dir() {
        println!("skipped: no vectors");
        return None;
    }
    Some(path)
}

fn vector(name: &str) -> Option<Vec<u8>> {
    vectors().map(|path| std::fs::read(path.join(name)).unwrap())
}

fn hex_of(log: &EventLog, bank: Algorithm, register: u32) -> String {
    log.replay(bank).get(&register).map(Digest::hex).unwrap_or_default()
}

/// File, number of events with the header, form, ids of the banks.
const LOGS: &[(&str, usize, Form, &[u16])] = &[
    ("tpm/eventlogs/arch-linux-workstation.bin", 25, Form::CryptoAgile, &[4, 11]),
    ("tpm/eventlogs/confidential-gke-debug-251000_eventlog.bin", 55, Form::CryptoAgile, &[4, 11, 12]),
    ("tpm/eventlogs/cos-101-amd-sev.bin", 49, Form::CryptoAgile, &[4, 11, 12]),
    ("tpm/eventlogs/dstack_tpm_eventlog.bin", 46, Form::CryptoAgile, &[4, 11, 12]),
    ("tpm/eventlogs/eventlogwithsp800155.bin", 54, Form::CryptoAgile, &[4, 11, 12]),
    (
        "tpm/eventlogs/goattest_coreos_36_shielded_vm_no_secure_boot_eventlog",
        76,
        Form::CryptoAgile,
        &[4, 11, 12],
    ),
    ("tpm/eventlogs/goattest_crypto_agile_eventlog", 27, Form::CryptoAgile, &[11]),
    ("tpm/eventlogs/goattest_ebs_event_missing_eventlog", 38, Form::Sha1Only, &[4]),
    // Its last event has the register 0xffffffff and is not extended: no padding, although it begins so.
    ("tpm/eventlogs/goattest_option_rom_eventlog", 61, Form::Sha1Only, &[4]),
    ("tpm/eventlogs/goattest_sb_cert_eventlog", 15, Form::CryptoAgile, &[4, 11, 12]),
    ("tpm/eventlogs/goattest_short_no_action_eventlog", 1, Form::Sha1Only, &[4]),
    ("tpm/eventlogs/keylime_uefi_log.bin", 124, Form::CryptoAgile, &[11]),
    ("tpm/eventlogs/rhel8-uefi.bin", 83, Form::CryptoAgile, &[4, 11, 12]),
    ("tpm/eventlogs/ubuntu-2104-no-secure-boot.bin", 106, Form::CryptoAgile, &[4, 11, 12]),
    ("tpm/eventlogs/ubuntu-2404-amd-sevsnp.bin", 117, Form::CryptoAgile, &[4, 11, 12]),
    ("tpm/swtpm/eventlog.bin", 25, Form::CryptoAgile, &[4, 11]),
    ("ccel/dstack_ccel.bin", 19, Form::CryptoAgile, &[12]),
    ("ccel/goeventlog_CCEL_unpadded.data.bin", 20, Form::CryptoAgile, &[12]),
    ("ccel/goeventlog_cos-113-intel-tdx-dupe-separator.bin", 44, Form::CryptoAgile, &[12]),
    ("ccel/goeventlog_cos-113-intel-tdx.bin", 44, Form::CryptoAgile, &[12]),
    ("ccel/trustee_CCEL_AAEL_alibabacloud", 88, Form::CryptoAgile, &[12]),
    ("ccel/trustee_CCEL_data", 6, Form::CryptoAgile, &[12]),
    ("ccel/trustee_CCEL_data_csv", 83, Form::CryptoAgile, &[18]),
    ("ccel/trustee_CCEL_data_gcp", 22, Form::CryptoAgile, &[12]),
    ("ccel/trustee_CCEL_data_grub", 38, Form::CryptoAgile, &[12]),
    ("ccel/trustee_CCEL_data_ovmf", 21, Form::CryptoAgile, &[12]),
];

#[test]
fn every_log_of_the_vectors_is_read_whole() {
    for (name, events, form, banks) in LOGS {
        let Some(bytes) = vector(name) else { return };
        let log = EventLog::parse(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        let ids: Vec<u16> = log.banks().iter().map(|bank| bank.id).collect();
        assert_eq!((log.events().len(), log.form(), ids.as_slice()), (*events, *form, *banks), "{name}");
        // Describing is for people and must at least not fail.
        assert!(log.events().iter().all(|event| event.describe().to_string().len() < bytes.len()));
    }
}

#[test]
fn what_is_no_log_is_refused_at_its_first_impossible_size() {
    for name in [
        "tpm/eventlogs/goattest_windows_gcp_shielded_vm.json",
        "ccel/goeventlog_CCEL.bin",
        "adversarial/nitro_sig_flip.cose",
    ] {
        let Some(bytes) = vector(name) else { return };
        let error = EventLog::parse(&bytes).expect_err(name);
        assert!(
            matches!(error, EventLogError::Truncated { event: 0, field: "the data", .. }),
            "{name}: {error}"
        );
    }
    assert_eq!(EventLog::parse(&[]), Err(EventLogError::Empty));
    assert_eq!(EventLog::parse(&[0xff; 4096]), Err(EventLogError::Empty));
    assert_eq!(EventLog::parse(&vec![1; MAX_LOG + 1]), Err(EventLogError::TooLong(MAX_LOG + 1)));
}

/// The registers that `tpm2_pcrread` wrote down beside the swtpm log.
fn listed_registers(yaml: &str) -> BTreeMap<u32, String> {
    yaml.lines()
        .filter_map(|line| line.split_once(": 0x"))
        .map(|(register, value)| (register.trim().parse().unwrap(), value.to_ascii_lowercase()))
        .collect()
}

#[test]
fn the_replay_of_the_swtpm_log_is_the_listed_registers() {
    let (Some(bytes), Some(yaml)) = (vector("tpm/swtpm/eventlog.bin"), vector("tpm/swtpm/pcrs.yaml")) else {
        return;
    };
    let replayed = EventLog::parse(&bytes).unwrap().replay(Algorithm::Sha256);
    let listed = listed_registers(&String::from_utf8(yaml).unwrap());
    assert!(listed.len() >= 10);
    for (register, value) in listed {
        let found = replayed.get(&register).copied().unwrap_or(Digest::zero(Algorithm::Sha256));
        assert_eq!(found.hex(), value, "register {register}");
    }
}

#[test]
fn the_replay_of_confidential_guests_logs_is_what_others_computed() {
    let expected: [(&str, &[(u32, &str)]); 6] = [
        ("ccel/dstack_ccel.bin", &[(1, "274c2344116d"), (2, "bdcf4ee0f7fd")]),
        (
            "ccel/goeventlog_CCEL_unpadded.data.bin",
            &[(1, "8083cd6898cc"), (2, "6484f0d72c03"), (3, "c3e7ed9d7e90")],
        ),
        (
            "ccel/trustee_CCEL_AAEL_alibabacloud",
            &[(1, "b796e1c11396"), (2, "3b0b906140fc"), (3, "35f2801338c1"), (4, "5e4ecd49d3c7")],
        ),
        ("ccel/trustee_CCEL_data_gcp", &[(1, "3300980705ad"), (2, "204d49f78d29")]),
        ("ccel/trustee_CCEL_data_grub", &[(1, "cec0a104f691"), (2, "6c289e0c6218"), (3, "08919d017ba0")]),
        ("ccel/trustee_CCEL_data_ovmf", &[(1, "8566f998798d"), (2, "775b9f6bfe99"), (3, "94eaf7a7bf39")]),
    ];
    for (name, registers) in expected {
        let Some(bytes) = vector(name) else { return };
        let log = EventLog::parse(&bytes).unwrap();
        for (register, prefix) in registers {
            let found = hex_of(&log, Algorithm::Sha384, *register);
            assert!(found.starts_with(prefix), "{name} register {register}: {found}");
        }
    }
}

#[test]
fn digests_and_types_are_those_that_another_reader_found() {
    let pairs = [
        ("ccel/trustee_CCEL_data_ovmf", "ccel/trustee_CCEL_data_ovmf_out.json"),
        ("ccel/trustee_CCEL_data_grub", "ccel/trustee_CCEL_data_grub_out.json"),
        ("ccel/trustee_CCEL_data", "ccel/trustee_CCEL_data_out.json"),
    ];
    for (name, out) in pairs {
        let (Some(bytes), Some(json)) = (vector(name), vector(out)) else { return };
        let log = EventLog::parse(&bytes).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let others = json["uefi_event_logs"].as_array().unwrap();
        let own = &log.events()[1..];
        assert_eq!(own.len(), others.len(), "{name}");
        for (own, other) in own.iter().zip(others) {
            assert_eq!(u64::from(own.register), other["index"].as_u64().unwrap(), "{name}");
            assert_eq!(own.kind.name().unwrap(), other["type_name"].as_str().unwrap(), "{name}");
            let digest = own.digest(Algorithm::Sha384).unwrap().hex();
            assert_eq!(digest, other["digests"][0]["digest"].as_str().unwrap(), "{name}");
        }
    }
}

/// RTMR 0 to 2 of the quote that belongs to the log (TDX 1.0 quote: header of 48 bytes, RTMRs at 328 of the report).
fn quoted() -> Option<Vec<String>> {
    let quote = vector("tdx/gotdx_cos-113-tdx-quote.dat")?;
    Some((0..3).map(|index| hex::encode(&quote[376 + index * 48..][..48])).collect())
}

fn replayed(name: &str) -> Option<Vec<String>> {
    let log = EventLog::parse(&vector(name)?).unwrap();
    Some((1..=3).map(|register| hex_of(&log, Algorithm::Sha384, register)).collect())
}

#[test]
fn a_log_replays_to_its_quote_and_an_altered_one_does_not() {
    let Some(quoted) = quoted() else { return };
    let good = "ccel/goeventlog_cos-113-intel-tdx.bin";
    assert_eq!(replayed(good).unwrap(), quoted);
    for twin in ["adversarial/ccel_digest_flip.bin", "ccel/goeventlog_cos-113-intel-tdx-dupe-separator.bin"] {
        assert_ne!(replayed(twin).unwrap(), quoted, "{twin}");
    }
}

#[test]
fn altered_data_is_not_noticed_by_the_replay() {
    let good = "ccel/goeventlog_cos-113-intel-tdx.bin";
    let (Some(own), Some(other)) = (vector(good), vector("adversarial/ccel_event_data_flip.bin")) else {
        return;
    };
    let (own, other) = (EventLog::parse(&own).unwrap(), EventLog::parse(&other).unwrap());
    assert_eq!(own.replay(Algorithm::Sha384), other.replay(Algorithm::Sha384));
    let altered: Vec<_> =
        own.events().iter().zip(other.events()).filter(|(own, other)| own != other).collect();
    assert_eq!(altered.len(), 1);
    assert_eq!(altered[0].0.digests, altered[0].1.digests);
    assert!(!altered[0].1.is_covered(Algorithm::Sha384));
}

#[test]
fn data_is_covered_only_by_its_own_digest() {
    let good = event(7, EventType::SEPARATOR, &[0; 4]);
    assert!(good.is_covered(Algorithm::Sha256));
    assert!(!good.is_covered(Algorithm::Sha384));
    assert!(!Event { data: vec![0, 0, 0, 1], ..good }.is_covered(Algorithm::Sha256));
}

#[test]
fn a_size_beyond_the_end_is_refused_without_reserving_it() {
    let Some(bytes) = vector("adversarial/ccel_event_size_huge.bin") else { return };
    let error = EventLog::parse(&bytes).unwrap_err();
    assert!(matches!(
        error,
        EventLogError::Truncated { event: 1, field: "the data", expected: 0x7fff_ffff, .. }
    ));
}

#[test]
fn digests_of_an_unknown_algorithm_are_skipped_by_the_header_s_size() {
    let mut bytes = own_log(&[event(7, EventType::SEPARATOR, &[0; 4])]);
    // SHA3-256 (TCG Algorithm Registry 1.34, table 3) in the header and in the event.
    let ids: Vec<usize> =
        bytes.windows(2).enumerate().filter(|(_, pair)| *pair == [0x0b, 0]).map(|(at, _)| at).collect();
    for at in ids {
        bytes[at] = 0x27;
    }
    let log = EventLog::parse(&bytes).unwrap();
    assert_eq!(log.banks(), [Bank { id: 0x27, digest_size: 32, algorithm: None }]);
    assert!(log.events().iter().all(|event| event.digests.is_empty()));
    assert!(log.replay(Algorithm::Sha256).is_empty());
}

#[test]
fn a_log_of_a_hygon_platform_replays_in_sm3() {
    let Some(bytes) = vector("ccel/trustee_CCEL_data_csv") else { return };
    let log = EventLog::parse(&bytes).unwrap();
    assert_eq!(log.banks(), [Bank { id: 0x12, digest_size: 32, algorithm: Some(Algorithm::Sm3) }]);
    let separators: Vec<_> = log.events().iter().filter(|event| event.kind == EventType::SEPARATOR).collect();
    assert!(!separators.is_empty() && separators.iter().all(|event| event.is_covered(Algorithm::Sm3)));
    assert!(!log.replay(Algorithm::Sm3).is_empty());
    assert!(log.replay(Algorithm::Sha256).is_empty());
}

/// A crypto-agile log of our own with a SHA-256 bank.
fn own_log(events: &[Event]) -> Vec<u8> {
    let mut spec = b"Spec ID Event03\0".to_vec();
    spec.extend([0, 0, 0, 0, 0, 2, 0, 2]);
    spec.extend(1u32.to_le_bytes());
    spec.extend([0x0b, 0, 32, 0, 0]);
    let mut log = [0u32.to_le_bytes(), 3u32.to_le_bytes()].concat();
    log.extend([0; 20]);
    log.extend(u32::try_from(spec.len()).unwrap().to_le_bytes());
    log.extend(spec);
    // Each beside the header alone: appending reads what is there before.
    let header = log.clone();
    for event in events {
        log.extend(&EventLog::append(&header, event).unwrap()[header.len()..]);
    }
    log
}

fn event(register: u32, kind: EventType, data: &[u8]) -> Event {
    Event { register, kind, digests: vec![Digest::sha256(data)], data: data.to_vec() }
}

fn locality(value: u8) -> Event {
    let data = [b"StartupLocality\0".as_slice(), &[value]].concat();
    Event { register: 0, kind: EventType::NO_ACTION, digests: Vec::new(), data }
}

#[test]
fn the_startup_locality_begins_register_0_and_no_other() {
    let separators = [event(0, EventType::SEPARATOR, &[0; 4]), event(1, EventType::SEPARATOR, &[0; 4])];
    let plain = EventLog::parse(&own_log(&separators)).unwrap().replay(Algorithm::Sha256);
    let log = own_log(&[&[locality(3)], separators.as_slice()].concat());
    let log = EventLog::parse(&log).unwrap();
    let started = log.replay(Algorithm::Sha256);
    assert_eq!((log.startup_locality(), startup_locality(log.events())), (3, 3));
    let mut zero = [0; 32];
    zero[31] = 3;
    let first = Digest::from_bytes(Algorithm::Sha256, &zero).unwrap();
    assert_eq!(started[&0], first.extend(Digest::sha256(&[0; 4]).as_bytes()));
    assert_ne!(started[&0], plain[&0]);
    assert_eq!(started[&1], plain[&1]);
}

#[test]
fn an_impossible_or_late_startup_locality_is_refused() {
    let impossible = EventLog::append(&own_log(&[]), &locality(7)).unwrap();
    assert_eq!(EventLog::parse(&impossible), Err(EventLogError::StartupLocality { event: 1, found: 7 }));
    let begun = own_log(&[event(0, EventType::SEPARATOR, &[0; 4])]);
    let late = EventLog::append(&begun, &locality(3)).unwrap();
    assert_eq!(EventLog::parse(&late), Err(EventLogError::StartupLocality { event: 2, found: 3 }));
}

#[test]
fn only_the_extension_of_register_0_ends_the_time_for_startup_localities() {
    // As many as a log may have: the last one before the extension counts, and other registers do not matter.
    let mut events: Vec<Event> = (0..10_000).map(|number| locality([0, 3, 4][number % 3])).collect();
    events.push(event(1, EventType::SEPARATOR, &[0; 4]));
    events.push(locality(3));
    let begun = own_log(&events);
    assert_eq!(EventLog::parse(&begun).unwrap().startup_locality(), 3);
    let begun = EventLog::append(&begun, &event(0, EventType::SEPARATOR, &[0; 4])).unwrap();
    let late = EventLog::append(&begun, &locality(4)).unwrap();
    assert_eq!(EventLog::parse(&late), Err(EventLogError::StartupLocality { event: 10_004, found: 4 }));
}

#[test]
fn padding_ends_a_log_and_anything_else_does_not() {
    let log = own_log(&[event(7, EventType::SEPARATOR, &[0; 4])]);
    let good = EventLog::parse(&log).unwrap();
    for filler in [0x00, 0xff] {
        let padded = [log.as_slice(), &[filler; 4096]].concat();
        assert_eq!(EventLog::parse(&padded).unwrap(), good);
        let trailed = [padded.as_slice(), &[1]].concat();
        assert!(EventLog::parse(&trailed).is_err());
    }
}

#[test]
fn headers_and_events_that_contradict_each_other_are_refused() {
    let good = own_log(&[event(7, EventType::SEPARATOR, &[0; 4])]);
    let header = own_log(&[]).len();
    let with = |at: usize, value: &[u8]| {
        let mut log = good.clone();
        log[at..at + value.len()].copy_from_slice(value);
        EventLog::parse(&log).unwrap_err()
    };
    // The header: size of SHA-256, and the number of banks.
    assert_eq!(with(62, &[20, 0]), EventLogError::Bank { id: 11, size: 20 });
    assert_eq!(with(56, &[0; 4]), EventLogError::BankCount { found: 0 });
    assert_eq!(with(56, &[0xff; 4]), EventLogError::BankCount { found: u32::MAX });
    // The event: register, number of digests, algorithm.
    assert_eq!(with(header, &[99, 0]), EventLogError::Register { event: 1, register: 99 });
    assert_eq!(with(header + 8, &[2]), EventLogError::DigestCount { event: 1, expected: 1, found: 2 });
    assert_eq!(with(header + 12, &[4]), EventLogError::DigestAlgorithm { event: 1, id: 4 });
}

#[test]
fn more_events_than_firmware_makes_are_refused() {
    let separator = event(7, EventType::SEPARATOR, &[0; 4]);
    let one = own_log(std::slice::from_ref(&separator));
    let header = own_log(&[]).len();
    let mut log = one.clone();
    for _ in 0..MAX_EVENTS {
        log.extend(&one[header..]);
    }
    assert_eq!(EventLog::parse(&log), Err(EventLogError::TooManyEvents));
}

#[test]
fn what_the_agent_appends_replays_and_reads_back() {
    let digest = Digest::sha256(b"init-data");
    let text = "console=ttyS0 quiet initrd=initrd";
    let padded = [own_log(&[event(7, EventType::SEPARATOR, &[0; 4])]), vec![0xff; 64]].concat();
    let log = EventLog::append(&padded, &init_data_event(&digest, &[Algorithm::Sha256])).unwrap();
    let log = EventLog::append(&log, &command_line_note(&format!("{text}\n"))).unwrap();
    let log = EventLog::parse(&log).unwrap();
    let registers = log.replay(Algorithm::Sha256);
    assert_eq!(registers[&8], Digest::zero(Algorithm::Sha256).extend(digest.as_bytes()));
    assert!(!registers.contains_key(&9), "a note is not extended");
    assert_eq!(noted_command_line(log.events()), Some(text));
    let told = log.events()[2].describe().to_string();
    assert_eq!(told, digest.to_string());
}

#[test]
fn init_data_of_each_algorithm_goes_into_each_bank_cut_or_padded() {
    for algorithm in [Algorithm::Sha256, Algorithm::Sha384, Algorithm::Sha512] {
        let digest = Digest::of(algorithm, b"init-data");
        let event = init_data_event(&digest, &[Algorithm::Sha256, Algorithm::Sha384]);
        for bank in [Algorithm::Sha256, Algorithm::Sha384] {
            let extended = event.digest(bank).unwrap();
            let kept = bank.len().min(algorithm.len());
            assert_eq!(extended.as_bytes()[..kept], digest.as_bytes()[..kept], "{algorithm} in {bank}");
            assert!(extended.as_bytes()[kept..].iter().all(|byte| *byte == 0), "{algorithm} in {bank}");
            // Neither a hash over the digest nor other init-data gives the same.
            assert_ne!(*extended, Digest::of(bank, digest.as_bytes()));
            assert_ne!(*extended, init_data_in_bank(&Digest::of(algorithm, b"other"), bank));
        }
    }
}

#[test]
fn an_event_without_a_digest_for_a_bank_is_not_appended() {
    let wrong = Event { digests: Vec::new(), ..event(7, EventType::SEPARATOR, &[0; 4]) };
    let error = EventLog::append(&own_log(&[]), &wrong).unwrap_err();
    assert_eq!(error, EventLogError::MissingDigest { id: 11 });
}

#[test]
fn events_are_described_for_people() {
    let Some(bytes) = vector("tpm/swtpm/eventlog.bin") else { return };
    let log = EventLog::parse(&bytes).unwrap();
    let told: Vec<String> =
        log.events().iter().map(|event| format!("{}: {}", event.kind, event.describe())).collect();
    for expected in
        ["EV_EFI_VARIABLE_DRIVER_CONFIG: variable SecureBoot (0 bytes)", "EV_SEPARATOR: separator"]
    {
        assert!(told.iter().any(|line| line == expected), "{expected} in {told:#?}");
    }
    assert_eq!(EventType(0x1234).to_string(), "event type 0x1234");
    // A node that says it is shorter than its header ends the path.
    assert_eq!(device_path(&[4, 4, 3, 0, 4, 4]), "");
    assert_eq!(device_path(&[1, 1, 6, 0, 2, 3, 0x7f, 0xff, 4, 0]), "Pci(0x3,0x2)");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        if let Ok(log) = EventLog::parse(&bytes) {
            log.events().iter().for_each(|event| drop(event.describe().to_string()));
        }
    }

    #[test]
    fn no_mutation_of_a_log_makes_the_reader_panic(
        at in any::<prop::sample::Index>(),
        value in any::<u32>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let notes = command_line_note("quiet");
        let mut log = own_log(&[
            locality(3),
            event(7, EventType::EFI_VARIABLE_DRIVER_CONFIG, &[1; 60]),
            event(4, EventType::EFI_BOOT_SERVICES_APPLICATION, &[2; 80]),
            event(9, EventType::EVENT_TAG, &[3; 30]),
            notes,
        ]);
        let at = at.index(log.len() - 4);
        log[at..at + 4].copy_from_slice(&value.to_le_bytes());
        log.truncate(cut.index(log.len()) + 1);
        if let Ok(parsed) = EventLog::parse(&log) {
            prop_assert!(parsed.replay(Algorithm::Sha256).len() <= parsed.events().len());
            parsed.events().iter().for_each(|event| drop(event.describe().to_string()));
            let _ = EventLog::append(&log, &event(1, EventType::SEPARATOR, &[0; 4]));
        }
    }
}

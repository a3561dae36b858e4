//! Volumes made here and by `cryptsetup`, each read by the other; and what is refused.

use std::io::{Cursor, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use coffer_core_secret::SecretBytes;

use crate::binary::{self, Place};
use crate::*;

const UUID: &str = "1e8d6f0c-6a3a-4c0b-9e0b-6c7c1d2a3b4c";

fn passphrase() -> SecretBytes {
    SecretBytes::new((0..32).map(|i| i * 7 + 3).collect())
}

fn counting() -> impl FnMut(&mut [u8]) -> Result<(), LuksError> {
    let mut state = 1_u64;
    move |bytes| {
        for byte in bytes {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (state >> 56) as u8;
        }
        Ok(())
    }
}

fn made() -> (Vec<u8>, Unlocked) {
    made_with(Integrity::None)
}

fn made_with(integrity: Integrity) -> (Vec<u8>, Unlocked) {
    let mut volume = Cursor::new(Vec::new());
    let making = Making { uuid: UUID, label: "data", passphrase: &passphrase(), integrity };
    let made = make(&making, &mut counting(), &mut volume).unwrap();
    let mut bytes = volume.into_inner();
    bytes.resize(DATA_OFFSET as usize + 4096, 0);
    (bytes, made)
}

/// The volume with its JSON replaced in both headers, which are valid again.
fn with_json(mut bytes: Vec<u8>, from: &str, to: &str) -> Vec<u8> {
    let mut header = binary::read(&mut Cursor::new(&bytes)).unwrap();
    let json = String::from_utf8(header.json).unwrap();
    assert!(json.contains(from), "{from} is in {json}");
    header.json = json.replacen(from, to, 1).into_bytes();
    for (place, at) in [(Place::Primary, 0), (Place::Secondary, 0x4000)] {
        let new = binary::encode(&header, place).unwrap();
        bytes[at..at + new.len()].copy_from_slice(&new);
    }
    bytes
}

fn opened(bytes: &[u8]) -> Result<Unlocked, LuksError> {
    let mut cursor = Cursor::new(bytes);
    read(&mut cursor)?.unlock(&mut cursor, &passphrase())
}

#[test]
fn volume_opens_with_its_key_and_is_a_function_of_its_inputs() {
    let (bytes, made) = made();
    assert!(opened(&bytes).unwrap().key.equals(made.key.expose()));
    let volume = read(&mut Cursor::new(&bytes)).unwrap();
    assert_eq!((volume.uuid(), volume.label(), volume.sector_size()), (UUID, "data", 4096));
    assert_eq!((volume.data_offset(), volume.records_offset().unwrap()), (16 << 20, (16 << 20) - 8192));
    assert_eq!(bytes, self::made().0);
}

#[test]
fn torn_primary_header_is_read_from_the_secondary() {
    for torn in [0, 100, 450, 5000] {
        let (mut bytes, made) = made();
        bytes[torn] ^= 1;
        assert!(opened(&bytes).unwrap().key.equals(made.key.expose()), "byte {torn}");
        bytes[0x4000 + torn] ^= 1;
        assert_eq!(opened(&bytes).err().map(|e| e.code()), Some("volume.not-luks2"), "byte {torn}");
    }
}

#[test]
fn newer_of_two_valid_headers_counts() {
    let (mut bytes, _) = made();
    let mut header = binary::read(&mut Cursor::new(&bytes)).unwrap();
    (header.sequence, header.label) = (2, "newer".into());
    let new = binary::encode(&header, Place::Secondary).unwrap();
    bytes[0x4000..0x8000].copy_from_slice(&new);
    assert_eq!(read(&mut Cursor::new(&bytes)).unwrap().label(), "newer");
}

#[test]
fn another_key_a_short_key_and_a_changed_slot_are_refused() {
    let (mut bytes, _) = made();
    let mut cursor = Cursor::new(&bytes);
    let volume = read(&mut cursor).unwrap();
    let code = |key: Vec<u8>| {
        volume.unlock(&mut Cursor::new(&bytes), &SecretBytes::new(key)).err().map(|error| error.code())
    };
    assert_eq!(code(vec![9; 32]), Some("volume.wrong-key"));
    assert_eq!(code(vec![9; 31]), Some("volume.short-key"));
    bytes[0x8000 + 70_000] ^= 1;
    assert_eq!(opened(&bytes).err().map(|e| e.code()), Some("volume.wrong-key"));
}

#[test]
fn what_is_not_accepted_is_refused_with_its_reason() {
    let (bytes, _) = made();
    let segment = "\"iv_tweak\":\"0\",\"encryption\":\"aes-xts-plain64\"";
    let cases = [
        (segment, "\"iv_tweak\":\"0\",\"encryption\":\"cipher_null-ecb\"", "cipher"),
        ("\"iv_tweak\":\"0\"", "\"iv_tweak\":\"8\"", "first tweak"),
        ("\"type\":\"crypt\"", "\"type\":\"linear\"", "a segment of type"),
        ("\"size\":\"dynamic\"", "\"size\":\"4096\"", "size"),
        ("\"sector_size\":4096", "\"sector_size\":1024", "sector size"),
        ("\"sector_size\":4096", "\"sector_size\":4096,\"flags\":[\"backup-final\"]", "segment flags"),
        ("\"stripes\":4000", "\"stripes\":1", "anti-forensic stripes"),
        ("\"hash\":\"sha256\"", "\"hash\":\"sha1\"", "hash"),
        ("\"iterations\":1000", "\"iterations\":4000000000", "iterations"),
        ("\"keyslots_size\":\"16736256\"", "\"keyslots_size\":\"99999999\"", "key slots end"),
        ("\"offset\":\"32768\"", "\"offset\":\"0\"", "not within"),
        ("\"digests\":{\"0\":", "\"digests\":{\"0\":{},\"1\":", "missing field"),
        (
            "\"config\":{",
            "\"config\":{\"requirements\":{\"mandatory\":[\"online-reencrypt\"]},",
            "a requirement",
        ),
        ("{", "", "malformed"),
    ];
    for (from, to, reason) in cases {
        let error = opened(&with_json(bytes.clone(), from, to)).err().map(|error| error.to_string());
        assert!(error.as_ref().is_some_and(|error| error.contains(reason)), "{to}: {error:?}");
    }
}

#[test]
fn volume_with_argon2_alone_is_refused_and_says_what_to_run() {
    let json = ("\"kdf\":{\"type\":\"pbkdf2\"", "\"kdf\":{\"type\":\"argon2id\"");
    let error = opened(&with_json(made().0, json.0, json.1)).err().unwrap();
    assert_eq!(error.code(), "volume.argon2");
    assert!(error.to_string().contains("cryptsetup luksConvertKey --pbkdf pbkdf2"));
}

#[test]
fn volume_with_integrity_has_a_longer_key_and_says_so() {
    let (bytes, made) = made_with(Integrity::HmacSha256);
    let volume = read(&mut Cursor::new(&bytes)).unwrap();
    assert_eq!(volume.integrity(), Integrity::HmacSha256);
    let opened = opened(&bytes).unwrap();
    assert!(opened.key.equals(made.key.expose()));
    assert!(opened.mac.unwrap().equals(made.mac.unwrap().expose()));
    let plain = self::made();
    assert!(plain.1.mac.is_none());
    assert_eq!(read(&mut Cursor::new(&plain.0)).unwrap().integrity(), Integrity::None);
    let cases = [
        ("\"type\":\"hmac(sha256)\"", "\"type\":\"none\"", "integrity"),
        ("\"journal_encryption\":\"none\"", "\"journal_encryption\":\"cbc(aes)\"", "an encrypted journal"),
        ("\"key_size\":96", "\"key_size\":64", "a key of"),
        ("\"size\":\"385024\"", "\"size\":\"258048\"", "not within"),
    ];
    for (from, to, reason) in cases {
        let error = self::opened(&with_json(bytes.clone(), from, to)).err().map(|error| error.to_string());
        assert!(error.as_ref().is_some_and(|error| error.contains(reason)), "{to}: {error:?}");
    }
}

#[test]
fn cryptsetup_reads_and_opens_a_volume_with_integrity() {
    let (_folder, volume, key) = place();
    std::fs::write(&volume, made_with(Integrity::HmacSha256).0).unwrap();
    let Some((shown, dump)) = cryptsetup(&["luksDump"], &volume) else { return };
    assert!(shown && dump.contains("integrity: hmac(sha256)"), "{dump}");
    let (opens, why) = cryptsetup(&["open", "--test-passphrase", &key], &volume).unwrap();
    assert!(opens, "{why}");
}

#[test]
fn volume_whose_key_slots_reach_the_data_has_no_records() {
    let bytes = with_json(made().0, "16736256", "16744448");
    assert!(matches!(read(&mut Cursor::new(bytes)).unwrap().records_offset(), Err(LuksError::NoRecords)));
}

#[test]
fn records_are_those_of_this_volume_and_the_older_survives_a_torn_write() {
    let key = GenerationKey::derive(&made().1.key, UUID).unwrap();
    let mut area = vec![0; RECORDS];
    assert_eq!(key.decode(&area), None);
    let generations = [0, 1, 2].map(|number| Generation { number, mark: [number as u8; MARK] });
    for generation in &generations {
        let (at, block) = key.encode(generation);
        area[at as usize..at as usize + block.len()].copy_from_slice(&block);
    }
    let [_, one, two] = generations;
    assert_eq!(key.decode(&area), Some(Record { newest: two, before: Some(one) }));
    let other = GenerationKey::derive(&made().1.key, "another").unwrap();
    assert_eq!(other.decode(&area), None);
    for byte in [3, 12, 20, 40] {
        let mut torn = area.clone();
        torn[byte] ^= 1;
        assert_eq!(key.decode(&torn), Some(Record { newest: one, before: None }), "byte {byte}");
    }
}

fn cryptsetup(arguments: &[&str], volume: &Path) -> Option<(bool, String)> {
    let mut child = Command::new("/usr/sbin/cryptsetup")
        .args(arguments)
        .arg(volume)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|why| println!("skipped: cryptsetup (package cryptsetup-bin): {why}"))
        .ok()?;
    drop(child.stdin.take());
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
}

fn place() -> (tempfile::TempDir, std::path::PathBuf, String) {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::File::create(&key).unwrap().write_all(passphrase().expose()).unwrap();
    let (volume, key) = (folder.path().join("volume"), format!("--key-file={}", key.display()));
    (folder, volume, key)
}

#[test]
fn cryptsetup_reads_and_opens_what_is_made_here() {
    let (_folder, volume, key) = place();
    let (bytes, made) = made();
    std::fs::write(&volume, bytes).unwrap();
    let Some((shown, dump)) = cryptsetup(&["luksDump"], &volume) else { return };
    assert!(shown, "{dump}");
    for text in [UUID, "aes-xts-plain64", "sector: 4096 [bytes]", "offset: 16777216 [bytes]"] {
        assert!(dump.contains(text), "{text} is in {dump}");
    }
    let (opens, why) = cryptsetup(&["open", "--test-passphrase", &key], &volume).unwrap();
    assert!(opens, "{why}");
    let arguments = ["luksDump", "--dump-volume-key", "--batch-mode", &key];
    let (shown, dump) = cryptsetup(&arguments, &volume).unwrap();
    assert!(shown, "{dump}");
    let digits: String = made.key.expose().iter().map(|byte| format!("{byte:02x}")).collect();
    let found: String = dump
        .split("MK dump:")
        .nth(1)
        .or(dump.split("Volume key:").nth(1))
        .unwrap_or(&dump)
        .chars()
        .filter(|c| c.is_ascii_hexdigit())
        .collect();
    assert!(found.contains(&digits), "{dump}");
}

#[test]
fn what_cryptsetup_makes_opens_here_but_not_with_argon2() {
    let (_folder, volume, key) = place();
    std::fs::File::create(&volume).unwrap().set_len(20 << 20).unwrap();
    let pbkdf2 = ["luksFormat", "--type=luks2", "--batch-mode", "--pbkdf=pbkdf2", &key];
    for (sector, hash) in [("512", "sha256"), ("4096", "sha512")] {
        let (sector, hash) = (format!("--sector-size={sector}"), format!("--hash={hash}"));
        let arguments = [&pbkdf2[..], &["--pbkdf-force-iterations=1000", &sector, &hash]].concat();
        let Some((made, why)) = cryptsetup(&arguments, &volume) else { return };
        assert!(made, "{why}");
        let mut file = std::fs::File::open(&volume).unwrap();
        let read = read(&mut file).unwrap();
        read.unlock(&mut file, &passphrase()).unwrap();
        assert!(matches!(read.records_offset(), Err(LuksError::NoRecords)));
    }
    let argon2 = [
        "luksFormat",
        "--type=luks2",
        "--batch-mode",
        "--pbkdf=argon2id",
        "--pbkdf-memory=32",
        "--pbkdf-force-iterations=4",
        "--pbkdf-parallel=1",
        &key,
    ];
    let (made, why) = cryptsetup(&argon2, &volume).unwrap();
    assert!(made, "{why}");
    let mut file = std::fs::File::open(&volume).unwrap();
    assert!(matches!(read(&mut file), Err(LuksError::Argon2)));
}

//! cryptsetup opens ours and we open cryptsetup's; each defect is refused by its cause, or the other copy is used.

use std::fs::File;
use std::io::Cursor;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::*;

fn passphrase(byte: u8) -> SecretBytes {
    SecretBytes::new(vec![byte; 32])
}

fn options() -> Options {
    Options {
        uuid: *b"sixteen bytes id",
        label: "data".into(),
        key_address: Some("kbs:///default/volume-key/data".into()),
    }
}

fn made() -> (Vec<u8>, VolumeKey) {
    let mut out = Cursor::new(vec![0; DATA_OFFSET as usize + 4096]);
    let (_, key) = Volume::create(&mut out, &options(), &passphrase(7)).unwrap();
    (out.into_inner(), key)
}

fn opened(bytes: &[u8]) -> Result<VolumeKey, LuksError> {
    let mut volume = Cursor::new(bytes);
    Volume::open(&mut volume)?.unlock(&mut volume, &passphrase(7))
}

#[test]
fn a_volume_opens_with_its_key_and_with_no_other() {
    let (bytes, key) = made();
    let mut reader = Cursor::new(&bytes);
    let volume = Volume::open(&mut reader).unwrap();
    assert_eq!((volume.data_offset(), volume.sector_size(), volume.recovered()), (DATA_OFFSET, 4096, None));
    assert_eq!((volume.label(), volume.uuid()), ("data", "73697874-6565-6e20-6279-746573206964"));
    assert_eq!(volume.key_address(), Some("kbs:///default/volume-key/data"));
    assert!(volume.unlock(&mut reader, &passphrase(7)).unwrap().equals(key.expose()));
    assert!(matches!(volume.unlock(&mut reader, &passphrase(8)), Err(LuksError::WrongKey(1))));
    // Two volumes never have one key.
    assert!(!made().1.equals(key.expose()));
}

fn cryptsetup(words: &[&str]) -> Option<(bool, String)> {
    let Ok(output) = Command::new("/usr/sbin/cryptsetup").args(words).output() else {
        println!("skipped: no cryptsetup (package cryptsetup-bin)");
        return None;
    };
    let text = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The volume's key, as cryptsetup shows it.
fn dumped(volume: &str, key: &str) -> String {
    let words = ["luksDump", "--dump-volume-key", "--batch-mode", "--key-file", key, volume];
    let (done, told) = cryptsetup(&words).unwrap();
    assert!(done, "{told}");
    let (_, hex) = told.split_once("MK dump:").unwrap();
    hex.chars().filter(|c| c.is_ascii_hexdigit()).collect()
}

#[test]
fn cryptsetup_opens_what_we_make() {
    let folder = tempfile::tempdir().unwrap();
    let [volume, right, wrong] = ["volume", "right", "wrong"].map(|name| folder.path().join(name));
    let (bytes, key) = made();
    std::fs::write(&volume, bytes).unwrap();
    std::fs::write(&right, [7; 32]).unwrap();
    std::fs::write(&wrong, [8; 32]).unwrap();
    let open =
        |key: &Path| cryptsetup(&["open", "--test-passphrase", "--key-file", text(key), text(&volume)]);
    let Some((done, told)) = open(&right) else { return };
    assert!(done, "{told}");
    assert!(!open(&wrong).unwrap().0);
    assert_eq!(dumped(text(&volume), text(&right)), hex::encode(key.expose()));
    let (_, told) = cryptsetup(&["luksDump", text(&volume)]).unwrap();
    for part in [
        "aes-xts-plain64",
        "sector: 4096 [bytes]",
        "offset: 16777216 [bytes]",
        "0: coffer",
        "Label:         \tdata",
    ] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    // It also changes one, and we open what it made of it: a second slot, and a first that is gone.
    let words = [
        "luksChangeKey",
        "--batch-mode",
        "--pbkdf",
        "pbkdf2",
        "--pbkdf-force-iterations",
        "1000",
        "--key-file",
    ];
    let (done, told) =
        cryptsetup(&[&words[..], &[text(&right), text(&volume), text(&wrong)]].concat()).unwrap();
    assert!(done, "{told}");
    let mut file = File::open(&volume).unwrap();
    let changed = Volume::open(&mut file).unwrap();
    assert!(changed.unlock(&mut file, &passphrase(8)).unwrap().equals(key.expose()));
    assert!(matches!(changed.unlock(&mut file, &passphrase(7)), Err(LuksError::WrongKey(_))));
}

#[test]
fn we_open_what_cryptsetup_makes() {
    let folder = tempfile::tempdir().unwrap();
    let [volume, key] = ["volume", "key"].map(|name| folder.path().join(name));
    std::fs::write(&key, [7; 32]).unwrap();
    for (sectors, derivation) in [("512", "pbkdf2"), ("4096", "pbkdf2"), ("4096", "argon2id")] {
        File::create(&volume).unwrap().set_len(64 << 20).unwrap();
        let mut words = vec![
            "luksFormat",
            "--batch-mode",
            "--type",
            "luks2",
            "--sector-size",
            sectors,
            "--pbkdf",
            derivation,
        ];
        words.extend(match derivation {
            "pbkdf2" => &["--pbkdf-force-iterations", "1000"][..],
            _ => &["--pbkdf-force-iterations", "4", "--pbkdf-memory", "64"],
        });
        let Some((done, told)) =
            cryptsetup(&[&words[..], &["--key-file", text(&key), text(&volume)]].concat())
        else {
            return;
        };
        assert!(done, "{told}");
        let mut file = File::open(&volume).unwrap();
        let found = Volume::open(&mut file).unwrap();
        assert_eq!(found.sector_size().to_string(), sectors);
        let unlocked = found.unlock(&mut file, &passphrase(7));
        match derivation {
            "pbkdf2" => {
                assert_eq!(hex::encode(unlocked.unwrap().expose()), dumped(text(&volume), text(&key)))
            }
            _ => assert!(unlocked.map(drop).unwrap_err().to_string().contains("luksConvertKey")),
        }
    }
    File::create(&volume).unwrap().set_len(64 << 20).unwrap();
    let first =
        ["luksFormat", "--batch-mode", "--type", "luks1", "--pbkdf-force-iterations", "1000", "--key-file"];
    assert!(cryptsetup(&[&first[..], &[text(&key), text(&volume)]].concat()).unwrap().0);
    assert!(matches!(Volume::open(&mut File::open(&volume).unwrap()), Err(LuksError::Version(1))));
}

#[test]
fn one_broken_copy_is_told_and_two_are_refused() {
    let (bytes, key) = made();
    for (at, copy) in
        [(0, Copy::Primary), (5000, Copy::Primary), (16_384, Copy::Secondary), (21_000, Copy::Secondary)]
    {
        let mut twin = bytes.clone();
        twin[at] ^= 1;
        let mut reader = Cursor::new(&twin);
        let volume = Volume::open(&mut reader).unwrap();
        assert_eq!(volume.recovered(), Some(copy), "byte {at}");
        assert!(volume.unlock(&mut reader, &passphrase(7)).unwrap().equals(key.expose()));
    }
    let mut twin = bytes.clone();
    twin[5000] ^= 1;
    twin[21_000] ^= 1;
    assert!(matches!(opened(&twin), Err(LuksError::Broken { .. })));
    (twin[0], twin[16_384]) = (0, 0);
    assert!(matches!(opened(&twin), Err(LuksError::Magic)));
    for length in [0, 100, 4096, 10_000] {
        assert!(opened(&bytes[..length]).is_err(), "{length} bytes");
    }
    // A changed stripe opens nothing.
    let mut twin = bytes;
    twin[100_000] ^= 1;
    assert!(matches!(opened(&twin), Err(LuksError::WrongKey(1))));
}

/// A volume whose metadata were changed, with checksums that fit.
fn with(change: impl Fn(&mut Value)) -> Result<VolumeKey, LuksError> {
    let (mut bytes, _) = made();
    let end = bytes[4096..].iter().position(|byte| *byte == 0).unwrap() + 4096;
    let mut json: Value = serde_json::from_slice(&bytes[4096..end]).unwrap();
    change(&mut json);
    let binary = Binary::read(&mut Cursor::new(&bytes), Copy::Primary).unwrap().0;
    for copy in [Copy::Primary, Copy::Secondary] {
        let encoded = binary.encode(copy, json.to_string().as_bytes()).unwrap();
        let at = binary.offset(copy) as usize;
        bytes[at..at + encoded.len()].copy_from_slice(&encoded);
    }
    opened(&bytes)
}

#[test]
fn each_defect_of_the_metadata_is_refused_by_its_cause() {
    assert!(with(|_| {}).is_ok());
    let slot = |json: &mut Value| json["keyslots"]["0"].take();
    type Change = Box<dyn Fn(&mut Value)>;
    let cases: Vec<(Change, &str)> = vec![
        (Box::new(|json| json["segments"] = json!({})), "0 data segments"),
        (Box::new(|json| json["segments"]["0"]["encryption"] = json!("aes-cbc-essiv:sha256")), "aes-cbc"),
        (Box::new(|json| json["segments"]["0"]["sector_size"] = json!(1000)), "data segment"),
        (Box::new(|json| json["segments"]["0"]["size"] = json!("4096")), "data segment"),
        (Box::new(|json| json["segments"]["0"]["integrity"] = json!({"type": "hmac"})), "data segment"),
        (Box::new(|json| json["segments"]["0"]["offset"] = json!("17")), "byte 17"),
        (Box::new(|json| json["segments"]["0"]["offset"] = json!("18446744073709551615")), "no number"),
        (Box::new(|json| json["config"]["requirements"] = json!(["online-reencrypt"])), "reencrypted"),
        (Box::new(|json| json["keyslots"] = json!({})), "no key slot"),
        (Box::new(|json| json["keyslots"]["0"]["type"] = json!("reencrypt")), "reencrypt"),
        (Box::new(|json| json["keyslots"]["0"]["kdf"]["type"] = json!("argon2id")), "argon2id"),
        (Box::new(|json| json["keyslots"]["0"]["kdf"]["hash"] = json!("sha1")), "sha1"),
        (Box::new(|json| json["keyslots"]["0"]["kdf"]["iterations"] = json!(0)), "0 rounds"),
        (Box::new(|json| json["keyslots"]["0"]["kdf"]["iterations"] = json!(4_000_000_000_u32)), "rounds"),
        (Box::new(|json| json["keyslots"]["0"]["kdf"]["salt"] = json!("!")), "salt"),
        (Box::new(|json| json["keyslots"]["0"]["af"]["stripes"] = json!(4_000_000)), "key slot with"),
        (Box::new(|json| json["keyslots"]["0"]["area"]["offset"] = json!("16777216")), "where data is"),
        (Box::new(|json| json["keyslots"]["0"]["area"]["size"] = json!("512")), "where data is"),
        (Box::new(|json| json["digests"] = json!({})), "no digest"),
        (Box::new(|json| json["digests"]["0"]["digest"] = json!("AAAA")), "32 bytes"),
        (Box::new(|json| json["digests"]["0"]["digest"] = json!("A".repeat(43) + "=")), "opens none"),
        (Box::new(move |json| drop(slot(json))), "key slot"),
        (Box::new(|json| *json = json!([])), "malformed"),
    ];
    for (change, cause) in cases {
        let refusal = with(change).map(drop).unwrap_err().to_string();
        assert!(refusal.contains(cause), "expected {cause:?} in {refusal:?}");
    }
}

#[test]
fn names_that_do_not_fit_are_refused() {
    let mut out = Cursor::new(Vec::new());
    let long = Options { label: "x".repeat(48), ..options() };
    assert!(matches!(Volume::create(&mut out, &long, &passphrase(7)), Err(LuksError::TooLong { .. })));
    let long = Options { key_address: Some("x".repeat(20_000)), ..options() };
    assert!(matches!(Volume::create(&mut out, &long, &passphrase(7)), Err(LuksError::TooLong { .. })));
}

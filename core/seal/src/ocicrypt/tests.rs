//! Layers read back; changes, wrong keys and other schemes are refused by their cause; openssl agrees.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coffer_core_digest::Digest;
use coffer_core_oci::manifest::Annotations;
use coffer_core_secret::SecretBytes;

use super::*;

const NAME: &str = "kbs:///default/image-key/web";

fn kek(byte: u8) -> SecretBytes {
    SecretBytes::new(vec![byte; KEY])
}

fn layer(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 13 / 5 % 256) as u8).collect()
}

fn encrypted(len: usize) -> (Vec<u8>, EncryptedLayer) {
    let mut cipher = Vec::new();
    let encrypted = encrypt(&mut layer(len).as_slice(), &mut cipher, NAME, &kek(1)).unwrap();
    assert_eq!((encrypted.digest, encrypted.size), (Digest::sha256(&cipher), len as u64));
    (cipher, encrypted)
}

fn open(cipher: &[u8], annotations: &Annotations, key: &SecretBytes) -> Result<Vec<u8>, OcicryptError> {
    let locked = Locked::from_annotations(annotations)?;
    let mut plain = Vec::new();
    let opened = locked.unlock(NAME, key)?.decrypt(&mut &cipher[..], &mut plain)?;
    assert_eq!(*opened.digest(), Digest::sha256(&plain));
    Ok(plain)
}

#[test]
fn encrypted_layer_reads_back() {
    for len in [0, 1, 15, 16, 17, 65_535, 65_536, 200_001] {
        let (cipher, encrypted) = encrypted(len);
        assert!(open(&cipher, &encrypted.annotations, &kek(1)).unwrap() == layer(len), "{len} bytes");
        let locked = Locked::from_annotations(&encrypted.annotations).unwrap();
        assert_eq!(locked.key_names().collect::<Vec<_>>(), [NAME]);
    }
}

#[test]
fn changed_ciphertext_is_refused_even_where_the_plaintext_was_already_read() {
    let (mut cipher, encrypted) = encrypted(100_000);
    cipher[99_999] ^= 1;
    let refused = open(&cipher, &encrypted.annotations, &kek(1));
    assert!(matches!(refused, Err(OcicryptError::Changed)));
    let cut = &cipher[..50_000];
    assert!(matches!(open(cut, &encrypted.annotations, &kek(1)), Err(OcicryptError::Changed)));
}

#[test]
fn decryptor_that_was_read_in_part_still_checks_the_rest() {
    use std::io::Read;
    let (mut cipher, encrypted) = encrypted(300_000);
    let key = Locked::from_annotations(&encrypted.annotations).unwrap().unlock(NAME, &kek(1)).unwrap();
    let mut part = [0; 10];
    let mut reader = key.decryptor(cipher.as_slice()).unwrap();
    reader.read_exact(&mut part).unwrap();
    assert_eq!(reader.finish().unwrap().size(), 300_000);
    cipher[250_000] ^= 1;
    let mut reader = key.decryptor(cipher.as_slice()).unwrap();
    reader.read_exact(&mut part).unwrap();
    assert!(matches!(reader.finish(), Err(OcicryptError::Changed)));
}

#[test]
fn wrong_key_and_wrong_length_are_told_apart() {
    let (cipher, encrypted) = encrypted(10);
    assert!(matches!(open(&cipher, &encrypted.annotations, &kek(2)), Err(OcicryptError::WrongKey(_))));
    let short = SecretBytes::new(vec![1; 16]);
    assert!(matches!(open(&cipher, &encrypted.annotations, &short), Err(OcicryptError::KeyLength(16))));
    let locked = Locked::from_annotations(&encrypted.annotations).unwrap();
    assert!(matches!(locked.unlock("kbs:///other/key/x", &kek(1)), Err(OcicryptError::WrongKey(_))));
}

fn edit(annotations: &Annotations, name: &str, change: impl Fn(&mut serde_json::Value)) -> Annotations {
    let mut out = annotations.clone();
    let mut json = serde_json::from_slice(&STANDARD.decode(&out[name]).unwrap()).unwrap();
    change(&mut json);
    out.insert(name.into(), STANDARD.encode(json.to_string()));
    out
}

#[test]
fn version_one_packets_and_old_public_options_are_read() {
    let (cipher, encrypted) = encrypted(1000);
    let first = edit(&encrypted.annotations, WRAPPED_KEY, |json| {
        let members = json.as_object_mut().unwrap();
        for newer in ["version", "provider", "provider_settings", "annotations"] {
            members.remove(newer);
        }
    });
    assert!(open(&cipher, &first, &kek(1)).unwrap() == layer(1000));
    let old = edit(&encrypted.annotations, PUBLIC_OPTIONS, |json| {
        let hmac = json["hmac"].take();
        json["cipheroptions"] = serde_json::json!({ "hmac": hmac });
    });
    assert!(open(&cipher, &old, &kek(1)).unwrap() == layer(1000));
}

#[test]
fn each_changed_annotation_is_refused_by_its_cause() {
    let (cipher, encrypted) = encrypted(1000);
    let good = &encrypted.annotations;
    let cause = |annotations: &Annotations| open(&cipher, annotations, &kek(1)).unwrap_err().to_string();
    let mut missing = good.clone();
    missing.remove(PUBLIC_OPTIONS);
    assert!(cause(&missing).contains("no annotation"));
    let twins = [
        (PUBLIC_OPTIONS, "cipher", serde_json::json!("AES_256_GCM"), "the layer's cipher"),
        (PUBLIC_OPTIONS, "hmac", serde_json::json!(STANDARD.encode([0; 32])), "changed"),
        (PUBLIC_OPTIONS, "hmac", serde_json::json!("AA=="), "hmac has 1 bytes"),
        (WRAPPED_KEY, "wrap_type", serde_json::json!("A256CTR"), "wrap type"),
        (WRAPPED_KEY, "iv", serde_json::json!(STANDARD.encode([0; 12])), "does not open"),
        (WRAPPED_KEY, "iv", serde_json::json!("AA=="), "iv has 1 bytes"),
        (WRAPPED_KEY, "wrapped_data", serde_json::json!("AAAA"), "does not open"),
        (WRAPPED_KEY, "kid", serde_json::json!("kbs:///a/b/c"), "does not open"),
    ];
    for (annotation, member, value, expected) in twins {
        let twin = edit(good, annotation, |json| json[member] = value.clone());
        assert!(cause(&twin).contains(expected), "{member}: {}", cause(&twin));
    }
    let mut garbage = good.clone();
    garbage.insert(WRAPPED_KEY.into(), "!".into());
    assert!(cause(&garbage).contains("not base64"));
    garbage.insert(WRAPPED_KEY.into(), "A".repeat(MAX_ANNOTATION + 1));
    assert!(cause(&garbage).contains("64 KiB"));
}

/// A layer made with openssl by hand: key 00..1f, nonce f0..ff, wrapped with a key of 0x11 bytes.
#[test]
fn layer_made_with_openssl_is_opened() {
    let vector: serde_json::Value =
        serde_json::from_str(include_str!("../../testdata/ocicrypt-openssl.json")).unwrap();
    let text = |name: &str| vector[name].as_str().unwrap().to_owned();
    let annotations: Annotations =
        [(PUBLIC_OPTIONS.to_owned(), text("pubopts")), (WRAPPED_KEY.to_owned(), text("packet"))].into();
    let key = SecretBytes::new(hex::decode(text("kek")).unwrap());
    let plain = open(&STANDARD.decode(text("ciphertext")).unwrap(), &annotations, &key).unwrap();
    assert_eq!(plain, text("plaintext").as_bytes());
}

//! Sealed images read back; each changed byte is refused by its block; the documented vectors hold.

use std::io::Cursor;

use super::*;

fn key(seed: u8) -> BlockKey {
    let bytes: Vec<u8> = (0..KEY as u8).map(|i| i.wrapping_add(seed)).collect();
    BlockKey::from_bytes(&SecretBytes::new(bytes)).unwrap()
}

fn image(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 / 3 % 256) as u8).collect()
}

fn sealed(len: usize) -> (Vec<u8>, Sealed) {
    let mut blob = Vec::new();
    let sealed = seal(&mut image(len).as_slice(), &key(1), "kbs:///default/key/t", &mut blob).unwrap();
    (blob, sealed)
}

#[test]
fn sealed_image_reads_back_padded_to_a_block() {
    for len in [1, 4095, 4096, 4097, 128 * BLOCK, 300 * BLOCK + 5] {
        let (blob, sealed) = sealed(len);
        assert_eq!(blob.len() as u64, sealed.block.blob_len());
        assert_eq!((sealed.size, sealed.digest), (blob.len() as u64, Digest::sha256(&blob)));
        let mut reader = Reader::new(Cursor::new(&blob), &sealed.block, &key(1)).unwrap();
        let mut opened = Vec::new();
        reader.read_to_end(&mut opened).unwrap();
        let mut expected = image(len);
        expected.resize(len.next_multiple_of(BLOCK), 0);
        assert!(opened == expected, "{len} bytes");
    }
}

#[test]
fn sealing_is_repeatable_and_another_key_changes_everything() {
    let (blob, first) = sealed(5 * BLOCK);
    let (again, second) = sealed(5 * BLOCK);
    assert!(blob == again);
    assert_eq!(first, second);
    let mut other = Vec::new();
    let third = seal(&mut image(5 * BLOCK).as_slice(), &key(2), "k", &mut other).unwrap();
    assert_ne!(first.block.salt, third.block.salt);
    assert!(blob.chunks(16).zip(other.chunks(16)).all(|(a, b)| a != b || a == [0; 16]));
}

#[test]
fn seeking_reads_any_part() {
    let len = 20 * BLOCK;
    let (blob, sealed) = sealed(len);
    let mut reader = Reader::new(Cursor::new(&blob), &sealed.block, &key(1)).unwrap();
    let plain = image(len);
    for (at, count) in [(0, 10), (4090, 20), (19 * BLOCK, 4096), (12345, 5000)] {
        reader.seek(SeekFrom::Start(at as u64)).unwrap();
        let mut part = vec![0; count];
        reader.read_exact(&mut part).unwrap();
        assert!(part == plain[at..at + count]);
    }
    assert_eq!(reader.seek(SeekFrom::End(0)).unwrap(), len as u64);
    assert_eq!(reader.read(&mut [0; 8]).unwrap(), 0);
    assert!(reader.seek(SeekFrom::End(-(len as i64) - 1)).is_err());
}

#[test]
fn changed_byte_is_an_error_that_names_the_block_and_never_other_content() {
    let (blob, sealed) = sealed(10 * BLOCK);
    let plain = image(10 * BLOCK);
    for at in (0..blob.len()).step_by(977) {
        let mut twin = blob.clone();
        twin[at] ^= 1;
        let mut reader = Reader::new(Cursor::new(twin), &sealed.block, &key(1)).unwrap();
        let mut refused = 0;
        for block in 0..10 {
            reader.seek(SeekFrom::Start((block * BLOCK) as u64)).unwrap();
            let mut bytes = [0; BLOCK];
            match reader.read_exact(&mut bytes) {
                Ok(()) => assert!(bytes == plain[block * BLOCK..(block + 1) * BLOCK]),
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
                    assert!(
                        error
                            .to_string()
                            .contains(&format!("block {}", if at / BLOCK < 10 { block } else { 0 }))
                    );
                    refused += 1;
                }
            }
        }
        assert_eq!(refused, if at / BLOCK < 10 { 1 } else { 10 }, "byte {at}");
    }
}

#[test]
fn cut_blob_is_an_error() {
    let (blob, sealed) = sealed(10 * BLOCK);
    let mut reader = Reader::new(Cursor::new(&blob[..blob.len() - 1]), &sealed.block, &key(1)).unwrap();
    assert!(reader.read(&mut [0; 16]).is_err());
}

#[test]
fn wrong_key_length_and_empty_image_are_refused() {
    for bad in [0, 32, 63, 65] {
        let refused = BlockKey::from_bytes(&SecretBytes::new(vec![1; bad])).err();
        assert_eq!(refused, Some(XtsError::KeyLength(bad)));
    }
    assert!(matches!(seal(&mut io::empty(), &key(1), "k", &mut Vec::new()), Err(SealError::Empty)));
}

fn vectors() -> serde_json::Value {
    serde_json::from_str(include_str!("../testdata/sealed-block.json")).unwrap()
}

fn text<'a>(value: &'a serde_json::Value, name: &str) -> &'a str {
    value[name].as_str().unwrap()
}

fn vector_blob(vector: &serde_json::Value) -> (Vec<u8>, Vec<u8>, Sealed, BlockKey) {
    let len = vector["image_bytes"].as_u64().unwrap();
    let image: Vec<u8> = (0..len).map(|i| ((i * i + i / 4096) % 251) as u8).collect();
    let key = BlockKey::from_bytes(&SecretBytes::new(hex::decode(text(vector, "key")).unwrap())).unwrap();
    let mut blob = Vec::new();
    let sealed = seal(&mut image.as_slice(), &key, "k", &mut blob).unwrap();
    (image, blob, sealed, key)
}

#[test]
fn vectors_of_the_second_implementation_hold() {
    for vector in vectors()["vectors"].as_array().unwrap() {
        let (image, blob, sealed, _) = vector_blob(vector);
        let name = text(vector, "name");
        assert_eq!(Digest::sha256(&image).hex(), text(vector, "image_sha256"), "{name}");
        assert_eq!(hex::encode(sealed.block.salt), text(vector, "salt"), "{name}");
        assert_eq!(sealed.block.data_blocks, vector["data_blocks"].as_u64().unwrap(), "{name}");
        assert_eq!(hex::encode(&blob[..16]), text(vector, "first_16_bytes"), "{name}");
        assert_eq!(sealed.block.root_hash.hex(), text(vector, "root_hash"), "{name}");
        assert_eq!(sealed.size, vector["blob_bytes"].as_u64().unwrap(), "{name}");
        assert_eq!(sealed.digest.hex(), text(vector, "blob_sha256"), "{name}");
    }
}

#[test]
fn refusal_vectors_are_refused_by_the_named_annotation() {
    let vectors = vectors();
    let good: coffer_core_oci::manifest::Annotations =
        serde_json::from_value(vectors["annotations"].clone()).unwrap();
    SealedBlock::from_annotations(&good).unwrap();
    for twin in vectors["refusals"].as_array().unwrap() {
        let mut annotations = good.clone();
        for name in twin["remove"].as_array().unwrap() {
            annotations.remove(name.as_str().unwrap());
        }
        for (name, value) in twin["set"].as_object().unwrap() {
            annotations.insert(name.clone(), value.as_str().unwrap().into());
        }
        let refusal = SealedBlock::from_annotations(&annotations).unwrap_err().to_string();
        assert!(refusal.contains(text(twin, "refused")), "{twin}: {refusal}");
    }
}

#[test]
fn changed_bytes_of_the_vectors_fail_where_the_vectors_say() {
    let vectors = vectors();
    for twin in vectors["changed_bytes"].as_array().unwrap() {
        let named = |vector: &&serde_json::Value| vector["name"] == twin["vector"];
        let vector = vectors["vectors"].as_array().unwrap().iter().find(named).unwrap();
        let (_, mut blob, sealed, key) = vector_blob(vector);
        blob[twin["flip_byte"].as_u64().unwrap() as usize] ^= 1;
        let mut reader = Reader::new(Cursor::new(blob), &sealed.block, &key).unwrap();
        let refusal = io::copy(&mut reader, &mut io::sink()).unwrap_err().to_string();
        assert!(refusal.contains(text(twin, "fails")), "{twin}: {refusal}");
    }
}

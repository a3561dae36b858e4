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
                    assert!(error.to_string().contains(&format!("block {}", if at / BLOCK < 10 { block } else { 0 })));
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

//! Trees are those of `veritysetup`; a changed byte anywhere is found and named.

use std::io::Cursor;
use std::process::Command;

use super::*;

const SALT: [u8; 32] = [0x5a; 32];

fn device(blocks: usize) -> (Vec<u8>, Digest) {
    let mut bytes: Vec<u8> = (0..blocks * BLOCK).map(|i| (i / 97 % 256) as u8).collect();
    let mut builder = TreeBuilder::new(SALT);
    bytes.chunks_exact(BLOCK).for_each(|block| builder.push(block));
    assert_eq!(builder.blocks(), blocks as u64);
    let mut tree = Vec::new();
    let root = builder.finish(&mut tree).unwrap();
    bytes.extend(tree);
    (bytes, root)
}

#[test]
fn every_block_of_trees_of_each_height_verifies() {
    for blocks in [1, 2, 127, 128, 129, 300] {
        let (bytes, root) = device(blocks);
        let mut verifier = Verifier::new(Cursor::new(&bytes), blocks as u64, SALT, root);
        for block in (0..blocks as u64).rev() {
            let at = block as usize * BLOCK;
            assert!(verifier.read(block).unwrap() == bytes[at..at + BLOCK], "{block} of {blocks}");
        }
        assert!(matches!(verifier.read(blocks as u64), Err(VerityError::Beyond { .. })));
    }
}

#[test]
fn changed_byte_is_named_by_its_block() {
    let blocks = 300;
    let (good, root) = device(blocks);
    for at in [0, 4095, 123 * BLOCK + 7, 299 * BLOCK, good.len() - BLOCK * 4, good.len() - BLOCK * 2] {
        let mut bytes = good.clone();
        bytes[at] ^= 0x80;
        let mut verifier = Verifier::new(Cursor::new(bytes), blocks as u64, SALT, root);
        let refusals: Vec<_> = (0..blocks as u64).filter_map(|block| verifier.read(block).err()).collect();
        assert!(!refusals.is_empty(), "byte {at}");
        let changed = at / BLOCK;
        for refusal in &refusals {
            match refusal {
                VerityError::Data { block } => assert_eq!(*block, changed as u64),
                VerityError::Tree { block, offset } => {
                    assert_eq!(*block, (changed - blocks) as u64);
                    assert_eq!(*offset, (changed * BLOCK) as u64);
                }
                other => panic!("{other}"),
            }
        }
        assert_eq!(refusals.len() == 1, changed < blocks, "a changed hash block spoils all that it covers");
    }
}

#[test]
fn wrong_root_or_salt_refuses_the_first_block() {
    let (bytes, root) = device(10);
    let other = Digest::sha256(b"other");
    assert!(matches!(
        Verifier::new(Cursor::new(&bytes), 10, SALT, other).read(0),
        Err(VerityError::Tree { block: 0, .. })
    ));
    assert!(matches!(
        Verifier::new(Cursor::new(&bytes), 10, [0; 32], root).read(0),
        Err(VerityError::Tree { block: 0, .. })
    ));
}

#[test]
fn trees_are_those_of_veritysetup() {
    if Command::new("veritysetup").arg("--version").output().is_err() {
        println!("skipped: no veritysetup (package cryptsetup-bin)");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for blocks in [1_usize, 2, 128, 129, 1000, 16385] {
        let (bytes, root) = device(blocks);
        let data = directory.path().join("data");
        std::fs::write(&data, &bytes[..blocks * BLOCK]).unwrap();
        let output = Command::new("veritysetup")
            .args(["format", "--no-superblock", "--hash=sha256", "--format=1"])
            .args(["--data-block-size=4096", "--hash-block-size=4096"])
            .arg(format!("--data-blocks={blocks}"))
            .arg(format!("--hash-offset={}", blocks * BLOCK))
            .arg(format!("--salt={}", hex::encode(SALT)))
            .args([&data, &data])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains(&root.hex()), "{blocks} blocks: ours {root}, theirs:\n{text}");
        assert!(std::fs::read(&data).unwrap() == bytes, "{blocks} blocks: the tree's bytes differ");
    }
}

//! File systems that are made here, as e2fsprogs sees them.

use std::collections::HashSet;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::process::Command;

use super::*;

const MIB: u64 = 1 << 20;

fn making(size: u64) -> Making<'static> {
    Making {
        size,
        uuid: *b"\x1e\x8d\x6f\x0c\x6a\x3a\x4c\x0b\x9e\x0b\x6c\x7c\x1d\x2a\x3b\x4c",
        hash_seed: [7; 16],
        label: "data",
        time: 1_700_000_000,
        owner: (1000, 100_000),
        journal: Journal::Kept,
    }
}

/// A sparse file with a file system. Small ones are full of noise before, as a hole under encryption is.
fn file(size: u64) -> tempfile::NamedTempFile {
    file_with(&making(size))
}

fn file_with(making: &Making<'_>) -> tempfile::NamedTempFile {
    let size = making.size;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    if size <= 64 * MIB {
        let noise: Vec<u8> = (0..MIB).map(|i| (i.wrapping_mul(2_654_435_761) >> 7) as u8).collect();
        (0..size.div_ceil(MIB)).for_each(|_| file.write_all(&noise).unwrap());
    }
    file.as_file().set_len(size).unwrap();
    let mut seen = HashSet::new();
    make(making, &mut |block, bytes| {
        assert!(bytes.len() == BLOCK && seen.insert(block), "block {block}");
        assert!((block + 1) * BLOCK as u64 <= size, "block {block}");
        file.seek(SeekFrom::Start(block * BLOCK as u64))?;
        file.write_all(bytes)
    })
    .unwrap();
    file
}

fn e2fs(program: &str, arguments: &[&str], file: &Path) -> Option<(bool, String)> {
    let output = Command::new(format!("/usr/sbin/{program}")).args(arguments).arg(file).output();
    let output = output.map_err(|why| println!("skipped: {program} (package e2fsprogs): {why}")).ok()?;
    let text = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
}

#[test]
fn file_systems_of_all_sizes_are_clean() {
    // The odd ones have a last group that is nearly nothing, and one that is just enough.
    for size in [
        8 * MIB,
        9 * MIB + 5000,
        64 * MIB,
        129 * MIB,
        130 * MIB + 800 * 4096,
        1024 * MIB,
        10_240 * MIB,
        MOST_SIZE / 64,
    ] {
        let file = file(size);
        let Some((clean, report)) = e2fs("e2fsck", &["-fn"], file.path()) else { return };
        assert!(clean, "{size}: {report}");
        let (shown, dump) = e2fs("dumpe2fs", &["-h"], file.path()).unwrap();
        assert!(shown && !dump.contains("UUID:                     <none>"), "{dump}");
        for text in
            ["1e8d6f0c-6a3a-4c0b-9e0b-6c7c1d2a3b4c", "has_journal", "extent", "uninit_bg", "clean", "data"]
        {
            assert!(dump.contains(text), "{size}: {text} is in {dump}");
        }
    }
}

#[test]
fn file_systems_without_a_journal_are_clean_and_say_so() {
    for size in [8 * MIB, 64 * MIB, 1024 * MIB] {
        let file = file_with(&Making { journal: Journal::None, ..making(size) });
        let Some((clean, report)) = e2fs("e2fsck", &["-fn"], file.path()) else { return };
        assert!(clean, "{size}: {report}");
        let (shown, dump) = e2fs("dumpe2fs", &["-h"], file.path()).unwrap();
        assert!(shown && !dump.contains("has_journal") && !dump.contains("Journal inode"), "{dump}");
    }
}

#[test]
fn extent_is_read_from_a_file_system_s_first_bytes_and_from_nothing_else() {
    use std::io::Read;
    let file = file(64 * MIB);
    let mut start = vec![0; 2048];
    std::fs::File::open(file.path()).unwrap().read_exact(&mut start).unwrap();
    assert_eq!(extent(&start), Some(Extent { block: 4096, blocks: 64 * MIB / 4096 }));
    assert_eq!(extent(&start).unwrap().bytes(), 64 * MIB);
    // With the feature 64bit the upper half counts.
    let mut wide = start.clone();
    wide[1024 + 96] |= 0x80;
    wide[1024 + 336] = 1;
    assert_eq!(extent(&wide).unwrap().blocks, (1 << 32) + 64 * MIB / 4096);
    for (at, value) in [(1024 + 56, 0), (1024 + 24, 7), (1024 + 27, 1)] {
        let mut other = start.clone();
        other[at] = value;
        assert_eq!(extent(&other), None, "{at}");
    }
    assert_eq!(extent(&start[..2047]), None);
}

#[test]
fn copy_of_the_superblock_is_enough_to_repair() {
    let mut file = file(1024 * MIB);
    file.seek(SeekFrom::Start(0)).unwrap();
    file.write_all(&[0; 8192]).unwrap();
    let Some((_, report)) = e2fs("e2fsck", &["-fy", "-b", "32768", "-B", "4096"], file.path()) else {
        return;
    };
    let (clean, again) = e2fs("e2fsck", &["-fn"], file.path()).unwrap();
    assert!(clean, "{report}\n{again}");
}

#[test]
fn files_can_be_written_and_read() {
    let file = file(64 * MIB);
    let content = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(content.path(), vec![5; 300_000]).unwrap();
    let write = format!("write {} hello", content.path().display());
    let Some((_, report)) = e2fs("debugfs", &["-w", "-R", &write], file.path()) else { return };
    let (clean, check) = e2fs("e2fsck", &["-fn"], file.path()).unwrap();
    assert!(clean, "{report}\n{check}");
    let (_, list) = e2fs("debugfs", &["-R", "stat hello"], file.path()).unwrap();
    assert!(list.contains("Size: 300000"), "{list}");
    let (_, root) = e2fs("debugfs", &["-R", "stat <2>"], file.path()).unwrap();
    assert!(root.contains("User:  1000") && root.contains("Group: 100000"), "{root}");
}

#[test]
fn sizes_and_labels_out_of_bounds_are_refused() {
    let mut nothing = |_: u64, _: &[u8]| Ok(());
    for size in [0, LEAST_SIZE - 1, MOST_SIZE + 1, u64::MAX] {
        assert!(matches!(make(&making(size), &mut nothing), Err(MakeError::Size { .. })), "{size}");
    }
    let long = Making { label: "seventeen letters", ..making(8 * MIB) };
    assert!(matches!(make(&long, &mut nothing), Err(MakeError::Label { found: 17 })));
}

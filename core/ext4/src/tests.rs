//! `e2fsck` finds nothing, and `debugfs` finds what was made.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use super::*;

fn options(size: u64, journal: Journal) -> Options {
    Options { size, uuid: *b"sixteen bytes id", label: "data".into(), time: 1_700_000_000, journal }
}

/// Makes one on noise, as a new encrypted disk is, and gives its size in blocks.
fn made(path: &Path, options: &Options) -> u64 {
    let file = File::create(path).unwrap();
    file.set_len(options.size).unwrap();
    // As much noise as metadata could be taken from.
    file.write_all_at(&vec![0xa5; 4 << 20], 0).unwrap();
    make(options, &mut |block, bytes| file.write_all_at(bytes, block * BLOCK as u64)).unwrap()
}

fn e2fsprogs(words: &[&str], path: &Path) -> Option<(bool, String)> {
    let (program, words) = words.split_first().unwrap();
    let found = ["/sbin", "/usr/sbin"].map(|folder| format!("{folder}/{program}"));
    let Some(program) = found.iter().find(|program| Path::new(program).exists()) else {
        println!("skipped: no {program} (package e2fsprogs)");
        return None;
    };
    let output = Command::new(program).args(words).arg(path).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
}

#[test]
fn file_systems_of_all_sizes_are_clean() {
    let folder = tempfile::tempdir().unwrap();
    let sizes = [
        MIN,
        MIN + 4097,
        64 << 20,
        128 << 20,
        // A last group of one block, and one that is barely large enough.
        (128 << 20) + 4096,
        (128 << 20) + 600 * 4096,
        1 << 30,
        (10 << 30) + 12_345 * 4096,
    ];
    for size in sizes {
        for journal in [Journal::Inside, Journal::None] {
            let path = folder.path().join("image");
            let blocks = made(&path, &options(size, journal));
            assert!(blocks * 4096 <= size && blocks * 4096 + (4 << 20) > size, "{size}: {blocks} blocks");
            let Some((clean, told)) = e2fsprogs(&["e2fsck", "-fn"], &path) else { return };
            assert!(clean, "{size} bytes, {journal:?}: {told}");
        }
    }
}

#[test]
fn what_was_made_is_what_debugfs_finds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    made(&path, &options(1 << 30, Journal::Inside));
    let Some((_, told)) = e2fsprogs(&["dumpe2fs", "-h"], &path) else { return };
    for line in
        ["Filesystem volume name:   data", "Total journal size:       64M", "Filesystem state:         clean"]
    {
        assert!(told.contains(line), "{line} is not in {told}");
    }
    let Some((_, told)) = e2fsprogs(&["debugfs", "-R", "ls -l /"], &path) else { return };
    assert!(told.contains("lost+found"), "{told}");
}

#[test]
fn the_same_options_give_the_same_blocks() {
    let all = || {
        let mut blocks = Vec::new();
        make(&options(300 << 20, Journal::Inside), &mut |block, bytes| {
            blocks.push((block, *bytes));
            Ok(())
        })
        .unwrap();
        blocks
    };
    let first = all();
    assert!(first == all());
    // No block is given twice.
    let numbers: std::collections::BTreeSet<u64> = first.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers.len(), first.len());
}

#[test]
fn sizes_and_labels_that_do_not_fit_are_refused() {
    let refused = |options: Options| make(&options, &mut |_, _| Ok(())).unwrap_err();
    for size in [0, MIN - 1, MAX + 1, u64::MAX] {
        assert!(matches!(refused(options(size, Journal::None)), Ext4Error::Size { .. }));
    }
    let long = Options { label: "seventeen bytes!!".into(), ..options(MIN, Journal::None) };
    assert!(matches!(refused(long), Ext4Error::Label(17)));
    let full = make(&options(MIN, Journal::None), &mut |_, _| Err(io::ErrorKind::StorageFull.into()));
    assert!(matches!(full, Err(Ext4Error::Io(_))));
}

/// The kernel takes it, too, where it may: files are written, and the log is replayed or empty.
#[test]
fn the_kernel_mounts_it() {
    let folder = tempfile::tempdir().unwrap();
    let (path, point) = (folder.path().join("image"), folder.path().join("point"));
    made(&path, &options(64 << 20, Journal::Inside));
    std::fs::create_dir(&point).unwrap();
    let mount = Command::new("mount").args(["-t", "ext4", "-o", "loop"]).arg(&path).arg(&point).output();
    if !mount.is_ok_and(|mount| mount.status.success()) {
        println!("skipped: this machine mounts no ext4 images");
        return;
    }
    std::fs::write(point.join("file"), vec![7; 1 << 20]).unwrap();
    for number in 0..500 {
        std::fs::write(point.join(format!("small-{number}")), b"x").unwrap();
    }
    assert!(Command::new("umount").arg(&point).status().unwrap().success());
    let Some((clean, told)) = e2fsprogs(&["e2fsck", "-fn"], &path) else { return };
    assert!(clean, "{told}");
}

//! Images pass `fsck.erofs`, and mount with the kernel showing the tree that was written.

use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;
use crate::tree::{Extent, Kind, Meta, Node};

fn meta(mode: u16) -> Meta {
    Meta { mode, uid: 0, gid: 0, mtime: 1_700_000_000, xattrs: BTreeMap::new() }
}

fn file(store: &mut Vec<u8>, mode: u16, len: usize) -> Node {
    let offset = store.len() as u64;
    store.extend((0..len).map(|i| (i * 31 / 7 % 253) as u8));
    Node { meta: meta(mode), kind: Kind::File(Extent { offset, len: len as u64 }) }
}

/// A tree with one of everything, many names, and sizes around the block size.
pub(super) fn sample() -> (Tree, Vec<u8>) {
    let mut store = Vec::new();
    let mut tree = Tree::new(meta(0o755));
    let root = Tree::ROOT;
    let dir = |mode| Node { meta: meta(mode), kind: Kind::Directory(BTreeMap::new()) };
    let many = tree.insert(root, b"many", dir(0o1777)).unwrap();
    for i in 0..700 {
        let node = file(&mut store, 0o644, i % 40);
        tree.insert(many, format!("file-with-a-rather-long-name-{i:05}").as_bytes(), node).unwrap();
    }
    for len in [0, 1, 31, 32, 1983, 1984, 2048, 4032, 4095, 4096, 4097, 6000, 8192, 300_000] {
        let node = file(&mut store, 0o600, len);
        tree.insert(root, format!("size-{len}").as_bytes(), node).unwrap();
    }
    let deep =
        (0..40).fold(root, |parent, i| tree.insert(parent, format!("d{i}").as_bytes(), dir(0o700)).unwrap());
    tree.insert(deep, b"! before the dots", file(&mut store, 0o4755, 5)).unwrap();
    let mut owned = file(&mut store, 0o640, 10);
    owned.meta.uid = 100_000;
    owned.meta.gid = 7;
    owned.meta.mtime = 1;
    owned.meta.xattrs.insert(b"user.note".to_vec(), b"hello".to_vec());
    owned.meta.xattrs.insert(b"user.long".to_vec(), vec![7; 5000]);
    owned
        .meta
        .xattrs
        .insert(b"security.capability".to_vec(), [&[1, 0, 0, 2, 0, 4, 0, 0][..], &[0; 12]].concat());
    let owned = tree.insert(root, b"owned", owned).unwrap();
    tree.link(deep, b"hard", owned).unwrap();
    tree.link(root, b"hard", owned).unwrap();
    for (name, kind) in [
        ("short-link", Kind::Symlink(b"size-1".to_vec())),
        ("long-link", Kind::Symlink(vec![b'x'; 4000])),
        ("null", Kind::Character(1, 3)),
        ("disk", Kind::Block(259, 70_000)),
        ("pipe", Kind::Fifo),
        ("socket", Kind::Socket),
    ] {
        tree.insert(root, name.as_bytes(), Node { meta: meta(0o666), kind }).unwrap();
    }
    tree.insert(root, &[b'n'; 255], file(&mut store, 0o644, 3)).unwrap();
    tree.insert(root, &[0xff, 0xfe, b'x'], file(&mut store, 0o644, 3)).unwrap();
    tree.insert(root, b"empty", dir(0o755)).unwrap();
    tree.insert(root, b"gone", file(&mut store, 0o644, 100)).unwrap();
    tree.remove(root, b"gone");
    (tree, store)
}

pub(super) fn image(tree: &Tree, store: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let written = write(tree, &mut Cursor::new(store), &Options::default(), &mut out).unwrap();
    assert_eq!(out.len() as u64, written.blocks * 4096);
    out
}

#[test]
fn same_tree_gives_the_same_bytes() {
    let (tree, store) = sample();
    assert!(image(&tree, &store) == image(&tree, &store));
}

#[test]
fn image_passes_fsck() {
    if Command::new("fsck.erofs").output().is_err() {
        println!("skipped: no fsck.erofs (package erofs-utils)");
        return;
    }
    let (tree, store) = sample();
    let empty = Tree::new(meta(0o755));
    for bytes in [image(&tree, &store), image(&empty, &[])] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image");
        fs::write(&path, bytes).unwrap();
        let output = Command::new("fsck.erofs").arg("--extract").arg(&path).output().unwrap();
        assert!(
            output.status.success(),
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// Unmounts when it is dropped.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn mounted_image_shows_the_tree() {
    let (tree, store) = sample();
    let directory = tempfile::tempdir().unwrap();
    let (path, point) = (directory.path().join("image"), directory.path().join("mnt"));
    fs::write(&path, image(&tree, &store)).unwrap();
    fs::create_dir(&point).unwrap();
    let output = Command::new("mount").args(["-t", "erofs", "-o", "loop,ro"]).args([&path, &point]).output();
    match output {
        Ok(output) if output.status.success() => {}
        _ => {
            println!("skipped: cannot mount EROFS by loop device here (needs root)");
            return;
        }
    }
    let mounted = Mounted(point.clone());
    let mut seen = 0;
    compare(&tree, &store, Tree::ROOT, &mounted.0, &mut seen);
    assert_eq!(fs::metadata(point.join("owned")).unwrap().nlink(), 3);
    assert_eq!(fs::metadata(&point).unwrap().nlink(), 2 + 3);
    assert!(seen > 760, "{seen} entries");
    assert!(fs::metadata(point.join("many/file-with-a-rather-long-name-00699")).is_ok());
    assert!(fs::metadata(point.join("many/no-such-name")).is_err());
    let note =
        Command::new("getfattr").args(["-n", "user.note", "--only-values"]).arg(point.join("owned")).output();
    match note {
        Ok(note) => assert_eq!(note.stdout, b"hello"),
        Err(_) => println!("skipped: no getfattr (package attr); attributes are compared in tools/images"),
    }
}

fn compare(tree: &Tree, store: &[u8], id: crate::tree::NodeId, path: &Path, seen: &mut usize) {
    use std::os::unix::ffi::OsStrExt;
    let node = tree.node(id);
    let found = fs::symlink_metadata(path).unwrap();
    let shown = path.display();
    assert_eq!(found.mode(), u32::from(disk::mode_type(&node.kind) | node.meta.mode), "{shown}");
    assert_eq!((found.uid(), found.gid()), (node.meta.uid, node.meta.gid), "{shown}");
    assert_eq!(found.mtime(), node.meta.mtime, "{shown}");
    match &node.kind {
        Kind::File(extent) => {
            let expected = &store[extent.offset as usize..(extent.offset + extent.len) as usize];
            assert!(fs::read(path).unwrap() == expected, "{shown}");
        }
        Kind::Symlink(target) => assert_eq!(fs::read_link(path).unwrap().as_os_str().as_bytes(), target),
        Kind::Character(major, minor) | Kind::Block(major, minor) => {
            let expected =
                (u64::from(*major) << 8) | u64::from(minor & 0xff) | (u64::from(minor & !0xff) << 12);
            assert_eq!(found.rdev(), expected, "{shown}");
        }
        Kind::Fifo => assert!(found.file_type().is_fifo()),
        Kind::Socket => assert!(found.file_type().is_socket()),
        Kind::Directory(entries) => {
            let mut names: Vec<_> = fs::read_dir(path)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().as_bytes().to_vec())
                .collect();
            names.sort();
            assert!(names.iter().eq(entries.keys()), "{shown}");
            for (name, child) in entries {
                *seen += 1;
                compare(tree, store, *child, &path.join(std::ffi::OsStr::from_bytes(name)), seen);
            }
        }
    }
}

#[test]
fn what_erofs_cannot_hold_is_refused_by_its_name() {
    let refuse = |change: &dyn Fn(&mut Node)| {
        let mut tree = Tree::new(meta(0o755));
        let mut node = Node { meta: meta(0o644), kind: Kind::Fifo };
        change(&mut node);
        tree.insert(Tree::ROOT, b"x", node).unwrap();
        write(&tree, &mut Cursor::new(&[]), &Options::default(), &mut Vec::new()).unwrap_err()
    };
    let xattr = |name: &[u8], len| {
        refuse(&|node| {
            node.meta.xattrs.insert(name.to_vec(), vec![0; len]);
        })
    };
    assert!(matches!(xattr(b"other.name", 1), ErofsError::XattrName(_)));
    assert!(matches!(xattr(b"user.", 1), ErofsError::XattrName(_)));
    assert!(matches!(xattr(b"user.big", 70_000), ErofsError::XattrSize(_)));
    assert!(matches!(refuse(&|node| node.kind = Kind::Character(5000, 1)), ErofsError::Device(5000, 1)));
    let missing = refuse(&|node| node.kind = Kind::File(Extent { offset: 0, len: 10 }));
    assert!(matches!(missing, ErofsError::Io(_)));
}

//! What was written reads back; `mkfs.erofs` is read, too; hostile images end in an error, never in a loop.

use std::io::Cursor;
use std::process::Command;

use super::super::tests::{image, sample};
use super::*;

/// Each path with its node and content.
fn listing(tree: &Tree, contents: &mut dyn Contents) -> BTreeMap<Vec<u8>, (Meta, String, Vec<u8>)> {
    let mut all = BTreeMap::new();
    let mut left = vec![(Vec::new(), Tree::ROOT)];
    while let Some((path, id)) = left.pop() {
        let node = tree.node(id);
        let mut content = Vec::new();
        let kind = match &node.kind {
            Kind::Directory(entries) => {
                for (name, child) in entries {
                    left.push(([path.as_slice(), b"/", name].concat(), *child));
                }
                "directory".to_owned()
            }
            Kind::File(extent) => {
                content = vec![0; extent.len as usize];
                // In two steps, so that a read begins within a file.
                let (first, rest) = content.split_at_mut(extent.len as usize / 3);
                contents.read_at(extent.offset, first).unwrap();
                contents.read_at(extent.offset + first.len() as u64, rest).unwrap();
                "file".to_owned()
            }
            other => format!("{other:?}"),
        };
        all.insert(path, (node.meta.clone(), kind, content));
    }
    all
}

#[test]
fn what_was_written_reads_back_whole() {
    let (tree, store) = sample();
    let (again, mut contents) = read(Cursor::new(image(&tree, &store)), 10_000).unwrap();
    let expected = listing(&tree, &mut Cursor::new(&store));
    let found = listing(&again, &mut contents);
    assert_eq!(expected.keys().collect::<Vec<_>>(), found.keys().collect::<Vec<_>>());
    assert!(expected == found);
    // Two names of one file are still one file.
    assert_eq!(again.child(Tree::ROOT, b"hard"), again.child(Tree::ROOT, b"owned"));
}

#[test]
fn a_second_image_of_what_was_read_is_the_same_image() {
    let (tree, store) = sample();
    let bytes = image(&tree, &store);
    let (again, mut contents) = read(Cursor::new(&bytes), 10_000).unwrap();
    let mut out = Vec::new();
    super::super::write(&again, &mut contents, &super::super::Options::default(), &mut out).unwrap();
    assert!(out == bytes);
}

#[test]
fn an_image_of_mkfs_erofs_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let (root, path) = (directory.path().join("root"), directory.path().join("image"));
    std::fs::create_dir_all(root.join("a/b")).unwrap();
    std::fs::write(root.join("a/b/large"), vec![5; 10_000]).unwrap();
    std::fs::write(root.join("small"), b"small").unwrap();
    std::os::unix::fs::symlink("a/b", root.join("link")).unwrap();
    let Ok(made) = Command::new("mkfs.erofs").arg("-x-1").arg(&path).arg(&root).output() else {
        println!("skipped: no mkfs.erofs (package erofs-utils)");
        return;
    };
    assert!(made.status.success());
    let (tree, mut contents) = read(std::fs::File::open(&path).unwrap(), 100).unwrap();
    let found = listing(&tree, &mut contents);
    assert_eq!(found[&b"/a/b/large"[..]].2, vec![5; 10_000]);
    assert_eq!(found[&b"/small"[..]].2, b"small");
    assert!(found[&b"/link"[..]].1.contains("Symlink"));
}

fn refused(bytes: Vec<u8>) -> String {
    match read(Cursor::new(bytes), 10_000) {
        Ok(_) => panic!("it was read"),
        Err(error) => error.to_string(),
    }
}

/// The byte of an inode.
fn inode(tree: &Tree, bytes: &[u8], name: &[u8]) -> usize {
    let _exists = tree.child(Tree::ROOT, name).unwrap();
    let root = u16::from_le_bytes([bytes[SUPERBLOCK + 14], bytes[SUPERBLOCK + 15]]) as usize * SLOT as usize;
    let mut walk = Walk {
        image: Bounded { image: Cursor::new(bytes), size: bytes.len() as u64 },
        entries: 1,
        left: 1,
        names: MAX_NAMES,
        position: 0,
        places: Vec::new(),
        met: HashMap::new(),
    };
    let superblock = Superblock::read(&mut walk.image).unwrap();
    let raw = walk.inode(&superblock, root as u64 / SLOT).unwrap();
    let entries = walk.directory(&raw, "the root").unwrap();
    entries.iter().find(|(entry, _)| entry == name).unwrap().1 as usize * SLOT as usize
}

#[test]
fn each_defect_is_refused_by_its_place() {
    let (tree, store) = sample();
    let good = image(&tree, &store);
    let changed = |at: usize, bytes: &[u8]| {
        let mut twin = good.clone();
        twin[at..at + bytes.len()].copy_from_slice(bytes);
        refused(twin)
    };
    assert!(refused(Vec::new()).contains("no superblock"));
    assert!(changed(SUPERBLOCK, &[0]).contains("no superblock"));
    assert!(changed(SUPERBLOCK + 12, &[9]).contains("blocks of 2^9"));
    assert!(changed(SUPERBLOCK + 80, &[4]).contains("features 0x4"));
    assert!(changed(SUPERBLOCK + 14, &[255, 255]).contains("beyond"));
    let file = inode(&tree, &good, b"size-6000");
    assert!(changed(file, &[1 << 1]).contains("compressed"));
    assert!(changed(file, &[4 << 1]).contains("chunks"));
    assert!(changed(file + 4, &[0, 0xf0]).contains("its type is 15"));
    assert!(changed(file + 8, &[255; 4]).contains("beyond"));
    assert!(refused(good[..good.len() - 4096].to_vec()).contains("beyond"));
    assert!(matches!(read(Cursor::new(&good), 10), Err(ReadError::Limit { what: "entries", limit: 10 })));
    // The directory `empty` becomes another name of the root: a tree without end.
    let root = u64::from(u16::from_le_bytes([good[SUPERBLOCK + 14], good[SUPERBLOCK + 15]]));
    let empty = (inode(&tree, &good, b"empty") as u64 / SLOT).to_le_bytes();
    let at = good.windows(8).position(|window| window == empty).unwrap();
    assert!(changed(at, &root.to_le_bytes()).contains("second name of a directory"));
}

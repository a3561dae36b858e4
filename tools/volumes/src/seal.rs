//! A folder as a sealed data set: EROFS, encrypted, under a hash tree (docs/formats/sealed-blocks.md).
//!
//! The same folder and key give the same bytes. Links are kept as links; what is neither file, folder nor link is
//! refused, and extended attributes are left out.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use coffer_core_oci::SealedBlock;
use coffer_core_seal::erofs::{self, Options};
use coffer_core_seal::sealed::{BlockKey, Sealer};
use coffer_core_seal::tree::{Contents, Extent, Kind, Meta, Node, NodeId, Tree};
use coffer_core_secret::SecretBytes;

use crate::VolumeError;

/// What a data set is made of.
pub struct NewDataSet<'a> {
    /// The folder.
    pub folder: &'a Path,
    /// The file, which must not exist.
    pub file: &'a Path,
    /// The key as the broker keeps it: 64 bytes.
    pub key: &'a SecretBytes,
    /// Its address.
    pub key_uri: &'a str,
    /// User and group of everything, instead of the folder's own.
    pub owner: Option<(u32, u32)>,
}

/// A new data set's key.
///
/// # Errors
/// When the system has no randomness.
pub fn new_data_key() -> Result<SecretBytes, coffer_core_secret::NoRandomness> {
    Ok(SecretBytes::copy_of(BlockKey::random()?.expose()))
}

/// Seals a folder, and gives what init-data pins.
///
/// # Errors
/// When the folder holds what cannot be sealed or changes meanwhile, or the file exists or cannot be written. Nothing is
/// left behind then.
pub fn seal(new: &NewDataSet<'_>) -> Result<SealedBlock, VolumeError> {
    let (tree, mut files) = read(new.folder, new.owner)?;
    let key = BlockKey::from_bytes(new.key)?;
    let failed = |source| VolumeError::File { path: new.file.to_owned(), source };
    let file = File::options().write(true).create_new(true).mode(0o600).open(new.file).map_err(failed)?;
    let mut write = || {
        let mut sealer = Sealer::new(&key, BufWriter::new(&file))?;
        erofs::write(&tree, &mut files, &Options::default(), &mut sealer)?;
        let (sealed, mut out) = sealer.finish(new.key_uri)?;
        out.flush().and_then(|()| file.sync_all()).map_err(failed)?;
        Ok(sealed.block)
    };
    let sealed: Result<_, VolumeError> = write();
    if sealed.is_err() {
        // The first error is the one to tell.
        let _first_error_counts = fs::remove_file(new.file);
    }
    sealed
}

/// The files' contents, one behind the other.
#[derive(Default)]
struct Files {
    /// Where each begins, and its length.
    all: Vec<(u64, u64, PathBuf)>,
    end: u64,
    open: Option<(usize, File)>,
}

impl Files {
    fn add(&mut self, path: &Path, len: u64) -> Extent {
        let extent = Extent { offset: self.end, len };
        if len > 0 {
            self.all.push((self.end, len, path.to_owned()));
            self.end += len;
        }
        extent
    }
}

impl Contents for Files {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let next = self.all.partition_point(|(start, ..)| *start <= offset);
        let none = || io::Error::new(io::ErrorKind::InvalidInput, "no file has these bytes");
        let index = next.checked_sub(1).ok_or_else(none)?;
        let (start, len, path) = self.all.get(index).ok_or_else(none)?;
        let named = |why: io::Error| io::Error::new(why.kind(), format!("{}: {why}", path.display()));
        let file = match self.open.take() {
            Some((open, file)) if open == index => file,
            _ => {
                let file = File::open(path).map_err(named)?;
                if file.metadata().map_err(named)?.len() != *len {
                    return Err(named(io::Error::other("it changed while it was sealed")));
                }
                file
            }
        };
        file.read_exact_at(buffer, offset - start).map_err(named)?;
        self.open = Some((index, file));
        Ok(())
    }
}

/// All that is in a folder.
fn read(folder: &Path, owner: Option<(u32, u32)>) -> Result<(Tree, Files), VolumeError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| VolumeError::File { path, source }
    };
    let root = fs::metadata(folder).map_err(at(folder))?;
    if !root.is_dir() {
        return Err(VolumeError::Entry { path: folder.to_owned(), why: "it is no folder" });
    }
    let (mut tree, mut files) = (Tree::new(meta(&root, owner)), Files::default());
    let mut seen: BTreeMap<(u64, u64), NodeId> = BTreeMap::new();
    let mut open = vec![(folder.to_owned(), Tree::ROOT)];
    while let Some((folder, parent)) = open.pop() {
        let entries = fs::read_dir(&folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let mut names: Vec<_> = entries.map_err(at(&folder))?.iter().map(|entry| entry.file_name()).collect();
        // The same order whatever the file system's.
        names.sort();
        for name in names {
            let path = folder.join(&name);
            let found = fs::symlink_metadata(&path).map_err(at(&path))?;
            let refused = |why| VolumeError::Entry { path: path.clone(), why };
            let inode = (found.dev(), found.ino());
            if let Some(node) = seen.get(&inode) {
                tree.link(parent, name.as_bytes(), *node)?;
                continue;
            }
            let kind = match found.file_type() {
                kind if kind.is_dir() => Kind::Directory(BTreeMap::new()),
                kind if kind.is_file() => Kind::File(files.add(&path, found.len())),
                kind if kind.is_symlink() => {
                    Kind::Symlink(fs::read_link(&path).map_err(at(&path))?.into_os_string().into_vec())
                }
                _ => return Err(refused("it is neither file, folder nor link")),
            };
            let node = tree.insert(parent, name.as_bytes(), Node { meta: meta(&found, owner), kind })?;
            if found.is_dir() {
                open.push((path, node));
            } else if found.nlink() > 1 {
                seen.insert(inode, node);
            }
        }
    }
    Ok((tree, files))
}

fn meta(found: &Metadata, owner: Option<(u32, u32)>) -> Meta {
    let (uid, gid) = owner.unwrap_or((found.uid(), found.gid()));
    let mode = (found.mode() & 0o7777) as u16;
    Meta { mode, uid, gid, mtime: found.mtime(), xattrs: BTreeMap::new() }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use coffer_core_seal::sealed::Reader;

    use super::*;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("deep/er")).unwrap();
        fs::write(path("deep/er/large"), (0..300_000_u32).map(|i| (i % 251) as u8).collect::<Vec<_>>())
            .unwrap();
        fs::write(path("small"), "a canary").unwrap();
        fs::write(path("empty"), "").unwrap();
        fs::hard_link(path("small"), path("again")).unwrap();
        symlink("deep/er/large", path("link")).unwrap();
        folder
    }

    fn sealed(folder: &Path, file: &Path) -> (SealedBlock, SecretBytes) {
        let key = SecretBytes::new((0..64).collect());
        let owner = Some((5, 6));
        let new = NewDataSet { folder, file, key: &key, key_uri: "kbs:///a/b/c", owner };
        (seal(&new).unwrap(), key)
    }

    #[test]
    fn folder_is_a_file_system_again_and_the_file_has_none_of_its_names() {
        let (source, work) = (folder(), tempfile::tempdir().unwrap());
        let file = work.path().join("set");
        let (block, key) = sealed(source.path(), &file);
        let blob = fs::read(&file).unwrap();
        assert_eq!(blob.len() as u64, block.blob_len());
        for word in ["canary", "small"] {
            assert!(!blob.windows(word.len()).any(|piece| piece == word.as_bytes()), "{word}");
        }
        let key = BlockKey::from_bytes(&key).unwrap();
        let mut image = Vec::new();
        Reader::new(File::open(&file).unwrap(), &block, &key).unwrap().read_to_end(&mut image).unwrap();
        let plain = work.path().join("plain");
        fs::write(&plain, image).unwrap();
        let target = work.path().join("mounted");
        fs::create_dir(&target).unwrap();
        let mounted = Command::new("mount")
            .args(["-o", "ro,loop", "-t", "erofs"])
            .args([&plain, &target])
            .output()
            .unwrap();
        if !mounted.status.success() {
            return println!("skipped: mount: {}", String::from_utf8_lossy(&mounted.stderr));
        }
        let same = Command::new("diff").arg("-r").arg(source.path()).arg(&target).output().unwrap();
        let found = fs::metadata(target.join("small")).unwrap();
        Command::new("umount").arg(&target).status().unwrap();
        assert!(same.status.success(), "{}", String::from_utf8_lossy(&same.stdout));
        assert_eq!((found.uid(), found.gid(), found.nlink()), (5, 6, 2));
    }

    #[test]
    fn the_same_folder_and_key_give_the_same_bytes_and_nothing_is_overwritten() {
        let (source, work) = (folder(), tempfile::tempdir().unwrap());
        let (one, two) = (work.path().join("one"), work.path().join("two"));
        assert_eq!(sealed(source.path(), &one).0, sealed(source.path(), &two).0);
        assert!(fs::read(&one).unwrap() == fs::read(&two).unwrap());
        let key = SecretBytes::new((0..64).collect());
        let mut new = NewDataSet { folder: source.path(), file: &one, key: &key, key_uri: "x", owner: None };
        assert!(matches!(seal(&new), Err(VolumeError::File { .. })));
        let three = work.path().join("three");
        new.file = &three;
        let short = SecretBytes::new(vec![1; 32]);
        assert!(matches!(seal(&NewDataSet { key: &short, ..new }), Err(VolumeError::Cipher(_))));
        assert!(!three.exists());
        let listener = std::os::unix::net::UnixListener::bind(source.path().join("socket")).unwrap();
        assert!(matches!(seal(&new), Err(VolumeError::Entry { .. })));
        drop(listener);
        assert!(!three.exists());
    }
}

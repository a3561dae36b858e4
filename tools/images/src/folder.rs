//! A folder with a root file system (`rootfs:FOLDER`), read into a temporary layout as an image of one layer.
//!
//! The same files give the same layer: names are sorted, and of times only each file's own is kept. Owners are those of the
//! files where root reads them; where another user does, who owns all that he can make, everything belongs to root.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use coffer_core_oci::config::RootFs;
use coffer_core_oci::{Descriptor, ImageConfig, Manifest, media};
use tar::{Builder, EntryType, Header};
use tempfile::TempDir;

use crate::error::{ImageError, at};
use crate::layout::Layout;

/// What programs find others by, where the configuration has no PATH (as images of Debian have it).
const SEARCH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Attributes stand in pax records under this prefix, as other programs write and read them.
pub(crate) const XATTR: &str = "SCHILY.xattr.";
/// Attributes that a file system or this machine keeps for itself, and that mean nothing elsewhere.
const OWN: [&[u8]; 5] =
    [b"system.", b"trusted.overlay.", b"security.selinux", b"security.ima", b"security.evm"];

/// Reads a folder; `config` says how its image is run.
pub(crate) fn import(folder: &Path, config: Option<&ImageConfig>) -> Result<(Layout, TempDir), ImageError> {
    let about = fs::metadata(folder).map_err(at(folder))?;
    if !about.is_dir() {
        return Err(at(folder)(io::Error::from(io::ErrorKind::NotADirectory)));
    }
    let (layout, temporary) = Layout::create_temporary()?;
    let layer = layer(&layout, folder)?;
    let mut config = config.cloned().unwrap_or_default();
    if config.architecture.is_empty() {
        config.architecture = "amd64".into();
    }
    if config.os.is_empty() {
        config.os = "linux".into();
    }
    if !config.config.env.iter().any(|variable| variable.starts_with("PATH=")) {
        config.config.env.push(SEARCH.into());
    }
    config.rootfs = RootFs { kind: "layers".into(), diff_ids: vec![layer.digest] };
    let bytes = serde_json::to_vec(&config).map_err(|error| at(folder)(error.into()))?;
    let manifest = Manifest::new(layout.put(media::OCI_CONFIG, &bytes)?, vec![layer]).to_bytes()?;
    let image = layout.put(media::OCI_MANIFEST, &manifest)?;
    layout.tag(&image, "folder")?;
    Ok((layout, temporary))
}

fn layer(layout: &Layout, folder: &Path) -> Result<Descriptor, ImageError> {
    let mut archive = Builder::new(io::BufWriter::with_capacity(1 << 20, layout.writer()?));
    // Sealing reads files as they are; holes cost nothing there.
    archive.sparse(false);
    let mut walk = Walk { archive, owners: owners(), linked: HashMap::new() };
    let mut left = vec![PathBuf::new()];
    while let Some(name) = left.pop() {
        let path = folder.join(&name);
        let about = fs::symlink_metadata(&path).map_err(at(&path))?;
        walk.entry(&path, &name, &about).map_err(at(&path))?;
        if about.is_dir() {
            let mut names: Vec<OsString> = fs::read_dir(&path)
                .and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect())
                .map_err(at(&path))?;
            names.sort_unstable_by(|one, other| other.cmp(one));
            left.extend(names.into_iter().map(|child| name.join(child)));
        }
    }
    let out = walk.archive.into_inner().map_err(at(layout.directory()))?;
    let out = out.into_inner().map_err(|error| at(layout.directory())(error.into_error()))?;
    let (digest, size) = out.commit(None)?;
    Ok(Descriptor::new(media::OCI_LAYER, digest, size))
}

#[derive(Clone, Copy)]
enum Owners {
    Kept,
    Root,
}

/// Only root's own reading sees owners that were meant.
fn owners() -> Owners {
    match fs::metadata("/proc/self").map(|about| about.uid()) {
        Ok(0) => Owners::Kept,
        _ => Owners::Root,
    }
}

struct Walk<W: Write> {
    archive: Builder<W>,
    owners: Owners,
    /// The first name of each file that has several.
    linked: HashMap<(u64, u64), PathBuf>,
}

impl<W: Write> Walk<W> {
    fn entry(&mut self, path: &Path, name: &Path, about: &Metadata) -> io::Result<()> {
        let kind = about.file_type();
        let name = if name == Path::new("") { Path::new("./") } else { name };
        let mut header = Header::new_gnu();
        header.set_mode(about.mode() & 0o7777);
        let (uid, gid) = match self.owners {
            Owners::Kept => (about.uid(), about.gid()),
            Owners::Root => (0, 0),
        };
        header.set_uid(u64::from(uid));
        header.set_gid(u64::from(gid));
        header.set_mtime(u64::try_from(about.mtime()).unwrap_or_default());
        header.set_size(0);
        if about.nlink() > 1 && !about.is_dir() {
            let file = (about.dev(), about.ino());
            if let Some(first) = self.linked.get(&file) {
                header.set_entry_type(EntryType::Link);
                return self.archive.append_link(&mut header, name, first);
            }
            self.linked.insert(file, name.to_owned());
        }
        self.attributes(path, about)?;
        if kind.is_file() {
            header.set_entry_type(EntryType::Regular);
            header.set_size(about.len());
            let content = Exactly { file: File::open(path)?, left: about.len() };
            return self.archive.append_data(&mut header, name, content);
        }
        if kind.is_symlink() {
            header.set_entry_type(EntryType::Symlink);
            return self.archive.append_link(&mut header, name, fs::read_link(path)?);
        }
        let device = |header: &mut Header, kind| {
            header.set_entry_type(kind);
            header.set_device_major(major(about.rdev()))?;
            header.set_device_minor(minor(about.rdev()))
        };
        if kind.is_dir() {
            header.set_entry_type(EntryType::Directory);
        } else if kind.is_fifo() {
            header.set_entry_type(EntryType::Fifo);
        } else if kind.is_char_device() {
            device(&mut header, EntryType::Char)?;
        } else if kind.is_block_device() {
            device(&mut header, EntryType::Block)?;
        } else {
            // A socket is of a program that runs; an image has none.
            return Ok(());
        }
        self.archive.append_data(&mut header, name, io::empty())
    }

    /// Writes the attributes and an early time, which the header has no room for, before the entry.
    fn attributes(&mut self, path: &Path, about: &Metadata) -> io::Result<()> {
        let mut records = Vec::new();
        if about.mtime() < 0 {
            records.push(("mtime".to_owned(), about.mtime().to_string().into_bytes()));
        }
        let mut names: Vec<OsString> = match xattr::list(path) {
            Ok(names) => names.collect(),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Vec::new(),
            Err(error) => return Err(error),
        };
        names.sort_unstable();
        for name in names.into_iter().filter(|name| !OWN.iter().any(|own| name.as_bytes().starts_with(own))) {
            let Some(value) = xattr::get(path, &name)? else { continue };
            let text = name.to_str().ok_or_else(|| io::Error::other("an attribute's name is not UTF-8"))?;
            records.push((format!("{XATTR}{text}"), value));
        }
        if records.is_empty() {
            return Ok(());
        }
        self.archive
            .append_pax_extensions(records.iter().map(|(key, value)| (key.as_str(), value.as_slice())))
    }
}

/// Linux's major number of a device (`gnu_dev_major`, makedev(3)).
fn major(device: u64) -> u32 {
    (((device >> 32) & 0xffff_f000) | ((device >> 8) & 0xfff)) as u32
}

/// Linux's minor number of a device (`gnu_dev_minor`, makedev(3)).
fn minor(device: u64) -> u32 {
    (((device >> 12) & 0xffff_ff00) | (device & 0xff)) as u32
}

/// A file of the length that its header says. One that shrinks meanwhile is an error, not an archive that is out of step.
struct Exactly {
    file: File,
    left: u64,
}

impl io::Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read(buffer.get_mut(..most).unwrap_or_default())?;
        if read == 0 && most > 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the file became shorter while it was read",
            ));
        }
        self.left = self.left.saturating_sub(read as u64);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn folder() -> TempDir {
        let folder = tempfile::tempdir().expect("folder");
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("bin")).expect("made");
        fs::write(path("bin/app"), "#!/bin/sh\n").expect("written");
        fs::set_permissions(path("bin/app"), fs::Permissions::from_mode(0o4755)).expect("mode");
        fs::hard_link(path("bin/app"), path("bin/zapp")).expect("linked");
        symlink("app", path("bin/run")).expect("linked");
        fs::write(path("empty"), "").expect("written");
        File::create(path("hole")).and_then(|file| file.set_len(1 << 20)).expect("sparse");
        let long = "x".repeat(120);
        fs::write(path(&long), "long").expect("written");
        std::os::unix::net::UnixListener::bind(path("socket")).expect("bound");
        folder
    }

    fn names(layout: &Layout) -> Vec<(String, EntryType, u32, u64)> {
        let image = layout.find(None).expect("one image");
        let manifest = Manifest::parse(&layout.document(&image.digest).expect("manifest"));
        let layer = manifest.expect("manifest").layers[0].digest;
        let mut archive = tar::Archive::new(File::open(layout.blob_path(&layer)).expect("layer"));
        let entry = |entry: io::Result<tar::Entry<'_, File>>| {
            let entry = entry.expect("entry");
            let header = entry.header();
            let name = String::from_utf8(entry.path_bytes().into_owned()).expect("name");
            (name, header.entry_type(), header.mode().expect("mode"), entry.size())
        };
        archive.entries().expect("entries").map(entry).collect()
    }

    #[test]
    fn folder_s_layer_has_its_files_once_and_is_the_same_twice() {
        let folder = folder();
        let (one, _temporary) = import(folder.path(), None).expect("read");
        let (other, _temporary) = import(folder.path(), None).expect("read");
        let found = |layout: &Layout| layout.find(None).expect("one image").digest;
        assert_eq!(found(&one), found(&other));
        let all = names(&one);
        let named: Vec<_> = all.iter().map(|(name, kind, ..)| (name.as_str(), *kind)).collect();
        let long = "x".repeat(120);
        let expected = [
            ("./", EntryType::Directory),
            ("bin", EntryType::Directory),
            ("bin/app", EntryType::Regular),
            ("bin/run", EntryType::Symlink),
            ("bin/zapp", EntryType::Link),
            ("empty", EntryType::Regular),
            ("hole", EntryType::Regular),
            (long.as_str(), EntryType::Regular),
        ];
        assert_eq!(named, expected, "no socket, and no name twice");
        assert_eq!((all[2].2, all[6].3), (0o4755, 1 << 20));
    }

    #[test]
    fn configuration_is_the_given_one_with_the_layer_s_digest_and_a_path() {
        let folder = folder();
        let given =
            ImageConfig::parse(br#"{"config":{"Cmd":["/bin/app"],"Env":["PATH=/bin"]}}"#).expect("form");
        for (config, path) in [(Some(&given), "PATH=/bin"), (None, SEARCH)] {
            let (layout, _temporary) = import(folder.path(), config).expect("read");
            let image = layout.find(None).expect("one image");
            let manifest = Manifest::parse(&layout.document(&image.digest).expect("bytes"));
            let manifest = manifest.expect("manifest");
            let bytes = layout.document(&manifest.config.digest).expect("configuration");
            let read = ImageConfig::parse(&bytes).expect("configuration");
            assert_eq!(read.config.env, [path]);
            assert_eq!(read.rootfs.diff_ids, [manifest.layers[0].digest]);
            assert_eq!(read.config.cmd, config.map(|given| given.config.cmd.clone()).unwrap_or_default());
        }
    }

    #[test]
    fn what_is_no_folder_is_refused_by_name() {
        let folder = folder();
        let missing = import(&folder.path().join("none"), None).expect_err("refused").to_string();
        assert!(missing.contains("none"), "{missing}");
        let file = import(&folder.path().join("bin/app"), None).expect_err("refused").to_string();
        assert!(file.to_lowercase().contains("not a directory"), "{file}");
    }
}

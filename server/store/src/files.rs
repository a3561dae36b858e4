//! Files that are made complete or not at all, and private from the first instant.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::rand;
use coffer_core_secret::SecretBytes;

use crate::StoreError;

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_path_buf();
    move |source| StoreError::File { what, path, source }
}

/// Makes a folder that only its owner may enter, if it is not there.
pub fn create_private_folder(path: &Path) -> Result<(), StoreError> {
    let mut builder = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(path).map_err(failed("cannot make", path))
}

/// Makes a file of mode 0600 with this content, durably. Fails if it is there; a crash leaves no part of it.
pub fn create_private(path: &Path, content: &[u8]) -> Result<(), StoreError> {
    create(path, content, 0o600)
}

/// As [`create_private`], for a file that everyone may read.
pub fn create_public(path: &Path, content: &[u8]) -> Result<(), StoreError> {
    create(path, content, 0o644)
}

fn create(path: &Path, content: &[u8], mode: u32) -> Result<(), StoreError> {
    let temporary = beside(path)?;
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()
    };
    let made = write().map_err(failed("cannot write", path)).and_then(|()| publish(&temporary, path));
    let _ = std::fs::remove_file(&temporary);
    made
}

/// Gives a finished file its name, unless the name is taken. A link, because a rename would replace.
pub(crate) fn publish(temporary: &Path, path: &Path) -> Result<(), StoreError> {
    std::fs::hard_link(temporary, path).map_err(failed("cannot make", path))?;
    std::fs::remove_file(temporary).map_err(failed("cannot remove", temporary))?;
    sync_folder(path)
}

/// Gives a finished file the name of another one, which is gone then.
pub(crate) fn replace(finished: &Path, path: &Path) -> Result<(), StoreError> {
    std::fs::rename(finished, path).map_err(failed("cannot replace", path))?;
    sync_folder(path)
}

/// Gives a file a second name, which nobody else has.
pub(crate) fn keep_as(path: &Path, second: &Path) -> Result<(), StoreError> {
    std::fs::hard_link(path, second).map_err(failed("cannot make", second))?;
    sync_folder(second)
}

/// Makes the names in a file's folder durable.
fn sync_folder(path: &Path) -> Result<(), StoreError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("cannot make durable", folder))
}

/// A name in the same folder that nobody else uses.
pub(crate) fn beside(path: &Path) -> Result<PathBuf, StoreError> {
    let mut random = [0; 8];
    rand::fill(&mut random).map_err(|_| StoreError::NoRandomness)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(path.with_file_name(format!(".{name}.{}.new", hex::encode(random))))
}

/// Whose a file is and who may do what with it, as its inode says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Holding {
    /// The permission bits, with set-user-id, set-group-id and sticky.
    mode: u32,
    user: u32,
    group: u32,
}

/// As whom a process reads.
struct Reader {
    user: u32,
    /// The effective group and the supplementary ones.
    groups: Vec<u32>,
}

impl Reader {
    fn this_process() -> Self {
        let mut groups = nix::unistd::getgroups().unwrap_or_default();
        groups.push(nix::unistd::getegid());
        let groups = groups.into_iter().map(nix::unistd::Gid::as_raw).collect();
        Self { user: nix::unistd::geteuid().as_raw(), groups }
    }
}

impl Holding {
    /// Whether nobody but its owner may read it, or it is what root hands to a service that is not root: readable by a
    /// group that the service is in, and written by nobody but root. That is how Kubernetes mounts a Secret in a pod
    /// with `fsGroup`.
    fn is_private(self, reader: &Reader) -> bool {
        let owner_only = self.mode & 0o077 == 0;
        let handed = self.mode & !0o600 == 0o040
            && self.user == 0
            && reader.user != 0
            && reader.groups.contains(&self.group);
        owner_only || handed
    }
}

/// Whether a file is for this process alone: nobody but its owner may read it, or root handed it to a group of this
/// process.
fn is_private(file: &Metadata) -> bool {
    let holding = Holding { mode: file.mode() & 0o7777, user: file.uid(), group: file.gid() };
    holding.is_private(&Reader::this_process())
}

/// Reads a private file, if it is there; refuses one that others may read.
pub fn read_private(path: &Path) -> Result<Option<SecretBytes>, StoreError> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("cannot read", path)(error)),
    };
    // Of the open file, so that what is judged is what is read.
    let metadata = file.metadata().map_err(failed("cannot read", path))?;
    if !is_private(&metadata) {
        let (mode, user, group) = (metadata.mode() & 0o7777, metadata.uid(), metadata.gid());
        return Err(StoreError::Permissions { path: path.to_path_buf(), mode, user, group });
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(failed("cannot read", path))?;
    Ok(Some(SecretBytes::new(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_file_is_made_once_and_only_for_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        create_private(&path, b"one").unwrap();
        assert!(create_private(&path, b"two").is_err());
        assert_eq!(read_private(&path).unwrap().unwrap().expose(), b"one");
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "a temporary file was left");
    }

    const ROOT: u32 = 0;
    const SERVICE: u32 = 65532;
    const FS_GROUP: u32 = 2000;

    #[test]
    fn what_root_hands_to_the_service_s_group_is_private_and_every_twin_of_it_is_not() {
        let handed = Holding { mode: 0o440, user: ROOT, group: FS_GROUP };
        let of = |mode| Holding { mode, ..handed };
        let service = || Reader { user: SERVICE, groups: vec![SERVICE, 7, FS_GROUP] };
        let root = || Reader { user: ROOT, groups: vec![ROOT, FS_GROUP] };
        for (claim, file, reader, expected) in [
            ("as Kubernetes mounts it", handed, service(), true),
            ("which root may write", of(0o640), service(), true),
            ("which only the group may read", of(0o040), service(), true),
            ("of the effective group", Holding { group: SERVICE, ..handed }, service(), true),
            (
                "of root's group, which the service is in",
                Holding { group: ROOT, ..handed },
                root_group(),
                true,
            ),
            ("of a group that the service is not in", Holding { group: 2001, ..handed }, service(), false),
            ("of root's group", Holding { group: ROOT, ..handed }, service(), false),
            ("read by no group", handed, Reader { user: SERVICE, groups: Vec::new() }, false),
            ("read by root", handed, root(), false),
            ("of the service itself", Holding { user: SERVICE, ..handed }, service(), false),
            ("of somebody else", Holding { user: 1000, ..handed }, service(), false),
            ("which others may read", of(0o444), service(), false),
            ("which only others may read", of(0o404), service(), false),
            ("which others may write", of(0o442), service(), false),
            ("which others may execute", of(0o441), service(), false),
            ("which the group may write", of(0o460), service(), false),
            ("which the group may only write", of(0o420), service(), false),
            ("which the group may execute", of(0o450), service(), false),
            ("which the owner may execute", of(0o540), service(), false),
            ("with set-user-id", of(0o4440), service(), false),
            ("with set-group-id", of(0o2440), service(), false),
            ("with sticky", of(0o1440), service(), false),
        ] {
            assert_eq!(file.is_private(&reader), expected, "{claim}: {file:?}");
        }
        // For the owner's eyes only, whoever that is: as before.
        for mode in [0o600, 0o400, 0o700, 0o000] {
            for user in [ROOT, SERVICE, 1000] {
                for reader in [service(), root()] {
                    assert!(Holding { mode, user, group: FS_GROUP }.is_private(&reader), "{mode:o}");
                }
            }
        }
    }

    fn root_group() -> Reader {
        Reader { user: SERVICE, groups: vec![ROOT] }
    }

    #[test]
    fn a_file_that_others_may_read_is_not_read_and_the_error_says_whose_it_is() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        create_private(&path, b"one").unwrap();
        let owner = std::fs::metadata(&path).unwrap().uid();
        for mode in [0o640, 0o604, 0o660, 0o644, 0o602] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            // By root as root's, and by a user as the user's: neither is handed from root to another.
            let error = read_private(&path).err().unwrap();
            let said = error.to_string();
            assert!(matches!(error, StoreError::Permissions { mode: found, .. } if found == mode), "{said}");
            assert!(said.contains(&format!("of user {owner}")) && said.contains("chmod 600"), "{said}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
        assert_eq!(read_private(&path).unwrap().unwrap().expose(), b"one");
        assert!(read_private(&folder.path().join("none")).unwrap().is_none());
    }
}

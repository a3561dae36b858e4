//! Mounting and unmounting.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use fuser::{BackgroundSession, Config, MountOption, SessionACL};

use crate::filesystem::{Answers, Log};
use crate::tree::Tree;

/// More threads than this wait for the disk or for memory, not for cryptography.
const MAX_THREADS: usize = 8;
/// Threads at the least, so that one slow read of a network does not hold up another.
const MIN_THREADS: usize = 4;

/// Four of the kernel's largest reads.
const READ_AHEAD_KIB: &str = "4096";

/// Who may read the mounted files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// The user who mounts.
    #[default]
    Owner,
    /// Every user of this machine, as for a server that runs as another user.
    Everyone,
}

/// Why nothing was mounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The folder is not one, or not empty.
    #[error("{} is not an empty folder; name one", .path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
    },
    /// The machine has no FUSE.
    #[error("this machine has no /dev/fuse; load the module fuse, or open the model into a folder")]
    NoFuse,
    /// The kernel refuses.
    #[error("{} could not be mounted: {source}; be root, or install fuse3 for fusermount3", .path.display())]
    Refused {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It could not be taken away.
    #[error("{} could not be unmounted: {source}; end what still reads there", .path.display())]
    Unmount {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl MountError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Folder { .. } => "mount.folder",
            Self::NoFuse => "mount.no-fuse",
            Self::Refused { .. } => "mount.refused",
            Self::Unmount { .. } => "mount.busy",
        }
    }
}

/// A model that is mounted, until this is dropped.
pub struct Mounted {
    session: BackgroundSession,
    path: PathBuf,
}

/// Mounts a model at an empty folder.
pub fn mount(tree: Arc<Tree>, path: &Path, reach: Reach, log: Arc<Log>) -> Result<Mounted, MountError> {
    let empty = std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    if !empty {
        return Err(MountError::Folder { path: path.into() });
    }
    if !Path::new("/dev/fuse").exists() {
        return Err(MountError::NoFuse);
    }
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName("coffer-model".into()),
        MountOption::Subtype("coffer".into()),
        MountOption::RO,
        MountOption::NoDev,
        MountOption::NoSuid,
        MountOption::NoAtime,
        // The kernel checks modes, so that `executable` means something.
        MountOption::DefaultPermissions,
    ];
    config.acl = match reach {
        Reach::Owner => SessionACL::Owner,
        Reach::Everyone => SessionACL::All,
    };
    config.n_threads = Some(processors.clamp(MIN_THREADS, MAX_THREADS));
    config.clone_fd = true;
    let answers = Answers { tree, log, spare: Default::default() };
    match fuser::spawn_mount(answers, path, &config) {
        Ok(session) => {
            read_ahead(path);
            Ok(Mounted { session, path: path.into() })
        }
        Err(source) => Err(MountError::Refused { path: path.into(), source }),
    }
}

/// Lets the kernel read further ahead than the 128 KiB that it allows every file system at first, so that several large
/// reads are under way while one is used. Only root may; without it reading is slower, and nothing else.
fn read_ahead(path: &Path) {
    let Ok(found) = nix::sys::stat::stat(path) else { return };
    let (major, minor) = (nix::sys::stat::major(found.st_dev), nix::sys::stat::minor(found.st_dev));
    let _ = std::fs::write(format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb"), READ_AHEAD_KIB);
}

impl Mounted {
    /// Whether somebody else unmounted it.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.session.guard.is_finished()
    }

    /// Unmounts, and waits until nobody reads any more.
    pub fn unmount(self) -> Result<(), MountError> {
        let path = self.path;
        self.session.umount_and_join().map_err(|source| MountError::Unmount { path, source })
    }
}

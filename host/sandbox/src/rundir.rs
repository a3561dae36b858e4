//! Run directories: private, locked while their owner lives, swept when it was killed.
//!
//! INVARIANT: a directory whose `lock` can be taken belongs to nobody. Making, locking and sweeping happen under the
//! root's own lock, so that no directory is seen between its making and its locking.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::error::SandboxError;

const PREFIX: &str = "run-";
const LOCK: &str = "lock";
const ROOT_LOCK: &str = "root.lock";

/// A run directory that is ours until we drop it or die.
pub(crate) struct RunDir {
    directory: tempfile::TempDir,
    root: PathBuf,
    // Held, not read: the lock tells sweepers that the owner lives.
    _lock: File,
}

impl RunDir {
    /// Sweeps what killed owners left under `root`, then makes a directory there.
    pub(crate) fn create(root: Option<&Path>) -> Result<Self, SandboxError> {
        let root = root.map_or_else(default_root, Path::to_owned);
        private_directory(&root)?;
        let root_lock = open_lock(&root.join(ROOT_LOCK))?;
        root_lock.lock().map_err(SandboxError::file("lock", root.join(ROOT_LOCK)))?;
        sweep(&root)?;
        let directory = tempfile::Builder::new()
            .prefix(PREFIX)
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in(&root)
            .map_err(SandboxError::file("make a run directory in", &root))?;
        let lock = open_lock(&directory.path().join(LOCK))?;
        lock.lock().map_err(SandboxError::file("lock", directory.path().join(LOCK)))?;
        Ok(Self { directory, root, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A file beside the run directories, for what stays.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }
}

/// The user's runtime directory, or a private one in `/tmp`.
fn default_root() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(runtime) if Path::new(&runtime).is_absolute() => PathBuf::from(runtime).join("coffer"),
        _ => PathBuf::from(format!("/tmp/coffer-{}", nix::unistd::getuid())),
    }
}

/// Makes `path` if it is not there, and refuses it if anyone else could have a hand in it.
fn private_directory(path: &Path) -> Result<(), SandboxError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(SandboxError::file("make", path))?;
    let data = fs::symlink_metadata(path).map_err(SandboxError::file("look at", path))?;
    let refuse = |found: String| SandboxError::RunDirectory { path: path.to_owned(), found };
    if !data.is_dir() {
        return Err(refuse("not a directory".into()));
    }
    let owner = nix::unistd::getuid().as_raw();
    if data.uid() != owner {
        return Err(refuse(format!("owned by user {}, expected {owner}", data.uid())));
    }
    if data.mode() & 0o077 != 0 {
        return Err(refuse(format!("mode {:o}, expected 700", data.mode() & 0o7777)));
    }
    Ok(())
}

fn open_lock(path: &Path) -> Result<File, SandboxError> {
    let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    opened.map_err(SandboxError::file("open", path))
}

/// Removes the run directories whose owners are gone.
fn sweep(root: &Path) -> Result<(), SandboxError> {
    let entries = fs::read_dir(root).map_err(SandboxError::file("list", root))?;
    for entry in entries.flatten() {
        let path = entry.path();
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) || !path.is_dir() {
            continue;
        }
        let lock = match OpenOptions::new().write(true).open(path.join(LOCK)) {
            Ok(lock) => match lock.try_lock() {
                Ok(()) => Some(lock),
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(source)) => {
                    return Err(SandboxError::File { what: "lock", path: path.join(LOCK), source });
                }
            },
            // Its owner was killed before it made the lock: the root's lock is ours, so nobody is making it now.
            Err(_) => None,
        };
        fs::remove_dir_all(&path).map_err(SandboxError::file("remove what a killed run left in", &path))?;
        drop(lock);
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn root() -> (tempfile::TempDir, PathBuf) {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("coffer");
        (outer, root)
    }

    #[test]
    fn a_run_directory_is_private_and_goes_with_its_owner() {
        let (_outer, root) = root();
        let run = RunDir::create(Some(&root)).unwrap();
        let path = run.path().to_owned();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        drop(run);
        assert!(!path.exists());
    }

    #[test]
    fn what_a_killed_owner_left_is_swept_and_a_living_owners_is_not() {
        let (_outer, root) = root();
        let living = RunDir::create(Some(&root)).unwrap();
        let stale = root.join("run-stale");
        let unlocked = root.join("run-nolock");
        fs::create_dir_all(stale.join("deep")).unwrap();
        fs::write(stale.join("lock"), b"").unwrap();
        fs::create_dir(&unlocked).unwrap();
        let kept = root.join("console.log");
        fs::write(&kept, b"kept").unwrap();
        let _next = RunDir::create(Some(&root)).unwrap();
        assert!(!stale.exists());
        assert!(!unlocked.exists());
        assert!(living.path().exists());
        assert!(kept.exists());
    }

    #[test]
    fn a_root_that_others_can_enter_is_refused() {
        let (_outer, root) = root();
        fs::create_dir(&root).unwrap();
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(RunDir::create(Some(&root)), Err(SandboxError::RunDirectory { .. })));
    }

    #[test]
    fn a_root_that_is_a_link_is_refused() {
        let (outer, root) = root();
        let elsewhere = outer.path().join("elsewhere");
        DirBuilder::new().mode(0o700).create(&elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &root).unwrap();
        assert!(matches!(RunDir::create(Some(&root)), Err(SandboxError::RunDirectory { .. })));
    }
}

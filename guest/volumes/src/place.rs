//! The folder that a volume is mounted on, in a root whose links are not followed.

use std::io;
use std::path::{Path, PathBuf};

use coffer_sys_mount::folder_below;

use crate::VolumeError;

/// Makes the folder where there is none. No process of the container exists yet, so what is looked at stays as it is.
pub(crate) fn make(name: &str, root: &Path, path: &str) -> Result<PathBuf, VolumeError> {
    folder_below(root, path).map_err(|source| match source.kind() {
        io::ErrorKind::NotADirectory => VolumeError::Place { name: name.to_owned(), path: path.to_owned() },
        _ => VolumeError::Disk { name: name.to_owned(), step: "making the folder of", source },
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn folders_are_made_and_links_are_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        assert_eq!(make("v", root, "/srv/data").unwrap(), root.join("srv/data"));
        assert!(root.join("srv/data").is_dir());
        assert!(make("v", root, "/srv/data").is_ok(), "it is there already");
        symlink("/etc", root.join("link")).unwrap();
        fs::write(root.join("file"), "").unwrap();
        for path in ["/link", "/link/below", "/file", "/file/below", "/srv/../x"] {
            assert_eq!(make("v", root, path).unwrap_err().code(), "volume.path", "{path}");
        }
        assert!(!Path::new("/etc/below").exists());
    }
}

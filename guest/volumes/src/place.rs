//! The folder that a volume is mounted on, in a root whose links are not followed.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::VolumeError;

/// Makes the folder where there is none. No process of the container exists yet, so what is looked at stays as it is.
pub(crate) fn make(name: &str, root: &Path, path: &str) -> Result<PathBuf, VolumeError> {
    let failed = |step, source| VolumeError::Disk { name: name.to_owned(), step, source };
    let mut place = root.to_owned();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        if part == "." || part == ".." {
            return Err(VolumeError::Place { name: name.to_owned(), path: path.to_owned() });
        }
        place.push(part);
        match fs::symlink_metadata(&place) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(VolumeError::Place { name: name.to_owned(), path: path.to_owned() }),
            Err(why) if why.kind() == io::ErrorKind::NotFound => fs::DirBuilder::new()
                .mode(0o755)
                .create(&place)
                .map_err(|why| failed("making a folder for", why))?,
            Err(why) => return Err(failed("looking for the folder of", why)),
        }
    }
    Ok(place)
}

#[cfg(test)]
mod tests {
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

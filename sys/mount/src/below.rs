//! Places to mount on below a root whose links are not followed.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The folder of an absolute path below a root, made with what leads to it where there is none. To be called while nobody
/// else changes the root, so that what is looked at stays as it is.
///
/// # Errors
/// [`io::ErrorKind::NotADirectory`] where a part of the path is something else, a link, or `..`.
pub fn folder_below(root: &Path, path: &str) -> io::Result<PathBuf> {
    let mut place = root.to_owned();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        if part == "." || part == ".." {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        place.push(part);
        match fs::symlink_metadata(&place) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(io::ErrorKind::NotADirectory.into()),
            Err(why) if why.kind() == io::ErrorKind::NotFound => {
                DirBuilder::new().mode(0o755).create(&place)?;
            }
            Err(why) => return Err(why),
        }
    }
    Ok(place)
}

/// The file of an absolute path below a root, made empty where there is none.
///
/// # Errors
/// As [`folder_below`]; also where the path itself is a folder or a link.
pub fn file_below(root: &Path, path: &str) -> io::Result<PathBuf> {
    let (folder, name) = path.rsplit_once('/').ok_or(io::ErrorKind::NotADirectory)?;
    if matches!(name, "" | "." | "..") {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    let place = folder_below(root, folder)?.join(name);
    match fs::symlink_metadata(&place) {
        Ok(found) if found.is_file() => {}
        Ok(_) => return Err(io::ErrorKind::NotADirectory.into()),
        Err(why) if why.kind() == io::ErrorKind::NotFound => {
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&place)?;
        }
        Err(why) => return Err(why),
    }
    Ok(place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn places_are_made_and_links_are_not_followed() {
        let root = std::env::temp_dir().join(format!("coffer-below-{}", std::process::id()));
        fs::create_dir_all(&root).expect("a folder");
        assert_eq!(folder_below(&root, "/srv/data").expect("made"), root.join("srv/data"));
        assert!(folder_below(&root, "/srv/data").is_ok(), "it is there already");
        assert_eq!(file_below(&root, "/run/secrets/a").expect("made"), root.join("run/secrets/a"));
        assert!(file_below(&root, "/run/secrets/a").is_ok(), "it is there already");
        symlink("/etc", root.join("link")).expect("a link");
        symlink("/etc/passwd", root.join("file-link")).expect("a link");
        let kind = |made: io::Result<PathBuf>| made.map_err(|why| why.kind());
        let refused = Err(io::ErrorKind::NotADirectory);
        for path in ["/link", "/link/below", "/run/secrets/a", "/run/secrets/a/below", "/srv/../x"] {
            assert_eq!(kind(folder_below(&root, path)), refused, "{path}");
        }
        for path in ["/file-link", "/link/hosts", "/srv/data", "/srv/..", "/", "x"] {
            assert_eq!(kind(file_below(&root, path)), refused, "{path}");
        }
        fs::remove_dir_all(&root).expect("removed");
    }
}

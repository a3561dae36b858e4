//! What is in a folder that is to be sealed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use coffer_core_sealed_stream::{FilePath, MAX_FILES};

use crate::error::{SealError, at};

/// A file to seal.
pub(crate) struct Source {
    pub(crate) path: FilePath,
    pub(crate) file: PathBuf,
    pub(crate) executable: bool,
    pub(crate) size: u64,
}

/// All files below `folder`.
pub(crate) fn read(folder: &Path) -> Result<Vec<Source>, SealError> {
    let mut files = Vec::new();
    let mut folders = vec![(folder.to_path_buf(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(at(&folder))? {
            let file = entry.map_err(at(&folder))?.path();
            let refuse = |why: String| SealError::Entry { path: file.clone(), why };
            let name = file.file_name().and_then(|name| name.to_str());
            let name = name.ok_or_else(|| refuse("its name is not UTF-8; rename it".into()))?;
            let path = format!("{prefix}{name}");
            let linked = fs::symlink_metadata(&file).map_err(at(&file))?.is_symlink();
            let data = fs::metadata(&file).map_err(at(&file))?;
            match (data.is_file(), data.is_dir(), linked) {
                (true, _, _) => {
                    let path: FilePath = path.parse().map_err(|error| refuse(format!("{error}")))?;
                    let (size, executable) = (data.len(), data.permissions().mode() & 0o100 != 0);
                    files.push(Source { path, file, executable, size });
                }
                (_, true, false) => folders.push((file, format!("{path}/"))),
                (_, true, true) => return Err(refuse("it is a link to a folder; copy the folder".into())),
                _ => return Err(refuse("it is neither a file nor a folder".into())),
            }
            if files.len() > MAX_FILES {
                let why = format!("it has more than {MAX_FILES} files; pack them, or seal parts of it");
                return Err(SealError::Entry { path: folder, why });
            }
        }
    }
    if files.is_empty() {
        return Err(SealError::Empty { path: folder.into() });
    }
    // The same order whatever the file system's, so that messages and progress repeat.
    files.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(files)
}

//! Files of the kernel: read whole within a bound, written in one go.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::Path;

use crate::TsmError;

/// The content of a file that may have at most `limit` bytes.
pub(crate) fn read(path: &Path, limit: usize) -> Result<Vec<u8>, TsmError> {
    let file = File::open(path).map_err(TsmError::io("opening", path))?;
    let mut content = Vec::new();
    let bound = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    file.take(bound).read_to_end(&mut content).map_err(TsmError::io("reading", path))?;
    match content.len() > limit {
        true => Err(TsmError::TooLong { path: path.to_owned(), limit }),
        false => Ok(content),
    }
}

/// The content of a short text file, without the line feed at its end.
pub(crate) fn read_text(path: &Path) -> Result<String, TsmError> {
    let content = read(path, 4096)?;
    let text = String::from_utf8(content).map_err(|_| TsmError::Malformed {
        path: path.to_owned(),
        expected: "text",
        found: "other bytes".into(),
    })?;
    Ok(text.trim_end().to_owned())
}

/// Writes all of it with one call, as the kernel's attributes want it.
pub(crate) fn write(path: &Path, content: &[u8]) -> Result<(), TsmError> {
    let mut file = OpenOptions::new().write(true).open(path).map_err(TsmError::io("opening", path))?;
    let written = file.write(content).map_err(TsmError::io("writing", path))?;
    match written == content.len() {
        true => Ok(()),
        false => Err(TsmError::Malformed {
            path: path.to_owned(),
            expected: "all bytes to be taken",
            found: format!("{written} of {}", content.len()),
        }),
    }
}

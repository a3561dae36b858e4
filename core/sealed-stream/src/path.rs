//! Paths of files: relative, inside their folder on every system, one form each.

use std::fmt;
use std::str::FromStr;

use crate::ArtifactError;

/// The longest path, in bytes.
pub const MAX_PATH: usize = 1024;
/// The longest name between two slashes, in bytes, as file systems have it.
const MAX_NAME: usize = 255;

/// A path that names a place below the folder that it is used in, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilePath(String);

impl FilePath {
    /// The path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its folders, the outermost first: `a/b/c` has `a` and `a/b`.
    pub fn folders(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('/').filter_map(|(at, _)| self.0.get(..at))
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for FilePath {
    type Err = ArtifactError;

    fn from_str(text: &str) -> Result<Self, ArtifactError> {
        let refuse = |why| Err(ArtifactError::Path { path: shown(text), why });
        if text.is_empty() {
            return refuse("it is empty");
        }
        if text.len() > MAX_PATH {
            return refuse("it has more than 1024 bytes");
        }
        if text.chars().any(char::is_control) {
            return refuse("it has a control character");
        }
        if text.contains('\\') {
            return refuse("it has a backslash, which separates folders on some systems");
        }
        if text.starts_with('/') {
            return refuse("it is absolute");
        }
        for name in text.split('/') {
            match name {
                "" => return refuse("it has an empty name"),
                "." | ".." => return refuse("it has \".\" or \"..\""),
                _ if name.len() > MAX_NAME => return refuse("it has a name of more than 255 bytes"),
                _ => {}
            }
        }
        Ok(Self(text.to_owned()))
    }
}

/// The beginning of hostile text, for messages.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}

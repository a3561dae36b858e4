//! Names: what a store's bucket and key are.

use crate::ObjectError;

/// The longest key in a store, in bytes; of plain and of sealed ones.
pub const MAX_KEY: usize = 1024;

/// What a client calls an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    bucket: String,
    key: String,
}

impl ObjectName {
    /// A bucket of letters, digits, `-`, `.` and `_`; a key of 1 to 1024 bytes without control characters.
    pub fn new(bucket: &str, key: &str) -> Result<Self, ObjectError> {
        check_bucket(bucket)?;
        if key.is_empty() {
            return Err(ObjectError::Name("the key is empty"));
        }
        check_key(key)?;
        Ok(Self { bucket: bucket.into(), key: key.into() })
    }

    /// The bucket.
    #[must_use]
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }
}

pub(crate) fn check_bucket(bucket: &str) -> Result<(), ObjectError> {
    let usual = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if bucket.is_empty() || bucket.len() > 255 || !bucket.chars().all(usual) || bucket.contains("..") {
        return Err(ObjectError::Name("the bucket has other characters than letters, digits, -, . and _"));
    }
    Ok(())
}

pub(crate) fn check_key(key: &str) -> Result<(), ObjectError> {
    if key.len() > MAX_KEY {
        return Err(ObjectError::Name("the key has more than 1024 bytes"));
    }
    if key.chars().any(char::is_control) {
        return Err(ObjectError::Name("the key has a control character"));
    }
    Ok(())
}

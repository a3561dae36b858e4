//! The name of a wrapping key, which is also a path segment in both dialects.
//!
//! INVARIANT: no `/`, `@` or `%`, so that a name is one path segment and `name@0` has one reading.

use std::fmt;

/// A key's name: 1 to 128 of `A-Z a-z 0-9 _ . -`, with no dot or dash at either end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyName(String);

/// The text is no name of a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{found:?} is not the name of a key; expected 1 to 128 of A-Z a-z 0-9 _ . - with no dot or dash at either end"
)]
pub struct NotAKeyName {
    /// What was found, cut to what a name may have.
    pub found: String,
}

const LONGEST: usize = 128;

impl KeyName {
    /// Reads a name.
    pub fn parse(text: &str) -> Result<Self, NotAKeyName> {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        let outer = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let good = text.len() <= LONGEST
            && outer(text.bytes().next())
            && outer(text.bytes().next_back())
            && text.bytes().all(inner);
        match good {
            true => Ok(Self(text.to_string())),
            false => Err(NotAKeyName { found: text.chars().take(LONGEST).collect() }),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_segment_without_version() {
        for good in ["k", "K_1", "a.b-c", "_x_", &"n".repeat(128)] {
            assert_eq!(KeyName::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "a/b", "a@0", "a%40", "-a", "a-", ".a", "a.", "ä", "a b", &"n".repeat(129)]
        {
            assert!(KeyName::parse(bad).is_err(), "{bad}");
        }
    }
}

//! A value's tag: what a caller gives back to change a value only if it is still the one that was read.

use std::fmt;
use std::str::FromStr;

/// Names a value at its place without telling what it is: two tags are equal if the values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag([u8; 16]);

/// A text is no tag.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no tag of a stored value; expected 32 hexadecimal digits, as an earlier answer gave them")]
pub struct NotATag;

impl Tag {
    /// The tag in a message authentication code of 32 bytes.
    pub(crate) fn of(code: &[u8]) -> Self {
        let mut tag = [0; 16];
        for (to, from) in tag.iter_mut().zip(code) {
            *to = *from;
        }
        Self(tag)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for Tag {
    type Err = NotATag;

    fn from_str(text: &str) -> Result<Self, NotATag> {
        let mut tag = [0; 16];
        hex::decode_to_slice(text, &mut tag).map_err(|_| NotATag)?;
        Ok(Self(tag))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_read_as_it_is_written() {
        let tag = Tag::of(&[0xab; 32]);
        assert_eq!(tag.to_string().parse(), Ok(tag));
        for bad in ["", "ab", &"ab".repeat(17), &"zz".repeat(16), &"é".repeat(16)] {
            assert!(bad.parse::<Tag>().is_err(), "{bad}");
        }
    }
}

//! Tag, length and value, as far as `pkcs7` needs them: one byte of tag, definite lengths below 64 KiB (X.690, section
//! 8.1).

/// What is wrong with an element.
pub(crate) struct Malformed(pub(crate) String);

/// A sequence of elements that is read forwards.
#[derive(Clone, Copy)]
pub(crate) struct Tlv<'a>(&'a [u8]);

impl<'a> Tlv<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next element: tag and content.
    pub(crate) fn any(&mut self, what: &str) -> Result<(u8, &'a [u8]), Malformed> {
        let cut = || Malformed(format!("{what} is cut short, or has a length that is not read"));
        let (tag, length, rest) = match *self.0 {
            [tag, short, ref rest @ ..] if short < 0x80 => (tag, usize::from(short), rest),
            [tag, 0x81, one, ref rest @ ..] => (tag, usize::from(one), rest),
            [tag, 0x82, high, low, ref rest @ ..] => {
                (tag, usize::from(u16::from_be_bytes([high, low])), rest)
            }
            _ => return Err(cut()),
        };
        let (content, rest) = rest.split_at_checked(length).ok_or_else(cut)?;
        self.0 = rest;
        Ok((tag, content))
    }

    /// The content of the next element, which has this tag.
    pub(crate) fn content(&mut self, expected: u8, what: &str) -> Result<&'a [u8], Malformed> {
        match self.any(what)? {
            (tag, content) if tag == expected => Ok(content),
            (tag, _) => Err(Malformed(format!("{what} has the tag {tag:#x}; expected {expected:#x}"))),
        }
    }

    /// The elements within the next one, which has this tag.
    pub(crate) fn within(&mut self, tag: u8, what: &str) -> Result<Self, Malformed> {
        self.content(tag, what).map(Self)
    }

    /// Nothing may follow.
    pub(crate) fn end(&self, what: &str) -> Result<(), Malformed> {
        match self.is_empty() {
            true => Ok(()),
            false => Err(Malformed(format!("something follows {what}"))),
        }
    }
}

/// An element around parts, which together are below 64 KiB.
pub(crate) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut out = vec![tag];
    match (u8::try_from(content.len()), u16::try_from(content.len())) {
        (Ok(short), _) if short < 0x80 => out.push(short),
        (Ok(one), _) => out.extend([0x81, one]),
        (Err(_), two) => {
            out.push(0x82);
            out.extend(two.unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    out.extend(content);
    out
}

/// An object identifier.
pub(crate) fn object(content: &[u8]) -> Vec<u8> {
    element(6, &[content])
}

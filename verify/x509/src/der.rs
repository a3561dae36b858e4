//! A thin reader of DER (X.690) over hostile bytes.
//!
//! It borrows, never recurses by itself and never panics. Lengths must be definite, minimal and within what is
//! there. Left out: high tag numbers, which no certificate uses.

/// Tags as they stand in the first octet.
pub mod tag {
    #![allow(missing_docs, reason = "the names are X.680's")]
    pub const BOOLEAN: u8 = 0x01;
    pub const INTEGER: u8 = 0x02;
    pub const BIT_STRING: u8 = 0x03;
    pub const OCTET_STRING: u8 = 0x04;
    pub const OID: u8 = 0x06;
    pub const ENUMERATED: u8 = 0x0a;
    pub const UTF8_STRING: u8 = 0x0c;
    pub const PRINTABLE_STRING: u8 = 0x13;
    pub const IA5_STRING: u8 = 0x16;
    pub const UTC_TIME: u8 = 0x17;
    pub const GENERALIZED_TIME: u8 = 0x18;
    pub const SEQUENCE: u8 = 0x30;
    pub const SET: u8 = 0x31;
}

/// Why bytes are not the DER that was expected.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum DerError {
    /// A field runs past the end.
    #[error("{0} runs past the end")]
    Truncated(&'static str),
    /// A field has another tag.
    #[error("{field}: expected tag {expected:#04x}, found {found:#04x}")]
    Tag {
        /// The field.
        field: &'static str,
        /// The tag that was expected.
        expected: u8,
        /// The tag that was found.
        found: u8,
    },
    /// A length is indefinite, not minimal, or longer than four octets.
    #[error("{0} has a length that is not DER")]
    Length(&'static str),
    /// Something follows.
    #[error("{found} octets follow {field}")]
    Trailing {
        /// The field.
        field: &'static str,
        /// Octets left.
        found: usize,
    },
    /// A value is not one that the field can have.
    #[error("{0} has a value that it cannot have")]
    Value(&'static str),
}

/// One element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element<'a> {
    /// The tag.
    pub tag: u8,
    /// The content.
    pub content: &'a [u8],
    /// Tag, length and content.
    pub whole: &'a [u8],
}

/// A cursor over elements.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads these bytes.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether nothing is left.
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The tag of the next element, if there is one.
    pub fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// The next element, whatever its tag.
    pub fn any(&mut self, field: &'static str) -> Result<Element<'a>, DerError> {
        let truncated = DerError::Truncated(field);
        let (tag, after) = self.rest.split_first().ok_or(truncated.clone())?;
        if tag & 0x1f == 0x1f {
            return Err(DerError::Value(field));
        }
        let (first, after) = after.split_first().ok_or(truncated.clone())?;
        let (length, after) = match first {
            0..=0x7f => (usize::from(*first), after),
            0x81..=0x84 => {
                let (octets, after) =
                    after.split_at_checked(usize::from(first & 0x7f)).ok_or(truncated.clone())?;
                let length = octets.iter().fold(0_u64, |length, octet| length << 8 | u64::from(*octet));
                let minimal = length > 0x7f && octets.first() != Some(&0);
                let length = usize::try_from(length).ok().filter(|_| minimal);
                (length.ok_or(DerError::Length(field))?, after)
            }
            _ => return Err(DerError::Length(field)),
        };
        let (content, rest) = after.split_at_checked(length).ok_or(truncated)?;
        let whole = self.rest.get(..self.rest.len().saturating_sub(rest.len())).unwrap_or_default();
        self.rest = rest;
        Ok(Element { tag: *tag, content, whole })
    }

    /// The next element, which must have this tag.
    pub fn expect(&mut self, tag: u8, field: &'static str) -> Result<Element<'a>, DerError> {
        let element = self.any(field)?;
        match element.tag == tag {
            true => Ok(element),
            false => Err(DerError::Tag { field, expected: tag, found: element.tag }),
        }
    }

    /// The next element if it has this tag.
    pub fn optional(&mut self, tag: u8, field: &'static str) -> Result<Option<Element<'a>>, DerError> {
        match self.peek() == Some(tag) {
            true => self.any(field).map(Some),
            false => Ok(None),
        }
    }

    /// Goes into a SEQUENCE.
    pub fn sequence(&mut self, field: &'static str) -> Result<Reader<'a>, DerError> {
        self.expect(tag::SEQUENCE, field).map(|element| Reader::new(element.content))
    }

    /// An INTEGER that is not negative, without leading zeros.
    pub fn unsigned(&mut self, field: &'static str) -> Result<&'a [u8], DerError> {
        let content = self.expect(tag::INTEGER, field)?.content;
        match content {
            [] => Err(DerError::Value(field)),
            [0] => Ok(content),
            [0, rest @ ..] => match rest.first() {
                Some(next) if *next >= 0x80 => Ok(rest),
                _ => Err(DerError::Value(field)),
            },
            [first, ..] if *first >= 0x80 => Err(DerError::Value(field)),
            _ => Ok(content),
        }
    }

    /// An INTEGER or ENUMERATED of at most eight octets, not negative.
    pub fn number(&mut self, field: &'static str) -> Result<u64, DerError> {
        number(self.unsigned(field)?, field)
    }

    /// A BIT STRING of whole octets.
    pub fn bits(&mut self, field: &'static str) -> Result<&'a [u8], DerError> {
        match self.expect(tag::BIT_STRING, field)?.content {
            [0, octets @ ..] => Ok(octets),
            _ => Err(DerError::Value(field)),
        }
    }

    /// Nothing may be left.
    pub const fn end(&self, field: &'static str) -> Result<(), DerError> {
        match self.rest.len() {
            0 => Ok(()),
            found => Err(DerError::Trailing { field, found }),
        }
    }
}

/// Octets, big endian, as a number.
pub fn number(octets: &[u8], field: &'static str) -> Result<u64, DerError> {
    match octets.len() {
        1..=8 => Ok(octets.iter().fold(0, |number, octet| number << 8 | u64::from(*octet))),
        _ => Err(DerError::Value(field)),
    }
}

/// The content of an object identifier for its dotted form (X.690, section 8.19). None if it is no identifier.
pub fn oid(dotted: &str) -> Option<Vec<u8>> {
    let arcs: Vec<u64> = dotted.split('.').map(|arc| arc.parse().ok()).collect::<Option<_>>()?;
    let (first, second, rest) = match arcs.as_slice() {
        [first @ 0..=1, second @ 0..=39, rest @ ..] => (first, second, rest),
        [2, second, rest @ ..] => (&2, second, rest),
        _ => return None,
    };
    let head = first.checked_mul(40)?.checked_add(*second)?;
    let mut content = Vec::new();
    for arc in std::iter::once(&head).chain(rest) {
        let groups = (64_u32.saturating_sub(arc.leading_zeros())).div_ceil(7).max(1);
        for group in (0..groups).rev() {
            let seven = (arc >> group.saturating_mul(7)) & 0x7f;
            let more = if group == 0 { 0 } else { 0x80 };
            content.push(u8::try_from(seven).ok()? | more);
        }
    }
    Some(content)
}

/// Seconds since 1970 of a UTCTime or GeneralizedTime in the forms of RFC 5280, section 4.1.2.5.
pub fn time(element: &Element<'_>, field: &'static str) -> Result<i64, DerError> {
    let wrong = DerError::Value(field);
    let text = std::str::from_utf8(element.content).ok().and_then(|text| text.strip_suffix('Z'));
    let text = text.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit())).ok_or(wrong.clone())?;
    // RFC 5280, section 4.1.2.5: without a well-defined end. It is beyond what the calendar here can hold.
    if (element.tag, text) == (tag::GENERALIZED_TIME, "99991231235959") {
        return Ok(253_402_300_799);
    }
    let (year, rest) = match (element.tag, text.len()) {
        (tag::UTC_TIME, 12) => {
            let (year, rest) = text.split_at(2);
            let year: i16 = year.parse().map_err(|_| wrong.clone())?;
            // RFC 5280: 50 to 99 are of the last century.
            (year.saturating_add(if year >= 50 { 1900 } else { 2000 }), rest)
        }
        (tag::GENERALIZED_TIME, 14) => {
            let (year, rest) = text.split_at(4);
            (year.parse().map_err(|_| wrong.clone())?, rest)
        }
        _ => return Err(wrong),
    };
    let part = |at: usize| rest.get(at..at.saturating_add(2)).and_then(|two| two.parse::<i8>().ok());
    let (Some(month), Some(day), Some(hour), Some(minute), Some(second)) =
        (part(0), part(2), part(4), part(6), part(8))
    else {
        return Err(wrong);
    };
    let civil = jiff::civil::DateTime::new(year, month, day, hour, minute, second, 0);
    let stamp = civil.ok().and_then(|civil| civil.to_zoned(jiff::tz::TimeZone::UTC).ok());
    stamp.map(|stamp| stamp.timestamp().as_second()).ok_or(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_identifier_is_encoded_as_x690_says() {
        assert_eq!(oid("1.2.840.113741.1.13.1").unwrap(), [0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 1, 0x0d, 1]);
        assert_eq!(oid("2.5.4.3").unwrap(), [0x55, 4, 3]);
        assert_eq!(oid("2.999").unwrap(), [0x88, 0x37]);
        for wrong in ["", "1", "3.1", "1.40", "1.2.x", "1..2", "1.2.99999999999999999999"] {
            assert_eq!(oid(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn lengths_that_are_not_minimal_are_refused() {
        let read = |bytes: &[u8]| Reader::new(bytes).any("x").map(|element| element.content.len());
        assert_eq!(read(&[4, 1, 7]), Ok(1));
        for wrong in
            [&[4, 0x81, 1, 7][..], &[4, 0x80, 0, 0], &[4, 0x82, 0, 1, 7], &[4, 0x85, 0, 0, 0, 0, 1, 7]]
        {
            assert_eq!(read(wrong), Err(DerError::Length("x")), "{wrong:?}");
        }
        for cut in [&[][..], &[4], &[4, 2, 1], &[4, 0x82, 1]] {
            assert_eq!(read(cut), Err(DerError::Truncated("x")), "{cut:?}");
        }
    }

    #[test]
    fn times_are_read_in_both_forms_and_no_other() {
        let read = |tag, text: &str| time(&Element { tag, content: text.as_bytes(), whole: &[] }, "t");
        assert_eq!(read(tag::UTC_TIME, "700101000000Z"), Ok(0));
        assert_eq!(read(tag::UTC_TIME, "491231235959Z"), Ok(2_524_607_999));
        assert_eq!(read(tag::GENERALIZED_TIME, "20500101000000Z"), Ok(2_524_608_000));
        assert_eq!(read(tag::GENERALIZED_TIME, "99991231235959Z"), Ok(253_402_300_799));
        for wrong in ["7001010000Z", "700101000000", "701301000000Z", "700101000000+0100", "70010100000aZ"] {
            read(tag::UTC_TIME, wrong).expect_err(wrong);
        }
    }

    #[test]
    fn integers_are_minimal_and_not_negative() {
        let read = |bytes: &[u8]| Reader::new(bytes).number("n");
        assert_eq!(read(&[2, 1, 0]), Ok(0));
        assert_eq!(read(&[2, 2, 0, 0x80]), Ok(128));
        assert_eq!(read(&[2, 1, 0x80]), Err(DerError::Value("n")));
        assert_eq!(read(&[2, 2, 0, 1]), Err(DerError::Value("n")));
        assert_eq!(read(&[2, 0]), Err(DerError::Value("n")));
        assert_eq!(read(&[2, 9, 1, 0, 0, 0, 0, 0, 0, 0, 0]), Err(DerError::Value("n")));
    }
}

//! Reading CBOR from hostile bytes.
//!
//! Everything well formed is read (RFC 8949, appendix C), also lengths longer than needed and items of indefinite
//! length, because real signers make them. What is valid in syntax but could be understood in two ways is refused:
//! keys that repeat and bytes that follow.

use super::{Map, Value};

/// How deep items may be inside each other. CoRIM needs 14.
pub const MAX_DEPTH: usize = 32;
/// How many items there may be, which bounds the memory taken to some megabytes.
pub const MAX_ITEMS: usize = 1 << 16;
/// How many items are reserved for on the word of a length that nothing has proven yet.
const MAX_RESERVED: usize = 32;

/// Why bytes are not one CBOR item.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CborError {
    /// The bytes end inside an item.
    #[error("the CBOR ends at byte {at}, inside an item")]
    Truncated {
        /// Where.
        at: usize,
    },
    /// Bytes follow the item.
    #[error("{left} bytes follow the CBOR item")]
    Trailing {
        /// How many.
        left: usize,
    },
    /// Items are too deep inside each other.
    #[error("CBOR items deeper than {MAX_DEPTH} at byte {at}")]
    Depth {
        /// Where.
        at: usize,
    },
    /// There are too many items.
    #[error("more than {MAX_ITEMS} CBOR items")]
    Items,
    /// A byte that begins no item.
    #[error("byte {at} ({byte:#04x}) begins no CBOR item here")]
    Byte {
        /// Where.
        at: usize,
        /// What.
        byte: u8,
    },
    /// A text is not UTF-8.
    #[error("the text before byte {at} is not UTF-8")]
    Utf8 {
        /// Where.
        at: usize,
    },
    /// A map has a key twice.
    #[error("a CBOR map that ends at byte {at} has a key twice: {key}")]
    Duplicate {
        /// Where the map ends.
        at: usize,
        /// The key, shortened.
        key: String,
    },
}

/// Reads bytes that are exactly one item.
pub fn decode(bytes: &[u8]) -> Result<Value, CborError> {
    let mut reader = Reader { bytes, at: 0, items: 0 };
    let value = reader.item(0)?;
    match bytes.len().saturating_sub(reader.at) {
        0 => Ok(value),
        left => Err(CborError::Trailing { left }),
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    items: usize,
}

/// What an initial byte says (RFC 8949, section 3).
struct Head {
    at: usize,
    byte: u8,
    major: u8,
    /// None for an indefinite length and for a break.
    argument: Option<u64>,
}

impl Head {
    const fn refused(&self) -> CborError {
        CborError::Byte { at: self.at, byte: self.byte }
    }

    const fn is_break(&self) -> bool {
        self.byte == 0xff
    }
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: u64) -> Result<&'a [u8], CborError> {
        let truncated = CborError::Truncated { at: self.bytes.len() };
        let Some(end) = usize::try_from(length).ok().and_then(|length| self.at.checked_add(length)) else {
            return Err(truncated);
        };
        let taken = self.bytes.get(self.at..end).ok_or(truncated)?;
        self.at = end;
        Ok(taken)
    }

    fn head(&mut self) -> Result<Head, CborError> {
        let at = self.at;
        let byte = self.take(1)?.first().copied().unwrap_or_default();
        let argument = match byte & 0x1f {
            short @ 0..=23 => Some(u64::from(short)),
            // One, two, four or eight bytes.
            long @ 24..=27 => {
                let bytes = self.take(1 << (long & 3))?;
                Some(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
            }
            31 => None,
            _ => return Err(CborError::Byte { at, byte }),
        };
        Ok(Head { at, byte, major: byte >> 5, argument })
    }

    fn item(&mut self, depth: usize) -> Result<Value, CborError> {
        let head = self.head()?;
        self.item_of(&head, depth)
    }

    fn item_of(&mut self, head: &Head, depth: usize) -> Result<Value, CborError> {
        self.items = self.items.saturating_add(1);
        if self.items > MAX_ITEMS {
            return Err(CborError::Items);
        }
        if depth > MAX_DEPTH {
            return Err(CborError::Depth { at: head.at });
        }
        let deeper = depth.saturating_add(1);
        match (head.major, head.argument) {
            (0, Some(value)) => Ok(Value::Unsigned(value)),
            (1, Some(value)) => Ok(Value::Negative(value)),
            (2, length) => Ok(Value::Bytes(self.string(2, length)?)),
            (3, length) => self.text(length),
            (4, length) => {
                let mut items = Vec::with_capacity(reserved(length));
                while let Some(first) = self.next(length, items.len())? {
                    items.push(self.item_of(&first, deeper)?);
                }
                Ok(Value::Array(items))
            }
            (5, length) => self.map(length, deeper),
            (6, Some(tag)) => Ok(Value::Tag(tag, Box::new(self.item(deeper)?))),
            (7, Some(argument)) => simple(head, argument),
            _ => Err(head.refused()),
        }
    }

    /// The head of the next item of an array or map, or none at its end.
    fn next(&mut self, length: Option<u64>, so_far: usize) -> Result<Option<Head>, CborError> {
        match length {
            Some(length) if u64::try_from(so_far).is_ok_and(|so_far| so_far >= length) => Ok(None),
            Some(_) => self.head().map(Some),
            None => self.head().map(|head| (!head.is_break()).then_some(head)),
        }
    }

    fn map(&mut self, length: Option<u64>, deeper: usize) -> Result<Value, CborError> {
        let mut entries = Vec::with_capacity(reserved(length));
        while let Some(first) = self.next(length, entries.len())? {
            let key = self.item_of(&first, deeper)?;
            entries.push((key, self.item(deeper)?));
        }
        let duplicate = |key: Value| CborError::Duplicate { at: self.at, key: shown(&key) };
        Map::of(entries).map(Value::Map).map_err(duplicate)
    }

    /// A byte or text string; one of indefinite length is made of definite ones (RFC 8949, section 3.2.3).
    fn string(&mut self, major: u8, length: Option<u64>) -> Result<Vec<u8>, CborError> {
        if let Some(length) = length {
            return self.take(length).map(<[u8]>::to_vec);
        }
        let mut whole = Vec::new();
        loop {
            let head = self.head()?;
            match head.argument {
                _ if head.is_break() => return Ok(whole),
                Some(length) if head.major == major => {
                    let piece = self.take(length)?;
                    // Each piece of a text is a text.
                    if major == 3 && std::str::from_utf8(piece).is_err() {
                        return Err(CborError::Utf8 { at: self.at });
                    }
                    whole.extend_from_slice(piece);
                }
                _ => return Err(head.refused()),
            }
        }
    }

    fn text(&mut self, length: Option<u64>) -> Result<Value, CborError> {
        let bytes = self.string(3, length)?;
        String::from_utf8(bytes).map(Value::Text).map_err(|_| CborError::Utf8 { at: self.at })
    }
}

fn reserved(length: Option<u64>) -> usize {
    length.and_then(|length| usize::try_from(length).ok()).map_or(0, |length| length.min(MAX_RESERVED))
}

/// Half precision's `7e00`.
const CANONICAL_NAN: u64 = 0x7ff8_0000_0000_0000;

/// Simple values and numbers with fractions (RFC 8949, section 3.3).
fn simple(head: &Head, argument: u64) -> Result<Value, CborError> {
    let bits = |bytes: u32| u32::try_from(argument).map(f32::from_bits).ok().filter(|_| bytes == 4);
    match head.byte & 0x1f {
        // Values under 32 have a form of one byte, and no other.
        24 if argument < 32 => Err(head.refused()),
        0..=24 => u8::try_from(argument).map(Value::Simple).map_err(|_| head.refused()),
        25 => Ok(float(half(argument))),
        26 => bits(4).map(|number| float(f64::from(number))).ok_or(head.refused()),
        _ => Ok(float(f64::from_bits(argument))),
    }
}

/// What is no number is one value (RFC 8949, section 4.2.2), so that two of them are the same key when they are read and
/// not only when they are written.
fn float(number: f64) -> Value {
    Value::Float(if number.is_nan() { CANONICAL_NAN } else { number.to_bits() })
}

/// A number of half precision (RFC 8949, appendix D).
fn half(bits: u64) -> f64 {
    let mantissa = u32::try_from(bits & 0x3ff).unwrap_or_default();
    let (exponent, negative) = (bits >> 10 & 0x1f, bits & 0x8000 != 0);
    let size = match exponent {
        0 => f64::from(mantissa) * 2_f64.powi(-24),
        31 if mantissa == 0 => f64::INFINITY,
        31 => f64::NAN,
        _ => {
            let exponent = i32::try_from(exponent).unwrap_or_default().saturating_sub(25);
            f64::from(mantissa | 0x400) * 2_f64.powi(exponent)
        }
    };
    if negative { -size } else { size }
}

/// A key for a message.
fn shown(key: &Value) -> String {
    match key {
        Value::Text(text) => format!("{:?}", text.chars().take(64).collect::<String>()),
        other => other.as_integer().map_or_else(|| other.kind(), |number| number.to_string()),
    }
}

//! CBOR (RFC 8949): values, a strict reader and a deterministic writer.
//!
//! INVARIANT: a [`Map`] holds each key once and in one order, so that two readers of the same bytes cannot see
//! different values. Left out: streaming, and numbers outside CBOR's own 64 bits.

mod read;
#[cfg(test)]
mod tests;
mod write;

pub use read::{CborError, MAX_DEPTH, MAX_ITEMS, decode};
pub use write::encode;

/// One data item.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// Major type 0.
    Unsigned(u64),
    /// Major type 1: the number −1 − n.
    Negative(u64),
    /// Major type 2.
    Bytes(Vec<u8>),
    /// Major type 3.
    Text(String),
    /// Major type 4.
    Array(Vec<Value>),
    /// Major type 5.
    Map(Map),
    /// Major type 6.
    Tag(u64, Box<Value>),
    /// Major type 7, other than numbers: 20 is false, 21 true, 22 null, 23 undefined.
    Simple(u8),
    /// Major type 7, a number, as the bits of an IEEE 754 double.
    Float(u64),
}

/// Null.
pub const NULL: Value = Value::Simple(22);

impl Value {
    /// A tagged item.
    pub fn tag(tag: u64, value: impl Into<Self>) -> Self {
        Self::Tag(tag, Box::new(value.into()))
    }

    /// The number, if it is an integer; CBOR's reach further than `i64`.
    pub fn as_integer(&self) -> Option<i128> {
        match self {
            Self::Unsigned(value) => Some(i128::from(*value)),
            Self::Negative(value) => Some((-1_i128).saturating_sub(i128::from(*value))),
            _ => None,
        }
    }

    /// The number, if it is an integer that fits.
    pub fn as_i64(&self) -> Option<i64> {
        self.as_integer().and_then(|value| value.try_into().ok())
    }

    /// The number, if it is not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Unsigned(value) => Some(*value),
            _ => None,
        }
    }

    /// The byte string.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The text.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The array's items.
    pub fn as_array(&self) -> Option<&[Self]> {
        match self {
            Self::Array(items) => Some(items),
            _ => None,
        }
    }

    /// The map.
    pub fn as_map(&self) -> Option<&Map> {
        match self {
            Self::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The boolean.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Simple(20) => Some(false),
            Self::Simple(21) => Some(true),
            _ => None,
        }
    }

    /// The tag and what it tags.
    pub fn as_tag(&self) -> Option<(u64, &Self)> {
        match self {
            Self::Tag(tag, value) => Some((*tag, value)),
            _ => None,
        }
    }

    /// Whether it is null.
    pub fn is_null(&self) -> bool {
        *self == NULL
    }

    /// What kind of item it is, for messages.
    pub fn kind(&self) -> String {
        match self {
            Self::Unsigned(_) | Self::Negative(_) => "an integer".into(),
            Self::Bytes(bytes) => format!("{} bytes", bytes.len()),
            Self::Text(_) => "text".into(),
            Self::Array(items) => format!("an array of {}", items.len()),
            Self::Map(_) => "a map".into(),
            Self::Tag(tag, _) => format!("tag {tag}"),
            Self::Simple(22) => "null".into(),
            Self::Simple(20 | 21) => "a boolean".into(),
            Self::Simple(value) => format!("simple value {value}"),
            Self::Float(_) => "a number with a fraction".into(),
        }
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Unsigned(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        match u64::try_from(value) {
            Ok(value) => Self::Unsigned(value),
            // −1 − n has the bits of n inverted.
            Err(_) => Self::Negative(!value.cast_unsigned()),
        }
    }
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        i64::from(value).into()
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Simple(if value { 21 } else { 20 })
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Self {
        Self::Bytes(value.to_vec())
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Bytes(value)
    }
}

impl From<Map> for Value {
    fn from(value: Map) -> Self {
        Self::Map(value)
    }
}

/// A map, its keys unique and ordered.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Map(Vec<(Value, Value)>);

impl Map {
    /// An empty map.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Puts a value at a key and gives back what was there.
    pub fn insert(&mut self, key: impl Into<Value>, value: impl Into<Value>) -> Option<Value> {
        let (key, value) = (key.into(), value.into());
        match self.0.binary_search_by(|(held, _)| held.cmp(&key)) {
            Ok(at) => self.0.get_mut(at).map(|(_, held)| std::mem::replace(held, value)),
            Err(at) => {
                self.0.insert(at, (key, value));
                None
            }
        }
    }

    /// The same, as a chain.
    #[must_use]
    pub fn with(mut self, key: impl Into<Value>, value: impl Into<Value>) -> Self {
        self.insert(key, value);
        self
    }

    /// The value at a key.
    pub fn get(&self, key: &Value) -> Option<&Value> {
        let at = self.0.binary_search_by(|(held, _)| held.cmp(key)).ok()?;
        self.0.get(at).map(|(_, value)| value)
    }

    /// The value at an integer, as most formats have their keys.
    pub fn at(&self, key: i64) -> Option<&Value> {
        self.get(&key.into())
    }

    /// The value at a text.
    pub fn named(&self, key: &str) -> Option<&Value> {
        self.get(&key.into())
    }

    /// All entries in the order of their keys.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Value, &Value)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A map of these entries, or the key that is there twice.
    fn of(mut entries: Vec<(Value, Value)>) -> Result<Self, Value> {
        entries.sort_by(|(one, _), (other, _)| one.cmp(other));
        let twice = entries.windows(2).find_map(|pair| match pair {
            [(one, _), (other, _)] if one == other => Some(one.clone()),
            _ => None,
        });
        twice.map_or(Ok(Self(entries)), Err)
    }
}

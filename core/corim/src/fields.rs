//! Reading members of CBOR maps, each with its name and what it must be.

use coffer_core_cose::cbor::{Map, Value};

use crate::error::CorimError;

/// A URI (RFC 3986).
const TAG_URI: u64 = 32;

/// A member that must be there.
pub(crate) fn required<'a, T>(
    map: &'a Map,
    key: i64,
    what: &'static str,
    expected: &'static str,
    read: impl FnOnce(&'a Value) -> Option<T>,
) -> Result<T, CorimError> {
    let value = map.at(key);
    value.and_then(read).ok_or_else(|| CorimError::form(what, expected, value))
}

/// A member that may be left out.
pub(crate) fn optional<'a, T>(
    map: &'a Map,
    key: i64,
    what: &'static str,
    expected: &'static str,
    read: impl FnOnce(&'a Value) -> Option<T>,
) -> Result<Option<T>, CorimError> {
    match map.at(key) {
        None => Ok(None),
        Some(_) => required(map, key, what, expected, read).map(Some),
    }
}

/// A member that may be left out, read by a function that says itself what is wrong.
pub(crate) fn part<'a, T>(
    map: &'a Map,
    key: i64,
    read: impl FnOnce(&'a Value) -> Result<T, CorimError>,
) -> Result<Option<T>, CorimError> {
    map.at(key).map(read).transpose()
}

pub(crate) fn map<'a>(what: &'static str, value: &'a Value) -> Result<&'a Map, CorimError> {
    value.as_map().ok_or_else(|| CorimError::form(what, "a map", Some(value)))
}

pub(crate) fn text(value: &Value) -> Option<String> {
    value.as_text().map(str::to_owned)
}

/// A URI, tagged as it should be or not.
pub(crate) fn uri(value: &Value) -> Option<String> {
    match value.as_tag() {
        Some((TAG_URI, inner)) => text(inner),
        Some(_) => None,
        None => text(value),
    }
}

pub(crate) fn of_uri(uri: &str) -> Value {
    Value::tag(TAG_URI, uri)
}

/// An identifier: a text or a UUID, which is written as people write it.
pub(crate) fn identifier(value: &Value) -> Option<String> {
    match value.as_bytes() {
        Some(bytes) => Some(uuid(bytes.try_into().ok()?)),
        None => text(value),
    }
}

/// The text form of a UUID (RFC 9562, section 4).
pub(crate) fn uuid(bytes: [u8; 16]) -> String {
    let mut text = hex::encode(bytes);
    for at in [20, 16, 12, 8] {
        text.insert(at, '-');
    }
    text
}

/// Seconds since 1970: tag 1, or a bare number.
pub(crate) fn time(value: &Value) -> Option<i64> {
    let number = match value.as_tag() {
        Some((1, inner)) => inner,
        Some(_) => return None,
        None => value,
    };
    match number {
        #[allow(clippy::cast_possible_truncation, reason = "what is too large saturates, and is no date")]
        Value::Float(bits) => {
            Some(f64::from_bits(*bits) as i64).filter(|_| f64::from_bits(*bits).is_finite())
        }
        other => other.as_i64(),
    }
}

pub(crate) fn of_time(seconds: i64) -> Value {
    Value::tag(1, seconds)
}

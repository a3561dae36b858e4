//! Writing CBOR in its one deterministic form (RFC 8949, section 4.2.1): shortest arguments, definite lengths,
//! maps ordered by the bytes of their keys, numbers in the shortest form that keeps them.

use super::{Map, Value};

/// Writes one item.
pub fn encode(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out, value);
    out
}

fn write(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Unsigned(value) => head(out, 0, *value),
        Value::Negative(value) => head(out, 1, *value),
        Value::Bytes(bytes) => string(out, 2, bytes),
        Value::Text(text) => string(out, 3, text.as_bytes()),
        Value::Array(items) => {
            head(out, 4, count(items.len()));
            items.iter().for_each(|item| write(out, item));
        }
        Value::Map(entries) => map(out, entries),
        Value::Tag(tag, value) => {
            head(out, 6, *tag);
            write(out, value);
        }
        Value::Simple(value) => head(out, 7, u64::from(*value)),
        Value::Float(bits) => float(out, *bits),
    }
}

fn head(out: &mut Vec<u8>, major: u8, argument: u64) {
    let major = major << 5;
    let bytes = argument.to_be_bytes();
    let (short, skipped) = match argument {
        0..=23 => {
            out.push(major | bytes[7]);
            return;
        }
        24..=0xff => (24, 7),
        0x100..=0xffff => (25, 6),
        0x1_0000..=0xffff_ffff => (26, 4),
        _ => (27, 0),
    };
    out.push(major | short);
    out.extend(bytes.iter().skip(skipped));
}

fn string(out: &mut Vec<u8>, major: u8, bytes: &[u8]) {
    head(out, major, count(bytes.len()));
    out.extend_from_slice(bytes);
}

fn map(out: &mut Vec<u8>, entries: &Map) {
    let mut written: Vec<(Vec<u8>, &Value)> =
        entries.iter().map(|(key, value)| (encode(key), value)).collect();
    written.sort_by(|(one, _), (other, _)| one.cmp(other));
    head(out, 5, count(written.len()));
    for (key, value) in written {
        out.extend_from_slice(&key);
        write(out, value);
    }
}

fn float(out: &mut Vec<u8>, bits: u64) {
    let number = f64::from_bits(bits);
    // The one form of what is no number (RFC 8949, section 4.2.2).
    if number.is_nan() {
        out.extend([0xf9, 0x7e, 0]);
        return;
    }
    #[allow(clippy::cast_possible_truncation, reason = "whether it was exact is what is asked next")]
    let single = number as f32;
    if f64::from(single).to_bits() != bits {
        out.push(0xfb);
        out.extend(bits.to_be_bytes());
    } else if let Some(half) = half(single) {
        out.push(0xf9);
        out.extend(half.to_be_bytes());
    } else {
        out.push(0xfa);
        out.extend(single.to_bits().to_be_bytes());
    }
}

/// The number in half precision, if that keeps it.
fn half(number: f32) -> Option<u16> {
    let bits = number.to_bits();
    let (exponent, mantissa) = (bits >> 23 & 0xff, bits & 0x7f_ffff);
    let sign = bits >> 16 & 0x8000;
    let size = match exponent {
        0 if mantissa == 0 => 0,
        0xff => 0x7c00,
        113..=142 if mantissa & 0x1fff == 0 => exponent.checked_sub(112)? << 10 | mantissa >> 13,
        // Below the normal numbers of half precision the leading bit is written, and bits fall off at the end.
        103..=112 => {
            let dropped = 126_u32.checked_sub(exponent)?;
            let whole = mantissa | 0x80_0000;
            let kept = whole.checked_shr(dropped)?;
            match kept.checked_shl(dropped)? == whole {
                true => kept,
                false => return None,
            }
        }
        _ => return None,
    };
    u16::try_from(sign | size).ok()
}

/// A length in memory fits.
fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

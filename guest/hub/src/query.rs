//! Query strings, as far as the API needs them.

/// The value of a parameter, with escapes undone; `None` if it is absent or its escapes are broken.
pub(crate) fn parameter(query: &str, name: &str) -> Option<Vec<u8>> {
    let value = query.split('&').find_map(|pair| {
        let (found, value) = pair.split_once('=').unwrap_or((pair, ""));
        (found == name).then_some(value)
    })?;
    unescape(value)
}

/// Undoes `%XX` and `+` (WHATWG URL, application/x-www-form-urlencoded).
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
                high << 4 | low
            }
            other => other,
        });
    }
    Some(out)
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_by_name_and_unescaped() {
        let query = "a=1&runtime_data=x%2Fy+z%3D&encoding=";
        assert_eq!(parameter(query, "runtime_data").as_deref(), Some(b"x/y z=".as_slice()));
        assert_eq!(parameter(query, "encoding").as_deref(), Some(b"".as_slice()));
        assert_eq!(parameter(query, "data"), None);
        assert_eq!(parameter("a=%2", "a"), None);
        assert_eq!(parameter("a=%zz", "a"), None);
    }
}

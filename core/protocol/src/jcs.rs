//! Canonical JSON (RFC 8785), the one form of a value that both ends hash.

use coffer_core_digest::{Algorithm, Digest};
use serde::Serialize;

/// A value has no canonical form: it holds a number that JSON cannot hold, or a key that is no text.
#[derive(Debug, thiserror::Error)]
#[error("the value has no canonical JSON form: {0}")]
pub struct NotCanonical(#[from] serde_json::Error);

/// The canonical bytes of a value.
pub fn canonical<T: Serialize>(value: &T) -> Result<Vec<u8>, NotCanonical> {
    Ok(serde_json_canonicalizer::to_vec(value)?)
}

/// The hash of a value's canonical bytes.
pub fn digest<T: Serialize>(algorithm: Algorithm, value: &T) -> Result<Digest, NotCanonical> {
    Ok(Digest::of(algorithm, &canonical(value)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_protocol_s_known_answer_is_reproduced() {
        let value = json!({"b": 1, "a": "test", "c": {"d": "e"}});
        assert_eq!(
            digest(Algorithm::Sha384, &value).unwrap().hex(),
            "e71ce8e70d814ba6639c3612ebee0ff1f76f650f8dbb5e47157e0f3f525cd22c\
             4597480a186427c813ca941da78870c3"
        );
    }

    #[test]
    fn members_are_sorted_and_text_is_escaped_once() {
        let value = json!({"z": "\u{1}\"", "é": [1.0, 1e21], "a": null});
        assert_eq!(
            String::from_utf8(canonical(&value).unwrap()).unwrap(),
            "{\"a\":null,\"z\":\"\\u0001\\\"\",\"é\":[1,1e+21]}"
        );
    }
}

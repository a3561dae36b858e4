//! Requests and responses as bytes: maps whose one key is the request's name, as `serde` writes AWS's enumerations.

use coffer_core_cose::cbor::{Map, NULL, Value, decode, encode};

/// The longest user data that a document carries.
pub const MAX_USER_DATA: usize = 512;

/// A register of the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    /// Whether it can no longer be extended.
    pub locked: bool,
    /// Its value, SHA-384.
    pub value: Vec<u8>,
}

/// Why a response is none to the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// The module's own error.
    Refused(String),
    /// It is none.
    Malformed,
}

fn request(name: &str, members: Map) -> Vec<u8> {
    encode(&Map::new().with(name, members).into())
}

fn index(register: u16) -> Map {
    Map::new().with("index", Value::Unsigned(register.into()))
}

pub(crate) fn attestation(user_data: &[u8]) -> Vec<u8> {
    let members = Map::new().with("user_data", user_data).with("nonce", NULL).with("public_key", NULL);
    request("Attestation", members)
}

pub(crate) fn extend(register: u16, data: &[u8]) -> Vec<u8> {
    request("ExtendPCR", index(register).with("data", data))
}

pub(crate) fn describe(register: u16) -> Vec<u8> {
    request("DescribePCR", index(register))
}

pub(crate) fn lock(register: u16) -> Vec<u8> {
    request("LockPCR", index(register))
}

/// The response that a lock was set. One without members is its bare name.
pub fn locked(response: &[u8]) -> Result<(), Unusable> {
    match decode(response).map_err(|_| Unusable::Malformed)? {
        Value::Text(name) if name == "LockPCR" => Ok(()),
        other => members(&other, "LockPCR").map(drop),
    }
}

/// The document in a response.
pub fn document(response: &[u8]) -> Result<Vec<u8>, Unusable> {
    let document = bytes(response, "Attestation", "document")?;
    if document.is_empty() { Err(Unusable::Malformed) } else { Ok(document) }
}

/// A register's value after its extension.
pub fn extended(response: &[u8]) -> Result<Vec<u8>, Unusable> {
    bytes(response, "ExtendPCR", "data")
}

/// A register as the response describes it.
pub fn described(response: &[u8]) -> Result<Register, Unusable> {
    let response = decode(response).map_err(|_| Unusable::Malformed)?;
    let members = members(&response, "DescribePCR")?;
    let locked = members.named("lock").and_then(Value::as_bool);
    let value = members.named("data").and_then(Value::as_bytes);
    match (locked, value) {
        (Some(locked), Some(value)) => Ok(Register { locked, value: value.to_vec() }),
        _ => Err(Unusable::Malformed),
    }
}

fn bytes(response: &[u8], name: &str, member: &str) -> Result<Vec<u8>, Unusable> {
    let response = decode(response).map_err(|_| Unusable::Malformed)?;
    let found = members(&response, name)?.named(member).and_then(Value::as_bytes);
    found.map(<[u8]>::to_vec).ok_or(Unusable::Malformed)
}

/// The members of a response of this name.
fn members<'a>(response: &'a Value, name: &str) -> Result<&'a Map, Unusable> {
    let response = response.as_map().filter(|map| map.len() == 1).ok_or(Unusable::Malformed)?;
    if let Some(why) = response.named("Error") {
        let why = why.as_text().ok_or(Unusable::Malformed)?;
        return Err(Unusable::Refused(why.chars().filter(|c| !c.is_control()).take(64).collect()));
    }
    response.named(name).and_then(Value::as_map).ok_or(Unusable::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(name: &str, members: impl Into<Value>) -> Vec<u8> {
        encode(&Map::new().with(name, members.into()).into())
    }

    #[test]
    fn requests_are_the_bytes_that_the_device_knows() {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        // By hand: a1 6b "Attestation" a3 65 "nonce" f6 69 "user_data" 43 010203 6a "public_key" f6
        assert_eq!(
            hex(&attestation(&[1, 2, 3])),
            "a16b4174746573746174696f6ea3656e6f6e6365f669757365725f64617461430102036a7075626c69635f6b6579f6"
        );
        assert_eq!(
            hex(&extend(16, &[0; 2])),
            "a169457874656e64504352a26464617461420000".to_owned() + "65696e64657810"
        );
        assert_eq!(hex(&describe(300)), "a16b4465736372696265504352a165696e64657819012c");
        assert_eq!(hex(&lock(16)), "a1674c6f636b504352a165696e64657810");
    }

    #[test]
    fn responses_are_read_and_their_refusals_are_told() {
        let long = vec![7u8; 5000];
        assert_eq!(
            document(&answer("Attestation", Map::new().with("document", long.clone()))).unwrap(),
            long
        );
        let register = Map::new().with("lock", true).with("data", vec![1u8; 48]);
        assert_eq!(
            described(&answer("DescribePCR", register)).unwrap(),
            Register { locked: true, value: vec![1; 48] }
        );
        let refused = answer("Error", "InvalidIndex");
        assert_eq!(extended(&refused), Err(Unusable::Refused("InvalidIndex".into())));
        assert_eq!(locked(&refused), Err(Unusable::Refused("InvalidIndex".into())));
        assert_eq!(locked(&encode(&"LockPCR".into())), Ok(()));
        assert_eq!(locked(&encode(&"LockPCRs".into())), Err(Unusable::Malformed));
    }

    #[test]
    fn a_response_cut_anywhere_or_of_another_kind_is_refused() {
        let bytes = answer("Attestation", Map::new().with("document", vec![7u8; 300]));
        for end in 0..bytes.len() {
            assert_eq!(document(&bytes[..end]), Err(Unusable::Malformed), "cut at {end}");
        }
        assert_eq!(extended(&bytes), Err(Unusable::Malformed));
        let empty = answer("Attestation", Map::new().with("document", Vec::new()));
        assert_eq!(document(&empty), Err(Unusable::Malformed));
        // Deep nesting, and a length beyond all memory.
        assert_eq!(document(&[0x81; 10_000]), Err(Unusable::Malformed));
        let huge = [0xa1, 0x61, b'x', 0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(document(&huge), Err(Unusable::Malformed));
    }
}

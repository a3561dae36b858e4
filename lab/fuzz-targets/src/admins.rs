//! What shows who an admin is: tokens, issuers' key sets, keys, and client certificates.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coffer_server_identity::{ClientCertificate, KeySet, MAX_KEYS, MAX_TOKEN, PublicKey, Token};

/// Takes a token apart: the input as text, and the input's lines as the parts before they were encoded.
pub fn admin_token(data: &[u8]) {
    let parts = data.split(|byte| *byte == b'\n').map(|part| URL_SAFE_NO_PAD.encode(part));
    let encoded = parts.collect::<Vec<_>>().join(".");
    for text in std::str::from_utf8(data).into_iter().chain([encoded.as_str()]) {
        if Token::parse(text).is_ok() {
            assert!(text.len() <= MAX_TOKEN && text.matches('.').count() == 2);
        }
    }
}

/// Reads an issuer's key set.
pub fn issuer_keys(data: &[u8]) {
    if let Ok(set) = KeySet::parse(data) {
        assert!((1..=MAX_KEYS).contains(&set.len()) && set.len() + set.skipped() <= MAX_KEYS);
        // Others read the document again, so it must be the one that was read.
        let again = KeySet::parse(set.document().as_bytes()).unwrap();
        assert_eq!((again.len(), again.skipped()), (set.len(), set.skipped()));
    }
}

/// Reads an admin's key: a JWK, or PEM. Input that is not text is taken as the content of a PEM block.
pub fn admin_key(data: &[u8]) {
    let pem = || {
        let body = base64::engine::general_purpose::STANDARD.encode(data);
        format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n")
    };
    let text = std::str::from_utf8(data).map_or_else(|_| pem(), str::to_owned);
    if let Ok(key) = PublicKey::from_text(&text) {
        assert_eq!(URL_SAFE_NO_PAD.decode(key.thumbprint()).unwrap().len(), 32);
    }
}

/// Reads a client's certificate.
pub fn client_certificate(data: &[u8]) {
    if let Ok(read) = ClientCertificate::from_verified_der(data) {
        assert_eq!(ClientCertificate::from_verified_der(data).unwrap(), read);
    }
}

const EC: &str = r#"{"kty":"EC","crv":"P-256","use":"sig","kid":"1","alg":"ES256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
const ED25519: &str =
    r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","key_ops":["verify"]}"#;
const RSA: &str = r#"{"kty":"RSA","e":"AQAB","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"}"#;

fn point() -> Vec<u8> {
    let key: serde_json::Value = serde_json::from_str(EC).unwrap();
    let part = |name: &str| URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap()).unwrap();
    [vec![4], part("x"), part("y")].concat()
}

/// `SubjectPublicKeyInfo` of the key on P-256 and of the Ed25519 key (RFC 5480, RFC 8410).
fn spki() -> [Vec<u8>; 2] {
    let ec = hex("3059301306072a8648ce3d020106082a8648ce3d030107034200");
    let ed25519 = hex("302a300506032b6570032100");
    let key: serde_json::Value = serde_json::from_str(ED25519).unwrap();
    let x = URL_SAFE_NO_PAD.decode(key["x"].as_str().unwrap()).unwrap();
    [[ec, point()].concat(), [ed25519, x].concat()]
}

fn hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().as_chunks::<2>().0;
    digits.iter().map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

pub(crate) fn token_seeds() -> Vec<Vec<u8>> {
    let header = format!(r#"{{"alg":"ES256","typ":"at+jwt","kid":"1","jwk":{EC}}}"#);
    let claims =
        r#"{"iss":"https://issuer.example","sub":"ann","aud":["coffer"],"iat":1,"exp":2,"cnf":{"jkt":"x"}}"#;
    let parts = [header.as_str(), claims, "signature"];
    let encoded = parts.map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    vec![encoded.into_bytes(), parts.join("\n").into_bytes(), b"{\"alg\":\"EdDSA\"}\n{}\n".to_vec()]
}

pub(crate) fn set_seeds() -> Vec<Vec<u8>> {
    let mixed = format!(r#"{{"keys":[{EC},{RSA},{ED25519},{{"kty":"oct","k":"AAAA"}},7],"x":1}}"#);
    vec![mixed.into_bytes(), format!(r#"{{"keys":[{ED25519}]}}"#).into_bytes()]
}

pub(crate) fn key_seeds() -> Vec<Vec<u8>> {
    let pem = |der: &[u8]| {
        let body = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n").into_bytes()
    };
    let der = spki();
    let texts = [EC, ED25519, RSA].map(|text| text.as_bytes().to_vec());
    texts.into_iter().chain([pem(&der[0]), pem(&der[1])]).chain(der).collect()
}

pub(crate) fn certificate_seeds() -> Vec<Vec<u8>> {
    vec![include_bytes!("../../fuzz/corpus/client_certificate/ann.der").to_vec()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_is_taken_by_the_parser_that_it_is_for() {
        for seed in key_seeds().iter().take(5) {
            assert!(PublicKey::from_text(std::str::from_utf8(seed).unwrap()).is_ok());
        }
        for seed in spki() {
            assert!(std::str::from_utf8(&seed).is_err(), "it would be taken for text");
        }
        assert_eq!(set_seeds().iter().map(|seed| KeySet::parse(seed).unwrap().len()).sum::<usize>(), 4);
        assert!(Token::parse(std::str::from_utf8(&token_seeds()[0]).unwrap()).is_ok());
        assert!(ClientCertificate::from_verified_der(&certificate_seeds()[0]).is_ok());
    }
}

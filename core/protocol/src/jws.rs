//! Signatures in compact form (RFC 7515): ES256 for attestation tokens, EdDSA for admins' requests.
//!
//! The key decides the algorithm, never the header: a header that names another one is refused, and so are `none`
//! critical extensions, and members that are there twice. Left out: the tokens of others and their chains, which are
//! `passport`'s; ours are verified with a pinned key.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    ParsedPublicKey,
};
use coffer_core_digest::Digest;
use coffer_core_secret::SecretBytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::b64;
use crate::jwk::{Curve, EcKey, short};
use crate::strict;

/// The longest compact form that is read.
pub const MAX_COMPACT: usize = 8 << 20;

/// Why a signature is refused, or could not be made.
#[derive(Debug, thiserror::Error)]
pub enum JwsError {
    /// Not three base64url parts.
    #[error("not a signature in compact form: {0}")]
    Form(&'static str),
    /// The header or the payload is not the JSON that was asked for.
    #[error("the signed text is not the expected JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The header names an algorithm that is not the key's.
    #[error("signature algorithm {found:?} is not accepted; the key is for {expected}")]
    Algorithm {
        /// The key's algorithm.
        expected: &'static str,
        /// What the header says.
        found: String,
    },
    /// An extension must be understood (RFC 7515, section 4.1.11).
    #[error("the signature has critical extensions (crit); none is known")]
    Critical,
    /// The signature does not fit the text and the key.
    #[error("the signature does not fit: another key signed, or the text was changed")]
    Signature,
    /// The header names a key that is none of those pinned.
    #[error("the signature names key {found:?}, which is none of the keys that are trusted here")]
    UnknownKey {
        /// The header's `kid`.
        found: String,
    },
    /// The key is not usable.
    #[error("not a key that verifies signatures: {0}")]
    Key(&'static str),
    /// The provider failed to make or to use a private key.
    #[error("signing failed at {0}")]
    Provider(&'static str),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Material {
    Es256(EcKey),
    Ed25519(Vec<u8>),
}

/// A public key that verifies signatures. Its JSON form is a JWK.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Members", into = "Members")]
pub struct VerifyingKey(Material);

/// The JSON members in the order that upstream's tokens have them.
#[derive(Clone, Serialize, Deserialize)]
struct Members {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alg: Option<String>,
    kty: String,
    crv: String,
    x: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    y: Option<String>,
}

/// A private JWK.
#[derive(Deserialize)]
struct PrivateMembers {
    d: String,
    #[serde(flatten)]
    public: Members,
}

impl VerifyingKey {
    /// An Ed25519 public key (RFC 8032).
    pub fn from_ed25519(bytes: &[u8; 32]) -> Result<Self, JwsError> {
        ParsedPublicKey::new(&ED25519, bytes).map_err(|_| JwsError::Key("not a point of Ed25519"))?;
        Ok(Self(Material::Ed25519(bytes.to_vec())))
    }

    /// The algorithm that this key is for.
    pub fn algorithm(&self) -> &'static str {
        match self.0 {
            Material::Es256(_) => "ES256",
            Material::Ed25519(_) => "EdDSA",
        }
    }

    /// The key's bytes: the uncompressed point, or Ed25519's 32 bytes.
    pub(crate) fn to_raw(&self) -> Vec<u8> {
        match &self.0 {
            Material::Es256(key) => key.to_point(),
            Material::Ed25519(key) => key.clone(),
        }
    }

    /// The SHA-256 thumbprint in base64url (RFC 7638).
    pub fn thumbprint(&self) -> String {
        let text = match &self.0 {
            Material::Es256(key) => return key.thumbprint(),
            Material::Ed25519(x) => format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, b64::url(x)),
        };
        b64::url(Digest::sha256(text.as_bytes()).as_bytes())
    }

    /// Verifies a signature over bytes: for ES256 `r || s` (RFC 7518, section 3.4), for EdDSA RFC 8032's.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), JwsError> {
        let key = match &self.0 {
            Material::Es256(key) => ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.to_point()),
            Material::Ed25519(key) => ParsedPublicKey::new(&ED25519, key),
        };
        let key = key.map_err(|_| JwsError::Key("the provider refuses it"))?;
        key.verify_sig(message, signature).map_err(|_| JwsError::Signature)
    }
}

impl TryFrom<Members> for VerifyingKey {
    type Error = JwsError;

    fn try_from(members: Members) -> Result<Self, JwsError> {
        let bytes = |text: &str| b64::from_url(text).map_err(|_| JwsError::Key("a member is not base64url"));
        let x = bytes(&members.x)?;
        let key = match (members.kty.as_str(), members.crv.as_str()) {
            ("EC", "P-256") => {
                let y = bytes(members.y.as_deref().ok_or(JwsError::Key("the member y is missing"))?)?;
                let point = EcKey::from_coordinates(Curve::P256, x, y);
                Self(Material::Es256(point.map_err(|_| JwsError::Key("not a point on P-256"))?))
            }
            ("OKP", "Ed25519") => {
                let x = x.as_slice().try_into().map_err(|_| JwsError::Key("an Ed25519 key has 32 bytes"))?;
                Self::from_ed25519(x)?
            }
            _ => return Err(JwsError::Key("expected EC on P-256 or OKP on Ed25519")),
        };
        match members.alg {
            Some(found) if found != key.algorithm() => {
                Err(JwsError::Algorithm { expected: key.algorithm(), found: short(&found) })
            }
            _ => Ok(key),
        }
    }
}

impl From<VerifyingKey> for Members {
    fn from(key: VerifyingKey) -> Self {
        let alg = Some(key.algorithm().to_owned());
        match key.0 {
            Material::Es256(key) => {
                let (x, y) = key.coordinates();
                Self { alg, kty: "EC".into(), crv: "P-256".into(), x, y: Some(y) }
            }
            Material::Ed25519(x) => {
                Self { alg, kty: "OKP".into(), crv: "Ed25519".into(), x: b64::url(&x), y: None }
            }
        }
    }
}

enum Pair {
    Es256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// A private key that signs. Without `Debug`, `Clone` and `Serialize`.
pub struct SigningKey {
    pair: Pair,
    public: VerifyingKey,
    /// The header of its JWTs in base64url, made once.
    jwt_header: String,
}

impl SigningKey {
    /// A new ES256 key, for attestation tokens.
    pub fn generate() -> Result<Self, JwsError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING);
        Self::from_es256(pair.map_err(|_| JwsError::Provider("the key generation"))?)
    }

    /// A new Ed25519 key, for admins.
    pub fn generate_ed25519() -> Result<Self, JwsError> {
        let pair = Ed25519KeyPair::generate().map_err(|_| JwsError::Provider("the key generation"))?;
        Self::from_pair(pair)
    }

    /// Reads a PKCS #8 document of either kind.
    pub fn from_pkcs8(document: &SecretBytes) -> Result<Self, JwsError> {
        match EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.expose()) {
            Ok(pair) => Self::from_es256(pair),
            Err(_) => match Ed25519KeyPair::from_pkcs8_maybe_unchecked(document.expose()) {
                Ok(pair) => Self::from_pair(pair),
                Err(_) => Err(JwsError::Key("not a PKCS #8 document with a P-256 or Ed25519 key")),
            },
        }
    }

    /// Reads a P-256 key in DER, as PKCS #8 or as the `ECPrivateKey` of RFC 5915.
    pub fn from_ec_der(document: &SecretBytes) -> Result<Self, JwsError> {
        let pair = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, document.expose());
        Self::from_es256(pair.map_err(|_| JwsError::Key("not a private key on P-256"))?)
    }

    /// Reads a private JWK on P-256 (RFC 7518, section 6.2.2). The public part that it names must be its own.
    pub fn from_ec_jwk(document: &SecretBytes) -> Result<Self, JwsError> {
        let members: PrivateMembers = serde_json::from_slice(document.expose())?;
        let scalar = Zeroizing::new(members.d);
        let scalar = b64::from_url(&scalar).map_err(|_| JwsError::Key("a member is not base64url"))?;
        let scalar = SecretBytes::new(scalar);
        let Material::Es256(point) = VerifyingKey::try_from(members.public)?.0 else {
            return Err(JwsError::Key("expected EC on P-256"));
        };
        let pair = EcdsaKeyPair::from_private_key_and_public_key(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            scalar.expose(),
            &point.to_point(),
        );
        Self::from_es256(pair.map_err(|_| JwsError::Key("its private and public parts do not fit"))?)
    }

    /// Writes a PKCS #8 document.
    pub fn to_pkcs8(&self) -> Result<SecretBytes, JwsError> {
        let failed = |_| JwsError::Provider("writing the key");
        Ok(match &self.pair {
            Pair::Es256(pair) => SecretBytes::copy_of(pair.to_pkcs8v1().map_err(failed)?.as_ref()),
            Pair::Ed25519(pair) => SecretBytes::copy_of(pair.to_pkcs8().map_err(failed)?.as_ref()),
        })
    }

    /// The public part.
    pub fn verifying_key(&self) -> &VerifyingKey {
        &self.public
    }

    /// Signs bytes; the signature is in the form that JWS has it.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, JwsError> {
        Ok(match &self.pair {
            Pair::Es256(pair) => {
                let signature = pair.sign(&SystemRandom::new(), message);
                signature.map_err(|_| JwsError::Provider("the signature"))?.as_ref().to_vec()
            }
            Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        })
    }

    /// Signs a payload in compact form. `alg` is added to the header.
    pub fn sign_compact(&self, header: &Map<String, Value>, payload: &[u8]) -> Result<String, JwsError> {
        let mut header = header.clone();
        header.insert("alg".into(), self.public.algorithm().into());
        self.sign_parts(&b64::url(&serde_json::to_vec(&header)?), payload)
    }

    /// Signs claims as a JWT with the public key in its header (`jwk`), as KBS peers expect it, and with its thumbprint
    /// as `kid`, by which it is found among the published ones.
    pub fn sign_jwt<T: Serialize>(&self, claims: &T) -> Result<String, JwsError> {
        self.sign_jwt_text(&serde_json::to_string(claims)?)
    }

    /// As [`SigningKey::sign_jwt`], of claims that are JSON text already.
    pub fn sign_jwt_text(&self, claims: &str) -> Result<String, JwsError> {
        self.sign_parts(&self.jwt_header, claims.as_bytes())
    }

    fn sign_parts(&self, header: &str, payload: &[u8]) -> Result<String, JwsError> {
        let mut text = format!("{header}.{}", b64::url(payload));
        let signature = self.sign(text.as_bytes())?;
        text.push('.');
        text.push_str(&b64::url(&signature));
        Ok(text)
    }

    fn from_es256(pair: EcdsaKeyPair) -> Result<Self, JwsError> {
        let point = EcKey::from_point(Curve::P256, pair.public_key().as_ref());
        let public = VerifyingKey(Material::Es256(point.map_err(|_| JwsError::Provider("the public key"))?));
        Self::new(Pair::Es256(pair), public)
    }

    fn from_pair(pair: Ed25519KeyPair) -> Result<Self, JwsError> {
        let public = VerifyingKey(Material::Ed25519(pair.public_key().as_ref().to_vec()));
        Self::new(Pair::Ed25519(pair), public)
    }

    fn new(pair: Pair, public: VerifyingKey) -> Result<Self, JwsError> {
        let mut header = Map::new();
        header.insert("typ".into(), "JWT".into());
        header.insert("jwk".into(), serde_json::to_value(&public)?);
        header.insert("alg".into(), public.algorithm().into());
        header.insert("kid".into(), public.thumbprint().into());
        let jwt_header = b64::url(&serde_json::to_vec(&header)?);
        Ok(Self { pair, public, jwt_header })
    }
}

/// A compact form that was taken apart. Nothing in it is to be believed before [`Compact::verify`].
pub struct Compact {
    header: Map<String, Value>,
    text: String,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

impl fmt::Debug for Compact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compact").field("algorithm", &self.algorithm()).finish_non_exhaustive()
    }
}

impl Compact {
    /// Takes the three parts apart.
    pub fn parse(text: &str) -> Result<Self, JwsError> {
        if text.len() > MAX_COMPACT {
            return Err(JwsError::Form("it is longer than 8 MiB"));
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(JwsError::Form("there are no three parts"))?;
        let (header, payload) = signed.split_once('.').ok_or(JwsError::Form("there are no three parts"))?;
        let bytes = |part| b64::from_url(part).map_err(|_| JwsError::Form("a part is not base64url"));
        let header = strict::object(&bytes(header)?)?;
        if header.contains_key("crit") {
            return Err(JwsError::Critical);
        }
        Ok(Self { header, text: signed.to_owned(), payload: bytes(payload)?, signature: bytes(signature)? })
    }

    /// The header's `alg`.
    pub fn algorithm(&self) -> &str {
        self.header.get("alg").and_then(Value::as_str).unwrap_or_default()
    }

    /// The header's `kid`: a hint for choosing a key, nothing more.
    pub fn key_id(&self) -> Option<&str> {
        self.header.get("kid").and_then(Value::as_str)
    }

    /// The key that the header brings. It proves only that whoever made the token has it.
    pub fn insecure_header_key(&self) -> Result<VerifyingKey, JwsError> {
        let key = self.header.get("jwk").ok_or(JwsError::Key("the header has no jwk"))?;
        Ok(VerifyingKey::deserialize(key)?)
    }

    /// What the header says besides.
    pub(crate) fn header(&self) -> &Map<String, Value> {
        &self.header
    }

    /// The text that is signed, and its signature.
    pub(crate) fn signed(&self) -> (&[u8], &[u8]) {
        (self.text.as_bytes(), &self.signature)
    }

    /// The payload, for whoever has verified the signature by other means.
    pub(crate) fn unverified_payload(&self) -> &[u8] {
        &self.payload
    }

    /// The payload, after the signature was verified with one of the keys that the caller trusts: with the one that
    /// the header's `kid` names by its thumbprint, or, where it names none, with any.
    pub fn verify_among(&self, keys: &[VerifyingKey]) -> Result<&[u8], JwsError> {
        let mut refusal = match self.key_id() {
            Some(named) => JwsError::UnknownKey { found: short(named) },
            None => JwsError::Key("no key is pinned"),
        };
        let named = |key: &&VerifyingKey| self.key_id().is_none_or(|named| named == key.thumbprint());
        for key in keys.iter().filter(named) {
            match self.verify(key) {
                Ok(payload) => return Ok(payload),
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }

    /// The payload, after the signature was verified with a key that the caller trusts.
    pub fn verify(&self, key: &VerifyingKey) -> Result<&[u8], JwsError> {
        if self.algorithm() != key.algorithm() {
            return Err(JwsError::Algorithm { expected: key.algorithm(), found: short(self.algorithm()) });
        }
        key.verify(self.text.as_bytes(), &self.signature)?;
        Ok(&self.payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_algorithms_sign_and_verify_and_their_keys_survive_storage() {
        for key in [SigningKey::generate().unwrap(), SigningKey::generate_ed25519().unwrap()] {
            let stored = key.to_pkcs8().unwrap();
            let again = SigningKey::from_pkcs8(&stored).unwrap();
            let token = again.sign_jwt(&json!({"a": 1})).unwrap();
            let compact = Compact::parse(&token).unwrap();
            assert_eq!(compact.verify(key.verifying_key()).unwrap(), br#"{"a":1}"#);
            assert_eq!(&compact.insecure_header_key().unwrap(), key.verifying_key());
        }
    }

    #[test]
    fn each_defect_of_a_signature_is_refused_with_its_reason() {
        let key = SigningKey::generate().unwrap();
        let (other, admin) = (SigningKey::generate().unwrap(), SigningKey::generate_ed25519().unwrap());
        let token = key.sign_jwt(&json!({"a": 1})).unwrap();
        let verify = |text: &str, key: &SigningKey| {
            Compact::parse(text).and_then(|compact| compact.verify(key.verifying_key()).map(<[u8]>::to_vec))
        };
        assert!(verify(&token, &key).is_ok());
        assert!(matches!(verify(&token, &other), Err(JwsError::Signature)));
        assert!(matches!(verify(&token, &admin), Err(JwsError::Algorithm { expected: "EdDSA", .. })));
        let parts: Vec<&str> = token.split('.').collect();
        let joined = |header: &str, payload: &str| format!("{header}.{payload}.{}", parts[2]);
        let changed = joined(parts[0], &b64::url(br#"{"a":2}"#));
        assert!(matches!(verify(&changed, &key), Err(JwsError::Signature)));
        let none = joined(&b64::url(br#"{"alg":"none"}"#), parts[1]);
        assert!(matches!(verify(&none, &key), Err(JwsError::Algorithm { .. })));
        let crit = joined(&b64::url(br#"{"alg":"ES256","crit":["b64"]}"#), parts[1]);
        assert!(matches!(verify(&crit, &key), Err(JwsError::Critical)));
        let twice = joined(&b64::url(br#"{"alg":"none","alg":"ES256"}"#), parts[1]);
        assert!(matches!(verify(&twice, &key), Err(JwsError::Json(_))));
        for bad in ["", "a.b", "a.b.c.d", "%.%.%"] {
            assert!(matches!(verify(bad, &key), Err(JwsError::Form(_) | JwsError::Json(_))), "{bad}");
        }
    }

    #[test]
    fn the_header_s_key_id_chooses_among_the_pinned_keys_and_nothing_else_does() {
        let (old, new) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let both = [old.verifying_key().clone(), new.verifying_key().clone()];
        for key in [&old, &new] {
            let token = key.sign_jwt(&json!({"a": 1})).unwrap();
            let compact = Compact::parse(&token).unwrap();
            assert_eq!(compact.key_id(), Some(key.verifying_key().thumbprint().as_str()));
            assert!(compact.verify_among(&both).is_ok());
        }
        let token = old.sign_jwt(&json!({"a": 1})).unwrap();
        let refused = Compact::parse(&token).unwrap().verify_among(&both[1..]).map(<[u8]>::to_vec);
        assert!(matches!(refused, Err(JwsError::UnknownKey { .. })));
        // A token that lies about its key is tried with the key that it names only.
        let lie = json!({"kid": new.verifying_key().thumbprint()}).as_object().unwrap().clone();
        let token = old.sign_compact(&lie, b"{}").unwrap();
        let refused = Compact::parse(&token).unwrap().verify_among(&both).map(<[u8]>::to_vec);
        assert!(matches!(refused, Err(JwsError::Signature)));
        // Tokens from before keys had names.
        let token = new.sign_compact(&Map::new(), b"{}").unwrap();
        assert_eq!(Compact::parse(&token).unwrap().verify_among(&both).unwrap(), b"{}");
        assert!(matches!(Compact::parse(&token).unwrap().verify_among(&[]), Err(JwsError::Key(_))));
    }

    /// RFC 8037, appendix A.4.
    #[test]
    fn the_published_eddsa_example_verifies() {
        let key: VerifyingKey = serde_json::from_value(json!({
            "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
        }))
        .unwrap();
        let text = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
        assert_eq!(Compact::parse(text).unwrap().verify(&key).unwrap(), b"Example of Ed25519 signing");
        assert_eq!(key.thumbprint(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    /// RFC 7515, appendix A.3.
    #[test]
    fn the_published_es256_example_verifies() {
        let key: VerifyingKey = serde_json::from_value(json!({
            "kty": "EC", "crv": "P-256",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"
        }))
        .unwrap();
        let text = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
        assert!(Compact::parse(text).unwrap().verify(&key).unwrap().starts_with(br#"{"iss":"joe","#));
    }

    /// RFC 7515, appendix A.3.1.
    #[test]
    fn a_private_jwk_signs_as_the_key_that_it_names_and_is_refused_if_it_names_another() {
        let jwk = json!({
            "kty": "EC", "crv": "P-256",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
            "d": "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"
        });
        let read = |jwk: &Value| SigningKey::from_ec_jwk(&SecretBytes::new(jwk.to_string().into_bytes()));
        let key = read(&jwk).unwrap();
        let token = key.sign_jwt(&json!({"a": 1})).unwrap();
        let public: VerifyingKey = serde_json::from_value(jwk.clone()).unwrap();
        assert!(Compact::parse(&token).unwrap().verify(&public).is_ok());
        let again = SigningKey::from_ec_der(&key.to_pkcs8().unwrap()).unwrap();
        assert_eq!(again.verifying_key(), &public);
        let other = serde_json::to_value(SigningKey::generate().unwrap().verifying_key()).unwrap();
        for (member, value) in
            [("x", &other["x"]), ("d", &json!("AAAA")), ("d", &json!(null)), ("kty", &json!("OKP"))]
        {
            let mut changed = jwk.clone();
            changed[member] = value.clone();
            assert!(read(&changed).is_err(), "{member}");
        }
        let admin = SigningKey::generate_ed25519().unwrap();
        assert!(SigningKey::from_ec_der(&admin.to_pkcs8().unwrap()).is_err());
    }

    #[test]
    fn a_key_of_another_use_is_refused() {
        for key in [
            json!({"kty":"EC","crv":"P-384","x":"AA","y":"AA"}),
            json!({"kty":"OKP","crv":"X25519","x":"AA"}),
            json!({"kty":"OKP","crv":"Ed25519","x":"AA"}),
            json!({"kty":"EC","crv":"P-256","x":"AA"}),
        ] {
            assert!(serde_json::from_value::<VerifyingKey>(key).is_err());
        }
    }
}

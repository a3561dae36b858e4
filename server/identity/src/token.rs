//! A bearer token, taken apart: a signed JWT in compact form (RFC 7519, RFC 7515).
//!
//! TRUST: nothing in it is to be believed before a verifier verified it.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::error::Unauthenticated;
use crate::json::{self, short};
use crate::key::PublicKey;

/// The longest token that is read. Tokens with a hundred groups have about 8 KiB.
pub const MAX_TOKEN: usize = 16 << 10;
/// What a token says it is, if it says so (RFC 8725, section 3.11; RFC 9068).
const TYPES: [&str; 4] = ["jwt", "at+jwt", "application/jwt", "application/at+jwt"];

/// A token that was taken apart and not verified.
pub struct Token {
    signed: String,
    algorithm: String,
    key_id: Option<String>,
    /// The thumbprint of the key that the header brings: a hint for choosing one of ours, never a key to verify with.
    key_hint: Option<String>,
    claims: Map<String, Value>,
    signature: Vec<u8>,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

impl Token {
    /// Takes a token apart.
    pub fn parse(text: &str) -> Result<Self, Unauthenticated> {
        if text.len() > MAX_TOKEN {
            return Err(Unauthenticated::TooLong { limit: MAX_TOKEN, found: text.len() });
        }
        let three = Unauthenticated::Form("there are no three parts");
        let (signed, signature) = text.rsplit_once('.').ok_or(three.clone())?;
        let (header, claims) = signed.split_once('.').ok_or(three)?;
        let bytes = |part: &str| {
            URL_SAFE_NO_PAD.decode(part).map_err(|_| Unauthenticated::Form("a part is not base64url"))
        };
        let object = |part: &'static str, bytes: &[u8]| {
            json::object(bytes)
                .map_err(|error| Unauthenticated::Json { part, why: short(&error.to_string()) })
        };
        let header = object("header members", &bytes(header)?)?;
        if header.contains_key("crit") {
            return Err(Unauthenticated::Critical);
        }
        let text = |name: &'static str| match header.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(Unauthenticated::ClaimType { claim: name.to_owned(), expected: "a text" }),
        };
        if let Some(kind) = text("typ")?
            && !TYPES.contains(&kind.to_ascii_lowercase().as_str())
        {
            return Err(Unauthenticated::Type(short(&kind)));
        }
        let algorithm = text("alg")?.ok_or_else(|| Unauthenticated::Missing("alg".to_owned()))?;
        let hint = header.get("jwk").and_then(Value::as_object).and_then(|jwk| PublicKey::from_jwk(jwk).ok());
        Ok(Self {
            algorithm,
            key_id: text("kid")?,
            key_hint: hint.map(|key| key.thumbprint().to_owned()),
            claims: object("claims", &bytes(claims)?)?,
            signature: bytes(signature)?,
            signed: signed.to_owned(),
        })
    }

    pub(crate) fn signed(&self) -> &[u8] {
        self.signed.as_bytes()
    }

    pub(crate) fn signature(&self) -> &[u8] {
        &self.signature
    }

    pub(crate) fn algorithm(&self) -> &str {
        &self.algorithm
    }

    /// The header's `kid`.
    pub(crate) fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    pub(crate) fn key_hint(&self) -> Option<&str> {
        self.key_hint.as_deref()
    }

    pub(crate) fn insecure_claims(&self) -> &Map<String, Value> {
        &self.claims
    }

    /// The `iss` that it claims.
    pub(crate) fn insecure_issuer(&self) -> Option<&str> {
        self.claims.get("iss").and_then(Value::as_str)
    }
}

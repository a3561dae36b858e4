//! The admin's bearer token: a JWT signed with Ed25519 (RFC 8037), as upstream's `kbs-client` sends it.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::json;

use crate::error::ClientError;

/// Long enough for a slow upload and two clocks that differ, short enough to be of no use when it leaks.
const LIFETIME: i64 = 120;

/// The key that admin calls are signed with.
pub(crate) struct AdminKey(Ed25519KeyPair);

impl AdminKey {
    pub(crate) fn from_pem(pem: &str) -> Result<Self, ClientError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| ClientError::AdminKey(error.to_string()))?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der())
            .map_err(|error| ClientError::AdminKey(error.to_string()))?;
        Ok(Self(pair))
    }

    /// A token for the call that is made now.
    pub(crate) fn token(&self, now: i64) -> String {
        let header = json!({"alg": "EdDSA", "typ": "JWT"});
        let claims = json!({"iat": now, "nbf": now, "exp": now.saturating_add(LIFETIME)});
        let encode = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(&header), encode(&claims));
        let signature = self.0.sign(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }

    /// The public half, 32 bytes.
    pub(crate) fn public(&self) -> Vec<u8> {
        self.0.public_key().as_ref().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

    #[test]
    #[allow(clippy::unwrap_used)]
    fn the_token_verifies_with_the_public_half_and_with_no_other() {
        let keys: Vec<AdminKey> = (0..2).map(|_| AdminKey(Ed25519KeyPair::generate().unwrap())).collect();
        let token = keys[0].token(1_800_000_000);
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let verify = |key: &AdminKey| {
            UnparsedPublicKey::new(&ED25519, key.public()).verify(signed.as_bytes(), &signature)
        };
        assert!(verify(&keys[0]).is_ok());
        assert!(verify(&keys[1]).is_err());
    }

    #[test]
    fn a_text_that_is_no_key_is_refused() {
        assert!(AdminKey::from_pem("nothing").is_err());
    }
}

//! The admin's bearer token: a JWT signed with Ed25519 (RFC 8037), as upstream's `kbs-client` sends it, or one that an
//! OpenID issuer signed and another program keeps in a file.

use std::io::Read;
use std::path::{Path, PathBuf};

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::json;

use crate::error::ClientError;

/// Long enough for a slow upload and two clocks that differ, short enough to be of no use when it leaks.
const LIFETIME: i64 = 120;

/// The broker reads no longer one.
const MAX_TOKEN: u64 = 16 << 10;

/// Where the token of a call comes from.
pub(crate) enum Bearer {
    /// Signed here for the call.
    Key(AdminKey),
    /// Read at each call.
    File(PathBuf),
}

impl Bearer {
    /// A token for the call that is made now.
    pub(crate) fn token(&self, now: i64) -> Result<String, ClientError> {
        match self {
            Self::Key(key) => Ok(key.token(now)),
            Self::File(path) => read_token(path),
        }
    }
}

fn read_token(path: &Path) -> Result<String, ClientError> {
    let wrong = |why: String| ClientError::TokenFile { path: path.to_path_buf(), why };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| wrong(error.to_string()))?;
    file.take(MAX_TOKEN).read_to_string(&mut text).map_err(|error| wrong(error.to_string()))?;
    let text = text.trim();
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    match text.split('.').count() == 3 && text.bytes().all(plain) {
        true => Ok(text.to_owned()),
        false => Err(wrong("it does not hold three parts of base64url with dots between them".to_owned())),
    }
}

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
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{ED25519, KeyPair, UnparsedPublicKey};

    #[test]
    #[allow(clippy::unwrap_used)]
    fn the_token_verifies_with_the_public_half_and_with_no_other() {
        let keys: Vec<AdminKey> = (0..2).map(|_| AdminKey(Ed25519KeyPair::generate().unwrap())).collect();
        let token = keys[0].token(1_800_000_000);
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let verify = |key: &AdminKey| {
            UnparsedPublicKey::new(&ED25519, key.0.public_key()).verify(signed.as_bytes(), &signature)
        };
        assert!(verify(&keys[0]).is_ok());
        assert!(verify(&keys[1]).is_err());
    }

    #[test]
    fn a_text_that_is_no_key_is_refused() {
        assert!(AdminKey::from_pem("nothing").is_err());
    }

    #[test]
    #[allow(clippy::unwrap_used)]
    fn a_token_in_a_file_is_read_at_each_call_and_other_text_is_refused_without_being_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let bearer = Bearer::File(path.clone());
        assert!(bearer.token(0).unwrap_err().to_string().contains("token"));
        for token in ["eyJh.e30.c2ln", "eyJh.e30.bmV3"] {
            std::fs::write(&path, format!("{token}\n")).unwrap();
            assert_eq!(bearer.token(0).unwrap(), token);
        }
        for text in ["", "hunter2", "a.b.c d", "a.b\n.c", "a.b.c.d"] {
            std::fs::write(&path, text).unwrap();
            let error = bearer.token(0).unwrap_err().to_string();
            assert!(error.contains("three parts") && !error.contains("hunter2"), "{error}");
        }
    }
}

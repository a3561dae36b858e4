//! Settings in a file of the owner's, TOML or JSON.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

/// Reads a file: JSON if it begins as JSON does, TOML otherwise.
pub(crate) fn read(path: &Path) -> Result<Value> {
    let name = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("{name} cannot be read"))?;
    match text.trim_start().starts_with(['{', '[']) && serde_json::from_str::<Value>(&text).is_ok() {
        true => Ok(serde_json::from_str(&text)?),
        // A TOML document may begin with `[[issuers]]`, so its own error is the one to tell.
        false if text.trim_start().starts_with('{') => {
            serde_json::from_str(&text).with_context(|| format!("{name} is no JSON"))
        }
        false => toml::from_str(&text).with_context(|| format!("{name} is neither TOML nor JSON")),
    }
}

/// A public key as its file has it, PEM or JWK. A private key is refused before it goes anywhere.
pub(crate) fn public_key(path: &Path) -> Result<String> {
    let name = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("{name} cannot be read"))?;
    let private_jwk = || {
        serde_json::from_str::<Value>(&text).is_ok_and(|jwk| jwk.get("d").is_some() || jwk.get("k").is_some())
    };
    anyhow::ensure!(
        !text.contains("PRIVATE KEY") && !private_jwk(),
        "{name} holds a private key; give its public part, and keep the private one where it is"
    );
    Ok(text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_forms_are_read_and_their_faults_told_in_their_own_words() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("issuers");
        let case = |text: &str| {
            std::fs::write(&file, text).unwrap();
            read(&file)
        };
        let expected = json!({"issuers": [{"name": "a"}]});
        assert_eq!(case(r#" {"issuers": [{"name": "a"}]}"#).unwrap(), expected);
        assert_eq!(case("[[issuers]]\nname = \"a\"\n").unwrap(), expected);
        assert!(format!("{:#}", case(r#"{"issuers": "#).unwrap_err()).contains("is no JSON"));
        assert!(format!("{:#}", case("issuers = ").unwrap_err()).contains("neither"));
    }

    #[test]
    fn a_private_key_is_not_taken_for_a_public_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        for text in
            ["-----BEGIN PRIVATE KEY-----\n", "-----BEGIN EC PRIVATE KEY-----\n", r#"{"kty":"OKP","d":"x"}"#]
        {
            std::fs::write(&file, text).unwrap();
            assert!(public_key(&file).unwrap_err().to_string().contains("holds a private key"), "{text}");
        }
        std::fs::write(&file, r#"{"kty":"OKP","x":"y"}"#).unwrap();
        assert!(public_key(&file).is_ok());
    }
}

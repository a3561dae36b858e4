//! What manifest and statement have in common: their version, the name of a key.

use coffer_core_protocol::uri::ResourceUri;
use serde::Deserialize;

use crate::ArtifactError;

/// The version of manifest and statement.
pub(crate) const VERSION: u64 = 1;

/// Reads JSON with a `version`, which is looked at first: another version may have other members.
pub(crate) fn parse_version<T: serde::de::DeserializeOwned>(
    what: &'static str,
    bytes: &[u8],
) -> Result<T, ArtifactError> {
    #[derive(Deserialize)]
    struct Version {
        version: u64,
    }
    let form = |error: serde_json::Error| ArtifactError::Form { what, why: error.to_string() };
    let Version { version } = serde_json::from_slice(bytes).map_err(form)?;
    if version != VERSION {
        return Err(ArtifactError::Version { what, found: version });
    }
    serde_json::from_slice(bytes).map_err(form)
}

/// Reads the key's name.
pub(crate) fn key(what: &'static str, text: &str) -> Result<ResourceUri, ArtifactError> {
    text.parse().map_err(|error| ArtifactError::Form { what, why: format!("its key: {error}") })
}

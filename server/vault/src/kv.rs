//! The KV version 2 engine: values with versions.

use std::collections::{BTreeMap, HashMap};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coffer_core_secret::SecretBytes;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::http::{Ask, Reply};
use crate::{Vault, VaultError};

/// A KV version 2 engine.
#[derive(Clone)]
pub struct Kv {
    vault: Vault,
    mount: String,
}

/// What is known of a secret without its value.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Metadata {
    /// The newest version.
    pub current_version: u64,
    /// The oldest version that is kept.
    #[serde(default)]
    pub oldest_version: u64,
    /// All versions that are kept.
    #[serde(default)]
    pub versions: BTreeMap<u64, Version>,
}

/// A version of a secret.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Version {
    /// When it was written (RFC 3339).
    pub created_time: String,
    /// When it was deleted, or will be (RFC 3339); empty if never.
    #[serde(default)]
    pub deletion_time: String,
    /// Whether its value is gone for good.
    #[serde(default)]
    pub destroyed: bool,
}

#[derive(Deserialize)]
struct Read<'a> {
    #[serde(borrow)]
    data: ReadData<'a>,
}

#[derive(Deserialize)]
struct ReadData<'a> {
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ReadMetadata {
    data: Metadata,
}

impl Kv {
    pub(crate) fn new(vault: Vault, mount: &str) -> Result<Self, VaultError> {
        segments(mount)?;
        Ok(Self { vault, mount: mount.to_owned() })
    }

    /// The newest value: a field of it as text, or all of it as a JSON object. `None` if the secret or the field is
    /// not there, or the newest version was deleted.
    pub async fn read(&self, path: &str, field: Option<&str>) -> Result<Option<SecretBytes>, VaultError> {
        self.read_as(path, None, field, None).await
    }

    /// The same for one version.
    pub async fn read_version(
        &self,
        path: &str,
        version: u64,
        field: Option<&str>,
    ) -> Result<Option<SecretBytes>, VaultError> {
        self.read_as(path, Some(version), field, None).await
    }

    /// The newest or one version; a field whose name ends in `base64_suffix` is decoded.
    pub async fn read_as(
        &self,
        path: &str,
        version: Option<u64>,
        field: Option<&str>,
        base64_suffix: Option<&str>,
    ) -> Result<Option<SecretBytes>, VaultError> {
        let query = version.map(|version| ("version", version.to_string()));
        let ask = self.ask("data", path, query)?;
        let Some(reply) = self.send(&ask).await? else { return Ok(None) };
        let Some(data) = reply.parse::<Read<'_>>(&ask)?.data.data else { return Ok(None) };
        if data.get() == "null" {
            return Ok(None);
        }
        match field {
            None => Ok(Some(SecretBytes::copy_of(data.get().as_bytes()))),
            Some(field) => read_field(data.get(), field, base64_suffix)
                .map_err(|why| VaultError::Malformed { path: ask.path(), why }),
        }
    }

    /// What versions there are.
    pub async fn metadata(&self, path: &str) -> Result<Option<Metadata>, VaultError> {
        let ask = self.ask("metadata", path, None)?;
        match self.send(&ask).await? {
            Some(reply) => reply.parse::<ReadMetadata>(&ask).map(|read| Some(read.data)),
            None => Ok(None),
        }
    }

    fn ask<'a>(
        &'a self,
        call: &'static str,
        path: &'a str,
        query: Option<(&'static str, String)>,
    ) -> Result<Ask<'a>, VaultError> {
        let mut whole = segments(&self.mount)?;
        whole.push(call);
        whole.extend(segments(path)?);
        Ok(Ask { method: Method::GET, path: whole, query, body: None, repeatable: true })
    }

    async fn send(&self, ask: &Ask<'_>) -> Result<Option<Reply>, VaultError> {
        let reply = self.vault.call(ask).await?;
        match reply.status {
            status if status.is_success() => Ok(Some(reply)),
            _ if reply.is_absent() => Ok(None),
            StatusCode::NOT_FOUND => {
                Err(VaultError::NoEngine { engine: "KV version 2", mount: self.mount.clone() })
            }
            StatusCode::FORBIDDEN => Err(VaultError::Forbidden { path: ask.path(), capability: "read" }),
            status => {
                Err(VaultError::Refused { path: ask.path(), status: status.as_u16(), why: reply.words() })
            }
        }
    }
}

pub(crate) fn segments(path: &str) -> Result<Vec<&str>, VaultError> {
    coffer_server_source::segments(path).map_err(|why| VaultError::Path { path: path.to_owned(), why })
}

/// A field of a secret's JSON object: text as it is, and decoded from base64 where its name ends in `base64_suffix`.
/// A field that is not there under its name is looked for with the suffix.
pub fn read_field(
    object: &str,
    field: &str,
    base64_suffix: Option<&str>,
) -> Result<Option<SecretBytes>, &'static str> {
    let fields: HashMap<String, &RawValue> =
        serde_json::from_str(object).map_err(|_| "its data is no JSON object")?;
    let suffix = base64_suffix.filter(|suffix| !suffix.is_empty());
    let is_encoded = |name: &str| suffix.is_some_and(|suffix| name.ends_with(suffix));
    let suffixed = suffix.map(|suffix| format!("{field}{suffix}"));
    let found = match (fields.get(field), suffixed) {
        (Some(value), _) => Some((*value, is_encoded(field))),
        (None, Some(suffixed)) => fields.get(&suffixed).map(|value| (*value, true)),
        (None, None) => None,
    };
    let Some((value, encoded)) = found else { return Ok(None) };
    let text: String = serde_json::from_str(value.get())
        .map_err(|_| "the field is not text; write it as a string, or name no field")?;
    let text = Zeroizing::new(text);
    let bytes = match encoded {
        true => STANDARD.decode(text.trim()).map_err(|_| "the field should be base64 and is not")?,
        false => text.as_bytes().to_vec(),
    };
    Ok(Some(SecretBytes::new(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(object: &str, name: &str, suffix: Option<&str>) -> Result<Option<Vec<u8>>, &'static str> {
        read_field(object, name, suffix).map(|found| found.map(|value| value.expose().clone()))
    }

    #[test]
    fn a_field_is_text_or_base64_by_its_name() {
        let object = r#"{"value":"aGk=","key.b64":"aGk=","bad.b64":"*","n":1,"é\n":"\u00e9"}"#;
        assert_eq!(field(object, "value", Some(".b64")), Ok(Some(b"aGk=".to_vec())));
        assert_eq!(field(object, "key", Some(".b64")), Ok(Some(b"hi".to_vec())));
        assert_eq!(field(object, "key.b64", Some(".b64")), Ok(Some(b"hi".to_vec())));
        assert_eq!(field(object, "key.b64", None), Ok(Some(b"aGk=".to_vec())));
        assert_eq!(field(object, "key", None), Ok(None));
        assert_eq!(field(object, "é\n", Some("")), Ok(Some("é".as_bytes().to_vec())));
        assert!(field(object, "bad", Some(".b64")).is_err());
        assert!(field(object, "n", None).is_err());
        assert!(field("[1]", "n", None).is_err());
        assert!(field("{\"n\":", "n", None).is_err());
    }
}

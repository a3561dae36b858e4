//! Sealed secrets opened for the workload, with the same rule as resources: what init-data does not name for it, be it
//! the signer's key or the resource behind, is not asked for. There is no way around the signature.

use coffer_core_protocol::uri::ResourcePath;
use coffer_core_sealed_secret::{KeyId, Unverified, is_sealed, signer_key};
use coffer_core_secret::SecretBytes;

use crate::Hub;
use crate::unseal_error::UnsealError;

/// Who says that the resources behind a sealed secret may be had.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    /// Init-data's list of what the workload may ask for.
    InResources,
    /// The sealed text, which stands in init-data itself.
    ByItself,
}

impl Hub {
    /// Opens a sealed secret: fetches the signer's key, verifies, fetches what is named, opens.
    ///
    /// # Errors
    /// When anything of it is refused; the secret is then nowhere.
    pub async fn unseal(&self, text: &str) -> Result<SecretBytes, UnsealError> {
        self.open(text, Named::InResources).await
    }

    pub(crate) async fn open(&self, text: &str, named: Named) -> Result<SecretBytes, UnsealError> {
        let sealed = Unverified::parse(text)?;
        let key = match sealed.key_id() {
            KeyId::Resource(path) => signer_key(self.named(path, named).await?.expose())?,
            KeyId::File(name) => return Err(UnsealError::KeyFile { name: name.clone() }),
        };
        let sealed = sealed.verify(&key)?;
        let resource = self.named(sealed.resource(), named).await?;
        Ok(sealed.open(resource)?)
    }

    /// Opens the sealed secrets among an environment's values.
    ///
    /// # Errors
    /// Names the variable whose value is not opened.
    pub async fn unseal_environment(&self, mut entries: Vec<String>) -> Result<Vec<String>, UnsealError> {
        for entry in &mut entries {
            let Some((name, value)) = entry.split_once('=').filter(|(_, value)| is_sealed(value)) else {
                continue;
            };
            let opened = self.unseal(value).await.and_then(|secret| variable(name, &secret));
            let opened =
                opened.map_err(|why| UnsealError::Variable { name: name.to_owned(), why: Box::new(why) });
            *entry = opened?;
        }
        Ok(entries)
    }

    /// A resource of the broker, if init-data names it.
    async fn named(&self, path: &ResourcePath, named: Named) -> Result<SecretBytes, UnsealError> {
        if named == Named::InResources && !self.resources.contains(path) {
            return Err(UnsealError::Denied { uri: path.to_uri() });
        }
        self.fetch(path).await
    }

    pub(crate) async fn fetch(&self, path: &ResourcePath) -> Result<SecretBytes, UnsealError> {
        let value = self.keys.resource(path).await;
        value.map_err(|why| UnsealError::Resource { uri: path.to_uri(), why })
    }
}

/// Refuses an environment with sealed secrets in a guest that has no keys: a workload must not start with the sealed
/// text in the secret's place.
///
/// # Errors
/// Names the first variable.
pub fn refuse_sealed(entries: &[String]) -> Result<(), UnsealError> {
    let sealed = entries.iter().filter_map(|entry| entry.split_once('=')).find(|(_, value)| is_sealed(value));
    match sealed {
        None => Ok(()),
        Some((name, _)) => {
            let why = Box::new(UnsealError::NoBroker);
            Err(UnsealError::Variable { name: name.to_owned(), why })
        }
    }
}

pub(crate) fn variable(name: &str, secret: &SecretBytes) -> Result<String, UnsealError> {
    match std::str::from_utf8(secret.expose()) {
        Ok(text) if !text.contains('\0') => Ok(format!("{name}={text}")),
        _ => Err(UnsealError::NotText),
    }
}

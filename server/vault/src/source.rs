//! A KV engine as a source of resources.

use coffer_core_secret::SecretBytes;
use coffer_server_source::{Answer, Source, SourceError};

use crate::{Kv, KvConfig, Vault, VaultError};

/// Resources out of a KV version 2 engine: the path `a/b/c` is the secret `<prefix>/a/b/c`.
pub struct VaultSource {
    name: String,
    kv: Kv,
    prefix: Option<String>,
    field: Option<String>,
    base64_suffix: Option<String>,
}

impl VaultSource {
    /// Makes a source of this name. Nothing is asked before the first look-up.
    pub fn new(name: &str, vault: &Vault, config: &KvConfig) -> Result<Self, VaultError> {
        let prefix = config.prefix.as_deref().map(|prefix| prefix.trim_matches('/'));
        let prefix = prefix.filter(|prefix| !prefix.is_empty());
        if let Some(prefix) = prefix {
            crate::kv::segments(prefix)?;
        }
        Ok(Self {
            name: name.to_owned(),
            kv: vault.kv(&config.mount)?,
            prefix: prefix.map(str::to_owned),
            field: config.field.clone(),
            base64_suffix: config.base64_suffix.clone(),
        })
    }

    async fn look_up(&self, path: &str) -> Result<Option<SecretBytes>, SourceError> {
        // What a guest sent is checked before anything is put in front of it.
        if let Err(error) = crate::kv::segments(path) {
            return Err(error.into_source(&self.name));
        }
        let whole = match &self.prefix {
            Some(prefix) => format!("{prefix}/{path}"),
            None => path.to_owned(),
        };
        let read = self.kv.read_as(&whole, None, self.field.as_deref(), self.base64_suffix.as_deref());
        read.await.map_err(|error| error.into_source(&self.name))
    }
}

impl Source for VaultSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn get<'a>(&'a self, path: &'a str) -> Answer<'a> {
        Box::pin(self.look_up(path))
    }
}

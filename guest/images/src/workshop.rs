//! What the steps of making an image ready share: a place, the disks, and the way to keys.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use coffer_core_digest::Digest;
use coffer_core_protocol::uri::ResourceUri;
use coffer_core_secret::SecretBytes;
use coffer_guest_attest::Keys;

use crate::{ImageError, ImageFault};

/// Where steps of the timeline go.
pub trait Progress: Send + Sync {
    /// Notes a step. The text is public.
    fn step(&self, step: &str, detail: String);
}

/// Where images are made ready, and with what.
pub(crate) struct Workshop {
    pub(crate) place: PathBuf,
    pub(crate) disks: HashMap<Digest, String>,
    pub(crate) keys: Option<Arc<dyn Keys>>,
}

impl Workshop {
    /// A key of the broker, by the name that the image gives it.
    pub(crate) async fn key(&self, name: &str) -> Result<SecretBytes, ImageError> {
        let short = || name.chars().take(128).collect::<String>();
        let uri: ResourceUri = name
            .parse()
            .map_err(|why| Box::new(ImageFault::KeyName { key: short(), why: format!("{why}") }))?;
        let Some(keys) = &self.keys else {
            return Err(Box::new(ImageFault::NoBroker { key: short() }));
        };
        let key = keys.resource(uri.path()).await;
        key.map_err(|cause| Box::new(ImageFault::Key { key: short(), cause: Box::new(cause) }))
    }
}

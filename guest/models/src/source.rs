//! Sources: each gives an envelope, a manifest and streams by name. What they give is checked by whoever asked.

mod folder;
mod http;
mod layout;
mod registry;
mod s3;
mod web;

use std::sync::Arc;

use coffer_core_digest::Digest;
use coffer_core_logins::Logins;
use coffer_core_sealed_stream::ReadAt;

use crate::{Place, SourceError};

pub use http::{Http, Remote, Retry, client_builder, reasons, retry_after};
pub use registry::Transport;
pub use s3::{S3Access, S3Style, host_of};

/// Ciphertext that can be read from anywhere, by several threads.
pub trait Object: ReadAt + Send + Sync {}

impl<T: ReadAt + Send + Sync> Object for T {}

/// Where one sealed model is.
pub trait Store: Send + Sync {
    /// The source's name, for messages; without credentials.
    fn name(&self) -> String;

    /// The envelope: at most one byte more than the longest envelope has.
    fn envelope(&self) -> Result<Vec<u8>, SourceError>;

    /// The sealed manifest, which has this digest and size.
    fn manifest(&self, digest: &Digest, size: u64) -> Result<Vec<u8>, SourceError>;

    /// The stream of a file, which has this digest and size. Another size is an error here, or when it is read.
    fn stream(&self, digest: &Digest, size: u64) -> Result<Arc<dyn Object>, SourceError>;

    /// Whether reading waits for a network.
    fn is_remote(&self) -> bool;
}

/// How sources are reached.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Certificate authorities (PEM) beside the public ones.
    pub authorities: Vec<String>,
    /// When to try again and when to stop.
    pub retry: Retry,
    /// The object store.
    pub s3: S3Access,
    /// Who one is at registries.
    pub logins: Arc<Logins>,
    /// How registries are spoken to.
    pub transport: Transport,
}

impl Access {
    /// Reaches a source. Of a registry or a layout, the artifact's manifest is read.
    pub fn store(&self, place: &Place) -> Result<Arc<dyn Store>, SourceError> {
        Ok(match place {
            Place::Folder(path) => Arc::new(folder::Folder::new(path)),
            Place::Layout(path, tag) => Arc::new(layout::Layout::open(path, tag.as_deref())?),
            Place::Web(url) => Arc::new(web::Web::new(self.http(place)?, url.clone())),
            Place::S3 { bucket, prefix } => {
                let (base, signer) = self.s3.at(bucket, prefix)?;
                Arc::new(web::Web::signed(self.http(place)?, base, signer, place.to_string()))
            }
            Place::Registry(reference) => {
                Arc::new(registry::Registry::open(self.http(place)?, reference, self)?)
            }
        })
    }

    /// A single object and its size: a file, or what stands at an address or under a key. Nothing about it is known.
    pub fn object(&self, place: &Place) -> Result<(Arc<dyn Object>, u64), SourceError> {
        let (url, signer) = match place {
            Place::Folder(path) => return folder::found(path),
            Place::Web(url) => (url.clone(), None),
            Place::S3 { bucket, prefix } => self.s3.at(bucket, prefix)?,
            Place::Layout(..) | Place::Registry(_) => {
                let why = "artifacts of registries are sealed models, not files".into();
                return Err(SourceError::Place { text: place.to_string(), why });
            }
        };
        let mut url = url;
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        let name = place.to_string();
        let target = http::Target {
            url,
            what: "file".into(),
            place: name,
            signer: signer.map(Arc::new),
            bearer: None,
        };
        let http = self.http(place)?;
        let size = http.size(&target)?;
        Ok((Arc::new(Remote::new(http, target, size)), size))
    }

    /// The client for a source.
    pub fn http(&self, place: &Place) -> Result<Http, SourceError> {
        Http::new(&place.to_string(), &self.authorities, self.retry)
    }
}

/// The store of a registry, over a client of the caller's.
#[cfg(test)]
pub(crate) fn registry_at(
    http: Http,
    reference: &coffer_core_oci::Reference,
    access: &Access,
) -> Result<Arc<dyn Store>, SourceError> {
    Ok(Arc::new(registry::Registry::open(http, reference, access)?))
}

/// The path of a stream below the source.
fn stream_name(digest: &Digest) -> String {
    format!("{}/{}", crate::BLOBS, digest.hex())
}

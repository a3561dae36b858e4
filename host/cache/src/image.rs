//! An image of a registry as a guest needs it: its documents, held, and its sealed block, as far as it is there.
//!
//! Nothing is judged here. The guest compares every digest and every signature itself.

use std::sync::Arc;

use coffer_core_digest::Digest;
use coffer_core_oci::config::MAX_CONFIG;
use coffer_core_oci::manifest::{Document, Manifest, ManifestError, Platform};
use coffer_core_oci::simple_signing::{MAX_PAYLOAD, signature_tag};
use coffer_core_oci::{Descriptor, Reference, SealedBlock, media};

use crate::remote::Remote;
use crate::{Blob, Cache, CacheError};

/// No more payloads of signatures are fetched than a guest looks at.
const MAX_SIGNATURES: usize = 64;

/// An image's parts in the cache. While it lives, they stay there.
#[derive(Clone, Debug)]
pub struct CachedImage {
    /// The digest of what the reference names: a manifest, or an index.
    pub digest: Digest,
    /// The digest of the manifest that a guest will choose: the same, or one of the index.
    pub chosen: Digest,
    /// Manifests of signature artifacts.
    pub signatures: Vec<Digest>,
    /// Manifests, signatures and configuration.
    pub documents: Vec<Blob>,
    /// The sealed block, if the image is one; it may not be whole.
    pub sealed: Option<Blob>,
}

impl Cache {
    /// Finds an image. Its sealed block gets its place in the cache and is not fetched yet.
    ///
    /// # Errors
    /// When it is not to be had, or has no form that a guest could read.
    pub async fn image(&self, reference: &Reference, plain_http: bool) -> Result<CachedImage, CacheError> {
        let remote = self.remote(reference, plain_http)?;
        let mut finding = Finding { cache: self, remote, documents: Vec::new(), signatures: Vec::new() };
        let (digest, named) = finding.named(reference).await?;
        finding.signatures(&digest).await?;
        let (chosen, manifest) = match named {
            Document::Manifest(manifest) => (digest, *manifest_of(manifest)),
            Document::Index(index) => {
                let entry = index.select(&Platform::linux_amd64());
                let chosen = entry.map_err(|why| finding.unusable(&digest, why))?.digest;
                let manifest = finding.manifest(&chosen).await?;
                finding.signatures(&chosen).await?;
                (chosen, Manifest::parse(&manifest).map_err(|why| finding.unusable(&chosen, why))?)
            }
        };
        finding.small(&manifest.config, MAX_CONFIG as u64, "the configuration").await?;
        let sealed = match SealedBlock::from_manifest(&manifest) {
            Ok(Some((layer, _))) => Some(self.blob(&finding.remote, &layer.digest, layer.size).await?),
            Ok(None) => None,
            Err(why) => return Err(finding.document(&digest, why.to_string())),
        };
        let Finding { documents, signatures, .. } = finding;
        Ok(CachedImage { digest, chosen, signatures, documents, sealed })
    }
}

/// However the parser hands it out.
fn manifest_of(manifest: impl Into<Box<Manifest>>) -> Box<Manifest> {
    manifest.into()
}

struct Finding<'a> {
    cache: &'a Cache,
    remote: Arc<Remote>,
    documents: Vec<Blob>,
    signatures: Vec<Digest>,
}

impl Finding<'_> {
    async fn named(&mut self, reference: &Reference) -> Result<(Digest, Document), CacheError> {
        let tag = reference.tag().unwrap_or("latest");
        let known = match reference.digest() {
            Some(digest) => Some(*digest),
            None => self.remote.tag(tag).await?,
        };
        let (digest, bytes) = match known {
            Some(digest) => (digest, self.manifest(&digest).await?),
            None => {
                let bytes = self
                    .remote
                    .document(&format!("/manifests/{tag}"), &format!("manifest {tag}"), None)
                    .await?;
                let held = self.cache.hold_document(&bytes).await?;
                let digest = *held.digest();
                self.documents.push(held);
                (digest, bytes)
            }
        };
        let document = Document::parse(&bytes).map_err(|why| self.unusable(&digest, why))?;
        Ok((digest, document))
    }

    async fn manifest(&mut self, digest: &Digest) -> Result<Vec<u8>, CacheError> {
        let (path, what) = (format!("/manifests/{digest}"), format!("manifest {digest}"));
        let (held, bytes) = self.cache.document(&self.remote, &path, &what, digest).await?;
        self.documents.push(held);
        Ok(bytes)
    }

    /// The signatures under the image's tag (cosign, `specs/SIGNATURE_SPEC.md`); an image may have none.
    async fn signatures(&mut self, image: &Digest) -> Result<(), CacheError> {
        let tag = signature_tag(image);
        let digest = match self.remote.tag(&tag).await {
            Ok(Some(digest)) => digest,
            Ok(None) => {
                let bytes =
                    self.remote.document(&format!("/manifests/{tag}"), "its signatures", None).await?;
                let digest = Digest::sha256(&bytes);
                self.cache.put(&digest, bytes).await?;
                digest
            }
            Err(CacheError::Missing { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        let bytes = self.manifest(&digest).await?;
        self.signatures.push(digest);
        // What is no signature is for the guest to refuse.
        let Ok(manifest) = Manifest::parse(&bytes) else { return Ok(()) };
        let payloads = manifest.layers.iter().filter(|layer| layer.media_type == media::SIMPLE_SIGNING);
        for layer in payloads.take(MAX_SIGNATURES) {
            self.small(layer, MAX_PAYLOAD as u64, "a signature's payload").await?;
        }
        Ok(())
    }

    async fn small(&mut self, blob: &Descriptor, limit: u64, what: &str) -> Result<(), CacheError> {
        if blob.size > limit {
            return Err(self.document(
                &blob.digest,
                format!("{what} has {} bytes; expected at most {limit}", blob.size),
            ));
        }
        let path = format!("/blobs/{}", blob.digest);
        let (held, _) = self.cache.document(&self.remote, &path, what, &blob.digest).await?;
        self.documents.push(held);
        Ok(())
    }

    fn unusable(&self, digest: &Digest, why: ManifestError) -> CacheError {
        self.document(digest, why.to_string())
    }

    fn document(&self, digest: &Digest, why: String) -> CacheError {
        CacheError::Document { registry: self.remote.names(), what: digest.to_string(), why }
    }
}

//! What a source has for a request: the manifest, and the signatures beside it.

use coffer_core_digest::Digest;
use coffer_core_oci::manifest::{Document, MAX_DOCUMENT, Manifest, Platform};
use coffer_core_oci::media;
use coffer_core_oci::simple_signing::{MAX_PAYLOAD, SIGNATURE_ANNOTATION};
use coffer_guest_gate::{Candidate, FoundSignature};

use crate::source::{BlobSource, read_blob, read_bounded, read_document};
use crate::{ImageError, ImageFault};

/// More signature artifacts, or signatures in one, than an honest image has.
pub const MAX_SIGNATURES: usize = 64;

/// An image as it was found. Nothing in it is trusted before the gate compared it.
pub struct Found {
    /// The document that was named: the manifest, or the index that names it by digest.
    named: Candidate,
    /// The manifest in the index, with signatures of its own.
    selected: Option<Candidate>,
    manifest: Manifest,
}

impl Found {
    /// Fetches manifest and signatures.
    ///
    /// # Errors
    /// When the source has them not, or they are not what their digests say.
    pub async fn fetch(source: &dyn BlobSource) -> Result<Self, ImageError> {
        let mut chunks = source.document().await?;
        let (bytes, digest) = match source.document_digest() {
            Some(digest) => (read_document(&mut *chunks, &digest).await?, digest),
            None => {
                let bytes = read_bounded(&mut *chunks, "the manifest", MAX_DOCUMENT).await?;
                let digest = Digest::sha256(&bytes);
                (bytes, digest)
            }
        };
        let named = Candidate { manifest: digest, signatures: signatures(source, &digest).await? };
        match Document::parse(&bytes)? {
            Document::Manifest(manifest) => {
                Ok(Self { named, selected: None, manifest: manifest_of(manifest) })
            }
            Document::Index(index) => {
                let descriptor = index.select(&Platform::linux_amd64())?;
                let digest = descriptor.digest;
                let mut chunks = source.manifest(&digest).await?;
                let manifest = Manifest::parse(&read_document(&mut *chunks, &digest).await?)?;
                let selected = Candidate { manifest: digest, signatures: signatures(source, &digest).await? };
                Ok(Self { named, selected: Some(selected), manifest })
            }
        }
    }

    /// The images that the gate may authorize: what was named, and the manifest within it.
    pub fn candidates(&self) -> impl Iterator<Item = &Candidate> {
        std::iter::once(&self.named).chain(&self.selected)
    }

    /// The manifest, if the gate authorized it or the index that names it by digest.
    pub(crate) fn authorized(&self, digest: &Digest) -> Result<&Manifest, ImageError> {
        match self.candidates().any(|candidate| candidate.manifest == *digest) {
            true => Ok(&self.manifest),
            false => {
                Err(Box::new(ImageFault::NotAuthorized { expected: *digest, found: self.named.manifest }))
            }
        }
    }
}

/// However the parser hands it out.
fn manifest_of(manifest: impl Into<Box<Manifest>>) -> Manifest {
    *manifest.into()
}

/// The signatures beside an image. One that cannot be fetched or read is no signature; the gate says what is missing.
async fn signatures(source: &dyn BlobSource, image: &Digest) -> Result<Vec<FoundSignature>, ImageError> {
    let mut found = Vec::new();
    for mut chunks in source.signatures(image).await?.into_iter().take(MAX_SIGNATURES) {
        let bytes = read_bounded(&mut *chunks, "a signature's manifest", MAX_DOCUMENT).await?;
        let Ok(manifest) = Manifest::parse(&bytes) else { continue };
        for layer in manifest.layers.iter().filter(|layer| layer.media_type == media::SIMPLE_SIGNING) {
            let Some(signature) = layer.annotations.get(SIGNATURE_ANNOTATION) else { continue };
            if found.len() >= MAX_SIGNATURES {
                return Ok(found);
            }
            let payload = read_blob(source, layer, "a signature's payload", MAX_PAYLOAD).await?;
            found.push(FoundSignature { payload, signature: signature.clone() });
        }
    }
    Ok(found)
}

//! Where blobs come from, and the one way they are let in: against digest and size.

use std::fs::File;
use std::future::Future;
use std::io::Write;
use std::path::Path;
use std::pin::Pin;

use bytes::Bytes;
use coffer_core_digest::{Digest, Hasher};
use coffer_core_oci::Descriptor;
use coffer_core_oci::manifest::MAX_DOCUMENT;

use crate::lazy::Parts;
use crate::{ImageError, ImageFault};

/// An answer that comes later.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, ImageError>> + Send + 'a>>;

/// Content that arrives in pieces, from somebody who may lie about it.
pub trait Chunks: Send {
    /// The next piece; `None` at the end.
    fn next(&mut self) -> Pending<'_, Option<Bytes>>;
}

/// Where an image's content comes from. Nothing it gives is believed.
pub trait BlobSource: Send + Sync {
    /// Its name, for errors.
    fn name(&self) -> String;

    /// The document that the request names: a manifest or an index.
    fn document(&self) -> Pending<'_, Box<dyn Chunks>>;

    /// The digest that the request pins the document to, if it does.
    fn document_digest(&self) -> Option<Digest>;

    /// Another manifest, by digest.
    fn manifest<'a>(&'a self, digest: &'a Digest) -> Pending<'a, Box<dyn Chunks>>;

    /// A blob, by digest.
    fn blob<'a>(&'a self, digest: &'a Digest) -> Pending<'a, Box<dyn Chunks>>;

    /// A blob in parts, as they are asked for. `None` from a source that has blobs only whole.
    fn parts<'a>(&'a self, _blob: &'a Descriptor) -> Pending<'a, Option<Parts>> {
        Box::pin(async { Ok(None) })
    }

    /// The manifests of the signature artifacts of an image.
    fn signatures<'a>(&'a self, image: &'a Digest) -> Pending<'a, Vec<Box<dyn Chunks>>>;
}

/// Reads what may not be longer than `limit`.
pub(crate) async fn read_bounded(
    chunks: &mut dyn Chunks,
    what: &str,
    limit: usize,
) -> Result<Vec<u8>, ImageError> {
    let mut bytes = Vec::new();
    while let Some(piece) = chunks.next().await? {
        let found = bytes.len().saturating_add(piece.len());
        if found > limit {
            return Err(size(what, limit as u64, found as u64));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// Reads a document whose digest is known.
pub(crate) async fn read_document(chunks: &mut dyn Chunks, digest: &Digest) -> Result<Vec<u8>, ImageError> {
    let what = format!("the manifest {digest}");
    let bytes = read_bounded(chunks, &what, MAX_DOCUMENT).await?;
    matches(&what, digest, Digest::of(digest.algorithm(), &bytes))?;
    Ok(bytes)
}

/// Reads a small blob that a descriptor names.
pub(crate) async fn read_blob(
    source: &dyn BlobSource,
    descriptor: &Descriptor,
    what: &str,
    limit: usize,
) -> Result<Vec<u8>, ImageError> {
    let expected = usize::try_from(descriptor.size).unwrap_or(usize::MAX);
    if expected > limit {
        return Err(size(what, limit as u64, descriptor.size));
    }
    let mut chunks = source.blob(&descriptor.digest).await?;
    let bytes = read_bounded(&mut *chunks, what, expected).await?;
    if bytes.len() != expected {
        return Err(size(what, descriptor.size, bytes.len() as u64));
    }
    matches(what, &descriptor.digest, Digest::of(descriptor.digest.algorithm(), &bytes))?;
    Ok(bytes)
}

/// Saves a blob that a descriptor names. On an error there is no file.
pub(crate) async fn save_blob(
    source: &dyn BlobSource,
    descriptor: &Descriptor,
    what: &str,
    path: &Path,
) -> Result<(), ImageError> {
    let saved = save(source, descriptor, what, path).await;
    if saved.is_err() {
        // The first error is the one to tell.
        let _absent_either_way = std::fs::remove_file(path);
    }
    saved
}

async fn save(
    source: &dyn BlobSource,
    descriptor: &Descriptor,
    what: &str,
    path: &Path,
) -> Result<(), ImageError> {
    let failed = |cause| ImageFault::file("writing", path, cause);
    // The place is the guest's memory, so that writing does not wait for a disk.
    let mut file = File::create_new(path).map_err(failed)?;
    let mut hasher = Hasher::new(descriptor.digest.algorithm());
    let mut found = 0_u64;
    let mut chunks = source.blob(&descriptor.digest).await?;
    while let Some(piece) = chunks.next().await? {
        found = found.saturating_add(piece.len() as u64);
        if found > descriptor.size {
            return Err(size(what, descriptor.size, found));
        }
        hasher.update(&piece);
        file.write_all(&piece).map_err(failed)?;
    }
    if found != descriptor.size {
        return Err(size(what, descriptor.size, found));
    }
    matches(what, &descriptor.digest, hasher.finish())
}

fn size(what: &str, expected: u64, found: u64) -> ImageError {
    Box::new(ImageFault::Size { what: what.into(), expected, found })
}

fn matches(what: &str, expected: &Digest, found: Digest) -> Result<(), ImageError> {
    match *expected == found {
        true => Ok(()),
        false => Err(Box::new(ImageFault::Digest { what: what.into(), expected: *expected, found })),
    }
}

//! Copying of images with their signatures, and the digests that names stand for.

use std::io;

use coffer_core_oci::Descriptor;
use coffer_core_oci::simple_signing::signature_tag;

use crate::error::ImageError;
use crate::layout::Layout;
use crate::open::{Resolved, Store, blocking};
use crate::place::{Destination, Source};
use crate::progress::Progress;
use crate::registry::{Registry, short};

/// Finds an image, on an index the one for `linux/amd64`.
pub async fn resolve(source: &Source) -> Result<Resolved, ImageError> {
    Store::open(source).await?.resolve().await
}

/// Copies an image and its signatures. Of several platforms only `linux/amd64` is copied.
pub async fn copy(
    source: &Source,
    destination: &Destination,
    progress: &Progress,
) -> Result<Resolved, ImageError> {
    let store = Store::open(source).await?;
    let image = store.resolve().await?;
    let signatures = store.signatures(&image.digest).await?;
    match destination {
        Destination::Layout(directory, tag) => {
            let layout = Layout::create(directory)?;
            fetch(&store, &image, &layout, tag, progress).await?;
            if let Some(signatures) = signatures {
                fetch(&store, &signatures, &layout, &signature_tag(&image.digest), progress).await?;
            }
        }
        Destination::Registry(reference, transport) => {
            let registry = Registry::new(reference, *transport);
            let (layout, _temporary) = match &store {
                Store::Layout { layout, .. } => (layout.clone(), None),
                Store::Registry(_) => {
                    let (layout, temporary) = Layout::create_temporary()?;
                    fetch(&store, &image, &layout, "copied", progress).await?;
                    if let Some(signatures) = &signatures {
                        fetch(&store, signatures, &layout, "signatures", progress).await?;
                    }
                    (layout, Some(temporary))
                }
            };
            push(&layout, &image, &registry, reference.tag().unwrap_or("latest"), progress).await?;
            if let Some(signatures) = signatures {
                push(&layout, &signatures, &registry, &signature_tag(&image.digest), progress).await?;
            }
        }
    }
    Ok(image)
}

/// Writes an image into a layout: blobs, then the manifest, then the tag.
async fn fetch(
    store: &Store,
    image: &Resolved,
    layout: &Layout,
    tag: &str,
    progress: &Progress,
) -> Result<(), ImageError> {
    for blob in image.manifest.layers.iter().chain([&image.manifest.config]) {
        fetch_blob(store, blob, layout, progress).await?;
    }
    let (layout, image, tag) = (layout.clone(), image.clone(), tag.to_owned());
    blocking(move || {
        let written = layout.put(image.manifest.stored_as(), &image.bytes)?;
        layout.tag(&written, &tag)
    })
    .await
}

/// Writes a blob into a layout unless it is there; a file with wrong content is replaced.
pub(crate) async fn fetch_blob(
    store: &Store,
    blob: &Descriptor,
    layout: &Layout,
    progress: &Progress,
) -> Result<(), ImageError> {
    let (have, looked_for) = (layout.clone(), blob.clone());
    if blocking(move || have.has(&looked_for)).await? {
        return Ok(());
    }
    let content = store.blob(blob, layout.directory(), progress).await?;
    let (layout, digest) = (layout.clone(), blob.digest);
    let (progress, size) = (progress.clone(), blob.size);
    blocking(move || {
        let mut writer = layout.writer_with(digest.algorithm())?;
        content.checked(|content| {
            io::copy(content, &mut writer).map_err(crate::error::at(layout.directory()))?;
            Ok(())
        })?;
        writer.commit(Some(&digest))?;
        progress.step("fetch", &short(&digest), size, Some(size));
        Ok(())
    })
    .await
}

/// Uploads an image from a layout: blobs, then the manifest under its tag.
pub(crate) async fn push(
    layout: &Layout,
    image: &Resolved,
    registry: &Registry,
    tag: &str,
    progress: &Progress,
) -> Result<(), ImageError> {
    for blob in image.manifest.layers.iter().chain([&image.manifest.config]) {
        let (have, looked_for) = (layout.clone(), blob.clone());
        if !blocking(move || have.has(&looked_for)).await? {
            return Err(ImageError::Layout {
                directory: layout.directory().into(),
                why: format!("blob {} is missing or was changed", blob.digest),
            });
        }
        registry.push_blob(blob, layout.blob_path(&blob.digest), progress).await?;
    }
    let reference = registry.reference().with_tag(tag)?;
    registry.push_manifest(&reference, image.bytes.clone(), image.manifest.stored_as()).await
}

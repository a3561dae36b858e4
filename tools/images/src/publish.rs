//! Artifacts that are no images: files of a disk as blobs, and a manifest that names them.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use coffer_core_digest::Digest;
use coffer_core_oci::{Descriptor, Manifest};

use crate::error::{ImageError, at};
use crate::layout::Layout;
use crate::open::blocking;
use crate::place::Destination;
use crate::progress::Progress;
use crate::registry::Registry;

/// Writes an artifact: its blobs, then its manifest, then its tag. Returns the manifest's digest.
///
/// `config` are the bytes of the manifest's configuration; `files` say where each layer is.
pub async fn publish(
    manifest: &Manifest,
    config: &[u8],
    files: &[(Descriptor, PathBuf)],
    to: &Destination,
    progress: &Progress,
) -> Result<Digest, ImageError> {
    let bytes = manifest.to_bytes()?;
    let digest = Digest::sha256(&bytes);
    match to {
        Destination::Layout(directory, tag) => {
            let (directory, tag, files) = (directory.clone(), tag.clone(), files.to_vec());
            let (kind, own) = (manifest.stored_as().to_owned(), manifest.config.media_type.clone());
            let (config, artifact) = (config.to_vec(), manifest.artifact_type.clone());
            blocking(move || {
                let layout = Layout::create(&directory)?;
                for (blob, path) in &files {
                    let mut writer = layout.writer()?;
                    let mut file = File::open(path).map_err(at(path))?;
                    io::copy(&mut file, &mut writer).map_err(at(path))?;
                    writer.commit(Some(&blob.digest))?;
                }
                layout.put(&own, &config)?;
                let mut written = layout.put(&kind, &bytes)?;
                written.artifact_type = artifact;
                layout.tag(&written, &tag)
            })
            .await?;
        }
        Destination::Registry(reference, transport) => {
            let registry = Registry::new(reference, *transport);
            for (blob, path) in files {
                registry.push_blob(blob, path.clone(), progress).await?;
            }
            let file = tempfile::NamedTempFile::new().map_err(at(&std::env::temp_dir()))?;
            std::fs::write(file.path(), config).map_err(at(file.path()))?;
            registry.push_blob(&manifest.config, file.path().into(), progress).await?;
            registry.push_manifest(reference, bytes, manifest.stored_as()).await?;
        }
    }
    Ok(digest)
}

//! What a source's image is in plaintext, whoever it was sealed for: layers, or the tree of a sealed block.
//!
//! INVARIANT: what is made of a layer counts only after the layer's digest matched, and its HMAC where it was
//! encrypted; a sealed block's blocks are checked before they are decrypted.

use std::io::Read;
use std::path::Path;

use coffer_core_keywrap::{Holder, KeywrapError};
use coffer_core_oci::media::Compression;
use coffer_core_oci::{Descriptor, LayerKind, SealedBlock};
use coffer_core_seal::erofs;
use coffer_core_seal::ocicrypt::{LayerKey, Locked};
use coffer_core_seal::sealed::{BlockKey, Reader, SealError};
use coffer_core_secret::SecretBytes;

use crate::error::ImageError;
use crate::flatten::{Flat, Limits};
use crate::open::{Blob, Resolved, Store};
use crate::progress::Progress;
use crate::registry::short;

/// The annotation of a layer whose tar carries a table of its own contents (eStargz).
const STARGZ: &str = "containerd.io/snapshot/stargz/toc.digest";

/// Keys that open what was sealed. None opens nothing but plaintext.
#[derive(Default)]
pub struct OpeningKeys {
    bytes: Vec<SecretBytes>,
    holders: Vec<Holder>,
}

impl OpeningKeys {
    /// No keys.
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds a key as the broker keeps it: 64 bytes for sealed blocks, 32 for ocicrypt.
    pub fn add_bytes(&mut self, key: SecretBytes) {
        self.bytes.push(key);
    }

    /// Adds the private key of a JWE or PKCS #7 recipient, in PEM.
    pub fn add_pem(&mut self, pem: &str) -> Result<(), KeywrapError> {
        self.holders.push(Holder::from_pem(pem)?);
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.holders.is_empty()
    }

    /// The key of an encrypted layer.
    fn unlock(&self, layer: &Descriptor) -> Result<LayerKey, ImageError> {
        let locked = Locked::from_annotations(&layer.annotations)?;
        for key in self.bytes.iter().filter(|key| key.expose().len() == coffer_core_seal::ocicrypt::KEY) {
            for name in locked.key_names() {
                if let Ok(layer) = locked.unlock(name, key) {
                    return Ok(layer);
                }
            }
        }
        for (annotation, message) in locked.others() {
            for holder in &self.holders {
                if let Some(Ok(options)) = holder.unwrap(annotation, message) {
                    return Ok(locked.unlock_with(&options)?);
                }
            }
        }
        let names: Vec<&str> = locked.key_names().chain(locked.others().map(|(name, _)| name)).collect();
        Err(ImageError::NoKey { what: "the encrypted layer", names: names.join(", ") })
    }

    /// The tree of a sealed block.
    fn open_block(&self, blob: Blob, block: &SealedBlock, limits: Limits) -> Result<Flat, ImageError> {
        let file = std::io::BufReader::with_capacity(256 << 10, blob.into_file());
        let mut file = Some(file);
        for bytes in &self.bytes {
            let Ok(key) = BlockKey::from_bytes(bytes) else { continue };
            let Some(blob) = file.take() else { break };
            let reader = Reader::new(blob, block, &key).map_err(SealError::Key)?;
            match erofs::read(reader, limits.entries) {
                Ok((tree, contents)) => return Ok(Flat { tree, contents: Box::new(contents) }),
                Err(erofs::ReadError::Magic) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Err(ImageError::NoKey { what: "the sealed block", names: block.key.clone() })
    }
}

/// An image in plaintext.
pub(crate) enum Plain {
    /// Layers, lowest first.
    Layers(Vec<PlainLayer>),
    /// A whole tree.
    Tree(Flat),
}

/// A layer that can be read.
pub(crate) struct PlainLayer {
    /// What the source calls it.
    pub(crate) descriptor: Descriptor,
    /// How its tar is compressed.
    pub(crate) compression: Compression,
    blob: Blob,
    lock: Option<LayerKey>,
}

impl PlainLayer {
    /// A short name, for progress.
    pub(crate) fn item(&self) -> String {
        short(&self.descriptor.digest)
    }

    /// Whether the tar has a table of its own contents and marks for runtimes, which are no files of the image.
    pub(crate) fn is_stargz(&self) -> bool {
        self.descriptor.annotations.contains_key(STARGZ)
    }

    /// Does work that reads the layer, and checks that it was the layer.
    pub(crate) fn checked<T>(
        self,
        work: impl FnOnce(&mut dyn Read) -> Result<T, ImageError>,
    ) -> Result<T, ImageError> {
        let Self { blob, lock, .. } = self;
        blob.checked(|blob| match lock {
            None => work(blob),
            Some(key) => {
                let mut decryptor = key.decryptor(blob)?;
                match work(&mut decryptor) {
                    Err(error @ (ImageError::DiskFull { .. } | ImageError::Limit { .. })) => Err(error),
                    result => {
                        decryptor.finish()?;
                        result
                    }
                }
            }
        })
    }
}

/// Opens all of an image. Keys are tried before anything is fetched.
pub(crate) async fn open(
    store: &Store,
    image: &Resolved,
    keys: &OpeningKeys,
    limits: Limits,
    directory: &Path,
    progress: &Progress,
) -> Result<Plain, ImageError> {
    if let Some((layer, block)) = SealedBlock::from_manifest(&image.manifest)? {
        if keys.is_empty() {
            return Err(ImageError::AlreadySealed(layer.media_type.clone()));
        }
        let blob = store.blob(layer, directory, progress).await?;
        return keys.open_block(blob, &block, limits).map(Plain::Tree);
    }
    let mut locks = Vec::new();
    for layer in &image.manifest.layers {
        locks.push(match LayerKind::of(&layer.media_type) {
            Some(LayerKind::Tar(compression)) => (compression, None),
            Some(LayerKind::Encrypted(_)) if keys.is_empty() => {
                return Err(ImageError::AlreadySealed(layer.media_type.clone()));
            }
            Some(LayerKind::Encrypted(compression)) => (compression, Some(keys.unlock(layer)?)),
            _ => {
                let (digest, found) = (Box::new(layer.digest), layer.media_type.clone());
                return Err(ImageError::LayerKind { digest, found });
            }
        });
    }
    let mut layers = Vec::new();
    for (layer, (compression, lock)) in image.manifest.layers.iter().zip(locks) {
        let blob = store.blob(layer, directory, progress).await?;
        layers.push(PlainLayer { descriptor: layer.clone(), compression, blob, lock });
    }
    Ok(Plain::Layers(layers))
}

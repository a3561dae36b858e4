//! Tar layers, plain or encrypted, onto one directory in the guest's memory.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use coffer_core_oci::media::Compression;
use coffer_core_oci::{Descriptor, LayerKind, Manifest};
use coffer_core_seal::ocicrypt::{LayerKey, Locked};
use coffer_core_secret::SecretBytes;

use crate::decompress::plain;
use crate::source::{BlobSource, save_blob};
use crate::unpack::{Root, UnpackError};
use crate::workshop::{Progress, Workshop};
use crate::{ImageError, ImageFault};

/// How a layer is opened.
enum Lock {
    Open,
    Locked(Box<LayerKey>),
}

/// Unpacks all layers, lowest first, and gives the root directory.
pub(crate) async fn unpack(
    workshop: &Workshop,
    source: &dyn BlobSource,
    manifest: &Manifest,
    progress: &dyn Progress,
) -> Result<PathBuf, ImageError> {
    // All are judged before the first is fetched.
    let mut kinds = Vec::with_capacity(manifest.layers.len());
    for (index, layer) in manifest.layers.iter().enumerate() {
        match LayerKind::of(&layer.media_type) {
            Some(kind @ (LayerKind::Tar(_) | LayerKind::Encrypted(_))) => kinds.push(kind),
            _ => return Err(Box::new(ImageFault::Layer { index, found: layer.media_type.clone() })),
        }
    }
    let root = workshop.place.join("root");
    fs::create_dir_all(&root).map_err(|cause| ImageFault::file("making", &root, cause))?;
    let mut keys = HashMap::new();
    for (index, (layer, kind)) in manifest.layers.iter().zip(kinds).enumerate() {
        let (lock, compression) = match kind {
            LayerKind::Encrypted(compression) => (
                Lock::Locked(Box::new(unlock(workshop, layer, index, &mut keys, progress).await?)),
                compression,
            ),
            LayerKind::Tar(compression) => (Lock::Open, compression),
            _ => continue,
        };
        let path = workshop.place.join(format!("layer-{index}"));
        save_blob(source, layer, &format!("layer {index}"), &path).await?;
        progress.step("image", format!("layer {index}: {} bytes match {}", layer.size, layer.digest));
        let onto = root.clone();
        let done = tokio::task::spawn_blocking(move || apply(index, &path, &onto, &lock, compression));
        done.await.map_err(|cause| unpack_fault(index, "", &cause.to_string()))??;
    }
    Ok(root)
}

/// The key of an encrypted layer; the broker is asked once for each key's name.
async fn unlock(
    workshop: &Workshop,
    layer: &Descriptor,
    index: usize,
    keys: &mut HashMap<String, SecretBytes>,
    progress: &dyn Progress,
) -> Result<LayerKey, ImageError> {
    let failed = |cause| Box::new(ImageFault::Ocicrypt { index, cause });
    let locked = Locked::from_annotations(&layer.annotations).map_err(failed)?;
    let names: Vec<String> = locked.key_names().map(str::to_owned).collect();
    let mut refusal: ImageError = failed(locked.not_for_broker());
    for name in names {
        if !keys.contains_key(&name) {
            match workshop.key(&name).await {
                Ok(key) => {
                    progress.step("key", format!("{name} released"));
                    keys.insert(name.clone(), key);
                }
                Err(cause) => {
                    refusal = cause;
                    continue;
                }
            }
        }
        let Some(key) = keys.get(&name) else { continue };
        match locked.unlock(&name, key) {
            Ok(key) => return Ok(key),
            Err(cause) => refusal = failed(cause),
        }
    }
    Err(refusal)
}

/// Unpacks one saved layer and takes the saved file away. What an encrypted layer gives is used only when its HMAC
/// matched: the root is private, and the whole guest stops on an error.
fn apply(
    index: usize,
    path: &Path,
    onto: &Path,
    lock: &Lock,
    compression: Compression,
) -> Result<(), ImageError> {
    let failed = |cause| ImageFault::file("reading", path, cause);
    let file = File::open(path).map_err(failed)?;
    fs::remove_file(path).map_err(failed)?;
    let mut root = Root::open(onto).map_err(|cause| ImageFault::file("opening", onto, cause))?;
    match lock {
        Lock::Open => unpack_into(index, &mut root, &mut plain(file, compression)),
        Lock::Locked(key) => {
            let encrypted = |cause| Box::new(ImageFault::Ocicrypt { index, cause });
            let mut decryptor = key.decryptor(file).map_err(encrypted)?;
            // The host has the ciphertext only: it is not told the name of an entry, nor what is wrong with it.
            let unpacked = root.apply(&mut plain(&mut decryptor, compression)).map_err(|_| {
                unpack_fault(
                    index,
                    "an entry of the encrypted layer",
                    "its archive cannot be read or laid out",
                )
            });
            // A changed layer mostly breaks its archive first; the HMAC says what really happened.
            decryptor.finish().map_err(encrypted)?;
            unpacked
        }
    }
}

fn unpack_into(index: usize, root: &mut Root, layer: &mut dyn Read) -> Result<(), ImageError> {
    root.apply(layer).map_err(|UnpackError { path, why }| unpack_fault(index, &path, &why))
}

fn unpack_fault(index: usize, path: &str, why: &str) -> ImageError {
    Box::new(ImageFault::Unpack { index, path: path.chars().take(256).collect(), why: why.into() })
}

//! Sealing: an image of plaintext layers becomes one of ciphertext.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use coffer_core_digest::Digest;
use coffer_core_oci::config::{ConfigError, MAX_CONFIG};
use coffer_core_oci::{Descriptor, ImageConfig, LayerKind, media};
use coffer_core_seal::ocicrypt;
use coffer_core_seal::sealed::{BlockKey, SealError, Sealer};
use coffer_core_secret::SecretBytes;
use serde_json::{Value, json};

use crate::copy::push;
use crate::error::{ImageError, at};
use crate::flatten::{Flattener, Limits, write_erofs};
use crate::layout::Layout;
use crate::open::{Blob, Resolved, Store, blocking};
use crate::place::{Destination, Source};
use crate::progress::Progress;
use crate::registry::{Registry, short};

/// How an image is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealFormat {
    /// One blob of ciphertext blocks under a hash tree; read lazily by our guests.
    SealedBlock,
    /// Each layer encrypted; read by Confidential Containers and by our guests.
    Ocicrypt,
}

/// What to seal with.
pub struct SealOptions {
    /// How.
    pub format: SealFormat,
    /// The key's name at the broker, as in `kbs:///default/image-key/web`. It is public.
    pub key_uri: String,
    /// The key: 64 bytes for sealed blocks, 32 for ocicrypt. One image, one key.
    pub key: SecretBytes,
    /// What layers may hold.
    pub limits: Limits,
}

impl SealOptions {
    /// With the usual limits.
    pub fn new(format: SealFormat, key_uri: &str, key: SecretBytes) -> Self {
        Self { format, key_uri: key_uri.into(), key, limits: Limits::default() }
    }
}

/// A sealed image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedImage {
    /// The manifest's digest: what is to be signed.
    pub manifest: Digest,
    /// The digest of the image that was sealed.
    pub original: Digest,
    /// Bytes of the sealed layers together.
    pub size: u64,
}

/// Seals the image at `source` and writes it to `destination`.
///
/// The configuration (command, environment, labels) stays readable; its history is dropped.
pub async fn seal(
    source: &Source,
    destination: &Destination,
    options: SealOptions,
    progress: &Progress,
) -> Result<SealedImage, ImageError> {
    let store = Store::open(source).await?;
    let original = store.resolve().await?;
    for layer in &original.manifest.layers {
        match LayerKind::of(&layer.media_type) {
            Some(LayerKind::Tar(_)) => {}
            Some(LayerKind::Encrypted(_) | LayerKind::SealedBlock) => {
                return Err(ImageError::AlreadySealed(layer.media_type.clone()));
            }
            _ => {
                let (digest, found) = (Box::new(layer.digest), layer.media_type.clone());
                return Err(ImageError::LayerKind { digest, found });
            }
        }
    }
    let config = store.small(&original.manifest.config).await?;
    ImageConfig::parse(&config)?;
    let (layout, temporary) = match destination {
        Destination::Layout(directory, _) => (Layout::create(directory)?, None),
        Destination::Registry(..) => {
            let (layout, temporary) = Layout::create_temporary()?;
            (layout, Some(temporary))
        }
    };
    let mut layers = Vec::new();
    for layer in &original.manifest.layers {
        layers.push((layer.clone(), store.blob(layer, layout.directory(), progress).await?));
    }
    let (work_layout, work_progress) = (layout.clone(), progress.clone());
    let sealed = blocking(move || match options.format {
        SealFormat::SealedBlock => seal_blocks(&work_layout, &config, layers, &options, &work_progress),
        SealFormat::Ocicrypt => seal_layers(&work_layout, &config, layers, &options, &work_progress),
    })
    .await?;
    match destination {
        Destination::Layout(_, tag) => layout.tag(&sealed.descriptor(), tag)?,
        Destination::Registry(reference, transport) => {
            let registry = Registry::new(reference, *transport);
            push(&layout, &sealed, &registry, reference.tag().unwrap_or("latest"), progress).await?;
        }
    }
    drop(temporary);
    let size = sealed.manifest.layers.iter().map(|layer| layer.size).sum();
    Ok(SealedImage { manifest: sealed.digest, original: original.digest, size })
}

type Layers = Vec<(Descriptor, Blob)>;

fn seal_blocks(
    layout: &Layout,
    config: &[u8],
    layers: Layers,
    options: &SealOptions,
    progress: &Progress,
) -> Result<Resolved, ImageError> {
    let key = BlockKey::from_bytes(&options.key).map_err(SealError::Key)?;
    let mut flattener = Flattener::new(layout.directory(), options.limits)?;
    for (descriptor, blob) in layers {
        let (item, total) = (short(&descriptor.digest), Some(descriptor.size));
        blob.checked(|blob| flattener.layer(Counting::new(blob, "unpack", item, total, progress)))?;
    }
    let mut sealer = Sealer::new(&key, layout.writer()?)?;
    let mut shown = Counting::new(&mut sealer, "seal", options.key_uri.clone(), None, progress);
    write_erofs(flattener.finish()?, &mut shown).map_err(|error| full(error, layout.directory()))?;
    drop(shown);
    let (sealed, writer) = sealer.finish(&options.key_uri)?;
    progress.step("seal", &options.key_uri, sealed.size, Some(sealed.size));
    let (digest, size) = writer.commit(Some(&sealed.digest))?;
    let mut layer = Descriptor::new(media::SEALED_BLOCK, digest, size);
    layer.annotations = sealed.block.to_annotations();
    write(layout, config, vec![layer], Some(digest))
}

fn seal_layers(
    layout: &Layout,
    config: &[u8],
    layers: Layers,
    options: &SealOptions,
    progress: &Progress,
) -> Result<Resolved, ImageError> {
    let mut sealed = Vec::new();
    for (descriptor, blob) in layers {
        let mut writer = layout.writer()?;
        let encrypted = blob.checked(|blob| {
            let mut reader =
                Counting::new(blob, "seal", short(&descriptor.digest), Some(descriptor.size), progress);
            ocicrypt::encrypt(&mut reader, &mut writer, &options.key_uri, &options.key)
                .map_err(|error| full(error.into(), layout.directory()))
        })?;
        let (digest, size) = writer.commit(Some(&encrypted.digest))?;
        let plain = match LayerKind::of(&descriptor.media_type) {
            Some(LayerKind::Tar(media::Compression::Gzip)) => media::OCI_LAYER_GZIP,
            Some(LayerKind::Tar(media::Compression::Zstd)) => media::OCI_LAYER_ZSTD,
            _ => media::OCI_LAYER,
        };
        let mut layer = Descriptor::new(&format!("{plain}{}", media::ENCRYPTED), digest, size);
        layer.annotations = encrypted.annotations;
        sealed.push(layer);
    }
    write(layout, config, sealed, None)
}

/// Writes configuration and manifest. A sealed block is one layer, so its configuration says so.
fn write(
    layout: &Layout,
    config: &[u8],
    layers: Vec<Descriptor>,
    one_layer: Option<Digest>,
) -> Result<Resolved, ImageError> {
    debug_assert!(config.len() <= MAX_CONFIG);
    let mut config: Value = serde_json::from_slice(config).map_err(ConfigError::from)?;
    if let Some(members) = config.as_object_mut() {
        // The history quotes build commands, and its count would contradict the layers.
        members.remove("history");
        if let Some(layer) = one_layer {
            members.insert("rootfs".into(), json!({ "type": "layers", "diff_ids": [layer.to_string()] }));
        }
    }
    Resolved::write(layout, config.to_string().as_bytes(), layers)
}

/// Names the destination where the disk is full.
fn full(error: ImageError, directory: &Path) -> ImageError {
    use coffer_core_seal::erofs::ErofsError;
    use coffer_core_seal::ocicrypt::OcicryptError;
    match error {
        ImageError::Erofs(ErofsError::Io(error))
        | ImageError::Seal(SealError::Io(error))
        | ImageError::Ocicrypt(OcicryptError::Io(error)) => at(directory)(error),
        error => error,
    }
}

/// Shows how much was read or written.
struct Counting<'a, R> {
    inner: R,
    what: &'static str,
    item: String,
    done: u64,
    shown: u64,
    total: Option<u64>,
    progress: &'a Progress,
}

impl<'a, R> Counting<'a, R> {
    fn new(inner: R, what: &'static str, item: String, total: Option<u64>, progress: &'a Progress) -> Self {
        progress.step(what, &item, 0, total);
        Self { inner, what, item, done: 0, shown: 0, total, progress }
    }

    fn count(&mut self, bytes: usize) {
        self.done += bytes as u64;
        if self.done - self.shown >= 1 << 20 {
            self.shown = self.done;
            self.progress.step(self.what, &self.item, self.done, self.total);
        }
    }
}

impl<R> Drop for Counting<'_, R> {
    fn drop(&mut self) {
        self.progress.step(self.what, &self.item, self.done, self.total);
    }
}

impl<R: Read> Read for Counting<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count(read);
        Ok(read)
    }
}

impl<W: Write> Write for Counting<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.count(written);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Opens a sealed block of a layout without a kernel's help, for checks on the owner's machine.
pub fn open_sealed(
    layout: &Layout,
    image: &Resolved,
    key: &SecretBytes,
) -> Result<coffer_core_seal::sealed::Reader<File>, ImageError> {
    let (layer, block) = coffer_core_oci::SealedBlock::from_manifest(&image.manifest)?.ok_or_else(|| {
        ImageError::NotFound {
            name: "sealed-block layer".into(),
            place: image.digest.to_string(),
            found: image.manifest.layers.iter().map(|layer| layer.media_type.clone()).take(8).collect(),
        }
    })?;
    let path: PathBuf = layout.blob_path(&layer.digest);
    let blob = File::open(&path).map_err(at(&path))?;
    let key = BlockKey::from_bytes(key).map_err(SealError::Key)?;
    Ok(coffer_core_seal::sealed::Reader::new(blob, &block, &key).map_err(SealError::Key)?)
}

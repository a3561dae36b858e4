//! Sealing: an image of plaintext layers becomes one of ciphertext.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::PathBuf;

use coffer_core_digest::{Algorithm, Digest, Hasher};
use coffer_core_oci::config::{ConfigError, MAX_CONFIG};
use coffer_core_oci::manifest::Annotations;
use coffer_core_oci::{Descriptor, ImageConfig, media};
use coffer_core_seal::erofs::ErofsError;
use coffer_core_seal::ocicrypt::{self, BrokerKey, KeyWrap, OcicryptError};
use coffer_core_seal::sealed::{BlockKey, SealError, Sealer};
use coffer_core_secret::SecretBytes;
use serde_json::{Value, json};

use crate::copy::push;
use crate::error::{ImageError, at};
use crate::flatten::{Flat, Flattener, Limits, write_erofs};
use crate::layout::{BlobWriter, Layout, changed};
use crate::open::{Resolved, Store, blocking};
use crate::place::{Destination, Source};
use crate::progress::Progress;
use crate::registry::Registry;
use crate::tarball;
use crate::unseal::{self, OpeningKeys, Plain};

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
    /// Who else opens layers of ocicrypt.
    pub recipients: Vec<Box<dyn KeyWrap + Send>>,
    /// What opens the source, if it is sealed.
    pub opening: OpeningKeys,
    /// What layers may hold.
    pub limits: Limits,
}

impl SealOptions {
    /// With the usual limits, from an image that is not sealed.
    pub fn new(format: SealFormat, key_uri: &str, key: SecretBytes) -> Self {
        Self {
            format,
            key_uri: key_uri.into(),
            key,
            recipients: Vec::new(),
            opening: OpeningKeys::none(),
            limits: Limits::default(),
        }
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
    let SealOptions { format, key_uri, key, recipients, opening, limits } = options;
    if !recipients.is_empty() && format == SealFormat::SealedBlock {
        return Err(ImageError::Recipients);
    }
    rewrite(source, destination, opening, limits, progress, move |work, plain| match format {
        SealFormat::SealedBlock => work.blocks(plain, &key_uri, &key),
        SealFormat::Ocicrypt => {
            let broker = BrokerKey::new(&key_uri, &key)?;
            let others = recipients.iter().map(|other| &**other as &dyn KeyWrap);
            work.layers(plain, &[&broker as &dyn KeyWrap].into_iter().chain(others).collect::<Vec<_>>())
        }
    })
    .await
}

/// Opens the image at `source` and writes it to `destination` in plaintext, for everybody to read.
pub async fn unseal(
    source: &Source,
    destination: &Destination,
    opening: OpeningKeys,
    limits: Limits,
    progress: &Progress,
) -> Result<SealedImage, ImageError> {
    rewrite(source, destination, opening, limits, progress, |work, plain| work.plain(plain)).await
}

/// Opens the image at `source`, which must have the digest that is expected if one is, and writes all its files to
/// `out` as one tar. What was written is the image's only when this succeeds.
pub async fn export(
    source: &Source,
    expected: Option<Digest>,
    mut out: Box<dyn Write + Send>,
    opening: OpeningKeys,
    limits: Limits,
    progress: &Progress,
) -> Result<Digest, ImageError> {
    let store = Store::open(source).await?;
    let image = store.resolve().await?;
    if let Some(expected) = expected.filter(|expected| *expected != image.digest) {
        return Err(changed(&expected, image.digest));
    }
    let (layout, temporary) = Layout::create_temporary()?;
    let plain = unseal::open(&store, &image, &opening, limits, layout.directory(), progress).await?;
    let progress = progress.clone();
    blocking(move || {
        let work = Work { layout, config: Vec::new(), limits, progress };
        let flat = work.flat(plain)?;
        tarball::write(flat, &mut out, &work.progress)
    })
    .await?;
    drop(temporary);
    Ok(image.digest)
}

/// Reads an image, makes another of it, and writes that.
async fn rewrite(
    source: &Source,
    destination: &Destination,
    opening: OpeningKeys,
    limits: Limits,
    progress: &Progress,
    make: impl FnOnce(&Work, Plain) -> Result<Resolved, ImageError> + Send + 'static,
) -> Result<SealedImage, ImageError> {
    let store = Store::open(source).await?;
    let original = store.resolve().await?;
    let config = store.small(&original.manifest.config).await?;
    ImageConfig::parse(&config)?;
    let (layout, temporary) = match destination {
        Destination::Layout(directory, _) => (Layout::create(directory)?, None),
        Destination::Registry(..) => {
            let (layout, temporary) = Layout::create_temporary()?;
            (layout, Some(temporary))
        }
    };
    let plain = unseal::open(&store, &original, &opening, limits, layout.directory(), progress).await?;
    let work = Work { layout: layout.clone(), config, limits, progress: progress.clone() };
    let sealed = blocking(move || make(&work, plain)).await?;
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

/// An image on its way into a layout.
struct Work {
    layout: Layout,
    config: Vec<u8>,
    limits: Limits,
    progress: Progress,
}

impl Work {
    /// The tree of all layers together.
    fn flat(&self, plain: Plain) -> Result<Flat, ImageError> {
        let layers = match plain {
            Plain::Tree(flat) => return Ok(flat),
            Plain::Layers(layers) => layers,
        };
        let mut flattener = Flattener::new(self.layout.directory(), self.limits)?;
        for layer in layers {
            let (item, total, stargz) = (layer.item(), Some(layer.descriptor.size), layer.is_stargz());
            layer.checked(|blob| {
                flattener.layer(Counting::new(blob, "unpack", item, total, &self.progress))
            })?;
            if stargz {
                flattener.forget_stargz();
            }
        }
        flattener.finish()
    }

    /// One blob of ciphertext blocks.
    fn blocks(&self, plain: Plain, key_uri: &str, key: &SecretBytes) -> Result<Resolved, ImageError> {
        let key = BlockKey::from_bytes(key).map_err(SealError::Key)?;
        let flat = self.flat(plain)?;
        let mut sealer = Sealer::new(&key, self.layout.writer()?)?;
        let mut shown = Counting::new(&mut sealer, "seal", key_uri.to_owned(), None, &self.progress);
        write_erofs(flat, &mut shown).map_err(|error| self.full(error))?;
        drop(shown);
        let (sealed, writer) = sealer.finish(key_uri)?;
        self.progress.step("seal", key_uri, sealed.size, Some(sealed.size));
        let (digest, size) = writer.commit(Some(&sealed.digest))?;
        let mut layer = Descriptor::new(media::SEALED_BLOCK, digest, size);
        layer.annotations = sealed.block.to_annotations();
        self.write(vec![layer], Some(digest))
    }

    /// Each layer encrypted.
    fn layers(&self, plain: Plain, recipients: &[&dyn KeyWrap]) -> Result<Resolved, ImageError> {
        let encrypt = |blob: &mut dyn Read, writer: &mut BlobWriter, media: &str| {
            let encrypted =
                ocicrypt::encrypt_for(blob, writer, recipients).map_err(|error| self.full(error.into()))?;
            Ok((format!("{media}{}", media::ENCRYPTED), encrypted.annotations))
        };
        self.each("seal", plain, encrypt)
    }

    /// Each layer as it is.
    fn plain(&self, plain: Plain) -> Result<Resolved, ImageError> {
        let copy = |blob: &mut dyn Read, writer: &mut BlobWriter, media: &str| {
            io::copy(blob, writer).map_err(at(self.layout.directory()))?;
            Ok((media.to_owned(), Annotations::default()))
        };
        self.each("open", plain, copy)
    }

    /// Makes of each layer another: its media type and annotations.
    fn each(
        &self,
        what: &'static str,
        plain: Plain,
        mut make: impl FnMut(&mut dyn Read, &mut BlobWriter, &str) -> Result<(String, Annotations), ImageError>,
    ) -> Result<Resolved, ImageError> {
        let mut made = Vec::new();
        let layers = match plain {
            Plain::Layers(layers) => layers,
            Plain::Tree(flat) => {
                let directory = self.layout.directory();
                let mut spool = tempfile::tempfile_in(directory).map_err(at(directory))?;
                tarball::write(flat, &mut spool, &self.progress).map_err(|error| self.full(error))?;
                spool.rewind().map_err(at(directory))?;
                let mut hashed = Hashing { inner: spool, hasher: Hasher::new(Algorithm::Sha256) };
                let mut writer = self.layout.writer()?;
                let (media_type, annotations) = make(&mut hashed, &mut writer, media::OCI_LAYER)?;
                let (digest, size) = writer.commit(None)?;
                let mut layer = Descriptor::new(&media_type, digest, size);
                layer.annotations = annotations;
                return self.write(vec![layer], Some(hashed.hasher.finish()));
            }
        };
        for layer in layers {
            let mut writer = self.layout.writer()?;
            let media = match layer.compression {
                media::Compression::Gzip => media::OCI_LAYER_GZIP,
                media::Compression::Zstd => media::OCI_LAYER_ZSTD,
                media::Compression::None => media::OCI_LAYER,
            };
            let (item, total) = (layer.item(), Some(layer.descriptor.size));
            let (media_type, annotations) = layer.checked(|blob| {
                make(&mut Counting::new(blob, what, item, total, &self.progress), &mut writer, media)
            })?;
            let (digest, size) = writer.commit(None)?;
            let mut layer = Descriptor::new(&media_type, digest, size);
            layer.annotations = annotations;
            made.push(layer);
        }
        self.write(made, None)
    }

    /// Writes configuration and manifest. An image that became one layer says so in its configuration.
    fn write(&self, layers: Vec<Descriptor>, one_layer: Option<Digest>) -> Result<Resolved, ImageError> {
        debug_assert!(self.config.len() <= MAX_CONFIG);
        let mut config: Value = serde_json::from_slice(&self.config).map_err(ConfigError::from)?;
        if let Some(members) = config.as_object_mut() {
            // The history quotes build commands, and its count would contradict the layers.
            members.remove("history");
            if let Some(layer) = one_layer {
                members.insert("rootfs".into(), json!({ "type": "layers", "diff_ids": [layer.to_string()] }));
            }
        }
        Resolved::write(&self.layout, config.to_string().as_bytes(), layers)
    }

    /// Names the destination where the disk is full.
    fn full(&self, error: ImageError) -> ImageError {
        match error {
            ImageError::Erofs(ErofsError::Io(error))
            | ImageError::Seal(SealError::Io(error))
            | ImageError::Ocicrypt(OcicryptError::Io(error)) => at(self.layout.directory())(error),
            error => error,
        }
    }
}

/// What is hashed while it is read.
struct Hashing<R> {
    inner: R,
    hasher: Hasher,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.update(buffer.get(..read).unwrap_or_default());
        Ok(read)
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

//! What can go wrong with an image, in the owner's words.

use std::io;
use std::path::{Path, PathBuf};

use coffer_core_digest::Digest;
use coffer_core_keywrap::KeywrapError;
use coffer_core_oci::config::ConfigError;
use coffer_core_oci::{ManifestError, ReferenceError, SealedBlockError, SignatureError};
use coffer_core_seal::erofs::{ErofsError, ReadError};
use coffer_core_seal::ocicrypt::OcicryptError;
use coffer_core_seal::sealed::SealError;

use crate::place::PlaceError;

/// Why an image could not be read, sealed, signed or written.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The text does not say where an image is.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// Not a reference.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The registry refused or is not there.
    #[error("registry {registry}: {message}")]
    Registry {
        /// The registry's name.
        registry: String,
        /// What it or the connection said.
        message: String,
    },
    /// There is no such image.
    #[error("no image {name} in {place}{}", hint(.found))]
    NotFound {
        /// The tag or digest asked for.
        name: String,
        /// Where.
        place: String,
        /// The names that are there.
        found: Vec<String>,
    },
    /// The directory is not an OCI image layout.
    #[error("{} is not an OCI image layout: {why}", .directory.display())]
    Layout {
        /// The directory.
        directory: PathBuf,
        /// What is missing or wrong.
        why: String,
    },
    /// The archive cannot be used.
    #[error("{} is not an archive made by docker save: {why}", .file.display())]
    Archive {
        /// The file.
        file: PathBuf,
        /// What is missing or wrong.
        why: String,
    },
    /// A manifest or index cannot be used.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// An image configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Sealed-block annotations cannot be used.
    #[error(transparent)]
    SealedBlock(#[from] SealedBlockError),
    /// Content is not what its digest says.
    #[error("content was changed: expected {expected}, found {found}")]
    Digest {
        /// The digest in the manifest.
        expected: Box<Digest>,
        /// The digest of what was read.
        found: Box<Digest>,
    },
    /// Content is longer or shorter than its descriptor says.
    #[error("{digest} should have {expected} bytes; found {found}")]
    Size {
        /// The content.
        digest: Box<Digest>,
        /// The size in the descriptor.
        expected: u64,
        /// The size found.
        found: u64,
    },
    /// A layer is of a kind that cannot be unpacked.
    #[error("layer {digest} is {found}; expected a tar layer, plain, gzip or zstd")]
    LayerKind {
        /// The layer.
        digest: Box<Digest>,
        /// Its media type.
        found: String,
    },
    /// The image is sealed already.
    #[error(
        "the image is sealed already ({0}); seal the original image, or give the key that opens this one"
    )]
    AlreadySealed(String),
    /// Sealed blocks have one key.
    #[error("a sealed block has one key, at the broker; recipients are for the format ocicrypt")]
    Recipients,
    /// None of the keys opens it.
    #[error("no key opens {what}; it is sealed for {names}")]
    NoKey {
        /// What is sealed.
        what: &'static str,
        /// For whom.
        names: String,
    },
    /// A key or certificate cannot be used.
    #[error(transparent)]
    Keywrap(#[from] KeywrapError),
    /// What a sealed block holds is no file system that is read here.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A layer's contents are refused.
    #[error("layer entry {path:?}: {why}")]
    Entry {
        /// The entry's name in the tar.
        path: String,
        /// Why it is refused.
        why: String,
    },
    /// The layers grow beyond the limit.
    #[error("the image's layers hold more than {limit} {what}; raise the limit if this is meant")]
    Limit {
        /// `bytes` or `entries`.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The EROFS image cannot be written.
    #[error(transparent)]
    Erofs(#[from] ErofsError),
    /// Sealing failed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// An ocicrypt layer failed.
    #[error(transparent)]
    Ocicrypt(#[from] OcicryptError),
    /// A signature failed.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// A private key cannot be used.
    #[error("the private key cannot be used: {0}")]
    PrivateKey(String),
    /// There is no room.
    #[error("no space left while writing {}; nothing was changed there", .path.display())]
    DiskFull {
        /// The file or directory.
        path: PathBuf,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A background task ended early.
    #[error("the work was interrupted: {0}")]
    Interrupted(String),
}

fn hint(found: &[String]) -> String {
    if found.is_empty() { String::new() } else { format!("; there are: {}", found.join(", ")) }
}

/// Names the file in an I/O error.
pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> ImageError {
    let path = path.to_path_buf();
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ImageError::DiskFull { path },
        _ => ImageError::File { path, source },
    }
}
